"""Which assets are members of the universe when: periods of membership, or yes and no by date."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.data.bars import lifetimes, moment_text
from backtest_batch.core.data.beside import (
    SYMBOL_NAMES,
    FrameTable,
    SideStamps,
    SideTable,
    case_hint,
    names_of_some,
    side_files,
    side_table,
)
from backtest_batch.core.data.column_names import plain
from backtest_batch.core.data.layout import some
from backtest_batch.core.data.number_text import NULL_TOKENS
from backtest_batch.core.data.timestamps import index_of
from backtest_batch.errors import DataError

_FROM = (
    *("from", "from date", "start", "start date", "begin", "begin date", "added", "date added"),
    *("mbrstartdt", "mbr start dt"),
)
_TO = (
    *("to", "thru", "to date", "end", "end date", "until", "ending", "removed", "date removed"),
    *("mbrenddt", "mbr end dt"),
)
"""Names of the columns of a table of stints, which are periods of membership."""

_LISTS = frozenset({"tickers", "symbols", "members", "constituents", "components"})
"""Names of a column with all members of a date in one cell."""

_LAST_YEAR = 2261
"""Later years mean "no end"; they do not fit into nanoseconds."""


def read_members(
    path: str,
    index: pd.DatetimeIndex,
    symbols: Sequence[str],
    close: FloatArray,
    available: Collection[str],
    *,
    session_end: str | None = None,
) -> tuple[BoolArray, list[str]]:
    """Return which assets a file says are members on each bar, and notes for the reader.

    Parameters
    ----------
    path
        A CSV or Parquet file. Either the columns symbol, from and to, with one row per stint (a
        period of membership), both days included, and ``to`` empty while the stint lasts. Or
        timestamps, and one column of true and false (1 and 0) per symbol, each row of which is
        valid until the next one.
    index, symbols
        Bars and assets of the panel.
    close
        Its closes, shape (n_bars, n_assets).
    available
        All symbols for which the source has prices.
    session_end
        When the sessions of the market end: a date in the file is the session of that date. None
        is midnight.

    Returns
    -------
    members : ndarray of shape (n_bars, n_assets)
    notes : list of str
        Notes on members without prices, and on symbols with prices that are never members.

    Raises
    ------
    DataError
        When the file cannot be understood, or contains none of the symbols.
    """
    files = side_files(path, "data.universe")
    if len(files) > 1:
        raise DataError(f"`data.universe` must be one file, but {path} are {len(files):,}")
    with side_table(Path(files[0])) as table:
        members, named = _members(table, index, symbols, session_end)
    said = _notes(table.label, members, named, index, symbols, close, available)
    return members, [*table.notes, *said]


def members_of_frame(
    frame: pd.DataFrame, index: pd.DatetimeIndex, symbols: Sequence[str]
) -> BoolArray:
    """Return which assets are members on each bar, from a DataFrame of the same form as a file.

    Raises
    ------
    DataError
        When the frame cannot be understood, or contains none of the symbols.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"`members` must be a DataFrame, but is a {type(frame).__name__}")
    table = SideTable(file=FrameTable(frame, "`members`"), label="`members`")
    return _members(table, index, symbols, None)[0]


def _members(
    table: SideTable, index: pd.DatetimeIndex, symbols: Sequence[str], session_end: str | None
) -> tuple[BoolArray, set[str]]:
    """Return the members, and the symbols that the table contains."""
    held = {plain(column) for column in table.file.columns}
    if held & set(SYMBOL_NAMES) and held & set(_FROM):
        members, named = _stints(table, index, symbols, session_end)
    elif len(held) == 2 and held & {*SYMBOL_NAMES, *_LISTS}:
        members, named = _lists(table, index, symbols, session_end)
    else:
        members, named = _by_date(table, index, symbols, session_end)
    if not named & set(symbols):
        raise DataError(
            f"{table.label}: none of its {len(named):,} symbols ({names_of_some(named)}) is one of "
            f"the {len(symbols):,} with prices ({names_of_some(symbols)})"
            f"{case_hint(named, symbols)}"
        )
    if not members.any():
        raise DataError(
            f"{table.label}: nobody with prices is a member on any of {len(index):,} bars, "
            f"{moment_text(index[0])} to {moment_text(index[-1])}"
        )
    return members, named


