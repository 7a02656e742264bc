"""When decisions are made, and how much time lies between bars."""

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.config.rebalance import Rebalance, parse_rebalance
from backtest_batch.core.engine.frequency import Frequency, freq_seconds
from backtest_batch.core.engine.sessions import (
    begins_session,
    session_days,
    ticks_per_day,
    ticks_per_second,
)

DAYS_PER_YEAR = 365.0
"""Interest is counted ACT/365: actual days over a year of 365."""

_MONDAY_OF_DAY_0 = 3
"""1970-01-01, day 0, was a Thursday."""


def decision_bars(
    index: pd.DatetimeIndex, rebalance: str, session_end: str | None = None
) -> IntArray:
    """Return the bars on which a strategy decides.

    A decision bar is a bar whose successor lies in a later period; at the start of periods
    (``:start``), one whose predecessor lies in an earlier period, and the first bar of the data.
    The last bar is never one. Days are sessions (see :func:`.session_days`) on the wall clock of
    the index; weeks are ISO weeks (from Monday on) unless they end on another day.

    Multiples of days, weeks and months are counted from 1970-01-01, so that periods are the same
    for other data, or for more data: ``2M`` ends with February, April, ... Periods of seconds,
    minutes and hours are counted from the first bar of each session, and end with the session at
    the latest; ``bars:5`` is counted from the first bar of the data.

    Parameters
    ----------
    index
        Timestamps of the bars, strictly increasing.
    rebalance
        The period: ``bar``, ``bars:5``, ``15min``, ``D``, ``W``, ``W-WED``, ``2W``, ``M``, ``Q``,
        ``Y``, ``M:start``, ...
    session_end
        When sessions end, ``HH:MM``; None is midnight.

    Returns
    -------
    ndarray of shape (n_decisions,)
        Increasing positions in ``index``; empty when the index lies within one period and
        decisions are made at the end of periods.

    Raises
    ------
    ValueError
        When ``rebalance`` is none of these.
    """
    try:
        rule = parse_rebalance(rebalance)
    except ValueError as error:
        raise ValueError(f"rebalance {error}, but got {rebalance!r}.") from None
    begins = _begins_period(index, rule, session_end)
    if rule.at_start:
        return np.flatnonzero(begins[:-1]).astype(np.int64)
    return np.flatnonzero(begins[1:]).astype(np.int64)


def _begins_period(index: pd.DatetimeIndex, rule: Rebalance, session_end: str | None) -> BoolArray:
    """Return whether each bar is the first one of its period in the data, shape (n_bars,)."""
    n_bars = len(index)
    if rule.unit == "bars":
        return np.asarray(np.arange(n_bars) % rule.n == 0, dtype=np.bool_)
    if rule.unit == "s":
        first = begins_session(index, session_end)
        starts = np.flatnonzero(first)
        since = index.asi8 - np.repeat(index.asi8[starts], np.diff(starts, append=n_bars))
        period = since // (rule.n * ticks_per_second(index))
        return first | _changes(period)
    period = session_days(index, session_end)
    if rule.unit == "W":
        begins_on = (rule.last_weekday + 1) % 7
        period = (period + _MONDAY_OF_DAY_0 - begins_on) // 7
    elif rule.unit == "M":
        period = period.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return _changes(period // rule.n)


def _changes(period: IntArray) -> BoolArray:
    return np.asarray(np.r_[True, period[1:] != period[:-1]][: len(period)], dtype=np.bool_)


_DAYS_OF_UNIT = {"D": 1.0, "W": 7.0, "M": 365.0 / 12}


def unreachable_period(rebalance: str, found: Frequency) -> str | None:
    """Return why a rebalance period cannot be met with these bars, None where it can.

    Parameters
    ----------
    rebalance
        A period, as :func:`decision_bars` takes it.
    found
        The frequency of the bars.
    """
    rule = parse_rebalance(rebalance)
    if rule.unit != "s" or rule.n >= freq_seconds(found.freq):
        return None
    return f"is shorter than the bars of the data ({found.freq}); rebalance=bar decides on each"


def idle_text(
    index: pd.DatetimeIndex,
    decisions: IntArray,
    rebalance: str,
    *,
    first_bar: int = 0,
    execution_lag: int = 1,
) -> str | None:
    """Return why a run never trades: no decision among its bars, or none that is executed.

    Parameters
    ----------
    index
        Timestamps of the bars.
    decisions
        Decision bars of the whole index.
    rebalance
        The period that they come from.
    first_bar
        The first measured bar.
    execution_lag
        Bars from a decision to its execution.

    Returns
    -------
    str
        One line that names ``rebalance``, the measured bars and the periods in the data; None where
        the run trades.
    """
    measured = decisions[np.searchsorted(decisions, first_bar) :]
    if len(measured) and measured[0] + execution_lag < len(index):
        return None
    at_start = parse_rebalance(rebalance).at_start
    n_periods = len(decisions) + (not at_start)
    span = f"{index[first_bar].date()} to {index[-1].date()}"
    why = f"no period {'begins' if at_start else 'ends'} on them before the last one"
    if len(measured):
        why = f"the first decision is due after the last one (execution_lag={execution_lag})"
    return (
        f"rebalance={rebalance} never trades on the {len(index) - first_bar:,} measured bars "
        f"({span}): {why}. The whole data has {n_periods:,} such period{'s' * (n_periods != 1)}; a "
        "shorter one, or an earlier start_date, makes decisions"
    )


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
