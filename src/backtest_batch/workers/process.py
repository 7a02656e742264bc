"""A seat with one worker process on this machine: started, watched, ended, replaced.

Each worker has its own pool. A pool of several workers breaks as a whole when one of them dies: it
cannot say which run was to blame, and loses the work of the others.

Workers start with a fixed, recorded hash seed. Otherwise Python draws one for each process, and a
strategy that iterates over a set of symbols would give another result in each.
"""

import contextlib
import multiprocessing.resource_tracker
import os
import re
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend import resource_tracker as loky_tracker

from backtest_batch.core.kernel_cache import VARIABLE as KERNELS
from backtest_batch.core.kernel_cache import kernel_folder
from backtest_batch.errors import BacktestError, ConfigurationError, WorkerDied
from backtest_batch.interrupt import signals_blocked
from backtest_batch.workers.chunks import ChunkReply, ChunkTask
from backtest_batch.workers.executor import StartError, Work
from backtest_batch.workers.inside import prepare_process, run_chunk
from backtest_batch.workers.monitor import Limits, ProcessMemory, clock
from backtest_batch.workers.start import (
    MARK,
    Guard,
    WorkerSetup,
    kill_group,
    start_worker,
    text_since,
)

HASH_SEED = "PYTHONHASHSEED"
FIXED = "0"


def hash_seed() -> str:
    """Return the hash seed of workers: the user's own (also ``random``), else 0."""
    if sys.flags.ignore_environment:  # python -E, -I: the same for workers
        return "random"
    return os.environ.get(HASH_SEED) or FIXED


ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)
"""n_jobs processes with a thread pool each would need more processors than there are."""

LONGEST_STOP_SECONDS = 60.0
"""Seconds that a process may be stopped, by SIGSTOP or a debugger, before they count as time of its
run: a run that stops its own process must not last for ever."""

LONGEST_POOL_END_SECONDS = 5.0
"""Within this time the pool notices that its process has died, unless it waits for the rest of an
answer."""


