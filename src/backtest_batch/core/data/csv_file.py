"""Tables in CSV files, plain or packed."""

import csv
import io
import os
import re
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from backtest_batch.core.data import packed
from backtest_batch.core.data.csv_dialect import (
    LONGEST_LINE,
    SEPARATORS,
    Dialect,
    encoding_of,
    find_dialect,
    is_comment,
)
from backtest_batch.core.data.number_text import NULL_TOKENS
from backtest_batch.core.data.paths import recognised_format
from backtest_batch.core.data.several_tables import LaterTable, later_tables
from backtest_batch.core.data.wording import printable_name
from backtest_batch.errors import DataError

SUFFIXES = (".csv", ".csv.gz")
"""Endings of the files that count in a folder."""

OTHER_SUFFIXES = (
    *(".csv" + packed for packed in (".bz2", ".xz", ".zst", ".zip")),
    ".txt",
    ".tsv",
    ".tab",
    *(
        kind + packed
        for kind in (".txt", ".tsv")
        for packed in (".gz", ".bz2", ".xz", ".zst", ".zip")
    ),
    ".zip",
)
"""Endings of the files that count in a folder without any of the usual ones."""

_FOREIGN = "windows-1252"
_DAMAGE: tuple[type[Exception], ...] = (*packed.ERRORS, zlib.error, csv.Error, ValueError)
_OTHER_ENCODINGS = ("shift_jis", "gb18030", "big5", "euc_kr", "euc_jp", "windows-1251")
_REMARK = re.compile(
    r"(?:source|sources|note|notes|copyright|disclaimer|downloaded|data source|quelle|fuente|fonte)"
    r"(?::|\s+(?:by|from|on|\(c\)|\d))|\u00a9|\*+\s",
    re.IGNORECASE,
)
_RUN = re.compile(r"\S {2,}\S")
_GAP = re.compile(r" {2,}")
_SAMPLE_LINES = 60
_SAMPLE_BYTES = 1 << 16
_MOST_WAYS = 4


