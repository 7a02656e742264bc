"""Ctrl-C, SIGTERM and a closed terminal, whatever the batch is doing when they come."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.commands import Command, alive, descendants, wait_for

GRID = ("strategy.number=range(0,12)", "strategy.seconds=0.3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_batch_is_recorded_and_can_go_on(
    command: Command, number: signal.Signals, code: int
) -> None:
    process = command.start(*command.hostile(*GRID))
    wait_for(lambda: len(command.calls) >= 5)
    workers = descendants(process.pid)
    assert len(workers) >= 2
    process.send_signal(number)
    done = command.end(process)
    assert done.returncode == code, done.stderr
    # The parent has waited for them; what the system still has to clear away takes no second.
    wait_for(lambda: not alive(workers), seconds=3)
    batch_id = command.batches[-1].name
    assert f"To go on: python -m backtest_batch resume={batch_id}" in done.stderr
    assert "Traceback" not in done.stderr
    recorded = command.recorded()
    assert recorded.handle.status == "KILLED"
    finished = [name for name, status in recorded.statuses.items() if status == "FINISHED"]
    assert len(finished) >= 3
    assert set(recorded.statuses.values()) == {"FINISHED", "KILLED"}
    assert f"{len(finished)} of 12 runs are recorded" in done.stderr

    again = command.run(f"resume={batch_id}")
    assert again.returncode == 0, again.stderr
    recorded = command.recorded()
    assert recorded.handle.status == "FINISHED"
    assert set(recorded.statuses.values()) == {"FINISHED"}
    assert len(recorded.statuses) == 12
    for name in finished:
        assert command.calls.count(f"good {name.removeprefix('run_').split('_')[0]}") == 1


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_reaches_the_whole_group_and_harms_nobody(command: Command) -> None:
    process = command.start(*command.hostile(*GRID), start_new_session=True)
    wait_for(lambda: len(command.calls) >= 3)
    os.killpg(process.pid, signal.SIGINT)
    done = command.end(process)
    assert done.returncode == 130, done.stderr
    assert set(command.recorded().statuses.values()) == {"FINISHED", "KILLED"}


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_the_batch_in_order(command: Command) -> None:
    ours, theirs = os.openpty()
    process = command.start(
        *command.hostile(*GRID),
        start_new_session=True,
        terminal=theirs,
        first="fcntl.ioctl(0, termios.TIOCSCTTY, 0)",
    )
    os.close(theirs)
    wait_for(lambda: len(command.calls) >= 5)
    workers = descendants(process.pid)
    os.close(ours)
    assert process.wait(timeout=60) == 129
    wait_for(lambda: not alive(workers), seconds=3)
    recorded = command.recorded()
    assert recorded.handle.status == "KILLED"
    assert set(recorded.statuses.values()) == {"FINISHED", "KILLED"}
    again = command.run("resume=latest")
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_under_nohup_a_closed_terminal_changes_nothing(command: Command) -> None:
    arguments = command.hostile("strategy.number=range(0,4)", "strategy.seconds=0.3")
    process = command.start(*arguments, first="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    wait_for(lambda: len(command.calls) >= 1)
    process.send_signal(signal.SIGHUP)
    done = command.end(process)
    assert done.returncode == 0, done.stderr
    assert set(command.recorded().statuses.values()) == {"FINISHED"}


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(command: Command) -> None:
    process = command.start(*command.hostile("strategy.mode=good,hang"))
    wait_for(lambda: len(command.calls) == 2)
    workers = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    done = command.end(process)
    assert done.returncode == 130, done.stderr
    assert "resume=" in done.stderr
    assert "Traceback" not in done.stderr
    wait_for(lambda: not alive(workers), seconds=3)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_while_planning_leaves_nothing(
    command: Command, number: signal.Signals, code: int
) -> None:
    arguments = command.hostile("strategy.mode=good")
    module = command.folder / "hostile.py"
    slow = "import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(30)\n"
    module.write_text(slow + module.read_text())
    process = command.start(*arguments)
    wait_for((command.folder / "importing").exists)
    process.send_signal(number)
    done = command.end(process)
    assert done.returncode == code, done.stderr
    assert "nothing was run" in done.stderr
    assert "Traceback" not in done.stderr
    assert command.batches == []


@pytest.mark.slow
def test_an_interrupt_while_the_store_is_made(bare_command: Command) -> None:
    process = bare_command.start(*bare_command.hostile("strategy.number=range(0,4)"))
    wait_for((bare_command.folder / "mlruns" / ".mlflow.db.lock").exists)
    process.send_signal(signal.SIGINT)
    done = bare_command.end(process)
    assert done.returncode == 130, done.stderr
    again = bare_command.run("resume=latest")
    assert again.returncode == 0, again.stderr
    assert list(bare_command.recorded().statuses.values()) == ["FINISHED"] * 4


@pytest.mark.slow
def test_an_interrupt_while_reports_are_written(command: Command) -> None:
    process = command.start(*command.hostile("strategy.number=range(0,4)"))

    def reporting() -> bool:
        return any(command.folder.glob("mlruns/batches/*/.scratch-*/reports/*"))

    wait_for(reporting)
    process.send_signal(signal.SIGINT)
    done = command.end(process)
    # Once the parent run is being ended, the batch counts as complete.
    assert done.returncode in (0, 130), done.stderr
    if done.returncode == 130:
        assert command.recorded().handle.status == "KILLED"
        assert command.run("resume=latest").returncode == 0
    assert command.recorded().handle.status == "FINISHED"
    assert command.report("rankings.csv").exists()
    assert len(command.calls) == 4


@pytest.mark.slow
def test_output_that_nobody_reads_ends_nothing_before_its_time(command: Command) -> None:
    process = subprocess.Popen(
        f"{sys.executable} -m backtest_batch "
        + " ".join(command.hostile("strategy.number=0,1"))
        + " | true; exit ${PIPESTATUS[0]}",
        shell=True,
        executable="/bin/bash",
        cwd=command.folder,
        env=command.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert command.recorded().handle.status == "FINISHED"
