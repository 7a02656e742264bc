import os

import psutil

from backtest_batch.workers.monitor import (
    STEADY_SAMPLES,
    HostMonitor,
    Limits,
    ProcessMemory,
    available_mb,
    total_mb,
)
from backtest_batch.workers.process import ProcessSeat, join_ended_pools, make_setup
from backtest_batch.workers.start import Guard

SHORT = "memory is short (10 MiB available)"


def judged(monitor, shortage, times=STEADY_SAMPLES):
    said = [monitor.judge(shortage) for _ in range(times)]
    assert said[:-1] == [None] * (times - 1)
    return said[-1]


def test_fewer_workers_while_something_is_short_and_more_again_later():
    monitor = HostMonitor(n_jobs=3, adaptive=True)
    assert judged(monitor, SHORT) == f"{SHORT}: computing with 2 of 3 workers"
    assert judged(monitor, SHORT) == f"{SHORT}: computing with 1 of 3 workers"
    assert judged(monitor, SHORT) is None
    assert monitor.allowed == 1
    assert judged(monitor, None) == "computing with 2 of 3 workers again"
    assert judged(monitor, None) == "computing with 3 of 3 workers again"
    assert judged(monitor, None) is None
    assert monitor.allowed == 3


def test_a_moment_decides_nothing():
    monitor = HostMonitor(n_jobs=2, adaptive=True)
    for _ in range(5):
        assert judged(monitor, SHORT, STEADY_SAMPLES - 1) is None
        assert monitor.judge(None) is None
    assert monitor.allowed == 2


def test_without_adapting_the_user_is_told_once():
    monitor = HostMonitor(n_jobs=2, adaptive=False)
    assert judged(monitor, SHORT) == f"{SHORT}: the batch may take longer than usual"
    assert judged(monitor, SHORT) is None
    assert judged(monitor, None) is None
    assert judged(monitor, SHORT) is not None
    assert monitor.allowed == 2


def test_the_only_worker_stays():
    monitor = HostMonitor(n_jobs=1, adaptive=True)
    assert judged(monitor, SHORT) is not None
    assert monitor.allowed == 1


def test_memory_of_the_host_and_of_a_process():
    assert 0 < available_mb() <= total_mb()
    memory = ProcessMemory.of(os.getpid())
    assert memory.used_mb > 10
    assert memory.wanted_mb >= memory.used_mb
    assert ProcessMemory.of(2**22 + 1).used_mb == 0.0


def test_a_worker_that_is_starting_is_known_to_the_monitor():
    guard = Guard()
    seat = ProcessSeat(
        setup=make_setup(None, 1),
        environment={},
        guard=guard,
        limits=Limits(timeout_seconds=None, memory_limit_mb=None),
    )
    guard.start()
    try:
        seat.start()
        assert seat.pid is None
        (pid,) = seat.pids
        assert psutil.pid_exists(pid)
    finally:
        seat.kill()
        join_ended_pools()
        guard.close()
    assert seat.pids == []
