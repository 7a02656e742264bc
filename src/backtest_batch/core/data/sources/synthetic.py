"""Prices drawn at random: for tests, for measuring scale, and with planted skill to find."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.bars import SymbolBars
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.tables import Reading
from backtest_batch.core.data.timestamps import stamps_of
from backtest_batch.core.engine.frequency import AUTO, freq_seconds

_GENERATOR = 1
"""Version of the generator: raised whenever the same parameters would draw different prices."""

_DAYS_PER_YEAR = 252
_SESSION_MINUTES = 390
_OVERNIGHT_SHARE = 0.2
_VOLUME = 1_000_000.0


@dataclass(frozen=True, kw_only=True)
class Synthetic(Source):
    """Seeded random prices: open, high, low, close and volume, every price positive.

    With dt = 1/252 of a year (1/(252*78) for ``freq=5min``), the log return of asset i on bar t is

        x_ti = (drift - volatility^2 / 2) dt + volatility sqrt(dt) g_t
               [skill s_(t-1)i + sqrt(1 - skill^2) (sqrt(correlation) m_t + sqrt(1 - correlation)
               e_ti)],

    with m and e independent standard normals. g_t is the volatility multiplier of the regime, which
    follows a Markov chain over ``regimes`` states. The multipliers are evenly spaced in logs
    between 1/2 and 2, and scaled so that their mean square is 1. The chain leaves a state once in
    ``regime_bars`` bars on average. With one regime, g_t is 1.

    Planted skill: s is a hidden trend of each asset, an AR(1) of unit variance that halves in
    ``skill_bars`` bars, independent across assets. ``skill`` is its correlation with the asset's
    next return (the information coefficient). A high s means high returns now and for a while, so
    that past returns predict future ones: momentum over about ``skill_bars`` bars finds it, along
    each series (moving averages) and across them (buy the risers, sell the fallers). With
    ``skill=0`` the prices are a random walk and there is nothing to find. With ``skill=0.1``, 20
    assets and daily bars, a long/short book on 60-bar momentum has a Sharpe ratio of about 3 before
    costs.

    Timestamps: business days, without a time zone; for 5min bars 09:35, 09:40, ..., 16:00, the ends
    of the 78 bars of a session. Any number of minutes that divides the 390 of a session is allowed;
    ``auto`` is ``1d``. Each component has its own stream of random numbers, so that changing
    ``skill`` or ``regimes`` leaves the noise as it was.

    Parameters
    ----------
    seed
        Seed of every random number.
    n_assets, n_bars
        Shape of the panel; the symbols are S00, S01, ...
    start
        Date of the first bar, or the first business day after it.
    drift
        Expected growth of a price per year, as a fraction.
    volatility
        Annual standard deviation of log returns, as a fraction.
    correlation
        Correlation of any two assets' returns, in [0, 1).
    regimes
        Number of states of the market's volatility.
    regime_bars
        Mean number of bars in a state.
    skill
        Information coefficient of the hidden trend, in [0, 1).
    skill_bars
        Half-life of the hidden trend in bars.
    """

    seed: int = 0
    n_assets: int = 20
    n_bars: int = 2_520
    start: str = "2000-01-03"
    drift: float = 0.05
    volatility: float = 0.2
    correlation: float = 0.3
    regimes: int = 1
    regime_bars: int = 63
    skill: float = 0.0
    skill_bars: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        self._bars_per_session()
        for name, least in (
            ("seed", 0),
            ("n_assets", 1),
            ("n_bars", 2),
            ("regimes", 1),
            ("regime_bars", 1),
            ("skill_bars", 1),
        ):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"`{name} >= {least}` must hold, but got {name}={value}.")
        for name in ("correlation", "skill"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"`0 <= {name} < 1` must hold, but got {name}={value}.")
        if not (self.volatility > 0 and math.isfinite(self.volatility)):
            raise ValueError(f"`volatility > 0` must hold, but got volatility={self.volatility}.")
        if not math.isfinite(self.drift):
            raise ValueError(f"`drift` must be finite, but got drift={self.drift}.")
        try:
            valid = not pd.isna(pd.Timestamp(self.start))
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(
                f"`start` must be a date such as 2000-01-03, but got start={self.start}."
            )

    def identity(self) -> dict[str, Any]:
        """Return the parameters, and the versions of the generator and of NumPy."""
        return {**self.parameters(), "generator": _GENERATOR, "numpy": np.__version__}

    def read(self, wanted: Sequence[str] | None) -> Reading:
        """Draw the prices of all assets, and return the wanted ones."""
        width = max(2, len(str(self.n_assets - 1)))
        symbols = tuple(f"S{number:0{width}d}" for number in range(self.n_assets))
        stamps = self._stamps()
        fields = self._fields()
        bars = [
            SymbolBars(
                symbol=symbol,
                stamps=stamps,
                tz=None,
                fields={name: values[:, column] for name, values in fields.items()},
            )
            for column, symbol in enumerate(symbols)
            if wanted is None or symbol in wanted
        ]
        return Reading(available=symbols, bars=bars, in_order=True)

    @property
    def _is_daily(self) -> bool:
        return self.freq in (AUTO, "1d")

    def _bars_per_session(self) -> int:
        if self._is_daily:
            return 1
        minutes = freq_seconds(self.freq) / 60
        if minutes != int(minutes) or _SESSION_MINUTES % minutes:
            raise ValueError(
                "`freq` must be auto, 1d or minutes that divide the 390 of a session (1min, 5min, "
                f"30min), but got freq={self.freq}."
            )
        return int(_SESSION_MINUTES / minutes)

    def _stamps(self) -> IntArray:
        first = pd.Timestamp(self.start).tz_localize(None).normalize()
        bars = self._bars_per_session()
        sessions = math.ceil(self.n_bars / bars)
        days, _ = stamps_of(pd.bdate_range(first, periods=sessions))
        if self._is_daily:
            return days
        minute = 60 * 10**9
        length = _SESSION_MINUTES // bars
        ends = (9 * 60 + 30 + length * np.arange(1, bars + 1, dtype=np.int64)) * minute
        return (days[:, None] + ends).reshape(-1)[: self.n_bars]

    def _fields(self) -> dict[str, FloatArray]:
        noise, trend, regime, inside = (
            np.random.default_rng(child) for child in np.random.SeedSequence(self.seed).spawn(4)
        )
        shape = (self.n_bars, self.n_assets)
        per_year = _DAYS_PER_YEAR * self._bars_per_session()
        bar_volatility = self.volatility / math.sqrt(per_year)
        returns = math.sqrt(self.correlation) * noise.standard_normal((self.n_bars, 1))
        returns = returns + math.sqrt(1 - self.correlation) * noise.standard_normal(shape)
        if self.skill:
            returns *= math.sqrt(1 - self.skill**2)
            returns += self.skill * _hidden_trend(trend, shape, self.skill_bars)
        returns *= (
            bar_volatility
            * _multipliers(regime, self.n_bars, self.regimes, self.regime_bars)[:, None]
        )
        returns += (self.drift - self.volatility**2 / 2) / per_year
        with np.errstate(over="ignore"):  # prices beyond all bounds are named by the checks
            close = 100.0 * np.exp(np.cumsum(returns, axis=0))
        # The path within the bar: the open lies about a fifth of the way from the last close to
        # this one; high and low lie beyond both open and close.
        bridge = math.sqrt(_OVERNIGHT_SHARE * (1 - _OVERNIGHT_SHARE)) * bar_volatility
        overnight = _OVERNIGHT_SHARE * returns + bridge * inside.standard_normal(shape)
        with np.errstate(over="ignore", invalid="ignore"):
            open_ = close * np.exp(overnight - returns)
            reach = bar_volatility / 2
            high = np.maximum(open_, close) * np.exp(reach * np.abs(inside.standard_normal(shape)))
            low = np.minimum(open_, close) * np.exp(-reach * np.abs(inside.standard_normal(shape)))
        volume = np.round(_VOLUME * np.exp(0.5 * inside.standard_normal(shape)))
        return {"open": open_, "high": high, "low": low, "close": close, "volume": volume}


def _hidden_trend(
    random: np.random.Generator, shape: tuple[int, int], half_life: int
) -> FloatArray:
    """Return AR(1) series of unit variance; row t drives the return of bar t."""
    persistence = 0.5 ** (1 / half_life)
    trend = random.standard_normal(shape)
    trend[1:] *= math.sqrt(1 - persistence**2)
    for bar in range(1, shape[0]):
        trend[bar] += persistence * trend[bar - 1]
    return trend


def _multipliers(
    random: np.random.Generator, n_bars: int, regimes: int, regime_bars: int
) -> FloatArray:
    """Return the volatility multiplier of each bar, shape (n_bars,)."""
    levels = 2.0 ** np.linspace(-1.0, 1.0, regimes) if regimes > 1 else np.ones(1)
    levels /= math.sqrt(float(np.mean(levels**2)))
    leaves = random.random(n_bars) < 1 / regime_bars
    # The chain moves from a state to each of the others with equal probability.
    steps = random.integers(1, regimes, n_bars) if regimes > 1 else np.zeros(n_bars, np.int64)
    first = random.integers(0, regimes)
    states = (first + np.cumsum(np.where(leaves, steps, 0))) % regimes
    return np.asarray(levels[states], dtype=np.float64)
