"""How long the blocks of the bootstrap should be: as long as the returns' own memory asks for.

Politis and White (2004), with the correction of Patton, Politis and White (2009), for the
stationary bootstrap.
"""

import math

import numpy as np

from backtest_batch.analysis.overfitting.samples import FloatArray, OverfittingSettings
from backtest_batch.analysis.overfitting.sharpe import DailyReturns, beta_slopes

_SAMPLED = 200
"""With more trials, the medians are those of this many."""

_DECIMALS = 1
"""More digits of an estimate say nothing, and would let the last bit of a sum change resamples."""

SHORTEST_BLOCK = 10.0
"""Lower bound of an automatic block.

The optimum of Politis and White has the least squared error of a variance. For weak dependence it
is one to five bars, with which the variance is too small and the test rejects too often.
docs/statistics.md has the measured sizes.
"""

FEWEST_BLOCKS = 25
"""A resample of fewer blocks varies too little: the test rejects too often, again."""


def automatic_block_lengths(returns: FloatArray) -> FloatArray:
    """Return the optimal mean block of the stationary bootstrap for the mean of each series.

    ``b = (g^2 / s^4)^(1/3) T^(1/3)`` with ``g = sum_k w(k/M) |k| R(k)`` and ``s^2 = sum_k w(k/M)
    R(k)``, where R are autocovariances, w the flat-top window ``min(1, 2 (1 - |k/M|))`` and M twice
    the first lag from which K autocorrelations in a row are within ``2 sqrt(log10(T) / T)`` of
    zero, K being 5 or, above a million bars, ``log10(T)``.

    Parameters
    ----------
    returns
        Shape (n_bars, n_series), at least 16 bars.

    Returns
    -------
    ndarray of shape (n_series,)
        In bars, 0 to ``ceil(min(3 sqrt(T), T / 3))``; NaN for a series that does not vary.

    References
    ----------
    Politis and White (2004), Automatic Block-Length Selection for the Dependent Bootstrap. Patton,
    Politis and White (2009), Correction to the same.
    """
    n_bars, n_series = returns.shape
    longest = math.ceil(min(3 * math.sqrt(n_bars), n_bars / 3))
    in_a_row = max(5, int(math.log10(n_bars)))
    last = min(math.ceil(math.sqrt(n_bars)) + in_a_row, n_bars - 2)
    centred = returns - returns.mean(axis=0)
    covariances = _autocovariances(centred, last)
    small = _correlations(centred, covariances) < 2 * math.sqrt(math.log10(n_bars) / n_bars)
    small &= covariances[0] > 1e-28
    windows = np.lib.stride_tricks.sliding_window_view(small, in_a_row, axis=0)[:-1].all(axis=-1)
    first = np.where(windows.any(axis=0), windows.argmax(axis=0), last)
    bandwidth = np.minimum(2 * np.maximum(first, 1), last)
    lags = np.arange(1, last + 1)[:, None]
    weights = np.clip(2 * (1 - lags / bandwidth), 0, 1)
    curvature = 2 * np.sum(weights * lags * covariances[1:], axis=0)
    long_run = covariances[0] + 2 * np.sum(weights * covariances[1:], axis=0)
    lengths = np.full(n_series, np.nan)
    varies = covariances[0] > 1e-28
    ratio = np.abs(curvature[varies]) / np.maximum(np.abs(long_run[varies]), 1e-300)
    lengths[varies] = np.minimum((ratio**2 * n_bars) ** (1 / 3), longest)
    return lengths


def _autocovariances(centred: FloatArray, last: int) -> FloatArray:
    """Return the autocovariances at lags 0 to ``last``, shape (last + 1, n_series)."""
    n_bars = len(centred)
    found = np.empty((last + 1, centred.shape[1]))
    # Series as rows: each product runs along memory.
    rows = np.ascontiguousarray(centred.T)
    for lag in range(last + 1):
        found[lag] = np.einsum("st,st->s", rows[:, lag:], rows[:, : n_bars - lag]) / n_bars
    return found


def _correlations(centred: FloatArray, covariances: FloatArray) -> FloatArray:
    """Return the absolute autocorrelations, each over the bars that its lag leaves."""
    n_bars = len(centred)
    lags = np.arange(len(covariances))
    running = np.cumsum(centred**2, axis=0)
    later, earlier = running[-1] - running[lags], running[n_bars - 2 - lags]
    scale = np.sqrt(np.maximum(later, 0) * earlier)
    return np.abs(covariances) * n_bars / np.where(scale > 0, scale, np.nan)


def mean_block_of(daily: DailyReturns, settings: OverfittingSettings) -> float:
    """Return the mean block with which a group of scenarios is resampled.

    Whole rows are resampled, so that all trials have one block: the largest of the median over the
    trials of r, the median of a, and the median over their benchmarks. It is at least
    :data:`SHORTEST_BLOCK` and, beyond that, at most one in :data:`FEWEST_BLOCKS` of the bars.

    Parameters
    ----------
    daily
        The returns of the group.
    settings
        A number as ``mean_block`` is taken as it is.
    """
    if settings.mean_block != "auto":
        return settings.mean_block
    positions = np.arange(len(daily.columns))
    if len(positions) > _SAMPLED:
        generator = np.random.default_rng(settings.seed)
        positions = np.sort(generator.choice(positions, _SAMPLED, replace=False))
    bases, where = np.unique(daily.bases[positions], return_inverse=True)
    r, benchmarks = daily.runs(positions), daily.benchmarks(bases)
    kinds = [r]
    known = np.asarray(np.isfinite(benchmarks).all(axis=0))
    if known.any():
        of_known = known[where]
        b = benchmarks[:, where[of_known]]
        kinds += [r[:, of_known] - beta_slopes(r[:, of_known], b) * b, benchmarks[:, known]]
    medians = [_median(automatic_block_lengths(kind)) for kind in kinds]
    longest = max(SHORTEST_BLOCK, daily.n_bars / FEWEST_BLOCKS)
    return round(min(max(SHORTEST_BLOCK, *medians), longest), _DECIMALS)


def _median(lengths: FloatArray) -> float:
    finite = lengths[np.isfinite(lengths)]
    return float(np.median(finite)) if len(finite) else 0.0
