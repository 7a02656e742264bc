"""What a strategy that makes its own account may return, and what is refused."""

import math

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.metrics import result_metrics
from backtest_batch.core.engine.simulation import simulate
from backtest_batch.core.own_account import ask_for_account, read_account
from backtest_batch.core.strategies import TrendBaseline
from backtest_batch.core.strategies.base import target_weights

N_BARS = 120
INDEX = pd.bdate_range("2020-01-01", periods=N_BARS)


@pytest.fixture
def panel():
    steps = np.random.default_rng(3).normal(0.0005, 0.01, (N_BARS, 3))
    prices = 50 * np.exp(steps.cumsum(axis=0))
    return bb.panel_from_frames(pd.DataFrame(prices, index=INDEX, columns=list("ABC")))


@pytest.fixture
def returns():
    values = np.random.default_rng(4).normal(0.0, 0.01, N_BARS)
    return pd.Series(values, index=INDEX).iloc[1:]


def read(answer, panel, **conditions):
    return read_account(answer, panel, bb.Conditions(**conditions), who="crossover")


def test_returns_alone_are_an_account_from_the_second_measured_bar_on(panel, returns):
    found = read(returns, panel, initial_capital=200.0)
    assert (found.first_bar, found.n_measured, found.ruined_bar) == (0, N_BARS, None)
    assert math.isnan(found.net_return[0])
    assert (found.net_return[1:] == returns.to_numpy()).all()
    assert found.equity[0] == 200.0
    assert found.equity[-1] == pytest.approx(200.0 * (1 + returns).prod(), rel=1e-12)
    assert found.turnover is None
    assert found.tags == {}


def test_figures_that_need_what_was_not_given_are_undefined_and_named(panel, returns):
    metrics, undefined = result_metrics(read(returns, panel), periods_per_year=252)
    assert {"sharpe", "cagr", "max_drawdown", "n_periods"} <= metrics.keys()
    assert {
        *("turnover_annual", "avg_gross_exposure", "avg_net_exposure", "trades", "total_costs"),
        *("max_gross_exposure_realised", "breakeven_cost_bps", "scaled_decisions", "round_trips"),
        *("win_rate", "profit_factor", "avg_holding_bars", "beta"),
    } <= set(undefined)
    known = bb.Account(net_return=returns, turnover=returns * 0 + 0.5, cost=returns * 0 + 1.0)
    metrics, _ = result_metrics(read(known, panel), periods_per_year=252)
    assert metrics["turnover_annual"] == pytest.approx(126.0)
    assert metrics["total_costs"] == N_BARS - 1


def test_returns_up_to_the_first_measured_bar_are_left_out(panel, returns):
    found = read(returns, panel, first_bar=40)
    assert found.first_bar == 40
    assert (found.net_return[1:] == returns.to_numpy()[40:]).all()


@pytest.mark.parametrize("given", ["nan first", "short"])
def test_an_account_may_begin_later_and_says_so(panel, returns, given):
    late = returns.copy()
    late.iloc[:20] = np.nan
    found = read(late if given == "nan first" else late.dropna(), panel)
    assert found.first_bar == 20
    assert found.notes == ("begins at 2020-01-29, 20 bars after the first measured bar",)


def test_equity_alone_gives_the_returns(panel, returns):
    equity = pd.Series(np.linspace(100, 130, N_BARS), index=INDEX)
    found = read(bb.Account(equity=equity), panel)
    assert (found.equity == equity.to_numpy()).all()
    assert found.net_return[1] == equity.iloc[1] / equity.iloc[0] - 1
    # Given from the second measured bar on, together with the returns.
    path = 100 * (1 + returns).cumprod()
    both = read(bb.Account(equity=path, net_return=returns), panel)
    assert both.first_bar == 0
    assert both.equity[0] == pytest.approx(100.0)


def test_equity_that_ends_at_nothing_is_ruin(panel):
    equity = pd.Series([100.0, 50.0, -2.0], index=INDEX[:3])
    found = read(bb.Account(equity=equity), panel)
    assert (found.ruined_bar, found.n_measured) == (2, 3)
    metrics, undefined = result_metrics(found, periods_per_year=252)
    assert "cagr" in undefined
    assert "cagr" not in metrics


@pytest.mark.parametrize("after", [0.0, -5.0, 30.0])
def test_what_follows_ruin_is_left_out(panel, returns, after):
    equity = pd.Series(1000.0, index=INDEX)
    equity.iloc[60:] = after
    equity.iloc[60] = -1.0
    held = pd.Series(1.0, index=INDEX)
    held.iloc[60:] = np.inf
    turnover = pd.Series(0.1, index=INDEX)
    turnover.iloc[61:] = np.nan
    moves = equity.pct_change()
    found = read(
        bb.Account(equity=equity, net_return=moves, gross_exposure=held, turnover=turnover), panel
    )
    assert (found.ruined_bar, found.n_measured) == (60, 61)
    assert found.equity[-1] == -1.0
    assert result_metrics(found, periods_per_year=252)[0]["avg_gross_exposure"] == 1.0
    assert bool(found.notes) == (after > 0)
    assert read(bb.Account(equity=equity), panel).ruined_bar == 60


