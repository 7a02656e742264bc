"""The time of each stage of a batch, and its log: a file, and warnings on standard error."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from backtest_batch.streams import LOG_FORMAT, PrintableFormatter, say

log = logging.getLogger("backtest_batch")

_COMMAND = "backtest_batch"


@dataclass
class Stopwatch:
    """Adds up seconds by stage.

    Attributes
    ----------
    seconds
        Wall seconds.
    cpu_seconds
        Processor seconds of this process with all its threads: what a stage costs, while wall
        seconds say how long one waited, on processors that others may use too.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_this_process(cls) -> "Stopwatch":
        """Return a watch that counts the time of the command so far as ``configuration``.

        A notebook may be hours old: there counting begins with the sweep.
        """
        watch = cls()
        main = getattr(sys.modules.get("__main__"), "__spec__", None)
        if main is not None and main.name.partition(".")[0] == _COMMAND:
            watch.seconds["configuration"] = time.time() - psutil.Process().create_time()
            watch.cpu_seconds["configuration"] = time.process_time()
        return watch

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block towards a stage."""
        started, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            used = time.process_time() - cpu
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + used


MOST_WARNINGS = 50
"""Number of warnings of a batch that are shown; its log file has all."""


class WarningsToStderr(logging.Handler):
    """Writes to the current standard error, which a live progress bar replaces."""

    def __init__(self, file: Path) -> None:
        super().__init__(level=logging.WARNING)
        self._file = file
        self._shown = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message, or a hint that there are more."""
        self._shown += 1
        if self._shown > MOST_WARNINGS + 1:
            return
        text = record.getMessage()
        if self._shown > MOST_WARNINGS:
            text = f"... further warnings are in {self._file}"
        # A terminal that is gone must not end the batch.
        with contextlib.suppress(OSError, ValueError):
            say(f"{text}\n")


class _LogFile(logging.FileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; its folder may have been deleted before the first one."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Drop the line: the disk may be full, and a traceback would not help."""


def log_to(path: Path) -> None:
    """Send the log of a batch to a file, and its warnings to standard error."""
    end_log()
    file = _LogFile(path, encoding="utf-8", delay=True)
    file.setFormatter(PrintableFormatter(LOG_FORMAT))
    log.addHandler(file)
    log.addHandler(WarningsToStderr(path))
    log.setLevel(logging.INFO)
    log.propagate = False


def end_log() -> None:
    """Restore the logger: a notebook lives on when its batch, and perhaps its folder, is gone."""
    for handler in list(log.handlers):
        if isinstance(handler, _LogFile | WarningsToStderr):
            log.removeHandler(handler)
            handler.close()
    log.setLevel(logging.NOTSET)
    log.propagate = True
