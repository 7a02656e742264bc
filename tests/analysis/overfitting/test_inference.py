"""What a Sharpe ratio proves: the published example, limits, and simulations."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm

from backtest_batch.analysis.overfitting.inference import (
    Shape,
    infer,
    lag_one_correlation,
    posterior_of_null,
    variance_of_maximum,
)
from backtest_batch.analysis.overfitting.sharpe import (
    expected_maximum_sharpe,
    sharpe_variance,
)

# Lopez de Prado, Lipton and Zoonekynd (2025): monthly returns with mean 0.036 and standard
# deviation 0.079, of which there are 24.
SHARPE, N_BARS = 0.036 / 0.079, 24
MOMENTS = {"skew": -2.448, "kurtosis": 10.164}


@pytest.mark.parametrize(
    ("rho", "expected"),
    [
        (0.0, (0.987, 0.939, 16.456, 0.262, 0.758, 0.173, 0.416)),
        (0.2, (0.966, 0.900, 23.899, 0.320, 0.676, 0.361, 0.427)),
    ],
)
def test_the_published_example(rho, expected):
    shape = Shape(rho=rho, **MOMENTS)
    critical = shape.critical(N_BARS, level=0.10)
    best = expected_maximum_sharpe(10, 0.1)
    assert best == pytest.approx(0.498, abs=5e-4)
    found = (
        shape.probability(SHARPE, N_BARS),
        shape.probability(SHARPE, N_BARS, null_sharpe=0.1),
        shape.bars_to_reject(SHARPE, null_sharpe=0.1, level=0.10),
        critical,
        shape.power(N_BARS, true_sharpe=0.5, critical=critical),
        shape.observed_fdr(SHARPE, N_BARS, true_sharpe=0.5, prior=0.10),
        shape.probability(SHARPE, N_BARS, null_sharpe=best, n_trials=10),
    )
    assert tuple(round(value, 3) for value in found) == expected


def test_further_published_values():
    shape = Shape(**MOMENTS)
    assert round(math.sqrt(shape.variance(SHARPE, N_BARS)), 3) == 0.329
    assert round(math.sqrt(Shape().variance(SHARPE, N_BARS)), 3) == 0.214
    assert round(shape.bars_to_reject(SHARPE), 3) == 13.029
    power = shape.power(N_BARS, true_sharpe=0.5, critical=shape.critical(N_BARS))
    assert round(1 - power, 3) == 0.315
    assert round(posterior_of_null(0.05, 1 - 0.315, 0.05), 3) == 0.581
    assert round(shape.observed_fdr(SHARPE, N_BARS, true_sharpe=0.5, prior=0.05), 3) == 0.306


def test_without_autocorrelation_the_variance_is_the_classical_one():
    assert Shape(**MOMENTS).variance(0.3, 100) == pytest.approx(
        sharpe_variance(0.3, MOMENTS["skew"], MOMENTS["kurtosis"]) / 100
    )


def test_the_variance_is_that_of_simulated_autocorrelated_returns():
    rho, true_sharpe, n_bars = 0.3, 0.2, 400
    noise = np.random.default_rng(0).standard_normal((n_bars + 100, 20_000))
    returns = lfilter([math.sqrt(1 - rho**2)], [1, -rho], noise, axis=0)[100:] + true_sharpe
    estimates = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    expected = Shape(rho=rho).variance(true_sharpe, n_bars)
    assert estimates.var() == pytest.approx(expected, rel=0.04)


def test_bars_to_reject_are_those_on_which_the_ratio_is_critical():
    shape = Shape(skew=-1.0, kurtosis=8.0, rho=0.15)
    n_bars = shape.bars_to_reject(0.1, null_sharpe=0.02)
    assert shape.critical(n_bars, null_sharpe=0.02) == pytest.approx(0.1)
    assert shape.bars_to_reject(0.02, null_sharpe=0.02) == math.inf


@pytest.mark.parametrize("n_trials", [1, 2, 3, 10, 200])
def test_the_variance_of_the_maximum(n_trials):
    draws = np.random.default_rng(1).standard_normal((100_000, n_trials)).max(axis=1)
    assert variance_of_maximum(n_trials) == pytest.approx(draws.var(), rel=0.02)


def test_known_variances_of_the_maximum():
    assert variance_of_maximum(2) == pytest.approx(1 - 1 / math.pi, abs=1e-9)
    assert variance_of_maximum(10) == pytest.approx(0.3443438, abs=1e-7)
    # Of very many it is that of a Gumbel distribution, slowly.
    assert variance_of_maximum(10**15) == pytest.approx(math.pi**2 / 6 / (2 * 34.5), rel=0.05)
    with pytest.raises(ValueError, match="n_trials >= 1"):
        variance_of_maximum(0)


def test_the_correlation_with_the_bar_before():
    noise = np.random.default_rng(2).standard_normal(100_000)
    assert lag_one_correlation(lfilter([1], [1, -0.4], noise)) == pytest.approx(0.4, abs=0.01)
    assert lag_one_correlation(np.zeros(50)) == 0.0
    # A trend is as dependent as the formulas bear.
    assert lag_one_correlation(np.linspace(-1, 1, 10_000)) == 0.99


def inference(**changes):
    given = {
        "shape": Shape(rho=0.1),
        "bars_per_year": 252.0,
        "n_trials": 50,
        "variance": 0.0004,
        "critical": 0.08,
        "pvalue": 0.02,
        **changes,
    }
    return infer(0.09, 1_000, **given)


def test_the_power_counts_the_selection():
    found, true_sharpe = inference(), 0.5 / math.sqrt(252)
    error = math.sqrt(Shape(rho=0.1).variance(true_sharpe, 1_000))
    assert found.power == pytest.approx(norm.sf((0.08 - true_sharpe) / error))
    assert found.critical_sharpe == 0.08 > found.single_critical_sharpe
    assert found.power < found.single_power
    assert found.observed_fdr > found.single_observed_fdr
    # p-value 0.02; a run with skill shows as much with this probability, or else luck does.
    reached = 1 - 0.98 * norm.cdf((0.09 - true_sharpe) / error)
    assert found.observed_fdr == pytest.approx(0.9 * 0.02 / (0.9 * 0.02 + 0.1 * reached))


def test_without_a_selection_it_is_the_single_test():
    found = inference(critical=None, pvalue=None, n_trials=1, variance=0.0)
    assert found.critical_sharpe == found.single_critical_sharpe
    assert found.power == found.single_power
    assert found.observed_fdr == found.single_observed_fdr
    assert found.dsr == found.psr_null
    assert math.isnan(inference(variance=None).dsr)


def test_the_power_is_how_often_the_test_finds_planted_skill():
    n_bars, n_trials, n_sweeps = 250, 20, 4_000
    generator = np.random.default_rng(3)
    noise = generator.standard_normal((n_bars, n_trials, n_sweeps))
    ratios = noise.mean(axis=0) / noise.std(axis=0, ddof=1)
    critical = float(np.quantile(ratios.max(axis=0), 0.95))
    true_sharpe = 0.2
    shifted = noise[:, 0] + true_sharpe
    found = shifted.mean(axis=0) / shifted.std(axis=0, ddof=1) > critical
    power = Shape().power(n_bars, true_sharpe=true_sharpe, critical=critical)
    assert power == pytest.approx(found.mean(), abs=0.02)


def test_no_selection_is_more_powerful_than_a_single_test():
    # Where all trials are clearly worse than zero, the best of them has a critical value below it.
    found = inference(critical=-0.5, pvalue=0.001)
    assert found.critical_sharpe == found.single_critical_sharpe > 0
    assert found.power == found.single_power < 0.5
    assert found.observed_fdr == found.single_observed_fdr
