"""What one run may take."""

from dataclasses import dataclass

from backtest_batch.batch.monitor import ProcessMemory
from backtest_batch.errors import BacktestError, MemoryLimitExceeded, RunTimeout

IDLE_WAIT_SECONDS = 0.5
LIMIT_WAIT_SECONDS = 0.05
"""How often workers are looked at; more often while a time or memory limit is to be kept."""


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
        """Return the limit that a process breaks, or None.

        Parameters
        ----------
        seconds
            How long it has been computing. A chunk that takes longer than one run may is split;
            its runs then have the time each.
        memory
            Its memory, when it is known.
        """
        if self.memory_limit_mb is not None and memory is not None:
            exceeded = self.exceeded(memory.used_mb)
            if exceeded is not None:
                return exceeded
        timeout = self.timeout_seconds
        if timeout is None or seconds <= timeout:
            return None
        if memory is not None:
            # Where the system is slow to hand out memory, that is what took so long.
            exceeded = self.exceeded(memory.wanted_mb)
            if exceeded is not None:
                return exceeded
        return RunTimeout(f"took longer than timeout_seconds={timeout:g}")

    def exceeded(self, used_mb: float) -> MemoryLimitExceeded | None:
        """Return the error when a process uses more memory than it may, or None."""
        if self.memory_limit_mb is None or used_mb <= self.memory_limit_mb:
            return None
        return MemoryLimitExceeded(
            f"its process used {used_mb:,.0f} MiB, more than "
            f"memory_limit_mb={self.memory_limit_mb:g}"
        )
