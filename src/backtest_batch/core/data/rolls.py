"""Continuous series from expiring contracts: when they roll, and how older prices are adjusted."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from backtest_batch.arrays import FloatArray
from backtest_batch.core.data.bars import SymbolBars, moment_text, series_of
from backtest_batch.core.data.panel import span
from backtest_batch.core.data.tables import TableFile
from backtest_batch.core.data.timestamps import index_of
from backtest_batch.core.data.wording import printable_name
from backtest_batch.errors import DataError

RollAdjust = Literal["ratio", "difference", "none"]
"""How the prices of older contracts are brought onto the level of newer ones."""

Contracts = Mapping[str, Mapping[str, str | None]]
"""By symbol: its contracts in order, each with the last bar on which it is held."""

MARK = "\x1f"
"""Separates the name of a series from that of its contract while a table is read."""


def unmarked(text: str) -> str:
    """Return a message with a space in place of the mark between series and contract."""
    return text.replace(MARK, " ").replace(printable_name(MARK), " ")


_PRICES = ("open", "high", "low", "close")


class ContractTable:
    """A table with a column of contracts, read as if series and contract together were the symbol.

    Parameters
    ----------
    table
        The table.
    symbol
        The series, if no column names it.
    symbol_column, contract_column
        Names of the columns of the series and the contracts.

    Raises
    ------
    DataError
        When there is no column of contracts.
    """

    def __init__(
        self, table: TableFile, *, symbol: str, symbol_column: str | None, contract_column: str
    ) -> None:
        self.path = table.path
        self._table = table
        self._symbol = symbol
        self._contract = _found(table.columns, contract_column)
        self._series = None if symbol_column is None else _found(table.columns, symbol_column)
        self.name = "symbol" if self._series is None else self._series
        if self._contract is None:
            held = ", ".join(map(repr, table.columns[:8]))
            raise DataError(
                f"{printable_name(table.path)} has no column '{contract_column}', as `data.roll` "
                f"says; it has {held}"
            )

    @property
    def decimal(self) -> str:
        """Character before the fraction of a number that is text."""
        return self._table.decimal

    @property
    def thousands(self) -> str | None:
        """Character between the thousands of such a number."""
        return self._table.thousands

    @property
    def is_doubtful(self) -> bool:
        """Whether the text ``1.234`` may mean 1234."""
        return self._table.is_doubtful

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed about the form of the file."""
        return self._table.notes

    @property
    def index_column(self) -> str | None:
        """Column that is marked as the index."""
        return self._table.index_column

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, including one of symbols."""
        others = [name for name in self._table.columns if name != self._contract]
        return others if self._series is not None else [*others, self.name]

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns; a symbol is series and contract together."""
        import pyarrow as pa
        import pyarrow.compute as pc

        others = [name for name in text if name != self.name]
        named = [self._contract] if self._series is None else [self._series, self._contract]
        table = self._table.read([*others, *map(str, named)], numbers)
        contracts = pc.utf8_trim_whitespace(
            pc.fill_null(table[str(self._contract)].cast(pa.string()), "")
        )
        empty = pc.equal(contracts, "").combine_chunks().to_numpy(zero_copy_only=False)
        if empty.any():
            raise DataError(
                f"{printable_name(self.path)}: no contract in data row {int(empty.argmax()) + 1} "
                f"({int(empty.sum()):,} such rows)"
            )
        series: Any = pa.scalar(self._symbol)
        if self._series is not None:
            series = pc.utf8_trim_whitespace(table[self._series].cast(pa.string()))
        joined = pc.binary_join_element_wise(series, contracts, MARK)
        table = table.drop_columns([str(name) for name in named])
        return table.append_column(self.name, joined)


def _found(columns: Sequence[str], name: str) -> str | None:
    exact = [column for column in columns if column.strip() == name]
    alike = [column for column in columns if column.strip().casefold() == name.casefold()]
    return next(iter(exact or alike), None)


