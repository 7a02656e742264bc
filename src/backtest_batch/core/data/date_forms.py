"""The form of timestamps that are not ISO 8601: guessed from them, or refused as unclear."""

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.data.wording import Wording
from backtest_batch.errors import DataError

COUNTS = {
    "s": "seconds since 1970 (UTC)",
    "ms": "milliseconds since 1970 (UTC)",
    "us": "microseconds since 1970 (UTC)",
    "ns": "nanoseconds since 1970 (UTC)",
    "days": "days since 1970",
    "excel": "days since the end of 1899, as workbooks count them",
}
"""Values of ``timestamp_format`` for numbers that count, and what they count."""

# Ranges of seconds, milliseconds, ... for the years 1971 to 2099: they do not overlap.
_EARLIEST, _LATEST = 31_536_000, 4_102_444_800
_BANDS = {
    unit: (_EARLIEST * scale, _LATEST * scale)
    for unit, scale in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
}
_WORKBOOK = (3_654.0, 73_050.0)  # 1910 to 2099, so that years are not taken for days
_SURELY_WORKBOOK = 33_000.0  # 1990; as days since 1970 it would be 2060

_MONTH = r"[A-Za-z]{3,9}\.?"
_DATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\d{4}-\d{1,2}-\d{1,2}", ("%Y-%m-%d",)),
    (r"\d{4}/\d{1,2}/\d{1,2}", ("%Y/%m/%d",)),
    (r"\d{4}\.\d{1,2}\.\d{1,2}", ("%Y.%m.%d",)),
    (r"\d{4}年\d{1,2}月\d{1,2}日", ("%Y年%m月%d日",)),
    (r"\d{4}年\d{1,2}月", ("%Y年%m月",)),
    (r"\d{4}- \d{1,2}- \d{1,2}", ("%Y- %m- %d",)),
    (r"\d{4}\. \d{1,2}\. \d{1,2}", ("%Y. %m. %d",)),
    (r"\d{4}\. \d{1,2}\. \d{1,2}\.", ("%Y. %m. %d.",)),
    (r"\d{4}년 \d{1,2}월 \d{1,2}일", ("%Y년 %m월 %d일",)),
    (r"\d{1,2}/\d{1,2}/\d{4}", ("%d/%m/%Y", "%m/%d/%Y")),
    (r"\d{1,2}-\d{1,2}-\d{4}", ("%d-%m-%Y", "%m-%d-%Y")),
    # Dates with points never have the month before the day.
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y",)),
    (r"\d{1,2}\. \d{1,2}\. \d{4}", ("%d. %m. %Y",)),
    (r"\d{1,2}/\d{1,2}/\d{2}", ("%d/%m/%y", "%m/%d/%y", "%y/%m/%d")),
    (r"\d{1,2}-\d{1,2}-\d{2}", ("%d-%m-%y", "%m-%d-%y", "%y-%m-%d")),
    (r"\d{1,2}\.\d{1,2}\.\d{2}", ("%d.%m.%y", "%y.%m.%d")),
    *(
        (rf"\d{{1,2}}{gap}{_MONTH}{gap}\d{{4}}", (f"%d{gap}%b{gap}%Y", f"%d{gap}%B{gap}%Y"))
        for gap in ("-", " ", "/", ".", "")
    ),
    *(
        (rf"\d{{1,2}}{gap}{_MONTH}{gap}\d{{2}}", (f"%d{gap}%b{gap}%y", f"%d{gap}%B{gap}%y"))
        for gap in ("-", " ", "/", "")
    ),
    (rf"{_MONTH} \d{{1,2}}, \d{{4}}", ("%b %d, %Y", "%B %d, %Y", "%b. %d, %Y")),
    (rf"{_MONTH} \d{{1,2}} \d{{4}}", ("%b %d %Y", "%B %d %Y")),
    (rf"{_MONTH}[ -]\d{{4}}", ("%b %Y", "%B %Y", "%b-%Y", "%B-%Y")),
    (rf"\d{{4}}[ -]{_MONTH}[ -]\d{{1,2}}", ("%Y-%b-%d", "%Y %b %d", "%Y-%B-%d", "%Y %B %d")),
    (r"\d{14}", ("%Y%m%d%H%M%S",)),
    (r"\d{17}", ("%Y%m%d%H%M%S%f",)),
    (r"\d{12}", ("%Y%m%d%H%M",)),
    (r"\d{10}", ("%Y%m%d%H",)),
    (r"\d{8}", ("%Y%m%d",)),
    (r"\d{6}", ("%Y%m", "%y%m%d")),
)
_CLOCK = r"\d{1,2}:\d{2}"
_TIMES: tuple[tuple[str, str], ...] = (
    ("", ""),
    (rf"{_CLOCK}:\d{{2}}\.\d{{1,9}}", "%H:%M:%S.%f"),
    (rf"{_CLOCK}:\d{{2}}", "%H:%M:%S"),
    (_CLOCK, "%H:%M"),
    (rf"{_CLOCK}:\d{{2}} [AaPp][Mm]", "%I:%M:%S %p"),
    (rf"{_CLOCK}:\d{{2}}[AaPp][Mm]", "%I:%M:%S%p"),
    (rf"{_CLOCK} [AaPp][Mm]", "%I:%M %p"),
    (rf"{_CLOCK}[AaPp][Mm]", "%I:%M%p"),
    (r"\d{6}", "%H%M%S"),
    (r"\d{4}", "%H%M"),
)
_ZONE = r"Z|[+-]\d{2}(?::?\d{2})?"
_SAMPLE = 512
DAY_NS = 86_400 * 10**9
_HOURS = 24
_LAST_YEAR = 2050

