"""Returns of trials from a file, and the benchmark that a name, a file or a Series stands for."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.api.decisions import BENCHMARK_COLUMN
from backtest_batch.arrays import FloatArray
from backtest_batch.core.benchmark import LONGEST_GAP, NONE, names_file
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.series import (
    OnBars,
    SeriesTable,
    Unit,
    prices_on,
    read_series,
    returns_on,
)
from backtest_batch.core.numbers import real_numbers
from backtest_batch.errors import ConfigurationError, DataError, DataNotFoundError

LARGEST_USUAL = 0.5
"""A column of values with a larger median, in absolute terms, does not hold returns."""

FEWEST_MOVES = 20
"""A column with fewer returns other than 0 is not questioned: a strategy that trades twice may gain
80 % in a bar."""


def returns_of_file(
    path: str, unit: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the returns in a file, one column a trial, and notes on how they were read.

    Parameters
    ----------
    path
        A CSV, Parquet, Feather or Excel file: timestamps, and a column a trial.
    unit
        ``percent`` or ``fraction``; None or ``auto`` guesses it from the size of the returns.
    options
        How such a file is read: ``timestamp_column``, ``decimal``, ``sheet``.

    Raises
    ------
    DataNotFoundError
        When there is no such file.
    DataError
        When it cannot be read, holds prices, or does not say which unit it has.
    """
    try:
        table = read_series(path, are_prices=False, options=options)
    except DataNotFoundError:
        raise
    except DataError as error:
        raise DataError(_in_words_of_returns(str(error))) from error
    except ConfigurationError as error:
        raise ConfigurationError(re.sub(r"\bfile\.(?=\w+: )", "options.", str(error))) from error
    if not len(table.index):
        raise DataError(f"{table.place} holds no row")
    table = _as_fractions(
        table,
        None if unit == "auto" else unit,
        "returns_unit=percent, or returns_unit=fraction, says which",
    )
    frame = pd.DataFrame(table.values, index=table.index, columns=list(table.names))
    try:
        return returns_of_trials(frame), table.notes
    except DataError as error:
        raise DataError(f"{table.place}: {error}") from error


def _in_words_of_returns(message: str) -> str:
    """Return what the reader of prices says, about returns and with the keys that exist here."""
    message = message.replace("column of prices", "column of returns")
    message = re.sub(r"'data\.(\w+=[^']*)'", r"\1", message)
    return re.sub(
        r"such options stand beside the file: \{file: .*\}",
        "`options` takes such keys, as in options='{timestamp_column: day}'",
        message,
    )


def _as_fractions(table: SeriesTable, unit: Any, way_out: str) -> SeriesTable:
    """Return returns as fractions; a message names what decides the unit here."""
    if unit is None:
        _refuse_levels(table.place, table.names, table.values)
    chosen: Unit | None = unit
    try:
        return table.as_fractions(chosen)
    except DataError as error:
        said = re.sub(r"\{file: .*says which", way_out, str(error))
        raise DataError(said) from error


def _refuse_levels(place: str, names: Sequence[str], values: FloatArray) -> None:
    """Refuse prices and equity: above zero on all bars, and large, or smooth and about 1 at first.

    Returns that are all positive, as those of cash, are small.
    """
    for name, column in zip(names, values.T, strict=True):
        own = column[np.isfinite(column)]
        if len(own) < FEWEST_MOVES or own.min() <= 0.0:
            continue
        smooth = float(np.median(np.abs(np.diff(own)) / own[1:])) < _SMOOTH
        begins = _ABOUT_ONE[0] <= own[0] <= _ABOUT_ONE[1]
        if float(np.median(own)) > LARGEST_USUAL or (smooth and begins):
            raise DataError(
                f"{place}: {name} holds prices or equity, it seems, {own[0]:g} first and "
                f"{own[-1]:g} last; returns are wanted here, as 0.01 or 1 for 1 % "
                "(returns_unit=percent, or fraction, says that they are)"
            )


