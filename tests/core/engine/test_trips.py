"""Round trips, decisions that a cap scales, and cash that costs took."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from backtest_batch.core.engine.metrics import result_metrics
from backtest_batch.core.engine.simulation import Simulation, SimulationSettings, simulate
from tests.support.engine_markets import make_panel

NAN = np.nan
FREE = {"commission_bps": 0.0, "initial_capital": 1000.0, "execution_lag": 0}


def run(close: npt.ArrayLike, weights: npt.ArrayLike, **keys: Any) -> Simulation:
    """Decide on every bar from the first one on, at its own close."""
    panel = make_panel(close)
    rows = np.asarray(weights, dtype=float).reshape(-1, panel.n_assets)
    settings = SimulationSettings(**{**FREE, **keys})
    return simulate(panel, np.arange(len(rows)), rows, settings)


def metrics(simulation: Simulation) -> dict[str, float]:
    return result_metrics(simulation, periods_per_year=252)[0]


# Round trips


def test_a_round_trip_runs_from_0_to_0() -> None:
    result = run([10, 11, 12, 12, 9, 9], [1, 1, 0, 1, 0, 0], execution_lag=0)
    # 1,000 become 1,200 in two bars, and 1,200 become 900 in one.
    assert result.trips == (2, 1, 3, pytest.approx(200), pytest.approx(300))
    found = metrics(result)
    assert found["round_trips"] == 2
    assert found["win_rate"] == 0.5
    assert found["profit_factor"] == pytest.approx(200 / 300)
    assert found["avg_holding_bars"] == 1.5


def test_the_costs_of_its_own_trades_are_a_part_of_it() -> None:
    result = run([10, 11, 11], [1, 0, 0], commission_bps=100)
    # Bought for 1,000 at a cost of 10, sold for 1,100 at a cost of 11.
    assert result.trips.gained == pytest.approx(100 - 10 - 11)
    lost = run([10, 10.1, 10.1], [1, 0, 0], commission_bps=100)
    assert (lost.trips.n_wins, lost.trips.lost) == (0, pytest.approx(10 + 10.1 - 10))


def test_what_is_resized_stays_one_round_trip() -> None:
    result = run([10, 20, 10, 10], [1, 0.5, 0, 0], commission_bps=100)
    # Buys 100; E = 1,990, sells 100 - 49.75 = 50.25 at 20; the rest at 10.
    bought, sold, rest = 1000, 50.25 * 20, 49.75 * 10
    gain = sold + rest - bought - 0.01 * (bought + sold + rest)
    assert result.trips == (1, 1, 2, pytest.approx(gain), 0.0)


def test_a_change_of_sign_ends_one_and_begins_another() -> None:
    result = run([10, 12, 9, 9], [1, -1, 0, 0], commission_bps=100)
    # 100 shares bought at 10 and sold at 12. Then E = 1,190 are sold short: 99.1667 shares.
    first = 200 - 10 - 12
    shares = 1190 / 12
    second = shares * 3 - 0.01 * shares * (12 + 9)
    assert result.trips == (2, 2, 2, pytest.approx(first + second), 0.0)
    assert metrics(result)["win_rate"] == 1
    assert "profit_factor" not in metrics(result)  # nothing was lost


def test_what_is_open_at_the_end_is_no_round_trip() -> None:
    result = run([10, 11, 12], [1, 1, 1])
    assert result.trips == (0, 0, 0, 0.0, 0.0)
    found, undefined = result_metrics(result, periods_per_year=252)
    assert found["round_trips"] == 0
    assert {"win_rate", "profit_factor", "avg_holding_bars"} <= set(undefined)


def test_what_neither_gains_nor_loses_is_neither() -> None:
    result = run([10, 10, 10], [1, 0, 0])
    assert result.trips == (1, 0, 1, 0.0, 0.0)


def test_a_series_that_ends_ends_its_round_trip() -> None:
    close = [[10, 10], [12, 10], [NAN, 10], [NAN, 12], [NAN, 12]]
    result = run(close, [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0, 0]], execution_lag=0)
    # On bar 1 GONE is not bought again, and not kept: its weight counts as 0.
    assert result.trips.n_trips == 2
    held = run(close, [[0.5, 0.5]], commission_bps=100)
    assert held.trips == (1, 1, 1, pytest.approx(100 - 5 - 6), 0.0)


def test_short_fees_and_ruin_are_no_part_of_round_trips() -> None:
    ruined = run([10, 30, 30], [-1, 0, 0])
    assert ruined.ruined_bar == 1
    assert ruined.trips.n_trips == 0
    fee = run([10, 9, 9], [-1, 0, 0], short_fee_rate=0.5)
    assert fee.trips.gained == pytest.approx(100)


# Decisions that a cap makes smaller


def test_decisions_that_a_cap_makes_smaller_are_counted() -> None:
    weights = [[0.5, 0.5], [1.0, 1.0], [1.0, -0.5], [0.2, 0.0]]
    flat = np.full((5, 2), 10.0)
    assert run(flat, weights).scaled_decisions == 2
    assert run(flat, weights, max_gross_exposure=3).scaled_decisions == 0
    assert run(flat, weights, max_gross_exposure=3, max_weight=0.5).scaled_decisions == 2
    assert run(flat, weights, max_weight=0.3).scaled_decisions == 3
    assert metrics(run(flat, weights))["scaled_decisions"] == 2


def test_rounding_is_no_excess() -> None:
    sevenths = np.full((3, 7), 1 / 7) * (1 + 1e-15)
    assert sevenths.sum(axis=1).max() > 1
    result = run(np.full((4, 7), 10.0), sevenths, max_weight=1 / 7)
    assert result.scaled_decisions == 0


# Cash that costs took


def test_cash_that_costs_took_is_not_fetched_back_where_it_is_dust() -> None:
    close = [10, 10, 10, 10, 10]
    small = run(close, [1, 1, 1, 1], commission_bps=0.5)
    # 0.05 of 1,000: cash stays below zero by it.
    assert small.n_trades == 1
    assert small.trades().value.tolist() == [1000]
    assert small.equity[1:].tolist() == pytest.approx([999.95] * 4)
    assert small.net_exposure[1:].tolist() == pytest.approx([1000 / 999.95] * 4)
    large = run(close, [1, 1, 1, 1], commission_bps=20)
    # 2 of 1,000 is no dust and is fetched back once; what that costs, 0.004, is.
    assert large.trades().value.tolist() == pytest.approx([1000, -2])


def test_any_other_adjustment_is_made_however_small() -> None:
    flat = np.full((4, 2), 10.0)
    # Half a basis point of another symbol.
    wish = run(flat, [[0.5, 0.5], [0.50005, 0.49995]], commission_bps=0.5)
    assert wish.trades().value.tolist() == pytest.approx([500, 500, 0.0249975, -0.0749975])
    # A tenth is meant to be in cash: costs made it smaller, and it is what was asked for.
    cash = run(flat[:, :1], [0.9, 0.9], commission_bps=1)
    assert cash.trades().value.tolist() == pytest.approx([900, -0.081])
    # An exit is an exit.
    assert run(flat[:, :1], [1, 1, 0], commission_bps=0.5).n_trades == 2


def test_symbols_that_moved_together_are_kept_too() -> None:
    close = np.array([[10, 20], [10, 20], [11, 22], [12, 24.0]])
    assert run(close, [[0.5, 0.5]] * 3, commission_bps=0.5).n_trades == 2
    close[2, 1] = 22.001
    assert run(close, [[0.5, 0.5]] * 3, commission_bps=0.5).n_trades == 4


def test_a_debt_that_grows_is_paid_back_when_it_is_no_dust_any_more() -> None:
    keys = {"commission_bps": 1.0, "borrow_rate": 5.0}
    result = run(np.full(200, 10.0), np.ones(199), **keys)
    trades = result.trades()
    assert trades.value[0] == 1000
    # Each payback is just above 1e-4 of the position.
    assert 1 < len(trades.value) < 10
    assert np.all((-trades.value[1:] > 0.0999) & (-trades.value[1:] < 0.11))


def test_no_series_of_shrinking_sales_follows_an_entry() -> None:
    steps = np.random.default_rng(6).normal(0.0005, 0.01, 500)
    up = (np.sin(np.arange(499) / 10) > 0).astype(float)
    result = run(100 * np.exp(steps.cumsum()), up, commission_bps=20, initial_capital=1e6)
    values = np.abs(result.trades().value)
    assert values.min() > 1
    # Entry, the costs of the entry, exit.
    assert result.n_trades <= 3 * (result.trips.n_trips + 1)
