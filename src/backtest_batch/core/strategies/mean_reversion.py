"""Buy assets that have fallen below their average."""

from dataclasses import dataclass

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.strategies.base import invariant, one_of, require
from backtest_batch.core.strategies.signals import (
    DEGENERATE,
    DIRECTIONS,
    Direction,
    at,
    equal_weights,
    rolling_std,
    sma,
)


@dataclass(frozen=True, kw_only=True)
class MeanReversion:
    r"""Hold assets whose price is far from its own average, betting on a return to it.

    .. math:: z_t = \frac{P_t - \bar P_t}{s_t}

    with the mean and the standard deviation s (ddof 1) of the last ``window`` closes, this bar's
    included. Assets with ``z <= -entry_z`` are bought; with ``direction="long_short"`` those with
    ``z >= entry_z`` are sold short. All chosen assets of a bar have the same absolute weight, 1/n;
    if none is chosen, all is cash. There is no memory: an asset that is no longer that far away at
    a later decision is no longer held.

    An asset with fewer than ``window`` closes, or whose closes in the window are all the same, is
    not chosen, nor is one that is not a member of the universe. ``|z|`` cannot exceed
    ``(window - 1) / sqrt(window)`` (Thompson 1935), 4.2 for 20 bars and 0.7 for 2: with ``entry_z``
    above it the strategy never trades.

    Parameters
    ----------
    window
        Closes from which mean and standard deviation are computed, at least 2.
    entry_z
        Distance from the mean, in standard deviations, from which an asset is chosen.
    direction
        ``long_only`` or ``long_short``.
    """

    window: int = 20
    entry_z: float = 1.0
    direction: Direction = "long_only"

    def __post_init__(self) -> None:
        require(
            invariant(self.window >= 2, "window >= 2", window=self.window),
            invariant(0.0 < self.entry_z < np.inf, "0 < entry_z < inf", entry_z=self.entry_z),
            one_of("direction", self.direction, DIRECTIONS),
        )

    @property
    def warmup_bars(self) -> int:
        """``window``, the longest look-back, this bar's close included."""
        return self.window

    def target_weights(self, panel: Panel, decisions: IntArray) -> FloatArray:
        """Return weights of shape (n_decisions, n_assets) with a gross exposure of 1 or 0."""
        close = panel.fields["close"]
        price = at(close, decisions)
        deviation = rolling_std(close, decisions, self.window)
        z = np.divide(
            price - sma(close, decisions, self.window),
            deviation,
            out=np.zeros_like(price),
            where=deviation > DEGENERATE * price,
        )
        members = panel.eligible(decisions)
        shorts = (z >= self.entry_z) & members if self.direction == "long_short" else None
        return equal_weights((z <= -self.entry_z) & members, shorts)
