"""A lower bound of the true Sharpe ratio that holds for all trials at once.

Paleologo (2024), The Elements of Quantitative Investing, section 8.3: the Rademacher Anti-Serum.
The more easily the trials' returns follow random signs, the less the best of them means.
"""

import math

import numpy as np

from backtest_batch.analysis.overfitting.samples import FloatArray

DRAWS = 250
"""Draws of signs. The error of the complexity that this leaves is about one hundredth of it."""

DELTA = 0.05
"""The chance that the bound fails for any trial."""


def random_signs(n_bars: int, draws: int, seed: int) -> FloatArray:
    """Return independent signs, +1 or -1 with equal chance, shape (draws, n_bars)."""
    generator = np.random.default_rng(seed)
    ones = generator.integers(0, 2, (draws, n_bars), dtype=np.int8)
    return np.asarray(2.0 * ones - 1.0, dtype=np.float64)


def aligned(signs: FloatArray, returns: FloatArray, std: FloatArray) -> FloatArray:
    """Return how far each trial follows each draw of signs, shape (draws, n_series).

    ``sum_t e_t r_t / (s T)``; minus infinity for a trial that does not vary.

    Parameters
    ----------
    signs
        Shape (draws, n_bars).
    returns, std
        r, shape (n_bars, n_series), and s, its standard deviation (ddof 1).
    """
    varies = std > 0
    products = signs @ returns / (np.where(varies, std, 1.0) * len(returns))
    products[:, ~varies] = -np.inf
    return np.asarray(products)


def lower_bounds(
    sharpe: FloatArray, complexity: float, n_bars: int, n_trials: int, delta: float = DELTA
) -> FloatArray:
    """Return ratios below which no true Sharpe ratio lies, but with probability ``delta``.

    ``SR_k - 2 R - 3 sqrt(2 ln(2 / delta) / T) - sqrt(2 ln(2 N / delta) / T)``. The first penalty is
    for choosing among the trials, the second for estimating R from one history, the third for
    estimating the ratios themselves (returns with normal tails, independent in time).

    Parameters
    ----------
    sharpe
        Sharpe ratios per bar, shape (n_runs,).
    complexity
        R, the Rademacher complexity: the mean over draws of the largest :func:`aligned` value. It
        is 0 for one trial, or trials that are all the same, and at most ``sqrt(2 ln N / T)``.
    n_bars, n_trials
        T and N.
    delta
        The probability that the bound fails for any of the trials.

    References
    ----------
    Paleologo (2024), The Elements of Quantitative Investing, procedure 8.2.
    """
    snooping = 2 * max(complexity, 0.0)
    estimation = 3 * math.sqrt(2 * math.log(2 / delta) / n_bars)
    tails = math.sqrt(2 * math.log(2 * n_trials / delta) / n_bars)
    return sharpe - snooping - estimation - tails
