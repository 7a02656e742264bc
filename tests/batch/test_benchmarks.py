"""The benchmarks of whole sweeps keep working; how fast they are, they say themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sweep", "times ours; 100 runs would take"),
        ("startup", "the stock application takes"),
        ("engine", "milliseconds of processor time a run"),
        ("parallel", "times worker_busy_s / 2"),
        ("report", "runs"),
        ("backends", "ms a run alone"),
        ("verdict_time", "| returns.csv |"),
        ("monitor", "best of 100, no skill"),
        ("permutation", "| random walk | tpe | 10 |"),
        ("recording", "server of 2 processes, 8 connections"),
    ],
)
def test_the_small_benchmark_prints_its_table(name, said):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--small"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
