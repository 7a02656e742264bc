"""Files that somebody deletes, while a batch runs or afterwards, are computed again."""

import io
import shutil
import subprocess

import pandas as pd
import pytest

from tests.support.commands import Command, Recorded, wait_for


def computing(command: Command, *arguments: str, calls: int) -> "subprocess.Popen[str]":
    """Start a sweep of eight slow runs, and return it when so many have begun."""
    process = command.start(
        *command.hostile("strategy.number=range(0,8)", "strategy.seconds=0.4", *arguments)
    )
    wait_for(lambda: len(command.calls) >= calls, of=process)
    return process


def gone_on(command: Command) -> Recorded:
    """Go on with the batch until it is complete; nothing is finished without its files then."""
    done = command.run("resume=latest")
    assert done.returncode == 0, done.stderr
    recorded = command.recorded()
    assert sorted(recorded.statuses.values()) == ["FINISHED"] * 8
    assert all("equity.parquet" in names for names in recorded.artifacts.values())
    assert not list(command.folder.glob("**/.scratch-*"))
    return recorded


@pytest.mark.slow
@pytest.mark.parametrize("what", ["returns.dat", "."])
def test_what_is_deleted_while_a_batch_runs_is_computed_again(command: Command, what: str) -> None:
    process = computing(command, calls=1)
    # The store knows the batch, and runs of it.
    wait_for(lambda: list(command.folder.glob("mlruns/artifacts/*/*/equity.parquet")), of=process)
    place = command.batches[-1] / f".scratch-{command.batches[-1].name}" / what
    place.unlink() if place.is_file() else shutil.rmtree(command.batches[-1])
    ended = command.end(process)
    assert ended.returncode in (1, 3), ended.stderr
    assert "resume=" in ended.stderr
    gone_on(command)
    rankings = command.report("rankings.csv").read_bytes()
    shutil.rmtree(command.folder / "mlruns")
    assert command.run(*command.hostile("strategy.number=range(0,8)")).returncode == 0
    expected = pd.read_csv(command.report("rankings.csv"))[["run_id", "sharpe", "rank"]]
    found = pd.read_csv(io.BytesIO(rankings))[["run_id", "sharpe", "rank"]]
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.slow
def test_files_of_runs_that_were_deleted_afterwards_are_computed_again(command: Command) -> None:
    process = computing(command, "tracking.artifacts=full", calls=8)
    assert command.end(process).returncode == 0
    report = command.report("rankings.csv").read_bytes()
    folders = [
        path.parent for path in command.folder.glob("mlruns/artifacts/*/artifacts/trades.parquet")
    ]
    for folder in folders[:2]:
        shutil.rmtree(folder)
    gone_on(command)
    assert len(command.calls) == 10
    assert command.report("rankings.csv").read_bytes() == report
    # Of a batch that lacks nothing else, the reports come back from its artifacts.
    names = {path.name for path in command.batches[-1].iterdir()}
    shutil.rmtree(command.batches[-1])
    gone_on(command)
    assert len(command.calls) == 10
    assert command.report("rankings.csv").read_bytes() == report
    assert {path.name for path in command.batches[-1].iterdir()} == names


@pytest.mark.slow
def test_a_batch_with_a_folder_of_its_own_that_the_store_does_not_know_yet(
    command: Command,
) -> None:
    mine = command.folder / "reports" / "mine"
    process = command.start(*command.hostile("strategy.number=range(0,8)", f"output_dir={mine}"))
    wait_for((mine / "batch_config.yaml").exists, of=process)
    process.kill()
    command.end(process)
    assert [path.name for path in command.batches] == [
        path.name.removeprefix(".scratch-") for path in mine.glob(".scratch-*")
    ]
    gone_on(command)
    assert (mine / "rankings.csv").exists()
    assert command.batches == []
