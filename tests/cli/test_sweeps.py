"""Sweeps through the command, in this process."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

SMALL = ("data=synthetic", "data.n_bars=300", "data.n_assets=4", "n_jobs=1")

DICE = """
import numpy as np


class Dice:
    def __init__(self, sides: int = 6, seed: int = -1):
        self.sides, self.seed = sides, seed

    def target_weights(self, panel, decisions):
        shape = (len(decisions), panel.n_assets)
        return np.random.default_rng([self.seed, self.sides]).random(shape) / panel.n_assets


class Fragile(Dice):
    def target_weights(self, panel, decisions):
        if self.sides == 7:
            raise ArithmeticError("no such dice")
        return super().target_weights(panel, decisions)
"""


def test_a_sweep_is_tracked_ranked_and_leaves_nothing_else(invoke, recorded_runs, with_store):
    ended = invoke(*SMALL, "commission_bps=1,0.5,0.50", "-m", "max_gross_exposure=0.5,1.0")
    assert ended.code == 0, ended.err
    # The database is complete by itself: nothing of it is left in a log beside it.
    entries = sorted(entry.name for entry in (with_store / "mlruns").iterdir())
    assert entries == ["artifacts", "batches", "mlflow.db"]
    lines = ended.out.splitlines()
    assert lines[0].split()[:4] == ["rank", "run_id", "commission_bps", "max_gross_exposure"]
    (folder,) = [line.removeprefix("Reports: ") for line in lines if line.startswith("Reports: ")]
    assert Path(folder) == with_store / "mlruns" / "batches" / ended.batch_id
    assert "Browse:  mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db" in lines
    assert (
        "2 of 6 combinations are the same run as an earlier one and run once: "
        "commission_bps=0.5 max_gross_exposure=0.5 (2 times), "
        "commission_bps=0.5 max_gross_exposure=1.0 (2 times)"
    ) in lines
    runs = recorded_runs(with_store, ended.batch_id)
    assert sorted(runs) == ["run_0.5_0.5", "run_0.5_1.0", "run_1.0_0.5", "run_1.0_1.0"]
    assert [entry.name for entry in with_store.iterdir()] == ["mlruns"]
    assert {path.name for path in Path(folder).iterdir()} >= {
        "batch_config.yaml",
        "batch_summary.csv",
        "batch_summary.md",
        "rankings.csv",
        "best_params.json",
        "best_params_summary.md",
        "sensitivity_analysis.csv",
        "overfitting.json",
        "batch_timings.json",
        "returns.parquet",
        "logs",
    }


def test_a_single_run_is_a_batch_of_one(invoke, recorded_runs, with_store):
    ended = invoke(*SMALL, "strategy=equal_weight", "batch_name=one", "tags.suite=x")
    assert ended.code == 0, ended.err
    (run,) = recorded_runs(with_store).values()
    assert (run.run_id, run.tags["batch_name"], run.tags["suite"]) == ("run_base", "one", "x")
    assert run.params["strategy._target_"] == "backtest_batch.strategies.EqualWeight"
    document = json.loads((run.files / "run.json").read_text())
    assert document["run_key"] == run.tags["run_key"]


def test_a_class_of_the_working_directory_gets_one_seed_for_all_costs(
    invoke, recorded_runs, with_store
):
    (with_store / "dice_of_mine.py").write_text(DICE)
    ended = invoke(
        *SMALL,
        "strategy=custom",
        "strategy._target_=dice_of_mine.Dice",
        "strategy.sides=6,8",
        "commission_bps=0,5",
    )
    assert ended.code == 0, ended.err
    runs = recorded_runs(with_store)
    weights = {
        name: pd.read_parquet(run.files / "target_weights.parquet") for name, run in runs.items()
    }
    assert weights["run_6_0.0"].equals(weights["run_6_5.0"])
    assert not weights["run_6_0.0"].equals(weights["run_8_0.0"])
    # -1 is the default of the class: the run's own seed has taken its place.
    expected = {
        run.tags["run_key"]: json.loads((run.files / "run.json").read_text())
        for run in runs.values()
    }
    assert len({document["strategy_seed"] for document in expected.values()}) == 2


def test_a_run_that_fails_costs_only_itself_and_exit_code_1(invoke, recorded_runs, with_store):
    (with_store / "fragile_dice.py").write_text(DICE)
    ended = invoke(
        *SMALL,
        "strategy=custom",
        "strategy._target_=fragile_dice.Fragile",
        "strategy.sides=6,7,8",
        "output_dir=reports of mine",
    )
    assert ended.code == 1
    assert "run_7 failed: ArithmeticError: no such dice" in ended.err
    assert "Traceback" not in ended.err + ended.out
    runs = recorded_runs(with_store)
    assert {name: run.status for name, run in runs.items()} == {
        "run_6": "FINISHED",
        "run_7": "FAILED",
        "run_8": "FINISHED",
    }
    assert runs["run_7"].tags["error_type"] == "ArithmeticError"
    assert (with_store / "reports of mine" / "rankings.csv").is_file()
    # A run may still be computed again: what leads resume=latest to the folder is all that is kept.
    (pointer,) = (with_store / "mlruns" / "batches").iterdir()
    assert [path.name for path in pointer.iterdir()] == ["batch_config.yaml"]


@pytest.mark.parametrize("launcher", ["joblib", "basic"])
def test_a_launcher_of_hydra_gives_the_same_results(invoke, recorded_runs, with_store, launcher):
    sweep = (*SMALL, "commission_bps=0,1", "rebalance=M,W")
    ours, theirs = invoke(*sweep), invoke(*sweep, f"hydra/launcher={launcher}")
    assert (ours.code, theirs.code) == (0, 0), ours.err + theirs.err
    first = recorded_runs(with_store, ours.batch_id)
    second = recorded_runs(with_store, theirs.batch_id)
    assert sorted(first) == sorted(second)
    for name, run in first.items():
        assert run.results == second[name].results
        one, other = (item.files / "equity.parquet" for item in (run, second[name]))
        assert one.read_bytes() == other.read_bytes()
    assert [entry.name for entry in with_store.iterdir()] == ["mlruns"]


def test_another_sweeper_gives_its_jobs_to_our_launcher(invoke, recorded_runs, with_store):
    ended = invoke("-m", *SMALL, "hydra/sweeper=basic", "commission_bps=0,1")
    assert ended.code == 0, ended.err
    runs = recorded_runs(with_store, ended.batch_id)
    assert sorted(runs) == ["run_0.0", "run_1.0"]
    assert [entry.name for entry in with_store.iterdir()] == ["mlruns"]


def test_what_a_launcher_of_hydra_cannot_do_is_refused(invoke, working_dir):
    ended = invoke(*SMALL, "hydra/launcher=joblib", "retries=2", "timeout_seconds=3")
    assert ended.code == 2
    assert ended.err.splitlines() == [
        "retries=2: needs hydra/launcher=batch",
        "timeout_seconds=3.0: needs hydra/launcher=batch",
    ]
    assert list(working_dir.iterdir()) == []


def test_a_strategy_file_of_the_user_and_an_experiment_of_the_user(
    invoke, recorded_runs, with_store
):
    folder = with_store / "my conf"
    for group in ("strategy", "experiment"):
        (folder / group).mkdir(parents=True)
    (folder / "strategy" / "quick.yaml").write_text(
        "_target_: backtest_batch.strategies.TrendBaseline\nfast: 3\nslow: 9\n"
    )
    (folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /strategy: quick\n"
        "batch_name: mine\nparam_grid: {commission_bps: [1, 2]}\n"
    )
    ended = invoke("--config-dir", "my conf", *SMALL, "experiment=mine")
    assert ended.code == 0, ended.err
    runs = recorded_runs(with_store)
    assert sorted(runs) == ["run_1.0", "run_2.0"]
    assert {run.params["strategy.slow"] for run in runs.values()} == {"9"}
    config = yaml.safe_load((runs["run_1.0"].files / "config.yaml").read_text())
    assert config["param_grid"] is None


@pytest.mark.parametrize("fast", ["true", "false"])
def test_both_ways_of_composing_record_the_same_runs(planned, working_dir, fast):
    plan = planned(
        *SMALL, f"fast_compose={fast}", "strategy=trend_baseline,mean_reversion", "seed=1,2"
    )
    assert [run.run_id for run in plan.runs] == [
        "run_trend_baseline_1",
        "run_trend_baseline_2",
        "run_mean_reversion_1",
        "run_mean_reversion_2",
    ]
    assert [run.config["strategy"].get("window") for run in plan.runs] == [None, None, 20, 20]
