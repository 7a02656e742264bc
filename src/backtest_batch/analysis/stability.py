"""Whether a good run has good neighbours in the grid, or is good alone."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from backtest_batch.analysis.run_table import NEIGHBOURHOOD, Label, RunTable, id_order
from backtest_batch.analysis.scenarios import Levels, cells_of, is_market, levels_of, value_as_typed
from backtest_batch.arrays import BoolArray, FloatArray, IntArray


def ordered_axes(table: RunTable) -> tuple[str, ...]:
    """Return the decision parameters along which a run has neighbours.

    Their values are at least two numbers (``null`` aside). Seeds are left out (``seed`` and
    ``<anything>.seed``), because their order means nothing. So are data and dates: runs on
    different bars are not neighbours.

    Parameters
    ----------
    table
        The runs.
    """
    return tuple(
        name
        for name in table.decision_axes
        if table.levels[name].numeric
        and len(table.levels[name].values) > 1
        and name.rpartition(".")[2] != "seed"
        and not is_market(name)
    )


def stability(table: RunTable, metric: str = "sharpe") -> pd.DataFrame:
    """Return the mean of a metric over each run's neighbours in the grid.

    A neighbour differs in one ordered decision parameter by one step and in nothing else. The
    steps are the values that this parameter takes among the runs of the same scenario with the
    same unordered parameters (so strategies swept over different grids do not disturb each other).
    Diagonal steps do not count: with k parameters they would be most of the 3^k - 1 neighbours,
    and they change several parameters at once, which says little about any one choice. Several
    runs with the same parameters count as one neighbour, with the mean of their values, and are
    not neighbours of each other.

    Parameters
    ----------
    table
        The runs; only the metrics of FINISHED ones count.
    metric
        Metric to average.

    Returns
    -------
    DataFrame of shape (n_runs, 4)
        Indexed like the table: value (the run's own, not part of the mean), neighbourhood (NaN
        when the run lacks the metric or no neighbour has it), neighbours (how many have it),
        on_edge (whether one of its ordered parameters has its lowest or highest value, beyond
        which nothing was tried).
    """
    own = table.metrics.get(metric, pd.Series(np.nan, index=table.metrics.index))
    own = own.where(pd.Series(table.finished, index=own.index))
    sums, counts = _neighbour_sums(table, np.asarray(own, dtype=np.float64))
    has_mean = (counts > 0) & own.notna().to_numpy()
    mean = np.divide(sums, counts, out=np.full(len(table), np.nan), where=has_mean)
    return pd.DataFrame(
        {
            "value": own,
            "neighbourhood": mean,
            "neighbours": counts,
            "on_edge": (edges(table) != "").any(axis=1),
        },
        index=table.runs.index,
    )


def with_neighbourhood(table: RunTable) -> RunTable:
    """Return the table with the metric ``sharpe_neighbourhood``, so that runs can be ranked by it.

    Parameters
    ----------
    table
        The runs.
    """
    return table.with_metric(NEIGHBOURHOOD, stability(table, "sharpe")["neighbourhood"])


def edges(table: RunTable) -> pd.DataFrame:
    """Return where runs lie on the edge of the grid, beyond which nothing was tried.

    Parameters
    ----------
    table
        The runs.

    Returns
    -------
    DataFrame of shape (n_runs, n_ordered)
        ``lowest`` or ``highest`` for each ordered decision parameter, empty inside the grid and
        where the parameter has only one value in the run's surroundings.
    """
    axes = ordered_axes(table)
    contexts = _contexts(table, axes)
    columns = {}
    for name in axes:
        step, last = _steps(contexts, table.levels[name])
        side = np.where(step == 0, "lowest", np.where(step == last, "highest", ""))
        columns[name] = np.where(last > 0, side, "").astype(object)
    return pd.DataFrame(columns, index=table.runs.index, columns=pd.Index(axes, dtype=object))


def edge_notes(table: RunTable, best: Label, without: Collection[str] = ()) -> list[str]:
    """Return one sentence for each ordered parameter in which a run lies on the edge of the grid.

    Parameters
    ----------
    table
        The runs.
    best
        Index label of the run, such as the first of the ranking.
    without
        Parameters to leave out, such as those that change nothing: none of their values is better.
    """
    sides = edges(table).loc[best].to_dict()
    values = table.params.loc[best].to_dict()
    return [
        f"The best run has {name}={value_as_typed(values[name])}, the {side} value tried: better "
        "ones may lie beyond the grid."
        for name, side in sides.items()
        if side and name not in without
    ]


def _contexts(table: RunTable, axes: tuple[str, ...]) -> IntArray:
    """Return a number for each run's surroundings: all but its steps along the axes."""
    fixed = [levels.codes for name, levels in table.levels.items() if name not in axes]
    if "data_fingerprint" in table.runs:
        # Batches on different data are different conditions, even if neither swept its data.
        fixed.append(levels_of(table.runs["data_fingerprint"]).codes)
    unset = [np.where(_is_null(table.levels[name]), 1, 0) for name in axes]
    return cells_of([*fixed, *unset], len(table))


def _is_null(levels: Levels) -> BoolArray:
    return np.array([value is None for value in levels.values])[levels.codes]


def _steps(contexts: IntArray, levels: Levels) -> tuple[IntArray, IntArray]:
    """Return each run's step along a parameter, and the last step, within its surroundings."""
    pairs = contexts * len(levels.values) + levels.codes
    distinct, inverse = np.unique(pairs, return_inverse=True)
    context = distinct // len(levels.values)
    first = np.searchsorted(context, context, side="left")
    last = np.searchsorted(context, context, side="right") - 1 - first
    step = np.arange(len(distinct)) - first
    return step[inverse], last[inverse]


def _neighbour_sums(table: RunTable, values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return, for each run, the sum of its neighbours' values and their number."""
    n_runs = len(table)
    axes = ordered_axes(table)
    contexts = _contexts(table, axes)
    steps = {name: _steps(contexts, table.levels[name])[0] for name in axes}
    cells = cells_of([contexts, *steps.values()], n_runs)
    # First run of each cell: all runs of a cell share its steps.
    _, first = np.unique(cells, return_index=True)
    cell_values = _cell_means(table, cells, values)
    sums = np.zeros(len(first))
    counts = np.zeros(len(first), dtype=np.int64)
    for name in axes:
        others = [codes for other, codes in steps.items() if other != name]
        line = cells_of([contexts, *others], n_runs)[first]
        step = steps[name][first]
        order = np.lexsort((step, line))
        before, after = order[:-1], order[1:]
        adjacent = (line[before] == line[after]) & (step[before] + 1 == step[after])
        for one, other in ((before, after), (after, before)):
            counted = adjacent & ~np.isnan(cell_values[other])
            # A cell has at most one neighbour on either side, so that += adds each once.
            sums[one[counted]] += cell_values[other[counted]]
            counts[one[counted]] += 1
    return sums[cells], counts[cells]


def _cell_means(table: RunTable, cells: IntArray, values: FloatArray) -> FloatArray:
    """Return the mean value of each cell's runs; NaN where none has one."""
    # Summing in the order of the run ids gives the same bits however the runs arrived.
    order = id_order(table)
    in_order = pd.Series(values[order]).groupby(cells[order]).mean()
    return np.asarray(in_order, dtype=np.float64)
