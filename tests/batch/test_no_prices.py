"""Batches with data=none: strategies that read their own data, on bars that only they know."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch import run_sweep
from backtest_batch.errors import ConfigurationError

MODULE = """
import numpy as np
import pandas as pd

from backtest_batch import Account


def prices():
    return pd.read_csv("prices.csv", index_col=0, parse_dates=True)["close"]


def crossover(conditions, window: int = 20, begin: str | None = None, extra: int = 0):
    close = prices() if begin is None else prices()[begin:]
    held = (close > close.rolling(window).mean()).shift(1, fill_value=False).astype(float)
    traded = held.diff().abs().fillna(0.0)
    return held * close.pct_change() - traded * conditions.cost_rate


def with_panel(panel, conditions, window: int = 20):
    close = panel.close.iloc[:, 0]
    held = (close > close.rolling(window).mean()).shift(1, fill_value=False).astype(float)
    traded = held.diff().abs().fillna(0.0)
    return held * close.pct_change() - traded * conditions.cost_rate


def spoilt(how: str = "good"):
    returns = prices().pct_change()
    return {
        "good": lambda: returns,
        "nothing": lambda: None,
        "list": lambda: returns.tolist(),
        "hole": lambda: returns.mask(np.arange(len(returns)) == 99),
        "total_loss": lambda: returns - 1.5,
        "unordered": lambda: returns.iloc[::-1],
        "twice": lambda: pd.concat([returns, returns.iloc[-1:]]),
        "numbered": lambda: returns.reset_index(drop=True),
        "empty": lambda: returns.iloc[:0],
        "unmatched": lambda: Account(net_return=returns, equity=(1 + returns).cumprod() ** 2),
    }[how]()


def told(panel, conditions, window: int = 20):
    assert panel is None
    assert len(conditions.decisions) == 0
    dates = {"began_in": float(conditions.start_date[:4]), "rate": conditions.commission_bps}
    return Account(net_return=prices().pct_change(), metrics=dates)


def rarely(every: int = 1):
    return prices().iloc[::every].pct_change()


def months(window: int = 2):
    return prices().resample("ME").last().pct_change(window) / window


class Weighing:
    def target_weights(self, panel, decisions):
        return np.ones((len(decisions), 1))


class Fitted:
    def fit(self, panel):
        return self

    def backtest(self, panel, conditions):
        return prices().pct_change()


class Asking:
    required_fields = ("volume",)

    def backtest(self, panel, conditions):
        return prices().pct_change()
