import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.walk_forward import (
    Segment,
    WalkForwardSettings,
    drifted_weights,
    per_bar_arrays,
    walk_forward,
)
from backtest_batch.analysis.walk_forward.curve import stitch
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.engine.simulation import SimulationSettings, simulate
from tests.support.walk_forward_cases import business_days, no_weights, random_returns, runs_of

PATH = (
    Segment(split=0, bars=range(10, 20)),
    Segment(split=1, bars=range(20, 30)),
    Segment(split=2, bars=range(30, 40)),
)


def by_hand():
    """Return the worked example of docs/walk-forward.md: panel, and runs "a" and "half"."""
    closes = {"A": [100, 100, 120, 126], "B": [100, 100, 90, 99]}
    panel = panel_from_frames(pd.DataFrame(closes, index=business_days(4), dtype=float))
    settings = SimulationSettings(initial_capital=100_000.0, commission_bps=10.0)
    return panel, [
        simulate(panel, np.array([0]), np.array([weights]), settings)
        for weights in ([1.0, 0.0], [0.5, 0.5])
    ]


def test_a_switch_charges_what_the_worked_example_says():
    panel, simulations = by_hand()
    runs = runs_of(
        per_bar_arrays(simulations, 4)["returns"],
        run_ids=("a", "half"),
        index=panel.index,
        cost_rate=simulations[0].settings.cost_rate,
        initial_capital=100_000.0,
    )
    path = (Segment(split=0, bars=range(2, 3)), Segment(split=1, bars=range(3, 4)))
    curve = stitch(
        runs, path, [0, 1], lambda run, bar: drifted_weights(simulations[run], panel, bar)
    )

    # Closing weights before the first test bar: 1000 A at 120 over 119,900 (100 of cost is owed);
    # 500 A at 120 and 500 B at 90 over 104,900.
    assert drifted_weights(simulations[0], panel, 2) == pytest.approx([1.000834, 0.0], abs=1e-6)
    assert drifted_weights(simulations[1], panel, 2) == pytest.approx(
        [0.571973, 0.428980], abs=1e-6
    )
    (switch,) = curve.switches
    assert (switch.bar, switch.before, switch.after) == (2, 0, 1)
    assert switch.turnover == pytest.approx(0.857841, abs=1e-6)
    assert switch.cost == pytest.approx(0.000857841, abs=1e-9)
    # 500 A at 126 and 500 B at 99 less 100 are 112,400: 7.1497 %, less the cost of the switch.
    own = 112_400 / 104_900 - 1
    assert curve.net_return[1] == pytest.approx(own - 0.000857841, abs=1e-9)
    assert curve.net_return[1] == pytest.approx(0.070639, abs=1e-6)
    # The first split pays nothing.
    assert curve.net_return[0] == runs.returns[2, 0]
    assert curve.equity[-1] == pytest.approx(100_000 * (119_900 / 99_900) * 1.070639, rel=1e-6)


@pytest.mark.parametrize("method", ["rolling", "expanding", "combinatorial"])
def test_one_configuration_is_stitched_to_its_own_returns_bit_for_bit(method):
    runs = runs_of(random_returns(400, 1), cost_rate=0.01)
    settings = WalkForwardSettings(
        method=method, train_size=60, test_size=30, step_size=30, n_folds=5, min_train_size=1,
        min_test_size=1,
    )  # fmt: skip
    walk = walk_forward(runs, settings, Ranking.parse("sharpe"), no_weights)

    for curve in walk.curves:
        np.testing.assert_array_equal(curve.net_return, runs.returns[curve.bars, 0])
        assert curve.switches == ()
        first = 1 if method == "combinatorial" else 62
        np.testing.assert_array_equal(curve.bars, np.arange(first, 400))


def test_only_the_first_bar_after_a_switch_pays_for_it():
    runs = runs_of(random_returns(40, 3), cost_rate=0.002)
    weights = {0: np.array([1.0, 0.0]), 1: np.array([0.4, -0.6])}
    asked = []

    def ask(run, bar):
        asked.append((run, bar))
        return weights[run]

    curve = stitch(runs, PATH, [0, 1, 1], ask)
    expected = runs.returns[np.arange(10, 40), [0] * 10 + [1] * 20].copy()
    expected[10] -= 0.002 * (0.6 + 0.6)

    np.testing.assert_array_equal(curve.net_return, expected)
    assert asked == [(0, 19), (1, 19)]
    assert np.flatnonzero(curve.switch_turnover).tolist() == [10]
    assert curve.switch_trades[10] == 2
    np.testing.assert_allclose(curve.equity, np.cumprod(1 + expected))
    assert curve.runs.tolist() == [0] * 10 + [1] * 20
    assert curve.splits.tolist() == [0] * 10 + [1] * 10 + [2] * 10


