"""Parallel efficiency of the execution stage: n_jobs=2 against 1.

    python -m benchmarks.parallel
    python -m benchmarks.parallel --runs 1000 --seconds 0.1
    python -m benchmarks.parallel --small

Runs a sweep of 100 runs twice, each of a strategy that takes 200 ms of pure Python, in a temporary
folder with a store that is there already, with one worker and with two in turn. The time is
computing_s in batch_timings.json: from the first run that is handed to a worker, to the last
result. On two processors that should be at least 1.8 times faster with two workers. The second
ratio compares it with what the runs themselves take: it is 1 when two workers never wait. The whole
execution stage, in which workers start and MLflow is imported, is shown beside it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

STRATEGY = """
import time
import numpy as np


class Busy:
    def __init__(self, number: int = 0, loops: int = 1):
        self.number, self.loops = number, loops

    def target_weights(self, panel, decisions):
        total = 0
        for number in range(self.loops):
            total += number % 7
        return np.full((len(decisions), panel.n_assets), 1.0 / panel.n_assets)
"""

MARKET = ("data=synthetic", "data.n_assets=3", "data.n_bars=260")


def main() -> None:
    """Run the sweep with one worker and with two, and print how much faster that is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.2, help="processor time of a run")
    parser.add_argument("--pairs", type=int, default=2, help="how often one and two take turns")
    parser.add_argument("--small", action="store_true", help="6 runs of 20 ms")
    arguments = parser.parse_args()
    runs, seconds = (arguments.runs, arguments.seconds)
    if arguments.small:
        runs, seconds, arguments.pairs = 6, 0.02, 1
    loops = loops_of(seconds)
    print(f"{runs} runs of {seconds:g} s in pure Python ({loops:,} loops)")
    with tempfile.TemporaryDirectory(prefix="benchmark-parallel-") as name:
        folder = Path(name)
        (folder / "busy.py").write_text(STRATEGY)
        sweep(folder, 2, n_jobs=2, loops=1)  # makes the store and the compiled kernels
        pairs = [
            {n_jobs: sweep(folder, runs, n_jobs=n_jobs, loops=loops) for n_jobs in (1, 2)}
            for _ in range(arguments.pairs)
        ]
    for took in pairs:
        for n_jobs, timings in took.items():
            print(
                f"n_jobs={n_jobs}: computing {timings['computing_s']:6.2f} s, "
                f"execution stage {timings['stages_s']['execution']:6.2f} s, "
                f"median run {timings['run_runtime_s']['median'] * 1000:4.0f} ms"
            )
    for shown, seconds in (("computing", computing), ("execution stage", execution)):
        ratio = median(seconds(took[1]) / seconds(took[2]) for took in pairs)
        print(f"{shown}: two workers are {ratio:.2f} times as fast as one (median of the pairs)")
    for name in ("worker_busy_s", "worker_cpu_s"):
        ratio = median(computing(took[2]) / (took[2][name] / 2) for took in pairs)
        print(f"n_jobs=2: computing takes {ratio:.3f} times {name} / 2 (median of the pairs)")


def computing(timings: dict[str, Any]) -> float:
    """Return the seconds from the first run that is handed to a worker to the last result."""
    return float(timings["computing_s"])


def execution(timings: dict[str, Any]) -> float:
    """Return the seconds of the execution stage."""
    return float(timings["stages_s"]["execution"])


def loops_of(seconds: float) -> int:
    """Return how many loops of the strategy take so long here, in a process of its own."""
    code = (
        "import time; t = time.process_time(); x = 0\n"
        "def loop():\n"
        "    total = 0\n"
        "    for number in range(3_000_000): total += number % 7\n"
        "loop(); print(time.process_time() - t)"
    )
    took = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    return max(1, int(3_000_000 * seconds / min(took)))


def sweep(folder: Path, runs: int, *, n_jobs: int, loops: int) -> dict[str, Any]:
    """Run a sweep and return its batch_timings.json."""
    output = Path(tempfile.mkdtemp(dir=folder)) / "batch"
    command = [
        *(sys.executable, "-m", "backtest_batch", "-m", *MARKET, "strategy=custom"),
        *("strategy._target_=busy.Busy", f"strategy.loops={loops}"),
        *(f"strategy.number=range(0,{runs})", f"n_jobs={n_jobs}", "adaptive_workers=false"),
        f"output_dir={output}",
    ]
    environment = {**os.environ, "BACKTEST_BATCH_CACHE": str(folder / "cache")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    timings: dict[str, Any] = json.loads((output / "batch_timings.json").read_text())
    return timings


if __name__ == "__main__":
    main()
