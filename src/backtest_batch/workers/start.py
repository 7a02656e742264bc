"""How a worker process begins: tied to its parent, with its own log, and a guard.

The system ends a worker when its parent dies, but not the processes that a strategy has started
inside the worker. Each worker therefore leads a process group, and a guard kills the groups that it
knows as soon as its standard input ends: however the parent dies, its end of the pipe closes.
Processes that have left their group, session and parent are found by a mark, if the system shows it
(Linux). The guard also ends single processes, such as those of a cluster on this machine.

The mark is a number that processes inherit and have no reason to change: a limit on the time of
processes with real-time priority, set to more than thousands of years, and an environment variable,
for systems on which that limit cannot be set.

Nothing heavy is imported here: until this has run, a dying parent leaves the process behind.
"""

import contextlib
import ctypes
import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backtest_batch.interrupt import ENDING, signals_blocked
from backtest_batch.streams import LOG_FORMAT, PrintableFormatter, forgiving

MARK = "BACKTEST_BATCH_WORKER"
"""The environment variable with a worker's mark."""
MOST_MARKS = 1 << 20
"""Most processes that one guard can tell apart."""

GUARD = """
import os, signal, sys, time

first, last, variable = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()

def read(number, name):
    with open(f"/proc/{number}/{name}", "rb") as file:
        return file.read()

def marks(number):
    for line in read(number, "limits").splitlines():
        if line.startswith(b"Max realtime timeout"):
            yield line.split()[3]
    for item in read(number, "environ").split(bytes(1)):
        name, _, value = item.partition(b"=")
        if name == variable:
            yield value

def is_meant(number, low, high):
    try:
        found = any(mark.isdigit() and low <= int(mark) <= high for mark in marks(number))
        return found and read(number, "stat").rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False

def end_marked(low, high):
    if not os.path.isdir("/proc/self"):
        return
    for _ in range(20):
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        meant = [number for number in numbers if is_meant(number, low, high)]
        if not meant:
            return
        for number in meant:
            try:
                os.kill(number, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.05)  # one may have been starting another

groups, processes = set(), []
for line in sys.stdin:
    sign, number = line[0], int(line[1:])
    if sign == "+":
        groups.add(number)
    elif sign == "-":
        groups.discard(number)
    elif sign == "!":
        end_marked(number, number)
    else:
        try:
            processes.append(os.pidfd_open(number))
        except (AttributeError, OSError):
            pass
for process in processes:
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        pass
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
end_marked(first, last)
"""


@dataclass
class Guard:
    """Keeps the list of the processes of a batch's workers."""

    _first: int = field(
        # Beyond any limit that people set.
        default_factory=lambda: (1 << 62) + int.from_bytes(os.urandom(5)) * MOST_MARKS,
        init=False,
    )
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)
    _process: "subprocess.Popen[str] | None" = field(default=None, init=False)

    def new_mark(self) -> int:
        """Return a number that marks a worker and the processes that it starts."""
        return self._first + next(self._numbers) % MOST_MARKS

    def start(self) -> None:
        """Start the process, once."""
        if self._process is None:
            known = (self._first, self._first + MOST_MARKS - 1)
            # -I and -S: no code of the user's is imported, and it starts in milliseconds. It never
            # sees a signal: it ends when there is nothing left to guard.
            with signals_blocked():
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", GUARD, *map(str, known), MARK],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    start_new_session=True,
                )

    def watch(self, group: int) -> None:
        """Add a worker's group."""
        self._tell(f"+{group}\n")

    def watch_process(self, pid: int) -> None:
        """Add one process, if the system can tell it from a later one with its number (Linux)."""
        self._tell(f"={pid}\n")

    def release(self, group: int) -> None:
        """Forget a group whose worker is gone; its number may be reused."""
        self._tell(f"-{group}\n")

    def end_marked(self, mark: int) -> None:
        """End, soon, the processes that a dead worker left behind."""
        self._tell(f"!{mark}\n")

    def close(self) -> None:
        """End the guard, and the remaining processes on its list."""
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # If somebody killed the guard, only orphans stay behind.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()


