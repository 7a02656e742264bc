"""Parallel efficiency of the execution stage: the same sweep on one worker and on two.

    python -m benchmarks.parallel
    python -m benchmarks.parallel --small     for CI

100 runs of a strategy that spends 200 ms in pure Python. The execution stage lasts from the start
of the workers to the last result, as batch_timings.json has it.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.sweep import run

STRATEGY = """
import time

import numpy as np


class Busy:
    def __init__(self, number: int = 0, milliseconds: int = 200):
        self.milliseconds = milliseconds

    def target_weights(self, panel, decisions):
        end = time.process_time() + self.milliseconds / 1000
        while time.process_time() < end:
            pass
        return np.full((len(decisions), panel.n_assets), 1 / panel.n_assets)
"""


def execution_seconds(n_runs: int, n_jobs: int) -> float:
    """Return the seconds of the execution stage of a sweep in a new folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "busy.py").write_text(STRATEGY)
        command = [sys.executable, "-m", "backtest_batch", "-m", "data=synthetic"]
        command += ["data.n_bars=600", "strategy=custom", "strategy._target_=busy.Busy"]
        command += [f"strategy.number=range(0,{n_runs})", f"n_jobs={n_jobs}"]
        run([*command, "adaptive_workers=false"], folder)
        (timings,) = folder.glob("mlruns/batches/*/batch_timings.json")
        return float(json.loads(timings.read_text())["stages_s"]["execution"])


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    n_runs = 8 if parser.parse_args().small else 100
    seconds = {n_jobs: execution_seconds(n_runs, n_jobs) for n_jobs in (1, 2)}
    for n_jobs, taken in seconds.items():
        print(f"n_jobs={n_jobs}: {taken:.2f} s for {n_runs} runs of 200 ms")
    print(f"two workers are {seconds[1] / seconds[2]:.2f} times as fast as one")


if __name__ == "__main__":
    main()
