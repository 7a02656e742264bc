"""A place where chunks are computed one after the other, and the work on its way through them.

What the executor decides (what is tried again, split or given up) is the same wherever runs are
computed; what it asks of a place is below. :mod:`.slot` is a process on this machine,
:mod:`.remote.place` a share of a cluster.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from backtest_batch.batch.chunks import ChunkReply, ChunkTask
from backtest_batch.errors import BacktestError
from backtest_batch.records import RunSpec


@dataclass
class Work:
    """Runs on their way through the workers.

    Attributes
    ----------
    runs
        What is computed together.
    attempts
        Attempts of the run so far; counted for a run that is alone.
    alone
        Whether it may not be sent together with others, because it may have ended a process.
    parts
        What is sent together, and computed one after the other; empty for one chunk.
    """

    runs: list[RunSpec]
    attempts: int = 0
    alone: bool = False
    parts: "tuple[Work, ...]" = ()

    @classmethod
    def together(cls, parts: "Sequence[Work]") -> "Work":
        """Return several chunks as one."""
        return cls(runs=[run for part in parts for run in part.runs], parts=tuple(parts))


class StartError(Exception):
    """A worker process did not start; the message says what is known."""


class Place(Protocol):
    """What an executor asks of a place."""

    work: Work | None
    started_ms: int

    def start(self) -> None:
        """Begin to start what computes, without waiting for it."""

    @property
    def idle(self) -> bool:
        """Whether it is up and has nothing to do."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes on this machine that compute or are starting; none where others do."""

    def prepare(self) -> bool:
        """Make an idle place ready for work; return whether it is.

        Raises
        ------
        StartError
            When what should compute did not start; the place is starting it again.
        ConfigurationError
            When no run can keep to its limits here.
        """

    def give(self, work: Work, task: ChunkTask) -> None:
        """Hand over work."""

    @property
    def waits_for(self) -> "Future[Any] | None":
        """What is done when there is something to see: a start, or an answer."""

    @property
    def answered(self) -> bool:
        """Whether the work has come to an end; also moves it on where it needs that."""

    def broken(self) -> BacktestError | None:
        """Return the limit that the work is breaking now, or None."""

    def answer(self) -> ChunkReply:
        """Return the answer to the work.

        Raises
        ------
        BacktestError
            When what computed died or broke a limit.
        StartError
            When it did not even start; the work was not begun.
        """

    def log_tail(self) -> str:
        """Return what was printed and logged since the work was given."""

    def release(self) -> Work:
        """Take the work back."""

    def restart(self) -> None:
        """Replace what computes, whatever it is doing."""

    def kill(self) -> None:
        """End what computes, whatever it is doing."""
