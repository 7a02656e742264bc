"""What a Sharpe ratio proves, with its error under the null hypothesis and with autocorrelation.

Lopez de Prado, Lipton and Zoonekynd (2025), How to Use the Sharpe Ratio. Unlike the classical
figures, whose error is that at the observed ratio, the variance is taken at the ratio that is
assumed to be true, and returns follow an AR(1) process. Sharpe ratios are per bar; skew and
kurtosis (not in excess) are those of the returns, rho is their autocorrelation at lag 1.
"""

import math
from dataclasses import dataclass

import numpy as np

from backtest_batch.analysis.overfitting.samples import FloatArray
from backtest_batch.analysis.overfitting.sharpe import expected_maximum_sharpe

LEVEL = 0.05
"""Level of the tests whose power is told."""

TRUE_ANNUAL_SHARPE = 0.5
"""The skill that a test is asked to find: a true Sharpe ratio of so much a year."""

PRIOR = 0.1
"""P[H1], the share of sweeps taken to hold such skill before anything is seen."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The form of a series of returns.

    Attributes
    ----------
    skew, kurtosis
        Population moments; kurtosis not in excess.
    rho
        Autocorrelation at lag 1, above -1 and below 1.
    """

    skew: float = 0.0
    kurtosis: float = 3.0
    rho: float = 0.0

    def variance(self, true_sharpe: float, n_bars: float) -> float:
        """Return the variance of the estimate of a Sharpe ratio whose true value is known.

        ``(a - b skew SR + c (kurtosis - 1) / 4 SR^2) / T`` with ``a = 1 + 2 rho / (1 - rho)``,
        ``b = 1 + rho / (1 - rho) + rho^2 / (1 - rho^2)`` and ``c = 1 + 2 rho^2 / (1 - rho^2)``.
        Without autocorrelation it is that of Mertens (2002).
        """
        first = self.rho / (1 - self.rho)
        second = self.rho**2 / (1 - self.rho**2)
        linear = (1 + first + second) * self.skew * true_sharpe
        square = (1 + 2 * second) * (self.kurtosis - 1) / 4 * true_sharpe**2
        return (1 + 2 * first - linear + square) / n_bars

    def probability(
        self, sharpe: float, n_bars: float, *, null_sharpe: float = 0.0, n_trials: int = 1
    ) -> float:
        """Return one less the p-value of a Sharpe ratio against the hypothesis ``null_sharpe``.

        ``Phi[(SR - SR0) / sqrt(V[SR0])]``; of the best of N, V is multiplied by the variance of the
        maximum of N standard normal numbers. NaN where V is not positive.
        """
        error = self._error(null_sharpe, n_bars) * math.sqrt(variance_of_maximum(n_trials))
        return _phi((sharpe - null_sharpe) / error)

    def bars_to_reject(
        self, sharpe: float, *, null_sharpe: float = 0.0, level: float = LEVEL
    ) -> float:
        """Return the bars on which this Sharpe ratio would just reject ``null_sharpe``.

        ``V[SR0] T (z / (SR - SR0))^2``, the minimum track record; infinite when ``SR <= SR0``.
        """
        if sharpe <= null_sharpe:
            return math.inf
        return self.variance(null_sharpe, 1) * (_quantile(level) / (sharpe - null_sharpe)) ** 2

    def critical(self, n_bars: float, *, null_sharpe: float = 0.0, level: float = LEVEL) -> float:
        """Return the Sharpe ratio above which a single test rejects ``null_sharpe``.

        ``SR0 + z sqrt(V[SR0])``.
        """
        return null_sharpe + _quantile(level) * self._error(null_sharpe, n_bars)

    def power(self, n_bars: float, *, true_sharpe: float, critical: float) -> float:
        """Return how often a test with this critical value finds a true Sharpe ratio.

        ``1 - Phi[(critical - SR1) / sqrt(V[SR1])]``.
        """
        return _phi((true_sharpe - critical) / self._error(true_sharpe, n_bars))

    def observed_fdr(
        self,
        sharpe: float,
        n_bars: float,
        *,
        true_sharpe: float,
        prior: float = PRIOR,
        null_sharpe: float = 0.0,
    ) -> float:
        """Return the probability that there is no skill, given a Sharpe ratio of at least this.

        ``(1 - pi) p0 / ((1 - pi) p0 + pi p1)``, where p0 and p1 are the probabilities of such a
        ratio if the true one is ``null_sharpe`` or ``true_sharpe``, and pi is the ``prior`` of the
        latter.
        """
        p0 = 1 - self.probability(sharpe, n_bars, null_sharpe=null_sharpe)
        p1 = self.power(n_bars, true_sharpe=true_sharpe, critical=sharpe)
        return posterior_of_null(p0, p1, prior)

    def _error(self, true_sharpe: float, n_bars: float) -> float:
        variance = self.variance(true_sharpe, n_bars)
        return math.sqrt(variance) if variance > 0 else math.nan


