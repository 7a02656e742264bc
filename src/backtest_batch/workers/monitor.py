"""Watch the host and each worker while a batch runs: memory, processors, time and limits.

Ctrl-Z, SIGSTOP, a frozen container and a closed laptop stop a command, with its workers or without
them. The time that passes meanwhile is not counted: a run is not to be blamed for that.
"""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from backtest_batch.errors import BacktestError, MemoryLimitExceeded, RunTimeout

SAMPLE_SECONDS = 1.0
LOW_MEMORY_SHARE = 0.05
"""Memory is short when less than this share of the host's memory is available."""
BUSY_SHARE = 0.75
"""Processors are short when others use more than this share of them."""
STEADY_SAMPLES = 5
"""Number of equal samples in a row that decide, so that a short peak changes nothing."""

MEBIBYTE = 1024 * 1024

_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_GROUP_USE = Path("/sys/fs/cgroup/memory.current")


@dataclass
class HostMonitor:
    """Says how many workers may compute at once.

    Parameters
    ----------
    n_jobs
        Number of workers that the user allows.
    adaptive
        Whether to run fewer while the host is short of memory or processors.
    """

    n_jobs: int
    adaptive: bool
    allowed: int = field(init=False)
    _last: float = field(default=0.0, init=False)
    _short: int = field(default=0, init=False)
    _ample: int = field(default=0, init=False)
    _warned: bool = field(default=False, init=False)
    _times: tuple[float, float, float] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.allowed = self.n_jobs

    def sample(self, worker_pids: Sequence[int]) -> str | None:
        """Sample the host, at most once a second; return a note for the user, or None.

        Parameters
        ----------
        worker_pids
            The workers, including those that are still starting: importing and compiling keep a
            processor busy for seconds, and must not count as the work of others.
        """
        now = time.monotonic()
        if now - self._last < SAMPLE_SECONDS:
            return None
        self._last = now
        return self.judge(self._shortage(worker_pids))

    def judge(self, shortage: str | None) -> str | None:
        """Take one sample into account, and return a note for the user, or None.

        Parameters
        ----------
        shortage
            What is short, in words; None when nothing is.
        """
        self._short = self._short + 1 if shortage else 0
        self._ample = 0 if shortage else self._ample + 1
        if self._short >= STEADY_SAMPLES:
            self._short = 0
            return self._fewer(shortage or "")
        if self._ample >= STEADY_SAMPLES:
            self._ample = 0
            return self._more()
        return None

    def _fewer(self, shortage: str) -> str | None:
        if self.adaptive and self.allowed > 1:
            self.allowed -= 1
            self._warned = True
            return f"{shortage}: computing with {self.allowed} of {self.n_jobs} workers"
        if self._warned:
            return None
        self._warned = True
        return f"{shortage}: the batch may take longer than usual"

    def _more(self) -> str | None:
        self._warned = False
        if self.allowed == self.n_jobs:
            return None
        self.allowed += 1
        return f"computing with {self.allowed} of {self.n_jobs} workers again"

    def _shortage(self, worker_pids: Sequence[int]) -> str | None:
        available, total = available_mb(), total_mb()
        others = self._others_share(worker_pids)
        if available < LOW_MEMORY_SHARE * total:
            return f"memory is short ({available:,.0f} MiB available)"
        if others is not None and others > BUSY_SHARE:
            return f"other processes use {others:.0%} of the processors"
        return None

    def _others_share(self, worker_pids: Sequence[int]) -> float | None:
        """Return the share of the host's processor time that others used since the last call."""
        host = psutil.cpu_times()
        busy = sum(host) - host.idle - getattr(host, "iowait", 0.0)
        # user time includes guest time
        busy -= getattr(host, "guest", 0.0) + getattr(host, "guest_nice", 0.0)
        own = sum(_cpu_seconds(pid) for pid in [os.getpid(), *worker_pids])
        previous, self._times = self._times, (time.monotonic(), busy, own)
        if previous is None or own < previous[2]:
            # The seconds of a replaced worker are gone.
            return None
        elapsed = self._times[0] - previous[0]
        used, mine = busy - previous[1], own - previous[2]
        available = elapsed * (psutil.cpu_count() or 1)
        return max(0.0, used - mine) / available if available > 0 else None