class CsvFile:
    """A CSV file whose first line names the columns.

    Every line must have as many fields as the first, so that a truncated file is noticed. If pandas
    wrote two levels of names, as for ``yfinance.download(...)``, the columns are named
    ``('Close', 'AAPL')``, as in Parquet.

    Parameters
    ----------
    path
        The file; a packed one (.gz, .bz2, .xz, .zst, .zip) is unpacked while it is read.
    separator, decimal, thousands
        Characters between fields, before the fraction of a number, and between its thousands. If
        the usual comma and point do not fit, the form of the file is guessed, and the guess is
        reported. A space is any number of them if columns are filled up with spaces.
    encoding
        Name of the encoding; None tries UTF-8 and UTF-16, then Windows-1252.
    names
        Names of the columns, for a file whose first line already holds values.
    """

    def __init__(
        self,
        path: Path,
        *,
        separator: str = ",",
        decimal: str = ".",
        thousands: str | None = None,
        encoding: str | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.path = path
        self.decimal = decimal
        self.thousands = thousands
        self._separator = separator
        self._encoding = encoding
        self._names = names
        self._dropped: list[str] = []
        self._others: list[LaterTable] = []
        self._is_aligned = False

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, from the first line."""
        return self._dialect.columns

    @property
    def index_column(self) -> str | None:
        """None, as CSV marks no column as the index."""
        return None

    @property
    def is_doubtful(self) -> bool:
        """Whether ``1.234`` may mean 1234: semicolons often go with decimal commas."""
        guessed = self._dialect.separator == ";" != self._separator
        return self.decimal == "." and (guessed or self._dialect.has_commas)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed about the form of the file, and which lines were not read."""
        notes = list(self._dialect.notes)
        if self._dialect.encoding not in ("utf-8", self._encoding):
            notes.append(
                f"the text is read as {self._dialect.encoding.upper()} (`data.encoding` says so)"
            )
        if self._dropped:
            count = len(self._dropped)
            lines = "1 line" if count == 1 else f"{count:,} lines"
            notes.append(f"{lines} without values left out: {self._dropped[0][:40]!r}")
        if self._others:
            notes.append(self._note_on_others())
        return tuple(notes)

    def _note_on_others(self) -> str:
        titled = self._dialect.title
        first = f" ({titled!r})" if titled else ""
        other, more = self._others[0], len(self._others) - 1
        named = f" ({other.title[:60]!r})" if other.title else ""
        rest = "" if not more else " and 1 more are" if more == 1 else f" and {more:,} more are"
        return (
            f"of {more + 2:,} tables the first{first} is read; the one that begins in line "
            f"{other.line:,}{named}{rest or ' is'} left out"
        )

    @cached_property
    def _dialect(self) -> Dialect:
        try:
            encoding = self._encoding or self._first_encoding()
            try:
                found = self._find(encoding)
            except UnicodeDecodeError:
                if self._encoding is not None:
                    raise
                found = self._find(_FOREIGN)
                self._refuse_garbled(found)
        except DataError:
            raise
        except packed.ERRORS as error:
            raise self._unreadable(error) from error
        except (zlib.error, csv.Error, ValueError, LookupError) as error:
            raise self._unreadable(error) from error
        if found.values is not None:
            raise self._no_names(found)
        if not found.columns:
            raise DataError(
                f"{printable_name(self.path)} is empty: its first line should name the columns"
            )
        if len(found.columns) == 1:
            self._refuse_one_column(found.columns[0])
        return found

    def _find(self, encoding: str) -> Dialect:
        return find_dialect(
            self._open, encoding=encoding, separator=self._separator, names=self._names
        )

    def _first_encoding(self) -> str:
        if packed.ending(self.path) is None:
            what = recognised_format(self.path)
            if what is not None:
                raise DataError(f"{printable_name(self.path)} is {what}")
        with packed.opened(self.path) as stream:
            return encoding_of(stream.read(256))

    def _refuse_garbled(self, found: Dialect) -> None:
        """Refuse names of columns that are mostly accents: those of another script."""
        names = ", ".join(found.columns or found.values or ())
        others = sum(character > "\x7f" for character in names)
        if others > sum(character.isascii() and character.isalpha() for character in names):
            raise DataError(
                f"{printable_name(self.path)}: the text is not UTF-8, and its first names are "
                f"{names[:20]!r} as {_FOREIGN.title()}: `data.encoding` names its encoding"
                f"{self._ways()}"
            )

    def _ways(self) -> str:
        """Return how other encodings would read the first line that is not plain ASCII."""
        with packed.opened(self.path) as stream:
            start = stream.read(_SAMPLE_BYTES)
        start = start[: start.rfind(b"\n") + 1] or start
        found: dict[str, str] = {}
        for name in _OTHER_ENCODINGS:
            try:
                found[name] = start.decode(name)
            except UnicodeDecodeError:
                continue
        # The right one, of two bytes a character, gives the fewest characters.
        names = sorted(found, key=lambda name: len(found[name]))[:_MOST_WAYS]
        lines = {
            name: next((line for line in found[name].splitlines() if not line.isascii()), "")
            for name in names
        }
        ways = [f"{name} reads {line[:20]!r}" for name, line in lines.items() if line]
        return f"; {', '.join(ways)}" if ways else ""

    def _no_names(self, found: Dialect) -> DataError:
        cells = found.values or []
        shown = ", ".join(cell.strip()[:30] for cell in cells[:4])
        names = _likely_names(cells)
        return DataError(
            f"{printable_name(self.path)}: the first line names no columns, it holds values "
            f"({shown}{', ...' if len(cells) > 4 else ''}): write a line of names above it, or say "
            f"them in the order of the file, such as `'data.columns=[{','.join(names)}]'`"
        )

    def _refuse_one_column(self, cell: str) -> None:
        for name, character in SEPARATORS.items():
            if character in cell:
                raise DataError(
                    f"{printable_name(self.path)}: the first line is one column, {cell[:60]!r}: "
                    f"`data.separator={name}` takes it apart"
                )
        if re.search(r"\S\s{2,}\S", cell):
            raise DataError(
                f"{printable_name(self.path)}: the first line is one column, {cell[:60]!r}: "
                "`data.separator=space` takes it apart at spaces, however many"
            )
        if " " in cell.strip():
            raise DataError(
                f"{printable_name(self.path)}: the first line is one column, {cell[:60]!r}: "
                "`data.separator=space` takes it apart at spaces"
            )

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns; ``numbers`` that are not plain come as text.

        Of several tables in the file, one below the other, the first is read, which is noted.
        """
        import pyarrow as pa

        try:
            table = self._read_all(text, numbers)
        except DataError:
            if not self._has_others():
                raise
            return self._read_all(text, numbers)
        if any(table[name].type == pa.string() for name in numbers) and self._has_others():
            return self._read_all(text, numbers)
        return table

    def _has_others(self) -> bool:
        """Look for further tables; return whether there are any that were not known before."""
        if self._others:
            return False
        dialect = self._dialect
        try:
            with self._open(dialect.encoding) as lines:
                self._others = later_tables(
                    lines, dialect.separator, dialect.columns, dialect.n_lines
                )
        except _DAMAGE:
            return False
        return bool(self._others)

    def _read_all(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        import pyarrow as pa

        guessed = self.is_doubtful or self.thousands is not None
        guessed = guessed or self._dialect.separator == self.decimal
        try:
            if not guessed:
                return self._read(text, numbers)
        except pa.ArrowInvalid as error:
            if self._is_foreign(error):
                return self._read_all(text, numbers)
            if "conversion error" not in str(error):
                raise self._unreadable(error) from error
        except (*packed.ERRORS, zlib.error, ValueError, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        try:
            return self._read([*text, *numbers], [])
        except DataError:
            raise
        except (*packed.ERRORS, zlib.error, ValueError, pa.ArrowException) as error:
            if self._is_foreign(error):
                return self._read_all(text, numbers)
            raise self._unreadable(error) from error

    def _is_foreign(self, error: Exception) -> bool:
        """Return whether the text turned out not to be UTF-8, and switch to Windows-1252 if so."""
        told = "invalid UTF8" in str(error) or isinstance(error, UnicodeDecodeError)
        if not told or self._encoding is not None or self._dialect.encoding != "utf-8":
            return False
        self._dialect = replace(self._dialect, encoding=_FOREIGN)
        return True

    def _read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow

        dialect = self._dialect
        types = dict.fromkeys(text, pa.string()) | dict.fromkeys(numbers, pa.float64())
        self._dropped = []
        with ExitStack() as stack:
            source: Any = self.path
            encoding = "utf8" if dialect.encoding == "utf-8" else dialect.encoding
            # Arrow cannot open file names that are not UTF-8.
            if packed.ending(self.path) or printable_name(self.path) != os.fspath(self.path):
                source = stack.enter_context(packed.opened(self.path))
            if self._is_aligned and not self._others:
                with self._open(dialect.encoding) as lines:
                    source, encoding = io.BytesIO(lines.read().encode()), "utf8"
            if self._others:
                source, encoding = io.BytesIO(self._first_table()), "utf8"
            return arrow.read_csv(
                source,
                read_options=arrow.ReadOptions(
                    block_size=LONGEST_LINE,
                    column_names=dialect.columns,
                    skip_rows=dialect.n_lines,
                    encoding=encoding,
                ),
                parse_options=arrow.ParseOptions(
                    delimiter=dialect.separator, invalid_row_handler=self._odd_row
                ),
                convert_options=arrow.ConvertOptions(
                    column_types=types,
                    include_columns=[*text, *numbers],
                    null_values=list(NULL_TOKENS),
                    strings_can_be_null=False,
                    decimal_point=self.decimal if numbers else ".",
                ),
            )

    def _first_table(self) -> bytes:
        with self._open(self._dialect.encoding) as lines:
            return "".join(islice(lines, self._others[0].line - 1)).encode()

    def _odd_row(self, row: Any) -> str:
        """Leave out remarks; any other row with more or fewer fields is a fault."""
        text = row.text.strip().strip('"')
        # The last line of a truncated file begins with a digit or a symbol and has no spaces.
        remark = row.actual_columns == 1 and text[:1].isalpha() and " " in text
        remark = remark or _REMARK.match(text) is not None
        if is_comment(text) or remark or not text.strip(self._dialect.separator + " "):
            self._dropped.append(text)
            return "skip"
        return "error"

    def _open(self, encoding: str) -> IO[str]:
        name = "utf-8-sig" if encoding == "utf-8" else encoding
        text = io.TextIOWrapper(packed.opened(self.path), encoding=name, newline="")
        if self._separator != " ":
            return text
        with text:
            start = list(islice(text, _SAMPLE_LINES))
            filled = [line for line in start if line.strip()]
            self._is_aligned = 2 * sum(map(bool, map(_RUN.search, filled))) > len(filled)
            lines = chain(start, text)
            return io.StringIO("".join(map(_closed_up, lines) if self._is_aligned else lines))

    def _unreadable(self, error: Exception | str) -> DataError:
        if isinstance(error, DataError):
            return error
        reason = str(error).strip() or type(error).__name__
        if re.search(r"Expected \d+ columns, got \d+", reason):
            reason += "; a line with more or fewer fields is to be completed, or taken out"
        if isinstance(error, UnicodeDecodeError):
            byte = f"byte 0x{error.object[error.start]:02x} at position {error.start:,}"
            if self._encoding is not None:
                reason = f"it is not {self._encoding} ({byte}); `data.encoding` names another"
            else:
                reason = (
                    f"the text is neither UTF-8 nor {_FOREIGN.title()} ({byte}): "
                    f"`data.encoding` names its encoding{self._ways()}"
                )
        return DataError(f"{printable_name(self.path)} cannot be read as CSV: {reason}")


def _closed_up(line: str) -> str:
    """Return a line of columns that are filled up with spaces, with one space between them."""
    return _GAP.sub(" ", line.rstrip()) + "\n"


def _likely_names(cells: Sequence[str]) -> list[str]:
    """Return likely names for the columns of a line of values."""
    apart = len(cells) > 2 and ":" in cells[1] and ":" not in cells[0]
    names = ["date", "time"] if apart else ["timestamp"]
    rest = len(cells) - len(names)
    bars = ["open", "high", "low", "close", "volume"]
    if rest == 1:
        return [*names, "close"]
    if rest < 4:
        return [*names, *("AAA", "BBB", "CCC")[:rest]]
    return [*names, *bars[:rest], *(f"x{number}" for number in range(1, rest - len(bars) + 1))]
