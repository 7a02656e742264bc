from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.metrics import result_metrics
from backtest_batch.core.engine.simulation import (
    Simulation,
    SimulationSettings,
    simulate,
    simulate_many,
)
from backtest_batch.errors import DataError, StrategyError
from tests.support.engine_markets import make_panel

NAN = np.nan
FREE = {"commission_bps": 0.0, "initial_capital": 1000.0}


def run(
    close: npt.ArrayLike,
    decisions: list[int],
    weights: npt.ArrayLike,
    *,
    first_bar: int = 0,
    open: npt.ArrayLike | None = None,  # noqa: A002 - the name of the field
    index: pd.DatetimeIndex | None = None,
    **keys: Any,
) -> Simulation:
    fields = {} if open is None else {"open": open}
    panel = make_panel(close, index=index, **fields)
    rows = np.asarray(weights, dtype=float).reshape(len(decisions), panel.n_assets)
    settings = SimulationSettings(**{**FREE, **keys})
    return simulate(panel, np.array(decisions, dtype=np.int64), rows, settings, first_bar)


def test_the_worked_example_of_the_documentation() -> None:
    index = pd.DatetimeIndex(["2024-01-05", "2024-01-08", "2024-01-12", "2024-01-15", "2024-01-16"])
    panel = make_panel(
        [[100, 50], [100, 50], [120, 50], [120, 50], [126, 48]], index=index, symbols=("A", "B")
    )
    decisions = decision_bars(index, "W")
    assert decisions.tolist() == [0, 2]
    settings = SimulationSettings(initial_capital=1000.0, commission_bps=10.0)
    result = simulate(panel, decisions, np.array([[0.5, 0.5], [1.0, -0.6]]), settings)
    assert_allclose(result.equity, [1000, 999, 1099, 1098.001, 1148.82975], rtol=1e-14)
    assert_allclose(result.cost, [0, 1, 0, 0.999, 0], rtol=1e-13)
    assert_allclose(result.turnover, [0, 1, 0, 999 / 1099, 0], rtol=1e-13)
    assert_allclose(result.target_weights, [[0.5, 0.5], [0.625, -0.375]])
    assert result.decision_bars.tolist() == [0, 2]
    assert_allclose(
        result.gross_exposure,
        [0, 1000 / 999, 1100 / 1099, 1099 / 1098.001, 1116.85875 / 1148.82975],
        rtol=1e-13,
    )
    assert_allclose(
        result.net_exposure,
        [0, 1000 / 999, 1100 / 1099, 274.75 / 1098.001, 325.57875 / 1148.82975],
        rtol=1e-13,
    )
    trades = result.trades()
    assert trades.bar.tolist() == [1, 1, 3, 3]
    assert trades.asset.tolist() == [0, 1, 0, 1]
    assert_allclose(trades.value, [500, 500, 86.875, -912.125], rtol=1e-12)
    assert_allclose(trades.shares, [5, 10, 86.875 / 120, -912.125 / 50], rtol=1e-12)
    assert_allclose(trades.price, [100, 50, 120, 50])
    assert_allclose(trades.cost, [0.5, 0.5, 0.086875, 0.912125], rtol=1e-12)
    assert result.n_trades == 4
    assert result.ruined_bar is None
    assert result.untradable_weights == 0


@hypothesis_settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.01, 1000), min_size=2, max_size=30))
def test_free_buy_and_hold_equals_the_ratio_of_prices(prices: list[float]) -> None:
    result = run(prices, [0], [[1.0]], execution_lag=0)
    assert_allclose(result.equity, 1000 * np.array(prices) / prices[0], rtol=1e-12)
    assert result.n_trades == 1


def test_the_first_measured_bar_has_the_initial_capital_and_no_return() -> None:
    result = run([10, 11, 12], [0], [[1.0]], first_bar=1)
    assert result.equity.tolist() == [1000, 1000]
    assert np.isnan(result.net_return[0])
    assert result.net_return[1] == 0.0
    assert result.first_bar == 1


