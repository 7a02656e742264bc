"""One score from several metrics that have neither unit nor scale in common."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import pandas as pd

from backtest_batch.comparison.metrics_choice import direction_of

Normalise = Literal["rank", "zscore", "minmax"]

NORMALISATIONS: tuple[str, ...] = get_args(Normalise)

DECIMALS = 12
"""Scores are rounded so that sums of equal shares tie whatever the order of their terms."""


def good_values(metrics: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return metrics turned so that more is better, for the runs that have all of them.

    Parameters
    ----------
    metrics
        Metrics of the runs, shape (n_runs, n_metrics).
    names
        Columns to take; each has a direction.

    Returns
    -------
    DataFrame of shape (n_complete, n_names)
        Runs that lack one of the metrics are left out.
    """
    directions = np.array([direction_of(name) for name in names], dtype=np.float64)
    return metrics.reindex(columns=names).dropna() * directions


def weighted_score(
    metrics: pd.DataFrame, weights: Mapping[str, float], normalise: Normalise = "rank"
) -> pd.Series:
    """Return the weighted mean of the normalised metrics; more is better.

    ``score = sum_i w_i n_i(d_i m_i)`` with the weights w (summing to 1), the direction d (+1 when
    more is better, -1 when less is) and the normalisation n over all runs that have every metric:

    - ``rank``: percentile rank in (0, 1], average rank of ties over the number of runs. Outliers
      cannot bend it.
    - ``zscore``: (x - mean) / std with ddof 1; 0 where nothing varies.
    - ``minmax``: (x - min) / (max - min), in [0, 1]; 0.5 where nothing varies.

    Parameters
    ----------
    metrics
        Metrics of the runs, shape (n_runs, n_metrics).
    weights
        Weight of each metric, summing to 1.
    normalise
        How a metric becomes comparable with another.

    Returns
    -------
    Series of shape (n_runs,)
        Rounded to 12 decimals; NaN for runs that lack one of the metrics.
    """
    names = sorted(weights)
    values = good_values(metrics, names)
    shares = np.array([weights[name] for name in names])
    score = (_normalised(values, normalise) * shares).sum(axis=1)
    return score.round(DECIMALS).reindex(metrics.index).rename("score")


def _normalised(values: pd.DataFrame, normalise: Normalise) -> pd.DataFrame:
    if normalise == "rank":
        return values.rank(method="average", pct=True)
    # Neither form depends on the scale, and squares of very large metrics would overflow.
    scale = values.abs().max()
    values = values / scale.where(scale > 0, 1.0)
    lowest, highest = values.min(), values.max()
    if normalise == "minmax":
        scaled, if_constant = (values - lowest) / (highest - lowest), 0.5
    else:
        scaled, if_constant = (values - values.mean()) / values.std(ddof=1), 0.0
    return scaled.mask((highest == lowest).to_numpy()[None, :].repeat(len(values), 0), if_constant)
