"""Describe a batch without running it: its size, its runs, and what it would take."""

import itertools
import math
import sys
import tempfile
from pathlib import Path

import psutil

from backtest_batch.batch.chunks import ChunkReply, ChunkTask, Scratch, benchmark_rows
from backtest_batch.batch.executor import Setting, make_executor
from backtest_batch.batch.plan import Plan, make_plan
from backtest_batch.comparison.scenarios import is_scenario_axis
from backtest_batch.decisions import decision_label
from backtest_batch.errors import BacktestBatchError
from backtest_batch.records import BatchRequest, RunFailure, RunRecord, RunResult
from backtest_batch.resume import earlier_runs
from backtest_batch.tracking.store import open_store, resolve_uri

SHOWN_NAMES = 20
MEBIBYTE = 1024 * 1024


def describe(request: BatchRequest) -> None:
    """Print the plan of a batch and, from one pilot run, what it would take; write nothing.

    Raises
    ------
    BacktestBatchError
        When the batch could not be run.
    """
    config = request.config
    lines = [f"Dry run of '{config['batch_name']}': {request.size:,} combinations."]
    lines += [f"  {key}: {count:,} values" for key, count in request.axes.items()]
    too_many = request.size > config["max_runs"]
    if too_many:
        # Enough to show names and to time a run; the rest is never made.
        plan = make_plan(itertools.islice(request.compositions, 1))
        n_runs = request.size
        trials = math.prod(
            count
            for key, count in request.axes.items()
            if not is_scenario_axis(key, config["scenario_axes"])
        )
        lines.append(
            f"That is more than max_runs={config['max_runs']:,}: it would refuse to start. "
            "Raise max_runs, or take fewer values."
        )
    else:
        plan = make_plan(request.compositions)
        n_runs = len(plan.runs)
        labels = {decision_label(run.config, tuple(config["scenario_axes"])) for run in plan.runs}
        trials = len(labels)
        lines.append(f"Runs: {n_runs:,}.")
    lines.append(f"Trials for the statistics (distinct decisions): {trials:,}.")
    done = _done(request, plan)
    names = [
        f"  {run.run_id}: {run.run_name}" + (" (done)" if run.run_key in done else "")
        for run in plan.runs[:SHOWN_NAMES]
    ]
    lines += ["First run:" if too_many else "Runs by name:", *names]
    if n_runs > len(names) and not too_many:
        lines.append(f"  ... and {n_runs - len(names):,} more")
    lines += list(plan.notes)
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    sys.stdout.write("\n".join(_estimate(request, plan, n_runs - len(done))) + "\n")


def _done(request: BatchRequest, plan: Plan) -> frozenset[str]:
    """Return the keys of the runs that a resumed batch has done already."""
    config = request.config
    if config["resume"] is None:
        return frozenset()
    uri = resolve_uri(config["tracking"]["uri"], Path.cwd())
    store = open_store(uri, config["tracking"]["experiment"], create=False)
    earlier = earlier_runs(store, config["resume"], plan, rerun_failed=config["rerun_failed"])
    return frozenset(earlier.run_ids)


def _estimate(request: BatchRequest, plan: Plan, n_left: int) -> list[str]:
    """Run the first run once, in a temporary folder, and say what all would take."""
    config = request.config
    record = _pilot(request, plan)
    if isinstance(record.outcome, RunFailure):
        return [
            f"The pilot run {record.spec.run_id} failed: "
            f"{record.outcome.error_type}: {record.outcome.error_message}"
        ]
    result = record.outcome
    assert isinstance(result, RunResult)
    available = psutil.virtual_memory().available / MEBIBYTE
    bearable = max(1, min(psutil.cpu_count() or 1, int(0.8 * available / result.peak_rss_mb)))
    workers = max(1, min(config["n_jobs"], n_left))
    seconds = n_left * result.runtime_s / workers
    return [
        f"Pilot run: {result.runtime_s:.3f} s, {result.peak_rss_mb:,.0f} MiB.",
        f"Estimated wall time: about {_duration(seconds)} with n_jobs={config['n_jobs']} "
        "(at most: runs that share signals are faster).",
        f"Memory: about {result.peak_rss_mb:,.0f} MiB a worker; this machine bears "
        f"n_jobs={bearable} ({psutil.cpu_count()} processors, {available:,.0f} MiB available).",
    ]


def _pilot(request: BatchRequest, plan: Plan) -> RunRecord:
    run = plan.runs[0]
    with tempfile.TemporaryDirectory(prefix="backtest_batch-") as folder:
        place = Path(folder)
        (place / "runs").mkdir()
        scratch = Scratch(
            folder=place, row_bars=run.n_bars, benchmark_rows=benchmark_rows(plan.runs)
        )
        executor = make_executor(
            Setting(config={**request.config, "n_jobs": 1}, folder=place, logs=place)
        )
        task = ChunkTask(
            runs=(run,),
            scratch=scratch,
            with_files=frozenset({run.index}),
            profile=False,
            provenance={},
        )
        try:
            ended: list[tuple[list[RunRecord], ChunkReply | None]] = list(
                executor.execute([[run]], lambda _: task)
            )
        finally:
            executor.close()
    for records, _ in ended:
        if records:
            return records[0]
    raise BacktestBatchError("the pilot run did not end")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
