"""Results that could not be recorded, kept on disk until they can be.

A file holds the fields of a record. pydantic checks them when they are read, so that a damaged file
is never taken for a result; unknown fields are ignored.

A spool is a folder::

    batch.json                    the batch, and the store that it belongs to
    dataset.json                  its market data, in case that the parent run is begun anew
    finish.json, parent/          how the parent run ends, and its files
    runs/<run_id>/key.json        the run key of one run
    runs/<run_id>/record.json     how it ended
    runs/<run_id>/artifacts/      its files
    runs/<run_id>/curve.json      its equity curve
    runs/<run_id>/tags.json       tags that were added to it after its end
    runs/<run_id>/later/          files that were added to it later
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from backtest_batch.errors import SelectionError, StoreError
from backtest_batch.masking import masked_values
from backtest_batch.ownership import Origin, is_own_file, make_own_folder, origin, sign
from backtest_batch.records import (
    RunFailure,
    RunRecord,
    RunResult,
    RunSpec,
    Status,
    fields_of,
    record_of,
)
from backtest_batch.store.address import has_secret, resolve_uri, without_secrets
from backtest_batch.store.artifacts import MovedFiles, names_below, thinned_curve
from backtest_batch.store.claim import follow
from backtest_batch.store.mlflow_run import BatchInfo, DatasetInfo, EquityCurve, now_ms
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.search import find_batch, run_states
from backtest_batch.store.store import Store, open_store
from backtest_batch.values import json_value

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpoolHead:
    """What batch.json of a spool holds.

    Attributes
    ----------
    format
        Version of the layout of a spool.
    store_uri, experiment
        Where the results belong; the address without its secrets.
    needs_uri
        Whether the address held secrets.
    signature
        The user's signature of the address; None if there was no key to sign with.
    parent_run_id
        MLflow's id of the parent run, or None when there was none yet.
    batch
        The batch.
    """

    format: int
    store_uri: str
    needs_uri: bool
    signature: str | None = None
    experiment: str
    parent_run_id: str | None
    batch: BatchInfo


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpoolEnding:
    """How the parent run of a batch ends; see ``Recorder.finish_parent``."""

    status: Status
    tags: Mapping[str, Any]
    metrics: Mapping[str, float]
    note: str
    ended_ms: int


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_as(path: Path, convert: Callable[[Any], T]) -> T:
    """Return the object that a JSON file of a spool describes.

    Raises
    ------
    StoreError
        When the file is damaged, or does not describe such an object.
    """
    try:
        return convert(read_json(path))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged, so that the results that were kept there are not recorded. Move "
            f"{path.parent} away to go on; what it held is then computed again."
        ) from error


def write_whole(path: Path, values: Any) -> None:
    """Write JSON without secrets; the file is there completely or not at all."""
    temporary = path.with_suffix(".tmp")
    text = json.dumps(masked_values(values), default=json_value, ensure_ascii=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def record_to_json(record: RunRecord) -> dict[str, Any]:
    """Return a record as JSON values, which tell only whether it has a folder."""
    values, outcome = fields_of(record), record.outcome
    fields = values.pop("outcome")
    if outcome is not None:
        kind = "result" if isinstance(outcome, RunResult) else "failure"
        values[kind] = fields | {"artifacts": outcome.artifacts is not None}
    return values


def record_from_json(values: Mapping[str, Any], artifacts: Path) -> RunRecord:
    """Return the record whose fields are ``values``, with its files in ``artifacts``."""
    values = dict(values)
    result, failure = values.pop("result", None), values.pop("failure", None)
    outcome: RunResult | RunFailure | None = None
    if result is not None:
        outcome = record_of(RunResult, result | _folder(result, artifacts))
    elif failure is not None:
        outcome = record_of(RunFailure, failure | _folder(failure, artifacts))
    return dataclasses.replace(record_of(RunRecord, values | {"outcome": None}), outcome=outcome)


def _folder(outcome: Mapping[str, Any], artifacts: Path) -> dict[str, Path | None]:
    return {"artifacts": artifacts if outcome["artifacts"] and artifacts.exists() else None}


def curve_to_json(curve: EquityCurve) -> dict[str, Any]:
    """Return a curve, thinned to what is recorded of it, as lists."""
    short = thinned_curve(curve)
    times = short.timestamps_ms
    return {
        "steps": short.steps.tolist(),
        "equity": short.equity.tolist(),
        "drawdown": short.drawdown.tolist(),
        "timestamps_ms": None if times is None else times.tolist(),
    }


def curve_from_json(values: Mapping[str, Any]) -> EquityCurve:
    """Return the curve whose fields are ``values``."""
    times = values["timestamps_ms"]
    return EquityCurve(
        steps=np.array(values["steps"], dtype=np.int64),
        equity=np.array(values["equity"], dtype=np.float64),
        drawdown=np.array(values["drawdown"], dtype=np.float64),
        timestamps_ms=None if times is None else np.array(times, dtype=np.int64),
    )


FORMAT = 1
_SIGNED_STORE = "store of a spool"
"""Purpose of the signature in batch.json; see :func:`.ownership.sign`."""
_GROUP = 500
"""Number of runs recorded at once."""


class Spool:
    """A folder for what the store does not accept.

    Parameters
    ----------
    folder
        The folder; made if it does not exist.
    store_uri, experiment
        The store and experiment it belongs to. A password in the address is not written.
    batch
        The batch.
    parent_run_id
        MLflow's id of the parent run, or None when there is none yet.
    dataset
        The market data, in case there is no parent run yet, or no longer.

    Raises
    ------
    OSError
        When the folder cannot be written; every method may raise this.
    """

    def __init__(
        self,
        folder: Path,
        *,
        store_uri: str,
        experiment: str,
        batch: BatchInfo,
        parent_run_id: str | None,
        dataset: DatasetInfo | None = None,
    ) -> None:
        self.folder = folder
        make_own_folder(folder)
        (folder / "runs").mkdir(exist_ok=True)
        if dataset is not None:
            write_whole(folder / "dataset.json", fields_of(dataset))
        head = SpoolHead(
            format=FORMAT,
            store_uri=without_secrets(store_uri),
            needs_uri=has_secret(store_uri),
            signature=sign(_SIGNED_STORE, _address_text(store_uri, batch.batch_id)),
            experiment=experiment,
            parent_run_id=parent_run_id,
            batch=batch,
        )
        write_whole(folder / "batch.json", fields_of(head))

    def add(self, record: RunRecord) -> None:
        """Keep one run; its files are moved here."""
        folder = self._folder_of(record.spec)
        outcome = record.outcome
        if outcome is not None and outcome.artifacts is not None:
            MovedFiles().move(outcome.artifacts, folder / "artifacts")
        # Last, and in one step: a run without it does not count.
        write_whole(folder / "record.json", record_to_json(record))

    def add_curve(self, spec: RunSpec, curve: EquityCurve) -> None:
        """Keep the equity curve of a run."""
        write_whole(self._folder_of(spec) / "curve.json", curve_to_json(curve))

    def add_texts(self, spec: RunSpec, texts: Mapping[str, str]) -> None:
        """Keep text files that become artifacts of a run."""
        MovedFiles().write(texts, self._folder_of(spec) / "later")

    def add_tags(self, spec: RunSpec, tags: Mapping[str, str]) -> None:
        """Keep further tags of a run."""
        write_whole(self._folder_of(spec) / "tags.json", dict(tags))

    def _folder_of(self, spec: RunSpec) -> Path:
        folder = self.folder / "runs" / spec.run_id
        if not folder.exists():
            folder.mkdir()
            write_whole(folder / "key.json", spec.run_key)
        return folder

    def finish(
        self,
        status: Status,
        *,
        tags: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        artifacts: Path | None = None,
        note: str = "",
    ) -> None:
        """Keep how the parent run ends; the parameters are those of ``Recorder.finish_parent``."""
        if artifacts is not None:
            shutil.copytree(artifacts, self.folder / "parent", dirs_exist_ok=True)
        ending = SpoolEnding(
            status=status,
            tags=dict(tags or {}),
            metrics=dict(metrics or {}),
            note=note,
            ended_ms=now_ms(),
        )
        write_whole(self.folder / "finish.json", fields_of(ending))


@dataclass(frozen=True, kw_only=True)
class SpoolReport:
    """The outcome of recording a spool.

    Attributes
    ----------
    batch_id, batch_name
        The batch.
    parent_run_id
        MLflow's id of its parent run.
    n_recorded
        Runs recorded now.
    n_known
        Runs that the store had already.
    store
        The store, open.
    """

    batch_id: str
    batch_name: str
    parent_run_id: str
    n_recorded: int
    n_known: int
    store: Store


def record_spool(folder: Path, *, store_uri: str | None = None) -> SpoolReport:
    """Record what a spool holds, and remove it.

    A run whose key the store already has is not written again, so that this may be interrupted and
    repeated. Nothing is removed before every file of every run has arrived; a lost file is left to
    ``resume``, which computes it again.

    Parameters
    ----------
    folder
        The spool.
    store_uri
        The store, if it is not the one that the spool was made for; needed if the address of that
        one holds a password, which a spool does not keep.

    Raises
    ------
    SelectionError
        When ``folder`` is not a spool.
    StoreError
        When the store still fails; unrecorded results stay in the spool.
    """
    head = _read_head(folder)
    if store_uri is None and head.needs_uri:
        raise StoreError(
            f"The spool {folder} belongs to {head.store_uri}, whose password it does not keep. "
            "Set tracking.uri or MLFLOW_TRACKING_URI to the whole address."
        )
    if store_uri is None and not _is_own_address(folder, head):
        raise StoreError(
            f"The spool {folder} belongs to {head.store_uri}, an address without your "
            "signature. If you know it, set tracking.uri or MLFLOW_TRACKING_URI to it."
        )
    store = open_store(store_uri or head.store_uri, head.experiment)
    batch = head.batch
    recorder = Recorder(store, batch)
    recorder.parent_run_id = _parent(store, head.parent_run_id, batch.batch_id)
    if recorder.parent_run_id is not None:
        follow(store, batch.batch_id, recorder.parent_run_id)
    else:
        dataset_file = folder / "dataset.json"
        dataset = (
            read_as(dataset_file, partial(record_of, DatasetInfo))
            if dataset_file.exists()
            else None
        )
        recorder.start_parent(dataset=dataset)
    states = run_states(store, batch.batch_id)
    known: dict[str, dict[str, str]] = {}
    for run_key, status, run_id in states:
        known.setdefault(status, {})[run_key] = run_id
    # A run that had begun when the store was lost is completed, not written a second time.
    begun = known.get("KILLED", {}) | known.get("RUNNING", {})
    finished, failed = known.get("FINISHED", {}), known.get("FAILED", {})
    ids = begun | failed | finished
    n_recorded = n_known = 0
    run_folders = sorted(path.parent for path in folder.glob("runs/*/record.json"))
    for start in range(0, len(run_folders), _GROUP):
        group = [
            read_as(
                run_folder / "record.json",
                partial(record_from_json, artifacts=run_folder / "artifacts"),
            )
            for run_folder in run_folders[start : start + _GROUP]
        ]
        new = [record for record in group if not _is_known(record, finished, failed)]
        written = recorder.record(new, begun=begun)
        ids |= dict(zip((record.spec.run_key for record in new), written, strict=True))
        n_recorded += len(new)
        n_known += len(group) - len(new)
    _add_later(recorder, folder, ids)
    _complete_files(recorder, folder, ids)
    # If a server began a run twice, one of the two is complete now.
    done = set(ids.values())
    recorder.retire(
        [
            run_id
            for run_key, status, run_id in states
            if run_key in ids and status in ("RUNNING", "KILLED") and run_id not in done
        ]
    )
    _finish(recorder, folder)
    _remove(folder)
    return SpoolReport(
        batch_id=batch.batch_id,
        batch_name=batch.batch_name,
        parent_run_id=str(recorder.parent_run_id),
        n_recorded=n_recorded,
        n_known=n_known,
        store=store,
    )


def _is_own_address(folder: Path, head: SpoolHead) -> bool:
    """Return whether results may go, with the user's token, to the address in a spool."""
    recorded = head.store_uri
    text = _address_text(recorded, head.batch.batch_id)
    if origin(_SIGNED_STORE, text, head.signature) is Origin.OWN:
        return True
    if not sign(_SIGNED_STORE, "") and is_own_file(folder / "batch.json"):  # there is no key here
        return True
    return recorded == resolve_uri(None, Path.cwd())


