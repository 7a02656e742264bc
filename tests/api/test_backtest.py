"""One backtest on prices in memory."""

from datetime import date, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Synthetic
from backtest_batch.core.strategies import EqualWeight, TrendBaseline


@pytest.fixture
def prices():
    index = pd.date_range("2020-01-01", periods=120, freq="D")
    steps = np.random.default_rng(5).normal(0.0005, 0.01, (120, 3))
    return pd.DataFrame(50 * np.exp(steps.cumsum(axis=0)), index=index, columns=list("ABC"))


class HoldFirst:
    """All in the first symbol."""

    def target_weights(self, panel, decisions):
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, 0] = 1.0
        return weights


def test_holding_one_symbol_at_no_cost_is_its_price(prices):
    result = bb.backtest(HoldFirst(), prices, commission_bps=0, initial_capital=1_000)
    # The first decision is on the last day of January, and is executed a day later.
    entry = prices.loc["2020-02-01", "A"]
    assert result.equity["equity"].iloc[-1] == pytest.approx(1_000 * prices["A"].iloc[-1] / entry)
    assert result.equity.loc["2020-02-01", "equity"] == 1_000
    assert list(result.equity.columns) == [
        "equity",
        "net_return",
        "drawdown",
        "gross_exposure",
        "turnover",
        "cost",
    ]
    assert result.equity.index[0] == prices.index[0]
    assert result.trades.iloc[0].to_dict() == {
        "timestamp": pd.Timestamp("2020-02-01"),
        "symbol": "A",
        "shares": pytest.approx(1_000 / entry),
        "price": entry,
        "value": 1_000,
        "cost": 0,
    }
    assert len(result.trades) == 1
    assert list(result.target_weights.index) == [
        pd.Timestamp(day) for day in ("2020-01-31", "2020-02-29", "2020-03-31")
    ]
    assert result.target_weights.loc["2020-01-31"].to_dict() == {"A": 1, "B": 0, "C": 0}
    assert result.ruined is None
    assert "sharpe=" in repr(result)


def test_a_class_a_panel_and_dates(prices):
    panel = bb.panel_from_frames(prices)
    whole = bb.backtest(EqualWeight, panel)
    part = bb.backtest(EqualWeight, panel, start_date="2020-02-10", end_date="2020-04-10")
    assert (part.equity.index[0], part.equity.index[-1]) == (
        pd.Timestamp("2020-02-10"),
        pd.Timestamp("2020-04-10"),
    )
    assert whole.metrics["n_periods"] == 119
    assert part.metrics["n_periods"] == 60
    pd.testing.assert_series_equal(
        whole.benchmark, whole.equity["net_return"].rename("benchmark"), check_exact=True
    )
    assert whole.metrics["beta"] == pytest.approx(1.0)


def test_weights_with_labels_are_those_of_their_symbols(prices):
    class Labelled(HoldFirst):
        def target_weights(self, panel, decisions):
            return panel.close[["A"]].iloc[decisions] * 0 + 1

    plain, labelled = bb.backtest(HoldFirst(), prices), bb.backtest(Labelled(), prices)
    pd.testing.assert_frame_equal(plain.equity, labelled.equity, check_exact=True)


def test_a_strategy_without_a_return_is_named(prices):
    class Forgetful:
        def target_weights(self, panel, decisions):
            panel.close  # noqa: B018 - that is the fault

    with pytest.raises(bb.StrategyError, match="returned None; is a `return` missing"):
        bb.backtest(Forgetful(), prices)


def test_warm_up_bars_are_not_measured(prices):
    result = bb.backtest(TrendBaseline(fast=5, slow=30), prices)
    assert result.equity.index[0] == prices.index[30]


