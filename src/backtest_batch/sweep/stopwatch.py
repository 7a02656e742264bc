"""How long the stages of a batch took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

_COMMAND = "backtest_batch"


@dataclass
class Stopwatch:
    """Adds up seconds by stage.

    Attributes
    ----------
    seconds
        Wall seconds.
    cpu_seconds
        Processor seconds of this process with all its threads. Where others use the processors,
        too, they say what a stage costs and the wall seconds how long one waited.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_this_process(cls) -> "Stopwatch":
        """Return a watch that counts what the command has taken so far as ``configuration``.

        A notebook may have lived for hours: there nothing counts before the sweep.
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
