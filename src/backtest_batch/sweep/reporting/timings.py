"""batch_timings.json: where the time of a batch went."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from backtest_batch.records import RunRecord, RunResult
from backtest_batch.sweep.stopwatch import Stopwatch

MARKS = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}


def timings(records: Sequence[RunRecord], watch: Stopwatch, n_jobs: int) -> dict[str, Any]:
    """Return where the time of a batch went, all in seconds.

    Parameters
    ----------
    records
        The runs that were computed now.
    watch
        Seconds by stage: configuration (from the start of the process), planning, execution,
        recording (after the last run has ended), comparison, report.
    n_jobs
        Number of workers.

    Returns
    -------
    dict
        stages_s; stages_cpu_s, the processor time of the command itself, whose threads open the
        store and record while workers compute; total_s; n_runs; n_jobs; run_runtime_s, the sum
        and quantiles of the finished runs; worker_busy_s, the time that workers spent on runs,
        and worker_cpu_s, their processor time; computing_s, from the first run that was handed to
        a worker to the last result, which leaves out how long workers take to start and the store
        to open; parallel_efficiency, worker_busy_s over n_jobs times the execution stage. The last
        two are None where nothing was computed. Runs computed together share their time evenly.
    """
    finished = [record.outcome for record in records if isinstance(record.outcome, RunResult)]
    runtimes = np.array([result.runtime_s for result in finished])
    failed = [record for record in records if not isinstance(record.outcome, RunResult)]
    busy = float(runtimes.sum()) + sum(item.ended_ms - item.started_ms for item in failed) / 1000
    possible = n_jobs * watch.seconds.get("execution", 0.0)
    quantiles = {
        name: float(np.quantile(runtimes, mark)) for name, mark in MARKS.items() if len(runtimes)
    }
    return {
        "stages_s": dict(watch.seconds),
        "stages_cpu_s": dict(watch.cpu_seconds),
        "total_s": sum(watch.seconds.values()),
        "n_runs": len(records),
        "n_jobs": n_jobs,
        "run_runtime_s": {"sum": float(runtimes.sum()), **quantiles},
        "worker_busy_s": busy,
        "worker_cpu_s": sum(result.cpu_s for result in finished),
        "computing_s": _computing_s(records),
        "parallel_efficiency": busy / possible if possible and records else None,
    }


def _computing_s(records: Sequence[RunRecord]) -> float | None:
    if not records:
        return None
    first = min(record.started_ms for record in records)
    return (max(record.ended_ms for record in records) - first) / 1000
