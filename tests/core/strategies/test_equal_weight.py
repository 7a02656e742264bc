import numpy as np

from backtest_batch.core.strategies import EqualWeight

NAN = float("nan")


def test_every_asset_with_a_price_has_the_same_weight(panel):
    prices = panel({"A": [1, 2, 3, NAN], "B": [NAN, 5, 5, NAN], "C": [7, 7, NAN, NAN]})
    weights = EqualWeight().target_weights(prices, np.arange(4))
    np.testing.assert_array_equal(
        weights, [[0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0], [0, 0, 0]]
    )
    assert EqualWeight().warmup_bars == 0


def test_one_asset_has_it_all(panel):
    weights = EqualWeight().target_weights(panel({"A": [1, 2]}), np.array([0, 1]))
    np.testing.assert_array_equal(weights, [[1.0], [1.0]])
