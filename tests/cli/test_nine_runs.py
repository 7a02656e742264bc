"""The README's command: the same bits with one process, with two, and again."""

import subprocess
import sys

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow

SWEEP = ("-m", "commission_bps=0,0.5,1", "max_gross_exposure=0.6,0.8,1.0")
RUN_IDS = [f"run_{bps}_{cap}" for bps in (0.0, 0.5, 1.0) for cap in (0.6, 0.8, 1.0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nine runs ä")


@pytest.fixture(scope="module")
def batches(folder, ended_command, recorded_runs):
    """Three times the same sweep, by the name of what differs."""
    variants = {"one": ("n_jobs=1",), "two": ("n_jobs=2",), "again": ("n_jobs=2",)}
    ended = {name: ended_command(folder, *SWEEP, *extra) for name, extra in variants.items()}
    return {name: (batch, recorded_runs(folder, batch.batch_id)) for name, batch in ended.items()}


def test_nine_runs_finish_with_a_leaderboard(batches, folder):
    ended, runs = batches["one"]
    assert ended.code == 0, ended.err
    assert sorted(runs) == RUN_IDS
    assert {run.status for run in runs.values()} == {"FINISHED"}
    lines = ended.out.splitlines()
    assert lines[0].split()[:3] == ["rank", "run_id", "commission_bps"]
    assert "9 of 9 runs ranked by sharpe (more is better)." in lines
    assert any(line.startswith("cannot tell: one strategy was tried") for line in lines)
    assert "\x1b" not in ended.out
    assert "Traceback" not in ended.err
    assert [entry.name for entry in folder.iterdir()] == ["mlruns"]


def test_the_store_has_one_parent_with_nine_children(batches, folder):
    ended, _ = batches["two"]
    client = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("backtest_batch")
    found = client.search_runs(
        [experiment.experiment_id], f"tags.batch_id = '{ended.batch_id}'", max_results=100
    )
    (parent,) = [run for run in found if run.data.tags["batch_role"] == "batch"]
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId")]
    assert (parent.info.run_name, parent.info.status) == ("sweep", "FINISHED")
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert sorted(run.data.tags["run_id"] for run in children) == RUN_IDS
    child = next(run for run in children if run.data.tags["run_id"] == "run_0.5_0.8")
    assert child.info.run_name == "commission_bps=0.5 max_gross_exposure=0.8"
    assert child.data.params["commission_bps"] == "0.5"
    assert child.data.params["strategy.fast"] == "20"
    assert child.data.metrics["param.max_gross_exposure"] == 0.8


@pytest.mark.parametrize("other", ["two", "again"])
def test_the_same_bits_whatever_the_number_of_processes(batches, other):
    (_, first), (_, second) = batches["one"], batches[other]
    for run_id in RUN_IDS:
        assert first[run_id].results == second[run_id].results
        assert len(first[run_id].results) > 20
        assert first[run_id].tags["run_key"] == second[run_id].tags["run_key"]
        for name in ("equity", "target_weights", "trades"):
            one = (first[run_id].files / f"{name}.parquet").read_bytes()
            assert one == (second[run_id].files / f"{name}.parquet").read_bytes()


def test_the_files_of_a_run_are_those_of_the_contract(batches):
    _, runs = batches["one"]
    files = runs["run_0.0_1.0"].files
    assert {path.name for path in files.iterdir()} >= {
        "run.json",
        "config.yaml",
        "metrics.csv",
        "equity.parquet",
        "target_weights.parquet",
        "trades.parquet",
        "profile",
    }
    equity = pd.read_parquet(files / "equity.parquet")
    assert list(equity.columns) == [
        "timestamp",
        "equity",
        "net_return",
        "drawdown",
        "gross_exposure",
        "turnover",
        "cost",
    ]
    assert equity["equity"].iloc[0] == 1_000_000.0


def test_no_worker_imports_mlflow_and_the_working_directory_is_importable(tmp_path, ended_command):
    """A strategy that fails when mlflow, Hydra's plugins or plotly are there where it runs."""
    (tmp_path / "watching.py").write_text(
        "import sys\n"
        "import numpy as np\n"
        "class Watching:\n"
        "    def target_weights(self, panel, decisions):\n"
        "        heavy = {'mlflow', 'plotly', 'sklearn', 'matplotlib'} & sys.modules.keys()\n"
        "        if heavy:\n"
        "            raise RuntimeError(f'imported: {sorted(heavy)}')\n"
        "        return np.zeros((len(decisions), panel.n_assets))\n"
    )
    ended = ended_command(
        tmp_path,
        "data=synthetic",
        "data.n_bars=100",
        "strategy=custom",
        "strategy._target_=watching.Watching",
        "commission_bps=1,2",
        "n_jobs=2",
    )
    assert ended.code == 0, ended.err


def test_it_runs_without_a_path_or_a_terminal_from_the_installed_package(tmp_path):
    """Isolated mode: no PYTHONPATH, no user site, no working directory on the path."""
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-m", "backtest_batch", "--cfg", "job"],
        cwd=here,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},  # the cache is below the home
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "commission_bps: 0.5" in done.stdout
    assert list(here.iterdir()) == []
