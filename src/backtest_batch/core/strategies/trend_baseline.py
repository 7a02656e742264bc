"""Hold rising assets: a moving-average crossover."""

from dataclasses import dataclass
from typing import Literal

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.strategies.base import invariant, one_of, require
from backtest_batch.core.strategies.signals import DIRECTIONS, Direction, ema, equal_weights, sma

AVERAGES = {"ema": ema, "sma": sma}


@dataclass(frozen=True, kw_only=True)
class TrendBaseline:
    """Hold the assets whose fast moving average is above their slow one.

    Rising assets have equal weights: with n assets rising at a bar, each gets 1/n, so that the book
    is fully invested while anything rises; if none rises, all is cash. With
    ``direction="long_short"``, falling assets (fast below slow) are sold short with the same
    absolute weight, 1/n with n counting the rising and the falling. Assets whose averages are equal
    are neither.

    The averages are of closes: ``sma`` the mean of the last ``fast`` or ``slow`` of them, this
    bar's included; ``ema`` the recursion ``e += 2 / (span + 1) * (close - e)`` that starts at the
    asset's first close (``adjust=False`` in pandas). For both, an asset takes part once it has
    ``slow`` closes, this bar's included, and while it is a member of the universe.

    The rule is that of Brock, Lakonishok and LeBaron (1992), "Simple Technical Trading Rules and
    the Stochastic Properties of Stock Returns", Journal of Finance 47(5), without their band.

    Parameters
    ----------
    average
        ``ema`` or ``sma``.
    fast, slow
        Bars of the two averages; ``1 <= fast < slow``.
    direction
        ``long_only`` or ``long_short``.
    """

    average: Literal["ema", "sma"] = "ema"
    fast: int = 20
    slow: int = 60
    direction: Direction = "long_only"

    def __post_init__(self) -> None:
        require(
            one_of("average", self.average, AVERAGES),
            invariant(self.fast >= 1, "fast >= 1", fast=self.fast),
            invariant(self.fast < self.slow, "fast < slow", fast=self.fast, slow=self.slow),
            one_of("direction", self.direction, DIRECTIONS),
        )

    @property
    def warmup_bars(self) -> int:
        """``slow``, the longest look-back, this bar's close included."""
        return self.slow

    def target_weights(self, panel: Panel, decisions: IntArray) -> FloatArray:
        """Return weights of shape (n_decisions, n_assets) with a gross exposure of 1 or 0."""
        average = AVERAGES[self.average]
        close = panel.fields["close"]
        fast = average(close, decisions, self.fast)
        slow = average(close, decisions, self.slow)
        members = panel.eligible(decisions)
        shorts = (fast < slow) & members if self.direction == "long_short" else None
        return equal_weights((fast > slow) & members, shorts)
