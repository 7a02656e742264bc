import os
import subprocess
import sys
import time

import psutil
import pytest

from backtest_batch.workers.start import Guard, kill_group

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")

FAMILY = "import subprocess, time; subprocess.Popen(['sleep', '1000']); time.sleep(1000)"


@pytest.fixture
def family():
    """A process that leads a group, with a child in it."""
    leader = subprocess.Popen([sys.executable, "-c", FAMILY], start_new_session=True)
    process = psutil.Process(leader.pid)
    while not process.children():
        time.sleep(0.01)
    members = [process, *process.children()]
    yield members
    kill_group(leader.pid)
    leader.wait()


def is_gone(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(processes):
    deadline = time.monotonic() + 30
    while not all(is_gone(process) for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_group_is_killed_as_a_whole_and_a_second_time_nothing_happens(family):
    kill_group(family[0].pid)
    wait_until_gone(family)
    kill_group(family[0].pid)


def test_what_is_watched_ends_with_the_guard(family):
    guard = Guard()
    guard.start()
    guard.watch(family[0].pid)
    guard.close()
    wait_until_gone(family)
    guard.close()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system has no process descriptors")
def test_single_processes_end_with_the_guard_and_one_that_is_gone_is_no_trouble(family):
    leader, child = family
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    guard = Guard()
    guard.start()
    guard.watch_process(gone.pid)
    guard.watch_process(child.pid)
    guard.close()
    wait_until_gone([child])
    assert not is_gone(leader)


def test_what_was_released_lives_on(family):
    guard = Guard()
    guard.start()
    guard.watch(family[0].pid)
    guard.release(family[0].pid)
    guard.close()
    assert not any(is_gone(process) for process in family)


def test_the_guard_outlives_a_parent_that_is_killed(family, tmp_path):
    script = (
        "import os, signal\n"
        "from backtest_batch.workers.start import Guard\n"
        "guard = Guard()\n"
        "guard.start()\n"
        f"guard.watch({family[0].pid})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    wait_until_gone(family)


def test_a_guard_that_never_started_or_was_killed_harms_nobody(family):
    Guard().watch(family[0].pid)
    Guard().close()
    guard = Guard()
    guard.start()
    guard._process.kill()
    guard._process.wait()
    guard.watch(family[0].pid)
    guard.release(family[0].pid)
    guard.close()
    assert not any(is_gone(process) for process in family)
