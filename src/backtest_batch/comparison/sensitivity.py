"""How each metric depends on each swept parameter, one parameter at a time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from backtest_batch.comparison.levels import Levels
from backtest_batch.comparison.metrics_choice import result_metric_names
from backtest_batch.comparison.run_table import Label, RunTable

STATISTICS = ("count", "mean", "std", "min", "max")

SENSITIVITY_COLUMNS = ("parameter", "value", "metric", *STATISTICS, "best")


def parameter_sensitivity(
    table: RunTable, *, best: Label | None = None, metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the distribution of each metric at each value of each swept parameter.

    Parameters
    ----------
    table
        The runs; FINISHED ones count, whether ranked or not.
    best
        Index label of the run whose values are marked, such as the first of
        :func:`.ranking.rank_runs`; None marks none.
    metrics
        Metrics to describe; by default every result metric that at least one run has.

    Returns
    -------
    DataFrame of shape (n_values * n_metrics, 9)
        Long form: parameter (in axis order), value (typed, ascending), metric, count (runs that
        have the metric), mean, std (ddof 1; NaN below two runs), min, max, best (whether the best
        run has this value). The same bits in whatever order the runs come.
    """
    finished = table.sorted_finished()
    if metrics is None:
        metrics = [
            name
            for name in result_metric_names(finished.metrics.columns)
            if finished.metrics[name].notna().any()
        ]
    values = finished.metrics.reindex(columns=list(metrics))
    best_row = None if best is None else finished.runs.index.tolist().index(best)
    parts = [
        _of_parameter(name, levels, values, best_row)
        for name, levels in finished.levels.items()
        if len(values) and len(metrics)
    ]
    if not parts:
        return pd.DataFrame(columns=list(SENSITIVITY_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def _of_parameter(
    name: str, levels: Levels, metrics: pd.DataFrame, best_row: int | None
) -> pd.DataFrame:
    """Return the rows of one parameter: levels, and within them metrics."""
    groups = metrics.groupby(levels.codes)
    n_levels, n_metrics = len(levels.values), metrics.shape[1]
    best_code = None if best_row is None else levels.codes[best_row]
    value: pd.Series = pd.Series(levels.values, dtype=object)
    columns = {
        "parameter": np.repeat(np.array([name], dtype=object), n_levels * n_metrics),
        "value": value.repeat(n_metrics).to_numpy(),
        "metric": np.tile(np.array(metrics.columns, dtype=object), n_levels),
        **{what: getattr(groups, what)().to_numpy().ravel() for what in STATISTICS},
        "best": np.repeat(np.arange(n_levels) == best_code, n_metrics),
    }
    return pd.DataFrame(columns)
