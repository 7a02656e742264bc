"""Returns that a caller has computed, checked before they are judged."""

import numpy as np
import pandas as pd

from backtest_batch.errors import DataError
from backtest_batch.market.fields import FloatArray
from backtest_batch.market.numbers import real_numbers

LARGEST_USUAL = 0.5
"""Median of the absolute returns above which a column holds something else."""

FEWEST_MOVES = 20
"""Returns other than 0 below which nothing is said: what trades twice may gain 80 % in a bar."""


def returns_of_trials(returns: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Return a table of returns as float64, one column a trial; a Series is one of them.

    Raises
    ------
    DataError
        When it is no table, its index does not increase, a name stands twice, or a column holds
        what are no returns: text, complex numbers, prices, equity, percent.
    """
    if isinstance(returns, pd.Series):
        returns = returns.to_frame("returns" if returns.name is None else returns.name)
    if not isinstance(returns, pd.DataFrame):
        raise DataError(f"`returns` must be a DataFrame, but is a {type(returns).__name__}")
    index = returns.index
    if not isinstance(index, pd.DatetimeIndex) or not index.is_monotonic_increasing:
        raise DataError("`returns` must have a DatetimeIndex that increases")
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise DataError(f"`returns` has the timestamp {twice} twice: one row a bar")
    names = pd.Index([str(name) for name in returns.columns])
    if not names.is_unique:
        raise DataError(f"`returns` has the column {names[names.duplicated()][0]} twice")
    columns = {name: _numbers(returns.iloc[:, k], name) for k, name in enumerate(names)}
    return pd.DataFrame(columns, index=index)


def returns_of_benchmark(
    benchmark: pd.Series | pd.DataFrame, index: pd.DatetimeIndex
) -> FloatArray:
    """Return the returns of a benchmark, of shape (n_bars,); a frame of one column is one, too.

    Raises
    ------
    DataError
        When it is no Series, has another index, or holds what are no returns.
    """
    if isinstance(benchmark, pd.DataFrame) and benchmark.shape[1] == 1:
        benchmark = benchmark.iloc[:, 0]
    if not isinstance(benchmark, pd.Series):
        raise DataError(f"`benchmark` must be a Series, but is a {type(benchmark).__name__}")
    if not benchmark.index.equals(index):
        raise DataError("`returns` and `benchmark` must have the same index, but differ")
    return _numbers(benchmark, "benchmark")


def _numbers(column: pd.Series, name: str) -> FloatArray:
    numeric = pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c"
    try:
        values = column.to_numpy(np.float64, na_value=np.nan) if numeric else real_numbers(column)
    except (TypeError, ValueError) as error:
        raise DataError(f"the returns of {name} must be numbers: {error}") from None
    if pd.api.types.is_bool_dtype(column.dtype):
        raise DataError(f"the returns of {name} must be numbers, but are true and false")
    if np.isinf(values).any():
        moment = column.index[int(np.isinf(values).argmax())]
        raise DataError(f"the returns of {name} must be finite, but one is infinite at {moment}")
    moves = np.abs(values[np.isfinite(values) & (values != 0)])
    if len(moves) >= FEWEST_MOVES and float(np.median(moves)) > LARGEST_USUAL:
        raise DataError(
            f"the returns of {name} are around {np.median(moves):,.4g} a bar, which look like "
            "prices, equity or percent: returns are fractions (0.01 is 1 %), as "
            "`prices.pct_change()` gives them"
        )
    return values
