"""Numbers as they stand in files, to float64."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from backtest_batch.errors import DataError
from backtest_batch.market.bars import moment_text
from backtest_batch.market.fields import FloatArray, IntArray
from backtest_batch.market.zones import index_of

NULL_TOKENS = ("", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "#N/A")
"""Texts that stand for a missing value in a column of numbers."""

_THOUSANDS = re.compile(r"^[-+]?\d{1,3}([.,' \u00a0\u202f]\d{3})+([.,]\d+)?$")
_LONGEST_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Where numbers stand, and how their text is written.

    Attributes
    ----------
    stamps, tz
        Timestamps of the rows: nanoseconds since 1970, shape (n_rows,), and the name of their zone.
    file
        Name of the file, for messages.
    decimal
        Character before the fraction of a number.
    """

    stamps: IntArray
    tz: str | None
    file: str
    decimal: str = "."


def floats(column: Any, name: str, cells: Cells) -> FloatArray:
    """Return an arrow column as float64, shape (n_rows,), NaN where it is null.

    Raises
    ------
    DataError
        When a value is no number; the message has it as it stands in the file.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _parsed(column, name, cells)
    elif not (
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        raise DataError(f"{cells.file}: column '{name}' holds {kind}, not numbers")
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return np.array(values, dtype=np.float64)


def _parsed(column: Any, name: str, cells: Cells) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(column.cast(pa.string())).combine_chunks()
    missing = pc.is_in(text, value_set=pa.array(NULL_TOKENS))
    text = pc.if_else(missing, pa.scalar(None, pa.string()), text)
    pointed = text
    if cells.decimal != ".":
        # A point is no decimal here: it must not become one.
        pointed = pc.replace_substring(text, ".", "point")
        pointed = pc.replace_substring(pointed, cells.decimal, ".")
    if _is_numeric(pointed):
        return pointed.cast(pa.float64())
    good, bad = 0, len(text)  # the first `good` rows are numbers, the first `bad` are not all
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _is_numeric(pointed[:middle]) else (good, middle)
    when = moment_text(index_of(cells.stamps[good : good + 1], cells.tz)[0])
    shown = text[good].as_py()
    raise DataError(
        f"{cells.file}: column '{name}' holds {_short(shown)!r} at {when} (data row {good + 1}), "
        f"which is no number{_hint(shown, cells.decimal)}"
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def _hint(text: str, decimal: str) -> str:
    """Return what to do about a text that a reader would take for a number, or for none."""
    if text == "." or set(text) == {"-"}:
        return ": write a missing value as an empty cell or NA"
    if _THOUSANDS.match(text):
        other = "," if decimal == "." else "."
        return (
            f": separators of thousands are not read (`data.decimal` is the '{decimal}' before "
            f"the fraction); write the file without them, or, where '{other}' is before the "
            f"fraction, say `data.decimal={'comma' if other == ',' else 'point'}`"
        )
    if re.match(r"^[-+]?\d+,\d+$", text) and decimal == ".":
        return ": `data.decimal=comma` reads a comma before the fraction"
    if re.match(r"^[-+]?[^\w\s.,+-]\s*\d", text) or text.endswith("%"):
        return ": signs of currencies and percent are not read; write the number alone"
    return ""


def _is_numeric(text: Any) -> bool:
    import pyarrow as pa

    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
