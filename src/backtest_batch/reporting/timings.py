"""batch_timings.json: where the time of a batch went."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backtest_batch.records import RunRecord, RunResult

MARKS = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}


def timings(
    records: Sequence[RunRecord], stages: Mapping[str, float], n_jobs: int
) -> dict[str, Any]:
    """Return where the time of a batch went, all in seconds.

    Parameters
    ----------
    records
        The runs that were computed now.
    stages
        Seconds by stage: configuration (from the start of the process), planning, execution,
        recording (after the last run has ended), comparison, report.
    n_jobs
        Number of workers.

    Returns
    -------
    dict
        stages_s; total_s; n_runs; n_jobs; run_runtime_s, the sum and quantiles of the finished
        runs; worker_busy_s, the time that workers spent on runs; parallel_efficiency, that time
        over n_jobs times the execution stage (None where nothing was computed). Runs computed
        together share their time evenly.
    """
    finished = [record.outcome for record in records if isinstance(record.outcome, RunResult)]
    runtimes = np.array([result.runtime_s for result in finished])
    failed = [record for record in records if not isinstance(record.outcome, RunResult)]
    busy = float(runtimes.sum()) + sum(item.ended_ms - item.started_ms for item in failed) / 1000
    possible = n_jobs * stages.get("execution", 0.0)
    quantiles = {
        name: float(np.quantile(runtimes, mark)) for name, mark in MARKS.items() if len(runtimes)
    }
    return {
        "stages_s": dict(stages),
        "total_s": sum(stages.values()),
        "n_runs": len(records),
        "n_jobs": n_jobs,
        "run_runtime_s": {"sum": float(runtimes.sum()), **quantiles},
        "worker_busy_s": busy,
        "parallel_efficiency": busy / possible if possible and records else None,
    }
