import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.strategies import InverseVolatility

NAN = float("nan")


def test_half_the_volatility_has_twice_the_weight(panel):
    # Returns of +-10 %, +-20 % and 0; the last asset has one return only.
    prices = panel(
        {
            "A": [100, 110, 99],
            "B": [100, 120, 96],
            "FLAT": [5, 5, 5],
            "NEW": [NAN, 8, 9],
        }
    )
    rule = InverseVolatility(window=2)
    weights = rule.target_weights(prices, np.arange(3))
    np.testing.assert_array_equal(weights[:2], np.zeros((2, 4)))
    np.testing.assert_allclose(weights[2], [2 / 3, 1 / 3, 0, 0], rtol=1e-13)
    assert rule.warmup_bars == 2


def test_weights_against_pandas(market):
    frame = pd.DataFrame(market.fields["close"])
    inverse = 1.0 / frame.pct_change(fill_method=None).rolling(60).std()
    expected = inverse.div(inverse.sum(axis=1), axis=0).fillna(0.0)
    rule = InverseVolatility()
    found = rule.target_weights(market, np.arange(market.n_bars))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.flatnonzero(found.any(axis=1)).min() == rule.warmup_bars == 60


def test_one_asset_has_it_all(panel):
    prices = panel({"A": [1.0, 2.0, 1.0, 3.0]})
    weights = InverseVolatility(window=2).target_weights(prices, np.array([1, 2, 3]))
    np.testing.assert_array_equal(weights, [[0.0], [1.0], [1.0]])


@pytest.mark.parametrize("growth", [1.0, 1.001])
def test_without_volatility_there_is_no_weight(panel, growth):
    prices = panel({"A": 100.0 * growth ** np.arange(200), "B": 3.0 * growth ** np.arange(200)})
    weights = InverseVolatility().target_weights(prices, np.arange(200))
    assert not np.any(weights)


def test_a_tiny_volatility_gives_no_infinite_weight(panel):
    wiggle = np.where(np.arange(100) % 2 == 0, 1.0, 1.0 + 1e-11)
    prices = panel({"CALM": wiggle, "WILD": np.where(np.arange(100) % 2 == 0, 1.0, 1e12)})
    weights = InverseVolatility(window=10).target_weights(prices, np.arange(100))
    assert np.all(np.isfinite(weights))
    np.testing.assert_allclose(weights[10:].sum(axis=1), 1.0, rtol=1e-15)


@pytest.mark.parametrize("window", [1, 0, -5])
def test_a_window_without_dispersion_is_refused(window):
    with pytest.raises(ValueError, match=f"`window >= 2` must hold, but got window={window}"):
        InverseVolatility(window=window)
