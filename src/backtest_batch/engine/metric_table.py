"""What each metric is called, which way is better, and how it is worked out: of a run or a window.

A metric is one entry here. Whatever lists, ranks, explains or measures metrics reads them from this
table. ``docs/metrics.md`` adds the cases in which one is undefined.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from backtest_batch.engine.costs import BASIS_POINT
from backtest_batch.market.panel import FloatArray

Numbers = float | FloatArray
"""A number of one account, or an array of the numbers of several."""

UNKNOWN = math.nan


class AccountSums(NamedTuple):
    """What an account came to over its measured bars; arrays where there are several accounts.

    The bars are those of a run or of a window. The first of them has no return: what was traded on
    it counts where the account began with it, what was held on it counts always. NaN stands where
    something is not known.

    Attributes
    ----------
    periods_per_year
        Bars a year.
    n_periods
        Number of returns: the measured bars less one.
    mean_return
        Mean return a bar.
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
        Round trips; see :class:`backtest_batch.engine.simulation.Trips`.
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
        ``orders`` and ``round_trips``, which a whole run has and a window has not. Where one is
        missing the metric is not there; it is never estimated.
    value
        Works it out from the sums of an account; what is not finite, or divides by 0, is undefined.
        None for what ``metric_kernels.path_metrics`` works out under this name from the path of
        equity.
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
)
"""About the result of a run; the same run key gives the same bits."""

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
"""About the computation of a run."""
