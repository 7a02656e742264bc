"""The market data that one run sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FIELDS = ("open", "high", "low", "close", "volume")
"""Fields a panel may hold, in the order in which they are stored; ``close`` is always there."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Prices of several symbols on one index of bars.

    Attributes
    ----------
    index
        Timestamps of the bars, strictly increasing, shape (n_bars,).
    symbols
        Names of the assets, shape (n_assets,).
    fields
        Arrays of float64 of shape (n_bars, n_assets), C-contiguous and read-only, by field name.
        ``close`` is always there. NaN stands only before an asset's first and after its last bar.
    fingerprint
        sha256 over index, symbols and fields: equal content, equal fingerprint.
    """

    index: pd.DatetimeIndex
    symbols: tuple[str, ...]
    fields: Mapping[str, FloatArray]
    fingerprint: str
    _frames: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    @property
    def n_bars(self) -> int:
        """Number of bars."""
        return len(self.index)

    @property
    def n_assets(self) -> int:
        """Number of assets."""
        return len(self.symbols)

    def frame(self, name: str) -> pd.DataFrame:
        """Return one field as a DataFrame of shape (n_bars, n_assets), without copying it.

        Raises
        ------
        AttributeError
            When the data has no such field.
        """
        if name not in self.fields:
            held = ", ".join(self.fields)
            raise AttributeError(f"the data has no field '{name}' (it has: {held})")
        if name not in self._frames:
            self._frames[name] = pd.DataFrame(
                self.fields[name], index=self.index, columns=pd.Index(self.symbols), copy=False
            )
        return self._frames[name]

    @property
    def close(self) -> pd.DataFrame:
        """Closing prices, shape (n_bars, n_assets)."""
        return self.frame("close")

    @property
    def open(self) -> pd.DataFrame:
        """Opening prices, shape (n_bars, n_assets)."""
        return self.frame("open")

    @property
    def high(self) -> pd.DataFrame:
        """Highest prices, shape (n_bars, n_assets)."""
        return self.frame("high")

    @property
    def low(self) -> pd.DataFrame:
        """Lowest prices, shape (n_bars, n_assets)."""
        return self.frame("low")

    @property
    def volume(self) -> pd.DataFrame:
        """Traded volume, shape (n_bars, n_assets)."""
        return self.frame("volume")
