"""From numbers as files and vendors write them to float64: separators, signs, missing values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.timestamps import index_of
from backtest_batch.errors import DataError

NULL_TOKENS = ("", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "#N/A")
"""Texts that stand for a missing value in a column of numbers."""

DASHES = (".", "-", "--", "\u2013", "\u2014", "#N/A N/A", "#DIV/0!", "#REF!", "#VALUE!", "#NUM!")
"""Texts that vendors and workbooks write for a missing value; reading them so adds a note."""

NO_THOUSANDS = "none"
"""Value of ``thousands`` for numbers without separators of thousands."""

_SPACES = " \u00a0\u2009\u202f"
_APOSTROPHES = "'\u2019"
_CURRENCIES = "$\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd\u20bf\u20ba\u20aa\u0e3f"
_POWERS = {"K": "e3", "M": "e6", "B": "e9", "T": "e12"}
_LONGEST_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class NumberStyle:
    """How the numbers of one file are written.

    Attributes
    ----------
    decimal
        Character before the fraction.
    thousands
        Characters that may stand between groups of digits.
    notes
        What was guessed.
    """

    decimal: str = "."
    thousands: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Where numbers are in a file, and how their text is written.

    Attributes
    ----------
    stamps, tz
        Timestamps of the rows: nanoseconds since 1970, shape (n_rows,), and the name of their zone.
    file
        Name of the file, for messages.
    style
        How numbers that are stored as text are written.
    """

    stamps: IntArray
    tz: str | None
    file: str
    style: NumberStyle = field(default_factory=NumberStyle)