"""
N_BARS = 700
NONE = ("data=none", "strategy=custom", "n_jobs=1", "trials=batch")
FILES = "data.files=[prices.csv]"


def target(name):
    return f"strategy._target_=readers.{name}"


@pytest.fixture(autouse=True)
def module(with_store, monkeypatch):
    Path("readers.py").write_text(MODULE)
    index = pd.bdate_range("2015-01-05", periods=N_BARS)
    for seed, name in enumerate(("prices.csv", "spy.csv")):
        moves = np.random.default_rng(seed).normal(4e-4, 0.01, N_BARS)
        pd.DataFrame({"close": 50.0 * np.exp(np.cumsum(moves))}, index=index).to_csv(name)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(__import__("sys").modules, "readers", raising=False)


def test_returns_without_prices_are_those_with_prices_bit_for_bit(invoke):
    grid = ("-m", "strategy.window=5,20", "commission_bps=0,5", "benchmark=none")
    ended = invoke(*NONE, *grid, FILES, target("crossover"), "output_dir=own")
    assert ended.code == 0, ended.err
    given = ("data=csv", "data.path=prices.csv", *NONE[1:], "start_date=2015-01-05")
    assert invoke(*given, *grid, target("with_panel"), "output_dir=given").code == 0
    own, panel = (pd.read_csv(f"{name}/rankings.csv") for name in ("own", "given"))
    metrics = ["run_id", "rank", "sharpe", "cagr", "max_drawdown", "n_periods"]
    pd.testing.assert_frame_equal(own[metrics], panel[metrics], check_exact=True)
    returns = [pd.read_parquet(f"{name}/returns.parquet") for name in ("own", "given")]
    pd.testing.assert_frame_equal(*returns, check_exact=True)
    verdicts = [
        json.loads(Path(name, "overfitting.json").read_text())["verdict"]
        for name in ("own", "given")
    ]
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([target("Weighing")], "strategy=Weighing: has target_weights, which needs prices"),
        ([target("Asking")], "strategy=Asking: needs the field 'volume' (required_fields)"),
        ([target("Fitted"), "walk_forward=rolling"], "strategy=Fitted: has fit, which is given"),
        ([target("crossover"), "benchmark=SPY"], "benchmark=SPY: the symbol SPY needs prices"),
        (
            [target("crossover"), "benchmark={_target_: readers.Weighing}"],
            "a strategy needs prices",
        ),
        ([target("crossover"), "factors=[SPY]"], "symbols need prices"),
        ([target("crossover"), "data.files=[no.csv]"], "no.csv: no such file or folder"),
        (
            [target("crossover"), "data.symbols=[A]"],
            "is not an argument of NoPrices; it has: files, version",
        ),
        ([target("crossover"), "walk_forward=rolling", "walk_forward.train_size=-4"], "train_size"),
    ],
)
def test_what_needs_prices_is_refused_before_anything_runs(invoke, arguments, message):
    ended = invoke(*NONE, *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_runs_with_and_without_prices_are_no_batch(invoke):
    ended = invoke(*NONE[1:], "-m", target("crossover"), "data=none,synthetic")
    assert ended.code == 2
    assert "data=none cannot be swept together with other data (1 of 2 runs" in ended.err


def test_what_cannot_be_true_fails_its_run_alone(invoke, recorded_runs):
    ways = "good,nothing,list,hole,total_loss,unordered,twice,numbered,empty,unmatched"
    ended = invoke(*NONE, FILES, "-m", target("spoilt"), f"strategy.how={ways}")
    assert ended.code == 1
    runs = recorded_runs(Path.cwd())
    assert {name for name, run in runs.items() if run.status == "FINISHED"} == {"run_good"}
    said = {
        name.removeprefix("run_"): run.tags["error_message"]
        for name, run in runs.items()
        if name != "run_good"
    }
    assert "must be in order of time" in said["unordered"]
    assert "occur twice, the first 2017-09-08" in said["twice"]
    assert "NaN inside" in said["hole"]
    assert "but its index is a RangeIndex" in said["numbered"]
    assert "holds no bars" in said["empty"]
    assert "equity does not match net_return" in said["unmatched"]


def test_dates_and_costs_reach_the_conditions_alone(invoke, recorded_runs):
    ended = invoke(
        *NONE, FILES, target("told"), "start_date=2016", "end_date=2017", "commission_bps=3"
    )
    assert ended.code == 0, ended.err
    (run,) = recorded_runs(Path.cwd()).values()
    assert run.metrics["began_in"] == 2016.0
    assert run.metrics["rate"] == 3.0
    assert run.tags["bars_first"] == "2015-01-05T00:00:00"
    assert run.tags["bars_last"] == "2017-09-08T00:00:00"
    assert run.tags["bars_count"] == str(N_BARS)
    assert run.params["periods_per_year"] == "252.0"


def test_bars_a_year_are_those_of_the_returns(invoke, recorded_runs):
    assert invoke(*NONE, FILES, target("months"), "output_dir=out").code == 0
    (run,) = recorded_runs(Path.cwd()).values()
    assert run.tags["bars_a_year"] == "12.0"
    returns = pd.read_parquet("out/returns.parquet")["run_base"].dropna()
    assert run.metrics["volatility"] == pytest.approx(returns.std(ddof=1) * np.sqrt(12))


def test_runs_of_different_times_are_judged_on_what_they_share(invoke):
    ended = invoke(
        *NONE,
        *(FILES, "-m", target("crossover"), "strategy.begin=2015-01-05,2015-06-01"),
        *("output_dir=out", "benchmark=spy.csv"),
    )
    assert ended.code == 0, ended.err
    assert "2 sets of bars, which begin between 2015-01-05 and 2015-06-01 and end" in ended.out
    frame = pd.read_parquet("out/returns.parquet").set_index("timestamp")
    assert len(frame) == N_BARS
    assert frame["run_2015-06-01"].first_valid_index() == pd.Timestamp("2015-06-02")
    document = json.loads(Path("out/overfitting.json").read_text())
    assert document["n_bars"] == frame["run_2015-06-01"].notna().sum()
    prices = pd.read_csv("spy.csv", index_col=0, parse_dates=True)["close"]
    moves = prices.pct_change().reindex(frame.index)
    known = frame["benchmark"].notna()
    pd.testing.assert_series_equal(frame["benchmark"][known], moves[known], check_names=False)


def test_a_benchmark_that_ends_early_fails_the_runs_with_its_reason(invoke, recorded_runs):
    pd.read_csv("spy.csv").iloc[:500].to_csv("short.csv", index=False)
    ended = invoke(*NONE, FILES, target("crossover"), "benchmark=short.csv")
    assert ended.code == 1
    (run,) = recorded_runs(Path.cwd()).values()
    assert "benchmark=short.csv: must cover the measured bars" in run.tags["error_message"]


def test_a_walk_forward_is_windowed_over_the_bars_that_all_runs_have(invoke):
    walk = ("walk_forward=rolling", "walk_forward.train_size=252", "walk_forward.test_size=63")
    grid = ("-m", "strategy.window=5,20", "benchmark=spy.csv")
    ended = invoke(*NONE, *grid, *walk, FILES, target("crossover"), "output_dir=own")
    assert ended.code == 0, ended.err
    given = ("data=csv", "data.path=prices.csv", *NONE[1:], "start_date=2015-01-05")
    assert invoke(*given, *grid, *walk, target("with_panel"), "output_dir=given").code == 0
    own, panel = (
        pd.read_parquet(f"{name}/walk_forward_equity.parquet") for name in ("own", "given")
    )
    pd.testing.assert_frame_equal(own, panel, check_exact=True)
    assert len(own) > 300


def test_a_walk_forward_on_too_few_bars_is_said_and_costs_no_result(invoke):
    walk = ("walk_forward=rolling", "walk_forward.train_size=690", "walk_forward.test_size=252")
    ended = invoke(*NONE, FILES, target("crossover"), *walk, "output_dir=out")
    assert ended.code == 0, ended.err
    assert "There is no walk-forward on the bars of these runs: " in ended.out
    assert len(pd.read_csv("out/rankings.csv")) == 1


def test_windows_are_not_laid_over_bars_that_some_runs_lack(invoke):
    walk = ("walk_forward=rolling", "walk_forward.train_size=252", "walk_forward.test_size=63")
    grid = ("-m", "strategy.every=1,2", "periods_per_year=252")
    ended = invoke(*NONE, FILES, target("rarely"), *grid, *walk, "output_dir=out")
    assert ended.code == 0, ended.err
    assert "some have a bar at 2015-01-06 and others have none (349 such bars)" in ended.out
    # The verdict compounds what lies between common bars.
    frame = pd.read_parquet("out/returns.parquet")
    assert json.loads(Path("out/overfitting.json").read_text())["n_bars"] == 349
    assert frame["run_2"].notna().sum() == 349


def test_named_data_are_done_until_their_content_changes(invoke, recorded_runs):
    batch = (*NONE, "-m", target("crossover"), "strategy.window=5,20", FILES)
    assert invoke(*batch).code == 0
    before = _computed(recorded_runs)
    assert invoke(*batch, "resume=latest").code == 0
    assert _computed(recorded_runs) == before
    frame = pd.read_csv("prices.csv")
    frame.iloc[-1, 1] *= 1.01
    frame.to_csv("prices.csv", index=False)
    assert invoke(*batch, "resume=latest").code == 0
    assert not _computed(recorded_runs) & before


def test_data_that_are_not_named_are_never_taken_for_done(invoke, recorded_runs):
    batch = (*NONE, "-m", target("crossover"), "strategy.window=5,20")
    ended = invoke(*batch)
    assert ended.code == 0
    assert ended.out.count("resume computes every run again") == 1
    assert "resume computes" not in ended.err
    before = _computed(recorded_runs)
    assert invoke(*batch, "resume=latest").code == 0
    assert not _computed(recorded_runs) & before


def _computed(recorded_runs):
    return {run.tags["tracking_id"] for run in recorded_runs(Path.cwd()).values()}


def test_a_version_names_the_data_as_well(planned):
    keys = {
        planned(*NONE, target("crossover"), *given).runs[0].run_key
        for given in ((), ("data.version=3",), ("data.version=4",), (FILES,))
    }
    assert len(keys) == 4


def test_the_winner_is_verified_to_the_bit(invoke):
    batch = (*NONE, "-m", target("crossover"), "strategy.window=5,20", FILES, "output_dir=out")
    assert invoke(*batch).code == 0
    ended = invoke("best=out/best_params.json", "verify=true")
    assert ended.code == 0, ended.err
    assert "bit for bit" in ended.out


def test_a_dry_run_says_what_a_run_takes(invoke):
    ended = invoke(*NONE, "-m", target("crossover"), "strategy.window=5,20", "dry_run=true")
    assert ended.code == 0, ended.err
    assert "Runs: 2." in ended.out
    assert "Pilot run:" in ended.out
    assert not list(Path("mlruns").glob("batches/*"))


def test_the_report_names_where_the_data_come_from_and_shows_their_bars(invoke):
    assert invoke(*NONE, FILES, target("crossover"), "output_dir=out").code == 0
    page = Path("out/report.html").read_text()
    assert "read by the strategy (data=none), 700 bars" in page
    assert "2017-09-08" in page


def test_a_series_in_memory_may_be_the_benchmark(monkeypatch):
    monkeypatch.chdir(Path.cwd())
    spy = pd.read_csv("spy.csv", index_col=0, parse_dates=True)["close"]
    found = run_sweep(
        {"strategy.window": [5, 20]},
        data="none",
        strategy="custom",
        benchmark=spy,
        n_jobs=1,
        **{"strategy._target_": "readers.crossover", "data.version": "today"},
    )
    assert found.exit_code == 0
    assert {"beta", "alpha", "information_ratio"} <= set(found.table.columns)
    with pytest.raises(ConfigurationError, match="target_weights, which needs prices"):
        run_sweep(data="none", strategy="trend_baseline", n_jobs=1)


def test_returns_without_prices_are_explained_as_those_with_prices_are(invoke):
    returns = pd.read_csv("spy.csv", index_col=0, parse_dates=True)["close"].pct_change()
    returns.iloc[1:].rename("spy").to_csv("ff.csv", index_label="date")
    grid = ("-m", "strategy.window=5,20", "benchmark=none", "factors=ff.csv")
    assert invoke(*NONE, *grid, FILES, target("crossover"), "output_dir=own").code == 0
    given = ("data=csv", "data.path=prices.csv", *NONE[1:], "start_date=2015-01-05")
    assert invoke(*given, *grid, target("with_panel"), "output_dir=given").code == 0
    own, panel = (
        json.loads(Path(name, "overfitting.json").read_text())["factors"]
        for name in ("own", "given")
    )
    assert own == panel
    assert own["names"] == ["spy"]
    assert own["spa_pvalue"] is not None
