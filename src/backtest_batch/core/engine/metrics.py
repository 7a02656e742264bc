"""The metrics of a run and of a window: names, directions, and how each is worked out.

A metric is one entry of :data:`RESULT`. Whatever lists, ranks, explains or measures metrics reads
them from this table. ``docs/metrics.md`` adds the cases in which one is undefined.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

import numpy.typing as npt

from backtest_batch.arrays import FloatArray
from backtest_batch.core.engine.frequency import periods_per_year_of
from backtest_batch.core.engine.simulation import Totals, Trips
from backtest_batch.core.numbers import BASIS_POINT, kernel_input

Numbers = float | FloatArray
"""A number of one account, or an array of the numbers of several."""

UNKNOWN = math.nan


class AccountSums(NamedTuple):
    """Sums over the measured bars of an account; arrays where there are several accounts.

    The bars are those of a run or of a window. The first of them has no return: trades on it count
    only if the account began with it, holdings on it always count. A sum that is not known is NaN.

    Attributes
    ----------
    periods_per_year
        Bars per year.
    n_periods
        Number of returns: the measured bars less one.
    mean_return
        Mean return per bar.
    turnover, cost, cost_ratio, n_trades
        Sums of traded value over equity, of costs in currency, of costs over the equity of the bar
        before, and of trades.
    gross_exposure, net_exposure
        Sums of exposures after trading, the bar of ruin left out.
    max_gross_exposure
        The largest gross exposure.
    n_exposure_bars
        How many bars the sums of exposures run over.
    n_scaled
        Executed decisions that a cap made smaller.
    n_trips, n_wins, held_bars, gained, lost
        Round trips; see :class:`backtest_batch.core.engine.simulation.Trips`.
    """

    periods_per_year: float
    n_periods: Numbers
    mean_return: Numbers = UNKNOWN
    turnover: Numbers = UNKNOWN
    cost: Numbers = UNKNOWN
    cost_ratio: Numbers = UNKNOWN
    n_trades: Numbers = UNKNOWN
    gross_exposure: Numbers = UNKNOWN
    net_exposure: Numbers = UNKNOWN
    max_gross_exposure: Numbers = UNKNOWN
    n_exposure_bars: Numbers = UNKNOWN
    n_scaled: Numbers = UNKNOWN
    n_trips: Numbers = UNKNOWN
    n_wins: Numbers = UNKNOWN
    held_bars: Numbers = UNKNOWN
    gained: Numbers = UNKNOWN
    lost: Numbers = UNKNOWN


class MeasuredAccount(Protocol):
    """What is asked of an account to measure it; see :class:`.Simulation` for each."""

    @property
    def equity(self) -> FloatArray: ...
    @property
    def n_measured(self) -> int: ...
    @property
    def n_trades(self) -> float: ...
    @property
    def ruined_bar(self) -> int | None: ...
    @property
    def scaled_decisions(self) -> float: ...
    @property
    def totals(self) -> Totals: ...
    @property
    def trips(self) -> Trips: ...


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
    needs
        What it takes beside the path of equity: ``benchmark``, arrays of an account by the bar
        (``turnover``, ``cost_ratio``, ``gross_exposure``, ``net_exposure``, ``trades``), or
        ``orders``, ``round_trips`` and ``factors``, which only a whole run has, and not a window.
        Where one is missing, the metric is left out; it is never estimated.
    value
        Works it out from the sums of an account; it is undefined where the result is not finite or
        a number is divided by 0. None for metrics that ``metric_kernels.path_metrics`` works out
        under this name from the path of equity, and for those that need factors
        (:mod:`backtest_batch.core.factors`).
    execution
        Whether it is about the computation of the run and not its result. Such numbers differ
        between repetitions, and are not compared.
    """

    name: str
    direction: Literal[-1, 0, 1]
    unit: str
    meaning: str
    formula: str
    needs: tuple[str, ...] = ()
    value: Callable[[AccountSums], Numbers] | None = None
    execution: bool = False


