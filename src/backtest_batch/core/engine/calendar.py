"""When decisions are made, how much time lies between bars, and how often a year has them."""

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray

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


SESSIONS_PER_YEAR = 252
"""Days of trading in a year of a stock exchange."""

LARGEST_DISAGREEMENT = 0.05
"""Fraction by which the bars a year of an index may differ from an assumed number unsaid."""

_DAYS_PER_YEAR = 365.25
_WEEKEND = 5
"""Days of the week from this one on (Monday is 0)."""
_LONGEST_HOLIDAYS_DAYS = 10.0
"""A longer time between bars is a gap in the data, and no part of what is counted."""
_SHORTEST_SPAN_DAYS = 90.0
"""Over a shorter span whole weeks are counted: holidays and half weeks would weigh too much."""
_USUAL_OF_LONGER_BARS: tuple[float, ...] = (1.0, 2.0, 4.0, 12.0, 52.0)


def periods_per_year_from(index: pd.DatetimeIndex) -> float | None:
    """Return the bars a year by which results on this index are annualised.

    The usual number where the index is near it: 252 for business days, 365 for all days, 52 for
    weeks, 12 for months, 4 for quarters; within the day the bars of a usual day times 252, or
    times 365.25 around the clock. Elsewhere what is counted: bars over calendar time, gaps of more
    than ten days left out.

    Parameters
    ----------
    index
        Timestamps of the bars, strictly increasing.

    Returns
    -------
    float or None
        None where there are fewer than two bars.
    """
    if len(index) < 2:
        return None
    days = (index.asi8 - index.asi8[0]) / ticks_per_day(index)
    steps: FloatArray = np.diff(days)
    step = float(np.median(steps))
    usual: tuple[float, ...]
    if step < 0.9:
        a_day = _usual_bars_a_day(index)
        # Growth over minutes is compounded so often that a quarter of a day a year is seen.
        usual = (a_day * SESSIONS_PER_YEAR, a_day * _DAYS_PER_YEAR)
    elif step < 1.5:
        usual = (float(SESSIONS_PER_YEAR), 365.0)
    else:
        usual = _USUAL_OF_LONGER_BARS
    counted = _counted(days, steps, longer=step >= 1.5)
    if counted is None:
        return usual[1] if (index.day_of_week >= _WEEKEND).any() else usual[0]
    nearest = min(usual, key=lambda number: abs(np.log(counted / number)))
    if abs(counted / nearest - 1.0) <= LARGEST_DISAGREEMENT:
        return nearest
    return float(f"{counted:.4g}")


def disagreement(index: pd.DatetimeIndex, periods_per_year: float) -> str | None:
    """Return a sentence where an index has other bars a year than are assumed, else None.

    Bars over calendar time are compared, gaps included; of an index of less than 90 days, what
    :func:`periods_per_year_from` says, and of one of less than two weeks nothing.
    """
    observed = observed_periods_per_year(index)
    if observed is None:
        if len(index) < 2 or index[-1] - index[0] < pd.Timedelta(days=14):
            return None
        observed = periods_per_year_from(index)
    if observed is None or abs(observed / periods_per_year - 1) <= LARGEST_DISAGREEMENT:
        return None
    return (
        f"the data has about {observed:,.0f} bars a year, but periods_per_year is "
        f"{periods_per_year:,g}: volatility, sharpe, cagr and all else that is annualised "
        f"assumes the latter; periods_per_year={observed:.0f} would fit"
    )


def name_of_bars(periods_per_year: float) -> str:
    """Return what bars are called that come this often a year: ``daily``; empty without a name."""
    for number, tolerance, name in (
        (1, 0.05, "yearly"),
        (4, 0.05, "quarterly"),
        (12, 0.05, "monthly"),
        (52, 0.05, "weekly"),
        (300, 0.25, "daily"),
    ):
        if abs(periods_per_year / number - 1.0) <= tolerance:
            return name
    return ""


def _usual_bars_a_day(index: pd.DatetimeIndex) -> float:
    """Return the median number of bars of a day, the first and the last day left out."""
    days = index.tz_localize(None).normalize().to_numpy()
    starts = np.flatnonzero(np.r_[True, days[1:] != days[:-1]])
    counts = np.diff(starts, append=len(index))
    return float(np.median(counts[1:-1] if len(counts) > 2 else counts))


def _counted(days: FloatArray, steps: FloatArray, *, longer: bool) -> float | None:
    """Return bars over calendar time; None where that is too short to tell.

    Parameters
    ----------
    days
        Days since the first bar.
    steps
        Days between bars.
    longer
        Whether bars are longer than days.
    """
    if longer:
        return len(steps) / float(days[-1]) * _DAYS_PER_YEAR
    kept = steps[steps <= _LONGEST_HOLIDAYS_DAYS]
    span = float(kept.sum())
    if span >= _SHORTEST_SPAN_DAYS:
        return len(kept) / span * _DAYS_PER_YEAR
    weeks = int(days[-1] // 7)
    if weeks < 2:
        return None
    return float(np.count_nonzero(days < weeks * 7)) / (weeks * 7) * _DAYS_PER_YEAR
