"""DataFrames as bars."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray
from backtest_batch.core.data.adjusted import Choice, adjusted_fields, none_adjusted
from backtest_batch.core.data.bars import SymbolBars
from backtest_batch.core.data.layout import (
    ColumnNames,
    check_assets,
    choices_by_symbol,
    choose_fields,
    fields_by_symbol,
    pair_of,
    plain,
    split_names,
    unclear_levels,
    unread,
)
from backtest_batch.core.data.suspicions import check_are_prices
from backtest_batch.core.data.tables import Reading
from backtest_batch.core.data.timestamps import stamps_of
from backtest_batch.core.data.wording import Wording
from backtest_batch.errors import DataError

_WORDING = Wording(table="the DataFrame", in_memory=True)


def bars_of_frame(frame: pd.DataFrame, *, symbol: str, names: ColumnNames) -> Reading:
    """Return the bars of one DataFrame, whose columns are told apart as those of a file are.

    They are closes, one column a symbol; the fields of one asset (open, high, low, close, volume,
    in any spelling that files may have); or fields of several symbols, on two levels of names.

    Parameters
    ----------
    frame
        Rows by a DatetimeIndex.
    symbol
        Symbol of an asset that the columns do not name.
    names
        Names of the columns of closes, and whether adjusted ones are used.

    Raises
    ------
    DataError
        When the frame has no DatetimeIndex, two columns of one name or a value that is no number,
        or when its names do not tell what its columns are.
    """
    if isinstance(frame, pd.DataFrame) and frame.columns.nlevels > 2:
        raise DataError(
            f"the DataFrame names its columns on {frame.columns.nlevels} levels; it may have one "
            "(symbols), or two (fields and symbols)"
        )
    _check_labels("close", frame)
    found: list[tuple[str, str]] | None = None
    columns = [str(label) for label in frame.columns]
    pairs = [pair for column in columns if (pair := pair_of(column)) is not None and all(pair)]
    if frame.columns.nlevels == 2 or (pairs and len(pairs) == len(columns)):
        if frame.columns.nlevels == 2:
            levels = (frame.columns.get_level_values(level) for level in (0, 1))
            pairs = list(zip(*(map(str, level) for level in levels), strict=True))
        found = fields_by_symbol(pairs)
        if found is None:
            raise unclear_levels(pairs, _WORDING)
    else:
        _refuse_rows_by_symbol(columns)
        choice = choose_fields(columns, names, _WORDING)
        if choice is not None:
            reading = _read_fields(frame, columns, {symbol: choice}, {}, names)
            note = unread(columns, choice, _WORDING)
            return replace(reading, notes=(*reading.notes, *([note] if note else [])))
        if names.close is not None:
            found = split_names(columns)
    if found is not None:
        choices, places = choices_by_symbol(columns, found, names, _WORDING)
        return _read_fields(frame, columns, choices, places, names)
    if names.adjusted is True:
        raise none_adjusted(_WORDING)
    notes: tuple[str, ...] = ()
    bars = bars_of_frames({"close": frame})
    if names.close is not None:
        check_assets(columns, _WORDING)
        closes = {item.symbol: item.fields["close"] for item in bars}
        notes = check_are_prices(closes, _WORDING)
    available = tuple(item.symbol for item in bars)
    return Reading(available=available, bars=bars, in_order=True, notes=notes)


def _read_fields(
    frame: pd.DataFrame,
    columns: list[str],
    choices: Mapping[str, Choice],
    places: Mapping[str, Mapping[str, str]],
    names: ColumnNames,
) -> Reading:
    stamps, tz = stamps_of(pd.DatetimeIndex(frame.index))
    position = {column: number for number, column in enumerate(columns)}
    bars, notes = [], []
    for symbol, choice in choices.items():
        place = places.get(symbol, {})
        values = {
            field: _floats(frame.iloc[:, position[place.get(label, label)]], symbol, field)
            for field, label in choice.columns.items()
        }
        fields, note = adjusted_fields(values, choice, adjusted=names.adjusted, wording=_WORDING)
        bars.append(SymbolBars(symbol=symbol, stamps=stamps, tz=tz, fields=fields))
        notes.extend([note] if note else [])
    return Reading(
        available=tuple(choices), bars=bars, in_order=True, notes=tuple(dict.fromkeys(notes))
    )


def _refuse_rows_by_symbol(columns: list[str]) -> None:
    for column in columns:
        if plain(column) in ("symbol", "ticker"):
            raise DataError(
                f"the DataFrame has a column '{column}': one row a symbol and bar is read from "
                f"files; here each symbol is a column, as `frame.pivot(columns={column!r}, "
                "values='close')` makes it"
            )


def bars_of_frames(frames: Mapping[str, pd.DataFrame]) -> list[SymbolBars]:
    """Return the bars of wide frames by field name, in the order of the columns of ``close``.

    Raises
    ------
    DataError
        When a frame has no DatetimeIndex, two columns of one name or a value that is no number, or
        when the frames differ in rows or columns.
    """
    for name, frame in frames.items():
        _check_labels(name, frame)
        if frame.columns.nlevels > 1:
            raise DataError(
                f"`{name}` may have one level of names, but has {frame.columns.nlevels}"
            )
    close = frames["close"]
    for name, frame in frames.items():
        if not frame.index.equals(close.index):
            raise DataError(f"`{name}` and `close` must have the same index, but differ")
        unlike = set(map(str, frame.columns)) ^ set(map(str, close.columns))
        if unlike:
            raise DataError(
                f"`{name}` and `close` must have the same columns, but {min(unlike)} "
                "stands in one of them only"
            )
    stamps, tz = stamps_of(pd.DatetimeIndex(close.index))
    columns = {
        name: {str(label): position for position, label in enumerate(frame.columns)}
        for name, frame in frames.items()
    }
    return [
        SymbolBars(
            symbol=symbol,
            stamps=stamps,
            tz=tz,
            fields={
                name: _floats(frame.iloc[:, columns[name][symbol]], symbol, name)
                for name, frame in frames.items()
            },
        )
        for symbol in columns["close"]
    ]


def _check_labels(name: str, frame: pd.DataFrame) -> None:
    if not isinstance(frame, pd.DataFrame):
        what = f"`{name}` must be a DataFrame, but is a {type(frame).__name__}"
        one = "; `series.to_frame('KO')` makes one" if isinstance(frame, pd.Series) else ""
        raise DataError(what + one)
    if not isinstance(frame.index, pd.DatetimeIndex):
        raise DataError(
            f"`{name}` must have a DatetimeIndex, but its index is {type(frame.index).__name__} "
            f"of {frame.index.dtype}; pd.to_datetime makes one"
        )
    if frame.index.hasnans:
        raise DataError(f"`{name}` has a row without a timestamp (NaT in its index)")
    labels = pd.Index([str(label) for label in frame.columns])
    if labels.has_duplicates:
        raise DataError(f"`{name}` has the column {labels[labels.duplicated()][0]} twice")


def _floats(series: pd.Series, symbol: str, field: str) -> FloatArray:
    numeric = pd.api.types.is_numeric_dtype(series.dtype)
    plain = numeric and not pd.api.types.is_bool_dtype(series.dtype) and series.dtype.kind != "c"
    if plain:
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    if numeric or not (series.dtype == object or pd.api.types.is_string_dtype(series.dtype)):
        raise DataError(f"the {field} of {symbol} holds {series.dtype}, not numbers")
    numbers = pd.to_numeric(series, errors="coerce")
    bad = (numbers.isna() & series.notna()).to_numpy() | series.map(_is_bool).to_numpy(dtype=bool)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"the {field} of {symbol} at {series.index[row]} is {series.iloc[row]!r}, "
            f"which is no number ({int(bad.sum())} such values)"
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool | np.bool_)
