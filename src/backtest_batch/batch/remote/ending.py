"""End what an engine has started, also when the engine does not answer any more."""

import contextlib
import threading
from collections.abc import Callable

import psutil


def within(seconds: float, call: Callable[[], object]) -> None:
    """Do something that may fail or never end, and go on after so many seconds."""

    def attempt() -> None:
        with contextlib.suppress(Exception):
            call()

    thread = threading.Thread(target=attempt, name="backtest_batch-ending", daemon=True)
    thread.start()
    thread.join(seconds)


def children() -> set[int]:
    """Return the numbers of the processes that this one has started."""
    return {item.pid for item in psutil.Process().children()}


def started(named: str, *, besides: set[int]) -> list[psutil.Process]:
    """Return processes that this one has started, and all that they have started.

    Parameters
    ----------
    named
        What stands in their command lines.
    besides
        The numbers of some that are left out, and with them what they have started.
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
