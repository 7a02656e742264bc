"""Metrics of every run on every window."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from backtest_batch.comparison.threads import in_threads
from backtest_batch.comparison.walk_forward.accounts import AccountBars
from backtest_batch.comparison.walk_forward.runs import PER_BAR, ScenarioRuns
from backtest_batch.comparison.walk_forward.split import Windows
from backtest_batch.engine.metrics import BENCHMARK, metrics_given
from backtest_batch.market.panel import FloatArray

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
    return metrics_given((*arrays, BENCHMARK) if benchmark else arrays)


def available_metrics(runs: ScenarioRuns) -> tuple[str, ...]:
    """Return the metrics that can be measured on windows of these runs."""
    arrays = [name for name in PER_BAR if getattr(runs, name) is not None]
    return metrics_with(arrays, benchmark=runs.benchmark is not None)


def measure_windows(runs: ScenarioRuns, windows: Sequence[Windows]) -> WindowMetrics:
    """Measure every run on every window.

    The calculus is that of whole runs. The bar before a window is the first measured bar: its
    equity is the start, and what is held after its trades counts among the exposures; turnover,
    costs and trades are those of the window's own bars, and of the first measured bar of the run
    where that is the bar before. Bars of several ranges are put end to end. A window that begins
    before a run's first return, or after its ruin, defines nothing; one in which a run is ruined
    ends there.

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
        found = AccountBars(runs, part).metrics(names, windows)
        for row, name in enumerate(names):
            values[row, :, part] = found[name]

    in_threads(fill, parts)
    values[~np.isfinite(values)] = np.nan
    return WindowMetrics(names=names, values=values)
