"""From the runs of a batch to overfitting.json."""

import importlib.util
import json
import math
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.overfitting import (
    EXPLANATIONS,
    OverfittingSettings,
    Trial,
    Trials,
    evaluate,
)
from backtest_batch.analysis.overfitting.cscv import cross_validate
from backtest_batch.analysis.overfitting.document import assess
from backtest_batch.analysis.overfitting.sharpe import probabilistic_sharpe_ratio

QUICK = OverfittingSettings(blocks=6, draws=200)

KEYS = {
    "scenario", "n_trials", "n_trials_experiment", "n_bars", "run_id", "sharpe_per_period", "skew",
    "mean_block", "inference", "trials_band", "sharpe_lower_bound",
    "kurtosis", "beta", "psr", "sr0", "dsr", "min_track_record_length_bars",
    "min_backtest_length_years", "pbo", "pbo_blocks", "p_oos_loss", "reality_check_pvalue",
    "spa_pvalue", "benchmark_spa_pvalue", "stepm_survivors", "sharpe_ci", "adjusted_pvalues",
    "haircut_sharpe", "effective_trials", "settings", "excluded", "verdict", "scenarios",
    "benchmark_adjusted", "ranked_first", "undefined", "factors", "permutation",
}  # fmt: skip

FIGURES = KEYS - {"scenario", "n_trials", "n_trials_experiment", "n_bars", "pbo_blocks",
                  "mean_block", "inference", "trials_band", "settings", "excluded", "verdict",
                  "scenarios", "undefined"}  # fmt: skip


def make(n_bars=600, n_runs=20, seed=1, skill=(), **changes):
    """Return trials of one scenario, ranked by their Sharpe ratio; ``skill`` by column, a bar."""
    generator = np.random.default_rng(seed)
    market = 0.0003 + 0.01 * generator.standard_normal(n_bars)
    noise = 0.01 * generator.standard_normal((n_bars, n_runs))
    noise -= 0.0001 * generator.standard_normal(n_runs)
    noise[:, : len(skill)] += 0.01 * np.array(skill)
    returns = 0.5 * market[:, None] + noise
    given = {
        "returns": returns,
        "index": pd.bdate_range("2000-01-03", periods=n_bars),
        "runs": ranked(returns),
        "benchmarks": {"base": market},
        **changes,
    }
    return Trials(**given)


def ranked(returns, **facts):
    sharpe = np.nanmean(returns, axis=0) / (np.nanstd(returns, axis=0) + 1e-12)
    ranks = np.argsort(np.argsort(-sharpe, kind="stable"), kind="stable") + 1
    return [
        Trial(**{
            "run_id": f"run_{k}", "scenario": "base", "decision": f"d{k}", "rank": int(rank),
            **facts,
        })
        for k, rank in enumerate(ranks)
    ]  # fmt: skip


def finite(value):
    if isinstance(value, dict):
        return all(finite(item) for item in value.values())
    if isinstance(value, list):
        return all(finite(item) for item in value)
    return type(value) in (str, int, bool, type(None)) or (
        type(value) is float and math.isfinite(value)
    )


def nulls(figures, prefix=""):
    for key, value in figures.items():
        if value is None:
            yield prefix + key
        elif isinstance(value, dict) and key not in ("undefined", "settings", "verdict"):
            yield from nulls(value, f"{prefix}{key}.")


def assert_sound(document):
    """Every key is there, every number is finite, every null has its reason."""
    assert set(document) == KEYS
    assert finite(document)
    json.dumps(document, allow_nan=False)
    for part in (document, *document["scenarios"]):
        missing = set(nulls({key: item for key, item in part.items() if key != "scenarios"}))
        assert missing == set(part["undefined"])
        assert all(part["undefined"].values())


def test_noise_ends_as_luck():
    document = assess(make())
    assert_sound(document)
    assert document["verdict"]["label"] == "luck"
    assert document["n_trials"] == document["n_trials_experiment"] == 20
    assert document["stepm_survivors"] == []
    assert document["ranked_first"] is None


@pytest.mark.parametrize("skill", [(0.25,), (0.25,) * 10, tuple(np.linspace(0, 0.6, 20))])
def test_planted_skill_ends_as_skill(skill):
    document = assess(make(n_bars=1_000, skill=skill))
    assert_sound(document)
    assert document["verdict"]["label"] == "skill"
    assert document["run_id"] in document["stepm_survivors"]


