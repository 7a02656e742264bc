"""The accounts of a few runs, and what they come to on windows."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from backtest_batch.comparison.walk_forward.runs import PER_BAR, ScenarioRuns
from backtest_batch.comparison.walk_forward.split import Windows, positions
from backtest_batch.engine.arrays import kernel_input
from backtest_batch.engine.costs import BASIS_POINT
from backtest_batch.market.panel import BoolArray, FloatArray, IntArray


class _Path(NamedTuple):
    """A run on a window: equity before its first bar and on each of its bars."""

    equity: FloatArray
    benchmark: FloatArray
    ruined: bool


class Accounts:
    """A few runs of a scenario, each contiguous along the bars.

    Parameters
    ----------
    runs
        The runs of the scenario.
    part
        Which of them.
    """

    def __init__(self, runs: ScenarioRuns, part: slice) -> None:
        self._runs = runs
        self._part = part
        self._returns = _by_run(runs.returns, part)
        n_chosen, n_bars = self._returns.shape
        present = np.isfinite(self._returns)
        self._n_absent: IntArray = np.zeros((n_chosen, n_bars + 1), dtype=np.int64)
        np.cumsum(~present, axis=1, out=self._n_absent[:, 1:])
        # Bars after ruin count for nothing; the bar of ruin counts.
        self._ends = np.minimum(runs.ruined_bars[part] + 1, n_bars)
        equity = np.ones((n_chosen, n_bars + 1))
        np.cumprod(1.0 + np.where(present, self._returns, 0.0), axis=1, out=equity[:, 1:])
        self._equity = kernel_input(equity)
        # One row for each run, or one that they share.
        given = np.full(n_bars, np.nan) if runs.benchmark is None else np.asarray(runs.benchmark)
        rows = given[None, :] if given.ndim == 1 else _by_run(given, part)
        self._benchmarks = kernel_input(rows)
        self._n_unmatched: IntArray = np.zeros((len(rows), n_bars + 1), dtype=np.int64)
        np.cumsum(~np.isfinite(rows), axis=1, out=self._n_unmatched[:, 1:])

    def metrics(self, windows: Sequence[Windows]) -> dict[str, FloatArray]:
        """Return every metric that the arrays define, each of shape (n_windows, n_chosen)."""
        # Numba takes a quarter of a second to import; who only reads settings is spared.
        from backtest_batch.engine.metric_kernels import PathMetrics, path_metrics, window_metrics

        runs = self._runs
        n_chosen = len(self._returns)
        # Floats whatever was given: another type would be compiled anew.
        per_year = float(runs.periods_per_year)
        risk_free = float(runs.risk_free_rate) / per_year
        values = np.full((len(windows), n_chosen, len(PathMetrics._fields)), np.nan)
        n_periods = np.full((len(windows), n_chosen), np.nan)
        for window, ranges in enumerate(windows):
            if len(ranges) == 1:
                start, stops, matched = self._stops(*ranges)
                window_metrics(
                    *(self._equity, self._benchmarks, start, stops, matched),
                    *(per_year, risk_free, values[window]),
                )
                n_periods[window] = np.where(stops > start, stops - start, np.nan)
                continue
            for run, path in enumerate(self._joined_paths(ranges)):
                if path is not None:
                    values[window, run] = path_metrics(
                        path.equity, path.benchmark, per_year, risk_free, path.ruined
                    )
                    n_periods[window, run] = len(path.equity) - 1
        found = {name: values[:, :, row] for row, name in enumerate(PathMetrics._fields)}
        found["n_periods"] = n_periods
        return found | self._traded(windows, n_periods, found["mean_return"])

    def _stops(self, bars: range) -> tuple[int, IntArray, BoolArray]:
        """Return the first bar, the bar after the last one of each run, and where benchmarks are.

        The bar after the last one is the first for a run that lacks a return on one of the bars.
        """
        start = bars.start
        stops = np.clip(self._ends, start, bars.stop)
        absent = self._n_absent[np.arange(len(stops)), stops] - self._n_absent[:, start]
        matched = self._n_unmatched[:, bars.stop] == self._n_unmatched[:, start]
        return start, np.where(absent > 0, start, stops), matched

    def _joined_paths(self, ranges: Windows) -> Iterator[_Path | None]:
        """Yield each run on several ranges of bars, put end to end."""
        bars = positions(ranges)
        returns = self._returns[:, bars]
        paths = np.ones((len(returns), len(bars) + 1))
        np.cumprod(1.0 + returns, axis=1, out=paths[:, 1:])
        equity = kernel_input(paths)
        benchmarks = kernel_input(self._benchmarks[:, bars])
        matched = [bool(np.isfinite(row).all()) for row in benchmarks]
        for run, n_kept in enumerate(np.searchsorted(bars, self._ends).tolist()):
            ruined_in_a_gap = n_kept < len(bars) and bars[n_kept - 1] != self._ends[run] - 1
            if n_kept == 0 or ruined_in_a_gap or not np.isfinite(equity[run, n_kept]):
                yield None
            else:
                path = equity[run, : n_kept + 1]
                row = run if len(benchmarks) > 1 else 0
                benchmark = benchmarks[row, : n_kept if matched[row] else 0]
                yield _Path(path, benchmark, bool(path[-1] <= 0.0))

    def _traded(
        self, windows: Sequence[Windows], n_periods: FloatArray, mean_return: FloatArray
    ) -> dict[str, FloatArray]:
        """Return the metrics of turnover, costs, trades and exposures where their arrays are."""
        arrays = {
            name: np.nan_to_num(_by_run(getattr(self._runs, name), self._part))
            for name in PER_BAR
            if getattr(self._runs, name) is not None
        }
        sums = {name: self._sums(values, windows) for name, values in arrays.items()}
        undefined = np.isnan(n_periods)
        found: dict[str, FloatArray] = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            if "turnover" in sums:
                found["turnover_annual"] = (
                    sums["turnover"] * self._runs.periods_per_year / n_periods
                )
            if "cost_ratio" in sums:
                cost = arrays["cost_ratio"] * self._equity[:, :-1] * self._runs.initial_capital
                found["total_costs"] = self._sums(cost, windows)
            if "turnover" in sums and "cost_ratio" in sums:
                gross_return = mean_return * n_periods + sums["cost_ratio"]
                found["breakeven_cost_bps"] = gross_return / sums["turnover"] / BASIS_POINT
            if "trades" in sums:
                found["trades"] = sums["trades"]
            # On the bar of ruin there is no equity to hold positions over.
            n_held = n_periods - self._ruined_within(windows)
            if "gross_exposure" in sums:
                found["avg_gross_exposure"] = sums["gross_exposure"] / n_held
                found["max_gross_exposure_realised"] = np.array(
                    [_largest(arrays["gross_exposure"], ranges) for ranges in windows]
                )
            if "net_exposure" in sums:
                found["avg_net_exposure"] = sums["net_exposure"] / n_held
        return {name: np.where(undefined, np.nan, values) for name, values in found.items()}

    def _sums(self, values: FloatArray, windows: Sequence[Windows]) -> FloatArray:
        """Return the sums of per-bar values up to ruin, shape (n_windows, n_chosen)."""
        running = np.zeros((values.shape[0], values.shape[1] + 1))
        np.cumsum(values, axis=1, out=running[:, 1:])
        run = np.arange(len(values))
        sums = np.zeros((len(windows), len(values)))
        for window, ranges in enumerate(windows):
            for bars in ranges:
                sums[window] += running[run, np.minimum(bars.stop, self._ends)]
                sums[window] -= running[run, np.minimum(bars.start, self._ends)]
        return sums

    def _ruined_within(self, windows: Sequence[Windows]) -> FloatArray:
        """Return 1 where a run is ruined on a bar of a window, else 0."""
        ruined = self._runs.ruined_bars[self._part]
        within = [
            np.any([(bars.start <= ruined) & (ruined < bars.stop) for bars in ranges], axis=0)
            for ranges in windows
        ]
        return np.array(within, dtype=np.float64).reshape(len(windows), len(ruined))


def _by_run(values: FloatArray, part: slice) -> FloatArray:
    """Return some columns as rows that are contiguous along the bars."""
    return np.array(np.asarray(values[:, part]).T, dtype=np.float64, order="C")


def _largest(values: FloatArray, ranges: Windows) -> FloatArray:
    return np.asarray(np.max([values[:, r.start : r.stop].max(axis=1) for r in ranges], axis=0))
