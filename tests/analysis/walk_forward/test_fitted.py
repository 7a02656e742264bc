from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.walk_forward import (
    WalkForwardSettings,
    fitted_weights,
    in_sample_metrics,
    make_splits,
    measure_windows,
    moved,
    per_bar_arrays,
    walk_forward,
)
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.simulation import SimulationSettings, simulate
from backtest_batch.core.strategies import TrendBaseline
from backtest_batch.errors import ConfigurationError, StrategyError
from tests.support.walk_forward_cases import market, no_weights, runs_of

FIRST_BAR = 40

SETTINGS = WalkForwardSettings(
    method="rolling",
    train_size=80,
    test_size=50,
    step_size=50,
    purged_size=1,
    min_train_size=1,
    min_test_size=1,
)


@dataclass
class MostRisen:
    """Holds what rose most over the training bars."""

    n_held: int = 1
    held: np.ndarray | None = None

    def fit(self, panel):
        close = panel.fields["close"]
        self.bars = (panel.index[0], panel.index[-1])
        self.held = np.argsort(-(close[-1] / close[0]), kind="stable")[: self.n_held]
        return self

    def target_weights(self, panel, decisions):
        assert panel.n_bars == decisions[-1] + 1
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, self.held] = 1.0 / self.n_held
        return weights


class FittedInVain(TrendBaseline):
    """Learns nothing from its fit, which says nothing either."""

    def fit(self, panel):
        return None


def plan_of(panel, settings=SETTINGS):
    first_return = FIRST_BAR + 1
    return moved(make_splits(settings, panel.index[first_return:]), first_return)


def decisions_of(panel, rebalance="W"):
    bars = decision_bars(panel.index, rebalance)
    return bars[bars >= FIRST_BAR]


@pytest.mark.parametrize(
    ("strategy", "method"), [(TrendBaseline, "rolling"), (FittedInVain, "expanding")]
)
@pytest.mark.parametrize("rebalance", ["W", "M", "bar"])
@pytest.mark.parametrize(("lag", "purged"), [(0, 0), (1, 1), (1, 0), (3, 3), (2, 5)])
# The entry costs more than the rebalance in its place, and is owed until the next one.
@pytest.mark.parametrize(("commission_bps", "within"), [(0.0, 1e-11), (5.0, 1e-5)])
def test_without_anything_to_fit_both_routes_agree(
    strategy, rebalance, method, lag, purged, commission_bps, within
):
    panel = market()
    decisions = decisions_of(panel, rebalance)
    plan = plan_of(
        panel,
        WalkForwardSettings(
            method=method, train_size=80, test_size=50, step_size=50, purged_size=purged,
            min_train_size=1, min_test_size=1,
        ),
    )  # fmt: skip
    fitted = fitted_weights(
        lambda: strategy(fast=5, slow=20), panel, decisions, plan.splits, execution_lag=lag
    )
    whole = strategy(fast=5, slow=20).target_weights(panel, decisions)
    route = fitted.out_of_sample
    place = np.searchsorted(decisions, route.decisions)
    np.testing.assert_array_equal(decisions[place], route.decisions)
    np.testing.assert_array_equal(route.weights, whole[place])

    settings = SimulationSettings(commission_bps=commission_bps, execution_lag=lag)
    alone = simulate(panel, decisions, whole, settings, FIRST_BAR)
    routed = simulate(panel, route.decisions, route.weights, settings, route.first_bar)
    expected = per_bar_arrays([alone], panel.n_bars)
    found = per_bar_arrays([routed], panel.n_bars)
    for split in plan.splits:
        bars = slice(split.test_start, split.test_end + 1)
        np.testing.assert_allclose(
            found["returns"][bars], expected["returns"][bars], rtol=0, atol=within
        )

    windows = [split.train for split in plan.splits]
    measured = measure_windows(
        runs_of(expected.pop("returns"), index=panel.index, **expected), windows
    )
    (metrics,) = in_sample_metrics(fitted, panel, plan.splits, [settings], periods_per_year=252.0)
    for name in ("total_return", "volatility", "max_drawdown", "avg_gross_exposure"):
        np.testing.assert_allclose(
            metrics[name], measured.of(name)[:, 0], rtol=0, atol=100 * within, err_msg=name
        )


