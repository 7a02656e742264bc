"""Turn Ctrl-C and SIGTERM into an exception that says which of them it was."""

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
        130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` inside the block when a signal asks to end.

    The first signal alone does: what follows it is orderly, and a second Ctrl-C ends that at
    once. Outside the main thread nothing changes, since signals do not arrive there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: dict[int, Any] = {}

    def interrupt(number: int, _: FrameType | None) -> None:
        for each, handler in previous.items():
            signal.signal(each, handler)
        raise Interrupted(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