def test_a_deflated_sharpe_ratio_lowered_by_true_differences_is_not_held_against_skill():
    document = assess(make(n_bars=1_000, n_runs=200, skill=(0.3,) * 100))
    # docs/statistics.md tells of this sweep.
    assert document["dsr"] == pytest.approx(0.05, abs=0.005)
    assert document["verdict"]["label"] == "skill"
    assert any("not held against it" in reason for reason in document["verdict"]["reasons"])


def test_enormous_skill_stays_finite():
    document = assess(make(n_bars=4_000, skill=(2.0,)))
    assert_sound(document)
    assert document["verdict"]["label"] == "skill"
    assert 0.9 < document["haircut_sharpe"] / document["sharpe_per_period"] <= 1.0


def test_the_market_is_no_skill():
    generator = np.random.default_rng(0)
    market = 0.002 + 0.01 * generator.standard_normal(800)
    returns = market[:, None] + 0.003 * generator.standard_normal((800, 30))
    trials = make(800, 30, returns=returns, runs=ranked(returns), benchmarks={"base": market})
    document = assess(trials)
    assert document["spa_pvalue"] <= 0.05 < document["benchmark_spa_pvalue"]
    assert document["verdict"]["label"] == "luck"
    assert "but not the benchmark" in document["verdict"]["sentence"]


def test_figures_are_those_of_the_formulas():
    trials = make()
    document = assess(trials, QUICK)
    returns = trials.returns
    sharpe = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    winner = int(np.argmax(sharpe))
    assert document["run_id"] == f"run_{winner}"
    assert document["sharpe_per_period"] == pytest.approx(sharpe[winner])
    moments = {"skew": document["skew"], "kurtosis": document["kurtosis"]}
    psr = probabilistic_sharpe_ratio(sharpe[winner], 600, **moments)
    assert document["psr"] == pytest.approx(psr)
    dsr = probabilistic_sharpe_ratio(
        sharpe[winner], 600, benchmark_sharpe=document["sr0"], **moments
    )
    assert document["dsr"] == pytest.approx(dsr)
    assert document["sr0"] == pytest.approx(np.std(sharpe, ddof=1) * 1.9007, rel=1e-4)
    validation = cross_validate(returns, 6)
    assert document["pbo"] == validation.probability
    assert document["p_oos_loss"] == validation.probability_of_loss
    interval = document["sharpe_ci"]
    assert interval["low"] < document["sharpe_per_period"] * math.sqrt(252) < interval["high"]
    assert document["settings"] == {
        "blocks": 6, "draws": 200, "mean_block": 10, "seed": 42,
    }  # fmt: skip


def test_the_adjusted_set_is_the_same_on_the_adjusted_returns():
    trials = make()
    market = trials.benchmarks["base"]
    slopes = np.array([np.polyfit(market, column, 1)[0] for column in trials.returns.T])
    beyond = trials.returns - slopes * market[:, None]
    adjusted = assess(trials, QUICK)["benchmark_adjusted"]
    direct = assess(replace(trials, returns=beyond), QUICK)
    for name in ("reality_check_pvalue", "spa_pvalue", "stepm_survivors", "pbo", "p_oos_loss"):
        assert adjusted[name] == direct[name]
    assert adjusted["best_run_id"] == direct["run_id"]
    assert adjusted["sr0"] == pytest.approx(direct["sr0"])
    # psr and dsr there are the winner's, whichever run is best beyond the benchmark.
    winner = int(assess(trials, QUICK)["run_id"].removeprefix("run_"))
    sharpe = beyond[:, winner].mean() / beyond[:, winner].std(ddof=1)
    assert adjusted["sharpe_per_period"] == pytest.approx(sharpe)
    assert adjusted["t_statistic"] == pytest.approx(sharpe * math.sqrt(600))


