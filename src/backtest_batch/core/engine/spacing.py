"""How far apart the sessions with bars are, and how many there are per year.

A market that is open on five days of the week has 252 sessions, one that never closes 365; weeks
are 52 a year and months 12. A bar every second session therefore makes 126, every third day of a
market that never closes 121.7, and bars on Tuesdays and Thursdays 104. Bars that follow no such
pattern are counted.
"""

import numpy as np

from backtest_batch.arrays import BoolArray, FloatArray, IntArray

SESSIONS_PER_YEAR = 252
"""Trading days per year of a stock exchange."""

LARGEST_DISAGREEMENT = 0.05
"""Fraction by which an index's bars per year may differ from an assumed number without a notice."""

COUNTED = "as many as are counted"
"""How the number was found where there is no pattern."""

_DAYS_PER_YEAR = 365.25
_CALENDAR_DAYS = 365.0
_WEEKS_PER_YEAR = 52.0
_MONTHS_PER_YEAR = 12.0
_WEEKEND = 5
"""Days of the week from this one on (Monday is 0)."""
_OPEN_DAYS = {5: float(SESSIONS_PER_YEAR), 7: _CALENDAR_DAYS}
"""Sessions per year of markets that are open on this many days of the week."""
_LONGEST_HOLIDAYS_DAYS = 10
"""A longer time between bars is a gap in the data, and is not counted."""
_FEW_GAPS, _FEW_OF_STEPS = 3, 0.05
"""More of them, and a larger share of all steps, are no gaps."""
_SHORTEST_SPAN_DAYS = 90
"""Over a shorter span, days that are missing are holidays rather than days without trading."""
_SHORTEST_SPARSE_DAYS = 28
"""Over this span already, where not much more than half of the days are there."""
_FEWEST_WEEKS = 4
"""If a weekday is missing for this many weeks, the market is closed on it."""
_ENOUGH = 0.85
"""Share of the usual bars, or days, that data with gaps must have for the usual number to hold."""
_SPARSE = 0.6
_WHOLE = 0.75
"""Share of a session that Friday's does not reach on Saturday, however far east the clock is."""
_FEWEST_STEPS = 4
"""Months of one length follow each other: fewer equal steps do not tell days from months."""
_MOST = 0.8
"""Share of steps that must be alike for a pattern."""
_SAME_DAY = 0.8
"""Mean resultant length of the days of the month: 1 on one day, 0 on all alike."""
_TIMES_USUAL = 20
"""A step this many times the median is a gap, however irregular the bars are."""


def spacing_of(days: IntArray) -> tuple[str, float, str]:
    """Return length, bars per year and how they were found, for at most one bar per session.

    Parameters
    ----------
    days
        Days of the sessions since 1970-01-01, increasing; at least two.
    """
    open_steps = days_apart(days)
    if float(np.median(open_steps)) < 1.5:
        open_days, sessions = sessions_a_year(days, np.ones(len(days)))
        return "1d", sessions, _days_text(open_days) if open_days else COUNTED
    steps = np.diff(days)
    found = _equal_steps(days) or _months(days) or _weeks(steps)
    found = found or _every_few_sessions(steps, open_steps) or weekly_pattern(days)
    if found is not None:
        return found
    kept = steps[steps <= _TIMES_USUAL * np.median(steps)]
    per_year = float(f"{_DAYS_PER_YEAR / np.mean(kept):.4g}")
    return _length_text(steps), per_year, COUNTED


def _length_text(steps: IntArray) -> str:
    """Return the median step as a length; seven days are a week."""
    days = round(float(np.median(steps)))
    return f"{days}d" if days % 7 else f"{days // 7}w"


def days_apart(days: IntArray) -> IntArray:
    """Return the days between bars, without weekends if no bar lies on a weekend."""
    if _on_weekends(days):
        return np.diff(days)
    dates = days.astype("datetime64[D]")
    return np.busday_count(dates[:-1], dates[1:])


def _on_weekends(days: IntArray) -> bool:
    return bool(((days + 3) % 7 >= _WEEKEND).any())


def _usual(steps: IntArray) -> tuple[int, float]:
    """Return the most frequent step, and its share."""
    lengths, times = np.unique(steps, return_counts=True)
    return int(lengths[times.argmax()]), float(times.max() / times.sum())


