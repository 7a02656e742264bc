"""What is tried on a generated market: grids of the shipped rules, and strategies that do not look.

The latter draw their weights at random: whatever they earn beyond the benchmark is luck, on every
market.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.strategies.base import Strategy
from backtest_batch.core.strategies.inverse_volatility import InverseVolatility
from backtest_batch.core.strategies.mean_reversion import MeanReversion
from backtest_batch.core.strategies.multifactor_long_short import MultifactorLongShort
from backtest_batch.core.strategies.trend_baseline import TrendBaseline

LONGEST = 126
"""No rule looks back further, so that three years leave two and a half."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One decision of a sweep.

    Attributes
    ----------
    strategy
        What gives the weights.
    rebalance
        When it is asked.
    params
        Its parameters, by axis.
    """

    strategy: Strategy
    rebalance: str
    params: Mapping[str, Any]

    @property
    def warmup_bars(self) -> int:
        """Bars before its first weight."""
        return int(getattr(self.strategy, "warmup_bars", 0))


@dataclass(frozen=True, kw_only=True)
class Blindfold:
    """Holds assets at random: each has a score that is drawn anew, slowly; the higher half is held.

    Parameters
    ----------
    seed
        Seed of the draws.
    memory
        Autocorrelation of the scores from one decision to the next: how long positions are kept.
    style
        ``long_only``, ``long_short``, ``timing``: long only, with a gross exposure that wanders
        between 0 and 1, or ``moving_beta``: equal weights and the loadings, both in amounts that
        wander.
    loadings
        Added to the scores, so that what loads on a factor is rather held; None for nothing.
    tilt
        How much of that: in (0, 1].
    """

    seed: tuple[int, ...]
    memory: float = 0.8
    style: str = "long_only"
    loadings: FloatArray | None = None
    tilt: float = 0.0

    def target_weights(self, panel: Panel, decisions: IntArray) -> FloatArray:
        """Return weights of shape (n_decisions, n_assets) that no price has touched."""
        from scipy.signal import lfilter

        generator = np.random.default_rng(self.seed)
        shape = (len(decisions), panel.n_assets + 1)
        new = math.sqrt(1.0 - self.memory**2) * generator.standard_normal(shape)
        new[0] /= math.sqrt(1.0 - self.memory**2)
        drawn: FloatArray = lfilter([1.0], [1.0, -self.memory], new, axis=0)
        scores, exposure = drawn[:, 1:], drawn[:, :1]
        if self.loadings is not None:
            if self.style == "moving_beta":
                tilts = 0.5 * drawn[:, 1:2] * self.loadings / np.abs(self.loadings).sum()
                moved: FloatArray = (0.5 + 0.25 * exposure) / panel.n_assets + tilts
                return moved
            scores = scores + self.tilt * self.loadings
        half = panel.n_assets // 2
        rank = np.argsort(np.argsort(-scores, axis=1), axis=1)
        longs = (rank < half) / half
        if self.style == "long_only":
            return longs
        if self.style == "timing":
            return longs * np.clip(0.5 + 0.5 * exposure, 0.0, 1.0)
        return 0.5 * longs - 0.5 * (rank >= panel.n_assets - half) / half


STYLES = ("long_only", "long_short", "timing")


def blindfolded(n_trials: int, seed: int) -> list[Tried]:
    """Return strategies that choose at random, of all styles, monthly and weekly."""
    return [
        Tried(
            strategy=Blindfold(
                seed=(seed, number),
                memory=(0.0, 0.8, 0.95)[number // 3 % 3],
                style=STYLES[number % 3],
            ),
            rebalance=("M", "W")[number // 9 % 2],
            params={"strategy.number": f"number {number}"},
        )
        for number in range(n_trials)
    ]


def tilted(n_trials: int, seed: int, loadings: FloatArray) -> list[Tried]:
    """Return strategies that hold what loads on a factor, and nothing else that pays."""
    return [
        Tried(
            strategy=Blindfold(
                seed=(seed, number),
                memory=(0.0, 0.8, 0.95)[number // 2 % 3],
                style=("long_only", "long_short")[number % 2],
                loadings=loadings,
                tilt=(0.5, 1.0, 2.0)[number // 6 % 3],
            ),
            rebalance="M",
            params={"strategy.number": f"number {number}"},
        )
        for number in range(n_trials)
    ]


def moving_betas(n_trials: int, seed: int, loadings: FloatArray) -> list[Tried]:
    """Return strategies whose share of the market and of a factor wanders, and nothing else."""
    return [
        Tried(
            strategy=Blindfold(
                seed=(seed, number),
                memory=(0.5, 0.8, 0.95)[number % 3],
                style="moving_beta",
                loadings=loadings,
            ),
            rebalance="M",
            params={"strategy.number": f"number {number}"},
        )
        for number in range(n_trials)
    ]


def _trend(average: str, fast: int, slow: int, direction: str, rebalance: str) -> Tried:
    return Tried(
        strategy=TrendBaseline(average=average, fast=fast, slow=slow, direction=direction),  # type: ignore[arg-type]
        rebalance=rebalance,
        params={
            "strategy": "trend_baseline",
            "strategy.average": average,
            "strategy.fast": fast,
            "strategy.slow": slow,
            "strategy.direction": direction,
            "rebalance": rebalance,
        },
    )


FASTS = (2, 3, 5, 8, 10, 12, 15, 20, 25)
SLOWS = (30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 126)


def _trends() -> list[Tried]:
    return [
        _trend(average, fast, slow, direction, rebalance)
        for rebalance in ("M", "W")
        for direction in ("long_only", "long_short")
        for average in ("sma", "ema")
        for slow in SLOWS
        for fast in FASTS
    ]


def _reversions() -> list[Tried]:
    return [
        Tried(
            strategy=MeanReversion(window=window, entry_z=entry, direction=direction),
            rebalance=rebalance,
            params={
                "strategy": "mean_reversion",
                "strategy.window": window,
                "strategy.entry_z": entry,
                "strategy.direction": direction,
                "rebalance": rebalance,
            },
        )
        for rebalance in ("M", "W")
        for direction in ("long_only", "long_short")
        for window in (5, 10, 20, 30, 60, 120)
        for entry in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    ]


def _multifactors() -> list[Tried]:
    return [
        Tried(
            strategy=MultifactorLongShort(
                factors=dict(factors),
                momentum_lookback=momentum,
                momentum_skip=5,
                volatility_lookback=60,
                reversal_lookback=reversal,
                quantile=quantile,
            ),
            rebalance=rebalance,
            params={
                "strategy": "multifactor",
                "strategy.factors": str(factors),
                "strategy.momentum_lookback": momentum,
                "strategy.reversal_lookback": reversal,
                "strategy.quantile": quantile,
                "rebalance": rebalance,
            },
        )
        for rebalance in ("M", "W")
        for factors in _MIXTURES
        for momentum in (30, 60, 126)
        for reversal in (5, 21)
        for quantile in (0.1, 0.2, 0.3)
    ]


_MIXTURES = (
    {"momentum": 1.0, "low_volatility": 1.0, "short_term_reversal": 1.0},
    {"momentum": 1.0, "short_term_reversal": 0.5},
    {"momentum": 1.0, "low_volatility": 1.0},
    {"momentum": -1.0, "short_term_reversal": 1.0},
)


def _calms() -> list[Tried]:
    return [
        Tried(
            strategy=InverseVolatility(window=window),
            rebalance=rebalance,
            params={
                "strategy": "inverse_volatility",
                "strategy.window": window,
                "rebalance": rebalance,
            },
        )
        for rebalance in ("M", "W")
        for window in (20, 60, 120)
    ]


def rules(n_trials: int) -> list[Tried]:
    """Return a grid of shipped strategies; fewer are spread evenly over the whole."""
    everything = [*_trends(), *_reversions(), *_multifactors(), *_calms()]
    if n_trials > len(everything):
        raise ValueError(f"the grid has {len(everything)} strategies, but {n_trials} are wanted")
    chosen = np.linspace(0, len(everything) - 1, n_trials).round().astype(int)
    return [everything[number] for number in chosen]


def searched(point: Mapping[str, Any]) -> Tried:
    """Return the strategy that a point of :data:`SEARCHED` stands for."""
    return _trend(
        point["average"], point["fast"], point["slow"], point["direction"], point["rebalance"]
    )


SEARCHED: Mapping[str, Sequence[Any]] = {
    "average": ("sma", "ema"),
    "fast": tuple(range(2, 30)),
    "slow": tuple(range(30, LONGEST + 1, 2)),
    "direction": ("long_only", "long_short"),
    "rebalance": ("M", "W"),
}
"""What an adaptive search draws from."""
