"""Buy the best and sell short the worst assets by a combination of factors."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.strategies.base import invariant, require
from backtest_batch.core.strategies.signals import (
    DEGENERATE,
    cross_sectional_zscore,
    simple_return,
    volatility,
)

FACTORS = ("momentum", "low_volatility", "short_term_reversal")


@dataclass(frozen=True, kw_only=True)
class MultifactorLongShort:
    r"""Rank the assets by a weighted sum of factors; long the top, short the bottom quantile.

    The factors of an asset at bar t, from its closes P:

    - ``momentum``: return from t - momentum_lookback to t - momentum_skip (Jegadeesh and Titman
      1993, "Returns to Buying Winners and Selling Losers", Journal of Finance 48(1));
    - ``low_volatility``: minus the standard deviation (ddof 1) of the last ``volatility_lookback``
      simple returns (Blitz and van Vliet 2007, "The Volatility Effect", Journal of Portfolio
      Management 34(1));
    - ``short_term_reversal``: minus the return over the last ``reversal_lookback`` bars (Jegadeesh
      1990, "Evidence of Predictable Behavior of Security Returns", Journal of Finance 45(3)).

    Each is z-scored across the members of the universe that have all factors in use (population
    standard deviation; a factor that is the same for all of them scores 0), and the score of an
    asset is the weighted mean

    .. math:: s_j = \sum_f factors_f \, z_{fj} / \sum_f |factors_f|

    Of n ranked assets the first ``k = max(1, floor(quantile * n))`` are bought and the last k are
    sold short, each leg with equal weights; k is at most n // 2, so that the legs never overlap.
    The long leg adds up to ``(gross_exposure + net_exposure) / 2`` and the short leg to
    ``(gross_exposure - net_exposure) / 2``. Equal scores rank by the position of the symbol, the
    first one highest. A bar with fewer than two ranked assets, or where all score the same, holds
    cash.

    Parameters
    ----------
    factors
        Weights of the factors by name. One that is absent or 0 is left out: it needs no history
        and does not count for ``warmup_bars``. A negative weight reverses a factor. Only the
        proportions count.
    momentum_lookback, momentum_skip
        Bars; ``0 <= momentum_skip < momentum_lookback``. The skipped bars keep the reversal of the
        last month out of the momentum.
    volatility_lookback
        Returns, at least 2.
    reversal_lookback
        Bars, at least 1.
    quantile
        Fraction of the ranked assets in each leg, in (0, 0.5].
    gross_exposure
        Sum of the absolute weights, before the cap ``max_gross_exposure`` of the run.
    net_exposure
        Sum of the weights, between -gross_exposure and gross_exposure.
    """

    factors: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FACTORS, 1.0))
    momentum_lookback: int = 252
    momentum_skip: int = 21
    volatility_lookback: int = 60
    reversal_lookback: int = 21
    quantile: float = 0.2
    gross_exposure: float = 1.0
    net_exposure: float = 0.0

    def __post_init__(self) -> None:
        require(
            *_faults_of(self.factors),
            invariant(
                0 <= self.momentum_skip < self.momentum_lookback,
                "0 <= momentum_skip < momentum_lookback",
                momentum_skip=self.momentum_skip,
                momentum_lookback=self.momentum_lookback,
            ),
            invariant(
                self.volatility_lookback >= 2,
                "volatility_lookback >= 2",
                volatility_lookback=self.volatility_lookback,
            ),
            invariant(
                self.reversal_lookback >= 1,
                "reversal_lookback >= 1",
                reversal_lookback=self.reversal_lookback,
            ),
            invariant(0.0 < self.quantile <= 0.5, "0 < quantile <= 0.5", quantile=self.quantile),
            invariant(
                0.0 < self.gross_exposure < math.inf,
                "0 < gross_exposure < inf",
                gross_exposure=self.gross_exposure,
            ),
            invariant(
                abs(self.net_exposure) <= self.gross_exposure,
                "abs(net_exposure) <= gross_exposure",
                net_exposure=self.net_exposure,
                gross_exposure=self.gross_exposure,
            ),
        )
        # A copy: changing the mapping that was passed does not change the strategy.
        object.__setattr__(self, "factors", dict(self.factors))

    @property
    def warmup_bars(self) -> int:
        """The longest look-back among the factors in use.

        At that position (counted from 0) an asset with a close on every bar has all its factors.
        """
        lookbacks = {
            "momentum": self.momentum_lookback,
            "low_volatility": self.volatility_lookback,
            "short_term_reversal": self.reversal_lookback,
        }
        return max(lookbacks[name] for name in self._in_use)

    def target_weights(self, panel: Panel, decisions: IntArray) -> FloatArray:
        """Return weights of shape (n_decisions, n_assets), each row in full exposure or all 0."""
        values = {name: self._factor(name, panel, decisions) for name in self._in_use}
        ranked = np.logical_and.reduce([np.isfinite(value) for value in values.values()])
        ranked &= panel.eligible(decisions)
        total = sum(abs(self.factors[name]) for name in values)
        score = np.zeros(ranked.shape)
        for name, value in values.items():
            score += self.factors[name] / total * cross_sectional_zscore(value, ranked)
        top, bottom, size = self._legs(score, ranked)
        long_leg = (self.gross_exposure + self.net_exposure) / 2.0
        short_leg = (self.gross_exposure - self.net_exposure) / 2.0
        members = np.maximum(size, 1)
        return top * (long_leg / members) - bottom * (short_leg / members)

    @property
    def _in_use(self) -> tuple[str, ...]:
        return tuple(name for name in FACTORS if self.factors.get(name, 0.0) != 0.0)

    def _factor(self, name: str, panel: Panel, decisions: IntArray) -> FloatArray:
        close = panel.fields["close"]
        match name:
            case "momentum":
                return simple_return(close, decisions, self.momentum_lookback, self.momentum_skip)
            case "low_volatility":
                return -volatility(close, decisions, self.volatility_lookback)
            case _:
                return -simple_return(close, decisions, self.reversal_lookback)

    def _legs(self, score: FloatArray, ranked: BoolArray) -> tuple[BoolArray, BoolArray, IntArray]:
        """Return the members of both legs and their number in each row, shape (n_rows, 1)."""
        count = np.count_nonzero(ranked, axis=1)[:, None]
        # 0.3 * 10 is 3.0000000000000004 and 0.29 * 100 is 28.999999999999996; 3 and 29 are meant.
        share = np.floor(self.quantile * count + 1e-9).astype(np.int64)
        size = np.minimum(np.maximum(share, 1), count // 2)
        best = np.max(score, axis=1, initial=-np.inf, where=ranked)[:, None]
        worst = np.min(score, axis=1, initial=np.inf, where=ranked)[:, None]
        size = np.where(best - worst > DEGENERATE, size, 0)

        order = np.argsort(np.where(ranked, -score, np.inf), axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(order.shape[1])[None, :], axis=1)
        return rank < size, (rank >= count - size) & (rank < count), size


def _faults_of(factors: Mapping[str, float]) -> Iterator[str | None]:
    for name, weight in factors.items():
        if name in FACTORS:
            yield invariant(
                math.isfinite(weight), "isfinite(factors[name])", name=name, weight=weight
            )
            continue
        close = get_close_matches(str(name), FACTORS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        yield f"`factors` must be named {', '.join(FACTORS)}, but got {name!r}.{hint}"
    yield invariant(any(factors.values()), "any(factors.values())", factors=dict(factors))