@dataclass
class ProcessSeat:
    """A seat for one worker process; the process is replaced when it dies.

    Parameters
    ----------
    setup
        Settings for the start of the process.
    environment
        Environment variables of the process.
    guard
        Ends the processes that a worker leaves behind, even when this process cannot.
    limits
        What a run may take.
    idle_seconds
        Seconds after which an idle process ends; None: never.
    """

    setup: WorkerSetup
    environment: dict[str, str]
    guard: Guard
    limits: Limits
    idle_seconds: int | None = None
    work: Work | None = None
    started: float = 0.0
    started_ms: int = 0
    pid: int | None = None
    memory: ProcessMemory | None = None
    future: "Future[ChunkReply] | None" = None
    _pool: ProcessPoolExecutor | None = field(default=None, init=False)
    _ready: "Future[int] | None" = field(default=None, init=False)
    """A future with the process's number, done when it is up."""
    _log_start: int = field(default=0, init=False)
    _mark: int = field(default=0, init=False)
    _spent: bool = field(default=False, init=False)
    _gone_since: float | None = field(default=None, init=False)
    _looked: float = field(default=0.0, init=False)
    _stood_still: float = field(default=0.0, init=False)

    def start(self) -> None:
        """Start the process, without waiting for it."""
        self._mark = self.guard.new_mark()
        self.pid, self._spent, self._gone_since = None, False, None
        self._log_start = self._log_size()
        _start_trackers()
        with signals_blocked():
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                timeout=self.idle_seconds,
                initializer=start_worker,
                initargs=(self.setup,),
                env={**ONE_THREAD, **self.environment, MARK: str(self._mark)},
            )
            self._ready = self._pool.submit(prepare_process)

    def replace_lost(self) -> None:
        """Begin to start another process if the idle one is spent, or gone."""
        if self.work is not None:
            return
        # The pool itself replaces a process whose memory has grown; a new pool knows the number of
        # its process.
        gone = self.pid is not None and not psutil.pid_exists(self.pid)
        if self._ready is None or self._spent or gone:
            self.restart()

    @property
    def idle(self) -> bool:
        """Whether the process is up and has nothing to do."""
        return self.work is None and self._ready is not None and self._ready.done()

    @property
    def pids(self) -> list[int]:
        """The process, even while it is starting."""
        return list(getattr(self._pool, "_processes", None) or ())

    def prepare(self) -> bool:
        """Read the process's number, and check that its memory leaves room for a run."""
        try:
            self._read_pid()
        except Exception as error:
            ended, tail = how_it_ended(error), self.log_tail()[-2_000:]
            self.restart()
            raise StartError(f"{ended}\n{tail}".rstrip()) from error
        limit, memory = self.limits.memory_limit_mb, self.memory
        if limit is None or memory is None:
            return True
        if memory.first_mb >= limit:
            raise ConfigurationError(
                f"memory_limit_mb={limit:g}: a worker needs {memory.first_mb:,.0f} MiB before "
                "its first run, so that every run would fail"
            )
        if memory.used_mb <= memory.first_mb + (limit - memory.first_mb) / 2:
            return True
        # It still has so much memory that the next run would suffer.
        self.restart()
        return False

    def _read_pid(self) -> None:
        if self.pid is None and self._ready is not None:
            self.pid = self._ready.result()
            self.memory = ProcessMemory.of(self.pid)
            self.guard.watch(self.pid)

    def send_missing_data(self) -> None:
        """Do nothing: the process reads data in the cache of this machine."""

    def give(self, work: Work, task: ChunkTask) -> None:
        """Hand over work."""
        assert self._pool is not None
        self.work = work
        if self.limits.timeout_seconds is not None:
            self.started = self._looked = clock.seconds()
            self._stood_still = 0.0
        self.started_ms = time.time_ns() // 1_000_000
        self._log_start = self._log_size()
        with signals_blocked():
            self.future = self._pool.submit(run_chunk, task)

    @property
    def waits_for(self) -> "Future[ChunkReply] | Future[int] | None":
        """A future that is done when the process is up, or has answered."""
        if self.work is not None:
            return self.future
        return None if self._ready is None or self._ready.done() else self._ready

    @property
    def answered(self) -> bool:
        """Whether the process has answered, or is gone."""
        return self.future is not None and self.future.done()

    def broken(self) -> BacktestError | None:
        """Return the limit that the process exceeds now, or None."""
        if self._is_lost():
            return WorkerDied("the worker process ended while it answered")
        seconds = 0.0 if self.limits.timeout_seconds is None else self._seconds()
        return self.limits.broken(seconds, self.memory)

    def _seconds(self) -> float:
        """Return how long the process has computed, except while it, or this one, was stopped."""
        now = clock.seconds()
        passed, self._looked = now - self._looked, now
        if any(_stands_still(pid) for pid in self.pids):
            self._stood_still = min(self._stood_still + passed, LONGEST_STOP_SECONDS)
        return now - self.started - self._stood_still

    def answer(self) -> ChunkReply:
        """Return the answer; raise if the process died, or used too much memory."""
        assert self.future is not None
        try:
            reply = self.future.result()
        except Exception as error:
            # The process is gone, or its answer cannot be read.
            raise WorkerDied(how_it_ended(error)) from error
        peak = max((result.peak_rss_mb for result in reply.results), default=0.0)
        exceeded = self.limits.exceeded(peak)
        if exceeded is not None:
            raise exceeded
        self._spent = reply.spent
        return reply

    def _is_lost(self) -> bool:
        """Return whether the process has died without the pool noticing.

        A pool that has read the first part of an answer waits for the rest, even when the process
        that should send it dies.
        """
        pids = self.pids
        if not pids or any(_runs(pid) for pid in pids):
            self._gone_since = None
            return False
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        return now - self._gone_since > LONGEST_POOL_END_SECONDS

    def release(self) -> Work:
        """Take the work back."""
        work, self.work, self.future = self.work, None, None
        assert work is not None
        return work

    def log_tail(self) -> str:
        """Return what the process has logged since it got its work, or started."""
        return "" if self.setup.log is None else text_since(Path(self.setup.log), self._log_start)

    def restart(self) -> None:
        """Replace the process."""
        self.kill()
        self.clear_away()
        self.start()

    def clear_away(self) -> None:
        """End the processes that a dead worker left behind."""
        if self._mark:
            self.guard.end_marked(self._mark)

    def kill(self) -> None:
        """End the process and its children, whatever they are doing."""
        pid, pool = self.pid, self._pool
        self._pool = self._ready = self.pid = self.memory = None
        if pid is not None:
            started = _descendants(pid)
            kill_group(pid)
            _kill(started)
            self.guard.release(pid)
        if pool is not None:
            _ending.append(_Ending.of(pool))
            pool.shutdown(wait=False, kill_workers=True)

    def _log_size(self) -> int:
        with contextlib.suppress(OSError):
            return 0 if self.setup.log is None else Path(self.setup.log).stat().st_size
        return 0


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _stands_still(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def _descendants(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants, including those that have left its group."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    return []


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


@dataclass(frozen=True)
class _Ending:
    """The remains of a pool that was told to end.

    Attributes
    ----------
    thread
        Its thread, which the interpreter joins before it exits.
    answers
        This process's end of the pipe through which the workers answered.
    """

    thread: threading.Thread | None
    answers: Any

    @classmethod
    def of(cls, pool: ProcessPoolExecutor) -> "_Ending":
        """Read them from a pool before it is told to end."""
        return cls(
            thread=getattr(pool, "_executor_manager_thread", None),
            answers=getattr(getattr(pool, "_result_queue", None), "_writer", None),
        )


_ending: list[_Ending] = []


def join_ended_pools() -> None:
    """Wait until the pools that were told to end have ended.

    One that waits for the rest of an answer would wait for ever, since this process has an end of
    the pipe, too, and its thread would keep the interpreter from exiting.
    """
    deadline = time.monotonic() + LONGEST_POOL_END_SECONDS
    while _ending:
        last = _ending.pop()
        if last.thread is None:
            continue
        last.thread.join(max(0.0, deadline - time.monotonic()))
        if last.thread.is_alive() and last.answers is not None:
            with contextlib.suppress(OSError):
                last.answers.close()


def worker_environment(seed: str) -> dict[str, str]:
    """Return the variables with which workers start.

    Parameters
    ----------
    seed
        Their hash seed.
    """
    return {KERNELS: str(kernel_folder()), HASH_SEED: seed}


def _start_trackers() -> None:
    """Start the processes that clean up after pools, before any pool does.

    Python unblocks signals once it has started its own, so that they would reach the worker that is
    started next. Neither of the two processes ignores the end of a terminal.
    """
    with signals_blocked():
        multiprocessing.resource_tracker.ensure_running()
    with signals_blocked():
        loky_tracker.ensure_running()


def make_setup(logs: Path | None, number: int) -> WorkerSetup:
    """Return the setup of the worker with this number."""
    return WorkerSetup(
        parent_pid=os.getpid(),
        working_dir=os.getcwd(),  # noqa: PTH109 - plain text travels
        log=None if logs is None else str(logs / f"worker-{number}.log"),
    )


def how_it_ended(error: BaseException) -> str:
    """Say in one sentence how a worker ended."""
    found = re.search(r"exit codes? of the workers? (?:are|is) \{([A-Z]+)\((-?\d+)\)", str(error))
    if found is None:
        first_line = (str(error).strip().splitlines() or [""])[0]
        return f"the worker process did not answer: {type(error).__name__}: {first_line}"
    name, code = found[1], int(found[2])
    if code >= 0:
        return f"the worker process exited with code {code}"
    hint = " (the system does that when memory runs out)" if name == "SIGKILL" else ""
    return f"the worker process was ended by {name}{hint}"
