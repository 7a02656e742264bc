"""Runs bar by bar, and their metrics within windows, worked out as those of whole runs are."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.engine.metrics import BENCHMARK, AccountSums, metrics_given, worked_out
from backtest_batch.core.factors import (
    FactorReturns,
    factor_metric_names,
    factor_metrics_within,
)
from backtest_batch.core.numbers import in_threads, kernel_input
from backtest_batch.core.splits import Windows, positions

PER_BAR = ("turnover", "cost_ratio", "gross_exposure", "net_exposure", "trades")
"""Arrays that may be given beside the returns; each makes further metrics available."""

_RUNS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class ScenarioRuns:
    """The runs of one scenario: equal conditions, different decisions.

    Arrays of bars have shape (n_bars,) or (n_bars, n_runs) and may be memory-mapped.

    Attributes
    ----------
    scenario
        Label of the scenario.
    run_ids
        Names of the runs, distinct.
    index
        Timestamps of the bars of the data, strictly increasing.
    returns
        Net returns; NaN up to and including a run's first measured bar, and after its ruin.
    parameters
        Decision parameters, one row per run in the order of ``run_ids``, one column per swept key.
    periods_per_year
        Bars per year.
    session_end
        When the market's days end, ``HH:MM``; None is midnight.
    risk_free_rate, cash_rate
        Annual rates.
    cost_rate
        Cost of trading one unit of currency.
    execution_lag
        Bars between decision and execution.
    initial_capital
        Equity before the first out-of-sample bar.
    benchmark
        Net returns of the benchmark, NaN where it has none: of shape (n_bars,) when all runs
        share it, else (n_bars, n_runs), because the benchmark depends on the rebalance dates. None
        without a benchmark.
    turnover
        Sum of absolute traded values over the equity before the trade.
    cost_ratio
        Trading costs over the equity of the bar before.
    gross_exposure, net_exposure
        Exposures after trading.
    trades
        Number of trades.
    factors
        Factors that explain the returns, with theirs on all bars; None without any.
    in_sample
        In-sample metrics of runs whose strategy was fitted, by position of the run: arrays by
        metric, one value per split (see :func:`.in_sample_metrics`). The returns of such a
        run are those of its route over the test windows.
    return_bars
        The bars that were split when runs were fitted; None for :attr:`common_bars`.
    """

    scenario: str
    run_ids: tuple[str, ...]
    index: pd.DatetimeIndex
    returns: FloatArray
    parameters: pd.DataFrame
    periods_per_year: float
    session_end: str | None = None
    risk_free_rate: float = 0.0
    cash_rate: float = 0.0
    cost_rate: float = 0.0
    execution_lag: int = 1
    initial_capital: float = 1.0
    benchmark: FloatArray | None = None
    turnover: FloatArray | None = None
    cost_ratio: FloatArray | None = None
    gross_exposure: FloatArray | None = None
    net_exposure: FloatArray | None = None
    trades: FloatArray | None = None
    factors: FactorReturns | None = None
    in_sample: Mapping[int, Mapping[str, FloatArray]] = field(default_factory=dict)
    return_bars: range | None = None

    def __post_init__(self) -> None:
        expected = (len(self.index), len(self.run_ids))
        for name in ("returns", *PER_BAR):
            array = getattr(self, name)
            if array is not None and array.shape != expected:
                raise ValueError(
                    f"`{name}` must have shape (n_bars, n_runs) = {expected}, "
                    f"but got {array.shape}."
                )
        if self.benchmark is not None and self.benchmark.shape not in (expected[:1], expected):
            raise ValueError(
                f"`benchmark` must have shape (n_bars,) = {expected[:1]} or (n_bars, n_runs) = "
                f"{expected}, but got {self.benchmark.shape}."
            )
        if len(set(self.run_ids)) != len(self.run_ids) or len(self.parameters) != expected[1]:
            raise ValueError(
                "run_ids must be distinct and parameters must have one row for each, but got "
                f"{len(set(self.run_ids))} names for {expected[1]} runs and "
                f"{len(self.parameters)} rows."
            )

    def benchmark_on(self, bars: IntArray, runs: IntArray | int) -> FloatArray:
        """Return the benchmark on some bars: on each bar, that of the run that is held there.

        Parameters
        ----------
        bars
            Positions of the bars.
        runs
            Position of the run held on each, or on all of them.
        """
        if self.benchmark is None:
            raise ValueError("there is no benchmark.")
        shared = self.benchmark.ndim == 1
        values = self.benchmark[bars] if shared else self.benchmark[bars, runs]
        return np.asarray(values, dtype=np.float64)

    @cached_property
    def first_returns(self) -> IntArray:
        """First bar of each run that has a return, ``n_bars`` where none has, shape (n_runs,)."""
        return self._spans[0]

    @cached_property
    def ruined_bars(self) -> IntArray:
        """Bar on which each run lost everything, ``n_bars`` where none, shape (n_runs,)."""
        return self._spans[1]

    @property
    def common_bars(self) -> range:
        """The bars to split: from the latest first return of all runs to the end of the data.

        A fitted run does not count: it has no returns before the first test window.
        """
        if self.return_bars is not None:
            return self.return_bars
        n_bars = len(self.index)
        counted = [run for run in range(len(self.run_ids)) if run not in self.in_sample]
        firsts = self.first_returns[counted]
        present = firsts[firsts < n_bars]
        return range(int(present.max()) if len(present) else n_bars, n_bars)

    @cached_property
    def _spans(self) -> tuple[IntArray, IntArray]:
        n_bars, n_runs = self.returns.shape
        firsts = np.full(n_runs, n_bars, dtype=np.int64)
        ruined = np.full(n_runs, n_bars, dtype=np.int64)
        for start in range(0, n_runs, _RUNS_AT_ONCE):
            part = slice(start, min(start + _RUNS_AT_ONCE, n_runs))
            block = np.asarray(self.returns[:, part])
            finite = np.isfinite(block)
            firsts[part] = np.where(finite.any(axis=0), finite.argmax(axis=0), n_bars)
            lost = block <= -1.0
            ruined[part] = np.where(lost.any(axis=0), lost.argmax(axis=0), n_bars)
        return firsts, ruined


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
        # Bars after ruin do not count; the bar of ruin does.
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
        explained = self._explained(windows)
        # A metric that divides by 0 is undefined: breakeven costs without trades, say.
        with np.errstate(divide="ignore", invalid="ignore"):
            found = worked_out([name for name in names if name not in explained], path, sums)
        found |= {name: explained[name] for name in names if name in explained}
        undefined = np.isnan(n_periods)
        return {name: np.where(undefined, np.nan, values) for name, values in found.items()}

    def _explained(self, windows: Sequence[Windows]) -> dict[str, FloatArray]:
        """Return the metrics that the factors define; on the bars up to a run's ruin."""
        runs = self._runs
        if runs.factors is None:
            return {}
        return factor_metrics_within(
            runs.factors,
            self._returns,
            [positions(ranges) for ranges in windows],
            periods_per_year=float(runs.periods_per_year),
            risk_free_rate=float(runs.risk_free_rate),
        )

    def _paths(self, windows: Sequence[Windows]) -> tuple[dict[str, FloatArray], FloatArray]:
        """Return the metrics of the paths of equity, and the numbers of returns; NaN where none."""
        # Imported here: numba takes a quarter of a second, and reading settings does not need it.
        from backtest_batch.core.engine.metric_kernels import (
            PathMetrics,
            path_metrics,
            window_metrics,
        )

        runs = self._runs
        n_chosen = len(self._returns)
        # Always floats: for another type the kernels would be compiled anew.
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
        """Return the first bar, the bar after each run's last one, and which benchmarks are known.

        For a run that lacks a return on one of the bars, the bar after the last one is the first.
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
        """Return the sums that are known of the accounts, each of shape (n_windows, n_chosen).

        The bar before a window is its first measured one: positions held after its trades earn the
        first return. Its trades belong to the window only if the run itself begins with that bar.
        """
        before = np.array([ranges[0].start - 1 for ranges in windows])
        sums: dict[str, FloatArray] = {}
        begins = self._begins_on(before)
        known = dict(self._known(*TRADED))
        # An account that a strategy made itself need not say what it traded.
        silent = {name: ~np.isfinite(values).any(axis=1) for name, values in known.items()}
        traded = {name: np.nan_to_num(values) for name, values in known.items()}
        if "cost_ratio" in traded:
            silent["cost"] = silent["cost_ratio"]
            traded["cost"] = (
                traded["cost_ratio"] * self._equity[:, :-1] * self._runs.initial_capital
            )
        for name, values in traded.items():
            sums[name] = self._over(values, windows) + np.where(begins, values.T[before], 0.0)
            sums[name][:, silent[name]] = np.nan
        if "trades" in sums:
            sums["n_trades"] = sums.pop("trades")
        for name, values in self._known(*HELD):
            held = np.nan_to_num(values)
            first = np.where(before[:, None] >= 0, values.T[before], np.nan)
            sums[name] = self._over(held, windows) + np.nan_to_num(first)
            sums[name][:, ~np.isfinite(values).any(axis=1)] = np.nan
            # On the bar of ruin there is no equity to divide positions by.
            n_bars = n_periods + np.isfinite(first) - self._ruined_within(windows)
            sums["n_exposure_bars"] = np.fmax(sums.get("n_exposure_bars", n_bars), n_bars)
            if name == "gross_exposure":
                largest = np.array([_largest(held, ranges) for ranges in windows])
                sums["max_gross_exposure"] = np.fmax(largest, first)
                sums["max_gross_exposure"][:, ~np.isfinite(values).any(axis=1)] = np.nan
        return AccountSums(
            periods_per_year=self._runs.periods_per_year,
            n_periods=n_periods,
            mean_return=mean_return,
            **sums,
        )

    def _known(self, *names: str) -> Iterator[tuple[str, FloatArray]]:
        """Yield those of the named arrays that the runs have, with one row per run."""
        for name in names:
            values = getattr(self._runs, name)
            if values is not None:
                yield name, _by_run(values, self._part)

    def _begins_on(self, bars: IntArray) -> BoolArray:
        """Return which runs begin on which of some bars, shape (n_bars, n_chosen).

        A fitted run was entered before its first bar that counts.
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


_RUNS_MEASURED_AT_ONCE = 64
"""Runs measured by one thread at a time; bounds its copies of their bars."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowMetrics:
    """Metrics of runs on windows.

    Attributes
    ----------
    names
        The available metrics, in the order of the reports.
    values
        Shape (n_metrics, n_windows, n_runs); NaN where a metric is undefined.
    """

    names: tuple[str, ...]
    values: FloatArray

    def of(self, name: str) -> FloatArray:
        """Return one metric, shape (n_windows, n_runs)."""
        values: FloatArray = self.values[self.names.index(name)]
        return values

    def at(self, window: int) -> dict[str, FloatArray]:
        """Return the metrics of one window, each of shape (n_runs,)."""
        return dict(zip(self.names, self.values[:, window], strict=True))


def metrics_with(arrays: Collection[str], *, benchmark: bool) -> tuple[str, ...]:
    """Return the metrics that can be measured on windows, in the order of the reports.

    Returns alone define most of them; the others are available when the arrays that they need are
    given, and are never estimated.

    Parameters
    ----------
    arrays
        Those of :data:`.PER_BAR` that are given.
    benchmark
        Whether there is a benchmark.
    """
    return metrics_given((*arrays, BENCHMARK) if benchmark else arrays)


def available_metrics(runs: ScenarioRuns) -> tuple[str, ...]:
    """Return the metrics that can be measured on windows of these runs."""
    arrays = [name for name in PER_BAR if getattr(runs, name) is not None]
    explained = factor_metric_names(None if runs.factors is None else runs.factors.factors)
    return (*metrics_with(arrays, benchmark=runs.benchmark is not None), *explained)


def measure_windows(runs: ScenarioRuns, windows: Sequence[Windows]) -> WindowMetrics:
    """Measure every run on every window.

    Metrics are worked out as for whole runs. The bar before a window is its first measured bar: its
    equity is the start, and positions held after its trades count in the exposures. Turnover, costs
    and trades are those of the window's own bars; those of the bar before are added only if the run
    itself begins with that bar. Bars of several ranges are put end to end. In a window that begins
    before a run's first return, or after its ruin, all metrics are undefined; a window in which a
    run is ruined ends there.

    Parameters
    ----------
    runs
        The runs of a scenario.
    windows
        Bars of each window, not empty.
    """
    names = available_metrics(runs)
    n_runs = len(runs.run_ids)
    values = np.full((len(names), len(windows), n_runs), np.nan)
    parts = [
        slice(i, min(i + _RUNS_MEASURED_AT_ONCE, n_runs))
        for i in range(0, n_runs, _RUNS_MEASURED_AT_ONCE)
    ]

    def fill(part: slice) -> None:
        found = AccountBars(runs, part).metrics(names, windows)
        for row, name in enumerate(names):
            values[row, :, part] = found[name]

    in_threads(fill, parts)
    values[~np.isfinite(values)] = np.nan
    return WindowMetrics(names=names, values=values)


def metrics_since(bar: int, run: ScenarioRuns) -> dict[str, float]:
    """Return the defined metrics of a single run from ``bar`` on."""
    metrics = measure_windows(run, [(range(bar, len(run.index)),)])
    found = zip(metrics.names, metrics.values[:, 0, 0].tolist(), strict=True)
    return {name: value for name, value in found if math.isfinite(value)}
