"""A batch while it runs: its folders, workers, recorder, and the runs that have ended."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.auditing.findings import AuditFindings, AuditSettings
from backtest_batch.batch.earlier import (
    Continued,
    Earlier,
    continued_batch,
    have_gaps,
    incomplete,
    open_configured,
    restore_own_returns,
    restore_reports,
    restore_returns,
    unrecorded_runs,
    with_in_sample,
    without_files,
)
from backtest_batch.batch.extras import Extra, record_extras
from backtest_batch.batch.log import log_to
from backtest_batch.batch.own_returns import (
    OwnBatch,
    known_now,
    own_batch,
    without_own_returns,
)
from backtest_batch.batch.plan import Plan
from backtest_batch.batch.provenance import (
    dataset_info,
    provenance,
    user_tags,
    write_start_files,
    write_trials,
)
from backtest_batch.batch.returns import ResumeNotes
from backtest_batch.batch.rounds import Rounds
from backtest_batch.config.checks import as_text
from backtest_batch.core.data.sources.no_prices import UNNAMED
from backtest_batch.core.fitting import walks_forward
from backtest_batch.core.live import packed
from backtest_batch.core.splits import Windows
from backtest_batch.errors import StoreError
from backtest_batch.interrupt import heed, signals_deferred
from backtest_batch.masking import masked, masked_values
from backtest_batch.records import BatchRequest, RunFailure, RunRecord, RunResult, RunSpec
from backtest_batch.report.tables import one_line
from backtest_batch.report.terminal import ProgressDisplay
from backtest_batch.search.samplers import GRID
from backtest_batch.store.claim import mark_dead_runs, release
from backtest_batch.store.folders import (
    Workspace,
    default_output_dir,
    new_batch_id,
    open_workspace,
    remove_abandoned,
    unwritable,
)
from backtest_batch.store.mlflow_run import BatchInfo
from backtest_batch.store.process import this_process
from backtest_batch.store.recorder import BackgroundRecorder, Recorder
from backtest_batch.store.store import Store
from backtest_batch.values import LOGGED_MESSAGE, cut
from backtest_batch.workers.chunks import ChunkReply, ChunkTask, benchmark_rows, targets_of
from backtest_batch.workers.ended import Ended
from backtest_batch.workers.executor import ComputesChunks, group_runs
from backtest_batch.workers.run_files import signature_of
from backtest_batch.workers.settings import ExecutorSettings
from backtest_batch.workers.watch import UNKNOWN

log = logging.getLogger("backtest_batch")

MakeExecutor = Callable[[ExecutorSettings], ComputesChunks]

MeasureRuns = Callable[
    ["Session", Sequence[RunSpec], Sequence[Windows]], Sequence[Sequence[Mapping[str, float]]]
]


def _cannot_measure(*_: object) -> Sequence[Sequence[Mapping[str, float]]]:
    raise RuntimeError("this batch does not measure runs while it computes them")


FULL_ARTIFACTS_RUNS = 500
"""Up to this number of runs, tracking.artifacts=auto keeps the files of all."""
TOP_ARTIFACTS = 50
"""Number of best runs whose files a larger batch keeps."""

DELETED = "they were deleted while the batch ran"
"""Reason for missing returns and files that had been written."""


@dataclass(kw_only=True, eq=False)
class Session:
    """One batch from its plan to its end; results of its runs are added as they end.

    To be used in a ``with`` statement, at whose end workers end and the claim is released.

    Attributes
    ----------
    request, rounds
        What was requested, and what is computed next.
    plan
        The planned runs, as far as they are known.
    batch_id
        Unique name of the batch.
    workspace
        Its folders.
    executor
        Its worker processes.
    recording
        Its way into the store.
    facts
        Provenance: machine, packages, version control.
    resume_notes
        What resume needs and the store does not hold.
    measure
        Measures finished runs on windows of their bars.
    earlier
        What an earlier attempt left; None for a new batch.
    again
        Finished runs of the earlier attempt that are computed again, because their returns or
        their files are not here.
    records
        The runs that have ended, by run key.
    benchmarks
        Metrics of the benchmarks, by benchmark key.
    unwritten
        Why returns and files of runs are missing, by run key.
    late_files
        Folders with files of runs that were recorded without them, by run key.
    extras, recorded_extras
        What is still to be added to recorded runs, and what was added, by run key.
    notes
        What the user should know before reading the results.
    """

    request: BatchRequest
    rounds: Rounds
    batch_id: str
    workspace: Workspace
    executor: ComputesChunks
    recording: BackgroundRecorder
    facts: Mapping[str, Any]
    started_ms: int
    resume_notes: ResumeNotes
    measure: MeasureRuns = _cannot_measure
    earlier: Earlier | None = None
    again: list[RunSpec] = field(default_factory=list)
    records: dict[str, RunRecord] = field(default_factory=dict)
    benchmarks: dict[str, Mapping[str, float]] = field(default_factory=dict)
    unwritten: dict[str, str] = field(default_factory=dict)
    late_files: dict[str, Path] = field(default_factory=dict)
    extras: dict[str, Extra] = field(default_factory=dict)
    recorded_extras: dict[str, Extra] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    plan: Plan = field(init=False)
    _most_runs: int = field(init=False)
    _is_over: bool = field(default=False, init=False)
    _again_left: list[RunSpec] = field(default_factory=list, init=False)
    _begun: bool = field(default=False, init=False)
    as_planned: dict[str, RunSpec] = field(default_factory=dict, init=False)
    """Runs that read their own data as they were planned, by run key."""
    _warned_of_unknown: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.plan = self.rounds.plan
        self._most_runs = self.plan.n_rows

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            # The first error matters, not those that follow from it.
            with contextlib.nullcontext() if error is None else contextlib.suppress(Exception):
                self.end_workers()
        finally:
            with signals_deferred():
                release(self.batch_id)

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the batch."""
        return self.request.config

    @property
    def pending(self) -> list[RunSpec]:
        """The runs that have not ended."""
        return [run for run in self.plan.runs if run.run_key not in self.records]

    @property
    def complete(self) -> bool:
        """Whether an earlier attempt has done everything."""
        # The runs of a nested search are known only from their returns, which are gone at its end.
        whole = self._is_over and self.earlier is not None and not self.earlier.unclaimed
        return (
            self.earlier is not None
            and (whole or self.is_nested)
            and not self.pending
            and not self.earlier.retired
            and not self.again
            and self.earlier.handle.status == "FINISHED"
        )

    @cached_property
    def in_order(self) -> Sequence[RunRecord]:
        """The runs that have ended, in the order of the plan; made anew whenever one ends."""
        ended = (self.records.get(run.run_key) for run in self.plan.runs)
        return [record for record in ended if record is not None]

    @property
    def failed(self) -> list[RunRecord]:
        """The runs that have no result."""
        return [record for record in self.in_order if record.status != "FINISHED"]

    @cached_property
    def profiled(self) -> frozenset[int]:
        """Indices of the runs that are profiled."""
        profiling = self.config["profiling"]
        if not profiling["enabled"] and profiling["runs"] is None:
            return frozenset()
        return frozenset(run.index for run in self.plan.runs[: profiling["runs"]])

    @property
    def keeps_top_files(self) -> bool:
        """Whether the best runs keep their files and the others do not."""
        policy = self.config["tracking"]["artifacts"]
        return policy != "none" and not keeps_all_files(policy, self._most_runs)

    @property
    def computes_best_again(self) -> bool:
        """Whether the best runs are computed a second time to write their files."""
        return self.keeps_top_files and not self.pending

    @cached_property
    def with_files(self) -> frozenset[int]:
        """Indices of the runs whose files are written while they are computed."""
        if keeps_all_files(self.config["tracking"]["artifacts"], self._most_runs):
            return frozenset(run.index for run in self.plan.runs)
        return self.profiled

    @cached_property
    def chunks(self) -> list[list[RunSpec]]:
        """The runs to compute, as the workers get them; fixed at the first access."""
        todo = [*self.pending, *self._again_left]
        return group_runs(todo, self.config["n_jobs"], self.profiled)

    def take_over(self, earlier: Earlier) -> None:
        """Count what an earlier attempt has finished as done."""
        self._claim(earlier)
        self.notes.extend(earlier.notes)

    def take_over_rounds(self, store: Store | None) -> None:
        """Go on until runs are left to compute, with what an earlier attempt has finished.

        What it has finished and not recorded is recorded.
        """
        while True:
            self._want_rows(() if self.earlier is None or self._begun else self.earlier.records)
            self._begun = True
            if pending := self.pending:
                plan = replace(self.plan, runs=tuple(pending))
                self.record_now(unrecorded_runs(self.workspace, plan, self.earlier, store))
            if self.pending or self._again_left or not self.advance():
                return

    @property
    def is_nested(self) -> bool:
        """Whether it searches in each split of a walk-forward, which needs the returns of runs."""
        return self.searches and walks_forward(self.config) and self._most_runs > 0

    def _want_rows(self, claimed: Sequence[RunRecord]) -> None:
        """Have runs computed again that a nested search needs and whose returns are not here."""
        if self.is_nested and claimed:
            self.workspace.gather()
            self.compute_again(incomplete(self.workspace, self.plan, claimed, self.benchmarks))

    def _claim(self, earlier: Earlier) -> None:
        done = with_in_sample(earlier.records, self.resume_notes)
        self._add([known_now(record) for record in done])
        self.recording.add_recorded(earlier.run_ids)

    def advance(self) -> bool:
        """Plan the next round, now that all runs have ended; return whether there is one.

        What an earlier attempt has finished of it is done.
        """
        if self._is_over:
            return False
        self._is_over = not self.rounds.advance(self.records, self._measured)
        if self.rounds.plan is not self.plan:
            self._use(self.rounds.plan)
        if self.earlier is not None and not self._is_over:
            known = len(self.earlier.records)
            self.earlier = self.earlier.claim(self.plan.runs)
            self._claim(self.earlier)
            self._want_rows(self.earlier.records[known:])
        return not self._is_over

    def _use(self, plan: Plan) -> None:
        """Go on with a plan that has more runs, or in which no room is left for more.

        Nothing is being computed meanwhile: what is written can be moved.
        """
        self.plan = plan
        self._again_left = []
        rows = benchmark_rows(plan.runs, plan.n_rows)
        workspace = self.workspace.extended(plan.runs, rows, plan.n_rows)
        self.workspace.move_rows(workspace)
        self.workspace = workspace
        for name in ("in_order", "profiled", "with_files", "chunks"):
            self.__dict__.pop(name, None)

    def _measured(
        self, runs: Sequence[RunSpec], windows: Sequence[Windows]
    ) -> Sequence[Sequence[Mapping[str, float]]]:
        return self.measure(self, runs, windows)

    @property
    def is_cut_short(self) -> bool:
        """Whether runs are left that were not computed, or not even chosen."""
        return bool(self.pending) or (self.searches and not self._is_over)

    @property
    def searches(self) -> bool:
        """Whether its runs are chosen while it runs."""
        return self.request.proposals is not None

    def retire_unclaimed(self) -> None:
        """Retire what an earlier attempt has recorded and the search has not come to again."""
        earlier, recorder = self.earlier, self.recording.recorder
        if earlier is None or not earlier.unclaimed or not self._is_over or recorder is None:
            return
        rows = list(earlier.unclaimed.values())
        self.notes.append(
            f"{len(rows)} runs of an earlier attempt belong to another course of the search, or to "
            "other data or code: they are retired."
        )
        try:
            recorder.retire([str(row["mlflow_run_id"]) for row in rows])
        except StoreError as error:
            self.recording.stop(error)
        earlier.unclaimed.clear()

    def add_benchmarks(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Add metrics of benchmarks by key."""
        self.benchmarks.update(metrics)

    def record_now(self, ended: Ended) -> None:
        """Take over, and record, what an earlier attempt has finished but not recorded."""
        self.add_benchmarks(ended.benchmarks)
        self._take(list(ended.records.values()), None)

    def compute_again(self, runs: Sequence[RunSpec]) -> None:
        """Compute finished runs once more, because their returns or files are missing."""
        known = {run.run_key for run in self.again}
        runs = [run for run in runs if run.run_key not in known]
        self.again.extend(runs)
        self._again_left.extend(runs)
        if runs:
            self.notes.append(
                f"{len(runs)} runs that had finished are computed again, because their returns or "
                "files are missing here."
            )

    def start(self) -> None:
        """Start the workers, and open the store beside them."""
        self.recording.lost_files = self.files_were_deleted
        self.executor.start(None if self.searches else len(self.chunks))
        self.recording.start()

    def end_workers(self) -> None:
        """End the workers, whatever they are doing; does nothing if they have ended."""
        self.executor.close()

    def stop(self) -> None:
        """End the workers, and wait until all runs that ended are recorded."""
        try:
            self.end_workers()
        finally:
            self.recording.close()

    def add_extras(self, extras: Mapping[str, Extra]) -> None:
        """Note what is still to be added to recorded runs, by run key."""
        self.extras.update(extras)

    def record_extras(self) -> None:
        """Add extras to recorded runs; those that the store does not accept stay."""
        recording = self.recording
        if recording.error is not None or recording.recorder is None:
            return
        try:
            record_extras(recording.recorder, self.extras, recording.recorded)
        except StoreError as error:
            recording.stop(error)
        else:
            self.recorded_extras.update(self.extras)
            self.extras.clear()

    def take_back_extras(self) -> None:
        """Mark all extras as not yet added: the store has vanished."""
        self.extras = {**self.recorded_extras, **self.extras}
        self.recorded_extras = {}

    def compute(self, ranking: Ranking) -> None:
        """Compute every run and hand it to the recorder, until all have ended.

        Parameters
        ----------
        ranking
            What is better; the best so far is shown when that is one metric.

        Raises
        ------
        StoreError
            When the store cannot be opened; nothing is recorded then.
        """
        known = self.plan.n_rows - len(self.plan.runs)
        total = sum(len(chunk) for chunk in self.chunks) + known
        with ProgressDisplay(total=total) as progress:
            while self._compute_round(progress, ranking) and self.advance():
                progress.show()
            self.recording.require_open()
        if self.plan.most_runs:
            self._use(replace(self.plan, most_runs=0))
        self.note_trials()

    def note_trials(self) -> None:
        """Write down all that a search has tried: it was not known when the batch began."""
        if self.searches:
            with contextlib.suppress(OSError):
                write_trials(self.workspace, self.request, self.plan)

    def _compute_round(self, progress: ProgressDisplay, ranking: Ranking) -> bool:
        """Compute the runs that are known; return whether nothing ends the batch."""
        stop = self.config["on_failure"] == "stop"
        metric = None if ranking.weighted else ranking.metrics[0]
        for ended, reply in self.executor.execute(self.chunks, self._task) if self.chunks else ():
            if self.recording.opened:
                self.recording.require_open()
            new = self._take(ended, reply)
            progress.counts.running = self.executor.running
            for record in ended:
                _count(record, progress, metric, ranking)
            progress.show()
            if stop and any(isinstance(item.outcome, RunFailure) for item in new):
                return False
        return True

    def recompute(self, runs: Sequence[RunSpec]) -> dict[str, RunResult | RunFailure | None]:
        """Compute runs again just for their files; the workers do nothing after that.

        Returns
        -------
        dict
            The record of each run, by run key.
        """
        outcomes: dict[str, RunResult | RunFailure | None] = {}
        wanted = frozenset(run.index for run in runs)
        chunks = group_runs(runs, self.config["n_jobs"], frozenset())

        def task(chunk: Sequence[RunSpec]) -> ChunkTask:
            return replace(self._task(chunk), with_files=wanted, with_rows=False, profile=False)

        for ended, _ in self.executor.execute(chunks, task):
            outcomes |= {record.spec.run_key: record.outcome for record in ended}
        self.end_workers()
        return outcomes

    def compute_apart(self, runs: Sequence[RunSpec]) -> Iterator[Sequence[RunRecord]]:
        """Compute runs that do not belong to the batch; yield their records as they end.

        Nothing of them is written or recorded. Sometimes nothing is yielded although time passes,
        so that the caller can show progress.
        """
        scratch = replace(self.workspace.scratch, benchmark_rows={})

        def task(chunk: Sequence[RunSpec]) -> ChunkTask:
            return ChunkTask(
                runs=tuple(chunk),
                scratch=scratch,
                with_files=frozenset(),
                profile=False,
                provenance=self.facts,
                with_rows=False,
                objects=packed(targets_of(chunk)),
            )

        chunks = group_runs(runs, self.config["n_jobs"], frozenset())
        for ended, _ in self.executor.execute(chunks, task) if chunks else ():
            yield [_masked(record) for record in ended]

    def audit(self, run: RunSpec, settings: AuditSettings, seconds: float) -> AuditFindings | str:
        """Have the strategy of a finished run audited by a worker.

        Parameters
        ----------
        run, settings
            The run, and how it is audited.
        seconds
            After this time the workers are ended.

        Returns
        -------
        AuditFindings or str
            What was found, or why nothing was.
        """
        until = time.monotonic() + seconds

        def task(chunk: Sequence[RunSpec]) -> ChunkTask:
            asked = replace(self._task(chunk), with_files=frozenset(), with_rows=False)
            return replace(asked, profile=False, audit=settings)

        for ended, reply in self.executor.execute([[run]], task):
            for record in ended:
                if reply is not None and reply.audit is not None:
                    reasons = reply.audit.reasons
                    shown = {name: masked(as_text(text)) for name, text in reasons.items()}
                    return replace(reply.audit, reasons=shown)
                if isinstance(record.outcome, RunFailure):
                    failure = record.outcome
                    return f"{failure.error_type}: {masked(as_text(failure.error_message))}"
            if time.monotonic() > until:
                self.end_workers()
                return f"it did not answer within {seconds:.0f} s"
        return "it gave no answer"

    def bring_together(self) -> OwnBatch | None:
        """Bring runs that read their own data onto the bars of all; None for any others.

        From then on the plan has these bars.
        """
        if not self.plan.own_data:
            return None
        lost = {spec.index for spec in self.lost_returns()}
        self.as_planned = self.as_planned or {run.run_key: run for run in self.plan.runs}
        found = own_batch(self.workspace, self.plan, self.in_order, lost)
        self.plan = found.plan
        specs = {run.run_key: run for run in found.plan.runs}
        self._add([replace(item, spec=specs[item.spec.run_key]) for item in self.in_order])
        self.add_benchmarks(found.benchmark_metrics)
        return found

    def lost_returns(self) -> list[RunSpec]:
        """Return the finished runs, and one for each benchmark, whose returns are missing."""
        if self.plan.own_data:
            lost = without_own_returns(self.workspace, self.in_order)
            self._note_missing_files(
                [spec.run_key for spec in lost if spec.run_key not in self.unwritten], DELETED
            )
            return lost
        spread = self.workspace.is_spread
        self.workspace.gather()
        deleted = have_gaps(self.workspace, self.plan, self.in_order)
        if not (spread or self.unwritten or self.again or deleted):
            return []
        lost = incomplete(self.workspace, self.plan, self.in_order, self.benchmarks)
        if deleted:
            gone = [spec.run_key for spec in lost if spec.run_key not in self.unwritten]
            self._note_missing_files(gone, DELETED)
        return lost

    def counts(self) -> dict[str, str]:
        """Return the parent's tags that count its runs."""
        failed = len(self.failed)
        return {
            **(self._found_counts() if self.searches else {}),
            "n_finished": str(len(self.in_order) - failed),
            "n_failed": str(failed),
            "n_skipped": str(0 if self.earlier is None else len(self.earlier.records)),
        }

    def _found_counts(self) -> dict[str, str]:
        """Return the tags that are known only when a search is over."""
        skipped = self.plan.n_skipped_cells
        return {"n_runs": str(len(self.plan.runs))} | (
            {"n_skipped_cells": str(skipped)} if skipped else {}
        )

    def interrupt(self) -> None:
        """Hand the runs that were being computed to the recorder as killed."""
        now = time.time_ns() // 1_000_000
        killed = [
            RunRecord(spec=run, outcome=None, attempts=1, started_ms=started, ended_ms=now)
            for run, started in self.executor.in_flight()
            if run.run_key not in self.records and run.market is None
        ]
        if killed:
            self.recording.put(killed)

    def files_were_deleted(self, record: RunRecord) -> None:
        """Note for resume that a run is recorded without its files; called in any thread."""
        if not self.unwritten:
            log.warning("the files of %s are missing: %s", record.spec.run_id, DELETED)
        self._note_missing_files([record.spec.run_key], DELETED)

    def _take(self, ended: Sequence[RunRecord], reply: ChunkReply | None) -> list[RunRecord]:
        """Note and record runs that have ended; return those that had not ended before."""
        ended = [known_now(_masked(record)) for record in ended]
        if reply is not None:
            fresh = {
                key: item for key, item in reply.benchmarks.items() if key not in self.benchmarks
            }
            self.resume_notes.add("benchmark", fresh)
            self.add_benchmarks(fresh)
            if reply.write_error is not None:
                if not self.unwritten:
                    log.warning("returns and files cannot be written: %s", reply.write_error)
                self._note_missing_files([run.spec.run_key for run in ended], reply.write_error)
        fitted = {
            record.spec.run_key: record.outcome.in_sample
            for record in ended
            if isinstance(record.outcome, RunResult) and record.outcome.in_sample
        }
        self.resume_notes.add("in_sample", fitted)
        # A finished run was computed again for its lost returns or files.
        new = [item for item in ended if item.spec.run_key not in self.records]
        for record in ended:
            key, outcome = record.spec.run_key, record.outcome
            if key in self.records and isinstance(outcome, RunResult) and outcome.artifacts:
                self.late_files[key] = outcome.artifacts
        self._add([_slim(record, self.records) for record in ended])
        if new:
            self.recording.put(new)
        for record in new:
            if isinstance(record.outcome, RunResult):
                self._warn_of_unknown(record.outcome)
            if isinstance(record.outcome, RunFailure):
                shown = cut(one_line(record.outcome.error_message), LOGGED_MESSAGE)
                kind = record.outcome.error_type
                log.warning("%s failed: %s: %s", record.spec.run_id, kind, shown)
        return new

    def _add(self, records: Sequence[RunRecord]) -> None:
        """Add runs that have ended."""
        self.records.update({record.spec.run_key: record for record in records})
        self.__dict__.pop("in_order", None)

    def _warn_of_unknown(self, result: RunResult) -> None:
        """Warn once that a strategy reads what cannot be recorded."""
        reason = result.tags.get(UNKNOWN)
        if reason is None or reason == UNNAMED or self._warned_of_unknown:
            return
        self._warned_of_unknown = True
        log.warning(
            "what the strategy reads besides the prices cannot be recorded (%s): such runs have "
            "the tag %s, and resume computes them again",
            one_line(reason),
            UNKNOWN,
        )

    def _note_missing_files(self, run_keys: Sequence[str], reason: str) -> None:
        """Note, also for resume, why returns or files of runs are missing."""
        self.unwritten.update(dict.fromkeys(run_keys, reason))
        self.resume_notes.add("unwritten", {key: {"error": reason} for key in run_keys})

    def _task(self, runs: Sequence[RunSpec]) -> ChunkTask:
        with_files = self.with_files.intersection(run.index for run in runs)
        return ChunkTask(
            runs=tuple(self.as_planned.get(run.run_key, run) for run in runs),
            objects=packed(targets_of(runs)),
            scratch=self.workspace.scratch.of(
                [self.as_planned.get(run.run_key, run) for run in runs]
            ),
            with_files=with_files,
            profile=runs[0].index in self.profiled,
            provenance=self.facts,
            signatures={
                run.run_id: signature_of(run.overrides) for run in runs if run.index in with_files
            },
        )


def keeps_all_files(policy: str, n_runs: int) -> bool:
    """Return whether every run of a batch keeps its files, by ``tracking.artifacts``."""
    return policy == "full" or (policy == "auto" and n_runs <= FULL_ARTIFACTS_RUNS)


def _masked(record: RunRecord) -> RunRecord:
    """Return a run without secrets in its error, and with text that can be written."""
    failure = record.outcome
    if not isinstance(failure, RunFailure):
        return record
    shown = replace(
        failure,
        error_message=masked(as_text(failure.error_message)),
        traceback=masked(as_text(failure.traceback)),
        log=masked(as_text(failure.log)),
    )
    return replace(record, outcome=shown)


def _slim(record: RunRecord, known: Mapping[str, RunRecord]) -> RunRecord:
    """Return what is still needed of a run that the recorder has: a batch may be large."""
    earlier = known.get(record.spec.run_key)
    if earlier is not None and isinstance(earlier.outcome, RunResult):
        # Computed again for what was not recorded: only that is new.
        if not isinstance(record.outcome, RunResult):
            return earlier
        return replace(
            earlier, outcome=replace(earlier.outcome, in_sample=record.outcome.in_sample)
        )
    if isinstance(record.outcome, RunFailure):
        return replace(record, outcome=replace(record.outcome, traceback="", log=""))
    return record


def _count(
    record: RunRecord, progress: ProgressDisplay, metric: str | None, ranking: Ranking
) -> None:
    counts = progress.counts
    if not isinstance(record.outcome, RunResult):
        counts.failed += 1
        return
    counts.done += 1
    value = None if metric is None else record.outcome.metrics.get(metric)
    if metric is not None and value is not None:
        best = counts.best
        if best is None or (value - best[1]) * ranking.direction_of(metric) > 0:
            counts.best = (metric, value)


def open_session(
    request: BatchRequest,
    rounds: Rounds,
    make_executor: MakeExecutor,
    started_ms: int,
    *,
    rerun_of: str = "",
    measure: MeasureRuns = _cannot_measure,
) -> Session:
    """Make the folders, start the workers, and open the store in the background.

    Parameters
    ----------
    request, rounds
        The batch, and what it computes.
    make_executor
        Makes the workers.
    started_ms
        When it began, milliseconds since the epoch.
    rerun_of
        batch_id of the batch whose winner it runs again; empty for any other batch.
    measure
        Measures finished runs on windows of their bars.

    Raises
    ------
    ConfigurationError
        When the folders cannot be made, a user's tag has a reserved name, or the batch to be
        continued is still running.
    SelectionError, StoreError
        When the batch to be continued cannot be read.
    """
    config, plan = request.config, rounds.plan
    tags = user_tags(config)
    continued = None if config["resume"] is None else continued_batch(config, plan)
    heed()
    batch_id = new_batch_id() if continued is None else continued.batch_id
    if config["output_dir"]:
        output_dir = Path(config["output_dir"]).absolute()
    else:
        output_dir = default_output_dir(batch_id) if continued is None else continued.output_dir
    remove_abandoned(output_dir)
    rows = benchmark_rows(plan.runs, plan.n_rows)
    workspace = open_workspace(batch_id, output_dir, plan.runs, rows, plan.n_rows)
    log_to(workspace.logs / "batch.log")
    facts = provenance(masked_values(list(request.arguments)), config["seed"])
    try:
        document = None if continued is None else continued.document
        begun = None if document is None else document.as_begun
        write_start_files(workspace, request, plan, batch_id, facts, begun)
    except OSError as error:
        workspace.discard()
        raise unwritable(output_dir, error) from error
    info = BatchInfo(
        batch_id=batch_id,
        batch_name=config["batch_name"],
        n_runs=plan.n_rows,
        n_skipped_cells=plan.n_skipped_cells,
        started_ms=started_ms,
        tags=tags,
        git_commit=facts["git_commit"],
        git_dirty=bool(facts["git_dirty"]),
        process=this_process(),
        rerun_of=rerun_of,
    )
    earlier = None if continued is None else continued.earlier
    session = Session(
        request=request,
        rounds=rounds,
        batch_id=batch_id,
        workspace=workspace,
        executor=make_executor(
            ExecutorSettings(config=config, folder=workspace.scratch.folder, logs=workspace.logs)
        ),
        recording=BackgroundRecorder(
            lambda: _open_recorder(config, info, plan, workspace, earlier)
        ),
        facts=facts,
        started_ms=started_ms,
        resume_notes=ResumeNotes(workspace.scratch.folders),
        earlier=earlier,
        measure=measure,
    )
    try:
        if continued is not None:
            _take_up(session, continued)
        if not session.complete:
            session.start()
    except BaseException:
        session.end_workers()
        workspace.discard()
        raise
    return session


def _take_up(session: Session, continued: Continued) -> None:
    """Take over what an earlier attempt has finished."""
    notes, store = session.resume_notes, continued.store
    if continued.earlier is not None:
        session.take_over(continued.earlier)
    session.add_benchmarks(notes.read("benchmark"))
    if session.is_nested and session.complete and continued.earlier and store:
        restore_reports(session.workspace, continued.earlier, store)
        return
    session.take_over_rounds(store)
    workspace, plan, earlier = session.workspace, session.plan, session.earlier
    done = session.in_order
    bare: list[RunSpec] = []
    if earlier is not None and store is not None:
        bare = without_files(earlier.records, session.with_files, earlier, store)
        if session.complete and not bare:
            restore_reports(workspace, earlier, store)
            return
    workspace.gather()
    if plan.own_data and earlier is not None and store is not None:
        restore_own_returns(workspace, done, earlier, store)
    missing = incomplete(workspace, plan, done, session.benchmarks)
    from_files = not plan.own_data and not walks_forward(plan.runs[0].config)
    if missing and from_files and earlier is not None and store:
        restore_returns(workspace, plan, missing, earlier, store)
        missing = incomplete(workspace, plan, done, session.benchmarks)
    unwritten = notes.read("unwritten").keys() - {spec.run_key for spec in missing}
    missing += [
        record.spec
        for record in done
        if record.spec.run_key in unwritten and record.status == "FINISHED"
    ]
    known = {spec.run_key for spec in missing}
    missing += [spec for spec in bare if spec.run_key not in known]
    session.compute_again(missing)


def _open_recorder(
    config: Mapping[str, Any],
    info: BatchInfo,
    plan: Plan,
    workspace: Workspace,
    earlier: Earlier | None,
) -> Recorder:
    store = open_configured(config, create=True)
    recorder = Recorder(store, info, writer=config["tracking"]["writer"])
    if earlier is not None:
        recorder.continue_parent(earlier.handle.mlflow_run_id)
        recorder.retire(earlier.retired)
        return recorder
    mark_dead_runs(recorder.store)
    recorder.start_parent(
        tags={"description": config["description"]} if config["description"] else {},
        params={"search": config["search"]} if config["search"]["method"] != GRID else {},
        dataset=dataset_info(plan),
        artifacts=workspace.start_files,
    )
    return recorder
