"""From a choice of assets to weights."""

from typing import Literal

import numpy as np

from backtest_batch.market.panel import BoolArray, FloatArray

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
