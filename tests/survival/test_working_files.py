"""Files that somebody deletes while a batch runs (a cleaner of temporary files, a hand)."""

import shutil

import pytest

from tests.support.commands import Command, wait_for


@pytest.mark.slow
@pytest.mark.parametrize("what", ["20*/.scratch-*/runs", "20*"])
def test_runs_whose_files_were_deleted_early_are_recorded_and_completed_by_resume(
    command: Command, what: str
) -> None:
    arguments = command.hostile("strategy.number=range(0,8)", "strategy.seconds=0.4", "n_jobs=1")
    process = command.start(*arguments)
    # The store is open once the first run is in it.
    wait_for(lambda: list(command.folder.glob("mlruns/artifacts/*/artifacts/equity.parquet")))
    wait_for(lambda: len(command.calls) >= 4, of=process)
    for folder in list((command.folder / "mlruns" / "batches").glob(what)):
        shutil.rmtree(folder, ignore_errors=True)
    done = command.end(process)
    assert "Traceback" not in done.stderr
    recorded = command.recorded()
    assert list(recorded.statuses.values()) == ["FINISHED"] * 8, done.stderr
    without = [name for name, files in recorded.artifacts.items() if "run.json" not in files]
    # How many had files that waited to be recorded is a matter of luck.
    if done.returncode:
        assert done.returncode == 3, done.stderr
        again = command.run("resume=latest")
        assert again.returncode == 0, again.stderr
    else:
        assert not without
    recorded = command.recorded()
    assert list(recorded.statuses.values()) == ["FINISHED"] * 8
    assert all("equity.parquet" in files for files in recorded.artifacts.values())
    assert command.report("rankings.csv").exists()