def _without_gaps(steps: IntArray, usual: int) -> float:
    """Return the mean of the steps in which no bar is missing."""
    return float(np.mean(steps[steps <= 1.75 * usual]))


def _equal_steps(days: IntArray) -> tuple[str, float, str] | None:
    """Find bars that are equally many days apart: weeks, or days of a market that never closes."""
    steps = np.diff(days)
    usual, share = _usual(steps)
    if share < _MOST or abs(_without_gaps(steps, usual) / usual - 1.0) > 0.02:
        return None
    if usual % 7 == 0:
        return _in_weeks(usual // 7)
    if len(steps) < _FEWEST_STEPS or not _on_weekends(days):
        return None
    per_year = float(f"{_CALENDAR_DAYS / usual:.4g}")
    return f"{usual}d", per_year, f"a bar every {usual} days, weekends among them: 365 / {usual}"


def _in_weeks(n: int) -> tuple[str, float, str]:
    return f"{n}w", float(f"{_WEEKS_PER_YEAR / n:.4g}"), f"bars of {n}w"


def _months(days: IntArray) -> tuple[str, float, str] | None:
    """Find bars on the same part of each month, of each third one, ..., or two or three a month."""
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    number = months.astype(np.int64)
    usual, share = _usual(np.diff(number))
    first = months.astype("datetime64[D]").astype(np.int64)
    length = (months + 1).astype("datetime64[D]").astype(np.int64) - first
    part = np.abs(np.mean(np.exp(2j * np.pi * (days - first + 1) / length)))
    if usual >= 1 and share >= _MOST and part >= _SAME_DAY:
        return f"{usual}mo", float(f"{_MONTHS_PER_YEAR / usual:.4g}"), f"bars of {usual}mo"
    a_month = np.bincount(number - number[0])[1:-1]
    if len(a_month) >= _FEWEST_STEPS:
        n, share = _usual(a_month)
        if n in (2, 3) and share >= 0.95:
            return f"{30 // n}d", _MONTHS_PER_YEAR * n, f"{n} bars a month x 12 months"
    return None


def _weeks(steps: IntArray) -> tuple[str, float, str] | None:
    """Find bars of weeks, some of which holidays moved to another day."""
    usual, share = _usual(steps)
    if usual % 7 or share < 0.5 or abs(_without_gaps(steps, usual) / usual - 1.0) > 0.02:
        return None
    return _in_weeks(usual // 7)


def _every_few_sessions(steps: IntArray, open_steps: IntArray) -> tuple[str, float, str] | None:
    """Find a bar every second, third, ... session of a market open on five days of the week."""
    usual, share = _usual(open_steps)
    per_year = float(f"{SESSIONS_PER_YEAR / usual:.4g}")
    if share < _MOST or not _near(per_year, steps, open_steps, usual):
        return None
    how = f"a bar every {usual} sessions of a market open on 5 days a week: 252 / {usual}"
    return f"{usual}d" if usual < _WEEKEND else _length_text(steps), per_year, how


def _near(per_year: float, steps: IntArray, open_steps: IntArray, usual: int) -> bool:
    """Return whether as many bars are counted, outside gaps."""
    counted = _DAYS_PER_YEAR / float(np.mean(steps[open_steps <= 1.75 * usual]))
    return abs(counted / per_year - 1.0) <= LARGEST_DISAGREEMENT


def weekly_pattern(days: IntArray) -> tuple[str, float, str] | None:
    """Find bars on some days of each week, such as Tuesdays and Thursdays.

    Parameters
    ----------
    days
        Days of the sessions since 1970-01-01, increasing.

    Returns
    -------
    tuple
        As of :func:`spacing_of`; None where bars follow no such pattern.
    """
    if days[-1] - days[0] > 7 * len(days):
        return None
    _, shares = _held_of_possible(days)
    on = shares >= _MOST
    n = int(on.sum())
    if n == 0 or (shares[~on] > 1 - _MOST).any():
        return None
    n_days = int((~_in_gaps(days)).sum())
    counted = _DAYS_PER_YEAR * len(days) / _in_whole_weeks(n_days)
    per_year = _on_days_of_week(n, counted)
    if abs(counted / per_year - 1.0) > LARGEST_DISAGREEMENT and len(days) > _FEWEST_WEEKS * n:
        return None
    return f"{round(7 / n)}d", per_year, f"bars on {n} days of the week x {per_year / n:g}"


def _in_whole_weeks(n_days: int) -> int:
    """Return a number of days with those of the weeks that the data cut off at the ends."""
    return 7 * -(-n_days // 7)


def _on_days_of_week(n: int, counted: float) -> float:
    """Return the sessions per year on n days of the week, about as many as are counted.

    Sessions on holidays are moved to another day, which makes 52 of a weekday, or there are none,
    which makes a fifth of 252.
    """
    if n in _OPEN_DAYS:
        return _OPEN_DAYS[n]
    of_weekday = min(_WEEKS_PER_YEAR, SESSIONS_PER_YEAR / 5, key=lambda x: abs(counted - n * x))
    return float(f"{n * of_weekday:.4g}")


def _held_of_possible(days: IntArray) -> tuple[IntArray, FloatArray]:
    """Return how often each day of the week was possible, and the share that has a bar."""
    first, last = int(days[0]), int(days[-1])
    weekday = (np.arange(first, last + 1) + 3) % 7
    possible = np.bincount(weekday[~_in_gaps(days)], minlength=7)
    held = np.bincount((days + 3) % 7, minlength=7)
    return possible, held / np.maximum(possible, 1)


def sessions_a_year(
    days: IntArray, fill: FloatArray, *, round_the_clock: bool = False
) -> tuple[int, float]:
    """Return on how many days of the week the market is open, and its sessions per year.

    Parameters
    ----------
    days
        Days of the sessions, increasing.
    fill
        How much of a usual session each of them has, as a fraction.
    round_the_clock
        Whether the bars of a session fill the day. If one at a weekend is whole, the market never
        closes, and days that are missing in less than four weeks are an outage.

    Returns
    -------
    tuple
        The days are 0 where sessions follow no weekly pattern; sessions per year are then counted.
    """
    parts = weekday_parts(days, fill)
    if round_the_clock and (fill[(days + 3) % 7 >= _WEEKEND] >= _WHOLE).any():
        parts[_held_of_possible(days)[0] < _FEWEST_WEEKS] = 1.0
    open_days = round(float(parts.sum()))
    n_days = int((~_in_gaps(days)).sum())
    found = float(fill.sum()) / n_days * _DAYS_PER_YEAR
    usual = _on_days_of_week(open_days, found * n_days / _in_whole_weeks(n_days))
    # The weekends around the first and the last session are not counted.
    more = found * n_days / (n_days + 7) > (1 + LARGEST_DISAGREEMENT) * usual
    if (
        open_days == 0
        or (n_days >= _SHORTEST_SPAN_DAYS and (more or found < _ENOUGH * usual))
        or (n_days >= _SHORTEST_SPARSE_DAYS and found < _SPARSE * usual)
    ):
        return 0, float(f"{found:.4g}")
    return open_days, usual


def weekday_parts(days: IntArray, fill: FloatArray) -> FloatArray:
    """Return the part of a usual session that each day of the week has, from Monday on.

    Parameters
    ----------
    days, fill
        As in :func:`sessions_a_year`.
    """
    possible, shares = _held_of_possible(days)
    parts = np.zeros(7)
    for day in range(7):
        if shares[day] >= 0.5:
            parts[day] = np.median(fill[(days + 3) % 7 == day])
        elif day < _WEEKEND and possible[day] < _FEWEST_WEEKS:
            parts[day] = 1.0  # holidays, or a day that the data do not reach
    for day, other in ((5, 6), (6, 5)):
        if possible[day] == 0:  # a market open on one day of the weekend is open on both
            parts[day] = round(parts[other])
    return parts


def _in_gaps(days: IntArray) -> BoolArray:
    """Return which days, from the first to the last one, lie in a long gap between two of them."""
    gaps = np.zeros(int(days[-1] - days[0]) + 1, dtype=np.bool_)
    steps = np.diff(days)
    longest = max(_LONGEST_HOLIDAYS_DAYS, 4 * np.median(steps)) if len(steps) else 0
    places = np.flatnonzero(steps > longest)
    if len(places) > max(_FEW_GAPS, _FEW_OF_STEPS * len(days)):
        return gaps  # what is so frequent is how far apart the bars are
    for place in places:
        gaps[days[place] - days[0] + 1 : days[place + 1] - days[0]] = True
    return gaps


def _days_text(open_days: int) -> str:
    if open_days == 7:
        return "a bar a day, and the market never closes"
    return f"a bar a day on {open_days} days a week"
