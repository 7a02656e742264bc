"""The runs of a page as JSON: parameters as levels, metrics as short numbers."""

from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.parameter_values import Levels, value_as_typed
from backtest_batch.analysis.run_table import RunTable, direction_of, result_metric_names
from backtest_batch.arrays import IntArray
from backtest_batch.core.engine.metrics import METRICS
from backtest_batch.cutting import cut_text
from backtest_batch.report.html.data import plain_number, plain_numbers
from backtest_batch.report.tables import parameter_labels
from backtest_batch.report.text import short_numbers

MAX_RUNS = 10_000
"""Runs that the page holds; of more, an even sample by rank."""

MAX_CELLS = 30
"""Distinct values of a parameter along an axis; of more, groups of them."""

N_GROUPS = 12
"""Groups into which many numbers are put together."""

_FORMS = {"25.00%": "percent", "0": "whole"}
"""How the tables write a quarter tells how the page's script writes a metric."""


def even_sample(n_items: int, limit: int) -> IntArray:
    """Return at most so many positions, evenly spread, the first and the last among them."""
    if n_items <= limit:
        return np.arange(n_items, dtype=np.int64)
    return np.unique(np.linspace(0, n_items - 1, limit).round().astype(np.int64))


def runs_payload(table: RunTable, ranked: pd.DataFrame, rows: pd.Index) -> dict[str, Any]:
    """Return the runs of the page.

    Parameters
    ----------
    table
        All runs.
    ranked
        What :func:`.rank_runs` returned for them.
    rows
        Index labels of the runs to hold, in order of rank.

    Returns
    -------
    dict
        ``ids``, ``ranks``, ``scenarios`` (labels and codes), ``params`` (see :func:`_parameter`)
        and ``metrics`` (see :func:`metric_payload`).
    """
    positions = table.runs.index.get_indexer(rows)
    scenarios = pd.Categorical(table.scenario.reindex(rows))
    labels = parameter_labels(table.params.columns)
    values = table.metrics.reindex(rows)
    return {
        "ids": table.runs["run_id"].reindex(rows).astype(str).tolist(),
        "ranks": [None if pd.isna(rank) else int(rank) for rank in ranked["rank"].reindex(rows)],
        "scenarios": {
            "labels": [cut_text(str(label)) for label in scenarios.categories],
            "codes": scenarios.codes.tolist(),
        },
        "params": [
            _parameter(
                labels[name],
                table.levels[name],
                positions,
                scenario=name in table.scenario_axes,
            )
            for name in table.params.columns
        ],
        "metrics": [
            metric_payload(name, values[name])
            for name in shown_metrics(table)
            if values[name].notna().any()
        ],
    }


def shown_metrics(table: RunTable) -> list[str]:
    """Return the metrics that finished runs have: result metrics, then those of the execution."""
    present = table.metrics[table.finished].notna().any()
    held = [str(name) for name in present.index[present]]
    results = result_metric_names(held)
    return [*results, *(name for name in METRICS if name in held and name not in results)]


def metric_payload(name: str, values: pd.Series) -> dict[str, Any]:
    """Return one metric of the runs: name, direction, form (how it is written) and values."""
    return {
        "name": name,
        "direction": direction_of(name),
        "form": _FORMS.get(short_numbers(name, [0.25])[0], "plain"),
        "values": plain_numbers(values.tolist()),
    }


def _parameter(name: str, levels: Levels, positions: IntArray, *, scenario: bool) -> dict[str, Any]:
    """Return one parameter: its values as numbers or texts, and the cells they fall into."""
    codes = levels.codes[positions]
    labels, cell_of_level = cells(levels)
    return {
        "name": name,
        "scenario": scenario,
        "numeric": levels.numeric,
        "levels": [cut_text(value_as_typed(value)) for value in levels.values],
        "numbers": [
            plain_number(float(value))
            if levels.numeric and isinstance(value, int | float)
            else None
            for value in levels.values
        ],
        "codes": codes.tolist(),
        "cells": labels,
        "cellOf": cell_of_level.tolist(),
        "grouped": len(labels) < len(levels.values),
        "varies": len(np.unique(codes)) > 1,
    }


def cells(levels: Levels, limit: int = MAX_CELLS) -> tuple[list[str], IntArray]:
    """Put the values of a parameter into few cells along an axis.

    Parameters
    ----------
    levels
        The values.
    limit
        Most cells. More numbers become :data:`N_GROUPS` groups with equally many runs; of more
        texts, the ``limit - 1`` most frequent stay and the others become one cell.

    Returns
    -------
    tuple
        Labels of the cells, and the cell of each value, shape (n_levels,).
    """
    texts = [cut_text(value_as_typed(value)) for value in levels.values]
    n_levels = len(texts)
    if n_levels <= limit:
        return texts, np.arange(n_levels, dtype=np.int64)
    counts = np.bincount(levels.codes, minlength=n_levels)
    if not levels.numeric:
        kept = np.sort(np.argsort(-counts, kind="stable")[: limit - 1])
        cell_of_level: IntArray = np.full(n_levels, limit - 1, dtype=np.int64)
        cell_of_level[kept] = np.arange(limit - 1)
        return [*(texts[code] for code in kept), f"{n_levels - limit + 1} others"], cell_of_level
    # The middle of a value's runs decides its group: equal values stay together.
    middle = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)
    groups = np.minimum((middle * N_GROUPS).astype(np.int64), N_GROUPS - 1)
    present, cell_of_level = np.unique(groups, return_inverse=True)
    labels = []
    for group in range(len(present)):
        members = np.flatnonzero(cell_of_level == group)
        low, high = texts[members[0]], texts[members[-1]]
        labels.append(low if low == high else f"{_short(low)} to {_short(high)}")
    return labels, cell_of_level.astype(np.int64)


def _short(text: str) -> str:
    """Return a number for the label of a group; other text as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
