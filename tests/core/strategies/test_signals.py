import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.core.strategies.signals import (
    at,
    checked_decisions,
    cross_sectional_zscore,
    ema,
    rolling_std,
    row_sums,
    simple_return,
    sma,
    volatility,
)

SIGNALS = {
    "sma": lambda prices, decisions: sma(prices, decisions, 7),
    "ema": lambda prices, decisions: ema(prices, decisions, 7),
    "rolling_std": lambda prices, decisions: rolling_std(prices, decisions, 7),
    "volatility": lambda prices, decisions: volatility(prices, decisions, 7),
    "simple_return": lambda prices, decisions: simple_return(prices, decisions, 7, 2),
}


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def prices_of(market):
    return market.fields["close"], pd.DataFrame(market.fields["close"]), np.arange(market.n_bars)


@pytest.mark.parametrize("window", [1, 2, 20, 400])
def test_sma_is_the_rolling_mean_of_pandas(market, window):
    prices, frame, every = prices_of(market)
    same(sma(prices, every, window), frame.rolling(window).mean())


@pytest.mark.parametrize("window", [2, 20, 400])
def test_rolling_std_is_that_of_pandas(market, window):
    prices, frame, every = prices_of(market)
    np.testing.assert_allclose(
        rolling_std(prices, every, window), frame.rolling(window).std(), rtol=1e-9
    )


@pytest.mark.parametrize("span", [1, 2, 20, 399])
def test_ema_is_that_of_pandas_without_adjustment(market, span):
    prices, frame, every = prices_of(market)
    expected = frame.ewm(span=span, adjust=False, min_periods=span).mean().where(frame.notna())
    same(ema(prices, every, span), expected)


def test_volatility_is_the_rolling_std_of_the_returns(market):
    prices, frame, every = prices_of(market)
    expected = frame.pct_change(fill_method=None).rolling(30).std()
    np.testing.assert_allclose(volatility(prices, every, 30), expected, rtol=1e-9)


def test_simple_return_leaves_out_the_skipped_bars(market):
    prices, frame, every = prices_of(market)
    expected = (frame.shift(5) / frame.shift(30) - 1).where(frame.notna())
    same(simple_return(prices, every, 30, 5), expected)


def test_a_series_that_stands_still_has_exact_averages_and_no_dispersion():
    prices = np.full((300, 1), 0.1)
    every = np.arange(300)
    assert np.all(sma(prices, every, 7)[6:] == 0.1)
    assert np.all(ema(prices, every, 7)[6:] == 0.1)
    assert np.all(rolling_std(prices, every, 7)[6:] == 0.0)


def test_constant_growth_has_no_volatility():
    prices = 100.0 * 1.001 ** np.arange(300)[:, None]
    assert np.all(volatility(prices, [100, 299], 60) == 0.0)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_assets=st.integers(1, 9),
    starts=st.integers(0, 30),
    cut=st.integers(0, 49),
    name=st.sampled_from(sorted(SIGNALS)),
)
@settings(deadline=None, max_examples=100)
def test_a_row_depends_on_nothing_but_its_own_past(seed, n_assets, starts, cut, name):
    numbers = np.random.default_rng(seed)
    prices = np.exp(numbers.normal(0.0, 0.3, (50, n_assets)))
    prices[:starts, 0] = np.nan
    signal = SIGNALS[name]
    whole = signal(prices, np.arange(50))

    decisions = np.flatnonzero(numbers.random(50) < 0.3)
    np.testing.assert_array_equal(signal(prices, decisions), whole[decisions])
    np.testing.assert_array_equal(signal(prices, [cut]), whole[[cut]])
    np.testing.assert_array_equal(signal(prices[: cut + 1], [cut]), whole[[cut]])
    np.testing.assert_array_equal(signal(prices[:, :1].copy(), [cut]), whole[[cut], :1])
    changed = prices.copy()
    changed[cut + 1 :] *= 3.0
    np.testing.assert_array_equal(signal(changed, np.arange(cut + 1)), whole[: cut + 1])


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_no_decision_gives_no_row(name):
    assert SIGNALS[name](np.ones((10, 3)), np.array([], dtype=np.int64)).shape == (0, 3)


def test_at_is_nan_before_the_first_bar():
    prices = np.array([[1.0], [2.0], [4.0]])
    np.testing.assert_array_equal(at(prices, [0, 1, 2], 1), [[np.nan], [1.0], [2.0]])


def test_zscore_by_hand():
    values = np.array([[1.0, 3.0, 99.0], [7.0, 7.0, 7.0], [np.nan, 5.0, np.nan]])
    among = np.array([[True, True, False], [True, True, True], [False, True, False]])
    expected = [[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(cross_sectional_zscore(values, among), expected)


def test_zscore_takes_rounding_for_what_it_is():
    values = np.array([[0.1 + 0.2, 0.3, 0.3]])
    assert np.all(cross_sectional_zscore(values, np.ones((1, 3), dtype=bool)) == 0.0)


def test_row_sums_of_no_columns_are_zero():
    np.testing.assert_array_equal(row_sums(np.ones((2, 0))), [[0.0], [0.0]])


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ([3, 2], "strictly increasing"),
        ([2, 2], "strictly increasing"),
        ([-1, 2], "got decisions from -1 to 2, n_bars=5"),
        ([2, 5], "got decisions from 2 to 5, n_bars=5"),
        ([[1], [2]], r"shape=\(2, 1\)"),
    ],
)
def test_decisions_that_are_no_bars_are_refused(decisions, message):
    with pytest.raises(ValueError, match=message):
        checked_decisions(decisions, 5)
