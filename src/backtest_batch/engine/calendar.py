"""When decisions are made, and how much time lies between bars."""

import numpy as np
import pandas as pd

from backtest_batch.market.panel import FloatArray, IntArray

DAYS_PER_YEAR = 365.0
"""Interest is counted ACT/365: actual days over a year of 365."""

_SECONDS_PER_DAY = 86_400.0
_TICKS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

SHORTEST_SPAN_DAYS = 90.0
"""Over a shorter span the bars of a year cannot be told from holidays and weekends."""


def decision_bars(index: pd.DatetimeIndex, rebalance: str) -> IntArray:
    """Return the bars on which a strategy decides.

    A decision bar is a bar whose successor lies in a later period; so the last bar is none. A
    time-zone aware index is counted in its own zone, and weeks are ISO weeks (from Monday on).

    Parameters
    ----------
    index
        Timestamps of the bars, strictly increasing.
    rebalance
        The period: ``bar`` (every bar), ``D``, ``W``, ``M`` or ``Q``.

    Returns
    -------
    ndarray of shape (n_decisions,)
        Increasing positions in ``index``; empty when the index lies within one period.

    Raises
    ------
    ValueError
        When ``rebalance`` is none of these.
    """
    if rebalance == "bar":
        return np.arange(len(index) - 1, dtype=np.int64)
    # Wall clock time of the index's own zone: days end at its midnight.
    wall = index.tz_localize(None).to_numpy()
    if rebalance in ("D", "W"):
        period = wall.astype("datetime64[D]").astype(np.int64)
        if rebalance == "W":
            # Day 0, 1970-01-01, was a Thursday; weeks change before Monday.
            period = (period + 3) // 7
    elif rebalance in ("M", "Q"):
        period = wall.astype("datetime64[M]").astype(np.int64)
        if rebalance == "Q":
            period = period // 3
    else:
        raise ValueError(f"rebalance must be one of bar, D, W, M, Q, but got {rebalance!r}.")
    return np.flatnonzero(period[1:] > period[:-1]).astype(np.int64)


def year_fractions(index: pd.DatetimeIndex) -> FloatArray:
    """Return the time from each bar's predecessor to the bar, in years of 365 days.

    Parameters
    ----------
    index
        Timestamps of the bars; the time between them is absolute, so that a day on which clocks
        change has 23 or 25 hours.

    Returns
    -------
    ndarray of shape (n_bars,)
        ACT/365 fractions; the first is 0.
    """
    years = np.zeros(len(index))
    years[1:] = np.diff(index.asi8) / ticks_per_day(index) / DAYS_PER_YEAR
    return years


def observed_periods_per_year(index: pd.DatetimeIndex) -> float | None:
    """Return how many bars a calendar year of this index holds.

    Parameters
    ----------
    index
        Timestamps of the bars, strictly increasing.

    Returns
    -------
    float or None
        (n_bars - 1) / years of 365.25 days from the first to the last bar; None where they lie
        less than 90 days apart, too little to tell.
    """
    if len(index) < 2:
        return None
    days = float(index.asi8[-1] - index.asi8[0]) / ticks_per_day(index)
    if days < SHORTEST_SPAN_DAYS:
        return None
    return (len(index) - 1) / days * 365.25


def ticks_per_day(index: pd.DatetimeIndex) -> float:
    """Return how many units of the index a day has."""
    return _TICKS_PER_SECOND[index.unit] * _SECONDS_PER_DAY
