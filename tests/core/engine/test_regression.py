"""Least squares on factors, against statsmodels and in closed form."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from backtest_batch.core.engine.metrics import equity_metrics
from backtest_batch.core.factors import factor_metrics
from backtest_batch.records import Factors


def metrics_of(returns, factors, **options):
    held = Factors(names=tuple(f"f{n}" for n in range(factors.shape[1])), content="")
    # The first measured bar has no return.
    x = np.concatenate(([np.nan], returns))
    f = np.vstack((np.full(factors.shape[1], np.nan), factors))
    return factor_metrics(held, f, x, periods_per_year=252.0, **options)


def market(n, k, seed, *, correlation=0.0):
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 0.01, (n, 1))
    factors = (1 - correlation) * rng.normal(0, 0.01, (n, k)) + correlation * common
    returns = factors @ rng.normal(0, 1, k) + rng.normal(0.0002, 0.01, n)
    return returns, factors


@pytest.mark.oracle
@pytest.mark.parametrize("risk_free_rate", [0.0, 0.03])
@pytest.mark.parametrize(
    ("n", "k", "correlation"), [(6, 3, 0.0), (250, 1, 0.0), (2_000, 5, 0.999), (50_000, 6, 0.5)]
)
def test_the_figures_equal_those_of_statsmodels(oracle, n, k, correlation, risk_free_rate):
    api = oracle("statsmodels.api")
    returns, factors = market(n, k, n + k, correlation=correlation)
    ours = metrics_of(returns, factors, risk_free_rate=risk_free_rate)
    theirs = api.OLS(returns - risk_free_rate / 252, api.add_constant(factors)).fit()
    expected = [theirs.params[0] * 252, theirs.rsquared, *theirs.params[1:]]
    assert_allclose(list(ours.values()), expected, rtol=1e-10, atol=1e-12)
    assert list(ours) == ["alpha_factors", "r2_factors", *(f"beta_f{i}" for i in range(k))]


@pytest.mark.oracle
def test_beta_and_alpha_against_a_benchmark_equal_those_of_empyrical(oracle):
    empyrical = oracle("empyrical")
    returns, factors = market(1_500, 1, 3)
    index = pd.bdate_range("2015-01-01", periods=1_500)
    r, b = pd.Series(returns, index=index), pd.Series(factors[:, 0], index=index)
    equity = np.cumprod(np.concatenate(([1.0], 1 + returns)))
    ours, _ = equity_metrics(
        equity, periods_per_year=252, benchmark_returns=np.concatenate(([np.nan], factors[:, 0]))
    )
    assert_allclose(ours["beta"], empyrical.beta(r, b), rtol=1e-10)
    # Theirs is compounded to a year, ours is a year's sum.
    a_bar = (1 + empyrical.alpha(r, b, period="daily")) ** (1 / 252) - 1
    assert_allclose(ours["alpha"] / 252, a_bar, rtol=1e-10)
    one = metrics_of(returns, factors)
    assert_allclose(
        [one["alpha_factors"], one["beta_f0"]], [ours["alpha"], ours["beta"]], rtol=1e-10
    )


def test_returns_that_are_made_of_factors_are_explained_exactly():
    _, factors = market(300, 2, 5)
    found = metrics_of(0.001 + factors @ [0.5, -2.0], factors)
    assert found["alpha_factors"] == pytest.approx(0.252, rel=1e-10)
    assert found["beta_f0"] == pytest.approx(0.5, rel=1e-10)
    assert found["beta_f1"] == pytest.approx(-2.0, rel=1e-10)
    assert found["r2_factors"] == pytest.approx(1.0, rel=1e-12)


def test_bars_without_a_factor_are_left_out():
    returns, factors = market(300, 2, 6)
    gaps = factors.copy()
    gaps[::7, 1] = np.nan
    kept = ~np.isnan(gaps[:, 1])
    assert metrics_of(returns, gaps) == metrics_of(returns[kept], factors[kept])


@pytest.mark.parametrize("name", ["alpha_factors", "r2_factors", "beta_f0"])
def test_what_cannot_be_told_is_absent(name):
    returns, factors = market(200, 3, 7)
    collinear = np.column_stack((factors, factors @ [1.0, 2.0, -1.0]))
    constant = np.column_stack((factors, np.full(200, 0.01)))
    for wrong in (collinear, constant, np.full((200, 1), np.nan)):
        assert name not in metrics_of(returns, wrong)
    assert name not in metrics_of(returns[:4], factors[:4])
    assert name in metrics_of(returns[:5], factors[:5])


def test_constant_returns_have_no_share_of_variance():
    found = metrics_of(np.full(100, 0.001), market(100, 1, 8)[1])
    assert found["alpha_factors"] == pytest.approx(0.252)
    assert "r2_factors" not in found


def test_the_bits_do_not_depend_on_where_the_arrays_lie():
    returns, factors = market(999, 3, 9)
    wide = np.empty((999, 7))
    wide[:, 2:5] = factors
    assert metrics_of(returns, factors) == metrics_of(returns, wide[:, 2:5])
