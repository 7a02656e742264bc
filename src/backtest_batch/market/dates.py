"""What a date means on an index of bars."""

import re
from datetime import date as calendar_date

import numpy as np
import pandas as pd

from backtest_batch.config.key import date_length, date_text, has_time, parse_date
from backtest_batch.errors import ConfigurationError

Date = str | int | calendar_date | pd.Timestamp | np.datetime64

_DAY = re.compile(r"^\s*(\d{8}|\d{4}([-/])\d{1,2}\2\d{1,2})\s*$")

_EARLIEST, _LATEST = pd.Timestamp("1680-01-01"), pd.Timestamp("2260-12-31")


def span(date: Date, index: pd.DatetimeIndex) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first moment of ``date`` and the first one after it, in the zone of ``index``.

    A date without a time is the whole day; ``2005`` is the year and ``2005-03`` the month. A time
    that is spelt out is that moment. Midnight given as a timestamp object without a time zone is
    the whole day.

    Raises
    ------
    ConfigurationError
        When ``date`` is no date, or has a time zone and the index has none.
    """
    text = date_text(date)
    stamp = parse_date(text)
    if text is None or stamp is None:
        raise ConfigurationError(f"'{date}' is not a date such as 2005-01-31 (year, month, day)")
    wall = stamp.tz_localize(None)
    if not _EARLIEST <= wall <= _LATEST:
        # Dates such as 9999-12-31 stand for "no end" and do not fit into nanoseconds.
        stamp = min(max(wall, _EARLIEST), _LATEST).tz_localize(stamp.tz)
    stamp = stamp.as_unit("ns")
    if stamp.tzinfo is not None and index.tz is None:
        raise ConfigurationError(
            f"'{date}' has a time zone, but the timestamps of the data have none"
        )
    if has_time(text):
        stamp = _in_zone(stamp, index)
        return stamp, stamp + date_length(text)
    day = stamp.tz_localize(None).normalize()
    return _in_zone(day, index), _in_zone(day + date_length(text), index)


def one_spelling(date: str) -> str:
    """Return a day in the form 2005-01-31; a year, a month or a moment as it is."""
    # Nothing else: `today` must not become a date, nor 200501 another year.
    if not _DAY.match(date):
        return date
    try:
        return pd.Timestamp(date).date().isoformat()
    except ValueError:
        return date


def _in_zone(stamp: pd.Timestamp, index: pd.DatetimeIndex) -> pd.Timestamp:
    if index.tz is None:
        return stamp
    if stamp.tzinfo is not None:
        return stamp.tz_convert(index.tz)
    # A midnight that the clocks skip or repeat: the day begins at its first existing moment.
    return stamp.tz_localize(index.tz, ambiguous=True, nonexistent="shift_forward")
