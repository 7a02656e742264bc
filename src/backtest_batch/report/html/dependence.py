"""How metrics depend on parameters: sensitivity and importance as JSON."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.comparison.run_table import Label, RunTable
from backtest_batch.comparison.sensitivity import STATISTICS
from backtest_batch.market.panel import IntArray
from backtest_batch.report.html.numbers import plain_number, plain_numbers
from backtest_batch.report.html.runs import cells, shown_metrics
from backtest_batch.report.tables import parameter_labels

TIMES = " \N{MULTIPLICATION SIGN} "
"""Between the parameters of a pair."""

MAX_TERMS = 300
"""Terms of a metric's importance that the page holds, the most important first."""


def sensitivity_payload(
    table: RunTable, sensitivity: pd.DataFrame, best: Label | None
) -> list[dict[str, Any]]:
    """Return, for each parameter with several values, each metric's distribution by value.

    Parameters
    ----------
    table
        The runs.
    sensitivity
        What :func:`.parameter_sensitivity` returned for them. Its figures are used as they are;
        where a parameter has so many values that the page groups them, the groups' figures are
        computed here, in the same way.
    best
        The best run, whose value is marked.

    Returns
    -------
    list of dict
        name, labels, grouped, best (position of the best run's value, or None), metrics (by name,
        one row a label: count, mean, std, min, max).
    """
    metrics = [name for name in shown_metrics(table) if name in set(sensitivity["metric"])]
    finished = table.sorted_finished()
    labels = parameter_labels(table.params.columns)
    entries = []
    for name in table.params.columns:
        levels = finished.levels[name]
        if len(levels.values) < 2:
            continue
        texts, cell_of_level = cells(levels)
        codes: IntArray = cell_of_level[levels.codes]
        grouped = len(texts) < len(levels.values)
        rows = (
            _grouped(finished, codes, metrics)
            if grouped
            else _given(sensitivity[sensitivity["parameter"] == name], metrics)
        )
        marked = None
        if best is not None:
            marked = int(codes[finished.runs.index.tolist().index(best)])
        entries.append(
            {
                "name": labels[name],
                "labels": texts,
                "grouped": grouped,
                "best": marked,
                "metrics": rows,
            }
        )
    return entries


def _given(rows: pd.DataFrame, metrics: list[str]) -> dict[str, list[Any]]:
    """Return the figures of one parameter as they stand in sensitivity_analysis.csv."""
    by_metric = dict(list(rows.groupby("metric", sort=False)))
    return {
        name: [plain_numbers(row) for row in by_metric[name][list(STATISTICS)].to_numpy(float)]
        for name in metrics
    }


def _grouped(table: RunTable, codes: IntArray, metrics: list[str]) -> dict[str, list[Any]]:
    """Return the figures of groups of values."""
    groups = table.metrics[metrics].groupby(codes)
    found = {what: getattr(groups, what)() for what in STATISTICS}
    return {
        name: [
            plain_numbers(row)
            for row in np.column_stack([found[what][name].to_numpy(float) for what in STATISTICS])
        ]
        for name in metrics
    }


def importance_payload(importance: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return the terms of each metric: term, share (eta squared, or None), pair, design, note."""
    return {
        str(metric): [_term(row) for row in rows.head(MAX_TERMS).to_dict("records")]
        for metric, rows in importance.groupby("metric", sort=False)
    }


def _term(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    labels = parameter_labels(row["parameters"])
    return {
        "term": TIMES.join(labels[name] for name in row["parameters"]),
        "share": plain_number(float(row["eta_squared"])),
        "pair": len(row["parameters"]) > 1,
        "design": row["design"],
        "note": row["note"],
    }
