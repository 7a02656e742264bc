"""Prices from Yahoo Finance."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from backtest_batch.arrays import FIELDS
from backtest_batch.core.data.bars import SymbolBars
from backtest_batch.core.data.cache import cache_dir, own_cache_dir
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.tables import Reading, bars_of_frames
from backtest_batch.core.engine.frequency import AUTO
from backtest_batch.errors import DataError, DataNotFoundError

_INTERVALS = {
    AUTO: "1d",
    "1min": "1m",
    "2min": "2m",
    "5min": "5m",
    "15min": "15m",
    "30min": "30m",
    "1h": "1h",
    "90min": "90m",
    "1d": "1d",
    "5d": "5d",
    "1w": "1wk",
    "1mo": "1mo",
    "3mo": "3mo",
}
"""Yahoo's names for the lengths of bars that it has."""


@dataclass(frozen=True, kw_only=True)
class Yahoo(Source):
    """Prices that Yahoo Finance publishes, adjusted for splits and dividends; needs yfinance.

    ``symbols`` or ``symbols_file`` must be given. A download is kept for the day (UTC), because
    each dividend changes the adjusted prices of the past. Five-minute bars reach back 60 days.

    Parameters
    ----------
    start, end
        First day, and the day after the last; None downloads up to now.
    """

    start: str = "2000-01-01"
    end: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("freq", tuple(_INTERVALS))
        if self.symbols is None and self.symbols_file is None:
            raise ValueError("`symbols` or `symbols_file` must be given for data=yahoo.")
        start, end = _day("start", self.start), _day("end", self.end)
        if start is not None and end is not None and start >= end:
            raise ValueError(
                f"`start < end` must hold, but got start={self.start}, end={self.end}."
            )

    def identity(self) -> dict[str, Any]:
        """Return the options and the day of the download."""
        return {**self.parameters(), "downloaded": datetime.now(tz=UTC).date().isoformat()}

    @property
    def place(self) -> str:
        """Name of the source in messages."""
        return "Yahoo Finance"

    def whereabouts(self) -> dict[str, Any]:
        """Return the options."""
        return self.parameters()

    def read(self, wanted: Sequence[str] | None) -> Reading:
        """Download the bars of the wanted symbols."""
        try:
            import yfinance
        except ImportError as error:
            raise DataNotFoundError(
                "data=yahoo needs the package yfinance: "
                "`pip install 'backtest-batch[yahoo]'` installs it"
            ) from error
        excluded = frozenset(self.exclude or ())
        symbols = tuple(symbol for symbol in wanted or () if symbol not in excluded)
        # Its own cache of time zones would otherwise appear in the user's home.
        yfinance.set_tz_cache_location(str((own_cache_dir() or cache_dir()) / "yfinance"))
        try:
            table = yfinance.download(
                list(symbols),
                start=self.start,
                end=self.end,
                interval=_INTERVALS[self.freq],
                auto_adjust=True,
                group_by="column",
                progress=False,
                threads=False,
                multi_level_index=True,
            )
        except Exception as error:  # yfinance passes on the errors of several network libraries
            raise DataError(
                f"Yahoo Finance did not answer for {', '.join(symbols[:5])}: {error}"
            ) from error
        bars = yahoo_bars(table, symbols)
        return Reading(available=tuple(wanted or ()), bars=bars, in_order=True)


def yahoo_bars(table: pd.DataFrame | None, symbols: Sequence[str]) -> list[SymbolBars]:
    """Return the bars of a table as yfinance returns it: columns (field, symbol).

    Raises
    ------
    DataError
        When Yahoo had no price of a symbol; names them.
    """
    closes = table["Close"] if table is not None and "Close" in table else pd.DataFrame()
    absent = [name for name in symbols if name not in closes or closes[name].isna().all()]
    if table is None or absent:
        raise DataError(
            f"Yahoo Finance has no prices of {', '.join(absent[:5])} in this period "
            f"({len(absent):,} of {len(symbols):,} symbols; unknown to it, or no network)"
        )
    frames = {
        name: pd.DataFrame(table[name.capitalize()][list(symbols)])
        for name in FIELDS
        if name.capitalize() in table
    }
    return bars_of_frames(frames)


def _day(name: str, value: str | None) -> pd.Timestamp | None:
    if value is None:
        return None
    try:
        return pd.Timestamp(value)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a date such as 2005-01-31, but got {name}={value}."
        ) from error
