"""Profile a run with cProfile."""

import cProfile
import io
import pstats
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOP = 50


@contextmanager
def profiled(folder: Path) -> Iterator[None]:
    """Profile what runs inside and leave ``run.prof`` and ``stats.txt`` in ``folder``.

    The files are written however the block ends: a run that fails is worth profiling too.
    """
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        folder.mkdir(parents=True, exist_ok=True)
        profile.dump_stats(folder / "run.prof")
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(TOP)
        (folder / "stats.txt").write_text(text.getvalue(), encoding="utf-8")