def _address_text(store_uri: str, batch_id: str) -> str:
    return f"{without_secrets(store_uri)}\n{batch_id}"


def spool_store(folder: Path) -> str:
    """Return the address of the store that a spool was made for, without its secrets.

    Raises
    ------
    SelectionError
        When ``folder`` is not a spool.
    """
    return _read_head(folder).store_uri


def _is_known(record: RunRecord, finished: Mapping[str, str], failed: Mapping[str, str]) -> bool:
    key = record.spec.run_key
    return key in finished or (record.status == "FAILED" and key in failed)


def _read_head(folder: Path) -> SpoolHead:
    def checked(values: dict[str, Any]) -> SpoolHead:
        if values["format"] != FORMAT:
            raise SelectionError(
                f"The results in {folder} were kept by another version of this package (format "
                f"{values['format']}; this one reads {FORMAT})."
            )
        return record_of(SpoolHead, values)

    try:
        return read_as(folder / "batch.json", checked)
    except FileNotFoundError as error:
        raise SelectionError(f"There are no unrecorded results in {folder}.") from error


def _parent(store: Store, parent_run_id: str | None, batch_id: str) -> str | None:
    """Return the parent run of the batch, if the store still has it."""
    from mlflow.exceptions import MlflowException

    if parent_run_id is not None:
        with store.calling("look for the batch"):
            try:
                run = store.client.get_run(parent_run_id)
                if run.info.lifecycle_stage == "active":
                    return parent_run_id
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
    try:
        return find_batch(store, batch_id).mlflow_run_id
    except SelectionError:
        return None