def test_costs_and_caps_alone_are_one_strategy():
    trials = make(n_runs=9)
    runs = [
        replace(run, scenario=f"commission_bps={k}", decision="the strategy")
        for k, run in enumerate(trials.runs)
    ]
    benchmarks = {run.scenario: trials.benchmarks["base"] for run in runs}
    document = assess(replace(trials, runs=runs, benchmarks=benchmarks), QUICK)
    assert_sound(document)
    assert document["verdict"]["label"] == "cannot_tell"
    assert document["verdict"]["sentence"].startswith(
        "cannot tell: one strategy was tried, nothing was selected (its own Sharpe ratio is "
    )
    assert "beyond the benchmark at equal beta t = " in document["verdict"]["sentence"]
    assert document["n_trials"] == 1
    assert len(document["scenarios"]) == 8
    assert document["undefined"]["pbo"] == "one strategy was tried, nothing was selected"
    # Its own test stands beside.
    assert document["psr"] == document["dsr"]
    assert document["sr0"] == 0.0
    assert document["sharpe_ci"] is not None
    assert document["benchmark_adjusted"]["psr"] is not None
    first = next(run for run in runs if run.rank == 1)
    assert (document["run_id"], document["scenario"]) == (first.run_id, first.scenario)


def test_the_ranking_chooses_the_scenario_and_the_others_are_listed():
    cheap, dear = make(n_runs=6), make(n_runs=6, seed=2)
    returns = np.hstack([cheap.returns, dear.returns])
    runs = [
        Trial(run_id=f"{name}_{k}", scenario=name, decision=f"d{k}")
        for name in ("cheap", "dear")
        for k in range(6)
    ]
    runs[8] = replace(runs[8], rank=1)
    benchmarks = {"cheap": cheap.benchmarks["base"], "dear": dear.benchmarks["base"]}
    both = make(n_runs=12, returns=returns, runs=runs, benchmarks=benchmarks)
    document = assess(both, QUICK)
    assert_sound(document)
    assert document["scenario"] == "dear"
    assert document["n_trials"] == 6
    assert [other["scenario"] for other in document["scenarios"]] == ["cheap"]
    # A scenario has the figures that it would have alone.
    for alone, part in ((cheap, document["scenarios"][0]), (dear, document)):
        name = part["scenario"]
        own = assess(
            replace(
                alone,
                runs=[replace(r, scenario=name) for r in alone.runs],
                benchmarks={name: alone.benchmarks["base"]},
            ),
            QUICK,
        )
        for key in ("n_bars", "pbo", "spa_pvalue", "benchmark_spa_pvalue", "reality_check_pvalue"):
            assert part[key] == own[key]
        for key in ("sharpe_per_period", "psr", "dsr", "beta", "effective_trials"):
            assert part[key] == pytest.approx(own[key], rel=1e-9)


def test_scenarios_with_their_own_dates():
    trials = make(n_runs=8)
    returns = trials.returns.copy()
    returns[:200, :4] = np.nan
    runs = [replace(run, scenario="late" if k < 4 else "base") for k, run in enumerate(trials.runs)]
    market = trials.benchmarks["base"]
    document = assess(
        replace(trials, returns=returns, runs=runs, benchmarks={"base": market, "late": market}),
        QUICK,
    )
    assert_sound(document)
    parts = {part["scenario"]: part for part in (document, *document["scenarios"])}
    assert {name: part["n_bars"] for name, part in parts.items()} == {"late": 400, "base": 600}


def test_the_number_of_trials():
    trials = make(n_runs=5)
    failed = [
        Trial(run_id="f0", scenario="base", decision="d0"),
        Trial(run_id="f1", scenario="base", decision="failed once"),
        Trial(run_id="f2", scenario="base", decision="failed once"),
    ]
    earlier = {"base": ["d1", "old 1", "old 2", "old 2"], "other": ["old 3"]}
    trials = replace(trials, failed=failed, earlier_decisions=earlier)
    document = assess(trials, QUICK)
    assert (document["n_trials"], document["n_trials_experiment"]) == (6, 8)
    alone = assess(trials, replace(QUICK, trials="batch"))
    assert (alone["n_trials"], alone["n_trials_experiment"]) == (6, 8)
    assert alone["sr0"] < document["sr0"]
    assert alone["dsr"] > document["dsr"]
    # The tests know the trials of this batch only.
    assert alone["spa_pvalue"] == document["spa_pvalue"]
    assert [item["run_id"] for item in document["excluded"]] == ["f0", "f1", "f2"]


