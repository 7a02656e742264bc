"""What every source of market data has."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Literal

from backtest_batch.core.data.bars import Gaps
from backtest_batch.core.data.gains import Gains
from backtest_batch.core.data.tables import Reading
from backtest_batch.core.data.wording import read_symbols_file
from backtest_batch.core.engine.frequency import AUTO, freq_text
from backtest_batch.core.engine.sessions import session_end_text

SIDE_KEYS = ("universe", "delisting_returns", "features", "features_lag")
"""Parameters that name files beside the prices, which :func:`.load_panel` reads."""


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where prices come from, which symbols to use, and how to treat gaps and early ends.

    Parameters
    ----------
    symbols
        Symbols to use, in the order of the columns; None uses them all.
    symbols_file
        File that names them instead: one symbol per line, or a CSV file with a column ``symbol``.
    exclude
        Symbols to leave out.
    freq
        Length of a bar: ``auto`` finds it, ``1d`` is at most one bar per session, ``5min`` one in
        five minutes; the units are s, min, h, d, w and mo.
    session_end
        When the market's day ends, ``HH:MM`` on the clock of the bars; None is midnight. A bar at
        that very time begins the next day.
    missing
        How to treat a NaN inside a series: ``error`` refuses it, ``ffill`` repeats the last close.
    missing_limit
        Largest number of bars in a row that ``ffill`` fills; a longer gap is an error.
    values
        ``prices``, or ``returns`` of each bar, which are turned into an index of prices.
    returns_unit
        Unit of returns: ``fraction`` (0.01) or ``percent`` (1 is 1 %); ``auto`` tells it by their
        size.
    kind
        ``ratios``: gains are ratios of prices, which must be positive. ``differences``: gains are
        differences of prices, which may be zero or negative, on a notional.
    notional
        Notional of one unit on its first bar, in the unit of its price: a number, or a mapping by
        symbol; needed by ``kind=differences``.
    delisting
        How to treat a series that ends before the last bar: ``liquidate_at_last`` sells it on its
        last bar at that close, ``error`` refuses the data.
    fields
        Names of further columns to read as fields of the panel (dividend, market_cap); ``all``
        reads all of them. A strategy's ``required_fields`` are added.
    universe
        File that says which symbols are members of the universe when: columns symbol, from, to
        (both days included, ``to`` empty while the membership lasts), or dates and one column of
        true and false per symbol.
    delisting_returns
        File with the return after the last price: columns symbol, return and, where known, date.
    features
        Files of series beside the prices: timestamps, one column per feature, and a column
        ``symbol`` if the features belong to assets.
    features_lag
        Number of bars by which the features are delayed.

    Raises
    ------
    ValueError
        When a value is not allowed; the message states the invariant and the value.
    """

    symbols: list[str] | None = None
    symbols_file: str | None = None
    exclude: list[str] | None = None
    freq: str = AUTO
    session_end: str | int | None = None
    missing: Literal["error", "ffill"] = "error"
    missing_limit: int = 5
    values: Literal["prices", "returns"] = "prices"
    returns_unit: Literal["auto", "fraction", "percent"] = "auto"
    kind: Literal["ratios", "differences"] = "ratios"
    notional: float | dict[str, float] | None = None
    delisting: Literal["liquidate_at_last", "error"] = "liquidate_at_last"
    fields: str | list[str] | None = None
    universe: str | None = None
    delisting_returns: str | None = None
    features: str | list[str] | None = None
    features_lag: int = 0

    def __post_init__(self) -> None:
        if self.symbols is not None and self.symbols_file is not None:
            raise ValueError(
                "at most one of `symbols` and `symbols_file` may be given, but got "
                f"symbols={self.symbols}, symbols_file={self.symbols_file}."
            )
        if self.symbols is not None and not list(self.symbols):
            raise ValueError("`symbols` must name at least one symbol, but got symbols=[].")
        # Texts of equal meaning get one spelling, and that one is recorded.
        object.__setattr__(self, "freq", freq_text(self.freq))
        object.__setattr__(self, "session_end", session_end_text(self.session_end))
        self.check_choice("delisting", ("liquidate_at_last", "error"))
        Gaps(missing=self.missing, missing_limit=self.missing_limit)
        _ = self.gains
        if self.features_lag < 0:
            raise ValueError(
                f"`features_lag >= 0` must hold, but got features_lag={self.features_lag}."
            )
        if not all(str(name).strip() for name in self.further_fields):
            raise ValueError(f"`fields` must be names, but got fields={self.fields!r}.")

    def check_choice(self, name: str, allowed: Sequence[str]) -> None:
        """Raise a ValueError when the value of a parameter is not one of those allowed."""
        value = getattr(self, name)
        if value not in allowed:
            raise ValueError(f"`{name}` must be {' or '.join(allowed)}, but got {name}={value}.")

    @property
    def place(self) -> str:
        """Where the data are, for messages; empty if there is nothing useful to say."""
        return ""

    @property
    def gaps(self) -> Gaps:
        """How to treat gaps."""
        return Gaps(missing=self.missing, missing_limit=self.missing_limit)

    @property
    def gains(self) -> Gains:
        """What the numbers are, and how gains follow from them."""
        return Gains(
            values=self.values,
            returns_unit=self.returns_unit,
            kind=self.kind,
            notional=self.notional,
        )

    @property
    def further_fields(self) -> tuple[str, ...]:
        """Names of the fields to read besides prices and volume, each once."""
        given = self.fields or ()
        return tuple(dict.fromkeys([given] if isinstance(given, str) else map(str, given)))

    def wanted(self) -> tuple[str, ...] | None:
        """Return the symbols to use, each once; None for all.

        Raises
        ------
        DataError
            When the symbols file cannot be read or names none.
        """
        if self.symbols_file is not None:
            return read_symbols_file(self.symbols_file)
        if self.symbols is None:
            return None
        return tuple(dict.fromkeys(str(symbol) for symbol in self.symbols))

    def parameters(self, *, without: Sequence[str] = ()) -> dict[str, Any]:
        """Return the constructor's arguments that decide the content of the panel."""
        # Without `delisting`: whether a series ends early depends on end_date, and load_panel
        # checks it.
        beside = {"symbols", "symbols_file", "delisting", *SIDE_KEYS, *without}
        if self.session_end is None:
            beside.add("session_end")
        return {
            item.name: getattr(self, item.name)
            for item in dataclass_fields(self)
            if item.name not in beside and (item.name != "fields" or self.fields is not None)
        }

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return everything that decides what :meth:`read` returns, as plain values.

        It is the key of the cache: a change in anything it leaves out goes unnoticed.
        """

    def whereabouts(self) -> dict[str, Any] | None:
        """Return where the data are, and the options, but not the content, as plain values.

        Data are compared with what was last read from the same whereabouts. None means that there
        is nothing to compare.
        """
        return None

    @abstractmethod
    def read(self, wanted: Sequence[str] | None) -> Reading:
        """Return the bars of the wanted symbols (None for all), and the symbols that exist.

        Raises
        ------
        DataError
            When the data cannot be read or understood.
        """
