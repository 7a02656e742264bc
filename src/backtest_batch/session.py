"""A batch while it runs: its folders, workers, recorder, and the runs that have ended."""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from backtest_batch.batch.chunks import ChunkTask, benchmark_rows, group_runs
from backtest_batch.batch.executor import ComputesChunks, Setting
from backtest_batch.batch.plan import Plan
from backtest_batch.batch.provenance import provenance
from backtest_batch.batch.workspace import (
    BATCH_CONFIG,
    Workspace,
    new_batch_id,
    open_workspace,
)
from backtest_batch.decisions import decision_label, source_label
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import BatchRequest, RunFailure, RunRecord, RunSpec
from backtest_batch.report.progress import ProgressDisplay
from backtest_batch.resume import Earlier, earlier_runs, restore_returns, without_returns
from backtest_batch.tracking.background import BackgroundRecorder
from backtest_batch.tracking.entries import RESERVED_TAGS, BatchInfo, DatasetInfo
from backtest_batch.tracking.leftovers import mark_dead_runs
from backtest_batch.tracking.process import this_process
from backtest_batch.tracking.recorder import Recorder
from backtest_batch.tracking.store import Store, open_store, resolve_uri

log = logging.getLogger("backtest_batch")

MakeExecutor = Callable[[Setting], ComputesChunks]

TRIALS = "trials.json"

FULL_ARTIFACTS_RUNS = 500
"""Up to so many runs keep their files with tracking.artifacts=auto."""
TOP_ARTIFACTS = 50
"""So many of the best runs keep theirs in a larger batch."""


class WarningsToStderr(logging.Handler):
    """Writes to standard error as it is now: a live progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        sys.stderr.write(f"{record.getMessage()}\n")


@dataclass(frozen=True, kw_only=True)
class Session:
    """One batch from its plan to its end.

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
    earlier
        What an earlier attempt left; None for a new batch.
    records
        The runs that have ended, by run key.
    benchmarks
        Metrics of the benchmarks, by benchmark key.
    """

    request: BatchRequest
    plan: Plan
    batch_id: str
    workspace: Workspace
    executor: ComputesChunks
    recording: BackgroundRecorder
    facts: Mapping[str, Any]
    started_ms: int
    earlier: Earlier | None = None
    records: dict[str, RunRecord] = field(default_factory=dict)
    benchmarks: dict[str, Mapping[str, float]] = field(default_factory=dict)

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
            and self.earlier.handle.status == "FINISHED"
        )

    @property
    def in_order(self) -> list[RunRecord]:
        """The runs that have ended, in the order of the plan."""
        return [self.records[run.run_key] for run in self.plan.runs if run.run_key in self.records]

    @property
    def failed(self) -> list[RunRecord]:
        """The runs that have no result."""
        return [record for record in self.in_order if record.status != "FINISHED"]

    @property
    def profiled(self) -> frozenset[int]:
        """Indices of the runs that are profiled."""
        profiling = self.config["profiling"]
        if not profiling["enabled"] and profiling["runs"] is None:
            return frozenset()
        return frozenset(run.index for run in self.plan.runs[: profiling["runs"]])

    @property
    def with_files(self) -> frozenset[int]:
        """Indices of the runs whose files are written while they are computed."""
        policy = self.config["tracking"]["artifacts"]
        runs = self.plan.runs
        if policy == "full" or (policy == "auto" and len(runs) <= FULL_ARTIFACTS_RUNS):
            return frozenset(run.index for run in runs)
        return self.profiled

    def compute(self) -> None:
        """Compute every run and hand it to the recorder, until all have ended.

        Raises
        ------
        StoreError
            When the store cannot be opened; nothing is recorded then.
        """
        pending = self.pending
        if self.earlier is not None:
            pending += without_returns(self.workspace, self.plan, self.earlier.records)
        n_jobs, stop = self.config["n_jobs"], self.config["on_failure"] == "stop"
        chunks = group_runs(pending, n_jobs, self.profiled)
        with ProgressDisplay(total=len(pending)) as progress:
            for ended, reply in self.executor.execute(chunks, self._task):
                if self.recording.opened:
                    self.recording.require_open()
                if reply is not None:
                    self.benchmarks.update(reply.benchmarks)
                # A run that was done before was computed again for its returns alone.
                new = [item for item in ended if item.spec.run_key not in self.records]
                if new:
                    self.recording.put(new)
                for record in new:
                    self._ended(record, progress)
                progress.counts.running = self.executor.running
                progress.show()
                if stop and any(isinstance(item.outcome, RunFailure) for item in new):
                    break
        self.recording.require_open()

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

    def _ended(self, record: RunRecord, progress: ProgressDisplay) -> None:
        self.records[record.spec.run_key] = record
        if isinstance(record.outcome, RunFailure):
            progress.counts.failed += 1
            log.warning(
                "%s failed: %s: %s",
                record.spec.run_id,
                record.outcome.error_type,
                record.outcome.error_message,
            )
        else:
            progress.counts.done += 1

    def _task(self, runs: Sequence[RunSpec]) -> ChunkTask:
        return ChunkTask(
            runs=tuple(runs),
            scratch=self.workspace.scratch,
            with_files=self.with_files,
            profile=runs[0].index in self.profiled,
            provenance=self.facts,
        )


def open_session(
    request: BatchRequest, plan: Plan, make_executor: MakeExecutor, started_ms: int
) -> Session:
    """Make the folders, start the workers, and begin to open the store beside them.

    Raises
    ------
    ConfigurationError
        When the folders cannot be made, or a user's tag has a name of ours.
    SelectionError, StoreError
        When the batch that is to be continued cannot be read.
    """
    config = request.config
    tags = user_tags(config)
    earlier = None
    if config["resume"] is not None:
        store = _open_store(config, create=False)
        earlier = earlier_runs(store, config["resume"], plan, rerun_failed=config["rerun_failed"])
    batch_id = new_batch_id() if earlier is None else earlier.handle.batch_id
    rows = benchmark_rows(plan.runs)
    workspace = open_workspace(batch_id, config["output_dir"], plan.runs, rows)
    _log_to(workspace.logs / "batch.log")
    setting = Setting(config=config, folder=workspace.scratch.folder, logs=workspace.logs)
    executor = make_executor(setting)
    facts = provenance(request.arguments, config["seed"])
    info = BatchInfo(
        batch_id=batch_id,
        batch_name=config["batch_name"],
        n_runs=len(plan.runs),
        started_ms=started_ms,
        tags=tags,
        git_commit=facts["git_commit"],
        git_dirty=bool(facts["git_dirty"]),
        process=this_process(),
    )
    write_start_files(workspace, request, plan, batch_id)
    session = Session(
        request=request,
        plan=plan,
        batch_id=batch_id,
        workspace=workspace,
        executor=executor,
        recording=BackgroundRecorder(
            lambda: _open_recorder(config, info, plan, workspace, earlier)
        ),
        facts=facts,
        started_ms=started_ms,
        earlier=earlier,
    )
    if earlier is not None:
        session.records.update({item.spec.run_key: item for item in earlier.records})
        session.recording.recorded.update(earlier.run_ids)
        restore_returns(workspace, plan, earlier.records)
    if not session.complete:
        executor.start(len(session.pending))
        session.recording.start()
    return session


def write_start_files(
    workspace: Workspace, request: BatchRequest, plan: Plan, batch_id: str
) -> None:
    """Write what must outlive a crash: how to compose the batch again, and what it tries."""
    axes = tuple(request.config["scenario_axes"])
    document = {
        "batch_id": batch_id,
        "batch_name": request.config["batch_name"],
        "arguments": list(request.arguments),
        "overrides": list(request.overrides),
        "axes": dict(request.axes),
        "n_runs": len(plan.runs),
        "config": dict(request.config),
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    folder = workspace.start_files
    for place in (folder, workspace.output_dir):
        (place / BATCH_CONFIG).write_text(text, encoding="utf-8")
    tried = {
        "source": source_label(request.config),
        "decisions": sorted({decision_label(run.config, axes) for run in plan.runs}),
    }
    (folder / TRIALS).write_text(json.dumps(tried) + "\n", encoding="utf-8")


def user_tags(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the user's tags of a batch.

    Raises
    ------
    ConfigurationError
        When one has the name of a tag of ours or of MLflow's.
    """
    named = {str(name): "true" for name in config["tag_names"]}
    tags = named | {str(name): str(value) for name, value in config["tags"].items()}
    taken = sorted(name for name in tags if name in RESERVED_TAGS or name.startswith("mlflow."))
    if taken:
        raise ConfigurationError(
            f"tags.{taken[0]}: this name is taken (names of our own tags and mlflow.* are); "
            "choose another"
        )
    return tags