def test_decisions_before_the_first_measured_bar_are_not_traded() -> None:
    prices = [10.0, 10.0, 20.0, 40.0, 80.0]
    # Bar 1 decides before bar 2, though it would be executed on it.
    assert run(prices, [0, 1], [[1.0], [1.0]], first_bar=2).n_trades == 0
    result = run(prices, [0, 1, 2], [[1.0], [1.0], [1.0]], first_bar=2)
    assert result.decision_bars.tolist() == [2]
    assert result.equity.tolist() == [1000, 1000, 2000]


def test_a_trade_on_the_first_measured_bar_shows_in_the_return_of_the_second() -> None:
    result = run([10, 10, 20], [1], [[1.0]], first_bar=1, execution_lag=0, commission_bps=100)
    assert result.equity.tolist() == [1000, 1990]
    assert result.cost.tolist() == [10, 0]
    assert result.turnover.tolist() == [1, 0]
    assert result.gross_exposure[0] == 1.0
    assert result.net_return[1] == pytest.approx(0.99)


def test_an_execution_beyond_the_last_bar_never_happens() -> None:
    result = run([10, 20, 30, 40], [0, 2], [[1.0], [0.0]], execution_lag=2)
    assert result.decision_bars.tolist() == [0]
    assert result.equity.tolist() == [1000, 1000, 1000, pytest.approx(4000 / 3)]
    assert run([10, 20], [0], [[1.0]], execution_lag=50).equity.tolist() == [1000, 1000]


def test_orders_wait_in_line_when_the_lag_exceeds_the_gap_between_decisions() -> None:
    prices = [1.0, 1.0, 1.0, 2.0, 4.0, 8.0]
    weights = [[1.0], [0.0], [1.0], [0.0], [1.0]]
    result = run(prices, [0, 1, 2, 3, 4], weights, execution_lag=2)
    assert result.trades().bar.tolist() == [2, 3, 4, 5]
    assert result.equity.tolist() == [1000, 1000, 1000, 2000, 2000, 4000]


def test_no_decisions_leave_the_capital() -> None:
    result = run([[10, 10], [20, 5]], [], [])
    assert result.equity.tolist() == [1000, 1000]
    assert result.gross_exposure.tolist() == [0, 0]
    assert result.target_weights.shape == (0, 2)
    assert result.n_trades == 0
    assert len(result.trades().bar) == 0


def test_one_bar() -> None:
    result = run([10], [0], [[1.0]], execution_lag=0)
    assert result.equity.tolist() == [1000]
    assert result.n_measured == 1


def test_weights_of_zero_trade_nothing() -> None:
    result = run([10, 20, 5], [0, 1], [[0.0], [0.0]])
    assert result.equity.tolist() == [1000, 1000, 1000]
    assert result.n_trades == 0
    assert result.decision_bars.tolist() == [0, 1]


def test_each_weight_is_clipped_before_the_row_is_scaled() -> None:
    result = run(np.ones((3, 3)), [0], [[0.9, -0.9, 0.1]], max_weight=0.5, max_gross_exposure=0.55)
    assert_allclose(result.target_weights, [[0.25, -0.25, 0.05]])
    assert result.gross_exposure[1] == pytest.approx(0.55)


def test_the_cap_never_scales_up() -> None:
    assert run(np.ones(3), [0], [[0.2]], max_gross_exposure=1.0).target_weights.tolist() == [[0.2]]


def test_the_cap_binds_at_rebalances_only() -> None:
    result = run([[1, 1], [1, 1], [3, 1], [3, 1]], [0], [[0.5, -0.5]])
    assert_allclose(result.gross_exposure, [0, 1, 1, 1])
    assert result.net_exposure.tolist() == [0, 0, 0.5, 0.5]
    drifted = run([[1, 1], [1, 1], [0.5, 1]], [0], [[0.5, -0.5]])
    assert drifted.gross_exposure[2] == pytest.approx(0.75 / 0.75)
    squeezed = run([[1, 1], [1, 1], [1, 2]], [0], [[0.5, -0.5]])
    assert squeezed.gross_exposure[2] == pytest.approx(1.5 / 0.5)


