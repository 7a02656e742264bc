"""The metrics of a run: names, directions and formulas, here and nowhere else.

``docs/metrics.md`` gives them with their undefined cases.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy.typing as npt

from backtest_batch.engine.arrays import kernel_input
from backtest_batch.engine.costs import BASIS_POINT
from backtest_batch.engine.simulation import Simulation
from backtest_batch.market.panel import FloatArray

SESSIONS_PER_YEAR = 252
BARS_PER_SESSION = {"1d": 1, "5min": 78}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What one number says about a run.

    Attributes
    ----------
    name
        Its name in MLflow and in every table.
    direction
        +1 where higher is better, -1 where lower is better, 0 where neither is.
    unit
        The unit, in one word or sign; empty for a plain number.
    meaning
        One line for people.
    formula
        How it is worked out from the words of ``docs/metrics.md``.
    execution
        Whether it is about the computation of the run and not its result. Such numbers differ
        between repetitions, and are not compared.
    """

    name: str
    direction: Literal[-1, 0, 1]
    unit: str
    meaning: str
    formula: str
    execution: bool = False


_RESULT = (
    Metric(
        name="final_pf",
        direction=1,
        unit="",
        meaning="value at the end of what was 1 at the start",
        formula="equity at the end / equity at the start",
    ),
    Metric(
        name="total_return",
        direction=1,
        unit="fraction",
        meaning="gain over the whole time",
        formula="final_pf - 1",
    ),
    Metric(
        name="cagr",
        direction=1,
        unit="1/year",
        meaning="compound annual growth rate",
        formula="final_pf^(ppy / n_periods) - 1",
    ),
    Metric(
        name="volatility",
        direction=-1,
        unit="1/year",
        meaning="annualised standard deviation of returns",
        formula="std(r, ddof=1) * sqrt(ppy)",
    ),
    Metric(
        name="sharpe",
        direction=1,
        unit="",
        meaning="annualised excess return over its standard deviation",
        formula="mean(x) / std(x, ddof=1) * sqrt(ppy)",
    ),
    Metric(
        name="sortino",
        direction=1,
        unit="",
        meaning="annualised excess return over its downside deviation",
        formula="mean(x) / sqrt(mean(min(x, 0)^2)) * sqrt(ppy)",
    ),
    Metric(
        name="calmar",
        direction=1,
        unit="",
        meaning="annual growth over the deepest drawdown",
        formula="cagr / |max_drawdown|",
    ),
    Metric(
        name="max_drawdown",
        direction=1,
        unit="fraction",
        meaning="deepest fall below the running peak, negative: nearer 0 is better",
        formula="min(equity / running peak - 1)",
    ),
    Metric(
        name="max_drawdown_duration",
        direction=-1,
        unit="bars",
        meaning="longest time under the running peak",
        formula="longest run of bars with equity below its running peak",
    ),
    Metric(
        name="var_95",
        direction=1,
        unit="fraction",
        meaning="value at risk: 95 of 100 bars return more; negative is a loss",
        formula="5 % quantile of r, linear",
    ),
    Metric(
        name="cvar_95",
        direction=1,
        unit="fraction",
        meaning="expected shortfall: mean return of the worst bars; negative is a loss",
        formula="mean of r <= var_95",
    ),
    Metric(
        name="skew",
        direction=1,
        unit="",
        meaning="asymmetry of returns: negative has the longer tail of losses",
        formula="m3 / m2^1.5, population moments",
    ),
    Metric(
        name="kurtosis",
        direction=-1,
        unit="",
        meaning="weight of the tails: 3 for a normal distribution",
        formula="m4 / m2^2, population moments",
    ),
    Metric(
        name="hit_rate",
        direction=1,
        unit="fraction",
        meaning="share of gains among bars with a return other than 0",
        formula="count(r > 0) / count(r != 0)",
    ),
    Metric(
        name="turnover_annual",
        direction=-1,
        unit="1/year",
        meaning="traded value over equity in a year; buying and selling both count",
        formula="sum(turnover) * ppy / n_periods",
    ),
    Metric(
        name="avg_gross_exposure",
        direction=0,
        unit="fraction",
        meaning="mean of absolute positions over equity, after trading",
        formula="mean(gross_exposure)",
    ),
    Metric(
        name="avg_net_exposure",
        direction=0,
        unit="fraction",
        meaning="mean of signed positions over equity, after trading",
        formula="mean(net_exposure)",
    ),
    Metric(
        name="max_gross_exposure_realised",
        direction=-1,
        unit="fraction",
        meaning="largest gross exposure; drift carries it beyond the cap between rebalances",
        formula="max(gross_exposure)",
    ),
    Metric(
        name="trades",
        direction=0,
        unit="count",
        meaning="number of trades, symbol by symbol",
        formula="count(|traded value| > 1e-9 * equity)",
    ),
    Metric(
        name="total_costs",
        direction=-1,
        unit="currency",
        meaning="trading costs over the whole time",
        formula="sum(cost)",
    ),
    Metric(
        name="n_periods",
        direction=0,
        unit="bars",
        meaning="number of returns",
        formula="measured bars - 1",
    ),
    Metric(
        name="beta",
        direction=0,
        unit="",
        meaning="return with the benchmark's return",
        formula="cov(r, b) / var(b)",
    ),
    Metric(
        name="alpha",
        direction=1,
        unit="1/year",
        meaning="annualised return that the benchmark does not explain",
        formula="(mean(x) - beta * mean(b - rf)) * ppy",
    ),
    Metric(
        name="information_ratio",
        direction=1,
        unit="",
        meaning="annualised return over the benchmark's, over its standard deviation",
        formula="mean(r - b) / std(r - b, ddof=1) * sqrt(ppy)",
    ),
    Metric(
        name="breakeven_cost_bps",
        direction=1,
        unit="bps",
        meaning="cost of traded value at which nothing would be left",
        formula="mean(g) / mean turnover a bar * 1e4",
    ),
)

_EXECUTION = (
    Metric(
        name="runtime_s",
        direction=-1,
        unit="s",
        meaning="time the run took",
        formula="wall time; that of the chunk / its runs when computed together",
        execution=True,
    ),
    Metric(
        name="cpu_s",
        direction=-1,
        unit="s",
        meaning="processor time the run took",
        formula="processor time; that of the chunk / its runs when computed together",
        execution=True,
    ),
    Metric(
        name="peak_rss_mb",
        direction=-1,
        unit="MiB",
        meaning="most memory that its process held",
        formula="highest resident memory while the run was computed",
        execution=True,
    ),
    Metric(
        name="attempts",
        direction=-1,
        unit="count",
        meaning="how often the run was computed",
        formula="its own attempts; repeats that another run's crash caused do not count",
        execution=True,
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (*_RESULT, *_EXECUTION)}
)
"""Every metric of a run by name, result metrics first."""

RESULT_METRICS = tuple(metric.name for metric in _RESULT)
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

EXECUTION_METRICS = tuple(metric.name for metric in _EXECUTION)
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
    values["trades"] = float(simulation.n_trades)
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
