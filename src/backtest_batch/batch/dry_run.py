"""Describe a batch without running it: its size, its runs, and what it would take."""

import contextlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.batch.earlier import earlier_runs, open_configured
from backtest_batch.batch.nested import search_rounds
from backtest_batch.batch.plan import Plan, make_plan
from backtest_batch.batch.session import keeps_all_files
from backtest_batch.batch.trials import decision_labels
from backtest_batch.config.schema import processors
from backtest_batch.core.live import packed
from backtest_batch.errors import SelectionError
from backtest_batch.records import BatchRequest, RunFailure, RunRecord, RunResult, RunSpec
from backtest_batch.report.terminal import duration
from backtest_batch.store.store import StoreNotFoundError
from backtest_batch.streams import tell
from backtest_batch.workers.chunks import ChunkTask, Scratch, benchmark_rows, targets_of
from backtest_batch.workers.executor import ComputesChunks, MakeTask, group_runs
from backtest_batch.workers.monitor import available_mb
from backtest_batch.workers.settings import ExecutorSettings, make_executor

SHOWN_NAMES = 20
PILOT_RUNS = 32
"""Number of runs computed together, to see what one takes among others."""
START_SECONDS = 2.0
"""Seconds until the workers are up."""
RECORDING_SECONDS = 0.001
"""Seconds to record a run in a local store, beside the computing."""
LONG_PILOT_SECONDS = 10.0
"""A pilot run that takes longer is not repeated: compiling is little beside it."""
LARGEST_SHARE = 0.8
"""Share of the available memory that workers may take."""


def describe(request: BatchRequest, ranking: Ranking, output: TextIO) -> None:
    """Say what a batch would run and, from one pilot run, what it would take; leave no file.

    Parameters
    ----------
    request
        The batch.
    ranking
        What is better, by which a search goes on.
    output
        Where the text is written; the plan is written before the pilot run begins.

    Raises
    ------
    BacktestBatchError
        When the batch could not be run.
    """
    if request.proposals is not None:
        _describe_search(request, ranking, output)
        return
    config = request.config
    combinations = "1 combination" if request.size == 1 else f"{request.size:,} combinations"
    lines = [f"Dry run of '{config['batch_name']}': {combinations}."]
    lines += [f"  {key}: {count:,} values" for key, count in request.axes.items()]
    if _is_no_product(request):
        lines.append(f"  {request.size_text}")
    if request.n_left_out:
        lines.append(
            f"{request.n_left_out:,} more do not satisfy the constraint: they are no runs."
        )
    too_many = request.size > config["max_runs"]
    if too_many:
        # Enough to show names and to time a run; the rest is never composed.
        plan = make_plan(request.compositions, invalid=config["invalid"], at_most=PILOT_RUNS)
        kinds = AxisKinds.of(config)
        trials = request.count_values(lambda key: not kinds.is_scenario(key))
        n_runs = request.size
        lines.append(
            f"That is more than max_runs={config['max_runs']:,}: it would refuse to start. "
            "Raise max_runs, or take fewer values."
        )
    else:
        plan = make_plan(request.compositions, invalid=config["invalid"])
        n_runs = len(plan.runs)
        kinds = AxisKinds.of(config)
        trials = len(set(decision_labels(plan.runs, kinds)))
        lines.append(f"Runs: {n_runs:,}.")
    lines.append(f"Trials for the statistics (distinct decisions): {trials:,}.")
    done = _done(request, plan)
    lines.append("Runs by name:")
    lines += [
        f"  {run.run_id}: {run.run_name}" + (" (done)" if run.run_key in done else "")
        for run in plan.runs[:SHOWN_NAMES]
    ]
    if n_runs > SHOWN_NAMES:
        lines.append(f"  ... and {n_runs - SHOWN_NAMES:,} more")
    if done:
        lines.append(f"Done already: {len(done):,} of {n_runs:,} runs.")
    lines += list(plan.notes)
    tell("\n".join(lines) + "\n", output)
    output.flush()
    left = [run for run in plan.runs if run.run_key not in done]
    if left:
        size = (n_runs, trials) if too_many else None
        tell("\n".join(_estimate(request, plan, left, size)) + "\n", output)


def _is_no_product(request: BatchRequest) -> bool:
    """Return whether some values never meet: axes move together, or stand below a choice."""
    n_cells = request.size + request.n_left_out
    is_grid = bool(request.axes) and request.proposals is None
    return is_grid and math.prod(request.axes.values()) != n_cells


def _describe_search(request: BatchRequest, ranking: Ranking, output: TextIO) -> None:
    """Say what a search may try, and what it would take; its first round is planned."""
    proposals, config = request.proposals, request.config
    assert proposals is not None
    rounds = search_rounds(request, ranking)
    space, asked = proposals.space, config["search"]
    most_runs = rounds.plan.n_rows
    n_trials = most_runs // proposals.n_scenarios
    size = "infinitely many points" if space.size is None else f"{space.size:,} points"
    lines = [f"Dry run of '{config['batch_name']}': search={asked['method']} in {size}."]
    lines += [f"  {key}: {axis}" for key, axis in space.axes.items()]
    lines += [
        f"Trials for the statistics (evaluated decisions): at most {n_trials:,}, in rounds of "
        f"{asked['batch_size']:,}.",
        f"Runs: at most {most_runs:,}; each decision in {proposals.n_scenarios:,} "
        f"scenario{'s' if proposals.n_scenarios != 1 else ''}.",
        "The first round:",
    ]
    plan = rounds.plan
    lines += [f"  {run.run_id}: {run.run_name}" for run in plan.runs[:SHOWN_NAMES]]
    if len(plan.runs) > SHOWN_NAMES:
        lines.append(f"  ... and {len(plan.runs) - SHOWN_NAMES:,} more")
    done = _done(request, plan)
    if done:
        lines.append(f"Done already: {len(done):,} runs of the first round; others may be done.")
    if request.size > config["max_runs"]:
        lines.append(
            f"That may be more than max_runs={config['max_runs']:,}: it would refuse to start."
        )
    lines += list(plan.notes)
    tell("\n".join(lines) + "\n", output)
    output.flush()
    left = [run for run in plan.runs if run.run_key not in done] or list(plan.runs)
    size_of_all = (most_runs, n_trials)
    tell("\n".join(_estimate(request, plan, left, size_of_all)) + "\n", output)


