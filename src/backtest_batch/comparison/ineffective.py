"""Parameters, and values of parameters, that change no result."""

import numpy as np
import pandas as pd

from backtest_batch.comparison.levels import cells_of, format_value, levels_of
from backtest_batch.comparison.metrics_choice import NEIGHBOURHOOD, result_metric_names
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.market.panel import IntArray

CHANGES = "changes results"
CHANGES_NOTHING = "changes nothing"
UNKNOWN = "cannot be told"


def effect_of_parameters(table: RunTable) -> pd.DataFrame:
    """Say of each swept parameter whether its values change any result.

    Runs of one batch that are equal in all other swept parameters are compared, bit for bit in
    every result metric, between consecutive values of the parameter. An incomplete grid offers
    fewer comparisons; without any, nothing can be told.

    Parameters
    ----------
    table
        The runs; FINISHED ones with at least one result metric count.

    Returns
    -------
    DataFrame of shape (n_params, 5)
        parameter; effect (``changes results``, ``changes nothing``, ``cannot be told``);
        comparisons (pairs of runs); equal_values (pairs of consecutive values between which no
        comparison differs, as a tuple of tuples); message (what to tell people, empty when every
        value matters).
    """
    names = [name for name in result_metric_names(table.metrics.columns) if name != NEIGHBOURHOOD]
    measured = table.metrics[names].notna().any(axis=1).to_numpy(dtype=np.bool_)
    held = table.subset(table.finished & measured)
    results = _fingerprints(held.metrics[names])
    rows = [_effect(held, name, results) for name in held.params.columns]
    columns = ["parameter", "effect", "comparisons", "equal_values", "message"]
    return pd.DataFrame(rows, columns=columns)


def warnings_about_parameters(effects: pd.DataFrame) -> list[str]:
    """Return one sentence for each parameter that changes nothing, or nothing between values.

    Parameters
    ----------
    effects
        What :func:`effect_of_parameters` returned for the runs.
    """
    return [text for text in effects["message"] if text]


def _fingerprints(metrics: pd.DataFrame) -> IntArray:
    """Return a number for each row, alike for rows that are equal bit for bit (NaN equals NaN)."""
    values = metrics.to_numpy(dtype=np.float64)
    if values.size == 0:
        return np.zeros(len(values), dtype=np.int64)
    # One NaN for all: their bits may differ without a meaning.
    values = np.ascontiguousarray(np.where(np.isnan(values), np.nan, values))
    rows = values.view(np.dtype((np.void, values.itemsize * values.shape[1]))).ravel()
    return np.unique(rows, return_inverse=True)[1].astype(np.int64)


def _effect(table: RunTable, name: str, results: IntArray) -> dict[str, object]:
    levels = table.levels[name]
    others = [other.codes for key, other in table.levels.items() if key != name]
    if "batch_id" in table.runs:
        # Batches may differ in what none of them swept.
        others.append(levels_of(table.runs["batch_id"]).codes)
    line = cells_of(others, len(table))
    order = np.lexsort((levels.codes, line))
    before, after = order[:-1], order[1:]
    compared = (line[before] == line[after]) & (levels.codes[before] != levels.codes[after])
    before, after = before[compared], after[compared]
    differs = results[before] != results[after]
    pairs = pd.DataFrame(
        {"low": levels.codes[before], "high": levels.codes[after], "differs": differs}
    )
    ever = pairs.groupby(["low", "high"])["differs"].any().reset_index()
    equal = tuple(
        (levels.values[low], levels.values[high])
        for low, high, differ in ever.itertuples(index=False, name=None)
        if not differ
    )
    effect = CHANGES if differs.any() else CHANGES_NOTHING
    if not len(pairs):
        effect = UNKNOWN
    return {
        "parameter": name,
        "effect": effect,
        "comparisons": len(pairs),
        "equal_values": equal,
        "message": _message(name, effect, equal),
    }


def _message(name: str, effect: str, equal: tuple[tuple[object, object], ...]) -> str:
    if effect == CHANGES_NOTHING:
        # Of the values of several batches, not all need to have been compared.
        groups = _linked(equal)
        values = "; ".join(", ".join(map(format_value, group)) for group in groups)
        n_values = sum(map(len, groups))
        each = "its" if len(groups) == 1 else "within each group its"
        return (
            f"{name} changes no result: {each} {n_values} values ({values}) give the "
            "same metrics, bit for bit. It is not connected, or it is a cap that does not bind."
        )
    if effect == CHANGES and equal:
        listed = ", ".join(f"{format_value(low)} and {format_value(high)}" for low, high in equal)
        return f"{name} changes no result between {listed}: a cap that does not bind, perhaps."
    return ""


def _linked(pairs: tuple[tuple[object, object], ...]) -> list[list[object]]:
    """Return the values that pairs link, directly or through others, in groups."""
    groups: list[list[object]] = []
    for pair in pairs:
        touched = [group for group in groups if any(value in group for value in pair)]
        values = [value for group in touched for value in group]
        groups = [group for group in groups if group not in touched]
        groups.append([*values, *(value for value in pair if value not in values)])
    return groups
