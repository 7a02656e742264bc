"""Tables in CSV files, plain or compressed, and how their cells are read as numbers."""

import csv
import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.layout import CLOSE_LIKE, column_meaning
from backtest_batch.core.data.paths import not_utf8, recognised_format
from backtest_batch.core.data.timestamps import index_of
from backtest_batch.core.data.wording import printable_name
from backtest_batch.errors import DataError

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


SUFFIXES = (".csv", ".csv.gz")
"""Endings of the files that count in a folder."""

# A row must fit into a block; rows of ten thousand symbols have some 100 kB.
_BLOCK_BYTES = 1 << 24
_LEVELS = ("", "ticker", "tickers", "symbol", "symbols", "price", "field", "attributes")


class CsvFile:
    """A CSV file whose first line names the columns.

    Every line must have as many fields as the first: a file that was cut off shows. Where pandas
    wrote two levels of names, as for ``yfinance.download(...)``, the columns are named
    ``('Close', 'AAPL')``, as in Parquet.

    Parameters
    ----------
    path
        The file; ``.gz`` is unpacked while it is read.
    separator, decimal
        Characters between fields, and before the fraction of a number.
    """

    def __init__(self, path: Path, *, separator: str = ",", decimal: str = ".") -> None:
        self.path = path
        self.decimal = decimal
        self._separator = separator

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, from the first line."""
        return self._header[0]

    @property
    def index_column(self) -> str | None:
        """None: CSV marks no column as index."""
        return None

    @cached_property
    def _header(self) -> tuple[list[str], int]:
        """Names of the columns, and the number of lines that they take."""
        try:
            what = None if self._is_packed else recognised_format(self.path)
            if what is not None:
                raise DataError(f"{printable_name(self.path)} is {what}")
            with self._open() as stream:
                rows = csv.reader(_lines(stream), delimiter=self._separator)
                first, second, third = (next(rows, None) for _ in range(3))
        except DataError:
            raise
        except UnicodeDecodeError as error:
            raise self._unreadable(not_utf8(error)) from error
        except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
            raise self._unreadable(error) from error
        if not first:
            raise DataError(
                f"{printable_name(self.path)} is empty: its first line should name the columns"
            )
        self._refuse_values(first)
        if len(first) == 1:
            self._refuse_one_column(first[0])
        levels = _two_levels(first, second, third)
        return (first, 1) if levels is None else levels

    def _refuse_values(self, cells: Sequence[str]) -> None:
        if _is_value(cells[0]) and all(_is_value(cell) for cell in cells if cell.strip()):
            shown = ", ".join(cell.strip()[:30] for cell in cells[:4])
            raise DataError(
                f"{printable_name(self.path)}: the first line names no columns, it holds values "
                f"({shown}{', ...' if len(cells) > 4 else ''}): write a line of names above it, "
                f"such as {self._separator.join(('timestamp', 'open', 'high', 'low', 'close'))}"
            )

    def _refuse_one_column(self, cell: str) -> None:
        for name, character in (("semicolon", ";"), ("tab", "\t"), ("pipe", "|"), ("comma", ",")):
            if character in cell:
                raise DataError(
                    f"{printable_name(self.path)}: the first line is one column, {cell[:60]!r}: "
                    f"`data.separator={name}` takes it apart"
                )

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns; text where ``numbers`` are none."""
        import pyarrow as pa

        try:
            return self._read(text, numbers)
        except pa.ArrowInvalid as error:
            if "conversion error" not in str(error):
                raise self._unreadable(error) from error
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        try:
            return self._read([*text, *numbers], [])
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def _read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow

        columns, n_lines = self._header
        types = dict.fromkeys(text, pa.string()) | dict.fromkeys(numbers, pa.float64())
        with ExitStack() as stack:
            source: Any = self.path
            if printable_name(self.path) != os.fspath(self.path):
                # Arrow cannot open names that are no UTF-8.
                source = stack.enter_context(self.path.open("rb"))
                if self._is_packed:
                    source = stack.enter_context(gzip.GzipFile(fileobj=source))
            return arrow.read_csv(
                source,
                read_options=arrow.ReadOptions(
                    block_size=_BLOCK_BYTES, column_names=columns, skip_rows=n_lines
                ),
                parse_options=arrow.ParseOptions(delimiter=self._separator),
                convert_options=arrow.ConvertOptions(
                    column_types=types,
                    include_columns=[*text, *numbers],
                    null_values=list(NULL_TOKENS),
                    strings_can_be_null=False,
                    decimal_point=self.decimal,
                ),
            )

    @property
    def _is_packed(self) -> bool:
        return self.path.name.lower().endswith(".gz")

    def _open(self) -> IO[str]:
        if self._is_packed:
            return gzip.open(self.path, "rt", encoding="utf-8-sig", newline="")
        return self.path.open(encoding="utf-8-sig", newline="")

    def _unreadable(self, error: Exception | str) -> DataError:
        reason = str(error).strip() or type(error).__name__
        return DataError(f"{printable_name(self.path)} cannot be read as CSV: {reason}")


def _lines(stream: IO[str]) -> Iterator[str]:
    """Yield the lines of a text; a file without ends of lines is not read whole."""
    while line := stream.readline(_BLOCK_BYTES):
        if len(line) == _BLOCK_BYTES:
            raise ValueError(f"a line is longer than {_BLOCK_BYTES >> 20} MiB")
        yield line


def _is_value(cell: str) -> bool:
    """Return whether a cell of the first line holds a number or a moment rather than a name."""
    text = cell.strip()
    return any(map(str.isdigit, text)) and all(sign in "0123456789 +-.,:/TZeE$" for sign in text)


def _two_levels(
    first: list[str], second: list[str] | None, third: list[str] | None
) -> tuple[list[str], int] | None:
    """Return the columns of a table below two lines of names, and the number of lines.

    pandas writes the levels of the columns one a line, with the names of the levels before them,
    and below these a line that holds the name of the index alone, when it has one.
    """
    if second is None or len(second) != len(first) or _is_value(second[0]):
        return None
    for labels, others in ((first[1:], second[1:]), (second[1:], first[1:])):
        meanings = {column_meaning(label) for label in labels}
        if None in meanings or not meanings & CLOSE_LIKE or not all(map(str.strip, others)):
            continue
        if second[0].strip().casefold() not in _LEVELS and any(map(_is_value, others)):
            continue
        named = third is not None and len(third) == len(first) and not any(third[1:])
        index = third[0].strip() if named and third is not None else ""
        pairs = [str(pair) for pair in zip(first[1:], second[1:], strict=True)]
        return [index, *pairs], 3 if named else 2
    return None
