"""How soon a search finds the best of a grid, and what asking and telling cost.

python -m benchmarks.search           a grid of 100 x 100, 20 seeds, 1,000 trials
python -m benchmarks.search --small   a grid of 12 x 12, 3 seeds, 50 trials, for CI

The grid is computed first, every cell of it; a search then looks values up.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np

import backtest_batch as bb
from backtest_batch.search.space import Interval, SearchSpace, ValueSet
from backtest_batch.search.study import Judged, SearchSettings, Study

SHARE = 0.99
"""Share of the best Sharpe ratio that is looked for."""

METHODS = ("random", "sobol", "tpe", "cmaes")
TIMED = ("random", "sobol", "tpe", "cmaes", "nsga2")

Sharpe = dict[tuple[int, int], float]


def whole_grid(n_values: int, data: str) -> tuple[SearchSpace, Sharpe]:
    """Return the space of a trend strategy, and the Sharpe ratio of every cell."""
    fast = list(range(2, 2 + n_values))
    slow = list(range(104, 104 + 2 * n_values, 2))
    sweep = bb.run_sweep(
        {"strategy.fast": fast, "strategy.slow": slow},
        data=data,
        strategy="trend_baseline",
        start_date="2001-06-01" if data == "synthetic" else "1992-01-01",
        batch_name="whole grid",
        tracking={"artifacts": "none"},
    )
    params, sharpe = sweep.runs.params, sweep.runs.metrics["sharpe"]
    cells = zip(params["strategy.fast"], params["strategy.slow"], strict=True)
    found = {(int(a), int(b)): float(s) for (a, b), s in zip(cells, sharpe, strict=True)}
    space = SearchSpace({"fast": ValueSet(tuple(fast)), "slow": ValueSet(tuple(slow))})
    return space, found


def trials_until(
    space: SearchSpace, sharpe: Sharpe, method: str, seed: int, wanted: float, most: int
) -> tuple[int, float]:
    """Return after how many evaluations a search has found enough, and the best it has found."""
    study = Study(space, SearchSettings(method=method, n_trials=most, seed=seed))
    best = -np.inf
    while proposals := study.ask():
        found = {}
        for item in proposals:
            value = sharpe[item.point["fast"], item.point["slow"]]
            found[item.number] = Judged(values=(value,))
            best = max(best, value)
            if value >= wanted:
                return item.number, best
        study.tell(found)
    return most, best


def efficiency(n_values: int, n_seeds: int, data: str) -> None:
    """Print how many evaluations searches need on a grid that is known."""
    space, sharpe = whole_grid(n_values, data)
    top = max(sharpe.values())
    enough = sum(value >= SHARE * top for value in sharpe.values())
    print(
        f"{len(sharpe):,} cells, best Sharpe ratio {top:.4f}; {enough:,} cells reach "
        f"{SHARE:.0%} of it. {n_seeds} seeds, rounds of 8.\n"
    )
    print("| search | evaluations until then: median | from | to | best value found |")
    print("|---|---|---|---|---|")
    for method in METHODS:
        ended = [
            trials_until(space, sharpe, method, seed, SHARE * top, min(len(sharpe), 1_000))
            for seed in range(n_seeds)
        ]
        counts = [count for count, _ in ended]
        highest = max(value for _, value in ended)
        assert highest <= top
        median = statistics.median(counts)
        print(f"| {method} | {median:,.0f} | {min(counts):,} | {max(counts):,} | {highest:.4f} |")


def overhead(n_trials: int) -> None:
    """Print the processor time that asking and telling take for each trial."""
    space = SearchSpace(
        {
            "fast": Interval(low=5, high=500),
            "slow": Interval(low=20, high=2_500),
            "rate": Interval(low=1e-4, high=1.0, log=True),
            "rebalance": ValueSet(("W", "M", "Q")),
        }
    )

    def value(point: dict[str, float]) -> float:
        return -((point["fast"] - 60) ** 2) / 1e4 - math.log(point["rate"]) ** 2

    print(f"\n{n_trials:,} trials, 4 axes, rounds of 8.\n")
    print("| search | processor ms a trial | of the last 100 trials |")
    print("|---|---|---|")
    for method in TIMED:
        total, last = _timed(space, method, n_trials, value)
        print(f"| {method} | {total:.2f} | {last:.2f} |")


def _timed(
    space: SearchSpace, method: str, n_trials: int, value: Callable[..., float]
) -> tuple[float, float]:
    study = Study(space, SearchSettings(method=method, n_trials=n_trials))
    spent: list[tuple[float, int]] = []
    while True:
        started = time.process_time()
        proposals = study.ask()
        asked = time.process_time() - started
        if not proposals:
            break
        found = {item.number: Judged(values=(value(item.point),)) for item in proposals}
        started = time.process_time()
        study.tell(found)
        spent.append((asked + time.process_time() - started, len(proposals)))
    late = spent[-max(1, 100 // 8) :]
    return tuple(1e3 * sum(s for s, _ in part) / sum(n for _, n in part) for part in (spent, late))  # type: ignore[return-value]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="little, for CI")
    small = parser.parse_args().small
    efficiency(12 if small else 100, 3 if small else 20, "synthetic" if small else "sp500")
    overhead(50 if small else 1_000)


if __name__ == "__main__":
    main()
