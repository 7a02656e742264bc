"""Show how far a batch is: a live bar on a terminal, a line now and then elsewhere."""

import contextlib
import math
import sys
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0
"""Pause between two lines where there is no terminal."""


@dataclass
class Counts:
    """How many runs are where."""

    total: int
    done: int = 0
    failed: int = 0
    running: int = 0
    best: tuple[str, float] | None = None

    @property
    def ended(self) -> int:
        """Runs that have ended, well or not."""
        return self.done + self.failed

    def describe(self) -> str:
        """Return the counts in words."""
        words = [f"{self.done} done"]
        if self.failed:
            words.append(f"{self.failed} failed")
        if self.running:
            words.append(f"{self.running} running")
        if self.best is not None:
            words.append(f"best {self.best[0]} {self.best[1]:.4g}")
        return ", ".join(words)


@dataclass
class ProgressDisplay:
    """Shows counts on standard error, so that standard output can be piped.

    Parameters
    ----------
    total
        Number of runs.
    stream
        Where to show; a terminal gets a live bar.
    """

    total: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    counts: Counts = field(init=False)
    _bar: Progress | None = field(default=None, init=False)
    _task: TaskID | None = field(default=None, init=False)
    _started: float = field(default_factory=time.monotonic, init=False)
    _last_line: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self.counts = Counts(total=self.total)

    def __enter__(self) -> "ProgressDisplay":
        if self.stream.isatty():
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[words]}"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(file=self.stream),
                transient=True,
            )
            self._task = self._bar.add_task("backtests", total=self.total, words="", rate="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.stop()

    def show(self) -> None:
        """Show the counts as they are now; where nobody looks any more, nothing happens."""
        with contextlib.suppress(OSError, ValueError):
            self._show()

    def _show(self) -> None:
        elapsed = time.monotonic() - self._started
        rate = self.counts.ended / elapsed if elapsed > 0 else 0.0
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                completed=self.counts.ended,
                words=self.counts.describe(),
                rate=_rate_text(rate),
            )
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            left = self.total - self.counts.ended
            words = [self.counts.describe()]
            if rate > 0:
                words.append(_rate_text(rate))
                if left:
                    words.append(f"about {duration(math.ceil(left / rate))} left")
            self.stream.write(f"{self.counts.ended}/{self.total}: {', '.join(words)}\n")
            self.stream.flush()


def duration(seconds: float) -> str:
    """Return a time as people say it: seconds up to two minutes, then larger units."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} days {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _rate_text(per_second: float) -> str:
    """Return a rate in the unit in which it is at least one, or in hours."""
    if per_second == 0:
        return ""
    for seconds, unit in ((1, "s"), (60, "min")):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:.1f}/{unit}"
    return f"{per_second * 3600:.1f}/h"
