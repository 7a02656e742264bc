"""The cross-validation equals a plain implementation that slices the matrix."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from backtest_batch.analysis.overfitting.cscv import cross_validate


def brute_force(returns, blocks):
    n_bars, n_runs = returns.shape
    length = n_bars // blocks
    kept = returns[n_bars - blocks * length :]
    logits, losses = [], []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([np.arange(b * length, (b + 1) * length) for b in chosen])
        sharpe = []
        for rows in (kept[inside], np.delete(kept, inside, axis=0)):
            std = rows.std(axis=0)
            flat = std < 1e-12
            ratio = np.where(flat, 0.0, rows.mean(axis=0) / np.where(flat, 1.0, std))
            sharpe.append(np.round(ratio, 11))
        best = int(np.argmax(sharpe[0]))
        omega = rankdata(sharpe[1])[best] / (n_runs + 1)
        logits.append(np.log(omega / (1 - omega)))
        losses.append(sharpe[1][best] < 0)
    return np.array(logits), float(np.mean(losses))


def assert_equal_to_brute_force(returns, blocks):
    found = cross_validate(returns, blocks)
    logits, loss = brute_force(returns, blocks)
    assert found.probability == pytest.approx(np.mean(logits <= 0), abs=1e-12)
    assert found.probability_of_loss == pytest.approx(loss, abs=1e-12)
    np.testing.assert_allclose(np.sort(found.logits), np.sort(logits), atol=1e-12)


@pytest.mark.parametrize("n_runs", [2, 3, 10, 11, 64, 65])
@pytest.mark.parametrize(("n_bars", "blocks"), [(120, 6), (125, 6), (64, 8), (71, 8), (9, 2)])
def test_equal_to_brute_force(n_runs, n_bars, blocks):
    generator = np.random.default_rng(n_runs + n_bars)
    returns = 0.01 * generator.standard_normal((n_bars, n_runs))
    assert_equal_to_brute_force(returns, blocks)


@pytest.mark.oracle
def test_equal_to_brute_force_with_the_default_blocks():
    returns = 0.01 * np.random.default_rng(3).standard_normal((250, 7))
    assert_equal_to_brute_force(returns, 16)


@pytest.mark.parametrize("n_runs", [5, 6])
def test_ties_share_their_rank(n_runs):
    returns = 0.01 * np.random.default_rng(n_runs).standard_normal((83, n_runs))
    returns[:, 3] = returns[:, 1]
    # The same strategy at another exposure: equal but for rounding.
    returns[:, 4] = 0.3 * returns[:, 1]
    assert_equal_to_brute_force(returns, 8)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(8, 40))
def test_equal_to_brute_force_on_coarse_returns(seed, n_runs, n_bars):
    # Few values: many ties, runs that stand still for a while, equal columns.
    returns = np.random.default_rng(seed).integers(-1, 2, (n_bars, n_runs)) / 128
    assert_equal_to_brute_force(returns, 4)


def test_a_sum_that_is_zero_but_for_rounding_is_no_loss():
    # Out of sample 0.03 - 0.02 - 0.01 is nothing, and not less than nothing.
    best = np.r_[0.02, 0.01, 0.03, 0.03, -0.02, -0.01]
    other = np.r_[-0.02, 0.01, -0.03, 0.03, -0.01, 0.01]
    assert best[3:].sum() < 0.0
    assert_equal_to_brute_force(np.column_stack([best, other]), 2)


def test_equal_columns_tie_wherever_they_stand():
    returns = 0.01 * np.random.default_rng(9).standard_normal((160, 300))
    returns[:, 299] = returns[:, 0]
    found = cross_validate(returns, 4)
    shuffled = cross_validate(returns[:, np.random.default_rng(1).permutation(300)], 4)
    assert found.probability == shuffled.probability
    np.testing.assert_array_equal(np.sort(found.logits), np.sort(shuffled.logits))


def test_a_run_that_is_always_best_is_never_overfit():
    returns = 0.01 * np.random.default_rng(2).standard_normal((160, 4))
    returns[:, 2] += 0.05
    found = cross_validate(returns)
    assert (found.probability, found.probability_of_loss) == (0.0, 0.0)
    np.testing.assert_allclose(found.logits, np.log(4.0))
    assert len(found.logits) == 12_870


def test_two_mirrored_runs_are_always_overfit():
    # What one gains the other loses, and each gains as much as it loses over the whole.
    pattern = np.r_[0.01, 0.02, -0.01, -0.02]
    returns = np.column_stack([pattern, -pattern])
    assert cross_validate(returns, 2).probability == 1.0


@pytest.mark.parametrize(("shape", "blocks"), [((100, 1), 4), ((3, 2), 4), ((100, 2), 5)])
def test_what_cannot_be_validated(shape, blocks):
    with pytest.raises(ValueError, match="blocks"):
        cross_validate(np.ones(shape), blocks)
