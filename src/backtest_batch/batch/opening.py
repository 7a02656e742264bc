"""Begin a batch, or go on with an earlier one: folders, workers, first files, the store."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtest_batch.analysis.parameter_values import value_as_typed
from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.batch.earlier import (
    Earlier,
    claim_batch,
    earlier_runs,
    incomplete,
    refuse_running,
    restore_reports,
    restore_returns,
    with_in_sample,
    without_files,
)
from backtest_batch.batch.judging import decision_labels, source_kind, source_label
from backtest_batch.batch.plan import Plan
from backtest_batch.batch.provenance import git_diff, provenance
from backtest_batch.batch.returns import ResumeNotes
from backtest_batch.batch.session import MakeExecutor, Session, log_to
from backtest_batch.core.fitting import walks_forward
from backtest_batch.errors import ConfigurationError, SelectionError, StoreError
from backtest_batch.interrupt import heed
from backtest_batch.masking import masked, masked_values
from backtest_batch.ownership import replace_text
from backtest_batch.printing import say
from backtest_batch.records import BatchRequest
from backtest_batch.store.address import resolve_experiment, resolve_uri
from backtest_batch.store.batch_document import (
    BatchDocument,
    read_document_file,
    signed_document,
    stored_document,
)
from backtest_batch.store.claim import holds, mark_dead_runs
from backtest_batch.store.folders import (
    BATCH_CONFIG,
    Workspace,
    default_output_dir,
    is_batch_id,
    new_batch_id,
    open_workspace,
    unwritable,
)
from backtest_batch.store.mlflow_run import RESERVED_TAGS, BatchInfo, DatasetInfo
from backtest_batch.store.process import this_process
from backtest_batch.store.recorder import BackgroundRecorder, Recorder
from backtest_batch.store.search import TRIALS, find_batch
from backtest_batch.store.store import Store, StoreNotFoundError, open_store
from backtest_batch.values import flattened
from backtest_batch.workers.chunks import benchmark_rows
from backtest_batch.workers.settings import ExecutorSettings

GIT_DIFF = "git.diff"


def write_start_files(
    workspace: Workspace,
    request: BatchRequest,
    plan: Plan,
    batch_id: str,
    facts: Mapping[str, Any],
    begun: Mapping[str, Any] | None,
) -> None:
    """Write the files that are recorded when a batch begins.

    Parameters
    ----------
    workspace, request, plan, batch_id
        The batch.
    facts
        Its provenance.
    begun
        How it was asked for when it began: what is given when it goes on counts for that attempt
        alone. None for a new batch.

    Raises
    ------
    OSError
        When they cannot be written.
    """
    asked = {
        "batch_id": batch_id,
        "batch_name": request.config["batch_name"],
        "arguments": list(request.arguments),
        "overrides": list(request.overrides),
        "axes": dict(request.axes),
        "n_runs": len(plan.runs),
        "config": request.config,
    }
    now = {"output_dir": str(workspace.output_dir), "process": this_process().tags}
    # Whoever may read the store need not know its password.
    text = signed_document({**(begun or masked_values(asked)), **now})
    folder = workspace.start_files
    replace_text(folder / TRIALS, json.dumps(_tried(request, plan)) + "\n")
    if facts["git_dirty"]:
        replace_text(folder / GIT_DIFF, masked(git_diff(Path.cwd())))
    if workspace.pointer is not None:
        # Without it, resume=latest would not find a batch that the store does not know yet.
        with contextlib.suppress(OSError):
            workspace.pointer.mkdir(parents=True, exist_ok=True)
            replace_text(workspace.pointer / BATCH_CONFIG, text)
    for target in (folder, workspace.output_dir):
        replace_text(target / BATCH_CONFIG, text)


def _tried(request: BatchRequest, plan: Plan) -> dict[str, Any]:
    """Return what a batch tries, by the source of the prices, and of what kind each source is."""
    labels = decision_labels(plan.runs, AxisKinds.of(request.config))
    tried: dict[str, set[str]] = {}
    sources: dict[str, str] = {}
    for run, label in zip(plan.runs, labels, strict=True):
        source = source_label(run.config)
        tried.setdefault(source, set()).add(label)
        sources[source] = source_kind(run.config)
    return {
        "decisions": {source: sorted(found) for source, found in tried.items()},
        "kinds": sources,
    }


def local_document(batch_id: str) -> BatchDocument | None:
    """Return how a batch of this working directory was asked for, or None when it is not here."""
    if not is_batch_id(batch_id):
        return None
    found = read_document_file(default_output_dir(batch_id) / BATCH_CONFIG)
    return found if found is not None and found.batch_id == batch_id else None


def local_documents() -> Iterator[BatchDocument]:
    """Yield how the batches of this working directory were asked for, the newest first.

    Other files are skipped, with a message.
    """
    for path in sorted(default_output_dir("x").parent.glob(f"*/{BATCH_CONFIG}"), reverse=True):
        found = local_document(path.parent.name)
        if found is None:
            say(f"{path} does not say how the batch of its folder was asked for: it is skipped.\n")
        else:
            yield found


@dataclass(frozen=True, kw_only=True)
class _Continued:
    """The batch that is taken up again: what the store has of it, and where its files are."""

    batch_id: str
    document: BatchDocument | None
    earlier: Earlier | None
    store: Store | None

    @property
    def output_dir(self) -> Path:
        """The folder that the batch had, when it is on this machine."""
        if self.document is None:
            return default_output_dir(self.batch_id)
        return self.document.output_dir


def open_session(
    request: BatchRequest,
    plan: Plan,
    make_executor: MakeExecutor,
    started_ms: int,
    *,
    rerun_of: str = "",
) -> Session:
    """Make the folders, start the workers, and begin to open the store beside them.

    Parameters
    ----------
    request, plan
        The batch.
    make_executor
        Makes the workers.
    started_ms
        When it began, milliseconds since the epoch.
    rerun_of
        batch_id of the batch whose winner it runs again; empty for any other batch.

    Raises
    ------
    ConfigurationError
        When the folders cannot be made, a user's tag has a name of ours, or the batch that is to
        be continued is still running.
    SelectionError, StoreError
        When the batch that is to be continued cannot be read.
    """
    config = request.config
    tags = user_tags(config)
    continued = None if config["resume"] is None else _continued(config, plan)
    heed()
    batch_id = new_batch_id() if continued is None else continued.batch_id
    if config["output_dir"]:
        output_dir = Path(config["output_dir"]).absolute()
    else:
        output_dir = default_output_dir(batch_id) if continued is None else continued.output_dir
    workspace = open_workspace(batch_id, output_dir, plan.runs, benchmark_rows(plan.runs))
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
        n_runs=len(plan.runs),
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
        plan=plan,
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
        notes=[*plan.notes],
    )
    try:
        if earlier is not None and continued is not None and continued.store is not None:
            _take_up(session, earlier, continued.store)
        if not session.complete:
            session.start()
    except BaseException:
        session.end_workers()
        workspace.discard()
        raise
    return session


def _continued(config: Mapping[str, Any], plan: Plan) -> _Continued:
    """Find the batch that ``resume`` names, in the store or, when it was lost, in its folder."""
    batch_id = str(config["resume"])
    document = local_document(batch_id)
    store, earlier = None, None
    try:
        store = open_configured(config, create=False)
        handle = find_batch(store, batch_id)
        if not holds(batch_id, handle.mlflow_run_id):  # its command names the store otherwise
            claim_batch(store, handle)
        earlier = earlier_runs(store, batch_id, plan, rerun_failed=config["rerun_failed"])
    except (SelectionError, StoreNotFoundError):
        # Its process may have died before the store knew of it.
        if document is None:
            raise
        refuse_running(batch_id, document.process)
    if earlier is not None and store is not None:
        batch_id = earlier.handle.batch_id
        if not is_batch_id(batch_id):
            raise SelectionError(f"resume={batch_id!r}: is no batch_id of this package")
        if document is None:
            with contextlib.suppress(StoreError):
                document = stored_document(store, earlier.handle)
    return _Continued(batch_id=batch_id, document=document, earlier=earlier, store=store)


def _take_up(session: Session, earlier: Earlier, store: Store) -> None:
    """Take over what an earlier attempt has finished."""
    workspace, plan, notes = session.workspace, session.plan, session.resume_notes
    done = with_in_sample(earlier.records, notes)
    session.take_over(earlier, done)
    bare = without_files(done, session.with_files, earlier, store)
    if session.complete and not bare:
        restore_reports(workspace, earlier, store)
        return
    session.add_benchmarks(notes.read("benchmark"))
    workspace.gather()
    missing = incomplete(workspace, plan, done, session.benchmarks)
    if missing and not walks_forward(plan.runs[0].config):
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


def user_tags(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the user's tags of a batch; a tag of a nested mapping has a dotted name.

    Raises
    ------
    ConfigurationError
        When one has no name, or that of a tag of ours or of MLflow's.
    """
    named = {str(name): "true" for name in config["tag_names"]}
    tags = named | {name: value_as_typed(value) for name, value in flattened(config["tags"])}
    if not all(name.strip() for name in tags):
        raise ConfigurationError("tags, tag_names: a tag must have a name, but got an empty one")
    taken = sorted(name for name in tags if name in RESERVED_TAGS or name.startswith("mlflow."))
    if taken:
        raise ConfigurationError(
            f"tags.{taken[0]}: this name is taken (names of our own tags and mlflow.* are); "
            "choose another"
        )
    return tags


def open_configured(config: Mapping[str, Any], *, create: bool) -> Store:
    """Open the store that a configuration names."""
    tracking = config["tracking"]
    uri = resolve_uri(tracking["uri"], Path.cwd())
    return open_store(uri, resolve_experiment(tracking["experiment"]), create=create)


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
        dataset=dataset_info(plan),
        artifacts=workspace.start_files,
    )
    return recorder


def dataset_info(plan: Plan) -> DatasetInfo:
    """Return what the store is told of the market data of a batch."""
    first = plan.runs[0]
    panel, node = plan.panels[first.data_fingerprint], first.config["data"]
    path = node.get("path")
    return DatasetInfo(
        name=str(node["_target_"]).rpartition(".")[2].lower(),
        fingerprint=panel.fingerprint,
        source=masked_values(str(path)) if path else json.dumps(masked_values(node), default=str),
        is_path=bool(path),
        n_bars=panel.n_bars,
        symbols=panel.symbols,
        fields=tuple(panel.fields),
        first=panel.index[0].isoformat(),
        last=panel.index[-1].isoformat(),
    )
