"""A table out of a file, to bars by symbol."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from backtest_batch.errors import DataError
from backtest_batch.market.bars import SymbolBars, moment_text
from backtest_batch.market.fields import FloatArray, IntArray
from backtest_batch.market.layout import ColumnNames, Layout, find_layout
from backtest_batch.market.timestamps import TimestampRules, read_timestamps
from backtest_batch.market.zones import index_of

NULL_TOKENS = ("", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "#N/A")
"""Texts that stand for a missing value in a column of numbers."""


class TableFile(Protocol):
    """A file that holds one table."""

    path: Path

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""
        ...

    @property
    def index_column(self) -> str | None:
        """Column that the file marks as its index, None when it marks none."""
        ...

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns.

        A column of ``numbers`` that holds other than numbers comes back as text.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a source holds.

    Attributes
    ----------
    available
        Every symbol that it could have given.
    bars
        The bars of the symbols that were wanted.
    in_order
        Whether the order of the symbols means something (columns of a wide table); else they are
        sorted by name.
    """

    available: tuple[str, ...]
    bars: list[SymbolBars]
    in_order: bool


def read_table(
    file: TableFile,
    *,
    symbol: str,
    names: ColumnNames,
    rules: TimestampRules,
    wanted: Collection[str] | None,
) -> Reading:
    """Return the bars that one file holds.

    Parameters
    ----------
    file
        The file.
    symbol
        Its symbol, when the table does not name one.
    names, rules
        Names of its columns, and how its timestamps are to be understood.
    wanted
        Symbols to read; None reads them all.

    Raises
    ------
    DataError
        When the table cannot be understood; the message names file, column and value.
    """
    label = str(file.path)
    layout = find_layout(file.columns, names, label, file.index_column)
    if layout.kind == "single":
        if wanted is not None and symbol not in wanted:
            return Reading(available=(symbol,), bars=[], in_order=False)
        bars = list(_single(file, symbol, layout, rules))
        return Reading(available=(symbol,), bars=bars, in_order=False)
    if layout.kind == "wide":
        available = tuple(layout.values.values())
        return Reading(
            available=available, bars=list(_wide(file, layout, rules, wanted)), in_order=True
        )
    return _long(file, layout, rules, wanted)


def _single(
    file: TableFile, symbol: str, layout: Layout, rules: TimestampRules
) -> Iterator[SymbolBars]:
    label = str(file.path)
    table = file.read([layout.timestamp], list(layout.values))
    stamps, tz = read_timestamps(table[layout.timestamp], rules, label)
    fields = {
        field: _floats(table[column], column, stamps, tz, label)
        for column, field in layout.values.items()
    }
    yield SymbolBars(symbol=symbol, stamps=stamps, tz=tz, fields=fields, file=label)


def _wide(
    file: TableFile, layout: Layout, rules: TimestampRules, wanted: Collection[str] | None
) -> Iterator[SymbolBars]:
    label = str(file.path)
    columns = [name for name, held in layout.values.items() if wanted is None or held in wanted]
    if not columns:
        return
    table = file.read([layout.timestamp], columns)
    stamps, tz = read_timestamps(table[layout.timestamp], rules, label)
    for column in columns:
        close = _floats(table[column], column, stamps, tz, label)
        symbol = layout.values[column]
        yield SymbolBars(symbol=symbol, stamps=stamps, tz=tz, fields={"close": close}, file=label)


def _long(
    file: TableFile, layout: Layout, rules: TimestampRules, wanted: Collection[str] | None
) -> Reading:
    label = str(file.path)
    table = file.read([layout.timestamp, str(layout.symbol)], list(layout.values))
    codes, known = _coded(table[layout.symbol], label)
    stamps, tz = read_timestamps(table[layout.timestamp], rules, label)
    by_symbol = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[by_symbol], np.arange(len(known) + 1))
    values = {
        field: _floats(table[column], column, stamps, tz, label)
        for column, field in layout.values.items()
    }
    bars = []
    for code, symbol in sorted(enumerate(known), key=lambda pair: pair[1]):
        if wanted is None or symbol in wanted:
            rows = by_symbol[edges[code] : edges[code + 1]]
            fields = {field: column[rows] for field, column in values.items()}
            bars.append(
                SymbolBars(symbol=symbol, stamps=stamps[rows], tz=tz, fields=fields, file=label)
            )
    return Reading(available=tuple(sorted(known)), bars=bars, in_order=False)


def _coded(column: Any, label: str) -> tuple[IntArray, list[str]]:
    """Return the position of each row's symbol in the list of symbols, and that list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = column.cast(pa.string())
    text = pc.utf8_trim_whitespace(pc.fill_null(text, ""))
    coded = text.combine_chunks().dictionary_encode()
    known = coded.dictionary.to_pylist()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    if "" in known:
        empty = codes == known.index("")
        raise DataError(
            f"{label}: no symbol in data row {int(empty.argmax()) + 1} "
            f"({int(empty.sum()):,} such rows)"
        )
    return codes, known


def _floats(column: Any, name: str, stamps: IntArray, tz: str | None, label: str) -> FloatArray:
    """Return an arrow column as float64, NaN where it is null."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _parsed_numbers(column, name, stamps, tz, label)
    elif not (
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        raise DataError(f"{label}: column '{name}' holds {kind}, not numbers")
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return np.array(values, dtype=np.float64)


def _parsed_numbers(column: Any, name: str, stamps: IntArray, tz: str | None, label: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(column.cast(pa.string())).combine_chunks()
    missing = pc.is_in(text, value_set=pa.array(NULL_TOKENS))
    text = pc.if_else(missing, pa.scalar(None, pa.string()), text)
    if _is_numeric(text):
        return text.cast(pa.float64())
    good, bad = 0, len(text)  # the first `good` rows are numbers, the first `bad` are not all
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _is_numeric(text[:middle]) else (good, middle)
    when = moment_text(index_of(stamps[good : good + 1], tz)[0])
    raise DataError(
        f"{label}: column '{name}' holds {text[good].as_py()!r} at {when} (data row {good + 1}), "
        "which is no number"
    )


def _is_numeric(text: Any) -> bool:
    import pyarrow as pa

    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
