"""Ctrl-C, SIGTERM and SIGHUP: noted whenever they come, acted upon where nothing is half done.

Python raises an exception between any two lines when Ctrl-C is pressed. Inside a library that holds
a lock, or that takes every exception for its own, nobody can say what comes of that. Here a signal
is only noted, and there are three times:

- Nothing has begun: a command ends at once, whatever it is doing.
- Something has :func:`begun`, or :func:`signals_deferred` is in force: the work looks now and then
  whether it should end (:func:`heed`), where it can.
- All is done (:func:`finished`), or is being ended (:func:`taken`): signals change nothing more,
  except that what does not come to its end is cut off when it is asked for again.

A command lets its process be watched (:func:`watch`) from its first line to its last. A sweep
inside another program is :func:`interruptible` while it runs, and gives the program its own
handlers back.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

# The first module that a command imports: nothing that takes long to import.

ENDING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a process to end."""

NOTICE_SECONDS = 0.1
"""A wait goes on for so long before it looks whether a signal has come."""
SAME_SECONDS = 0.5
"""Signals that come together are one request: the shell and the system both tell of a terminal
that is closed, and a process manager may send two kinds at once."""
IDLE_SECONDS = 10.0
"""What has used no processor time for so long waits for something that may never come."""
IDLE_SHARE = 0.01
"""Processor time of a process that only waits, at most, as a share of the time."""
LONGEST_END_SECONDS = 60.0
"""So long may the end take once it was asked for again."""

INTERRUPTED = (129, 130, 143)
"""Exit codes of what SIGHUP, SIGINT or SIGTERM has ended."""

SHOW_CURSOR = "\x1b[?25h"


class Interrupted(BaseException):
    """The user, or the system, asked the work to end.

    Attributes
    ----------
    exit_code
        130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class _State:
    """What has arrived, and what it may do."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal."""
        self.at = 0.0
        """When it came."""
        self.depth = 0
        """How much goes on that must not simply be cut off."""
        self.code: int | None = None
        """The exit code, once it is settled."""
        self.last_words = "\nInterrupted; ended at once.\n"
        """What to say when the end itself is cut off."""
        self.lock = threading.Lock()
        """Held where something begins or is settled; never in a signal handler."""

    @property
    def is_free(self) -> bool:
        """Whether nothing has begun."""
        return self.depth == 0 and self.code is None

    def note(self, number: int) -> bool:
        """Note a signal; return whether it asks for what was asked for, or done, before."""
        now = time.monotonic()
        if self.number is None:
            self.number, self.at = number, now
            return self.code is not None
        return now - self.at > SAME_SECONDS


_state = _State()
_watching = False
_given_back: dict[int, Any] = {}
"""The handlers that were there before ours, while ours are there."""


def watch() -> None:
    """Take care of the signals of this process until its end; called once, by a command.

    A thread of its own looks for them, so that Ctrl-C works also while the main thread is busy in
    compiled code, where no handler of Python's can run.
    """
    global _watching  # noqa: PLW0603 - a process is a command, or is not
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _install(_leave_to_watcher)
    _watching = True
    threading.Thread(target=_look, args=(reader,), name="signals", daemon=True).start()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Take care of signals during the block, in the main thread of any program.

    Until something has :func:`begun`, :class:`Interrupted` is raised as soon as a signal comes;
    after that, by :func:`heed`. The program's own handlers are back after the block. In other
    threads nothing changes, since signals do not arrive there. In a command nothing does either:
    it is watched already.
    """
    global _state  # noqa: PLW0603 - signals belong to the process
    if not _in_main_thread():
        yield
        return
    if _watching:
        # A module of the user's may have set its own meanwhile.
        _install(_leave_to_watcher)
        yield
        return
    outer, further = _state, dict(_given_back)
    _state = _State()
    before = _install(_raise_or_note)
    try:
        yield
    finally:
        _state.depth += 1  # no exception among the lines below
        _give_back(before)
        _given_back.update(further)
        _state = outer


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let a signal wait until the block is over, or heeds it."""
    if not _in_main_thread():
        yield
        return
    begun()
    try:
        yield
    finally:
        _state.depth -= 1
    if _state.depth == 0:
        heed()


def begun() -> None:
    """Let signals wait from now on until they are heeded: to end takes more than to stop."""
    if _in_main_thread():
        with _state.lock:
            _state.depth += 1


def heed() -> None:
    """End here when a signal has asked for it; called where nothing is half done.

    Raises
    ------
    Interrupted
        When a signal has come, and nobody has :func:`taken` it.
    """
    if _state.number is not None and _state.code is None and _in_main_thread():
        raise Interrupted(_state.number)


