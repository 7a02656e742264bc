"""What each column of a table is (timestamp, symbol, field); whether a table is long or wide."""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from backtest_batch.arrays import FIELDS
from backtest_batch.core.data.column_names import (
    CLOSE_LIKE,
    PRICES,
    column_meaning,
    fields_by_symbol,
    is_no_price,
    looks_like_bars,
    pair_of,
    plain,
    split_names,
)
from backtest_batch.core.data.suspicions import Adjusted, Choice, choose, none_adjusted
from backtest_batch.core.data.wording import Wording
from backtest_batch.errors import DataError

_TIMESTAMP_NAMES = ("timestamp", "date", "datetime", "time")
_OTHER_TIMES = (
    *("unix", "epoch", "ts", "dt", "caldt", "datadate", "tradedate", "window start"),
    # Bloomberg's sheets; German, Spanish, Italian, Turkish, Russian, Chinese, Japanese, Korean.
    *("dates", "datum", "fecha", "data", "tarih", "дата", "日期"),
    *("交易日期", "交易日", "日付", "日付け", "日時", "날짜", "일자", "거래일", "거래일자"),
)
_TIMES_OF_DAY = (
    *("time", "time of day", "hour", "bar time", "uhrzeit", "zeit", "heure", "hora", "czas"),
    *("время", "时间", "時刻"),
)
SYMBOL_LIKE = frozenset({"ticker", "asset", "instrument", "code", "name", "permno", "permco"})
"""Names, as :func:`.plain` writes them, of columns that may hold symbols."""

