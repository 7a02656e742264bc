"""What one run may take."""

from dataclasses import dataclass

from backtest_batch.batch.monitor import rss_mb
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

    def broken(self, seconds: float, pid: int | None) -> BacktestError | None:
        """Return the limit that a process breaks, or None.

        Parameters
        ----------
        seconds
            How long it has been computing. A chunk that takes longer than one run may is split;
            its runs then have the time each.
        pid
            Its number.
        """
        timeout, memory = self.timeout_seconds, self.memory_limit_mb
        if timeout is not None and seconds > timeout:
            return RunTimeout(f"took longer than timeout_seconds={timeout:g}")
        if memory is not None and pid is not None:
            used = rss_mb(pid)
            if used > memory:
                return MemoryLimitExceeded(
                    f"its process used {used:,.0f} MiB, more than memory_limit_mb={memory:g}"
                )
        return None
