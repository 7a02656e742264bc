"""The bars of one symbol as they were read, and the checks that need no other symbol."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest_batch.errors import DataError
from backtest_batch.market.fields import BoolArray, FloatArray, IntArray
from backtest_batch.market.wording import Wording
from backtest_batch.market.zones import index_of


@dataclass(frozen=True, kw_only=True)
class SymbolBars:
    """Bars of one symbol out of one file.

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
        The file they come from, empty when there is none.
    """

    symbol: str
    stamps: IntArray
    tz: str | None
    fields: dict[str, FloatArray]
    file: str = ""

    def moment(self, row: int) -> str:
        """Return the timestamp of a row as text; a date alone when it is midnight."""
        return moment_text(index_of(self.stamps[row : row + 1], self.tz)[0])


@dataclass(frozen=True, kw_only=True)
class BarFault:
    """What is wrong with one symbol: the first bar it is wrong on, and on how many."""

    symbol: str
    moment: str
    count: int
    what: str
    file: str = ""


def moment_text(stamp: pd.Timestamp) -> str:
    """Return a timestamp as text; a date alone when it is midnight."""
    return str(stamp.date()) if stamp == stamp.normalize() else str(stamp)


def raise_faults(faults: Sequence[BarFault], rule: str, *, named: int = 5) -> None:
    """Raise the faults as one message: the first one whole, then the other symbols by name.

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
        When a bar stands twice, or the timestamps are not sorted.
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


def check_values(bars: Iterable[SymbolBars]) -> None:
    """Check that prices are positive and finite, and volumes finite and not negative.

    NaN passes: whether it is a gap depends on where the series begins and ends.

    Raises
    ------
    DataError
        When one is not.
    """
    prices: list[BarFault] = []
    volumes: list[BarFault] = []
    rule = ""
    for item in bars:
        for name, values in item.fields.items():
            faults = volumes if name == "volume" else prices
            bad = _bad_volumes(values) if name == "volume" else _bad_prices(values)
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


def _price_rule(bars: SymbolBars, name: str, value: float) -> str:
    """Return what to do about the value of a field that cannot be used."""
    reason = ""
    if name == "close" and value < 0:
        reason = " (gains are ratios of prices: spreads, power and futures below zero have none)"
    return reason + without(name, [bars.symbol], bars.file)


def without(name: str, symbols: Sequence[str], file: str) -> str:
    """Return what leaves out a field, or for ``close`` the symbols; empty for frames."""
    if not file:
        return ""
    if name == "close":
        return f"; {Wording(table=file).leave_out(list(symbols))} leaves the symbol out"
    return f"; {Wording(table=file).setting(f'{name}_column', None)} leaves the field out"


def _bad_prices(values: FloatArray) -> BoolArray:
    return (values <= 0) | np.isinf(values)


def _bad_volumes(values: FloatArray) -> BoolArray:
    return (values < 0) | np.isinf(values)