def test_earlier_trials_count_where_their_data_is():
    trials = make(n_runs=6)
    runs = [
        replace(run, scenario="one" if place < 3 else "two", decision=f"d{place % 3}")
        for place, run in enumerate(trials.runs)
    ]
    trials = replace(trials, runs=runs, benchmarks={})
    before = {part["scenario"]: part["sr0"] for part in _parts(assess(trials, QUICK))}
    found = assess(replace(trials, earlier_decisions={"two": ["x", "y"]}), QUICK)
    after = {part["scenario"]: part["sr0"] for part in _parts(found)}
    assert after["one"] == before["one"]
    assert after["two"] > before["two"]
    assert found["n_trials_experiment"] == {"one": 3, "two": 5}[found["scenario"]]


def _parts(document):
    return [document, *document["scenarios"]]


def test_each_run_is_adjusted_by_its_own_benchmark():
    trials = make(n_runs=4)
    other = np.random.default_rng(8).normal(0.0, 0.01, 600)
    returns = trials.returns.copy()
    returns[:, 1::2] += 0.8 * other[:, None]
    benchmarks = {"monthly": trials.benchmarks["base"], "weekly": other}
    runs = [
        replace(run, benchmark=name)
        for run, name in zip(trials.runs, ("monthly", "weekly") * 2, strict=True)
    ]
    document = assess(replace(trials, returns=returns, runs=runs, benchmarks=benchmarks), QUICK)
    winner = int(document["run_id"].removeprefix("run_"))
    own = benchmarks[("monthly", "weekly")[winner % 2]]
    slopes = [
        np.polyfit(benchmarks[run.benchmark], returns[:, place], 1)[0]
        for place, run in enumerate(runs)
    ]
    assert document["beta"] == pytest.approx(slopes[winner], rel=1e-9)
    adjusted = returns[:, winner] - slopes[winner] * own
    assert document["benchmark_adjusted"]["sharpe_per_period"] == pytest.approx(
        adjusted.mean() / adjusted.std(ddof=1), rel=1e-9
    )
    # All four follow their own benchmark: with one for all, half of the trials would not.
    beyond = [
        returns[:, place] - slope * benchmarks[run.benchmark]
        for place, (run, slope) in enumerate(zip(runs, slopes, strict=True))
    ]
    ratios = [item.mean() / item.std(ddof=1) for item in beyond]
    assert document["benchmark_adjusted"]["best_run_id"] == f"run_{int(np.argmax(ratios))}"


def test_many_earlier_trials_speak_against_skill():
    trials = make(n_bars=400, skill=(0.2,))
    assert assess(trials)["verdict"]["label"] == "skill"
    earlier = [f"earlier {k}" for k in range(1_000_000)]
    document = assess(replace(trials, earlier_decisions={"base": earlier}))
    assert document["verdict"]["label"] == "luck"
    assert "after 1,000,020 trials" in document["verdict"]["sentence"]


def test_second_opinions_of_the_caller():
    trials = make(n_bars=1_000, skill=(0.25,))
    lost = assess(replace(trials, walk_forward_t={"run_0": -0.5, "run_1": 2.0}))
    assert "walk-forward loses" in lost["verdict"]["sentence"]
    lone = assess(replace(trials, neighbour_sharpe={"run_0": -1.5, "run_1": 9.0}))
    assert "neighbours in the grid lose" in lone["verdict"]["sentence"]
    assert assess(replace(trials, neighbour_sharpe={"run_1": -9.0}))["verdict"]["label"] == "skill"


def test_when_the_ranking_prefers_another_run():
    trials = make()
    winner = assess(trials, QUICK)["run_id"]
    runs = [replace(run, rank=None) for run in trials.runs]
    other = next(k for k, run in enumerate(runs) if run.run_id != winner)
    runs[other] = replace(runs[other], rank=1)
    document = assess(replace(trials, runs=runs), QUICK)
    assert_sound(document)
    first = document["ranked_first"]
    assert (document["run_id"], first["run_id"]) == (winner, f"run_{other}")
    assert first["sharpe_per_period"] < document["sharpe_per_period"]
    assert first["sharpe_ci"]["low"] < first["sharpe_ci"]["high"]
    assert set(first) >= {"psr", "dsr", "beta", "skew", "benchmark_adjusted"}


