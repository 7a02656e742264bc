"""Generated markets in which every return beyond the benchmark is luck.

Returns of a day are those of a common factor and of the asset alone, ``r_j = m + e_j``; all assets
have a beta of one and the same specific volatility. Where volatility moves, the expected return of
an asset is in proportion to its covariance with the market, as in a CAPM that holds at every
moment: otherwise to sit out wild days would be skill.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray
from backtest_batch.core.data.panel import Panel, new_panel

DAYS = 252
N_ASSETS = 20
PREMIUM = 0.06 / DAYS
"""Expected return of the market a day."""
MARKET_STD, OWN_STD = 0.16 / math.sqrt(DAYS), 0.25 / math.sqrt(DAYS)

Generator = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Market:
    """Prices, and factors that explain them.

    Attributes
    ----------
    panel
        Closes.
    factors
        Returns of factors by name, each of shape (n_bars,); empty where none are given.
    loadings
        What each asset moves with the first factor, shape (n_assets,); None without factors.
    """

    panel: Panel
    factors: Mapping[str, FloatArray]
    loadings: FloatArray | None = None


def _market(
    returns: FloatArray,
    factors: Mapping[str, FloatArray] | None = None,
    loadings: FloatArray | None = None,
) -> Market:
    """Return the market with these returns; the first bar has none."""
    returns[0] = 0.0
    close = 100.0 * np.cumprod(1.0 + np.maximum(returns, -0.95), axis=0)
    n_bars, n_assets = returns.shape
    index = pd.bdate_range("1990-01-01", periods=n_bars).as_unit("ns")
    symbols = tuple(f"S{number:02d}" for number in range(n_assets))
    panel = new_panel(index, symbols, {"close": np.ascontiguousarray(close)})
    return Market(panel=panel, factors=factors or {}, loadings=loadings)


def random_walk(generator: Generator, n_bars: int, n_assets: int = N_ASSETS) -> Market:
    """Return normal returns, independent from day to day."""
    common = PREMIUM + MARKET_STD * generator.standard_normal((n_bars, 1))
    return _market(common + OWN_STD * generator.standard_normal((n_bars, n_assets)))


AUTOCORRELATION = 0.2


def autoregressive(generator: Generator, n_bars: int) -> Market:
    """Return AR(1) returns: a fifth of yesterday's comes again, in the market and in each asset."""
    from scipy.signal import lfilter

    shocks = generator.standard_normal((n_bars + 100, N_ASSETS + 1))
    scale = math.sqrt(1.0 - AUTOCORRELATION**2)
    series = lfilter([scale], [1.0, -AUTOCORRELATION], shocks, axis=0)[100:]
    return _market(PREMIUM + MARKET_STD * series[:, :1] + OWN_STD * series[:, 1:])


GARCH_SHOCK, GARCH_MEMORY, STUDENT = 0.08, 0.90, 6.0


def garch(generator: Generator, n_bars: int) -> Market:
    """Return GARCH(1,1) returns with Student's t shocks, in the market and in each asset."""
    shocks = generator.standard_t(STUDENT, (n_bars, N_ASSETS + 1))
    shocks *= math.sqrt((STUDENT - 2.0) / STUDENT)
    variance = np.empty_like(shocks)
    level = np.ones(N_ASSETS + 1)
    for bar, shock in enumerate(shocks):
        variance[bar] = level
        level = 1.0 - GARCH_SHOCK - GARCH_MEMORY + level * (GARCH_MEMORY + GARCH_SHOCK * shock**2)
    moves = np.sqrt(variance) * shocks
    return _priced(
        MARKET_STD * moves[:, :1],
        OWN_STD * moves[:, 1:],
        MARKET_STD**2 * variance[:, :1],
        OWN_STD**2 * variance[:, 1:],
    )


def _priced(
    common: FloatArray, own: FloatArray, common_variance: FloatArray, own_variance: FloatArray
) -> Market:
    """Add the premium: in proportion to an asset's covariance with the equal-weight market."""
    covariance = common_variance + own_variance / own.shape[1]
    return _market(common + own + PREMIUM * covariance / covariance.mean())


