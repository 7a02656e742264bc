"""Backtests of other libraries as strategies: their own equity, in one process and in two."""

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.core.adapters import (
    backtesting_account,
    bt_account,
    ohlcv,
    vectorbt_account,
)

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def close(oracle):
    """Twenty stocks of the S&P 500."""
    oracle("skfolio")
    from skfolio.datasets import load_sp500_dataset

    return load_sp500_dataset().loc["2017":"2019"]


@pytest.fixture
def bars(oracle):
    """Open, high, low, close and volume of one stock."""
    return oracle("backtesting.test").GOOG


def of_vectorbt(panel, conditions, stop: float = 0.1):
    import vectorbt as vbt

    above = panel.close.rolling(20).mean() > panel.close.rolling(60).mean()
    portfolio = vbt.Portfolio.from_signals(
        panel.close,
        above,
        ~above,
        sl_stop=stop,
        sl_trail=True,
        size=0.05,
        size_type="percent",
        fees=conditions.cost_rate,
        init_cash=conditions.initial_capital,
        cash_sharing=True,
        group_by=True,
    )
    return vectorbt_account(portfolio), portfolio.value()


def of_bt(panel, conditions, stop: float = 0.1):
    import bt

    test = bt.Backtest(
        bt.Strategy(
            "inverse",
            [
                bt.algos.RunMonthly(),
                bt.algos.SelectAll(),
                bt.algos.WeighInvVol(lookback=pd.DateOffset(months=3)),
                bt.algos.LimitWeights(stop),
                bt.algos.Rebalance(),
            ],
        ),
        panel.close,
        initial_capital=conditions.initial_capital,
        commissions=lambda quantity, price: abs(quantity * price) * conditions.cost_rate,
        integer_positions=False,
    )
    test.run()
    return bt_account(test), test.strategy.values.iloc[1:]


def of_backtesting(panel, conditions, stop: float = 0.1):
    from backtesting import Backtest, Strategy

    class Cross(Strategy):
        def init(self):
            values = self.data.Close.s
            above = (values.rolling(10).mean() > values.rolling(30).mean()).to_numpy()
            self.above = self.I(lambda: above)

        def next(self):
            if self.above[-1] and not self.position:
                self.buy(sl=self.data.Close[-1] * (1 - stop))
            elif not self.above[-1]:
                self.position.close()

    test = Backtest(
        ohlcv(panel),
        Cross,
        cash=conditions.initial_capital,
        commission=conditions.cost_rate,
        trade_on_close=True,
        finalize_trades=True,
    )
    stats = test.run()
    return backtesting_account(stats), stats["_equity_curve"]["Equity"]


