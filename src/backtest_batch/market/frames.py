"""DataFrames as bars."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from backtest_batch.errors import DataError
from backtest_batch.market.bars import SymbolBars
from backtest_batch.market.fields import FloatArray
from backtest_batch.market.zones import stamps_of


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
        raise DataError(f"`{name}` must be a DataFrame, but is a {type(frame).__name__}")
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
