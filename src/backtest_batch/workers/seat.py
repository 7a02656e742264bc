"""A seat, where one worker computes chunks one after the other, and the work that it does.

What the executor decides (what is tried again, split or given up) is the same wherever runs are
computed; what it needs of a seat is below. :class:`.ProcessSeat` is a process on this machine,
:class:`.ClusterSeat` a share of a cluster.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from backtest_batch.errors import BacktestError
from backtest_batch.records import RunSpec
from backtest_batch.workers.chunks import ChunkReply, ChunkTask


@dataclass
class Work:
    """Runs that wait for a worker, or that one is computing.

    Attributes
    ----------
    runs
        What is computed together.
    attempts
        Attempts of the run so far; counted for a run that is alone.
    alone
        Whether it must not be sent together with others, because it may have ended a process.
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
    """A worker process did not start; the message says why, as far as that is known."""


class Seat(Protocol):
    """What an executor needs of a seat."""

    work: Work | None
    started_ms: int

    def start(self) -> None:
        """Begin to start the worker, without waiting for it."""

    def replace_lost(self) -> None:
        """Begin to start another worker where a seat without work has lost its own."""

    @property
    def idle(self) -> bool:
        """Whether the worker is up and has nothing to do."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes of this seat on this machine, also those that are starting."""

    def prepare(self) -> bool:
        """Make an idle seat ready for work; return whether it is ready.

        Raises
        ------
        StartError
            When the worker did not start; the seat is starting it again.
        ConfigurationError
            When every run would exceed its limits here.
        """

    def give(self, work: Work, task: ChunkTask) -> None:
        """Hand over work."""

    @property
    def waits_for(self) -> "Future[Any] | None":
        """Is done when the worker has started, or has answered."""

    def send_missing_data(self) -> None:
        """Send the data that the worker says it lacks, and the work again."""

    @property
    def answered(self) -> bool:
        """Whether the work has come to an end."""

    def broken(self) -> BacktestError | None:
        """Return the limit that the work is breaking now, or None."""

    def answer(self) -> ChunkReply:
        """Return the answer to the work.

        Raises
        ------
        BacktestError
            When the worker died or exceeded a limit.
        StartError
            When it did not even start; the work was not begun.
        """

    def log_tail(self) -> str:
        """Return what was printed and logged since the work was handed over."""

    def release(self) -> Work:
        """Take the work back."""

    def restart(self) -> None:
        """Replace the worker, whatever it is doing."""

    def kill(self) -> None:
        """End the worker, whatever it is doing."""
