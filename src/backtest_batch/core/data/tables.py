"""From a table in a file or a DataFrame to bars by symbol."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.bars import SymbolBars, without
from backtest_batch.core.data.column_names import fields_by_symbol, pair_of, plain, split_names
from backtest_batch.core.data.crsp import (
    is_crsp_price,
    is_crsp_return,
    without_codes,
    without_marks,
)
from backtest_batch.core.data.layout import (
    ColumnNames,
    Layout,
    check_assets,
    choices_by_symbol,
    choose_fields,
    find_layout,
    unclear_levels,
    unread,
)
from backtest_batch.core.data.number_text import (
    Cells,
    column_notes,
    find_style,
    floats,
    has_percent_signs,
)
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.data.suspicions import (
    QUOTED,
    Choice,
    adjusted_fields,
    check_are_prices,
    none_adjusted,
)
from backtest_batch.core.data.symbol_rows import give_back, rows_by_symbol
from backtest_batch.core.data.timestamps import TimestampRules, read_timestamps, stamps_of
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
    def thousands(self) -> str | None:
        """Character between the thousands of such a number; None finds out from the numbers."""
        ...

    @property
    def is_doubtful(self) -> bool:
        """Whether the text ``1.234`` may mean 1234."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed about the form of the file."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""
        ...

    @property
    def index_column(self) -> str | None:
        """Column that the file marks as its index, None if it marks none."""
        ...

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns.

        A column of ``numbers`` that holds anything but numbers comes back as text.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read from a source.

    Attributes
    ----------
    available
        Every symbol that the source has.
    bars
        The bars of the symbols that were wanted.
    in_order
        Whether the order of the symbols is meaningful (columns of a wide table); otherwise they
        are sorted by name.
    notes
        Notes for a reader of the results: which of several columns was read, for example.
    panel
        A panel that was already checked, used instead of bars.
    """

    available: tuple[str, ...]
    bars: list[SymbolBars]
    in_order: bool
    notes: tuple[str, ...] = ()
    panel: Panel | None = None


def joined_readings(readings: Sequence[Reading]) -> Reading:
    """Return the readings of several tables as one reading."""
    available = dict.fromkeys(symbol for item in readings for symbol in item.available)
    return Reading(
        available=tuple(available),
        bars=[bars for item in readings for bars in item.bars],
        in_order=all(item.in_order for item in readings),
        notes=tuple(dict.fromkeys(note for item in readings for note in item.notes)),
    )


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
        Its symbol, if the table does not name one.
    names, rules
        Names of its columns, and how to understand its timestamps.
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
        reading = _single(file, symbol, layout, names, rules, selection)
    elif layout.kind == "fields":
        reading = _fields(file, layout, names, rules, selection)
    elif layout.kind == "wide":
        reading = _wide(file, layout, names, rules, selection)
    else:
        reading = _long(file, layout, names, rules, selection)
    notes = [*file.notes, *([layout.note] if layout.note else []), *reading.notes]
    return replace(reading, notes=tuple(dict.fromkeys(notes)))


@dataclass(frozen=True, kw_only=True)
class _Selection:
    wanted: Collection[str] | None
    exclude: Collection[str]

    def __contains__(self, symbol: str) -> bool:
        return symbol not in self.exclude and (self.wanted is None or symbol in self.wanted)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The columns of a table that were read.

    ``columns`` and ``cells`` have the rows in the order of the file; ``order`` reverses them if the
    file begins with the last bar. A column that has become numbers is dropped, so that a large
    table is in memory once, not twice.
    """

    columns: dict[str, Any]
    cells: Cells
    order: slice
    notes: tuple[str, ...]
    with_percent_signs: set[str]

    @cached_property
    def stamps(self) -> IntArray:
        return self.cells.stamps[self.order]

    def floats(self, column: str) -> FloatArray:
        values = floats(self.columns[column], column, self.cells)[self.order]
        if has_percent_signs(self.columns.pop(column)):
            self.with_percent_signs.add(column)
        return values

    def bars(self, symbol: str, fields: dict[str, FloatArray], closes: str) -> SymbolBars:
        return SymbolBars(
            symbol=symbol,
            stamps=self.stamps,
            tz=self.cells.tz,
            fields=fields,
            file=self.cells.file,
            had_percent_signs=closes in self.with_percent_signs,
        )

    def fields_of(
        self, choice: Choice, names: ColumnNames, places: dict[str, str] | None = None
    ) -> tuple[dict[str, FloatArray], str | None]:
        values: dict[str, FloatArray] = {}
        read: dict[str, FloatArray] = {}
        for field, column in choice.columns.items():
            place = (places or {}).get(column, column)
            try:
                if place not in read:
                    read[place] = self.floats(place)
                    values[field] = read[place]
                else:  # two fields of one column: each may be scaled on its own
                    values[field] = read[place].copy()
            except DataError as error:
                if field in ("close", QUOTED):
                    raise
                raise DataError(f"{error}{without(field, (), self.cells.file)}") from error
        wording = Wording(table=self.cells.file)
        return adjusted_fields(values, choice, adjusted=names.adjusted, wording=wording)

    def further(
        self, columns: Mapping[str, str], places: Mapping[str, str] | None = None
    ) -> dict[str, FloatArray]:
        """Return the values of further fields by name."""
        values = {}
        for name, column in columns.items():
            try:
                values[name] = self.floats((places or {}).get(column, column))
            except DataError as error:
                raise DataError(
                    f"{error}; `data.fields` names the columns that are read as fields"
                ) from error
        return values


