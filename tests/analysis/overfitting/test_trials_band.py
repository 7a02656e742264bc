"""How many independent trials a sweep amounts to."""

import math

import numpy as np
import pytest
from scipy.stats import entropy

from backtest_batch.analysis.overfitting.samples import samples
from backtest_batch.analysis.overfitting.sharpe import DailyReturns, expected_maximum
from backtest_batch.analysis.overfitting.trials_band import (
    MOST_TRIALS,
    correlations,
    effective_rank,
    optimal_clusters,
    trials_band,
    turning_point,
)
from tests.analysis.overfitting.test_moments import make


def effective_trials(daily, positions, seed):
    return trials_band(daily, positions, seed).participation


def test_the_effective_number_of_trials():
    base = 0.01 * np.random.default_rng(0).standard_normal((4_000, 40))
    positions = np.arange(40)

    def effective(returns):
        n_runs = returns.shape[1]
        trials = make(n_bars=4_000, n_runs=n_runs, scenarios=("a",), returns=returns)
        return effective_trials(DailyReturns(trials, samples(trials)), positions[:n_runs], 0)

    assert effective(base) == pytest.approx(40, rel=0.02)
    assert effective(np.repeat(base[:, :1], 5, axis=1)) == pytest.approx(1.0)
    assert effective(np.hstack([base[:, :2], -3 * base[:, :2]])) == pytest.approx(2.0, abs=0.01)
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(base.T))
    assert effective(base) == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def test_the_effective_number_of_very_many_trials_is_estimated():
    generator = np.random.default_rng(0)
    returns = generator.standard_normal((400, 1)) + generator.standard_normal((400, 700))
    trials = make(n_bars=400, n_runs=700, scenarios=("a",), returns=returns)
    found = effective_trials(DailyReturns(trials, samples(trials)), np.arange(700), 0)
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(returns.T))
    exact = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert found == pytest.approx(exact, rel=0.02)


def blocks(n_blocks, n_runs, noise, seed=0, n_bars=500):
    """Return runs in groups of different sizes, and the group of each."""
    generator = np.random.default_rng(seed)
    groups = np.sort(np.r_[np.arange(n_blocks), generator.integers(0, n_blocks, n_runs - n_blocks)])
    ideas = generator.standard_normal((n_bars, n_blocks))
    return ideas[:, groups] + noise * generator.standard_normal((n_bars, n_runs)), groups


@pytest.mark.parametrize(
    ("matrix", "rank"),
    [
        (np.eye(3), 3.0),
        (np.ones((4, 4)), 1.0),
        # The examples of Zoonekynd's code for Lopez de Prado, Lipton and Zoonekynd (2025).
        (np.array([[10, 1], [1, 10]]) / 10, 1.99),
        (np.array([[10, 1, 7], [1, 10, 8], [7, 8, 10]]) / 10, 1.84),
    ],
)
def test_the_effective_rank(matrix, rank):
    assert effective_rank(matrix) == pytest.approx(rank, abs=0.01)


def test_the_effective_rank_is_the_exponential_of_an_entropy():
    matrix = correlations(blocks(4, 20, 0.5)[0])
    expected = math.exp(entropy(np.maximum(np.linalg.eigvalsh(matrix), 1e-15)))
    assert effective_rank(matrix) == pytest.approx(expected)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("n_blocks", "n_runs", "noise"), [(10, 80, 0.1), (10, 80, 0.5), (5, 80, 1.0), (3, 60, 0.3),
                                      (4, 20, 0.3), (2, 5, 0.2)],
)  # fmt: skip
def test_planted_clusters_are_found(n_blocks, n_runs, noise, seed):
    returns, groups = blocks(n_blocks, n_runs, noise, seed)
    found = optimal_clusters(correlations(returns), 1)
    assert found.max() + 1 == n_blocks
    # The same groups, whatever their numbers.
    assert len({*zip(groups.tolist(), found.tolist(), strict=True)}) == n_blocks


@pytest.mark.oracle
def test_the_silhouettes_are_those_of_scikit_learn():
    from sklearn.metrics import silhouette_samples

    from backtest_batch.analysis.overfitting import trials_band as module

    matrix = correlations(blocks(6, 40, 0.8)[0])
    labels = optimal_clusters(matrix, 1)
    points = np.sqrt((1 - np.clip(matrix, -1, 1)) / 2)
    found = module._silhouettes(module._distances(points), labels)
    np.testing.assert_allclose(found, silhouette_samples(points, labels), atol=1e-6)


def test_equal_seeds_give_equal_clusters_and_equal_runs_are_one():
    matrix = correlations(blocks(5, 50, 2.0)[0])
    np.testing.assert_array_equal(optimal_clusters(matrix, 3), optimal_clusters(matrix, 3))
    assert optimal_clusters(np.ones((12, 12)), 0).tolist() == [0] * 12
    assert sorted(optimal_clusters(np.eye(2), 0).tolist()) == [0, 1]


def test_a_sweep_of_many_runs_is_estimated_from_some():
    returns, _ = blocks(6, 700, 0.4, n_bars=400)
    trials = make(n_bars=400, n_runs=700, scenarios=("a",), returns=returns)
    band = trials_band(DailyReturns(trials, samples(trials)), np.arange(700), 0)
    matrix = correlations(returns)
    assert band.onc == 6
    assert band.effective_rank == pytest.approx(effective_rank(matrix), rel=0.03)
    assert band.participation == pytest.approx(np.trace(matrix) ** 2 / np.sum(matrix**2), rel=0.03)
    noise = np.random.default_rng(1).standard_normal((2_000, 700))
    alone = make(n_bars=2_000, n_runs=700, scenarios=("a",), returns=noise)
    band = trials_band(DailyReturns(alone, samples(alone)), np.arange(700), 0)
    assert band.effective_rank == pytest.approx(effective_rank(correlations(noise)), rel=0.05)


@pytest.mark.parametrize("sharpe", [0.02, 0.05, 0.1])
def test_from_the_turning_point_on_chance_shows_more(sharpe):
    n_trials = turning_point(sharpe, 0.02)
    assert 0.02 * expected_maximum(n_trials) > sharpe
    assert 0.02 * expected_maximum(n_trials - 1) <= sharpe


def test_what_no_number_of_trials_turns_and_what_the_first_does():
    assert turning_point(0.5, 0.02) is None
    assert turning_point(-0.1, 0.02) == 1
    assert turning_point(0.0, 0.02) == 2
    limit = 0.02 * expected_maximum(MOST_TRIALS)
    assert turning_point(limit * 0.999, 0.02) <= MOST_TRIALS
