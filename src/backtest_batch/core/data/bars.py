"""The bars of one symbol, checked, and the assembly of all symbols into one panel."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from backtest_batch.arrays import FIELDS, BoolArray, FloatArray, IntArray
from backtest_batch.core.data.panel import Panel, new_panel
from backtest_batch.core.data.timestamps import index_of
from backtest_batch.core.data.wording import Wording
from backtest_batch.errors import DataError


@dataclass(frozen=True, kw_only=True)
class SymbolBars:
    """Bars of one symbol from one file.

    Attributes
    ----------
    symbol
        Name of the asset.
    stamps
        Nanoseconds since 1970, shape (n_bars,): instants when there is a zone, else wall clock.
    tz
        Canonical name of the time zone, None without one.
    fields
        Values by field name, each of shape (n_bars,).
    file
        The file they come from; empty if there is none.
    had_percent_signs
        Whether the closes were text such as ``1.25%``, which is read as 0.0125: as returns they are
        fractions, whatever the unit of other numbers is.
    """

    symbol: str
    stamps: IntArray
    tz: str | None
    fields: dict[str, FloatArray]
    file: str = ""
    had_percent_signs: bool = False

    def moment(self, row: int) -> str:
        """Return the timestamp of a row as text; a date alone when it is midnight."""
        return moment_text(index_of(self.stamps[row : row + 1], self.tz)[0])


@dataclass(frozen=True, kw_only=True)
class BarFault:
    """What is wrong with one symbol, the first bar it is wrong on, and the number of such bars."""

    symbol: str
    moment: str
    count: int
    what: str
    file: str = ""


def moment_text(stamp: pd.Timestamp) -> str:
    """Return a timestamp as text; a date alone when it is midnight."""
    return str(stamp.date()) if stamp == stamp.normalize() else str(stamp)


def raise_faults(faults: Sequence[BarFault], rule: str, *, named: int = 5) -> None:
    """Raise the faults as one message: the first one in full, then the other symbols by name.

    Raises
    ------
    DataError
        When there are faults.
    """
    if not faults:
        return
    first = faults[0]
    bars = "bar" if first.count == 1 else "bars"
    text = f"{first.symbol} {first.what} at {first.moment} ({first.count:,} {bars}): {rule}"
    if first.file:
        text = f"{first.file}: {text}"
    others = [f"{fault.symbol} ({fault.count:,}, from {fault.moment})" for fault in faults[1:]]
    if others:
        text += "; also " + ", ".join(others[:named])
    if len(others) > named:
        text += f" and {len(others) - named:,} more symbols"
    raise DataError(text)


def check_order(bars: Iterable[SymbolBars]) -> None:
    """Check that the timestamps of each symbol increase strictly.

    Raises
    ------
    DataError
        When a bar occurs twice, or the timestamps are not sorted.
    """
    twice = _Seen(_duplicated)
    backwards = _Seen(_out_of_order)
    duplicates: list[BarFault] = []
    unsorted: list[BarFault] = []
    for item in bars:
        for found, faults, what in (
            (twice(item.stamps), duplicates, "has a duplicate bar"),
            (backwards(item.stamps), unsorted, "has a bar that is earlier than the one before it"),
        ):
            if found is not None:
                row, count = found
                faults.append(
                    BarFault(
                        symbol=item.symbol,
                        moment=item.moment(row),
                        count=count,
                        what=what,
                        file=item.file,
                    )
                )
    raise_faults(duplicates, "a timestamp may stand once for each symbol")
    raise_faults(unsorted, "timestamps must increase (unsorted index)")


class _Seen:
    """Remembers the answer for the last array: the columns of a wide file share their stamps."""

    def __init__(self, search: Callable[[IntArray], tuple[int, int] | None]) -> None:
        self._search = search
        self._stamps: IntArray | None = None
        self._found: tuple[int, int] | None = None

    def __call__(self, stamps: IntArray) -> tuple[int, int] | None:
        if stamps is not self._stamps:
            self._stamps, self._found = stamps, self._search(stamps)
        return self._found


def _duplicated(stamps: IntArray) -> tuple[int, int] | None:
    if bool((stamps[1:] > stamps[:-1]).all()):
        return None
    again = pd.Index(stamps).duplicated()
    return (int(again.argmax()), int(again.sum())) if again.any() else None


def _out_of_order(stamps: IntArray) -> tuple[int, int] | None:
    earlier = stamps[1:] < stamps[:-1]
    return (int(earlier.argmax()) + 1, int(earlier.sum())) if earlier.any() else None


_LEAST_OF_A_SIGN = 0.1
_FEWEST_RETURNS = 8
_LARGEST_USUAL_RETURN = 5.0


def check_values(bars: Iterable[SymbolBars]) -> None:
    """Check that prices are positive and finite, volumes finite and not negative, others finite.

    NaN passes: whether it is a gap depends on where the series begins and ends.

    Raises
    ------
    DataError
        When a value breaks these rules.
    """
    prices: list[BarFault] = []
    volumes: list[BarFault] = []
    others: list[BarFault] = []
    rule = ""
    for item in bars:
        for name, values in item.fields.items():
            if name not in FIELDS:
                faults, bad = others, np.isinf(values)
            elif name == "volume":
                faults, bad = volumes, _bad_volumes(values)
            else:
                faults, bad = prices, _bad_prices(values)
            if bad.any():
                row = int(bad.argmax())
                rule = rule or _price_rule(item, name, float(values[row]))
                faults.append(
                    BarFault(
                        symbol=item.symbol,
                        moment=item.moment(row),
                        count=int(bad.sum()),
                        what=f"has {'an' if name == 'open' else 'a'} {name} of {values[row]:g}",
                        file=item.file,
                    )
                )
    raise_faults(prices, f"a price must be positive and finite{rule}")
    raise_faults(volumes, f"a volume must be finite and not negative{rule}")
    raise_faults(others, "a value must be finite; `data.fields` leaves the field out")


def _price_rule(bars: SymbolBars, name: str, value: float) -> str:
    """Return the text on what to do about a value of a field that cannot be used."""
    reason = ""
    if name == "close" and value <= 0:
        if _are_like_returns(bars.fields["close"]):
            reason = (
                " (these come and go around zero: `data.values=returns` reads them as returns, "
                "`data.kind=differences` as prices of spreads)"
            )
        elif value < 0:
            reason = (
                " (gains are ratios of prices, and spreads, power and futures below zero have "
                "none: `data.kind=differences data.notional=100`, say, takes differences on a "
                "notional)"
            )
    return reason + without(name, [bars.symbol], bars.file)


def _are_like_returns(values: FloatArray) -> bool:
    """Return whether numbers vary around zero in small steps, as returns do; spreads wander."""
    held = values[np.isfinite(values)]
    if len(held) < _FEWEST_RETURNS or (
        min(np.mean(held < 0), np.mean(held > 0)) < _LEAST_OF_A_SIGN
    ):
        return False
    small = float(np.median(np.abs(held))) <= _LARGEST_USUAL_RETURN
    return small and float(np.var(np.diff(held))) > float(np.var(held))


def without(name: str, symbols: Sequence[str], file: str) -> str:
    """Return which setting leaves out a field, or for ``close`` the symbols; empty for frames."""
    if not file:
        return ""
    if name == "close":
        return f"; {Wording(table=file).leave_out(list(symbols))} leaves the symbol out"
    return f"; {Wording(table=file).setting(f'{name}_column', None)} leaves the field out"


def _bad_prices(values: FloatArray) -> BoolArray:
    return (values <= 0) | np.isinf(values)


def _bad_volumes(values: FloatArray) -> BoolArray:
    return (values < 0) | np.isinf(values)


LOG = logging.getLogger("backtest_batch.market")


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """How to treat a bar without a value between an asset's first and last close.

    Attributes
    ----------
    missing
        ``error`` refuses it. ``ffill`` fills it: a missing price with the last close before it, a
        missing volume with 0.
    missing_limit
        Largest number of bars in a row that are filled; a longer gap is an error.
    """

    missing: Literal["error", "ffill"] = "error"
    missing_limit: int = 5

    def __post_init__(self) -> None:
        if self.missing not in ("error", "ffill"):
            raise ValueError(f"`missing` must be error or ffill, but got missing={self.missing}.")
        if self.missing_limit < 1:
            raise ValueError(
                f"`missing_limit >= 1` must hold, but got missing_limit={self.missing_limit}."
            )


def check_columns(close: FloatArray, symbols: Sequence[str], files: Mapping[str, str]) -> None:
    """Check that every symbol has a close.

    Raises
    ------
    DataError
        When a column of ``close``, shape (n_bars, n_assets), is all NaN.
    """
    empty = [symbols[column] for column in np.flatnonzero(np.isnan(close).all(axis=0)).tolist()]
    if empty:
        where = f"{files[empty[0]]}: " if files[empty[0]] else ""
        others = f"; nor have {', '.join(empty[1:6])}" if len(empty) > 1 else ""
        others += f" and {len(empty) - 6:,} more symbols" if len(empty) > 6 else ""
        # Name all of them, so that the user has to change the settings only once.
        out = without("close", empty, files[empty[0]])
        if len(empty) > 1:
            out = out.replace("leaves the symbol out", "leaves them out")
        raise DataError(
            f"{where}{empty[0]} has no price on any of {len(close):,} bars (all-NaN column)"
            f"{others}{out}"
        )


def lifetimes(close: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the positions of each asset's first and last bar, each of shape (n_assets,)."""
    priced = ~np.isnan(close)
    return priced.argmax(axis=0), len(close) - 1 - priced[::-1].argmax(axis=0)


