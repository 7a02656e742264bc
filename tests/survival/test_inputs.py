"""A strategy that reads files of its own: a run is done only while these are the same."""

import json

import pytest

from tests.support.commands import Command

READERS = """
import functools, os, signal
import numpy as np


@functools.lru_cache
def weight():
    with open("weight.txt") as file:
        return float(file.read())


class Reader:
    def __init__(self, number: int = 0):
        self.number = number

    def target_weights(self, panel, decisions):
        with open("calls.txt", "a") as file:
            file.write(f"read {self.number}\\n")
        if self.number == 1:
            with open("of the second.txt") as file:
                file.read()
        if self.number == 2:
            os.system("true")
        if self.number == 3 and not os.path.exists("seen"):
            open("seen", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full((len(decisions), panel.n_assets), weight() / panel.n_assets)
"""


@pytest.mark.slow
def test_runs_are_done_while_what_they_have_read_is_the_same(command: Command) -> None:
    (command.folder / "weight.txt").write_text("0.5")
    (command.folder / "of the second.txt").write_text("x")
    arguments = [*command.hostile("strategy._target_=readers.Reader"), "n_jobs=1"]
    (command.folder / "readers.py").write_text(READERS)
    first = command.run(*arguments, "strategy.number=0,1", "commission_bps=0,1")
    assert first.returncode == 0, first.stderr
    assert sorted(command.calls) == ["read 0", "read 1"]
    recorded = command.recorded()
    read = {name: set(json.loads(text)) for name, text in recorded.tag("strategy_inputs").items()}
    assert read["run_1_0.0"] == {"weight.txt", "of the second.txt"}
    assert all("weight.txt" in files for files in read.values())
    same = command.run("resume=latest")
    assert same.returncode == 0, same.stderr
    assert len(command.calls) == 2
    (command.folder / "weight.txt").write_text("0.25")
    again = command.run("resume=latest")
    assert again.returncode == 0, again.stderr
    assert "4 finished runs of an earlier attempt do not count as done" in again.stdout
    assert "(weight.txt has changed)" in again.stdout
    assert len(command.calls) == 4
    assert len(command.recorded().runs) == 4


@pytest.mark.slow
def test_a_run_whose_inputs_cannot_be_recorded_is_never_done(command: Command) -> None:
    (command.folder / "weight.txt").write_text("0.5")
    arguments = [*command.hostile("strategy._target_=readers.Reader"), "n_jobs=1"]
    (command.folder / "readers.py").write_text(READERS)
    first = command.run(*arguments, "strategy.number=0,2,3")
    assert first.returncode == 1, first.stderr
    assert first.stderr.count("cannot be recorded (it started another process (os.system))") == 1
    assert command.recorded().tag("inputs_unknown").keys() == {"run_2"}
    again = command.run("resume=latest")
    assert again.returncode == 0, again.stderr
    assert command.calls.count("read 0") == 1
    assert command.calls.count("read 2") == 2
    assert "1 finished runs of an earlier attempt do not count as done" in again.stdout
