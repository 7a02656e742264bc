import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.strategies import MultifactorLongShort

NAN = float("nan")


def reversal(**arguments):
    """Only the last bar's return, so that ranks can be read off the prices."""
    chosen = {"factors": {"short_term_reversal": 1.0}, "reversal_lookback": 1, "quantile": 0.2}
    return MultifactorLongShort(**(chosen | arguments))


def ladder(panel, returns):
    return panel({f"S{i}": [100.0, 100.0 * (1.0 + change)] for i, change in enumerate(returns)})


LAST = np.array([1])
TEN = [0.05, 0.01, -0.04, 0.02, 0.03, -0.05, 0.04, -0.01, -0.02, -0.03]


@pytest.mark.parametrize(
    ("quantile", "longs", "shorts"),
    [
        (0.2, [2, 5], [0, 6]),
        (0.3, [2, 5, 9], [0, 4, 6]),
        (0.05, [5], [0]),
        (0.5, [2, 5, 7, 8, 9], [0, 1, 3, 4, 6]),
    ],
)
def test_the_last_losers_are_bought_and_the_last_winners_sold(panel, quantile, longs, shorts):
    weights = reversal(quantile=quantile).target_weights(ladder(panel, TEN), LAST)[0]
    assert np.flatnonzero(weights > 0).tolist() == longs
    assert np.flatnonzero(weights < 0).tolist() == shorts
    np.testing.assert_allclose(weights[longs], 0.5 / len(longs), rtol=1e-15)
    np.testing.assert_allclose(weights[shorts], -0.5 / len(shorts), rtol=1e-15)


@pytest.mark.parametrize(
    ("gross", "net", "long", "short"),
    [(1.0, 0.0, 0.5, -0.5), (2.0, 0.5, 1.25, -0.75), (1.0, 1.0, 1.0, 0.0), (1.0, -1.0, 0.0, -1.0)],
)
def test_exposures_split_into_the_legs(panel, gross, net, long, short):
    rule = reversal(quantile=0.1, gross_exposure=gross, net_exposure=net)
    weights = rule.target_weights(ladder(panel, TEN), LAST)[0]
    assert weights[5] == long
    assert weights[0] == short
    assert np.abs(weights).sum() == gross
    assert weights.sum() == net
    assert not np.any(np.signbit(weights[weights == 0.0]))


def test_a_negative_weight_turns_a_factor_round(panel):
    prices = ladder(panel, TEN)
    turned = reversal(factors={"short_term_reversal": -2.0})
    np.testing.assert_array_equal(
        turned.target_weights(prices, LAST), -reversal().target_weights(prices, LAST)
    )


def test_equal_scores_rank_by_position(panel):
    prices = ladder(panel, [0.0, 0.01, 0.0, 0.01, 0.0, 0.01])
    weights = reversal(quantile=0.34).target_weights(prices, LAST)
    np.testing.assert_array_equal(weights, [[0.25, 0, 0.25, -0.25, 0, -0.25]])


@pytest.mark.parametrize(
    ("closes", "expected"),
    [
        ({"A": [1, 2]}, [0]),
        ({"A": [1, 2], "B": [2, 1]}, [-0.5, 0.5]),
        ({"A": [1, 2], "B": [3, 6]}, [0, 0]),
        ({"A": [1, 2], "B": [NAN, 1]}, [0, 0]),
        ({"A": [1, 2], "B": [NAN, 1], "C": [1, 1]}, [-0.5, 0, 0.5]),
        ({"A": [1, 2], "B": [1, 3], "C": [1, 4]}, [0.5, 0, -0.5]),
        ({"A": [NAN, NAN], "B": [NAN, 1]}, [0, 0]),
    ],
)
def test_few_assets(panel, closes, expected):
    weights = reversal(quantile=0.5).target_weights(panel(closes), LAST)
    np.testing.assert_array_equal(weights, [expected])


def test_factors_that_cancel_hold_cash(panel):
    steps = np.random.default_rng(0).normal(0.0, 0.02, (50, 5))
    prices = panel(dict(zip("ABCDE", 10 * np.exp(np.cumsum(steps, axis=0)).T, strict=True)))
    rule = MultifactorLongShort(
        factors={"momentum": 0.3, "short_term_reversal": 0.3},
        momentum_lookback=5,
        momentum_skip=0,
        reversal_lookback=5,
    )
    assert not np.any(rule.target_weights(prices, np.arange(50)))


