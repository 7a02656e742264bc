import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.strategies import TrendBaseline

NAN = float("nan")
EVERY = np.arange(4)


def test_sma_crossover_by_hand(panel):
    # Slow averages: A -, 11, 11.5, 11 and B -, 9.5, 10.5, 12. The last bar is a tie for both.
    prices = panel({"A": [10, 12, 11, 11], "B": [10, 9, 12, 12]})
    rule = TrendBaseline(average="sma", fast=1, slow=2)
    np.testing.assert_array_equal(
        rule.target_weights(prices, EVERY), [[0, 0], [1, 0], [0, 1], [0, 0]]
    )
    both = TrendBaseline(average="sma", fast=1, slow=2, direction="long_short")
    np.testing.assert_array_equal(
        both.target_weights(prices, EVERY), [[0, 0], [0.5, -0.5], [-0.5, 0.5], [0, 0]]
    )


def test_ema_crossover_by_hand(panel):
    # Slow averages (step 1/2): A 8, 10, 10, 9.75; B 8, 6, 7, 7.5; C -, 4, 5, 6 has three closes
    # at the last bar only.
    prices = panel({"A": [8, 12, 10, 9.5], "B": [8, 4, 8, 8], "C": [NAN, 4, 6, 7]})
    rule = TrendBaseline(average="ema", fast=1, slow=3)
    np.testing.assert_array_equal(
        rule.target_weights(prices, EVERY), [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0.5, 0.5]]
    )


def test_rising_assets_share_the_whole_book(panel):
    prices = panel({"A": [1, 2], "B": [1, 3], "C": [1, 4], "D": [2, 1]})
    weights = TrendBaseline(average="sma", fast=1, slow=2).target_weights(prices, np.array([1]))
    np.testing.assert_array_equal(weights, [[1 / 3, 1 / 3, 1 / 3, 0]])


@pytest.mark.parametrize("average", ["ema", "sma"])
@pytest.mark.parametrize("direction", ["long_only", "long_short"])
def test_crossover_against_pandas(market, average, direction):
    fast, slow = 10, 40
    close = pd.DataFrame(market.fields["close"])
    if average == "sma":
        difference = close.rolling(fast).mean() - close.rolling(slow).mean()
    else:
        difference = (
            close.ewm(span=fast, adjust=False).mean()
            - close.ewm(span=slow, adjust=False, min_periods=slow).mean()
        ).where(close.notna())
    signs = np.sign(difference).fillna(0.0)
    if direction == "long_only":
        signs = signs.clip(lower=0.0)
    expected = signs.div(signs.abs().sum(axis=1).clip(lower=1.0), axis=0)

    rule = TrendBaseline(average=average, fast=fast, slow=slow, direction=direction)
    found = rule.target_weights(market, np.arange(market.n_bars))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("average", ["ema", "sma"])
def test_assets_take_part_with_slow_closes_and_until_their_last(market, average):
    rule = TrendBaseline(average=average, direction="long_short", fast=10, slow=40)
    weights = rule.target_weights(market, np.arange(market.n_bars))
    assert rule.warmup_bars == 40
    held = [np.flatnonzero(column) for column in weights.T]
    assert [column.min() for column in held] == [39, 39, 39, 39, 90 + 39, 39]
    assert [column.max() for column in held] == [399, 399, 399, 399, 399, 309]


@pytest.mark.parametrize("average", ["ema", "sma"])
def test_a_market_that_stands_still_is_cash(panel, average):
    prices = panel({"A": [0.1] * 200, "B": [1 / 3] * 200})
    rule = TrendBaseline(average=average, direction="long_short")
    assert not np.any(rule.target_weights(prices, np.arange(200)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fast": 99, "slow": 50}, "`fast < slow` must hold, but got fast=99, slow=50."),
        ({"fast": 60, "slow": 60}, "`fast < slow` must hold, but got fast=60, slow=60."),
        ({"fast": 0}, "`fast >= 1` must hold, but got fast=0."),
        ({"average": "wma"}, "`average` must be one of ema, sma, but got 'wma'."),
        (
            {"direction": "short"},
            "`direction` must be one of long_only, long_short, but got 'short'.",
        ),
    ],
)
def test_arguments_that_contradict_are_refused(arguments, message):
    with pytest.raises(ValueError, match="must") as caught:
        TrendBaseline(**arguments)
    assert str(caught.value) == message


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError, match="must") as caught:
        TrendBaseline(average="wma", fast=0, slow=-1)
    assert str(caught.value) == (
        "`average` must be one of ema, sma, but got 'wma'. `fast >= 1` must hold, but got fast=0. "
        "`fast < slow` must hold, but got fast=0, slow=-1."
    )