NEWEST_FIRST = "bars stand in the file from the last one to the first, and are turned"
"""Note on a file that begins with its last bar."""


def _read(file: TableFile, layout: Layout, numbers: Iterable[str], rules: TimestampRules) -> _Rows:
    label = printable_name(file.path)
    text = [layout.timestamp, *filter(None, (layout.symbol, layout.time))]
    numbers = list(dict.fromkeys(numbers))
    table, notes = _without_end(file.read(text, numbers), layout.timestamp, numbers)
    stamps, tz = read_timestamps(table[layout.timestamp], rules, label, said=notes)
    symbols = table[layout.symbol] if layout.symbol else None
    if layout.time is not None and _repeats(stamps, symbols):
        clock = table[layout.time]
        stamps, tz = read_timestamps(table[layout.timestamp], rules, label, clock=clock, said=notes)
        notes.append(f"times of day are those of '{layout.time}'")
    columns = {name: table[name] for name in numbers}
    for name in numbers:
        if is_crsp_return(name, file.columns):
            columns[name], said = without_codes(columns[name], name)
            notes += said
    style = find_style(
        columns,
        label,
        decimal=file.decimal,
        thousands=file.thousands,
        doubtful=file.is_doubtful,
    )
    notes += [note for column in columns.values() for note in column_notes(column)]
    order = slice(None)
    if layout.symbol is None and _falls(stamps):
        order = slice(None, None, -1)
        notes.append(NEWEST_FIRST)
    cells = Cells(stamps=stamps, tz=tz, file=label, style=style)
    notes += style.notes
    held = columns if symbols is None else columns | {str(layout.symbol): symbols}
    return _Rows(
        columns=held,
        cells=cells,
        order=order,
        notes=tuple(dict.fromkeys(notes)),
        with_percent_signs=set(),
    )


def _falls(stamps: IntArray) -> bool:
    return len(stamps) > 1 and bool((stamps[1:] < stamps[:-1]).all())


def _repeats(stamps: IntArray, symbols: Any) -> bool:
    """Return whether a timestamp occurs twice, or, if there are symbols, twice for one symbol."""
    if symbols is None:
        return len(np.unique(stamps)) < len(stamps)
    codes = symbols.cast("string").combine_chunks().dictionary_encode().indices
    both = pd.DataFrame({"stamp": stamps, "symbol": codes.to_numpy(zero_copy_only=False)})
    return bool(both.duplicated().any())


