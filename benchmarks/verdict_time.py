"""How long the verdict on 1,000 trials takes, from the start of Python to its end.

    python -m benchmarks.verdict_time
    python -m benchmarks.verdict_time --small     for CI

Seconds of whole processes, wall and processor; medians. The kernels are compiled, as from the
second command on. Beside the file itself there is nothing: no store, no configuration.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

N_TRIALS, N_BARS = 1_000, 2_500


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    n_trials, n_bars = (50, 300) if options.small else (N_TRIALS, N_BARS)
    turns = 1 if options.small else options.turns
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = returns(n_trials, n_bars)
        table.to_parquet(folder / "returns.parquet")
        table.to_csv(folder / "returns.csv")
        command("returns.parquet", folder)
        print(f"{n_trials:,} trials x {n_bars:,} bars, with a benchmark; {turns} turns\n")
        print("| file | seconds | processor seconds |")
        print("|---|---|---|")
        for file in ("returns.parquet", "returns.csv"):
            measured = [command(file, folder) for _ in range(turns)]
            wall, used = (statistics.median(side) for side in zip(*measured, strict=True))
            print(f"| {file} | {wall:.1f} | {used:.1f} |", flush=True)


def returns(n_trials: int, n_bars: int) -> pd.DataFrame:
    """Return trials that hold the market with some noise, and the market."""
    generator = np.random.default_rng(0)
    market = generator.normal(0.0003, 0.01, n_bars)
    values = 0.7 * market[:, None] + 0.008 * generator.standard_normal((n_bars, n_trials))
    index = pd.bdate_range("2010-01-01", periods=n_bars, name="timestamp")
    table = pd.DataFrame(values, index=index, columns=[f"trial_{k}" for k in range(n_trials)])
    return table.assign(benchmark=market)


def command(file: str, folder: Path) -> tuple[float, float]:
    """Judge a file; return the wall seconds and the processor seconds of the process."""
    before, begun = _used(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "backtest_batch.verdict", file],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - begun, _used() - before


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
