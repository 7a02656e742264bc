"""A table out of a file, to bars by symbol."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.adjusted import QUOTED, Choice, adjusted_fields
from backtest_batch.core.data.bars import SymbolBars, without
from backtest_batch.core.data.csv_file import Cells, floats
from backtest_batch.core.data.layout import ColumnNames, Layout, find_layout
from backtest_batch.core.data.suspicions import check_are_prices
from backtest_batch.core.data.timestamps import TimestampRules, read_timestamps
from backtest_batch.core.data.wording import Wording, printable_name
from backtest_batch.errors import DataError


class TableFile(Protocol):
    """A file that holds one table."""

    path: Path

    @property
    def decimal(self) -> str:
        """Character before the fraction of a number that is text."""
        ...

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
    notes
        What a reader of the results should know: which of several columns was read.
    """

    available: tuple[str, ...]
    bars: list[SymbolBars]
    in_order: bool
    notes: tuple[str, ...] = ()


def read_table(
    file: TableFile,
    *,
    symbol: str,
    names: ColumnNames,
    rules: TimestampRules,
    wanted: Collection[str] | None,
    exclude: Collection[str] = (),
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
    exclude
        Symbols that are not read.

    Raises
    ------
    DataError
        When the table cannot be understood; the message names file, column and value.
    """
    label = printable_name(file.path)
    layout = find_layout(
        file.columns, names, label, file.index_column, wanted=wanted, exclude=exclude
    )
    selection = _Selection(wanted=wanted, exclude=exclude)
    if layout.kind == "single":
        return _single(file, symbol, layout, names, rules, selection)
    if layout.kind == "fields":
        return _fields(file, layout, names, rules, selection)
    if layout.kind == "wide":
        return _wide(file, layout, names, rules, selection)
    return _long(file, layout, names, rules, selection)


@dataclass(frozen=True, kw_only=True)
class _Selection:
    wanted: Collection[str] | None
    exclude: Collection[str]

    def __contains__(self, symbol: str) -> bool:
        return symbol not in self.exclude and (self.wanted is None or symbol in self.wanted)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The columns of a table that were read."""

    table: Any
    cells: Cells

    @property
    def stamps(self) -> IntArray:
        return self.cells.stamps

    def floats(self, column: str) -> FloatArray:
        return floats(self.table[column], column, self.cells)

    def bars(self, symbol: str, fields: dict[str, FloatArray]) -> SymbolBars:
        return SymbolBars(
            symbol=symbol,
            stamps=self.cells.stamps,
            tz=self.cells.tz,
            fields=fields,
            file=self.cells.file,
        )

    def fields_of(
        self, choice: Choice, names: ColumnNames, places: dict[str, str] | None = None
    ) -> tuple[dict[str, FloatArray], str | None]:
        values = {}
        for field, column in choice.columns.items():
            try:
                values[field] = self.floats((places or {}).get(column, column))
            except DataError as error:
                if field in ("close", QUOTED):
                    raise
                raise DataError(f"{error}{without(field, (), self.cells.file)}") from error
        wording = Wording(table=self.cells.file)
        return adjusted_fields(values, choice, adjusted=names.adjusted, wording=wording)


def _read(
    file: TableFile, text: Sequence[str], numbers: Iterable[str], rules: TimestampRules
) -> _Rows:
    label = printable_name(file.path)
    table = file.read(text, list(dict.fromkeys(numbers)))
    stamps, tz = read_timestamps(table[text[0]], rules, label)
    return _Rows(table=table, cells=Cells(stamps=stamps, tz=tz, file=label, decimal=file.decimal))


def _single(
    file: TableFile,
    symbol: str,
    layout: Layout,
    names: ColumnNames,
    rules: TimestampRules,
    selection: _Selection,
) -> Reading:
    if symbol not in selection:
        return Reading(available=(symbol,), bars=[], in_order=False)
    choice = layout.choices[""]
    rows = _read(file, [layout.timestamp], choice.columns.values(), rules)
    fields, note = rows.fields_of(choice, names)
    return Reading(
        available=(symbol,),
        bars=[rows.bars(symbol, fields)],
        in_order=False,
        notes=tuple(filter(None, (note, layout.note))),
    )


def _fields(
    file: TableFile,
    layout: Layout,
    names: ColumnNames,
    rules: TimestampRules,
    selection: _Selection,
) -> Reading:
    """Read a table with a column for each field of each symbol."""
    available = tuple(layout.choices)
    chosen = [symbol for symbol in available if symbol in selection]
    if not chosen:
        return Reading(available=available, bars=[], in_order=True)
    numbers = [
        layout.places[symbol][column]
        for symbol in chosen
        for column in layout.choices[symbol].columns.values()
    ]
    rows = _read(file, [layout.timestamp], numbers, rules)
    bars, notes = [], []
    for symbol in chosen:
        fields, note = rows.fields_of(layout.choices[symbol], names, layout.places[symbol])
        bars.append(rows.bars(symbol, fields))
        notes.extend([note] if note else [])
    return Reading(available=available, bars=bars, in_order=True, notes=tuple(dict.fromkeys(notes)))


def _wide(
    file: TableFile,
    layout: Layout,
    names: ColumnNames,
    rules: TimestampRules,
    selection: _Selection,
) -> Reading:
    available = (*layout.values.values(), *layout.left_out)
    columns = [column for column, symbol in layout.values.items() if symbol in selection]
    if not columns:
        return Reading(available=available, bars=[], in_order=True)
    rows = _read(file, [layout.timestamp], columns, rules)
    wording = Wording(table=rows.cells.file)
    closes = {}
    for column in columns:
        symbol = layout.values[column]
        try:
            closes[symbol] = rows.floats(column)
        except DataError as error:
            advice = f"; {wording.leave_out([symbol])} leaves the column out"
            raise DataError(f"{error}{advice}") from error
    notes: tuple[str, ...] = ()
    # Who names the symbols, or says that every column is one, is not asked again.
    if selection.wanted is None and names.close is not None:
        notes = check_are_prices(closes, wording)
    bars = [rows.bars(symbol, {"close": close}) for symbol, close in closes.items()]
    return Reading(available=available, bars=bars, in_order=True, notes=notes)


def _long(
    file: TableFile,
    layout: Layout,
    names: ColumnNames,
    rules: TimestampRules,
    selection: _Selection,
) -> Reading:
    choice = layout.choices[""]
    rows = _read(file, [layout.timestamp, str(layout.symbol)], choice.columns.values(), rules)
    codes, known = _coded(rows.table[layout.symbol], rows.cells.file)
    by_symbol = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[by_symbol], np.arange(len(known) + 1))
    values, note = rows.fields_of(choice, names)
    bars = []
    for code, symbol in sorted(enumerate(known), key=lambda pair: pair[1]):
        if symbol in selection:
            own = by_symbol[edges[code] : edges[code + 1]]
            bars.append(
                SymbolBars(
                    symbol=symbol,
                    stamps=rows.stamps[own],
                    tz=rows.cells.tz,
                    fields={field: column[own] for field, column in values.items()},
                    file=rows.cells.file,
                )
            )
    return Reading(
        available=tuple(sorted(known)),
        bars=bars,
        in_order=False,
        notes=(note,) if note else (),
    )


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