def posterior_of_null(p0: float, p1: float, prior: float) -> float:
    """Return the probability of H0, given what has probability p0 under H0 and p1 under H1."""
    under_null = (1 - prior) * p0
    total = under_null + prior * p1
    return under_null / total if total > 0 else math.nan


def variance_of_maximum(n_trials: int) -> float:
    """Return the variance of the maximum of ``n_trials`` independent standard normal numbers.

    By quadrature of the density ``N phi(z) Phi(z)^(N - 1)``; 1 for N = 1.

    Raises
    ------
    ValueError
        When ``n_trials`` is below 1.
    """
    from scipy.special import log_ndtr

    if n_trials < 1:
        raise ValueError(f"`n_trials >= 1` must hold, but got n_trials={n_trials}.")
    if n_trials == 1:
        return 1.0
    z = np.linspace(-12.0, 40.0, 52_001)
    log_density = math.log(n_trials) + (n_trials - 1) * log_ndtr(z) - z**2 / 2
    density = np.exp(log_density) / math.sqrt(2 * math.pi)
    step = float(z[1] - z[0])
    mean = float(np.sum(density * z)) * step
    return float(np.sum(density * (z - mean) ** 2)) * step


def lag_one_correlation(returns: FloatArray) -> float:
    """Return rho of one series: its correlation with itself a bar earlier; 0 if it is flat."""
    centred = returns - returns.mean()
    total = float(centred @ centred)
    rho = float(centred[1:] @ centred[:-1]) / total if total > 0 else 0.0
    return min(max(rho, -_MOST), _MOST)


_MOST = 0.99


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What one Sharpe ratio, the best of N, proves; see :func:`infer`.

    Attributes
    ----------
    rho, psr_null, min_track_record_bars, dsr
        Of the ratio by itself: its autocorrelation, one less its p-value against zero, the bars on
        which it would just be significant; and against what the best of N is expected to show.
    critical_sharpe, power, observed_fdr
        Of the test that accounts for the selection: the ratio per bar that the best must exceed,
        how often it finds a trial with true skill, and the probability that there is no skill.
    single_critical_sharpe, single_power, single_observed_fdr
        The same, had there been no selection.
    true_annual_sharpe, prior
        The skill meant, and P[H1].
    """

    rho: float
    psr_null: float
    critical_sharpe: float
    power: float
    observed_fdr: float
    min_track_record_bars: float
    dsr: float
    single_critical_sharpe: float
    single_power: float
    single_observed_fdr: float
    true_annual_sharpe: float = TRUE_ANNUAL_SHARPE
    prior: float = PRIOR


def infer(
    sharpe: float,
    n_bars: int,
    *,
    shape: Shape,
    bars_per_year: float,
    n_trials: int,
    variance: float | None,
    critical: float | None,
    pvalue: float | None,
) -> Inference:
    """Return what the best Sharpe ratio of N trials proves.

    Parameters
    ----------
    sharpe, n_bars, shape
        SR of the best, per bar, T, and the form of its returns.
    bars_per_year
        Turns the true ratio a year into one a bar.
    n_trials, variance
        N and V of the deflated Sharpe ratio; without V it is undefined.
    critical, pvalue
        Critical value and p-value of the test of the largest ratio (SPA); None without a selection,
        where those of the single test stand for them. So they do where they promise more than it:
        runs clearly worse than zero count for nothing in SPA, whose critical value may then be
        below zero.

    Returns
    -------
    Inference
        NaN and infinity are undefined. The chance that a trial with skill exceeds ``critical`` is
        the power for one such trial among others without skill, which can only add to it.
    """
    true_sharpe = TRUE_ANNUAL_SHARPE / math.sqrt(bars_per_year)
    alone = shape.critical(n_bars)
    single = shape.observed_fdr(sharpe, n_bars, true_sharpe=true_sharpe)
    threshold, posterior = alone, single
    if critical is not None and pvalue is not None:
        reached = shape.power(n_bars, true_sharpe=true_sharpe, critical=sharpe)
        # Either the trial with skill shows such a ratio, or one of the others does.
        threshold = max(critical, alone)
        selected = posterior_of_null(pvalue, 1 - (1 - pvalue) * (1 - reached), PRIOR)
        posterior = float(np.fmax(selected, single))
    hurdle = math.nan if variance is None else expected_maximum_sharpe(n_trials, variance)
    return Inference(
        rho=shape.rho,
        psr_null=shape.probability(sharpe, n_bars),
        critical_sharpe=threshold,
        power=shape.power(n_bars, true_sharpe=true_sharpe, critical=threshold),
        observed_fdr=posterior,
        min_track_record_bars=shape.bars_to_reject(sharpe),
        dsr=shape.probability(sharpe, n_bars, null_sharpe=hurdle, n_trials=n_trials),
        single_critical_sharpe=alone,
        single_power=shape.power(n_bars, true_sharpe=true_sharpe, critical=alone),
        single_observed_fdr=single,
    )


def _quantile(level: float) -> float:
    from scipy.special import ndtri

    return -float(ndtri(level))


def _phi(z: float) -> float:
    from scipy.special import ndtr

    return float(ndtr(z))
