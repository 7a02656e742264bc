"""Skill or luck, at the end of real sweeps."""

import json
from pathlib import Path
from typing import Any

import pytest

import backtest_batch as bb

PICKS = '''
import numpy as np


class Picks:
    """Five stocks drawn at random each month, held in equal parts."""

    def __init__(self, draw: int = 0):
        self.draw = draw

    def target_weights(self, panel, decisions):
        rng = np.random.default_rng(self.draw)
        weights = np.zeros((len(decisions), panel.n_assets))
        for row in weights:
            row[rng.choice(panel.n_assets, 5, replace=False)] = 0.2
        return weights


class Momentum:
    """Long what rose over the last bars, short what fell."""

    warmup_bars = 130

    def __init__(self, bars: int = 60):
        self.bars = bars

    def target_weights(self, panel, decisions):
        close = panel.close.to_numpy()
        past = np.sign(close[decisions] / close[decisions - self.bars] - 1)
        return past / panel.n_assets
'''


def verdict(folder: Path) -> dict[str, Any]:
    (written,) = folder.glob("mlruns/batches/*/overfitting.json")
    return json.loads(written.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_costs_and_exposures_alone_are_one_strategy(with_store, command):
    done = command("-m", "commission_bps=0,0.5,1", "max_gross_exposure=0.6,0.8,1.0")
    assert done.code == 0, done.err
    found = verdict(with_store)
    assert found["verdict"]["label"] == "cannot_tell"
    assert "one strategy" in found["verdict"]["sentence"]
    assert found["n_trials"] == 1
    assert len(found["scenarios"]) == 8
    assert "cannot tell: one strategy was tried" in done.out


@pytest.mark.slow
def test_random_portfolios_of_survivors_are_not_skill(with_store, command):
    (with_store / "picks.py").write_text(PICKS, encoding="utf-8")
    done = command(
        "-m", "strategy=custom", "strategy._target_=picks.Picks", "strategy.draw=range(0,50)"
    )
    assert done.code == 0, done.err
    found = verdict(with_store)
    assert found["n_trials"] == 50
    assert found["verdict"]["label"] == "luck"
    # Against zero alone, any book of survivors looks skilled.
    assert found["spa_pvalue"] <= 0.05


@pytest.mark.parametrize(
    ("skill", "label"), [pytest.param(0.0, "luck", marks=pytest.mark.slow), (0.15, "skill")]
)
def test_noise_is_luck_and_planted_skill_is_skill(with_store, command, skill, label):
    (with_store / "picks.py").write_text(PICKS, encoding="utf-8")
    done = command(
        "-m",
        "data=synthetic",
        "data.n_bars=2520",
        "data.drift=0",
        f"data.skill={skill}",
        "strategy=custom",
        "strategy._target_=picks.Momentum",
        "strategy.bars=20,40,60,80,100,120",
        "rebalance=D",
        "commission_bps=0",
        "fail_on_verdict=[luck]",
    )
    assert done.code == (1 if label == "luck" else 0), done.err
    assert verdict(with_store)["verdict"]["label"] == label


@pytest.mark.slow
def test_earlier_batches_of_the_experiment_count_as_trials(with_store, command):
    shared = ("-m", "data=synthetic", "data.n_bars=600")
    assert command(*shared, "strategy.fast=5,10").code == 0
    for folder in (with_store / "mlruns" / "batches").iterdir():
        folder.rename(with_store / folder.name)
    assert command(*shared, "strategy.fast=10,15", "commission_bps=0,1").code == 0
    found = verdict(with_store)
    assert (found["n_trials"], found["n_trials_experiment"]) == (2, 3)

    # Other data are other things to try; both numbers are shown whichever enters the formulas.
    for folder in (with_store / "mlruns" / "batches").iterdir():
        folder.rename(with_store / folder.name)
    assert command(*shared, "data.seed=0,7", "strategy.fast=10,20", "trials=batch").code == 0
    found = verdict(with_store)
    assert (found["n_trials"], found["n_trials_experiment"]) == (4, 6)
    assert any("with trials=batch they are not" in text for text in found["verdict"]["reasons"])
    for folder in (with_store / "mlruns" / "batches").iterdir():
        folder.rename(with_store / folder.name)
    assert command(*shared, "data.seed=7", "strategy.fast=10,15").code == 0
    found = verdict(with_store)
    assert (found["n_trials"], found["n_trials_experiment"]) == (2, 7)


WALKS = {"data": "synthetic", "strategy": "mean_reversion", "rebalance": "bar", "n_jobs": 1}
WALKS |= {"data.skill": 0, "data.n_bars": 700, "data.n_assets": 12, "commission_bps": 0}


@pytest.mark.slow
def test_whoever_ranks_over_symbols_has_tried_each_of_them(with_store):
    grid = {"data.symbols": [[f"S{k:02d}"] for k in range(12)], "strategy.window": [5, 20]}
    found = bb.run_sweep(grid, start_date="2000-03-01", **WALKS)
    assert found.overfitting["n_trials"] == 24
    assert found.overfitting["scenario"] == "base"
    assert "the best of 24 trials" in found.verdict["sentence"]
    assert found.rankings["rank_in_scenario"].tolist() == list(range(1, 25))

    # Named as conditions they are judged one by one, and that is said.
    apart = bb.run_sweep(grid, start_date="2000-03-01", scenario_axes=["data.symbols"], **WALKS)
    document = apart.overfitting
    assert document["n_trials"] == 2
    assert document["scenario"].startswith("data.symbols=")
    assert len(document["scenarios"]) == 11
    assert (
        "data.symbols were judged one by one, nothing was selected over them"
        in apart.verdict["sentence"]
    )
    assert "of 12 scenarios, " in apart.verdict["reasons"][-1]
    assert set(apart.rankings["rank_in_scenario"]) == {1, 2}
    # Recorded runs are ranked by the same rule, whatever was asked for then.
    assert max(bb.rank(bb.load_runs(apart.batch_id))["rank_in_scenario"]) == 24
    loaded = bb.load_runs(found.batch_id, scenario_axes=["data.symbols"])
    assert max(bb.rank(loaded)["rank_in_scenario"]) == 2

    with pytest.raises(bb.ConfigurationError, match=r"decision_axes=data\.symbols: is in"):
        bb.run_sweep(grid, scenario_axes=["data.symbols"], decision_axes=["data.symbols"], **WALKS)
    with pytest.raises(bb.ConfigurationError, match="decision_axes=data: is in"):
        bb.load_runs(found.batch_id, scenario_axes=["data"], decision_axes=["data"])


@pytest.mark.slow
def test_costs_can_be_choices_and_periods_are(with_store):
    fees = {"commission_bps": [0, 5], "strategy.window": [5, 20]}
    quiet = {key: value for key, value in WALKS.items() if key != "commission_bps"}
    found = bb.run_sweep(fees, decision_axes=["commission_bps"], start_date="2000-03-01", **quiet)
    assert (found.overfitting["n_trials"], found.overfitting["scenario"]) == (4, "base")

    # Periods that overlap are tested where they do; such that do not cannot be.
    overlapping = {"end_date": ["2001-12-31", None], "strategy.window": [5, 20]}
    found = bb.run_sweep(overlapping, start_date="2000-03-01", trials="batch", **WALKS)
    document = found.overfitting
    assert document["n_trials"] == 4
    returns = found.returns.loc["2000-03-02":"2001-12-31"]
    assert document["n_bars"] == len(returns)
    assert document["excluded"] == []
    row = returns.loc[:, document["run_id"]]
    assert document["sharpe_per_period"] == pytest.approx(row.mean() / row.std())

    apart = [
        {"id": "early", "end_date": "2001-02-28", "start_date": "2000-03-01"},
        {"id": "late", "start_date": "2001-03-01"},
    ]
    found = bb.run_sweep(runs=apart, **WALKS)
    assert found.verdict["label"] == "cannot_tell"
    assert (
        "the trials share 0 returns, at least 30 are needed (late starts at"
        in found.verdict["sentence"]
    )
    assert ", early ends at 2001-02-28" in found.verdict["sentence"]
    assert "skilled" not in found.summary


@pytest.mark.slow
def test_a_sweep_whose_runs_all_fail_still_ends_with_a_summary(with_store, command):
    (with_store / "broken.py").write_text(
        "class Broken:\n"
        "    def __init__(self, k: int = 0):\n        self.k = k\n"
        "    def target_weights(self, panel, decisions):\n        raise RuntimeError('no')\n",
        encoding="utf-8",
    )
    done = command(
        "-m",
        "data=synthetic",
        "data.n_bars=300",
        "strategy=custom",
        "strategy._target_=broken.Broken",
        "strategy.k=1,2",
    )
    assert done.code == 1
    assert "Traceback" not in done.err
    found = verdict(with_store)
    assert found["verdict"]["label"] == "cannot_tell"
    assert found["dsr"] is None
