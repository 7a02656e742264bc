import json
import math

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.overfitting.multiple_tests import stationary_counts
from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.walk_forward import (
    Bootstrap,
    WalkForwardSettings,
    aggregate_table,
    choices_table,
    compared_curves,
    drifted_weights,
    equity_table,
    measure_windows,
    run_metrics,
    sentences,
    summarise,
    summary_table,
    walk_forward,
)
from backtest_batch.core.engine.metrics import equity_metrics
from backtest_batch.errors import ConfigurationError
from tests.support.walk_forward_cases import (
    market,
    random_returns,
    runs_of,
    trend_runs,
    trend_simulations,
)

SHARPE = Ranking.parse("sharpe")


def settings_of(method="rolling", **given):
    sizes = {"train_size": 60, "test_size": 30, "step_size": 30, "n_folds": 5}
    return WalkForwardSettings(method=method, min_train_size=1, min_test_size=1, **(sizes | given))


def zero_weights(run, bar):
    return np.zeros(2)


@pytest.fixture(scope="module")
def walk():
    panel = market()
    simulations = trend_simulations(panel)
    return walk_forward(
        trend_runs(panel, simulations),
        settings_of(),
        SHARPE,
        lambda run, bar: drifted_weights(simulations[run], panel, bar),
    )


def test_the_summary_has_a_row_for_each_split_and_run(walk):
    table = summary_table([walk])
    names = walk.in_sample.names

    assert list(table.columns) == [
        "split",
        "run_id",
        "train_start",
        "train_end",
        "test_start",
        "test_end",
        *(f"is_{name}" for name in names),
        *(f"oos_{name}" for name in names),
        "chosen",
        "scenario",
    ]
    assert len(table) == len(walk.plan.splits) * 4
    assert table.groupby("split")["chosen"].sum().tolist() == [1] * len(walk.plan.splits)
    for number, split in enumerate(walk.plan.splits):
        part = table[table["split"] == number]
        assert part["run_id"].tolist() == list(walk.runs.run_ids)
        assert (part["test_end"] == walk.runs.index[split.test_end]).all()
        assert part.loc[part["chosen"], "run_id"].item() == walk.runs.run_ids[walk.choices[number]]
        assert part.loc[part["is_sharpe"].idxmax(), "chosen"]
        np.testing.assert_array_equal(part["oos_cagr"], walk.out_of_sample.of("cagr")[number])


def test_the_aggregate_agrees_with_pandas(walk):
    summary = summary_table([walk])
    metrics = [name for name in summary if name.startswith(("is_", "oos_"))]
    long = summary.melt("run_id", metrics, "metric")
    expected = long.groupby(["run_id", "metric"])["value"].agg(
        ["count", "mean", "std", "min", "max"]
    )

    table = aggregate_table([walk])
    assert list(table.columns) == ["run_id", "metric", "count", "mean", "std", "min", "max"]
    assert table["metric"].tolist() == metrics * 4
    found = table.set_index(["run_id", "metric"]).sort_index()
    pd.testing.assert_frame_equal(found, expected.sort_index(), check_exact=False, rtol=1e-9)


def test_the_equity_is_the_compounded_curve(walk):
    table = equity_table([walk])

    assert list(table.columns) == [
        "timestamp",
        "net_return",
        "equity",
        "run_id",
        "split",
        "scenario",
    ]
    np.testing.assert_allclose(table["equity"], 1e6 * (1 + table["net_return"]).cumprod())
    assert table["timestamp"].is_monotonic_increasing
    chosen = [walk.runs.run_ids[walk.choices[split]] for split in table["split"]]
    assert table["run_id"].tolist() == chosen


def test_the_metrics_of_a_run_are_those_of_all_its_test_bars(walk):
    table = run_metrics([walk])
    first, last = walk.plan.splits[0].test_start, walk.plan.splits[-1].test_end
    measured = measure_windows(walk.runs, [(range(first, last + 1),)])

    assert table.index.tolist() == list(walk.runs.run_ids)
    assert list(table.columns) == [f"oos_{name}" for name in measured.names]
    np.testing.assert_array_equal(table.to_numpy(), measured.values[:, 0].T)


def test_scenarios_stand_one_after_the_other(walk):
    other = walk_forward(
        runs_of(random_returns(200, 2), scenario="commission_bps=5.0", run_ids=("x", "y")),
        settings_of(),
        SHARPE,
        zero_weights,
    )
    table = summary_table([walk, other])

    assert table["scenario"].unique().tolist() == ["base", "commission_bps=5.0"]
    assert table.groupby("scenario")["chosen"].sum().tolist() == [11, 5]
    # Without a benchmark there is no beta.
    assert table.loc[table["scenario"] != "base", "is_beta"].isna().all()
    assert len(summarise([walk, other], SHARPE)) == 2
    assert equity_table([walk, other])["scenario"].nunique() == 2
    assert choices_table([walk, other])["split"].tolist() == [*range(11), *range(5)]


