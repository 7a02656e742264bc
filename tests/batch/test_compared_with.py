"""Batches whose runs are compared with something else than equal weights, and explained."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.backtest import compute_chunk

pytestmark = pytest.mark.usefixtures("working_dir")

DAYS = pd.bdate_range("2015-01-01", periods=520)
FILES = ("data=csv", "data.path=prices.csv", "strategy.fast=5", "strategy.slow=20")

SIXTY = """
import numpy as np


class SixtyForty:
    def __init__(self, bonds: str = "B"):
        self.bonds = bonds

    def target_weights(self, panel, decisions):
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, panel.symbols.index(self.bonds)] = {share}
        return weights
"""


@pytest.fixture
def prices(working_dir):
    rng = np.random.default_rng(4)
    market = rng.normal(0.0004, 0.01, 520)
    returns = 0.8 * market[:, None] + rng.normal(0.0, 0.006, (520, 3))
    frame = pd.DataFrame(returns, index=DAYS, columns=list("ABC")).assign(SPY=market)
    prices = (100 * (1 + frame).cumprod()).rename_axis("date")
    prices.to_csv("prices.csv")
    prices[["SPY"]].to_csv("index.csv")
    pd.DataFrame({"MKT": market, "SIZE": rng.normal(0, 0.004, 520)}, index=DAYS).rename_axis(
        "date"
    ).to_csv("factors.csv")
    return prices


def computed(planned, *arguments):
    plan = planned(*FILES, *arguments)
    (run,) = plan.runs
    return plan, compute_chunk([run], plan.panels[run.data_fingerprint])


def test_what_changes_nothing_changes_no_key(prices, planned):
    (usual,) = planned(*FILES).runs
    (spelt,) = planned(*FILES, "benchmark=equal_weight", "factors=null").runs
    assert spelt.run_key == usual.run_key
    assert spelt.benchmark_key == usual.benchmark_key


def test_each_benchmark_and_the_content_of_files_are_part_of_the_key(prices, planned):
    Path("sixty.py").write_text(SIXTY.format(share=0.4))
    values = ["equal_weight", "none", "SPY", "index.csv", "{_target_: sixty.SixtyForty}"]
    values.append("{_target_: sixty.SixtyForty, bonds: C}")
    runs = [planned(*FILES, f"benchmark={value}").runs[0] for value in values]
    runs += planned(*FILES, "factors=factors.csv").runs
    assert len({run.run_key for run in runs}) == len(runs)
    assert len({run.benchmark_key for run in runs}) == len(runs) - 1
    assert runs[1].benchmark_key == ""
    Path("index.csv").rename("renamed.csv")
    assert planned(*FILES, "benchmark=renamed.csv").runs[0].run_key == runs[3].run_key
    prices[["SPY"]].iloc[::-1].assign(SPY=prices["SPY"] ** 2).to_csv("index.csv")
    assert planned(*FILES, "benchmark=index.csv").runs[0].run_key != runs[3].run_key


def test_the_figures_are_those_of_the_benchmark_that_is_named(prices, planned):
    _, of_file = computed(planned, "benchmark=index.csv", "factors=factors.csv")
    (run,) = of_file.runs
    first = run.first_bar
    market = prices["SPY"].pct_change().to_numpy()[first + 1 :]
    covariance = np.cov(run.net_return[1:], market)
    assert run.metrics["beta"] == pytest.approx(covariance[0, 1] / covariance[1, 1], rel=1e-10)
    (benchmark,) = of_file.benchmarks.values()
    assert benchmark.net_return[1:] == pytest.approx(market, abs=1e-15)
    assert "trades" not in benchmark.metrics
    final = prices["SPY"].iloc[-1] / prices["SPY"].iloc[first]
    assert benchmark.metrics["final_pf"] == pytest.approx(final, rel=1e-12)
    assert {"alpha_factors", "r2_factors", "beta_MKT", "beta_SIZE"} <= run.metrics.keys()

    _, of_symbol = computed(planned, "benchmark=SPY", "data.exclude=[SPY]")
    (benchmark,) = of_symbol.benchmarks.values()
    assert benchmark.metrics["trades"] == 1
    assert of_symbol.runs[0].metrics["beta"] == pytest.approx(run.metrics["beta"], abs=0.1)

    _, nothing = computed(planned, "benchmark=none")
    assert nothing.benchmarks == {}
    assert {"beta", "alpha", "information_ratio"} <= set(nothing.runs[0].undefined)


def test_a_mapping_is_one_value_wherever_it_stands(prices, planned):
    Path("sixty.py").write_text(SIXTY.format(share=0.4))
    node = "{_target_: sixty.SixtyForty, bonds: C}"
    (typed,) = planned(*FILES, f"benchmark={node}").runs
    head = "data: csv\ndata.path: prices.csv\nstrategy: {fast: 5, slow: 20}\n"
    for name, text in {
        "whole": f"benchmark: {node}",
        "runs": f"runs: [{{id: a, benchmark: none}}, {{id: b, benchmark: {node}}}]",
        "grid": f"param_grid: {{benchmark: [none, {node}]}}",
    }.items():
        Path(f"{name}.yaml").write_text(head + text)
        assert planned(f"batch_file={name}.yaml").runs[-1].run_key == typed.run_key, name


def test_runs_of_one_chunk_may_have_benchmarks_and_factors_of_their_own(prices, planned):
    plan = planned(
        *FILES, "-m", "benchmark=equal_weight,none,SPY,index.csv", "factors=null,factors.csv,A"
    )
    assert len({run.chunk_key for run in plan.runs}) == 1
    (panel,) = plan.panels.values()
    together = compute_chunk(plan.runs, panel)
    for run, found in zip(plan.runs, together.runs, strict=True):
        (alone,) = compute_chunk([run], panel).runs
        assert dict(alone.metrics) == dict(found.metrics)
        assert alone.undefined == found.undefined


def test_a_fitted_strategy_is_explained_on_its_test_bars(prices, planned):
    Path("fits.py").write_text(
        SIXTY.format(share=0.9).replace("SixtyForty", "Fits")
        + "\n    def fit(self, panel):\n        return self\n"
    )
    walk = ("walk_forward=rolling", "walk_forward.train_size=260", "walk_forward.test_size=100")
    for benchmark in ("index.csv", "none"):
        plan = planned(
            "data=csv",
            "data.path=prices.csv",
            "strategy=custom",
            "strategy._target_=fits.Fits",
            *walk,
            f"benchmark={benchmark}",
            "factors=[SPY]",
        )
        (run,) = plan.runs
        assert run.fit_bars is not None
        (found,) = compute_chunk([run], plan.panels[run.data_fingerprint]).runs
        returns = found.net_return[1:]
        market = prices["SPY"].pct_change().to_numpy()[found.first_bar + 1 :]
        slope = np.cov(returns, market)[0, 1] / np.var(market, ddof=1)
        assert found.metrics["beta_SPY"] == pytest.approx(slope, rel=1e-10)
        if benchmark == "none":
            assert "beta" in found.undefined
        else:
            assert found.metrics["beta"] == pytest.approx(slope, rel=1e-10)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("benchmark=SPX", "did you mean SPY"),
        ("benchmark=nowhere.csv", "nowhere.csv: no such file"),
        ("benchmark_values=percent", "benchmark_values=percent: must be one of prices, returns"),
        ("factors=[SPX]", "did you mean SPY"),
        ("factors=prices.csv", "A holds prices, it seems"),
    ],
)
def test_what_cannot_be_compared_with_is_refused_before_anything_runs(
    prices, invoke, argument, said
):
    ended = invoke(*FILES, argument)
    assert ended.code == 2
    assert said in ended.err
    assert not Path("mlruns/batches").exists()


def test_a_batch_without_a_benchmark_says_so_everywhere(prices, invoke, recorded_runs):
    asked = ("benchmark=none", "factors=factors.csv", "output_dir=out", "n_jobs=1")
    walk = ("walk_forward=rolling", "walk_forward.train_size=260", "walk_forward.test_size=100")
    ended = invoke("-m", *FILES[:2], *asked, *walk, "strategy.fast=2,5", "strategy.slow=20")
    assert ended.code == 0, ended.err
    returns = pd.read_parquet("out/returns.parquet")
    assert list(returns) == ["timestamp", "run_2", "run_5"]
    assert list(pd.read_parquet("out/walk_forward_equity.parquet").filter(like="benchmark")) == []
    page = Path("out/report.html").read_text()
    assert "<dt>Benchmark</dt><dd>none</dd>" in page
    rankings = pd.read_csv("out/rankings.csv")
    assert {"alpha_factors", "beta_MKT", "beta_SIZE"} <= set(rankings)
    assert "beta" not in rankings
    for run in recorded_runs(Path()).values():
        assert run.tags["undefined_metrics"] == "beta,alpha,information_ratio"
        assert "beta_SIZE" in run.metrics
    again = invoke("resume=latest", "tracking.uri=sqlite:///mlruns/mlflow.db")
    assert again.code == 0, again.err


def test_a_ranking_may_bound_the_slope_on_a_factor(prices, invoke):
    bounded = 'constraints={beta_MKT: "<= 0.1"}'
    ended = invoke(
        *FILES, "benchmark=SPY", "factors=factors.csv", "rank_by=alpha_factors", bounded, "n_jobs=1"
    )
    assert ended.code == 0, ended.err
    assert "beta_MKT <= 0.1" in ended.out


GRID = ("-m", "strategy.fast=3,5,8", "strategy.slow=20", *FILES[:2])


def verdict_of(folder):
    return json.loads(Path(folder, "overfitting.json").read_text())


def test_the_verdict_has_a_test_against_the_factors_whose_slopes_are_the_metrics(prices, invoke):
    since = ("benchmark=none", "start_date=2015-06-01")
    ended = invoke(*GRID, *since, "factors=factors.csv", "output_dir=out")
    assert ended.code == 0, ended.err
    found = verdict_of("out")
    ranked = pd.read_csv("out/rankings.csv").set_index("run_id").loc[found["run_id"]]
    assert found["factors"]["betas"] == pytest.approx(
        {"MKT": ranked["beta_MKT"], "SIZE": ranked["beta_SIZE"]}, rel=1e-9
    )
    assert found["factors"]["alpha"] == pytest.approx(ranked["alpha_factors"], rel=1e-9)
    assert found["factors"]["r2"] == pytest.approx(ranked["r2_factors"], rel=1e-9)
    assert 0.0 < found["factors"]["spa_pvalue"] <= 1.0
    assert any("SPA test against MKT, SIZE" in line for line in found["verdict"]["reasons"])
    assert "Test against the factors" in Path("out/report.html").read_text()


def test_each_scenario_is_explained_by_its_own_factors(prices, invoke):
    ended = invoke(*GRID, "factors=null,[SPY],factors.csv", "output_dir=out")
    assert ended.code == 0, ended.err
    found = verdict_of("out")
    names = [item["factors"] and item["factors"]["names"] for item in (found, *found["scenarios"])]
    assert sorted(names, key=str) == [None, ["MKT", "SIZE"], ["SPY"]]


def test_data_with_other_bars_are_explained_on_those_that_all_have(prices, invoke):
    prices.iloc[::2].to_csv("other.csv")
    files = ("data=csv", "data.path=prices.csv,other.csv", "strategy.fast=3,5", "strategy.slow=20")
    ended = invoke("-m", *files, "benchmark=none", "factors=[SPY]", "output_dir=out")
    assert ended.code == 0, ended.err
    found = verdict_of("out")
    assert found["n_bars"] < 270
    assert found["factors"]["n_bars"] == found["n_bars"]
    returns = pd.read_parquet("out/returns.parquet").set_index("timestamp")[found["run_id"]]
    # Between two bars that both have, returns are compounded.
    shared = prices.index[::2]
    levels = (1 + returns.fillna(0.0)).cumprod()[shared]
    pair = pd.DataFrame({"run": levels, "spy": prices.loc[shared, "SPY"]}).pct_change()
    covariance = pair.iloc[-found["n_bars"] :].cov()
    slope = covariance.loc["run", "spy"] / covariance.loc["spy", "spy"]
    assert found["factors"]["betas"]["SPY"] == pytest.approx(slope, rel=1e-9)