def test_costs_never_resize_a_trade() -> None:
    result = run([10, 10, 10], [0], [[1.0]], commission_bps=100)
    assert result.trades().shares.tolist() == [100]
    assert result.equity.tolist() == [1000, 990, 990]
    assert result.gross_exposure[1] == pytest.approx(1000 / 990)


def test_an_unchanged_position_is_no_trade() -> None:
    rng = np.random.default_rng(3)
    prices = np.exp(np.cumsum(rng.normal(0, 0.02, 200)))
    decisions = list(range(199))
    result = run(prices, decisions, np.ones((199, 1)))
    assert result.n_trades == 1
    assert result.turnover.sum() == 1.0


def test_capital_is_scale_only() -> None:
    rng = np.random.default_rng(1)
    panel = make_panel(np.exp(np.cumsum(rng.normal(0, 0.05, (60, 3)), axis=0)))
    decisions = np.arange(0, 59, 5)
    weights = rng.normal(0, 1, (12, 3))
    large, small = simulate_many(
        panel,
        decisions,
        weights,
        [SimulationSettings(initial_capital=capital, impact_bps=20) for capital in (2.0**20, 1.0)],
    )
    assert large.equity.tolist() == (small.equity * 2**20).tolist()


def test_execution_at_the_open() -> None:
    result = run([10, 12, 12], [0], [[1.0]], open=[10, 8, 12], execution_price="open")
    assert result.trades().price.tolist() == [8]
    assert result.equity.tolist() == [1000, 1500, 1500]


def test_the_old_position_is_held_until_the_open() -> None:
    result = run(
        [[10, 10], [10, 10], [15, 20]],
        [0, 1],
        [[1.0, 0.0], [0.0, 1.0]],
        open=[[10, 10], [10, 10], [20, 10]],
        execution_price="open",
    )
    # 100 shares of the first are worth 2000 at the open of the last bar, and buy 200 of the other.
    assert result.equity.tolist() == [1000, 1000, 4000]


def test_interest_by_hand() -> None:
    index = pd.DatetimeIndex(["2024-01-01", "2024-01-02", "2024-01-05", "2024-01-05 12:00"])
    rates = {"cash_rate": 0.365, "borrow_rate": 0.73, "short_fee_rate": 0.1825}
    idle = run([1, 1, 1, 1], [], [], index=index, **rates)
    assert_allclose(idle.equity, [1000, 1001, 1001 * 1.003, 1001 * 1.003 * 1.0005])
    # Cash of 2000 with the proceeds, one day of interest; a fee on the 1000 that are short.
    short = run([1, 1, 1, 1], [0], [[-1.0]], index=index, execution_lag=0, **rates)
    assert short.equity[1] == pytest.approx(1000 + 2000 * 0.001 - 1000 * 0.0005)
    # Borrowed 1000 to hold 2000.
    borrowed = run(
        [1, 1, 1, 1],
        [0],
        [[2.0]],
        index=index,
        execution_lag=0,
        max_gross_exposure=2.0,
        **rates,
    )
    assert borrowed.equity[1] == pytest.approx(1000 - 1000 * 0.002)


def test_nothing_accrues_before_the_first_measured_bar() -> None:
    assert run([1, 1, 1], [], [], first_bar=1, cash_rate=0.365).equity[0] == 1000


def test_a_series_that_ends_is_sold_on_its_last_bar() -> None:
    result = run(
        [[10, 10], [10, 10], [20, 10], [NAN, 10], [NAN, 20]],
        [0],
        [[0.5, 0.5]],
        commission_bps=100,
    )
    trades = result.trades()
    assert trades.bar.tolist() == [1, 1, 2]
    assert trades.asset.tolist() == [0, 1, 0]
    assert trades.value.tolist() == [500, 500, -1000]
    assert trades.cost.tolist() == [5, 5, 10]
    assert result.equity.tolist() == [1000, 990, 1480, 1480, 1980]
    assert_allclose(result.turnover, [0, 1, 1000 / 1490, 0, 0])
    assert_allclose(result.gross_exposure[1:4], [1000 / 990, 500 / 1480, 500 / 1480])
    assert result.untradable_weights == 0


