from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.panel import Panel, new_panel


def _panel(closes: Mapping[str, Sequence[float]]) -> Panel:
    close = np.ascontiguousarray(np.column_stack([*closes.values()]), dtype=np.float64)
    index = pd.date_range("2020-01-01", periods=len(close), freq="D", unit="ns")
    return new_panel(index, tuple(closes), {"close": close})


@pytest.fixture
def panel() -> Callable[[Mapping[str, Sequence[float]]], Panel]:
    """A panel from closes by symbol."""
    return _panel


@pytest.fixture
def market() -> Panel:
    """Six random walks over 400 bars; the fifth starts late, the sixth ends early."""
    steps = np.random.default_rng(3).normal(0.0003, 0.02, (400, 6))
    close = 20.0 * np.exp(np.cumsum(steps, axis=0))
    close[:90, 4] = np.nan
    close[310:, 5] = np.nan
    return _panel(dict(zip("ABCDEF", close.T, strict=True)))
