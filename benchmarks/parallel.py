"""Parallel efficiency of the execution stage: n_jobs=2 against 1.

    python -m benchmarks.parallel
    python -m benchmarks.parallel --runs 1000 --seconds 0.1
    python -m benchmarks.parallel --small

Runs a sweep of 100 runs twice, each of a strategy that takes 200 ms of pure Python, in a temporary
folder with a store that is there already. The time is that of the execution stage in
batch_timings.json: from handing the first run to a worker that is still starting, to the last
result. On two processors that should be at least 1.8 times faster with two workers. The second
ratio compares that stage with what the runs themselves take: it is 1 when two workers never wait.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

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
    parser.add_argument("--small", action="store_true", help="6 runs of 20 ms")
    arguments = parser.parse_args()
    runs, seconds = (6, 0.02) if arguments.small else (arguments.runs, arguments.seconds)
    loops = loops_of(seconds)
    print(f"{runs} runs of {seconds:g} s in pure Python ({loops:,} loops)")
    with tempfile.TemporaryDirectory(prefix="benchmark-parallel-") as name:
        folder = Path(name)
        (folder / "busy.py").write_text(STRATEGY)
        sweep(folder, 2, n_jobs=2, loops=1)  # makes the store and the compiled kernels
        took = {n_jobs: sweep(folder, runs, n_jobs=n_jobs, loops=loops) for n_jobs in (1, 2)}
    for n_jobs, timings in took.items():
        print(
            f"n_jobs={n_jobs}: execution {timings['stages_s']['execution']:6.2f} s, "
            f"median run {timings['run_runtime_s']['median'] * 1000:4.0f} ms, "
            f"workers busy {timings['parallel_efficiency']:.0%} of the stage"
        )
    ratio = took[1]["stages_s"]["execution"] / took[2]["stages_s"]["execution"]
    print(f"two workers are {ratio:.2f} times as fast as one")
    for name in ("worker_busy_s", "worker_cpu_s"):
        compute = took[2][name] / 2
        stage = took[2]["stages_s"]["execution"] / compute
        print(f"n_jobs=2: the execution stage takes {stage:.3f} times {name} / 2 = {compute:.2f} s")


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


def sweep(folder: Path, runs: int, *, n_jobs: int, loops: int) -> dict:
    """Run a sweep and return its batch_timings.json."""
    output = folder / f"batch-{n_jobs}-{loops}"
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
    return json.loads((output / "batch_timings.json").read_text())


if __name__ == "__main__":
    main()