@pytest.mark.parametrize("bps", [0, 10, 100])
def test_costs_of_the_first_bar_are_in_the_return_of_the_second(panel, bps):
    conditions = bb.Conditions(commission_bps=bps, initial_capital=1000.0)
    close = panel.close["A"]
    equity = 1000.0 * (1 - conditions.cost_rate) * close / close.iloc[0]
    found = read_account(bb.Account(equity=equity), panel, conditions, who="held")
    assert found.equity[0] == 1000.0
    assert (1 + found.net_return[1:]).prod() == pytest.approx(equity.iloc[-1] / 1000.0, rel=1e-12)
    assert found.notes == ()
    # What the account says of its costs counts too.
    cost = pd.Series([1000.0 * conditions.cost_rate], index=INDEX[:1]).reindex(INDEX, fill_value=0)
    same = read(bb.Account(equity=equity, cost=cost), panel, initial_capital=1000.0)
    assert (same.equity == found.equity).all()
    assert same.notes == ()


@pytest.mark.parametrize(("begins", "said"), [(990.0, True), (100.0, False), (1e6, False)])
def test_an_equity_that_begins_elsewhere_has_the_returns_it_shows(panel, begins, said):
    conditions = bb.Conditions(commission_bps=10.0, initial_capital=1000.0)
    close = panel.close["A"]
    equity = begins * close / close.iloc[0]
    found = read_account(bb.Account(equity=equity), panel, conditions, who="held")
    assert found.net_return[1] == pytest.approx(close.iloc[1] / close.iloc[0] - 1, rel=1e-9)
    assert bool(found.notes) == said
    if said:
        assert "begins with 990, 1.00% below initial_capital (1000)" in found.notes[0]


def replaced(series, position, value):
    changed = series.copy()
    changed.iloc[position] = value
    return changed


