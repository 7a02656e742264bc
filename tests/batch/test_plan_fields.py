"""What a strategy says that it needs is read, or refused before anything runs."""

import sqlite3
import sys
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.errors import ConfigurationError, DataError

MODULE = """
import numpy as np


class Needs:
    required_fields = ("market_cap", "close")

    def target_weights(self, panel, decisions):
        cap = np.nan_to_num(panel.fields["market_cap"][decisions])
        return cap / np.maximum(cap.sum(axis=1, keepdims=True), 1)


class NeedsVolume(Needs):
    required_fields = "volume"


class NeedsByArgument(Needs):
    def __init__(self, field: str = "market_cap"):
        self.field = field

    @property
    def required_fields(self):
        return [self.field]


class NeedsNonsense(Needs):
    required_fields = 7


class UsesAll:
    def target_weights(self, panel, decisions):
        calm = np.nan_to_num(panel.features.vix.to_numpy()[decisions], nan=99.0) < 20
        liked = panel.features.score.to_numpy()[decisions] > 0
        return (panel.members[decisions] & liked & calm[:, None]) / panel.n_assets
"""


@pytest.fixture
def folder(working_dir, monkeypatch):
    (working_dir / "needy_strategies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(working_dir))
    days = pd.bdate_range("2020-01-01", periods=120)
    close = 100 * np.exp(np.random.default_rng(1).normal(0, 0.01, (120, 2)).cumsum(axis=0))
    frame = pd.DataFrame(close, index=days, columns=pd.Index(["A", "B"], name="symbol"))
    long = frame.rename_axis("date").stack().rename("close").reset_index()
    long["Market Cap"] = long["close"] * 1_000
    long["sector"] = "tech"
    long.to_csv("long.csv", index=False)
    return working_dir


def arguments(name, *more):
    target = f"strategy._target_=needy_strategies.{name}"
    return ("data=csv", "data.path=long.csv", "strategy=custom", target, *more)


@pytest.mark.parametrize("name", ["Needs", "NeedsByArgument"])
def test_a_needed_column_is_a_field_without_a_key(folder, planned, name):
    plan = planned(*arguments(name))
    (panel,) = plan.panels.values()
    assert list(panel.fields) == ["close", "market_cap"]
    other = planned("data=csv", "data.path=long.csv", "strategy=equal_weight")
    assert [list(each.fields) for each in other.panels.values()] == [["close"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            arguments("NeedsVolume"),
            "strategy=NeedsVolume: needs the field 'volume' .* has: close.*; "
            "`data.volume_column` names its column in long.csv",
        ),
        (arguments("NeedsNonsense"), "strategy=NeedsNonsense: required_fields must be names"),
        (
            arguments("NeedsByArgument", "strategy.field=market_map"),
            r"long.csv has no column 'market_map' \(did you mean Market Cap.* required_fields of "
            r"the strategy say; it has .*'sector'; NeedsByArgument needs market_map \(required",
        ),
        (arguments("NeedsByArgument", "strategy.field=sector"), "'sector' holds 'tech'"),
        (
            ("data=synthetic", "data.n_bars=90", *arguments("Needs")[2:]),
            "no field 'market_cap' .*required_fields",
        ),
    ],
)
def test_what_the_data_lack_is_exit_2_and_named(folder, planned, given, message):
    with pytest.raises(ConfigurationError, match=message):
        planned(*given)


def test_a_database_is_asked_once_for_all_end_dates(folder, planned):
    with closing(sqlite3.connect("prices.db")) as connection:
        pd.read_csv("long.csv").to_sql("prices", connection, index=False)
    opened = []

    def count(event, arguments):
        if event == "sqlite3.connect" and "prices.db" in str(arguments[0]):
            opened.append(event)

    sys.addaudithook(count)
    plan = planned(
        *("data=sql", "data.url=sqlite:///prices.db", "strategy=equal_weight"),
        "data.query=select date, symbol, close from prices",
        "end_date=2020-04-01,2020-05-01,null",
    )
    assert len(plan.panels) == 3
    assert len(opened) == 1


def test_one_backtest_checks_it_too(folder):
    from needy_strategies import Needs  # type: ignore[import-not-found]

    close = pd.DataFrame({"A": [1.0, 2, 3]}, index=pd.bdate_range("2020-01-01", periods=3))
    with pytest.raises(DataError, match="Needs needs the field 'market_cap'"):
        bb.backtest(Needs(), close)
    panel = bb.panel_from_frames(close, fields={"market_cap": close * 10})
    assert bb.backtest(Needs(), panel, rebalance="bar").metrics["trades"] == 1


def test_a_batch_with_everything_computes_what_one_backtest_does(folder, with_store):
    from needy_strategies import UsesAll

    days = pd.bdate_range("2020-01-01", periods=120)
    closes = pd.read_csv("long.csv", parse_dates=["date"])
    closes = closes.pivot(index="date", columns="symbol", values="close")
    members = {"symbol": ["A", "B"], "from": [days[0], days[30]], "to": [days[70], pd.NaT]}
    scores = pd.DataFrame(np.cos(np.arange(240)).reshape(120, 2), index=days, columns=["A", "B"])
    vix = pd.Series(15 + 10 * np.sin(np.arange(120)), index=days)
    panel = bb.panel_from_frames(
        closes, members=pd.DataFrame(members), features={"vix": vix, "score": scores}
    )
    outcome = bb.run_sweep(
        {"commission_bps": [0.0, 5.0]}, data=panel, strategy=UsesAll, rebalance="W", n_jobs=1
    )
    assert outcome.exit_code == 0
    alone = bb.backtest(UsesAll(), panel, rebalance="W", commission_bps=5.0, periods_per_year=252)
    row = outcome.table.set_index("run_id").loc["run_5.0"]
    assert row["sharpe"] == alone.metrics["sharpe"]
    assert alone.trades.query("symbol == 'A'")["timestamp"].max() <= days[70]
    assert alone.trades.query("symbol == 'B'")["timestamp"].min() > days[30]

    members["symbol"] = ["A", "GONE"]
    pd.DataFrame(members).to_csv("universe.csv", index=False)
    pd.DataFrame({"date": days, "vix": vix.to_numpy()}).to_csv("vix.csv", index=False)
    said = bb.run_sweep(
        {"commission_bps": [0.0]},
        data="csv",
        strategy="equal_weight",
        dry_run=True,
        **{
            "data.path": "long.csv",
            "data.universe": "universe.csv",
            "data.features": "vix.csv",
        },
    )
    assert "1 of 2 symbols of the universe have no prices (GONE)" in said.summary


def test_a_benchmark_symbol_need_be_no_member_and_a_benchmark_strategy_has_its_fields(
    folder, planned
):
    (folder / "universe.csv").write_text("symbol,from,to\nA,2020-01-01,\n")
    universe = ("data=csv", "data.path=long.csv", "data.universe=universe.csv")
    (run,) = planned(*universe, "data.exclude=[B]", "benchmark=B", "strategy.slow=30").runs
    assert run.benchmark.kind == "symbol"
    node = "benchmark={_target_: needy_strategies.Needs}"
    with pytest.raises(ConfigurationError, match="Needs needs the field 'market_cap'"):
        planned(*universe, node)
    (run,) = planned(*universe, node, "data.fields=[market_cap]", "strategy.slow=30").runs
    assert run.benchmark.kind == "strategy"