def _done(request: BatchRequest, plan: Plan) -> frozenset[str]:
    """Return the keys of the runs that a resumed batch has finished."""
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
    """What runs with common signals took.

    Attributes
    ----------
    shared_seconds, own_seconds
        Seconds for the signals, and for each run alone.
    peak_mb
        Highest memory of the worker in MiB.
    """

    shared_seconds: float
    own_seconds: float
    peak_mb: float

    @classmethod
    def of(cls, result: RunResult) -> "Pilot":
        """Divide the time of a chunk by its steps."""
        shared = result.timings.get("load", 0.0) + result.timings.get("signals", 0.0)
        return cls(
            shared_seconds=shared * result.chunk_runs,
            own_seconds=max(result.runtime_s - shared, 0.0),
            peak_mb=result.peak_rss_mb,
        )

    def wall_seconds(self, n_runs: int, n_groups: int, n_jobs: int) -> float:
        """Return the wall time of a batch with ``n_groups`` sets of shared signals."""
        work = n_groups * self.shared_seconds + n_runs * self.own_seconds
        computing = work / max(1, min(n_jobs, n_groups))
        return START_SECONDS + max(computing, n_runs * RECORDING_SECONDS)


def _estimate(
    request: BatchRequest, plan: Plan, left: list[RunSpec], size: tuple[int, int] | None
) -> list[str]:
    """Run a few runs in a temporary folder, and say what all would take.

    Parameters
    ----------
    request, plan
        The batch; of a very large one the plan holds its first runs alone.
    left
        The planned runs that are not done.
    size
        Runs and decisions of a very large batch; None for one that is planned as a whole.
    """
    n_jobs = request.config["n_jobs"]
    chunks = group_runs(left, n_jobs, frozenset())
    n_runs, n_groups = size or (len(left), len(chunks))
    record = _pilot(request, plan, chunks[0][:PILOT_RUNS], n_runs)
    if isinstance(record.outcome, RunFailure):
        return [
            f"The pilot run {record.spec.run_id} failed: "
            f"{record.outcome.error_type}: {record.outcome.error_message}"
        ]
    assert isinstance(record.outcome, RunResult)
    pilot = Pilot.of(record.outcome)
    seconds = pilot.wall_seconds(n_runs, max(n_groups, min(n_jobs, n_runs)), n_jobs)
    n_markets = request.config["permutation_test"]["n"] or 0
    n_processors, available = processors(), available_mb()
    most = max(1, min(n_processors, int(LARGEST_SHARE * available / pilot.peak_mb)))
    return [
        f"Pilot run: {record.outcome.runtime_s:.4f} s a run, {pilot.peak_mb:,.0f} MiB.",
        f"Estimated wall time: about {duration(seconds)} with n_jobs={n_jobs}.",
        *(
            [f"The permutation test makes the search {n_markets:,} times more, in one scenario."]
            if n_markets
            else []
        ),
        f"Memory: about {pilot.peak_mb:,.0f} MiB a worker; this machine has room for n_jobs={most} "
        f"({n_processors} processors, {available:,.0f} MiB available).",
    ]


def _pilot(request: BatchRequest, plan: Plan, runs: Sequence[RunSpec], n_runs: int) -> RunRecord:
    """Return how the first of some runs with common signals ends.

    One is computed alone; where that is short they are then computed together, as they would be
    in the batch, and with nothing left to compile.
    """
    config = {**request.config, "n_jobs": 1, "retries": 0, "adaptive_workers": False}
    with tempfile.TemporaryDirectory(prefix="backtest_batch-") as folder:
        path = Path(folder)
        row_bars = max(run.n_bars for run in runs)
        scratch = Scratch(
            folder=path, row_bars=row_bars, benchmark_rows=benchmark_rows(plan.runs)
        ).of(runs)
        with_files = keeps_all_files(config["tracking"]["artifacts"], n_runs)

        def task(chunk: Sequence[RunSpec]) -> ChunkTask:
            return ChunkTask(
                runs=tuple(chunk),
                objects=packed(targets_of(chunk)),
                scratch=scratch,
                with_files=frozenset(run.index for run in chunk if with_files),
                profile=False,
                provenance={},
                with_rows=False,
            )

        executor = make_executor(ExecutorSettings(config=config, folder=path, logs=path))
        try:
            record = _computed(executor, runs[:1], task)
            if _is_short(record):
                record = _computed(executor, runs, task)
        finally:
            executor.close()
    return record


def _computed(executor: ComputesChunks, runs: Sequence[RunSpec], task: MakeTask) -> RunRecord:
    records = [record for ended, _ in executor.execute([runs], task) for record in ended]
    return records[0]


def _is_short(record: RunRecord) -> bool:
    return isinstance(record.outcome, RunResult) and record.outcome.runtime_s < LONG_PILOT_SECONDS