LIBRARIES = {"vectorbt": of_vectorbt, "bt": of_bt, "backtesting": of_backtesting}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_wrapped_backtest_has_its_own_equity_everywhere(library, oracle, request, with_store):
    oracle(library)
    native = LIBRARIES[library]
    if library == "backtesting":
        frame = request.getfixturevalue("bars").loc["2008":]
        fields = {name: frame[[name.capitalize()]] for name in ("open", "high", "low", "volume")}
        named = {n: f.set_axis(["GOOG"], axis=1) for n, f in fields.items()}
        prices = bb.panel_from_frames(frame[["Close"]].set_axis(["GOOG"], axis=1), **named)
    else:
        prices = bb.panel_from_frames(request.getfixturevalue("close"))

    def wrapped(panel, conditions, stop: float = 0.1):
        return native(panel, conditions, stop)[0]

    alone, shared = (
        bb.run_sweep(
            {"strategy.stop": [0.05, 0.1], "commission_bps": [0, 10]},
            data=prices,
            strategy=wrapped,
            n_jobs=n_jobs,
        )
        for n_jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(alone.returns, shared.returns)
    assert alone.table["status"].tolist() == ["FINISHED"] * 4
    assert bb.run_sweep(resume=shared.batch_id).exit_code == 0
    assert bb.rerun(shared, verify=True).exit_code == 0
    for stop in (0.05, 0.1):
        for commission in (0, 10):
            conditions = bb.Conditions(commission_bps=float(commission))
            expected = native(prices, conditions, stop)[1]
            run = f"run_{stop}_{float(commission)}"
            found = alone.returns[run].dropna()
            np.testing.assert_allclose(found, expected.pct_change().iloc[1:], rtol=1e-9, atol=1e-12)
            equity = pd.read_parquet(equity_file(with_store, alone, run)).set_index("timestamp")
            np.testing.assert_allclose(equity["equity"], expected, rtol=1e-12)


def equity_file(store, sweep, run_id):
    """Return the recorded equity of a run."""
    recorded = bb.load_runs(sweep.batch_id).runs
    number = recorded.set_index("run_id").loc[run_id, "mlflow_run_id"]
    return next(store.glob(f"mlruns/artifacts/{number}/artifacts/equity.parquet"))


def test_what_an_account_of_another_library_knows(oracle, close):
    oracle("vectorbt")
    oracle("bt")
    panel, conditions = bb.panel_from_frames(close), bb.Conditions(commission_bps=10.0)
    for made, equity in (of_vectorbt(panel, conditions), of_bt(panel, conditions)):
        traded = made.trades.groupby("timestamp")["value"].agg(lambda value: value.abs().sum())
        before = equity.shift(fill_value=equity.iloc[0])
        expected = traded.reindex(equity.index, fill_value=0.0) / before
        np.testing.assert_allclose(made.turnover, expected)
        np.testing.assert_allclose(made.cost.sum(), traded.sum() * 1e-3, rtol=1e-9)
        assert (made.gross_exposure <= 1.0 + 1e-9).all()
        np.testing.assert_allclose(made.gross_exposure, made.net_exposure)


def test_exposures_of_shorts_are_market_values_over_equity(oracle, close):
    vectorbt = oracle("vectorbt")
    size = pd.DataFrame(np.nan, close.index, close.columns[:2])
    size.iloc[::21] = [0.5, -0.5]
    portfolio = vectorbt.Portfolio.from_orders(
        close.iloc[:, :2],
        size=size,
        size_type="targetpercent",
        direction="both",
        init_cash=1e6,
        cash_sharing=True,
        group_by=True,
    )
    made = vectorbt_account(portfolio)
    values = portfolio.assets() * close.iloc[:, :2]
    np.testing.assert_allclose(made.gross_exposure, values.abs().sum(axis=1) / portfolio.value())
    np.testing.assert_allclose(made.net_exposure, values.sum(axis=1) / portfolio.value())
    assert abs(made.net_exposure.mean()) < 0.1


def run_bt(bt, close, algos, children=None, **settings):
    test = bt.Backtest(
        bt.Strategy("top", algos, children=children),
        close,
        integer_positions=False,
        **settings,
    )
    test.run()
    return test


def test_deposits_into_a_bt_strategy_are_no_returns(oracle, close):
    bt = oracle("bt")
    test = run_bt(
        bt,
        close,
        [
            bt.algos.RunMonthly(),
            bt.algos.CapitalFlow(50_000),
            bt.algos.SelectAll(),
            bt.algos.WeighEqually(),
            bt.algos.Rebalance(),
        ],
    )
    made = bt_account(test)
    assert made.equity is None
    growth = (1.0 + made.net_return.dropna()).prod()
    assert growth == pytest.approx(test.strategy.prices.iloc[-1] / test.strategy.prices.iloc[1])


def test_costs_and_trades_of_nested_bt_strategies(oracle, close):
    bt = oracle("bt")

    def algos(*symbols):
        chosen = bt.algos.SelectThese(list(symbols)) if symbols else bt.algos.SelectAll()
        return [
            bt.algos.RunMonthly(),
            chosen,
            bt.algos.WeighEqually(),
            bt.algos.Rebalance(),
        ]

    children = [
        bt.Strategy("first", algos("AAPL", "AMD")),
        bt.Strategy("second", algos("BAC", "XOM")),
    ]
    test = run_bt(
        bt,
        close,
        algos(),
        children=children,
        commissions=lambda quantity, price: abs(quantity * price) * 0.01,
    )
    made = bt_account(test)
    paid = sum(child.fees.sum() for child in test.strategy.children.values())
    assert made.cost.sum() == pytest.approx(paid)
    # A child that the one above gives money on the same bar trades twice there, and is seen once.
    assert 0.0 < made.trades["value"].abs().sum() * 0.01 <= paid
    assert made.trades.notna().all(axis=None)
    assert made.turnover.sum() > 1.0


def test_several_accounts_are_not_one(oracle, close):
    vectorbt = oracle("vectorbt")
    above = close > close.shift(20)
    with pytest.raises(bb.StrategyError, match="holds 20 accounts: make it with cash_sharing"):
        vectorbt_account(vectorbt.Portfolio.from_signals(close, above, ~above))


def test_bars_of_one_symbol(close):
    panel = bb.panel_from_frames(close[["AAPL", "MSFT"]])
    assert ohlcv(panel, "MSFT")["Close"].tolist() == close["MSFT"].tolist()
    with pytest.raises(bb.StrategyError, match="ohlcv needs one symbol of AAPL, MSFT"):
        ohlcv(panel)


def test_ruin_in_another_library_is_ruin_here(oracle):
    vbt, library = oracle("vectorbt"), oracle("backtesting")
    index = pd.bdate_range("2020-01-01", periods=60)
    close = pd.Series(np.where(np.arange(60) < 30, 100.0, 300.0), index, name="A")
    close += np.arange(60) % 3
    panel = bb.panel_from_frames(
        close.to_frame(), **{n: close.to_frame() for n in ("open", "high", "low")}
    )

    class Short(library.Strategy):
        def init(self):
            pass

        def next(self):
            if not self.position and not self.closed_trades:
                self.sell(size=0.99)

    def of_vbt(panel, conditions):
        size = pd.Series(np.nan, panel.close.index)
        size.iloc[0] = -1.0
        return vectorbt_account(
            vbt.Portfolio.from_orders(
                panel.close["A"], size=size, size_type="targetpercent", direction="both"
            )
        )

    def of_library(panel, conditions):
        return backtesting_account(library.Backtest(ohlcv(panel), Short, margin=0.5).run())

    for made in (of_vbt, of_library):
        result = bb.backtest(made, panel)
        assert result.ruined == index[30], made
        assert result.equity["equity"].iloc[-1] <= 0
