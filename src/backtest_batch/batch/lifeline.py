"""The first thing that a worker process does: tie itself to its parent, and find its log.

Nothing heavy is imported here. Until this has run, a parent that dies leaves the process behind.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

from backtest_batch.batch.guard import MARK
from backtest_batch.interrupt import ENDING


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
        The file that takes what it prints and logs, or None.
    checks_code
        Whether the sources that it finds must be those of the run's fingerprint: on another
        machine they may differ.
    """

    parent_pid: int
    working_dir: str
    log: str | None
    checks_code: bool = False


setup: WorkerSetup | None = None
"""What this process was told; None in any other process."""


def start_worker(told: WorkerSetup) -> None:
    """Prepare this process: it dies with its parent and leaves Ctrl-C to it."""
    global setup  # noqa: PLW0603 - one worker a process
    setup = told
    _carry_mark()
    _die_with(told.parent_pid)
    # loky's own way to start processes is of no use to a strategy that asks for the usual one: its
    # processes would not know it.
    multiprocessing.set_start_method(None, force=True)
    # What a strategy starts belongs to the group of its worker, and is ended with it.
    os.setsid()
    _leave_signals_to_parent()
    redirect(told.log)


def _carry_mark() -> None:
    """Let the guard find what this process will start; see :mod:`.guard`."""
    if sys.platform != "linux":
        return
    import resource

    kind = resource.RLIMIT_RTTIME
    # Where the limit cannot be set, the variable alone tells.
    with contextlib.suppress(OSError, ValueError, KeyError):
        resource.setrlimit(kind, (int(os.environ[MARK]), resource.getrlimit(kind)[1]))


def _leave_signals_to_parent() -> None:
    """Forget what has been sent to the group in which this process was born; see signals again.

    The parent alone decides what happens after Ctrl-C.
    """
    for number in ENDING:
        before = signal.getsignal(number)
        signal.signal(number, signal.SIG_IGN)  # what waits is gone
        if number != signal.SIGINT and before is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, set(ENDING))


def _die_with(parent_pid: int) -> None:
    """Make this process end when its parent does, however that ends."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(0.5)
        _kill_group()

    if os.getppid() != parent_pid:  # it died before the system was asked
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
            # Without a place for the log, output must still not reach the user's pipe.
            target = nowhere
    os.dup2(target, 1)
    os.dup2(target, 2)
    for descriptor in {nowhere, target} - {0, 1, 2}:
        os.close(descriptor)
