"""Runs as a store returned them, as a table to compare."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.comparison.levels import choice_name, plain_value, typed_value
from backtest_batch.comparison.metrics_choice import OUT_OF_SAMPLE, known_metrics
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.comparison.scenarios import AxisKinds
from backtest_batch.config.schema import NODES, SWEEPABLE
from backtest_batch.records import Scalar
from backtest_batch.tracking.entries import Swept, configuration, parsed_text, swept_of
from backtest_batch.tracking.values import PARAM_LENGTH, safe_key

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
        Further keys to have as parameters.

    Returns
    -------
    RunTable
        With the further run columns ``batch_name``, ``git_commit`` and ``ruined``.
    """
    swept = [swept_of(text) for text in text_values(frame, "tags.swept")]
    names = list(dict.fromkeys([*swept_keys(frame), *differing_keys(frame), *params]))
    index = frame.index
    # As objects: beside a run without the key, pandas would make floats of whole numbers.
    values = {
        name: pd.Series(_values(frame, name, swept), index=index, dtype=object) for name in names
    }
    known = (name for name in known_metrics() if f"metrics.{name}" in frame)
    further = (
        column.removeprefix("metrics.")
        for column in frame.columns
        if column.startswith(f"metrics.{OUT_OF_SAMPLE}")
    )
    metrics = {name: frame[f"metrics.{name}"] for name in (*known, *further)}
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
        What :func:`.read_runs` returned. Where a run does not say what it swept, the keys that
        differ within its batch are taken for swept.
    """
    swept = [swept_of(text) for text in text_values(frame, "tags.swept")]
    names = dict.fromkeys(name for keys in swept for name in keys or ())
    silent = frame.loc[[keys is None for keys in swept], "batch_id"].unique()
    for batch_id in silent:
        runs = frame[frame["batch_id"] == batch_id]
        varying = (key for key, column in _settings(runs) if runs[column].nunique(dropna=False) > 1)
        names |= dict.fromkeys(varying)
    return list(names)


def differing_keys(frame: pd.DataFrame) -> list[str]:
    """Return the keys that no run swept and in whose values the batches differ.

    Parameters
    ----------
    frame
        What :func:`.read_runs` returned; of keys that determine results, those are meant that have
        at least two values, and not the same ones in every batch that has them.
    """
    if frame["batch_id"].nunique() < 2:
        return []
    swept = set(swept_keys(frame))
    found = []
    for key, column in _settings(frame):
        if key in swept or frame[column].nunique() < 2:
            continue
        held = frame[["batch_id", column]].dropna().drop_duplicates()
        if held.groupby("batch_id")[column].agg(frozenset).nunique() > 1:
            found.append(key)
    return found


def swept_values(run: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Return the swept values of one run; None where they are not known to the last character.

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
    """Return each run's value of a key: as it was swept, else as it was configured."""
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

    For each run, as JSON text, as a swept mapping has it; None where a run has none.
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
        },
        index=frame.index,
    )


def text_values(frame: pd.DataFrame, column: str) -> list[str | None]:
    """Return a column of texts; None where a run has none, and for a column that is not there.

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
