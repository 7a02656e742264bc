"""Sweeps from a notebook: the command's batches, on prices in memory."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.api.sweeps import import_path
from backtest_batch.core.strategies import MeanReversion, TrendBaseline

MODULE = """
import numpy as np


class Rotating:
    def __init__(self, period: int = 3):
        self.period = period

    def target_weights(self, panel, decisions):
        weights = np.zeros((len(decisions), panel.n_assets))
        for row, bar in enumerate(decisions):
            weights[row, (bar // self.period) % panel.n_assets] = 1.0
        return weights
"""


@pytest.fixture
def prices():
    index = pd.date_range("2015-01-01", periods=500, freq="B")
    steps = np.random.default_rng(8).normal(0.0004, 0.012, (500, 5))
    return pd.DataFrame(80 * np.exp(steps.cumsum(axis=0)), index=index, columns=list("VWXYZ"))


@pytest.fixture
def outcome(prices, with_store):
    return bb.run_sweep(
        {"strategy.fast": np.array([5, 10, 20]), "commission_bps": [0, np.float64(1.0)]},
        data=prices,
        strategy="trend_baseline",
        batch_name="notebook",
        tags={"suite": "api"},
        rank_by={"sharpe": 0.5, "calmar": 0.5},
        n_jobs=1,
        **{"strategy.slow": 40},
    )


def test_a_sweep_is_the_command_s_and_its_tables_are_frames(
    outcome, prices, with_store, recorded_runs, capsys
):
    assert capsys.readouterr().out == ""
    assert outcome.exit_code == 0
    assert repr(outcome).startswith("rank")
    assert f"tags.batch_id = '{outcome.batch_id}'" in outcome.summary
    runs = recorded_runs(with_store, outcome.batch_id)
    assert sorted(runs) == sorted(outcome.table["run_id"])
    assert {run.tags["suite"] for run in runs.values()} == {"api"}
    rankings = outcome.rankings
    assert rankings["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    written = pd.read_csv(outcome.output_dir / "rankings.csv")
    assert written["run_id"].tolist() == rankings["run_id"].tolist()
    assert written["sharpe"].tolist() == rankings["sharpe"].tolist()
    assert set(outcome.sensitivity["parameter"]) == {"strategy.fast", "commission_bps"}
    assert len(outcome.importance)
    best = rankings["run_id"].iloc[0]
    assert f"run_{outcome.best_config['strategy']['fast']}" in best
    assert outcome.best_config["strategy"]["slow"] == 40
    # What the sweep computed is what one backtest on the frame computes.
    config = outcome.best_config
    alone = bb.backtest(
        _trend(config),
        prices,
        commission_bps=config["commission_bps"],
    )
    assert alone.metrics["sharpe"] == rankings["sharpe"].iloc[0]
    returns = outcome.returns
    assert returns.shape == (500, 7)
    assert returns[best].dropna().tolist() == alone.equity["net_return"].dropna().tolist()
    assert outcome.verdict["label"] in ("skill", "luck", "cannot_tell")
    assert outcome.overfitting["n_trials"] == 3

    _recorded_runs_are_ranked_alike(outcome)
    _the_winner_runs_again(outcome)


def _trend(config):
    from backtest_batch.core.strategies import TrendBaseline

    return TrendBaseline(fast=config["strategy"]["fast"], slow=config["strategy"]["slow"])


def _recorded_runs_are_ranked_alike(outcome):
    loaded = bb.load_runs(outcome.batch_id)
    again = bb.rank(loaded, {"sharpe": 0.5, "calmar": 0.5})
    assert again["run_id"].tolist() == outcome.rankings["run_id"].tolist()
    assert bb.rank(outcome.runs, "max_drawdown")["max_drawdown"].is_monotonic_decreasing
    few = bb.rank(loaded, constraints={"trades": "> 1e9"})
    assert few["rank"].isna().all()
    assert bb.sensitivity(loaded).shape[0] == outcome.sensitivity.shape[0]
    assert len(bb.importance(loaded)) == len(outcome.importance)
    with pytest.raises(bb.SelectionError):
        bb.load_runs("no such batch")
    with pytest.raises(bb.ConfigurationError, match="there is no metric 'shape'"):
        bb.rank(loaded, "shape")


def _the_winner_runs_again(outcome):
    again = bb.rerun(outcome, verify=True, n_jobs=1)
    assert again.exit_code == 0, again.summary
    assert again.batch_id != outcome.batch_id
    assert again.table["sharpe"].iloc[0] == outcome.rankings["sharpe"].iloc[0]
    # The name of the sweep, and the latest batch, still mean the sweep.
    assert len(bb.load_runs("notebook")) == len(bb.load_runs("latest")) == 6
    for name in ("notebook (rerun)", again.batch_id):
        assert bb.load_runs(name).runs["batch_id"].tolist() == [again.batch_id]
    # Nor was the winner picked from nothing, now that it stands alone.
    assert "one strategy was tried, after 2 others in earlier" in again.verdict["sentence"]
    twice = bb.rerun(again, n_jobs=1)
    assert bb.load_runs("notebook (rerun)").runs["batch_id"].tolist() == [twice.batch_id]


def test_a_batch_gives_the_logger_back(outcome, prices, with_store, caplog):
    # Its folder may be gone by then: a handler that stayed would raise in whatever comes next.
    shutil.rmtree(with_store / "mlruns")
    jump = prices.copy()
    jump.iloc[250:] *= 3
    bb.backtest(MeanReversion(), jump)
    assert "50 % in one bar" in caplog.text


def test_a_class_in_a_module_and_listed_runs(prices, with_store):
    (with_store / "rotating_strategy.py").write_text(MODULE)
    sys.path.insert(0, str(with_store))
    from rotating_strategy import Rotating  # type: ignore[import-not-found]

    outcome = bb.run_sweep(
        runs=[{"id": "slow", "strategy.period": 30}, {"id": "quick", "strategy.period": 2}],
        data=bb.panel_from_frames(prices),
        strategy=Rotating,
        tracking={"experiment": "backtest_batch", "artifacts": "none"},
        start_date=pd.Timestamp("2015-03-02"),
        output_dir=Path("reports here"),
    )
    assert outcome.exit_code == 0
    assert outcome.table["run_id"].tolist() == ["slow", "quick"]
    assert outcome.best_config["strategy"]["_target_"] == "rotating_strategy.Rotating"
    assert outcome.best_config["start_date"].startswith("2015-03-02")
    assert outcome.output_dir == with_store / "reports here"
    best = json.loads((outcome.output_dir / "best_params.json").read_text())
    assert "data=stored" in best["top"][0]["command"]
    sys.path.remove(str(with_store))


def test_series_of_a_notebook_are_a_benchmark_and_factors(prices, with_store):
    market = prices.mean(axis=1)
    factors = prices[["V"]].pct_change().rename(columns={"V": "small cap"})
    compared = {"benchmark": market, "factors": factors}
    outcome = bb.run_sweep({"strategy.slow": [30, 40]}, data=prices, n_jobs=1, **compared)
    strategy = TrendBaseline(slow=30)
    alone = bb.backtest(strategy, prices, **compared)
    names = ["beta", "alpha", "alpha_factors", "r2_factors", "beta_small_cap"]
    found = outcome.runs.metrics[names].iloc[0]
    assert found.to_dict() == alone.metrics[names].to_dict()
    by_class = bb.run_sweep(data=prices, n_jobs=1, benchmark=MeanReversion)
    by_object = bb.backtest(TrendBaseline(), prices, benchmark=MeanReversion())
    assert by_class.runs.metrics["beta"].iloc[0] == by_object.metrics["beta"]


def test_a_batch_says_what_was_said_about_its_frame(prices, working_dir):
    bars = pd.DataFrame({"Close": prices["V"], "Adj Close": prices["V"] * 0.9})
    outcome = bb.run_sweep({"strategy.fast": [5]}, data=bars, dry_run=True)
    assert "closes are those of 'Adj Close', not of 'Close'" in outcome.summary


def test_a_dry_run_compares_nothing(prices, working_dir):
    outcome = bb.run_sweep({"seed": [1, 2]}, data=prices, dry_run=True)
    assert "Dry run" in outcome.summary
    assert outcome.exit_code == 0
    assert list(working_dir.iterdir()) == []
    with pytest.raises(bb.SelectionError, match="nothing was compared"):
        _ = outcome.rankings
    with pytest.raises(bb.SelectionError, match="dry run"):
        _ = outcome.output_dir


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"param_grid": {"comission_bps": [1, 2]}}, "comission_bps=1: is not a known key"),
        ({"param_grid": {"commission_bps": [1, -2]}}, "1 of 2 combinations are invalid"),
        ({"comission_bps": 3}, "comission_bps: is not a known key; did you mean commission_bps"),
        ({"param_grid": {"seed": []}}, "holds no value"),
        ({"param_grid": {"seed": [1]}, "runs": [{"seed": 1}], "rebalance": "W"}, None),
        ({"param_grid": {"seed": [1, 2]}, "runs": [{"seed": 1}]}, "runs cannot be combined"),
        ({"strategy": "nope"}, "strategy=nope: there is no such choice"),
        ({"strategy": MeanReversion()}, "must be a class, a function or a name"),
        ({"data": "nope"}, "data=nope: there is no such choice"),
        ({"seed": object()}, "seed=<object.*must be a number"),
    ],
)
def test_what_cannot_be_run_raises_with_the_message_of_the_command(working_dir, arguments, message):
    arguments = {"data": "synthetic", "dry_run": True, **arguments}
    if message is None:
        assert bb.run_sweep(**arguments).exit_code == 0
        return
    with pytest.raises(bb.ConfigurationError, match=message):
        bb.run_sweep(**arguments)
    assert list(working_dir.iterdir()) == []


def test_prices_that_cannot_be_used_are_named(prices, working_dir):
    prices.iloc[7, 2] = 0.0
    with pytest.raises(bb.DataError, match="X has a close of 0"):
        bb.run_sweep({"seed": [1, 2]}, data=prices)


def test_a_notebook_shows_the_best_runs_the_verdict_and_a_link(outcome, with_store):
    shown = ET.fromstring(outcome._repr_html_())
    assert shown.findtext("p/strong") == outcome.verdict["sentence"]
    titles = [cell.text for cell in shown.iter("th")]
    rows = [[cell.text for cell in row.iter("td")] for row in shown.iter("tr")][1:]
    ids = [row[titles.index("run_id")] for row in rows]
    assert ids == outcome.rankings["run_id"].tolist()[:10]
    links = [link.get("href") for link in shown.iter("a")]
    assert links == [(outcome.output_dir / "report.html").absolute().as_uri()]


def test_a_notebook_shows_text_where_nothing_was_compared(working_dir):
    shown = bb.run_sweep({"seed": [1, 2]}, data="synthetic", dry_run=True)._repr_html_()
    assert shown.startswith("<pre>")
    assert "2 combinations" in shown


def test_a_class_that_can_be_imported_is_named_by_its_module():
    assert (
        import_path(MeanReversion) == "backtest_batch.core.strategies.mean_reversion.MeanReversion"
    )


POOL = """
import multiprocessing
import backtest_batch as bb


def sweep(_):
    swept = bb.run_sweep({"commission_bps": [0, 1]}, data="synthetic", n_jobs=1)
    return swept.exit_code, multiprocessing.current_process().daemon


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(sweep, [0]))
"""


@pytest.mark.slow
def test_a_sweep_runs_inside_a_worker_of_a_pool(working_dir, recorded_runs):
    (working_dir / "pool.py").write_text(POOL)
    done = subprocess.run([sys.executable, "pool.py"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[(0, True)]", done.stderr
    assert [run.status for run in recorded_runs(working_dir).values()] == ["FINISHED"] * 2


def test_what_a_program_prints_meanwhile_is_its_own(with_store, capsys):
    """Also what another thread prints while a sweep runs."""
    ended = threading.Event()

    def print_on():
        while not ended.wait(0.01):
            sys.stdout.write("of the program\n")

    other = threading.Thread(target=print_on)
    other.start()
    try:
        sweep = bb.run_sweep(
            {"strategy.fast": [5, 10]}, data="synthetic", n_jobs=1, **{"data.n_bars": 200}
        )
    finally:
        ended.set()
        other.join()
    assert "of the program" not in sweep.summary
    assert set(capsys.readouterr().out.splitlines()) == {"of the program"}
