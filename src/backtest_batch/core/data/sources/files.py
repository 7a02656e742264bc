"""Prices in files: CSV, Parquet and Feather, and workbooks."""

import codecs
import re
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from backtest_batch.core.data import csv_file, excel_file, parquet_file
from backtest_batch.core.data.layout import ColumnNames
from backtest_batch.core.data.number_text import NO_THOUSANDS
from backtest_batch.core.data.paths import find_files, hash_file, partition, stem_of
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.suspicions import Adjusted
from backtest_batch.core.data.tables import Reading, TableFile, joined_readings, read_table
from backtest_batch.core.data.timestamps import TimestampRules, zone
from backtest_batch.core.data.wording import is_plain, printable_name
from backtest_batch.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Files(Source):
    """Prices in one file, several, or a folder; see :class:`Csv` and :class:`Parquet`.

    Parameters
    ----------
    path
        A file, a folder (its files, not those of its subfolders unless these are partitions such
        as ``symbol=AAPL``), a pattern such as ``prices/*.csv``, or a list of these; relative to
        the working directory.
    timestamp_column
        Column of the timestamps; None looks for timestamp, date, datetime or time, or an index.
    timestamp_format
        Their strptime format; None reads ISO 8601, and other forms that can be read in one way
        only, which is said. ``s``, ``ms``, ``us`` and ``ns`` are whole numbers that count from
        1970 (UTC); ``days`` counts from 1970 too, ``excel`` as workbooks do.
    time_column
        Column of the times of day, where that of the timestamps holds days; None looks for one
        named time where days repeat.
    timezone
        Zone of the index, an IANA name: timestamps without a zone are its wall clock, others are
        converted to it. None keeps what the file says.
    symbol_column
        A table with this column has one row a symbol and bar; None says that there is none.
    open_column, high_column, low_column, close_column, volume_column
        Columns of a table that is long or of one symbol; None leaves the field out. None for
        ``close_column`` says that every column holds the closes of a symbol.
    adjusted
        Closes where a file has adjusted ones (``Adj Close``) beside those that were quoted:
        ``auto`` uses the adjusted ones and says so; True demands them; False uses those quoted.
        Open, high and low are brought onto the scale of the closes that are used.
    """

    path: str | list[str]
    timestamp_column: str | None = None
    timestamp_format: str | None = None
    time_column: str | None = None
    timezone: str | None = None
    symbol_column: str | None = "symbol"
    open_column: str | None = "open"
    high_column: str | None = "high"
    low_column: str | None = "low"
    close_column: str | None = "close"
    volume_column: str | None = "volume"
    adjusted: Adjusted = "auto"

    suffixes: ClassVar[tuple[str, ...]] = ()
    other_suffixes: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path or (not isinstance(self.path, str) and not all(self.path)):
            raise ValueError(f"`path` must name a file or folder, but got path={self.path!r}.")
        zone(self.timezone)
        if self.adjusted not in ("auto", True, False):
            raise ValueError(
                f"`adjusted` must be auto, true or false, but got adjusted={self.adjusted}."
            )

    @abstractmethod
    def table(self, file: Path) -> TableFile:
        """Return the table in a file."""

    def tables(self, file: Path) -> Sequence[tuple[str, TableFile]]:
        """Return the tables in a file, each with the symbol of one that names none."""
        return [(self.symbol_of(file), self.table(file))]

    def _files(self) -> list[Path]:
        return find_files(self.path, self.suffixes, self.other_suffixes)

    @property
    def place(self) -> str:
        """The path, or the first of several."""
        paths = [self.path] if isinstance(self.path, str) else self.path
        others = len(paths) - 1
        return printable_name(paths[0]) + (f" and {others:,} more paths" if others else "")

    def symbol_of(self, file: Path) -> str:
        """Return the symbol of a file that names none: that of its folder, else its own name."""
        if self.symbol_column is not None:
            usual = self.symbol_column == ColumnNames().symbol
            for key in (self.symbol_column, *(("ticker",) if usual else ())):
                held = partition(file, key)
                if held is not None:
                    return held
        return printable_name(stem_of(file, (*self.suffixes, *self.other_suffixes)))

    def identity(self) -> dict[str, Any]:
        """Return the options, and name and sha256 of each file: never its place or its date."""
        content = [[self.symbol_of(file), hash_file(file)] for file in self._files()]
        return {**self.parameters(without=("path",)), "files": content}

    def read(self, wanted: Sequence[str] | None) -> Reading:
        """Return the bars of all files, one file at a time."""
        keep = None if wanted is None else frozenset(wanted)
        names = ColumnNames(
            timestamp=self.timestamp_column,
            time=self.time_column,
            symbol=self.symbol_column,
            open=self.open_column,
            high=self.high_column,
            low=self.low_column,
            close=self.close_column,
            volume=self.volume_column,
            adjusted=self.adjusted,
        )
        rules = TimestampRules(format=self.timestamp_format, timezone=self.timezone)
        files = self._files()
        readings = [self._read_file(file, names, rules, keep) for file in files]
        reading = joined_readings(readings)
        if not reading.available:
            raise DataError(f"{self.place} holds no bars")
        return replace(reading, notes=_joint_notes(files, readings))

    def _read_file(
        self,
        file: Path,
        names: ColumnNames,
        rules: TimestampRules,
        wanted: Collection[str] | None,
    ) -> Reading:
        label = printable_name(file)
        try:
            reading = joined_readings(
                [
                    read_table(
                        table,
                        symbol=symbol,
                        names=names,
                        rules=rules,
                        wanted=wanted,
                        exclude=frozenset(self.exclude or ()),
                    )
                    for symbol, table in self.tables(file)
                ]
            )
        except DataError as error:
            if is_plain(str(error)):
                raise
            # Names and values of a damaged file may hold anything; a terminal would obey it.
            raise DataError(printable_name(str(error))) from error
        except Exception as error:
            # Bytes that were damaged can lead anywhere in the libraries that read them.
            reason = f"{type(error).__name__}: {error}".strip(": ")
            raise DataError(printable_name(f"{label} cannot be read: {reason}")) from error
        for symbol in reading.available:
            if not is_plain(symbol):
                raise DataError(
                    f"{label} names a symbol with a control character, {symbol!r}: it is damaged, "
                    "or no table"
                )
        return reading


