"""The curves of a report, from returns side by side."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from backtest_batch.comparison.run_table import Label, RunTable
from backtest_batch.report.html import Curves
from backtest_batch.report.html.curves import MAX_CURVES

__all__ = ["MAX_CURVES", "returns_curves"]


def returns_curves(
    table: RunTable, returns: pd.DataFrame, *, total: int | None = None
) -> Curves | None:
    """Return what report.html draws; None without any returns.

    Parameters
    ----------
    table
        The runs.
    returns
        Net returns by bar, best run first: one column a run, named by its index label in the
        table, and optionally ``benchmark``.
    total
        How many runs there are, of which these are the best.
    """
    runs = [name for name in returns.columns if name != "benchmark"]
    if not runs:
        return None
    index = pd.DatetimeIndex(returns.index)
    # Plotted as they stand in the market's own time.
    stamps = index.tz_localize(None) if index.tz is not None else index
    columns = dict(zip(_names(table, runs), runs, strict=True))
    return Curves(
        timestamps=stamps.to_numpy(),
        net_returns={
            name: returns[column].to_numpy(dtype=np.float64) for name, column in columns.items()
        },
        benchmark=returns["benchmark"].to_numpy(dtype=np.float64)
        if "benchmark" in returns
        else None,
        total=total,
    )


def _names(table: RunTable, rows: Sequence[Label]) -> list[str]:
    """Return a name for each run: its run_id, with its batch_id where there are several."""
    runs = table.runs.loc[list(rows)]
    if not table.several_batches:
        return runs["run_id"].astype(str).tolist()
    pairs = zip(runs["run_id"], runs["batch_id"], strict=True)
    return [f"{run_id} ({batch_id})" for run_id, batch_id in pairs]
