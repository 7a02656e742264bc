"""Prices in files: Parquet and CSV."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from backtest_batch.errors import DataError
from backtest_batch.market import csv_file, parquet_file
from backtest_batch.market.layout import ColumnNames
from backtest_batch.market.paths import find_files, hash_file, stem_of
from backtest_batch.market.sources.base import Source
from backtest_batch.market.tables import Reading, TableFile, read_table
from backtest_batch.market.timestamps import TimestampRules
from backtest_batch.market.zones import zone


@dataclass(frozen=True, kw_only=True)
class Files(Source):
    """Prices in one file, several, or a folder; see :class:`Csv` and :class:`Parquet`.

    Parameters
    ----------
    path
        A file, a folder (its files, not those of its subfolders), a pattern such as
        ``prices/*.csv``, or a list of these; relative to the working directory.
    timestamp_column
        Column of the timestamps; None looks for timestamp, date, datetime or time, or an index.
    timestamp_format
        Their strptime format; None reads ISO 8601.
    timezone
        Zone of the index, an IANA name: timestamps without a zone are its wall clock, others are
        converted to it. None keeps what the file says.
    symbol_column
        A table with this column has one row a symbol and bar; None says that there is none.
    open_column, high_column, low_column, close_column, volume_column
        Columns of a table that is long or of one symbol; None leaves the field out.
    """

    path: str | list[str]
    timestamp_column: str | None = None
    timestamp_format: str | None = None
    timezone: str | None = None
    symbol_column: str | None = "symbol"
    open_column: str | None = "open"
    high_column: str | None = "high"
    low_column: str | None = "low"
    close_column: str = "close"
    volume_column: str | None = "volume"

    suffixes: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path or (not isinstance(self.path, str) and not all(self.path)):
            raise ValueError(f"`path` must name a file or folder, but got path={self.path!r}.")
        zone(self.timezone)

    @abstractmethod
    def table(self, file: Path) -> TableFile:
        """Return the table in a file."""

    def identity(self) -> dict[str, Any]:
        """Return the options, and name and sha256 of each file: never its place or its date."""
        files = find_files(self.path, self.suffixes)
        content = [[stem_of(file, self.suffixes), hash_file(file)] for file in files]
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
        )
        rules = TimestampRules(format=self.timestamp_format, timezone=self.timezone)
        readings = [
            read_table(
                self.table(file),
                symbol=stem_of(file, self.suffixes),
                names=names,
                rules=rules,
                wanted=keep,
            )
            for file in find_files(self.path, self.suffixes)
        ]
        available = dict.fromkeys(symbol for item in readings for symbol in item.available)
        if not available:
            raise DataError(f"{self.path} holds no bars")
        return Reading(
            available=tuple(available),
            bars=[bars for item in readings for bars in item.bars],
            in_order=all(item.in_order for item in readings),
        )


@dataclass(frozen=True, kw_only=True)
class Csv(Files):
    """Prices in CSV files (``.csv``, ``.csv.gz``) whose first line names the columns.

    Three layouts are told apart by their columns. Wide: timestamps and one column of closes a
    symbol. Long: a column ``symbol``, with close and any of open, high, low, volume. One file a
    symbol: a column ``close`` and no column of symbols; the file's name is the symbol.

    Parameters
    ----------
    separator, decimal
        Characters between fields, and before the fraction of a number.
    """

    separator: str = ","
    decimal: str = "."

    suffixes: ClassVar[tuple[str, ...]] = csv_file.SUFFIXES

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("separator", "decimal"):
            if len(getattr(self, name)) != 1:
                raise ValueError(
                    f"`{name}` must be one character, but got {name}={getattr(self, name)!r}."
                )
        if self.separator == self.decimal:
            raise ValueError(
                "`separator` and `decimal` must differ, but got "
                f"separator={self.separator!r}, decimal={self.decimal!r}."
            )

    def table(self, file: Path) -> TableFile:
        """Return the table in a CSV file."""
        return csv_file.CsvFile(file, separator=self.separator, decimal=self.decimal)


@dataclass(frozen=True, kw_only=True)
class Parquet(Files):
    """Prices in Parquet files (``.parquet``, ``.pq``); layouts as in :class:`Csv`.

    The timestamps may also be the index that pandas wrote.
    """

    suffixes: ClassVar[tuple[str, ...]] = parquet_file.SUFFIXES

    def table(self, file: Path) -> TableFile:
        """Return the table in a Parquet file."""
        return parquet_file.ParquetFile(file)
