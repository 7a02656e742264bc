import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.walk_forward import WalkForwardSettings, walk_forward
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.engine.simulation import SimulationSettings
from tests.support.walk_forward_cases import (
    market,
    random_returns,
    runs_of,
    trend_runs,
    trend_simulations,
)

RANKINGS = {
    "sharpe": Ranking.parse("sharpe"),
    "score": Ranking.parse({"sharpe": 0.5, "alpha": 0.3, "turnover_annual": 0.2}),
    "constrained": Ranking.parse("calmar", {"max_drawdown": ">= -0.05", "trades": ">= 1"}),
}


def settings_of(method, purged=1):
    return WalkForwardSettings(
        method=method,
        train_size=40,
        test_size=15,
        step_size=15,
        purged_size=purged,
        min_train_size=1,
        min_test_size=1,
    )


def choices(runs, method, ranking, purged=1):
    settings = settings_of(method, purged)
    return walk_forward(runs, settings, ranking, lambda run, bar: np.zeros(1))


@given(
    seed=st.integers(0, 10_000),
    number=st.integers(0, 3),
    method=st.sampled_from(["rolling", "expanding"]),
    ranking=st.sampled_from(sorted(RANKINGS)),
    purged=st.integers(0, 3),
    replaced=st.sampled_from(["noise", "boom", "ruin", "missing"]),
)
@hypothesis_settings(deadline=None, max_examples=60)
def test_returns_inside_and_after_a_test_window_leave_its_choice(
    seed, number, method, ranking, purged, replaced
):
    returns = random_returns(130, 6, seed)
    extra = np.abs(random_returns(130, 6, seed + 1))
    arrays = {"turnover": extra, "trades": np.round(extra * 100), "cost_ratio": extra / 100}
    benchmark = random_returns(130, 1, seed + 2)[:, 0]
    before = choices(
        runs_of(returns, benchmark=benchmark, **arrays), method, RANKINGS[ranking], purged
    )

    start = before.plan.splits[number].test_start
    generator = np.random.default_rng(seed + 3)
    altered = {name: values.copy() for name, values in arrays.items()}
    altered |= {"returns": returns.copy(), "benchmark": benchmark.copy()}
    for values in altered.values():
        values[start:] = generator.normal(0, 0.05, values[start:].shape)
    if replaced == "boom":
        altered["returns"][start:, 0] = 0.5
    if replaced in ("ruin", "missing"):
        altered["returns"][start, 1:4] = -1.5 if replaced == "ruin" else np.nan
        altered["returns"][start + 1 :, 1:4] = np.nan
    returns = altered.pop("returns")
    after = choices(runs_of(returns, **altered), method, RANKINGS[ranking], purged)

    assert after.choices[: number + 1] == before.choices[: number + 1]
    np.testing.assert_array_equal(
        after.in_sample.values[:, : number + 1], before.in_sample.values[:, : number + 1]
    )


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize("ranking", sorted(RANKINGS))
@pytest.mark.parametrize("number", [0, 5, 11])
def test_prices_inside_and_after_a_test_window_leave_its_choice(number, ranking, lag):
    panel = market(n_bars=300)
    settings = SimulationSettings(commission_bps=5.0, execution_lag=lag)
    runs = trend_runs(panel, trend_simulations(panel, settings))
    before = choices(runs, "rolling", RANKINGS[ranking], purged=lag)

    start = before.plan.splits[number].test_start
    closes = panel.close.copy()
    generator = np.random.default_rng(number)
    noise = generator.normal(0, 0.05, closes.iloc[start:].shape)
    closes.iloc[start:] = 50 * np.exp(noise.cumsum(axis=0))
    altered = panel_from_frames(closes)
    runs = trend_runs(altered, trend_simulations(altered, settings))
    after = choices(runs, "rolling", RANKINGS[ranking], purged=lag)

    assert after.choices[: number + 1] == before.choices[: number + 1]
    # What was altered does show in the test itself.
    assert not np.allclose(
        after.out_of_sample.values[:, number], before.out_of_sample.values[:, number]
    )


def test_the_bars_of_a_choice_are_known_when_it_is_traded():
    panel = market(n_bars=300)
    settings = SimulationSettings(execution_lag=2)
    runs = trend_runs(panel, trend_simulations(panel, settings))
    walk = choices(runs, "rolling", RANKINGS["sharpe"], purged=2)

    # Decided with the close of train_end, executed two bars later, at the close before the test.
    for split in walk.plan.splits:
        assert split.train_end + 2 == split.test_start - 1


def test_fewer_purged_bars_than_the_lag_are_said():
    panel = market(n_bars=300)
    runs = trend_runs(panel, trend_simulations(panel))
    walk = choices(runs, "rolling", RANKINGS["sharpe"], purged=0)

    assert walk.notes == (
        "purged_size=0 is below execution_lag=1: choices use bars that are not known in time, so "
        "the results are too good.",
    )
    assert pd.Series(walk.choices).notna().all()
