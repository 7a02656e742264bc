"""What each metric is called, which way is better, and how it is worked out.

``docs/metrics.md`` adds the cases in which one is undefined.
"""

from dataclasses import dataclass
from typing import Literal


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
    Metric(
        name="scaled_decisions",
        direction=0,
        unit="count",
        meaning="decisions whose weights a cap made smaller",
        formula="count(some |w| > max_weight, or sum |w| > max_gross_exposure)",
    ),
    Metric(
        name="round_trips",
        direction=0,
        unit="count",
        meaning="positions that were closed, symbol by symbol",
        formula="count(from 0 or a change of sign to the next of either)",
    ),
    Metric(
        name="win_rate",
        direction=1,
        unit="fraction",
        meaning="share of round trips that gained after their costs of trading",
        formula="count(gain > 0) / round_trips",
    ),
    Metric(
        name="profit_factor",
        direction=1,
        unit="",
        meaning="what round trips gained over what they lost",
        formula="sum(gain > 0) / |sum(gain < 0)|",
    ),
    Metric(
        name="avg_holding_bars",
        direction=0,
        unit="bars",
        meaning="mean time from entry to exit of a round trip",
        formula="mean(bar of exit - bar of entry)",
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
