"""The days of a market: when they end, and which of them a bar belongs to."""

import re

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, IntArray

SECONDS_A_DAY = 86_400
_TICKS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::00)?")
_MINUTES_A_DAY = 1_440


def ticks_per_second(index: pd.DatetimeIndex) -> int:
    """Return how many units of the index make a second."""
    return _TICKS_PER_SECOND[index.unit]


def ticks_per_day(index: pd.DatetimeIndex) -> float:
    """Return how many units of the index make a day."""
    return float(ticks_per_second(index) * SECONDS_A_DAY)


def session_end_text(value: str | int | None) -> str | None:
    """Return the time at which sessions end as ``HH:MM``; None for midnight.

    Parameters
    ----------
    value
        ``17:00``, or minutes since midnight: YAML reads 17:00 without quotes as 1020.

    Raises
    ------
    ValueError
        When it is not a time of day.
    """
    if value is None:
        return None
    minutes = -1
    if isinstance(value, int):
        minutes = value
    elif found := _TIME.fullmatch(value.strip()):
        hour, minute = int(found[1]), int(found[2])
        minutes = hour * 60 + minute if minute < 60 else -1
    if not 0 <= minutes <= _MINUTES_A_DAY:
        raise ValueError(
            f"`session_end` must be a time such as 17:00, but got session_end={value}."
        )
    minutes %= _MINUTES_A_DAY
    return None if minutes == 0 else f"{minutes // 60:02d}:{minutes % 60:02d}"


def session_days(index: pd.DatetimeIndex, session_end: str | None = None) -> IntArray:
    """Return the day of the session that each bar belongs to, in days since 1970-01-01.

    A session ends at ``session_end`` on the wall clock of the index, and a bar stamped with exactly
    that time begins the next one, as a bar at midnight begins a day. A session has the date on
    which it ends: with 17:00, Sunday evening is part of Monday.

    Parameters
    ----------
    index
        Timestamps of the bars, increasing.
    session_end
        ``HH:MM``; None is midnight.

    Returns
    -------
    ndarray of shape (n_bars,)
        Not decreasing, also where clocks are put back across the end of a session.
    """
    ticks = index.tz_localize(None).asi8
    text = session_end_text(session_end)
    if text is not None:
        hours, minutes = text.split(":")
        into_day = int(hours) * 3_600 + int(minutes) * 60
        ticks = ticks + (SECONDS_A_DAY - into_day) * ticks_per_second(index)
    days = ticks // (SECONDS_A_DAY * ticks_per_second(index))
    return np.maximum.accumulate(days) if len(days) else days


def begins_session(index: pd.DatetimeIndex, session_end: str | None = None) -> BoolArray:
    """Return whether each bar is the first one of its session in the data, shape (n_bars,)."""
    return _begins(session_days(index, session_end))


def session_starts(days: IntArray) -> IntArray:
    """Return the position of the first bar of each session, given what :func:`session_days` did."""
    return np.flatnonzero(_begins(days))


def _begins(days: IntArray) -> BoolArray:
    return np.asarray(np.r_[True, days[1:] != days[:-1]][: len(days)], dtype=np.bool_)