def test_a_short_in_a_series_that_ends_is_bought_back() -> None:
    result = run([[10], [10], [5], [NAN]], [0], [[-1.0]])
    assert result.trades().value.tolist() == [-1000, 500]
    assert result.equity.tolist() == [1000, 1000, 1500, 1500]


def test_weights_without_a_price_count_as_zero_and_are_counted() -> None:
    # The first starts on bar 2, the second ends on bar 2.
    close = [[NAN, 10], [NAN, 10], [10, 10], [10, NAN], [20, NAN]]
    result = run(close, [0, 1, 2], [[0.5, 0.5], [0.5, 0.0], [0.5, 0.5]])
    assert result.untradable_weights == 2
    assert_allclose(result.target_weights, [[0.5, 0.5], [0.5, 0.0], [0.5, 0.5]])
    assert result.equity.tolist() == [1000, 1000, 1000, 1000, 1500]


def test_the_cap_counts_weights_without_a_price() -> None:
    # 2.0 is scaled to 1.0; the half that cannot be traded is not given to the other.
    result = run([[NAN, 10], [NAN, 10], [NAN, 20], [10, 20]], [0], [[1.0, 1.0]])
    assert result.gross_exposure[1] == 0.5
    assert result.untradable_weights == 1


def test_a_weight_into_a_last_close_counts_as_zero() -> None:
    close = [[10, 10], [10, 10], [20, 10], [NAN, 10]]
    result = run(close, [0, 1], [[0.5, 0.0], [1.0, 0.0]], commission_bps=100)
    # Sold once, by the order; not bought and sold again.
    assert result.trades().value.tolist() == [500, -1000]
    assert result.untradable_weights == 1
    never_bought = run(close, [1], [[1.0, 0.0]], commission_bps=100)
    assert never_bought.n_trades == 0


def test_at_the_open_of_the_last_bar_a_position_is_held_until_its_close() -> None:
    result = run([[10], [12], [NAN]], [0], [[1.0]], open=[[10], [8], [NAN]], execution_price="open")
    assert result.trades().bar.tolist() == [1, 1]
    assert result.trades().value.tolist() == [1000, -1500]
    assert result.turnover.tolist() == [0, 2, 0]
    assert result.untradable_weights == 0


def test_what_is_too_small_to_trade_is_too_small_to_sell() -> None:
    result = run([[10], [10], [20], [NAN]], [0], [[1e-12]], commission_bps=100)
    assert result.n_trades == 0
    assert result.cost.sum() == result.turnover.sum() == 0.0


def test_several_series_end_on_one_bar() -> None:
    close = [[10, 10, 10], [10, 10, 10], [20, 5, 10], [NAN, NAN, 10]]
    result = run(close, [0], [[0.4, -0.4, 0.2]], commission_bps=100)
    assert result.trades().asset.tolist() == [0, 1, 2, 0, 1]
    # 990 + 400 + 200 before the sales of 800 and 200.
    assert_allclose(result.equity, [1000, 990, 1590 - 10, 1580])
    assert_allclose(result.turnover[2], 1000 / 1590)


def test_a_series_without_any_price_is_never_traded() -> None:
    result = run([[NAN, 1], [NAN, 1], [NAN, 1]], [0, 1], [[0.5, 0.5], [0.5, 0.5]])
    assert result.untradable_weights == 2
    assert result.n_trades == 1


def test_a_series_that_lasts_to_the_end_is_not_sold() -> None:
    result = run([10, 10, 20], [0], [[1.0]])
    assert result.n_trades == 1
    assert result.gross_exposure[-1] == 1.0


