"""The formulas reproduce the figures that their authors published, and skfolio's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.analysis.overfitting.sharpe import (
    deflated_sharpe_ratio,
    expected_maximum,
    expected_maximum_sharpe,
    min_backtest_length_years,
    min_track_record_length,
    probabilistic_sharpe_ratio,
)


def describe(returns):
    centred = returns - returns.mean(axis=0)
    second = (centred**2).mean(axis=0)
    return {
        "sharpe": returns.mean(axis=0) / returns.std(axis=0, ddof=1),
        "skew": (centred**3).mean(axis=0) / second**1.5,
        "kurtosis": (centred**4).mean(axis=0) / second**2,
    }


@pytest.mark.parametrize(("n_trials", "sr0", "dsr"), [(100, 0.1132, 0.9004), (46, None, 0.9505)])
def test_the_example_of_the_deflated_sharpe_ratio_paper(n_trials, sr0, dsr):
    found = deflated_sharpe_ratio(
        2.5 / math.sqrt(250), 1250, n_trials=n_trials, variance=0.5 / 250, skew=-3, kurtosis=10
    )
    assert found == pytest.approx(dsr, abs=5e-5)
    if sr0 is not None:
        assert expected_maximum_sharpe(n_trials, 0.5 / 250) == pytest.approx(sr0, abs=5e-5)


def test_the_example_of_the_probabilistic_sharpe_ratio():
    assert probabilistic_sharpe_ratio(0.458, 24) == pytest.approx(0.9817, abs=5e-5)
    found = probabilistic_sharpe_ratio(0.458, 24, skew=-2.448, kurtosis=10.164)
    assert found == pytest.approx(0.9134, abs=5e-5)


@pytest.mark.parametrize(
    ("periods", "moments", "years"),
    [
        (252, {}, 2.73),
        (52, {}, 2.83),
        (12, {}, 3.24),
        (12, {"skew": -0.72, "kurtosis": 5.78}, 4.99),
    ],
)
def test_the_examples_of_the_minimum_track_record_length(periods, moments, years):
    scale = math.sqrt(periods)
    found = min_track_record_length(2 / scale, benchmark_sharpe=1 / scale, **moments)
    assert found / periods == pytest.approx(years, abs=5e-3)


def test_the_track_record_is_endless_without_a_better_ratio():
    assert min_track_record_length(0.0) == math.inf
    assert min_track_record_length(0.1, benchmark_sharpe=0.1) == math.inf


@settings(deadline=None, max_examples=50)
@given(st.floats(0.02, 0.5), st.floats(-2, 2), st.floats(0, 10))
def test_after_the_minimum_track_record_the_probability_is_reached(sharpe, skew, above):
    kurtosis = skew**2 + 1 + above
    length = min_track_record_length(sharpe, skew=skew, kurtosis=kurtosis)
    reached = probabilistic_sharpe_ratio(sharpe, length, skew=skew, kurtosis=kurtosis)
    assert reached == pytest.approx(0.95, abs=1e-9)


@pytest.mark.oracle
def test_skfolio_agrees():
    from skfolio.measures import deflated_sharpe_ratio as skfolio_dsr
    from skfolio.measures import probabilistic_sharpe_ratio as skfolio_psr

    generator = np.random.default_rng(5)
    returns = 0.0005 + 0.01 * generator.standard_t(5, (600, 40))
    figures = describe(returns)
    np.testing.assert_allclose(
        probabilistic_sharpe_ratio(n_bars=600, benchmark_sharpe=0.02, **figures),
        skfolio_psr(returns, benchmark_sharpe_ratio=0.02),
        rtol=1e-12,
    )
    variance = float(np.var(figures["sharpe"], ddof=1))
    np.testing.assert_allclose(
        deflated_sharpe_ratio(n_bars=600, n_trials=40, variance=variance, **figures),
        skfolio_dsr(returns, figures["sharpe"]),
        rtol=1e-10,
    )


def test_one_trial_is_no_selection():
    assert expected_maximum(1) == 0.0
    assert expected_maximum_sharpe(1, math.nan) == 0.0
    alone = deflated_sharpe_ratio(0.05, 500, n_trials=1, variance=0.1)
    assert alone == probabilistic_sharpe_ratio(0.05, 500)
    with pytest.raises(ValueError, match="n_trials=0"):
        expected_maximum(0)


def test_the_expected_maximum_is_that_of_normal_numbers():
    draws = np.random.default_rng(1).standard_normal((20_000, 50)).max(axis=1)
    assert expected_maximum(50) == pytest.approx(draws.mean(), rel=0.03)


def test_the_expected_maximum_grows_without_end():
    values = [expected_maximum(n) for n in (2, 10, 1_000, 10**6, 10**12)]
    assert values == sorted(values)
    assert values[-1] > 7


def test_the_minimum_backtest_length_of_45_trials_is_five_years():
    # Bailey and others (2014): with five years of data, no more than 45 trials at a ratio of 1.
    assert min_backtest_length_years(1.0, 45) == pytest.approx(5.0, abs=0.1)
    assert min_backtest_length_years(-0.1, 45) == math.inf


def test_a_ratio_whose_estimate_has_no_variance_has_no_probability():
    assert math.isnan(probabilistic_sharpe_ratio(1.0, 100, skew=2.0, kurtosis=5.0))
