"""What an earlier attempt at a batch left: runs in the store, returns on disk."""

import contextlib
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.batch.own_returns import without_own_returns
from backtest_batch.batch.plan import Plan
from backtest_batch.batch.provenance import local_document
from backtest_batch.batch.returns import ResumeNotes
from backtest_batch.core.fitting import walks_forward
from backtest_batch.core.windows import PER_BAR
from backtest_batch.errors import ConfigurationError, SelectionError, StoreError
from backtest_batch.interrupt import heed
from backtest_batch.records import RunRecord, RunResult, RunSpec
from backtest_batch.report.tables import one_line
from backtest_batch.rows import are_written, is_whole, row_writer
from backtest_batch.store.address import resolve_experiment, resolve_uri, without_secrets
from backtest_batch.store.artifacts import MovedFiles, local_folder, missing
from backtest_batch.store.batch_document import BatchDocument, stored_document
from backtest_batch.store.claim import CLAIM, holds, mark_dead_runs, take
from backtest_batch.store.folders import Workspace, default_output_dir, is_batch_id
from backtest_batch.store.mlflow_run import RESULT_TAGS, run_record
from backtest_batch.store.process import host_name, lives, this_process
from backtest_batch.store.search import (
    BatchHandle,
    find_batch,
    list_artifacts,
    read_artifact,
    read_runs,
)
from backtest_batch.store.sql import store_to_read
from backtest_batch.store.store import Store, StoreNotFoundError, open_store
from backtest_batch.workers.chunks import RETURNS, array_file
from backtest_batch.workers.ended import Ended, read_ended
from backtest_batch.workers.own_files import OwnReturns, write_own_returns
from backtest_batch.workers.watch import Checked

