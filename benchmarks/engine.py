"""One run with metrics: this engine against vectorbt, in processor time.

    python -m benchmarks.engine
    python -m benchmarks.engine --small     for CI

Both sides trade the same target weights on the demo's prices (20 stocks, 1990-2022), monthly and
daily, and work out Sharpe ratio, total return and maximal drawdown; this engine its other metrics
too. They take turns; each time is the least of all turns. ``vectorbt's loop`` is the part of its
time that is spent in its compiled simulation; the rest is its wrapper's. ``in a grid`` is the time
a run of this engine when 100 costs and exposures are computed together.
"""

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.metrics import result_metrics
from backtest_batch.core.engine.simulation import SimulationSettings, simulate, simulate_many

COMMISSION_BPS = 0.5
GRID = [
    SimulationSettings(commission_bps=float(commission), max_gross_exposure=float(exposure))
    for commission in range(10)
    for exposure in np.linspace(0.5, 1.4, 10)
]


def demo_prices() -> pd.DataFrame:
    """Read the prices that skfolio ships."""
    spec = importlib.util.find_spec("skfolio")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("python -m benchmarks.engine needs: pip install -e '.[test,oracles]'")
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "sp500_dataset.csv.gz")
    return pd.read_csv(path, index_col=0, parse_dates=True)


class VectorbtSide:
    """vectorbt's run, and the time spent in its compiled loop."""

    def __init__(self, prices: pd.DataFrame, decisions: IntArray, weights: FloatArray) -> None:
        # Only here: vectorbt is installed for tests and benchmarks only, and takes seconds.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import vectorbt
            from vectorbt.portfolio import dispatch
        self._vectorbt = vectorbt
        self._prices = prices
        self._size = np.full(prices.shape, np.nan)
        self._size[decisions + 1] = weights
        self.loop_s = np.inf
        loop = dispatch.simulate_from_orders

        def timed_loop(*args: Any, **kwargs: Any) -> Any:
            before = time.process_time()
            result = loop(*args, **kwargs)
            self.loop_s = min(self.loop_s, time.process_time() - before)
            return result

        dispatch.simulate_from_orders = timed_loop

    def __call__(self) -> tuple[float, float, float]:
        """Return Sharpe ratio, total return and maximal drawdown."""
        portfolio = self._vectorbt.Portfolio.from_orders(
            self._prices,
            size=self._size,
            size_type="targetpercent",
            group_by=True,
            cash_sharing=True,
            call_seq="auto",
            fees=COMMISSION_BPS * 1e-4,
            init_cash=1e6,
            freq="1D",
        )
        return portfolio.sharpe_ratio(), portfolio.total_return(), portfolio.max_drawdown()


def least_times(
    sides: Mapping[str, tuple[Callable[[], object], int]], turns: int
) -> dict[str, float]:
    """Return the least processor seconds a call; each side gives its calls a turn."""
    least = dict.fromkeys(sides, np.inf)
    for side, _ in sides.values():
        side()  # compiles
    for _ in range(turns):
        for name, (side, calls) in sides.items():
            before = time.process_time()
            for _ in range(calls):
                side()
            least[name] = min(least[name], (time.process_time() - before) / calls)
    return least


def compare(prices: pd.DataFrame, rebalance: str, turns: int) -> str:
    """Time both sides and return a row of the table."""
    panel = Panel(
        index=pd.DatetimeIndex(prices.index),
        symbols=tuple(prices.columns),
        fields={"close": np.ascontiguousarray(prices.to_numpy(dtype=np.float64))},
        fingerprint="demo",
    )
    decisions = decision_bars(panel.index, rebalance)
    decisions = decisions[decisions + 1 < panel.n_bars]
    # A tenth stays in cash, so that vectorbt never has to cut an order.
    weights = 0.9 * np.random.default_rng(0).dirichlet(np.ones(panel.n_assets), len(decisions))
    settings = SimulationSettings(commission_bps=COMMISSION_BPS)

    def ours() -> dict[str, float]:
        run = simulate(panel, decisions, weights, settings)
        return result_metrics(run, periods_per_year=252)[0]

    def ours_in_a_grid() -> list[Any]:
        runs = simulate_many(panel, decisions, weights, GRID)
        return [result_metrics(run, periods_per_year=252) for run in runs]

    theirs = VectorbtSide(prices, decisions, weights)
    _, total_return, max_drawdown = theirs()
    metrics = ours()
    if not np.allclose(
        (metrics["total_return"], metrics["max_drawdown"]), (total_return, max_drawdown), rtol=1e-9
    ):
        raise SystemExit(f"{rebalance}: both sides must agree, but do not")
    least = least_times(
        {"theirs": (theirs, 1), "ours": (ours, 20), "grid": (ours_in_a_grid, 1)}, turns
    )
    theirs_ms, ours_ms = least["theirs"] * 1e3, least["ours"] * 1e3
    return (
        f"{rebalance:>9} {theirs_ms:12.2f} {theirs.loop_s * 1e3:15.2f} {ours_ms:10.3f} "
        f"{theirs_ms / ours_ms:7.0f}x {theirs.loop_s * 1e3 / ours_ms:7.0f}x "
        f"{least['grid'] * 1e3 / len(GRID):12.3f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="little data and few turns, for CI")
    arguments = parser.parse_args()
    prices = demo_prices()
    if arguments.small:
        prices = prices.iloc[:500]
    print(f"milliseconds of processor time a run, {prices.shape[0]:,} bars x {prices.shape[1]}")
    print(
        f"{'rebalance':>9} {'vectorbt':>12} {'vectorbt loop':>15} {'this':>10} {'ratio':>8} "
        f"{'of loop':>8} {'in a grid':>12}"
    )
    for rebalance in ("M", "D"):
        print(compare(prices, rebalance, turns=2 if arguments.small else 30), flush=True)


if __name__ == "__main__":
    main()
