"""Overhead a run of each backend: loky, Dask and Ray, each on this machine.

    python -m benchmarks.backends
    python -m benchmarks.backends --backends loky dask
    python -m benchmarks.backends --small

Runs sweeps of a strategy that does next to nothing, with two workers, in a temporary folder with a
store that is there already. "alone": every run is a chunk of its own, on its way to a worker and
back; "together": the runs share signals, so that up to 256 of them are one chunk. A run's cost is
the difference of the execution stages (batch_timings.json) of a large and a small sweep, divided
by the difference of their runs; the processor time is that of the whole commands, recording
included. What a cluster takes to start is seen in how much longer the small
sweep takes than on the first backend.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

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


class Took(NamedTuple):
    """Seconds: of the execution stage, of the whole command, and of processors."""

    execution: float
    wall: float
    processors: float


def sweep(folder: Path, backend: str, kind: str, runs: int) -> Took:
    """Run a sweep and return what it took."""
    output = folder / f"{backend}-{kind}-{runs}"
    axis = "strategy.number" if kind == "alone" else "commission_bps"
    command = [
        *(sys.executable, "-m", "backtest_batch", "-m", *MARKET, "strategy=custom"),
        *("strategy._target_=little.Little", f"{axis}=range(0,{runs})", "n_jobs=2"),
        *("adaptive_workers=false", "tracking.artifacts=none", f"output_dir={output}"),
        f"hydra.launcher.backend={backend}",
    ]
    started, before = time.perf_counter(), processor_seconds()
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
    return Took(timings["stages_s"]["execution"], wall, processor_seconds() - before)


def processor_seconds() -> float:
    """Return the processor time of all commands so far, and of what they have waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


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
            parts = []
            for kind in ("alone", "together"):
                first = sweep(folder, backend, kind, few)
                last = sweep(folder, backend, kind, many)
                wall, used = (
                    max(0.0, getattr(last, name) - getattr(first, name)) / (many - few) * 1e3
                    for name in ("execution", "processors")
                )
                parts.append(f"{wall:6.2f} ms a run {kind} ({used:.2f} of processors)")
                if kind == "alone":
                    whole = first.wall
            base = base or whole
            print(
                f"{backend:<5} {', '.join(parts)}; the small sweep takes {whole:.1f} s, "
                f"{whole - base:+.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
