"""Evidence on the mean of returns that may be looked at every day: test martingales by betting.

Somebody who doubts that the mean is above a bound is offered a bet: stake a share of one unit of
money on the returns of the next bars beyond the bound. If the mean is at most the bound, no way of
staking gains on average, and the chance that the money ever grows twentyfold is at most one in
twenty (Ville 1939), whatever the shape of the returns and however often somebody looks. The money
is the e-value.
"""

import math

import numpy as np

from backtest_batch.arrays import FloatArray

ENOUGH = 20.0
"""The e-value that counts as evidence: 1 / 5 %."""

EXPECTED_SHARPE = 1.5
"""Scale of the stakes: the annual Sharpe ratio, beyond the bound, that the bets are made for."""

N_STAKES = 16
STAKES_A_YEAR = 25.0
LARGEST_STAKE = 0.5
"""Largest stake, in standard deviations of the returns until the next one."""

_KNOWN_YEARS = 0.25
_MOST_MONEY = 1e300


def money_of_bets(
    returns: FloatArray,
    at_most: float | FloatArray,
    *,
    scale: float | FloatArray,
    bars_a_year: float,
    dependence: float = 1,
) -> FloatArray:
    """Return the money of a bettor against "the mean is at most ``at_most``", bar by bar.

    With x the returns less the bound, h the bars for which a stake is held, and lambda_j stakes per
    unit of return, the money after bar t, in the period that begins after bar s, is::

        M_t = mean_j  K_j(s) max(0, 1 + lambda_j(s) (x_{s+1} + ... + x_t)),   K_j(0) = 1
        lambda_j(s) = min(q_j, 0.5 / sqrt(h)) / sigma(s)

    h is the longest of a twenty-fifth of a year (10 days), ``dependence`` and a bar: within it the
    stake is held as it is, so that neighbouring returns that are alike do not look like a gain. q_j
    are the 16 mid-quantiles of a half-normal distribution with scale 1.5 / sqrt(bars a year), the
    Sharpe ratio per bar that is hoped for. sigma(s) is the larger of ``scale`` and of the root mean
    square of the returns so far (with a quarter of a year at ``scale`` before them), both known
    beforehand.

    Where the mean of each return, given those before, is at most the bound, M is a supermartingale
    that begins with 1, but for the sums at which a stake is lost more than once over: these are cut
    off, and lie two to ninety standard deviations of such a sum out. M_t depends on the returns up
    to t alone.

    Parameters
    ----------
    returns
        Shape (n_bars,) or (n_bars, n_series), finite.
    at_most
        The bound, per bar; one for all series, or shape (n_series,).
    scale
        Standard deviation per bar that is expected, positive; one for all series, or shape
        (n_series,).
    bars_a_year
        How many bars make a year.
    dependence
        For how many bars returns depend on each other.

    Returns
    -------
    ndarray
        Of the shape of ``returns``.

    References
    ----------
    Ville (1939), Etude critique de la notion de collectif. Shafer (2021), Testing by Betting.
    Waudby-Smith and Ramdas (2024), Estimating Means of Bounded Random Variables by Betting.
    """
    values = np.asarray(returns, dtype=np.float64)
    beyond = values.reshape(len(values), -1) - at_most
    n_bars, n_series = beyond.shape
    held = held_bars(bars_a_year, dependence)
    ratios = stakes(bars_a_year, held)
    known = _KNOWN_YEARS * bars_a_year
    squares = np.zeros(n_series)
    money = np.ones((N_STAKES, n_series))
    found = np.empty_like(beyond)
    for first in range(0, n_bars, held):
        part = beyond[first : first + held]
        usual = (known * scale**2 + squares) / (known + first)
        stake = ratios[:, None] / np.sqrt(np.maximum(usual, scale**2))
        gains = 1.0 + stake[:, None, :] * np.cumsum(part, axis=0)
        paths = np.minimum(money[:, None, :] * np.maximum(gains, 0.0), _MOST_MONEY)
        # Summed one by one: the sum of numpy depends on how many bars there are, in its last bit.
        found[first : first + held] = sum(paths[1:], start=paths[0]) / N_STAKES
        money = paths[:, -1, :]
        squares = squares + (part**2).sum(axis=0)
    return found.reshape(values.shape)


def held_bars(bars_a_year: float, dependence: float = 1) -> int:
    """Return for how many bars a stake is held."""
    return max(1, round(bars_a_year / STAKES_A_YEAR), math.ceil(dependence))


def stakes(bars_a_year: float, held: int) -> FloatArray:
    """Return the stakes, in units of one over the standard deviation per bar, ascending."""
    from scipy.stats import halfnorm

    shares = (np.arange(N_STAKES) + 0.5) / N_STAKES
    ratios = halfnorm.ppf(shares) * EXPECTED_SHARPE / np.sqrt(bars_a_year)
    return np.asarray(np.minimum(ratios, LARGEST_STAKE / np.sqrt(held)))
