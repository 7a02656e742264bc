"""Overhead a run of each backend: loky, Dask and Ray, each on this machine.

    python -m benchmarks.backends
    python -m benchmarks.backends --backends loky dask
    python -m benchmarks.backends --small

Runs sweeps of a strategy that does next to nothing, with two workers, in a temporary folder with a
store that is there already. "alone": every run is a chunk of its own, on its way to a worker and
back; "together": the runs share signals, so that up to 256 of them are one chunk. A run's cost is
the difference of the execution stages (batch_timings.json) of a large and a small sweep, divided
by the difference of their runs; what a cluster takes to start is seen in how much longer the small
sweep takes than on the first backend.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STRATEGY = """
import numpy as np


class Little:
    def __init__(self, number: int = 0):
        self.number = number

    def target_weights(self, panel, decisions):
        return np.full((len(decisions), panel.n_assets), 1.0 / panel.n_assets)
"""
MARKET = ("data=synthetic", "data.n_assets=3", "data.n_bars=260")
MODULES = {"loky": "joblib", "dask": "distributed", "ray": "ray"}


def sweep(folder: Path, backend: str, kind: str, runs: int) -> tuple[float, float]:
    """Run a sweep; return the seconds of its execution stage, and of the whole command."""
    output = folder / f"{backend}-{kind}-{runs}"
    axis = "strategy.number" if kind == "alone" else "commission_bps"
    command = [
        *(sys.executable, "-m", "backtest_batch", "-m", *MARKET, "strategy=custom"),
        *("strategy._target_=little.Little", f"{axis}=range(0,{runs})", "n_jobs=2"),
        *("adaptive_workers=false", "tracking.artifacts=none", f"output_dir={output}"),
        f"hydra.launcher.backend={backend}",
    ]
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "BACKTEST_BATCH_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    timings = json.loads((output / "batch_timings.json").read_text())
    return timings["stages_s"]["execution"], wall


def main() -> None:
    """Print a line for each backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000, help="runs of the large sweeps")
    parser.add_argument("--backends", nargs="+", choices=list(MODULES), default=list(MODULES))
    parser.add_argument("--small", action="store_true", help="12 runs against 2")
    arguments = parser.parse_args()
    few, many = (2, 12) if arguments.small else (10, arguments.runs)
    print(
        f"{os.cpu_count()} processors, Python {sys.version.split()[0]}; {many} runs against {few}"
    )
    with tempfile.TemporaryDirectory(prefix="benchmark-backends-") as name:
        folder = Path(name)
        (folder / "little.py").write_text(STRATEGY)
        sweep(folder, "loky", "alone", 1)  # makes the store and the compiled kernels
        base = None
        for backend in arguments.backends:
            if importlib.util.find_spec(MODULES[backend]) is None:
                print(f"{backend}: not installed")
                continue
            costs = {}
            for kind in ("alone", "together"):
                first, wall = sweep(folder, backend, kind, few)
                last, _ = sweep(folder, backend, kind, many)
                costs[kind] = max(0.0, last - first) / (many - few) * 1e3
                if kind == "alone":
                    whole = wall
            base = base or whole
            print(
                f"{backend:<5} {costs['alone']:7.2f} ms a run alone, {costs['together']:6.2f} ms "
                f"together; the small sweep takes {whole:.1f} s, {whole - base:+.1f} s"
            )


if __name__ == "__main__":
    main()
