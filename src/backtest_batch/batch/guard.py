"""A small process that ends what the parent can no longer end.

The system ends a worker when its parent dies, but not the processes that a strategy has started
inside the worker. Each worker therefore leads a process group, and a guard kills the groups that
it knows of as soon as its standard input ends: however the parent dies, its end of the pipe dies
with it. What has left its group is found by a variable of its environment, where the system shows
these (Linux). It ends single processes, too, that a cluster on this machine consists of.
"""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field

GUARD = """
import os, signal, sys
groups, processes, mark = set(), [], sys.argv[1].encode()
for line in sys.stdin:
    sign, number = line[0], int(line[1:])
    if sign == "+":
        groups.add(number)
    elif sign == "-":
        groups.discard(number)
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
for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
    try:
        with open(f"/proc/{int(name)}/environ", "rb") as file:
            marked = mark in file.read().split(bytes(1))
        if marked:
            os.kill(int(name), signal.SIGKILL)
    except (OSError, ValueError):
        pass
"""

MARK = "BACKTEST_BATCH_WORKER_OF"


@dataclass
class Guard:
    """Knows what the workers of one batch consist of."""

    _token: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)
    _process: "subprocess.Popen[str] | None" = field(default=None, init=False)

    @property
    def mark(self) -> dict[str, str]:
        """The variable of the environment by which what a worker has started is found."""
        return {MARK: self._token}

    def start(self) -> None:
        """Start the process; nothing happens where the system knows no process groups."""
        if self._process is None and hasattr(os, "killpg"):
            # -I and -S: nothing of the user's is imported, and it starts in milliseconds.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", GUARD, f"{MARK}={self._token}"],
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
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
