"""p-values of many tests, adjusted for their number, and the Sharpe ratio that is left."""

import math

import numpy as np

from backtest_batch.comparison.overfitting.trials import FloatArray


def sharpe_pvalues(sharpe: FloatArray, n_bars: int) -> FloatArray:
    """Return the two-sided p-value of each Sharpe ratio against zero.

    ``min(1, 2 (1 - Phi(SR sqrt(T))))``: the test of Harvey and Liu (2015), except that a ratio
    that is not positive counts as 1, since a loss is no sign of skill.
    """
    from scipy.special import ndtr

    return np.asarray(np.minimum(1.0, 2.0 * ndtr(-sharpe * math.sqrt(n_bars))))


def holm(pvalues: FloatArray, n_tests: int) -> FloatArray:
    """Return p-values adjusted by Holm (1979): family-wise error under any dependence.

    Sorted increasingly, ``p~_(i) = max_{j <= i} min(1, (N - j + 1) p_(j))``.

    Parameters
    ----------
    pvalues
        p-values of the tests at hand.
    n_tests
        N, all tests made, at least ``len(pvalues)``; those without a p-value count as 1.
    """
    order = np.argsort(pvalues, kind="stable")
    remaining = n_tests - np.arange(len(pvalues))
    stepped = np.maximum.accumulate(np.minimum(1.0, remaining * pvalues[order]))
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return adjusted


def benjamini_yekutieli(pvalues: FloatArray, n_tests: int) -> FloatArray:
    """Return p-values adjusted by Benjamini and Yekutieli (2001): false discovery rate.

    Sorted increasingly, ``p~_(i) = min_{j >= i} min(1, N c(N) p_(j) / j)`` with
    ``c(N) = sum_{i <= N} 1/i``; valid under any dependence.

    Parameters
    ----------
    pvalues
        p-values of the tests at hand.
    n_tests
        N, all tests made, at least ``len(pvalues)``; those without a p-value count as 1.
    """
    order = np.argsort(pvalues, kind="stable")
    harmonic = float(np.sum(1.0 / np.arange(1, n_tests + 1)))
    scaled = n_tests * harmonic / np.arange(1, len(pvalues) + 1) * pvalues[order]
    stepped = np.minimum.accumulate(np.minimum(1.0, scaled)[::-1])[::-1]
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return adjusted


def haircut_sharpe_ratio(sharpe: float, n_bars: int, n_tests: int) -> float:
    """Return the Sharpe ratio whose single test has the Holm-adjusted p-value of the best of N.

    ``Phi^-1(1 - p/2) / sqrt(T)`` with ``p = min(1, N p_1)``, where ``p_1`` is the p-value of the
    highest ratio, which Holm's procedure multiplies by N. Per period, like ``sharpe``; 0 when
    nothing is left.

    References
    ----------
    Harvey and Liu (2015), Backtesting.
    """
    from scipy.special import log_ndtr, ndtri_exp

    # In logarithms: p underflows to 0 at a t-statistic of 38, which planted skill reaches.
    log_half = math.log(n_tests) + float(log_ndtr(-sharpe * math.sqrt(n_bars)))
    if log_half >= math.log(0.5):
        return 0.0
    return -float(ndtri_exp(log_half)) / math.sqrt(n_bars)
