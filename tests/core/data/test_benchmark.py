import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("options", "files", "fields"),
    [
        ((), "30 files, ", "open+high+low+close+volume"),
        (("--wide", "--intraday"), "1 files, ", "close"),
    ],
)
def test_the_benchmark_runs_small(options, files, fields):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.market", "--small", *options],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(files)
    assert f"from the files: 500 x 30 {fields} " in done.stdout
    assert "from the cache: 500 x 30" in done.stdout