RESULT = (
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
        needs=("turnover",),
        value=lambda of: of.turnover * of.periods_per_year / of.n_periods,
    ),
    Metric(
        name="avg_gross_exposure",
        direction=0,
        unit="fraction",
        meaning="mean of absolute positions over equity, after trading",
        formula="mean(gross_exposure)",
        needs=("gross_exposure",),
        value=lambda of: of.gross_exposure / of.n_exposure_bars,
    ),
    Metric(
        name="avg_net_exposure",
        direction=0,
        unit="fraction",
        meaning="mean of signed positions over equity, after trading",
        formula="mean(net_exposure)",
        needs=("net_exposure",),
        value=lambda of: of.net_exposure / of.n_exposure_bars,
    ),
    Metric(
        name="max_gross_exposure_realised",
        direction=-1,
        unit="fraction",
        meaning="largest gross exposure; drift carries it beyond the cap between rebalances",
        formula="max(gross_exposure)",
        needs=("gross_exposure",),
        value=lambda of: of.max_gross_exposure,
    ),
    Metric(
        name="trades",
        direction=0,
        unit="count",
        meaning="number of trades, symbol by symbol",
        formula="count(|traded value| > 1e-9 * equity)",
        needs=("trades",),
        value=lambda of: of.n_trades,
    ),
    Metric(
        name="total_costs",
        direction=-1,
        unit="currency",
        meaning="trading costs over the whole time",
        formula="sum(cost)",
        needs=("cost_ratio",),
        value=lambda of: of.cost,
    ),
    Metric(
        name="n_periods",
        direction=0,
        unit="bars",
        meaning="number of returns",
        formula="measured bars - 1",
        value=lambda of: of.n_periods,
    ),
    Metric(
        name="beta",
        direction=0,
        unit="",
        meaning="return with the benchmark's return",
        formula="cov(r, b) / var(b)",
        needs=("benchmark",),
    ),
    Metric(
        name="alpha",
        direction=1,
        unit="1/year",
        meaning="annualised return that the benchmark does not explain",
        formula="(mean(x) - beta * mean(b - rf)) * ppy",
        needs=("benchmark",),
    ),
    Metric(
        name="information_ratio",
        direction=1,
        unit="",
        meaning="annualised return over the benchmark's, over its standard deviation",
        formula="mean(r - b) / std(r - b, ddof=1) * sqrt(ppy)",
        needs=("benchmark",),
    ),
    Metric(
        name="breakeven_cost_bps",
        direction=1,
        unit="bps",
        meaning="cost of traded value at which nothing would be left",
        formula="mean(g) / mean turnover a bar * 1e4",
        needs=("cost_ratio", "turnover"),
        value=lambda of: (
            (of.mean_return * of.n_periods + of.cost_ratio) / of.turnover / BASIS_POINT
        ),
    ),
    Metric(
        name="scaled_decisions",
        direction=0,
        unit="count",
        meaning="decisions whose weights a cap made smaller",
        formula="count(some |w| > max_weight, or sum |w| > max_gross_exposure)",
        needs=("orders",),
        value=lambda of: of.n_scaled,
    ),
    Metric(
        name="round_trips",
        direction=0,
        unit="count",
        meaning="positions that were closed, symbol by symbol",
        formula="count(from 0 or a change of sign to the next of either)",
        needs=("round_trips",),
        value=lambda of: of.n_trips,
    ),
    Metric(
        name="win_rate",
        direction=1,
        unit="fraction",
        meaning="share of round trips that gained after their costs of trading",
        formula="count(gain > 0) / round_trips",
        needs=("round_trips",),
        value=lambda of: of.n_wins / of.n_trips,
    ),
    Metric(
        name="profit_factor",
        direction=1,
        unit="",
        meaning="what round trips gained over what they lost",
        formula="sum(gain > 0) / |sum(gain < 0)|",
        needs=("round_trips",),
        value=lambda of: of.gained / of.lost,
    ),
    Metric(
        name="avg_holding_bars",
        direction=0,
        unit="bars",
        meaning="mean time from entry to exit of a round trip",
        formula="mean(bar of exit - bar of entry)",
        needs=("round_trips",),
        value=lambda of: of.held_bars / of.n_trips,
    ),
    Metric(
        name="alpha_factors",
        direction=1,
        unit="1/year",
        meaning="annualised return that the factors do not explain",
        formula="intercept of x on the factors * ppy, least squares",
        needs=("factors",),
    ),
    Metric(
        name="r2_factors",
        direction=0,
        unit="fraction",
        meaning="share of the variance of returns that the factors explain",
        formula="1 - sum(residual^2) / sum((x - mean(x))^2)",
        needs=("factors",),
    ),
)
"""Metrics of the result of a run; the same run key gives the same bits."""

EXECUTION = (
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
"""Metrics of the computation of a run."""


__all__ = [
    "EQUITY_METRICS",
    "EXECUTION_METRICS",
    "METRICS",
    "RESULT_METRICS",
    "AccountSums",
    "Metric",
    "equity_metrics",
    "metric_named",
    "metrics_given",
    "periods_per_year_of",
    "result_metrics",
    "worked_out",
]

METRICS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (*RESULT, *EXECUTION)}
)
"""Every metric of a run by name, result metrics first."""

RESULT_METRICS = tuple(metric.name for metric in RESULT)
"""Names of the metrics of a run's result, in order; the same run key gives the same bits.

In addition there is one ``beta_<factor>`` for each factor; see :func:`metric_named`.
"""

BENCHMARK = "benchmark"
"""The word in :attr:`Metric.needs` for metrics that compare with the benchmark."""

