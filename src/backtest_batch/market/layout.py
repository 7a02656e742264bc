"""Which column of a table is what."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backtest_batch.errors import DataError
from backtest_batch.market.fields import FIELDS

_TIMESTAMP_NAMES = ("timestamp", "date", "datetime", "time")
_SYMBOL_LIKE = frozenset({"ticker", "asset", "instrument", "code", "name"})
_UNNAMED_INDEX = ("", "Unnamed: 0", "__index_level_0__")


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """Names of the columns of a file; compared exactly, then without regard to case.

    Attributes
    ----------
    timestamp
        None looks for timestamp, date, datetime or time, then for an unnamed first column.
    symbol
        A table with this column is long: one row a symbol and bar. None says that there is none.
    open, high, low, close, volume
        Columns of a table that is long or of one symbol. None leaves the field out. A name other
        than the usual one must be there.
    """

    timestamp: str | None = None
    symbol: str | None = "symbol"
    open: str | None = "open"
    high: str | None = "high"
    low: str | None = "low"
    close: str = "close"
    volume: str | None = "volume"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the columns of one table are.

    Attributes
    ----------
    kind
        ``wide``: one column of closes a symbol. ``long``: a column of symbols. ``single``: the
        bars of one symbol, which the file's name names.
    timestamp, symbol
        Names of these columns; ``symbol`` for long tables only.
    values
        Columns of numbers and what they are: the symbol in a wide table, else the field.
    """

    kind: Literal["wide", "long", "single"]
    timestamp: str
    symbol: str | None
    values: dict[str, str]


def find_layout(
    columns: Sequence[str], names: ColumnNames, file: str, index_column: str | None = None
) -> Layout:
    """Return what the columns of a table are.

    Parameters
    ----------
    columns
        Names of its columns.
    names
        What they were said to be.
    file
        Name of the file, for messages.
    index_column
        Column that the file itself marks as its index (Parquet written by pandas).

    Raises
    ------
    DataError
        When two columns have one name, or there is no column of timestamps or prices.
    """
    stripped = [column.strip() for column in columns]
    repeated = [(name, times) for name, times in Counter(stripped).items() if times > 1]
    if repeated:
        raise DataError(f"{file} has the column '{repeated[0][0]}' {repeated[0][1]} times")
    timestamp = _timestamp_column(columns, names, file, index_column)
    rest = [column for column in columns if column not in (timestamp, *_UNNAMED_INDEX)]
    symbol = None if names.symbol is None else _matching(rest, names.symbol)
    close = _matching(rest, names.close)
    usual = ColumnNames()
    if symbol is None and names.symbol not in (None, usual.symbol):
        raise _no_column(names.symbol, "symbol_column", rest, file)
    if close is None and (symbol is not None or names.close != usual.close):
        raise _no_column(names.close, "close_column", rest, file)
    if close is None:
        if not rest:
            raise DataError(f"{file} has no column of prices beside '{timestamp}'")
        values = {column: column.strip() for column in rest}
        return Layout(kind="wide", timestamp=timestamp, symbol=None, values=values)
    if symbol is None and names.symbol is not None:
        _refuse_hidden_symbols(rest, file)
    values = {}
    for field in FIELDS:
        name = getattr(names, field)
        column = None if name is None else _matching(rest, name)
        if column is not None:
            values[column] = field
        elif name is not None and name != getattr(usual, field):
            raise _no_column(name, f"{field}_column", rest, file)
    kind: Literal["long", "single"] = "single" if symbol is None else "long"
    return Layout(kind=kind, timestamp=timestamp, symbol=symbol, values=values)


def _timestamp_column(
    columns: Sequence[str], names: ColumnNames, file: str, index_column: str | None
) -> str:
    if names.timestamp is not None:
        column = _matching(columns, names.timestamp)
        if column is None:
            raise _no_column(names.timestamp, "timestamp_column", columns, file)
        return column
    if index_column is not None:
        return index_column
    for name in _TIMESTAMP_NAMES:
        column = _matching(columns, name)
        if column is not None:
            return column
    if columns and columns[0].strip() in _UNNAMED_INDEX:
        return columns[0]
    raise DataError(
        f"{file} has no column of timestamps: none of {_some(columns)} is named "
        f"{', '.join(_TIMESTAMP_NAMES)}; `data.timestamp_column` names another"
    )


def _refuse_hidden_symbols(columns: Sequence[str], file: str) -> None:
    for column in columns:
        if column.strip().casefold() in _SYMBOL_LIKE:
            raise DataError(
                f"{file} has no column 'symbol', but one named '{column}': "
                f"`data.symbol_column={column}` reads the symbols from it, "
                "`data.symbol_column=null` takes the file's name as the symbol"
            )


def _matching(columns: Sequence[str], name: str) -> str | None:
    for column in columns:
        if column.strip() == name:
            return column
    alike = [column for column in columns if column.strip().casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def _no_column(name: str | None, key: str, columns: Sequence[str], file: str) -> DataError:
    close = difflib.get_close_matches(str(name), columns, n=3)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    return DataError(
        f"{file} has no column '{name}'{hint}, as `data.{key}` says; it has {_some(columns)}"
    )


def _some(columns: Sequence[str]) -> str:
    return ", ".join(repr(column) for column in columns[:8]) + (", ..." if len(columns) > 8 else "")
