"""kill -9 of the command, at any moment: at most the runs that were being computed are lost."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from backtest_batch.errors import SelectionError
from backtest_batch.store.store import StoreNotFoundError
from tests.support.commands import Command, alive, descendants, is_alive, wait_for

N_RUNS = 24
GRID = (f"strategy.number=range(0,{N_RUNS})", "strategy.seconds=0.15")

GONE_SECONDS = 3.0
"""What a worker may live on; the system is asked to end it at once, and a guard helps."""


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill the command alone, and see that its workers follow."""
    workers = descendants(process.pid)
    process.kill()
    process.communicate()
    killed = time.monotonic()
    wait_for(lambda: not alive(workers), seconds=GONE_SECONDS)
    assert time.monotonic() - killed <= GONE_SECONDS


def finished(command: Command) -> set[str]:
    """Return the numbers of the runs that are recorded as finished."""
    try:
        statuses = command.recorded().statuses
    except (SelectionError, StoreNotFoundError, IndexError):  # it does not know the batch yet
        return set()
    return {name.split("_")[1] for name, status in statuses.items() if status == "FINISHED"}


def calls_of(command: Command, number: str) -> int:
    return command.calls.count(f"good {number}")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> bytes:
    """rankings.csv of the batch when nothing disturbs it."""
    command = Command(tmp_path_factory.mktemp("reference"), environment)
    done = command.run(*command.hostile(*GRID))
    assert done.returncode == 0, done.stderr
    return command.report("rankings.csv").read_bytes()


def check_complete(command: Command, reference: bytes) -> None:
    recorded = command.recorded()
    assert recorded.handle.status == "FINISHED"
    assert sorted(recorded.statuses.values()) == ["FINISHED"] * N_RUNS
    assert command.report("rankings.csv").read_bytes() == reference
    assert len(command.batches) == 1
    assert not list(command.report(".").glob(".scratch-*"))


@pytest.mark.slow
def test_killed_seven_times_in_a_row_while_it_computes(command: Command, reference: bytes) -> None:
    process = command.start(*command.hostile(*GRID))
    done: dict[str, int] = {}
    for n_calls in (1, 4, 8, 11, 15, 19, 23):
        wanted = max(n_calls, len(command.calls) + 1)
        wait_for(partial(_has_calls, command, wanted), of=process)
        kill(process)
        assert {number: calls_of(command, number) for number in done} == done
        assert done.keys() <= finished(command)
        done = {number: calls_of(command, number) for number in finished(command)}
        process = command.start("resume=latest")
    ended = command.end(process)
    assert ended.returncode == 0, ended.stderr
    assert {number: calls_of(command, number) for number in done} == done
    check_complete(command, reference)


def _has_calls(command: Command, count: int) -> bool:
    return len(command.calls) >= count


def _store_is_being_made(folder: Path) -> bool:
    return (folder / "mlruns" / ".mlflow.db.lock").exists() and any(
        folder.glob("mlruns/batches/*/batch_config.yaml")
    )


def _batch_has_begun(folder: Path) -> bool:
    return any(folder.glob("mlruns/batches/*/batch_config.yaml"))


def _reports_are_written(folder: Path) -> bool:
    return any(folder.glob("mlruns/batches/*/.scratch-*/reports/*"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", [_batch_has_begun, _store_is_being_made, _reports_are_written])
def test_killed_at_its_beginning_and_at_its_end(
    bare_command: Command, reference: bytes, moment: Callable[[Path], bool]
) -> None:
    command = bare_command
    process = command.start(*command.hostile(*GRID))
    wait_for(lambda: moment(command.folder))
    kill(process)
    done_before = {number: calls_of(command, number) for number in finished(command)}
    done = command.run("resume=latest")
    assert done.returncode == 0, done.stderr
    check_complete(command, reference)
    assert {number: calls_of(command, number) for number in done_before} == done_before


@pytest.mark.slow
def test_no_worker_outlives_the_command_not_even_one_that_holds_the_interpreter(
    command: Command,
) -> None:
    modes = ["hang", "child", "escape"]
    files = [command.folder / name for name in ("child.pid", "escaped.pid")]
    if sys.platform == "linux":
        modes.append("daemon")
        files.append(command.folder / "daemon.pid")
    process = command.start(*command.hostile(f"strategy.mode={','.join(modes)}"))
    wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    wait_for(lambda: len(command.calls) == len(modes))
    kill(process)
    for file in files:
        child = int(file.read_text())
        wait_for(lambda pid=child: not is_alive(pid), seconds=GONE_SECONDS)


FUNCTION = """
import time
import numpy as np
import pandas as pd


def idea(panel, conditions, number=0):
    with open("calls.txt", "a") as file:
        file.write(f"good {number}\\n")
    time.sleep(0.02)
    returns = np.sin(np.arange(panel.n_bars) + number) / 100
    return pd.Series(returns[1:], panel.index[1:])
"""


def of_a_function(command: Command, *arguments: str) -> list[str]:
    (command.folder / "mine.py").write_text(FUNCTION)
    return [
        *command.hostile("strategy._target_=mine.idea", *arguments),
        "tracking.artifacts=full",
    ]


def function_runs(command: Command, n_runs: int, moments: tuple[float, ...]) -> None:
    """Kill a sweep over a function after some shares of its calls, and see what is asked again."""
    grid = f"strategy.number=range(0,{n_runs})"
    process = command.start(*of_a_function(command, grid))
    lost = 0
    for share in moments:
        wanted = max(round(share * n_runs), len(command.calls) + 2)
        wait_for(partial(_has_calls, command, wanted), of=process)
        kill(process)
        lost += 2  # one for each worker
        process = command.start("resume=latest")
    ended = command.end(process)
    assert ended.returncode == 0, ended.stderr
    asked = [calls_of(command, str(number)) for number in range(n_runs)]
    assert all(asked)
    assert sum(asked) <= n_runs + lost, ended.stderr


def check_functions(command: Command, n_runs: int) -> None:
    recorded = command.recorded()
    assert recorded.handle.status == "FINISHED"
    assert sorted(recorded.statuses.values()) == ["FINISHED"] * n_runs
    assert all("equity.parquet" in files for files in recorded.artifacts.values())
    assert not list(command.report(".").glob(".scratch-*"))


def test_of_a_function_only_what_is_being_computed_is_lost(command: Command) -> None:
    function_runs(command, 40, (0.2, 0.6))
    check_functions(command, 40)


@pytest.mark.slow
def test_five_hundred_runs_of_a_function_that_are_killed_five_times(command: Command) -> None:
    function_runs(command, 500, (0.02, 0.25, 0.5, 0.75, 0.98))
    check_functions(command, 500)
    killed = command.report("rankings.csv").read_bytes()
    again = command.run(*of_a_function(command, "strategy.number=range(0,500)"))
    assert again.returncode == 0, again.stderr
    assert command.report("rankings.csv").read_bytes() == killed