def test_a_position_without_an_open_cannot_be_traded() -> None:
    prices = [[10, 10], [10, 10], [10, 10], [10, 10]]
    opens = [[10, 10], [10, 10], [10, NAN], [10, 10]]
    weights = [[0.5, 0.5], [1.0, 0.0]]
    with pytest.raises(DataError, match="S1 is held and has no open price at 2020-01-03"):
        run(prices, [0, 1], weights, open=opens, execution_price="open")
    # Not held, it is only a weight without a price.
    unheld = run(prices, [0, 1], [[0.5, 0], [0.5, 0.5]], open=opens, execution_price="open")
    assert unheld.untradable_weights == 1


def test_the_open_must_be_there() -> None:
    with pytest.raises(DataError, match="needs open prices, but the data has only: close"):
        run([10, 10], [0], [[1.0]], execution_price="open")


def test_ruin_between_rebalances() -> None:
    result = run([10, 10, 15, 25, 5], [0], [[-1.0]])
    assert result.equity.tolist() == [1000, 1000, 500, -500]
    assert result.ruined_bar == 3
    assert result.net_return[-1] == -2.0
    assert np.isnan(result.gross_exposure[-1])
    assert np.isnan(result.net_exposure[-1])


def test_equity_of_exactly_zero_is_ruin() -> None:
    result = run([10, 10, 20, 5], [0], [[-1.0]])
    assert result.equity.tolist() == [1000, 1000, 0]
    assert result.ruined_bar == 2
    # Without a warning of a division by what is left.
    np.testing.assert_array_equal(result.gross_exposure, [0, 1, np.nan])
    np.testing.assert_array_equal(result.net_exposure, [0, -1, np.nan])


@pytest.mark.parametrize(
    ("prices", "weights"),
    [
        ([90.44, 76.06], [-0.91, -0.09]),
        ([87.0, 9.51], [-0.16, -0.84]),
        ([9.23, 82.6, 78.14, 24.46], [-0.82, -0.03, -0.07, -0.08]),
    ],
)
def test_equity_that_is_zero_but_for_rounding_is_ruin(
    prices: list[float], weights: list[float]
) -> None:
    # All prices double: nothing is left, but 2e-13 in floating point.
    close = np.outer([1, 1, 2, 1], prices)
    result = run(close, [0], [weights])
    assert result.ruined_bar == 2
    assert result.equity[:2] == pytest.approx(1000)
    assert result.equity[2] == 0.0


def test_ruin_on_the_bar_of_an_order_stops_it() -> None:
    result = run([10, 10, 30, 30], [0, 1], [[-1.0], [1.0]])
    assert result.equity.tolist() == [1000, 1000, -1000]
    assert result.ruined_bar == 2
    assert result.n_trades == 1
    assert result.decision_bars.tolist() == [0]


def test_ruin_by_the_cost_of_a_trade() -> None:
    result = run([10, 10, 10], [0], [[1.0]], commission_bps=10_000)
    assert result.equity.tolist() == [1000, 0]
    assert result.ruined_bar == 1
    assert result.n_trades == 1
    assert result.cost.tolist() == [0, 1000]


def test_ruin_by_the_cost_of_a_trade_on_the_first_measured_bar() -> None:
    result = run([10, 10], [0], [[1.0]], execution_lag=0, commission_bps=10_000)
    assert result.equity.tolist() == [1000]
    assert result.ruined_bar == 0
    metrics, undefined = result_metrics(result, periods_per_year=252)
    assert "final_pf" in undefined
    assert metrics["total_costs"] == 1000


def test_ruin_at_the_open_is_not_undone_by_the_close() -> None:
    result = run(
        [10, 10, 10, 10], [0, 1], [[-1.0], [-1.0]], open=[10, 10, 25, 10], execution_price="open"
    )
    assert result.equity.tolist() == [1000, 1000, -500]
    assert result.ruined_bar == 2


def test_ruin_by_the_sale_of_a_series_that_ends() -> None:
    result = run(
        [[10, 10], [10, 10], [17, 10], [NAN, 10]],
        [0],
        [[-1.0, 0.0]],
        commission_bps=0,
        spread_bps=10_000,
    )
    # 500 left after the entry; short 1000 at 10 is 1700 at 17: ruined before the sale.
    assert result.ruined_bar == 2
    assert result.n_trades == 1
    by_cost = run(
        [[10, 10], [10, 10], [13, 10], [NAN, 10]],
        [0],
        [[-1.0, 0.0]],
        commission_bps=0,
        spread_bps=10_000,
    )
    # 200 left, and the sale of 1300 costs 650.
    assert by_cost.equity.tolist() == [1000, 500, pytest.approx(-450)]
    assert by_cost.n_trades == 2


