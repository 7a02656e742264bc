"""The lower bound of the true Sharpe ratio that holds for all trials at once."""

import itertools
import math

import numpy as np
import pytest

from backtest_batch.analysis.overfitting.rademacher import (
    aligned,
    lower_bounds,
    random_signs,
)


def complexity(returns, draws=4_000):
    signs = random_signs(len(returns), draws, 0)
    return float(aligned(signs, returns, returns.std(axis=0, ddof=1)).max(axis=1).mean())


def test_the_bound_worked_out_by_hand():
    # 0.2 - 2 * 0.05 - 3 sqrt(2 ln 40 / 1000) - sqrt(2 ln 4000 / 1000)
    (bound,) = lower_bounds(np.array([0.2]), 0.05, 1_000, 100)
    assert bound == pytest.approx(0.2 - 0.1 - 0.2576824 - 0.1287949, abs=1e-6)


def test_the_complexity_is_the_mean_over_all_signs():
    returns = 0.01 * np.random.default_rng(0).standard_normal((10, 4)) + 0.002
    scaled = returns / returns.std(axis=0, ddof=1)
    every = np.array(list(itertools.product([-1.0, 1.0], repeat=10)))
    exact = (every @ scaled / 10).max(axis=1).mean()
    assert complexity(returns, 40_000) == pytest.approx(exact, rel=0.01)


def test_it_is_nothing_for_the_same_trial_and_below_massarts_bound_for_others():
    one = 0.01 * np.random.default_rng(1).standard_normal((500, 1))
    # The mean of a draw is of the order of 1 / sqrt(500 x 4,000).
    assert complexity(np.repeat(one, 30, axis=1)) == pytest.approx(0, abs=0.003)
    many = 0.01 * np.random.default_rng(2).standard_normal((500, 30))
    massart = math.sqrt(2 * math.log(30) / 500)
    assert 0.5 * massart < complexity(many) < 1.01 * massart
    alike = many + 3 * one
    assert complexity(alike) < 0.6 * complexity(many)


def test_the_signs_are_fair_and_come_again():
    signs = random_signs(400, 100, 7)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.02
    np.testing.assert_array_equal(signs, random_signs(400, 100, 7))


def test_a_trial_that_stands_still_aligns_with_nothing():
    returns = np.column_stack([np.zeros(20), np.arange(20.0)])
    found = aligned(random_signs(20, 5, 0), returns, returns.std(axis=0, ddof=1))
    assert np.isneginf(found[:, 0]).all()
    assert np.isfinite(found[:, 1]).all()


def test_the_bound_holds_for_all_trials_of_noise_together():
    failures = 0
    for seed in range(100):
        returns = np.random.default_rng(seed).standard_normal((250, 40)) + 0.1
        sharpe = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
        failures += lower_bounds(sharpe, complexity(returns, 100), 250, 40).max() > 0.1
    assert failures == 0
