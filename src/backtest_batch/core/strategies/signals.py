"""Signals that use no later bar, computed at decision bars only, and weights made from them."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from backtest_batch.arrays import BoolArray, FloatArray, IntArray

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
    """Return the values ``lag`` bars before each decision; NaN if that is before the first bar."""
    positions = checked_decisions(decisions, len(values)) - lag
    found = values[np.maximum(positions, 0)]
    found[positions < 0] = np.nan
    return found


def sma(values: FloatArray, decisions: npt.ArrayLike, window: int) -> FloatArray:
    """Return the mean of the last ``window`` values, this bar's included.

    It is summed as the distance from the last value, so that the average of a constant series is
    exactly its value.
    """
    from backtest_batch.core.strategies import kernels

    positions = checked_decisions(decisions, len(values))
    return kernels.window_means(_read_only(values), positions, window)


def ema(values: FloatArray, decisions: npt.ArrayLike, span: int) -> FloatArray:
    r"""Return the exponential moving average.

    .. math:: e_s = x_s, \qquad e_t = e_{t-1} + \frac{2}{span + 1} (x_t - e_{t-1})

    with s the asset's first value: what pandas calls ``ewm(span=span, adjust=False)``. NaN until
    the asset has ``span`` values, this bar's included, and at bars without a value.
    """
    from backtest_batch.core.strategies import kernels

    positions = checked_decisions(decisions, len(values))
    return kernels.emas(_read_only(values), positions, span)


def rolling_std(values: FloatArray, decisions: npt.ArrayLike, window: int) -> FloatArray:
    """Return the standard deviation (ddof 1) of the last ``window`` values, this bar's included."""
    from backtest_batch.core.strategies import kernels

    positions = checked_decisions(decisions, len(values))
    readable = _read_only(values)
    means = kernels.window_means(readable, positions, window)
    return kernels.window_stds(readable, positions, means, window)


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

    It needs ``window + 1`` prices. Dispersion from rounding alone (constant growth) is exactly 0.
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
    # Numba compiles separately for read-only and writeable arrays; a panel's are read-only.
    view = np.ascontiguousarray(values, dtype=np.float64).view()
    view.flags.writeable = False
    return view


Direction = Literal["long_only", "long_short"]
DIRECTIONS: tuple[Direction, ...] = ("long_only", "long_short")


def equal_weights(longs: BoolArray, shorts: BoolArray | None = None) -> FloatArray:
    """Return weights of equal size, adding up to a gross exposure of 1.

    Parameters
    ----------
    longs, shorts
        The chosen assets, shape (n_decisions, n_assets); no asset is in both.

    Returns
    -------
    ndarray of shape (n_decisions, n_assets)
        With n assets chosen in a row, +1/n for its longs and -1/n for its shorts; a row in which
        none is chosen is 0: cash.
    """
    weights = longs.astype(np.float64)
    if shorts is not None:
        weights -= shorts
    weights /= np.maximum(np.count_nonzero(weights, axis=1), 1)[:, None]
    return weights
