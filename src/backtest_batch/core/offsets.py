"""Calendar lengths such as ``3YE`` and ``6ME``: lengths of windows and grids of dates."""

import math
from typing import Any

import pandas as pd
from pandas.tseries.frequencies import to_offset

_MONTHS_OF = {
    pd.offsets.MonthEnd: 1,
    pd.offsets.MonthBegin: 1,
    pd.offsets.BMonthEnd: 1,
    pd.offsets.BMonthBegin: 1,
    pd.offsets.QuarterEnd: 3,
    pd.offsets.QuarterBegin: 3,
    pd.offsets.BQuarterEnd: 3,
    pd.offsets.BQuarterBegin: 3,
    pd.offsets.YearEnd: 12,
    pd.offsets.YearBegin: 12,
    pd.offsets.BYearEnd: 12,
    pd.offsets.BYearBegin: 12,
}

_MONTH_UNIT_OF = {
    pd.offsets.MonthEnd: pd.offsets.MonthEnd,
    pd.offsets.QuarterEnd: pd.offsets.MonthEnd,
    pd.offsets.YearEnd: pd.offsets.MonthEnd,
    pd.offsets.BMonthEnd: pd.offsets.BMonthEnd,
    pd.offsets.BQuarterEnd: pd.offsets.BMonthEnd,
    pd.offsets.BYearEnd: pd.offsets.BMonthEnd,
    pd.offsets.BMonthBegin: pd.offsets.BMonthBegin,
    pd.offsets.BQuarterBegin: pd.offsets.BMonthBegin,
    pd.offsets.BYearBegin: pd.offsets.BMonthBegin,
}
"""The unit that moves dates of a grid by single months; other dates move by calendar months."""

_SECONDS_PER_YEAR = 365.25 * 86_400.0


def parse_offset(text: str) -> pd.tseries.offsets.BaseOffset:
    """Return the pandas offset that a text names.

    Parameters
    ----------
    text
        A pandas offset alias with a count, such as ``3YE``, ``6ME``, ``26W`` or ``90D``.

    Raises
    ------
    ValueError
        When pandas knows no such offset, or its count is not positive; the message is one line.
    """
    try:
        offset = to_offset(text)
    except (ValueError, TypeError) as error:
        raise ValueError(_hint(text)) from error
    if offset.n <= 0:
        raise ValueError("its count must be > 0")
    return offset


def _hint(text: str) -> str:
    newer = {"M": "ME", "Q": "QE", "Y": "YE", "A": "YE"}
    unit = text.strip().lstrip("0123456789 ")
    if unit.upper() in newer:
        count = text.strip()[: -len(unit)]
        return f"did you mean {count}{newer[unit.upper()]}?"
    return f"pandas knows no offset '{text}'"


def months_of(offset: pd.tseries.offsets.BaseOffset) -> int | None:
    """Return the length of an offset in months, None when it is not a number of months."""
    months = _MONTHS_OF.get(type(offset))
    return None if months is None else months * int(offset.n)


def years_of(offset: pd.tseries.offsets.BaseOffset) -> float:
    """Return the nominal length of an offset in years.

    Months are twelfths of a year; other lengths are measured on the calendar, over enough
    repetitions for weekends and month lengths to even out.
    """
    months = months_of(offset)
    if months is not None:
        return months / 12
    start = pd.Timestamp("2001-01-01") + offset
    repetitions = 20
    end = start
    for _ in range(repetitions):
        end = end + offset
    return (end - start).total_seconds() / _SECONDS_PER_YEAR / repetitions


def grid(index: pd.DatetimeIndex, step: pd.tseries.offsets.BaseOffset) -> pd.DatetimeIndex:
    """Return the dates of an offset from the day of the first bar to the last bar.

    Parameters
    ----------
    index
        Timestamps of the bars without time zone.
    step
        Distance between the dates; ``6ME`` is every sixth month end, counted from the first one
        in the data.
    """
    return pd.date_range(index[0].normalize(), index[-1], freq=step)


def shift(
    dates: pd.DatetimeIndex,
    length: pd.tseries.offsets.BaseOffset,
    *,
    along: pd.tseries.offsets.BaseOffset | None = None,
    backwards: bool = False,
) -> pd.DatetimeIndex:
    """Return dates moved by the length that an offset stands for.

    ``3YE`` is a length of 36 months here, whatever the date: pandas itself would go back to the
    third year end before it, which from 31 July is two years and seven months.

    Parameters
    ----------
    dates
        What to move.
    length
        How far.
    along
        The offset of the grid that the dates lie on; month ends stay month ends.
    backwards
        Whether to move into the past.
    """
    sign = -1 if backwards else 1
    months = months_of(length)
    if months is None:
        step = length
    else:
        unit: Any = _MONTH_UNIT_OF.get(type(along)) if along is not None else None
        step = unit(months) if unit is not None else pd.DateOffset(months=months)
    # One by one: some offsets cannot be applied to a whole index at once, and pandas would warn.
    moved = [date + step if sign > 0 else date - step for date in dates]
    return pd.DatetimeIndex(moved)


def bars_of(offset: pd.tseries.offsets.BaseOffset, periods_per_year: float) -> int:
    """Return about how many bars an offset holds, at least 1."""
    return max(1, math.floor(years_of(offset) * periods_per_year + 0.5))
