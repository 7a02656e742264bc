"""What a worker process prints and logs."""

import contextlib
import logging
import os
import sys
from pathlib import Path

from backtest_batch.batch import lifeline
from backtest_batch.printing import LOG_FORMAT, PrintableFormatter
from backtest_batch.streams import forgiving

LONGEST_LOG = 100_000
"""Characters of a run's log.txt; the last ones are kept."""


class _ToStderr(logging.Handler):
    """Writes to standard error as it is now."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"{self.format(record)}\n")


_handler = _ToStderr()
_handler.setFormatter(PrintableFormatter(LOG_FORMAT))


def restore() -> None:
    """Give this process the standard streams, the folder and the logging of a new one.

    A strategy may have closed or changed any of them, and the next run must not suffer from that.
    """
    setup = lifeline.setup
    if setup is None:
        return
    os.chdir(setup.working_dir)
    if setup.working_dir not in sys.path:
        sys.path.insert(0, setup.working_dir)
    lifeline.redirect(setup.log)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    # A full disk costs lines, and not the run that printed them.
    sys.stdout, _ = forgiving(1)
    sys.stderr, _ = forgiving(2)
    root = logging.getLogger()
    if _handler not in root.handlers:
        root.addHandler(_handler)
        root.setLevel(logging.INFO)
        logging.getLogger("numba").setLevel(logging.WARNING)


def position() -> int:
    """Return where the log of this process ends."""
    path = _path()
    with contextlib.suppress(OSError):
        return 0 if path is None else path.stat().st_size
    return 0


def since(start: int) -> str:
    """Return what this process has printed and logged since then."""
    for stream in (sys.stdout, sys.stderr):
        # Closed by the strategy, perhaps.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    path = _path()
    return "" if path is None else text_since(path, start)


def text_since(path: Path, start: int) -> str:
    """Return the end of a log file from a position on, at most its last 100,000 bytes."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - LONGEST_LOG))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _path() -> Path | None:
    setup = lifeline.setup
    return None if setup is None or setup.log is None else Path(setup.log)
