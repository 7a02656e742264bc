"""A batch while it runs: its folders, workers, recorder, and the runs that have ended."""

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import direction_of
from backtest_batch.batch.earlier import Earlier, have_gaps, incomplete
from backtest_batch.batch.plan import Plan
from backtest_batch.batch.returns import ResumeNotes
from backtest_batch.config.checks import as_text
from backtest_batch.cutting import LOGGED_MESSAGE, cut
from backtest_batch.errors import StoreError
from backtest_batch.interrupt import signals_deferred
from backtest_batch.masking import masked
from backtest_batch.printing import LOG_FORMAT, PrintableFormatter, say
from backtest_batch.records import BatchRequest, RunFailure, RunRecord, RunResult, RunSpec
from backtest_batch.report.progress import ProgressDisplay
from backtest_batch.report.text import one_line
from backtest_batch.store.claim import release
from backtest_batch.store.folders import Workspace
from backtest_batch.store.mlflow_run import EquityCurve
from backtest_batch.store.recorder import BackgroundRecorder, Recorder
from backtest_batch.store.spool import Spool
from backtest_batch.workers.chunks import ChunkReply, ChunkTask, group_runs
from backtest_batch.workers.executor import ComputesChunks
from backtest_batch.workers.run_files import signature_of
from backtest_batch.workers.settings import ExecutorSettings
from backtest_batch.workers.watch import UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Extra:
    """What is added to a run after it was recorded.

    Attributes
    ----------
    spec
        The run.
    curve
        Its equity and drawdown, or None.
    texts
        Text files by name.
    folder
        Folder with further files, or None.
    """

    spec: RunSpec
    curve: EquityCurve | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def record_extras(
    recorder: Recorder, extras: Mapping[str, Extra], run_ids: Mapping[str, str]
) -> None:
    """Add extras, by run key, to the runs whose MLflow ids are given by run key.

    Raises
    ------
    StoreError
        When the store fails.
    """
    found = [(run_ids[key], extra) for key, extra in extras.items() if key in run_ids]
    curves = {run_id: extra.curve for run_id, extra in found if extra.curve is not None}
    if curves:
        recorder.log_curves(curves)
    recorder.add_files([(run_id, extra.texts, extra.folder) for run_id, extra in found])