def refuse_cumulative(trials: pd.DataFrame, place: str) -> None:
    """Refuse columns in which each value is nearly the one before, as in cumulative returns.

    Of n values x, ``sum((x[t] - x[t-1])^2) / sum((x - mean(x))^2)`` is about 2 for returns without
    autocorrelation, and 2 (1 - rho) with it. Values that differ little, such as those of cash, are
    not questioned.

    Raises
    ------
    DataError
        When a column of at least 30 values has less than 0.2, over a range of 5 % or more.
    """
    columns = np.ascontiguousarray(trials.to_numpy().T)
    for name, column in zip(trials.columns, columns, strict=True):
        own = column[np.isfinite(column)]
        if len(own) < _FEWEST_LEVELS or float(np.ptp(own)) < _LARGEST_RANGE:
            continue
        spread = float(((own - own.mean()) ** 2).sum())
        ratio = float((np.diff(own) ** 2).sum()) / spread
        if ratio < _MOST_ALIKE:
            raise DataError(
                f"{place}: {name} holds cumulative returns, or those of overlapping windows, it "
                f"seems: each value is nearly the one before (autocorrelation about "
                f"{1.0 - ratio / 2.0:.3f}), {own[0]:g} first and {own[-1]:g} last; the return of "
                "each bar is wanted, as `(1 + cumulative).pct_change()` gives it "
                "(returns_unit=fraction, or percent, says that it is)"
            )


_FEWEST_LEVELS, _LARGEST_RANGE, _MOST_ALIKE = 30, 0.05, 0.2


def late_note(trials: pd.DataFrame) -> list[str]:
    """Say which trial begins last, and how many bars the others would share without it.

    Trials without returns, or that end before others, shorten nothing: they are not tested.
    """
    known = np.isfinite(trials.to_numpy())
    n_bars, some = len(known), known.any(axis=0)
    starts = np.where(some, known.argmax(axis=0), n_bars)
    ends = np.where(some, n_bars - known[::-1].argmax(axis=0), 0)
    tested = some & (ends == ends.max()) & (known.sum(axis=0) == ends - starts)
    order = sorted(set(starts[tested].tolist()))
    if len(order) < 2:
        return []
    last = np.flatnonzero(tested & (starts == order[-1]))
    stop = int(ends.max())
    name = str(trials.columns[int(last[0])])
    who = f"{name} begins" if len(last) == 1 else f"{name} and {len(last) - 1:,} more begin"
    return [
        f"{who} last, at {moment_text(trials.index[order[-1]])}: the verdict uses the "
        f"{stop - order[-1]:,} bars that all trials share; without "
        f"{'it' if len(last) == 1 else 'them'} it would use {stop - order[-2]:,}."
    ]


_SMOOTH = 0.05
_ABOUT_ONE = (0.5, 2.0)