def _stints(
    table: SideTable, index: pd.DatetimeIndex, symbols: Sequence[str], session_end: str | None
) -> tuple[BoolArray, set[str]]:
    names = [table.need_symbols(), table.need(*_FROM)]
    end = table.find(*_TO)
    if end is None:
        raise DataError(
            f"{table.label} has columns '{names[0]}' and '{names[1]}', but none named 'to': the "
            "last day of each stint, empty where it goes on"
        )
    rows = table.read([*names, end])
    codes, known = table.symbols(rows[names[0]])
    ends, first, stop = _first_and_last(table, rows[names[1]], rows[end])
    from_bar = first.bars_from(index, session_end)
    # The last day belongs to the stint; so does a last moment that is spelt out.
    to_bar = np.full(len(codes), len(index), dtype=np.int64)
    to_bar[ends] = stop.bars_after(index, session_end)
    backwards = to_bar < from_bar
    if stop.tz == first.tz:  # also where there are no bars
        # A stint may begin within its last day.
        gone = stop.next_day().stamps if stop.are_dates else stop.stamps + 1
        backwards[ends] = gone <= first.stamps[ends]
    if backwards.any():
        row = int(backwards.argmax())
        last = stop.stamps[int(np.count_nonzero(ends[:row]))]
        raise DataError(
            f"{table.label}: the stint of {known[codes[row]]} in data row {row + 1} ends "
            f"({moment_text(index_of(np.array([last]), stop.tz)[0])}) before it begins "
            f"({moment_text(index_of(first.stamps[row : row + 1], first.tz)[0])})"
        )
    columns = {symbol: column for column, symbol in enumerate(symbols)}
    members = np.zeros((len(index), len(symbols)), dtype=np.bool_)
    for code, begin, end_bar in zip(codes.tolist(), from_bar, to_bar, strict=True):
        column = columns.get(known[code])
        if column is not None:
            members[begin:end_bar, column] = True
    return members, set(known)


def _first_and_last(
    table: SideTable, first: Any, last: Any
) -> tuple[BoolArray, SideStamps, SideStamps]:
    """Return which stints end, when all of them begin, and when the ones that end do so."""
    import pyarrow as pa

    ends, last = _without_far(last)
    last = last.filter(pa.array(ends))
    if last.type == first.type and len(last):
        # Read together: either column may show whether both have the day or the month first.
        both = table.moments_of(pa.chunked_array([*first.chunks, *pa.chunked_array(last).chunks]))
        return (
            ends,
            replace(both, stamps=both.stamps[: len(first)]),
            replace(both, stamps=both.stamps[len(first) :]),
        )
    begun = table.moments_of(first)
    if len(last):
        return ends, begun, table.moments_of(last)
    return ends, begun, replace(begun, stamps=np.empty(0, dtype=np.int64))


