"""Which rows of a series belong to which bars, where the two are dated differently.

One row a week, month, quarter or year may be dated on the first day of it (``2020-01-01``, as
``202001`` and ``2020Q1`` are read), on its last trading day or on its last day of all. Rows and
bars of such a length are matched by period; days are matched by date, and shorter bars by time.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, IntArray
from backtest_batch.core.data.clocks import instants_of

_FEWEST = 3
"""Fewer timestamps do not show how long the time between them is."""
_MONTH_ENDS = 7
"""Days before the end of a month on which its last session may be."""
_WEEK_ENDS = 4
"""Days before the end of a week on which its last session may be."""
_MOST = 0.9
_SAME_WEEKDAY = 0.7
_THURSDAY, _DAYS_A_WEEK, _MOST_WEEKS = 3, 7, 2
_DAY = 86_400 * 10**9


@dataclass(frozen=True, kw_only=True, eq=False)
class Matching:
    """The rows of a series on bars.

    Attributes
    ----------
    last
        The last row up to each bar, -1 for none, shape (n_bars,).
    is_beyond
        Which bars lie after all rows, shape (n_bars,).
    before
        The last row before the first bar, -1 for none.
    note
        What is to be said where the dates alone would have given other rows; else empty.
    """

    last: IntArray
    is_beyond: BoolArray
    before: int
    note: str = ""

    def counts(self, *, opens: bool = False) -> IntArray:
        """Return how many rows lie after the previous bar and up to each, shape (n_bars,).

        Parameters
        ----------
        opens
            Whether the first bar has only rows of its own, rather than all up to it.
        """
        return np.diff(self.last, prepend=self.before if opens else -1)


def matched(rows: pd.DatetimeIndex, bars: pd.DatetimeIndex, place: str) -> Matching:
    """Return which rows belong to which bars.

    Parameters
    ----------
    rows
        Timestamps of the rows, increasing.
    bars
        Timestamps of the bars, increasing.
    place
        Name of the series in messages.

    Raises
    ------
    DataError
        When bars go through an hour twice, and it is unclear which one the rows mean.
    """
    if not (_are_days(rows) and _are_days(bars)):
        row_keys, bar_keys = _instants(rows, bars, place)
        return _found(row_keys, bar_keys)
    row_days, bar_days = _dates(rows, bars)
    by_date = _found(row_days.asi8, bar_days.asi8)
    for unit, sides in (
        ("month", (_months(row_days), _months(bar_days))),
        ("week", (_weeks(row_days), _weeks(bar_days))),
    ):
        keys = _period_keys(*sides)
        if keys is not None:
            found = _not_yet_over(_found(*keys), by_date, row_days, bar_days, unit)
            return _with_note(found, by_date, row_days, bar_days, unit, place)
    return by_date


def _found(rows: IntArray, bars: IntArray, note: str = "") -> Matching:
    last = np.searchsorted(rows, bars, side="right").astype(np.int64) - 1
    before = int(np.searchsorted(rows, bars[0], side="left")) - 1
    return Matching(last=last, is_beyond=np.asarray(bars > rows[-1]), before=before, note=note)


def _are_days(index: pd.DatetimeIndex) -> bool:
    return bool(index.tz_localize(None).normalize().is_unique)


def _instants(
    rows: pd.DatetimeIndex, bars: pd.DatetimeIndex, place: str
) -> tuple[IntArray, IntArray]:
    """Return comparable times: instants if both have a zone, and else times on the wall clock."""
    if rows.tz is not None and bars.tz is not None:
        return _nanoseconds(rows.tz_convert("UTC")), _nanoseconds(bars.tz_convert("UTC"))
    walls = _nanoseconds(bars)
    if rows.tz is None and (np.diff(walls) <= 0).any():
        return instants_of(rows, bars, place), _nanoseconds(bars.tz_convert("UTC"))
    # Rows of an hour that occurs twice never go back behind those before them.
    return np.maximum.accumulate(_nanoseconds(rows)), walls


def _nanoseconds(index: pd.DatetimeIndex) -> IntArray:
    return np.asarray(index.tz_localize(None).as_unit("ns").asi8)


def _dates(
    rows: pd.DatetimeIndex, bars: pd.DatetimeIndex
) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Return the dates of both; midnights are dates of their own zone, whatever the other's is."""
    both = rows.tz is not None and bars.tz is not None
    if both and not _are_midnights(rows) and not _are_midnights(bars):
        rows = rows.tz_convert(bars.tz)
    row_days, bar_days = (
        index.tz_localize(None).as_unit("ns").normalize() for index in (rows, bars)
    )
    return row_days, bar_days


