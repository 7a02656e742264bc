"""Begin and end a command: as fast as Python allows, and in order."""

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
"""New objects before the garbage collector examines the youngest."""

_begun = False


def begin() -> None:
    """Set up the process of a command, before anything is imported; a second call does nothing.

    From now on the standard streams exist, and a signal ends the command with its exit code and
    without a traceback. The garbage collector runs less often: modules make hundreds of thousands
    of objects that stay, and examining them again and again takes a tenth of the time of importing
    MLflow.
    """
    global _begun  # noqa: PLW0603 - a process is taken over once
    if _begun:
        return
    _begun = True
    open_missing()
    interrupt.watch()
    gc.set_threshold(NEW_OBJECTS, 20, 100)


def end_process(code: int) -> NoReturn:
    """End this process with an exit code, without destroying its objects one by one.

    Python spends more than a second on that when MLflow and pandas are loaded. Exit handlers are
    called, and output is written. Threads are joined, except those of an interrupted command: its
    work is done by then, and an abandoned thread may call a lost server again and again for
    minutes.
    """
    if _is_watched() or sys.flags.inspect:
        # A debugger, a profiler or an interactive session wants to go on.
        sys.exit(code)
    if code not in INTERRUPTED:
        _wait_for_threads()
    atexit._run_exitfuncs()  # logging's among them
    for stream in (sys.stdout, sys.stderr):
        # Their reader may be gone.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _wait_for_threads() -> None:
    """Do what the interpreter does first: end thread pools, and join other threads."""
    threading._shutdown()  # type: ignore[attr-defined]


def _is_watched() -> bool:
    if sys.gettrace() is not None or sys.getprofile() is not None:
        return True
    # From Python 3.12 on debuggers and profilers register here, under one of six tool ids.
    monitoring = getattr(sys, "monitoring", None)
    return monitoring is not None and any(monitoring.get_tool(tool_id) for tool_id in range(6))
