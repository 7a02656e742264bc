"""From a column of timestamps, as a file may hold it, to nanoseconds and a time zone."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from backtest_batch.arrays import IntArray
from backtest_batch.core.data.date_forms import (
    COUNTS,
    DAY_NS,
    Form,
    begun_days,
    count_form,
    ended_days,
    find_form,
    numbered_quarters,
    tidied,
    times_of_day,
)
from backtest_batch.errors import DataError

_FIXED = re.compile(r"^(?:UTC)?([+-])(\d{2}):?(\d{2})$")
_UTC_NAMES = frozenset({"UTC", "Etc/UTC", "Zulu", "Etc/Zulu", "UTC+00:00", "Z"})


def zone(name: str | None) -> tzinfo | None:
    """Return the time zone with a canonical name; None means timestamps without a zone.

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


# The offset at the end of a time: Z, +00, +0000 or +00:00. A date alone (2020-01-02) has none.
_OFFSET = r"\d{4}.*[T ]\d{1,2}.*?\s?(Z|[+-]\d{2}(?::?\d{2})?)$"

_ZONE_NAME = re.compile(r"\d\s*(?!AM|PM)[A-Z]{2,4}$")
_MOSTLY = 0.5  # if a larger share of timestamps is not ISO 8601, they have another form
_WORKBOOK_EPOCH = 25_569  # 1970-01-01 in days of a workbook
_DAY_MS = 86_400_000.0
_OUT_OF_BOUNDS = "timestamps must lie between 1677 and 2262"


@dataclass(frozen=True, kw_only=True)
class TimestampRules:
    """How the timestamps of a file are to be understood.

    Attributes
    ----------
    format
        Their strptime format. None reads ISO 8601, and any other form that can be read in one way
        only. ``s``, ``ms``, ``us`` and ``ns`` are whole numbers of seconds, milliseconds, ... since
        1970 (UTC); ``days`` counts from 1970, ``excel`` as workbooks do.
    timezone
        The zone of the index: timestamps without a zone are taken as its wall clock, others are
        converted to it. None keeps what the file says.
    """

    format: str | None = None
    timezone: str | None = None


