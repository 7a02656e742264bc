"""A large sweep against the stock application, both in one call.

    python -m benchmarks.sweep --runs 10000
    python -m benchmarks.sweep --runs 1000 --stock-runs 0
    python -m benchmarks.sweep --curve              cost a run from 1,000 to 30,000 runs
    python -m benchmarks.sweep --small              for CI

The sweep is moving-average pairs x 10 commissions x 10 exposures on the demo's prices (20 stocks,
8,313 daily bars, monthly): planned, simulated, tracked in MLflow (SQLite), ranked, with the
verdict and the report. The stock application computes ``--stock-runs`` runs of the same kind; its
cost a run is the difference between that and one of its runs. Wall times of whole processes; ours
begin with no store, and with compiled kernels unless ``--no-warm-up`` is given.
"""

import argparse
import contextlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Run a command; return its wall seconds and its own peak private memory (USS) in MiB.

    That of its children does not count, nor do pages of mapped files, which the system can take
    back.
    """
    started = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        with ThreadPoolExecutor(1) as pool:
            peak = pool.submit(_peak_private_memory, process)
            process.wait()
            wall = time.perf_counter() - started
    if process.returncode != 0:
        sys.stderr.write((folder / "output.txt").read_text()[-2000:])
        raise SystemExit(f"{' '.join(command)} returned {process.returncode}")
    return wall, peak.result()


def _peak_private_memory(process: "subprocess.Popen[bytes]") -> float:
    watched, peak = psutil.Process(process.pid), 0.0
    while process.returncode is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, watched.memory_full_info().uss / 2**20)
        time.sleep(0.1)
    return peak


@dataclass(frozen=True)
class Ours:
    """What one of our sweeps took: wall seconds, peak memory in MiB, and its own timings."""

    wall_s: float
    peak_mb: float
    timings: dict[str, Any]

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return int(self.timings["n_runs"])

    @property
    def per_run_ms(self) -> float:
        """Wall milliseconds a run, the start of Python included."""
        return self.wall_s / self.n_runs * 1e3

    def table(self) -> str:
        """Return the stages: wall seconds, and processor seconds of the parent."""
        stages, cpu = self.timings["stages_s"], self.timings["stages_cpu_s"]
        lines = [
            f"{self.n_runs:,} runs: {self.wall_s:.1f} s wall, {self.per_run_ms:.2f} ms a run, "
            f"parent's private memory {self.peak_mb:,.0f} MiB at most",
            f"  {'stage':<14} {'wall s':>8} {'parent cpu s':>13}",
        ]
        lines += [f"  {name:<14} {stages[name]:>8.2f} {cpu[name]:>13.2f}" for name in stages]
        outside = self.wall_s - sum(stages.values())
        lines.append(f"  {'outside':<14} {outside:>8.2f}  (end of the parent run and of Python)")
        lines.append(f"  {'workers':<14} {'':>8} {self.timings['worker_cpu_s']:>13.2f}")
        return "\n".join(lines)


def ours(n_runs: int, *, small: bool = False) -> Ours:
    """Run our sweep in a new folder with an empty store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = our_arguments(n_runs)
        if small:
            arguments += ["data=synthetic", "data.n_bars=600"]
        wall, peak = run([sys.executable, "-m", "backtest_batch", *arguments], folder)
        (timings,) = folder.glob("mlruns/batches/*/batch_timings.json")
        return Ours(wall, peak, json.loads(timings.read_text()))


def stock(n_runs: int) -> tuple[float, float]:
    """Return the wall seconds of the stock application with one run and with many.

    The store exists: its processes fail when they make one at the same time.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mlruns").mkdir()
        command = [sys.executable, str(STOCK), "-m"]
        run([*command, "fast=2"], folder)
        one, _ = run([*command, "fast=2"], folder)
        return one, run([*command, f"fast=range(2,{2 + n_runs})"], folder)[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--stock-runs", type=int, default=200)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--no-warm-up", action="store_true", help="count compilation, too")
    parser.add_argument("--small", action="store_true", help="little data, for CI")
    options = parser.parse_args()
    n_runs, n_stock = (100, 2) if options.small else (options.runs, options.stock_runs)
    sizes = [1_000, 3_000, 10_000, 30_000] if options.curve else [n_runs]
    print(f"{os.cpu_count()} processors, Python {sys.version.split()[0]}")
    if not (options.no_warm_up or options.small):
        ours(200)  # compiles, unless that was done before
    done = []
    for size in sizes:
        done.append(ours(size, small=options.small))
        print(f"\n{done[-1].table()}", flush=True)
    if len(done) > 1:
        print(f"\n{'runs':>8} {'wall s':>8} {'ms a run':>9} {'MiB':>7}")
        for one in done:
            print(
                f"{one.n_runs:>8,} {one.wall_s:>8.1f} {one.per_run_ms:>9.2f} {one.peak_mb:>7,.0f}"
            )
    if n_stock:
        first, many = stock(n_stock)
        theirs = (many - first) / (n_stock - 1) * 1e3
        print(f"\nstock application: {n_stock} runs in {many:.1f} s, one in {first:.1f} s")
        print(
            f"  {theirs:.1f} ms a run, {theirs / done[-1].per_run_ms:.1f} times ours; "
            f"{done[-1].n_runs:,} runs would take {theirs * done[-1].n_runs / 6e4:.1f} minutes"
        )
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\nprocessor time of all: {usage.ru_utime + usage.ru_stime:.1f} s")


if __name__ == "__main__":
    main()