_WEEKDAY = re.compile(r"^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+", re.IGNORECASE)
_GREENWICH = re.compile(r"\s*(?:GMT|UTC)(?=[+-]\d)|\s*\b(?:GMT|UTC)$", re.IGNORECASE)
_PLACE = re.compile(r"\[[A-Za-z_]+(?:/[A-Za-z_]+)*\]$")  # as Java writes zones, after the offset
_COMMA = re.compile(r"(:\d{2}),(\d{1,9})\b")


@dataclass(frozen=True, kw_only=True)
class Form:
    """How timestamps are written.

    Attributes
    ----------
    format
        A strptime format, or one of :data:`COUNTS`.
    note
        Note for the reader; None if nothing was guessed, or the form does not fit all timestamps.
    parsed
        The timestamps, if they were read on the way.
    """

    format: str
    note: str | None = None
    parsed: pd.Series | None = field(default=None, compare=False)


def tidied(texts: pd.Series) -> pd.Series:
    """Return timestamps without names of weekdays, and with time zones only as offsets.

    A correction that no timestamp of a sample needs is skipped for all.
    """
    few = "\n".join(map(str, _sample(texts)))
    if re.search(_WEEKDAY.pattern, few, re.IGNORECASE | re.MULTILINE):
        texts = texts.str.replace(_WEEKDAY, "", regex=True)
    if re.search(r"GMT|UTC", few, re.IGNORECASE):
        utc = texts.str.contains(r"\b(?:GMT|UTC)$", case=False, regex=True)
        texts = texts.str.replace(_GREENWICH, "", regex=True)
        texts = texts.where(~utc, texts + "Z")
    if _PLACE.search(few):
        texts = texts.str.replace(_PLACE, "", regex=True)
    if _COMMA.search(few):
        texts = texts.str.replace(_COMMA, r"\1.\2", regex=True)
    if re.search(r"[^\S\n ]|  ", few):
        texts = texts.str.replace(r"\s+", " ", regex=True)
    return texts