def _without_end(table: Any, timestamp: str, numbers: list[str]) -> tuple[Any, list[str]]:
    """Leave out rows at the end that hold a remark, a sum or nothing in place of a timestamp."""
    import pyarrow as pa

    column = table[timestamp]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return table, []
    count, remarks = 0, 0
    while count < len(column) and remarks < _MOST_REMARKS:
        row = len(column) - 1 - count
        text = (column[row].as_py() or "").strip()
        if not text:
            cells = (table[name][row].as_py() for name in numbers)
            if any(cell is not None and str(cell).strip() not in ("", "nan") for cell in cells):
                break
        elif not _SUM.match(text):
            break
        count += 1
        remarks += bool(text)
    if not count or count == len(column):
        return table, []
    shown = next((str(each).strip() for each in column[-count:].to_pylist() if each), "")
    rows = "the last row is" if count == 1 else f"the last {count} rows are"
    said = [f"{rows} not read: {shown[:40]!r}"] if shown else []
    return table.slice(0, len(table) - count), said


_MOST_REMARKS = 100
_SUM = re.compile(
    r"(?:total|sum|summe|average|mean|min|max|minimum|maximum|highest|lowest|high|low|change|"
    r"source|note|footnote|data|downloaded|copyright|\u00a9|\*)",
    re.IGNORECASE,
)


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
    choice, further = layout.choices[""], layout.further[""]
    rows = _read(file, layout, [*choice.columns.values(), *further.values()], rules)
    fields, note = rows.fields_of(choice, names)
    said = _without_marks(fields, choice, file.columns, names)
    fields |= rows.further(further)
    return Reading(
        available=(symbol,),
        bars=[rows.bars(symbol, fields, choice.columns["close"])],
        in_order=False,
        notes=(*rows.notes, *([note] if note else []), *said),
    )


def _without_marks(
    values: dict[str, FloatArray], choice: Choice, columns: Iterable[str], names: ColumnNames
) -> list[str]:
    """Make CRSP's prices plain, in place, and return notes."""
    column = choice.columns["close"]
    if names.signed or not is_crsp_price(column, columns):
        return []
    values["close"], notes = without_marks(values["close"], column)
    return notes


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
        for column in (
            *layout.choices[symbol].columns.values(),
            *layout.further[symbol].values(),
        )
    ]
    rows = _read(file, layout, numbers, rules)
    bars, notes = [], []
    for symbol in chosen:
        fields, note = rows.fields_of(layout.choices[symbol], names, layout.places[symbol])
        fields |= rows.further(layout.further[symbol], layout.places[symbol])
        closes = layout.choices[symbol].columns["close"]
        bars.append(rows.bars(symbol, fields, layout.places[symbol][closes]))
        notes.extend([note] if note else [])
    return Reading(
        available=available,
        bars=bars,
        in_order=True,
        notes=tuple(dict.fromkeys([*rows.notes, *notes])),
    )


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
    rows = _read(file, layout, columns, rules)
    wording = Wording(table=rows.cells.file)
    closes, places = {}, {}
    for column in columns:
        symbol = layout.values[column]
        places[symbol] = column
        try:
            closes[symbol] = rows.floats(column)
        except DataError as error:
            advice = f"; {wording.leave_out([symbol])} leaves the column out"
            if len(columns) > 1:
                key = wording.setting("symbol_column", symbol)
                advice += f", {key} reads symbols from it"
            raise DataError(f"{error}{advice}") from error
    notes: tuple[str, ...] = ()
    # Skip the check if the user named the symbols, or said that every column is one.
    if selection.wanted is None and names.close is not None:
        notes = check_are_prices(closes, wording)
    bars = [rows.bars(symbol, {"close": close}, places[symbol]) for symbol, close in closes.items()]
    return Reading(available=available, bars=bars, in_order=True, notes=(*rows.notes, *notes))


