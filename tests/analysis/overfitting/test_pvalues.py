import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.analysis.overfitting.multiple_tests import (
    benjamini_yekutieli,
    haircut_sharpe_ratio,
    harmonic_number,
    holm,
    sharpe_pvalues,
)

PVALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array)


def test_by_hand():
    pvalues = np.array([0.01, 0.04, 0.03])
    np.testing.assert_allclose(holm(pvalues, 3), [0.03, 0.06, 0.06])
    # c(3) = 11/6: 3 * 11/6 * (0.01 / 1, 0.03 / 2, 0.04 / 3), then the least from the right.
    np.testing.assert_allclose(benjamini_yekutieli(pvalues, 3), [0.055, 0.0733333333, 0.0733333333])


@pytest.mark.oracle
@settings(deadline=None, max_examples=15)
@given(PVALUES)
def test_statsmodels_agrees(oracle, pvalues):
    multipletests = oracle("statsmodels.stats.multitest").multipletests

    n_tests = len(pvalues)
    np.testing.assert_allclose(
        holm(pvalues, n_tests), multipletests(pvalues, method="holm")[1], atol=1e-12
    )
    np.testing.assert_allclose(
        benjamini_yekutieli(pvalues, n_tests),
        multipletests(pvalues, method="fdr_by")[1],
        atol=1e-12,
    )


@settings(deadline=None, max_examples=30)
@given(PVALUES, st.integers(0, 20))
def test_tests_without_a_pvalue_count_as_one(pvalues, missing):
    padded = np.r_[pvalues, np.ones(missing)]
    n_tests = len(padded)
    for adjust in (holm, benjamini_yekutieli):
        np.testing.assert_allclose(
            adjust(pvalues, n_tests), adjust(padded, n_tests)[: len(pvalues)], atol=1e-12
        )


def test_pvalues_are_two_sided_and_a_loss_is_no_skill():
    found = sharpe_pvalues(np.array([1.959963984540054, 0.0, -3.0]) / 10, 100)
    np.testing.assert_allclose(found, [0.05, 1.0, 1.0], atol=1e-12)


def test_the_haircut_undoes_the_adjustment():
    # 0.92 a year over 20 years of months is t = 4.114, p = 3.88e-5; 200 tests make it 0.00776,
    # which is t = 2.662.
    monthly = 0.92 / math.sqrt(12)
    pvalue = sharpe_pvalues(np.array([monthly]), 240)[0]
    assert holm(np.array([pvalue]), 200)[0] == pytest.approx(200 * pvalue)
    cut = haircut_sharpe_ratio(monthly, 240, 200)
    assert sharpe_pvalues(np.array([cut]), 240)[0] == pytest.approx(200 * pvalue, rel=1e-9)
    assert cut * math.sqrt(240) == pytest.approx(2.662, abs=1e-3)


def test_the_haircut_ends_at_nothing_and_starts_at_the_ratio_itself():
    assert haircut_sharpe_ratio(0.01, 100, 50) == 0.0
    assert haircut_sharpe_ratio(-0.5, 100, 1) == 0.0
    assert haircut_sharpe_ratio(0.2, 500, 1) == pytest.approx(0.2)


def test_the_haircut_of_a_huge_ratio_is_finite():
    cut = haircut_sharpe_ratio(1.0, 8_000, 1_000)
    assert 0.99 < cut < 1.0


@pytest.mark.parametrize("n", [1, 2, 57, 10_000, 10_001, 200_000])
def test_the_harmonic_number_is_the_sum(n):
    assert harmonic_number(n) == pytest.approx(math.fsum(1 / k for k in range(1, n + 1)), rel=1e-12)


@pytest.mark.parametrize("n", [10**18, 10**25])
def test_as_many_tests_as_nobody_can_list(n):
    assert harmonic_number(n) == pytest.approx(math.log(n) + np.euler_gamma, rel=1e-12)
    pvalues = np.array([1e-30, 0.5])
    expected = [1e-30 * n, 1.0]
    np.testing.assert_allclose(holm(pvalues, n), expected, rtol=1e-12)
    np.testing.assert_allclose(
        benjamini_yekutieli(pvalues, n), [1e-30 * n * harmonic_number(n), 1.0], rtol=1e-12
    )