def test_when_the_ranking_prefers_a_run_that_cannot_be_tested():
    trials = make()
    returns = trials.returns.copy()
    returns[:, 3] = 0.0
    runs = [replace(run, rank=1 if k == 3 else None) for k, run in enumerate(trials.runs)]
    document = assess(replace(trials, returns=returns, runs=runs), QUICK)
    assert_sound(document)
    assert document["ranked_first"]["psr"] is None
    assert document["undefined"]["ranked_first.psr"].startswith("zero variance")


def test_of_equal_runs_the_better_ranked_wins():
    trials = make(skill=(0.3,))
    returns = trials.returns.copy()
    returns[:, 7] = returns[:, 0]
    runs = [replace(run, rank=None) for run in trials.runs]
    assert assess(replace(trials, returns=returns, runs=runs), QUICK)["run_id"] == "run_0"
    runs[7] = replace(runs[7], rank=1)
    document = assess(replace(trials, returns=returns, runs=runs), QUICK)
    assert document["run_id"] == "run_7"
    assert document["ranked_first"] is None


@pytest.mark.parametrize(
    ("n_bars", "said"),
    [(29, "can be tested (too short: 29 returns, at least 30 are needed)"),
     (30, "share 30 daily returns"), (249, "share 249 daily returns")],
)  # fmt: skip
def test_too_few_bars(n_bars, said):
    document = assess(make(n_bars=n_bars, skill=(1.0,)))
    assert_sound(document)
    assert document["verdict"]["label"] == "cannot_tell"
    assert said in document["verdict"]["sentence"]
    if n_bars < 30:
        nested = {"benchmark_adjusted", "ranked_first", "inference", "trials_band"}
        assert all(document[name] is None for name in FIGURES - nested)
        assert not any(document["inference"][name] for name in ("rho", "power", "dsr"))
        assert document["n_bars"] == 0


def test_equal_runs_select_nothing():
    trials = make(n_runs=4, skill=(0.3,))
    returns = np.repeat(trials.returns[:, :1], 4, axis=1)
    document = assess(replace(trials, returns=returns), QUICK)
    assert_sound(document)
    assert document["verdict"]["label"] == "cannot_tell"
    assert "all 4 strategies have the same returns" in document["verdict"]["sentence"]
    for name in ("sr0", "dsr", "pbo", "p_oos_loss", "spa_pvalue", "benchmark_spa_pvalue",
                 "stepm_survivors", "adjusted_pvalues", "haircut_sharpe", "effective_trials",
                 "min_backtest_length_years"):  # fmt: skip
        assert document[name] is None
        assert "same returns" in document["undefined"][name]


def test_one_of_several_strategies_that_can_be_tested():
    trials = make(n_runs=3)
    returns = trials.returns.copy()
    returns[:, 1] = 0.0
    runs = [replace(run, ruined=run.run_id == "run_2") for run in trials.runs]
    document = assess(replace(trials, returns=returns, runs=runs), QUICK)
    assert_sound(document)
    assert "only 1 of 3 strategies can be tested" in document["verdict"]["sentence"]
    assert document["dsr"] is None
    assert document["psr"] is not None
    assert {item["run_id"] for item in document["excluded"]} == {"run_1", "run_2"}


def test_a_run_that_stands_still_on_the_common_bars_is_excluded():
    trials = make(n_runs=4)
    returns = trials.returns.copy()
    returns[:100, 0] = np.nan
    returns[100:, 2] = 0.0
    document = assess(replace(trials, returns=returns), QUICK)
    assert_sound(document)
    assert document["n_bars"] == 500
    assert document["excluded"] == [
        {
            "run_id": "run_2",
            "reason": "zero variance: its returns do not vary on the common bars",
        }
    ]


@pytest.mark.parametrize(
    ("benchmarks", "reason"),
    [
        ({}, "there is no benchmark for this scenario"),
        ({"base": np.r_[[np.nan] * 7, np.ones(593)]}, "has no returns on 7 of the 600"),
        ({"base": np.r_[np.inf, np.ones(599)]}, "has no returns on 1 of the 600"),
        ({"base": np.zeros(600)}, "the benchmark's returns do not vary"),
    ],
)
def test_without_a_benchmark_there_is_no_skill(benchmarks, reason):
    document = assess(make(skill=(0.3,), benchmarks=benchmarks), QUICK)
    assert_sound(document)
    assert document["verdict"]["label"] == "cannot_tell"
    assert reason in document["verdict"]["sentence"]
    assert reason in document["undefined"]["benchmark_spa_pvalue"]
    assert document["beta"] is None
    assert document["spa_pvalue"] is not None
    noise = assess(make(benchmarks=benchmarks), QUICK)
    assert noise["verdict"]["label"] == "luck"


