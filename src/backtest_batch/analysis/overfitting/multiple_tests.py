"""Tests of the best of many: the stationary bootstrap, SPA and StepM, and corrected p-values.

The bootstrap is a matrix of counts. A resample enters the statistics only through sums over bars,
so it is enough to know how often it contains each bar: the sums of all resamples for all runs are
one matrix product.

The reality check, SPA and StepM compare the largest Sharpe ratio, ``t = max_k m_k / s_k``, with its
distribution over resamples in which no run has skill, ``max_k (m*_k - mu_k) / s_k``; s_k stays
fixed.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backtest_batch.analysis.overfitting.samples import FloatArray, IntArray

# Do not change: random numbers are drawn in portions of this size, so another value changes them.
_DRAWS_AT_ONCE = 100


def stationary_counts(n_bars: int, draws: int, mean_block: float, seed: int) -> FloatArray:
    """Return how often each resample of the stationary bootstrap contains each bar.

    Blocks start at uniformly drawn bars, have geometric lengths of mean ``mean_block`` and wrap
    around at the end; the last one is cut so that a resample has as many bars as the sample.

    Parameters
    ----------
    n_bars
        T, the number of bars.
    draws
        B, the number of resamples.
    mean_block
        Mean length of a block in bars, at least 1; 1 draws single bars independently.
    seed
        Seed of the draws.

    Returns
    -------
    ndarray of shape (draws, n_bars)
        Counts as float64 (for matrix products); each row sums to ``n_bars``.

    References
    ----------
    Politis and Romano (1994), The Stationary Bootstrap.
    """
    generator = np.random.default_rng(seed)
    counts = np.empty((draws, n_bars))
    for first in range(0, draws, _DRAWS_AT_ONCE):
        rows = counts[first : first + _DRAWS_AT_ONCE]
        _count(*_draw(n_bars, len(rows), mean_block, generator), into=rows)
    return counts


def _draw(
    n_bars: int, draws: int, mean_block: float, generator: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Return where the blocks of each resample start, and how long they are."""
    lengths = np.empty((draws, 0), dtype=np.int64)
    while lengths.shape[1] == 0 or lengths.sum(axis=1).min() < n_bars:
        more = generator.geometric(1.0 / mean_block, (draws, int(1.2 * n_bars / mean_block) + 10))
        lengths = np.hstack([lengths, np.minimum(more, n_bars)])
    ends = np.minimum(lengths.cumsum(axis=1), n_bars)
    lengths = np.diff(ends, axis=1, prepend=0)
    return generator.integers(0, n_bars, lengths.shape), lengths


def _count(starts: IntArray, lengths: IntArray, into: FloatArray) -> None:
    """Count how many blocks of each resample cover each bar.

    A block adds one to every bar it covers: +1 where it starts, -1 just after its end, summed
    cumulatively along the bars. A block that wraps around ends among the first bars, and starts a
    second time at the first bar.
    """
    draws, n_bars = into.shape
    ends = starts + lengths
    wraps = ends > n_bars
    ends[wraps] -= n_bars
    width = n_bars + 1  # one more, for blocks that end with the last bar
    first_of_row = np.arange(draws)[:, None] * width
    steps = np.bincount((first_of_row + starts).ravel(), minlength=draws * width)
    steps -= np.bincount((first_of_row + ends).ravel(), minlength=draws * width)
    steps = steps.reshape(draws, width)
    steps[:, 0] += wraps.sum(axis=1)
    np.cumsum(steps[:, :n_bars], axis=1, out=into)


