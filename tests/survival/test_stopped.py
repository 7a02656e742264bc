"""A command, or a worker, that somebody stops and lets go on (Ctrl-Z and fg, a debugger)."""

import os
import signal
import sys
import time

import pytest

from tests.support.commands import Command, descendants, wait_for

LIMIT = 4
STOP_SECONDS = 5

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stops workers by their number")


def stop_for_a_while(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STOP_SECONDS)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def worker_of(pid: int) -> int:
    """Return the process that leads the group in which the command's runs are computed."""
    return next(
        item.pid
        for item in descendants(pid)
        if item.pid == os.getpgid(item.pid) and "loky" in " ".join(item.cmdline())
    )


@pytest.mark.slow
def test_time_during_which_nothing_ran_is_no_time_of_a_run(command: Command) -> None:
    arguments = command.hostile("strategy.number=0,1,2", "strategy.seconds=2", "n_jobs=1")
    process = command.start(*arguments, f"timeout_seconds={LIMIT}")
    wait_for(lambda: len(command.calls) == 1, of=process)
    worker = worker_of(process.pid)
    stop_for_a_while(process.pid, worker)
    wait_for(lambda: len(command.calls) == 2, of=process)
    stop_for_a_while(worker)
    wait_for(lambda: len(command.calls) == 3, of=process)
    stop_for_a_while(process.pid)
    done = command.end(process)
    assert done.returncode == 0, done.stderr
    assert set(command.recorded().statuses.values()) == {"FINISHED"}


@pytest.mark.slow
def test_a_run_that_hangs_is_ended_also_when_the_command_was_stopped(command: Command) -> None:
    process = command.start(*command.hostile("strategy.mode=sleep"), f"timeout_seconds={LIMIT}")
    wait_for(lambda: len(command.calls) == 1, of=process)
    stop_for_a_while(process.pid)
    done = command.end(process)
    assert done.returncode == 1, done.stderr
    assert command.recorded().tag("error_type") == {"run_base": "RunTimeout"}
