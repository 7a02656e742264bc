"""Metrics of every run on every window."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from backtest_batch.comparison.threads import in_threads
from backtest_batch.comparison.walk_forward.accounts import Accounts
from backtest_batch.comparison.walk_forward.runs import PER_BAR, ScenarioRuns
from backtest_batch.comparison.walk_forward.split import Windows
from backtest_batch.engine.metrics import EQUITY_METRICS, RESULT_METRICS
from backtest_batch.market.panel import FloatArray

BENCHMARK_METRICS = ("beta", "alpha", "information_ratio")
"""Metrics that need a benchmark."""

NEEDED_ARRAYS = {
    "turnover_annual": ("turnover",),
    "avg_gross_exposure": ("gross_exposure",),
    "avg_net_exposure": ("net_exposure",),
    "max_gross_exposure_realised": ("gross_exposure",),
    "trades": ("trades",),
    "total_costs": ("cost_ratio",),
    "breakeven_cost_bps": ("cost_ratio", "turnover"),
}
"""Metrics that need more than returns, and the arrays of :class:`.runs.ScenarioRuns` they need."""

_RUNS_AT_ONCE = 64
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

    Returns alone define most of them; the others are there when the arrays that they need are, and
    are never estimated.

    Parameters
    ----------
    arrays
        Those of :data:`.runs.PER_BAR` that are given.
    benchmark
        Whether there is a benchmark.
    """
    held = set(EQUITY_METRICS)
    if not benchmark:
        held -= set(BENCHMARK_METRICS)
    held |= {name for name, needed in NEEDED_ARRAYS.items() if set(needed) <= set(arrays)}
    return tuple(name for name in RESULT_METRICS if name in held)


def available_metrics(runs: ScenarioRuns) -> tuple[str, ...]:
    """Return the metrics that can be measured on windows of these runs."""
    arrays = [name for name in PER_BAR if getattr(runs, name) is not None]
    return metrics_with(arrays, benchmark=runs.benchmark is not None)


def measure(runs: ScenarioRuns, windows: Sequence[Windows]) -> WindowMetrics:
    """Measure every run on every window.

    The formulas are the engine's, on the bars of the window: the equity before its first bar is
    the start, and turnover, costs, trades and exposures are those of its bars. Bars of several
    ranges are put end to end. A window that begins before a run's first return, or after its ruin,
    defines nothing; one in which a run is ruined ends there.

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
    parts = [slice(i, min(i + _RUNS_AT_ONCE, n_runs)) for i in range(0, n_runs, _RUNS_AT_ONCE)]

    def fill(part: slice) -> None:
        found = Accounts(runs, part).metrics(windows)
        for row, name in enumerate(names):
            values[row, :, part] = found[name]

    in_threads(fill, parts)
    values[~np.isfinite(values)] = np.nan
    return WindowMetrics(names=names, values=values)