_EXAMPLE = re.compile(r"""(?<=such as )(?:'[^']*'|"[^"]*"|\S+)|(?<=left out: ).*""")


def _joint_notes(files: Sequence[Path], readings: Sequence[Reading]) -> tuple[str, ...]:
    """Return each note once, with the names of the files that it is about.

    Notes that differ in their examples alone are one.
    """
    about: dict[str, tuple[str, list[str]]] = {}
    for file, reading in zip(files, readings, strict=True):
        for note in reading.notes:
            # Without the folder: what the cache knows of a file holds wherever it lies.
            _, names = about.setdefault(_EXAMPLE.sub("", note), (note, []))
            names.append(printable_name(file.name))
    return tuple(
        f"{names[0]}{f' and {len(names) - 1:,} more files' if len(names) > 1 else ''}: {note}"
        for note, names in about.values()
    )


@dataclass(frozen=True, kw_only=True)
class Csv(Files):
    r"""Prices in CSV files, plain or packed, whose first line names the columns.

    Three layouts are told apart by their columns. Wide: timestamps and one column of closes a
    symbol. Long: a column ``symbol``, with close and any of open, high, low, volume. One file a
    symbol: a column ``close`` and no column of symbols; the file's name is the symbol.

    Where the defaults below do not fit a file, its form is told by its first lines, and what was
    found is said; what can be read in two ways is refused.

    Parameters
    ----------
    separator, decimal
        Characters between fields, and before the fraction of a number; or their names, which a
        shell leaves alone: comma, semicolon, tab, space, pipe, point.
    thousands
        Character between the thousands of a number, or its name (also apostrophe); ``none`` says
        that there is none, None looks at the numbers.
    encoding
        Encoding of the text; None takes UTF-8 or UTF-16, else Windows-1252.
    columns
        Names of the columns of files whose first line holds values.
    """

    separator: str = ","
    decimal: str = "."
    thousands: str | None = None
    encoding: str | None = None
    columns: list[str] | None = None

    suffixes: ClassVar[tuple[str, ...]] = csv_file.SUFFIXES
    other_suffixes: ClassVar[tuple[str, ...]] = csv_file.OTHER_SUFFIXES

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("separator", "decimal"):
            if len(_character(getattr(self, name))) != 1:
                raise ValueError(
                    f"`{name}` must be one character or its name ({', '.join(_NAMES)}), but got "
                    f"{name}={getattr(self, name)!r}."
                )
        if _character(self.separator) == _character(self.decimal):
            raise ValueError(
                "`separator` and `decimal` must differ, but got "
                f"separator={self.separator!r}, decimal={self.decimal!r}."
            )
        _check_thousands(self.thousands, _character(self.decimal))
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError as error:
                raise ValueError(
                    "`encoding` must be the name of one, such as utf-8 or windows-1252, but got "
                    f"encoding={self.encoding!r}."
                ) from error
        if self.columns is not None and len(self.columns) < 2:
            raise ValueError(
                f"`columns` must name at least two columns, but got columns={self.columns}."
            )

    def table(self, file: Path) -> TableFile:
        """Return the table in a CSV file."""
        return csv_file.CsvFile(
            file,
            separator=_character(self.separator),
            decimal=_character(self.decimal),
            thousands=None if self.thousands is None else _character(self.thousands),
            encoding=self.encoding,
            names=self.columns,
        )


