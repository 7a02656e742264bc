"""Batches whose grid has fewer cells: what is run, counted, recorded and said."""

import itertools
import re
from pathlib import Path

import pytest

import backtest_batch as bb

SMALL = {"data": "synthetic", "data.n_bars": 300, "data.n_assets": 3, "n_jobs": 1}
PAIRS = {"strategy.fast": [5, 10, 30], "strategy.slow": [10, 30, 60]}
HOLDS = "strategy.fast < strategy.slow"


def sweep(param_grid, **config):
    return bb.run_sweep(param_grid, **{**SMALL, **config})


def parent_tags(outcome):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd() / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("backtest_batch")
    wanted = f"tags.batch_role = 'batch' and tags.batch_id = '{outcome.batch_id}'"
    (run,) = client.search_runs([experiment.experiment_id], wanted)
    return run.data.tags


@pytest.mark.usefixtures("with_store")
def test_cells_that_do_not_hold_are_no_runs_and_no_trials_and_are_counted():
    outcome = sweep(PAIRS, constraint=HOLDS)
    pairs = [(a, b) for a, b in itertools.product([5, 10, 30], [10, 30, 60]) if a < b]
    frame = outcome.runs.params
    assert [tuple(row) for row in frame.itertuples(index=False)] == pairs
    assert "3 of 9 combinations do not satisfy the constraint: they are no runs." in outcome.summary
    assert outcome.overfitting["n_trials"] == 6
    tags = parent_tags(outcome)
    assert (tags["n_runs"], tags["n_finished"], tags["n_skipped_cells"]) == ("6", "6", "3")
    report = (outcome.output_dir / "report.html").read_text("utf-8")
    assert "3 of 9 combinations do not satisfy the constraint" in report
    assert "3 of 9 combinations" in (outcome.output_dir / "batch_summary.md").read_text("utf-8")
    # The same runs, listed: a constraint is in no run key, and in no run's configuration.
    listed = sweep(None, runs=[{"strategy.fast": a, "strategy.slow": b} for a, b in pairs])
    keys = [set(item.runs.runs["run_key"]) for item in (outcome, listed)]
    assert keys[0] == keys[1]
    assert parent_tags(listed)["n_skipped_cells"] == "0"
    assert "constraint" not in outcome.best_config
    again = bb.rerun(outcome, verify=True)
    assert again.exit_code == 0, again.summary
    assert "Verified" in again.summary


@pytest.mark.usefixtures("with_store")
def test_what_a_strategy_refuses_is_skipped_when_that_is_asked_for():
    skipped = sweep({**PAIRS, "commission_bps": [0, 1]}, invalid="skip")
    assert len(skipped.runs) == 12
    assert "6 of 18 combinations are refused by their strategy (invalid=skip)" in skipped.summary
    assert "The first is strategy.fast=10 strategy.slow=10" in skipped.summary
    assert parent_tags(skipped)["n_skipped_cells"] == "6"
    both = sweep(PAIRS, invalid="skip", constraint="strategy.fast <= strategy.slow")
    assert "1 of 9 combinations do not satisfy the constraint" in both.summary
    assert "2 of 8 combinations are refused by their strategy" in both.summary
    assert parent_tags(both)["n_skipped_cells"] == "3"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"3 of 9 combinations are invalid.*constraint=.*strategy.fast < strategy.slow.*=skip"),
        ({"invalid": "skip", "commission_bps": -1}, "commission_bps=-1.0: must be >= 0"),
        ({"invalid": "maybe"}, "invalid=maybe: must be one of error, skip"),
        (
            {"invalid": "skip", "constraint": "strategy.fast >= 30 >= strategy.slow"},
            "refuses all 2 combinations",
        ),
        ({"invalid": "skip", "strategy.fats": 3}, "strategy.fats"),
    ],
)
@pytest.mark.usefixtures("with_store")
def test_faults_stay_faults(config, message):
    with pytest.raises(bb.ConfigurationError, match=f"(?s){message}"):
        sweep(PAIRS, **config)


def picky(panel, kind: str = "good", number: int = 1):
    if kind == "value":
        raise ValueError("not at a bar")
    return panel.close.pct_change().mean(axis=1).iloc[1:] * number


class Picky:
    """Refuses its arguments in several ways."""

    def __init__(self, kind: str = "good", number: int = 1):
        if kind == "value":
            raise ValueError("kind must not be value")
        assert kind != "assert", "kind must not be assert"
        if kind == "type":
            raise TypeError("a mistake")

    def target_weights(self, panel, decisions):
        import numpy as np

        return np.full((len(decisions), panel.n_assets), 1 / panel.n_assets)


@pytest.mark.usefixtures("with_store")
def test_a_mistake_in_a_constructor_is_no_refusal():
    outcome = sweep({"strategy.kind": ["good", "value", "assert"]}, strategy=Picky, invalid="skip")
    assert len(outcome.runs) == 1
    with pytest.raises(bb.ConfigurationError, match="a mistake"):
        sweep({"strategy.kind": ["good", "type"]}, strategy=Picky, invalid="skip")
    # What fails while it runs has failed.
    failed = sweep({"strategy.kind": ["good", "value"]}, strategy=picky, invalid="skip")
    assert failed.runs.runs["status"].tolist() == ["FINISHED", "FAILED"]


