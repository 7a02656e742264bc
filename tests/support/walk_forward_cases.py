"""Small markets and runs that the tests of the walk-forward share."""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from backtest_batch.analysis.walk_forward import ScenarioRuns, per_bar_arrays
from backtest_batch.arrays import FloatArray
from backtest_batch.core.data.panel import Panel, panel_from_frames
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.simulation import Simulation, SimulationSettings, simulate
from backtest_batch.core.strategies import EqualWeight, Strategy, TrendBaseline

GRID = ((5, 20), (5, 40), (10, 20), (10, 40))


def business_days(n_bars: int, start: str = "2001-01-02") -> pd.DatetimeIndex:
    return pd.bdate_range(start, periods=n_bars)


def daily(n_bars: int, start: str = "2001-01-02") -> tuple[pd.DatetimeIndex, float, int]:
    """Return an index of return bars: settings are read for daily data with execution_lag 1."""
    return business_days(n_bars, start), 252.0, 1


def random_returns(n_bars: int, n_runs: int, seed: int = 0, scale: float = 0.01) -> FloatArray:
    returns = np.random.default_rng(seed).normal(0.0003, scale, (n_bars, n_runs))
    returns[0] = np.nan
    return returns


def runs_of(returns: FloatArray, **given: Any) -> ScenarioRuns:
    """Return runs ``run_0``, ``run_1``, ... that differ in the parameter ``x``."""
    n_bars, n_runs = returns.shape
    values: dict[str, Any] = {
        "scenario": "base",
        "run_ids": tuple(f"run_{number}" for number in range(n_runs)),
        "index": business_days(n_bars),
        "parameters": pd.DataFrame({"x": range(n_runs)}),
        "periods_per_year": 252.0,
    }
    return ScenarioRuns(returns=returns, **(values | given))


def no_weights(run: int, bar: int) -> NoReturn:
    raise AssertionError(f"run {run} was asked for its weights on bar {bar}, but nothing switched")


def market(n_bars: int = 420, n_assets: int = 4, seed: int = 3) -> Panel:
    """Return a panel of random walks with drifting trends."""
    generator = np.random.default_rng(seed)
    trend = np.repeat(generator.normal(0, 0.002, (n_bars // 30 + 1, n_assets)), 30, axis=0)
    moves = generator.normal(0, 0.01, (n_bars, n_assets)) + trend[:n_bars]
    frame = pd.DataFrame(
        100 * np.exp(moves.cumsum(axis=0)),
        index=business_days(n_bars),
        columns=[f"S{number}" for number in range(n_assets)],
    )
    return panel_from_frames(frame)


def trend_simulations(
    panel: Panel, settings: SimulationSettings | None = None, rebalance: str = "W"
) -> list[Simulation]:
    """Return simulations of moving-average pairs, and of the benchmark, from bar 40 on."""
    settings = settings or SimulationSettings(commission_bps=5.0)
    bars = decision_bars(panel.index, rebalance)
    decisions = bars[bars >= 40]
    strategies: list[Strategy] = [TrendBaseline(fast=fast, slow=slow) for fast, slow in GRID]
    return [
        simulate(panel, decisions, strategy.target_weights(panel, decisions), settings, 40)
        for strategy in [*strategies, EqualWeight()]
    ]


def trend_runs(panel: Panel, simulations: Sequence[Simulation]) -> ScenarioRuns:
    """Return the runs of :func:`trend_simulations`."""
    settings = simulations[0].settings
    arrays: dict[str, Any] = per_bar_arrays(simulations[:-1], panel.n_bars)
    benchmark = per_bar_arrays(simulations[-1:], panel.n_bars)["returns"][:, 0]
    return ScenarioRuns(
        scenario="base",
        run_ids=tuple(f"run_{fast}_{slow}" for fast, slow in GRID),
        index=panel.index,
        parameters=pd.DataFrame(GRID, columns=["strategy.fast", "strategy.slow"]),
        periods_per_year=252.0,
        cost_rate=settings.cost_rate,
        initial_capital=settings.initial_capital,
        benchmark=benchmark,
        **arrays,
    )
