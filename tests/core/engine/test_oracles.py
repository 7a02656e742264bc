"""The engine against other people's: vectorbt, bt and empyrical, on the demo's prices."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.metrics import equity_metrics
from backtest_batch.core.engine.simulation import SimulationSettings, simulate
from tests.support.engine_markets import make_panel

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def sp500() -> pd.DataFrame:
    # Read without importing skfolio, which takes seconds.
    spec = importlib.util.find_spec("skfolio")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "sp500_dataset.csv.gz")
    return pd.read_csv(path, index_col=0, parse_dates=True)


@pytest.fixture(scope="module")
def panel(sp500: pd.DataFrame) -> Panel:
    return make_panel(
        sp500.to_numpy(), index=pd.DatetimeIndex(sp500.index), symbols=tuple(sp500.columns)
    )


def long_only(panel: Panel, decisions: IntArray) -> FloatArray:
    """Keep a tenth in cash, so that costs never meet an empty purse."""
    rng = np.random.default_rng(7)
    weights = rng.dirichlet(np.ones(panel.n_assets), len(decisions))
    weights[:, rng.integers(0, panel.n_assets, 3)] = 0.0
    weights[rng.random(weights.shape) < 0.2] = 0.0
    return 0.9 * weights


def long_short(panel: Panel, decisions: IntArray) -> FloatArray:
    """Half long, 0.4 short: the proceeds leave cash in plenty."""
    rng = np.random.default_rng(8)
    signs = rng.permuted(np.tile([1.0, -1.0], (len(decisions), panel.n_assets // 2)), axis=1)
    return signs * np.where(signs > 0, 0.5, 0.4) / (panel.n_assets / 2)


@pytest.mark.parametrize("rebalance", ["M", "D"])
@pytest.mark.parametrize("weights_of", [long_only, long_short])
@pytest.mark.parametrize("commission_bps", [0.0, 5.0])
def test_equity_equals_vectorbt(
    oracle: Any,
    sp500: pd.DataFrame,
    panel: Panel,
    rebalance: str,
    weights_of: Any,
    commission_bps: float,
) -> None:
    vbt = oracle("vectorbt")

    decisions = decision_bars(panel.index, rebalance)
    decisions = decisions[decisions + 1 < panel.n_bars]
    weights = weights_of(panel, decisions)
    settings = SimulationSettings(commission_bps=commission_bps)
    ours = simulate(panel, decisions, weights, settings)
    assert ours.target_weights == pytest.approx(weights, rel=1e-15)

    size = np.full(sp500.shape, np.nan)
    size[decisions + 1] = weights
    theirs = vbt.Portfolio.from_orders(
        sp500,
        size=size,
        size_type="targetpercent",
        group_by=True,
        cash_sharing=True,
        call_seq="auto",
        fees=commission_bps * 1e-4,
        init_cash=settings.initial_capital,
        freq="1D",
    )
    assert float(theirs.cash().min()) > 0
    assert_allclose(ours.equity, theirs.value().to_numpy(), rtol=1e-10)
    fees = theirs.orders.records["fees"]
    assert ours.cost.sum() == pytest.approx(fees.sum(), rel=1e-9)
    assert ours.n_trades == pytest.approx(len(fees), abs=2)
    # Their positions are round trips: a change of sign ends one, fees are a part of it.
    positions = theirs.positions.records
    closed = positions[positions["status"] == 1]
    assert len(closed) > 100
    trips, pnl = ours.trips, closed["pnl"]
    assert trips.n_trips == len(closed)
    assert trips.held_bars == (closed["exit_idx"] - closed["entry_idx"]).sum()
    assert trips.n_wins == (pnl > 0).sum()
    assert trips.gained == pytest.approx(pnl[pnl > 0].sum(), rel=1e-9)
    assert trips.lost == pytest.approx(-pnl[pnl < 0].sum(), rel=1e-9)


@pytest.mark.parametrize("rebalance", ["M", "W"])
@pytest.mark.parametrize("weights_of", [long_only, long_short])
def test_equity_equals_bt_without_costs(
    oracle: Any, sp500: pd.DataFrame, rebalance: str, weights_of: Any
) -> None:
    bt = oracle("bt")

    prices = sp500.iloc[:750]
    panel = make_panel(prices.to_numpy(), index=pd.DatetimeIndex(prices.index))
    decisions = decision_bars(panel.index, rebalance)
    decisions = decisions[decisions + 1 < panel.n_bars]
    weights = weights_of(panel, decisions)
    ours = simulate(panel, decisions, weights, SimulationSettings(commission_bps=0.0))

    targets = pd.DataFrame(weights, index=prices.index[decisions + 1], columns=prices.columns)
    strategy = bt.Strategy("targets", [bt.algos.WeighTarget(targets), bt.algos.Rebalance()])
    backtest = bt.Backtest(strategy, prices, integer_positions=False, progress_bar=False)
    backtest.run()
    # bt starts a day earlier, at 100.
    theirs = backtest.strategy.prices.iloc[1:].to_numpy() * 10_000
    assert_allclose(ours.equity, theirs, rtol=1e-10)


@pytest.mark.parametrize("risk_free_rate", [0.0, 0.02])
@pytest.mark.parametrize("start", [0, 4000, 8000])
def test_metrics_equal_empyrical(
    oracle: Any, sp500: pd.DataFrame, risk_free_rate: float, start: int
) -> None:
    empyrical = oracle("empyrical")

    for symbol in sp500.columns[:5]:
        equity = sp500[symbol].iloc[start:]
        returns = equity.pct_change().iloc[1:]
        ours, undefined = equity_metrics(
            equity, periods_per_year=252, risk_free_rate=risk_free_rate
        )
        assert undefined == ("beta", "alpha", "information_ratio")
        risk_free = risk_free_rate / 252
        theirs = {
            "sharpe": empyrical.sharpe_ratio(returns, risk_free=risk_free),
            "sortino": empyrical.sortino_ratio(returns, required_return=risk_free),
            "cagr": empyrical.cagr(returns),
            "volatility": empyrical.annual_volatility(returns),
            "max_drawdown": empyrical.max_drawdown(returns),
            "calmar": empyrical.calmar_ratio(returns),
            "total_return": empyrical.cum_returns_final(returns),
            "var_95": empyrical.value_at_risk(returns, 0.05),
        }
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-10)


def test_beta_equals_empyrical(oracle: Any, sp500: pd.DataFrame) -> None:
    empyrical = oracle("empyrical")

    returns = sp500.pct_change().fillna(0.0)
    ours, _ = equity_metrics(sp500["XOM"], periods_per_year=252, benchmark_returns=returns["WMT"])
    theirs = empyrical.beta(returns["XOM"].iloc[1:], returns["WMT"].iloc[1:])
    assert ours["beta"] == pytest.approx(theirs, rel=1e-10)
