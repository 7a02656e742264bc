"""Is the best of many better than nothing? Reality check, SPA test and StepM.

All three compare the largest Sharpe ratio, ``t = max_k m_k / s_k``, with its distribution over
resamples in which no run has skill, ``max_k (m*_k - mu_k) / s_k``; s_k stays fixed.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backtest_batch.comparison.overfitting.trials import FloatArray, IntArray

LEVEL = 0.05
"""Level of the tests, and family-wise error of StepM."""

_COLUMNS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class SuperiorAbility:
    """What the tests of the largest Sharpe ratio say.

    Attributes
    ----------
    statistic
        t, the largest Sharpe ratio per bar.
    reality_check_pvalue
        White (2000): every run is taken to be as good as zero.
    spa_pvalue
        Hansen (2005), consistent choice: runs clearly worse than zero do not count.
    survivors
        Positions of the runs that StepM (Romano and Wolf 2005) finds better than zero.
    null_maxima
        The SPA test's resampled maxima, shape (draws,).
    """

    statistic: float
    reality_check_pvalue: float
    spa_pvalue: float
    survivors: IntArray
    null_maxima: FloatArray


def superior_ability(
    mean: FloatArray, std: FloatArray, deviations: FloatArray, n_bars: int
) -> SuperiorAbility:
    """Test the largest Sharpe ratio of many runs against zero.

    Parameters
    ----------
    mean, std
        m and s (ddof 1, positive) of the runs' returns, shape (n_runs,).
    deviations
        ``m* - m``: resampled means less the mean, shape (draws, n_runs).
    n_bars
        T, above e.

    Returns
    -------
    SuperiorAbility
        p-values are ``(1 + #{null >= t}) / (1 + draws)`` (Davison and Hinkley 1997), so that none
        is zero; StepM uses the SPA test's null distribution and is at least one run exactly when
        ``spa_pvalue <= LEVEL``.

    References
    ----------
    White (2000), A Reality Check for Data Snooping. Hansen (2005), A Test for Superior Predictive
    Ability. Romano and Wolf (2005), Stepwise Multiple Testing as Formalized Data Snooping.
    """
    ratio = mean / std
    statistic = float(ratio.max())
    poor = ratio < -math.sqrt(2 * math.log(math.log(n_bars)) / n_bars)
    # mu = m leaves m* - m; mu = 0 leaves m* itself, which is lower by |m|.
    shift = np.where(poor, mean, 0.0)
    everyone = np.ones(len(mean), dtype=np.bool_)
    reality = _null_maxima(deviations, np.zeros_like(mean), std, everyone)
    null = _null_maxima(deviations, shift, std, everyone)
    return SuperiorAbility(
        statistic=statistic,
        reality_check_pvalue=_pvalue(statistic, reality),
        spa_pvalue=_pvalue(statistic, null),
        survivors=_step_down(ratio, shift, std, deviations, null),
        null_maxima=null,
    )


def _pvalue(statistic: float, null: FloatArray) -> float:
    return (1 + int(np.count_nonzero(null >= statistic))) / (1 + len(null))


def _null_maxima(
    deviations: FloatArray, shift: FloatArray, std: FloatArray, active: npt.NDArray[np.bool_]
) -> FloatArray:
    """Return the largest null ratio of each draw over the active runs, without a large copy."""
    maxima = np.full(len(deviations), -np.inf)
    for first in range(0, len(std), _COLUMNS_AT_ONCE):
        part = slice(first, first + _COLUMNS_AT_ONCE)
        chosen = active[part]
        if chosen.any():
            ratios = (deviations[:, part] + shift[part]) / std[part]
            np.maximum(maxima, ratios[:, chosen].max(axis=1), out=maxima)
    return maxima


def _critical(null: FloatArray) -> float:
    """Return the value that a ratio must exceed for its p-value to be at most LEVEL."""
    allowed = math.floor(LEVEL * (1 + len(null)) + 1e-9) - 1
    return float(np.sort(null)[::-1][allowed])


def _step_down(
    ratio: FloatArray, shift: FloatArray, std: FloatArray, deviations: FloatArray, null: FloatArray
) -> IntArray:
    active = np.ones(len(ratio), dtype=np.bool_)
    while True:
        found = active & (ratio > _critical(null))
        active &= ~found
        if not found.any() or not active.any():
            return np.flatnonzero(~active).astype(np.int64)
        null = _null_maxima(deviations, shift, std, active)
