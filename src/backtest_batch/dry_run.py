"""Describe a batch without running it: its size, its runs, and what it would take."""

import contextlib
import itertools
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backtest_batch.batch.chunks import ChunkTask, Scratch, benchmark_rows, group_runs
from backtest_batch.batch.executor import ComputesChunks, Setting, make_executor
from backtest_batch.batch.monitor import available_mb
from backtest_batch.batch.plan import Plan, make_plan
from backtest_batch.comparison.scenarios import is_scenario_axis
from backtest_batch.decisions import decision_label
from backtest_batch.earlier import earlier_runs
from backtest_batch.errors import SelectionError
from backtest_batch.opening import open_configured
from backtest_batch.records import BatchRequest, RunFailure, RunRecord, RunResult, RunSpec
from backtest_batch.tracking.store import StoreNotFoundError

SHOWN_NAMES = 20
START_SECONDS = 2.0
"""What it takes until the workers are up."""
LONG_PILOT_SECONDS = 10.0
"""A pilot run that takes longer is not repeated: what it may compile is little beside it."""
BEARABLE_SHARE = 0.8
"""Share of the available memory that workers may take."""


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
        # Enough to show a name and to time a run; the rest is never made.
        plan = make_plan(itertools.islice(request.compositions, 1))
        n_runs, trials = request.size, _trials_of_axes(request)
        lines.append(
            f"That is more than max_runs={config['max_runs']:,}: it would refuse to start. "
            "Raise max_runs, or take fewer values."
        )
    else:
        plan = make_plan(request.compositions)
        n_runs = len(plan.runs)
        axes = tuple(config["scenario_axes"])
        trials = len({decision_label(run.config, axes) for run in plan.runs})
        lines.append(f"Runs: {n_runs:,}.")
    lines.append(f"Trials for the statistics (distinct decisions): {trials:,}.")
    done = _done(request, plan)
    lines.append("First run:" if too_many else "Runs by name:")
    lines += [
        f"  {run.run_id}: {run.run_name}" + (" (done)" if run.run_key in done else "")
        for run in plan.runs[:SHOWN_NAMES]
    ]
    if n_runs > SHOWN_NAMES and not too_many:
        lines.append(f"  ... and {n_runs - SHOWN_NAMES:,} more")
    if done:
        lines.append(f"Done already: {len(done):,} of {n_runs:,} runs.")
    lines += list(plan.notes)
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    left = [run for run in plan.runs if run.run_key not in done]
    if left:
        share = n_runs / len(plan.runs)
        sys.stdout.write("\n".join(_estimate(request, plan, left, share)) + "\n")


def _trials_of_axes(request: BatchRequest) -> int:
    """Return the number of decisions of a grid: the product of its axes that are no scenario."""
    scenario_axes = request.config["scenario_axes"]
    return math.prod(
        count for key, count in request.axes.items() if not is_scenario_axis(key, scenario_axes)
    )


def _done(request: BatchRequest, plan: Plan) -> frozenset[str]:
    """Return the keys of the runs that a resumed batch has done already."""
    config = request.config
    if config["resume"] is None:
        return frozenset()
    with contextlib.suppress(SelectionError, StoreNotFoundError):
        store = open_configured(config, create=False)
        earlier = earlier_runs(
            store,
            str(config["resume"]),
            plan,
            rerun_failed=config["rerun_failed"],
            mark=False,
        )
        return frozenset(earlier.run_ids)
    return frozenset()


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """What one run took.

    Attributes
    ----------
    shared_seconds, own_seconds
        The part that runs with the same signals share, and the part that each has to itself.
    peak_mb
        Highest memory of its worker in MiB.
    """

    shared_seconds: float
    own_seconds: float
    peak_mb: float

    @classmethod
    def of(cls, result: RunResult) -> "Pilot":
        """Divide what a run took by its steps."""
        shared = result.timings.get("load", 0.0) + result.timings.get("signals", 0.0)
        return cls(
            shared_seconds=shared,
            own_seconds=max(result.runtime_s - shared, 0.0),
            peak_mb=result.peak_rss_mb,
        )

    def wall_seconds(self, chunks: Sequence[Sequence[RunSpec]], n_jobs: int) -> float:
        """Return the wall time of a batch of these chunks."""
        work = sum(self.shared_seconds + len(chunk) * self.own_seconds for chunk in chunks)
        return START_SECONDS + work / max(1, min(n_jobs, len(chunks)))


def _estimate(request: BatchRequest, plan: Plan, left: list[RunSpec], share: float) -> list[str]:
    """Run the first run in a temporary folder, and say what all would take.

    Parameters
    ----------
    request, plan
        The batch; of a very large one the plan holds the first run alone.
    left
        The planned runs that are not done.
    share
        Size of the batch over the number of planned runs.
    """
    config = request.config
    n_jobs = config["n_jobs"]
    record = _pilot(request, plan, left[0])
    if isinstance(record.outcome, RunFailure):
        return [
            f"The pilot run {record.spec.run_id} failed: "
            f"{record.outcome.error_type}: {record.outcome.error_message}"
        ]
    assert isinstance(record.outcome, RunResult)
    pilot = Pilot.of(record.outcome)
    chunks = group_runs(left, n_jobs, frozenset())
    seconds = pilot.wall_seconds(chunks, n_jobs)
    if share > 1:
        # Not planned, so not grouped either: none of them is taken to share its signals.
        seconds = (pilot.shared_seconds + pilot.own_seconds) * share / n_jobs
    processors, available = _processors(), available_mb()
    bearable = max(1, min(processors, int(BEARABLE_SHARE * available / pilot.peak_mb)))
    return [
        f"Pilot run: {record.outcome.runtime_s:.3f} s, {pilot.peak_mb:,.0f} MiB.",
        f"Estimated wall time: {'at most' if share > 1 else 'about'} {_duration(seconds)} with "
        f"n_jobs={n_jobs}.",
        f"Memory: about {pilot.peak_mb:,.0f} MiB a worker; this machine bears n_jobs={bearable} "
        f"({processors} processors, {available:,.0f} MiB available).",
    ]


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _pilot(request: BatchRequest, plan: Plan, run: RunSpec) -> RunRecord:
    """Return how one run ends; a short one the second time, since it may compile something."""
    config = {**request.config, "n_jobs": 1, "retries": 0, "adaptive_workers": False}
    with tempfile.TemporaryDirectory(prefix="backtest_batch-") as folder:
        place = Path(folder)
        scratch = Scratch(
            folder=place, row_bars=run.n_bars, benchmark_rows=benchmark_rows(plan.runs)
        )
        task = ChunkTask(
            runs=(run,),
            scratch=scratch.of([run]),
            with_files=frozenset({run.index}),
            profile=False,
            provenance={},
            with_rows=False,
        )
        executor = make_executor(Setting(config=config, folder=place, logs=place))
        try:
            record = _computed(executor, task)
            if _is_short(record):
                record = _computed(executor, task)
        finally:
            executor.close()
    return record


def _computed(executor: ComputesChunks, task: ChunkTask) -> RunRecord:
    records = [
        record for ended, _ in executor.execute([task.runs], lambda _: task) for record in ended
    ]
    return records[0]


def _is_short(record: RunRecord) -> bool:
    return isinstance(record.outcome, RunResult) and record.outcome.runtime_s < LONG_PILOT_SECONDS


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} days {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
