"""A small process that ends what the parent can no longer end.

The system ends a worker when its parent dies, but not the processes that a strategy has started
inside the worker. Each worker therefore leads a process group, and a guard kills the groups that
it knows of as soon as its standard input ends: however the parent dies, its end of the pipe dies
with it. What has left its group, its session and its parent is found by a mark, where the system
shows such things (Linux). It ends single processes, too, of which a cluster on this machine
consists.

The mark is a number that processes inherit and have no reason to change: a limit of the time that
a process with a real-time priority may take, set to more than thousands of years, and a variable of
the environment, for systems on which that limit cannot be set.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from backtest_batch.interrupt import signals_blocked

MARK = "BACKTEST_BATCH_WORKER"
"""The variable that holds a worker's mark."""
MOST_MARKS = 1 << 20
"""Processes that one guard may tell apart."""

GUARD = """
import os, signal, sys, time

first, last, variable = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()

def read(number, name):
    with open(f"/proc/{number}/{name}", "rb") as file:
        return file.read()

def marks(number):
    for line in read(number, "limits").splitlines():
        if line.startswith(b"Max realtime timeout"):
            yield line.split()[3]
    for item in read(number, "environ").split(bytes(1)):
        name, _, value = item.partition(b"=")
        if name == variable:
            yield value

def is_meant(number, low, high):
    try:
        found = any(mark.isdigit() and low <= int(mark) <= high for mark in marks(number))
        return found and read(number, "stat").rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False

def end_marked(low, high):
    if not os.path.isdir("/proc/self"):
        return
    for _ in range(20):
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        meant = [number for number in numbers if is_meant(number, low, high)]
        if not meant:
            return
        for number in meant:
            try:
                os.kill(number, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.05)  # one may have been starting another

groups, processes = set(), []
for line in sys.stdin:
    sign, number = line[0], int(line[1:])
    if sign == "+":
        groups.add(number)
    elif sign == "-":
        groups.discard(number)
    elif sign == "!":
        end_marked(number, number)
    else:
        try:
            processes.append(os.pidfd_open(number))
        except (AttributeError, OSError):
            pass
for process in processes:
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        pass
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
end_marked(first, last)
"""


@dataclass
class Guard:
    """Knows what the workers of one batch consist of."""

    _first: int = field(
        # Further away than any limit that somebody sets on purpose.
        default_factory=lambda: (1 << 62) + int.from_bytes(os.urandom(5)) * MOST_MARKS,
        init=False,
    )
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)
    _process: "subprocess.Popen[str] | None" = field(default=None, init=False)

    def new_mark(self) -> int:
        """Return a number by which a worker, and what it will have started, is found."""
        return self._first + next(self._numbers) % MOST_MARKS

    def start(self) -> None:
        """Start the process, once."""
        if self._process is None:
            known = (self._first, self._first + MOST_MARKS - 1)
            # -I and -S: nothing of the user's is imported, and it starts in milliseconds. It never
            # sees a signal: it ends when there is nothing left to guard.
            with signals_blocked():
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", GUARD, *map(str, known), MARK],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    start_new_session=True,
                )

    def watch(self, group: int) -> None:
        """Add a worker's group."""
        self._tell(f"+{group}\n")

    def watch_process(self, pid: int) -> None:
        """Add one process, where the system can tell it from a later one of its number (Linux)."""
        self._tell(f"={pid}\n")

    def release(self, group: int) -> None:
        """Forget a group whose worker is gone; its number may come to belong to others."""
        self._tell(f"-{group}\n")

    def end_marked(self, mark: int) -> None:
        """End what carries a mark, soon: what a worker that is gone has left behind."""
        self._tell(f"!{mark}\n")

    def close(self) -> None:
        """End the process, and what is left of those that it knows."""
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # A guard that someone has killed is missed by nobody but orphans.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()


def kill_group(group: int) -> None:
    """Kill every process of a group that a worker led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
