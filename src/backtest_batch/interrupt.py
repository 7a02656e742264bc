"""Ctrl-C, SIGTERM and SIGHUP: noted at any time, acted upon where nothing is half done.

Python raises an exception between any two lines when Ctrl-C is pressed. Inside a library that holds
a lock, or that handles every exception as its own, the consequences are unpredictable. Here a
signal is only noted, and there are three phases:

- Nothing has begun: a command ends at once, whatever it is doing.
- Something has :func:`begun`, or :func:`signals_deferred` is in force: the work looks now and then
  whether it should end (:func:`heed`), where it can.
- All is done (:func:`finished`), or is being ended (:func:`taken`): signals change nothing more,
except that another one cuts off an end that hangs.

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

# A command imports this module first: nothing that takes long to import.

ENDING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a process to end."""

NOTICE_SECONDS = 0.1
"""Seconds of waiting between two looks for a signal."""
SAME_SECONDS = 0.5
"""Signals within this time are one request: the shell and the system both report a closed terminal,
and a process manager may send two kinds at once."""
IDLE_SECONDS = 10.0
"""A process without processor time for so long waits for something that may never come."""
IDLE_SHARE = 0.01
"""Most processor time of a process that only waits, as a share of wall time."""
LONGEST_END_SECONDS = 60.0
"""Most seconds that the end may take once it was requested again."""

INTERRUPTED = (129, 130, 143)
"""Exit codes after SIGHUP, SIGINT and SIGTERM."""

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
    """Which signals have arrived, and what they may do."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal."""
        self.at = 0.0
        """When it came."""
        self.depth = 0
        """Number of activities that must not simply be cut off."""
        self.code: int | None = None
        """The exit code, once it is settled."""
        self.last_words = "\nInterrupted; ended at once.\n"
        """Message when the end itself is cut off."""
        self.lock = threading.Lock()
        """Locked where something begins or is settled; never in a signal handler."""

    @property
    def is_free(self) -> bool:
        """Whether nothing has begun."""
        return self.depth == 0 and self.code is None

    def note(self, number: int) -> bool:
        """Note a signal; return whether it repeats an earlier request, or comes after the end."""
        now = time.monotonic()
        if self.number is None:
            self.number, self.at = number, now
            return self.code is not None
        return now - self.at > SAME_SECONDS


_state = _State()
_watching = False
_given_back: dict[int, Any] = {}
"""The handlers before ours, while ours are installed."""


def watch() -> None:
    """Handle the signals of this process until its end; called once, by a command.

    A separate thread watches for them, so that Ctrl-C also works while the main thread is busy in
    compiled code, where Python cannot run a handler.
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
    """Handle signals during the block, in the main thread of any program.

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
        # A module of the user's may have installed its own meanwhile.
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
    """Let signals wait until the block is over, or heeds them."""
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
    """Let signals wait from now on until they are heeded: there is now something to wind up."""
    if _in_main_thread():
        with _state.lock:
            _state.depth += 1


def heed() -> None:
    """End here if a signal has requested it; called where nothing is half done.

    Raises
    ------
    Interrupted
        When a signal has come, and nobody has :func:`taken` it.
    """
    if _state.number is not None and _state.code is None and _in_main_thread():
        raise Interrupted(_state.number)


def taken(error: BaseException) -> Interrupted | None:
    """Return the interruption behind an error, and heed no further one; None without one.

    A signal to a whole group of processes also ends some that a library has started; the library's
    errors about that do not matter.
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
    """Keep the message for the user when the end itself is cut off."""
    if _in_main_thread():
        _state.last_words = last_words


@contextlib.contextmanager
def signals_blocked(*numbers: int) -> Iterator[None]:
    """Let the block start processes that see no signals until they decide how to handle them.

    A terminal sends signals to the whole group, and a process that is just starting would die of
    one, or show a traceback. New threads block signals, too, and so do the processes that they
    start.

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
    """Do nothing: with a handler installed, a signal wakes the watching thread."""


def _raise_or_note(number: int, _: FrameType | None) -> None:
    """Note a signal; raise if nothing has begun, or if the end hangs."""
    again = _state.note(number)
    if _state.is_free or (again and time.monotonic() - _state.at > IDLE_SECONDS):
        raise Interrupted(number)


def _install(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install a handler for all signals that ask to end; return the former ones."""
    before = {number: signal.getsignal(number) for number in ENDING}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        # It comes when the terminal is closed; under nohup a command goes on.
        del before[signal.SIGHUP]
    if not _given_back:
        _given_back.update(before)
    for number in before:
        signal.signal(number, handler)
    return before


def _give_back(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        # None: not set from Python, which cannot restore it.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    _given_back.clear()


def _before_fork() -> None:
    """Let signals wait: a forked process must not treat its first ones as ours."""
    if _given_back:
        _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ENDING))


def _after_fork_in_parent() -> None:
    if _masks:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _after_fork_in_child() -> None:
    """Let signals end a forked process as usual: no thread watches for them there."""
    global _state, _watching
    if _given_back:
        if _watching:
            signal.set_wakeup_fd(-1)
        _give_back(dict(_given_back))
        _state, _watching = _State(), False
    _after_fork_in_parent()


_masks: list[set[int]] = []
"""Signal mask outside of the fork, while this process is forked."""
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)


def _look(reader: int) -> None:
    """Do what signals request and the main thread does not, as long as the process lives."""
    while True:
        try:
            number = os.read(reader, 1)[0]
        except (OSError, IndexError):  # somebody has closed our descriptor
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
    """Wait for the process to end, and end it if it does not."""
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
    """End the process at once; its children end with it."""
    with contextlib.suppress(OSError, ValueError):
        if os.isatty(2):
            message = f"{SHOW_CURSOR}{message}"  # a progress bar has hidden it
        # A stopped terminal, or a pipe that nobody reads, must not delay this.
        if message and select.select([], [2], [], 1.0)[1]:
            os.write(2, message.encode(errors="backslashreplace"))
    os._exit(code)