def _sample(texts: pd.Series) -> pd.Series:
    return texts.iloc[:: max(1, len(texts) // _SAMPLE)]


def find_form(texts: pd.Series, file: str) -> Form | None:
    """Return the form of distinct timestamps that are not ISO 8601; None if no form fits.

    Parameters
    ----------
    texts
        The timestamps, as :func:`tidied` returns them.
    file
        Name of the file, for messages.

    Raises
    ------
    DataError
        When two forms fit, as for 01/02/2020, or two-digit years lie in the future.
    """
    first = str(texts.iloc[0])
    periods = _quarters(texts) or _weeks(texts)
    if periods is not None:
        return periods
    numbers = _numbers(texts)
    candidates = list(_candidates(first))
    few = _sample(texts)
    fitting = [each for each in candidates if not _read(few, each).isna().any()]
    read = {}
    for each in fitting:
        parsed = _read(texts, each)
        if not parsed.isna().any():
            read[each] = parsed
    if numbers is not None:
        for each in list(read):
            years = read[each].dt.year
            if years.min() < 1900 or years.max() > 2100:
                del read[each]
        if not read:
            return count_form(numbers, first, file) or _closest(texts, candidates)
    distinct: dict[str, pd.Series] = {}
    for each, parsed in read.items():
        if not any(parsed.equals(other) for other in distinct.values()):
            distinct[each] = parsed
    if not distinct:
        return _closest(texts, candidates)
    wording = Wording(table=file)
    if len(distinct) > 1:
        # Show a timestamp that differs: 01/01/2020 is the same day either way.
        one, *others = distinct.values()
        row = int(np.argmax(np.any([one.ne(other) for other in others], axis=0)))
        ways = " or ".join(
            f"{_setting(wording, each)} reads {_shown(parsed.iloc[row])}"
            for each, parsed in distinct.items()
        )
        raise DataError(
            f"{file}: the timestamp {texts.iloc[row]!r}, and all the others, can be read in "
            f"{len(distinct)} ways: {ways}"
        )
    ((form, parsed),) = distinct.items()
    said = _setting(wording, form)
    if "%y" in form and parsed.dt.year.max() >= _LAST_YEAR:
        row = int(parsed.dt.year.argmax())
        raise DataError(
            f"{file}: the year of {texts.iloc[row]!r} has two digits, and was read as "
            f"{parsed.iloc[row].year}: write years of four digits"
        )
    note = f"timestamps such as {first!r} are read by {said}"
    return Form(format=form, note=note, parsed=parsed)


_QUARTER = re.compile(
    r"(?P<year>\d{4})[ /-]?Q(?P<quarter>[1-4])|(?:Q(?P<before>[1-4])|(?P<short>[1-4])Q)[ /-]?"
    r"(?P<after>\d{4})",
    re.IGNORECASE,
)
_POINTS = re.compile(r"(\d{4})\.([1-4])")
_WEEK = re.compile(r"(\d{4})-?W(\d{2})", re.IGNORECASE)


def _quarters(texts: pd.Series) -> Form | None:
    """Return the form of quarters, such as 2020Q1 and Q1/2020; None if not all of them are."""
    if not _QUARTER.fullmatch(str(texts.iloc[0])) or not texts.str.fullmatch(_QUARTER).all():
        return None
    found = texts.str.extract(_QUARTER)
    years = found["year"].fillna(found["after"])
    quarters = found["quarter"].fillna(found["before"]).fillna(found["short"]).astype(int)
    days = years + "-" + (3 * quarters - 2).astype(str) + "-01"
    note = f"timestamps such as {texts.iloc[0]!r} are read as the first day of the quarter"
    return Form(format="quarters", note=note, parsed=_read(days, "%Y-%m-%d"))


def numbered_quarters(texts: pd.Series, file: str) -> Form | None:
    """Return the form of quarters such as 1950.1 to 1950.4; None if they are not.

    Parameters
    ----------
    texts
        Distinct timestamps.
    file
        Name of the file, for messages.

    Raises
    ------
    DataError
        When they may as well be the months from January to April.
    """
    few = _sample(texts)
    if not (few.str.fullmatch(_POINTS).all() and texts.str.fullmatch(_POINTS).all()):
        return None
    found = texts.str.extract(_POINTS).astype(np.int64)
    if (found[1] == 1).all():  # the first of January, either way
        return None
    steps = np.diff(np.sort(found[0] * 4 + found[1]))
    first = texts.iloc[0]
    if found[0].nunique() == 1 or np.median(steps) > 1:
        raise DataError(
            f"{file}: the timestamp {first!r}, and all the others, may be a quarter or a month: "
            "write 1950Q1 for a quarter, 1950-01 for a month, or say `data.timestamp_format=%Y.%m`"
        )
    days = found[0].astype(str) + "-" + (3 * found[1] - 2).astype(str) + "-01"
    note = f"timestamps such as {first!r} are read as the first day of the quarter"
    return Form(format="quarters", note=note, parsed=_read(days, "%Y-%m-%d"))


def _weeks(texts: pd.Series) -> Form | None:
    """Return the form of ISO weeks, such as 2020-W01; None if not all of them are."""
    if not _WEEK.fullmatch(str(texts.iloc[0])) or not texts.str.fullmatch(_WEEK).all():
        return None
    days = texts.str.upper().str.replace(_WEEK, r"\1-W\2-1", regex=True)
    parsed = _read(days, "%G-W%V-%u")
    if parsed.isna().any():
        return None
    note = f"timestamps such as {texts.iloc[0]!r} are read as the Monday of the week"
    return Form(format="weeks", note=note, parsed=parsed)


def _closest(texts: pd.Series, candidates: Sequence[str]) -> Form | None:
    """Return the form that reads the most timestamps, at least half; the others become NaT."""
    read = {each: _read(texts, each) for each in candidates}
    wrong = {each: int(parsed.isna().sum()) for each, parsed in read.items()}
    if not wrong:
        return None
    best = min(wrong, key=lambda each: wrong[each])
    return Form(format=best, parsed=read[best]) if 2 * wrong[best] <= len(texts) else None


def _setting(wording: Wording, form: str) -> str:
    if " " in form or "," in form:
        return wording.setting("timestamp_format", form)
    return f"`data.timestamp_format={form}`"


def _shown(stamp: pd.Timestamp) -> str:
    return f"{stamp.day} {stamp.month_name()} {stamp.year}"


def _candidates(text: str) -> Iterable[str]:
    for pattern, forms, clock in _patterns():
        found = pattern.fullmatch(text)
        if found is not None and (clock or not found["zone"]):
            end = found["blank"] + "%z" if found["zone"] else ""
            yield from (form + found["gap"] + clock + end for form in forms)


@functools.cache
def _patterns() -> list[tuple[re.Pattern[str], tuple[str, ...], str]]:
    """Return a pattern for each combination of a form of dates and a form of times."""
    found = []
    for date, forms in _DATES:
        for time, clock in _TIMES:
            gap = r"(?P<gap>[T ]|, )" if time else "(?P<gap>)"
            pattern = re.compile(rf"{date}{gap}{time}(?P<blank> ?)(?P<zone>{_ZONE})?")
            found.append((pattern, forms, clock))
    return found


def _read(texts: pd.Series, form: str) -> pd.Series:
    return pd.Series(pd.to_datetime(texts, format=form, errors="coerce", utc=True))


def readings(*texts: str) -> list[list[pd.Timestamp]]:
    """Return some timestamps in each form that reads them all."""
    column = pd.Series(texts, dtype=object)
    read = [_read(column, form) for form in _candidates(texts[0])]
    return [list(parsed) for parsed in read if not parsed.isna().any()]


def _numbers(texts: pd.Series) -> FloatArray | None:
    """Return texts as numbers; None if any of them is not a number."""
    pattern = r"\d+(?:\.\d*)?"
    if not (_sample(texts).str.fullmatch(pattern).all() and texts.str.fullmatch(pattern).all()):
        return None
    return np.array(texts, dtype=np.float64)


def count_form(numbers: FloatArray, shown: str, file: str) -> Form | None:
    """Return the form of timestamps that are counts; None if they count in no known unit.

    Parameters
    ----------
    numbers
        The timestamps.
    shown
        The first of them as text.
    file
        Name of the file, for messages.

    Raises
    ------
    DataError
        When they count in different units, or may count days since 1900 or since 1970.
    """
    least, most = float(numbers.min()), float(numbers.max())
    units = [
        next((unit for unit, (low, high) in _BANDS.items() if low <= number <= high), None)
        for number in (least, most)
    ]
    if units[0] is not None and units[0] == units[1]:
        note = f"timestamps such as {shown} are read as {COUNTS[units[0]]}"
        return Form(format=units[0], note=f"{note} (`data.timestamp_format={units[0]}` says so)")
    if None not in units:
        raise DataError(
            f"{file}: timestamps count from 1970 in different units: {least:.0f} ({units[0]}) and "
            f"{most:.0f} ({units[1]}); write them in one"
        )
    low, high = _WORKBOOK
    if not (low <= least and most <= high and len(numbers) > 1):
        return None
    if most < _SURELY_WORKBOOK:
        raise DataError(
            f"{file}: the timestamp {shown} may count days since 1970 "
            "(`data.timestamp_format=days`) or since 1900 (`data.timestamp_format=excel`)"
        )
    note = f"timestamps such as {shown} are read as {COUNTS['excel']}"
    return Form(format="excel", note=f"{note} (`data.timestamp_format=excel` says so)")


_END_OF_DAY = re.compile(r"(?:^|(?<=[T ]))24(?=:?00(?::?00(?:\.0+)?)?(?:$|Z|[ +-]))")
_COMPACT = re.compile(r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-4])\d*")
_COMPACT_END = re.compile(r"(?<=^\d{8})24(?=(?:00){0,2}$)")

_END_OF_DAY_NOTE = "24:00 is read as 00:00 of the next day"
_DATES_NOTE = "24:00, the time of every bar, is the end of its day: bars are read as dates"


def begun_days(texts: pd.Series) -> tuple[pd.Series, BoolArray]:
    """Return timestamps with 24:00 written as 00:00, and which ones are a day later than that."""
    pattern = _END_OF_DAY
    compact = texts.str.fullmatch(r"\d{10}|\d{12}|\d{14}").astype(bool)
    if compact.all() and texts.str.len().nunique() == 1 and texts.str.fullmatch(_COMPACT).all():
        pattern = _COMPACT_END
    late = texts.str.contains(pattern).astype(bool)
    if late.any():
        texts = texts.where(~late, texts.str.replace(pattern, "00", regex=True))
    return texts, late.to_numpy(dtype=np.bool_)


def ended_days(late: BoolArray) -> tuple[IntArray, str | None]:
    """Return what to add to the begun days of timestamps, in nanoseconds, and a note.

    The end of a day is 00:00 of the next one; but if all timestamps are ends of days, they are
    daily bars, and each means its own date.

    Parameters
    ----------
    late
        Which timestamps are the ends of days, shape (n_rows,).
    """
    if not late.any():
        return np.zeros(len(late), dtype=np.int64), None
    if late.all():
        return np.zeros(len(late), dtype=np.int64), _DATES_NOTE
    return late * DAY_NS, _END_OF_DAY_NOTE


def times_of_day(texts: Sequence[Any], file: str) -> tuple[IntArray, list[str]]:
    """Return nanoseconds since midnight of times such as 09:30, 9:30 AM, 093000, 930 and 24:00.

    Numbers that are at most 24 are hours, 24 being the end of the day.

    Returns
    -------
    times : ndarray of int
        Shape (n_texts,).
    notes : list of str
        What was guessed.

    Raises
    ------
    DataError
        When a text is not a time, or hours are counted to 25, as on the day that has so many.
    """
    text = pd.Series([str(each).strip().removesuffix(".0") for each in texts], dtype=object)
    digits = text.str.fullmatch(r"\d+").astype(bool)
    notes = []
    if len(text) and digits.all() and text.str.len().max() <= 2:
        hours = text.astype(np.int64)
        if set(hours) == set(range(1, 26)):
            raise DataError(
                f"{file}: the hours of a day are counted from 1 to 25, as clocks are put back, "
                "and which of them occurs twice is not said: write timestamps with an offset, "
                "such as 2020-11-01T01:30:00-04:00"
            )
        if hours.max() <= _HOURS:
            notes.append("times of day are whole hours")
            text = text.str.zfill(2) + "00"
    text, late = begun_days(text)
    if digits.all():
        width = 4 if text.str.len().max() <= 4 else 6
        text = text.str.zfill(width)
        form = "%H%M" if width == 4 else "%H%M%S"
        parsed = pd.to_datetime(text, format=form, errors="coerce")
    else:
        parsed = pd.Series(pd.NaT, index=text.index, dtype="datetime64[ns]")
        for pattern, form in _TIMES[1:8]:
            if re.fullmatch(pattern, str(text.iloc[0])):
                parsed = pd.to_datetime(text, format=form, errors="coerce")
                break
    wrong = parsed.isna().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{file}: {str(text.iloc[row])[:40]!r} is no time of day: "
            "`data.timestamp_column` and `data.time_column` name the columns of the timestamps"
        )
    stamps = pd.DatetimeIndex(parsed).as_unit("ns")
    added, note = ended_days(late)
    notes.extend([note] if note else [])
    return np.asarray((stamps - stamps.normalize()).asi8, dtype=np.int64) + added, notes
