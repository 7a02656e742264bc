"""Batches of strategies that make their own account: functions, and classes with backtest."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.backtest import compute_chunk
from backtest_batch.core.fitting import split_plan

MODULE = """
import numpy as np
import pandas as pd

from backtest_batch import Account, trade_weights
from backtest_batch.core.strategies import TrendBaseline

SCENARIO = ("commission_bps", "spread_bps", "impact_bps", "cash_rate", "borrow_rate",
            "short_fee_rate", "risk_free_rate", "initial_capital", "max_gross_exposure",
            "max_weight", "execution_lag", "execution_price", "start_date", "end_date",
            "rebalance", "periods_per_year")


def crossover(panel, conditions, window: int = 20):
    close = panel.close
    held = (close > close.rolling(window).mean()).shift(1, fill_value=False) / panel.n_assets
    traded = held.diff().abs().sum(axis=1)
    return (held * close.pct_change(fill_method=None)).sum(axis=1) - traded * conditions.cost_rate


def ignoring(panel, window: int = 20):
    close = panel.close
    held = (close > close.rolling(window).mean()).shift(1, fill_value=False) / panel.n_assets
    return (held * close.pct_change(fill_method=None)).sum(axis=1)


def trend(panel, conditions, fast: int = 5, slow: int = 20):
    weights = TrendBaseline(fast=fast, slow=slow).target_weights(panel, conditions.decisions)
    return trade_weights(panel, weights, conditions)


trend.warmup_bars = 60


class Scored:
    def __init__(self, window: int = 20, seed: int = 0):
        self.window, self.seed = window, seed

    def backtest(self, panel, conditions):
        returns = crossover(panel, conditions, self.window)
        figures = {"luck": float(-self.window), "seen": float(conditions.first_bar)}
        return Account(net_return=returns, metrics=figures)


class Learning:
    share = 0.0

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def fit(self, panel):
        self.share = self.scale * panel.n_bars / 1000
        return self

    def backtest(self, panel, conditions):
        returns = panel.close.pct_change(fill_method=None).mean(axis=1) * self.share
        return Account(net_return=returns, turnover=returns * 0.0 + 0.1)


class Trading:
    warmup_bars = 20

    def fit(self, panel):
        return self

    def backtest(self, panel, conditions):
        weights = TrendBaseline(fast=5, slow=20).target_weights(panel, conditions.decisions)
        return trade_weights(panel, weights, conditions)


class Weighing(Trading):
    def target_weights(self, panel, decisions):
        return TrendBaseline(fast=5, slow=20).target_weights(panel, decisions)


class FromTheStart:
    def fit(self, panel):
        return self

    def backtest(self, panel, conditions):
        turnover = pd.Series(np.arange(panel.n_bars) % 7 / 10.0, index=panel.index)
        trades = pd.DataFrame({"pnl": 1.0}, index=panel.index[turnover > 0])
        returns = ignoring(panel)
        return Account(net_return=returns, turnover=turnover, cost=turnover * 3.0, trades=trades)


class Short:
    def backtest(self, panel):
        return ignoring(panel)


class Both(Scored):
    def target_weights(self, panel, decisions):
        return np.full((len(decisions), panel.n_assets), 1 / panel.n_assets)


def telling(panel, conditions, seed, *, window: int = 20):
    assert seed > 0
    assert panel.n_bars == 600
    figures = {name + "_was": float(getattr(conditions, name) or 0) for name in SCENARIO
               if not isinstance(getattr(conditions, name), str)}
    return Account(net_return=ignoring(panel), metrics=figures)


def spoilt(panel, how: str = "good"):
    returns = ignoring(panel)
    return {
        "good": lambda: returns,
        "nothing": lambda: None,
        "list": lambda: returns.tolist(),
        "hole": lambda: returns.mask(np.arange(len(returns)) == 99),
        "total_loss": lambda: returns - 1.5,
        "short": lambda: returns.iloc[:200],
        "percent": lambda: returns.abs().clip(upper=0.01) * 100.5,
    }[how]()