FACTORS = "factors"
"""The word in :attr:`Metric.needs` for metrics that explain returns by factors."""

FACTOR_BETA = "beta_"
"""Prefix of the metrics that hold the slopes on factors."""

ACCOUNT_METRICS = tuple(metric.name for metric in RESULT if FACTORS not in metric.needs)
"""Names of the result metrics of a run without factors."""

EXECUTION_METRICS = tuple(metric.name for metric in EXECUTION)
"""Names of the metrics of a run's computation."""


def metric_named(name: str) -> Metric | None:
    """Return the metric of this name, which may be a factor's slope; None for an unknown name."""
    factor = name.removeprefix(FACTOR_BETA)
    if factor in (name, ""):
        return METRICS.get(name)
    return Metric(
        name=name,
        direction=0,
        unit="",
        meaning=f"return with the factor {factor}, the others held fixed",
        formula="slope of x on the factor, least squares",
        needs=(FACTORS,),
    )


def result_names(names: Iterable[str]) -> list[str]:
    """Return those names that are result metrics, in the order of the reports.

    The slopes on factors follow, sorted by name; then those of a strategy's own, likewise.
    """
    held = set(names)
    slopes = sorted(name for name in held if name not in METRICS and metric_named(name))
    own = sorted(filter(may_be_own, held))
    return [*(name for name in RESULT_METRICS if name in held), *slopes, *own]


_NOT_OWN = ("oos_", "param.", "benchmark_", "sharpe_neighbourhood")
"""How the names of other figures begin that stand beside the metrics of a run."""


def may_be_own(name: str) -> bool:
    """Return whether a metric of this name can only be one of a strategy's own."""
    return metric_named(name) is None and not name.startswith(_NOT_OWN)


def metrics_given(known: Collection[str]) -> tuple[str, ...]:
    """Return the result metrics that can be worked out, in the order of the reports.

    Parameters
    ----------
    known
        What is known beside the path of equity, in the words of :attr:`Metric.needs`.
    """
    return tuple(metric.name for metric in RESULT if set(metric.needs) <= set(known))


EQUITY_METRICS = metrics_given((BENCHMARK,))
"""The result metrics that need only the paths of equity and of a benchmark."""


def result_metrics(
    account: "MeasuredAccount",
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
    benchmark_returns: npt.ArrayLike | None = None,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Work out the result metrics of a run.

    Parameters
    ----------
    account
        What happened to the money of the run. Sums that are not known are NaN.
    periods_per_year
        Bars per year, above 0.
    risk_free_rate
        Annual rate; the risk-free return per bar is this over ``periods_per_year``.
    benchmark_returns
        Returns of the benchmark on the run's measured bars, shape (n_measured,); longer where the
        run is ruined. The first is ignored. None for no benchmark. Metrics that compare with it are
        undefined where it is shorter or not finite.

    Returns
    -------
    metrics : dict of str to float
        By name, in the order of :data:`ACCOUNT_METRICS`; finite.
    undefined : tuple of str
        Names of the metrics that are not defined for this run.

    Raises
    ------
    ValueError
        When ``periods_per_year`` is not above 0.
    """
    path = _path_values(
        account.equity,
        periods_per_year,
        risk_free_rate,
        benchmark_returns,
        account.ruined_bar is not None,
    )
    totals, trips = account.totals, account.trips
    sums = AccountSums(
        periods_per_year=periods_per_year,
        n_periods=account.n_measured - 1,
        mean_return=path["mean_return"],
        turnover=totals.turnover,
        cost=totals.cost,
        cost_ratio=totals.cost_ratio,
        n_trades=account.n_trades,
        gross_exposure=totals.gross_exposure,
        net_exposure=totals.net_exposure,
        max_gross_exposure=totals.max_gross_exposure if totals.n_exposure_bars else math.nan,
        n_exposure_bars=totals.n_exposure_bars,
        n_scaled=account.scaled_decisions,
        n_trips=trips.n_trips,
        n_wins=trips.n_wins,
        held_bars=trips.held_bars,
        gained=trips.gained,
        lost=trips.lost,
    )
    return _defined(worked_out(ACCOUNT_METRICS, path, sums))


def equity_metrics(
    equity: npt.ArrayLike,
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
    benchmark_returns: npt.ArrayLike | None = None,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Work out the metrics that need only a path of equity.

    It is for paths that are not simulations: a benchmark index, or test windows put end to end.
    Parameters, results and errors are those of :func:`result_metrics`; an invalid path is an error,
    too.

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
    """Work out metrics of one account or of several, in the same way for runs and for windows.

    Parameters
    ----------
    names
        Result metrics.
    path
        The results of the path kernel, by the names of its fields.
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
    from backtest_batch.core.engine import metric_kernels

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