@dataclass(frozen=True, kw_only=True)
class Rolls:
    """How contracts become continuous series.

    On the bar of a roll both contracts have a price; the older one is held up to this bar, and the
    newer one after it. All older prices are multiplied by new / old of that bar (``ratio``), or
    new - old is added to them (``difference``), so that the prices of the newest contract stay as
    they are.

    Attributes
    ----------
    contracts
        For each series, its contracts in order, each with the last bar on which it is held (None:
        as long as it has bars). None means that the symbols name series and contract, see
        :data:`MARK`; these are held as long as they have bars, in the order in which they end.
    adjust
        How older prices are adjusted; ``none`` leaves them as they are.
    """

    contracts: Contracts | None
    adjust: RollAdjust

    def symbols(self, available: Sequence[str]) -> tuple[str, ...]:
        """Return the symbols that remain of those that were read, once contracts are joined."""
        if self.contracts is None:
            return tuple(dict.fromkeys(symbol.partition(MARK)[0] for symbol in available))
        used = {name for held in self.contracts.values() for name in held}
        return (*self.contracts, *(symbol for symbol in available if symbol not in used))

    def continuous(
        self, bars: Sequence[SymbolBars], wanted: Collection[str] | None
    ) -> tuple[list[SymbolBars], tuple[str, ...]]:
        """Return the series that are wanted (None: all), and notes on them for the reader.

        Raises
        ------
        DataError
            When consecutive contracts have no bar on which both have a price, or their prices have
            no meaningful ratio.
        """
        joined, repeated = series_of(bars)
        done: list[SymbolBars] = []
        counted: list[tuple[str, int, int]] = []
        unused: list[str] = []
        for symbol, contracts in self._series(joined).items():
            if wanted is not None and symbol not in wanted:
                continue
            if contracts is None:
                done.append(joined[symbol])
                continue
            series, n_rolls, idle = self._one(symbol, contracts)
            done.append(series)
            counted.append((symbol, len(contracts) - len(idle), n_rolls))
            unused += [f"{_contract(item)} of {symbol}" for item in idle]
        if not counted:
            return done, tuple(repeated)
        symbol, n_contracts, n_rolls = counted[0]
        more = f" (and {len(counted) - 1:,} more series)" if len(counted) > 1 else ""
        how = {
            "ratio": "older prices are multiplied by new / old",
            "difference": "new - old is added to older prices",
            "none": "older prices are left as they are",
        }
        said = []
        if unused:
            one = len(unused) == 1
            some = ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else "")
            said.append(
                f"{len(unused):,} {'contract is' if one else 'contracts are'} not used, as "
                f"{'it ends' if one else 'they end'} no later than the one before it: {some}"
            )
        return done, (
            *repeated,
            *said,
            f"{symbol} is made of {n_contracts:,} "
            f"{'contract' if n_contracts == 1 else 'contracts'}, with {n_rolls:,} "
            f"{'roll' if n_rolls == 1 else 'rolls'}{more}: "
            f"{how[self.adjust]} (`data.roll_adjust={self.adjust}`)",
        )

    def _series(
        self, bars: Mapping[str, SymbolBars]
    ) -> dict[str, list[tuple[SymbolBars, str | None]] | None]:
        """Return the contracts of each series in order; None for symbols that are not contracts."""
        found: dict[str, list[tuple[SymbolBars, str | None]] | None] = {}
        if self.contracts is None:
            for symbol, item in bars.items():
                held = found.setdefault(symbol.partition(MARK)[0], [])
                assert held is not None
                held.append((item, None))
            for held in found.values():
                assert held is not None
                held.sort(key=lambda each: (each[0].stamps[-1], each[0].stamps[0], each[0].symbol))
            return found
        used = set()
        for symbol, contracts in self.contracts.items():
            lacking = [name for name in contracts if name not in bars]
            if lacking:
                raise DataError(
                    f"the data have no contract {lacking[0]} of {symbol}, as `data.roll` says "
                    f"({len(lacking):,} of {len(contracts):,} are missing); they have "
                    f"{', '.join(list(bars)[:8])}"
                )
            found[symbol] = [(bars[name], until) for name, until in contracts.items()]
            used |= set(contracts)
        return found | {symbol: None for symbol in bars if symbol not in used}

    def _one(
        self, symbol: str, contracts: Sequence[tuple[SymbolBars, str | None]]
    ) -> tuple[SymbolBars, int, list[SymbolBars]]:
        """Return a series, the number of its rolls, and the contracts that add no bar to it."""
        fields = [
            name
            for name in contracts[0][0].fields
            if all(name in item.fields for item, _ in contracts)
        ]
        held, until = contracts[0]
        begin = 0
        segments: list[tuple[SymbolBars, int, int]] = []
        steps: list[tuple[float, float]] = []  # old and new close of each roll
        idle = []
        for item, limit in contracts[1:]:
            if until is None and _last_priced(item) <= _last_priced(held):
                idle.append(item)  # it adds no bar
                continue
            end, after, prices = self._roll(symbol, held, until, item, begin)
            segments.append((held, begin, end))
            steps.append(prices)
            held, until, begin = item, limit, after
        stop = len(held.stamps) if until is None else _last_held(held, until) + 1
        segments.append((held, begin, stop))
        return self._joined(symbol, fields, segments, steps), len(steps), idle

    def _roll(
        self, symbol: str, old: SymbolBars, until: str | None, new: SymbolBars, begin: int
    ) -> tuple[int, int, tuple[float, float]]:
        """Return where old ends (exclusive), where new begins, and the closes of both."""
        last = len(old.stamps) - 1 if until is None else _last_held(old, until)
        priced = ~np.isnan(old.fields["close"])
        place = np.searchsorted(new.stamps, old.stamps)
        place = np.minimum(place, len(new.stamps) - 1)
        common = (new.stamps[place] == old.stamps) & priced & ~np.isnan(new.fields["close"][place])
        common[:begin] = False
        common[last + 1 :] = False
        if until is not None:
            common[:last] = False
        rows = np.flatnonzero(common)
        if len(rows):
            row = int(rows[-1])
            closes = float(old.fields["close"][row]), float(new.fields["close"][place[row]])
            if self.adjust == "ratio" and min(closes) <= 0:
                raise DataError(
                    f"{_named(old)}: {symbol} rolls from {_contract(old)} at {closes[0]:g} to "
                    f"{_contract(new)} at {closes[1]:g} on {old.moment(row)}: prices that are not "
                    "positive have no ratio; `data.roll_adjust=difference data.kind=differences` "
                    "takes their differences"
                )
            return row + 1, int(place[row]) + 1, closes
        if self.adjust == "none":
            after = int(np.searchsorted(new.stamps, old.stamps[last], side="right"))
            return last + 1, after, (1.0, 1.0)
        raise self._no_common_bar(symbol, old, new, last)

    def _no_common_bar(self, symbol: str, old: SymbolBars, new: SymbolBars, last: int) -> DataError:
        row = int(np.searchsorted(new.stamps, old.stamps[last]))
        is_there = row < len(new.stamps) and new.stamps[row] == old.stamps[last]
        lacks_new = not is_there or bool(np.isnan(new.fields["close"][row]))
        lacks_old = bool(np.isnan(old.fields["close"][last]))
        lacking = [_contract(item) for item, lacks in ((old, lacks_old), (new, lacks_new)) if lacks]
        if not lacking:
            lacking = [_contract(new)]
        verb, asked = ("has", lacking[0]) if len(lacking) == 1 else ("have", "each")
        return DataError(
            f"{_named(old)}: {symbol} cannot roll from {_contract(old)} to {_contract(new)}: both "
            f"need a close on one bar, and {' and '.join(lacking)} {verb} none on "
            f"{old.moment(last)}, the last bar of {_contract(old)} (the first of {_contract(new)} "
            f"is {new.moment(0)}). A close of {asked} on that bar is enough; "
            "`data.roll_adjust=none` joins prices as they are"
        )

    def _joined(
        self,
        symbol: str,
        fields: Sequence[str],
        segments: Sequence[tuple[SymbolBars, int, int]],
        steps: Sequence[tuple[float, float]],
    ) -> SymbolBars:
        factors, shifts = np.ones(len(segments)), np.zeros(len(segments))
        for number in range(len(steps) - 1, -1, -1):
            old, new = steps[number]
            factors[number] = factors[number + 1] * (new / old)
            shifts[number] = shifts[number + 1] + (new - old)
        values: dict[str, FloatArray] = {}
        for name in fields:
            parts = []
            for number, (item, begin, end) in enumerate(segments):
                part = item.fields[name][begin:end]
                if name in _PRICES and self.adjust == "ratio":
                    part = part * factors[number]
                elif name in _PRICES and self.adjust == "difference":
                    part = part + shifts[number]
                parts.append(part)
            values[name] = np.concatenate(parts)
        first = segments[0][0]
        if len({item.had_percent_signs for item, _, _ in segments}) > 1:
            raise DataError(
                f"{_named(first)}: some contracts of {symbol} have percent signs and some have not"
            )
        stamps = np.concatenate([item.stamps[begin:end] for item, begin, end in segments])
        return SymbolBars(
            symbol=symbol,
            stamps=stamps,
            tz=first.tz,
            fields=values,
            file=first.file,
            had_percent_signs=first.had_percent_signs,
        )


def _last_held(bars: SymbolBars, until: str) -> int:
    """Return the position of the last bar up to a date."""
    index = index_of(bars.stamps, bars.tz)
    _, after = span(until, index)
    row = int(index.searchsorted(after, side="left")) - 1
    if row < 0:
        raise DataError(
            f"{_named(bars)}: {_contract(bars)} is held up to {until}, as `data.roll` says, but "
            f"its first bar is {moment_text(index[0])}"
        )
    return row


def _last_priced(bars: SymbolBars) -> int:
    """Return the time of the last bar with a close; of the last bar, if none has one."""
    priced = np.flatnonzero(~np.isnan(bars.fields["close"]))
    return int(bars.stamps[priced[-1] if len(priced) else -1])


def _contract(bars: SymbolBars) -> str:
    return bars.symbol.rpartition(MARK)[2]


def _named(bars: SymbolBars) -> str:
    return bars.file or "the data"