def kill_group(group: int) -> None:
    """Kill every process of a group that a worker led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a process needs to know before its first chunk.

    Attributes
    ----------
    parent_pid
        The process that must outlive it.
    working_dir
        The folder in which strategies run.
    log
        The file for what it prints and logs, or None.
    checks_code
        Whether to compare the sources with the run's code fingerprint: on another machine they may
        differ.
    """

    parent_pid: int
    working_dir: str
    log: str | None
    checks_code: bool = False


worker_setup: WorkerSetup | None = None
"""The setup from the parent; None in a process that is not a worker."""


def start_worker(told: WorkerSetup) -> None:
    """Prepare this process: it dies with its parent, which handles Ctrl-C."""
    global worker_setup  # noqa: PLW0603 - one worker per process
    worker_setup = told
    _carry_mark()
    _die_with(told.parent_pid)
    # A strategy that wants the default way to start processes must not get loky's: its processes
    # would not know it.
    multiprocessing.set_start_method(None, force=True)
    # Processes of a strategy belong to the group of its worker, and end with it.
    os.setsid()
    _leave_signals_to_parent()
    redirect(told.log)


def _carry_mark() -> None:
    """Let the guard find the processes that this one will start; see :class:`.Guard`."""
    if sys.platform != "linux":
        return
    import resource

    kind = resource.RLIMIT_RTTIME
    # If the limit cannot be set, only the variable marks them.
    with contextlib.suppress(OSError, ValueError, KeyError):
        resource.setrlimit(kind, (int(os.environ[MARK]), resource.getrlimit(kind)[1]))


def _leave_signals_to_parent() -> None:
    """Drop the signals sent to the group in which this process began; then accept new ones.

    Only the parent decides what happens after Ctrl-C.
    """
    for number in ENDING:
        before = signal.getsignal(number)
        signal.signal(number, signal.SIG_IGN)  # drops the pending signals
        if number != signal.SIGINT and before is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, set(ENDING))


def _die_with(parent_pid: int) -> None:
    """Make this process end when its parent does, for whatever reason."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(0.5)
        _kill_group()

    if os.getppid() != parent_pid:  # it died before the request to the system
        os._exit(1)
    # Other systems have no such signal.
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _kill_group() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def redirect(log: str | None) -> None:
    """Keep standard input and output away from the user's terminal and pipes."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    target = nowhere
    if log is not None:
        try:
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError:
            # Even if the log cannot be written, output must not reach the user's pipe.
            target = nowhere
    os.dup2(target, 1)
    os.dup2(target, 2)
    for descriptor in {nowhere, target} - {0, 1, 2}:
        os.close(descriptor)


LONGEST_LOG = 100_000
"""Most characters of a run's log.txt; of a longer log it has the end."""


class _ToStderr(logging.Handler):
    """Writes to the current standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"{self.format(record)}\n")


_handler = _ToStderr()
_handler.setFormatter(PrintableFormatter(LOG_FORMAT))


def restore() -> None:
    """Restore the standard streams, the working directory and the logging of a new process.

    A strategy may have closed or changed any of them, which must not affect the next run.
    """
    setup = worker_setup
    if setup is None:
        return
    os.chdir(setup.working_dir)
    if setup.working_dir not in sys.path:
        sys.path.insert(0, setup.working_dir)
    redirect(setup.log)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    # A full disk costs lines, not the run that printed them.
    sys.stdout, _ = forgiving(1)
    sys.stderr, _ = forgiving(2)
    root = logging.getLogger()
    if _handler not in root.handlers:
        root.addHandler(_handler)
        root.setLevel(logging.INFO)
        logging.getLogger("numba").setLevel(logging.WARNING)


def position() -> int:
    """Return the position at which the log of this process ends."""
    path = _path()
    with contextlib.suppress(OSError):
        return 0 if path is None else path.stat().st_size
    return 0


def since(start: int) -> str:
    """Return what this process has printed and logged since a position."""
    for stream in (sys.stdout, sys.stderr):
        # Perhaps the strategy closed it.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    path = _path()
    return "" if path is None else text_since(path, start)


def text_since(path: Path, start: int) -> str:
    """Return the end of a log file from a position on, at most its last 100,000 bytes."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - LONGEST_LOG))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _path() -> Path | None:
    setup = worker_setup
    return None if setup is None or setup.log is None else Path(setup.log)
