"""Time zones by one canonical name, however a file or a frame spells them."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from backtest_batch.errors import DataError
from backtest_batch.market.fields import IntArray

_FIXED = re.compile(r"^(?:UTC)?([+-])(\d{2}):?(\d{2})$")
_UTC_NAMES = frozenset({"UTC", "Etc/UTC", "Zulu", "Etc/Zulu", "UTC+00:00", "Z"})


def zone(name: str | None) -> tzinfo | None:
    """Return the time zone of a canonical name; None stands for timestamps without a zone.

    Raises
    ------
    ValueError
        When there is no such zone.
    """
    if name is None:
        return None
    if name in _UTC_NAMES:
        return UTC
    fixed = _FIXED.match(name)
    if fixed:
        sign, hours, minutes = fixed.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(offset if sign == "+" else -offset)
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:  # unknown, a folder, an absolute path
        raise ValueError(
            f"`timezone` must be an IANA name such as America/New_York, but got timezone={name}."
        ) from error


def zone_name(tz: Any) -> str | None:  # Any: zoneinfo, pytz, dateutil, datetime or a string
    """Return the canonical name of a time zone: an IANA name, ``UTC`` or ``UTC+05:30``.

    Raises
    ------
    DataError
        When the zone has no name that could be stored.
    """
    if tz is None:
        return None
    if isinstance(tz, str):
        return zone_name(zone(tz))
    name = getattr(tz, "key", None) or getattr(tz, "zone", None)
    if name is None:
        offset = tz.utcoffset(None)
        if offset is None:
            raise DataError(
                f"the time zone {tz!r} has no name that can be stored; "
                "convert the index first, as in frame.tz_convert('America/New_York')"
            )
        name = datetime(2000, 1, 1, tzinfo=timezone(offset)).tzname()
    return "UTC" if name in _UTC_NAMES else str(name)


def index_of(stamps: IntArray, tz: str | None) -> pd.DatetimeIndex:
    """Return the index of nanosecond ``stamps``: instants in ``tz``, or wall-clock times."""
    index = pd.DatetimeIndex(stamps.view("M8[ns]"))
    return index if tz is None else index.tz_localize("UTC").tz_convert(zone(tz))


def stamps_of(index: pd.DatetimeIndex) -> tuple[IntArray, str | None]:
    """Return the nanosecond stamps and the zone's name of ``index``, whatever its unit.

    Raises
    ------
    DataError
        When a timestamp lies outside the range of nanoseconds, 1677 to 2262.
    """
    tz = zone_name(index.tz)
    try:
        return index.as_unit("ns").asi8, tz
    except pd.errors.OutOfBoundsDatetime as error:
        raise DataError(
            f"timestamps must lie between 1677 and 2262, but reach from {index.min()} "
            f"to {index.max()}"
        ) from error