@pytest.mark.parametrize(
    ("before", "after", "turnover"),
    [
        # All in the same symbol; the costs of the one were higher.
        ([1.00004, 0.0], [1.00001, 0.0], 0.0),
        ([1.0002, 0.0], [1.0, 0.0], 0.0002),
        ([0.90004, 0.0], [0.90001, 0.0], 0.00003),
        ([1.00004, 0.0], [0.90001, 0.1], 0.20003),
    ],
)
def test_a_switch_fetches_no_dust_back(before, after, turnover):
    runs = runs_of(random_returns(40, 2), cost_rate=0.001)
    curve = stitch(runs, PATH, [0, 0, 1], lambda run, bar: np.array((before, after)[run]))
    (switch,) = curve.switches
    assert switch.turnover == pytest.approx(turnover, abs=1e-12)
    assert (curve.switch_trades.sum() == 0) == (turnover == 0)


def test_where_no_run_qualifies_the_curve_is_in_cash():
    runs = runs_of(random_returns(40, 1), cost_rate=0.01, cash_rate=0.0365)
    curve = stitch(runs, PATH, [0, None, 0], lambda run, bar: np.array([0.5, -0.3]))

    days = np.diff(runs.index.to_numpy()).astype("timedelta64[D]").astype(float)
    cash = 0.0001 * days[19:29]
    cash[0] -= 0.01 * 0.8
    np.testing.assert_allclose(curve.net_return[10:20], cash, atol=1e-15)
    assert curve.net_return[20] == pytest.approx(runs.returns[30, 0] - 0.008)
    assert [(item.before, item.after) for item in curve.switches] == [(0, None), (None, 0)]
    assert set(curve.runs[10:20]) == {-1}


def test_a_curve_in_cash_from_the_start_pays_when_it_enters():
    runs = runs_of(random_returns(40, 1), cost_rate=0.01)
    curve = stitch(runs, PATH, [None, 0, 0], lambda run, bar: np.array([1.0]))

    assert (curve.net_return[:10] == 0).all()
    assert curve.net_return[10] == runs.returns[20, 0] - 0.01
    assert len(curve.switches) == 1


def test_ruin_ends_the_curve():
    returns = random_returns(40, 2)
    returns[25, 1] = -1.2
    returns[26:, 1] = np.nan
    runs = runs_of(returns)
    curve = stitch(runs, PATH, [0, 1, 0], lambda run, bar: np.array([1.0]))

    assert curve.ruined_bar == 25
    assert curve.bars.tolist() == list(range(10, 26))
    assert curve.equity[-1] < 0
    assert len(curve.switches) == 1


def test_a_choice_that_was_ruined_before_its_test_is_not_held():
    returns = random_returns(40, 2)
    returns[19, 1] = -1.0
    returns[20:, 1] = np.nan
    curve = stitch(runs_of(returns), PATH, [0, 1, 0], lambda run, bar: np.array([1.0]))

    assert curve.ruined_bar is None
    assert set(curve.runs[10:20]) == {-1}
    assert curve.notes == (
        "Split 1 chose run_1, which was ruined before the test began: the curve is in cash.",
    )


def test_shorts_and_sold_series_have_weights():
    closes = {"A": [100.0, 100, 110, 120], "B": [50.0, 50, np.nan, np.nan], "C": [10.0] * 4}
    panel = panel_from_frames(pd.DataFrame(closes, index=business_days(4)))
    settings = SimulationSettings(commission_bps=0.0, max_gross_exposure=2.0)
    simulation = simulate(panel, np.array([0]), np.array([[-0.5, 0.25, 0.5]]), settings)

    weights = drifted_weights(simulation, panel, 3)
    assert weights == pytest.approx([-0.6 / 0.9, 0.0, 0.5 / 0.9])
