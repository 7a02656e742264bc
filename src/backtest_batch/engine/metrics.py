"""The metrics of a run: their names, and their values.

What each is called, which way is better and how it is worked out stands in ``metric_table.py``.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy.typing as npt

from backtest_batch.engine.arrays import kernel_input
from backtest_batch.engine.frequency import SESSIONS_PER_YEAR
from backtest_batch.engine.metric_table import EXECUTION, RESULT, AccountSums, Metric, Numbers
from backtest_batch.engine.simulation import Simulation
from backtest_batch.market.panel import FloatArray

__all__ = [
    "EQUITY_METRICS",
    "EXECUTION_METRICS",
    "METRICS",
    "RESULT_METRICS",
    "AccountSums",
    "Metric",
    "equity_metrics",
    "metrics_given",
    "periods_per_year_of",
    "result_metrics",
    "worked_out",
]

BARS_PER_SESSION = {"1d": 1, "5min": 78}

METRICS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (*RESULT, *EXECUTION)}
)
"""Every metric of a run by name, result metrics first."""

RESULT_METRICS = tuple(metric.name for metric in RESULT)
"""Names of the metrics of a run's result, in order; the same run key gives the same bits."""

BENCHMARK = "benchmark"
"""What a metric needs that compares with the benchmark."""

EXECUTION_METRICS = tuple(metric.name for metric in EXECUTION)
"""Names of the metrics of a run's computation."""


def metrics_given(known: Collection[str]) -> tuple[str, ...]:
    """Return the result metrics that can be worked out, in the order of the reports.

    Parameters
    ----------
    known
        What is known beside the path of equity, in the words of :attr:`Metric.needs`.
    """
    return tuple(metric.name for metric in RESULT if set(metric.needs) <= set(known))


EQUITY_METRICS = metrics_given((BENCHMARK,))
"""Those result metrics that need no more than the paths of equity and of a benchmark."""


def periods_per_year_of(freq: str) -> float:
    """Return the bars a year of data of this frequency.

    Parameters
    ----------
    freq
        ``1d`` (252) or ``5min`` (252 sessions of 78 bars).

    Raises
    ------
    ValueError
        When it is another one.
    """
    if freq not in BARS_PER_SESSION:
        allowed = ", ".join(BARS_PER_SESSION)
        raise ValueError(f"freq must be one of {allowed}, but got {freq!r}.")
    return float(SESSIONS_PER_YEAR * BARS_PER_SESSION[freq])


def result_metrics(
    simulation: Simulation,
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
    benchmark_returns: npt.ArrayLike | None = None,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Work out the result metrics of a run.

    Parameters
    ----------
    simulation
        The run.
    periods_per_year
        Bars a year, above 0.
    risk_free_rate
        Annual rate; the risk-free return a bar is this over ``periods_per_year``.
    benchmark_returns
        Returns of the benchmark on the run's measured bars, shape (n_measured,); longer where the
        run is ruined. The first is not looked at. None for no benchmark. What compares with it is
        undefined where it is shorter or not finite.

    Returns
    -------
    metrics : dict of str to float
        By name, in the order of :data:`RESULT_METRICS`; finite.
    undefined : tuple of str
        Names of the metrics that are not defined for this run.

    Raises
    ------
    ValueError
        When ``periods_per_year`` is not above 0.
    """
    path = _path_values(
        simulation.equity,
        periods_per_year,
        risk_free_rate,
        benchmark_returns,
        simulation.ruined_bar is not None,
    )
    totals, trips = simulation.totals, simulation.trips
    sums = AccountSums(
        periods_per_year=periods_per_year,
        n_periods=simulation.n_measured - 1,
        mean_return=path["mean_return"],
        turnover=totals.turnover,
        cost=totals.cost,
        cost_ratio=totals.cost_ratio,
        n_trades=simulation.n_trades,
        gross_exposure=totals.gross_exposure,
        net_exposure=totals.net_exposure,
        max_gross_exposure=totals.max_gross_exposure if totals.n_exposure_bars else math.nan,
        n_exposure_bars=totals.n_exposure_bars,
        n_scaled=simulation.scaled_decisions,
        n_trips=trips.n_trips,
        n_wins=trips.n_wins,
        held_bars=trips.held_bars,
        gained=trips.gained,
        lost=trips.lost,
    )
    return _defined(worked_out(RESULT_METRICS, path, sums))


def equity_metrics(
    equity: npt.ArrayLike,
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
    benchmark_returns: npt.ArrayLike | None = None,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Work out the metrics that need no more than a path of equity.

    For paths that are no simulation: a benchmark index, test windows put end to end. Parameters,
    results and errors are those of :func:`result_metrics`; an error also where the path is none.

    Parameters
    ----------
    equity
        Equity bar by bar, shape (n_measured,), at least one; positive, or <= 0 on the last bar
        only, which is ruin.
    periods_per_year, risk_free_rate, benchmark_returns
        As :func:`result_metrics` takes them.
    """
    path = kernel_input(equity)
    if path.ndim != 1 or not len(path) or not (path[:-1] > 0).all():
        raise ValueError("equity must be a list of numbers above 0 (the last may be ruin).")
    ruined = bool(path[-1] <= 0)
    values = _path_values(path, periods_per_year, risk_free_rate, benchmark_returns, ruined)
    sums = AccountSums(periods_per_year=periods_per_year, n_periods=float(len(path) - 1))
    return _defined(worked_out(EQUITY_METRICS, values, sums))


def worked_out(
    names: Sequence[str], path: Mapping[str, Numbers], sums: AccountSums
) -> dict[str, Numbers]:
    """Work out metrics of one account, or of several: one calculus for runs and for windows.

    Parameters
    ----------
    names
        Result metrics.
    path
        What the kernel of paths found, by the names of its fields.
    sums
        Sums over the same bars.

    Returns
    -------
    dict of str to number or ndarray
        By name in the order of ``names``; not finite where undefined. Where arrays divide by 0,
        numpy warns unless it is told not to.
    """
    values: dict[str, Numbers] = {}
    for name in names:
        work_out = METRICS[name].value
        try:
            values[name] = path[name] if work_out is None else work_out(sums)
        except ZeroDivisionError:  # arrays have inf or NaN there
            values[name] = math.nan
    return values


def _path_values(
    equity: FloatArray,
    periods_per_year: float,
    risk_free_rate: float,
    benchmark_returns: npt.ArrayLike | None,
    ruined: bool,
) -> dict[str, float]:
    from backtest_batch.engine import metric_kernels

    if not periods_per_year > 0:
        raise ValueError(f"`periods_per_year > 0` must hold, but got {periods_per_year}.")
    benchmark = kernel_input(() if benchmark_returns is None else benchmark_returns)
    return metric_kernels.path_metrics(
        kernel_input(equity),
        benchmark[1 : len(equity)],
        float(periods_per_year),
        float(risk_free_rate) / periods_per_year,
        ruined,
    )._asdict()


def _defined(values: Mapping[str, Numbers]) -> tuple[dict[str, float], tuple[str, ...]]:
    metrics = {name: float(value) for name, value in values.items() if math.isfinite(value)}
    return metrics, tuple(name for name in values if name not in metrics)
