"""Prices in files: Parquet and CSV."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from backtest_batch.core.data import csv_file, parquet_file
from backtest_batch.core.data.layout import ColumnNames
from backtest_batch.core.data.paths import find_files, hash_file, partition, stem_of
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.suspicions import Adjusted
from backtest_batch.core.data.tables import Reading, TableFile, read_table
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
        Their strptime format; None reads ISO 8601. ``s``, ``ms``, ``us`` and ``ns`` are whole
        numbers that count from 1970 (UTC).
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
    timezone: str | None = None
    symbol_column: str | None = "symbol"
    open_column: str | None = "open"
    high_column: str | None = "high"
    low_column: str | None = "low"
    close_column: str | None = "close"
    volume_column: str | None = "volume"
    adjusted: Adjusted = "auto"

    suffixes: ClassVar[tuple[str, ...]] = ()

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

    @property
    def place(self) -> str:
        """The path, or the first of several."""
        paths = [self.path] if isinstance(self.path, str) else self.path
        others = len(paths) - 1
        return printable_name(paths[0]) + (f" and {others:,} more paths" if others else "")

    def symbol_of(self, file: Path) -> str:
        """Return the symbol of a file that names none: that of its folder, else its own name."""
        held = None if self.symbol_column is None else partition(file, self.symbol_column)
        return printable_name(stem_of(file, self.suffixes)) if held is None else held

    def identity(self) -> dict[str, Any]:
        """Return the options, and name and sha256 of each file: never its place or its date."""
        files = find_files(self.path, self.suffixes)
        content = [[self.symbol_of(file), hash_file(file)] for file in files]
        return {**self.parameters(without=("path",)), "files": content}

    def read(self, wanted: Sequence[str] | None) -> Reading:
        """Return the bars of all files, one file at a time."""
        keep = None if wanted is None else frozenset(wanted)
        names = ColumnNames(
            timestamp=self.timestamp_column,
            symbol=self.symbol_column,
            open=self.open_column,
            high=self.high_column,
            low=self.low_column,
            close=self.close_column,
            volume=self.volume_column,
            adjusted=self.adjusted,
        )
        rules = TimestampRules(format=self.timestamp_format, timezone=self.timezone)
        files = find_files(self.path, self.suffixes)
        readings = [self._read_file(file, names, rules, keep) for file in files]
        available = dict.fromkeys(symbol for item in readings for symbol in item.available)
        if not available:
            raise DataError(f"{self.place} holds no bars")
        return Reading(
            available=tuple(available),
            bars=[bars for item in readings for bars in item.bars],
            in_order=all(item.in_order for item in readings),
            notes=_joint_notes(files, readings),
        )

    def _read_file(
        self,
        file: Path,
        names: ColumnNames,
        rules: TimestampRules,
        wanted: Collection[str] | None,
    ) -> Reading:
        label = printable_name(file)
        try:
            reading = read_table(
                self.table(file),
                symbol=self.symbol_of(file),
                names=names,
                rules=rules,
                wanted=wanted,
                exclude=frozenset(self.exclude or ()),
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


def _joint_notes(files: Sequence[Path], readings: Sequence[Reading]) -> tuple[str, ...]:
    """Return each note once, with the names of the files that it is about."""
    about: dict[str, list[str]] = {}
    for file, reading in zip(files, readings, strict=True):
        for note in reading.notes:
            # Without the folder: what the cache knows of a file holds wherever it lies.
            about.setdefault(note, []).append(printable_name(file.name))
    return tuple(
        f"{names[0]}{f' and {len(names) - 1:,} more files' if len(names) > 1 else ''}: {note}"
        for note, names in about.items()
    )


@dataclass(frozen=True, kw_only=True)
class Csv(Files):
    r"""Prices in CSV files (``.csv``, ``.csv.gz``) whose first line names the columns.

    Three layouts are told apart by their columns. Wide: timestamps and one column of closes a
    symbol. Long: a column ``symbol``, with close and any of open, high, low, volume. One file a
    symbol: a column ``close`` and no column of symbols; the file's name is the symbol.

    Parameters
    ----------
    separator, decimal
        Characters between fields, and before the fraction of a number; or their names, which a
        shell leaves alone: comma, semicolon, tab, space, pipe, point.
    """

    separator: str = ","
    decimal: str = "."

    suffixes: ClassVar[tuple[str, ...]] = csv_file.SUFFIXES

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

    def table(self, file: Path) -> TableFile:
        """Return the table in a CSV file."""
        separator, decimal = _character(self.separator), _character(self.decimal)
        return csv_file.CsvFile(file, separator=separator, decimal=decimal)


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
    return "\t" if text == "\\t" else _NAMES.get(text, text)


@dataclass(frozen=True, kw_only=True)
class Parquet(Files):
    """Prices in Parquet files (``.parquet``, ``.pq``); layouts as in :class:`Csv`.

    The timestamps may also be the index that pandas wrote.
    """

    suffixes: ClassVar[tuple[str, ...]] = parquet_file.SUFFIXES

    def table(self, file: Path) -> TableFile:
        """Return the table in a Parquet file."""
        return parquet_file.ParquetFile(file)
