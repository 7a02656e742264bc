"""Bars of many symbols put together into one panel."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest_batch.errors import DataError
from backtest_batch.market.bars import SymbolBars, check_order, check_values, without
from backtest_batch.market.fields import FIELDS, FloatArray, IntArray
from backtest_batch.market.gaps import Gaps, check_columns, fill_or_refuse
from backtest_batch.market.panel import Panel, new_panel
from backtest_batch.market.zones import index_of

__all__ = ["Assembly", "Gaps", "assemble"]


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A panel, and what a reader of the results should know about it.

    Attributes
    ----------
    panel
        The valid panel.
    notes
        Warnings: fields that are left out.
    """

    panel: Panel
    notes: tuple[str, ...]


def assemble(
    bars: Sequence[SymbolBars], *, gaps: Gaps | None = None, order: Sequence[str] | None = None
) -> Assembly:
    """Return the panel of bars that were read, and its warnings.

    The index is the union of the timestamps, from the first to the last one with a price. Peak
    memory is the bars plus one field, as the ``fields`` of ``bars`` are emptied on the way.

    Parameters
    ----------
    bars
        Bars of each symbol; a symbol whose bars come in several pieces (one file a year) has them
        joined by time.
    gaps
        What to do about a NaN inside a series; an error by default.
    order
        Symbols in the order of the columns; by default that of ``bars``.

    Raises
    ------
    DataError
        For duplicate bars, unsorted or mixed timestamps, prices that are not positive and finite,
        symbols without a price, gaps, and fewer than 2 bars.
    """
    if not bars:
        raise DataError("the data hold no symbol")
    tz = _common_zone(bars)
    check_order(bars)
    check_values(bars)
    known = {name for item in bars for name in item.fields}
    series = _join_pieces(bars)
    check_order(series.values())
    symbols = tuple(series if order is None else order)
    files = {symbol: series[symbol].file for symbol in symbols}
    stamps = _union([series[symbol].stamps for symbol in symbols])
    names, notes = _common_fields([series[symbol] for symbol in symbols], known)
    fields = _matrices([series[symbol] for symbol in symbols], names, stamps)
    check_columns(fields["close"], symbols, files)
    index, fields = _trimmed(index_of(stamps, tz), fields)
    if len(index) < 2:
        where = f"{files[symbols[0]]}: " if files[symbols[0]] else ""
        raise DataError(f"{where}a panel needs at least 2 bars, but the data have {len(index)}")
    fill_or_refuse(fields, index, symbols, files, gaps or Gaps())
    return Assembly(panel=new_panel(index, symbols, fields), notes=tuple(notes))


def _common_zone(bars: Sequence[SymbolBars]) -> str | None:
    first = bars[0]
    for item in bars:
        if item.tz != first.tz:
            raise DataError(
                "mixed time zones: "
                + " but ".join(
                    f"the timestamps of {each.symbol}{' in ' + each.file if each.file else ''} "
                    f"have {'none' if each.tz is None else each.tz}"
                    for each in (first, item)
                )
                + "; `data.timezone` converts them to one"
            )
    return first.tz


def _join_pieces(bars: Sequence[SymbolBars]) -> dict[str, SymbolBars]:
    pieces: dict[str, list[SymbolBars]] = {}
    for item in bars:
        if len(item.stamps):
            pieces.setdefault(item.symbol, []).append(item)
        else:
            pieces.setdefault(item.symbol, [])
    for item in bars:
        if not pieces[item.symbol]:
            where = f"{item.file}: " if item.file else ""
            out = without("close", [item.symbol], item.file)
            raise DataError(f"{where}{item.symbol} has no bars{out}")
    return {symbol: _joined(found) for symbol, found in pieces.items()}


def _joined(pieces: list[SymbolBars]) -> SymbolBars:
    if len(pieces) == 1:
        return pieces[0]
    pieces = sorted(pieces, key=lambda piece: int(piece.stamps[0]))
    names = [name for name in pieces[0].fields if all(name in piece.fields for piece in pieces)]
    files = list(dict.fromkeys(piece.file for piece in pieces))
    fields = {name: np.concatenate([piece.fields.pop(name) for piece in pieces]) for name in names}
    return SymbolBars(
        symbol=pieces[0].symbol,
        stamps=np.concatenate([piece.stamps for piece in pieces]),
        tz=pieces[0].tz,
        fields=fields,
        file=files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files",
    )


def _union(stamps: Sequence[IntArray]) -> IntArray:
    distinct: list[IntArray] = []
    for item in stamps:
        if not distinct or (item is not distinct[-1] and not np.array_equal(item, distinct[-1])):
            distinct.append(item)
    union = distinct[0]
    for item in distinct[1:]:
        if len(item) != len(union) or not np.array_equal(item, union):
            union = np.union1d(union, item)
    return union


def _common_fields(
    series: Sequence[SymbolBars], known: Collection[str]
) -> tuple[list[str], list[str]]:
    """Return the fields that every symbol has values of, and notes on the others."""
    names, notes = [], []
    for name in FIELDS:
        lacking = [item.symbol for item in series if _is_without(item, name)]
        if not lacking:
            names.append(name)
        elif name in known:
            notes.append(
                f"{name} is left out: {lacking[0]} has none "
                f"({len(lacking):,} of {len(series):,} symbols)"
            )
    return names, notes


def _is_without(item: SymbolBars, name: str) -> bool:
    values = item.fields.get(name)
    if values is None:
        return True
    # A symbol without a close is a fault that is named later.
    empty = name != "close" and len(values) > 0 and np.isnan(values[[0, -1]]).all()
    return bool(empty and np.isnan(values).all())


def _matrices(
    series: Sequence[SymbolBars], names: Sequence[str], stamps: IntArray
) -> dict[str, FloatArray]:
    rows = [_rows(item.stamps, stamps) for item in series]
    fields = {}
    for name in names:
        values = np.full((len(stamps), len(series)), np.nan)
        for column, item in enumerate(series):
            values[rows[column], column] = item.fields.pop(name)
        fields[name] = values
    return fields


def _rows(stamps: IntArray, union: IntArray) -> slice | IntArray:
    if len(stamps) == len(union):
        return slice(None)
    first = int(np.searchsorted(union, stamps[0]))
    # Most series that are shorter began later or ended earlier, without gaps.
    if np.array_equal(union[first : first + len(stamps)], stamps):
        return slice(first, first + len(stamps))
    return np.searchsorted(union, stamps)


def _trimmed(
    index: pd.DatetimeIndex, fields: Mapping[str, FloatArray]
) -> tuple[pd.DatetimeIndex, dict[str, FloatArray]]:
    """Leave out the rows before the first and after the last price of all symbols."""
    priced = np.asarray((~np.isnan(fields["close"])).any(axis=1))
    first, after = int(priced.argmax()), len(priced) - int(priced[::-1].argmax())
    return index[first:after], {name: values[first:after] for name, values in fields.items()}
