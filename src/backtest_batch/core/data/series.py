"""Series that are not assets: read from a file, and aligned with the bars of a panel.

Benchmarks and factors are such series. Once aligned, they are kept in the cache under the
fingerprint of their content, where worker processes find them, as a panel whose only field holds
returns.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.construct import TARGET, build
from backtest_batch.core.data import cache
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.gains import (
    CALM,
    WILD,
    are_missing_codes,
    missing_codes_text,
    names_percent,
)
from backtest_batch.core.data.matching import Matching, matched
from backtest_batch.core.data.panel import Panel, content_fingerprint
from backtest_batch.core.data.timestamps import index_of
from backtest_batch.core.data.wording import printable_name
from backtest_batch.core.engine.frequency import periods_per_year_from
from backtest_batch.errors import ConfigurationError, DataError, DataNotFoundError

if TYPE_CHECKING:
    from backtest_batch.core.data.sources.files import Files


@lru_cache(maxsize=1)
def _kinds() -> "Mapping[str, type[Files]]":
    """Return which source reads a file, by the ending of its name."""
    # Workers read no files: importing what does would cost each of them a fiftieth of a second.
    from backtest_batch.core.data.sources.files import Csv, Excel, Parquet

    kinds = (Csv, Parquet, Excel)
    return {end: kind for kind in kinds for end in (*kind.suffixes, *kind.other_suffixes)}


def is_series_file(path: str) -> bool:
    """Return whether a file may hold series, by its name."""
    return path.lower().endswith(tuple(_kinds()))


def known_rows(values: FloatArray) -> BoolArray:
    """Return which rows of an array of shape (n_rows, n_columns) are complete."""
    return np.asarray(np.isfinite(values).all(axis=1), dtype=np.bool_)


Unit = Literal["percent", "fraction"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesTable:
    """Series from one file, or from memory.

    Attributes
    ----------
    place
        Its name in messages.
    index
        Timestamps, strictly increasing, shape (n_rows,).
    names
        Names of the columns.
    values
        Shape (n_rows, n_columns); NaN where there is no value.
    notes
        Notes from reading it.
    signed
        Columns whose numbers had percent signs, and are fractions already.
    """

    place: str
    index: pd.DatetimeIndex
    names: tuple[str, ...]
    values: FloatArray
    notes: tuple[str, ...] = ()
    signed: frozenset[str] = frozenset()

    def only(self, names: Sequence[str]) -> "SeriesTable":
        """Return a table of only these columns."""
        positions = {name: column for column, name in enumerate(self.names)}
        columns = [positions[name] for name in names]
        return replace(self, names=tuple(names), values=self.values[:, columns])

    def without_gaps(self) -> "SeriesTable":
        """Return the rows in which every column has a value.

        Raises
        ------
        DataError
            When there is none.
        """
        kept = known_rows(self.values)
        if not kept.any():
            raise DataError(f"{self.place} holds no value")
        return replace(self, index=self.index[kept], values=self.values[kept])

    def as_fractions(self, unit: Unit | None = None) -> "SeriesTable":
        """Return returns as fractions, with NaN for codes of missing values.

        Numbers that had percent signs are fractions already, whatever the unit of the others is.

        Parameters
        ----------
        unit
            Unit of the returns. None guesses it from their size, and adds a note if it is percent.

        Raises
        ------
        ConfigurationError
            When ``unit`` is not a known unit.
        DataError
            When a column looks like prices (always above 0, and mostly above 1), or the size does
            not tell the unit.
        """
        if unit not in (None, "percent", "fraction"):
            raise ConfigurationError(f"`unit` must be percent or fraction, but got {unit}")
        table = self._without_codes()
        plain = [name for name in self.names if name not in self.signed]
        if not plain:
            return table
        columns = [column for column, name in enumerate(self.names) if name not in self.signed]
        percent, said = table.only(plain)._are_percent(unit)
        if not percent:
            return table
        values = table.values.copy()
        values[:, columns] /= 100.0
        return replace(table, values=values, notes=(*table.notes, *said))

    def _without_codes(self) -> "SeriesTable":
        had_signs = np.array([name in self.signed for name in self.names])
        coded = np.where(
            had_signs, are_missing_codes(self.values * 100.0), are_missing_codes(self.values)
        )
        if not coded.any():
            return self
        said = f"{self.place}: {missing_codes_text(int(coded.sum()))}"
        values = np.where(coded, np.nan, self.values)
        return replace(self, values=values, notes=(*self.notes, said))

    def _are_percent(self, unit: Unit | None) -> tuple[bool, list[str]]:
        """Return whether returns are percent, and a note where that was guessed."""
        for name, column in zip(self.names, self.values.T, strict=True):
            held = column[np.isfinite(column)]
            if len(held) and held.min() > 0.0 and np.median(held) > 1.0:
                raise DataError(
                    f"{self.place}: {name} holds prices, it seems, {held[0]:g} first; returns are "
                    "wanted here, as 0.01 or 1 for 1 %"
                )
        if unit is not None:
            return unit == "percent", []
        finite = [column[np.isfinite(column)] for column in self.values.T]
        deviations = [np.std(held) for held in finite if len(held)]
        if not deviations:
            return False, []
        a_year = periods_per_year_from(self.index) or 252.0
        volatility = float(np.median(deviations)) * math.sqrt(a_year)
        named = [name for name in self.names if names_percent(name)]
        if len(named) == len(self.names):
            return True, [f"{self.place}: the returns are read as percent, as '{named[0]}' says"]
        if volatility <= CALM and not named:
            return False, []
        told = f"as fractions they would vary by {volatility:.0%} a year"
        if volatility < WILD:
            raise DataError(
                f"{self.place}: the returns may be fractions or percent; {told}: "
                f"{{file: {self.place}, unit: percent}}, or unit: fraction, says which"
            )
        return True, [f"{self.place}: the returns are read as percent, 1.5 is 0.015: {told}"]


def read_series(
    path: str, *, are_prices: bool, options: Mapping[str, Any] | None = None
) -> SeriesTable:
    """Return the series in a CSV, Parquet, Feather or Excel file: timestamps, a column per series.

    Parameters
    ----------
    path
        The file, relative to the working directory.
    are_prices
        Whether it holds prices. If so, a file with the fields of an asset (``Open``, ``Close``,
        ``Adj Close``) is read like the files of ``data.path``. Otherwise every column is a series.
    options
        Options for reading such files (``timestamp_column``, ``decimal``, ``sheet``).

    Raises
    ------
    ConfigurationError
        When there is no such option.
    DataNotFoundError
        When there is no such file.
    DataError
        When it cannot be understood; the message names file, column and timestamp.
    """
    if not is_series_file(path):
        raise DataError(
            f"{printable_name(path)} must be a CSV, Parquet, Feather or Excel file, named "
            f"*{', *'.join(_kinds())}"
        )
    try:
        return _read(path, are_prices, options or {})
    except DataNotFoundError:
        raise
    except DataError as error:
        if "`data." not in str(error):
            raise
        said = str(error).replace("`data.", "`")
        raise DataError(
            f"{said}; such options stand beside the file: "
            f"{{file: {printable_name(path)}, timestamp_column: ...}}"
        ) from error


def _read(path: str, are_prices: bool, options: Mapping[str, Any]) -> SeriesTable:
    place = printable_name(path)
    kind = _kinds()[max((end for end in _kinds() if path.lower().endswith(end)), key=len)]
    node = {
        TARGET: f"{kind.__module__}.{kind.__qualname__}",
        "path": path,
        **({} if are_prices else {"symbol_column": None, "close_column": None}),
        **options,
    }
    source, faults = build(node, key="file")
    if faults:
        raise ConfigurationError("; ".join(f"{fault.key}: {fault.allowed}" for fault in faults))
    reading = source.read(None)
    columns = {bars.symbol: bars for bars in reading.bars}
    if any(len(bars.stamps) != len(reading.bars[0].stamps) for bars in reading.bars):
        raise DataError(
            f"{place} holds {len(columns):,} symbols; one is wanted: {', '.join(columns)}"
        )
    first = reading.bars[0]
    order = np.argsort(first.stamps, kind="stable")
    index = index_of(first.stamps[order], first.tz)
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise DataError(
            f"{place}: the timestamp {moment_text(twice)} stands twice{_offset_hint(index, twice)}"
        )
    values = np.column_stack([bars.fields["close"][order] for bars in columns.values()])
    return SeriesTable(
        place=place,
        index=index,
        names=tuple(columns),
        values=values,
        notes=reading.notes,
        signed=frozenset(name for name, bars in columns.items() if bars.had_percent_signs),
    )


def _offset_hint(index: pd.DatetimeIndex, twice: pd.Timestamp) -> str:
    """Return the way out where it may be the clock that gave an hour twice."""
    if index.tz is not None or twice == twice.normalize():
        return ""
    return (
        ": where a clock that is put back repeats an hour, write timestamps with an offset, such "
        "as 2020-11-01T01:30:00-04:00"
    )


def stored_series(fingerprint: str) -> SeriesTable:
    """Return series that were put into the cache from memory.

    Raises
    ------
    DataNotFoundError
        When the cache does not hold them.
    """
    panel = cache.open_panel(fingerprint)
    return SeriesTable(
        place="the given series",
        index=panel.index,
        names=panel.symbols,
        values=np.array(panel.fields["close"]),
    )


def store_series(values: pd.Series | pd.DataFrame, name: str) -> str:
    """Put series from memory into the cache; return their fingerprint.

    Parameters
    ----------
    values
        On a DatetimeIndex, one column per series.
    name
        What they are for, used in messages.

    Raises
    ------
    DataError
        When they are not numbers by timestamp, or a timestamp or column occurs twice.
    """
    frame = values.to_frame(values.name or name) if isinstance(values, pd.Series) else values
    if not isinstance(frame, pd.DataFrame) or not isinstance(frame.index, pd.DatetimeIndex):
        kind = type(values).__name__
        raise DataError(f"`{name}` must be a Series or DataFrame on a DatetimeIndex, not {kind}")
    frame = frame.sort_index()
    if frame.index.hasnans or not frame.index.is_unique or not frame.columns.is_unique:
        raise DataError(f"`{name}` must have each timestamp and each column once")
    try:
        numbers = frame.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"`{name}` must hold numbers: {error}") from error
    names = tuple(str(column) for column in frame.columns)
    return keep_series(pd.DatetimeIndex(frame.index), names, numbers)


def keep_series(index: pd.DatetimeIndex, names: tuple[str, ...], values: FloatArray) -> str:
    """Put arrays of shape (n_bars, n_names) into the cache; return their fingerprint."""
    return keep_fields(index, names, {"close": values})


def keep_fields(
    index: pd.DatetimeIndex, names: tuple[str, ...], fields: dict[str, FloatArray]
) -> str:
    """Put fields of assets, unchecked, into the cache; return their fingerprint."""
    index = index.as_unit("ns")
    arrays = {name: np.ascontiguousarray(values) for name, values in fields.items()}
    fingerprint = content_fingerprint(index, names, arrays)
    cache.store(Panel(index=index, symbols=names, fields=arrays, fingerprint=fingerprint))
    return fingerprint


@lru_cache(maxsize=16)
def open_series(fingerprint: str) -> FloatArray:
    """Return what :func:`keep_series` put into the cache, shape (n_bars, n_names).

    Raises
    ------
    DataNotFoundError
        When the cache does not hold it.
    """
    return cache.open_panel(fingerprint).fields["close"]


@dataclass(frozen=True, kw_only=True, eq=False)
class OnBars:
    """Returns of series on the bars of a panel.

    Attributes
    ----------
    returns
        Shape (n_bars, n_series); NaN where they are not known.
    rows
        How many rows of the series lie after the previous bar and up to this one, shape (n_bars,).
    notes
        What is to be said about which rows belong to which bars.
    """

    returns: FloatArray
    rows: IntArray
    notes: tuple[str, ...] = ()

    def longest_gap(self, bars: range) -> tuple[int, int]:
        """Return the first bar of the longest run of bars without a row, and its length."""
        empty = np.concatenate(([0], self.rows[bars.start : bars.stop] == 0, [0])).astype(np.int8)
        steps = np.diff(empty)
        starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
        if not len(starts):
            return bars.start, 0
        longest = int((stops - starts).argmax())
        return bars.start + int(starts[longest]), int((stops - starts)[longest])


def prices_on(table: SeriesTable, index: pd.DatetimeIndex, *, opens: bool = False) -> OnBars:
    """Return the bar-to-bar returns of prices, where each bar has the last price up to it.

    Bars after the last price have no return.

    Parameters
    ----------
    table
        Prices.
    index
        Timestamps of the bars.
    opens
        Whether the first bar has a return, too: that since the last price before it.
    """
    found = matched(table.index, index, table.place)
    levels = np.where((found.last >= 0)[:, None], table.values[np.maximum(found.last, 0)], np.nan)
    levels[found.is_beyond] = np.nan
    returns = np.full(levels.shape, np.nan)
    returns[1:] = levels[1:] / levels[:-1] - 1.0
    if opens and found.before >= 0:
        returns[0] = levels[0] / table.values[found.before] - 1.0
    return OnBars(returns=returns, rows=found.counts(opens=opens), notes=_notes_of(found))


def returns_on(
    table: SeriesTable, index: pd.DatetimeIndex, *, empty: float, opens: bool = False
) -> OnBars:
    """Return the returns on the bars: on each, those since the previous bar, compounded.

    Parameters
    ----------
    table
        Returns, as fractions.
    index
        Timestamps of the bars.
    empty
        Return of a bar without a row, between the first and the last row.
    opens
        Whether the first bar has a return, too: that of the rows that are dated on it.
    """
    found = matched(table.index, index, table.place)
    last, rows = found.last, found.counts(opens=opens)
    returns = np.full((len(index), len(table.names)), np.nan)
    returns[rows == 0] = empty
    returns[rows == 1] = table.values[last[rows == 1]]
    several = np.flatnonzero(rows > 1)
    if len(several):
        edges = np.column_stack((last[several] - rows[several] + 1, last[several] + 1)).ravel()
        # The last row of ones is needed because reduceat requires every edge to be a row.
        growth = np.vstack((1.0 + table.values, np.ones(len(table.names))))
        returns[several] = np.multiply.reduceat(growth, edges, axis=0)[::2] - 1.0
    returns[last < 0] = np.nan
    # For the first bar that has rows, it is not known whether they begin where the bar does.
    first = int((last < 0).sum())
    is_open = opens and first == 0 and (found.before >= 0 or rows[0] == 1)
    if first < len(index) and not is_open and (first == 0 or rows[first] > 1):
        returns[first] = np.nan
    returns[found.is_beyond] = np.nan
    return OnBars(returns=returns, rows=rows, notes=_notes_of(found))


def _notes_of(found: Matching) -> tuple[str, ...]:
    return (found.note,) if found.note else ()


def levels_on(source: Panel, index: pd.DatetimeIndex) -> tuple[dict[str, FloatArray], IntArray]:
    """Return the fields of a panel on other bars, and how many of its own bars fall on each.

    Each bar has the values of the panel's last bar up to it. After the panel's last bar nothing is
    known.
    """
    found = matched(source.index, index, ", ".join(source.symbols[:1]))
    fields = {}
    for name, values in source.fields.items():
        known = (found.last >= 0)[:, None]
        fields[name] = np.where(known, values[np.maximum(found.last, 0)], np.nan)
        fields[name][found.is_beyond] = np.nan
    return fields, found.counts()
