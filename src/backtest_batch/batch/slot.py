"""One worker process, and what it is doing.

Each worker has a pool of its own. A pool of several workers breaks as a whole when one of them
dies: it cannot say which run did it, and takes the others' work with it.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import psutil
from joblib.externals.loky import ProcessPoolExecutor

from backtest_batch.batch.chunks import ChunkReply, ChunkTask
from backtest_batch.batch.monitor import rss_mb
from backtest_batch.batch.worker import WorkerSetup, hello, run_chunk, start_worker
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
    not_before
        Monotonic time before which a retry does not start.
    """

    runs: list[RunSpec]
    attempts: int = 0
    not_before: float = 0.0


@dataclass
class Slot:
    """A place for one worker process; the process is replaced when it dies.

    Parameters
    ----------
    setup
        What the process is told when it starts.
    environment
        Environment variables of the process.
    """

    setup: WorkerSetup
    environment: dict[str, str]
    work: Work | None = None
    started: float = 0.0
    started_ms: int = 0
    pid: int | None = None
    first_rss_mb: float = 0.0
    _pool: ProcessPoolExecutor | None = None
    _hello: "Future[int] | None" = None
    future: "Future[ChunkReply] | None" = None
    log_start: int = 0

    def start(self) -> None:
        """Start the process, without waiting for it."""
        self._pool = ProcessPoolExecutor(
            max_workers=1,
            initializer=start_worker,
            initargs=(self.setup,),
            env={**ONE_THREAD, **self.environment},
        )
        self.pid = None
        with _interrupts_blocked():
            self._hello = self._pool.submit(hello)

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
            self.first_rss_mb = rss_mb(self.pid)

    def give(self, work: Work, task: ChunkTask) -> None:
        """Hand over work."""
        assert self._pool is not None
        self.work, self.started = work, time.monotonic()
        self.started_ms = time.time_ns() // 1_000_000
        self.log_start = self._log_size()
        with _interrupts_blocked():
            self.future = self._pool.submit(run_chunk, task)

    def release(self) -> Work:
        """Take the work back."""
        work, self.work, self.future = self.work, None, None
        assert work is not None
        return work

    def log_tail(self) -> str:
        """Return what the process wrote to its log since it was given its work."""
        path = self._log_path()
        if path is None:
            return ""
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.seek(self.log_start)
            return file.read().decode(errors="replace")
        return ""

    def restart(self) -> None:
        """Replace the process."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """End the process and its children, whatever they are doing."""
        if self.pid is not None:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(self.pid)
                for child in [*process.children(recursive=True), process]:
                    with contextlib.suppress(psutil.Error):
                        child.kill()
        if self._pool is not None:
            self._pool.shutdown(wait=False, kill_workers=True)
        self._pool = self._hello = self.pid = None

    def _log_path(self) -> Path | None:
        if self.setup.log_folder is None or self.pid is None:
            return None
        return Path(self.setup.log_folder) / f"worker-{self.pid}.log"

    def _log_size(self) -> int:
        path = self._log_path()
        with contextlib.suppress(OSError):
            return 0 if path is None else path.stat().st_size
        return 0


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


def make_setup(log_folder: Path | None) -> WorkerSetup:
    """Return what a worker of this process is told."""
    return WorkerSetup(
        parent_pid=os.getpid(),
        working_dir=os.getcwd(),  # noqa: PTH109 - plain text travels
        log_folder=None if log_folder is None else str(log_folder),
    )
