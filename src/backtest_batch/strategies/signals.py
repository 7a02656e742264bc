"""Causal signals, computed at the decision bars only.

Each function takes ``values`` of shape (n_bars, n_assets) and the positions of the decision bars,
strictly increasing, and returns an array of shape (n_decisions, n_assets). Row i depends on the
rows ``<= decisions[i]`` of ``values`` and on nothing else, bit for bit: neither on later rows, nor
on which other decisions are asked for, nor on the number of assets. Sums therefore run over the
bars one after another, per asset; numpy's own reductions group their terms by the shape of the
array. NaN stands where an asset has not a full window of numbers.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from backtest_batch.market.panel import BoolArray, FloatArray, IntArray

DEGENERATE = 1e-12
"""Dispersion at or below this (of returns or factors) is rounding, not information."""


def checked_decisions(decisions: npt.ArrayLike, n_bars: int) -> IntArray:
    """Return the decisions as a contiguous int64 array.

    Raises
    ------
    ValueError
        When they are not strictly increasing positions of bars.
    """
    positions = np.ascontiguousarray(decisions, dtype=np.int64)
    if positions.ndim != 1:
        raise ValueError(f"`decisions` must have one axis, but got shape={positions.shape}.")
    if positions.size == 0:
        return positions
    if positions.size > 1 and not np.all(positions[1:] > positions[:-1]):
        raise ValueError("`decisions` must be strictly increasing.")
    if positions[0] < 0 or positions[-1] >= n_bars:
        raise ValueError(
            f"`0 <= decision < n_bars` must hold, but got decisions from {positions[0]} to "
            f"{positions[-1]}, n_bars={n_bars}."
        )
    return positions


def at(values: FloatArray, decisions: npt.ArrayLike, lag: int = 0) -> FloatArray:
    """Return the values ``lag`` bars before each decision; NaN where that is before the first."""
    positions = checked_decisions(decisions, len(values)) - lag
    found = values[np.maximum(positions, 0)]
    found[positions < 0] = np.nan
    return found


def sma(values: FloatArray, decisions: npt.ArrayLike, window: int) -> FloatArray:
    """Return the mean of the last ``window`` values, this bar's included.

    It is summed as the distance from the last value, so that the average of a series that stands
    still is exactly that value.
    """
    return _window_means(_read_only(values), checked_decisions(decisions, len(values)), window)


def ema(values: FloatArray, decisions: npt.ArrayLike, span: int) -> FloatArray:
    r"""Return the exponential moving average.

    .. math:: e_s = x_s, \qquad e_t = e_{t-1} + \frac{2}{span + 1} (x_t - e_{t-1})

    with s the asset's first value: what pandas calls ``ewm(span=span, adjust=False)``. NaN until
    the asset has ``span`` values, this bar's included, and at bars without a value.
    """
    return _emas(_read_only(values), checked_decisions(decisions, len(values)), span)


def rolling_std(values: FloatArray, decisions: npt.ArrayLike, window: int) -> FloatArray:
    """Return the standard deviation (ddof 1) of the last ``window`` values, this bar's included."""
    positions = checked_decisions(decisions, len(values))
    readable = _read_only(values)
    return _window_stds(readable, positions, _window_means(readable, positions, window), window)


def simple_return(
    prices: FloatArray, decisions: npt.ArrayLike, lookback: int, skip: int = 0
) -> FloatArray:
    """Return the simple return from ``lookback`` bars ago to ``skip`` bars ago.

    NaN also where the asset has no price at the decision bar itself.
    """
    change = at(prices, decisions, skip) / at(prices, decisions, lookback) - 1.0
    change[np.isnan(at(prices, decisions))] = np.nan
    return change


def volatility(prices: FloatArray, decisions: npt.ArrayLike, window: int) -> FloatArray:
    """Return the standard deviation (ddof 1) of the last ``window`` simple returns, per bar.

    It needs ``window + 1`` prices. Dispersion that is rounding (constant growth) is exactly 0.
    """
    positions = checked_decisions(decisions, len(prices))
    returns = np.full_like(prices, np.nan)
    np.divide(prices[1:], prices[:-1], out=returns[1:])
    returns -= 1.0
    deviation = rolling_std(returns, positions, window)
    deviation[deviation <= DEGENERATE] = 0.0
    return deviation


def cross_sectional_zscore(values: FloatArray, among: BoolArray) -> FloatArray:
    """Return z-scores across the assets of each row (population standard deviation).

    Parameters
    ----------
    values
        Shape (n_decisions, n_assets).
    among
        The assets that are compared, same shape. Others get 0, and so does a whole row whose
        dispersion is rounding: it says nothing about the assets.
    """
    count = np.maximum(np.count_nonzero(among, axis=1), 1)[:, None]
    held = np.where(among, values, 0.0)
    deviations = np.where(among, held - row_sums(held) / count, 0.0)
    dispersion = np.sqrt(row_sums(deviations * deviations) / count)
    informative = dispersion > DEGENERATE
    scores = np.zeros_like(deviations)
    np.divide(deviations, dispersion, out=scores, where=informative)
    return scores


def row_sums(values: FloatArray) -> FloatArray:
    """Return the sum of each row, shape (n_rows, 1), added from left to right."""
    if values.shape[1] == 0:
        return np.zeros((len(values), 1))
    return np.cumsum(values, axis=1)[:, -1:]


def _read_only(values: FloatArray) -> FloatArray:
    # Numba compiles read-only and writeable arrays apart; a panel's are read-only.
    view = np.ascontiguousarray(values, dtype=np.float64).view()
    view.flags.writeable = False
    return view


@njit(cache=True, error_model="numpy", nogil=True)
def _window_means(values: FloatArray, decisions: IntArray, window: int) -> FloatArray:
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
def _window_stds(
    values: FloatArray, decisions: IntArray, means: FloatArray, window: int
) -> FloatArray:
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
def _emas(values: FloatArray, decisions: IntArray, span: int) -> FloatArray:
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