def read_timestamps(
    column: Any,
    rules: TimestampRules,
    file: str,
    *,
    clock: Any = None,
    said: list[str] | None = None,
) -> tuple[IntArray, str | None]:
    """Return nanoseconds since 1970, shape (n_rows,), and the zone's name of an arrow column.

    Parameters
    ----------
    column
        A pyarrow ChunkedArray of timestamps, dates, numbers or text.
    rules
        How to understand it.
    file
        Name of the file, for messages.
    clock
        Times of day of the rows, if the column holds only days.
    said
        A list to which notes on guesses are added.

    Raises
    ------
    DataError
        For values that are not timestamps or can be read in two ways, for mixed time zones, for
        times that a change of the clocks skips or repeats, and outside the years 1677 to 2262.
    """
    said = [] if said is None else said
    if clock is not None:
        days, tz = _read(column, replace(rules, timezone=None), file, said)
        texts = clock.cast("string").combine_chunks().dictionary_encode()
        times, notes = times_of_day(texts.dictionary.to_pylist(), file)
        if texts.null_count:
            row = int(np.argmax(texts.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(_no_timestamp(file, row, "without a time of day", texts.null_count))
        said.extend(notes)
        codes = texts.indices.to_numpy(zero_copy_only=False)
        return _in_zone(days + times[codes], tz, rules, file)
    return _read(column, rules, file, said)


def _read(
    column: Any, rules: TimestampRules, file: str, said: list[str]
) -> tuple[IntArray, str | None]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _of_timestamps(column, rules, file)
    if rules.format in COUNTS:
        stamps, tz = _counted(column, rules.format, file)
        return _in_zone(stamps, tz, rules, file)
    if rules.format is None and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        form = _form_of_numbers(column, file, said)
        if form is not None:
            said.extend([form.note] if form.note else [])
            return _read(column, replace(rules, format=form.format), file, said)
    if pa.types.is_floating(kind):
        column = column.cast(pa.int64(), safe=False)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    if not (
        pa.types.is_string(column.type)
        or pa.types.is_large_string(column.type)
        or pa.types.is_string_view(column.type)
    ):
        raise DataError(
            f"{file}: unparseable timestamps: the column holds {kind}, not timestamps; "
            "`data.timestamp_column` names another"
        )
    # Long files repeat each timestamp for every symbol: parse each distinct one only once.
    coded = pc.fill_null(column.cast(pa.string()), "").combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    distinct = pd.Series(coded.dictionary.to_pylist(), dtype=object)
    parsed, tz = _parsed(distinct, codes, rules, file, said)
    stamps, tz = _in_zone(parsed, tz, rules, file)
    return stamps[codes], tz


def _of_timestamps(column: Any, rules: TimestampRules, file: str) -> tuple[IntArray, str | None]:
    import pyarrow as pa

    kind = column.type
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise DataError(_no_timestamp(file, row, "empty", column.null_count))
    tz = zone_name(kind.tz) if pa.types.is_timestamp(kind) else None
    try:
        exact = column.cast(pa.timestamp("ns", getattr(kind, "tz", None)))
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: {_OUT_OF_BOUNDS}") from error
    return _in_zone(exact.cast(pa.int64()).to_numpy(), tz, rules, file)


def _form_of_numbers(column: Any, file: str, said: list[str]) -> Form | None:
    """Return the form of numbers that count time or read as dates; None for days (20200131).

    Raises
    ------
    DataError
        When they are neither.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count or not len(column):
        missing = column.is_null().to_numpy() if column.null_count else np.zeros(1)
        raise DataError(
            _no_timestamp(file, int(np.argmax(missing)), "empty", column.null_count)
            if len(column)
            else f"{file} holds no bars"
        )
    numbers = pc.unique(column).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if not np.isfinite(numbers).all():
        raise DataError(f"{file}: unparseable timestamps: a number is not finite")
    shown = f"{column[0].as_py():.10g}" if numbers[0] % 1 else f"{int(column[0].as_py())}"
    if not (numbers % 1).any():
        texts = pd.Series([str(int(number)) for number in numbers], dtype=object)
        if (texts.str.len() == 8).all():
            days = pd.to_datetime(texts, format="%Y%m%d", errors="coerce")
            if not days.isna().any() and 1677 < days.dt.year.min() <= days.dt.year.max() < 2100:
                said.append(f"whole numbers such as {shown} are read as days")
                return None
        if texts.str.fullmatch(r"\d{6}|\d{10}|\d{12}|\d{14}|\d{17}").all():
            found = find_form(begun_days(texts)[0], file)
            if found is not None:
                return found
    found = count_form(numbers, shown, file)
    if found is None:
        raise DataError(
            f"{file}: unparseable timestamps: the column holds numbers such as {shown}; "
            f"`data.timestamp_format` says what they are (%Y%m%d, or {', '.join(COUNTS)}), "
            "`data.timestamp_column` names another column"
        )
    return found


def _parsed(
    texts: pd.Series, codes: IntArray, rules: TimestampRules, file: str, said: list[str]
) -> tuple[IntArray, str | None]:
    texts = texts.str.strip()
    form = rules.format
    added = np.zeros(len(texts), dtype=np.int64)
    quarters = numbered_quarters(texts, file) if form is None and len(texts) else None
    try:
        parsed = pd.to_datetime(texts, format=form or "ISO8601", errors="coerce", utc=True)
        if parsed.isna().any():
            texts, late = begun_days(texts)
            added, note = ended_days(late)
            if note is not None:
                parsed = pd.to_datetime(texts, format=form or "ISO8601", errors="coerce", utc=True)
                said.append(note)
    except ValueError as error:  # a format that strptime does not know
        raise DataError(
            f"{file}: `data.timestamp_format={rules.format}` is no format of timestamps ({error}); "
            f"%d/%m/%Y is one, and {', '.join(COUNTS)} count"
        ) from error
    if quarters is not None and quarters.parsed is not None:
        said.extend([quarters.note] if quarters.note else [])
        form, parsed = quarters.format, quarters.parsed
    elif form is None and len(texts) and parsed.isna().mean() > _MOSTLY:
        texts = tidied(texts)
        found = find_form(texts, file)
        if found is not None and found.format in COUNTS:
            said.extend([found.note] if found.note else [])
            return _counted_texts(texts, found.format, file)
        if found is not None:
            said.extend([found.note] if found.note else [])
            form = found.format
        parsed = found.parsed if found is not None and found.parsed is not None else parsed
    wrong = parsed.isna().to_numpy()
    if wrong.any():
        rows = np.flatnonzero(wrong[codes])
        text = texts[codes[rows[0]]]
        hint = _unit_hint(text) or _names_hint(text)
        if not text and rows[0] < len(codes) - len(rows):
            hint = (
                "; if another table stands below the first, keep it in a file or sheet of its own"
            )
        if not hint and form is not None and form != rules.format:
            hint = f"; others are read by `data.timestamp_format={form}`"
        elif not hint and _ZONE_NAME.search(text):
            hint = (
                "; names such as EST stand for several zones: leave them out and say "
                "`data.timezone=America/New_York`, or write offsets (-05:00)"
            )
        elif not hint and not rules.format:
            hint = "; `data.timestamp_format=%d/%m/%Y`, say, names another form"
        raise DataError(_no_timestamp(file, int(rows[0]), repr(text[:60]), len(rows)) + hint)
    try:
        instants = pd.DatetimeIndex(parsed).as_unit("ns").asi8
    except pd.errors.OutOfBoundsDatetime as error:
        raise DataError(f"{file}: {_OUT_OF_BOUNDS}") from error
    instants = instants + added
    if form is not None and "%z" not in form:
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
        walls = instants + offsets.map(_offset_ns).to_numpy(dtype=np.int64)
        if not (walls % DAY_NS).any():
            said.append(
                f"timestamps such as {texts.iloc[0]!r} are midnights of several offsets, and are "
                "read as days (`data.timezone=America/New_York`, say, keeps a zone)"
            )
            return walls, None
        raise DataError(
            f"{file}: mixed time zones: the timestamp {texts.iloc[0]} has {names.iloc[0]}, but "
            f"{texts[others].iloc[0]} has {names[others].iloc[0]}; "
            "`data.timezone=America/New_York`, say, converts them to one"
        )
    return instants, names.iloc[0]


def _counted(column: Any, unit: str, file: str) -> tuple[IntArray, str | None]:
    """Return numbers that count in a unit as nanoseconds, and the name of their zone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        pattern = r"^\d{1,9}(\.\d*)?$" if unit == "excel" else r"^-?\d{1,19}(\.0*)?$"
        number = pc.fill_null(pc.match_substring_regex(text, pattern), False)
        column = pc.if_else(number, text, pa.scalar(None, pa.string()))
        if unit != "excel":
            column = pc.replace_substring_regex(column, r"\.0*$", "")
        shown = text
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        shown = column
    else:
        raise DataError(
            f"{file}: `data.timestamp_format={unit}` reads numbers, but the timestamps are "
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
        if unit in ("excel", "days"):
            days = column.cast(pa.float64()).to_numpy()
            # Round to milliseconds, as workbooks round parts of a day: half past nine is 0.3958333.
            epoch = _WORKBOOK_EPOCH if unit == "excel" else 0
            return np.round((days - epoch) * _DAY_MS).astype(np.int64) * 1_000_000, None
        if pa.types.is_floating(column.type):
            scale = 1e9 / {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
            return np.round(column.to_numpy() * scale).astype(np.int64), "UTC"
        numbers = column.cast(pa.int64())
        stamps = numbers.cast(pa.timestamp(unit)).cast(pa.timestamp("ns")).cast(pa.int64())
        return np.asarray(stamps), "UTC"
    except pa.ArrowInvalid as error:
        hint = _unit_hint(str(shown[0].as_py()))
        raise DataError(f"{file}: {_OUT_OF_BOUNDS}, read as {unit}{hint}") from error


def _counted_texts(texts: pd.Series, unit: str, file: str) -> tuple[IntArray, str | None]:
    import pyarrow as pa

    return _counted(pa.chunked_array([pa.array(texts.tolist(), pa.string())]), unit, file)


def _names_hint(text: str) -> str:
    """Return a hint on a line of names or a remark that stands among the rows."""
    if not any(map(str.isalpha, text)) or any(map(str.isdigit, text)):
        return ""
    return (
        "; it holds no digit: a line of names or a remark among the rows is to be taken out; "
        "data.timestamp_format says how other texts are read"
    )


def _unit_hint(text: str) -> str:
    """Return a hint on how to read a number that counts from 1970, or a day without separators."""
    digits = text.strip().removesuffix(".0")
    if not digits.isdecimal():
        return ""
    if len(digits) == 8:
        return "; `data.timestamp_format=%Y%m%d` reads days such as 20200131"
    unit = {10: "s", 13: "ms", 16: "us", 19: "ns"}.get(len(digits))
    if unit is None:
        return ""
    return f"; `data.timestamp_format={unit}` reads {COUNTS[unit]}"


def _offset_ns(offset: str) -> int:
    if offset == "Z":
        return 0
    digits = offset[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return (-minutes if offset[0] == "-" else minutes) * 60 * 10**9


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
