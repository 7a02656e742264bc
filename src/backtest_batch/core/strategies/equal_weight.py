"""The same weight in everything."""

from dataclasses import dataclass
from typing import ClassVar

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.strategies.signals import checked_decisions, equal_weights


@dataclass(frozen=True, kw_only=True)
class EqualWeight:
    """Hold every asset that has a price, and is a member, at the decision bar; weight 1/n each.

    It is the yardstick of DeMiguel, Garlappi and Uppal (2009), "Optimal Versus Naive
    Diversification", Review of Financial Studies 22(5), and this package's benchmark.
    """

    warmup_bars: ClassVar[int] = 0

    def target_weights(self, panel: Panel, decisions: IntArray) -> FloatArray:
        """Return weights of shape (n_decisions, n_assets), each row adding up to 1."""
        return equal_weights(panel.eligible(checked_decisions(decisions, panel.n_bars)))