def bootstrapped_sharpe(returns: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the Sharpe ratio (per bar, ddof 1) of every resample of each series.

    Parameters
    ----------
    returns
        Shape (n_bars, n_series).
    counts
        Shape (draws, n_bars), of :func:`stationary_counts`.

    Returns
    -------
    ndarray of shape (draws, n_series)
        NaN where a resample does not vary.
    """
    n_bars, n_series = returns.shape
    mean = returns.mean(axis=0)
    centred = returns - mean
    sums = counts @ np.hstack([centred, centred**2]) / n_bars
    shift = sums[:, :n_series]
    variance = (sums[:, n_series:] - shift**2) * n_bars / (n_bars - 1)
    floor = 1e-12 * centred.var(axis=0)
    return np.asarray((mean + shift) / np.sqrt(np.where(variance > floor, variance, np.nan)))


LEVEL = 0.05
"""Level of the tests, and family-wise error of StepM."""

_COLUMNS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class SuperiorAbility:
    """Results of the tests of the largest Sharpe ratio.

    Attributes
    ----------
    statistic
        t, the largest Sharpe ratio per bar.
    reality_check_pvalue
        White (2000): every run is taken to be as good as zero.
    spa_pvalue
        Hansen (2005), consistent choice: runs clearly worse than zero do not count.
    survivors
        Positions of the runs that StepM (Romano and Wolf 2005) finds better than zero.
    null_maxima
        The SPA test's resampled maxima, shape (draws,).
    """

    statistic: float
    reality_check_pvalue: float
    spa_pvalue: float
    survivors: IntArray
    null_maxima: FloatArray


def superior_ability(
    mean: FloatArray, std: FloatArray, deviations: FloatArray, n_bars: int
) -> SuperiorAbility:
    """Test the largest Sharpe ratio of many runs against zero.

    Parameters
    ----------
    mean, std
        m and s (ddof 1, positive) of the runs' returns, shape (n_runs,).
    deviations
        ``m* - m``: resampled means minus the mean, shape (draws, n_runs).
    n_bars
        T, above e.

    Returns
    -------
    SuperiorAbility
        p-values are ``(1 + #{null >= t}) / (1 + draws)`` (Davison and Hinkley 1997), so that none
        is zero; StepM uses the SPA test's null distribution and names at least one run exactly
        when ``spa_pvalue <= LEVEL``.

    References
    ----------
    White (2000), A Reality Check for Data Snooping. Hansen (2005), A Test for Superior Predictive
    Ability. Romano and Wolf (2005), Stepwise Multiple Testing as Formalized Data Snooping.
    """
    ratio = mean / std
    statistic = float(ratio.max())
    poor = ratio < -math.sqrt(2 * math.log(math.log(n_bars)) / n_bars)
    # mu = m gives m* - m; mu = 0 gives m* itself, which is lower by |m| because m < 0.
    shift = np.where(poor, mean, 0.0)
    everyone = np.ones(len(mean), dtype=np.bool_)
    reality = _null_maxima(deviations, np.zeros_like(mean), std, everyone)
    null = _null_maxima(deviations, shift, std, everyone)
    return SuperiorAbility(
        statistic=statistic,
        reality_check_pvalue=null_pvalue(statistic, reality),
        spa_pvalue=null_pvalue(statistic, null),
        survivors=_step_down(ratio, shift, std, deviations, null),
        null_maxima=null,
    )


def null_pvalue(statistic: float, null: FloatArray) -> float:
    """Return ``(1 + #{null >= t}) / (1 + draws)``, which is never zero."""
    return (1 + int(np.count_nonzero(null >= statistic))) / (1 + len(null))


def _null_maxima(
    deviations: FloatArray, shift: FloatArray, std: FloatArray, active: npt.NDArray[np.bool_]
) -> FloatArray:
    """Return each draw's largest null ratio among the active runs, without a large copy."""
    maxima = np.full(len(deviations), -np.inf)
    for first in range(0, len(std), _COLUMNS_AT_ONCE):
        part = slice(first, first + _COLUMNS_AT_ONCE)
        chosen = active[part]
        if chosen.any():
            ratios = (deviations[:, part] + shift[part]) / std[part]
            np.maximum(maxima, ratios[:, chosen].max(axis=1), out=maxima)
    return maxima


def critical_ratio(null: FloatArray) -> float:
    """Return the value that a ratio must exceed for its p-value to be at most LEVEL."""
    allowed = math.floor(LEVEL * (1 + len(null)) + 1e-9) - 1
    return float(np.sort(null)[::-1][allowed])


def _step_down(
    ratio: FloatArray, shift: FloatArray, std: FloatArray, deviations: FloatArray, null: FloatArray
) -> IntArray:
    active = np.ones(len(ratio), dtype=np.bool_)
    while True:
        found = active & (ratio > critical_ratio(null))
        active &= ~found
        if not found.any() or not active.any():
            return np.flatnonzero(~active).astype(np.int64)
        null = _null_maxima(deviations, shift, std, active)


def sharpe_pvalues(sharpe: FloatArray, n_bars: int) -> FloatArray:
    """Return the two-sided p-value of each Sharpe ratio against zero.

    ``min(1, 2 (1 - Phi(SR sqrt(T))))``: the test of Harvey and Liu (2015), except that the p-value
    of a ratio that is not positive is 1, since a loss is no sign of skill.
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
    remaining = float(n_tests) - np.arange(len(pvalues))
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
    scaled = n_tests * harmonic_number(n_tests) / np.arange(1, len(pvalues) + 1) * pvalues[order]
    stepped = np.minimum.accumulate(np.minimum(1.0, scaled)[::-1])[::-1]
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return adjusted


def harmonic_number(n: int) -> float:
    """Return ``sum_{i <= n} 1/i``; above 10,000 as ``psi(n + 1) + gamma``, psi being digamma."""
    if n <= _SUMMED:
        return float(np.sum(1.0 / np.arange(1, n + 1)))
    from scipy.special import digamma

    return float(digamma(float(n) + 1.0)) + float(np.euler_gamma)


_SUMMED = 10_000


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