# Heston (1993): a day is the unit of time; the mean variance is that of the market above.
REVERSION, VOLATILITY_OF_VARIANCE, LEVERAGE = 5.0 / DAYS, 0.5 / DAYS, -0.7
# Merton (1976).
JUMPS, JUMP_MEAN, JUMP_STD = 3.0 / DAYS, -0.03, 0.03
# Christensen, Oomen and Reno (2022): the drift explodes with the power of the time that is left.
BURSTS, BURST_DAYS, BURST_POWER, BURST_DRIFT = 4.0 / DAYS, 10, 0.65, 0.004


def drift_bursts(generator: Generator, n_bars: int) -> Market:
    """Return a Heston market with Merton jumps, and regimes in which the drift bursts.

    As in the controlled environment of Arian, Norouzi and Seco (2024). The bursts are trends that
    rules could find: only strategies that do not look are without skill here.
    """
    normal = generator.standard_normal((n_bars, 2))
    jumps = generator.poisson(JUMPS, n_bars)
    sizes = JUMP_MEAN * jumps + JUMP_STD * np.sqrt(jumps) * generator.standard_normal(n_bars)
    mean = MARKET_STD**2
    level, common = mean, np.empty((n_bars, 1))
    for bar, (one, other) in enumerate(normal):
        positive = max(level, 0.0)
        shock = LEVERAGE * one + math.sqrt(1.0 - LEVERAGE**2) * other
        common[bar] = PREMIUM * positive / mean + math.sqrt(positive) * one
        step = VOLATILITY_OF_VARIANCE * math.sqrt(positive) * shock
        level += REVERSION * (mean - positive) + step
    common[:, 0] += sizes - JUMPS * JUMP_MEAN + _bursts(generator, n_bars)
    return _market(common + OWN_STD * generator.standard_normal((n_bars, N_ASSETS)))


def _bursts(generator: Generator, n_bars: int) -> FloatArray:
    """Return the drift of bursts: up or down, and ever faster until they break off."""
    drift = np.zeros(n_bars)
    left = np.arange(BURST_DAYS, 0, -1, dtype=np.float64)
    path = BURST_DRIFT * (left / BURST_DAYS) ** -BURST_POWER
    starts = np.flatnonzero(generator.random(n_bars) < BURSTS)
    for start in starts:
        piece = path[: n_bars - start]
        drift[start : start + len(piece)] += piece * generator.choice([-1.0, 1.0])
    return drift


BORN, SURVIVE = 100, 20


def survivors(generator: Generator, n_bars: int) -> Market:
    """Return the twenty of a hundred random walks that ended highest: chosen by hindsight."""
    everyone = random_walk(generator, n_bars, BORN)
    close = everyone.panel.fields["close"]
    best = np.sort(np.argsort(close[-1])[-SURVIVE:])
    kept = close[:, best]
    returns = np.zeros_like(kept)
    returns[1:] = kept[1:] / kept[:-1] - 1.0
    return _market(returns)


FACTOR_SHARPE, FACTOR_STD = 0.8, 0.08 / math.sqrt(DAYS)


def factor_driven(generator: Generator, n_bars: int) -> Market:
    """Return assets that load on a factor with a premium; a second factor has none.

    The loadings go from -1 to 1, so that equal weights hold nothing of it.
    """
    loadings = np.linspace(-1.0, 1.0, N_ASSETS)
    shocks = generator.standard_normal((n_bars, 2))
    value = FACTOR_STD * (shocks[:, 0] + FACTOR_SHARPE / math.sqrt(DAYS))
    other = FACTOR_STD * shocks[:, 1]
    common = PREMIUM + MARKET_STD * generator.standard_normal((n_bars, 1))
    own = OWN_STD * generator.standard_normal((n_bars, N_ASSETS))
    return _market(
        common + np.outer(value, loadings) + own,
        factors={"value": value, "other": other},
        loadings=loadings,
    )


MARKETS: Mapping[str, Callable[[Generator, int], Market]] = {
    "random walk": random_walk,
    "AR(1) returns": autoregressive,
    "GARCH": garch,
    "jumps and drift bursts": drift_bursts,
    "survivors": survivors,
    "factor-driven": factor_driven,
}