def test_trials_that_hold_the_benchmark_itself():
    trials = make(n_runs=4, skill=(0.3,))
    returns = trials.returns.copy()
    returns[:, 1] = trials.benchmarks["base"]
    returns[:, 2] = 0.5 * trials.benchmarks["base"]
    document = assess(replace(trials, returns=returns), QUICK)
    assert_sound(document)
    left_out = [item["run_id"] for item in document["benchmark_adjusted"]["excluded"]]
    assert left_out == ["run_1", "run_2"]
    assert document["verdict"]["label"] == "skill"
    returns = trials.benchmarks["base"][:, None] * np.array([1.0, 0.5, 0.2, 0.3]) + 0.0
    document = assess(replace(trials, returns=returns + 0.001), QUICK)
    assert_sound(document)
    assert "every trial's returns are a multiple" in document["undefined"]["benchmark_spa_pvalue"]


def test_nothing_at_all():
    empty = make(n_runs=0, runs=[], returns=np.empty((600, 0)))
    document = assess(empty)
    assert_sound(document)
    assert document["verdict"]["label"] == "cannot_tell"
    assert (document["scenario"], document["n_trials"]) == (None, 0)
    failed = assess(replace(empty, failed=[Trial(run_id="f", scenario="s", decision="d")]))
    assert_sound(failed)
    assert (failed["scenario"], failed["n_trials"]) == ("s", 1)


def test_without_any_bars():
    trials = make(returns=np.empty((0, 20)), index=pd.DatetimeIndex([]), runs=make().runs,
                  benchmarks={})  # fmt: skip
    document = assess(trials)
    assert_sound(document)
    assert len(document["excluded"]) == 20


def test_unranked_runs_are_judged_all_the_same():
    trials = make()
    document = assess(replace(trials, runs=[replace(r, rank=None) for r in trials.runs]), QUICK)
    assert document["verdict"]["label"] == "luck"
    assert document["ranked_first"] is None


def test_intraday_and_daily_data_agree():
    trials = make(n_bars=300)
    days = trials.index
    bars = pd.DatetimeIndex([day + pd.Timedelta(hours=h) for day in days for h in (10, 13, 16)])

    def spread(returns):
        third = (1 + returns) ** (1 / 3) - 1
        return np.repeat(third, 3, axis=0)

    finer = replace(
        trials,
        returns=spread(trials.returns),
        index=bars,
        benchmarks={"base": spread(trials.benchmarks["base"])},
        periods_per_year=252.0 * 3,
    )
    daily, intraday = assess(trials, QUICK), assess(finer, QUICK)
    assert intraday["n_bars"] == 300
    assert intraday["spa_pvalue"] == daily["spa_pvalue"]
    assert intraday["sharpe_ci"]["low"] == pytest.approx(daily["sharpe_ci"]["low"])


def test_deterministic_and_independent_of_the_order_of_the_runs():
    trials = make(n_runs=150)
    document = assess(trials, QUICK)
    assert json.dumps(assess(trials, QUICK)) == json.dumps(document)
    order = np.random.default_rng(0).permutation(150)
    shuffled = assess(
        replace(
            trials, returns=trials.returns[:, order], runs=[trials.runs[place] for place in order]
        ),
        QUICK,
    )
    for name in ("run_id", "pbo", "p_oos_loss", "spa_pvalue", "reality_check_pvalue"):
        assert shuffled[name] == document[name]
    assert shuffled["dsr"] == pytest.approx(document["dsr"])


