"""What a walk-forward adds to a sweep: time by step, and memory.

    python -m benchmarks.walk_forward           1,000 runs x 60 splits
    python -m benchmarks.walk_forward --small   20 runs x 5 splits, for CI

The runs are noise on 8,313 daily bars with every per-bar array; strategies need no fit. The steps
are those at the end of a sweep, up to the text of the files; kernels are compiled before. The
processor time is that of all threads: two free cores take little more than half of it.
"""

import argparse
import resource
import sys
import time

import numpy as np
import pandas as pd

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.walk_forward import (
    ScenarioRuns,
    aggregate_table,
    csv_bytes,
    equity_table,
    make_splits,
    measure_windows,
    run_metrics,
    summarise,
    summary_table,
    walk_forward,
)
from backtest_batch.arrays import FloatArray
from backtest_batch.core.split_settings import parse

RANKINGS = ("sharpe", {"sharpe": 0.5, "calmar": 0.3, "turnover_annual": 0.2})


def noise(n_bars: int, n_runs: int) -> ScenarioRuns:
    """Return runs without skill, with everything that windows can be measured by."""
    generator = np.random.default_rng(0)
    index = pd.bdate_range("1990-01-02", periods=n_bars)
    market = generator.normal(0.0003, 0.01, n_bars)
    returns = market[:, None] + generator.normal(0.0, 0.005, (n_bars, n_runs))
    returns[0] = market[0] = np.nan
    traded = np.abs(generator.normal(0.0, 0.1, (n_bars, n_runs)))
    pairs = np.arange(n_runs)
    return ScenarioRuns(
        scenario="base",
        run_ids=tuple(f"run_{number}" for number in range(n_runs)),
        index=index,
        returns=returns,
        parameters=pd.DataFrame({"fast": pairs % 25, "slow": pairs // 25}),
        periods_per_year=252.0,
        cost_rate=0.0005,
        benchmark=market,
        turnover=traded,
        cost_ratio=0.0005 * traded,
        gross_exposure=np.ones_like(traded),
        net_exposure=np.ones_like(traded),
        trades=np.ones_like(traded),
    )


def _equal_weights(run: int, bar: int) -> FloatArray:  # noqa: ARG001 - all runs alike
    return np.full(20, 0.05)


def steps(runs: ScenarioRuns, method: str, rank_by: object) -> tuple[int, dict[str, float]]:
    """Return the number of splits, and the seconds of each step."""
    seconds: dict[str, float] = {}

    def lap(step: str, started: float) -> float:
        now = time.perf_counter()
        seconds[step] = now - started
        return now

    ranking = Ranking.parse(rank_by)
    processor = time.process_time()
    now = time.perf_counter()
    settings = parse({"method": method}, runs.index[1:], runs.periods_per_year, 1)
    assert settings is not None
    now = lap("settings", now)
    walk = walk_forward(runs, settings, ranking, _equal_weights)
    now = lap("measure, choose, stitch", now)
    summary, aggregate = summary_table([walk]), aggregate_table([walk])
    equity_table([walk])
    run_metrics([walk])
    now = lap("tables", now)
    csv_bytes(summary)
    csv_bytes(aggregate)
    now = lap("as CSV", now)
    summarise([walk], ranking)
    lap("findings", now)
    seconds["total"] = sum(seconds.values())
    seconds["processor"] = time.process_time() - processor
    return len(walk.plan.splits), seconds


def main() -> None:
    """Run the walk-forwards and print what they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--bars", type=int, default=8_313)
    parser.add_argument("--small", action="store_true", help="20 runs x 1,400 bars")
    arguments = parser.parse_args()
    n_runs, n_bars = (20, 1_400) if arguments.small else (arguments.runs, arguments.bars)
    runs = noise(n_bars, n_runs)
    settings = parse({"method": "rolling"}, runs.index[1:], runs.periods_per_year, 1)
    assert settings is not None
    measure_windows(runs, [make_splits(settings, runs.index).splits[0].train])
    header = False
    for method in ("rolling", "expanding", "combinatorial"):
        for rank_by in RANKINGS:
            n_splits, seconds = steps(runs, method, rank_by)
            if not header:
                print(f"| {n_runs:,} runs x {n_bars:,} bars | {' | '.join(seconds)} |")
                print("|---" * (len(seconds) + 1) + "|")
                header = True
            chosen = rank_by if isinstance(rank_by, str) else "score of 3"
            cells = [f"{value:.2f} s" for value in seconds.values()]
            print(f"| {method}, {n_splits} splits, {chosen} | {' | '.join(cells)} |")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    given = 6 * n_bars * n_runs / 2**17
    print(f"\nPeak memory {peak:,.0f} MiB, of which {given:,.0f} are the given arrays.")


if __name__ == "__main__":
    main()