def test_the_bundle_against_pandas(market):
    rule = MultifactorLongShort(
        factors={"momentum": 2.0, "low_volatility": 1.0, "short_term_reversal": 0.5},
        momentum_lookback=80,
        momentum_skip=10,
        volatility_lookback=30,
        reversal_lookback=7,
        quantile=0.34,
        gross_exposure=1.5,
        net_exposure=0.3,
    )
    close = pd.DataFrame(market.fields["close"])
    momentum = (close.shift(10) / close.shift(80) - 1).where(close.notna())
    calm = -close.pct_change(fill_method=None).rolling(30).std()
    loser = -(close / close.shift(7) - 1)
    ranked = momentum.notna() & calm.notna() & loser.notna()

    def z(frame):
        held = frame.where(ranked)
        centred = held.sub(held.mean(axis=1), axis=0)
        return centred.div(held.std(axis=1, ddof=0), axis=0)

    score = 2.0 * z(momentum) + 1.0 * z(calm) + 0.5 * z(loser)
    count = ranked.sum(axis=1)
    size = np.floor(0.34 * count).clip(lower=1)
    best = score.rank(axis=1, ascending=False).le(size, axis=0) & ranked
    worst = score.rank(axis=1, ascending=True).le(size, axis=0) & ranked
    expected = best.astype(float).mul(0.9 / size, axis=0) - worst.astype(float).mul(
        0.6 / size, axis=0
    )

    found = rule.target_weights(market, np.arange(market.n_bars))
    assert rule.warmup_bars == 80
    assert np.flatnonzero(found.any(axis=1)).min() == 80
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("factors", "warmup"),
    [
        ({"momentum": 1.0, "low_volatility": 1.0, "short_term_reversal": 1.0}, 252),
        ({"momentum": 0.0, "low_volatility": 1.0, "short_term_reversal": 1.0}, 60),
        ({"short_term_reversal": 1.0}, 21),
    ],
)
def test_a_factor_of_weight_zero_needs_no_history(factors, warmup):
    assert MultifactorLongShort(factors=factors).warmup_bars == warmup


def test_it_keeps_its_own_copy_of_the_factors():
    factors = {"momentum": 1.0}
    rule = MultifactorLongShort(factors=factors)
    factors["low_volatility"] = 1.0
    assert rule.factors == {"momentum": 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"factors": {"momentun": 1.0}},
            (
                "`factors` must be named momentum, low_volatility, short_term_reversal, but got "
                "'momentun'. Did you mean momentum?"
            ),
        ),
        (
            {"factors": {"momentum": NAN}},
            "`isfinite(factors[name])` must hold, but got name='momentum', weight=nan.",
        ),
        (
            {"factors": {"momentum": 0.0}},
            "`any(factors.values())` must hold, but got factors={'momentum': 0.0}.",
        ),
        ({"factors": {}}, "`any(factors.values())` must hold, but got factors={}."),
        (
            {"momentum_skip": 252},
            (
                "`0 <= momentum_skip < momentum_lookback` must hold, but got momentum_skip=252, "
                "momentum_lookback=252."
            ),
        ),
        (
            {"volatility_lookback": 1},
            "`volatility_lookback >= 2` must hold, but got volatility_lookback=1.",
        ),
        (
            {"reversal_lookback": 0},
            "`reversal_lookback >= 1` must hold, but got reversal_lookback=0.",
        ),
        ({"quantile": 0.6}, "`0 < quantile <= 0.5` must hold, but got quantile=0.6."),
        ({"quantile": NAN}, "`0 < quantile <= 0.5` must hold, but got quantile=nan."),
        (
            {"gross_exposure": 0.0},
            "`0 < gross_exposure < inf` must hold, but got gross_exposure=0.0.",
        ),
        (
            {"net_exposure": -1.5},
            (
                "`abs(net_exposure) <= gross_exposure` must hold, but got net_exposure=-1.5, "
                "gross_exposure=1.0."
            ),
        ),
    ],
)
def test_arguments_that_contradict_are_refused(arguments, message):
    with pytest.raises(ValueError, match="must") as caught:
        MultifactorLongShort(**arguments)
    assert str(caught.value) == message
