"""When a run that failed is tried again."""

import random
from dataclasses import dataclass

from backtest_batch.errors import MemoryLimitExceeded, RunTimeout, WorkerDied

LONGEST_DELAY_SECONDS = 300.0
JITTER = 0.25
"""A pause is lengthened by up to this share, so that runs that failed together part."""

WORKER_FAILURES = frozenset(
    error.__name__ for error in (WorkerDied, RunTimeout, MemoryLimitExceeded)
)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, and after which pauses, a failed run is tried again.

    Attributes
    ----------
    retries
        Attempts after the first.
    delay_seconds
        Pause before the first retry.
    backoff
        Factor from one pause to the next; no pause is longer than five minutes plus jitter.
    worker_failures
        Whether dead workers, timeouts and exceeded memory limits are retried.
    seed
        Seed of the jitter.
    """

    retries: int = 0
    delay_seconds: float = 1.0
    backoff: float = 2.0
    worker_failures: bool = False
    seed: int = 0

    def allows(self, attempts: int, error_type: str, *, permanent: bool) -> bool:
        """Return whether a run that failed on its ``attempts``-th attempt is tried again."""
        if permanent or attempts > self.retries:
            return False
        return self.worker_failures or error_type not in WORKER_FAILURES

    def delay(self, index: int, attempts: int) -> float:
        """Return the pause in seconds after a run's ``attempts``-th failed attempt.

        delay_seconds * backoff ** (attempts - 1), capped, times 1 + jitter; the jitter is drawn
        from the seed, the run and the attempt, so that a batch repeats itself exactly.
        """
        pause = self.delay_seconds * min(self.backoff ** (attempts - 1), 1e9)
        jitter = random.Random(f"{self.seed} {index} {attempts}").uniform(0, JITTER)
        return min(pause, LONGEST_DELAY_SECONDS) * (1 + jitter)