def test_ruin_ends_the_account(prices):
    class Short:
        def target_weights(self, panel, decisions):
            return np.full((len(decisions), panel.n_assets), -1.0)

    doubled = prices.copy()
    doubled.loc["2020-02-10":] *= 10
    result = bb.backtest(Short(), doubled, max_gross_exposure=3)
    assert result.ruined == pd.Timestamp("2020-02-10")
    assert result.equity.index[-1] == result.ruined
    assert "cagr" in result.undefined_metrics
    assert "cagr" not in result.metrics


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"comission_bps": 1}, bb.ConfigurationError, "comission_bps=1: is not a setting"),
        ({"commission_bps": -1}, bb.ConfigurationError, "commission_bps=-1"),
        ({"rebalance": "X"}, bb.ConfigurationError, "rebalance=X: must be one of bar, D, W, M, Q"),
        ({"periods_per_year": 0}, bb.ConfigurationError, "periods_per_year=0: must be > 0"),
        ({"periods_per_year": True}, bb.ConfigurationError, "periods_per_year=true: must be a num"),
        ({"risk_free_rate": 20}, bb.ConfigurationError, "risk_free_rate=20: must be >= -1 and <="),
        ({"execution_lag": 0, "execution_price": "open"}, bb.ConfigurationError, "execution_lag=0"),
        ({"start_date": "03/02/2020"}, bb.ConfigurationError, "start_date=03/02/2020: must be a d"),
        (
            {"start_date": 2020.0},
            bb.ConfigurationError,
            "start_date=2020.0: must be a date such as",
        ),
        ({"start_date": pd.NaT}, bb.ConfigurationError, "start_date=NaT: must be a date such as"),
        ({"end_date": True}, bb.ConfigurationError, "end_date=true: must be a date such as 2005"),
        ({"start_date": "2020-04-29"}, bb.DataError, "at least two bars must be measured"),
        ({"start_date": "2021-01-01"}, bb.DataError, "lies after the last bar"),
        ({"end_date": "2019-01-01"}, bb.DataError, "no bars in the date range"),
    ],
)
def test_what_cannot_be_run_is_said(prices, settings, error, message):
    with pytest.raises(error, match=message):
        bb.backtest(EqualWeight(), prices, **settings)


@pytest.mark.parametrize(
    "start",
    [
        "2020-02-10",
        "2020/2/10",
        20200210,
        date(2020, 2, 10),
        datetime(2020, 2, 10),
        pd.Timestamp("2020-02-10"),
        np.datetime64("2020-02-10"),
        np.datetime64("2020-02-10T00:00:00.000000000"),
    ],
)
def test_a_date_may_be_given_in_any_type(prices, start):
    result = bb.backtest(EqualWeight(), prices, start_date=start, end_date=2020)
    assert result.equity.index[0] == pd.Timestamp("2020-02-10")


def test_a_year_is_its_first_day_and_its_last():
    index = pd.bdate_range("2018-06-01", "2021-06-01")
    prices = pd.DataFrame(np.linspace(1, 2, len(index)), index=index, columns=["A"])
    result = bb.backtest(EqualWeight(), prices, start_date=2019, end_date=2020)
    assert result.equity.index[0] == pd.Timestamp("2019-01-01")
    assert result.equity.index[-1] == pd.Timestamp("2020-12-31")


@pytest.mark.parametrize(
    ("freq", "n_bars", "per_year"),
    [("h", 9_000, 8_760), ("4h", 3_000, 2_190), ("MS", 240, 12), ("ME", 240, 12),
     ("W", 600, 52), ("D", 900, 365)],
)  # fmt: skip
def test_growth_a_year_is_that_of_the_calendar(freq, n_bars, per_year, caplog):
    index = pd.date_range("2015-01-01", periods=n_bars, freq=freq)
    steps = np.random.default_rng(2).normal(0.0001, 0.004, (n_bars, 1))
    prices = pd.DataFrame(100 * np.exp(steps.cumsum(axis=0)), index=index, columns=["A"])
    result = bb.backtest(EqualWeight(), prices, rebalance="bar")
    equity = result.equity["equity"]
    years = (index[-1] - index[0]) / pd.Timedelta(days=365.25)
    growth = (equity.iloc[-1] / equity.iloc[0]) ** (1 / years) - 1
    assert result.metrics["cagr"] == pytest.approx(growth, rel=0.03)
    assert result.periods_per_year == per_year
    assert f"{per_year:,} bars a year" in repr(result)
    (said,) = result.notes
    assert said.startswith(f"periods_per_year={per_year:,} is taken from the index")
    assert [record.message for record in caplog.records] == [said]


