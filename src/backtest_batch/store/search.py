"""Find batches, their runs and their files in a store, and the decisions of earlier batches."""

import contextlib
import difflib
import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from backtest_batch.errors import SelectionError, StoreError
from backtest_batch.store.artifacts import local_folder
from backtest_batch.store.client import has_tag
from backtest_batch.store.kinds import RunColumns, RunQuery
from backtest_batch.store.mlflow_run import RERUN_OF
from backtest_batch.store.sql import store_to_read
from backtest_batch.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

_NAMED_BATCHES = 1_000
"""Number of batches searched for names like a misspelt one."""


@dataclass(frozen=True, kw_only=True)
class BatchHandle:
    """A batch in the store.

    Attributes
    ----------
    batch_id, batch_name
        Its unique id and its given name.
    mlflow_run_id
        MLflow's id of the parent run.
    status
        MLflow's status of the parent run.
    started_ms, ended_ms
        Milliseconds since the epoch; ``ended_ms`` is None while it runs.
    artifact_uri
        Where the artifacts of the parent run are.
    tags
        Tags of the parent run.
    """

    batch_id: str
    batch_name: str
    mlflow_run_id: str
    status: str
    started_ms: int
    ended_ms: int | None
    artifact_uri: str
    tags: Mapping[str, str]


def find_batch(store: Store, batch: str) -> BatchHandle:
    """Return one batch of the store's experiment.

    Parameters
    ----------
    store
        Where to look.
    batch
        ``latest`` for the batch that started last, a batch_id, or a batch_name; if several batches
        have the name, the one that started last. A batch that runs the winner of another again is
        never the latest, and a name refers to it only if no other batch has that name.

    Raises
    ------
    SelectionError
        When there is no such batch; the message names similar ones.
    StoreError
        When the store fails.
    """
    with store.calling("look for the batch"):
        found = [] if batch == "latest" else _parents(store, {"batch_id": batch})
        if not found:
            found = _no_reruns(store, {} if batch == "latest" else {"batch_name": batch})
        if not found and batch != "latest":
            found = _parents(store, {"batch_name": batch})
        if found:
            return _handle(found[0])
        known = [_handle(run) for run in _parents(store, {}, limit=_NAMED_BATCHES)]
    raise SelectionError(_no_batch_message(store, batch, known))


def list_batches(store: Store, *, limit: int = _NAMED_BATCHES) -> list[BatchHandle]:
    """Return the batches of the store's experiment, the one that started last first."""
    with store.calling("list the batches"):
        return [_handle(run) for run in _parents(store, {}, limit=limit)]


def read_runs(
    store: Store,
    *,
    batches: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    filter_string: str = "",
    statuses: Sequence[str] | None = None,
    role: str = "run",
    parts: Sequence[str] = ("metrics", "params", "tags"),
) -> pd.DataFrame:
    """Return runs of the store's experiment, one row each.

    Parameters
    ----------
    store
        Where to look.
    batches
        Their batch_ids; None for all.
    tags
        Tags that every run has with exactly these values.
    filter_string
        A further condition in MLflow's own language, such as ``metrics.sharpe > 0.5``.
    statuses
        MLflow's statuses (FINISHED, FAILED, KILLED, RUNNING); None for all.
    role
        The tag batch_role.
    parts
        Which of metrics, params and tags are read.

    Returns
    -------
    DataFrame
        Columns run_id, batch_id, status, mlflow_run_id, run_name, started_ms, ended_ms (nullable
        integers), then ``metrics.<name>`` (float64; NaN where a run has none), ``params.<name>``
        and ``tags.<name>`` (text; missing where a run has none), each sorted by name. Rows by
        start, then by mlflow_run_id.

    Raises
    ------
    SelectionError
        When MLflow does not understand ``filter_string``.
    StoreError
        When the store fails.
    """
    if batches is not None and not batches:
        return RunColumns(parts).frame()
    query = RunQuery(
        batches=None if batches is None else tuple(batches),
        tags={"batch_role": role, **(tags or {})},
        statuses=None if statuses is None else tuple(statuses),
        parts=tuple(parts),
    )
    with store.calling("read runs"):
        return _read(store, query, filter_string).frame()


def run_states(store: Store, batch_id: str) -> list[tuple[str, str, str]]:
    """Return run key, status and MLflow run id of a batch's runs, in the order of their start.

    Raises
    ------
    StoreError
        When the store fails, or a server does not know the batch although it has its parent run.
    """
    with store.calling("read the batch's runs"):
        return store_to_read(store).states(batch_id)


def list_artifacts(store: Store, mlflow_run_id: str, folder: str | None = None) -> list[str]:
    """Return the paths of the artifacts of a run directly below ``folder``."""
    with store.calling("list artifacts"):
        return [info.path for info in store.files.list_artifacts(mlflow_run_id, folder)]


