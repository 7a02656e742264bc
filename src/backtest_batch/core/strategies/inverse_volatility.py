"""Hold less of assets that move more."""

from dataclasses import dataclass

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.strategies.base import invariant, require
from backtest_batch.core.strategies.signals import row_sums, volatility


@dataclass(frozen=True, kw_only=True)
class InverseVolatility:
    r"""Hold every asset in inverse proportion to its volatility.

    .. math:: w_j = \frac{1 / \sigma_j}{\sum_k 1 / \sigma_k}

    with sigma the standard deviation (ddof 1) of the last ``window`` simple returns. This is risk
    parity for assets that are equally correlated (Maillard, Roncalli and Teiletche 2010, "The
    Properties of Equally Weighted Risk Contribution Portfolios", section 2).

    An asset without ``window + 1`` prices gets 0, and so does one whose volatility is 0 (its price
    does not move, or grows by the same rate at every bar): no finite weight is inverse to it. When
    that leaves no asset, the row is cash. Where the data has a universe, only members are held.

    Parameters
    ----------
    window
        Returns from which the volatility is estimated, at least 2.
    """

    window: int = 60

    def __post_init__(self) -> None:
        require(invariant(self.window >= 2, "window >= 2", window=self.window))

    @property
    def warmup_bars(self) -> int:
        """``window``: at that position (counted from 0) the first ``window`` returns are known."""
        return self.window

    def target_weights(self, panel: Panel, decisions: IntArray) -> FloatArray:
        """Return weights of shape (n_decisions, n_assets), each row adding up to 1 or all 0."""
        sigma = volatility(panel.fields["close"], decisions, self.window)
        measured = (sigma > 0.0) & panel.eligible(decisions)
        # Relative to the calmest asset, so that no reciprocal is too large for a float.
        calmest = np.min(sigma, axis=1, initial=np.inf, where=measured)[:, None]
        weights = np.zeros_like(sigma)
        np.divide(calmest, sigma, out=weights, where=measured)
        total = row_sums(weights)
        np.divide(weights, total, out=weights, where=total > 0.0)
        return weights