def test_business_days_are_252_and_a_number_that_does_not_fit_is_said(prices, caplog):
    business = prices.set_axis(pd.bdate_range("2020-01-01", periods=120))
    result = bb.backtest(EqualWeight(), business, rebalance="bar")
    assert (result.periods_per_year, result.notes) == (252, ())
    assert not caplog.records
    given = bb.backtest(EqualWeight(), prices, rebalance="bar", periods_per_year=252)
    assert given.metrics["volatility"] == result.metrics["volatility"]
    (said,) = given.notes
    assert said.startswith("the data has about 365 bars a year, but periods_per_year is 252")


def test_what_is_no_strategy_or_no_prices_is_said(prices):
    with pytest.raises(bb.StrategyError, match="int has neither target_weights"):
        bb.backtest(3, prices)  # type: ignore[arg-type]
    with pytest.raises(bb.DataError, match="DatetimeIndex"):
        bb.backtest(EqualWeight(), prices.reset_index(drop=True))


@pytest.mark.slow
def test_the_numbers_are_those_of_the_command_bit_for_bit(invoke, recorded_runs, with_store):
    ended = invoke(
        "data=synthetic",
        "data.n_bars=400",
        "strategy.fast=5",
        "rebalance=W",
        "cash_rate=0.02",
        "max_weight=0.3",
        "start_date=2000-06-01",
    )
    assert ended.code == 0, ended.err
    (run,) = recorded_runs(with_store).values()
    result = bb.backtest(
        TrendBaseline(fast=5),
        load_panel(Synthetic(n_bars=400)),
        rebalance="W",
        cash_rate=0.02,
        max_weight=0.3,
        start_date="2000-06-01",
    )
    assert result.metrics.to_dict() == run.results
    equity = pd.read_parquet(run.files / "equity.parquet").set_index("timestamp")
    trades = pd.read_parquet(run.files / "trades.parquet")
    pd.testing.assert_frame_equal(result.equity, equity, check_exact=True, check_index_type=False)
    pd.testing.assert_frame_equal(
        result.trades, trades, check_exact=True, check_dtype=False, check_index_type=False
    )


def test_bars_of_one_asset_are_one_asset(prices, caplog):
    close = prices["A"]
    bars = pd.DataFrame(
        {"Open": close, "High": close * 1.01, "Low": close * 0.99, "Close": close, "Volume": 5e6}
    )
    result = bb.backtest(HoldFirst(), bars, commission_bps=0)
    assert set(result.trades["symbol"]) == {"asset"}
    alone = bb.backtest(HoldFirst(), prices[["A"]], commission_bps=0)
    assert result.metrics["total_return"] == alone.metrics["total_return"]
    levels = pd.concat({"AAA": bars, "BBB": bars}, axis=1).swaplevel(axis=1)
    assert set(bb.backtest(EqualWeight(), levels).trades["symbol"]) == {"AAA", "BBB"}
    bb.backtest(HoldFirst(), bars.assign(**{"Adj Close": close * 0.9}))
    assert "closes are those of 'Adj Close', not of 'Close'" in caplog.text
    with pytest.raises(bb.DataError, match=r"close_column='VWAP'"):
        bb.backtest(HoldFirst(), bars.rename(columns={"Close": "VWAP"}))
    with pytest.raises(bb.DataError, match="'Volume' is no price"):
        bb.backtest(HoldFirst(), prices.assign(Volume=5e6))


def test_bars_of_two_lengths_need_a_start_date_or_a_number():
    index = pd.date_range("2015-01-01", "2019-12-31", freq="BME").append(
        pd.bdate_range("2020-01-01", "2020-12-31")
    )
    prices = pd.DataFrame({"A": np.linspace(1.0, 2.0, len(index))}, index)
    with pytest.raises(bb.DataError, match="1mo apart from 2015-01-30 to 2019-12-31 and 1d apart"):
        bb.backtest(EqualWeight(), prices)
    later = bb.backtest(EqualWeight(), prices, start_date="2020-01-01")
    assert later.periods_per_year == 252
    given = bb.backtest(EqualWeight(), prices, periods_per_year=60)
    assert "periods_per_year=60 is taken for all of them" in given.notes[0]


def test_a_backtest_that_never_trades_says_so(prices):
    result = bb.backtest(EqualWeight(), prices, rebalance="100M")
    assert result.metrics["trades"] == 0
    assert result.notes[-1].startswith("rebalance=100M never trades on the 120 measured bars")


