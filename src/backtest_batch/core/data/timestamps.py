"""A column of timestamps, as any file may hold it, to nanoseconds and a time zone."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from backtest_batch.arrays import IntArray
from backtest_batch.errors import DataError

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


# The offset at the end of a time: Z, +00, +0000 or +00:00. A date alone has none: 2020-01-02.
_OFFSET = r"\d{4}.*[T ]\d{1,2}.*?\s?(Z|[+-]\d{2}(?::?\d{2})?)$"

EPOCHS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
"""Values of ``timestamp_format`` that count from 1970, and what they count."""

_OUT_OF_BOUNDS = "timestamps must lie between 1677 and 2262"


@dataclass(frozen=True, kw_only=True)
class TimestampRules:
    """How the timestamps of a file are to be understood.

    Attributes
    ----------
    format
        Their strptime format; None reads ISO 8601. ``s``, ``ms``, ``us`` and ``ns`` are whole
        numbers of seconds, milliseconds, ... since 1970 (UTC).
    timezone
        The zone of the index: timestamps without a zone are taken as its wall clock, others are
        converted to it. None keeps what the file says.
    """

    format: str | None = None
    timezone: str | None = None


def read_timestamps(column: Any, rules: TimestampRules, file: str) -> tuple[IntArray, str | None]:
    """Return nanoseconds since 1970, shape (n_rows,), and the zone's name of an arrow column.

    Parameters
    ----------
    column
        A pyarrow ChunkedArray of timestamps, dates or text.
    rules
        How to understand it.
    file
        Name of the file, for messages.

    Raises
    ------
    DataError
        For values that are no timestamps, for mixed time zones, for times that a change of the
        clocks skips or repeats, and outside the years 1677 to 2262.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if rules.format in EPOCHS:
        return _in_zone(_since_1970(column, rules.format, file), "UTC", rules, file)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise DataError(_no_timestamp(file, row, "empty", column.null_count))
        tz = zone_name(kind.tz) if pa.types.is_timestamp(kind) else None
        try:
            exact = column.cast(pa.timestamp("ns", getattr(kind, "tz", None)))
        except pa.ArrowInvalid as error:
            raise DataError(f"{file}: {_OUT_OF_BOUNDS}") from error
        stamps = exact.cast(pa.int64()).to_numpy()
        return _in_zone(stamps, tz, rules, file)
    if pa.types.is_integer(kind) and rules.format is not None:
        column = column.cast(pa.string())
    elif pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        hint = _unit_hint(str(column[0].as_py())) if len(column) else ""
        raise DataError(
            f"{file}: unparseable timestamps: the column holds {kind}, not timestamps{hint}"
        )
    # Long files repeat each timestamp for every symbol: parse the distinct ones.
    coded = pc.fill_null(column, "").combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    distinct = pd.Series(coded.dictionary.to_pylist(), dtype=object)
    parsed, tz = _parsed(distinct, codes, rules, file)
    stamps, tz = _in_zone(parsed, tz, rules, file)
    return stamps[codes], tz


def _parsed(
    texts: pd.Series, codes: IntArray, rules: TimestampRules, file: str
) -> tuple[IntArray, str | None]:
    texts = texts.str.strip()
    try:
        parsed = pd.to_datetime(texts, format=rules.format or "ISO8601", errors="coerce", utc=True)
    except ValueError as error:  # a format that strptime does not know
        raise DataError(
            f"{file}: `data.timestamp_format={rules.format}` is no format of timestamps ({error}); "
            f"%d/%m/%Y is one, and {', '.join(EPOCHS)} count from 1970"
        ) from error
    wrong = parsed.isna().to_numpy()
    if wrong.any():
        rows = np.flatnonzero(wrong[codes])
        text = texts[codes[rows[0]]]
        hint = _unit_hint(text)
        if not hint and not rules.format:
            hint = "; `data.timestamp_format=%d/%m/%Y`, say, names another form"
        raise DataError(_no_timestamp(file, int(rows[0]), repr(text[:60]), len(rows)) + hint)
    try:
        instants = pd.DatetimeIndex(parsed).as_unit("ns").asi8
    except pd.errors.OutOfBoundsDatetime as error:
        raise DataError(f"{file}: {_OUT_OF_BOUNDS}") from error
    if rules.format is not None and "%z" not in rules.format:
        return instants, None
    offsets = texts.str.extract(_OFFSET, expand=False)
    zoned = offsets.notna()
    if not zoned.any():
        return instants, None
    names = offsets[zoned].map(_offset_name)
    if not zoned.all():
        bare = texts[~zoned].iloc[0]
        raise DataError(
            f"{file}: mixed time zones: the timestamp {bare} has none, but "
            f"{texts[zoned].iloc[0]} has {names.iloc[0]}"
        )
    others = names != names.iloc[0]
    if others.any() and rules.timezone is None:
        raise DataError(
            f"{file}: mixed time zones: the timestamp {texts.iloc[0]} has {names.iloc[0]}, but "
            f"{texts[others].iloc[0]} has {names[others].iloc[0]}; "
            "`data.timezone=America/New_York`, say, converts them to one"
        )
    return instants, names.iloc[0]