def _are_midnights(index: pd.DatetimeIndex) -> bool:
    return bool((index == index.normalize()).all())


@dataclass(frozen=True, eq=False)
class _Side:
    """How rows or bars are dated.

    Attributes
    ----------
    ordinals
        The month or week of each, counted from any one.
    step
        How many it is from one to the next; 0 if several share one.
    dating
        Whether they stand at the start of a period, at its end, or elsewhere.
    """

    ordinals: IntArray
    step: int
    dating: Literal["start", "end", "within"]

    def ends(self) -> IntArray:
        """Return the month or week in which the period of each ends."""
        return self.ordinals + (self.step - 1 if self.dating == "start" else 0)


def _months(days: pd.DatetimeIndex) -> _Side:
    ordinals = np.asarray(days.year * 12 + days.month, dtype=np.int64)
    # The last one may be that of a month that is not over.
    body = days[:-1]
    if not _are_apart(ordinals):
        return _Side(ordinals, 0, "within")
    step = int(np.median(np.diff(ordinals)))
    if (body.day == 1).all():
        return _Side(ordinals, step, "start")
    ends = np.mean(body.days_in_month - body.day <= _MONTH_ENDS) >= _MOST
    return _Side(ordinals, step, "end" if ends else "within")


def _weeks(days: pd.DatetimeIndex) -> _Side:
    # 1970 began on a Thursday, and weeks begin on Mondays.
    ordinals = np.asarray((days.asi8 // _DAY + _THURSDAY) // _DAYS_A_WEEK, dtype=np.int64)
    if not _are_apart(ordinals):
        return _Side(ordinals, 0, "within")
    step = int(np.median(np.diff(ordinals)))
    weekdays = np.asarray(days[:-1].day_of_week)
    if step > _MOST_WEEKS:
        return _Side(ordinals, 0, "within")
    if (weekdays == 0).all():
        return _Side(ordinals, step, "start")
    counts = np.bincount(weekdays)
    usual = int(counts.argmax())
    ends = usual >= _THURSDAY and counts[usual] >= _SAME_WEEKDAY * len(weekdays)
    return _Side(ordinals, step, "end" if ends else "within")


def _are_apart(ordinals: IntArray) -> bool:
    return len(ordinals) >= _FEWEST and bool((np.diff(ordinals) > 0).all())


def _period_keys(rows: _Side, bars: _Side) -> tuple[IntArray, IntArray] | None:
    """Return numbers of periods by which rows and bars are matched; None if they are not."""
    if not bars.step:
        return None
    if rows.dating == "start" and rows.step == bars.step:
        from_first = rows.ordinals - rows.ordinals[0]
        if (from_first % rows.step).any():
            return None
        return from_first // rows.step, (bars.ordinals - rows.ordinals[0]) // rows.step
    if rows.dating == "end" or 0 < rows.step < bars.step:
        dated = rows.dating != "within" and bars.dating != "within"
        return (rows.ends(), bars.ends()) if dated else None
    return (rows.ordinals, bars.ends()) if not rows.step and bars.dating == "start" else None


def _not_yet_over(
    found: Matching,
    by_date: Matching,
    rows: pd.DatetimeIndex,
    bars: pd.DatetimeIndex,
    unit: str,
) -> Matching:
    """Return the rows, but for a last bar within its period none that was known only later.

    The last row of all may be dated at the end of a period that is not over, as the bar is.
    """
    row, last = int(found.last[-1]), bars[-1]
    is_start = last.day == 1 if unit == "month" else last.day_of_week == 0
    most = _MONTH_ENDS if unit == "month" else _WEEK_ENDS
    if row < 0 or row == len(rows) - 1 or is_start or (rows[row] - last).days <= most:
        return found
    rows_of_bars = found.last.copy()
    rows_of_bars[-1] = by_date.last[-1]
    return Matching(last=rows_of_bars, is_beyond=found.is_beyond, before=found.before)


def _with_note(
    found: Matching,
    by_date: Matching,
    rows: pd.DatetimeIndex,
    bars: pd.DatetimeIndex,
    unit: str,
    place: str,
) -> Matching:
    other = np.flatnonzero((found.last != by_date.last) & (found.last >= 0) & ~found.is_beyond)
    if not len(other):
        return found
    bar = int(other[0])
    row = rows[int(found.last[bar])]
    note = (
        f"{place}: its rows and the bars are matched by {unit}: the row of {row:%Y-%m-%d} belongs "
        f"to the bar of {bars[bar]:%Y-%m-%d} ({len(other):,} of {len(bars):,} bars; by date they "
        "would have other rows)"
    )
    return Matching(last=found.last, is_beyond=found.is_beyond, before=found.before, note=note)