def read_artifact(
    store: Store, mlflow_run_id: str, path: str, *, artifact_uri: str | None = None
) -> bytes:
    """Return the content of one artifact of a run.

    Parameters
    ----------
    store
        The store.
    mlflow_run_id
        MLflow's id of the run.
    path
        Path of the artifact below the run's artifacts.
    artifact_uri
        Where they are, if that is known. MLflow's client asks for the whole run to find out, and
        copies the file, which takes 40 ms; a local file is read at once.

    Raises
    ------
    StoreError
        When there is no such artifact, or the store fails.
    """
    folder = None if artifact_uri is None else local_folder(artifact_uri)
    if folder is not None and (folder / path).is_file():
        with store.calling(f"read the artifact {path}"):
            return (folder / path).read_bytes()
    with tempfile.TemporaryDirectory() as copies, store.calling(f"read the artifact {path}"):
        return Path(store.files.download_artifacts(mlflow_run_id, path, copies)).read_bytes()


def _no_reruns(store: Store, tags: Mapping[str, str]) -> "list[Run]":
    """Return the newest parent run with these tags that does not repeat a winner."""
    # MLflow's language cannot ask for absent tags; the newest run is nearly always the one.
    for limit in (1, _NAMED_BATCHES):
        found = _parents(store, tags, limit=limit)
        first = [run for run in found if RERUN_OF not in run.data.tags]
        if first or len(found) < limit:
            break
    return first[:1]


def _parents(store: Store, tags: Mapping[str, str], *, limit: int = 1) -> "list[Run]":
    """Return parent runs with these tags, the one that started last first."""
    conditions = [has_tag(key, value) for key, value in {"batch_role": "batch", **tags}.items()]
    if None in conditions:
        return []  # no batch can have this name
    return list(
        store.client.search_runs(
            [store.experiment_id],
            filter_string=" and ".join(filter(None, conditions)),
            max_results=limit,
            order_by=["attributes.start_time DESC"],
        )
    )


def _handle(run: "Run") -> BatchHandle:
    tags = run.data.tags
    return BatchHandle(
        batch_id=tags.get("batch_id", ""),
        batch_name=tags.get("batch_name", ""),
        mlflow_run_id=run.info.run_id,
        status=run.info.status,
        started_ms=run.info.start_time,
        ended_ms=run.info.end_time,
        artifact_uri=run.info.artifact_uri,
        tags=tags,
    )


def _no_batch_message(store: Store, batch: str, known: Sequence[BatchHandle]) -> str:
    where = f"the experiment '{store.experiment}' of {store.shown}"
    if not known:
        return f"There is no batch '{batch}': {where} holds no batches yet."
    if batch == "latest":
        again = ", ".join(handle.batch_id for handle in known[:5])
        return f"There is no latest batch: {where} has only winners run again ({again})."
    names = list(dict.fromkeys(handle.batch_name for handle in known))
    ids = [handle.batch_id for handle in known]
    close = difflib.get_close_matches(batch, names + ids, n=5, cutoff=0.5)
    choices = ", ".join(close or names[:5])
    words = "Similar ones" if close else "The newest ones"
    return f"There is no batch '{batch}' in {where}. {words}: {choices}."


def _read(store: Store, query: RunQuery, given: str) -> RunColumns:
    from mlflow.exceptions import MlflowException

    try:
        return store_to_read(store).read(query, given)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE" or not given.strip():
            raise
        reason = str(error.message).strip().splitlines()[0].rstrip(".")
        raise SelectionError(
            f"filter={given} is not understood: {reason}. It takes MLflow's conditions joined by "
            "`and`, such as metrics.sharpe > 0.5 and tags.batch_name = 'core'."
        ) from error


TRIALS = "trials.json"
"""Artifact of a batch's parent run: the decisions that it tries, by price source.

The kind of each source is in it, too.
"""

MOST_BATCHES = 1_000


def earlier_decisions(
    store: Store, sources: Collection[str], *, batch_id: str
) -> dict[str, frozenset[str]]:
    """Return the decisions that other batches of the experiment tried, by price source.

    A batch that runs a winner again tries nothing new.

    Parameters
    ----------
    store
        Where to look; the newest thousand batches count.
    sources
        Labels of the price sources, or of their kinds.
    batch_id
        The batch that is being judged; its own decisions are not earlier ones.
    """
    found: dict[str, set[str]] = {source: set() for source in sources}
    for batch in list_batches(store, limit=MOST_BATCHES):
        if batch.batch_id == batch_id or RERUN_OF in batch.tags:
            continue
        # A batch of another version, or one whose files were deleted, tells nothing.
        with contextlib.suppress(StoreError, ValueError, KeyError, TypeError, AttributeError):
            content = read_artifact(
                store, batch.mlflow_run_id, TRIALS, artifact_uri=batch.artifact_uri
            )
            tried = json.loads(content)
            kinds = tried.get("kinds", {})
            for source, decisions in tried["decisions"].items():
                for label in {source, kinds.get(source)} & found.keys():
                    found[label].update(decisions)
    return {source: frozenset(decisions) for source, decisions in found.items()}