def fill_or_refuse(
    fields: Mapping[str, FloatArray],
    index: pd.DatetimeIndex,
    symbols: Sequence[str],
    files: Mapping[str, str],
    gaps: Gaps,
) -> None:
    """Fill or refuse gaps, in place: NaN remains only outside each asset's first and last close.

    Values of other fields before the first or after the last close are dropped: no close, no bar.

    Raises
    ------
    DataError
        When there is a gap and ``missing`` is ``error``, or a gap is longer than the limit.
    """
    first, last = lifetimes(fields["close"])
    rows = np.arange(len(index))[:, None]
    inside = (rows >= first) & (rows <= last)
    faults: list[BarFault] = []
    filled = 0
    for name in ("close", *(name for name in fields if name != "close")):
        values = fields[name]
        if name != "close":
            values[~inside] = np.nan
        # Only one NaN and one zero are used, because the fingerprint covers the bits.
        empty = np.isnan(values)
        values[empty] = np.nan
        values += 0.0
        if name not in FIELDS:
            continue  # known on some bars only, as dividends are
        gap = inside & empty
        for column in np.flatnonzero(gap.any(axis=0)).tolist():
            allowed = 0 if gaps.missing == "error" else gaps.missing_limit
            long = _runs_over(gap[:, column], allowed)
            if long.any():
                symbol = symbols[column]
                faults.append(
                    BarFault(
                        symbol=symbol,
                        moment=moment_text(index[int(long.argmax())]),
                        count=int(long.sum()),
                        what=f"has no {name} inside its series",
                        file=files[symbol],
                    )
                )
            else:
                _fill(values, fields["close"], gap[:, column], column, name)
                filled += int(gap[:, column].sum())
        raise_faults(faults, _rule(gaps, name) + _advice(name, faults))
    if filled:
        LOG.info("filled %s missing values with the last close", f"{filled:,}")