LOCAL = "Europe/Berlin"
FAULTS = {
    "nothing": (lambda r: None, "crossover returned None; is a `return` missing?"),
    "a list": (lambda r: r.tolist(), "but returned list; with its timestamps"),
    "an array": (lambda r: r.to_numpy(), "but returned ndarray; with its timestamps"),
    "a frame": (lambda r: r.to_frame(), "but returned DataFrame; a column of it"),
    "a number": (lambda r: 0.5, "but returned float"),
    "no bars": (lambda r: r.iloc[:0], "net_return holds no bars"),
    "NaN only": (lambda r: r * np.nan, "net_return holds NaN only"),
    "positions": (lambda r: r.reset_index(drop=True), "its index is a RangeIndex"),
    "out of order": (
        lambda r: r.iloc[[1, 0, *range(2, len(r))]],
        "must be in order of time, but 2020-01-02 follows 2020-01-03",
    ),
    "twice": (
        lambda r: pd.concat([r.iloc[:4], r.iloc[3:]]),
        "has 1 timestamps that occur twice, the first 2020-01-07",
    ),
    "beyond the data": (
        lambda r: pd.concat([r, pd.Series([0.0], index=[pd.Timestamp("2031-01-01")])]),
        "has 1 timestamps that are no bars of the data, the first 2031-01-01; the data have 120",
    ),
    "another zone": (lambda r: r.tz_localize(LOCAL), "is in the time zone Europe/Berlin"),
    "NaN inside": (
        lambda r: replaced(r, [5, 9], np.nan),
        r"holds NaN inside at 2020-01-09 \(2 bars\)",
    ),
    "NaN at the end": (lambda r: replaced(r, -1, np.nan), "holds NaN inside at 2020-06-16"),
    "infinity": (lambda r: replaced(r, 3, np.inf), "an infinite value at 2020-01-07"),
    "-100 %": (
        lambda r: replaced(r, 8, -1.0),
        r"a return of -100 % or less at 2020-01-14 \(-1\)",
    ),
    "percent throughout": (
        lambda r: r.abs() * 1e5,
        "returns compound beyond what a number holds",
    ),
    "text": (lambda r: r.astype(str), "must hold numbers"),
    "truth": (lambda r: r > 0, "the values are booleans"),
    "a gap": (lambda r: r.drop(r.index[7]), "no value on 1 bars .* the first 2020-01-13"),
    "an early end": (lambda r: r.iloc[:-3], r"go on to 2020-06-16 \(3 bars\)"),
    "equity that does not match": (
        lambda r: bb.Account(net_return=r, equity=(1 + r).cumprod() * 1.0001 ** np.arange(len(r))),
        "equity does not match net_return at 2020-01-03",
    ),
    "nothing from the start": (
        lambda r: bb.Account(equity=replaced((1 + r).cumprod(), 0, 0.0)),
        "equity is 0 or less at 2020-01-02, before there is a return to measure",
    ),
    "turnover with a hole": (
        lambda r: bb.Account(net_return=r, turnover=replaced(r.abs(), 5, np.nan)),
        "turnover has no number where there is a return at 2020-01-09",
    ),
    "negative costs": (
        lambda r: bb.Account(net_return=r, cost=-r.abs()),
        "cost is negative at 2020-01-02",
    ),
    "trades without time": (
        lambda r: bb.Account(net_return=r, trades=pd.DataFrame({"pnl": [1.0]})),
        "trades must have a column timestamp",
    ),
    "trades in a list": (lambda r: bb.Account(net_return=r, trades=[]), "must be a pandas DataF"),
    "a metric of ours": (
        lambda r: bb.Account(net_return=r, metrics={"sharpe": 1.0}),
        "the metric 'sharpe' has a name that is ours",
    ),
    "a key as a metric": (
        lambda r: bb.Account(net_return=r, metrics={"commission_bps": 1.0}),
        "has a name that is ours",
    ),
    "a swept argument as a metric": (
        lambda r: bb.Account(net_return=r, metrics={"strategy.window": -10}),
        "must be named by a letter",
    ),
    "a metric beyond float64": (
        lambda r: bb.Account(net_return=r, metrics={"big": 10**400}),
        "must be a number that float64 holds, but has 401 digits",
    ),
    "trades after the data": (
        lambda r: bb.Account(
            net_return=r,
            trades=pd.DataFrame({"timestamp": pd.to_datetime(["2020-03-02", "2031-01-01"])}),
        ),
        "1 trades lie after the end of the data, 2020-06-16, the first at 2031-01-01",
    ),
    "an odd name": (
        lambda r: bb.Account(net_return=r, metrics={"win %": 1.0}),
        "must be named by a letter",
    ),
    "a metric of text": (
        lambda r: bb.Account(net_return=r, metrics={"mine": "high"}),
        r"the metric 'mine' must be a number, but is 'high' \(str\)",
    ),
    "a metric of NaN": (
        lambda r: bb.Account(net_return=r, metrics={"mine": math.nan}),
        "the metric 'mine' must be a finite number",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_true_is_refused_with_its_reason(panel, returns, name):
    spoil, message = FAULTS[name]
    with pytest.raises(bb.StrategyError, match=message):
        read(spoil(returns), panel)


def test_an_account_of_nothing_is_refused():
    with pytest.raises(bb.StrategyError, match="needs net_return or equity"):
        bb.Account(turnover=pd.Series([1.0]))


def test_percent_instead_of_fractions_is_warned_of(panel, returns):
    found = read(returns.abs() * 100, panel)
    assert "are they percent instead of fractions?" in found.notes[0]


def test_trades_and_weights_are_kept_and_trades_counted(panel, returns):
    trades = pd.DataFrame({"timestamp": INDEX[[2, 50, 50]], "pnl": [1.0, 2.0, 3.0]})
    weights = pd.DataFrame({"A": [0.5, 1.0]}, index=INDEX[[10, 60]])
    found = read(bb.Account(net_return=returns, trades=trades, weights=weights), panel, first_bar=9)
    assert found.n_trades == 2
    assert found.trade_counts.sum() == 2
    assert found.trades_given is trades
    assert found.weights_given is weights


@pytest.mark.parametrize("lag", [0, 1])
def test_weights_that_a_strategy_trades_itself_give_the_engine_s_account(panel, lag):
    conditions = bb.Conditions(
        commission_bps=2.0,
        max_gross_exposure=0.8,
        cash_rate=0.02,
        execution_lag=lag,
        first_bar=30,
        decisions=decision_bars(panel.index, "W")[6:],
    )
    strategy = TrendBaseline(fast=5, slow=20)
    weights = target_weights(strategy, panel, conditions.decisions)
    made = simulate(panel, conditions.decisions, weights, conditions, 30)

    class Own:
        def backtest(self, panel, conditions):
            wanted = strategy.target_weights(panel, conditions.decisions)
            return bb.trade_weights(panel, wanted, conditions)

    found = ask_for_account(Own(), panel, conditions)
    assert (found.net_return[1:] == made.net_return[1:]).all()
    assert (found.equity == made.equity).all()
    assert found.n_trades == made.n_trades
    ours, _ = result_metrics(made, periods_per_year=252)
    theirs, _ = result_metrics(found, periods_per_year=252)
    for name, value in theirs.items():
        assert value == pytest.approx(ours[name], rel=1e-12), name
    assert ours.keys() - theirs.keys() == {
        *("scaled_decisions", "round_trips", "win_rate", "profit_factor", "avg_holding_bars")
    }


def test_conditions_are_checked_and_frozen():
    with pytest.raises(bb.ConfigurationError, match="commission_bps"):
        bb.Conditions(commission_bps=-1)
    with pytest.raises(AttributeError):
        bb.Conditions().commission_bps = 3  # type: ignore[misc]
    assert bb.Conditions(commission_bps=1, spread_bps=2).cost_rate == pytest.approx(2e-4)