def _add_later(recorder: Recorder, folder: Path, ids: Mapping[str, str]) -> None:
    """Record the curves, files and tags that were added to runs after their end."""
    curves, tags = {}, {}
    files: list[tuple[str, Mapping[str, str], Path | None]] = []
    for file in sorted(folder.glob("runs/*/key.json")):
        run_id = ids.get(read_as(file, str))
        if run_id is None:
            continue
        if (file.parent / "curve.json").exists():
            curves[run_id] = read_as(file.parent / "curve.json", curve_from_json)
        if (file.parent / "tags.json").exists():
            tags[run_id] = read_as(file.parent / "tags.json", dict[str, str])
        if (file.parent / "later").exists():
            files.append((run_id, {}, file.parent / "later"))
    recorder.add_files(files)
    recorder.log_curves(curves)
    recorder.add_tags(tags)


def _complete_files(recorder: Recorder, folder: Path, ids: Mapping[str, str]) -> None:
    """Ensure that every file of every run is where it belongs.

    A run in the store may lack files: a process may have ended while it recorded this spool, or the
    store may be an earlier copy of itself.

    Raises
    ------
    StoreError
        When a file does not arrive.
    """
    folders_of: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("runs/*/key.json")):
        run_id = ids.get(read_as(file, str))
        folders = [file.parent / "artifacts", file.parent / "later"]
        if run_id is not None and (found := [path for path in folders if names_below(path)]):
            folders_of[run_id] = found
    missing = recorder.missing_files(
        {run_id: _names(folders) for run_id, folders in folders_of.items()}
    )
    if not missing:
        return
    recorder.add_files([(run_id, {}, path) for run_id in missing for path in folders_of[run_id]])
    missing = recorder.missing_files({run_id: _names(folders_of[run_id]) for run_id in missing})
    if missing:
        run_id, names = next(iter(missing.items()))
        raise StoreError(
            f"The tracking store {recorder.store.shown} took the files of {len(missing)} runs, but "
            f"does not have them ({names[0]} of {run_id}). They stay in {folder}."
        )


def _names(folders: Sequence[Path]) -> list[str]:
    return [name for path in folders for name in names_below(path)]


def _remove(folder: Path) -> None:
    """Remove a spool, batch.json last, so that this can be repeated."""
    for item in folder.iterdir():
        if item.is_dir():
            shutil.rmtree(item)
        elif item.name != "batch.json":
            item.unlink()
    (folder / "batch.json").unlink()
    folder.rmdir()


def _finish(recorder: Recorder, folder: Path) -> None:
    if (folder / "finish.json").exists():
        ending = read_as(folder / "finish.json", partial(record_of, SpoolEnding))
        artifacts = folder / "parent"
        recorder.finish_parent(
            ending.status,
            tags=ending.tags,
            metrics=ending.metrics,
            artifacts=artifacts if artifacts.exists() else None,
            note=ending.note,
            ended_ms=ending.ended_ms,
        )
