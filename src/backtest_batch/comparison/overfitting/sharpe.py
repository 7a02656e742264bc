"""What one Sharpe ratio is worth: its probability, its deflation, and how long it takes.

Sharpe ratios are per period, not annualised: mean over standard deviation (ddof 1). Skew and
kurtosis are population moments, kurtosis not in excess (3 for a normal distribution). All
functions take numbers or arrays that broadcast.
"""

import math

import numpy as np
import numpy.typing as npt

Values = float | npt.NDArray[np.float64]

EULER_MASCHERONI = 0.5772156649015329


def sharpe_variance(sharpe: Values, skew: Values, kurtosis: Values) -> Values:
    """Return the variance of a Sharpe ratio's estimate, times T - 1.

    ``1 - skew SR + (kurtosis - 1) / 4 SR^2`` (Mertens 2002; Lo 2002 for normal returns). It is
    never negative for the moments of one series, and zero only for a two-point distribution.
    """
    return 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2


def probabilistic_sharpe_ratio(
    sharpe: Values,
    n_bars: int,
    *,
    skew: Values = 0.0,
    kurtosis: Values = 3.0,
    benchmark_sharpe: Values = 0.0,
) -> Values:
    """Return the probability that the true Sharpe ratio exceeds ``benchmark_sharpe``.

    ``PSR(SR*) = Phi[(SR - SR*) sqrt(T - 1) / sqrt(1 - skew SR + (kurtosis - 1) / 4 SR^2)]``.

    Parameters
    ----------
    sharpe, benchmark_sharpe
        Sharpe ratios per period.
    n_bars
        T, the number of returns.
    skew, kurtosis
        Moments of the returns; kurtosis not in excess.

    Returns
    -------
    float or ndarray
        In [0, 1]; NaN where the variance of the estimate is not positive.

    References
    ----------
    Bailey and Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier.
    """
    from scipy.special import ndtr

    variance = np.asarray(sharpe_variance(sharpe, skew, kurtosis))
    scale = np.sqrt(np.where(variance > 0, variance, np.nan))
    probability = ndtr((sharpe - np.asarray(benchmark_sharpe)) * math.sqrt(n_bars - 1) / scale)
    return float(probability) if np.ndim(probability) == 0 else probability


def expected_maximum(n_trials: int) -> float:
    """Return the expected maximum of ``n_trials`` independent standard normal numbers.

    ``(1 - gamma) Phi^-1(1 - 1/N) + gamma Phi^-1(1 - 1/(N e))``, and 0 for N = 1 (one trial is no
    selection).

    Raises
    ------
    ValueError
        When ``n_trials`` is below 1.

    References
    ----------
    Bailey, Borwein, Lopez de Prado and Zhu (2014), Pseudo-Mathematics and Financial
    Charlatanism, proposition 1.
    """
    from scipy.special import ndtri

    if n_trials < 1:
        raise ValueError(f"`n_trials >= 1` must hold, but got n_trials={n_trials}.")
    if n_trials == 1:
        return 0.0
    # 1 - 1/N loses digits for large N; the quantile of the other tail does not.
    return float(
        -(1 - EULER_MASCHERONI) * ndtri(1 / n_trials)
        - EULER_MASCHERONI * ndtri(1 / (n_trials * math.e))
    )


def expected_maximum_sharpe(n_trials: int, variance: float) -> float:
    """Return SR0, the Sharpe ratio that the best of N trials without skill is expected to show.

    ``SR0 = sqrt(V) * expected_maximum(N)``.

    Parameters
    ----------
    n_trials
        N, the nominal number of trials.
    variance
        V, the variance (ddof 1) of the trials' Sharpe ratios.

    References
    ----------
    Bailey and Lopez de Prado (2014), The Deflated Sharpe Ratio.
    """
    return 0.0 if n_trials == 1 else math.sqrt(variance) * expected_maximum(n_trials)


def deflated_sharpe_ratio(
    sharpe: Values,
    n_bars: int,
    *,
    n_trials: int,
    variance: float,
    skew: Values = 0.0,
    kurtosis: Values = 3.0,
) -> Values:
    """Return the probability that the true Sharpe ratio exceeds what selection alone explains.

    ``DSR = PSR(SR0)`` with SR0 of :func:`expected_maximum_sharpe`.

    References
    ----------
    Bailey and Lopez de Prado (2014), The Deflated Sharpe Ratio.
    """
    return probabilistic_sharpe_ratio(
        sharpe,
        n_bars,
        skew=skew,
        kurtosis=kurtosis,
        benchmark_sharpe=expected_maximum_sharpe(n_trials, variance),
    )


def min_track_record_length(
    sharpe: float,
    *,
    skew: float = 0.0,
    kurtosis: float = 3.0,
    benchmark_sharpe: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Return how many bars it takes until PSR(SR*) reaches ``confidence``.

    ``1 + (1 - skew SR + (kurtosis - 1) / 4 SR^2) (z / (SR - SR*))^2``, and infinite when
    ``SR <= SR*``.

    References
    ----------
    Bailey and Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier.
    """
    from scipy.special import ndtri

    if sharpe <= benchmark_sharpe:
        return math.inf
    quantile = float(ndtri(confidence))
    variance = float(sharpe_variance(sharpe, skew, kurtosis))
    return 1.0 + variance * (quantile / (sharpe - benchmark_sharpe)) ** 2


def min_backtest_length_years(annual_sharpe: float, n_trials: int) -> float:
    """Return the years below which N trials without skill are expected to show this ratio.

    ``(expected_maximum(N) / annual SR)^2``; infinite when the ratio is not positive.

    References
    ----------
    Bailey, Borwein, Lopez de Prado and Zhu (2014), Pseudo-Mathematics and Financial
    Charlatanism, theorem 1.
    """
    if annual_sharpe <= 0:
        return math.inf
    return (expected_maximum(n_trials) / annual_sharpe) ** 2
