"""What a strategy may change in its process, and how the next run gets it back.

Most of it can be set again. Where it cannot (a limit that the system lets nobody raise), the parent
replaces the process.
"""

import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from dataclasses import dataclass
from typing import Any

TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


@dataclass(frozen=True, kw_only=True)
class ProcessState:
    """The state of a process before a run.

    It is taken when the strategy's module has been imported: what that sets up is meant for every
    run of it.

    Attributes
    ----------
    environment
        Its environment variables.
    path
        Where it looks for modules.
    umask
        Its file mode creation mask.
    recursion_limit
        Depth of Python's stack.
    handlers
        What it does on signals, by number.
    limits
        What the system lets it use: soft limit by resource.
    collects
        Whether the garbage collector is on.
    silenced
        The level up to which logging is disabled.
    """

    environment: dict[str, str]
    path: tuple[str, ...]
    umask: int
    recursion_limit: int
    handlers: dict[int, Any]
    limits: dict[int, int]
    collects: bool
    silenced: int

    @classmethod
    def of_this_process(cls) -> "ProcessState":
        """Look at the process; called from its main thread."""
        umask = os.umask(0o077)
        os.umask(umask)
        return cls(
            environment=dict(os.environ),
            path=tuple(sys.path),
            umask=umask,
            recursion_limit=sys.getrecursionlimit(),
            handlers=_handlers(),
            limits=_limits(),
            collects=gc.isenabled(),
            silenced=logging.root.manager.disable,
        )

    def restore(self) -> bool:
        """Set everything as it was; return whether that worked.

        Variables and folders that were added stay: a module that was imported during the run may
        need them, and is not imported again.
        """
        _stop_timers()
        _restore_handlers(self.handlers)
        if not self.environment.items() <= os.environ.items():
            os.environ.update(self.environment)
        sys.path[:0] = [folder for folder in self.path if folder not in sys.path]
        os.umask(self.umask)
        sys.setrecursionlimit(max(self.recursion_limit, sys.getrecursionlimit()))
        if self.collects:
            gc.enable()
        logging.disable(self.silenced)
        # A limit that was raised harms nobody.
        now = _limits()
        return not any(_below(now[name], limit) for name, limit in self.limits.items())


def _handlers() -> dict[int, Any]:
    found = ((int(number), signal.getsignal(number)) for number in signal.valid_signals())
    # None: not set from Python, and so nothing that could be set again.
    return {number: handler for number, handler in found if handler is not None}


def _restore_handlers(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        if signal.getsignal(number) != handler:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, handler)


def _stop_timers() -> None:
    for timer in TIMERS:
        signal.setitimer(timer, 0)


def _limits() -> dict[int, int]:
    names = (name for name in dir(resource) if name.startswith("RLIMIT_"))
    numbers = sorted({int(getattr(resource, name)) for name in names})
    return {number: int(resource.getrlimit(number)[0]) for number in numbers}


def _below(limit: int, before: int) -> bool:
    if limit == resource.RLIM_INFINITY:
        return False
    return before == resource.RLIM_INFINITY or limit < before
