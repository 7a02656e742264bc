import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.analysis.overfitting.multiple_tests import (
    _draw,
    bootstrapped_sharpe,
    stationary_counts,
)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.floats(1, 500), st.integers(0, 1_000))
def test_every_resample_has_as_many_bars_as_the_sample(n_bars, mean_block, seed):
    counts = stationary_counts(n_bars, 120, mean_block, seed)
    assert counts.shape == (120, n_bars)
    assert counts.min() >= 0
    np.testing.assert_array_equal(counts.sum(axis=1), n_bars)
    np.testing.assert_array_equal(counts, stationary_counts(n_bars, 120, mean_block, seed))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.floats(1, 500), st.integers(0, 1_000))
def test_a_bar_is_counted_once_for_each_block_that_covers_it(n_bars, mean_block, seed):
    starts, lengths = _draw(n_bars, 30, mean_block, np.random.default_rng(seed))
    covered = np.zeros((30, n_bars))
    for draw, (first, long) in enumerate(zip(starts, lengths, strict=True)):
        for start, length in zip(first, long, strict=True):
            for bar in range(start, start + length):
                covered[draw, bar % n_bars] += 1
    np.testing.assert_array_equal(stationary_counts(n_bars, 30, mean_block, seed), covered)


def test_every_bar_is_as_likely():
    counts = stationary_counts(200, 4_000, 10, 0)
    assert counts.mean(axis=0) == pytest.approx(1.0, abs=0.12)


def test_fewer_draws_are_the_first_of_more():
    np.testing.assert_array_equal(
        stationary_counts(50, 300, 10, 1)[:100], stationary_counts(50, 100, 10, 1)
    )


@pytest.mark.oracle
@pytest.mark.parametrize("mean_block", [1, 5, 20])
def test_the_mean_varies_as_in_arch(oracle, mean_block):
    bootstrap = oracle("arch.bootstrap")
    generator = np.random.default_rng(7)
    noise = generator.standard_normal(401)
    series = noise[1:] + 0.6 * noise[:-1]
    ours = stationary_counts(400, 4_000, mean_block, 3) @ series / 400
    theirs = bootstrap.StationaryBootstrap(mean_block, series, seed=11)
    theirs = theirs.apply(np.mean, 4_000)[:, 0]
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.01)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.05)


def test_the_sharpe_ratio_of_a_resample_is_that_of_its_bars():
    returns = 0.001 + 0.01 * np.random.default_rng(0).standard_normal((90, 3))
    counts = stationary_counts(90, 100, 10, 5)
    found = bootstrapped_sharpe(returns, counts)
    for draw in (0, 57, 99):
        bars = np.repeat(returns, counts[draw].astype(int), axis=0)
        np.testing.assert_allclose(found[draw], bars.mean(axis=0) / bars.std(axis=0, ddof=1))


def test_a_resample_that_does_not_vary_has_no_sharpe_ratio():
    returns = np.zeros((40, 1))
    returns[3] = 0.01
    counts = stationary_counts(40, 200, 10, 0)
    found = bootstrapped_sharpe(returns, counts)[:, 0]
    np.testing.assert_array_equal(np.isnan(found), counts[:, 3] == 0)
    assert 0 < np.isnan(found).sum() < 200
