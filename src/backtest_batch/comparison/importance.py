"""Which swept parameters, and which pairs of them, a metric depends on."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from backtest_batch.comparison.metrics_choice import result_metric_names
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.comparison.sums_of_squares import (
    Factor,
    Term,
    balanced_sums_of_squares,
    is_balanced,
    type_two_sums_of_squares,
)
from backtest_batch.market.panel import BoolArray, FloatArray

IMPORTANCE_COLUMNS = (
    "metric",
    "term",
    "parameters",
    "eta_squared",
    "degrees_of_freedom",
    "design",
    "note",
)

DECIMALS = 10
"""Shares are rounded: their last digits depend on the linear algebra library."""


def parameter_importance(table: RunTable, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the share of each metric's variance that goes with each parameter and each pair.

    ``eta_squared = SS_term / SS_total`` (Fisher 1925; Cohen 1973). Every parameter is a factor
    whose values are categories, numbers too, so that a hump counts as much as a slope. Where the
    runs are a full grid with equally many runs in each cell, the sums of squares are the classical
    ones: they are orthogonal, and together with the interactions of three and more parameters they
    sum to 1. Elsewhere (failed runs, missing metrics, lists of runs) they are of Type II (Yates
    1934): what a term explains beyond all terms that do not contain it, among the main effects and
    the pairwise interactions; these do not sum to 1.

    Parameters
    ----------
    table
        The runs; FINISHED ones that have the metric count.
    metrics
        Metrics to explain; by default every result metric of the table.

    Returns
    -------
    DataFrame
        One row a metric and term, most important first within a metric: metric; term (``fast`` or
        ``fast x slow``); parameters (their names, a tuple of one or two); eta_squared in [0, 1],
        NaN where it is not defined; degrees_of_freedom; design (``balanced``, ``type II`` or
        empty); note (why it is not defined, or how far it can be trusted).
    """
    finished = table.sorted_finished()
    names = result_metric_names(finished.metrics.columns) if metrics is None else list(metrics)
    values = finished.metrics.reindex(columns=names)
    present = values.notna().to_numpy(dtype=np.bool_)
    rows: list[dict[str, object]] = []
    # Metrics that the same runs have share one design.
    groups: dict[bytes, list[int]] = {}
    for position in range(len(names)):
        groups.setdefault(present[:, position].tobytes(), []).append(position)
    for positions in groups.values():
        mask = present[:, positions[0]]
        columns = values.iloc[:, positions].to_numpy(dtype=np.float64)[mask]
        rows += _of_design(finished, mask, [names[item] for item in positions], columns)
    frame = pd.DataFrame(rows, columns=list(IMPORTANCE_COLUMNS))
    order = frame.assign(
        place=frame["metric"].map({name: place for place, name in enumerate(names)}),
        share=-frame["eta_squared"].astype(np.float64).fillna(-1.0),
    ).sort_values(["place", "share"], kind="stable")
    return frame.loc[order.index].reset_index(drop=True)


def _of_design(
    table: RunTable, mask: BoolArray, names: list[str], values: FloatArray
) -> list[dict[str, object]]:
    """Return the rows of the metrics in ``values``, shape (n_runs of the mask, n_names)."""
    factors = [_factor(table, name, mask) for name in table.params.columns]
    varying = [factor for factor in factors if factor.n_levels > 1]
    terms = [Term(factors=(factor,)) for factor in varying]
    terms += [Term(factors=pair) for pair in combinations(varying, 2)]
    centred, totals = _centred(values)
    if is_balanced(varying, len(values)):
        design, solved = "balanced", balanced_sums_of_squares(terms, centred)
    else:
        design, solved = "type II", type_two_sums_of_squares(terms, centred)
    rows: list[dict[str, object]] = []
    for column, metric in enumerate(names):
        reason = _undefined(values[:, column])
        for factor in factors:
            if factor.n_levels < 2:
                note = reason or "it has one value in these runs"
                rows.append(_row(metric, (factor.name,), note=note))
        for term, part in zip(terms, solved, strict=True):
            parameters = tuple(factor.name for factor in term.factors)
            if reason or part.sums is None or part.degrees_of_freedom == 0:
                rows.append(_row(metric, parameters, note=reason or part.note))
                continue
            share = float(np.clip(part.sums[column] / totals[column], 0.0, 1.0))
            rows.append(
                _row(
                    metric,
                    parameters,
                    eta_squared=round(share, DECIMALS),
                    degrees_of_freedom=part.degrees_of_freedom,
                    design=design,
                    note=part.note,
                )
            )
    return rows


def _row(
    metric: str,
    parameters: tuple[str, ...],
    *,
    eta_squared: float = float("nan"),
    degrees_of_freedom: int = 0,
    design: str = "",
    note: str = "",
) -> dict[str, object]:
    return {
        "metric": metric,
        "term": " x ".join(parameters),
        "parameters": parameters,
        "eta_squared": eta_squared,
        "degrees_of_freedom": degrees_of_freedom,
        "design": design,
        "note": note,
    }


def _factor(table: RunTable, name: str, mask: BoolArray) -> Factor:
    levels = table.levels[name]
    used, codes = np.unique(levels.codes[mask], return_inverse=True)
    return Factor(name=name, codes=codes.astype(np.int64), n_levels=len(used))


def _centred(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return deviations from the mean, scaled to at most 1, and their sums of squares."""
    if not len(values):
        return values, np.zeros(values.shape[1])
    scale = np.abs(values).max(axis=0)
    # Shares do not depend on the scale; squares of very large or small metrics would overflow.
    scaled = values / np.where(scale > 0, scale, 1.0)
    centred = scaled - scaled.mean(axis=0)
    spread = np.abs(centred).max(axis=0)
    centred = centred / np.where(spread > 0, spread, 1.0)
    return centred, (centred**2).sum(axis=0)


def _undefined(values: FloatArray) -> str:
    if len(values) == 0:
        return "no run has this metric"
    if len(values) == 1:
        return "one run has this metric"
    return "it is equal in all runs" if values.min() == values.max() else ""
