"""Tables beside the prices (universe, delisting returns, features): their columns and moments."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.clocks import instants_of
from backtest_batch.core.data.column_names import plain
from backtest_batch.core.data.layout import (
    SYMBOL_LIKE,
    ColumnNames,
    find_times_of_day,
    find_timestamps,
    some,
)
from backtest_batch.core.data.number_text import Cells, column_notes, find_style, floats
from backtest_batch.core.data.paths import find_files
from backtest_batch.core.data.symbol_rows import coded_symbols
from backtest_batch.core.data.tables import TableFile
from backtest_batch.core.data.timestamps import (
    TimestampRules,
    index_of,
    read_timestamps,
    stamps_of,
    zone,
    zone_name,
)
from backtest_batch.core.data.wording import is_plain, printable_name
from backtest_batch.core.engine.sessions import session_days
from backtest_batch.errors import DataError, DataNotFoundError

SYMBOL_NAMES = ("symbol", "ticker", "tickers", "symbols", "sym", *sorted(SYMBOL_LIKE))
"""Names of the column of symbols, as :func:`.plain` writes them."""

_SAMPLE = 1_000
"""Rows whose timestamps are looked at: what is a day in them is one in all."""

_KEYS = re.compile(r" \(`data\.[^`]*`[^)]*\)")
_FORMAT = re.compile(r"read by `data\.timestamp_format=([^`]*)`")
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class SideStamps:
    """A column of timestamps.

    Attributes
    ----------
    stamps
        Nanoseconds since 1970, shape (n_rows,): instants when there is a zone, else wall clock.
    tz
        Name of the zone; None without one.
    label
        Name of the table, for messages.
    """

    stamps: IntArray
    tz: str | None
    label: str

    @cached_property
    def are_dates(self) -> bool:
        """Whether all of them are midnights, and so dates, each of which means the whole day."""
        return _are_midnights(index_of(self.stamps, self.tz))

    def next_day(self) -> "SideStamps":
        """Return the midnights after these dates."""
        walls = index_of(self.stamps, self.tz).tz_localize(None) + _DAY
        if self.tz is None:
            return replace(self, stamps=walls.as_unit("ns").asi8)
        moved = walls.tz_localize(zone(self.tz), ambiguous=True, nonexistent="shift_forward")
        return replace(self, stamps=moved.as_unit("ns").asi8)

    def on_clock_of(self, index: pd.DatetimeIndex, series: IntArray | None = None) -> IntArray:
        """Return the moments like the stamps of ``index``: instants, or wall clock without a zone.

        SideStamps without a zone are taken as the wall clock of the zone of the index. Of an hour
        that occurs twice, as clocks are put back, the order of the rows tells which one is meant if
        both are there.

        Parameters
        ----------
        index
            Timestamps of the bars.
        series
            Which series each row belongs to, shape (n_rows,); rows of one series are in order of
            time, or all in reverse order. None means that all rows are one series.

        Raises
        ------
        DataError
            When they have a zone and the index has none, or a change of the clocks skips a time, or
            repeats it so that it is unclear which one is meant.
        """
        if index.tz is None and self.tz is not None:
            raise DataError(
                f"{self.label}: its timestamps have a time zone ({self.tz}), but those of the "
                f"prices have none: `data.timezone={self.tz}` gives them one"
            )
        if index.tz is None or self.tz is not None:
            return self.stamps
        walls = index_of(self.stamps, None)
        if self.are_dates:
            there = walls.tz_localize(index.tz, ambiguous=True, nonexistent="shift_forward")
            return there.as_unit("ns").asi8
        return instants_of(walls, index, self.label, series)

    def bars_from(self, index: pd.DatetimeIndex, session_end: str | None) -> IntArray:
        """Return the position of the first bar at or after each; of a date, of its session on.

        Parameters
        ----------
        index
            Timestamps of the bars.
        session_end
            When the sessions of the market end; None is midnight.

        Raises
        ------
        DataError
            As :meth:`on_clock_of` does.
        """
        if self._are_sessions_of(index):
            return np.searchsorted(session_days(index, session_end), self._days())
        own = np.arange(len(self.stamps))  # each row stands alone
        return np.searchsorted(stamps_of(index)[0], self.on_clock_of(index, own))

    def bars_after(self, index: pd.DatetimeIndex, session_end: str | None) -> IntArray:
        """Return the position of the first bar after each; of a date, after its session."""
        if self._are_sessions_of(index):
            days = session_days(index, session_end)
            return np.searchsorted(days, self._days(), side="right")
        own = np.arange(len(self.stamps))
        if self.are_dates:
            return np.searchsorted(stamps_of(index)[0], self.next_day().on_clock_of(index, own))
        return np.searchsorted(stamps_of(index)[0], self.on_clock_of(index, own), side="right")

    def _are_sessions_of(self, index: pd.DatetimeIndex) -> bool:
        return self.are_dates and self.tz in (None, zone_name(index.tz))

    def _days(self) -> IntArray:
        return index_of(self.stamps, self.tz).tz_localize(None).as_unit("ns").asi8 // _DAY.value

    def known_from(self, index: pd.DatetimeIndex, series: IntArray | None = None) -> IntArray:
        """Return when each observation becomes known, on the clock of ``index``.

        A date means the whole day. If the bars are dates too, each is the end of its day, and a
        value of the same date is known by then. If the bars lie within days, a value is known only
        from the next day on.
        """
        if self.are_dates and not _are_midnights(index):
            return self.next_day().on_clock_of(index, series)
        return self.on_clock_of(index, series)


def _refuse_periods(column: Any, label: str) -> None:
    """Refuse months and years: read as their first day, a value would be known before its time."""
    for value in column.slice(0, _SAMPLE).to_pylist():
        if not isinstance(value, str):
            continue
        parts = re.findall(r"\d+|[A-Za-z]{3,}", value)
        longest = max((len(part) for part in parts if part.isdecimal()), default=0)
        is_month = len(parts) == 2 and longest in (2, 4)
        if is_month or (len(parts) == 1 and longest in (4, 6)):
            raise DataError(
                f"{label}: {value.strip()!r} is a whole month or year, and not a day; write the "
                "day from which on the row holds: of a month's figure that on which it was known"
            )


def _are_midnights(index: pd.DatetimeIndex) -> bool:
    return bool((index == index.normalize()).all())


class FrameTable:
    """A DataFrame in memory, read as a file would be; an index other than a range is a column."""

    decimal = "."
    thousands: str | None = None
    is_doubtful = False
    notes: tuple[str, ...] = ()

    def __init__(self, frame: pd.DataFrame, label: str) -> None:
        if frame.columns.nlevels > 1:
            raise DataError(f"{label} may have one level of names, but has {frame.columns.nlevels}")
        self.path = Path(label)
        self._timestamp: str | None = None
        if not isinstance(frame.index, pd.RangeIndex):
            if isinstance(frame.index, pd.DatetimeIndex):
                name = frame.index.name
                self._timestamp = "timestamp" if name is None else str(name)
                frame = frame.rename_axis(self._timestamp)
            frame = frame.reset_index()
        self._frame = frame.set_axis([str(label) for label in frame.columns], axis=1)

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, the index first."""
        return list(self._frame.columns)

    @property
    def index_column(self) -> str | None:
        """The index, when it holds timestamps."""
        return self._timestamp

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns."""
        import pyarrow as pa

        wanted = self._frame[[*text, *numbers]]
        try:
            return pa.Table.from_pandas(wanted, preserve_index=False)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(f"{self.path} holds values of several kinds: {error}") from error


@dataclass(frozen=True, kw_only=True)
class SideTable:
    """A table beside the prices.

    Attributes
    ----------
    file
        The file or frame that holds it.
    label
        Its name, for messages.
    said
        What was guessed while it was read.
    """

    file: TableFile
    label: str
    said: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Notes for a reader of the results on how the table was read."""
        # Keys that notes name apply only to the prices.
        notes = [_KEYS.sub("", note) for note in (*self.file.notes, *self.said)]
        notes = [_FORMAT.sub(r"read as \1", note) for note in notes]
        return [f"{self.label}: {note}" for note in dict.fromkeys(notes)]

    def find(self, *names: str) -> str | None:
        """Return the column with one of these names, in any case; None if there is none.

        Raises
        ------
        DataError
            When there are several.
        """
        wanted = {plain(name) for name in names}
        found = [column for column in self.file.columns if plain(column) in wanted]
        if len(found) > 1:
            raise DataError(f"{self.label}: {some(found)} may each be the column '{names[0]}'")
        return found[0] if found else None

    def need(self, *names: str) -> str:
        """Return the column with one of these names.

        Raises
        ------
        DataError
            When there is none, or several.
        """
        column = self.find(*names)
        if column is None:
            raise DataError(
                f"{self.label} has no column '{names[0]}' (it has {some(list(self.file.columns))})"
            )
        return column

    def timestamp_column(self) -> str:
        """Return the column of timestamps, found as in files of prices.

        Raises
        ------
        DataError
            When there is none.
        """
        try:
            return find_timestamps(
                self.file.columns, ColumnNames(), self.label, self.file.index_column
            )
        except DataError as error:
            # The keys that the message names apply only to the prices.
            what = str(error).split("; `data.")[0]
            raise DataError(f"{what}: name the column of the timestamps date") from error

    def clock_column(self, timestamp: str) -> str | None:
        """Return the column of times of day beside a column of days, by its name; None for none."""
        return find_times_of_day(self.file.columns, timestamp)

    def holds_clock(self, column: str) -> bool:
        """Return whether a column holds times such as 09:30 or 093000, and no other numbers."""
        import pyarrow as pa

        values = self.read([column])[column]
        if pa.types.is_time(values.type):
            return True
        text = values.cast(pa.string()).drop_null()
        whole = r"\d{1,2}:\d{2}.*" if plain(column) == "hour" else r"\d{1,2}:\d{2}.*|\d{3,6}"
        return bool(len(text)) and re.fullmatch(whole, text[0].as_py().strip()) is not None

    def symbol_column(self, symbols: Collection[str]) -> str | None:
        """Return the column of symbols, None if there is none.

        A column that is not named symbol, but ticker, code and the like, is that of the symbols if
        it holds any of ``symbols``.

        Raises
        ------
        DataError
            When several columns may be that of the symbols.
        """
        own = self.find("symbol")
        if own is not None:
            return own
        for name in SYMBOL_NAMES:
            column = self.find(name)
            if column is not None and self._holds_any(column, symbols):
                return self._said_symbols(column)
        return None

    def need_symbols(self) -> str:
        """Return the column of symbols, which may also be named ticker, code and the like.

        Raises
        ------
        DataError
            When there is none, or several.
        """
        for name in SYMBOL_NAMES:
            column = self.find(name)
            if column is not None:
                return self._said_symbols(column)
        return self.need("symbol")

    def _holds_any(self, column: str, symbols: Collection[str]) -> bool:
        import pyarrow as pa
        import pyarrow.compute as pc

        text = pc.utf8_trim_whitespace(self.read([column])[column].cast(pa.string()))
        return bool(pc.any(pc.is_in(text, value_set=pa.array(list(symbols), pa.string()))).as_py())

    def _said_symbols(self, column: str) -> str:
        if plain(column) not in ("symbol", "ticker"):
            self.said.append(f"symbols are those of '{column}'")
        return column

    def read(self, text: Sequence[str], numbers: Sequence[str] = ()) -> Any:
        """Return a pyarrow Table of these columns; see :meth:`TableFile.read`."""
        return self.file.read(list(text), list(numbers))

    def moments(self, rows: Any, timestamp: str, clock: str | None) -> SideStamps:
        """Return the moments of a table that was read: of its days, and of its times if there are.

        Raises
        ------
        DataError
            As :meth:`moments_of` does.
        """
        if clock is None:
            return self.moments_of(rows[timestamp])
        found = self.moments_of(rows[timestamp], rows[clock])
        self.said.append(f"times of day are those of '{clock}'")
        return found

    def moments_of(self, column: Any, clock: Any = None) -> SideStamps:
        """Return the moments of an arrow column, in any form that timestamps of prices may have.

        Parameters
        ----------
        column
            Timestamps, or days.
        clock
            Times of day of the rows, if the column holds only days.

        Raises
        ------
        DataError
            When a value is not a timestamp, or names a month or a year.
        """
        _refuse_periods(column, self.label)
        try:
            stamps, tz = read_timestamps(
                column, TimestampRules(), self.label, clock=clock, said=self.said
            )
        except DataError as error:
            # The keys that the message names apply only to the prices.
            what = re.split(r"[;:,] `data\.", str(error))[0]
            raise DataError(f"{what}; write dates as 2020-01-31 (ISO 8601)") from error
        return SideStamps(stamps=np.asarray(stamps), tz=tz, label=self.label)

    def symbols(self, column: Any) -> tuple[IntArray, list[str]]:
        """Return the position of each row's symbol in the list of symbols, and that list."""
        return coded_symbols(column, self.label)

    def floats(self, table: Any, column: str, moments: SideStamps | None = None) -> FloatArray:
        """Return the numbers in a column of a table that was read, NaN for empty cells.

        Raises
        ------
        DataError
            When a value is not a finite number.
        """
        n_rows = table.num_rows
        stamps = np.zeros(n_rows, dtype=np.int64) if moments is None else moments.stamps
        tz = None if moments is None else moments.tz
        style = find_style(
            {column: table[column]},
            self.label,
            decimal=self.file.decimal,
            thousands=self.file.thousands,
            doubtful=self.file.is_doubtful,
        )
        self.said.extend([*style.notes, *column_notes(table[column])])
        cells = Cells(stamps=stamps, tz=tz, file=self.label, style=style)
        try:
            values = floats(table[column], column, cells)
        except DataError as error:
            if moments is not None:
                raise
            raise DataError(str(error).replace(" at 1970-01-01", "")) from error
        infinite = np.isinf(values)
        if infinite.any():
            row = int(infinite.argmax())
            raise DataError(
                f"{self.label}: column '{column}' holds {values[row]} in data row {row + 1} "
                f"({int(infinite.sum()):,} such values), which is no finite number"
            )
        return values


