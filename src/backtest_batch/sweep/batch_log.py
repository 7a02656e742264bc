"""Where the messages of a batch go: its log file, and standard error."""

import contextlib
import logging
from pathlib import Path

from backtest_batch.printing import LOG_FORMAT, PrintableFormatter, say

MOST_WARNINGS = 50
"""So many warnings of a batch are shown; all of them are in its log file."""

log = logging.getLogger("backtest_batch")


class WarningsToStderr(logging.Handler):
    """Writes to standard error as it is now: a live progress bar puts itself in its place."""

    def __init__(self, file: Path) -> None:
        super().__init__(level=logging.WARNING)
        self._file = file
        self._shown = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message, or after very many that there are more."""
        self._shown += 1
        if self._shown > MOST_WARNINGS + 1:
            return
        text = record.getMessage()
        if self._shown > MOST_WARNINGS:
            text = f"... further warnings are in {self._file}"
        # A terminal that has gone must not end the batch.
        with contextlib.suppress(OSError, ValueError):
            say(f"{text}\n")


class _LogFile(logging.FileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; its folder may have been deleted before the first one."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Lose the line: on a full disk there is no place for it, and no use in a traceback."""


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
    """Give the logger back: a notebook goes on when its batch, and perhaps its folder, is gone."""
    for handler in list(log.handlers):
        if isinstance(handler, _LogFile | WarningsToStderr):
            log.removeHandler(handler)
            handler.close()
    log.setLevel(logging.NOTSET)
    log.propagate = True