"""
DATA = ("data=synthetic", "data.n_assets=3", "data.n_bars=600", "strategy=custom")


@pytest.fixture(autouse=True)
def module(with_store, monkeypatch):
    Path("accounts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(__import__("sys").modules, "accounts", raising=False)


def target(name):
    return f"strategy._target_=accounts.{name}"


def named(name):
    """Batches of one experiment count each other's trials."""
    return f"output_dir={name}", f"tracking.experiment={name}"


def computed(plan):
    return [compute_chunk([run], plan.panels[run.data_fingerprint]).runs[0] for run in plan.runs]


def test_the_kind_of_a_strategy_is_told_by_what_it_has(planned):
    kinds = {
        name: planned(*DATA, target(name)).runs[0].strategy_kind
        for name in ("crossover", "Scored", "Both")
    }
    assert kinds == {"crossover": "account", "Scored": "account", "Both": "weights"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([target("crossove")], "has no class or function crossove; did you mean crossover"),
        ([target("crossover"), "strategy.windw=3"], "did you mean strategy.window"),
        ([target("crossover"), "strategy.window=many"], "strategy.window=many: input should be a"),
        ([target("crossover"), "strategy.panel=3"], "strategy.panel=3: is no key"),
        ([target("crossover"), "strategy.conditions=3"], "strategy.conditions=3: is no key"),
        ([target("Short")], "backtest is called with panel and conditions, but takes (panel)"),
        ([target("np.nanmean")], "there is no module accounts.np"),
    ],
)
def test_a_function_s_arguments_are_checked_before_anything_runs(invoke, arguments, message):
    ended = invoke(*DATA, *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_a_function_is_given_its_data_conditions_and_seed(planned):
    plan = planned(
        *DATA,
        *(target("telling"), "commission_bps=3", "max_weight=0.4", "risk_free_rate=0.01"),
        *("execution_lag=2", "start_date=2000-03-01", "periods_per_year=250"),
    )
    (run,) = computed(plan)
    assert run.first_bar == plan.runs[0].first_bar > 0
    assert {
        "commission_bps_was": 3.0,
        "max_weight_was": 0.4,
        "risk_free_rate_was": 0.01,
        "execution_lag_was": 2.0,
        "initial_capital_was": 1e6,
        "periods_per_year_was": 250.0,
    }.items() <= run.metrics.items()


def test_weights_and_a_function_that_trades_them_are_the_same_runs(invoke, recorded_runs):
    grid = ("commission_bps=0,5", "rebalance=W", "strategy.fast=3,5", "strategy.slow=20")
    data = (*DATA[:3], "n_jobs=1", "start_date=2000-06-01", "trials=batch", "-m")
    assert invoke(*data, *grid, "strategy=trend_baseline", *named("weights")).code == 0
    function = ("strategy=custom", target("trend"))
    assert invoke(*data, *grid, *function, *named("account")).code == 0
    weights, account = (
        pd.read_parquet(f"{name}/returns.parquet") for name in ("weights", "account")
    )
    pd.testing.assert_frame_equal(weights, account, check_exact=True)
    ranks = [
        pd.read_csv(f"{name}/rankings.csv").set_index("run_id")["rank"].to_dict()
        for name in ("weights", "account")
    ]
    assert ranks[0] == ranks[1]
    verdicts = [
        json.loads(Path(name, "overfitting.json").read_text())["verdict"]
        for name in ("weights", "account")
    ]
    assert verdicts[0] == verdicts[1]


def test_own_metrics_rank_bound_and_are_explained_and_verified(invoke, recorded_runs):
    ended = invoke(
        *(*DATA, "-m", target("Scored"), "strategy.window=10,20,30", "n_jobs=1"),
        *("rank_by=luck", "metric_directions={luck: max}", "constraints={luck: '>= -25'}"),
        "output_dir=out",
    )
    assert ended.code == 0, ended.err
    rankings = pd.read_csv("out/rankings.csv")
    assert rankings["run_id"].tolist() == ["run_10", "run_20", "run_30"]
    assert rankings["luck"].tolist() == [-10.0, -20.0, -30.0]
    assert rankings["rank"].tolist()[:2] == [1, 2]
    assert "luck >= -25" in rankings["unranked"].iloc[2]
    sensitivity = pd.read_csv("out/sensitivity_analysis.csv")
    assert {"luck", "seen"} <= set(sensitivity["metric"])
    runs = recorded_runs(Path.cwd())
    assert runs["run_10"].metrics["luck"] == -10.0
    assert runs["run_10"].tags["own_metrics"] == "luck,seen"
    assert runs["run_10"].tags["strategy_kind"] == "account"
    assert "turnover_annual" in runs["run_10"].tags["undefined_metrics"]
    ended = invoke("best=out/best_params.json", "verify=true")
    assert ended.code == 0, ended.err
    assert "bit for bit" in ended.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rank_by=luck"], "say which is better: metric_directions.luck=max"),
        (["constraints={luck: '> 0'}"], "say which is better: metric_directions.luck=max"),
        (["metric_directions={luck: up}"], "must be max"),
        (["metric_directions={sharpe: max}"], "is a metric of ours"),
    ],
)
def test_an_own_metric_needs_a_direction_to_rank_runs(invoke, arguments, message):
    ended = invoke(*DATA, target("Scored"), *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_what_cannot_be_true_fails_its_run_alone(invoke, recorded_runs):
    ways = "good,nothing,list,hole,total_loss,short,percent"
    ended = invoke(*DATA, "-m", target("spoilt"), f"strategy.how={ways}", "n_jobs=1")
    assert ended.code == 1
    runs = recorded_runs(Path.cwd())
    found = {name.removeprefix("run_"): run.status for name, run in runs.items()}
    assert {name for name, status in found.items() if status == "FINISHED"} == {"good", "percent"}
    assert runs["run_nothing"].tags["error_type"] == "StrategyError"
    assert "spoilt returned None" in runs["run_nothing"].tags["error_message"]
    assert "are they percent instead of fractions?" in ended.out


def test_conditions_that_a_function_ignores_are_reported_as_not_connected(invoke):
    ended = invoke(
        *(*DATA, "-m", target("ignoring"), "commission_bps=0,5,10", "strategy.window=10,20"),
        *("n_jobs=1", "output_dir=out", "trials=batch"),
    )
    assert ended.code == 0
    assert "commission_bps changes no result: its 3 values" in ended.out
    assert "It is not connected" in ended.out
    assert json.loads(Path("out/overfitting.json").read_text())["n_trials"] == 2


@pytest.mark.parametrize(
    ("name", "trials", "said"),
    [
        ("ignoring", 3, "3 runs have the returns of another run of the same scenario, bit for bit"),
        ("crossover", 3, "3 runs have the returns of another run of the same scenario"),
    ],
)
def test_runs_with_equal_returns_under_equal_conditions_are_one_trial(invoke, name, trials, said):
    """One value has no effect; what the configuration says are six choices."""
    Path("accounts.py").write_text(
        MODULE
        + """

def idle(panel, conditions, window: int = 20, unused: int = 0):
    return FUNCTION(panel, WITH window=window)
""".replace("FUNCTION", name).replace("WITH", "conditions," if name == "crossover" else "")
    )
    grid = ("strategy.window=10,20,30", "strategy.unused=1,2")
    batch = (*DATA, "-m", target("idle"), *grid, "n_jobs=1", "output_dir=out")
    ended = invoke(*batch, "tracking.experiment=once")
    assert ended.code == 0, ended.err
    assert said in ended.out
    assert "run_10_2 = run_10_1, run_20_2 = run_20_1, run_30_2 = run_30_1" in ended.out
    document = json.loads(Path("out/overfitting.json").read_text())
    assert document["n_trials"] == trials
    # A later batch of the experiment counts them once, too.
    grid = ("strategy.window=15,25", "strategy.unused=1")
    batch = (*DATA, "-m", target("idle"), *grid, "n_jobs=1", "output_dir=next")
    assert invoke(*batch, "tracking.experiment=once").code == 0
    document = json.loads(Path("next/overfitting.json").read_text())
    assert document["n_trials_experiment"] == trials + 2


def test_equal_weights_remain_as_many_choices_as_they_were(invoke):
    """Weights are what was chosen, whatever came of them."""
    weighing = "strategy._target_=accounts.Weighing"
    Path("accounts.py").write_text(
        MODULE.replace(
            "class Weighing(Trading):",
            """class Weighing(Trading):
    def __init__(self, unused: int = 0):
        self.unused = unused
""",
        )
    )
    ended = invoke(
        *(*DATA, "-m", weighing, "strategy.unused=1,2", "n_jobs=1"),
        *("output_dir=out", "trials=batch"),
    )
    assert ended.code == 0, ended.err
    assert json.loads(Path("out/overfitting.json").read_text())["n_trials"] == 2
    assert "bit for bit, and count" not in ended.out


def test_a_batch_that_was_resumed_computes_nothing_again(invoke, recorded_runs):
    batch = (*DATA, "-m", target("crossover"), "strategy.window=10,20", "n_jobs=1")
    assert invoke(*batch).code == 0
    before = {name: run.tags["tracking_id"] for name, run in recorded_runs(Path.cwd()).items()}
    assert invoke(*batch, "resume=latest").code == 0
    assert {
        name: run.tags["tracking_id"] for name, run in recorded_runs(Path.cwd()).items()
    } == before


def test_a_windowed_walk_forward_chooses_among_accounts(invoke):
    ended = invoke(
        *(*DATA, "-m", target("crossover"), "strategy.window=5,10,20", "n_jobs=1"),
        *("walk_forward=rolling", "walk_forward.train_size=252", "walk_forward.test_size=63"),
        "output_dir=out",
    )
    assert ended.code == 0, ended.err
    curve = pd.read_parquet("out/walk_forward_equity.parquet")
    assert len(curve) >= 100
    summary = pd.read_csv("out/walk_forward_summary.csv")
    assert np.isfinite(summary.filter(like="sharpe").to_numpy(dtype=float)).any()
    assert "changing between such runs" in ended.out


def test_a_class_with_fit_is_fitted_on_the_training_bars_of_each_split(planned):
    plan = planned(
        *(*DATA, target("Learning"), "walk_forward=expanding", "walk_forward.step_size=63"),
        *("walk_forward.train_size=252", "walk_forward.test_size=63"),
    )
    (run,) = computed(plan)
    spec = plan.runs[0]
    panel = plan.panels[spec.data_fingerprint]
    splits = split_plan(spec, panel, spec.fit_bars).splits
    moves = panel.close.pct_change(fill_method=None).mean(axis=1).to_numpy()
    for split, end in zip(splits, [*(s.test_start for s in splits[1:]), panel.n_bars], strict=True):
        share = (split.train_end + 1 - split.train_start) / 1000
        got = run.net_return[split.test_start - run.first_bar : end - run.first_bar]
        assert np.allclose(got, moves[split.test_start : end] * share, rtol=0, atol=1e-15)
        trained = moves[split.train_start : split.train_end + 1] * share
        sharpe = trained.mean() / trained.std(ddof=1) * np.sqrt(252)
        assert run.in_sample["sharpe"][split.number] == pytest.approx(sharpe, rel=1e-9)
    assert len(splits) > 2
    assert run.first_bar == splits[0].test_start - 1
    assert {"sharpe", "turnover_annual", "beta"} <= run.metrics.keys()
    assert {"trades", "total_costs"} <= set(run.undefined)


WALK = ("walk_forward=rolling", "walk_forward.train_size=252", "walk_forward.test_size=63")


@pytest.mark.parametrize(
    ("rebalance", "lag", "commission", "tolerance"),
    # What an entry costs moves the holdings that it leads to a little.
    [("M", 0, 0, 1e-12), ("M", 1, 0, 1e-12), ("M", 1, 20, 1e-4), ("D", 0, 20, 1e-4)],
)
def test_no_test_window_begins_in_cash(planned, rebalance, lag, commission, tolerance):
    conditions = (f"rebalance={rebalance}", f"execution_lag={lag}", f"commission_bps={commission}")
    found = {}
    for name in ("Weighing", "Trading"):
        plan = planned(*DATA, target(name), *WALK, *conditions)
        (found[name],) = computed(plan)
    spec = plan.runs[0]
    splits = split_plan(spec, plan.panels[spec.data_fingerprint], spec.fit_bars).splits
    ours, theirs = found["Weighing"], found["Trading"]
    assert theirs.first_bar == ours.first_bar == splits[0].test_start - 1
    # Weights are traded up to the last test window; an account of a strategy's own goes on.
    bars = slice(1, splits[-1].test_end - lag - ours.first_bar)
    assert np.allclose(theirs.net_return[bars], ours.net_return[bars], rtol=0, atol=tolerance)
    inner = slice(1 + ours.n_left_out, bars.stop + ours.n_left_out)
    for name in ("turnover", "gross_exposure", "cost_ratio", "trade_counts"):
        own, engine = getattr(theirs.account, name)[bars], getattr(ours.account, name)[inner]
        assert np.allclose(own, engine, rtol=0, atol=50 * tolerance), name
    assert theirs.in_sample["sharpe"] == pytest.approx(ours.in_sample["sharpe"], rel=1e-3)


def test_bars_at_which_two_windows_meet_count_once(planned):
    plan = planned(*DATA, target("FromTheStart"), *WALK)
    (run,) = computed(plan)
    bars = np.arange(run.first_bar + 1, 600)
    turnover = bars % 7 / 10.0
    assert np.allclose(run.account.turnover[1:], turnover)
    assert run.metrics["turnover_annual"] == pytest.approx(turnover.sum() / len(bars) * 252)
    assert run.metrics["trades"] == np.count_nonzero(turnover)
    assert len(run.account.trades_given) == np.count_nonzero(turnover)


def test_trades_of_all_windows_are_written_once_and_in_order(invoke, recorded_runs):
    ended = invoke(*DATA, target("Trading"), *WALK, "rebalance=M", "n_jobs=1", "output_dir=out")
    assert ended.code == 0, ended.err
    (path,) = Path("mlruns").rglob("trades.parquet")
    trades = pd.read_parquet(path)
    assert trades["timestamp"].is_monotonic_increasing
    assert not trades.duplicated(["timestamp", "symbol"]).any()
    assert list(trades) == ["timestamp", "symbol", "shares", "price", "value", "cost"]


def test_what_a_run_leaves_in_its_module_is_found_by_verify(invoke, recorded_runs):
    """Nothing looks for it while the batch runs, which the documentation says."""
    Path("accounts.py").write_text(
        MODULE
        + """

seen = []


def remembering(panel, window: int = 20):
    seen.append(window)
    return ignoring(panel, window) + len(seen) * 1e-3
"""
    )
    batch = (*DATA, "-m", target("remembering"), "strategy.window=10,20,30", "n_jobs=1")
    assert invoke(*batch, "output_dir=out").code == 0
    best = json.loads(Path("out/best_params.json").read_text())["top"][0]
    assert best["run_id"] != "run_10"  # the last ones have gained most
    ended = invoke("best=out/best_params.json", "verify=true")
    assert ended.code == 1
    assert "are not equal to those recorded, compared bit for bit" in ended.out
    assert "on what a run leaves in its process for the next one" in ended.out


def test_random_numbers_begin_anew_with_each_run(invoke):
    Path("accounts.py").write_text(
        MODULE
        + """

def drawing(panel, window: int = 20):
    return ignoring(panel, 20) + np.random.normal(0.0, 1e-3, panel.n_bars)
"""
    )
    batch = (*DATA, "-m", target("drawing"), "n_jobs=1")
    assert invoke(*batch, "strategy.window=10,20", "output_dir=one").code == 0
    assert invoke(*batch, "strategy.window=20,10", "output_dir=two").code == 0
    one, two = (pd.read_parquet(f"{name}/returns.parquet") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two[one.columns], check_exact=True)


def test_figures_of_a_fitted_strategy_s_own_are_undefined_and_named(invoke, recorded_runs):
    Path("accounts.py").write_text(
        MODULE
        + """

class Telling(Learning):
    def backtest(self, panel, conditions):
        account = super().backtest(panel, conditions)
        return Account(net_return=account.net_return, metrics={"share": self.share})
"""
    )
    ended = invoke(*DATA, target("Telling"), *WALK, "n_jobs=1")
    assert ended.code == 0, ended.err
    (run,) = recorded_runs(Path.cwd()).values()
    assert "share" not in run.metrics
    assert "share" in run.tags["undefined_metrics"].split(",")
    assert "the account has figures of its own (share): each test window has one" in ended.out