def taken(error: BaseException) -> Interrupted | None:
    """Return the interruption behind an error, and heed no other from now on; None without one.

    What reaches a whole group of processes also ends some that a library has started, and what the
    library says of that is of no interest.
    """
    if _state.number is not None and _state.code is None and _in_main_thread():
        interruption = Interrupted(_state.number)
    elif isinstance(error, Interrupted):
        interruption = error
    else:
        return None
    _state.code = interruption.exit_code
    return interruption


def finished(code: int) -> None:
    """Settle the exit code: all is done, and a signal would only spoil it."""
    if _in_main_thread():
        with _state.lock:
            _state.code, _state.last_words = code, ""


def remember(last_words: str) -> None:
    """Keep what the user must be told when the end itself is cut off."""
    if _in_main_thread():
        _state.last_words = last_words


@contextlib.contextmanager
def signals_blocked(*numbers: int) -> Iterator[None]:
    """Start processes that see no signal until they have decided what to do about it.

    What a terminal sends reaches the whole group, and a process that is just being born would die
    of it, or show a traceback. Threads that are started keep away from signals, too, and so do the
    processes that these start.

    Parameters
    ----------
    *numbers
        The signals; by default all that ask a process to end.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, set(numbers or ENDING))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _leave_to_watcher(_: int, __: FrameType | None) -> None:
    """Do nothing: a signal wakes the watching thread up because it has a handler."""


def _raise_or_note(number: int, _: FrameType | None) -> None:
    """Note a signal, or raise: where nothing has begun, and where the end does not come."""
    again = _state.note(number)
    if _state.is_free or (again and time.monotonic() - _state.at > IDLE_SECONDS):
        raise Interrupted(number)


def _install(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Set a handler for all signals that ask to end; return those that were there."""
    before = {number: signal.getsignal(number) for number in ENDING}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        # It comes when the terminal is closed; a command under nohup goes on then.
        del before[signal.SIGHUP]
    if not _given_back:
        _given_back.update(before)
    for number in before:
        signal.signal(number, handler)
    return before


def _give_back(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        # None: not set by Python, which cannot set it again.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    _given_back.clear()


def _before_fork() -> None:
    """Let signals wait: a copy of this process must not take its first ones for ours."""
    if _given_back:
        _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ENDING))


def _after_fork_in_parent() -> None:
    if _masks:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _after_fork_in_child() -> None:
    """Let a copy of this process die of signals as usual: nobody looks for them there."""
    global _state, _watching
    if _given_back:
        if _watching:
            signal.set_wakeup_fd(-1)
        _give_back(dict(_given_back))
        _state, _watching = _State(), False
    _after_fork_in_parent()


_masks: list[set[int]] = []
"""Which signals wait otherwise, while a copy of this process is made."""
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)


def _look(reader: int) -> None:
    """Do what signals ask for and the main thread does not, as long as the process lives."""
    while True:
        try:
            number = os.read(reader, 1)[0]
        except (OSError, IndexError):  # somebody has closed what is not theirs
            return
        if number not in ENDING:
            continue
        with _state.lock:
            again = _state.note(number)
            if _state.is_free:
                interruption = Interrupted(number)
                _exit_now(
                    interruption.exit_code, f"Interrupted ({interruption}); nothing was run.\n"
                )
        if again:
            _end_in_time()


def _end_in_time() -> NoReturn:
    """Wait while the process comes to its end, and end it when it does not."""
    began = seen = time.monotonic()
    used = time.process_time()
    while time.monotonic() - began < LONGEST_END_SECONDS:
        time.sleep(NOTICE_SECONDS)
        idle = time.monotonic() - seen
        if time.process_time() - used > IDLE_SHARE * max(idle, 1.0):
            seen, used = time.monotonic(), time.process_time()
        elif idle > IDLE_SECONDS:
            break
    code = _state.code
    if code is None:
        assert _state.number is not None
        code = 128 + _state.number
    _exit_now(code, _state.last_words)


def _exit_now(code: int, message: str) -> NoReturn:
    """End the process at once; what it has started ends with it."""
    with contextlib.suppress(OSError, ValueError):
        if os.isatty(2):
            message = f"{SHOW_CURSOR}{message}"  # a progress bar has hidden it
        # A terminal that is held, or a pipe that nobody empties, must not keep it.
        if message and select.select([], [2], [], 1.0)[1]:
            os.write(2, message.encode(errors="backslashreplace"))
    os._exit(code)
