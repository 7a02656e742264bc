"""Compile everything before the first run, whose time and memory may be limited."""

import numpy as np
import pandas as pd

from backtest_batch.core import strategies
from backtest_batch.core.data.panel import Panel, panel_from_frames
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.metrics import result_metrics
from backtest_batch.core.engine.simulation import SimulationSettings, simulate_many
from backtest_batch.core.factors import collinear_factor

N_BARS = 300


def warm_up() -> None:
    """Run every kernel of the package once; takes seconds after an update, else almost no time."""
    panel = _panel()
    decisions = decision_bars(panel.index, "W")
    for name in strategies.__all__:
        if name != strategies.Strategy.__name__:
            getattr(strategies, name)().target_weights(panel, decisions)
    weights = np.full((len(decisions), panel.n_assets), 1.0 / panel.n_assets)
    settings = [SimulationSettings(), SimulationSettings(cash_rate=0.01, max_weight=0.4)]
    simulations = simulate_many(panel, decisions, weights, settings)
    for simulation in simulations:
        result_metrics(
            simulation,
            periods_per_year=252.0,
            risk_free_rate=0.0,
            benchmark_returns=simulations[0].net_return,
        )
        simulation.trades()
    collinear_factor(weights)


def _panel() -> Panel:
    bars = np.arange(N_BARS)
    prices = {name: 100.0 + np.sin(bars / step) for name, step in (("A", 7.0), ("B", 11.0))}
    return panel_from_frames(
        pd.DataFrame(prices, index=pd.bdate_range("2000-01-03", periods=N_BARS))
    )