def _without_far(column: Any) -> tuple[BoolArray, Any]:
    """Return which stints end, and the column, either unchanged or as plain text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_null(kind):
        going_on = np.ones(len(column), dtype=np.bool_)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        far = pc.greater(pc.year(column), _LAST_YEAR)
        going_on = pc.fill_null(far, True).to_numpy(zero_copy_only=False)
    else:
        text = pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
        far = pc.match_substring_regex(text, r"^(22[7-9]\d|2[3-9]\d\d|[3-9]\d\d\d)")
        empty = sorted({*map(str.lower, NULL_TOKENS), "nat", "-"})
        none = pc.is_in(pc.utf8_lower(text), value_set=pa.array(empty))
        going_on = pc.or_(far, none).to_numpy(zero_copy_only=False)
        column = text
    return ~np.asarray(going_on, dtype=np.bool_), column


def _timestamp_column(table: SideTable) -> str:
    try:
        return table.timestamp_column()
    except DataError as error:
        raise DataError(
            f"{table.label} has neither the columns symbol, from and to, nor timestamps and a "
            f"column of true and false for each symbol (it has {some(list(table.file.columns))})"
        ) from error


def _by_date(
    table: SideTable, index: pd.DatetimeIndex, symbols: Sequence[str], session_end: str | None
) -> tuple[BoolArray, set[str]]:
    timestamp = _timestamp_column(table)
    clock = table.clock_column(timestamp)
    clock = None if clock is not None and clock.strip() in symbols else clock
    columns = {name.strip(): name for name in table.file.columns if name not in (timestamp, clock)}
    held = [symbol for symbol in symbols if symbol in columns]
    beside = [timestamp] if clock is None else [timestamp, clock]
    rows = table.read([*beside, *(columns[symbol] for symbol in held)])
    moments = table.moments(rows, timestamp, clock)
    order = np.argsort(moments.stamps, kind="stable")
    twice = np.flatnonzero(np.diff(moments.stamps[order]) == 0)
    if len(twice):
        row = int(order[twice[0]])
        when = moment_text(index_of(moments.stamps[row : row + 1], moments.tz)[0])
        count = "a timestamp" if len(twice) == 1 else f"{len(twice):,} timestamps"
        raise DataError(
            f"{table.label} has {count} twice, the first {when}: it needs a column of true and "
            "false for each symbol, or a row a stint (symbol, from, to), or a row for each member "
            "of each date (date, symbol)"
        )
    # Membership is known before its first day, so the row of a day is valid for the bars within it.
    valid_from = moments.bars_from(index, session_end)[order]
    row_of_bar = np.searchsorted(valid_from, np.arange(len(index)), side="right") - 1
    members = np.zeros((len(index), len(symbols)), dtype=np.bool_)
    for column, symbol in enumerate(symbols):
        if symbol in columns:
            values = _yes_or_no(table, rows[columns[symbol]], columns[symbol], moments)[order]
            members[:, column] = (row_of_bar >= 0) & values[np.maximum(row_of_bar, 0)]
    return members, set(columns)


def _lists(
    table: SideTable, index: pd.DatetimeIndex, symbols: Sequence[str], session_end: str | None
) -> tuple[BoolArray, set[str]]:
    """Return the members from all members of each date, in one cell or in a row each.

    Each date is valid until the next one.
    """
    import pyarrow as pa

    timestamp = _timestamp_column(table)
    (column,) = (name for name in table.file.columns if name != timestamp)
    rows = table.read([timestamp, column])
    moments = table.moments_of(rows[timestamp])
    listed = pd.Series(rows[column].cast(pa.string()).to_pylist(), dtype=object).fillna("")
    if plain(column) in _LISTS:
        listed = listed.str.strip("[](){} ")
        apart = r"[,;|]" if listed.str.contains(r"[,;|]").any() else r"\s"
        listed = listed.str.split(apart, regex=True).explode()
    names = listed.str.strip(" \t'\"")
    names = names[names != ""]
    dates, codes = np.unique(moments.stamps, return_inverse=True)
    first = replace(moments, stamps=dates).bars_from(index, session_end)
    row_of_bar = np.searchsorted(first, np.arange(len(index)), side="right") - 1
    columns = {symbol: position for position, symbol in enumerate(symbols)}
    places = names.map(columns)
    held = places.notna().to_numpy()
    table_of = np.zeros((len(dates), len(symbols)), dtype=np.bool_)
    table_of[codes[names.index.to_numpy()[held]], places.to_numpy()[held].astype(np.int64)] = True
    members = table_of[np.maximum(row_of_bar, 0)] & (row_of_bar >= 0)[:, None]
    table.said.append(f"each date lists all members in '{column}', until the next date")
    return members, set(names)


_YES, _NO = ("true", "1", "1.0"), ("false", "0", "0.0")


def _yes_or_no(table: SideTable, column: Any, name: str, moments: SideStamps) -> BoolArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), "")))
    yes = pc.is_in(text, value_set=pa.array(_YES)).to_numpy(zero_copy_only=False)
    no = pc.is_in(text, value_set=pa.array(_NO)).to_numpy(zero_copy_only=False)
    unclear = ~(yes | no)
    if unclear.any():
        row = int(unclear.argmax())
        when = moment_text(index_of(moments.stamps[row : row + 1], moments.tz)[0])
        shown = text[row].as_py()
        what = f"{shown[:60]!r}" if shown else "nothing"
        raise DataError(
            f"{table.label}: column '{name}' holds {what} at {when} "
            f"({int(unclear.sum()):,} such values): a membership is true or false, 1 or 0"
        )
    return np.asarray(yes, dtype=np.bool_)


def _notes(
    label: str,
    members: BoolArray,
    named: Collection[str],
    index: pd.DatetimeIndex,
    symbols: Sequence[str],
    close: FloatArray,
    available: Collection[str],
) -> list[str]:
    notes = []
    lost = set(named).difference(available, symbols)
    if lost:
        notes.append(
            f"{label}: {len(lost):,} of {len(named):,} symbols of the universe have no prices "
            f"({names_of_some(lost)}); what became of them is missing from every result, as in "
            "any history of survivors"
        )
    priced = ~np.isnan(close)
    never = [symbols[column] for column in np.flatnonzero(~members.any(axis=0)).tolist()]
    if never:
        notes.append(
            f"{label}: {len(never):,} of {len(symbols):,} symbols with prices are never members "
            f"({names_of_some(never)}) and are not traded"
        )
    nobody = ~(members & priced).any(axis=1)
    if nobody.any():
        first = moment_text(index[int(nobody.argmax())])
        notes.append(
            f"{label}: on {int(nobody.sum()):,} of {len(index):,} bars, from {first} on, nobody is "
            "a member that has a price"
        )
    return notes


def kept_through_delisting(members: BoolArray, close: FloatArray, ended: IntArray) -> BoolArray:
    """Return the members, with memberships on a last trading day extended by one bar.

    A delisting return is earned on that next bar, by whoever holds a member to its end.

    Parameters
    ----------
    members, close
        Shape (n_bars, n_assets); the closes are those before final prices are added.
    ended
        Positions of the assets that got a final price from a delisting return.
    """
    _, last = lifetimes(close)
    kept = members.copy()
    kept[last[ended] + 1, ended] |= members[last[ended], ended]
    return kept
