"""What a series was worth after its last price: delisting returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.bars import lifetimes, moment_text
from backtest_batch.core.data.beside import (
    SideStamps,
    bar_stamps,
    names_of_some,
    side_files,
    side_table,
)
from backtest_batch.core.data.timestamps import index_of
from backtest_batch.errors import DataError


@dataclass(frozen=True, kw_only=True)
class DelistingReturns:
    """Delisting returns by symbol.

    Attributes
    ----------
    returns
        Simple returns, at least -1.
    days
        When each symbol was delisted, if known.
    label
        Where the returns come from, for messages.
    notes
        What was guessed when they were read.
    """

    returns: Mapping[str, float]
    days: Mapping[str, SideStamps]
    label: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for symbol, value in self.returns.items():
            if not -1.0 <= value < np.inf:
                raise DataError(
                    f"{self.label}: the delisting return of {symbol} is {value:g}: it must be a "
                    "finite fraction of at least -1 (-0.3 is -30 %)"
                )


def read_delisting_returns(path: str) -> DelistingReturns:
    """Return the delisting returns of a CSV or Parquet file: symbol, return, and optionally date.

    Raises
    ------
    DataError
        When the file cannot be understood.
    """
    files = side_files(path, "data.delisting_returns")
    if len(files) > 1:
        raise DataError(f"`data.delisting_returns` must be one file, but {path} are {len(files):,}")
    with side_table(files[0]) as table:
        symbol = table.need_symbols()
        name = table.need("return", "delisting_return", "dlret")
        day = table.find("date", "delisting_date", "dlstdt")
        rows = table.read([symbol, *([day] if day else [])], [name])
        codes, known = table.symbols(rows[symbol])
        values = table.floats(rows, name)
        if len(known) < len(codes):
            twice = known[int(np.bincount(codes).argmax())]
            raise DataError(f"{table.label} has several delisting returns of {twice}")
        empty = np.isnan(values)
        if empty.any():
            row = int(empty.argmax())
            raise DataError(
                f"{table.label} has no delisting return of {known[codes[row]]} "
                f"({int(empty.sum()):,} such rows): leave the row out, or write -1 for a total loss"
            )
        days = {}
        if day is not None:
            dated = ~np.asarray(rows[day].is_null().to_numpy(zero_copy_only=False))
            if str(rows[day].type) in ("string", "large_string"):
                dated &= np.array([bool(str(text).strip()) for text in rows[day].to_pylist()])
            import pyarrow as pa

            moments = table.moments_of(rows[day].filter(pa.array(dated)))
            days = {
                known[code]: SideStamps(stamps=stamp, tz=moments.tz, label=table.label)
                for code, stamp in zip(codes[dated], moments.stamps.reshape(-1, 1), strict=True)
            }
        returns = {known[code]: float(value) for code, value in zip(codes, values, strict=True)}
        return DelistingReturns(
            returns=returns, days=days, label=table.label, notes=tuple(table.notes)
        )


def with_final_prices(
    found: DelistingReturns,
    fields: Mapping[str, FloatArray],
    index: pd.DatetimeIndex,
    symbols: Sequence[str],
) -> tuple[dict[str, FloatArray], IntArray, list[str]]:
    r"""Return the fields with one more bar for each series that was delisted.

    If P_T is the last close of a series and r its delisting return, then bar T + 1 has

    .. math:: P_{T+1} = P_T (1 + r)

    as its open, high, low and close, and a volume of 0. The series then ends at T + 1: whoever
    holds it to its end earns r on that bar (Shumway 1997, "The Delisting Bias in CRSP Data",
    Journal of Finance 52(1)). A total loss gives a price of 0. Nothing up to T changes, so that no
    decision up to the last trading day knows of the delisting.

    Parameters
    ----------
    found
        The delisting returns.
    fields
        Arrays of shape (n_bars, n_assets) by name; they are copied.
    index, symbols
        Bars and assets.

    Returns
    -------
    fields : dict of str to ndarray
    ended : ndarray of shape (n_delisted,)
        Positions of the assets that got a final price.
    notes : list of str
        Notes on delisting returns that are not used.

    Raises
    ------
    DataError
        When a series has prices after the day it was delisted.
    """
    close = fields["close"]
    _, last = lifetimes(close)
    columns = [column for column, symbol in enumerate(symbols) if symbol in found.returns]
    _check_days(found, index, symbols, columns, last)
    ended = np.array([column for column in columns if last[column] + 1 < len(index)], np.int64)
    bars = last[ended] + 1
    growth = np.array([1.0 + found.returns[symbols[column]] for column in ended.tolist()])
    final = close[bars - 1, ended] * growth
    changed = {}
    for name, values in fields.items():
        changed[name] = values.copy()
        if name in ("open", "high", "low", "close"):
            changed[name][bars, ended] = final
        elif name == "volume":
            changed[name][bars, ended] = 0.0
    return changed, ended, _notes(found, symbols, columns, ended)


def _check_days(
    found: DelistingReturns,
    index: pd.DatetimeIndex,
    symbols: Sequence[str],
    columns: Sequence[int],
    last: IntArray,
) -> None:
    bars = bar_stamps(index)
    for column in columns:
        day = found.days.get(symbols[column])
        if day is None:
            continue
        after = (day.next_day() if day.are_dates else day).on_clock_of(index)[0]
        if bars[last[column]] > after - int(day.are_dates):
            raise DataError(
                f"{found.label}: {symbols[column]} was delisted on "
                f"{moment_text(index_of(day.stamps, day.tz)[0])}, but has prices until "
                f"{moment_text(index[int(last[column])])}"
            )


def _notes(
    found: DelistingReturns, symbols: Sequence[str], columns: Sequence[int], ended: IntArray
) -> list[str]:
    unknown = set(found.returns).difference(symbols)
    going_on = [symbols[column] for column in columns if column not in set(ended.tolist())]
    notes = list(found.notes)
    if unknown:
        notes.append(
            f"{found.label}: {len(unknown):,} of {len(found.returns):,} delisting returns are of "
            f"symbols without prices ({names_of_some(unknown)})"
        )
    if going_on:
        notes.append(
            f"{found.label}: the delisting returns of {len(going_on):,} series that reach the last "
            f"bar are not used ({names_of_some(going_on)})"
        )
    return notes
