"""How often the permutation test of a whole search is wrong, and how often it finds skill.

    python -m benchmarks.permutation                     200 sweeps, 39 permuted markets each
    python -m benchmarks.permutation --small             for CI

Each sweep has a market of its own: five assets, 1,000 bars, and the grid of a trend strategy, or 24
trials of tpe on the same axes. p-values of the random walks should be uniform (Kolmogorov-Smirnov
against the uniform distribution on 1/40, 2/40, ... 1, approximated by the continuous one).
"""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from backtest_batch.analysis.overfitting.permutation import PermutationTest
from backtest_batch.core.data.panel import Panel, new_panel
from backtest_batch.core.data.permutation import permuted_panel
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.metrics import result_metrics
from backtest_batch.core.engine.simulation import SimulationSettings, simulate_many
from backtest_batch.core.strategies.base import target_weights
from backtest_batch.core.strategies.trend_baseline import TrendBaseline
from backtest_batch.records import PermutedMarket
from backtest_batch.search.space import SearchSpace, ValueSet
from backtest_batch.search.study import Judged, Proposal, SearchSettings, search

FAST, SLOW = (5, 10, 15, 20, 30, 40), (50, 75, 100, 150)
FIRST_BAR = 150
N_BARS, N_ASSETS, VOLATILITY = 1_000, 5, 0.01

Moves = Callable[[np.random.Generator], np.ndarray]


def random_walk(generator: np.random.Generator) -> np.ndarray:
    """Return gains that nothing foretells, correlated between the assets."""
    common = generator.standard_normal((N_BARS, 1))
    own = generator.standard_normal((N_BARS, N_ASSETS))
    return VOLATILITY * (0.6 * common + 0.8 * own)


def wild_and_calm(generator: np.random.Generator) -> np.ndarray:
    """Return gains that nothing foretells, but for how large they are (GARCH(1, 1))."""
    shocks = random_walk(generator) / VOLATILITY
    moves, variance = np.empty_like(shocks), np.ones(N_ASSETS)
    for bar, shock in enumerate(shocks):
        moves[bar] = np.sqrt(variance) * shock
        variance = 0.05 + 0.10 * moves[bar] ** 2 + 0.85 * variance
    return VOLATILITY * moves


def trending(generator: np.random.Generator) -> np.ndarray:
    """Return gains with drifts that last for about 80 bars: there is something to be found."""
    moves, drift = random_walk(generator), np.zeros(N_ASSETS)
    for bar in range(N_BARS):
        turns = generator.random(N_ASSETS) < 1 / 80
        drift = np.where(turns, 0.2 * VOLATILITY * generator.choice([-1, 1], N_ASSETS), drift)
        moves[bar] += drift
    return moves


MARKETS: dict[str, Moves] = {
    "random walk": random_walk,
    "GARCH": wild_and_calm,
    "trends": trending,
}


def market(moves: Moves, seed: int) -> Panel:
    """Return prices."""
    gains = moves(np.random.default_rng(seed))
    return new_panel(
        pd.bdate_range("2015-01-01", periods=N_BARS).as_unit("ns"),
        tuple(f"asset_{number}" for number in range(N_ASSETS)),
        {"close": np.ascontiguousarray(100 * np.exp(np.cumsum(gains, axis=0)))},
    )


def sharpe(panel: Panel, fast: int, slow: int) -> float | None:
    """Return the Sharpe ratio of one run; None where it is not defined."""
    bars = decision_bars(panel.index, "W")
    decisions = bars[bars >= FIRST_BAR]
    weights = target_weights(TrendBaseline(fast=fast, slow=slow), panel, decisions)
    account = simulate_many(panel, decisions, weights, [SimulationSettings()], FIRST_BAR)[0]
    metrics, _ = result_metrics(account, periods_per_year=252.0)
    return metrics.get("sharpe")


def best_of_grid(panel: Panel) -> float | None:
    """Return the best of all cells."""
    found = [sharpe(panel, *cell) for cell in product(FAST, SLOW)]
    return max((value for value in found if value is not None), default=None)


def best_of_tpe(panel: Panel) -> float | None:
    """Return the best of 24 trials of tpe."""
    space = SearchSpace({"fast": ValueSet(tuple(range(2, 41))), "slow": ValueSet(SLOW)})

    def evaluate(proposals: Sequence[Proposal]) -> dict[int, Judged]:
        values = {item.number: sharpe(panel, **item.point) for item in proposals}
        return {
            number: Judged(values=None if value is None else (value,))
            for number, value in values.items()
        }

    settings = SearchSettings(method="tpe", n_trials=24, batch_size=8)
    found = [judged.values for _, judged in search(space, settings, evaluate).values()]
    return max((values[0] for values in found if values), default=None)


SEARCHES = {"grid": best_of_grid, "tpe": best_of_tpe}

ROWS = (
    *product(["random walk"], SEARCHES, [1.0, 10.0]),
    ("GARCH", "grid", 10.0),
    *product(["trends"], SEARCHES, [10.0]),
)
"""Market, search, and mean block of the permutation."""


def pvalue(seed: int, *, kind: str, method: str, n_markets: int, mean_block: float) -> float:
    """Return the p-value of one sweep."""
    panel, best = market(MARKETS[kind], seed), SEARCHES[method]
    observed = best(panel)
    assert observed is not None
    found = tuple(
        best(permuted_panel(panel, PermutedMarket(number=n, seed=seed, mean_block=mean_block)))
        for n in range(1, n_markets + 1)
    )
    return PermutationTest(
        metric="sharpe",
        direction=1,
        observed=observed,
        found=found,
        seed=seed,
        mean_block=mean_block,
        is_adaptive=method == "tpe",
    ).pvalue


def main() -> None:
    """Print the table."""
    from scipy.stats import kstest

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--markets", type=int, default=39)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    sweeps, markets = (4, 3) if options.small else (options.sweeps, options.markets)
    print(f"{sweeps} sweeps, {markets} permuted markets each\n")
    print("| market | search | mean block | p <= 5 % | mean p | Kolmogorov-Smirnov p |")
    print("|---|---|---|---|---|---|", flush=True)
    with ProcessPoolExecutor(options.jobs) as pool:
        for kind, method, block in ROWS:
            one = partial(pvalue, kind=kind, method=method, n_markets=markets, mean_block=block)
            found = np.array(list(pool.map(one, range(sweeps))))
            # Discrete p-values are spread over their steps: that is a continuous distribution.
            spread = found - np.random.default_rng(0).random(sweeps) / (markets + 1)
            print(
                f"| {kind} | {method} | {block:.0f} | {np.mean(found <= 0.05):.1%} | "
                f"{found.mean():.3f} | {kstest(spread, 'uniform').pvalue:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