def returns_of_trials(returns: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Return a table of returns as float64, one column per trial; a Series is one trial.

    Raises
    ------
    DataError
        When it is not a table, its index does not increase, a name occurs twice, or a column does
        not hold returns but text, complex numbers, prices, equity or percent.
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
        raise DataError(f"`returns` has the timestamp {twice} twice: one row per bar")
    names = pd.Index([str(name) for name in returns.columns])
    if not names.is_unique:
        raise DataError(f"`returns` has the column {names[names.duplicated()][0]} twice")
    if not len(index) or not len(names):
        raise DataError("`returns` holds no returns: it has no rows or no columns")
    columns = {name: _numbers(returns.iloc[:, k], name) for k, name in enumerate(names)}
    return pd.DataFrame(columns, index=index)


def _numbers(column: pd.Series, name: str) -> FloatArray:
    numeric = pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c"
    try:
        values = column.to_numpy(np.float64, na_value=np.nan) if numeric else real_numbers(column)
    except (TypeError, ValueError) as error:
        raise DataError(f"the returns of {name} must be numbers: {error}") from None
    if pd.api.types.is_bool_dtype(column.dtype):
        raise DataError(f"the returns of {name} must be numbers, but are true and false")
    infinite = np.isinf(values)
    if infinite.any():
        moment, count = column.index[int(infinite.argmax())], int(infinite.sum())
        many = "one is" if count == 1 else f"{count:,} are"
        raise DataError(f"the returns of {name} must be finite, but {many} infinite at {moment}")
    moves = np.abs(values[np.isfinite(values) & (values != 0)])
    if len(moves) >= FEWEST_MOVES and float(np.median(moves)) > LARGEST_USUAL:
        raise DataError(
            f"the returns of {name} are around {np.median(moves):,.4g} a bar, which look like "
            "prices, equity or percent: returns are fractions (0.01 is 1 %), as "
            "`prices.pct_change()` gives them"
        )
    return values


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenBenchmark:
    """What trials are compared with.

    Attributes
    ----------
    name
        What it is called; ``none`` for cash alone, empty where there is none.
    column
        The column of the trials' table that it is; None for any other.
    returns
        Its returns on their bars, shape (n_bars,); None without one.
    notes
        What a reader should know.
    """

    name: str = ""
    column: str | None = None
    returns: FloatArray | None = None
    notes: tuple[str, ...] = ()


def given_benchmark(
    given: Any, trials: pd.DataFrame, *, values: str = "prices", place: str = "the returns"
) -> GivenBenchmark:
    """Return the benchmark that trials are compared with.

    Parameters
    ----------
    given
        None (the column ``benchmark``, if there is one), ``none`` for cash alone, the name of a
        column, the path of a file, ``{file: ..., unit: percent}``, or returns on the same index.
    trials
        The table of returns, on an index that increases.
    values
        What a file holds: ``prices`` or ``returns``.
    place
        Where the trials are, for messages.

    Raises
    ------
    ConfigurationError
        When there is no such column; the message names similar ones.
    DataError
        When a file cannot be used or does not cover the trials, or a Series has another index or
        holds no returns.
    """
    own = [name for name in trials.columns if name.lower() == BENCHMARK_COLUMN]
    if given is None and not own:
        return GivenBenchmark()
    if isinstance(given, pd.Series | pd.DataFrame):
        return GivenBenchmark(
            name=BENCHMARK_COLUMN,
            returns=_returns_of_series(given, pd.DatetimeIndex(trials.index)),
        )
    options: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    if options:
        if not isinstance(options.get("file"), str):
            raise ConfigurationError(
                f"benchmark: a mapping names a file, as in {{file: spy.csv, values: prices}}, but "
                f"has {', '.join(map(str, options))}"
            )
        given = options["file"]
    name = own[0] if given is None else given
    if not isinstance(name, str):
        raise DataError(
            f"`benchmark` must be a Series, but is a {type(given).__name__}; or else the name of a "
            "column, the path of a file, or none"
        )
    if name == NONE and name not in trials:
        return GivenBenchmark(name=NONE)
    if not options and name in trials:
        column = trials[name].to_numpy()
        _refuse_ruin(column, pd.DatetimeIndex(trials.index), f"the benchmark {name}")
        return GivenBenchmark(name=name, column=name, returns=column)
    if not options and not names_file(name):
        known = {column.lower(): column for column in trials.columns}
        near = difflib.get_close_matches(name.lower(), list(known), n=3)
        close = [known[item] for item in near]
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ConfigurationError(
            f"benchmark={name}: is no column of {place}{meant} (a file is named by its path, such "
            f"as {name}.csv; none compares with cash)"
        )
    return _of_file(name, trials, options.get("values", values), options)


def _returns_of_series(benchmark: pd.Series | pd.DataFrame, index: pd.DatetimeIndex) -> FloatArray:
    """Return the returns of a benchmark, shape (n_bars,); a frame with one column will do."""
    if isinstance(benchmark, pd.DataFrame) and benchmark.shape[1] == 1:
        benchmark = benchmark.iloc[:, 0]
    if not isinstance(benchmark, pd.Series):
        raise DataError(f"`benchmark` must be a Series, but is a {type(benchmark).__name__}")
    if not benchmark.index.equals(index):
        raise DataError("`returns` and `benchmark` must have the same index, but differ")
    values = _numbers(benchmark, BENCHMARK_COLUMN)
    _refuse_ruin(values, index, "`benchmark`")
    return values


def _refuse_ruin(values: FloatArray, index: pd.DatetimeIndex, place: str) -> None:
    lost = values <= -1.0
    if lost.any():
        when = moment_text(index[int(lost.argmax())])
        count = f" ({int(lost.sum()):,} of them)" if lost.sum() > 1 else ""
        raise DataError(f"{place} has a return of -100 % or less at {when}{count}")


def _of_file(
    path: str, trials: pd.DataFrame, values: str, options: Mapping[str, Any]
) -> GivenBenchmark:
    reading = {
        name: value for name, value in options.items() if name not in ("file", "values", "unit")
    }
    if values not in ("prices", "returns"):
        raise ConfigurationError(f"benchmark_values={values}: must be one of prices, returns")
    are_prices = values == "prices"
    table = read_series(path, are_prices=are_prices, options=reading)
    if len(table.names) != 1:
        raise DataError(
            f"{table.place} must hold timestamps and one column, but has {len(table.names):,}: "
            f"{', '.join(table.names[:8])}"
        )
    if not are_prices:
        unit = options.get("unit")
        way_out = f"benchmark='{{file: {path}, values: returns, unit: percent}}', or fraction, does"
        table = _as_fractions(table, unit, way_out)
    table = table.without_gaps()
    if not are_prices:
        _refuse_ruin(table.values[:, 0], table.index, table.place)
    if are_prices and (table.values <= 0.0).any():
        when = moment_text(table.index[int((table.values <= 0.0).any(axis=1).argmax())])
        raise DataError(
            f"{table.place} holds a price of 0 or less at {when}; benchmark_values=returns reads "
            "returns"
        )
    index = pd.DatetimeIndex(trials.index)
    # Like the trials', whose first row is a return, too.
    if are_prices:
        found = prices_on(table, index, opens=True)
    else:
        found = returns_on(table, index, empty=0.0, opens=True)
    notes = _check_covers(found, trials, table)
    return GivenBenchmark(
        name=Path(path).name,
        returns=found.returns[:, 0],
        notes=(*table.notes, *found.notes, *notes),
    )


def _check_covers(found: OnBars, trials: pd.DataFrame, table: SeriesTable) -> list[str]:
    """Refuse a benchmark that lacks bars of the trials; return a note on bars that it bridges."""
    index = pd.DatetimeIndex(trials.index)
    some = np.flatnonzero(trials.notna().to_numpy().any(axis=1))
    if not some.size:
        return []
    bars = range(int(some[0]), int(some[-1]) + 1)
    lacking = np.flatnonzero(~np.isfinite(found.returns[bars.start : bars.stop, 0]))
    if lacking.size:
        span = f"{moment_text(table.index[0])} to {moment_text(table.index[-1])}"
        raise DataError(
            f"{table.place} has no return on {lacking.size:,} of the {len(bars):,} bars of the "
            f"trials, first at {moment_text(index[bars.start + int(lacking[0])])}; it covers {span}"
        )
    bar, length = found.longest_gap(bars)
    if length > LONGEST_GAP:
        raise DataError(
            f"{table.place} has nothing for {length:,} bars in a row, from "
            f"{moment_text(index[bar])}; at most {LONGEST_GAP} are bridged"
        )
    empty = int((found.rows[bars.start : bars.stop] == 0).sum())
    if not empty:
        return []
    return [
        f"{table.place}: {empty:,} of {len(bars):,} bars have no value of their own; the last one "
        "before stands in, a return of 0."
    ]


def rows_beside(path: str, trials: Sequence[str]) -> Path | None:
    """Return batch_summary.csv beside the returns.parquet of a batch, if it has these trials."""
    beside = Path(path).with_name("batch_summary.csv")
    if Path(path).name != "returns.parquet" or not beside.is_file():
        return None
    try:
        names = pd.read_csv(beside, usecols=["run_id"], dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return None
    return beside if set(trials) <= set(names["run_id"]) else None
