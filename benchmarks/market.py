"""Time and peak memory of reading prices in Parquet files, one a symbol or one of all closes.

    python -m benchmarks.market --symbols 3000 --bars 8000
    python -m benchmarks.market --symbols 20 --bars 2000000 --intraday --wide
    python -m benchmarks.market --small

Makes the files and a cache in a temporary folder, which is removed at the end, and reads them twice
in processes of their own: once anew, once from the cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

_LOAD = """
import resource, sys, time
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Parquet

before = time.perf_counter()
panel = load_panel(Parquet(path=sys.argv[1], freq=sys.argv[2]))
seconds = time.perf_counter() - before
unit = 2**20 if sys.platform == "darwin" else 2**10
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
print(f"{panel.n_bars:,} x {panel.n_assets:,} {'+'.join(panel.fields)} "
      f"{seconds:6.1f} s {peak:7,.0f} MiB")
"""


def main() -> None:
    """Make the folder, read it, print time and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=3_000)
    parser.add_argument("--bars", type=int, default=8_000)
    parser.add_argument("--close-only", action="store_true", help="no open, high, low and volume")
    parser.add_argument("--wide", action="store_true", help="one file, a column of closes a symbol")
    parser.add_argument("--intraday", action="store_true", help="bars of five minutes, all day")
    parser.add_argument("--small", action="store_true", help="30 symbols x 500 bars")
    arguments = parser.parse_args()
    symbols, bars = (30, 500) if arguments.small else (arguments.symbols, arguments.bars)
    with tempfile.TemporaryDirectory(prefix="benchmark-market-") as name:
        folder = Path(name, "prices")
        freq = "5min" if arguments.intraday else "1d"
        if arguments.wide:
            size = make_wide(folder, symbols, bars, freq)
        else:
            close_only = arguments.close_only
            size = make_folder(folder, symbols, bars, freq, close_only=close_only)
        print(f"{1 if arguments.wide else symbols:,} files, {size / 2**20:,.0f} MiB")
        for label in ("from the files", "from the cache"):
            environment = {**os.environ, "BACKTEST_BATCH_CACHE": str(Path(name, "cache"))}
            command = [sys.executable, "-c", _LOAD, str(folder), freq]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr)
            print(f"{label}: {done.stdout.strip()}")


def make_wide(folder: Path, symbols: int, bars: int, freq: str) -> int:
    """Write one file with a column of closes a symbol; return the bytes written."""
    folder.mkdir()
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {"timestamp": _stamps(bars, freq)}
    for number in range(symbols):
        columns[f"SYM{number:05d}"] = 50.0 * np.exp(np.cumsum(random.normal(0.0, 1e-3, bars)))
    file = folder / "closes.parquet"
    parquet.write_table(pa.table(columns), file, use_dictionary=False, compression="none")
    return file.stat().st_size


def _stamps(bars: int, freq: str) -> pd.DatetimeIndex:
    return pd.date_range("1990-01-01", periods=bars, freq="B" if freq == "1d" else freq)


def make_folder(folder: Path, symbols: int, bars: int, freq: str, *, close_only: bool) -> int:
    """Write one file a symbol, some of which begin later; return the bytes written."""
    folder.mkdir()
    random = np.random.default_rng(0)
    dates = _stamps(bars, freq)
    total = 0
    for number in range(symbols):
        first = int(random.integers(0, bars // 2)) if number % 3 == 2 else 0
        moves = random.normal(0.0, 0.015, (bars - first, 4))
        close = 50.0 * np.exp(np.cumsum(moves[:, 0]))
        columns: dict[str, Any] = {"timestamp": dates[first:], "close": close}
        if not close_only:
            columns["open"] = close * np.exp(moves[:, 1])
            columns["high"] = np.maximum(close, columns["open"]) * np.exp(np.abs(moves[:, 2]))
            columns["low"] = np.minimum(close, columns["open"]) * np.exp(-np.abs(moves[:, 3]))
            columns["volume"] = random.integers(0, 10**6, bars - first)
        file = folder / f"SYM{number:05d}.parquet"
        parquet.write_table(pa.table(columns), file, use_dictionary=False, compression="none")
        total += file.stat().st_size
    return total


if __name__ == "__main__":
    main()
