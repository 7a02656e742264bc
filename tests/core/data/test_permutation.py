"""Markets in another order: what moves, what stays, and that the real one is one of equals."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from backtest_batch.analysis.overfitting.permutation import PermutationTest
from backtest_batch.core.data.panel import new_panel
from backtest_batch.core.data.permutation import bar_order, permuted_panel, share_moved
from backtest_batch.records import PermutedMarket

N_BARS = 400


def market(number=1, mean_block=5.0, seed=3):
    return PermutedMarket(number=number, seed=seed, mean_block=mean_block)


def panel(n_bars=N_BARS, n_assets=3, seed=0, index=None, **holes):
    generator = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(0.01 * generator.standard_normal((n_bars, n_assets)), axis=0))
    for asset, (begin, end) in holes.items():
        column = int(asset.removeprefix("asset_"))
        close[:begin, column] = np.nan
        close[end:, column] = np.nan
    spread = 1 + 0.01 * generator.random((n_bars, n_assets))
    fields = {
        "open": close * (1 + 0.002 * generator.standard_normal((n_bars, n_assets))),
        "high": close * spread,
        "low": close / spread,
        "close": close,
        "volume": np.where(np.isnan(close), np.nan, generator.integers(1, 99, close.shape)),
    }
    index = pd.bdate_range("2015-01-01", periods=n_bars).as_unit("ns") if index is None else index
    symbols = tuple(f"asset_{number}" for number in range(n_assets))
    arrays = {name: np.ascontiguousarray(values) for name, values in fields.items()}
    return new_panel(index, symbols, arrays)


def gains(of):
    close = of.fields["close"]
    return close[1:] / close[:-1]


def rows(values):
    """Return the rows in an order of their own: what is left when places are forgotten."""
    return np.array(sorted(map(tuple, np.round(values, 10))))


def test_gains_of_all_assets_move_together_with_their_range_and_volume():
    real, other = panel(), permuted_panel(panel(), market())
    assert other.fingerprint != real.fingerprint
    assert other.index.equals(real.index)
    assert np.array_equal(other.fields["close"][0], real.fields["close"][0])
    np.testing.assert_allclose(rows(gains(other)), rows(gains(real)))
    assert not np.allclose(gains(other), gains(real))
    order = bar_order(real, market())
    np.testing.assert_allclose(gains(other), gains(real)[order[1:] - 1])
    for name in ("open", "high", "low"):
        relative = real.fields[name] / real.fields["close"]
        np.testing.assert_allclose(other.fields[name] / other.fields["close"], relative[order])
    assert np.array_equal(other.fields["volume"], real.fields["volume"][order])
    # The whole gain of each asset is that of the real market.
    np.testing.assert_allclose(other.fields["close"][-1], real.fields["close"][-1])


def test_an_order_depends_on_seed_and_number_alone():
    real = panel()
    same = [permuted_panel(real, market(4)).fingerprint for _ in range(2)]
    assert same[0] == same[1]
    others = {permuted_panel(real, item).fingerprint for item in (market(5), market(4, seed=4))}
    assert len({same[0], *others}) == 3


@pytest.mark.parametrize("mean_block", [1.0, 2.0, 8.0, 40.0])
def test_blocks_have_the_mean_length_that_was_asked_for(mean_block):
    real = panel(4_000, 1)
    orders = [bar_order(real, market(number, mean_block)) for number in range(1, 21)]
    together = np.mean([np.diff(order[1:]) == 1 for order in orders])
    # Bars that follow each other by chance after a cut are about one in 4,000.
    assert together == pytest.approx(1 - 1 / mean_block, abs=0.01)


def test_assets_begin_and_end_where_they_did():
    real = panel(asset_1=(100, N_BARS), asset_2=(0, 300))
    other = permuted_panel(real, market())
    for name, values in real.fields.items():
        assert np.array_equal(np.isnan(values), np.isnan(other.fields[name])), name
    order = bar_order(real, market())
    assert list(order[[0, 100, 300]]) == [0, 100, 300]
    for start, stop in ((1, 100), (101, 300), (301, N_BARS)):
        assert sorted(order[start:stop]) == list(range(start, stop))
    assert share_moved(real) == pytest.approx(397 / 399)
    np.testing.assert_allclose(other.fields["close"][299, 2], real.fields["close"][299, 2])


def test_many_beginnings_leave_nothing_that_could_move():
    holes = {f"asset_{number}": (number, N_BARS) for number in range(1, N_BARS)}
    real = panel(N_BARS, N_BARS, **holes)
    assert share_moved(real) == 0
    assert permuted_panel(real, market()).fingerprint == real.fingerprint


def test_intraday_bars_move_in_whole_sessions_of_equal_length():
    days = pd.bdate_range("2024-01-01", periods=60)
    stamps = [
        day + pd.Timedelta(hours=10 + hour)
        for number, day in enumerate(days)
        for hour in range(3 if number % 10 == 9 else 6)
    ]
    real = panel(len(stamps), 2, index=pd.DatetimeIndex(stamps).as_unit("ns"))
    order = bar_order(real, market(mean_block=1.0))
    assert sorted(order) == list(range(len(stamps)))
    hours = real.index.hour
    assert np.array_equal(hours[order], hours)
    lengths = pd.Series(1, index=real.index).groupby(real.index.normalize()).transform("sum")
    assert np.array_equal(lengths.to_numpy()[order], lengths.to_numpy())
    assert (order != np.arange(len(order))).mean() > 0.8


def test_what_cannot_be_permuted_is_refused():
    real = panel()
    extra = new_panel(real.index, real.symbols, {**real.fields, "market_cap": np.ones((N_BARS, 3))})
    with pytest.raises(ValueError, match="market_cap cannot be permuted"):
        permuted_panel(extra, market())


def statistic(of):
    """How well a gain foretells the next one: what blocks keep, and a shuffle destroys."""
    moves = np.log(gains(of)[:, 0])
    return float(np.corrcoef(moves[1:], moves[:-1])[0, 1])


def pvalue(real, mean_block, seed, n=9):
    orders = [market(number, mean_block, seed) for number in range(1, n + 1)]
    found = tuple(statistic(permuted_panel(real, order)) for order in orders)
    return PermutationTest(
        metric="sharpe",
        direction=1,
        observed=statistic(real),
        found=found,
        seed=seed,
        mean_block=mean_block,
        is_adaptive=False,
    ).pvalue


@pytest.mark.parametrize("mean_block", [1.0, 10.0])
def test_pvalues_on_random_walks_are_uniform_whatever_the_blocks(mean_block):
    found = np.array([pvalue(panel(60, 1, seed), mean_block, seed) for seed in range(200)])
    spread = found - np.random.default_rng(0).random(len(found)) / 10
    assert kstest(spread, "uniform").pvalue > 0.01


def test_a_pvalue_counts_the_real_market_and_ties_and_follows_the_direction():
    test = PermutationTest(
        metric="max_drawdown",
        direction=-1,
        observed=0.2,
        found=(0.1, 0.2 + 1e-13, 0.3, None),
        seed=1,
        mean_block=1.0,
        is_adaptive=False,
    )
    assert test.pvalue == pytest.approx(3 / 5)
    assert test.figures["n"] == 4
    assert test.figures["median"] == pytest.approx(0.2)
