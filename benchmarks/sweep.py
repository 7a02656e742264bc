"""A large sweep against the stock application, both in one call.

    python -m benchmarks.sweep --runs 10000
    python -m benchmarks.sweep --runs 1000 --stock-runs 0
    python -m benchmarks.sweep --curve              cost a run from 1,000 to 30,000 runs
    python -m benchmarks.sweep --small              for CI

The sweep is moving-average pairs x 10 commissions x 10 exposures on the demo's prices (20 stocks,
8,313 daily bars, monthly): planned, simulated, tracked in MLflow (SQLite), ranked, with the
verdict and the report. The stock application computes ``--stock-runs`` of the same runs; its cost
a run is the difference between that and one of its runs. Wall times of whole processes.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

STOCK = Path(__file__).parent / "stock" / "application.py"


def our_arguments(n_runs: int) -> list[str]:
    """Return the arguments of a sweep of about ``n_runs`` runs."""
    pairs = math.ceil(n_runs / 100)
    fast, slow = _factors(pairs)
    return [
        "-m",
        f"strategy.fast=range(2,{2 + fast})",
        f"strategy.slow=range({40},{40 + 2 * slow},2)",
        "commission_bps=range(0,10)",
        "max_gross_exposure=range(0.1,1.1,0.1)",
        "n_jobs=2",
    ]


def _factors(pairs: int) -> tuple[int, int]:
    fast = max(number for number in range(1, math.isqrt(pairs) + 1) if pairs % number == 0)
    return fast, pairs // fast


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command; return its wall seconds and the parent's peak private memory in MiB."""
    started = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        peak = 0.0
        while process.poll() is None:
            try:
                memory = psutil.Process(process.pid).memory_info()
                # Pages of mapped files are the system's to take back.
                peak = max(peak, (memory.rss - memory.shared) / 2**20)
            except psutil.Error:
                pass
            time.sleep(0.05)
    wall = time.perf_counter() - started
    if process.returncode != 0:
        sys.stderr.write((folder / "output.txt").read_text()[-2000:])
        raise SystemExit(f"{' '.join(command)} returned {process.returncode}")
    return wall, peak


def ours(n_runs: int, *, small: bool = False) -> tuple[float, float, int, dict[str, float]]:
    """Run our sweep in a new folder with an empty store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = our_arguments(n_runs)
        if small:
            arguments += ["data=synthetic", "data.n_bars=600"]
        wall, peak = run([sys.executable, "-m", "backtest_batch", *arguments], folder)
        (timings,) = folder.glob("mlruns/batches/*/batch_timings.json")
        document = json.loads(timings.read_text())
        return wall, peak, document["n_runs"], document["stages_s"]


def stock(n_runs: int) -> float:
    """Run the stock application in a new folder; return its wall seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mlruns").mkdir()
        axes = [f"fast=range(2,{2 + n_runs})"] if n_runs > 1 else ["fast=2"]
        return run([sys.executable, str(STOCK), "-m", *axes], folder)[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--stock-runs", type=int, default=200)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    n_runs, n_stock = (200, 0) if options.small else (options.runs, options.stock_runs)
    sizes = [1_000, 3_000, 10_000, 30_000] if options.curve else [n_runs]
    print(f"{os.cpu_count()} processors, Python {sys.version.split()[0]}")
    per_run = math.nan
    for size in sizes:
        wall, peak, done, stages = ours(size, small=options.small)
        per_run = wall / done
        print(f"\n{done:,} runs: {wall:.1f} s wall, {per_run * 1e3:.2f} ms a run")
        print(f"  parent's private memory: {peak:,.0f} MiB at most")
        for stage, seconds in stages.items():
            print(f"  {stage:<14} {seconds:8.2f} s")
        print(f"  {'outside':<14} {wall - sum(stages.values()):8.2f} s (start and end of Python)")
    if n_stock:
        first, many = stock(1), stock(n_stock)
        theirs = (many - first) / (n_stock - 1)
        print(f"\nstock application: {n_stock} runs in {many:.1f} s, one in {first:.1f} s")
        print(f"  {theirs * 1e3:.1f} ms a run; ratio {theirs / per_run:.1f}")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\nprocessor time of all: {usage.ru_utime + usage.ru_stime:.1f} s")


if __name__ == "__main__":
    main()