REQUIRED_FILES = ("run.json", "config.yaml", "metrics.csv", "equity.parquet")
"""Files of every run that keeps files."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What a batch has in the store already.

    Attributes
    ----------
    handle
        Its parent run.
    records
        Its runs that need not run again.
    run_ids
        MLflow's ids of these, by run key.
    retired
        MLflow's ids of the runs that run again, or that belong to other data or code.
    begun
        MLflow's ids of those of them that were begun and have not ended, by run key.
    n_stale
        How many finished ones belong to other data or code.
    n_unsure
        How many finished ones read files besides the prices that have changed or cannot be checked.
    unsure
        The reason for the first of these.
    unclaimed
        Ended runs that the plan does not have, by run key, as they are recorded: a search that is
        repeated comes to them in later rounds.
    """

    handle: BatchHandle
    records: tuple[RunRecord, ...]
    run_ids: Mapping[str, str]
    retired: tuple[str, ...]
    begun: Mapping[str, str] = field(default_factory=dict)
    n_stale: int
    n_unsure: int = 0
    unsure: str = ""
    unclaimed: dict[str, Mapping[Any, Any]] = field(default_factory=dict)

    def claim(self, runs: Sequence[RunSpec]) -> "Earlier":
        """Return the same with what there is of further runs, which is no longer unclaimed."""
        records, run_ids = [*self.records], {**self.run_ids}
        for run in runs:
            row = self.unclaimed.pop(run.run_key, None)
            if row is not None:
                records.append(run_record(run, row))
                run_ids[run.run_key] = str(row["mlflow_run_id"])
        return replace(self, records=tuple(records), run_ids=run_ids)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of it."""
        notes = []
        if self.n_stale:
            notes.append(
                f"{self.n_stale} finished runs of an earlier attempt belong to other data or code: "
                "they are retired, and run again."
            )
        if self.n_unsure:
            notes.append(
                f"{self.n_unsure} finished runs of an earlier attempt do not count as done, "
                f"because of what their strategy read besides the prices ({self.unsure}): they "
                "are retired, and run again."
            )
        return tuple(notes)


def earlier_runs(
    store: Store,
    batch_id: str,
    plan: Plan,
    *,
    rerun_failed: bool,
    mark: bool = True,
    more_follow: bool = False,
) -> Earlier:
    """Read what a batch has in the store.

    Parameters
    ----------
    store
        Where it is.
    batch_id
        The batch.
    plan
        Its runs as they would run now.
    rerun_failed
        Whether failed runs run again.
    mark
        Whether runs that dead processes of this host left RUNNING are marked as killed.
    more_follow
        Whether the plan will have further runs, which may have been recorded too.

    Raises
    ------
    ConfigurationError
        When the batch is still running.
    SelectionError
        When there is no such batch.
    """
    if mark:
        mark_dead_runs(store)
    handle = find_batch(store, batch_id)
    if handle.status == "RUNNING":
        refuse_running(batch_id, _process_of(handle), how_to_end(store, handle))
    frame = read_runs(store, batches=[batch_id], parts=("metrics", "tags"))
    specs = {run.run_key: run for run in plan.runs}
    records: dict[str, RunRecord] = {}
    run_ids: dict[str, str] = {}
    begun: dict[str, str] = {}
    retired, n_stale, unsure = [], 0, list[str]()
    unclaimed: dict[str, Mapping[Any, Any]] = {}
    checked = Checked()
    for row in frame.to_dict("records"):
        key = str(row.get("tags.run_key"))
        spec = specs.get(key)
        keeps = row["status"] == "FINISHED" or (row["status"] == "FAILED" and not rerun_failed)
        if spec is None and keeps and more_follow and key not in unclaimed:
            fault = _recorded_fault(row, checked)
            if fault is None:
                unclaimed[key] = row
            else:
                retired.append(str(row["mlflow_run_id"]))
                unsure.append(fault)
            continue
        if spec is None or not keeps or spec.run_key in records:
            retired.append(str(row["mlflow_run_id"]))
            n_stale += spec is None and row["status"] == "FINISHED"
            if (spec is not None or more_follow) and row["status"] in ("RUNNING", "KILLED"):
                begun[key] = str(row["mlflow_run_id"])
            continue
        record = run_record(spec, row)
        fault = _fault(record, checked)
        if fault is not None:
            retired.append(str(row["mlflow_run_id"]))
            unsure.append(fault)
            continue
        records[spec.run_key] = record
        run_ids[spec.run_key] = str(row["mlflow_run_id"])
    return Earlier(
        handle=handle,
        records=tuple(records.values()),
        run_ids=run_ids,
        retired=tuple(retired),
        begun=begun,
        n_stale=n_stale,
        n_unsure=len(unsure),
        unsure=unsure[0] if unsure else "",
        unclaimed=unclaimed,
    )


def unrecorded_runs(
    workspace: Workspace, plan: Plan, earlier: Earlier | None, store: Store | None
) -> Ended:
    """Return the runs that an earlier attempt finished, and that the store does not have.

    Their files may have been on the way into the store; they are brought back.

    Parameters
    ----------
    workspace, plan
        The batch.
    earlier, store
        What the store has of it; None when it does not know the batch.
    """
    known = set() if earlier is None else {record.spec.run_key for record in earlier.records}
    runs = {run.run_key: run for run in plan.runs if run.run_key not in known}
    ended = read_ended(workspace.scratch.folders, runs)
    begun = {} if earlier is None else {key: earlier.begun.get(key) for key in ended.records}
    wanted = [run_id for run_id in begun.values() if run_id is not None]
    uris: Mapping[str, str] = {}
    if store is not None and wanted and local_folder(store.artifact_location) is not None:
        with store.calling("look for artifacts"):
            uris = store_to_read(store).artifact_uris(wanted)
    checked = Checked()
    whole = {}
    for key, record in ended.records.items():
        folder = local_folder(uris.get(begun.get(key) or "", "?:"))
        if _fault(record, checked) is None and _has_its_files(record, folder):
            whole[key] = record
    return replace(ended, records=whole)


def _has_its_files(record: RunRecord, sent_to: Path | None) -> bool:
    """Return whether the files of a run are all there, after those that were sent came back."""
    outcome = record.outcome
    if not isinstance(outcome, RunResult) or outcome.artifacts is None:
        return True
    if sent_to is not None and sent_to.is_dir():
        with contextlib.suppress(OSError):
            MovedFiles().move(sent_to, outcome.artifacts)
    return all((outcome.artifacts / name).is_file() for name in outcome.files)


def _fault(record: RunRecord, checked: Checked) -> str | None:
    """Return why a recorded result does not count for the run as it is now, or None."""
    if not isinstance(record.outcome, RunResult):
        return None
    fault = checked.fault(record.outcome.tags)
    return None if fault is None else one_line(fault)


def _recorded_fault(row: Mapping[Any, Any], checked: Checked) -> str | None:
    """Return why a recorded run does not count; its specification is not known yet."""
    if row["status"] != "FINISHED":
        return None
    tags = {name: row.get(f"tags.{name}") for name in RESULT_TAGS}
    fault = checked.fault({name: text for name, text in tags.items() if isinstance(text, str)})
    return None if fault is None else one_line(fault)


def refuse_running(batch_id: str, process: Mapping[str, str], advice: str = "") -> None:
    """Raise when the process that computes a batch may still be alive.

    Raises
    ------
    ConfigurationError
        When it is alive, or belongs to another host, which cannot be checked from here.
    """
    host, pid = process.get("host", ""), process.get("pid", "")
    if process == this_process().tags:  # what this process left behind is over
        return
    if host != host_name():
        raise ConfigurationError(
            f"resume={batch_id}: the batch is marked as running on {host or 'an unknown host'} "
            f"(process {pid or 'unknown'}), and "
            f"whether it is cannot be seen from {host_name()}. {advice}".rstrip()
        )
    if lives(pid, process.get("process_started", "")):
        raise ConfigurationError(
            f"resume={batch_id}: the batch is still running (process {pid} on {host})"
        )


def claim_batch(store: Store, handle: BatchHandle) -> None:
    """Take the claim of a batch.

    Raises
    ------
    ConfigurationError
        When another process works on the batch, or may do so.
    """
    advice = how_to_end(store, handle)
    take(
        store,
        handle.batch_id,
        handle.mlflow_run_id,
        lambda process: refuse_running(handle.batch_id, process, advice),
    )


def _process_of(handle: BatchHandle) -> dict[str, str]:
    return {name: handle.tags.get(name, "") for name in this_process().tags}


def how_to_end(store: Store, handle: BatchHandle) -> str:
    """Return the advice for a batch that is marked as running on another host."""
    code = f"from mlflow import MlflowClient; c = MlflowClient('{without_secrets(store.uri)}')"
    if handle.status == "RUNNING":
        code += f"; c.set_terminated('{handle.mlflow_run_id}', 'KILLED')"
    if CLAIM in handle.tags:
        code += f"; c.delete_tag('{handle.mlflow_run_id}', '{CLAIM}')"
    return f'If it has ended, say so first: python -c "{code}"'


def with_in_sample(records: Sequence[RunRecord], notes: ResumeNotes) -> list[RunRecord]:
    """Return records with their metrics on training windows, which the store does not hold."""
    found = notes.read("in_sample")
    return [
        replace(record, outcome=replace(record.outcome, in_sample=_tuples(values)))
        if isinstance(record.outcome, RunResult) and (values := found.get(record.spec.run_key))
        else record
        for record in records
    ]


def _tuples(values: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(items) for name, items in values.items()}


def incomplete(
    workspace: Workspace,
    plan: Plan,
    done: Sequence[RunRecord],
    benchmarks: Mapping[str, Mapping[str, float]],
) -> list[RunSpec]:
    """Return the finished runs that lack something, to be computed again.

    These are the runs whose returns were lost, and one run for each benchmark whose returns were.
    They are not recorded a second time.
    """
    finished = [record for record in done if record.status == "FINISHED"]
    if not finished:
        return []
    if plan.own_data:
        return without_own_returns(workspace, finished)
    walks = walks_forward(plan.runs[0].config)
    n_rows = len(workspace.keys)
    arrays = [workspace.whole_rows(name, n_rows) for name in (RETURNS, *(PER_BAR if walks else ()))]
    missing: dict[str, RunSpec] = {}
    for record in finished:
        spec, result = record.spec, record.outcome
        assert isinstance(result, RunResult)
        unfitted = walks and spec.fit_bars is not None and not result.in_sample
        if unfitted or not all(is_whole(rows[spec.index], spec.run_key) for rows in arrays):
            missing[spec.run_key] = spec
    rows_of = workspace.scratch.benchmark_rows
    covered = {spec.benchmark_key for spec in missing.values()}
    for record in finished:
        key = record.spec.benchmark_key
        if key and key not in covered:
            covered.add(key)
            if key not in benchmarks or not is_whole(arrays[0][rows_of[key]], key):
                missing[record.spec.run_key] = record.spec
    return list(missing.values())


def have_gaps(workspace: Workspace, plan: Plan, done: Sequence[RunRecord]) -> bool:
    """Return whether rows of finished runs are missing, because somebody deleted them."""
    finished = [record.spec for record in done if record.status == "FINISHED"]
    if not finished:
        return False
    rows = [spec.index for spec in finished]
    rows_of = workspace.scratch.benchmark_rows
    benchmarks = {rows_of[spec.benchmark_key] for spec in finished if spec.benchmark_key}
    wanted = {RETURNS: [*rows, *benchmarks]}
    if walks_forward(plan.runs[0].config):
        wanted |= dict.fromkeys(PER_BAR, rows)
    n_rows = len(workspace.keys)
    return not all(
        are_written(workspace.whole_rows(name, n_rows), row_numbers)
        for name, row_numbers in wanted.items()
    )


def without_files(
    done: Sequence[RunRecord], with_files: Collection[int], earlier: Earlier, store: Store
) -> list[RunSpec]:
    """Return the finished runs whose files are not where the store says that they are.

    Somebody may have deleted them, or replaced the store by a copy of itself. Only databases with
    artifacts in a local folder are checked here; a server is checked when it receives files.

    Parameters
    ----------
    done
        Runs that are recorded.
    with_files
        Indices of the runs that have files.
    earlier, store
        Where they are recorded.
    """
    if local_folder(store.artifact_location) is None:
        return []
    specs = {
        earlier.run_ids[record.spec.run_key]: record.spec
        for record in done
        if record.status == "FINISHED" and record.spec.index in with_files
    }
    with store.calling("look for artifacts"):
        uris = store_to_read(store).artifact_uris(list(specs))
    return [
        spec
        for run_id, spec in specs.items()
        if run_id in uris and missing(uris[run_id], store.uri, REQUIRED_FILES)
    ]


def restore_reports(workspace: Workspace, earlier: Earlier, store: Store) -> None:
    """Restore deleted reports of a complete batch from its artifacts."""
    handle = earlier.handle
    with contextlib.suppress(StoreError):
        for name in list_artifacts(store, handle.mlflow_run_id):
            target = workspace.output_dir / name
            if Path(name).name != name or target.exists() or target.is_symlink():
                continue
            with contextlib.suppress(StoreError, OSError):
                target.write_bytes(
                    read_artifact(
                        store, handle.mlflow_run_id, name, artifact_uri=handle.artifact_uri
                    )
                )


def restore_returns(
    workspace: Workspace, plan: Plan, missing: Sequence[RunSpec], earlier: Earlier, store: Store
) -> None:
    """Fill rows of the array of returns from the recorded files of runs.

    Another machine does not have the working files of the batch, but its artifacts.
    """
    scratch = workspace.scratch
    with row_writer(array_file(scratch.folder, RETURNS), scratch.row_bars) as write:
        for spec in missing:
            heed()
            for first, values in _recorded_returns(spec, plan, earlier, store):
                write(spec.index, spec.run_key, first, values)


def restore_own_returns(
    workspace: Workspace, done: Sequence[RunRecord], earlier: Earlier, store: Store
) -> None:
    """Restore returns of runs that read their own data from their recorded files.

    Nothing is restored for a walk-forward, which needs more than these files hold.
    """
    for spec in without_own_returns(workspace, done):
        heed()
        frame = None if walks_forward(spec.config) else _recorded_equity(spec, earlier, store)
        if frame is None or not len(frame):
            continue
        returns = frame["net_return"].to_numpy(dtype=np.float64, na_value=np.nan)
        found = OwnReturns(index=_stamps_in(frame), net_return=returns, beside={})
        with contextlib.suppress(OSError):
            write_own_returns(workspace.scratch.folder, spec.run_key, found)


def _stamps_in(frame: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(frame["timestamp"]).as_unit("ns")


def _recorded_equity(spec: RunSpec, earlier: Earlier, store: Store) -> pd.DataFrame | None:
    """Return the recorded returns of a run, if there are any."""
    try:
        content = read_artifact(store, earlier.run_ids[spec.run_key], "equity.parquet")
        return pd.read_parquet(io.BytesIO(content), columns=["timestamp", "net_return"])
    except (StoreError, OSError, ValueError, KeyError):
        return None


def _recorded_returns(
    spec: RunSpec, plan: Plan, earlier: Earlier, store: Store
) -> Iterator[tuple[int, Any]]:
    """Yield the first bar and the returns of a run, if its file exists and fits its data."""
    frame = _recorded_equity(spec, earlier, store)
    if frame is None:
        return
    index = plan.panels[spec.data_fingerprint].index
    positions = index.get_indexer(pd.DatetimeIndex(frame["timestamp"]))
    if (
        len(positions)
        and positions[0] >= 0
        and np.array_equal(positions, positions[0] + np.arange(len(positions)))
    ):
        yield int(positions[0]), frame["net_return"].to_numpy(dtype=np.float64, na_value=np.nan)


@dataclass(frozen=True, kw_only=True)
class Continued:
    """The batch that is resumed: what the store has of it, and where its files are."""

    batch_id: str
    document: BatchDocument | None
    earlier: Earlier | None
    store: Store | None

    @property
    def output_dir(self) -> Path:
        """The folder of the batch, if it is on this machine."""
        if self.document is None:
            return default_output_dir(self.batch_id)
        return self.document.output_dir


def continued_batch(config: Mapping[str, Any], plan: Plan) -> Continued:
    """Find the batch that ``resume`` names, in the store or, if that is lost, in its folder."""
    batch_id = str(config["resume"])
    document = local_document(batch_id)
    store, earlier = None, None
    try:
        store = open_configured(config, create=False)
        handle = find_batch(store, batch_id)
        if not holds(batch_id, handle.mlflow_run_id):  # its command names the store differently
            claim_batch(store, handle)
        earlier = earlier_runs(
            store,
            batch_id,
            plan,
            rerun_failed=config["rerun_failed"],
            more_follow=plan.most_runs > 0,
        )
    except (SelectionError, StoreNotFoundError):
        # Its process may have died before the store knew of it.
        if document is None:
            raise
        refuse_running(batch_id, document.process)
    if earlier is not None and store is not None:
        batch_id = earlier.handle.batch_id
        if not is_batch_id(batch_id):
            raise SelectionError(f"resume={batch_id!r}: is not a batch_id of this package")
        if document is None:
            with contextlib.suppress(StoreError):
                document = stored_document(store, earlier.handle)
    return Continued(batch_id=batch_id, document=document, earlier=earlier, store=store)


def open_configured(config: Mapping[str, Any], *, create: bool) -> Store:
    """Open the store that a configuration names."""
    tracking = config["tracking"]
    uri = resolve_uri(tracking["uri"], Path.cwd())
    return open_store(uri, resolve_experiment(tracking["experiment"]), create=create)
