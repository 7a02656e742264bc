"""Which files a batch keeps, what is profiled, and what a dry run tells."""

import os
import pstats
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.commands import SMALL_MARKET, Command

FILES = {
    "config.yaml",
    "equity.parquet",
    "metrics.csv",
    "profile",
    "run.json",
    "target_weights.parquet",
    "trades.parquet",
}


@pytest.mark.slow
def test_a_large_batch_keeps_the_files_of_its_best_runs(command: Command) -> None:
    grid = ("strategy.mode=good,error", "strategy.number=1,2", "commission_bps=range(0,130)")
    done = command.run(*command.hostile(*grid), "profiling.runs=1")
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    assert len(recorded.statuses) == 520
    assert "Files are kept of the 50 best of 520 runs" in done.stdout
    ranking = pd.read_csv(command.report("rankings.csv"), dtype={"run_id": str})
    best = ranking["run_id"].head(50).tolist()
    profiled = recorded.runs.set_index("run_id")["params.commission_bps"]
    first = profiled.index[0]
    for run_id, artifacts in recorded.artifacts.items():
        if run_id in best:
            assert set(artifacts) >= FILES
            assert ("equity.html" in artifacts) == (run_id in best[:20])
        elif recorded.statuses[run_id] == "FAILED":
            assert set(artifacts) == {"config.yaml", "log.txt", "traceback.txt"}
        elif run_id == first:
            assert set(artifacts) >= FILES
        else:
            assert artifacts == []
    # Computed again for their files, the best runs come to the same, bit for bit.
    returns = pd.read_parquet(command.report("returns.parquet"))
    for run_id in (best[0], best[49]):
        equity = pd.read_parquet(files_of(command, run_id) / "equity.parquet")
        stored = returns.set_index("timestamp")[run_id].dropna().to_numpy()
        np.testing.assert_array_equal(equity["net_return"].dropna().to_numpy(), stored)
    store = command.store()
    mlflow_id = recorded.runs.set_index("run_id").loc[best[0], "mlflow_run_id"]
    curve = store.client.get_metric_history(mlflow_id, "equity")
    store.close()
    assert len(curve) == 200
    assert curve[0].value == 1_000_000
    assert curve[0].step < curve[-1].step == 259


@pytest.mark.slow
def test_profiles(command: Command) -> None:
    arguments = command.hostile("strategy.mode=good,error", "commission_bps=0,1")
    done = command.run(*arguments, "--with-profiling", "tracking.artifacts=none")
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    assert set(recorded.tag("chunk_runs").values()) == {"1"}
    assert len(command.calls) == 4
    for run_id in recorded.statuses:
        folder = files_of(command, run_id) / "profile"
        stats = pstats.Stats(str(folder / "run.prof"))
        assert any(name == "target_weights" for _, _, name in stats.stats)
        assert "cumulative" in (folder / "stats.txt").read_text()
        assert (folder / "timings.json").exists() == (recorded.statuses[run_id] == "FINISHED")


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["none", "top"])
def test_the_policy_of_files_in_a_small_batch(command: Command, policy: str) -> None:
    arguments = command.hostile("strategy.number=0,1,2")
    done = command.run(*arguments, f"tracking.artifacts={policy}")
    assert done.returncode == 0, done.stderr
    recorded = command.recorded()
    for artifacts in recorded.artifacts.values():
        assert set(artifacts) >= FILES if policy == "top" else set(artifacts) == {"equity.html"}


@pytest.mark.slow
def test_a_dry_run_writes_nothing_and_tells_what_is_done(bare_command: Command) -> None:
    grid = ("strategy.number=range(0,4)", "commission_bps=0,1")
    arguments = bare_command.hostile(*grid)
    before = sorted(bare_command.folder.rglob("*"))
    done = bare_command.run(*arguments, "dry_run=true")
    assert done.returncode == 0, done.stderr
    (bare_command.folder / "calls.txt").unlink()
    assert [path for path in sorted(bare_command.folder.rglob("*")) if "__py" not in str(path)] == (
        before
    )
    assert "8 combinations" in done.stdout
    assert "Trials for the statistics (distinct decisions): 4." in done.stdout
    assert "  run_0_0.0: strategy.number=0 commission_bps=0.0" in done.stdout
    assert "Estimated wall time: about" in done.stdout
    assert "this machine has room for n_jobs=" in done.stdout

    process = bare_command.start(*bare_command.hostile(*grid, "strategy.mode=good,error"))
    assert bare_command.end(process).returncode == 1
    told = bare_command.run("resume=latest", "dry_run=true")
    assert told.returncode == 0, told.stderr
    assert "Done already: 8 of 16 runs." in told.stdout
    assert told.stdout.count("(done)") == 8
    # A dry run marks nothing and records nothing.
    assert bare_command.recorded().handle.tags["n_failed"] == "8"


@pytest.mark.slow
def test_a_grid_of_ten_million_is_described_and_refused(bare_command: Command) -> None:
    grid = ("commission_bps=range(0,10000)", "max_gross_exposure=range(1,1001)")
    told = bare_command.run("-m", *SMALL_MARKET, *grid, "dry_run=true")
    assert told.returncode == 0, told.stderr
    assert "10,000,000 combinations" in told.stdout
    refused = bare_command.run("-m", *SMALL_MARKET, *grid)
    assert refused.returncode == 2
    assert "more than max_runs=100,000; nothing was run" in refused.stderr
    assert list(bare_command.folder.iterdir()) == []


@pytest.mark.slow
def test_a_terminal_sees_a_bar_and_a_pipe_does_not(command: Command) -> None:
    arguments = command.hostile("strategy.number=range(0,4)", "strategy.seconds=0.5")
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "backtest_batch", *arguments],
        cwd=command.folder,
        env={**command.environment, "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65_536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not part:
            break
        shown += part
    os.close(leader)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"backtests" in shown
    assert b"best sharpe" in shown
    assert "\x1b" not in out
    assert out.startswith("rank")


def files_of(command: Command, run_id: str) -> Path:
    runs = command.recorded().runs.set_index("run_id")
    root = command.folder / "mlruns" / "artifacts"
    return root / str(runs.loc[run_id, "mlflow_run_id"]) / "artifacts"
