"""How often the main test is wrong, how often it finds skill, and what it costs at scale.

python -m benchmarks.overfitting           size and power, 500 panels each
python -m benchmarks.overfitting --scale   time and memory, 10,000 runs x 8,000 bars
python -m benchmarks.overfitting --small   either with little data, for CI
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from backtest_batch.analysis.overfitting import OverfittingSettings, Trial, Trials, evaluate
from backtest_batch.analysis.overfitting.block_length import SHORTEST_BLOCK, mean_block_of
from backtest_batch.analysis.overfitting.cscv import cross_validate_blocks
from backtest_batch.analysis.overfitting.multiple_tests import (
    LEVEL,
    stationary_counts,
    superior_ability,
)
from backtest_batch.analysis.overfitting.samples import FloatArray, samples
from backtest_batch.analysis.overfitting.sharpe import DailyReturns, measure_moments

N_BARS, N_RUNS, DAILY_SHARPE = 500, 100, 0.2
DAILY_VOLATILITY = 0.01

Panel = Callable[[np.random.Generator], FloatArray]


def independent(generator: np.random.Generator) -> FloatArray:
    """Return independent normal returns."""
    return DAILY_VOLATILITY * generator.standard_normal((N_BARS, N_RUNS))


def correlated(correlation: float) -> Panel:
    """Return a panel whose runs all have the same correlation with each other."""

    def panel(generator: np.random.Generator) -> FloatArray:
        common = generator.standard_normal((N_BARS, 1))
        own = generator.standard_normal((N_BARS, N_RUNS))
        mixed: FloatArray = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
        return DAILY_VOLATILITY * mixed

    return panel


def regimes(generator: np.random.Generator) -> FloatArray:
    """Return a panel in which all runs share a calm and a wild regime (4 times the volatility).

    A regime lasts 50 bars on average.
    """
    switches = np.cumsum(generator.random(N_BARS) < 1 / 50) + generator.integers(0, 2)
    scale = np.where(switches % 2 == 0, 0.5, 2.0)[:, None]
    return scale * correlated(0.5)(generator)


PANELS: dict[str, Panel] = {
    "independent": independent,
    "correlation 0.5": correlated(0.5),
    "correlation 0.9": correlated(0.9),
    "volatility regimes": regimes,
}


def size_and_power(n_panels: int) -> None:
    """Print how often the tests reject on noise, and on noise with one skilled run."""
    settings = OverfittingSettings()
    counts = stationary_counts(N_BARS, settings.draws, SHORTEST_BLOCK, settings.seed)
    print(
        f"{n_panels} panels of {N_RUNS} runs x {N_BARS} bars, level {LEVEL:.0%}, "
        f"{settings.draws:,} draws, mean block {SHORTEST_BLOCK:g}, seed {settings.seed}\n"
    )
    print("| panel | noise: SPA | noise: reality check | one skilled run: SPA | StepM names it |")
    print("|---|---|---|---|---|")
    for number, (name, panel) in enumerate(PANELS.items()):
        found = np.zeros(4)
        for index in range(n_panels):
            returns = panel(np.random.default_rng([number, index]))
            noise = _test(returns, counts)
            returns[:, 0] += DAILY_SHARPE * returns[:, 0].std()
            skilled = _test(returns, counts)
            found += (
                noise.spa_pvalue <= LEVEL,
                noise.reality_check_pvalue <= LEVEL,
                skilled.spa_pvalue <= LEVEL,
                0 in skilled.survivors,
            )
        shares = " | ".join(f"{share:.1%}" for share in found / n_panels)
        print(f"| {name} | {shares} |")


def _test(returns: FloatArray, counts: FloatArray):  # type: ignore[no-untyped-def]
    mean = returns.mean(axis=0)
    deviations = counts @ (returns - mean) / len(returns)
    return superior_ability(mean, returns.std(axis=0, ddof=1), deviations, len(returns))


def scale(n_runs: int, n_bars: int) -> None:
    """Print time and private memory of the steps and of the whole, on a memory-mapped matrix."""
    with tempfile.TemporaryDirectory() as folder:
        trials = _big(Path(folder) / "returns.npy", n_runs, n_bars)
        settings = OverfittingSettings()
        print(f"{n_runs:,} runs x {n_bars:,} bars, {psutil.cpu_count()} processors\n")
        print("| step | seconds | processor seconds | peak private memory, MB |")
        print("|---|---|---|---|")
        with _measured("bootstrap: resamples, moments, resampled means of r and a"):
            daily = DailyReturns(trials, samples(trials))
            block = mean_block_of(daily, settings)
            counts = stationary_counts(n_bars, settings.draws, block, settings.seed)
            both = measure_moments(daily, counts, settings.blocks)
        with _measured("reality check, SPA and StepM, on r and on a"):
            for kind in (both.raw, both.adjusted):
                superior_ability(kind.mean, kind.std, kind.deviations, n_bars)
        with _measured(f"CSCV, {settings.blocks} blocks, on r and on a"):
            for kind in (both.raw, both.adjusted):
                cross_validate_blocks(
                    kind.sums, kind.squares, bars_per_block=n_bars // settings.blocks
                )
        del daily, counts, both, kind
        with _measured("the whole verdict"):
            evaluate(trials, settings)
        few = trials.runs[: min(n_runs, 1_000) - 1]
        part = replace(trials, returns=trials.returns[:, : len(few)], runs=few)
        with _measured(f"the whole verdict, {len(few):,} of the runs"):
            evaluate(part, settings)


def _big(path: Path, n_runs: int, n_bars: int) -> Trials:
    returns = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(n_bars, n_runs))
    generator = np.random.default_rng(0)
    market = generator.normal(0.0003, 0.01, n_bars)
    for bar in range(n_bars):
        returns[bar] = 0.7 * market[bar] + 0.008 * generator.standard_normal(n_runs)
    returns.flush()
    return Trials(
        returns=np.load(path, mmap_mode="r"),
        index=pd.bdate_range("1990-01-01", periods=n_bars),
        runs=[
            Trial(run_id=f"run_{k}", scenario="base", decision=str(k), rank=k + 1)
            for k in range(n_runs)
        ],
        benchmarks={"base": market},
    )


@contextmanager
def _measured(step: str) -> Iterator[None]:
    """Print seconds, processor seconds and the highest private memory of a step."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        process = psutil.Process()
        while True:
            memory = process.memory_info()
            # Mapped files are shared with the page cache and given back under pressure.
            peak[0] = max(peak[0], memory.rss - getattr(memory, "shared", 0))
            if done.wait(0.02):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun, used = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        seconds, processor = time.perf_counter() - begun, time.process_time() - used
        done.set()
        watcher.join()
    print(f"| {step} | {seconds:.1f} | {processor:.1f} | {peak[0] / 1e6:,.0f} |", flush=True)


def main() -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(description="Size, power, time and memory of the verdict.")
    parser.add_argument("--scale", action="store_true", help="time and memory instead")
    parser.add_argument("--small", action="store_true", help="little data, for CI")
    options = parser.parse_args()
    if options.scale:
        scale(*((200, 1_000) if options.small else (10_000, 8_000)))
    else:
        size_and_power(20 if options.small else 500)


if __name__ == "__main__":
    main()
