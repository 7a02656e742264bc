"""The loops behind the signals, compiled.

Sums run over the bars one after another, separately for each asset: their bits depend only on their
terms. ``values`` have shape (n_bars, n_assets), ``decisions`` are increasing positions of bars, and
results have shape (n_decisions, n_assets).
"""

import numpy as np
from numba import njit

from backtest_batch.arrays import FloatArray, IntArray


@njit(cache=True, error_model="numpy", nogil=True)
def window_means(values: FloatArray, decisions: IntArray, window: int) -> FloatArray:
    """Return the mean of each window, NaN where it is not full.

    It is summed as the distance from the window's last value, so a constant window is exact.
    """
    n_assets = values.shape[1]
    means = np.full((decisions.size, n_assets), np.nan)
    for i in range(decisions.size):
        end = decisions[i] + 1
        if end < window:
            continue
        last = values[end - 1]
        total = np.zeros(n_assets)
        for t in range(end - window, end):
            for j in range(n_assets):
                total[j] += values[t, j] - last[j]
        for j in range(n_assets):
            means[i, j] = last[j] + total[j] / window
    return means


@njit(cache=True, error_model="numpy", nogil=True)
def window_stds(
    values: FloatArray, decisions: IntArray, means: FloatArray, window: int
) -> FloatArray:
    """Return the standard deviation (ddof 1) of each window, given its mean."""
    n_assets = values.shape[1]
    stds = np.full((decisions.size, n_assets), np.nan)
    for i in range(decisions.size):
        end = decisions[i] + 1
        if end < window:
            continue
        mean = means[i]
        total = np.zeros(n_assets)
        for t in range(end - window, end):
            for j in range(n_assets):
                deviation = values[t, j] - mean[j]
                total[j] += deviation * deviation
        for j in range(n_assets):
            stds[i, j] = np.sqrt(total[j] / (window - 1))
    return stds


@njit(cache=True, error_model="numpy", nogil=True)
def emas(values: FloatArray, decisions: IntArray, span: int) -> FloatArray:
    """Return the exponential moving averages, NaN before ``span`` values and at missing ones."""
    n_assets = values.shape[1]
    averages = np.full((decisions.size, n_assets), np.nan)
    step = 2.0 / (span + 1.0)
    level = np.zeros(n_assets)
    seen = np.zeros(n_assets, dtype=np.int64)
    first = 0
    for i in range(decisions.size):
        last = decisions[i]
        for t in range(first, last + 1):
            for j in range(n_assets):
                value = values[t, j]
                if np.isnan(value):
                    continue
                level[j] = value if seen[j] == 0 else level[j] + step * (value - level[j])
                seen[j] += 1
        first = last + 1
        for j in range(n_assets):
            if seen[j] >= span and not np.isnan(values[last, j]):
                averages[i, j] = level[j]
    return averages
