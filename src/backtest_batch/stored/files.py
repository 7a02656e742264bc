"""What the files of recorded runs say: configuration, command, environment, returns, verdict."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from backtest_batch.assignments import Assignment
from backtest_batch.batch.files import are_own
from backtest_batch.comparison.run_table import Label, RunTable
from backtest_batch.config.schema import SWEEPABLE
from backtest_batch.errors import SelectionError, StoreError
from backtest_batch.report.best_params import RunDetails
from backtest_batch.stored.batch_document import BatchDocument, stored_document
from backtest_batch.stored.recorded import swept_values
from backtest_batch.stored.trust import is_place
from backtest_batch.tracking.artifacts import local_folder
from backtest_batch.tracking.entries import configuration
from backtest_batch.tracking.paging import searched
from backtest_batch.tracking.search import find_batch, read_artifact
from backtest_batch.tracking.store import Store

ASSESSMENT = "overfitting.json"
RETURNS = "returns.parquet"

_AT_ONCE = 100
"""So many runs are asked for by id in one search."""

_TRIED_RUNS = 3
"""So many runs of a batch are looked into for a run.json; large batches keep that of a few."""

_ASKED_BATCHES = 20
"""Of so many batches the environment is looked up."""


def details_of(store: Store, table: RunTable, rows: Iterable[Label]) -> dict[Label, RunDetails]:
    """Return configuration, command and environment of recorded runs.

    Parameters
    ----------
    store
        Where they are.
    table
        Runs, with the columns ``mlflow_run_id`` and ``batch_id``.
    rows
        Index labels of those that are wanted.

    Returns
    -------
    dict
        From the run's run.json. A large batch keeps that of its best runs only; for the others the
        configuration is put together from MLflow's parameters, and the command from that of the
        batch: it is empty where that is not known, or a swept value was too long to be recorded.

    Raises
    ------
    StoreError
        When the store fails.
    """
    batch_document = cache(lambda batch_id: _batch_document(store, batch_id))
    ids = {row: str(table.runs.loc[row, "mlflow_run_id"]) for row in rows}
    documents = {row: _run_document(store, run_id) for row, run_id in ids.items()}
    missing = [ids[row] for row, document in documents.items() if document is None]
    recorded = _recorded_runs(store, missing)
    details = {}
    for row, run_id in ids.items():
        document = documents[row]
        if document is None:
            run = recorded[run_id]
            swept, batch = swept_values(run), batch_document(run["tags.batch_id"])
            overrides = None if batch is None else _repeating(batch.overrides, swept)
            document = {"config": configuration(run), "overrides": overrides, "provenance": {}}
            is_own = batch is not None and batch.is_own and not _names_code(swept or {})
        else:
            is_own = are_own(document["overrides"], document.get("signature"))
        given = document["overrides"]
        details[row] = RunDetails(
            config=document["config"],
            command=() if given is None else ("python", "-m", "backtest_batch", *given),
            mlflow_run_id=run_id,
            environment=document["provenance"],
            is_own=is_own,
        )
    return details


def batch_facts(store: Store, table: RunTable) -> pd.DataFrame:
    """Return with which versions the batches of a table were computed, as far as files say so.

    Parameters
    ----------
    store
        Where the runs are.
    table
        The runs, with the column ``mlflow_run_id``.

    Returns
    -------
    DataFrame of shape (n_batches, any)
        batch_id, machine, python and one column a package; no rows for a single batch or very many.
    """
    batches = table.runs["batch_id"].unique()
    if not 1 < len(batches) <= _ASKED_BATCHES:
        return pd.DataFrame(columns=["batch_id"])
    facts = []
    for batch_id in batches:
        runs = table.runs[table.runs["batch_id"] == batch_id].index
        sharpe = table.metrics.get("sharpe", pd.Series(index=table.runs.index, dtype=float))
        # The runs that ranked first in their batch are those whose files are kept.
        best_first = sharpe.reindex(runs).sort_values(ascending=False, kind="stable").index
        for row in best_first[:_TRIED_RUNS]:
            document = _run_document(store, str(table.runs.loc[row, "mlflow_run_id"]))
            if document is not None:
                known = document["provenance"]
                versions = {"machine": known.get("machine"), "python": known.get("python")}
                facts.append({"batch_id": batch_id, **versions, **known.get("packages", {})})
                break
    return pd.DataFrame(facts) if len(facts) > 1 else pd.DataFrame(columns=["batch_id"])


def recorded_assessment(store: Store, table: RunTable) -> Mapping[str, Any] | None:
    """Return the overfitting.json of a table's only batch; None among several or without one.

    Parameters
    ----------
    store
        Where the runs are.
    table
        The runs.
    """
    content = None if table.several_batches else _batch_file(store, _only_batch(table), ASSESSMENT)
    if content is None:
        return None
    document: dict[str, Any] = json.loads(content)
    return document


def recorded_returns(
    store: Store, table: RunTable, rows: Sequence[Label], *, benchmark: bool = True
) -> pd.DataFrame:
    """Return net returns of recorded runs side by side.

    Parameters
    ----------
    store
        Where the runs are.
    table
        The runs.
    rows
        Index labels of those that are wanted.
    benchmark
        Whether the benchmark of the first of them is wanted too.

    Returns
    -------
    DataFrame of shape (n_bars, any)
        On the timestamps of all their batches, one column a run that has returns, named by its
        index label; the benchmark's is named ``benchmark``.
    """
    wanted = table.runs.loc[list(rows), ["batch_id", "run_id"]]
    parts = []
    for place, (batch_id, runs) in enumerate(wanted.groupby("batch_id", sort=False)):
        labels = {str(name): row for row, name in runs["run_id"].items()}
        if benchmark and place == 0:
            labels["benchmark"] = "benchmark"
        read = _read_returns(store, str(batch_id), list(labels))
        if read is not None:
            parts.append(read.rename(columns=labels))
    if not parts:
        return pd.DataFrame()
    if len({str(part.index.tz) for part in parts}) > 1:  # type: ignore[attr-defined]
        parts = [_in_utc(part) for part in parts]
    return pd.concat(parts, axis=1).sort_index()


def _in_utc(part: pd.DataFrame) -> pd.DataFrame:
    aware = part.index.tz is not None  # type: ignore[attr-defined]
    return part.tz_convert("UTC") if aware else part.tz_localize("UTC")


def _read_returns(store: Store, batch_id: str, names: Sequence[str]) -> pd.DataFrame | None:
    try:
        parent = find_batch(store, batch_id).mlflow_run_id
        with store.calling("look for the returns"):
            folder = local_folder(store.client.get_run(parent).info.artifact_uri)
        if folder is not None:
            source: Any = folder / RETURNS
        else:
            source = pa.BufferReader(read_artifact(store, parent, RETURNS))
        file = pq.ParquetFile(source)
        held = [name for name in names if name in file.schema_arrow.names]
        frame: pd.DataFrame = file.read(columns=["timestamp", *held]).to_pandas()
    except (SelectionError, StoreError, OSError, pa.ArrowInvalid):
        return None  # the batch was interrupted, its files are elsewhere, or its parent is gone
    return frame.set_index("timestamp")


def _only_batch(table: RunTable) -> str:
    return str(table.runs["batch_id"].iloc[0])


def _batch_file(store: Store, batch_id: str, name: str) -> bytes | None:
    try:
        return read_artifact(store, find_batch(store, batch_id).mlflow_run_id, name)
    except (SelectionError, StoreError):
        return None


def _run_document(store: Store, mlflow_run_id: str) -> dict[str, Any] | None:
    """Return a run's run.json; None where it has none."""
    try:
        document: dict[str, Any] = json.loads(_run_file(store, mlflow_run_id, "run.json"))
    except (StoreError, FileNotFoundError, ValueError):
        return None
    return document


