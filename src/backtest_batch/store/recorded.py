"""Recorded runs: as a table to compare, and their files."""

import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from backtest_batch.analysis.run_table import (
    OUT_OF_SAMPLE,
    SEARCH_COLUMNS,
    Label,
    RunTable,
    known_metrics,
)
from backtest_batch.analysis.scenarios import AxisKinds, choice_name, plain_value, typed_value
from backtest_batch.config.arguments import Assignment
from backtest_batch.config.schema import NODES, SWEEPABLE
from backtest_batch.core.engine.metrics import FACTOR_BETA
from backtest_batch.errors import SelectionError, StoreError
from backtest_batch.records import Scalar
from backtest_batch.report.best_params import RunDetails
from backtest_batch.store.artifacts import local_folder
from backtest_batch.store.batch_document import BatchDocument, names_destination, stored_document
from backtest_batch.store.client import searched
from backtest_batch.store.mlflow_run import (
    PARAM_LENGTH,
    Swept,
    configuration,
    own_metrics,
    parsed_text,
    safe_key,
    swept_of,
)
from backtest_batch.store.search import find_batch, read_artifact
from backtest_batch.store.store import Store
from backtest_batch.values import merged_order
from backtest_batch.workers.run_files import are_own

_FACTS = (
    "batch_name",
    "run_key",
    "error_type",
    "error_message",
    "data_fingerprint",
    "code_fingerprint",
    "git_commit",
)


def table_of(
    frame: pd.DataFrame, kinds: AxisKinds | None = None, *, params: Iterable[str] = ()
) -> RunTable:
    """Return recorded runs as a table to compare.

    Its parameters are the keys that any of the runs swept. Among several batches, keys that none
    of them swept count too when they differ between batches; runs that did not sweep a key have
    the value of their configuration.

    Parameters
    ----------
    frame
        What :func:`.read_runs` returned, with metrics, params and tags; its index is kept.
    kinds
        Which of the swept keys are conditions; by default those that the configuration says.
    params
        Further keys that become parameters.

    Returns
    -------
    RunTable
        With the further run columns ``batch_name``, ``git_commit`` and ``ruined``.
    """
    swept = [swept_of(text) for text in text_values(frame, "tags.swept")]
    names = list(dict.fromkeys([*swept_keys(frame), *differing_keys(frame), *params]))
    index = frame.index
    # As objects: pandas would turn integers into floats when a run lacks the key.
    values = {
        name: pd.Series(_values(frame, name, swept), index=index, dtype=object) for name in names
    }
    known = (name for name in known_metrics() if f"metrics.{name}" in frame)
    further = (
        column.removeprefix("metrics.")
        for column in frame.columns
        if column.startswith((f"metrics.{OUT_OF_SAMPLE}", f"metrics.{FACTOR_BETA}"))
    )
    tags = frame.get("tags.own_metrics", ())
    own = dict.fromkeys(name for text in tags for name in own_metrics(text))
    held = (*known, *further, *(name for name in own if f"metrics.{name}" in frame))
    metrics = {name: frame[f"metrics.{name}"] for name in held}
    return RunTable(
        runs=_runs(frame),
        params=pd.DataFrame(values, index=index, columns=pd.Index(names, dtype=object)),
        metrics=pd.DataFrame(metrics, index=index).astype(np.float64),
        scenario_axes=(kinds or AxisKinds()).scenario_names(names),
    )


def swept_keys(frame: pd.DataFrame) -> list[str]:
    """Return the keys that any of the runs swept, in order of first appearance.

    Parameters
    ----------
    frame
        What :func:`.read_runs` returned. If a run does not record what it swept, the keys that
        differ within its batch count as swept.
    """
    swept = [swept_of(text) for text in text_values(frame, "tags.swept")]
    names = dict.fromkeys(merged_order(keys or () for keys in swept))
    silent = frame.loc[[keys is None for keys in swept], "batch_id"].unique()
    for batch_id in silent:
        runs = frame[frame["batch_id"] == batch_id]
        varying = (key for key, column in _settings(runs) if runs[column].nunique(dropna=False) > 1)
        names |= dict.fromkeys(varying)
    return list(names)


def differing_keys(frame: pd.DataFrame) -> list[str]:
    """Return the keys that no run swept, but whose values differ between batches.

    Parameters
    ----------
    frame
        What :func:`.read_runs` returned. A key that determines results counts if it has at least
        two values, and not the same ones in every batch that has it.
    """
    if frame["batch_id"].nunique() < 2:
        return []
    swept = set(swept_keys(frame))
    found = []
    for key, column in _settings(frame):
        if key in swept or frame[column].nunique() < 2:
            continue
        recorded = frame[["batch_id", column]].dropna().drop_duplicates()
        if recorded.groupby("batch_id")[column].agg(frozenset).nunique() > 1:
            found.append(key)
    return found


