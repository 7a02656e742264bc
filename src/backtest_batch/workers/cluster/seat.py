"""A share of a cluster, which computes one chunk at a time, and how its processes are ended."""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from backtest_batch.core.data.cache import open_panel
from backtest_batch.errors import BacktestError, WorkerDied
from backtest_batch.workers.chunks import ChunkReply, ChunkTask
from backtest_batch.workers.cluster.transfer import Answer, PanelCopy, Request, unpack
from backtest_batch.workers.executor import StartError, Work

MOST_DELIVERIES = 5
"""How often data is sent to a worker that still reports it as missing."""


class Cluster(Protocol):
    """The interface of a cluster, which seats use."""

    def open(self, n_seats: int) -> None:
        """Connect to the cluster, or start one with ``n_seats`` workers.

        Raises
        ------
        ConfigurationError
            When it does not answer, or its workers cannot compute for this command.
        """

    def submit(self, request: Request) -> "Future[Answer]":
        """Send a chunk; the backend sends it again when a worker is lost.

        The future raises WorkerDied if that happened too often, ClusterLostError if the cluster is
        gone, and any other error if there was no answer.
        """

    def ship(self, copy: PanelCopy) -> None:
        """Send the data to every worker, once each."""

    def cancel(self, future: "Future[Answer]") -> None:
        """Forget a chunk, and end it if the backend can."""

    def close(self, token: str) -> None:
        """End the processes of the command with this token, and disconnect."""


@dataclass
class ClusterSeat:
    """A share of a cluster.

    Parameters
    ----------
    cluster
        The cluster.
    make_request
        Turns a task into a request.
    log
        The file for what the chunks print and log, or None.
    """

    cluster: Cluster
    make_request: Callable[[ChunkTask], Request]
    log: Path | None
    work: Work | None = None
    started_ms: int = 0
    pids: tuple[int, ...] = ()
    _request: Request | None = field(default=None, init=False)
    _future: "Future[Answer] | None" = field(default=None, init=False)
    _log_tail: str = field(default="", init=False)
    _deliveries: int = field(default=0, init=False)

    def start(self) -> None:
        """Do nothing: the backend starts its workers."""

    def replace_lost(self) -> None:
        """Do nothing: the backend replaces its workers."""

    @property
    def idle(self) -> bool:
        """Whether no chunk is being computed."""
        return self.work is None

    def prepare(self) -> bool:
        """Return True: the worker prepares itself."""
        return True

    def give(self, work: Work, task: ChunkTask) -> None:
        """Send work to the cluster."""
        self.work, self.started_ms = work, time.time_ns() // 1_000_000
        self._log_tail, self._deliveries = "", 0
        self._request = self.make_request(task)
        self._future = self.cluster.submit(self._request)

    @property
    def waits_for(self) -> "Future[Answer] | None":
        """A future that is done when the cluster has answered."""
        return self._future

    def send_missing_data(self) -> None:
        """Send the data that the worker lacks to all workers, and the chunk again."""
        missing = self._missing
        if missing is None or self._request is None:
            return
        self._deliveries += 1
        self.cluster.ship(PanelCopy.of(open_panel(missing)))
        self._future = self.cluster.submit(self._request)

    @property
    def answered(self) -> bool:
        """Whether there is an answer that does not ask for data."""
        return self._future is not None and self._future.done() and self._missing is None

    @property
    def _missing(self) -> str | None:
        """Fingerprint of data that the worker lacks; None if it was sent too often already."""
        if self._future is None or not self._future.done() or self._future.exception() is not None:
            return None
        return None if self._deliveries == MOST_DELIVERIES else self._future.result().missing

    def broken(self) -> BacktestError | None:
        """Return None: the worker watches the limits."""
        return None

    def answer(self) -> ChunkReply:
        """Return the answer, with its rows and files in the folders of this process."""
        assert self._future is not None
        assert self._request is not None
        answer = self._future.result()
        self._log_tail = answer.log
        self._keep_log(answer)
        if answer.missing is not None:
            raise StartError(
                f"the worker {answer.worker} cannot keep the data {answer.missing} that was sent "
                "to it: its cache (BACKTEST_BATCH_CACHE) cannot be written"
            )
        if isinstance(answer.error, WorkerDied):
            raise WorkerDied(f"{answer.error} (on {answer.worker})")
        if answer.error is not None:
            raise answer.error
        reply = unpack(answer, self._request.task)
        self.started_ms = reply.started_ms
        return reply

    def log_tail(self) -> str:
        """Return what the chunk printed and logged, if that came back."""
        return self._log_tail

    def release(self) -> Work:
        """Take the work back."""
        work, self.work, self._future, self._request = self.work, None, None, None
        assert work is not None
        return work

    def restart(self) -> None:
        """Do nothing: the backend replaces what it has lost."""

    def kill(self) -> None:
        """Forget the chunk that is being computed."""
        if self._future is not None:
            self.cluster.cancel(self._future)
            self._future = None

    def _keep_log(self, answer: Answer) -> None:
        if self.log is None or not answer.log:
            return
        try:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"-- {answer.worker}\n{answer.log}")
        except OSError:  # a full disk costs the lines alone
            return


def within(seconds: float, call: Callable[[], object]) -> None:
    """Call a function that may fail or never end, and go on after ``seconds``."""

    def attempt() -> None:
        with contextlib.suppress(Exception):
            call()

    thread = threading.Thread(target=attempt, name="backtest_batch-ending", daemon=True)
    thread.start()
    thread.join(seconds)


def children() -> set[int]:
    """Return the ids of the processes that this one has started."""
    return {item.pid for item in psutil.Process().children()}


def started(named: str, *, besides: set[int]) -> list[psutil.Process]:
    """Return processes that this one has started, with their descendants.

    Parameters
    ----------
    named
        A text in their command lines.
    besides
        The ids of processes that are left out, with their descendants.
    """
    found = []
    for item in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if item.pid not in besides and named in " ".join(item.cmdline()):
                found += [item, *item.children(recursive=True)]
    return found


def end_children(named: str, *, besides: set[int]) -> None:
    """Kill the processes that :func:`started` returns."""
    processes = started(named, besides=besides)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