def _since_1970(column: Any, unit: str, file: str) -> IntArray:
    """Return nanoseconds of whole numbers of a unit, as integers or as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        whole = pc.fill_null(pc.match_substring_regex(text, r"^-?\d{1,19}$"), False)
        column = pc.if_else(whole, text, pa.scalar(None, pa.string()))
        shown = text
    elif pa.types.is_integer(column.type):
        shown = column
    else:
        raise DataError(
            f"{file}: `data.timestamp_format={unit}` reads whole numbers, but the timestamps are "
            f"{column.type}"
        )
    if column.null_count:
        missing = column.is_null().to_numpy()
        row = int(np.argmax(missing))
        raise DataError(
            _no_timestamp(file, row, repr(shown[row].as_py()), int(missing.sum()))
            + f"; `data.timestamp_format={unit}` reads whole numbers"
        )
    try:
        numbers = column.cast(pa.int64())
        return np.asarray(
            numbers.cast(pa.timestamp(unit)).cast(pa.timestamp("ns")).cast(pa.int64())
        )
    except pa.ArrowInvalid as error:
        hint = _unit_hint(str(shown[0].as_py()))
        raise DataError(f"{file}: {_OUT_OF_BOUNDS}, read as {unit}{hint}") from error


def _unit_hint(text: str) -> str:
    """Return what reads a whole number that counts from 1970, or a day without separators."""
    digits = text.strip().removesuffix(".0")
    if not digits.isdecimal():
        return ""
    if len(digits) == 8:
        return "; `data.timestamp_format=%Y%m%d` reads days such as 20200131"
    unit = {10: "s", 13: "ms", 16: "us", 19: "ns"}.get(len(digits))
    if unit is None:
        return ""
    return f"; `data.timestamp_format={unit}` reads {EPOCHS[unit]} since 1970"


def _offset_name(offset: str) -> str | None:
    if offset == "Z":
        return "UTC"
    return zone_name(offset if len(offset) > 3 else offset + "00")


def _no_timestamp(file: str, row: int, what: str, count: int) -> str:
    values = "1 such value" if count == 1 else f"{count:,} such values"
    return f"{file}: unparseable timestamp {what} in data row {row + 1} ({values})"


def _in_zone(
    stamps: IntArray, tz: str | None, rules: TimestampRules, file: str
) -> tuple[IntArray, str | None]:
    if rules.timezone is None:
        return stamps, tz
    wanted = zone_name(rules.timezone)
    if tz is not None:
        return stamps, wanted
    walls = pd.DatetimeIndex(stamps.view("M8[ns]"))
    index = walls.tz_localize(zone(wanted), ambiguous="NaT", nonexistent="NaT")
    lost = np.isnat(index.asi8.view("M8[ns]"))
    if lost.any():
        row = int(lost.argmax())
        raise DataError(
            f"{file}: {walls[row]} exists twice or not at all in {wanted} (a change of the "
            f"clocks; {int(lost.sum()):,} such timestamps): write timestamps with an offset"
        )
    return index.asi8, wanted
