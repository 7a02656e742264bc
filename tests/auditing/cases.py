"""Markets and cases for audits."""

import numpy as np
import pandas as pd

from backtest_batch.auditing.case import Case
from backtest_batch.core.conditions import Conditions
from backtest_batch.core.data.panel import Panel, new_panel
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.simulation import SimulationSettings
from backtest_batch.core.strategies.base import strategy_kind

N_BARS = 900


def market(n_bars: int = N_BARS, n_assets: int = 6, *, late: int = 300, seed: int = 5) -> Panel:
    """Return random walks with opens, volumes and a feature; the second asset begins late."""
    numbers = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(numbers.normal(0.0003, 0.015, (n_bars, n_assets)), axis=0))
    if n_assets > 2:
        close[:late, 1] = np.nan
        close[n_bars - 150 :, 2] = np.nan
    opened = close * np.exp(numbers.normal(0.0, 0.004, close.shape))
    fields = {
        "open": opened,
        "high": np.maximum(opened, close) * 1.01,
        "low": np.minimum(opened, close) * 0.99,
        "close": close,
        "volume": np.where(np.isnan(close), np.nan, numbers.uniform(1e5, 1e6, close.shape)),
    }
    return new_panel(
        pd.bdate_range("2015-01-01", periods=n_bars, unit="ns"),
        tuple("ABCDEFGHIJ"[:n_assets]),
        fields,
        features={"mood": numbers.normal(size=n_bars)},
    )


def case_of(make, panel: Panel | None = None, *, rebalance: str = "W-WED", first_bar=None, **more):
    """Return the case of a strategy on a market."""
    panel = market() if panel is None else panel
    strategy = make()
    warmup = getattr(strategy, "warmup_bars", 0)
    first = warmup if first_bar is None else first_bar
    bars = decision_bars(panel.index, rebalance, None)
    decisions = bars[bars >= first]
    own = strategy_kind(strategy) == "account"
    return Case(
        make_strategy=make,
        panel=panel,
        decisions=decisions,
        first_bar=first,
        warmup_bars=warmup,
        settings=SimulationSettings(),
        conditions=Conditions(first_bar=first, decisions=decisions) if own else None,
        **more,
    )
