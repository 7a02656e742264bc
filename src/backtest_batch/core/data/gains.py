"""How gains follow from the numbers of a series: ratios of prices, differences, or returns.

The engine only handles positive prices. So returns are turned into an index of prices, and prices
that may be zero or negative into the value of one unit held with a deposit.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.data.bars import (
    BarFault,
    SymbolBars,
    check_order,
    raise_faults,
    series_of,
    union_of,
)
from backtest_batch.core.data.timestamps import index_of
from backtest_batch.errors import DataError

BASE = 100.0
"""Level of an index of returns on the bar before its first return."""

CALM = 2.0
"""Annual volatility up to which returns may be taken for fractions: 200 %."""

WILD = 4.0
"""Annual volatility from which on returns cannot be fractions, and must be percent."""

LEAST_PRICE = 0.5
"""Median above which numbers that are all positive are prices rather than returns."""

MISSING_CODES = (-99.99, -999.0)
"""Codes for a missing return in the files of French's data library, whose returns are percent."""

FASTEST_GROWTH = 1.0
"""Sum of returns per year up to which they may be fractions, if they span at least half a year."""

_YEAR = 365.25 * 86_400e9
_MONTH = _YEAR / 12
_DAY = 86_400 * 10**9
_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, kw_only=True)
class Gains:
    """What the numbers of a series are, and how a gain follows from them.

    Attributes
    ----------
    values
        ``prices``, or ``returns`` of each bar.
    returns_unit
        ``fraction`` (0.01), ``percent`` (1 is 1 %), or ``auto``: guessed from their size.
    kind
        ``ratios``: a gain is the ratio of two prices. ``differences``: a gain is their difference,
        relative to a notional.
    notional
        Notional of one unit on its first bar, in the unit of its price: one number, or one for each
        symbol. Needed by ``differences``.

    Raises
    ------
    ValueError
        When a value is not allowed.
    """

    values: Literal["prices", "returns"] = "prices"
    returns_unit: Literal["auto", "fraction", "percent"] = "auto"
    kind: Literal["ratios", "differences"] = "ratios"
    notional: float | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("values", ("prices", "returns")),
            ("returns_unit", ("auto", "fraction", "percent")),
            ("kind", ("ratios", "differences")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(
                    f"`{name}` must be {' or '.join(allowed)}, but got {name}={value}."
                )
        if self.values == "returns" and self.kind == "differences":
            raise ValueError(
                "`kind=differences` is for prices, but got values=returns, kind=differences."
            )
        if self.values == "prices" and self.returns_unit != "auto":
            raise ValueError(
                f"`returns_unit={self.returns_unit}` is for values=returns, but got values=prices."
            )
        if self.kind == "ratios" and self.notional is not None:
            raise ValueError("`notional` is for kind=differences, but got kind=ratios.")
        named = self.notional if isinstance(self.notional, Mapping) else {"": self.notional or 1.0}
        for symbol, number in named.items():
            if not (np.isfinite(number) and number > 0):
                raise ValueError(
                    f"`notional > 0` must hold, but got notional={number}"
                    f"{f' for {symbol}' if symbol else ''}."
                )

    def as_prices(self, bars: Sequence[SymbolBars]) -> tuple[list[SymbolBars], tuple[str, ...]]:
        """Return bars whose fields are positive prices, and notes on the conversion.

        Parameters
        ----------
        bars
            Bars of each symbol. They must not be used afterwards, because their ``fields`` are
            emptied or changed on the way. Plain prices are returned as they are.

        Raises
        ------
        DataError
            When returns are at or below -100 %, when their unit cannot be told, or when a notional
            is missing or too small.
        """
        if not bars or (self.values == "prices" and self.kind == "ratios"):
            return list(bars), ()
        if self.values == "returns":
            check_order(bars)
            # Before the files of a symbol are joined: each may be written in its own way.
            bars, told = self._as_fractions(bars)
            series, repeated = series_of(bars)
            prices, notes = self._from_returns(list(series.values()))
            return prices, (*repeated, "; ".join((*told, notes[0])), *notes[1:])
        series, repeated = series_of(bars)
        prices, notes = self._valued(list(series.values()))
        return prices, (*repeated, *notes)

    def _as_fractions(self, bars: Sequence[SymbolBars]) -> tuple[list[SymbolBars], tuple[str, ...]]:
        """Return bars whose closes are returns as fractions, and notes on how they are read."""
        signed = [item for item in bars if item.had_percent_signs]
        unsigned = [item for item in bars if not item.had_percent_signs and len(item.stamps)]
        notes = []
        if signed:
            whose = "" if not unsigned else f" of {signed[0].symbol}"
            more = f" (and {len(signed) - 1:,} more)" if unsigned and len(signed) > 1 else ""
            notes.append(
                f"returns{whose}{more} have percent signs and are read as percent: 1.25% is 0.0125"
            )
        percent, n_codes = False, 0
        if unsigned:
            percent, told = self._are_percent(unsigned)
            notes.append(told if not signed else told.replace("returns are", "the others are", 1))
        made = []
        for item in bars:
            values = item.fields["close"]
            if not (percent or item.had_percent_signs):
                made.append(item)
                continue
            as_written = values * 100.0 if item.had_percent_signs else values
            coded = are_missing_codes(as_written)
            n_codes += int(coded.sum())
            # A new array, because this one may share its memory with another.
            fractions = values if item.had_percent_signs else values / 100.0
            values = np.where(coded, np.nan, fractions)
            made.append(replace(item, fields=item.fields | {"close": values}))
        _check_returns(made, percent=percent)
        if n_codes:
            notes.append(missing_codes_text(n_codes))
        return made, tuple(notes)

    def _from_returns(self, series: list[SymbolBars]) -> tuple[list[SymbolBars], tuple[str, ...]]:
        names = sorted({name for item in series for name in item.fields} - {"close"})
        returns = [item.fields.pop("close") for item in series]
        stamps = union_of([item.stamps for item in series])
        before = _bar_before(stamps, series[0].tz)
        begun = np.concatenate(([before], stamps))
        longer: dict[int, IntArray] = {}
        bars = []
        for item, given in zip(series, returns, strict=True):
            values, own = given, item.stamps
            held = ~np.isnan(values)
            first = int(held.argmax())
            if first == 0 and held.any():
                # Begin at the last bar of any symbol before this symbol's first return.
                if id(own) not in longer:
                    earlier = begun[np.searchsorted(begun, own[0]) - 1]
                    longer[id(own)] = np.concatenate(([earlier], own))
                own = longer[id(own)]
                first = 1
                values = np.concatenate(([np.nan], values))
            bars.append(
                SymbolBars(
                    symbol=item.symbol,
                    stamps=own,
                    tz=item.tz,
                    fields={"close": _index_level(values, first)},
                    file=item.file,
                )
            )
        notes = [f"each series is an index of {BASE:g} on the bar before its first return"]
        if names:
            notes.append(
                f"{' and '.join(names)} left out: with `data.values=returns` closes alone "
                "are read, as returns"
            )
        return bars, tuple(notes)

    def _are_percent(self, series: Sequence[SymbolBars]) -> tuple[bool, str]:
        """Return whether returns are percent, and a sentence on how they are read."""
        returns = [item.fields["close"] for item in series]
        stamps = union_of([item.stamps for item in series])
        usual = _median([_size(values) for values in returns])
        shown = f"the median move is {usual:.3g}"
        if self.returns_unit != "auto":
            return self.returns_unit == "percent", (
                f"returns are read as {_UNITS[self.returns_unit]}, as `data.returns_unit` says "
                f"({shown})"
            )
        for item, values in zip(series, returns, strict=True):
            held = values[np.isfinite(values)]
            if len(held) > 1 and held.min() > 0.0 and np.median(held) > LEAST_PRICE:
                raise DataError(
                    f"{f'{item.file}: ' if item.file else ''}{item.symbol} holds prices, it seems, "
                    f"{held[0]:g} first and none below 0: `data.values=prices` reads them; "
                    "`data.returns_unit` says that they are returns, and in which unit"
                )
        years = max(float(stamps[-1] - stamps[0]), 1.0) / _YEAR
        a_year = max(len(stamps) - 1, 1) / years
        volatility = 1.4826 * usual * np.sqrt(a_year)
        growth = _median([abs(_mean(values)) for values in returns]) * a_year
        named = [item.symbol for item in series if names_percent(item.symbol)]
        if len(named) == len(series):
            return True, (
                f"returns are read as percent, as '{named[0]}' says ({shown}; "
                "`data.returns_unit=fraction` reads fractions)"
            )
        if volatility >= WILD:
            return True, (
                f"returns are read as percent ({shown}; `data.returns_unit=fraction` reads "
                "fractions)"
            )
        if not named and volatility <= CALM and (growth <= FASTEST_GROWTH or years < 0.5):
            return False, (
                f"returns are read as fractions ({shown}; `data.returns_unit=percent` reads "
                "percent)"
            )
        raise DataError(
            f"{f'{series[0].file}: ' if series[0].file else ''}the returns may be fractions or "
            f"percent ({shown}; as fractions their volatility is {volatility:.0%} a year, their "
            f"mean {growth:.0%} a year): `data.returns_unit=fraction` or "
            "`data.returns_unit=percent` says which"
        )

    def _valued(self, series: list[SymbolBars]) -> tuple[list[SymbolBars], tuple[str, ...]]:
        self._check_notionals(series)
        used: list[BarFault] = []
        deepest = 0.0
        for item in series:
            close = item.fields["close"]
            held = np.isfinite(close)
            if not held.any():
                continue  # reported later as a column without a price
            row = int(held.argmax())
            first, notional = float(close[row]), self._notional(item.symbol)
            for name in _PRICES:
                if name in item.fields:
                    values = item.fields[name]
                    deepest = max(deepest, first - float(np.nanmin(values, initial=first)))
                    # In this order, because the difference of two prices is exact more often.
                    item.fields[name] = notional + (values - first)
                    bad = item.fields[name] <= 0
                    if bad.any():
                        at = int(bad.argmax())
                        used.append(
                            BarFault(
                                symbol=item.symbol,
                                moment=item.moment(at),
                                count=int(bad.sum()),
                                what=f"has used up its notional of {notional:g}, as its {name} is "
                                f"{first - float(values[at]):g} below the first close,",
                                file=item.file,
                            )
                        )
        raise_faults(used, f"`data.notional` must be greater than {deepest:g}, the deepest fall")
        item = series[0]
        return series, (
            f"gains are differences of prices: what is traded is one unit with a deposit, worth "
            f"{self._notional(item.symbol):g} ({item.symbol}) on its first bar, and as much more "
            "or less later as its price has risen or fallen",
        )

    def _notional(self, symbol: str) -> float:
        held = self.notional
        return float(held[symbol] if isinstance(held, Mapping) else held or 0.0)

    def _check_notionals(self, series: Sequence[SymbolBars]) -> None:
        held = self.notional
        lacking = [
            item
            for item in series
            if held is None or (isinstance(held, Mapping) and item.symbol not in held)
        ]
        if not lacking:
            return
        item = lacking[0]
        falls = [_deepest_fall(each) for each in lacking]
        more = f" (and {len(lacking) - 1:,} more symbols)" if len(lacking) > 1 else ""
        raise DataError(
            f"{f'{item.file}: ' if item.file else ''}`data.kind=differences` needs the notional of "
            f"one unit of {item.symbol}{more}: `data.notional=100`, or one for each symbol, "
            f"`'data.notional={{{item.symbol}:100}}'`. A weight of 1 holds as many units as the "
            f"equity pays notionals; it must be greater than the deepest fall below the first "
            f"close, {max(falls):g}"
        )


_UNITS = {"fraction": "fractions", "percent": "percent"}


_PERCENT = re.compile(r"%|\b(?:pct|percent|per cent)\b", re.IGNORECASE)


def names_percent(column: str) -> bool:
    """Return whether the name of a column says that it holds percent: ``Return (%)``."""
    return _PERCENT.search(column.replace("_", " ")) is not None


def are_missing_codes(values: FloatArray) -> BoolArray:
    """Return which returns, as they are written in percent, are codes for missing values."""
    near = [np.isclose(values, code, rtol=1e-12, atol=0.0) for code in MISSING_CODES]
    return np.asarray(np.logical_or.reduce(near), dtype=np.bool_)


def missing_codes_text(count: int) -> str:
    """Return a note on returns that are codes for missing values."""
    if count == 1:
        return "1 return of -99.99 or -999 is read as a missing value"
    return f"{count:,} returns of -99.99 or -999 are read as missing values"


def _check_returns(series: Sequence[SymbolBars], *, percent: bool) -> None:
    faults = []
    for item in series:
        values = item.fields["close"]
        bad = (values <= -1.0) | np.isinf(values)
        if bad.any():
            row = int(bad.argmax())
            faults.append(
                BarFault(
                    symbol=item.symbol,
                    moment=item.moment(row),
                    count=int(bad.sum()),
                    what=f"has a return of {values[row]:.4g} ({values[row]:.4%})",
                    file=item.file,
                )
            )
    unit = "percent" if percent else "fractions"
    raise_faults(
        faults,
        f"a return must be above -100 % and finite, and these are read as {unit}; "
        "`data.returns_unit` says what they are",
    )


def _index_level(returns: FloatArray, first: int) -> FloatArray:
    """Return the index of a series of returns; it is ``BASE`` on the bar before ``first``."""
    gap = np.isnan(returns)
    if gap.all():
        return returns
    level = np.where(gap, 0.0, returns)
    level += 1.0
    level[first - 1] = BASE
    np.multiply.accumulate(level[first - 1 :], out=level[first - 1 :])
    level[gap] = np.nan
    level[first - 1] = BASE
    return level


def _bar_before(stamps: IntArray, tz: str | None) -> int:
    """Return the time of the bar before the first one.

    Its distance to the first bar is the median distance between bars. Steps of months are calendar
    months, from month end to month end if all bars are at month ends. If the market has no bars on
    weekends, the bar is not put on a weekend either.
    """
    index = index_of(stamps[:1_000], tz)
    steps = np.diff(stamps[:1_000])
    step = float(np.median(steps)) if len(steps) else float(_DAY)
    first = index[0]
    if step < 27 * _DAY:
        before = first - pd.Timedelta(int(step), unit="ns")
        if step >= _DAY and not (index.day_of_week >= 5).any():
            while before.day_of_week >= 5:
                before -= pd.Timedelta(days=1)
        return int(before.as_unit("ns").value)
    months = max(1, round(step / _MONTH))
    at_ends = bool((index.day >= 26).all())
    before = first - pd.DateOffset(months=months)
    if at_ends:
        before += pd.offsets.MonthEnd(0)
    return int(before.as_unit("ns").value)


def _deepest_fall(bars: SymbolBars) -> float:
    close = bars.fields["close"][np.isfinite(bars.fields["close"])]
    return float(close[0] - close.min()) if len(close) else 0.0


def _size(values: FloatArray) -> float:
    """Return the median absolute value of the returns that are not 0."""
    held = np.abs(values[np.isfinite(values) & (values != 0.0)])
    return float(np.median(held)) if len(held) else 0.0


def _mean(values: FloatArray) -> float:
    held = values[np.isfinite(values)]
    return float(held.mean()) if len(held) else 0.0


def _median(numbers: Sequence[float]) -> float:
    return float(np.median(numbers)) if len(numbers) else 0.0