def test_columns_of_the_leaderboard():
    trials = make(n_runs=6, skill=(0.4, 0.35))
    returns = trials.returns.copy()
    returns[:, 4] = 0.0
    runs = list(trials.runs)
    runs[5] = replace(runs[5], decision=runs[0].decision)
    result = evaluate(replace(trials, returns=returns, runs=runs), QUICK)
    table = result.columns
    assert table.index.tolist() == [run.run_id for run in runs]
    assert table.columns.tolist() == [
        *("psr", "dsr", "spa_survivor", "benchmark_survivor", "skilled"),
        "sharpe_lower_bound",
    ]
    assert table.loc[result.document["run_id"], "sharpe_lower_bound"] == pytest.approx(
        result.document["sharpe_lower_bound"]
    )
    assert table.loc["run_0", "psr"] == result.document["psr"]
    assert table["spa_survivor"].tolist()[:4] == [True, True, False, False]
    assert table["benchmark_survivor"].tolist()[:2] == [True, True]
    # A run without variance has no figures; a repeated decision those of the run that counts.
    assert table.loc["run_4"].isna().all()
    assert table.loc["run_5"].equals(table.loc["run_0"])
    assert evaluate(make(n_runs=1, n_bars=20)).columns.isna().all(axis=None)


def test_what_the_report_plots():
    result = evaluate(make(), QUICK)
    assert len(result.logits) == 20
    assert np.mean(result.logits <= 0) == pytest.approx(result.document["pbo"])
    pvalue = (1 + np.sum(result.null_maxima >= result.statistic)) / 201
    assert result.document["spa_pvalue"] == pytest.approx(pvalue)
    nothing = evaluate(make(n_runs=1))
    assert (len(nothing.logits), len(nothing.null_maxima), nothing.statistic) == (0, 0, None)


def test_every_figure_explains_itself():
    document = assess(make(), QUICK)
    for key in EXPLANATIONS:
        head, _, inner = key.partition(".")
        assert head in KEYS
        assert not inner or inner in document[head]
    unexplained = FIGURES - set(EXPLANATIONS)
    assert unexplained == {
        "run_id", "sharpe_per_period", "skew", "kurtosis", "benchmark_adjusted", "ranked_first",
    }  # fmt: skip
    for explanation in EXPLANATIONS.values():
        assert all(getattr(explanation, item.name) for item in fields(explanation))


def test_random_portfolios_of_survivors_are_no_skill():
    folder = Path(importlib.util.find_spec("skfolio").origin).parent / "datasets" / "data"
    frame = pd.read_csv(folder / "sp500_dataset.csv.gz", index_col=0, parse_dates=True)
    prices = frame.to_numpy()
    months = frame.index.month
    bounds = np.r_[np.flatnonzero(months[1:] != months[:-1]) + 1, len(prices) - 1]
    generator = np.random.default_rng(0)
    returns = np.full((len(prices), 51), np.nan)
    for begin, end in pairwise(bounds):
        held = np.full((20, 51), 1 / 20)
        for column in range(50):
            held[:, column] = 0.2 * np.isin(np.arange(20), generator.choice(20, 5, replace=False))
        equity = prices[begin : end + 1] / prices[begin] @ held
        returns[begin + 1 : end + 1] = equity[1:] / equity[:-1] - 1
    document = assess(
        Trials(
            returns=returns[:, :50],
            index=frame.index,
            runs=ranked(returns[:, :50]),
            benchmarks={"base": returns[:, 50]},
        )
    )
    assert_sound(document)
    # The test against zero alone would call it skill.
    assert document["spa_pvalue"] <= 0.05
    assert document["verdict"]["label"] == "luck"


def test_each_scenario_has_the_bars_a_year_of_its_own_data():
    returns = 0.01 * np.random.default_rng(0).standard_normal((400, 4))
    runs = [
        Trial(
            run_id=f"run_{column}",
            scenario="crypto" if column < 2 else "stocks",
            decision=f"d{column % 2}",
            periods_per_year=365.0 if column < 2 else None,
        )
        for column in range(4)
    ]
    index = pd.bdate_range("2000-01-03", periods=400)
    found = assess(Trials(returns=returns, index=index, runs=runs), QUICK)
    assert found["verdict"]["reasons"][0] == "400 daily returns, 365 of them a year"
    (stocks,) = found["scenarios"]
    alone = assess(Trials(returns=returns[:, 2:], index=index, runs=runs[2:]), QUICK)
    assert alone["verdict"]["reasons"][0] == "400 daily returns, 252 of them a year"
    assert stocks["sharpe_ci"] == pytest.approx(alone["sharpe_ci"])