@pytest.mark.usefixtures("with_store")
def test_runs_of_strategies_with_parameters_of_their_own(recorded_runs, working_dir):
    grid = {
        "strategy": {
            "trend_baseline": {"fast": [5, 10], "slow": [30, 60]},
            "mean_reversion": {"window": [5, 10]},
            "equal_weight": {},
        },
        "commission_bps": [0, 5],
    }
    outcome = sweep(grid, constraint="strategy.fast * 6 <= strategy.slow")
    assert len(outcome.runs) == 12
    assert "2 of 14 combinations do not satisfy the constraint" in outcome.summary
    runs = recorded_runs(working_dir, outcome.batch_id)
    assert set(runs) == {
        *(
            f"run_trend_baseline_{a}_{b}_{c}"
            for a, b in [(5, 30), (5, 60), (10, 60)]
            for c in COSTS
        ),
        *(f"run_mean_reversion_{w}_{c}" for w in (5, 10) for c in COSTS),
        *(f"run_equal_weight_{c}" for c in COSTS),
    }
    assert "strategy.fast" not in runs["run_mean_reversion_5_0.0"].params
    assert runs["run_mean_reversion_5_0.0"].params["strategy.window"] == "5"
    assert runs["run_trend_baseline_5_60_0.0"].params["strategy.slow"] == "60"
    rankings = outcome.rankings.set_index("run_id")
    assert rankings.loc["run_equal_weight_0.0", "strategy.fast"] == ""
    assert rankings.loc["run_trend_baseline_5_60_0.0", "strategy.fast"] == "5"
    sensitivity = outcome.sensitivity
    window = sensitivity[sensitivity["parameter"] == "strategy.window"]
    assert set(window["value"]) == {5, 10}
    shares = outcome.importance[outcome.importance["metric"] == "sharpe"].set_index("term")
    main = ["strategy", "strategy.fast", "strategy.slow", "strategy.window", "commission_bps"]
    assert shares.loc[main, "eta_squared"].notna().all()
    recorded = bb.sensitivity(bb.load_runs(batch=outcome.batch_id))
    window = recorded[recorded["parameter"] == "strategy.window"]
    assert set(window["value"]) == {5, 10}


COSTS = ("0.0", "5.0")


@pytest.mark.usefixtures("with_store")
def test_zipped_axes_are_run_together_and_told_apart_from_the_command_line(invoke):
    done = invoke(
        "-m",
        "data=synthetic", "data.n_bars=300", "data.n_assets=3", "n_jobs=1",
        "strategy.fast=5,10", "strategy.slow=20,40", "zip=[[strategy.fast,strategy.slow]]",
        "constraint=strategy.fast > 4",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "run_5_20" in done.out
    assert "run_10_40" in done.out
    assert "2 of 2 runs ranked" in done.out
    compare = invoke("resume=latest")
    assert "is complete: 2 runs are recorded" in compare.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["constraint=strategy.fats < 5"], "did you mean strategy.fast"),
        (["constraint=strategy.fast > 100"], "nothing was run"),
        (["constraint=__import__('os').system('x') == 0"], "is not allowed"),
        (["constraint=strategy.fast = 5"], "equality is written =="),
        (["zip=[[strategy.fast,seed]]"], "seed is not swept"),
        (["zip=[strategy.fast]"], "must be a list of lists"),
        (["constraint=a < 1,b < 2"], "constraint=.*cannot be read|is not allowed|known key"),
        (["constraint=true"], "must be a text"),
        (["constraint={a: 1}"], "must be a text|cannot be read|is not allowed"),
        (["hydra/sweeper=basic", "constraint=strategy.fast < 15"], "another sweeper"),
        (["search=random", "zip=[[strategy.fast,rebalance]]", "rebalance=M,W"], "zip"),
    ],
)
@pytest.mark.usefixtures("with_store")
def test_what_cannot_be_ends_with_2_and_one_message(invoke, arguments, message):
    done = invoke("-m", "data=synthetic", "data.n_bars=300", "strategy.fast=10,20", *arguments)
    assert done.code == 2, done.out + done.err
    assert re.search(message, done.err), done.err
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("with_store")
def test_an_experiment_may_hold_a_constraint(invoke, working_dir):
    folder = working_dir / "my_conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "pairs.yaml").write_text(
        "# @package _global_\n"
        "constraint: strategy.fast < strategy.slow\n"
        "zip: [[seed, commission_bps]]\n"
        "param_grid:\n"
        "  strategy: {fast: [5, 30], slow: [20, 40]}\n"
        "  seed: [1, 2]\n"
        "  commission_bps: [0, 1]\n"
    )
    common = ("--config-dir", "my_conf", "data=synthetic", "data.n_bars=300", "n_jobs=1")
    done = invoke(*common, "experiment=pairs")
    assert done.code == 0, done.err
    assert "6 of 6 runs ranked" in done.out
    assert "2 of 8 combinations do not satisfy the constraint" in done.out
    best = next((working_dir / "mlruns" / "batches").glob("*/best_params.json"))
    again = invoke(f"best={best}", "verify=true")
    assert again.code == 0, again.err + again.out
    assert "Verified" in again.out
