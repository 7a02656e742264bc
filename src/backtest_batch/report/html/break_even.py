"""What costs do to the best run: its break-even, and the same run at other costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from backtest_batch.comparison.levels import plain_value
from backtest_batch.comparison.run_table import Label, RunTable
from backtest_batch.market.panel import FloatArray
from backtest_batch.report.html.numbers import plain_number, plain_numbers
from backtest_batch.report.html.runs import shown_metrics

COST_SHARES = {"commission_bps": 1.0, "spread_bps": 0.5, "impact_bps": 1.0}
"""Share of each key in the cost per traded value."""


def cost_bps(table: RunTable, costs: Mapping[str, float]) -> FloatArray:
    """Return each run's cost per traded value: commission, half the spread and impact.

    Parameters
    ----------
    table
        The runs.
    costs
        The keys' configured values, for those that are not swept.

    Returns
    -------
    ndarray of shape (n_runs,)
        Basis points; NaN where a key is neither swept nor given.
    """
    total = np.zeros(len(table))
    for name, share in COST_SHARES.items():
        if name in table.params:
            values = [_number(value) for value in table.params[name]]
            total = total + share * np.array(values, dtype=np.float64)
        else:
            total = total + share * costs.get(name, np.nan)
    return total


def cost_payload(
    table: RunTable, costs: Mapping[str, float], best: Label | None
) -> dict[str, Any] | None:
    """Return how the best run depends on costs, or None where nothing is known of that.

    Parameters
    ----------
    table
        The runs.
    costs
        Configured costs; see :func:`cost_bps`.
    best
        The best run.

    Returns
    -------
    dict
        ``breakeven`` and ``own`` (bps), ``turnover`` (a year), ``mean`` (net return a year at its
        own cost); each None where unknown. ``runs``: the FINISHED runs that differ from the best
        in costs only, itself included, by cost: id, cost, mean and metrics;
        ``best`` is the best run's place among them.
    """
    if best is None:
        return None
    position = table.runs.index.tolist().index(best)
    of_run = cost_bps(table, costs)
    breakeven = _metric(table, "breakeven_cost_bps")
    turnover = _metric(table, "turnover_annual")
    siblings = [item for item in _siblings(table, position) if np.isfinite(of_run[item])]
    siblings.sort(key=lambda item: (of_run[item], item))
    if not np.isfinite(breakeven[position]) and len(siblings) < 2:
        return None
    # The definition of the break-even, solved for the mean return.
    means = (breakeven - of_run) * 1e-4 * turnover
    names = shown_metrics(table)
    return {
        "breakeven": plain_number(breakeven[position]),
        "own": plain_number(of_run[position]),
        "turnover": plain_number(turnover[position]),
        "mean": plain_number(means[position]),
        "runs": {
            "best": siblings.index(position) if position in siblings else -1,
            "ids": [str(table.runs["run_id"].iloc[item]) for item in siblings],
            "costs": plain_numbers(of_run[siblings]),
            "means": plain_numbers(means[siblings]),
            "metrics": {name: plain_numbers(table.metrics[name].iloc[siblings]) for name in names},
        },
    }


def _siblings(table: RunTable, position: int) -> list[int]:
    """Return the positions of the FINISHED runs that differ from one in costs only."""
    same = table.finished.copy()
    for name, levels in table.levels.items():
        if name not in COST_SHARES:
            same &= levels.codes == levels.codes[position]
    if "batch_id" in table.runs:
        # Batches may differ in what none of them swept.
        batches = table.runs["batch_id"].to_numpy()
        same &= batches == batches[position]
    return [int(item) for item in np.flatnonzero(same)]


def _metric(table: RunTable, name: str) -> FloatArray:
    if name not in table.metrics:
        return np.full(len(table), np.nan)
    return table.metrics[name].to_numpy(dtype=np.float64)


def _number(value: object) -> float:
    plain = plain_value(value)
    return float(plain) if isinstance(plain, int | float) else float("nan")