def _long(
    file: TableFile,
    layout: Layout,
    names: ColumnNames,
    rules: TimestampRules,
    selection: _Selection,
) -> Reading:
    choice, further = layout.choices[""], layout.further[""]
    rows = _read(file, layout, [*choice.columns.values(), *further.values()], rules)
    by_symbol = rows_by_symbol(rows.columns.pop(str(layout.symbol)), rows.cells.file)
    values, note = rows.fields_of(choice, names)
    said = _without_marks(values, choice, file.columns, names)
    values |= rows.further(further)
    give_back(len(rows.stamps))
    chosen = [symbol for symbol in sorted(by_symbol) if symbol in selection]
    pieces = [by_symbol[symbol] for symbol in chosen]
    available = tuple(sorted(by_symbol))
    del by_symbol
    order = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64).tolist()
    spans = [slice(*span) for span in zip([0, *ends][:-1], ends, strict=True)]
    del pieces
    stamps, turned = rows.stamps[order], False
    for span in spans:
        if _falls(stamps[span]):
            order[span], stamps[span], turned = order[span][::-1], stamps[span][::-1], True
    bars = [
        replace(rows.bars(symbol, {}, choice.columns["close"]), stamps=stamps[span])
        for symbol, span in zip(chosen, spans, strict=True)
    ]
    # Field by field, and all symbols in one array, so that only one field is held twice.
    for field in list(values):
        ordered = values.pop(field)[order]
        give_back(len(order))
        for item, span in zip(bars, spans, strict=True):
            item.fields[field] = ordered[span]
    return Reading(
        available=available,
        bars=bars,
        in_order=False,
        notes=(*rows.notes, *([note] if note else []), *said, *([NEWEST_FIRST] * turned)),
    )


_WORDING = Wording(table="the DataFrame", in_memory=True)


def bars_of_frame(frame: pd.DataFrame, *, symbol: str, names: ColumnNames) -> Reading:
    """Return the bars of one DataFrame, whose columns are recognised like those of a file.

    They are closes, one column per symbol; the fields of one asset (open, high, low, close, volume,
    in any spelling that files may have); or fields of several symbols, on two levels of names.

    Parameters
    ----------
    frame
        A frame on a DatetimeIndex.
    symbol
        Symbol of the asset, if the columns do not name one.
    names
        Name of the column of closes, and whether adjusted closes are used.

    Raises
    ------
    DataError
        When the frame has no DatetimeIndex, two columns of the same name, or a value that is not a
        number, or when its names do not tell what its columns are.
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
        said = _without_marks(fields, choice, columns, names) if not places else []
        bars.append(SymbolBars(symbol=symbol, stamps=stamps, tz=tz, fields=fields))
        notes.extend([*([note] if note else []), *said])
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
        When a frame has no DatetimeIndex, two columns of the same name, or a value that is not a
        number, or when the frames differ in rows or columns.
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
            f"of {frame.index.dtype}; {_way_to_moments(frame.index)} makes one"
        )
    if frame.index.hasnans:
        raise DataError(f"`{name}` has a row without a timestamp (NaT in its index)")
    labels = pd.Index([str(label) for label in frame.columns])
    if labels.has_duplicates:
        raise DataError(f"`{name}` has the column {labels[labels.duplicated()][0]} twice")


def _way_to_moments(index: pd.Index) -> str:
    """Return how pandas makes timestamps of an index: of numbers as 20200131, of periods."""
    if isinstance(index, pd.PeriodIndex):
        return "frame.index.to_timestamp()"
    if pd.api.types.is_integer_dtype(index.dtype) and len(index) and (index >= 10**7).all():
        text = str(index[0])
        for length, form in ((8, "%Y%m%d"), (12, "%Y%m%d%H%M"), (14, "%Y%m%d%H%M%S")):
            if len(text) == length:
                return f"pd.to_datetime(frame.index, format='{form}')"
        unit = {10: "s", 13: "ms", 16: "us", 19: "ns"}.get(len(text))
        if unit is not None:
            return f"pd.to_datetime(frame.index, unit='{unit}')"
    return "pd.to_datetime"


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