def floats(column: Any, name: str, cells: Cells) -> FloatArray:
    """Return an arrow column as float64, shape (n_rows,), NaN where it is null.

    Raises
    ------
    DataError
        When a value is not a number; the message quotes it as it is in the file.
    """
    import pyarrow as pa

    column = _flat(column)
    kind = column.type
    if _is_text(kind):
        column = _parsed(column, name, cells)
    elif not (
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        raise DataError(f"{cells.file}: column '{name}' holds {kind}, not numbers")
    values = column.cast(pa.float64(), safe=False)
    return np.array(values, dtype=np.float64)


def _flat(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def find_style(
    columns: Mapping[str, Any],
    file: str,
    *,
    decimal: str = ".",
    thousands: str | None = None,
    doubtful: bool = False,
) -> NumberStyle:
    """Return how the numbers of a file are written, guessed from all columns that are text.

    ``1.234,56`` and ``1,5`` show a decimal comma, ``1,234.56`` and ``12.5`` a decimal point, and
    ``1,234,567`` the separator of thousands; ``1,234`` alone shows nothing.

    Parameters
    ----------
    columns
        Arrow columns of numbers by name; those that are not text show nothing.
    file
        Name of the file, for messages.
    decimal, thousands
        What the user set; the default decimal point counts as not set.
    doubtful
        Whether ``1.234`` may mean 1234 in this file, for example if semicolons separate its fields.

    Raises
    ------
    DataError
        When the numbers contradict each other or can be read in two ways.
    """
    texts = {name: _flat(column) for name, column in columns.items()}
    bodies = [_bodies(column)[0] for column in texts.values() if _is_text(column.type)]
    if not bodies:
        return NumberStyle(decimal=decimal)
    notes = []
    every = _SPACES + _APOSTROPHES
    if thousands is not None:
        if thousands == NO_THOUSANDS:
            return NumberStyle(decimal=decimal)
        said = "," if thousands == "." and decimal == "." else decimal
        return NumberStyle(decimal=said, thousands=_alike(thousands))
    if decimal != ".":
        return NumberStyle(decimal=decimal, thousands="." + every if decimal == "," else every)
    point, comma = (_first(bodies, _tells(sign)) for sign in ".,")
    if point and comma:
        raise DataError(
            f"{file}: {point!r} has a point before its fraction, and {comma!r} a comma: "
            "write one of them throughout"
        )
    grouped = _first(bodies, _GROUPED)
    if comma:
        notes.append(
            f"a comma stands before the fraction of numbers such as {comma!r} "
            "(`data.decimal=comma` says so)"
        )
        return NumberStyle(decimal=",", thousands="." + every, notes=tuple(notes))
    unclear = _first(bodies, _unclear(","))
    if unclear and not point:
        raise _ambiguous(file, unclear, ",")
    unclear = _first(bodies, _unclear("."))
    if unclear and doubtful and not point:
        raise _ambiguous(file, unclear, ".")
    if grouped:
        notes.append(
            f"digits of numbers such as {grouped!r} are grouped by thousands "
            f"(`data.thousands={_name_of(grouped)}` says so)"
        )
    return NumberStyle(decimal=".", thousands="," + every, notes=tuple(notes))


_GROUPED = (
    rf"^[-+]?\d{{1,3}}(?:(?:,\d{{3}})+|(?:[{_SPACES}]\d{{3}})+|(?:[{_APOSTROPHES}]\d{{3}})+|"
    r"(?:,\d{2})+,\d{3})(?:\.\d*)?$"
)


def _tells(decimal: str) -> str:
    """Return the pattern of numbers in which this sign can only be the decimal separator."""
    mark, other = (r"\.", ",") if decimal == "." else (",", r"\.")
    groups = rf"(?:{other}\d{{3}})"
    blanks = rf"(?:[{_SPACES}{_APOSTROPHES}]\d{{3}})"
    indian = r"|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d*)?" if decimal == "." else ""
    return (
        rf"^[-+]?(?:\d{{1,3}}{groups}+{mark}\d*|\d{{1,3}}{groups}{{2,}}|\d{{1,3}}{blanks}+{mark}\d+|"
        rf"\d*{mark}(?:\d{{1,2}}|\d{{4,}})|(?:0|\d{{4,}})?{mark}\d{{3}}{indian})"
        r"(?:[eE][-+]?\d+)?$"
    )


def _unclear(sign: str) -> str:
    return rf"^[-+]?[1-9]\d{{0,2}}{re.escape(sign)}\d{{3}}$"


def tells_comma(cell: str) -> bool:
    """Return whether a text is a number that must have a decimal comma."""
    return _TELLS_COMMA.match(cell.strip()) is not None


_TELLS_COMMA = re.compile(_tells(","))


def _first(bodies: list[Any], pattern: str) -> str | None:
    import pyarrow.compute as pc

    for body in bodies:
        found = pc.fill_null(pc.match_substring_regex(body, pattern), False)
        place = pc.index(found, True).as_py()
        if place >= 0:
            return str(body[place].as_py())
    return None


def _ambiguous(file: str, text: str, sign: str) -> DataError:
    whole, fraction = text.replace(sign, ""), text.replace(sign, ".")
    if sign == ",":
        ways = f"`data.thousands=comma` reads {whole}, `data.thousands=point` reads {fraction}"
    else:
        ways = f"`data.thousands=point` reads {whole}, `data.thousands=none` reads {fraction}"
    return DataError(f"{file}: {text!r} may be {fraction} or {whole}: {ways}")


def _alike(sign: str) -> str:
    for group in (_SPACES, _APOSTROPHES):
        if sign in group:
            return group
    return sign


def _name_of(text: str) -> str:
    if any(sign in text for sign in _SPACES):
        return "space"
    return "apostrophe" if any(sign in text for sign in _APOSTROPHES) else "comma"


@dataclass(frozen=True, kw_only=True)
class _Signs:
    """Notes on the signs around the digits of a column, and the fault in them, if any."""

    notes: tuple[str, ...] = ()
    fault: str | None = None


def _bodies(column: Any) -> tuple[Any, Any, _Signs]:
    """Return digits with separators, each number's power of ten, and the signs around them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    text = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    none = pa.scalar(None, pa.string())
    text = pc.if_else(pc.is_in(text, value_set=pa.array(NULL_TOKENS)), none, text)
    notes = []
    dashes = pc.is_in(text, value_set=pa.array(DASHES))
    if pc.any(dashes).as_py():
        shown = text[pc.index(dashes, True).as_py()].as_py()
        notes.append(f"{shown!r} is read as a missing value")
        text = pc.if_else(dashes, none, text)
    power: Any = pa.scalar("")
    fault = None
    if pc.any(pc.match_substring_regex(text, r"[^\d.,eE+\-]")).as_py():
        text, power, more, fault = _without_signs(text)
        notes += more
    return text, power, _Signs(notes=tuple(notes), fault=fault)


def _without_signs(text: Any) -> tuple[Any, Any, list[str], str | None]:
    """Remove currency and percent signs, and letters for thousands, millions and so on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    notes, fault = [], None
    text = pc.replace_substring(text, "\u2212", "-")
    body = pc.replace_substring_regex(text, r"^\(\s*(\S.*?)\s*\)$", r"-\1")
    marks = pc.extract_regex(body, rf"(?P<mark>[{_CURRENCIES}])").field("mark")
    signs = [mark for mark in pc.unique(marks).to_pylist() if mark]
    if signs:
        if len(signs) > 1:
            fault = f"the column mixes the currencies {signs[0]} and {signs[1]}"
        body = pc.replace_substring_regex(body, rf"^([-+]?)\s*[{_CURRENCIES}]\s*", r"\1")
        body = pc.replace_substring_regex(body, rf"\s*[{_CURRENCIES}]$", "")
        notes.append(f"the sign {signs[0]} is left away")
    percent = pc.fill_null(pc.ends_with(body, "%"), False)
    power = pc.if_else(percent, "e-2", "")
    if pc.any(percent).as_py():
        if not pc.all(pc.or_(percent, pc.is_null(body))).as_py():
            fault = "some values of the column are percent and some are not"
        body = pc.replace_substring_regex(body, r"\s*%$", "")
        notes.append("percent are read as fractions: 5% is 0.05")
    letters = pc.fill_null(pc.match_substring_regex(body, r"\d\s*[KMBTkmbt]$"), False)
    if pc.any(letters).as_py():
        for letter, exponent in _POWERS.items():
            ends = pc.fill_null(pc.ends_with(body, letter, ignore_case=True), False)
            power = pc.if_else(pc.and_(letters, ends), exponent, power)
        body = pc.if_else(letters, pc.replace_substring_regex(body, r"\s*[A-Za-z]$", ""), body)
        notes.append("K, M, B and T are read as thousands, millions, billions and trillions")
    return body.cast(pa.string()), power, notes, fault


def has_percent_signs(column: Any) -> bool:
    """Return whether numbers of an arrow column are text with percent signs, as in ``1.25%``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _flat(column)
    if not _is_text(column.type):
        return False
    text = pc.utf8_rtrim_whitespace(column.cast(pa.string()))
    return bool(pc.any(pc.match_substring_regex(text, r"%\)?$")).as_py())


def column_notes(column: Any) -> tuple[str, ...]:
    """Return notes for the reader on the signs around the numbers of a column."""
    column = _flat(column)
    return _bodies(column)[2].notes if _is_text(column.type) else ()


def _parsed(column: Any, name: str, cells: Cells) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    style = cells.style
    body, power, signs = _bodies(column)
    mark = re.escape(style.decimal)
    groups = "".join(map(re.escape, style.thousands))
    if groups:
        number = rf"\d+|\d{{1,3}}(?:[{groups}]\d{{3}})+" + (
            r"|\d{1,2}(?:,\d{2})+,\d{3}" * ("," in groups)
        )
        grammar = rf"^[-+]?(?:{number})?(?:{mark}\d*)?(?:[eE][-+]?\d+)?$"
        fits = pc.match_substring_regex(body, grammar)
        pointed = pc.replace_substring_regex(body, f"[{groups}]", "")
        pointed = pc.if_else(fits, pointed, "no number")
    else:
        pointed = body
    if style.decimal != ".":
        # A point is not the decimal separator here, and must not become one.
        pointed = pc.replace_substring(pointed, ".", "point")
        pointed = pc.replace_substring(pointed, style.decimal, ".")
    pointed = pc.binary_join_element_wise(pointed, power, "")
    if signs.fault is None and _is_numeric(pointed):
        return pa.chunked_array([pointed.cast(pa.float64())])
    good, bad = 0, len(body)  # the first `good` rows are numbers, the first `bad` are not all
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _is_numeric(pointed[:middle]) else (good, middle)
    if signs.fault is not None and _is_numeric(pointed):
        raise DataError(f"{cells.file}: column '{name}': {signs.fault}")
    when = moment_text(index_of(cells.stamps[good : good + 1], cells.tz)[0])
    shown = str(column[good].as_py()).strip()
    raise DataError(
        f"{cells.file}: column '{name}' holds {_short(shown)!r} at {when} (data row {good + 1}), "
        f"which is no number{_hint(shown, style)}"
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def _hint(text: str, style: NumberStyle) -> str:
    """Return a hint for a text that a person would take for a number."""
    if re.match(r"^[-+]?\d[\d.,]*$", text):
        return (
            f": '{style.decimal}' is read before the fraction (`data.decimal`), and "
            + (f"'{style.thousands[0]}'" if style.thousands else "nothing")
            + " between thousands (`data.thousands`)"
        )
    return ""


def _is_numeric(text: Any) -> bool:
    import pyarrow as pa

    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