_NAMES = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "space": " ",
    "pipe": "|",
    "point": ".",
}


def _character(text: str) -> str:
    r"""Return the character that a text is or names; ``\t`` as it is typed is a tab."""
    return "\t" if text == "\\t" else (_NAMES | {"apostrophe": "'"}).get(text, text)


def _check_thousands(thousands: str | None, decimal: str) -> None:
    if thousands is None or thousands == NO_THOUSANDS:
        return
    sign = _character(thousands)
    if len(sign) != 1 or sign.isalnum():
        raise ValueError(
            "`thousands` must be one character, its name (comma, point, space, apostrophe), or "
            f"{NO_THOUSANDS}, but got thousands={thousands!r}."
        )
    if sign == decimal != ".":
        raise ValueError(
            f"`thousands` and `decimal` must differ, but both are {sign!r} "
            f"(thousands={thousands!r})."
        )


@dataclass(frozen=True, kw_only=True)
class Parquet(Files):
    """Prices in Parquet files (``.parquet``, ``.pq``), or Feather (``.feather``, ``.arrow``).

    Layouts as in :class:`Csv`. The timestamps may also be the index that pandas wrote.
    """

    suffixes: ClassVar[tuple[str, ...]] = parquet_file.SUFFIXES
    other_suffixes: ClassVar[tuple[str, ...]] = parquet_file.OTHER_SUFFIXES

    def table(self, file: Path) -> TableFile:
        """Return the table in a Parquet or Feather file."""
        return parquet_file.ParquetFile(file)


@dataclass(frozen=True, kw_only=True)
class Excel(Files):
    """Prices in workbooks (``.xlsx``, ``.xls``, ``.xlsb``, ``.ods``); layouts as in :class:`Csv`.

    Parameters
    ----------
    sheet
        Name or number (from 1) of the sheet. None takes the only one; several with the same
        names of columns are one sheet a symbol.
    decimal, thousands
        As for :class:`Csv`, for numbers that are text in their cells.
    """

    sheet: str | int | None = None
    decimal: str = "."
    thousands: str | None = None

    suffixes: ClassVar[tuple[str, ...]] = excel_file.SUFFIXES

    def __post_init__(self) -> None:
        super().__post_init__()
        if _character(self.decimal) not in (".", ","):
            raise ValueError(f"`decimal` must be point or comma, but got decimal={self.decimal!r}.")
        _check_thousands(self.thousands, _character(self.decimal))

    def table(self, file: Path) -> TableFile:
        """Return the table on the only sheet that is read."""
        return self.tables(file)[0][1]

    def tables(self, file: Path) -> Sequence[tuple[str, TableFile]]:
        """Return the table of each sheet that is read."""
        found = excel_file.sheets(
            file,
            self.sheet,
            decimal=_character(self.decimal),
            thousands=None if self.thousands is None else _character(self.thousands),
        )
        if len(found) == 1:
            return [(self.symbol_of(file), found[0])]
        return [(each.name, each) for each in found]
