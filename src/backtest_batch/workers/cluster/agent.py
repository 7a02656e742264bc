"""On a worker of a cluster: compute a chunk in a separate process.

The worker of Dask or Ray itself never runs a strategy. It watches the process that does, ends it
when it exceeds a limit, and answers in any case. So a worker is lost only when its machine is, or
when somebody ends it; the run that it was computing is not to blame.
"""

import atexit
import contextlib
import functools
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backtest_batch.core.code import package_fingerprint
from backtest_batch.errors import BacktestBatchError, ConfigurationError
from backtest_batch.workers.chunks import ChunkTask
from backtest_batch.workers.cluster import transfer
from backtest_batch.workers.cluster.transfer import Answer, Request, collect
from backtest_batch.workers.executor import StartError, Work, allow_children
from backtest_batch.workers.process import ProcessSeat, worker_environment
from backtest_batch.workers.start import Guard, WorkerSetup

Fetch = Callable[[str], transfer.PanelCopy | None]
"""Returns the data with a fingerprint, if the backend has it."""

MOST_STARTS = 3
"""Most starts of a process for one chunk."""
IDLE_SECONDS = 60
"""Seconds after which an idle process ends by itself: its command may be gone."""


def compute_request(request: Request, fetch: Fetch | None = None) -> Answer:
    """Compute a chunk, and return an answer whatever happens.

    Parameters
    ----------
    request
        The chunk.
    fetch
        Gets data that is not in the cache of this worker; without it, or if it finds none, the
        answer says which data is missing.
    """
    me = f"{socket.gethostname()}:{os.getpid()}"
    try:
        for fingerprint in request.fingerprints:
            if not transfer.has_data(fingerprint):
                copy = None if fetch is None else fetch(fingerprint)
                if copy is None:
                    return Answer(worker=me, missing=fingerprint)
                transfer.keep(copy)
        with _folders(request) as (task, working_dir, apart):
            answer = CREW.compute(request, task, working_dir)
            if apart and answer.reply is not None:
                rows, files = collect(task)
                answer = replace(answer, rows=rows, files=files)
            return replace(answer, worker=me)
    except (BacktestBatchError, StartError) as error:
        return Answer(worker=me, error=error)
    except OSError as error:
        return Answer(worker=me, error=StartError(f"{me}: {error}"))


def end(token: str) -> None:
    """End every process of a command, whatever it is doing."""
    CREW.end(token)


@contextlib.contextmanager
def _folders(request: Request) -> Iterator[tuple[ChunkTask, str, bool]]:
    """Yield the task with the folder for its results, the working directory, and a flag.

    The flag says whether the results must be sent back.
    """
    task, origin = request.task, request.origin
    shared = origin.shares_files(task.scratch.folder)
    if shared and request.sources.stand_in(Path(origin.working_dir)):
        working_dir = origin.working_dir
    else:
        working_dir = str(request.sources.unpacked())
    if shared:
        yield task, working_dir, False
        return
    folder = Path(tempfile.mkdtemp(prefix="backtest_batch-chunk-"))
    try:
        yield (
            replace(task, scratch=replace(task.scratch, folder=folder, spares=())),
            working_dir,
            True,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Member:
    """One process, with the thread that starts it.

    The system ends a process together with the thread that started it, so that thread must live on.
    """

    token: str
    seat: ProcessSeat
    thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="backtest_batch")
    )

    def compute(self, task: ChunkTask) -> Answer:
        """Compute a chunk."""
        return self.thread.submit(self._compute, task).result()

    def kill(self) -> None:
        """End the process."""
        self.seat.kill()
        self.seat.clear_away()
        self.thread.shutdown(wait=False)

    def _compute(self, task: ChunkTask) -> Answer:
        seat = self.seat
        self._be_ready()
        seat.give(Work(runs=list(task.runs)), task)
        assert seat.future is not None
        while not seat.answered:
            wait([seat.future], timeout=seat.limits.wait_seconds)
            broken = None if seat.answered else seat.broken()
            if broken is not None:
                return self._ended(broken)
        try:
            reply = seat.answer()
        except BacktestBatchError as error:
            return self._ended(error)
        log = seat.log_tail()
        seat.release()
        return Answer(worker="", reply=reply, log=log)

    def _be_ready(self) -> None:
        failed = 0
        if self.seat.pid is None and self.seat.waits_for is None:
            self.seat.start()
        while True:
            self.seat.replace_lost()
            while not self.seat.idle:
                starting: Future[Any] | None = self.seat.waits_for
                if starting is not None:
                    wait([starting], timeout=1)
                self.seat.replace_lost()
            try:
                if self.seat.prepare():
                    return
            except StartError:
                failed += 1
                if failed == MOST_STARTS:
                    raise

    def _ended(self, error: BacktestBatchError) -> Answer:
        log = self.seat.log_tail()
        self.seat.release()
        self.seat.restart()
        return Answer(worker="", error=error, log=log)


