import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.benchmark
def test_the_benchmark_prints_its_table():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", "--small"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert "500 runs in an SQLite store, full grid of 4 parameters" in done.stdout
    rows = re.findall(r"^\| (.+?) \| -?(\d+\.\d) \| -?(\d+\.\d) \|$", done.stdout, re.MULTILINE)
    assert [step for step, *_ in rows] == [
        "mlflow.search_runs alone",
        "python -m backtest_batch.compare, in all",
        "of which: reading the runs",
        "of which: everything else (wanted: below 3 s)",
    ]
