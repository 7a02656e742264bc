"""What a run changes of its process is set back, or is known not to be."""

import gc
import logging
import os
import signal
import subprocess
import sys

import pytest

from backtest_batch.workers.inside import ProcessState


def test_what_can_be_set_again_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "old")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = ProcessState.of_this_process()
    monkeypatch.setenv("KEPT", "new")
    monkeypatch.setenv("ADDED", "x")
    monkeypatch.delenv("PATH")
    os.umask(0o777)
    sys.path[:] = ["added"]
    sys.setrecursionlimit(before.recursion_limit - 100)
    handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.alarm(3_600)
    gc.disable()
    logging.disable(logging.CRITICAL)
    assert before.restore()
    assert signal.alarm(0) == 0
    assert signal.getsignal(signal.SIGUSR1) == handler
    # What was added may belong to a module that is not imported again.
    assert os.environ["ADDED"] == "x"
    assert sys.path == [*before.path, "added"]
    monkeypatch.delenv("ADDED")
    sys.path.remove("added")
    assert ProcessState.of_this_process() == before


LOWERED = """
import resource
from backtest_batch.workers.inside import ProcessState
before = ProcessState.of_this_process()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(before.restore())
print(ProcessState.of_this_process().restore())
"""


def test_a_limit_that_was_lowered_is_told() -> None:
    pytest.importorskip("resource")
    # In a process of its own: nobody but a superuser could raise the limit again.
    done = subprocess.run([sys.executable, "-c", LOWERED], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr
