"""The accounts of a few runs, and the sums of their bars on windows."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from backtest_batch.comparison.walk_forward.runs import ScenarioRuns
from backtest_batch.comparison.walk_forward.split import Windows, positions
from backtest_batch.engine.arrays import kernel_input
from backtest_batch.engine.metrics import AccountSums, worked_out
from backtest_batch.market.panel import BoolArray, FloatArray, IntArray

TRADED = ("turnover", "cost_ratio", "trades")
HELD = ("gross_exposure", "net_exposure")


class _Path(NamedTuple):
    """A run on a window: equity before its first bar and on each of its bars."""

    equity: FloatArray
    benchmark: FloatArray
    ruined: bool


class AccountBars:
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

    def metrics(self, names: Sequence[str], windows: Sequence[Windows]) -> dict[str, FloatArray]:
        """Return metrics by name, each of shape (n_windows, n_chosen); not finite if undefined.

        Parameters
        ----------
        names
            Metrics whose arrays the runs have.
        windows
            Bars of each window.
        """
        path, n_periods = self._paths(windows)
        sums = self._sums(windows, n_periods, path["mean_return"])
        # What is divided by 0 is undefined: the costs of a run that has not traded, say.
        with np.errstate(divide="ignore", invalid="ignore"):
            found = worked_out(names, path, sums)
        undefined = np.isnan(n_periods)
        return {name: np.where(undefined, np.nan, values) for name, values in found.items()}

    def _paths(self, windows: Sequence[Windows]) -> tuple[dict[str, FloatArray], FloatArray]:
        """Return what the paths of equity define, and the numbers of returns; NaN where none."""
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
        return {name: values[:, :, row] for row, name in enumerate(PathMetrics._fields)}, n_periods

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

    def _sums(
        self, windows: Sequence[Windows], n_periods: FloatArray, mean_return: FloatArray
    ) -> AccountSums:
        """Return the sums of what is known of the accounts, each of shape (n_windows, n_chosen).

        The bar before a window is its first measured one: what is held after its trades earns the
        first return. Its trades belong to the window where the run itself begins with that bar.
        """
        before = np.array([ranges[0].start - 1 for ranges in windows])
        sums: dict[str, FloatArray] = {}
        begins = self._begins_on(before)
        traded = {name: np.nan_to_num(values) for name, values in self._known(*TRADED)}
        if "cost_ratio" in traded:
            traded["cost"] = (
                traded["cost_ratio"] * self._equity[:, :-1] * self._runs.initial_capital
            )
        for name, values in traded.items():
            sums[name] = self._over(values, windows) + np.where(begins, values.T[before], 0.0)
        if "trades" in sums:
            sums["n_trades"] = sums.pop("trades")
        for name, values in self._known(*HELD):
            held = np.nan_to_num(values)
            first = np.where(before[:, None] >= 0, values.T[before], np.nan)
            sums[name] = self._over(held, windows) + np.nan_to_num(first)
            # On the bar of ruin there is no equity to hold positions over.
            n_bars = n_periods + np.isfinite(first) - self._ruined_within(windows)
            sums["n_exposure_bars"] = n_bars
            if name == "gross_exposure":
                largest = np.array([_largest(held, ranges) for ranges in windows])
                sums["max_gross_exposure"] = np.fmax(largest, first)
        return AccountSums(
            periods_per_year=self._runs.periods_per_year,
            n_periods=n_periods,
            mean_return=mean_return,
            **sums,
        )

    def _known(self, *names: str) -> Iterator[tuple[str, FloatArray]]:
        """Yield those arrays that the runs have, a row for each run."""
        for name in names:
            values = getattr(self._runs, name)
            if values is not None:
                yield name, _by_run(values, self._part)

    def _begins_on(self, bars: IntArray) -> BoolArray:
        """Return which runs begin on which of some bars, shape (n_bars, n_chosen).

        A fitted run was entered before the bar from which on it counts.
        """
        runs = self._runs
        firsts = runs.first_returns[self._part] - 1
        fitted = np.isin(np.arange(len(runs.run_ids))[self._part], list(runs.in_sample))
        return np.asarray((bars[:, None] == firsts) & (bars[:, None] >= 0) & ~fitted)

    def _over(self, values: FloatArray, windows: Sequence[Windows]) -> FloatArray:
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