def test_arrays_are_read_only() -> None:
    result = run([10, 10, 20], [0], [[1.0]])
    for name in ("equity", "net_return", "gross_exposure", "turnover", "cost", "target_weights"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(result, name)[0] = 1.0


def test_settings_keep_their_order_across_groups() -> None:
    panel = make_panel([[10.0], [20.0], [30.0], [40.0]], open=[[10.0], [15.0], [25.0], [35.0]])
    settings = [
        SimulationSettings(execution_lag=lag, execution_price=price, commission_bps=commission)
        for commission in (0.0, 1.0)
        for lag in (1, 2)
        for price in ("close", "open")
    ]
    results = simulate_many(panel, np.array([0]), np.array([[1.0]]), settings)
    assert [result.settings for result in results] == settings
    assert simulate_many(panel, np.array([0]), np.array([[1.0]]), []) == []


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_named(value: float) -> None:
    with pytest.raises(StrategyError, match=r"weight of S1 decided at 2020-01-02.* is (nan|-?inf)"):
        run(np.ones((4, 2)), [0, 1], [[0.5, 0.5], [0.5, value]])
    # Also where the order would never be executed.
    with pytest.raises(StrategyError, match="weight of S0 decided at 2020-01-06"):
        run(np.ones((4, 2)), [0, 3], [[0.5, 0.5], [value, 0.5]])


def test_weights_before_the_first_measured_bar_are_not_looked_at() -> None:
    result = run([1, 1, 1, 2], [0, 1], [[NAN], [1.0]], first_bar=1)
    assert result.equity.tolist() == [1000, 1000, 2000]


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (3, 2), (2,), (2, 2, 1)])
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    panel = make_panel(np.ones((4, 2)))
    with pytest.raises(StrategyError, match=r"shape \(n_decisions, n_assets\) = \(2, 2\)"):
        simulate(panel, np.array([0, 1]), np.ones(shape), SimulationSettings())


def test_weights_that_are_no_numbers_are_refused() -> None:
    panel = make_panel(np.ones((4, 1)))
    weights: Any = [["a lot"]]
    with pytest.raises(StrategyError, match="target weights must be numbers"):
        simulate(panel, np.array([0]), weights, SimulationSettings())


def test_weights_of_other_types_and_layouts_give_the_same_bits() -> None:
    rng = np.random.default_rng(5)
    panel = make_panel(np.exp(rng.normal(0, 0.1, (30, 4))))
    decisions = np.arange(0, 29, 4)
    weights = np.round(rng.normal(0, 1, (8, 4)), 2).astype(np.float32)
    forms: list[Any] = [
        weights.astype(np.float64),
        weights,
        np.asfortranarray(weights),
        pd.DataFrame(weights),
        weights.tolist(),
    ]
    results = [simulate(panel, decisions, form, SimulationSettings()) for form in forms]
    assert len({result.equity.tobytes() for result in results}) == 1


@pytest.mark.parametrize("decisions", [[1, 0], [0, 0], [-1, 2], [0, 4]])
def test_decisions_outside_the_panel_or_out_of_order_are_refused(decisions: list[int]) -> None:
    panel = make_panel(np.ones((4, 1)))
    with pytest.raises(ValueError, match="decisions must"):
        simulate(panel, np.array(decisions), np.ones((2, 1)), SimulationSettings())


@pytest.mark.parametrize("first_bar", [-1, 3])
def test_the_first_measured_bar_lies_within_the_panel(first_bar: int) -> None:
    with pytest.raises(ValueError, match=f"first_bar={first_bar}, n_bars=3"):
        run([1, 1, 1], [0], [[1.0]], first_bar=first_bar)
