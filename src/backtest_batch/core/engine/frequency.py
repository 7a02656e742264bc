"""The length of bars and their number per year, as declared or as found from the timestamps.

What is found depends on sessions and not on the time from the first to the last bar: holidays, gaps
in the data, half days and days that are cut off at the ends change nothing.
"""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from backtest_batch.arrays import IntArray
from backtest_batch.config.rebalance import seconds_text
from backtest_batch.core.engine.sessions import (
    SECONDS_A_DAY,
    session_days,
    session_starts,
    ticks_per_day,
    ticks_per_second,
)
from backtest_batch.core.engine.spacing import (
    LARGEST_DISAGREEMENT,
    SESSIONS_PER_YEAR,
    sessions_a_year,
    spacing_of,
    weekday_parts,
)

AUTO = "auto"
"""Given as the length of bars where it is to be found from their timestamps."""

USUAL_FREQ = "1d"
"""The length of bars where none is given."""

ASSUMED = {USUAL_FREQ: float(SESSIONS_PER_YEAR), "5min": float(SESSIONS_PER_YEAR * 78)}
"""Bars per year by length of bars, where no number is recorded: those of a stock exchange."""

_DAYS_PER_YEAR = 365.25
_SECONDS_OF = {"s": 1, "min": 60, "h": 3_600}
_MONTH_DAYS = _DAYS_PER_YEAR / 12
_ENOUGH = 0.85
"""Share of the usual bars, or days, that data with gaps must have for the usual number to hold."""
_RAGGED = 0.02
"""If a larger share of bars lies beyond the usual number a session, they are counted."""
_OUTSIDE = 0.1
"""If a larger share of bars lies at times of day that most sessions lack, they are counted."""
_AROUND = 0.95
"""Share of the day that the longest session fills where the market is open round the clock."""
_FEWEST_SESSIONS = 5
"""Fewer sessions have no mean."""
_STRAY = 0.1
"""A smaller share of days with several bars is a fault in daily data, and not intraday data."""
_SHORTEST_SAID_DAYS = 14

_FREQ = re.compile(r"(\d*)(mo|min|s|h|d|w)")
_MEANT = {
    **dict.fromkeys(("m", "t", "minute", "minutely", "minutes"), "min"),
    **dict.fromkeys(("hour", "hourly", "hours", "hr"), "h"),
    **dict.fromkeys(("day", "daily", "days", "b"), "d"),
    **dict.fromkeys(("week", "weekly", "weeks", "wk"), "w"),
    **dict.fromkeys(("month", "monthly", "months", "me", "ms", "bme"), "mo"),
}


@cache
def freq_text(text: str) -> str:
    """Return the length of a bar in its one spelling: ``5min``, ``1h``, ``1d``, ``1mo``, ``auto``.

    Raises
    ------
    ValueError
        When it is not a length; the message says what is allowed, and what may have been meant.
    """
    given = text.strip()
    if given == AUTO:
        return AUTO
    found = _FREQ.fullmatch(given if given.endswith("M") else given.lower())
    if found is None or found[1].startswith("0"):
        raise ValueError(
            f"`freq` must be {AUTO} or a length such as 1min, 5min, 1h, 1d, 1w or 1mo"
            f"{_hint(given)}, but got freq={text}."
        )
    n, unit = int(found[1] or "1"), found[2]
    if unit in _SECONDS_OF and (n * _SECONDS_OF[unit]) % SECONDS_A_DAY:
        return seconds_text(n * _SECONDS_OF[unit])
    if unit in _SECONDS_OF:
        n, unit = n * _SECONDS_OF[unit] // SECONDS_A_DAY, "d"
    if unit == "d" and n % 7 == 0:
        n, unit = n // 7, "w"
    return f"{n}{unit}"


def _hint(text: str) -> str:
    parts = re.fullmatch(r"(\d*)\s*(.*)", text, re.DOTALL)
    assert parts is not None
    count = parts[1] or "1"
    if parts[2] == "m":
        return f" (did you mean {count}min or {count}mo?)"
    if parts[2] == "M":
        return f" (did you mean {count}mo?)"
    meant = _MEANT.get(parts[2].lower())
    return "" if meant is None else f" (did you mean {count}{meant}?)"


