"""kill -9 of a search, at any moment: what it asks, and its rankings, stay the same."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from tests.support.commands import SMALL_MARKET, Command, wait_for

N_TRIALS = 40
SEARCH = (
    *("-m", *SMALL_MARKET, "n_jobs=2", "adaptive_workers=false", "strategy=custom"),
    *("strategy._target_=paced.Paced", "strategy.number=interval(1,500)", "commission_bps=0,5"),
    *("strategy.part=interval(0.1,1.0)", "search=tpe", f"search.n_trials={N_TRIALS}"),
    # Both would ask the strategies again.
    *("audit.enabled=false", "permutation_test.n=0"),
)

PACED = """
import time
import numpy as np


class Paced:
    def __init__(self, number: int = 0, part: float = 1.0):
        self.number, self.part = number, part

    def target_weights(self, panel, decisions):
        with open("calls.txt", "a") as file:
            file.write(f"{self.number}\\n")
        time.sleep(0.05)
        weights = np.full((len(decisions), panel.n_assets), self.part / panel.n_assets)
        weights[self.number % 7 :: 7] = 0.0
        return weights
"""


def begin(command: Command, *arguments: str):
    (command.folder / "paced.py").write_text(PACED)
    return command.start(*(arguments or SEARCH))


def trials_of(command: Command) -> list[tuple[str, str, str]]:
    frame = command.recorded().runs
    done = frame[frame["status"] == "FINISHED"]
    columns = ["run_id", "tags.trial", "tags.search_round"]
    return sorted(done[columns].itertuples(index=False, name=None))


def has_calls(command: Command, count: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return len((command.folder / "calls.txt").read_text().splitlines()) >= count
    return False


def kill(process) -> None:
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]):
    """Rankings and trials of the search when nothing disturbs it."""
    command = Command(tmp_path_factory.mktemp("reference"), environment)
    ended = command.end(begin(command))
    assert ended.returncode == 0, ended.stderr
    assert len(trials_of(command)) == 2 * N_TRIALS
    return command.report("rankings.csv").read_bytes(), trials_of(command)


def check_same(command: Command, reference) -> None:
    rankings, trials = reference
    assert command.report("rankings.csv").read_bytes() == rankings
    assert trials_of(command) == trials
    returns = pd.read_parquet(command.report("returns.parquet"))
    assert returns.shape[1] == 2 + 2 * N_TRIALS
    assert returns.iloc[-1].notna().all()
    assert not list(command.report(".").glob(".scratch-*"))


def test_killed_in_the_middle_a_search_goes_on_as_if_it_had_not_been(
    command: Command, reference
) -> None:
    process = begin(command)
    wait_for(partial(has_calls, command, 19), of=process)
    kill(process)
    ended = command.run("resume=latest", "n_jobs=1")
    assert ended.returncode == 0, ended.stderr
    check_same(command, reference)
    # Computed again was at most what the two workers had in hand.
    assert not has_calls(command, N_TRIALS + 3)
    again = command.run("resume=latest")
    assert "is complete" in again.stdout


@pytest.mark.slow
def test_killed_in_the_middle_a_nested_search_goes_on_as_if_it_had_not_been(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    nested = ("walk_forward=rolling", "start_date=2000-02-01", "data.n_bars=1500")
    ended = []
    for name, n_calls in (("whole", None), ("killed", 25)):
        command = Command(tmp_path / name, environment)
        command.folder.mkdir()
        process = begin(command, *SEARCH, *nested)
        if n_calls is not None:
            wait_for(partial(has_calls, command, n_calls), of=process)
            kill(process)
            process = command.start("resume=latest", "n_jobs=1")
        done = command.end(process)
        assert done.returncode == 0, done.stderr
        names = ("rankings.csv", "walk_forward_summary.csv")
        ended.append(([command.report(file).read_bytes() for file in names], trials_of(command)))
    assert ended[0] == ended[1]


@pytest.mark.slow
def test_killed_ten_times_in_a_row_a_search_asks_the_same(command: Command, reference) -> None:
    process = begin(command)
    for number in range(10):
        wait_for(partial(has_calls, command, 1 + 4 * number), of=process)
        kill(process)
        process = command.start("resume=latest")
    ended = command.end(process)
    assert ended.returncode == 0, ended.stderr
    check_same(command, reference)


def reports_are_written(folder: Path) -> bool:
    return any(folder.glob("mlruns/batches/*/.scratch-*/reports/*"))


def has_begun(folder: Path) -> bool:
    return any(folder.glob("mlruns/batches/*/batch_config.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", [has_begun, reports_are_written])
def test_killed_at_its_beginning_and_at_its_end_a_search_asks_the_same(
    bare_command: Command, reference, moment: Callable[[Path], bool]
) -> None:
    process = begin(bare_command)
    wait_for(lambda: moment(bare_command.folder), of=process)
    kill(process)
    ended = bare_command.run("resume=latest")
    assert ended.returncode == 0, ended.stderr
    check_same(bare_command, reference)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 4])
def test_the_number_of_workers_changes_nothing(command: Command, reference, n_jobs: int) -> None:
    (command.folder / "paced.py").write_text(PACED)
    arguments = [item for item in SEARCH if not item.startswith("n_jobs")]
    ended = command.run(*arguments, f"n_jobs={n_jobs}")
    assert ended.returncode == 0, ended.stderr
    check_same(command, reference)