def test_the_findings_can_be_checked_by_hand(walk):
    (finding,) = summarise([walk], SHARPE)
    table = equity_table([walk]).set_index("timestamp")
    returns = table["net_return"]
    benchmark = pd.Series(walk.runs.benchmark, index=walk.runs.index)[returns.index]

    assert finding["n_test_bars"] == len(returns)
    assert finding["t_statistic"] == pytest.approx(
        returns.mean() / returns.std() * math.sqrt(len(returns))
    )
    expected, _ = equity_metrics(
        np.r_[1.0, (1 + returns).cumprod()],
        periods_per_year=252.0,
        benchmark_returns=np.r_[np.nan, benchmark],
    )
    for name, value in expected.items():
        assert finding["metrics"][name] == pytest.approx(value, rel=1e-9), name
    beta = np.cov(returns, benchmark)[0, 1] / benchmark.var()
    adjusted = returns - beta * benchmark
    assert finding["beta_adjusted"]["sharpe"] == pytest.approx(
        adjusted.mean() / adjusted.std() * math.sqrt(252)
    )
    assert finding["benchmark"]["sharpe"] == pytest.approx(
        benchmark.mean() / benchmark.std() * math.sqrt(252)
    )
    summary = summary_table([walk])
    in_sample = summary.loc[summary["chosen"], "is_cagr"].mean()
    assert finding["efficiency"] == pytest.approx(finding["metrics"]["cagr"] / in_sample)
    names = summary.loc[summary["chosen"], "run_id"].value_counts()
    modal = finding["modal_choice"]
    assert modal["share"] == names.max() / names.sum()
    assert names[modal["run_id"]] == names.max()
    everything = measure_windows(walk.runs, [(range(41, len(walk.runs.index)),)]).of("sharpe")[0]
    assert finding["best_overall"]["run_id"] == walk.runs.run_ids[everything.argmax()]


def test_turnover_and_costs_of_the_curve_are_those_of_the_choices_and_the_switches(walk):
    (finding,) = summarise([walk], SHARPE)
    runs, curve = walk.runs, walk.curve
    turnover = runs.turnover[curve.bars, curve.runs].sum()
    switched = sum(switch.turnover for switch in curve.switches)

    assert switched > 0.5
    assert finding["switches"] == len(curve.switches)
    assert finding["switch_cost"] == pytest.approx(5e-4 * switched)
    assert finding["metrics"]["turnover_annual"] == pytest.approx(
        (turnover + switched) * 252 / len(curve.bars)
    )
    before = np.r_[1e6, curve.equity[:-1]]
    ratio = runs.cost_ratio[curve.bars, curve.runs] + 5e-4 * curve.switch_turnover
    assert finding["metrics"]["total_costs"] == pytest.approx((ratio * before).sum())
    # Its first measured bar is the one before: what is held on it earns the first return.
    first = runs.gross_exposure[curve.bars[0] - 1, curve.runs[0]]
    gross = np.r_[first, runs.gross_exposure[curve.bars, curve.runs]]
    assert finding["metrics"]["avg_gross_exposure"] == pytest.approx(gross.mean(), rel=1e-12)
    assert finding["metrics"]["max_gross_exposure_realised"] == gross.max()
    charged = {row["split"]: row["switch_cost"] for row in finding["choices"]}
    assert sum(charged.values()) == pytest.approx(finding["switch_cost"])
    assert charged[0] == 0


def test_the_interval_is_a_percentile_interval_of_the_stationary_bootstrap(walk):
    bootstrap = Bootstrap(draws=200, mean_block=5, seed=1, level=0.9)
    (finding,) = summarise([walk], SHARPE, bootstrap)
    returns = walk.curve.net_return
    sharpes = []
    for counts in stationary_counts(len(returns), 200, 5, 1).astype(int):
        sample = np.repeat(returns, counts)
        sharpes.append(sample.mean() / sample.std(ddof=1) * math.sqrt(252))

    low, high = np.quantile(sharpes, [0.05, 0.95])
    assert finding["sharpe_ci"] == pytest.approx({"low": low, "high": high, "level": 0.9})


def test_findings_are_plain_values(walk):
    findings = summarise([walk], SHARPE)

    assert json.loads(json.dumps(findings, allow_nan=False)) == findings


def test_parameter_drift_counts_moves_and_steps(walk):
    (finding,) = summarise([walk], SHARPE)
    drift = finding["parameter_drift"]["strategy.slow"]
    values = [walk.runs.parameters["strategy.slow"][choice] for choice in walk.choices]
    moves = np.diff(values) != 0

    assert drift["values"] == values
    assert drift["changed"] == pytest.approx(moves.mean())
    assert drift["mean_steps"] == pytest.approx(moves.mean())
    assert (drift["min"], drift["max"]) == (min(values), max(values))


def test_sentences_begin_with_the_t_statistic(walk):
    (finding,) = summarise([walk], SHARPE)
    told = sentences(finding)

    assert told[0].startswith(f"Out of sample, {finding['test_start']} to")
    assert f"t = {finding['t_statistic']:.2f}" in told[0]
    assert any("at equal beta" in sentence for sentence in told)
    assert any("Walk-forward efficiency" in sentence for sentence in told)


