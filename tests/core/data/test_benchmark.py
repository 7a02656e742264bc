import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.benchmark
def test_the_benchmark_runs_small():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.market", "--small"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("30 files, ")
    assert "from the files: 500 x 30 open+high+low+close+volume" in done.stdout
    assert "from the cache: 500 x 30" in done.stdout