def _advice(name: str, faults: Sequence[BarFault]) -> str:
    """Return how to leave out an optional field; for closes with gaps, the limit is the remedy."""
    return without(name, (), faults[0].file) if faults and name != "close" else ""


def _rule(gaps: Gaps, name: str) -> str:
    if gaps.missing == "error":
        fill = "0" if name == "volume" else "the last close"
        return (
            f"a series may have no gap; `data.missing=ffill` fills it with {fill}, "
            f"`data.missing_limit={gaps.missing_limit}` bars in a row at most"
        )
    return f"more than `data.missing_limit={gaps.missing_limit}` bars in a row are not filled"


def _runs_over(gap: BoolArray, allowed: int) -> BoolArray:
    """Return the bars of those runs of True that are longer than ``allowed``."""
    edges = np.diff(gap.astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    long = np.zeros(len(gap), dtype=np.bool_)
    for start, end in zip(starts, ends, strict=True):
        long[start:end] = end - start > allowed
    return long


def _fill(values: FloatArray, close: FloatArray, gap: BoolArray, column: int, name: str) -> None:
    for row in np.flatnonzero(gap):
        if name == "volume":
            values[row, column] = 0.0
        else:
            # An asset's first bar has no close before it: use its own close instead.
            before = close[row - 1, column] if row else np.nan
            values[row, column] = close[row, column] if np.isnan(before) else before


__all__ = ["Assembly", "Gaps", "assemble"]


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A panel, and notes on it for a reader of the results.

    Attributes
    ----------
    panel
        The valid panel.
    notes
        Warnings, about fields that are left out for example.
    """

    panel: Panel
    notes: tuple[str, ...]


def assemble(
    bars: Sequence[SymbolBars], *, gaps: Gaps | None = None, order: Sequence[str] | None = None
) -> Assembly:
    """Return the panel of bars that were read, and its warnings.

    The index is the union of the timestamps, from the first to the last one with a price. Peak
    memory is the bars plus one field, because the ``fields`` of ``bars`` are emptied on the way.

    Parameters
    ----------
    bars
        Bars of each symbol. If the bars of a symbol come in several pieces (one file per year),
        they are joined by time.
    gaps
        What to do about a NaN inside a series; by default it is an error.
    order
        Symbols in the order of the columns; by default the order in ``bars``.

    Raises
    ------
    DataError
        For duplicate bars, unsorted or mixed timestamps, prices that are not positive and finite,
        symbols without a price, gaps, further fields without any value, and fewer than 2 bars.
    """
    if not bars:
        raise DataError("the data hold no symbol")
    tz = _common_zone(bars)
    check_order(bars)
    check_values(bars)
    bars, repeated = _without_repeats(bars)
    known = {name for item in bars for name in item.fields}
    series = _join_pieces(bars)
    check_order(series.values())
    symbols = tuple(series if order is None else order)
    files = {symbol: series[symbol].file for symbol in symbols}
    stamps = union_of([series[symbol].stamps for symbol in symbols])
    names, notes = _common_fields([series[symbol] for symbol in symbols], known)
    fields = _matrices([series[symbol] for symbol in symbols], names, stamps)
    check_columns(fields["close"], symbols, files)
    index, fields = _trimmed(index_of(stamps, tz), fields)
    if len(index) < 2:
        where = f"{files[symbols[0]]}: " if files[symbols[0]] else ""
        raise DataError(f"{where}a panel needs at least 2 bars, but the data have {len(index)}")
    fill_or_refuse(fields, index, symbols, files, gaps or Gaps())
    return Assembly(panel=new_panel(index, symbols, fields), notes=(*repeated, *notes))


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


def _without_repeats(bars: Sequence[SymbolBars]) -> tuple[list[SymbolBars], list[str]]:
    """Leave out repeats of bars that occur in two files with equal values, and add a note.

    Raises
    ------
    DataError
        When the values of such bars differ.
    """
    pieces: dict[str, list[int]] = {}
    for position, item in enumerate(bars):
        if len(item.stamps):
            pieces.setdefault(item.symbol, []).append(position)
    kept, count, first = list(bars), 0, ""
    for symbol, positions in pieces.items():
        positions.sort(key=lambda position: int(bars[position].stamps[0]))
        reach = int(bars[positions[0]].stamps[0]) - 1
        for number, position in enumerate(positions):
            begins, ends = (int(bars[position].stamps[row]) for row in (0, -1))
            apart, reach = begins > reach, max(reach, ends)
            if apart:
                continue
            for before in positions[:number]:
                item, other = kept[position], kept[before]
                if not len(item.stamps) or not len(other.stamps):
                    continue
                if item.stamps[0] > other.stamps[-1] or item.stamps[-1] < other.stamps[0]:
                    continue
                rows = _repeats(item, other)
                first = first or (f"{symbol} at {item.moment(int(rows[0]))}" if len(rows) else "")
                count += len(rows)
                kept[position] = _without_rows(item, rows)
    if not count:
        return kept, []
    bars_are = "1 bar stands" if count == 1 else f"{count:,} bars stand"
    return kept, [f"{bars_are} in two files with equal values, read once ({first})"]


def _repeats(item: SymbolBars, other: SymbolBars) -> IntArray:
    """Return the rows of bars that another file also has, with equal values."""
    _, rows, others = np.intersect1d(item.stamps, other.stamps, return_indices=True)
    for name in item.fields.keys() & other.fields.keys():
        one, two = item.fields[name][rows], other.fields[name][others]
        unlike = (one != two) & ~(np.isnan(one) & np.isnan(two))
        if unlike.any():
            place = int(unlike.argmax())
            raise DataError(
                f"{other.file} and {item.file} have different values of {item.symbol} at "
                f"{item.moment(int(rows[place]))} ({name} {two[place]:g} and {one[place]:g}; "
                f"{int(unlike.sum()):,} such bars): a timestamp may stand once for each symbol"
            )
    return np.asarray(rows, dtype=np.int64)


def _without_rows(item: SymbolBars, rows: IntArray) -> SymbolBars:
    if not len(rows):
        return item
    keep = np.ones(len(item.stamps), dtype=np.bool_)
    keep[rows] = False
    fields = {name: values[keep] for name, values in item.fields.items()}
    return replace(item, stamps=item.stamps[keep], fields=fields)


def series_of(bars: Sequence[SymbolBars]) -> tuple[dict[str, SymbolBars], list[str]]:
    """Return the bars of each symbol in one piece, with their order checked, and notes.

    Raises
    ------
    DataError
        For duplicate and unsorted bars, and for symbols without any bars.
    """
    check_order(bars)
    bars, repeated = _without_repeats(bars)
    series = _join_pieces(bars)
    check_order(series.values())
    return series, repeated


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
    names = [
        name
        for name in dict.fromkeys(name for piece in pieces for name in piece.fields)
        if name not in FIELDS or all(name in piece.fields for piece in pieces)
    ]
    files = list(dict.fromkeys(piece.file for piece in pieces))
    fields = {
        name: np.concatenate(
            [
                piece.fields.pop(name)
                if name in piece.fields
                else np.full(len(piece.stamps), np.nan)
                for piece in pieces
            ]
        )
        for name in names
    }
    return SymbolBars(
        symbol=pieces[0].symbol,
        stamps=np.concatenate([piece.stamps for piece in pieces]),
        tz=pieces[0].tz,
        fields=fields,
        file=files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files",
    )


def union_of(stamps: Sequence[IntArray]) -> IntArray:
    """Return all timestamps of several series, each once, in order."""
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
    """Return the fields of the panel, and notes on those that not every symbol has values of."""
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
    for name in sorted(set(known).difference(FIELDS)):
        lacking = [item.symbol for item in series if _is_without(item, name)]
        if len(lacking) == len(series):
            raise DataError(f"the field '{name}' has no value")
        names.append(name)
        if lacking:
            notes.append(
                f"{name} has no value of {lacking[0]} ({len(lacking):,} of {len(series):,} symbols)"
            )
    return names, notes


def _is_without(item: SymbolBars, name: str) -> bool:
    values = item.fields.get(name)
    if values is None:
        return True
    # A symbol without a close is a fault that is reported later.
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
            if name in item.fields:
                values[rows[column], column] = item.fields.pop(name)
        fields[name] = values
    return fields


def _rows(stamps: IntArray, union: IntArray) -> slice | IntArray:
    if len(stamps) == len(union):
        return slice(None)
    first = int(np.searchsorted(union, stamps[0]))
    # Most shorter series have no gaps: they only began later or ended earlier.
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
