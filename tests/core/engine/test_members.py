"""Members of a universe: who may be bought, and when those who leave are sold."""

import numpy as np
import pytest

from backtest_batch.core.engine.simulation import SimulationSettings, simulate
from backtest_batch.core.strategies import EqualWeight, TrendBaseline
from backtest_batch.core.strategies.base import target_weights
from backtest_batch.errors import StrategyError
from tests.support.engine_markets import make_panel

FREE = SimulationSettings(initial_capital=1_000.0, commission_bps=0.0)
GROWTH = np.array([1.01, 0.98, 1.03])
N_BARS = 12


def market(members):
    return make_panel(100.0 * GROWTH ** np.arange(N_BARS)[:, None], members=members)


def stint(first, last):
    """Return who is a member from one bar to another, both included."""
    bars = np.arange(N_BARS)
    return (bars >= first) & (bars <= last)


def test_an_equal_weight_has_its_return_in_closed_form_across_a_change_of_members():
    # A always; B leaves at the close of bar 5; C comes on bar 7. Decided on bars 0 and 7, executed
    # on the next.
    panel = market(np.column_stack([stint(0, 99), stint(0, 5), stint(7, 99)]))
    decisions = np.array([0, 7])
    weights = target_weights(EqualWeight(), panel, decisions)
    np.testing.assert_array_equal(weights, [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
    found = simulate(panel, decisions, weights, FREE)
    a, b, c = GROWTH
    at_8 = 0.5 * a**7 + 0.5 * b**4  # B was sold at the close of bar 5; its money waits in cash
    expected = at_8 * (0.5 * a**3 + 0.5 * c**3)
    assert found.equity[-1] / 1_000.0 == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(found.equity[5:8] / 1_000, 0.5 * a ** np.arange(4, 7) + 0.5 * b**4)


def test_a_member_that_leaves_between_decisions_is_sold_with_cost_at_the_close_of_its_last_bar():
    panel = market(np.column_stack([stint(0, 99), stint(0, 5), stint(0, 99)]))
    paying = SimulationSettings(initial_capital=1_000.0, commission_bps=100.0)
    found = simulate(panel, np.array([0]), np.array([[0.0, 1.0, 0.0]]), paying)
    trades = found.trades()
    assert (trades.bar.tolist(), trades.asset.tolist()) == ([1, 5], [1, 1])
    value = 1_000.0 * GROWTH[1] ** 4
    assert trades.value[1] == pytest.approx(-value)
    assert trades.price[1] == panel.fields["close"][5, 1]
    assert trades.cost[1] == pytest.approx(value * 0.01)
    assert found.equity[-1] == pytest.approx(value - 10.0 - value * 0.01)
    assert (found.trips.n_trips, found.trips.held_bars) == (1, 4)


def test_who_comes_back_is_bought_and_sold_again():
    members = np.column_stack([stint(0, 3) | stint(6, 8), stint(0, 99), stint(0, 99)])
    panel = market(members)
    everything = np.tile([1.0, 0.0, 0.0], (N_BARS - 1, 1))
    found = simulate(panel, np.arange(N_BARS - 1), everything, FREE)
    trades = found.trades()
    # Bought when it is a member at the decision and at the execution, and stays beyond it.
    assert trades.bar.tolist() == [1, 3, 7, 8]
    assert np.sign(trades.value).tolist() == [1, -1, 1, -1]
    # At bars 3 and 8 it leaves at the very close; 4, 5, 6, 9, 10 and 11 it is no member.
    assert found.untradable_weights == 8


def test_weights_of_those_who_are_no_members_when_decided_are_0_before_any_cap():
    panel = market(np.column_stack([stint(0, 99), stint(6, 99), stint(0, 99)]))
    capped = SimulationSettings(initial_capital=1_000.0, commission_bps=0, max_gross_exposure=1.0)
    found = simulate(panel, np.array([5]), np.array([[0.5, 0.5, 0.5]]), capped)
    np.testing.assert_array_equal(found.target_weights, [[0.5, 0.0, 0.5]])
    assert found.untradable_weights == 1
    assert found.scaled_decisions == 0


def test_who_is_a_member_when_decided_and_none_when_executed_is_counted_as_without_a_price():
    panel = market(np.column_stack([stint(0, 99), stint(0, 5), stint(0, 99)]))
    found = simulate(panel, np.array([5]), np.array([[0.5, 0.5, 0.0]]), FREE)
    np.testing.assert_array_equal(found.target_weights, [[0.5, 0.5, 0.0]])
    assert found.untradable_weights == 1
    assert found.trades().asset.tolist() == [0]


def test_a_member_is_held_over_the_day_on_which_it_leaves_when_bought_at_the_open():
    members = np.column_stack([stint(0, 5), stint(0, 99), stint(0, 99)])
    close = 100.0 * GROWTH ** np.arange(N_BARS)[:, None]
    panel = make_panel(close, open=close * 0.5, members=members)
    at_open = SimulationSettings(initial_capital=1.0, commission_bps=0, execution_price="open")
    found = simulate(panel, np.array([4]), np.array([[1.0, 0.0, 0.0]]), at_open)
    assert found.trades().bar.tolist() == [5, 5]
    assert found.equity[-1] == pytest.approx(2.0)


def test_a_weight_that_is_no_number_is_refused_for_those_who_are_no_members_too():
    panel = market(np.column_stack([stint(0, 99), stint(6, 99), stint(0, 99)]))
    with pytest.raises(StrategyError, match="S1"):
        simulate(panel, np.array([5]), np.array([[0.5, np.nan, 0.0]]), FREE)


def test_members_all_along_change_no_bit():
    weights = np.full((2, 3), 1 / 3)
    decisions = np.array([0, 6])
    without = simulate(market(None), decisions, weights, FREE)
    everybody = simulate(market(np.ones((N_BARS, 3))), decisions, weights, FREE)
    assert without.equity.tobytes() == everybody.equity.tobytes()
    assert everybody.untradable_weights == 0


def test_a_shipped_strategy_puts_its_money_into_members_alone():
    members = np.column_stack([stint(0, 99), stint(0, 99), stint(99, 99)])
    rising = TrendBaseline(average="sma", fast=1, slow=2)
    weights = target_weights(rising, market(members), np.array([5]))
    np.testing.assert_array_equal(weights, [[1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(
        target_weights(rising, market(None), np.array([5])), [[0.5, 0.0, 0.5]]
    )


@pytest.mark.parametrize("loss", [0.4, 1.0])
@pytest.mark.parametrize("execution_price", ["close", "open"])
def test_a_delisting_return_is_earned_on_the_bar_after_the_last_price(loss, execution_price):
    # What `data.delisting_returns` makes of a series that ends on bar 5: a price on bar 6.
    close = np.full((N_BARS, 2), 100.0)
    close[6:, 0] = np.nan
    close[6, 0] = 100.0 * (1.0 - loss)
    panel = make_panel(close, open=close)
    terms = SimulationSettings(
        initial_capital=1_000.0, commission_bps=0, execution_price=execution_price
    )
    weights = np.array([[0.5, 0.5]] * 4)
    # Also with orders on the last bar with a market price, on the final one and beyond it.
    found = simulate(panel, np.array([0, 4, 5, 6]), weights, terms)
    np.testing.assert_allclose(found.equity[:6], 1_000.0)
    np.testing.assert_allclose(found.equity[6:], 1_000.0 - 500.0 * loss)
    held_alone = simulate(panel, np.array([0]), weights[:1], terms)
    np.testing.assert_array_equal(held_alone.equity, found.equity)
    assert (held_alone.trips.n_trips, held_alone.trips.held_bars) == (1, 5)
    assert held_alone.trips.lost == pytest.approx(500.0 * loss)
