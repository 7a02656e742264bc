"""Prices in files: CSV, Parquet and Feather, and workbooks."""

import codecs
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from backtest_batch.core.data import csv_file, excel_file, parquet_file
from backtest_batch.core.data.layout import ColumnNames
from backtest_batch.core.data.number_text import NO_THOUSANDS
from backtest_batch.core.data.paths import find_files, hash_file, partition, stem_of
from backtest_batch.core.data.sources.tabular import Tabular
from backtest_batch.core.data.tables import Reading, TableFile, joined_readings
from backtest_batch.core.data.wording import printable_name
from backtest_batch.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Files(Tabular):
    """Prices in one file, several, or a folder; see :class:`Csv` and :class:`Parquet`.

    Parameters
    ----------
    path
        A file, a folder (its files, not those of its subfolders unless these are partitions such
        as ``symbol=AAPL``), a pattern such as ``prices/*.csv``, or a list of these; relative to
        the working directory.
    """

    path: str | list[str]

    suffixes: ClassVar[tuple[str, ...]] = ()
    other_suffixes: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path or (not isinstance(self.path, str) and not all(self.path)):
            raise ValueError(f"`path` must name a file or folder, but got path={self.path!r}.")

    @abstractmethod
    def table(self, file: Path) -> TableFile:
        """Return the table in a file."""

    def tables(self, file: Path) -> Sequence[tuple[str, TableFile]]:
        """Return the tables in a file, each with the symbol to use if the table names none."""
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
        """Return the symbol of a file that names none: from its folder, else from its own name."""
        if self.symbol_column is not None:
            usual = self.symbol_column == ColumnNames().symbol
            for key in (self.symbol_column, *(("ticker",) if usual else ())):
                held = partition(file, key)
                if held is not None:
                    return held
        return printable_name(stem_of(file, (*self.suffixes, *self.other_suffixes)))

    def identity(self) -> dict[str, Any]:
        """Return the options, and each file's symbol and sha256, but never its path or date."""
        content = [[self.symbol_of(file), hash_file(file)] for file in self._files()]
        return {**self.parameters(without=("path",)), "files": content}

    def whereabouts(self) -> dict[str, Any]:
        """Return the options and the absolute paths."""
        paths = [self.path] if isinstance(self.path, str) else self.path
        here = [str(Path(path).expanduser().absolute()) for path in paths]
        return {**self.parameters(without=("path",)), "path": here}

    def read(self, wanted: Sequence[str] | None) -> Reading:
        """Return the bars of all files, one file at a time."""
        keep = self.to_read(wanted)
        files = self._files()
        readings = [
            self.read_tables(partial(self.tables, file), printable_name(file), keep)
            for file in files
        ]
        reading = joined_readings(readings)
        if not reading.available:
            raise DataError(f"{self.place} holds no bars")
        reading = replace(reading, notes=_joint_notes(files, readings))
        return self.rolled(reading, wanted)


_EXAMPLE = re.compile(r"""(?<=such as )(?:'[^']*'|"[^"]*"|\S+)|(?<=left out: ).*""")


def _joint_notes(files: Sequence[Path], readings: Sequence[Reading]) -> tuple[str, ...]:
    """Return each note once, with the names of the files that it is about.

    Notes that differ only in their examples count as one.
    """
    about: dict[str, tuple[str, list[str]]] = {}
    for file, reading in zip(files, readings, strict=True):
        for note in reading.notes:
            # Without the folder: what is cached about a file holds wherever the file lies.
            _, names = about.setdefault(_EXAMPLE.sub("", note), (note, []))
            names.append(printable_name(file.name))
    return tuple(
        f"{names[0]}{f' and {len(names) - 1:,} more files' if len(names) > 1 else ''}: {note}"
        for note, names in about.values()
    )


@dataclass(frozen=True, kw_only=True)
class Csv(Files):
    r"""Prices in CSV files, plain or packed, whose first line names the columns.

    Three layouts are told apart by their columns. Wide: timestamps and one column of closes per
    symbol. Long: a column ``symbol``, with close and any of open, high, low, volume. One file per
    symbol: a column ``close`` and no column of symbols; the file's name is the symbol.

    If the defaults below do not fit a file, its form is guessed from its first lines, and the guess
    is reported. A file that can be read in two ways is refused.

    Parameters
    ----------
    separator, decimal
        Character between fields, and character before the fraction of a number; or their names,
        which need no quotes in a shell: comma, semicolon, tab, space, pipe, point.
    thousands
        Character between the thousands of a number, or its name (also apostrophe); ``none`` means
        that there is none, None finds out from the numbers.
    encoding
        Encoding of the text; None tries UTF-8 and UTF-16, then Windows-1252.
    columns
        Names of the columns, for files whose first line already holds values.
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
        # The default comma may stay: with decimal commas it separates fields only if the numbers
        # are quoted.
        if _character(self.separator) == _character(self.decimal) != ",":
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
    r"""Return the character that a text is or names; a typed ``\t`` is a tab."""
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

    The layouts are those of :class:`Csv`. The timestamps may also be the index that pandas wrote.
    """

    suffixes: ClassVar[tuple[str, ...]] = parquet_file.SUFFIXES
    other_suffixes: ClassVar[tuple[str, ...]] = parquet_file.OTHER_SUFFIXES

    def table(self, file: Path) -> TableFile:
        """Return the table in a Parquet or Feather file."""
        return parquet_file.ParquetFile(file)


@dataclass(frozen=True, kw_only=True)
class Excel(Files):
    """Prices in workbooks (``.xlsx``, ``.xls``, ``.xlsb``, ``.ods``), laid out as in :class:`Csv`.

    Parameters
    ----------
    sheet
        Name or number (from 1) of the sheet. None takes the only one; several sheets with the same
        column names are read as one sheet per symbol.
    decimal, thousands
        As for :class:`Csv`, for numbers that are stored as text.
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
