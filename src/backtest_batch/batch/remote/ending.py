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


def descendants(*, besides: set[int]) -> list[int]:
    """Return the numbers of the processes that this one and they have started, but for some."""
    found = []
    for item in psutil.Process().children():
        if item.pid not in besides:
            found.append(item.pid)
            with contextlib.suppress(psutil.Error):
                found += [child.pid for child in item.children(recursive=True)]
    return found


def end_children(named: str, *, besides: set[int]) -> None:
    """Kill processes that this one has started, and all that they have started.

    Parameters
    ----------
    named
        What stands in their command lines.
    besides
        The numbers of some that are spared.
    """
    started = []
    for item in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if item.pid not in besides and named in " ".join(item.cmdline()):
                started += [item, *item.children(recursive=True)]
    for item in started:
        with contextlib.suppress(psutil.Error):
            item.kill()
    psutil.wait_procs(started, timeout=5)