def side_files(path: str | Sequence[str], key: str) -> list[Path]:
    """Return the files that a key names.

    Raises
    ------
    DataError
        When there are none; the message names the key.
    """
    try:
        # Most data have nothing beside them, and need none of this.
        from backtest_batch.core.data import csv_file, parquet_file

        endings = (*csv_file.SUFFIXES, *parquet_file.SUFFIXES)
        return find_files(path if isinstance(path, str) else list(path), endings)
    except DataNotFoundError as error:
        raise DataNotFoundError(f"`{key}`: {error}") from error


@contextmanager
def side_table(file: Path) -> Iterator[SideTable]:
    """Open a file, and turn any error while it is in use into one readable error.

    Raises
    ------
    DataError
        When it cannot be read as a table, or the body of the ``with`` statement fails.
    """
    from backtest_batch.core.data import csv_file, parquet_file

    label = printable_name(file.name)
    try:
        opened: TableFile
        if file.name.lower().endswith((*parquet_file.SUFFIXES, *parquet_file.OTHER_SUFFIXES)):
            opened = parquet_file.ParquetFile(file)
        else:
            opened = csv_file.CsvFile(file)
        yield SideTable(file=opened, label=label)
    except DataError as error:
        if is_plain(str(error)):
            raise
        raise DataError(printable_name(str(error))) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip(": ")
        raise DataError(printable_name(f"{label} cannot be read: {reason}")) from error


def case_hint(named: Collection[str], symbols: Collection[str]) -> str:
    """Return a hint where symbols of a table and of the prices differ in case alone."""
    folded = {symbol.casefold(): symbol for symbol in symbols}
    for name in sorted(named):
        if name.casefold() in folded:
            return f"; {name} and {folded[name.casefold()]} differ in case alone: write them alike"
    return ""


def names_of_some(symbols: Collection[str], most: int = 5) -> str:
    """Return a text of the first few symbols, sorted, and how many more there are."""
    listed = sorted(symbols)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def bar_stamps(index: pd.DatetimeIndex) -> IntArray:
    """Return the nanosecond stamps of the bars, on the clock of the index."""
    return stamps_of(index)[0]
