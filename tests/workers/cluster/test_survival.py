"""What dies on a cluster costs what it must and nothing else."""

import os
import signal

import pytest

from tests.support.commands import Command, alive, descendants, wait_for

pytestmark = pytest.mark.slow

BACKENDS = pytest.mark.parametrize("backend", ["dask", "ray"])

# Every call leaves a line: what is computed, in which process, on which worker of the engine.
PATIENT = r"""
import ctypes, os, signal, time
import numpy as np


class Patient:
    def __init__(self, mode: str = "good", number: int = 0, seconds: float = 0.0):
        self.mode, self.number, self.seconds = mode, number, seconds

    def target_weights(self, panel, decisions):
        with open("calls.txt", "a") as file:
            file.write(f"{self.mode} {self.number} {os.getpid()} {os.getppid()}\n")
        time.sleep(self.seconds)
        getattr(self, self.mode)()
        weight = (1 + self.number % 7) / 10
        return np.full((len(decisions), panel.n_assets), weight / panel.n_assets)

    def good(self): pass
    def error(self): raise ValueError("broken on purpose")
    def leave(self): os._exit(3)
    def sleep(self): time.sleep(100_000)
    def hang(self): ctypes.PyDLL(None).sleep(100_000)
    def murder(self):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(100_000)
"""


def sweep(command: Command, backend: str, *arguments: str) -> tuple[str, ...]:
    (command.folder / "patient.py").write_text(PATIENT)
    market = ("data=synthetic", "data.n_assets=3", "data.n_bars=260")
    target = ("strategy=custom", "strategy._target_=patient.Patient")
    # An audit would ask again.
    usual = ("n_jobs=2", "audit.enabled=false", f"hydra.launcher.backend={backend}")
    return ("-m", *market, *usual, *target, *arguments)


def workers(command: Command) -> set[int]:
    """Return the engine's workers that have computed something."""
    return {int(line.split()[3]) for line in command.calls}


def numbers(command: Command) -> list[str]:
    return [line.split()[1] for line in command.calls]


@BACKENDS
def test_a_worker_that_is_killed_costs_its_chunk_alone(command, needs, backend):
    needs(backend)
    arguments = sweep(command, backend, "strategy.number=range(0,12)", "strategy.seconds=0.5")
    process = command.start(*arguments)
    wait_for(lambda: len(command.calls) >= 4, of=process)
    victim = int(command.calls[-1].split()[3])
    os.kill(victim, signal.SIGKILL)
    done = command.end(process)
    assert done.returncode == 0, done.stderr
    recorded = command.recorded()
    assert list(recorded.statuses.values()) == ["FINISHED"] * 12
    assert set(recorded.tag("attempts").values()) == {"1"}
    # What the victim was computing ran again elsewhere, and nothing else did.
    assert set(numbers(command)) == {str(number) for number in range(12)}
    assert 12 <= len(command.calls) <= 13
    assert len(workers(command)) >= 2


@BACKENDS
def test_each_way_to_fail_has_its_name_and_spares_the_others(command, needs, backend):
    needs(backend)
    modes = {
        "error": ("ValueError", "broken on purpose"),
        "leave": ("WorkerDied", "the worker process exited with code 3"),
        "sleep": ("RunTimeout", "took longer than timeout_seconds=3"),
        "hang": ("RunTimeout", "took longer than timeout_seconds=3"),
        "murder": ("WorkerDied", "every worker of the cluster that computed it died"),
    }
    arguments = sweep(command, backend, f"strategy.mode=good,{','.join(modes)}")
    done = command.run(*arguments, "timeout_seconds=3")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    recorded = command.recorded()
    finished = {name for name, status in recorded.statuses.items() if status == "FINISHED"}
    assert finished == {"run_good"}
    types, messages = recorded.tag("error_type"), recorded.tag("error_message")
    for mode, (error_type, message) in modes.items():
        assert types[f"run_{mode}"] == error_type
        assert messages[f"run_{mode}"].startswith(message)
    assert set(recorded.tag("attempts").values()) == {"1"}
    assert {"traceback.txt", "log.txt"} <= set(recorded.artifacts["run_error"])


@BACKENDS
def test_ctrl_c_ends_everything_and_the_batch_goes_on_elsewhere(command, needs, backend):
    needs(backend)
    grid = ("strategy.number=range(0,8)", "strategy.seconds=1")
    process = command.start(*sweep(command, backend, *grid), start_new_session=True)
    wait_for(lambda: len(command.calls) >= 4, of=process)
    started = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    done = command.end(process)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    wait_for(lambda: not alive(started), seconds=30)
    recorded = command.recorded()
    assert recorded.handle.status == "KILLED"
    finished = [name for name, status in recorded.statuses.items() if status == "FINISHED"]
    assert finished
    again = command.run("resume=latest", "hydra.launcher.backend=loky")
    assert again.returncode == 0, again.stderr
    assert list(command.recorded().statuses.values()) == ["FINISHED"] * 8
    for name in finished:
        assert numbers(command).count(name.split("_")[1]) == 1


@BACKENDS
def test_nothing_outlives_a_command_that_is_killed(command, needs, backend):
    needs(backend)
    process = command.start(*sweep(command, backend, "strategy.mode=sleep,hang"))
    wait_for(lambda: len(command.calls) >= 2, of=process)
    started = descendants(process.pid)
    assert len(started) >= 4
    process.kill()
    process.communicate()
    wait_for(lambda: not alive(started), seconds=60)