def _run_file(store: Store, mlflow_run_id: str, name: str) -> bytes:
    # MLflow takes a tenth of a second for each file, even for one that lies beside the database.
    root = local_folder(store.artifact_location)
    if root is not None and (root / mlflow_run_id).is_dir():
        return (root / mlflow_run_id / "artifacts" / name).read_bytes()
    return read_artifact(store, mlflow_run_id, name)


def _recorded_runs(store: Store, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return runs by their MLflow ids, each as a row of what read_runs returns."""
    runs = {}
    with store.calling("read runs"):
        for start in range(0, len(run_ids), _AT_ONCE):
            listed = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + _AT_ONCE])
            for run in searched(store, f"attributes.run_id IN ({listed})"):
                params = {f"params.{name}": value for name, value in run.data.params.items()}
                tags = {f"tags.{name}": value for name, value in run.data.tags.items()}
                runs[run.info.run_id] = params | tags
    return runs


def _batch_document(store: Store, batch_id: str) -> BatchDocument | None:
    try:
        return stored_document(store, find_batch(store, batch_id))
    except (SelectionError, StoreError):
        return None


def _names_code(swept: Mapping[str, Any]) -> bool:
    """Return whether swept values, which stand in the store unsigned, name code or a place."""
    return any(
        is_place(f"{key}=") or key.split(".")[0] not in SWEEPABLE or "_target_" in f"{key}={value}"
        for key, value in swept.items()
    )


def _repeating(overrides: Sequence[str], swept: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """Return the arguments of one run of a batch: what all runs share, then what it swept."""
    if swept is None:
        return None
    prefixes = {}
    kept = []
    for item in overrides:
        key = item.partition("=")[0]
        bare = key.lstrip("+~")
        if bare in swept:
            prefixes[bare] = key[: len(key) - len(bare)]
        else:
            kept.append(item)
    values = (Assignment(key, value, prefix=prefixes.get(key, "")) for key, value in swept.items())
    return (*kept, *(item.override for item in values))
