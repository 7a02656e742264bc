from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose

from backtest_batch.core.engine import account_kernels, kernels, metric_kernels
from backtest_batch.core.engine.metrics import equity_metrics, result_metrics
from backtest_batch.core.engine.simulation import (
    Simulation,
    SimulationSettings,
    simulate,
    simulate_many,
)
from tests.support.engine_markets import Case, cases, make_panel
from tests.support.reference_engine import ReferencePath, simulate_reference

ARRAYS = ("equity", "net_return", "gross_exposure", "net_exposure", "turnover", "cost")


def assert_equal_to_reference(simulation: Simulation, expected: ReferencePath) -> None:
    capital = simulation.settings.initial_capital
    assert simulation.ruined_bar == expected.ruined_bar
    assert simulation.n_measured == len(expected.equity)
    assert_allclose(simulation.equity, expected.equity, rtol=1e-10, atol=1e-10 * capital)
    for name in ("gross_exposure", "net_exposure", "turnover", "net_return"):
        assert_allclose(getattr(simulation, name), getattr(expected, name), rtol=1e-8, atol=1e-8)
    assert_allclose(simulation.cost, expected.cost, rtol=1e-8, atol=1e-8 * capital)
    assert simulation.decision_bars.tolist() == expected.decision_bars
    n_assets = simulation.target_weights.shape[1]
    rows = np.reshape(expected.target_weights, (-1, n_assets))
    assert_allclose(simulation.target_weights, rows, rtol=1e-12)
    assert simulation.untradable_weights == expected.untradable_weights
    assert simulation.scaled_decisions == expected.scaled_decisions
    trips = simulation.trips
    assert trips.n_trips == len(expected.trips)
    assert trips.held_bars == sum(trip.held_bars for trip in expected.trips)
    gains = np.array([trip.gain for trip in expected.trips])
    for found, sign in ((trips.gained, 1.0), (trips.lost, -1.0)):
        assert found == pytest.approx(np.maximum(sign * gains, 0.0).sum(), rel=1e-7, abs=1e-8)
    assert abs(trips.n_wins - np.sum(gains > 0)) <= np.sum(np.abs(gains) < 1e-10 * capital)
    trades = simulation.trades()
    assert simulation.n_trades == len(trades.bar) == len(expected.trades)
    assert trades.bar.tolist() == [trade.bar for trade in expected.trades]
    assert trades.asset.tolist() == [trade.asset for trade in expected.trades]
    for name in ("shares", "price", "value", "cost"):
        values = [getattr(trade, name) for trade in expected.trades]
        assert_allclose(getattr(trades, name), values, rtol=1e-7, atol=1e-10 * capital)


@settings(deadline=None, max_examples=200)
@given(cases())
def test_kernels_equal_the_reference(case: Case) -> None:
    for item in case.settings:
        arguments = (case.panel, case.decisions, case.weights, item, case.first_bar)
        assert_equal_to_reference(simulate(*arguments), simulate_reference(*arguments))


@settings(deadline=None, max_examples=100)
@given(cases())
def test_a_run_has_the_same_bits_alone_and_in_a_group(case: Case) -> None:
    group = simulate_many(
        case.panel, case.decisions, case.weights, case.settings * 3, case.first_bar
    )
    for item, together in zip(case.settings * 3, group, strict=True):
        alone = simulate(case.panel, case.decisions, case.weights, item, case.first_bar)
        assert together.settings is item
        for name in ARRAYS:
            assert getattr(alone, name).tobytes() == getattr(together, name).tobytes()
        for name in ("bar", "asset", "shares", "price", "value", "cost"):
            first, second = getattr(alone.trades(), name), getattr(together.trades(), name)
            assert first.tobytes() == second.tobytes()
        assert alone.n_trades == together.n_trades
        assert vars(alone.totals) == vars(together.totals)


@settings(deadline=None, max_examples=100)
@given(cases())
def test_totals_are_the_sums_of_the_arrays(case: Case) -> None:
    for item in simulate_many(
        case.panel, case.decisions, case.weights, case.settings, case.first_bar
    ):
        totals = item.totals
        alive = slice(None) if item.ruined_bar is None else slice(None, -1)
        gross = item.gross_exposure[alive]
        assert totals.n_exposure_bars == len(gross)
        assert_allclose(totals.gross_exposure, gross.sum(), rtol=1e-12)
        assert_allclose(totals.net_exposure, item.net_exposure[alive].sum(), rtol=1e-9, atol=1e-9)
        assert totals.max_gross_exposure == gross.max(initial=0.0)
        assert_allclose(totals.turnover, item.turnover.sum(), rtol=1e-12)
        assert_allclose(totals.cost, item.cost.sum(), rtol=1e-12)
        before = np.concatenate((item.equity[:1], item.equity[:-1]))
        assert_allclose(totals.cost_ratio, np.sum(item.cost / before), rtol=1e-12)
        assert_allclose(item.trades().cost.sum(), item.cost.sum(), rtol=1e-10)


def test_each_kernel_is_compiled_once_whatever_it_is_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    prices = np.exp(np.cumsum(rng.normal(0, 0.02, (50, 4)), axis=0))
    np.save(tmp_path / "close.npy", prices)
    frozen = prices.copy()
    frozen.flags.writeable = False
    forms = (
        prices,
        frozen,
        np.asfortranarray(prices),
        np.load(tmp_path / "close.npy", mmap_mode="r"),
    )
    decisions = np.arange(0, 49, 7)
    weights = rng.normal(0, 1, (7, 4))
    conditions = [
        SimulationSettings(),
        SimulationSettings(max_weight=1, cash_rate=0.01),
        SimulationSettings(initial_capital=5, max_gross_exposure=2, execution_lag=0),
    ]
    equities = set()
    for form in forms:
        panel = make_panel(prices)
        panel = type(panel)(
            index=panel.index, symbols=panel.symbols, fields={"close": form}, fingerprint="form"
        )
        for rows in (weights, np.asfortranarray(weights), weights.tolist()):
            for first_bar in (0, np.int32(0)):
                runs = simulate_many(panel, decisions.astype(np.int32), rows, conditions, first_bar)
                equities.add(b"".join(run.equity.tobytes() for run in runs))
                for run in runs:
                    result_metrics(run, periods_per_year=252, benchmark_returns=run.net_return)
                    equity_metrics(run.equity.tolist(), periods_per_year=252.0, risk_free_rate=0)
    assert len(equities) == 1
    compiled = [
        value
        for module in (kernels, account_kernels, metric_kernels)
        for value in vars(module).values()
        if hasattr(value, "signatures")
    ]
    assert len(compiled) > 10
    assert [value for value in compiled if len(value.signatures) > 1] == []
