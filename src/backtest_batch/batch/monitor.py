"""Watch the memory and the processors of the host while a batch runs."""

import time
from dataclasses import dataclass, field

import psutil

SAMPLE_SECONDS = 1.0
LOW_MEMORY_SHARE = 0.05
"""Memory is short when less than this share of the host's is available."""
BUSY_SHARE = 0.75
"""Processors are short when others use more than this share of them."""
STEADY_SAMPLES = 5
"""How many samples in a row decide, so that a moment's peak changes nothing."""

MEBIBYTE = 1024 * 1024


@dataclass
class HostMonitor:
    """Says how many workers may compute at once.

    Parameters
    ----------
    n_jobs
        Number of workers that the user allows.
    adaptive
        Whether fewer run while the host is short of memory or processors.
    """

    n_jobs: int
    adaptive: bool
    allowed: int = field(init=False)
    _last: float = field(default=0.0, init=False)
    _short: int = field(default=0, init=False)
    _ample: int = field(default=0, init=False)
    _times: tuple[float, float, float] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.allowed = self.n_jobs

    def sample(self, worker_pids: list[int]) -> str | None:
        """Look at the host, at most once a second; return what the user should know, or None."""
        now = time.monotonic()
        if not self.adaptive or now - self._last < SAMPLE_SECONDS:
            return None
        self._last = now
        reason = self._shortage(worker_pids)
        self._short = self._short + 1 if reason else 0
        self._ample = 0 if reason else self._ample + 1
        if self._short >= STEADY_SAMPLES and self.allowed > 1:
            self._short = 0
            self.allowed -= 1
            return f"{reason}: computing with {self.allowed} of {self.n_jobs} workers"
        if self._ample >= STEADY_SAMPLES and self.allowed < self.n_jobs:
            self._ample = 0
            self.allowed += 1
            return f"computing with {self.allowed} of {self.n_jobs} workers again"
        return None

    def _shortage(self, worker_pids: list[int]) -> str | None:
        memory = psutil.virtual_memory()
        if memory.available < LOW_MEMORY_SHARE * memory.total:
            return f"memory is short ({memory.available / MEBIBYTE:,.0f} MiB available)"
        others = self._others_share(worker_pids)
        if others is not None and others > BUSY_SHARE:
            return f"other processes use {others:.0%} of the processors"
        return None

    def _others_share(self, worker_pids: list[int]) -> float | None:
        """Return the share of the host's processor time that others used since the last call."""
        host = psutil.cpu_times()
        busy = sum(host) - host.idle - getattr(host, "iowait", 0.0)
        # guest time is part of user time already
        busy -= getattr(host, "guest", 0.0) + getattr(host, "guest_nice", 0.0)
        own = sum(_cpu_seconds(pid) for pid in [psutil.Process().pid, *worker_pids])
        previous, self._times = self._times, (time.monotonic(), busy, own)
        if previous is None:
            return None
        elapsed = self._times[0] - previous[0]
        used, mine = busy - previous[1], max(0.0, own - previous[2])
        available = elapsed * (psutil.cpu_count() or 1)
        return max(0.0, used - mine) / available if available > 0 else None


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process in MiB; 0 when it is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / MEBIBYTE
    except psutil.Error:
        return 0.0


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