def test_each_split_is_fitted_on_its_training_bars_only():
    panel = market()
    plan = plan_of(panel)
    made = []

    def factory():
        made.append(MostRisen())
        return made[-1]

    fitted = fitted_weights(factory, panel, decisions_of(panel), plan.splits, execution_lag=1)

    assert len(made) == len(plan.splits)
    for strategy, split in zip(made, plan.splits, strict=True):
        assert strategy.bars == (panel.index[split.train_start], panel.index[split.train_end])
    route = fitted.out_of_sample
    for split, following, strategy in zip(plan.splits, [*plan.splits[1:], None], made, strict=True):
        stop = panel.n_bars if following is None else following.test_start - 2
        own = (route.decisions >= split.test_start - 2) & (route.decisions < stop)
        assert own.any()
        assert (route.weights[own][:, strategy.held] == 1).all()


def test_the_route_is_invested_from_the_first_test_bar_on_and_never_restarts():
    panel = market()
    plan = plan_of(panel)
    fitted = fitted_weights(
        MostRisen, panel, decisions_of(panel, "M"), plan.splits, execution_lag=1
    )
    route = fitted.out_of_sample
    simulation = simulate(
        panel, route.decisions, route.weights, SimulationSettings(), route.first_bar
    )
    gross = per_bar_arrays([simulation], panel.n_bars)["gross_exposure"][:, 0]
    first = plan.splits[0].test_start

    assert route.first_bar < first
    np.testing.assert_allclose(gross[first - 1 : plan.splits[-1].test_end + 1], 1.0, atol=1e-3)


def test_altering_prices_from_a_test_window_on_leaves_its_fit_and_choice():
    panel = market()
    plan = plan_of(panel)
    split = plan.splits[2]
    closes = panel.close.copy()
    closes.iloc[split.test_start :] = closes.iloc[split.test_start :].to_numpy()[::-1] * 1.3
    altered = panel_from_frames(closes)
    found = []
    for data in (panel, altered):
        fitted = fitted_weights(MostRisen, data, decisions_of(data), plan.splits, execution_lag=1)
        route = fitted.out_of_sample
        before = route.decisions < plan.splits[3].test_start - 2
        inside = [item.weights for item in fitted.in_sample[:3]]
        found.append((route.weights[before], *inside))

    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fitted_runs_are_chosen_by_their_in_sample_metrics():
    panel = market()
    plan = plan_of(panel)
    settings = SimulationSettings(commission_bps=5.0)
    columns, inside = [], {}
    for run, n_held in enumerate((1, 2, 3)):
        fitted = fitted_weights(
            lambda n_held=n_held: MostRisen(n_held=n_held),
            panel,
            decisions_of(panel),
            plan.splits,
            execution_lag=1,
        )
        route = fitted.out_of_sample
        simulation = simulate(panel, route.decisions, route.weights, settings, route.first_bar)
        columns.append(per_bar_arrays([simulation], panel.n_bars)["returns"][:, 0])
        (inside[run],) = in_sample_metrics(
            fitted, panel, plan.splits, [settings], periods_per_year=252.0
        )
    runs = runs_of(
        np.column_stack(columns),
        index=panel.index,
        in_sample=inside,
        return_bars=range(FIRST_BAR + 1, panel.n_bars),
    )
    walk = walk_forward(runs, SETTINGS, Ranking.parse("sharpe"), lambda run, bar: np.zeros(4))

    assert walk.plan == plan
    sharpes = np.array([inside[run]["sharpe"] for run in range(3)])
    assert walk.choices == tuple(sharpes.argmax(axis=0))
    np.testing.assert_array_equal(walk.in_sample.of("sharpe"), sharpes.T)
    assert np.isfinite(walk.curve.net_return).all()
    assert walk.best_overall is not None