def spool_extras(spool: Spool, extras: Mapping[str, Extra]) -> None:
    """Keep extras in a spool.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    for extra in extras.values():
        if extra.curve is not None:
            spool.add_curve(extra.spec, extra.curve)
        spool.add_texts(extra.spec, extra.texts)
        if extra.folder is not None:
            later = spool.folder / "runs" / extra.spec.run_id / "later"
            shutil.copytree(extra.folder, later, dirs_exist_ok=True)


log = logging.getLogger("backtest_batch")

MakeExecutor = Callable[[ExecutorSettings], ComputesChunks]

FULL_ARTIFACTS_RUNS = 500
"""Up to so many runs keep their files with tracking.artifacts=auto."""
TOP_ARTIFACTS = 50
"""So many of the best runs keep theirs in a larger batch."""

DELETED = "they were deleted while the batch ran"
"""Why returns and files are missing that had been written."""


@dataclass(kw_only=True, eq=False)
class Session:
    """One batch from its plan to its end; what has become of its runs is added while it runs.

    Used in a ``with`` statement, at the end of which its workers end and its claim is released.

    Attributes
    ----------
    request, plan
        What was asked for, and the runs that came of it.
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
        What resume needs beyond what the store holds.
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
        What is still to be added to runs that are recorded, and what was added, by run key.
    notes
        What the user should know before reading the results.
    """

    request: BatchRequest
    plan: Plan
    batch_id: str
    workspace: Workspace
    executor: ComputesChunks
    recording: BackgroundRecorder
    facts: Mapping[str, Any]
    started_ms: int
    resume_notes: ResumeNotes
    earlier: Earlier | None = None
    again: list[RunSpec] = field(default_factory=list)
    records: dict[str, RunRecord] = field(default_factory=dict)
    benchmarks: dict[str, Mapping[str, float]] = field(default_factory=dict)
    unwritten: dict[str, str] = field(default_factory=dict)
    late_files: dict[str, Path] = field(default_factory=dict)
    extras: dict[str, Extra] = field(default_factory=dict)
    recorded_extras: dict[str, Extra] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _warned_of_unknown: bool = field(default=False, init=False)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            # What went wrong before is the news, not what goes wrong because of it.
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
        return (
            self.earlier is not None
            and not self.pending
            and not self.earlier.retired
            and not self.again
            and self.earlier.handle.status == "FINISHED"
        )

    @cached_property
    def in_order(self) -> Sequence[RunRecord]:
        """The runs that have ended, in the order of the plan; made anew when one has ended."""
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
        return policy != "none" and not keeps_all_files(policy, len(self.plan.runs))

    @property
    def computes_best_again(self) -> bool:
        """Whether the best runs are computed a second time, for their files."""
        return self.keeps_top_files and not self.pending

    @cached_property
    def with_files(self) -> frozenset[int]:
        """Indices of the runs whose files are written while they are computed."""
        if keeps_all_files(self.config["tracking"]["artifacts"], len(self.plan.runs)):
            return frozenset(run.index for run in self.plan.runs)
        return self.profiled

    @cached_property
    def chunks(self) -> list[list[RunSpec]]:
        """The runs to compute, as the workers get them; fixed when this is read first."""
        todo = [*self.pending, *self.again]
        return group_runs(todo, self.config["n_jobs"], self.profiled)

    def take_over(self, earlier: Earlier, records: Sequence[RunRecord]) -> None:
        """Count what an earlier attempt has finished as done.

        Parameters
        ----------
        earlier
            What it left in the store.
        records
            The runs that it finished.
        """
        self._add(records)
        self.recording.recorded.update(earlier.run_ids)
        self.notes.extend(earlier.notes)

    def add_benchmarks(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Add metrics of benchmarks by key."""
        self.benchmarks.update(metrics)

    def compute_again(self, runs: Sequence[RunSpec]) -> None:
        """Compute finished runs once more, since their returns or files are not here."""
        self.again.extend(runs)
        if runs:
            self.notes.append(
                f"{len(runs)} runs that had finished are computed again, because their returns or "
                "files are missing here."
            )

    def start(self) -> None:
        """Start the workers, and open the store beside them."""
        self.recording.lost_files = self.files_were_deleted
        self.executor.start(len(self.chunks))
        self.recording.start()

    def end_workers(self) -> None:
        """End the workers, whatever they are doing; they may have ended already."""
        self.executor.close()

    def stop(self) -> None:
        """End the workers, and wait until all that has ended is recorded."""
        try:
            self.end_workers()
        finally:
            self.recording.close()

    def add_extras(self, extras: Mapping[str, Extra]) -> None:
        """Note what is still to be added to recorded runs, by run key."""
        self.extras.update(extras)

    def record_extras(self) -> None:
        """Add to recorded runs what is still to be added; what the store does not take is kept."""
        recording = self.recording
        if recording.error is not None or recording.recorder is None:
            return
        try:
            record_extras(recording.recorder, self.extras, recording.recorded)
        except StoreError as error:
            recording.error = error
        else:
            self.recorded_extras.update(self.extras)
            self.extras.clear()

    def take_back_extras(self) -> None:
        """Treat what was added to recorded runs as still to be added: the store has vanished."""
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
        total = sum(len(chunk) for chunk in self.chunks)
        stop = self.config["on_failure"] == "stop"
        metric = None if ranking.weighted else ranking.metrics[0]
        with ProgressDisplay(total=total) as progress:
            for ended, reply in self.executor.execute(self.chunks, self._task):
                if self.recording.opened:
                    self.recording.require_open()
                new = self._take(ended, reply)
                progress.counts.running = self.executor.running
                for record in ended:
                    _count(record, progress, metric)
                progress.show()
                if stop and any(isinstance(item.outcome, RunFailure) for item in new):
                    break
            self.recording.require_open()

    def recompute(self, runs: Sequence[RunSpec]) -> dict[str, RunResult | RunFailure | None]:
        """Compute runs again for their files alone, as the last thing that workers do.

        Returns
        -------
        dict
            What came of it, by run key.
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

    def lost_returns(self) -> list[RunSpec]:
        """Return the finished runs, and one for each benchmark, whose returns are missing."""
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
            "n_finished": str(len(self.in_order) - failed),
            "n_failed": str(failed),
            "n_skipped": str(0 if self.earlier is None else len(self.earlier.records)),
        }

    def interrupt(self) -> None:
        """Hand the runs that were being computed to the recorder as killed."""
        now = time.time_ns() // 1_000_000
        killed = [
            RunRecord(spec=run, outcome=None, attempts=1, started_ms=started, ended_ms=now)
            for run, started in self.executor.in_flight()
            if run.run_key not in self.records
        ]
        if killed:
            self.recording.put(killed)

    def files_were_deleted(self, record: RunRecord) -> None:
        """Note for resume that a run is recorded without its files; called in any thread."""
        if not self.unwritten:
            log.warning("the files of %s are missing: %s", record.spec.run_id, DELETED)
        self._note_missing_files([record.spec.run_key], DELETED)

    def _take(self, ended: Sequence[RunRecord], reply: ChunkReply | None) -> list[RunRecord]:
        """Note and record what has ended; return the runs that had not ended before."""
        ended = [_masked(record) for record in ended]
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
        # A run that was done before was computed again for what was lost of it.
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
        if reason is None or self._warned_of_unknown:
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
            runs=tuple(runs),
            scratch=self.workspace.scratch.of(runs),
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
    """Return a run without the secrets that its error may name, and as it can be written."""
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
    """Return what is needed of a run once it is handed to the recorder: a batch may be large."""
    earlier = known.get(record.spec.run_key)
    if earlier is not None and isinstance(earlier.outcome, RunResult):
        # Computed again for what was not recorded: that alone is news.
        if not isinstance(record.outcome, RunResult):
            return earlier
        return replace(
            earlier, outcome=replace(earlier.outcome, in_sample=record.outcome.in_sample)
        )
    if isinstance(record.outcome, RunFailure):
        return replace(record, outcome=replace(record.outcome, traceback="", log=""))
    return record


def _count(record: RunRecord, progress: ProgressDisplay, metric: str | None) -> None:
    counts = progress.counts
    if not isinstance(record.outcome, RunResult):
        counts.failed += 1
        return
    counts.done += 1
    value = None if metric is None else record.outcome.metrics.get(metric)
    if metric is not None and value is not None:
        best = counts.best
        if best is None or (value - best[1]) * direction_of(metric) > 0:
            counts.best = (metric, value)


_COMMAND = "backtest_batch"


@dataclass
class Stopwatch:
    """Adds up seconds by stage.

    Attributes
    ----------
    seconds
        Wall seconds.
    cpu_seconds
        Processor seconds of this process with all its threads. Where others use the processors,
        too, they say what a stage costs and the wall seconds how long one waited.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_this_process(cls) -> "Stopwatch":
        """Return a watch that counts what the command has taken so far as ``configuration``.

        A notebook may have lived for hours: there nothing counts before the sweep.
        """
        watch = cls()
        main = getattr(sys.modules.get("__main__"), "__spec__", None)
        if main is not None and main.name.partition(".")[0] == _COMMAND:
            watch.seconds["configuration"] = time.time() - psutil.Process().create_time()
            watch.cpu_seconds["configuration"] = time.process_time()
        return watch

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block towards a stage."""
        started, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            used = time.process_time() - cpu
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + used


MOST_WARNINGS = 50
"""So many warnings of a batch are shown; all of them are in its log file."""


class WarningsToStderr(logging.Handler):
    """Writes to standard error as it is now: a live progress bar puts itself in its place."""

    def __init__(self, file: Path) -> None:
        super().__init__(level=logging.WARNING)
        self._file = file
        self._shown = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message, or after very many that there are more."""
        self._shown += 1
        if self._shown > MOST_WARNINGS + 1:
            return
        text = record.getMessage()
        if self._shown > MOST_WARNINGS:
            text = f"... further warnings are in {self._file}"
        # A terminal that has gone must not end the batch.
        with contextlib.suppress(OSError, ValueError):
            say(f"{text}\n")


class _LogFile(logging.FileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; its folder may have been deleted before the first one."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Drop the line: a full disk takes no more, and a traceback would be of no use."""


def log_to(path: Path) -> None:
    """Send the log of a batch to a file, and its warnings to standard error."""
    end_log()
    file = _LogFile(path, encoding="utf-8", delay=True)
    file.setFormatter(PrintableFormatter(LOG_FORMAT))
    log.addHandler(file)
    log.addHandler(WarningsToStderr(path))
    log.setLevel(logging.INFO)
    log.propagate = False


def end_log() -> None:
    """Give the logger back: a notebook goes on when its batch, and perhaps its folder, is gone."""
    for handler in list(log.handlers):
        if isinstance(handler, _LogFile | WarningsToStderr):
            log.removeHandler(handler)
            handler.close()
    log.setLevel(logging.NOTSET)
    log.propagate = True
