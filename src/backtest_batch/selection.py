"""Read runs of one or several batches back from the store, as a table to compare."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.comparison.metrics_choice import known_metrics
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.comparison.scenarios import scenario_names
from backtest_batch.config import CompareConfig
from backtest_batch.errors import ConfigurationError, SelectionError, StoreError
from backtest_batch.report.best_params import RunDetails
from backtest_batch.tracking.search import BatchHandle, find_batch, load_runs, read_artifact
from backtest_batch.tracking.store import Store

COMPARED = ("data_fingerprint", "code_fingerprint", "git_commit")
"""Tags of runs in which batches may differ; unlike things are then compared."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Runs that were read from a store.

    Attributes
    ----------
    table
        The runs.
    batches
        The batches that were named; empty when runs were chosen by tags alone.
    notes
        What was left out, and in what the batches differ.
    """

    table: RunTable
    batches: tuple[BatchHandle, ...]
    notes: tuple[str, ...]


def select_runs(store: Store, config: CompareConfig) -> Selection:
    """Return the runs that a comparison is about.

    Raises
    ------
    ConfigurationError
        When nothing says which runs are meant, or a filter is malformed.
    SelectionError
        When there is no such batch, or no run is selected.
    """
    tags = tag_filter(config.filter_tags)
    names = _batch_names(config, tags)
    batches = tuple(find_batch(store, name) for name in names)
    frame = load_runs(
        store,
        batches=[batch.batch_id for batch in batches] if batches else None,
        tags=tags,
        filter_string=config.filter or "",
        parts=("metrics", "tags"),
    )
    if frame.empty:
        raise SelectionError(f"no run is selected by {_asked(config)}")
    statuses = [str(item).upper() for item in config.statuses]
    wanted = frame["status"].isin(statuses)
    notes = [
        f"Left out: {count} {status} runs (statuses={','.join(statuses)})."
        for status, count in frame.loc[~wanted, "status"].value_counts().items()
    ]
    frame = frame[wanted]
    if frame.empty:
        raise SelectionError(
            f"none of the runs selected by {_asked(config)} is {' or '.join(statuses)}. "
            + " ".join(notes)
        )
    frame, twice = _each_once(frame)
    if twice:
        notes.append(f"{twice} runs occur in several batches and count once.")
    notes = [*_differences(frame), *notes]
    return Selection(
        table=table_of(frame, config.scenario_axes), batches=batches, notes=tuple(notes)
    )


def tag_filter(given: Any) -> dict[str, str]:
    """Return the tags that runs must have: a mapping, or a list of names with value "true"."""
    if given is None:
        return {}
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        return {str(name): _text(value) for name, value in given.items()}
    if isinstance(given, Sequence) and all(isinstance(name, str) for name in given):
        return dict.fromkeys(given, "true")
    raise ConfigurationError(
        f"filter_tags={given}: must be a mapping such as {{suite: ai_tech}}, or a list of names"
    )


def table_of(frame: pd.DataFrame, scenario_axes: Iterable[str] = ()) -> RunTable:
    """Return what :func:`.load_runs` read as a table to compare."""
    frame = frame.reset_index(drop=True)
    swept = [_swept(text) for text in _column(frame, "tags.swept")]
    names = list(dict.fromkeys(name for values in swept for name in values))
    params = {name: [values.get(name) for values in swept] for name in names}
    runs = pd.DataFrame(
        {
            "run_id": _column(frame, "tags.run_id", frame["run_id"]),
            "batch_id": frame["batch_id"],
            "status": frame["status"],
            "mlflow_run_id": frame["mlflow_run_id"],
            "started_ms": frame["started_ms"],
            "ended_ms": frame["ended_ms"],
            **{
                name: _column(frame, f"tags.{name}").fillna("")
                for name in (
                    "run_key",
                    "error_type",
                    "error_message",
                    "undefined_metrics",
                    "data_fingerprint",
                    "code_fingerprint",
                )
            },
            "attempts": pd.to_numeric(_column(frame, "tags.attempts")),
        }
    )
    metrics = {
        name: frame[f"metrics.{name}"] for name in known_metrics() if f"metrics.{name}" in frame
    }
    out_of_sample = [name for name in frame.columns if name.startswith("metrics.oos_")]
    metrics |= {name.removeprefix("metrics."): frame[name] for name in out_of_sample}
    index = frame.index
    return RunTable(
        runs=runs,
        params=pd.DataFrame(params, index=index, columns=pd.Index(names, dtype=object)).astype(
            object
        ),
        metrics=pd.DataFrame(metrics, index=index).astype(np.float64),
        scenario_axes=scenario_names(names, scenario_axes),
    )


def details_of(store: Store, table: RunTable, rows: Iterable[Any]) -> dict[Any, RunDetails]:
    """Return configuration and command of runs, from their run.json."""
    details = {}
    for row in rows:
        run_id = str(table.runs.loc[row, "mlflow_run_id"])
        try:
            document = json.loads(read_artifact(store, run_id, "run.json"))
        except (StoreError, ValueError):
            # A large batch keeps the files of its best runs only.
            document = {"config": {}, "overrides": []}
        details[row] = RunDetails(
            config=document["config"],
            command=("python", "-m", "backtest_batch", *document["overrides"]),
            mlflow_run_id=run_id,
        )
    return details


def recorded_verdict(store: Store, batches: Sequence[BatchHandle]) -> dict[str, Any] | None:
    """Return the verdict that a batch ended with; None for several batches or without one."""
    if len(batches) != 1:
        return None
    try:
        content = read_artifact(store, batches[0].mlflow_run_id, "overfitting.json")
    except StoreError:
        return None
    document: dict[str, Any] = json.loads(content)
    return document


def _batch_names(config: CompareConfig, tags: Mapping[str, str]) -> list[str]:
    if config.batch is None:
        if tags or config.filter:
            return []
        return ["latest"]
    names = [config.batch] if isinstance(config.batch, str) else list(config.batch)
    if not names or not all(isinstance(name, str | int) for name in names):
        raise ConfigurationError(
            f"batch={config.batch}: must be latest, a batch_id, a batch_name, or a list of these"
        )
    return list(dict.fromkeys(str(name) for name in names))


def _asked(config: CompareConfig) -> str:
    parts = [
        f"{name}={value}"
        for name in ("batch", "filter_tags", "filter")
        if (value := getattr(config, name)) is not None
    ]
    return " ".join(parts) or "batch=latest"


def _each_once(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the runs without those that have the key of an earlier one, and how many these are."""
    if "tags.run_key" not in frame:
        return frame, 0
    again = frame.duplicated("tags.run_key", keep="last") & frame["tags.run_key"].notna()
    return frame[~again], int(again.sum())


def _differences(frame: pd.DataFrame) -> list[str]:
    if frame["batch_id"].nunique() < 2:
        return []
    notes = []
    for name in COMPARED:
        values = _column(frame, f"tags.{name}").dropna().unique()
        if len(values) > 1:
            shown = ", ".join(str(value)[:12] for value in values[:5])
            notes.append(f"The batches differ in {name} ({shown}): unlike things are compared.")
    return notes


def _swept(text: Any) -> dict[str, Any]:
    try:
        values = json.loads(text) if isinstance(text, str) else {}
    except ValueError:  # cut at MLflow's limit
        return {}
    return values if isinstance(values, dict) else {}


def _column(frame: pd.DataFrame, name: str, default: Any = None) -> pd.Series:
    if name in frame:
        return frame[name]
    return pd.Series(default, index=frame.index, dtype=object)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