@dataclass
class Crew:
    """The processes of this worker: as many as it gets chunks at once."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _idle: list[Member] = field(default_factory=list)
    _busy: list[Member] = field(default_factory=list)
    _ended: set[str] = field(default_factory=set)
    _guard: Guard = field(default_factory=Guard)
    _made: int = 0

    def compute(self, request: Request, task: ChunkTask, working_dir: str) -> Answer:
        """Compute a chunk in a process of this command that works in this folder."""
        member, usable = self._take(request, working_dir), False
        try:
            answer = member.compute(task)
            usable = True
            return answer
        finally:
            with self._lock:
                self._busy.remove(member)
                if usable and request.origin.token not in self._ended:
                    self._idle.append(member)
                else:
                    member.kill()

    def end(self, token: str) -> None:
        """End the processes of a command, and start no further ones."""
        with self._lock:
            self._ended.add(token)
            for member in [*self._idle, *self._busy]:
                if member.token == token:
                    member.kill()
            self._idle = [member for member in self._idle if member.token != token]

    def close(self) -> None:
        """End every process."""
        with self._lock:
            for member in [*self._idle, *self._busy]:
                member.kill()
            self._idle.clear()
            self._guard.close()

    def _take(self, request: Request, working_dir: str) -> Member:
        token = request.origin.token
        with self._lock:
            if token in self._ended:
                raise StartError("the command has ended")
            for member in self._idle:
                if member.token == token and member.seat.setup.working_dir == working_dir:
                    break
            else:
                # It belongs to another command or folder, and would only take memory.
                for other in self._idle:
                    other.kill()
                self._idle.clear()
                member = self._make(request, working_dir)
            if member in self._idle:
                self._idle.remove(member)
            self._busy.append(member)
            return member

    def _make(self, request: Request, working_dir: str) -> Member:
        allow_children()
        self._guard.start()
        self._made += 1
        setup = WorkerSetup(
            parent_pid=os.getpid(),
            working_dir=working_dir,
            log=str(logs() / f"{self._made}.log"),
            checks_code=True,
        )
        seat = ProcessSeat(
            setup=setup,
            environment=worker_environment(request.origin.hash_seed),
            guard=self._guard,
            limits=request.limits,
            idle_seconds=IDLE_SECONDS,
        )
        return Member(token=request.origin.token, seat=seat)


@functools.cache
def logs() -> Path:
    """Return the folder of the logs of this worker's processes."""
    folder = Path(tempfile.mkdtemp(prefix="backtest_batch-worker-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


CREW = Crew()


def probe() -> tuple[str, str]:
    """Return the name of this machine and the fingerprint of its package, on the worker."""
    return socket.gethostname(), package_fingerprint()


def check_probe(answer: object, address: str) -> None:
    """Check the answer of a worker, or the error that came instead.

    Raises
    ------
    ConfigurationError
        When it does not have this package, or another version of it.
    """
    if isinstance(answer, BaseException):
        raise ConfigurationError(
            f"hydra.launcher.address={address}: a worker cannot import this package "
            f"({type(answer).__name__}: {answer}); install backtest-batch there, in the version "
            "that is installed here"
        )
    assert isinstance(answer, tuple)
    host, fingerprint = answer
    if fingerprint != package_fingerprint():
        raise ConfigurationError(
            f"hydra.launcher.address={address}: the worker on {host} has another version of "
            "backtest-batch; install the one that is installed here"
        )