def swept_values(run: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Return the swept values of one run; None if they are not known exactly.

    Parameters
    ----------
    run
        A row of what :func:`.read_runs` returned, by column.
    """
    swept = swept_of(run.get("tags.swept"))
    if not isinstance(swept, list):
        return None if swept is None else {key: parsed_text(value) for key, value in swept.items()}
    values = {name: _values(pd.DataFrame([run]), name, [swept])[0] for name in swept}
    cut = any(isinstance(value, str) and len(value) >= PARAM_LENGTH for value in values.values())
    return None if cut else {key: parsed_text(value) for key, value in values.items()}


def _settings(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return key and column of each setting that determines results, choices first."""
    keys = []
    for column in frame.columns:
        if not column.startswith("params."):
            continue
        key = column.removeprefix("params.")
        root, _, rest = key.partition(".")
        if root in SWEEPABLE:
            keys.append((root, column) if root in NODES and rest == "_target_" else (key, column))
    return sorted(keys, key=lambda item: (item[0].count("."), item[0]))


def _values(frame: pd.DataFrame, name: str, swept: Sequence[Swept]) -> list[Scalar]:
    """Return each run's value of a key: the swept one, else the configured one."""
    configured = text_values(frame, f"params.{safe_key(name)}")
    targets = text_values(frame, f"params.{safe_key(name)}._target_")
    typed = {text: typed_value(text) for text in set(configured) if text is not None}
    chosen = {text: choice_name(text) for text in set(targets) if text is not None}
    values: list[Scalar] = []
    unknown = []
    for row, (keys, text, target) in enumerate(zip(swept, configured, targets, strict=True)):
        if isinstance(keys, dict) and name in keys:
            values.append(keys[name])
        elif text is not None:
            values.append(typed[text])
        else:
            values.append(chosen.get(target or ""))
            unknown += [] if target else [row]
    for row, mapping in zip(unknown, _mappings(frame.iloc[unknown], name), strict=True):
        values[row] = mapping
    return values


def _mappings(frame: pd.DataFrame, name: str) -> list[Scalar]:
    """Return the mapping that was configured under a key, which is stored leaf by leaf.

    As JSON text per run, like a swept mapping; None if a run has none.
    """
    prefix = f"params.{name}."
    columns = {column: f"params.{column.removeprefix(prefix)}" for column in frame.columns}
    leaves = frame[[column for column in frame.columns if column.startswith(prefix)]]
    if not leaves.columns.size:
        return [None] * len(frame)
    runs = leaves.rename(columns=columns).to_dict("records")
    return [plain_value(configuration(run) or None) for run in runs]


def _runs(frame: pd.DataFrame) -> pd.DataFrame:
    named = zip(frame["run_id"], frame["mlflow_run_id"], strict=True)
    undefined = [
        (text or "").replace(",", ", ") for text in text_values(frame, "tags.undefined_metrics")
    ]
    return pd.DataFrame(
        {
            "run_id": [given or mlflow for given, mlflow in named],
            "batch_id": frame["batch_id"].to_numpy(dtype=object),
            "status": frame["status"].to_numpy(dtype=object),
            "mlflow_run_id": frame["mlflow_run_id"].to_numpy(dtype=object),
            "started_ms": frame["started_ms"],
            "ended_ms": frame["ended_ms"],
            "undefined_metrics": undefined,
            "ruined": [text is not None for text in text_values(frame, "tags.ruined")],
            **{
                name: [text or "" for text in text_values(frame, f"tags.{name}")] for name in _FACTS
            },
            **_asked(frame),
        },
        index=frame.index,
    )


def _asked(frame: pd.DataFrame) -> dict[str, list[int]]:
    """Return when a search asked for each run, and in which round; nothing without a search."""
    texts = {name: text_values(frame, f"tags.{name}") for name in SEARCH_COLUMNS}
    if not any(texts[SEARCH_COLUMNS[0]]):
        return {}
    return {
        name: [int(text) if text and text.isdecimal() else 0 for text in found]
        for name, found in texts.items()
    }


def text_values(frame: pd.DataFrame, column: str) -> list[str | None]:
    """Return a column of texts; None if a run has none, or if there is no such column.

    Parameters
    ----------
    frame
        What :func:`.read_runs` returned.
    column
        One of its columns, such as ``tags.run_key``.
    """
    if column not in frame:
        return [None] * len(frame)
    return [text if isinstance(text, str) else None for text in frame[column].tolist()]


ASSESSMENT = "overfitting.json"
RANKINGS = "rankings.csv"
BOUND = "sharpe_lower_bound"
RETURNS = "returns.parquet"

_AT_ONCE = 100
"""Number of runs requested by id in one search."""

_TRIED_RUNS = 3
"""Number of runs of a batch that are searched for a run.json; large batches keep few."""

_ASKED_BATCHES = 20
"""Most batches whose environment is looked up."""


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
        From the run's run.json. A large batch keeps only those of its best runs; for the others the
        configuration is assembled from MLflow's parameters, and the command from that of the batch:
        it is empty if that is not known, or a swept value was too long to be recorded.

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
    """Return the versions that the batches of a table were computed with, as far as files tell.

    Parameters
    ----------
    store
        Where the runs are.
    table
        The runs, with the column ``mlflow_run_id``.

    Returns
    -------
    DataFrame of shape (n_batches, any)
        batch_id, machine, python and one column per package; no rows for a single batch or very
        many.
    """
    batches = table.runs["batch_id"].unique()
    if not 1 < len(batches) <= _ASKED_BATCHES:
        return pd.DataFrame(columns=["batch_id"])
    facts = []
    for batch_id in batches:
        runs = table.runs[table.runs["batch_id"] == batch_id].index
        sharpe = table.metrics.get("sharpe", pd.Series(index=table.runs.index, dtype=float))
        # The best runs of a batch are those whose files are kept.
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
    """Return the overfitting.json of a table's only batch; None for several, or without the file.

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


def recorded_bounds(store: Store, table: RunTable) -> "pd.Series | None":
    """Return the lower bounds of the Sharpe ratios in the rankings of a table's only batch.

    They follow from the returns of all runs, which a comparison does not read. None for several
    batches, and where they were not recorded.

    Parameters
    ----------
    store
        Where the runs are.
    table
        The runs.
    """
    content = None if table.several_batches else _batch_file(store, _only_batch(table), RANKINGS)
    if content is None:
        return None
    rankings = pd.read_csv(io.BytesIO(content), dtype=str).set_index("run_id")
    if BOUND not in rankings:
        return None
    found = rankings[BOUND].reindex(table.runs["run_id"].astype(str))
    return found.map(float).set_axis(table.runs.index)


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
        On the timestamps of all their batches, one column per run that has returns, named by its
        index label; the benchmark's is named ``benchmark``.
    """
    wanted = table.runs.loc[list(rows), ["batch_id", "run_id"]]
    parts = []
    for position, (batch_id, runs) in enumerate(wanted.groupby("batch_id", sort=False)):
        labels = {str(name): row for row, name in runs["run_id"].items()}
        if benchmark and position == 0:
            labels["benchmark"] = "benchmark"
        read = _read_returns(store, str(batch_id), list(labels))
        if read is not None:
            parts.append(read.rename(columns=labels))
    if not parts:
        return pd.DataFrame()
    if len({str(part.index.tz) for part in parts}) > 1:  # type: ignore[attr-defined]
        parts = [_in_utc(part) for part in parts]
    return pd.concat(parts, axis=1).sort_index()


def returns_of_run(
    store: Store, batch_id: str, run_id: str, mlflow_run_id: str | None
) -> Iterator[pd.Series]:
    """Yield the recorded returns of one run by timestamp: its batch's, then its own.

    What is not recorded, or cannot be read, is left out.
    """
    read = _read_returns(store, batch_id, [run_id])
    if read is not None and run_id in read:
        yield read[run_id]
    if mlflow_run_id is None:
        return
    with contextlib.suppress(StoreError, OSError, ValueError, KeyError):
        content = read_artifact(store, mlflow_run_id, "equity.parquet")
        frame = pd.read_parquet(io.BytesIO(content), columns=["timestamp", "net_return"])
        yield frame.set_index("timestamp")["net_return"]


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
        columns = [name for name in names if name in file.schema_arrow.names]
        frame: pd.DataFrame = file.read(columns=["timestamp", *columns]).to_pandas()
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
    """Return a run's run.json; None if it has none."""
    try:
        document: dict[str, Any] = json.loads(_run_file(store, mlflow_run_id, "run.json"))
    except (StoreError, FileNotFoundError, ValueError):
        return None
    return document


def _run_file(store: Store, mlflow_run_id: str, name: str) -> bytes:
    # MLflow takes a tenth of a second per file, even for one beside the database.
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
    """Return whether swept values, stored without a signature, name code or a destination."""
    return any(
        names_destination(f"{key}=")
        or key.split(".")[0] not in SWEEPABLE
        or "_target_" in f"{key}={value}"
        for key, value in swept.items()
    )


def _repeating(overrides: Sequence[str], swept: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """Return the arguments of one run of a batch: the shared ones, then its swept ones."""
    if swept is None:
        return None
    prefixes = {}
    unchanged = []
    for item in overrides:
        key = item.partition("=")[0]
        bare = key.lstrip("+~")
        if bare in swept:
            prefixes[bare] = key[: len(key) - len(bare)]
        else:
            unchanged.append(item)
    values = (Assignment(key, value, prefix=prefixes.get(key, "")) for key, value in swept.items())
    return (*unchanged, *(item.override for item in values))
