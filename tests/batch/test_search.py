"""A search in one batch: rounds that depend on the seed and the results, and on nothing else."""

import json

import numpy as np
import optuna
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.analysis.ranking import Ranking
from backtest_batch.batch.rounds import SearchRounds
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import RunRecord, RunResult

SPACE = {
    "strategy.fast": "interval(5,400)",
    "strategy.slow": "interval(401,900)",
    "rebalance": ["W", "M"],
}
NESTED = {"walk_forward": "rolling", "start_date": "2011-01-03"}
COSTS = {"commission_bps": [5.0, 0.0]}


@pytest.fixture
def prices():
    index = pd.date_range("2010-01-01", periods=1_500, freq="B")
    steps = np.random.default_rng(8).normal(0.0004, 0.012, (1_500, 3))
    return pd.DataFrame(80 * np.exp(steps.cumsum(axis=0)), index=index, columns=list("XYZ"))


def searched(prices, grid=SPACE, *, search="tpe", **config):
    quick = {"permutation_test.n": 0, "tracking.artifacts": "none", "n_jobs": 1}
    keys = {"search.n_trials": 20, **quick, **config}
    return bb.run_sweep(grid, data=prices, strategy="trend_baseline", search=search, **keys)


def by_hand(sharpe, n_trials=20, batch_size=8, seed=42):
    """Ask and tell plain Optuna, which hears what the batch has found."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), direction="maximize")
    axes = {
        "strategy.fast": optuna.distributions.IntDistribution(5, 400),
        "strategy.slow": optuna.distributions.IntDistribution(401, 900),
        "rebalance": optuna.distributions.CategoricalDistribution(["W", "M"]),
    }
    asked = []
    while len(asked) < n_trials:
        trials = [study.ask(axes) for _ in range(min(batch_size, n_trials - len(asked)))]
        for trial in trials:
            study.tell(trial, sharpe[tuple(trial.params.values())])
        asked += [tuple(trial.params.values()) for trial in trials]
    return asked


def test_a_search_asks_what_plain_optuna_asks_whatever_number_of_workers_answers(
    prices, with_store, recorded_runs
):
    outcome = searched(prices, SPACE | COSTS)
    runs = recorded_runs(with_store, outcome.batch_id)
    assert len(runs) == 40
    swept = ["strategy.fast", "strategy.slow", "rebalance"]
    table = outcome.runs.params.assign(
        sharpe=outcome.runs.metrics["sharpe"], run_id=outcome.runs.runs["run_id"]
    )
    first = table[table["commission_bps"] == 5.0]
    sharpe = {tuple(row[swept]): row["sharpe"] for _, row in first.iterrows()}
    asked = by_hand(sharpe)
    assert [tuple(row) for row in first[swept].itertuples(index=False)] == asked
    for number, (_, row) in enumerate(table.iterrows()):
        tags = runs[row["run_id"]].tags
        assert (int(tags["trial"]), int(tags["search_round"])) == (
            1 + number // 2,
            1 + number // 16,
        )
    assert outcome.overfitting["n_trials"] == 20
    assert "search=tpe evaluated 20 decisions" in outcome.summary
    assert "396 x" not in outcome.summary
    assert f"{396 * 500 * 2:,}" in outcome.summary  # the grid of the same resolution
    tried = json.loads((outcome.output_dir / "trials.json").read_text())
    assert [len(found) for found in tried["decisions"].values()] == [20]

    summary = pd.read_csv(outcome.output_dir / "batch_summary.csv")
    assert summary["trial"].tolist() == [1 + number // 2 for number in range(40)]
    # As many values as trials would explain everything: they are grouped.
    share = outcome.importance.query("metric == 'sharpe' and term == 'strategy.fast'")
    assert 0 < share["eta_squared"].item() < 1
    page = (outcome.output_dir / "report.html").read_text("utf-8")
    assert 'id="progress"' in page
    assert 'id="slices"' in page

    again = searched(prices, SPACE | COSTS, n_jobs=2, batch_name="again")
    names = ["rankings.csv", "sensitivity_analysis.csv", "batch_summary.csv"]
    results = [(outcome.output_dir / name, again.output_dir / name) for name in names[:2]]
    assert all(one.read_bytes() == other.read_bytes() for one, other in results)
    assert (again.returns.to_numpy() == outcome.returns.to_numpy()).sum() > 1_000

    done = bb.run_sweep(resume=outcome.batch_id)
    assert "complete" in done.summary
    with pytest.raises(ConfigurationError, match="rank_by"):
        bb.run_sweep(resume=outcome.batch_id, rank_by="calmar")


def test_what_cannot_be_run_is_passed_over_and_what_fails_is_told_as_failed(
    prices, with_store, recorded_runs, tmp_path, monkeypatch
):
    (tmp_path / "fragile.py").write_text(
        "import numpy as np\n"
        "class Fragile:\n"
        "    def __init__(self, size: int = 1, part: float = 0.5):\n"
        "        if size % 3 == 0:\n"
        "            raise ValueError(f'size must not be {size}')\n"
        "        self.size, self.part = size, part\n"
        "    def target_weights(self, panel, decisions):\n"
        "        if self.size % 4 == 0:\n"
        "            raise RuntimeError('no such size')\n"
        "        return np.full((len(decisions), panel.n_assets), self.part / panel.n_assets)\n"
    )
    monkeypatch.chdir(tmp_path)
    outcome = bb.run_sweep(
        {"strategy.size": "interval(1,12)", "rebalance": ["W", "M"]},
        data=prices,
        strategy="custom",
        n_jobs=1,
        search="tpe",
        constraint="strategy.size != 7",
        **{"strategy._target_": "fragile.Fragile", "search.n_trials": 100},
    )
    sizes = {1, 2, 4, 5, 8, 10, 11}
    assert {*outcome.runs.params["strategy.size"]} == sizes
    assert len(outcome.table) == 2 * len(sizes)
    assert outcome.exit_code == 1
    failed = outcome.table[outcome.table["status"] == "FAILED"]
    assert {*failed["strategy.size"]} == {"4", "8"}
    assert "every point of the space was tried" in outcome.summary
    assert "8 proposals cannot be run and were passed over" in outcome.summary
    assert "2 proposals do not satisfy the constraint" in outcome.summary
    assert "size must not be" in outcome.summary


@pytest.mark.parametrize(
    ("grid", "config", "message"),
    [
        ({"strategy.fast": "interval(5,60)"}, {"search": "grid"}, "search=random"),
        ({"strategy.fast": [5, 9]}, {"search": "grid"}, "search.n_trials: search=grid computes"),
        ({"commission_bps": [0, 5]}, {}, "nothing to choose from; commission_bps are scenarios"),
        ({}, {}, "nothing to choose from. Sweep a decision"),
        (SPACE, {"search.n_trials": 0}, r"search.n_trials=0: must be >= 1"),
        (SPACE, {"search.batch_size": 0}, r"search.batch_size=0: must be >= 1"),
        (SPACE, {"search.across": "best"}, "one of first, mean, worst"),
        (SPACE, {"search.sampler": {"n_startup": 3}}, "did you mean n_startup_trials"),
        (SPACE, {"search.trials": 3}, "search.trials"),
        (SPACE, {"search": "bayes"}, "search"),
        (SPACE, {"rank_by": {"sharpe": 1, "calmar": 1}}, "search=nsga2"),
        (SPACE, {"walk_forward": "rolling"}, "needs start_date"),
        (SPACE, NESTED | {"walk_forward": "combinatorial"}, "use rolling"),
        (SPACE, NESTED | {"search.across": "worst"}, "leave search.across out"),
        (SPACE | {"end_date": ["2014", "2015"]}, NESTED, "end_date is searched"),
        (SPACE, NESTED | {"max_runs": 30}, r"splits may have \d+ runs, more than max_runs=30"),
        (SPACE, {"rank_by": "sharpe_neighbourhood"}, "known only when all runs have ended"),
        (SPACE, {"max_runs": 10}, "max_runs=10"),
        ({"commission_bps": "interval(0,5)", **SPACE}, {}, r"decision_axes=\[commission_bps\]"),
        ({"strategy.fast": "interval(100,200)"}, {"strategy.slow": 60}, "fast < slow"),
        (SPACE, {"constraint": "strategy.fast > strategy.slow"}, "none of .* satisfies"),
        (SPACE, {"constraint": "strategy.fats > 5"}, "did you mean strategy.fast"),
        (SPACE, {"constraint": "strategy.fast < 'a'"}, "have no order"),
        (SPACE, {"zip": [["strategy.fast", "strategy.slow"]]}, "zip"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_way_out(
    prices, working_dir, grid, config, message
):
    with pytest.raises(ConfigurationError, match=message):
        searched(prices, grid or None, **({"search": "tpe"} | config))
    assert not (working_dir / "mlruns").exists()


def test_a_sampler_that_is_not_installed_is_refused(prices, working_dir, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'backtest-batch\[search\]'"):
        searched(prices, search="random")


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_a_search_that_looks_at_no_result_may_be_walked_forward(prices, with_store, method):
    split = {"walk_forward": "rolling", "strategy.slow": 500, "search.n_trials": 12}
    space = {"strategy.fast": "interval(5,400)", "rebalance": ["W", "M"]}
    walked = searched(prices, space, search=method, **split)
    assert [tuple(row) for row in walked.runs.params.itertuples(index=False)] == [
        tuple(row)
        for row in searched(
            prices, space, search=method, **(split | {"walk_forward": "none"})
        ).runs.params.itertuples(index=False)
    ]
    del split["search.n_trials"]
    listed = walked.runs.params.to_dict("records")
    same = bb.run_sweep(runs=listed, data=prices, strategy="trend_baseline", n_jobs=1, **split)
    name = "walk_forward_summary.csv"
    found, expected = (pd.read_csv(one.output_dir / name) for one in (walked, same))
    assert found.pop("searched").all()
    pd.testing.assert_frame_equal(found, expected)
    assert "evaluated 12 decisions" in walked.summary


def test_in_a_walk_forward_each_split_searches_its_own_training_bars(prices, with_store):
    space = {
        "strategy.fast": "interval(5,100)",
        "strategy.slow": "interval(101,250)",
        "rebalance": ["W", "M"],
    } | COSTS
    config = NESTED | {"search.n_trials": 20, "walk_forward.train_size": 400}
    walked = searched(prices, space, **config)
    summary = pd.read_csv(walked.output_dir / "walk_forward_summary.csv")
    first = summary[summary["scenario"] == "commission_bps=5.0"]
    splits = dict(list(first.groupby("split")))
    assert len(splits) > 3
    for rows in splits.values():
        own = rows[rows["searched"]]
        assert len(own) == 20
        best = own.sort_values(["is_sharpe", "run_id"], ascending=[False, True]).iloc[0]
        assert rows[rows["chosen"]]["run_id"].item() == best["run_id"]
    n_trials = first["run_id"].nunique()
    assert n_trials > 20  # splits ask for different runs
    assert walked.overfitting["n_trials"] == n_trials
    assert f"asked {20 * len(splits)} times for {n_trials} decisions" in walked.summary

    # Other prices after the training bars of the second split.
    end = prices.index.get_loc(pd.Timestamp(splits[1]["train_end"].iloc[0]))
    other = prices.copy()
    steps = np.random.default_rng(9).normal(0, 0.03, (len(prices) - end - 1, 3))
    other.iloc[end + 1 :] = prices.iloc[end].to_numpy() * np.exp(steps.cumsum(axis=0))
    again = searched(other, space, **config)
    changed = pd.read_csv(again.output_dir / "walk_forward_summary.csv")
    changed = changed[changed["scenario"] == "commission_bps=5.0"]
    asked = [
        [set(rows[rows["searched"]]["run_id"]) for _, rows in found.groupby("split")]
        for found in (first, changed)
    ]
    assert asked[0][:2] == asked[1][:2]
    assert asked[0][2:] != asked[1][2:]

    done = bb.run_sweep(resume=walked.batch_id)
    assert f"complete: {2 * n_trials} runs are recorded" in done.summary


def test_several_metrics_are_several_objectives_of_nsga2(prices, with_store):
    outcome = searched(
        prices, search="nsga2", rank_by={"sharpe": 1, "turnover_annual": 1}, **{"search.seed": 3}
    )
    assert len(outcome.table) == 20
    assert outcome.rankings["pareto"].any()


@pytest.mark.parametrize(("across", "best"), [("first", 5.0), ("mean", 2.5), ("worst", 5.0)])
def test_a_decision_is_judged_in_the_first_scenario_or_across_all(requested, across, best):
    request = requested(
        "-m",
        "data=synthetic",
        "data.n_bars=400",
        "search=random",
        "search.n_trials=1",
        "strategy.fast=interval(5,20)",
        "commission_bps=5,0",
        f"search.across={across}",
    )
    rounds = SearchRounds(request, Ranking.parse("volatility", {"sharpe": ">= 1"}))
    result = {"undefined_metrics": (), "runtime_s": 0.0, "cpu_s": 0.0, "peak_rss_mb": 0.0}
    metrics = iter([{"volatility": 5.0, "sharpe": 3.0}, {"volatility": 0.0, "sharpe": 0.5}])
    records = {
        spec.run_key: RunRecord(
            spec=spec,
            outcome=RunResult(metrics=next(metrics), **result),
            attempts=1,
            started_ms=0,
            ended_ms=0,
        )
        for spec in rounds.plan.runs
    }
    judged = rounds.judge(rounds._drawn.points[0], records)
    assert judged.values == (best,)
    over = {"first": -2.0, "mean": -0.75, "worst": 0.5}[across]
    assert judged.constraints == {"sharpe >= 1.0": over}