def freq_seconds(freq: str) -> float:
    """Return the length of a bar in seconds; a month is a twelfth of 365.25 days."""
    found = _FREQ.fullmatch(freq)
    assert found is not None
    days = {"d": 1.0, "w": 7.0, "mo": _MONTH_DAYS}
    n, unit = int(found[1]), found[2]
    return n * (_SECONDS_OF[unit] if unit in _SECONDS_OF else days[unit] * SECONDS_A_DAY)


@dataclass(frozen=True, kw_only=True)
class Frequency:
    """What the timestamps of bars say about their length.

    Attributes
    ----------
    freq
        The length of most bars.
    per_year
        Bars per year; None where there are fewer than two bars.
    how
        How this number was found, in words.
    n_crowded, n_sessions
        Number of sessions with several bars, and of all sessions.
    crowded_day
        The first session with several bars, in days since 1970.
    """

    freq: str
    per_year: float | None
    how: str
    n_crowded: int
    n_sessions: int
    crowded_day: int | None

    @property
    def is_intraday(self) -> bool:
        """Whether a usual session has several bars."""
        return freq_seconds(self.freq) < SECONDS_A_DAY

    @property
    def has_strays(self) -> bool:
        """Whether a few days of daily data have several bars."""
        return 0 < self.n_crowded < _STRAY * self.n_sessions


def find_frequency(index: pd.DatetimeIndex, session_end: str | None = None) -> Frequency:
    """Return how long the bars of an index are, and how many there are per year.

    Bars per year are 252 for a market that is open on five days of the week, 365 for one that never
    closes, 52 for weeks, 12 for months, 4 for quarters, 1 for years. For bars within sessions they
    are the bars of a usual session times the sessions per year, 252 or 365. Where the number of
    bars differs from session to session, a time of day belongs to the session when at least half of
    the sessions that are open then have a bar; so a few missing bars change nothing, and a break at
    noon is not part of the session. A session of a few bars counts as a part of one, so that Sunday
    evening and Friday make one day. Where more than 15 % of the bars, or of the sessions, are
    missing, those that are there are counted instead.

    Parameters
    ----------
    index
        Timestamps of the bars, strictly increasing.
    session_end
        When sessions end, ``HH:MM``; None is midnight.
    """
    days = session_days(index, session_end)
    starts = session_starts(days)
    counts = np.diff(starts, append=len(days))
    crowded = np.flatnonzero(counts > 1)
    freq, per_year, how = USUAL_FREQ, None, ""
    if len(index) < 2:
        pass
    elif len(crowded) <= len(starts) / 2:
        freq, per_year, how = spacing_of(days[starts])
        if len(index) - len(starts) > _RAGGED * len(index):
            mean = float(f"{len(index) / len(starts):.4g}")
            per_year, how = per_year * mean, f"{mean:g} bars a session on average, {how}"
        if len(crowded) >= _STRAY * len(starts):
            freq = _length_within(index, starts)
    else:
        freq, per_year, how = _of_sessions(index, days, starts, counts)
    return Frequency(
        freq=freq,
        per_year=per_year,
        how=how,
        n_crowded=len(crowded),
        n_sessions=len(starts),
        crowded_day=int(days[starts[crowded[0]]]) if len(crowded) else None,
    )


def periods_per_year_from(index: pd.DatetimeIndex, session_end: str | None = None) -> float | None:
    """Return the bars per year by which results on this index are annualised.

    See :func:`find_frequency`; None where there are fewer than two bars.
    """
    return find_frequency(index, session_end).per_year


def _of_sessions(
    index: pd.DatetimeIndex, days: IntArray, starts: IntArray, counts: IntArray
) -> tuple[str, float, str]:
    """Return length, bars per year and how they were found, for bars within sessions."""
    whole = slice(1, -1) if len(counts) > 2 else slice(None)
    usual = float(np.median(counts[whole]))
    bars, told = usual, f"{usual:g} bars a session"
    outside = 0.0
    if np.mean(counts[whole] == usual) < 0.5:  # bars are missing here and there
        slots, outside = _slots_a_session(index, days, starts)
        if usual <= slots and usual >= _ENOUGH * slots:
            bars, told = slots, f"{slots:g} bars a session"
    held_days, held = days[starts][whole], counts[whole]
    fill = np.minimum(1.0, held / usual)
    # A Sunday evening and the next day are one session.
    is_whole = weekday_parts(held_days, fill)[(held_days + 3) % 7] >= 0.5
    mean = float(f"{held.sum() / max(is_whole.sum(), 1):.4g}")
    beyond = np.maximum(held - bars, 0.0).sum() / held.sum()
    ragged = beyond > _RAGGED or mean < _ENOUGH * bars or outside > _OUTSIDE
    if ragged and len(held) >= _FEWEST_SESSIONS:
        bars, told, fill = mean, f"{mean:g} bars a session on average", is_whole * 1.0
    freq = _length_within(index, starts)
    fills_a_day = bool(counts.max() * freq_seconds(freq) >= _AROUND * SECONDS_A_DAY)
    open_days, sessions = sessions_a_year(held_days, fill, round_the_clock=fills_a_day)
    if open_days == 7:
        how = f"{told} x {sessions:g} days: the market never closes"
    else:
        how = f"{told} x {sessions:g} sessions"
    return freq, float(f"{bars * sessions:.10g}"), how


