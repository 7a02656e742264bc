"""The metrics of a run: their names, and their values.

What each is called, which way is better and how it is worked out stands in ``metric_table.py``.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy.typing as npt

from backtest_batch.engine.arrays import kernel_input
from backtest_batch.engine.costs import BASIS_POINT
from backtest_batch.engine.frequency import SESSIONS_PER_YEAR
from backtest_batch.engine.metric_table import EXECUTION, RESULT, Metric
from backtest_batch.engine.simulation import Simulation
from backtest_batch.market.panel import FloatArray

__all__ = [
    "EQUITY_METRICS",
    "EXECUTION_METRICS",
    "METRICS",
    "RESULT_METRICS",
    "Metric",
    "equity_metrics",
    "periods_per_year_of",
    "result_metrics",
]

BARS_PER_SESSION = {"1d": 1, "5min": 78}

METRICS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (*RESULT, *EXECUTION)}
)
"""Every metric of a run by name, result metrics first."""

RESULT_METRICS = tuple(metric.name for metric in RESULT)
"""Names of the metrics of a run's result, in order; the same run key gives the same bits."""

EQUITY_METRICS = (
    "final_pf",
    "total_return",
    "cagr",
    "volatility",
    "sharpe",
    "sortino",
    "calmar",
    "max_drawdown",
    "max_drawdown_duration",
    "var_95",
    "cvar_95",
    "skew",
    "kurtosis",
    "hit_rate",
    "n_periods",
    "beta",
    "alpha",
    "information_ratio",
)
"""Those result metrics that need no more than the path of equity."""

EXECUTION_METRICS = tuple(metric.name for metric in EXECUTION)
"""Names of the metrics of a run's computation."""


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
    values = _equity_values(
        simulation.equity,
        periods_per_year,
        risk_free_rate,
        benchmark_returns,
        simulation.ruined_bar is not None,
    )
    n_periods = simulation.n_measured - 1
    totals = simulation.totals
    trips = simulation.trips
    values["trades"] = float(simulation.n_trades)
    values["scaled_decisions"] = float(simulation.scaled_decisions)
    values["round_trips"] = float(trips.n_trips)
    if trips.n_trips > 0:
        values["win_rate"] = trips.n_wins / trips.n_trips
        values["avg_holding_bars"] = trips.held_bars / trips.n_trips
        if trips.lost > 0:
            values["profit_factor"] = trips.gained / trips.lost
    values["total_costs"] = totals.cost
    if n_periods > 0:
        values["turnover_annual"] = totals.turnover * periods_per_year / n_periods
        if totals.turnover > 0:
            gross_return = values["mean_return"] * n_periods + totals.cost_ratio
            values["breakeven_cost_bps"] = gross_return / totals.turnover / BASIS_POINT
    if totals.n_exposure_bars > 0:
        values["avg_gross_exposure"] = totals.gross_exposure / totals.n_exposure_bars
        values["avg_net_exposure"] = totals.net_exposure / totals.n_exposure_bars
        values["max_gross_exposure_realised"] = totals.max_gross_exposure
    return _defined(values, RESULT_METRICS)


def equity_metrics(
    equity: npt.ArrayLike,
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
    benchmark_returns: npt.ArrayLike | None = None,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Work out the metrics that need no more than a path of equity.

    For paths that are no simulation: a benchmark index, test windows put end to end. Parameters,
    results and errors are those of :func:`result_metrics`, but for

    Parameters
    ----------
    equity
        Equity bar by bar, shape (n_measured,), at least one; positive, or <= 0 on the last bar
        only, which is ruin.
    """
    path = kernel_input(equity)
    if path.ndim != 1 or not len(path) or not (path[:-1] > 0).all():
        raise ValueError("equity must be a list of numbers above 0 (the last may be ruin).")
    values = _equity_values(
        path, periods_per_year, risk_free_rate, benchmark_returns, bool(path[-1] <= 0)
    )
    return _defined(values, EQUITY_METRICS)


def _equity_values(
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
    values = metric_kernels.path_metrics(
        kernel_input(equity),
        benchmark[1 : len(equity)],
        float(periods_per_year),
        float(risk_free_rate) / periods_per_year,
        ruined,
    )
    return {**values._asdict(), "n_periods": float(len(equity) - 1)}


def _defined(
    values: Mapping[str, float], names: tuple[str, ...]
) -> tuple[dict[str, float], tuple[str, ...]]:
    metrics = {name: values[name] for name in names if math.isfinite(values.get(name, math.nan))}
    return metrics, tuple(name for name in names if name not in metrics)
