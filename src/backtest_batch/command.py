"""What a command does around its work: begin and end as fast as Python allows, and in order."""

import atexit
import contextlib
import gc
import os
import sys
import threading
from typing import NoReturn

from backtest_batch import interrupt
from backtest_batch.interrupt import INTERRUPTED
from backtest_batch.streams import open_missing

NEW_OBJECTS = 50_000
"""Objects that come about before the garbage collector looks at the youngest of them."""

_begun = False


def begin() -> None:
    """Take the process over, before anything is imported; again, this does nothing.

    The standard streams are there from now on, and a signal ends the command with its exit code
    and without a traceback. The garbage collector looks less often: modules make hundreds of
    thousands of objects that stay, and to look at them again and again takes a tenth of the time
    of importing MLflow.
    """
    global _begun  # noqa: PLW0603 - a process is taken over once
    if _begun:
        return
    _begun = True
    open_missing()
    interrupt.watch()
    gc.set_threshold(NEW_OBJECTS, 20, 100)


def end_process(code: int) -> NoReturn:
    """End this process with an exit code, without taking its objects apart one by one.

    Python spends more than a second on that when MLflow and pandas are loaded. Whatever has asked
    to be told of the end is told, and output is written. Threads are waited for, but not those of
    a command that was interrupted: all that it waits for is done by then, and a thread that was
    given up may ask a server that has gone away again and again for minutes.
    """
    if _is_watched() or sys.flags.inspect:
        # A debugger or a profiler around this, or a person, wants to go on.
        sys.exit(code)
    if code not in INTERRUPTED:
        _wait_for_threads()
    atexit._run_exitfuncs()  # logging's among them
    for stream in (sys.stdout, sys.stderr):
        # What reads them may have gone.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _wait_for_threads() -> None:
    """Do what the interpreter does first: end pools of threads, and wait for other threads."""
    threading._shutdown()  # type: ignore[attr-defined]


def _is_watched() -> bool:
    if sys.gettrace() is not None or sys.getprofile() is not None:
        return True
    # Where debuggers and profilers register from Python 3.12 on; there are six places.
    monitoring = getattr(sys, "monitoring", None)
    return monitoring is not None and any(monitoring.get_tool(place) for place in range(6))