_UNNAMED_INDEX = ("", "Unnamed: 0", "__index_level_0__")
_UNNAMED = re.compile(r"Unnamed: \d+")


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """Names of the columns of a table; compared exactly, then without regard to case and spelling.

    Attributes
    ----------
    timestamp
        None looks for timestamp, date, datetime or time, then for an unnamed first column.
    time
        Column of the times of day, if the column of timestamps holds only days; None looks for a
        column named time.
    symbol
        A table with this column is long: one row per symbol and bar. None means that there is none.
    open, high, low, close, volume
        Columns of a table that is long or of one symbol. None leaves the field out; for ``close``
        it means that every column holds the closes of a symbol. A column whose name is not the
        usual one must exist.
    adjusted
        Whether adjusted closes are used if there are quoted closes beside them.
    fields
        Further columns to read as fields; ``all`` among them means all remaining columns.
    signed
        Whether prices may be negative, so that a minus sign is no mark.
    """

    timestamp: str | None = None
    time: str | None = None
    symbol: str | None = "symbol"
    open: str | None = "open"
    high: str | None = "high"
    low: str | None = "low"
    close: str | None = "close"
    volume: str | None = "volume"
    adjusted: Adjusted = "auto"
    fields: tuple[str, ...] = ()
    signed: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the columns of one table are.

    Attributes
    ----------
    kind
        ``wide``: one column of closes per symbol. ``long``: a column of symbols. ``single``: the
        bars of one symbol, which is the file's name. ``fields``: a column for each field of each
        symbol.
    timestamp, symbol
        Names of these columns; ``symbol`` for long tables only.
    time
        Column of the times of day, if there may be one beside the column of days.
    values
        Symbol of each column of a wide table.
    choices
        Which columns the fields come from, by symbol; the key is the empty text if the columns do
        not name the symbol.
    places
        Name in the table of each column of ``choices`` and ``further``, by symbol; empty if they
        are the same.
    further
        Column of each further field, by symbol, as in ``choices``.
    left_out
        Symbols of a wide table that the user asked to leave out.
    note
        Note for the reader on columns that were guessed or are not read.
    """

    kind: Literal["wide", "long", "single", "fields"]
    timestamp: str
    symbol: str | None = None
    time: str | None = None
    values: dict[str, str] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    places: dict[str, dict[str, str]] = field(default_factory=dict)
    further: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    note: str | None = None


def find_layout(
    columns: Sequence[str],
    names: ColumnNames,
    file: str,
    index_column: str | None = None,
    *,
    wanted: Collection[str] | None = None,
    exclude: Collection[str] = (),
) -> Layout:
    """Return the layout of a table: what each of its columns is.

    Parameters
    ----------
    columns
        Names of its columns.
    names
        What the user said about them.
    file
        Name of the file, for messages.
    index_column
        Column that the file itself marks as its index (Parquet written by pandas).
    wanted, exclude
        Symbols that were asked for by name, and symbols to leave out. A column that is named here
        is known to be a symbol.

    Raises
    ------
    DataError
        When two columns have the same name, there is no column of timestamps or prices, or the
        names do not tell whether the columns are assets or fields of one asset.
    """
    wording = Wording(table=file)
    # If one of the two levels of a column's name is empty, its name is the other level.
    pairs = {column: pair for column in columns if (pair := pair_of(column)) is not None}
    flat = {column: "".join(pair) for column, pair in pairs.items() if not all(pair)}
    spelled = [flat.get(column, column) for column in columns]
    _refuse_repeated(spelled, file)
    timestamp = columns[spelled.index(_timestamp_column(spelled, names, file, index_column, flat))]
    time = _time_column(columns, names, file, timestamp, {*exclude, *(wanted or ())})
    rest = [
        column for column in columns if column not in (timestamp, time) and not is_unnamed(column)
    ]
    layout = _layout_of(rest, timestamp, pairs, flat, names, wording, wanted, exclude)
    notes = [layout.note]
    usual = index_column is not None or plain(timestamp) in _TIMESTAMP_NAMES
    if names.timestamp is None and not usual and timestamp not in _UNNAMED_INDEX:
        notes.insert(
            0,
            f"timestamps are those of '{flat.get(timestamp, timestamp)}' "
            f"({wording.key('timestamp_column')} names another column)",
        )
    return replace(layout, time=time, note="; ".join(filter(None, notes)) or None)


def _layout_of(
    rest: list[str],
    timestamp: str,
    pairs: Mapping[str, tuple[str, str]],
    flat: Mapping[str, str],
    names: ColumnNames,
    wording: Wording,
    wanted: Collection[str] | None,
    exclude: Collection[str],
) -> Layout:
    if rest and all(column in pairs and column not in flat for column in rest):
        found = fields_by_symbol([pairs[column] for column in rest])
        if found is None:
            raise unclear_levels([pairs[column] for column in rest], wording)
        return _by_symbol(rest, found, timestamp, names, wording)
    found_symbol = None if names.symbol is None else _matching(rest, names.symbol)
    note = None
    if found_symbol is None and names.symbol == ColumnNames().symbol:
        found_symbol = _tickers(rest, names, wording)
        if found_symbol is not None:
            note = (
                f"symbols are those of '{found_symbol}' ({wording.key('symbol_column')} names "
                "another column, null says that none does)"
            )
    if found_symbol is None and names.symbol not in (None, ColumnNames().symbol):
        raise _no_column(names.symbol, "symbol_column", rest, wording)
    if found_symbol is not None:
        held = [column for column in rest if column != found_symbol]
        choice = choose_fields(held, names, wording)
        if choice is None:
            raise _no_close(held, names, wording)
        return Layout(
            kind="long",
            timestamp=timestamp,
            symbol=found_symbol,
            choices={"": choice},
            note=note,
            further={"": further_fields(held, choice, names, wording)},
        )
    assets = [column for column in rest if column.strip() not in exclude]
    return _without_symbols(rest, assets, timestamp, names, wording, wanted, exclude)


def _tickers(columns: list[str], names: ColumnNames, wording: Wording) -> str | None:
    """Return the column of tickers in a table of bars that has no column named symbol."""
    found = [column for column in columns if plain(column) in ("ticker", "symbols", "tickers")]
    if len(found) != 1 or names.close is None:
        return None
    held = [column for column in columns if column != found[0]]
    return None if choose_fields(held, names, wording) is None else found[0]


def _without_symbols(
    rest: list[str],
    assets: list[str],
    timestamp: str,
    names: ColumnNames,
    wording: Wording,
    wanted: Collection[str] | None,
    exclude: Collection[str],
) -> Layout:
    """Return the layout of a table without a column of symbols."""
    choice = choose_fields(rest, names, wording)
    if choice is not None:
        if names.symbol is not None:
            _refuse_hidden_symbols(rest, wording.table)
        further = further_fields(rest, choice, names, wording)
        others = [column for column in rest if column not in further.values()]
        return Layout(
            kind="single",
            timestamp=timestamp,
            choices={"": choice},
            further={"": further},
            note=unread(others, choice, wording),
        )
    if not rest:
        raise DataError(f"{wording.table} has no column of prices beside '{timestamp}'")
    if names.adjusted is True:
        raise none_adjusted(wording)
    named = wanted is not None and set(wanted) <= {column.strip() for column in assets}
    if names.close is not None and not named:
        if names.symbol is not None and any(column_meaning(column) in PRICES for column in assets):
            _refuse_hidden_symbols(assets, wording.table, and_close=_candidates(assets))
        found = split_names(assets)
        if found is not None:
            return _by_symbol(assets, found, timestamp, names, wording)
        check_assets(assets, wording)
    if set(names.fields) - {ALL_FIELDS}:
        raise DataError(
            f"{wording.table} holds closes, one column a symbol, and no field "
            f"'{names.fields[0]}', as {wording.key('fields')}{_NEEDED} say: further fields stand "
            "in tables with one row a symbol and bar"
        )
    return Layout(
        kind="wide",
        timestamp=timestamp,
        values={column: column.strip() for column in assets},
        left_out=tuple(column.strip() for column in rest if column.strip() in exclude),
    )


def _by_symbol(
    columns: Sequence[str],
    found: Sequence[tuple[str, str]],
    timestamp: str,
    names: ColumnNames,
    wording: Wording,
) -> Layout:
    """Return the layout of a table with a column for each field of each symbol."""
    choices, places = choices_by_symbol(columns, found, names, wording)
    return Layout(
        kind="fields",
        timestamp=timestamp,
        choices=choices,
        places=places,
        further={
            symbol: further_fields(list(places[symbol]), choice, names, wording)
            for symbol, choice in choices.items()
        },
    )


ALL_FIELDS = "all"
"""In ``ColumnNames.fields``, stands for all further columns."""


def further_fields(
    columns: Sequence[str], choice: Choice, names: ColumnNames, wording: Wording
) -> dict[str, str]:
    """Return the columns of further fields, by the names under which they were asked for.

    Parameters
    ----------
    columns
        Names of the columns, without those of timestamps and symbols.
    choice
        Which of them hold prices and volume.
    names, wording
        As for :func:`choose_fields`.

    Raises
    ------
    DataError
        When a named column does not exist.
    """
    used = set(choice.columns.values())
    further: dict[str, str] = {}
    for name in names.fields:
        column = None if name == ALL_FIELDS else _matching(columns, name)
        if column is not None and column not in used:
            further[name] = column
            used.add(column)
        elif column is None and name not in (ALL_FIELDS, *FIELDS):
            raise _no_column(name, "fields", columns, wording, other=_NEEDED)
    if ALL_FIELDS in names.fields:
        prices = {*FIELDS, *(f"adj_{name}" for name in FIELDS)}
        further |= {
            column.strip(): column
            for column in columns
            if column not in used and column_meaning(column) not in prices
        }
    return further


def choose_fields(columns: Sequence[str], names: ColumnNames, wording: Wording) -> Choice | None:
    """Return which columns hold the fields of one asset; None if there is no column of closes.

    Raises
    ------
    DataError
        When a named column, or the wanted kind of closes, does not exist.
    """
    usual = ColumnNames()
    found: dict[str, str] = {}
    for name in FIELDS:
        said = getattr(names, name)
        column = None if said is None else _matching(columns, said)
        if column is None and said is not None and said == getattr(usual, name):
            column = _by_meaning(columns, name, wording)
        if column is not None:
            found[name] = column
        elif said is not None and said != getattr(usual, name):
            raise _no_column(said, f"{name}_column", columns, wording)
        adjusted = None if said is None else _by_meaning(columns, f"adj_{name}", wording)
        if adjusted is not None:
            found[f"adj_{name}"] = adjusted
    note = None
    if names.close == usual.close and not found.keys() & {"close", "adj_close"}:
        others = [column for column in columns if column_meaning(column) == "last"]
        if len(others) == 1 and looks_like_bars(columns):
            found["close"] = others[0]
            note = f"closes are those of '{others[0]}' ({wording.key('close_column')} names others)"
    if names.close is None or not found.keys() & {"close", "adj_close"}:
        return None
    explicit = found["close"] if names.close != usual.close else None
    if explicit is not None and explicit == found.get("adj_close"):
        quoted = _by_meaning(columns, "close", wording)
        found |= {"close": quoted} if quoted is not None else {}
        if quoted is None:
            del found["close"]
    choice = choose(found, adjusted=names.adjusted, explicit=explicit, wording=wording)
    return choice if note is None else replace(choice, note=note)


def unread(columns: Sequence[str], choice: Choice, wording: Wording) -> str | None:
    """Return a sentence on further columns, beside the fields of one asset, that may be assets."""
    others = [column for column in columns if column_meaning(column) is None]
    others = [column for column in others if column not in choice.columns.values()]
    if not others:
        return None
    verb = "is" if len(others) == 1 else "are"
    return (
        f"{some(others, 3)} {verb} not read beside '{choice.columns['close']}', the closes of one "
        f"asset ({wording.setting('close_column', None)} takes each column as an asset)"
    )


def choices_by_symbol(
    columns: Sequence[str],
    found: Sequence[tuple[str, str]],
    names: ColumnNames,
    wording: Wording,
) -> tuple[dict[str, Choice], dict[str, dict[str, str]]]:
    """Return which columns hold the fields of each symbol, and each column by its label.

    Parameters
    ----------
    columns
        Names of the columns.
    found
        For each column, the label of its field and its symbol.
    names, wording
        As for :func:`choose_fields`.

    Raises
    ------
    DataError
        When a symbol has no closes, or two columns for the same field.
    """
    held: dict[str, dict[str, str]] = {}
    for column, (label, symbol) in zip(columns, found, strict=True):
        columns_of = held.setdefault(symbol, {})
        if label in columns_of:
            raise DataError(f"{wording.table} has the column '{label}' of {symbol} 2 times")
        columns_of[label] = column
    choices = {}
    for symbol, columns_of in held.items():
        choice = choose_fields(list(columns_of), names, wording)
        if choice is None:
            raise DataError(
                f"{wording.table} has no column of closes of {symbol} "
                f"(it has {some(list(columns_of))}){_advice(list(columns_of), wording)}"
            )
        choices[symbol] = choice
    return choices, held


def check_assets(columns: Sequence[str], wording: Wording) -> None:
    """Check by their names that columns may be closes of assets.

    Raises
    ------
    DataError
        When they look like the fields of one asset, or one has the name of something else.
    """
    if looks_like_bars(columns):
        raise DataError(
            f"{wording.table}: the columns {some(columns)} look like the bars of one asset, but "
            f"none is named close{_advice(columns, wording)}; "
            f"{wording.setting('close_column', None)} takes each column as an asset"
        )
    for column in columns:
        if is_no_price(column):
            among = ", but stands among closes" if len(columns) > 1 else ""
            raise DataError(
                f"{wording.table}: the column '{column.strip()}' is no price by its name{among}: "
                f"{wording.leave_out([column.strip()])} leaves it out, "
                f"{wording.setting('close_column', None)} takes each column as an asset's closes, "
                f"{wording.key('close_column')} names the closes of one asset"
            )


def _advice(columns: Sequence[str], wording: Wording) -> str:
    """Return what to type to read the closes from a column that may hold them."""
    candidates = _candidates(columns)
    said = " or ".join(wording.setting("close_column", column) for column in candidates[:3])
    return (
        f": {said} reads the closes from it"
        if said
        else f": {wording.key('close_column')} names it"
    )


def _candidates(columns: Sequence[str]) -> list[str]:
    named = [column.strip() for column in columns if column_meaning(column) in CLOSE_LIKE]
    return named or [column.strip() for column in columns if column.strip() in ("c", "C")]


def unclear_levels(pairs: Sequence[tuple[str, str]], wording: Wording) -> DataError:
    """Return the error for columns on two levels, neither of which names only fields."""
    return DataError(
        f"{wording.table} names its columns on two levels, such as {pairs[0]}, but neither holds "
        "fields alone (Open, High, Low, Close, Volume), with closes among them: write one level "
        "of symbols, as in frame['Close']"
    )


def is_unnamed(column: str) -> bool:
    """Return whether a column has no name of its own: the index of a table, or an empty column."""
    return column in _UNNAMED_INDEX or _UNNAMED.fullmatch(column) is not None


def find_timestamps(
    columns: Sequence[str], names: ColumnNames, file: str, index_column: str | None = None
) -> str:
    """Return the column of timestamps of a table.

    Parameters
    ----------
    columns, names, file, index_column
        As for :func:`find_layout`.

    Raises
    ------
    DataError
        When there is none.
    """
    return _timestamp_column(columns, names, file, index_column, {})


def _timestamp_column(
    columns: Sequence[str],
    names: ColumnNames,
    file: str,
    index_column: str | None,
    flat: dict[str, str],
) -> str:
    if names.timestamp is not None:
        column = _matching(columns, names.timestamp)
        if column is None:
            raise _no_column(names.timestamp, "timestamp_column", columns, Wording(table=file))
        return column
    if index_column is not None:
        return flat.get(index_column, index_column)
    for name in _TIMESTAMP_NAMES:
        column = _matching(columns, name)
        if column is not None:
            return column
    if columns and columns[0].strip() in _UNNAMED_INDEX:
        return columns[0]
    others = [column for column in columns if {"time", "date"} & set(plain(column).split())]
    others += [column for column in columns if plain(column) in _OTHER_TIMES]
    if {"o", "h", "l", "c"} <= set(map(plain, columns)):
        others += [column for column in columns if plain(column) == "t"]
    opened = [column for column in others if plain(column) == "open time"]
    if len(others) == 1 or opened:
        return (opened or others)[0]
    key = Wording(table=file).setting("timestamp_column", others[0].strip()) if others else ""
    raise DataError(
        f"{file} has no column of timestamps: none of {some(columns)} is named "
        f"{', '.join(_TIMESTAMP_NAMES)}; {key or '`data.timestamp_column`'} names another"
    )


def find_times_of_day(columns: Sequence[str], timestamp: str) -> str | None:
    """Return the column of times of day beside a column of days; None if no name tells one."""
    return _time_column(columns, ColumnNames(), "", timestamp, ())


def _time_column(
    columns: Sequence[str],
    names: ColumnNames,
    file: str,
    timestamp: str,
    symbols: Collection[str],
) -> str | None:
    """Return the column of times of day that goes with a column of days."""
    others = [column for column in columns if column != timestamp]
    if names.time is not None:
        column = _matching(others, names.time)
        if column is None:
            raise _no_column(names.time, "time_column", columns, Wording(table=file))
        return column
    if names.close is None or "time" in plain(timestamp).split():
        return None
    found = [column for column in others if plain(column) in _TIMES_OF_DAY]
    return found[0] if len(found) == 1 and found[0].strip() not in symbols else None


def _refuse_repeated(columns: Sequence[str], file: str) -> None:
    stripped = [column.strip() for column in columns]
    repeated = [(name, times) for name, times in Counter(stripped).items() if times > 1]
    if repeated:
        raise DataError(f"{file} has the column '{repeated[0][0]}' {repeated[0][1]} times")


def _refuse_hidden_symbols(
    columns: Sequence[str], file: str, *, and_close: Sequence[str] = ()
) -> None:
    for column in columns:
        short = plain(column)
        if short not in SYMBOL_LIKE:
            continue
        key = f"data.symbol_column={short}"
        if and_close:
            key += f"` with `data.close_column={and_close[0]}"
        other = "" if and_close else ", `data.symbol_column=null` says that no column holds symbols"
        raise DataError(
            f"{file} has no column 'symbol', but one named '{column}': "
            f"`{key}` reads the symbols from it{other}"
        )


def _matching(columns: Sequence[str], name: str) -> str | None:
    for column in columns:
        if column.strip() == name:
            return column
    for same in (str.casefold, plain):
        alike = [column for column in columns if same(column.strip()) == same(name.strip())]
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None


def _by_meaning(columns: Sequence[str], name: str, wording: Wording) -> str | None:
    found = [column for column in columns if column_meaning(column) == name]
    if len(found) > 1:
        key = f"{name.removeprefix('adj_')}_column"
        said = " or ".join(wording.setting(key, column.strip()) for column in found[:3])
        raise DataError(
            f"{wording.table}: {some(found)} may each be the {name.removeprefix('adj_')}: {said} "
            "chooses one"
        )
    return found[0] if found else None


def _no_close(columns: Sequence[str], names: ColumnNames, wording: Wording) -> DataError:
    if names.close is None:
        return DataError(
            f"{wording.table} has one row a symbol and bar, and needs a column of closes: "
            f"{wording.setting('close_column', None)} fits tables without a column of symbols"
        )
    fault = _no_column(names.close, "close_column", columns, wording)
    return DataError(f"{fault}{_advice(columns, wording) if _candidates(columns) else ''}")


_NEEDED = " or the required_fields of the strategy"


def _no_column(
    name: str | None, key: str, columns: Sequence[str], wording: Wording, *, other: str = ""
) -> DataError:
    close = difflib.get_close_matches(str(name), columns, n=3)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    verb = "say" if other else "says"
    return DataError(
        f"{wording.table} has no column '{name}'{hint}, as {wording.key(key)}{other} {verb}; "
        f"it has {some(columns)}"
    )


def some(columns: Sequence[str], most: int = 8) -> str:
    """Return a text of the first few names of columns, in quotes."""
    return ", ".join(repr(column) for column in columns[:most]) + (
        ", ..." if len(columns) > most else ""
    )
