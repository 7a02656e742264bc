"""Turn Ctrl-C, SIGTERM and SIGHUP into an exception that says which of them it was.

An exception that may come between any two lines is hard to survive in order. So it comes only
where the code says so: what must happen as a whole is :func:`shielded`, and what waits inside of
it is :func:`exposed` again.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """The user, or the system, asked the batch to end.

    Attributes
    ----------
    exit_code
        130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class _State:
    """What has arrived; signals only ever reach the main thread, so there is one."""

    depth = 0
    seen = 0
    deferred: int | None = None


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` inside the block when a signal asks to end.

    The first signal waits until no shield is up; a second one ends at once whatever is going on.
    Outside the main thread nothing changes, since signals do not arrive there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: FrameType | None) -> None:
        _State.seen += 1
        if _State.depth == 0 or _State.seen > 1:
            raise Interrupted(number)
        _State.deferred = number

    _State.depth, _State.seen, _State.deferred = 0, 0, None
    previous: dict[int, Any] = {number: signal.signal(number, interrupt) for number in _heeded()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _heeded() -> list[int]:
    heeded: list[int] = [signal.SIGINT, signal.SIGTERM]
    # Comes when the terminal is closed; under nohup that shall change nothing.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heeded.append(signal.SIGHUP)
    return heeded


@contextmanager
def shielded() -> Iterator[None]:
    """Let a first signal wait until the block is over."""
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
    _raise_deferred()


@contextmanager
def exposed() -> Iterator[None]:
    """Let a signal through, also one that waits already, inside a shield."""
    depth, _State.depth = _State.depth, 0
    try:
        _raise_deferred()
        yield
    finally:
        _State.depth = depth


def forget_deferred() -> None:
    """Drop a signal that waits: what it would have interrupted is complete."""
    _State.deferred = None


@contextmanager
def interrupts_blocked() -> Iterator[None]:
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


def _raise_deferred() -> None:
    if _State.depth == 0 and _State.deferred is not None:
        number, _State.deferred = _State.deferred, None
        raise Interrupted(number)
