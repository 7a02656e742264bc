"""How long this process has been running: a clock that stands still while the process does.

Ctrl-Z, SIGSTOP, a frozen container and a closed laptop stop a command, and its workers with it or
not. What it sees when it goes on is the past; a run is not to be blamed for that.
"""

import threading
import time

TICK_SECONDS = 0.1
LONGEST_TICK_SECONDS = 0.5
"""A tick that took longer did not tick: a thread that may run at all runs within that time."""


class RunningTime:
    """Seconds that pass while this process runs; its thread starts with the first look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._last = time.monotonic()
        self._thread: threading.Thread | None = None

    def seconds(self) -> float:
        """Return the seconds so far."""
        with self._lock:
            if self._thread is None:
                self._last = time.monotonic()
                self._thread = threading.Thread(
                    target=self._run, name="backtest_batch-clock", daemon=True
                )
                self._thread.start()
            self._tick()
            return self._seconds

    def _run(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            with self._lock:
                self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        passed, self._last = now - self._last, now
        self._seconds += passed if passed <= LONGEST_TICK_SECONDS else TICK_SECONDS


clock = RunningTime()
