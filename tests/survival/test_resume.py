"""Going on with a batch: what runs again, what does not, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from backtest_batch.store.search import list_batches
from tests.support.commands import Command, wait_for

GRID = ("strategy.number=range(0,6)",)


def interrupted(command: Command, *arguments: str, calls: int = 3) -> str:
    """Interrupt a batch of six after a few calls, and return its batch_id."""
    process = command.start(*command.hostile(*GRID, "strategy.seconds=0.4", *arguments))
    wait_for(lambda: len(command.calls) >= calls, of=process)
    process.terminate()
    done = command.end(process)
    assert done.returncode == 143, done.stderr
    return done.stderr.rpartition("resume=")[2].strip()


@pytest.mark.slow
def test_a_batch_goes_on_by_latest_by_name_and_with_its_own_command(command: Command) -> None:
    batch_id = interrupted(command, "batch_name=mine")
    for other in ("commission_bps=9", "strategy.number=range(0,7)", "seed=1", "rebalance=W"):
        refused = command.run("resume=latest", other)
        key, _, value = other.partition("=")
        assert refused.returncode == 2, refused.stderr
        assert f"{key} (given {value}, recorded" in refused.stderr
        assert "Traceback" not in refused.stderr
    # The command as it was typed, and values that it had by default, change nothing.
    done = command.run(
        *command.hostile(*GRID, "strategy.seconds=0.4", "batch_name=mine"),
        "resume=mine",
        "seed=42",
        "rebalance=M",
        "n_jobs=1",
        "top_n=3",
    )
    assert done.returncode == 0, done.stderr
    recorded = command.recorded()
    assert recorded.handle.batch_id == batch_id
    assert sorted(recorded.statuses.values()) == ["FINISHED"] * 6
    assert "n_skipped" in recorded.handle.tags
    assert int(recorded.handle.tags["n_skipped"]) >= 1

    calls = command.calls
    again = command.run("resume=latest")
    assert again.returncode == 0, again.stderr
    assert f"The batch {batch_id} is complete: 6 runs are recorded" in again.stdout
    assert command.calls == calls


@pytest.mark.slow
def test_what_there_is_nothing_to_resume(bare_command: Command) -> None:
    for name in ("latest", "20200101T000000Z-abcdef"):
        done = bare_command.run(f"resume={name}")
        assert done.returncode == 2
        assert "nothing to resume" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (bare_command.folder / "mlruns").exists()


@pytest.mark.slow
def test_failed_runs_run_again_unless_told_otherwise(command: Command) -> None:
    done = command.run(*command.hostile("strategy.mode=good,leave,error"))
    assert done.returncode == 1, done.stderr
    kept = command.run("resume=latest", "rerun_failed=false")
    assert kept.returncode == 0, kept.stderr
    assert "is complete" in kept.stdout
    assert len(command.calls) == 3
    again = command.run("resume=latest")
    assert again.returncode == 1, again.stderr
    assert command.calls.count("good 0") == 1
    assert command.calls.count("leave 0") == command.calls.count("error 0") == 2
    recorded = command.recorded()
    assert sorted(recorded.statuses) == ["run_error", "run_good", "run_leave"]
    assert command.report("rankings.csv").read_text().count("run_good") == 1


@pytest.mark.slow
def test_changed_code_never_passes_for_done(command: Command) -> None:
    interrupted(command)
    done_before = {
        name for name, status in command.recorded().statuses.items() if status == "FINISHED"
    }
    assert done_before
    module = command.folder / "hostile.py"
    module.write_text(module.read_text().replace("/ 10", "/ 20"))
    before = len(command.calls)
    done = command.run("resume=latest")
    assert done.returncode == 0, done.stderr
    assert len(command.calls) - before == 6
    assert f"{len(done_before)} finished runs of an earlier attempt belong to other" in done.stdout
    recorded = command.recorded()
    assert sorted(recorded.statuses.values()) == ["FINISHED"] * 6


@pytest.mark.slow
def test_a_batch_that_still_runs_is_left_alone(command: Command) -> None:
    process = command.start(*command.hostile("strategy.seconds=60"))
    wait_for(lambda: len(command.calls) == 1, of=process)

    def is_recorded() -> bool:
        store = command.store()
        try:
            return bool(list_batches(store))
        finally:
            store.close()

    wait_for((command.folder / "mlruns" / "artifacts").exists, of=process)
    wait_for(is_recorded, of=process)
    refused = command.run("resume=latest")
    assert refused.returncode == 2, refused.stderr
    assert "still running" in refused.stderr
    process.terminate()
    assert command.end(process).returncode == 143


@pytest.mark.slow
def test_two_that_go_on_with_one_batch_at_once(command: Command, tmp_path: Path) -> None:
    interrupted(command)
    calls = len(command.calls)
    both = []
    for name in ("one", "two"):  # as in containers, or under sudo
        command.environment |= {"BACKTEST_BATCH_CACHE": str(tmp_path / name)}
        both.append(command.start("resume=latest"))
    done = sorted((command.end(process) for process in both), key=lambda one: one.returncode)
    assert [one.returncode for one in done] == [0, 2], [one.stderr for one in done]
    assert "going on with this batch" in done[1].stderr or "still running" in done[1].stderr
    recorded = command.recorded()
    assert sorted(recorded.statuses.values()) == ["FINISHED"] * 6
    assert len(command.calls) <= calls + 6 - 1


@pytest.mark.slow
def test_going_on_from_another_folder(command: Command, tmp_path: Path) -> None:
    batch_id = interrupted(command)
    uri = f"tracking.uri=sqlite:///{command.folder}/mlruns/mlflow.db"
    finished = {
        name for name, status in command.recorded().statuses.items() if status == "FINISHED"
    }
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(command.folder / "hostile.py", other / "hostile.py")
    # On another machine the batch's own folder is not there, only what was recorded.
    home = command.batches[-1]
    home.rename(tmp_path / "away")
    done = command.run("resume=latest", uri, folder=other)
    assert done.returncode == 0, done.stderr
    recorded = command.recorded()
    assert recorded.handle.batch_id == batch_id
    assert sorted(recorded.statuses.values()) == ["FINISHED"] * 6
    assert (other / "mlruns" / "batches" / batch_id / "rankings.csv").exists()
    calls = (other / "calls.txt").read_text().splitlines()
    again = [call for call in calls if f"run_{call.removeprefix('good ')}" in finished]
    # The returns of runs are restored from their files; one run tells those of the benchmark.
    assert len(again) <= 1


@pytest.mark.slow
def test_going_on_in_the_folder_that_was_chosen(command: Command, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    batch_id = interrupted(command, f"output_dir={chosen}")
    calls = command.calls
    done = command.run(f"resume={batch_id}")
    assert done.returncode == 0, done.stderr
    assert (chosen / "rankings.csv").exists()
    assert not command.batches
    finished = [call for call in set(command.calls) if command.calls.count(call) == 1]
    assert len(finished) >= len(calls) - 2


@pytest.mark.slow
def test_what_a_batch_leaves_behind_says_how_to_repeat_it(command: Command) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    arguments = command.hostile("strategy.number=0,1", "seed=7")
    for words in (["init", "-q"], ["add", "hostile.py"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], cwd=command.folder, check=True)
    module = command.folder / "hostile.py"
    module.write_text(module.read_text() + "\n# changed\n")
    done = command.run(*arguments)
    assert done.returncode == 0, done.stderr
    recorded = command.recorded()
    assert "git.diff" in recorded.batch_artifacts
    assert "+# changed" in command.report("git.diff").read_text()
    assert set(recorded.tag("git_dirty").values()) == {"true"}
    document = yaml.safe_load(command.report("batch_config.yaml").read_text())
    assert document["batch_id"] == recorded.handle.batch_id
    assert "seed=7" in document["arguments"]
    run = json.loads(next(command.folder.glob("mlruns/artifacts/*/artifacts/run.json")).read_text())
    assert run["provenance"]["seed"] == 7
    assert run["provenance"]["python"] == sys.version.split()[0]
    assert run["provenance"]["git_dirty"] is True
    assert {"numpy", "pandas", "numba", "mlflow"} <= run["provenance"]["packages"].keys()
    assert run["config"]["strategy"]["number"] in (0, 1)
    timings = json.loads(command.report("batch_timings.json").read_text())
    assert timings["stages_s"].keys() == {
        *("configuration", "planning", "execution", "recording", "audit", "comparison", "report"),
    }
    assert timings["total_s"] == pytest.approx(sum(timings["stages_s"].values()))
    assert 0 < timings["parallel_efficiency"] <= 1
    assert timings["run_runtime_s"]["min"] <= timings["run_runtime_s"]["max"]


@pytest.mark.slow
def test_a_batch_with_a_constraint_goes_on_after_a_kill(command: Command) -> None:
    constraint = 'constraint="strategy.number % 4 != 1 and strategy.number < 8"'
    grid = ("strategy.number=range(0,20)", "strategy.seconds=0.4", constraint)
    process = command.start(*command.hostile(*grid))
    wait_for(lambda: len(command.calls) >= 3, of=process)
    process.kill()
    command.end(process)
    refused = command.run("resume=latest", "constraint=strategy.number < 8")
    assert refused.returncode == 2, refused.stderr
    assert "constraint (given" in refused.stderr
    done = command.run("resume=latest")
    assert done.returncode == 0, done.stderr
    recorded = command.recorded()
    wanted = {f"run_{number}" for number in (0, 2, 3, 4, 6, 7)}
    finished = recorded.runs[recorded.runs["status"] == "FINISHED"]
    assert set(finished["run_id"]) == wanted
    assert len(finished) == len(wanted)
    assert recorded.handle.tags["n_skipped_cells"] == "14"
    assert "14 of 20 combinations do not satisfy the constraint" in done.stdout
    # What had been written when it was killed was not computed again.
    assert len(command.calls) <= len(wanted) + 2