@dataclass(frozen=True)
class ProcessMemory:
    """The memory of one process.

    Attributes
    ----------
    pid
        Its number.
    first_mb
        Resident memory at the first look, in MiB.
    first_data_mb
        Memory that it had requested by then, in MiB.
    """

    pid: int
    first_mb: float
    first_data_mb: float

    @classmethod
    def of(cls, pid: int) -> "ProcessMemory":
        """Measure a process for the first time."""
        resident, data = _memory_mb(pid)
        return cls(pid=pid, first_mb=resident, first_data_mb=data)

    @property
    def used_mb(self) -> float:
        """Resident memory in MiB; 0 when the process is gone."""
        return _memory_mb(self.pid)[0]

    @property
    def wanted_mb(self) -> float:
        """Resident memory if it had got all that it has requested since, in MiB."""
        resident, data = _memory_mb(self.pid)
        return max(resident, self.first_mb + data - self.first_data_mb)


def _memory_mb(pid: int) -> tuple[float, float]:
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0.0, 0.0
    # Only Linux tells how much a process has requested.
    return memory.rss / MEBIBYTE, getattr(memory, "data", 0) / MEBIBYTE


def available_mb() -> float:
    """Return the memory in MiB that is left for this process, in a container within its limit."""
    available = float(psutil.virtual_memory().available)
    limit, used = _number(_GROUP_LIMIT), _number(_GROUP_USE)
    if limit is not None and used is not None:
        available = min(available, max(0.0, limit - used))
    return available / MEBIBYTE


def total_mb() -> float:
    """Return the memory in MiB of the host, or the container's limit."""
    total = float(psutil.virtual_memory().total)
    limit = _number(_GROUP_LIMIT)
    return (total if limit is None else min(total, limit)) / MEBIBYTE


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # not Linux, no container, or "max" for no limit
        return None


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    # Ended processes that a strategy started count for its worker.
    children = times.children_user + times.children_system if hasattr(times, "children_user") else 0
    return float(times.user + times.system + children)


IDLE_WAIT_SECONDS = 0.5
LIMIT_WAIT_SECONDS = 0.05
"""Seconds between checks of workers; fewer while there is a limit on time or memory."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run may take.

    Attributes
    ----------
    timeout_seconds
        Wall seconds, or None.
    memory_limit_mb
        Resident memory of its process in MiB, or None.
    """

    timeout_seconds: float | None = None
    memory_limit_mb: float | None = None

    @property
    def wait_seconds(self) -> float:
        """How long to wait before looking again."""
        watched = self.timeout_seconds is not None or self.memory_limit_mb is not None
        return LIMIT_WAIT_SECONDS if watched else IDLE_WAIT_SECONDS

    def broken(self, seconds: float, memory: ProcessMemory | None) -> BacktestError | None:
        """Return the limit that a process exceeds, or None.

        Parameters
        ----------
        seconds
            How long it has been computing. A chunk that takes longer than a single run may take is
            split; each run then has this time for itself.
        memory
            Its memory, if that is known.
        """
        if self.memory_limit_mb is not None and memory is not None:
            exceeded = self.exceeded(memory.used_mb)
            if exceeded is not None:
                return exceeded
        timeout = self.timeout_seconds
        if timeout is None or seconds <= timeout:
            return None
        if memory is not None:
            # If the system is slow to hand out memory, that took the time.
            exceeded = self.exceeded(memory.wanted_mb)
            if exceeded is not None:
                return exceeded
        return RunTimeout(f"took longer than timeout_seconds={timeout:g}")

    def exceeded(self, used_mb: float) -> MemoryLimitExceeded | None:
        """Return the error if a process uses more memory than allowed, or None."""
        if self.memory_limit_mb is None or used_mb <= self.memory_limit_mb:
            return None
        return MemoryLimitExceeded(
            f"its process used {used_mb:,.0f} MiB, more than "
            f"memory_limit_mb={self.memory_limit_mb:g}"
        )


TICK_SECONDS = 0.1
LONGEST_TICK_SECONDS = 0.5
"""A longer tick does not count: the process stood still, or the thread would have run."""


class RunningTime:
    """Seconds during which this process runs; its thread starts at the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._last = time.monotonic()
        self._thread: threading.Thread | None = None

    def seconds(self) -> float:
        """Return the seconds so far."""
        with self._lock:
            if self._thread is None:
                self._last = time.monotonic()
                self._thread = threading.Thread(
                    target=self._run, name="backtest_batch-clock", daemon=True
                )
                self._thread.start()
            self._tick()
            return self._seconds

    def _run(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            with self._lock:
                self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        passed, self._last = now - self._last, now
        self._seconds += passed if passed <= LONGEST_TICK_SECONDS else TICK_SECONDS


clock = RunningTime()
