import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from backtest_batch.core.engine.metrics import RESULT_METRICS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swept(tmp_path_factory, migrated_store):
    """A folder with a small sweep, and the folder of its reports."""
    folder = tmp_path_factory.mktemp("best of")
    (folder / "mlruns").mkdir()
    shutil.copyfile(migrated_store, folder / "mlruns" / "mlflow.db")
    done = run(
        folder,
        *("-m", "data=synthetic", "data.n_bars=150", "data.n_assets=4", "n_jobs=1"),
        *("strategy.fast=5", "strategy.slow=20,30", "commission_bps=0.0,1.0", "batch_name=first"),
        *("start_date=2000-03-01", "output_dir=kept", "tags.suite=small"),
    )
    assert done.returncode == 0, done.stderr
    return folder, folder / "kept" / "best_params.json"


def run(folder, *arguments, module="backtest_batch"):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_winner_runs_again_and_is_verified_bit_for_bit(swept):
    folder, best = swept
    before = best.read_bytes()

    done = run(folder, "best=kept/best_params.json", "verify=true", "batch_name=again")

    assert done.returncode == 0, done.stderr
    winner = json.loads(best.read_text())["top"][0]
    assert f"result metrics of {winner['run_id']} are equal, bit for bit" in done.stdout
    (reports,) = (folder / "mlruns" / "batches").iterdir()
    again = json.loads((reports / "best_params.json").read_text())["top"][0]
    assert again["metrics"] == winner["metrics"]
    assert again["run_key"] == winner["run_key"]
    assert set(winner["metrics"]) <= set(RESULT_METRICS)
    # It repeats the winner too, and writes nothing where the sweep wrote.
    words = set(winner["command"].split()) - {"batch_name=first"}
    assert set(again["command"].split()) == words | {"batch_name=again"}
    assert best.read_bytes() == before


def test_the_recorded_command_repeats_the_run(swept):
    folder, best = swept
    winner = json.loads(best.read_text())["top"][0]
    command = winner["command"].removeprefix("python")

    done = subprocess.run(
        f"'{sys.executable}'{command} output_dir=repeated",
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    table = pd.read_csv(folder / "repeated" / "batch_summary.csv")
    assert table["run_key"].tolist() == [winner["run_key"]]
    assert table["sharpe"][0] == winner["metrics"]["sharpe"]


@pytest.mark.parametrize("artifacts", ["full", "none"])
def test_a_configuration_of_ones_own_is_found_again(swept, artifacts):
    folder, _ = swept
    own = folder / "own conf" / "strategy"
    own.mkdir(parents=True, exist_ok=True)
    target = "_target_: backtest_batch.strategies.TrendBaseline\n"
    (own / "mine.yaml").write_text(f"{target}average: sma\nfast: 5\nslow: 20\n", encoding="utf-8")
    done = run(
        folder,
        *("--config-dir", "own conf", "-m", "strategy=mine", "strategy.slow=20,30", "n_jobs=1"),
        *("data=synthetic", "data.n_bars=150", "data.n_assets=4", f"batch_name=own_{artifacts}"),
        f"tracking.artifacts={artifacts}",
    )
    assert done.returncode == 0, done.stderr
    done = run(
        folder,
        *(f"batch=own_{artifacts}", f"output_dir=own_{artifacts}"),
        module="backtest_batch.compare",
    )
    assert done.returncode == 0, done.stderr

    best = f"best=own_{artifacts}/best_params.json"
    verified = run(folder, best, "verify=true", f"output_dir=own_{artifacts}_again")

    assert verified.returncode == 0, verified.stderr
    assert "Verified: all" in verified.stdout


def test_a_result_that_is_not_the_recorded_one_exits_1(swept, tmp_path):
    folder, best = swept
    document = json.loads(best.read_text())
    document["top"][0]["metrics"]["sharpe"] += 1e-6
    altered = tmp_path / "a b" / "best_params.json"
    altered.parent.mkdir()
    altered.write_text(json.dumps(document), encoding="utf-8")

    done = run(folder, f"best={altered}", "verify=true", "output_dir=altered")

    assert done.returncode == 1
    assert "Not verified: 1 of" in done.stdout + done.stderr
    assert "  sharpe: recorded" in done.stdout + done.stderr
    assert (folder / "altered" / "best_params.json").is_file()
    # Without verify the run alone counts.
    assert run(folder, f"best={altered}", "output_dir=unverified").returncode == 0


def test_the_file_of_a_comparison_can_be_run_again(swept):
    folder, _ = swept
    done = run(folder, "batch=first", "output_dir=compared", module="backtest_batch.compare")
    assert done.returncode == 0, done.stderr

    verified = run(folder, "best=compared/best_params.json", "verify=true", "output_dir=thus")

    assert verified.returncode == 0, verified.stderr
    assert "are equal, bit for bit" in verified.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify=true"], ["verify=true:", "best=path/to/best_params.json"]),
        (["best=nix.json"], ["best=nix.json: cannot be read"]),
        (["best=kept"], ["best=kept: is a folder; did you mean kept/best_params.json?"]),
        (
            ["best=kept/best_params.json", "commission_bps=3", "strategy.fast=7", "n_jobs=1"],
            ["commission_bps (given 3, recorded", "strategy.fast (given 7, recorded 5)"],
        ),
    ],
)
def test_what_cannot_be_run_again_exits_2_and_leaves_nothing(swept, arguments, words):
    folder, _ = swept
    before = sorted(Path(folder).rglob("*"))

    done = run(folder, *arguments)

    assert done.returncode == 2
    assert [word for word in words if word not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert sorted(Path(folder).rglob("*")) == before


def test_a_winner_that_was_computed_among_hundreds_is_the_same_alone(swept):
    folder, _ = swept
    done = run(
        folder,
        *("-m", "data=synthetic", "data.n_bars=150", "data.n_assets=4", "n_jobs=2"),
        *("strategy.fast=5,6", "strategy.slow=20", "commission_bps=range(0,10)"),
        *("max_gross_exposure=range(0.05,1.30,0.05)", "output_dir=large", "batch_name=large"),
    )
    assert done.returncode == 0, done.stderr
    winner = json.loads((folder / "large" / "best_params.json").read_text())["top"][0]
    document = json.loads((folder / "large" / "batch_timings.json").read_text())
    assert document["n_runs"] == 500

    verified = run(folder, "best=large/best_params.json", "verify=true", "output_dir=alone")

    assert verified.returncode == 0, verified.stderr
    assert f"result metrics of {winner['run_id']} are equal, bit for bit" in verified.stdout
