import os

import pytest

from backtest_batch.errors import MemoryLimitExceeded, RunTimeout
from backtest_batch.workers.monitor import (
    IDLE_WAIT_SECONDS,
    LIMIT_WAIT_SECONDS,
    Limits,
    ProcessMemory,
)
from backtest_batch.workers.process import how_it_ended


def test_without_limits_nothing_is_broken():
    assert Limits().broken(1e9, ProcessMemory.of(os.getpid())) is None
    assert Limits().exceeded(1e9) is None
    assert Limits().wait_seconds == IDLE_WAIT_SECONDS


def test_a_timeout():
    limits = Limits(timeout_seconds=2.5)
    assert limits.broken(2.5, None) is None
    error = limits.broken(2.6, None)
    assert isinstance(error, RunTimeout)
    assert str(error) == "took longer than timeout_seconds=2.5"
    assert limits.wait_seconds == LIMIT_WAIT_SECONDS


def test_a_memory_limit():
    limits = Limits(memory_limit_mb=1000)
    assert limits.exceeded(1000) is None
    assert str(limits.exceeded(1234.4)) == (
        "its process used 1,234 MiB, more than memory_limit_mb=1000"
    )
    own = ProcessMemory.of(os.getpid())
    assert isinstance(Limits(memory_limit_mb=1).broken(0, own), MemoryLimitExceeded)
    # This process has run other tests, and may hold any number of MiB.
    assert Limits(memory_limit_mb=own.first_mb + 1000).broken(0, own) is None


def test_what_was_asked_for_counts_once_the_time_is_up():
    own = ProcessMemory.of(os.getpid())
    asked = ProcessMemory(own.pid, first_mb=own.first_mb, first_data_mb=own.first_data_mb - 5_000)
    limits = Limits(timeout_seconds=1, memory_limit_mb=own.first_mb + 2_000)
    assert limits.broken(0.5, asked) is None
    assert isinstance(limits.broken(1.5, asked), MemoryLimitExceeded)
    assert isinstance(limits.broken(1.5, own), RunTimeout)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("The exit codes of the workers are {SIGSEGV(-11)}", "was ended by SIGSEGV"),
        (
            "The exit codes of the workers are {SIGKILL(-9)}",
            "was ended by SIGKILL (the system does that when memory runs out)",
        ),
        ("The exit codes of the workers are {EXIT(3)}", "exited with code 3"),
        ("something\nelse", "did not answer: RuntimeError: something"),
        ("", "did not answer: RuntimeError: "),
    ],
)
def test_how_a_worker_ended(told, said):
    assert how_it_ended(RuntimeError(told)) == f"the worker process {said}"