def test_a_function_or_a_class_may_make_its_own_account(prices):
    def halves(panel, conditions, share=0.5):
        moves = panel.close.pct_change(fill_method=None).mean(axis=1) * share
        figures = {"decisions": float(len(conditions.decisions))}
        return bb.Account(net_return=moves - conditions.cost_rate, metrics=figures)

    result = bb.backtest(halves, prices, commission_bps=5, rebalance="W", start_date="2020-02-03")
    expected = prices.pct_change().mean(axis=1) * 0.5 - 5e-4
    got = result.equity["net_return"].iloc[1:]
    assert np.allclose(got, expected.loc[got.index], rtol=0, atol=1e-15)
    assert result.equity.index[0] == pd.Timestamp("2020-02-03")
    assert list(result.equity) == ["equity", "net_return", "drawdown"]
    assert result.metrics["decisions"] > 3
    assert "trades" in result.undefined_metrics
    assert result.trades.empty
    with pytest.raises(bb.StrategyError, match="is a `return` missing"):
        bb.backtest(lambda panel: None, prices)


def test_a_backtest_that_cannot_be_called_is_refused_before(prices):
    class Short:
        def backtest(self, panel):
            return None

    with pytest.raises(bb.StrategyError, match=r"called with panel and conditions, but takes"):
        bb.backtest(Short, prices)
    seeds = []
    bb.backtest(lambda panel, seed: seeds.append(seed) or panel.close["A"].pct_change(), prices)
    assert seeds == [42]


def reading(conditions, window: int = 20):
    """Stand for a function that reads its own data."""
    index = pd.bdate_range("2015-01-05", periods=400)
    close = pd.Series(np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 400))), index)
    held = (close > close.rolling(window).mean()).shift(1, fill_value=False).astype(float)
    return held * close.pct_change() - held.diff().abs().fillna(0.0) * conditions.cost_rate


def test_a_function_that_reads_its_own_data_needs_no_prices():
    found = bb.backtest(reading, commission_bps=10)
    asked = SimpleNamespace(cost_rate=1e-3)
    returns = reading(asked).iloc[1:]
    pd.testing.assert_series_equal(
        found.equity["net_return"].iloc[1:],
        returns,
        check_names=False,
        check_freq=False,
        check_index_type=False,
    )
    assert found.metrics["sharpe"] == pytest.approx(returns.mean() / returns.std() * 252**0.5)
    spy = (1.0 + reading(asked, 5).fillna(0.0)).cumprod()
    compared = bb.backtest(reading, benchmark=spy, factors=spy.pct_change().rename("mkt"))
    assert {"beta", "beta_mkt", "alpha_factors"} <= set(compared.metrics.index)
    assert compared.metrics["beta"] == pytest.approx(compared.metrics["beta_mkt"])


def test_what_needs_prices_says_so_without_any():
    with pytest.raises(bb.StrategyError, match="has target_weights, which needs prices"):
        bb.backtest(TrendBaseline())
    with pytest.raises(bb.ConfigurationError, match="is no symbol of the data"):
        bb.backtest(reading, benchmark="SPY")
    with pytest.raises(bb.ConfigurationError, match="a strategy needs prices"):
        bb.backtest(reading, benchmark=TrendBaseline)


def trading(conditions, named: bool = True):
    """Trade weights on prices of its own."""
    index = pd.bdate_range("2015-01-05", periods=100)
    panel = bb.panel_from_frames(pd.DataFrame({"A": np.linspace(100.0, 120.0, 100)}, index=index))
    decisions = np.array([0, 50]) if named else None
    return bb.trade_weights(panel, np.array([[1.0], [0.5]]), conditions, decisions)


def test_weights_may_be_traded_on_prices_of_ones_own():
    found = bb.backtest(trading, commission_bps=0, execution_lag=1)
    assert found.equity["equity"].iloc[50] == pytest.approx(
        1e6 * np.linspace(100, 120, 100)[50] / np.linspace(100, 120, 100)[1]
    )
    with pytest.raises(bb.StrategyError, match=r"decisions=\[\.\.\.\] gives their positions"):
        bb.backtest(lambda conditions: trading(conditions, named=False))
