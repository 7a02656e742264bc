"""A small process that ends what the parent can no longer end.

The system ends a worker when its parent dies, but not the processes that a strategy has started
inside the worker. Each worker therefore leads a process group, and a guard kills the groups that
it knows of as soon as its standard input ends: however the parent dies, its end of the pipe dies
with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field

GUARD = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    sign, group = line[0], int(line[1:])
    (groups.add if sign == "+" else groups.discard)(group)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


@dataclass
class Guard:
    """Knows the process groups of the workers of one batch."""

    _process: "subprocess.Popen[str] | None" = field(default=None, init=False)

    def start(self) -> None:
        """Start the process; nothing happens where the system knows no process groups."""
        if self._process is None and hasattr(os, "killpg"):
            # -I and -S: nothing of the user's is imported, and it starts in milliseconds.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", GUARD],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )

    def watch(self, group: int) -> None:
        """Add a worker's group."""
        self._tell(f"+{group}\n")

    def release(self, group: int) -> None:
        """Forget a group whose worker is gone; its number may come to belong to others."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the process, and what is left in the groups that it knows."""
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
