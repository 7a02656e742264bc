"""One worker process, and what it is doing.

Each worker has a pool of its own. A pool of several workers breaks as a whole when one of them
dies: it cannot say which run did it, and takes the others' work with it.
"""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from joblib.externals.loky import ProcessPoolExecutor

from backtest_batch.batch.chunks import ChunkReply, ChunkTask
from backtest_batch.batch.guard import Guard, kill_group
from backtest_batch.batch.lifeline import WorkerSetup, start_worker
from backtest_batch.batch.monitor import ProcessMemory
from backtest_batch.batch.output import text_since
from backtest_batch.batch.worker import hello, run_chunk
from backtest_batch.records import RunSpec

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
"""n_jobs processes with a thread pool each would ask for more processors than there are."""


@dataclass
class Work:
    """Runs on their way through the workers.

    Attributes
    ----------
    runs
        What is computed together.
    attempts
        Attempts of the run so far; counted for a run that is alone.
    """

    runs: list[RunSpec]
    attempts: int = 0


@dataclass
class Slot:
    """A place for one worker process; the process is replaced when it dies.

    Parameters
    ----------
    setup
        What the process is told when it starts.
    environment
        Environment variables of the process.
    guard
        Ends what is left of the process when this one cannot.
    """

    setup: WorkerSetup
    environment: dict[str, str]
    guard: Guard
    work: Work | None = None
    started: float = 0.0
    started_ms: int = 0
    pid: int | None = None
    memory: ProcessMemory | None = None
    future: "Future[ChunkReply] | None" = None
    _pool: ProcessPoolExecutor | None = field(default=None, init=False)
    _hello: "Future[int] | None" = field(default=None, init=False)
    _log_start: int = field(default=0, init=False)

    def start(self) -> None:
        """Start the process, without waiting for it."""
        self._pool = ProcessPoolExecutor(
            max_workers=1,
            initializer=start_worker,
            initargs=(self.setup,),
            env={**ONE_THREAD, **self.environment},
        )
        self.pid = None
        self._log_start = self._log_size()
        with _interrupts_blocked():
            self._hello = self._pool.submit(hello)

    @property
    def starting(self) -> "Future[int] | None":
        """What is done when the process is up; None when it is."""
        if self._hello is None or self._hello.done():
            return None
        return self._hello

    @property
    def idle(self) -> bool:
        """Whether the process is up and has nothing to do."""
        if self.work is not None:
            return False
        if self._hello is None or (self.pid is not None and not psutil.pid_exists(self.pid)):
            # The pool replaces a process by itself when its memory has grown; ask for its number.
            self.restart()
        return self._hello is not None and self._hello.done()

    def greet(self) -> None:
        """Read the process's number; a process that cannot even start raises here."""
        if self.pid is None and self._hello is not None:
            self.pid = self._hello.result()
            self.memory = ProcessMemory.of(self.pid)
            self.guard.watch(self.pid)

    @property
    def seconds(self) -> float:
        """How long the process has been at its work."""
        return time.monotonic() - self.started

    def give(self, work: Work, task: ChunkTask) -> None:
        """Hand over work."""
        assert self._pool is not None
        self.work, self.started = work, time.monotonic()
        self.started_ms = time.time_ns() // 1_000_000
        self._log_start = self._log_size()
        with _interrupts_blocked():
            self.future = self._pool.submit(run_chunk, task)

    def release(self) -> Work:
        """Take the work back."""
        work, self.work, self.future = self.work, None, None
        assert work is not None
        return work

    def log_tail(self) -> str:
        """Return what the process wrote to its log since it was given its work, or started."""
        return "" if self.setup.log is None else text_since(Path(self.setup.log), self._log_start)

    def restart(self) -> None:
        """Replace the process."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """End the process and what it has started, whatever they are doing."""
        pid, pool = self.pid, self._pool
        self._pool = self._hello = self.pid = self.memory = None
        if pid is not None:
            kill_group(pid)
            _kill_tree(pid)
            self.guard.release(pid)
        if pool is not None:
            pool.shutdown(wait=False, kill_workers=True)

    def _log_size(self) -> int:
        with contextlib.suppress(OSError):
            return 0 if self.setup.log is None else Path(self.setup.log).stat().st_size
        return 0


def _kill_tree(pid: int) -> None:
    """End a process and its children where there are no process groups."""
    if hasattr(os, "killpg"):
        return
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for child in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                child.kill()


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start processes that do not see Ctrl-C until they have decided to ignore it."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not (
        threading.main_thread()
    ):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def make_setup(logs: Path | None, number: int) -> WorkerSetup:
    """Return what the worker of this number is told by this process."""
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
