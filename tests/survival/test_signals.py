"""Many signals, several at once, to one process or to all, from the first moment to the last."""

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.support.commands import SMALL_MARKET, Command, alive, descendants, wait_for

GRID = ("strategy.number=range(0,8)", "strategy.seconds=0.3")


def group_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Return a command's process and all that it has started."""
    return [psutil.Process(process.pid), *descendants(process.pid)]


def is_a_worker(process: psutil.Process) -> bool:
    try:
        return "popen_loky" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has ended since it was listed
        return False


def ends_in_order(command: Command, process: "subprocess.Popen[str]", *numbers: int) -> None:
    """Send signals to the whole group, and see that the batch ends as if there had been one."""
    processes = group_of(process)
    for number in numbers:
        os.killpg(process.pid, number)
    done = command.end(process)
    assert done.returncode in {128 + number for number in numbers}, done.stderr
    assert "Traceback" not in done.stderr
    assert "resource_tracker" not in done.stderr
    assert "resume=" in done.stderr
    wait_for(lambda: not alive(processes), seconds=4)
    recorded = command.recorded()
    assert recorded.handle.status == "KILLED"
    assert set(recorded.statuses.values()) <= {"FINISHED", "KILLED"}


@pytest.mark.parametrize("module", ["backtest_batch", "backtest_batch.compare"])
def test_a_command_that_has_just_been_started_ends_at_once(bare_command: Command, module) -> None:
    moments = random.Random(module)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process = subprocess.Popen(
            [sys.executable, "-m", module, *(SMALL_MARKET if module == "backtest_batch" else ())],
            cwd=bare_command.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        bare_command.running.append(process)
        # Of what comes before the first line of the package, Python decides.
        wait_for(lambda: psutil.Process(bare_command.running[-1].pid).num_threads() > 1)
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(number)
        done = bare_command.end(process)
        assert done.returncode == 128 + number, done.stderr
        assert done.stderr == f"Interrupted ({number.name}); nothing was run.\n"
    assert list(bare_command.folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGINT,),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGHUP),
        (signal.SIGHUP, signal.SIGTERM, signal.SIGINT),
    ],
)
def test_workers_that_are_starting_see_nothing_of_signals(command: Command, numbers) -> None:
    process = command.start(*command.hostile(*GRID), start_new_session=True)

    wait_for(lambda: any(map(is_a_worker, group_of(process)[1:])), of=process)
    time.sleep(random.Random(len(numbers)).uniform(0, 0.5))
    ends_in_order(command, process, *numbers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGHUP)]
)
def test_two_signals_at_once_are_one(command: Command, numbers) -> None:
    process = command.start(*command.hostile(*GRID), start_new_session=True)
    wait_for(lambda: len(command.calls) >= 3, of=process)
    ends_in_order(command, process, *numbers)


@pytest.mark.slow
def test_ctrl_c_again_and_again_changes_nothing_of_the_end(command: Command) -> None:
    process = command.start(*command.hostile(*GRID))
    wait_for(lambda: len(command.calls) >= 3, of=process)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    done = command.end(process)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    recorded = command.recorded()
    assert recorded.handle.status == "KILLED"
    assert list(recorded.statuses.values()).count("FINISHED") >= 1
    assert command.run("resume=latest").returncode == 0
    assert set(command.recorded().statuses.values()) == {"FINISHED"}


@pytest.mark.slow
def test_after_the_last_line_all_is_done(command: Command) -> None:
    assert command.run(*command.hostile("strategy.number=0,1")).returncode == 0
    moments = random.Random(20)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process = command.start("resume=latest")
        assert process.stdout is not None
        assert any(line.startswith("Reports:") for line in process.stdout)
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(number)
        done = command.end(process)
        assert (done.returncode, done.stderr) == (0, "")


IN_A_PROGRAM = """
import os, pathlib, signal, threading, time
from backtest_batch import run_sweep
from hostile import Hostile

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

def press():
    while len(pathlib.Path("calls.txt").read_text().splitlines()) < 3:
        time.sleep(0.02)
    for number in ENDING:
        os.kill(os.getpid(), number)

pathlib.Path("calls.txt").touch()
signal.signal(signal.SIGTERM, lambda number, frame: print("my own"))
before = [signal.getsignal(number) for number in ENDING]
threading.Thread(target=press).start()
try:
    run_sweep({"strategy.number": list(range(12))}, strategy=Hostile, data="synthetic", n_jobs=2,
              **{"data.n_assets": 3, "data.n_bars": 260, "strategy.seconds": 0.3})
except KeyboardInterrupt as error:
    print("interrupted,", error)
print([signal.getsignal(number) for number in ENDING] == before)
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
def test_a_program_gets_one_keyboard_interrupt_and_its_handlers_back(command: Command) -> None:
    command.hostile()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_PROGRAM],
        cwd=command.folder,
        env=command.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    command.running.append(process)
    done = command.end(process)
    batch_id = command.batches[-1].name
    assert done.stdout.splitlines() == [
        f"interrupted, to go on: run_sweep(resume='{batch_id}')",
        "True",
        "my own",
    ]
    assert "Traceback" not in done.stderr
    assert command.recorded().handle.status == "KILLED"


@pytest.mark.parametrize(
    "streams",
    [
        ">&- 2>&- <&-",
        pytest.param("2>&-", marks=pytest.mark.slow),
        pytest.param(">/dev/full 2>&1", marks=pytest.mark.slow),
        pytest.param("| head -c 1", marks=pytest.mark.slow),
    ],
)
def test_streams_that_take_nothing_cost_nothing_else(command: Command, streams: str) -> None:
    arguments = " ".join(command.hostile("strategy.number=0,1"))
    done = subprocess.run(
        f"{sys.executable} -m backtest_batch {arguments} {streams}; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=command.folder,
        env=command.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert command.recorded().statuses == {"run_0": "FINISHED", "run_1": "FINISHED"}
    assert command.report("rankings.csv").exists()