def _open_store(config: Mapping[str, Any], *, create: bool) -> Store:
    tracking = config["tracking"]
    uri = resolve_uri(tracking["uri"], Path.cwd())
    return open_store(uri, tracking["experiment"], create=create)


def _open_recorder(
    config: Mapping[str, Any],
    info: BatchInfo,
    plan: Plan,
    workspace: Workspace,
    earlier: Earlier | None,
) -> Recorder:
    recorder = Recorder(_open_store(config, create=True), info)
    if earlier is not None:
        recorder.continue_parent(earlier.handle.mlflow_run_id)
        recorder.retire(earlier.retired)
        return recorder
    mark_dead_runs(recorder.store)
    recorder.start_parent(
        tags={"description": config["description"]} if config["description"] else {},
        dataset=_dataset(plan),
        artifacts=workspace.start_files,
    )
    return recorder


def _dataset(plan: Plan) -> DatasetInfo:
    first = plan.runs[0]
    panel, node = plan.panels[first.data_fingerprint], first.config["data"]
    path = node.get("path")
    return DatasetInfo(
        name=str(node["_target_"]).rpartition(".")[2].lower(),
        fingerprint=panel.fingerprint,
        source=str(path) if path else json.dumps(node, default=str),
        is_path=bool(path),
        n_bars=panel.n_bars,
        symbols=panel.symbols,
        fields=tuple(panel.fields),
        first=panel.index[0].isoformat(),
        last=panel.index[-1].isoformat(),
    )


def _log_to(path: Path) -> None:
    """Send the log of this batch to a file, and its warnings to standard error."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    file = logging.FileHandler(path, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(file)
    log.addHandler(WarningsToStderr(level=logging.WARNING))
    log.setLevel(logging.INFO)
    log.propagate = False
