"""The same grid under the same constraint, in backtesting.py: the same cells, the same winner."""

import multiprocessing.dummy

import pytest

import backtest_batch as bb
from backtest_batch.core.adapters import backtesting_account, ohlcv

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

FAST, SLOW = [5, 10, 20, 40], [10, 20, 40, 80]


def cross():
    from backtesting import Strategy

    class Cross(Strategy):
        fast, slow = 10, 30

        def init(self):
            close = self.data.Close.s
            above = (close.rolling(self.fast).mean() > close.rolling(self.slow).mean()).to_numpy()
            self.above = self.I(lambda: above)

        def next(self):
            if self.above[-1] and not self.position:
                self.buy()
            elif not self.above[-1]:
                self.position.close()

    return Cross


def made(prices, capital):
    from backtesting import Backtest

    return Backtest(prices, cross(), cash=capital, trade_on_close=True, finalize_trades=True)


def test_the_constraint_of_backtesting_keeps_the_same_cells_and_the_same_winner(
    oracle, with_store, monkeypatch
):
    # Its processes would need the strategy in a module; threads do not.
    monkeypatch.setattr(oracle("backtesting"), "Pool", multiprocessing.dummy.Pool)
    frame = oracle("backtesting.test").GOOG.loc["2009":]
    fields = {name: frame[[name.capitalize()]] for name in ("open", "high", "low", "volume")}
    named = {name: field.set_axis(["GOOG"], axis=1) for name, field in fields.items()}
    prices = bb.panel_from_frames(frame[["Close"]].set_axis(["GOOG"], axis=1), **named)

    stats, heatmap = made(frame, 1e6).optimize(
        fast=FAST,
        slow=SLOW,
        constraint=lambda p: p.fast < p.slow,
        maximize="Equity Final [$]",
        return_heatmap=True,
    )

    def native(panel, conditions, fast: int = 10, slow: int = 30):
        test = made(ohlcv(panel), conditions.initial_capital)
        return backtesting_account(test.run(fast=fast, slow=slow))

    outcome = bb.run_sweep(
        {"strategy.fast": FAST, "strategy.slow": SLOW},
        strategy=native,
        data=prices,
        constraint="strategy.fast < strategy.slow",
        rank_by="final_pf",
        n_jobs=1,
    )
    ours = outcome.runs.params.assign(pf=outcome.runs.metrics["final_pf"])
    found = {(row[0], row[1]): row[2] for row in ours.itertuples(index=False)}
    assert found.keys() == {(int(a), int(b)) for a, b in heatmap.dropna().index}
    for pair, equity in heatmap.dropna().items():
        assert found[pair] == pytest.approx(equity / 1e6, rel=1e-9)
    winner = outcome.best_config["strategy"]
    best = stats["_strategy"]
    assert (winner["fast"], winner["slow"]) == (best.fast, best.slow)