def test_one_fitted_run_is_stitched_to_its_own_returns():
    panel = market()
    plan = plan_of(panel)
    fitted = fitted_weights(MostRisen, panel, decisions_of(panel), plan.splits, execution_lag=1)
    route = fitted.out_of_sample
    settings = SimulationSettings()
    simulation = simulate(panel, route.decisions, route.weights, settings, route.first_bar)
    (inside,) = in_sample_metrics(fitted, panel, plan.splits, [settings], periods_per_year=252.0)
    runs = runs_of(
        per_bar_arrays([simulation], panel.n_bars)["returns"],
        index=panel.index,
        in_sample={0: inside},
        return_bars=range(FIRST_BAR + 1, panel.n_bars),
    )
    curve = walk_forward(runs, SETTINGS, Ranking.parse("sharpe"), no_weights).curve

    np.testing.assert_array_equal(curve.net_return, runs.returns[curve.bars, 0])


def test_a_choice_that_is_known_late_is_traded_late():
    panel = market()
    settings = WalkForwardSettings(
        method="rolling", train_size=80, test_size=50, step_size=50, purged_size=0,
        min_train_size=1, min_test_size=1,
    )  # fmt: skip
    plan = plan_of(panel, settings)
    made = []

    def factory():
        made.append(MostRisen())
        return made[-1]

    route = fitted_weights(
        factory, panel, decisions_of(panel, "bar"), plan.splits, execution_lag=3
    ).out_of_sample
    for strategy, split in zip(made[1:], plan.splits[1:], strict=True):
        decided = route.decisions[route.decisions >= split.train_end]
        row = np.searchsorted(route.decisions, decided[0])
        assert route.weights[row, strategy.held] == 1


def test_the_combinatorial_method_has_no_one_route():
    panel = market()
    settings = WalkForwardSettings(
        method="combinatorial", n_folds=5, min_train_size=1, min_test_size=1
    )
    plan = plan_of(panel, settings)

    with pytest.raises(ConfigurationError, match="use rolling or expanding"):
        fitted_weights(MostRisen, panel, decisions_of(panel), plan.splits, execution_lag=1)


def test_weights_of_the_wrong_shape_are_refused():
    class Narrow:
        def target_weights(self, panel, decisions):
            return np.zeros((len(decisions), 1))

    panel = market()
    with pytest.raises(StrategyError, match=r"target weights must have shape"):
        fitted_weights(Narrow, panel, decisions_of(panel), plan_of(panel).splits, execution_lag=1)


def test_labels_count_and_what_is_no_number_is_refused():
    class Labelled(MostRisen):
        def target_weights(self, panel, decisions):
            weights = super().target_weights(panel, decisions)
            frame = pd.DataFrame(weights, index=panel.index[decisions], columns=panel.symbols)
            return frame[frame.columns[::-1]]

    class Complex(MostRisen):
        def target_weights(self, panel, decisions):
            return super().target_weights(panel, decisions) + 1j

    panel = market()
    splits = plan_of(panel).splits
    routes = [
        fitted_weights(kind, panel, decisions_of(panel), splits, execution_lag=1).out_of_sample
        for kind in (MostRisen, Labelled)
    ]
    assert routes[0].weights.tobytes() == routes[1].weights.tobytes()
    with pytest.raises(StrategyError, match="the values are complex numbers"):
        fitted_weights(Complex, panel, decisions_of(panel), splits, execution_lag=1)


def test_no_decision_at_all_is_a_route_in_cash():
    panel = market()
    fitted = fitted_weights(
        MostRisen, panel, np.empty(0, dtype=np.int64), plan_of(panel).splits, execution_lag=1
    )
    route = fitted.out_of_sample
    simulation = simulate(
        panel, route.decisions, route.weights, SimulationSettings(), route.first_bar
    )

    assert route.weights.shape == (0, 4)
    assert (simulation.net_return[1:] == 0).all()