def _length_within(index: pd.DatetimeIndex, starts: IntArray) -> str:
    """Return the most frequent time between bars of a session; the median where few are equal."""
    steps = np.diff(index.asi8)
    within = np.ones(len(steps), dtype=np.bool_)
    within[starts[1:] - 1] = False
    lengths, times = np.unique(steps[within], return_counts=True)
    ticks = float(lengths[times.argmax()])
    if times.max() < 0.2 * times.sum():
        ticks = float(np.median(steps[within]))
    return seconds_text(max(1, round(ticks / ticks_per_second(index))))


def _slots_a_session(
    index: pd.DatetimeIndex, days: IntArray, starts: IntArray
) -> tuple[float, float]:
    """Return the median number of times of day in a session, missing bars included.

    The second number is the share of bars at times that belong to no session.
    """
    # Time since midnight of the day on which the session ends; the evening before is negative.
    times = index.tz_localize(None).asi8 - days * int(ticks_per_day(index))
    known, slot = np.unique(times, return_inverse=True)
    ends = np.r_[starts[1:], len(index)] - 1
    first, last = slot[starts], slot[ends]
    later = first <= last  # clocks that are put back end a session before it began
    change = np.zeros(len(known) + 1)
    np.add.at(change, first[later], 1)
    np.add.at(change, last[later] + 1, -1)
    open_then = np.cumsum(change)[:-1]
    seen = np.bincount(slot, minlength=len(known))
    belongs = seen >= 0.5 * open_then
    before = np.r_[0, np.cumsum(belongs)]
    slots = before[last[later] + 1] - before[first[later]]
    whole = slice(1, -1) if len(slots) > 2 else slice(None)
    outside = float(seen[~belongs].sum() / len(index))
    return float(np.median(slots[whole])) if len(slots) else 0.0, outside


def found_text(found: Frequency) -> str:
    """Return how many bars per year were found, and how, in one line."""
    return (
        f"periods_per_year={found.per_year:,g} is taken from the index ({found.how}); volatility, "
        "sharpe, cagr and all else that is annualised depend on it"
    )


def periods_per_year_of(freq: str) -> float:
    """Return the bars per year of a stock exchange.

    Parameters
    ----------
    freq
        ``1d`` (252) or ``5min`` (252 sessions of 78 bars).

    Raises
    ------
    ValueError
        When ``freq`` is another length, whose bars per year are found from the timestamps.
    """
    if freq not in ASSUMED:
        raise ValueError(f"freq must be one of {', '.join(ASSUMED)}, but got {freq!r}.")
    return ASSUMED[freq]


def disagreement(
    index: pd.DatetimeIndex, periods_per_year: float, session_end: str | None = None
) -> str | None:
    """Return a sentence if the bars per year of an index differ from the assumed ones, else None.

    For less than two weeks of data the result is None.
    """
    if len(index) < 2 or index[-1] - index[0] < pd.Timedelta(days=_SHORTEST_SAID_DAYS):
        return None
    found = find_frequency(index, session_end)
    if found.per_year is None or _agree(found.per_year, periods_per_year):
        return None
    return (
        f"the data has about {found.per_year:,.0f} bars a year, but periods_per_year is "
        f"{periods_per_year:,g}: volatility, sharpe, cagr and all else that is annualised "
        f"assumes the latter; periods_per_year={found.per_year:.0f} would fit"
    )


def _agree(found: float, assumed: float) -> bool:
    return abs(found / assumed - 1.0) <= LARGEST_DISAGREEMENT


def name_of_bars(periods_per_year: float) -> str:
    """Return the name of bars with this number per year, such as ``daily``; empty without one."""
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
