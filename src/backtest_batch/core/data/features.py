"""Series beside the prices, joined to the bars: at each bar, the last value known by then."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.beside import (
    FrameTable,
    SideStamps,
    SideTable,
    bar_stamps,
    case_hint,
    names_of_some,
    side_files,
    side_table,
)
from backtest_batch.core.data.layout import is_unnamed, some
from backtest_batch.core.data.timestamps import index_of
from backtest_batch.errors import DataError

FeatureInput = pd.DataFrame | pd.Series | Mapping[str, "pd.Series | pd.DataFrame"]
"""Features in memory: a table as in a file, or for each name a Series or a frame by symbol."""


def read_features(
    path: str | Sequence[str], index: pd.DatetimeIndex, symbols: Sequence[str], *, lag: int
) -> tuple[dict[str, FloatArray], list[str]]:
    """Return the features in files, joined to the bars, and notes for the reader.

    Parameters
    ----------
    path
        CSV or Parquet files: timestamps, one column per feature, and a column ``symbol`` if the
        features belong to assets.
    index, symbols
        Bars and assets of the panel.
    lag
        Number of bars by which the features are delayed.

    Returns
    -------
    features : dict of str to ndarray
        Of shape (n_bars,), or (n_bars, n_assets) if they belong to assets. NaN before the first
        value.
    notes : list of str

    Raises
    ------
    DataError
        When a file cannot be understood, or two files have a feature of the same name.
    """
    features: dict[str, FloatArray] = {}
    notes: list[str] = []
    held: dict[str, str] = {}
    for file in side_files(path, "data.features"):
        with side_table(file) as table:
            found, said = _joined(table, index, symbols, lag)
        for name, values in found.items():
            other = held.setdefault(name.casefold(), table.label)
            if other != table.label or name in features:
                raise DataError(
                    f"{table.label} and {other} both have a feature '{name}': name one differently"
                )
            features[name] = values
        notes += [*table.notes, *said]
    return features, notes


def features_of_frames(
    given: FeatureInput, index: pd.DatetimeIndex, symbols: Sequence[str], *, lag: int = 0
) -> dict[str, FloatArray]:
    """Return features in memory, joined to the bars as those in files are.

    Raises
    ------
    DataError
        When they are not numbers by timestamp.
    """
    if isinstance(given, pd.Series):
        given = {str(given.name): given}
    if isinstance(given, pd.DataFrame):
        table = SideTable(file=FrameTable(given, "`features`"), label="`features`")
        return _joined(table, index, symbols, lag)[0]
    features = {}
    for name, values in given.items():
        label = f"`features[{str(name)!r}]`"
        if not isinstance(values, pd.Series | pd.DataFrame):
            raise DataError(
                f"{label} must be a Series, or a DataFrame with a column a symbol, but is a "
                f"{type(values).__name__}"
            )
        if not isinstance(values.index, pd.DatetimeIndex):
            raise DataError(f"{label} must have a DatetimeIndex; pd.to_datetime makes one")
        if isinstance(values, pd.Series):
            frame = values.rename(str(name)).to_frame()
            table = SideTable(file=FrameTable(frame, label), label=label)
            features[str(name)] = _joined(table, index, symbols, lag)[0][str(name)]
        else:
            table = SideTable(file=FrameTable(values, label), label=label)
            by_symbol = _joined(table, index, (), lag)[0]
            found = np.full((len(index), len(symbols)), np.nan)
            for column, symbol in enumerate(symbols):
                if symbol in by_symbol:
                    found[:, column] = by_symbol[symbol]
            if not set(symbols) & set(by_symbol):
                raise DataError(f"{label}: none of its columns is a symbol of the prices")
            features[str(name)] = found
    return features


def _joined(
    table: SideTable, index: pd.DatetimeIndex, symbols: Sequence[str], lag: int
) -> tuple[dict[str, FloatArray], list[str]]:
    timestamp = table.timestamp_column()
    symbol = table.symbol_column(symbols)
    clock = table.clock_column(timestamp)
    if clock is not None and not table.holds_clock(clock):
        clock = None  # a feature, such as the hour as a number
    beside = (timestamp, symbol, clock)
    columns = [each for each in table.file.columns if each not in beside and not is_unnamed(each)]
    if not columns:
        raise DataError(
            f"{table.label} has no column of a feature (it has {some(list(table.file.columns))})"
        )
    rows = table.read([timestamp, *filter(None, (clock, symbol))], columns)
    moments = table.moments(rows, timestamp, clock)
    values = {column.strip(): table.floats(rows, column, moments) for column in columns}
    bars = bar_stamps(index)
    if symbol is None:
        known = moments.known_from(index)
        order = _in_time(table.label, moments, known, None)
        return {
            name: _lagged(_as_of(known[order], each[order], bars), lag)
            for name, each in values.items()
        }, _named_as_symbols(table.label, list(values), symbols)
    codes, names = table.symbols(rows[symbol])
    known = moments.known_from(index, codes)
    features = {name: np.full((len(bars), len(symbols)), np.nan) for name in values}
    by_symbol = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[by_symbol], np.arange(len(names) + 1))
    places = {each: code for code, each in enumerate(names)}
    for column, each in enumerate(symbols):
        code = places.get(each)
        if code is not None:
            own = by_symbol[edges[code] : edges[code + 1]]
            own = own[_in_time(table.label, moments, known, own, each)]
            for name, numbers in values.items():
                features[name][:, column] = _as_of(known[own], numbers[own], bars)
    said = _without_values(table.label, names, symbols)
    return {name: _lagged(each, lag) for name, each in features.items()}, said


def _in_time(
    label: str, moments: SideStamps, known: IntArray, rows: IntArray | None, symbol: str = ""
) -> IntArray:
    """Return the order of some rows in time.

    Raises
    ------
    DataError
        When a timestamp occurs twice, so that it is unclear which value counts.
    """
    stamps = known if rows is None else known[rows]
    order = np.argsort(stamps, kind="stable")
    twice = np.flatnonzero(np.diff(stamps[order]) == 0)
    if len(twice):
        row = int(order[twice[0]] if rows is None else rows[order[twice[0]]])
        when = moment_text(index_of(moments.stamps[row : row + 1], moments.tz)[0])
        of = f" of {symbol}" if symbol else ""
        hint = "" if symbol else "; a column 'symbol' says whose each row is"
        raise DataError(
            f"{label} has {len(twice):,} timestamps{of} twice, the first {when}: which value "
            f"counts?{hint}"
        )
    return order


def _as_of(known: IntArray, values: FloatArray, bars: IntArray) -> FloatArray:
    """Return the last value that is known at each bar; empty cells are skipped."""
    there = ~np.isnan(values)
    known, values = known[there], values[there]
    if not len(values):
        return np.full(len(bars), np.nan)
    row = np.searchsorted(known, bars, side="right") - 1
    return np.where(row >= 0, values[np.maximum(row, 0)], np.nan) + 0.0


def _lagged(values: FloatArray, lag: int) -> FloatArray:
    if lag == 0:
        return values
    moved = np.full_like(values, np.nan)
    moved[lag:] = values[: max(len(values) - lag, 0)]
    return moved


def _named_as_symbols(label: str, names: Sequence[str], symbols: Sequence[str]) -> list[str]:
    alike = set(names) & set(symbols)
    if not alike:
        return []
    return [
        f"{label}: its columns are features of the whole market, also those that are named as "
        f"symbols ({names_of_some(alike)}): values by symbol stand in rows with a column 'symbol'"
    ]


def _without_values(label: str, names: Sequence[str], symbols: Sequence[str]) -> list[str]:
    missing = set(symbols).difference(names)
    if len(missing) == len(symbols):
        raise DataError(
            f"{label}: none of its {len(names):,} symbols ({names_of_some(names)}) is one of the "
            f"{len(symbols):,} with prices ({names_of_some(symbols)}){case_hint(names, symbols)}"
        )
    if not missing:
        return []
    return [
        f"{label} has no values of {len(missing):,} of {len(symbols):,} symbols "
        f"({names_of_some(missing)})"
    ]