def test_curves_to_compare(walk):
    curves = compared_curves(walk)

    best = walk.runs.run_ids[walk.best_overall]
    assert list(curves.columns) == ["walk_forward", best, "benchmark"]
    assert curves.notna().all(axis=None)


def test_paths_of_the_combinatorial_method():
    walk = walk_forward(
        runs_of(random_returns(200, 3), cost_rate=0.001),
        settings_of("combinatorial", n_folds=6),
        SHARPE,
        lambda run, bar: np.eye(3)[run],
    )
    (finding,) = summarise([walk], SHARPE)

    assert finding["n_splits"] == 15
    statistics = [path["t_statistic"] for path in finding["paths"]]
    assert len(statistics) == 5
    assert finding["t_statistic"] == np.median(statistics)
    table = equity_table([walk])
    assert table.groupby("path").size().tolist() == [199] * 5
    assert "switch_cost" not in choices_table([walk])
    for curve in walk.curves:
        changes = np.flatnonzero(np.diff(curve.runs)) + 1
        np.testing.assert_array_equal(np.flatnonzero(curve.switch_turnover), changes)
        expected = walk.runs.returns[curve.bars, curve.runs]
        expected[changes] -= 0.002
        np.testing.assert_array_equal(curve.net_return, expected)


def test_a_constraint_that_none_meets_leaves_the_curve_in_cash():
    runs = runs_of(random_returns(200, 2))
    ranking = Ranking.parse("sharpe", {"sharpe": "> 100"})
    walk = walk_forward(runs, settings_of(), ranking, zero_weights)
    (finding,) = summarise([walk], ranking)

    assert walk.choices == (None,) * 5
    assert finding["t_statistic"] is None
    assert finding["efficiency"] is None
    assert finding["best_overall"] is None
    assert finding["modal_choice"] == {"run_id": None, "share": None}
    assert finding["notes"] == [
        "No run qualifies in 5 of 5 splits (0, 1, 2, 3, 4): the curve is in cash there."
    ]
    assert equity_table([walk])["run_id"].isna().all()
    assert not summary_table([walk])["chosen"].any()
    assert json.dumps(finding, allow_nan=False)
    assert sentences(finding)[0].endswith("the returns do not vary.")
    assert choices_table([walk])["run_id"].isna().all()


def test_ruined_runs_are_not_chosen_after_their_ruin():
    returns = random_returns(200, 2)
    returns[1:100, 1] += 0.01
    returns[100, 1] = -1.0
    returns[101:, 1] = np.nan
    walk = walk_forward(runs_of(returns), settings_of(), SHARPE, zero_weights)
    (finding,) = summarise([walk], SHARPE)

    # The run is best in two windows, loses all in the second test, and the curve with it.
    assert walk.choices == (1, 1, 0, 0, 0)
    assert finding["ruined"] == str(walk.runs.index[100].date())
    assert "cagr" not in finding["metrics"]
    assert finding["efficiency"] is None
    assert equity_table([walk])["equity"].iloc[-1] == 0
    assert json.dumps(finding, allow_nan=False)
    assert f"was ruined on {finding['ruined']}" in sentences(finding)[-1]


def test_runs_with_different_warm_ups_are_split_on_their_common_bars():
    returns = random_returns(200, 3)
    returns[:50, 1] = np.nan
    returns[:, 2] = np.nan
    walk = walk_forward(runs_of(returns), settings_of(), SHARPE, zero_weights)

    assert walk.plan.splits[0].train == (range(50, 110),)
    assert 2 not in walk.choices


def test_runs_without_any_return_are_too_little_data():
    returns = np.full((200, 2), np.nan)
    with pytest.raises(ConfigurationError, match="but the data has 0"):
        walk_forward(runs_of(returns), settings_of(), SHARPE, zero_weights)


def test_intraday_returns_are_compounded_to_days_for_the_interval():
    days = pd.bdate_range("2001-01-02", periods=60)
    index = pd.DatetimeIndex([day + pd.Timedelta(hours=hour) for day in days for hour in (10, 14)])
    runs = runs_of(random_returns(120, 1), index=index, periods_per_year=504.0)
    walk = walk_forward(runs, settings_of(train_size=20, purged_size=1), SHARPE, zero_weights)
    (finding,) = summarise([walk], SHARPE, Bootstrap(draws=300))

    returns = pd.Series(walk.curve.net_return, index=index[walk.curve.bars])
    daily = ((1 + returns).groupby(returns.index.date).prod() - 1).to_numpy()
    sharpes = []
    for counts in stationary_counts(len(daily), 300, 10, 42).astype(int):
        sample = np.repeat(daily, counts)
        sharpes.append(sample.mean() / sample.std(ddof=1))
    bars_a_day = len(returns) / len(daily)
    scale = math.sqrt(504 / bars_a_day)
    low, high = np.quantile(sharpes, [0.025, 0.975]) * scale
    assert finding["sharpe_ci"] == pytest.approx({"low": low, "high": high, "level": 0.95})
    assert finding["test_start"] == str(index[22])
