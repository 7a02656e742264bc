"""What a stitched curve is worth: its metrics, its t-statistic, its confidence interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.comparison.overfitting.bars import MIN_BARS, day_starts
from backtest_batch.comparison.overfitting.bootstrap import bootstrapped_sharpe, stationary_counts
from backtest_batch.comparison.walk_forward.runs import PER_BAR, ScenarioRuns
from backtest_batch.comparison.walk_forward.stitch import CASH, StitchedCurve
from backtest_batch.comparison.walk_forward.windows import measure_windows
from backtest_batch.market.panel import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How confidence intervals are drawn: the stationary bootstrap, percentiles.

    Attributes
    ----------
    draws
        Number of resamples.
    mean_block
        Mean length of a block in (daily) bars.
    seed
        Seed of the draws.
    level
        Probability of the interval.
    """

    draws: int = 1_000
    mean_block: float = 10.0
    seed: int = 42
    level: float = 0.95


def t_statistic(returns: FloatArray) -> float | None:
    """Return ``mean(x) / std(x, ddof 1) * sqrt(n)``; None when the returns do not vary.

    Parameters
    ----------
    returns
        x, returns over the risk-free rate, shape (n_bars,).
    """
    if len(returns) < 2 or float(np.ptp(returns)) <= 1e-12:
        return None
    deviation = float(returns.std(ddof=1))
    return float(returns.mean()) / deviation * math.sqrt(len(returns))


def curve_metrics(runs: ScenarioRuns, curve: StitchedCurve) -> dict[str, float]:
    """Return the result metrics of a stitched curve; an undefined one is absent.

    Turnover, costs and trades are those of the chosen runs and of the switches between them;
    exposures are those of the chosen runs.

    Parameters
    ----------
    runs
        The runs that were chosen among.
    curve
        Their stitched returns.
    """
    # The bar before is the first measured one: what is held on it earns the first return.
    n_before = 1 if curve.bars[0] > 0 else 0
    bars = np.concatenate((curve.bars[:n_before] - 1, curve.bars))
    held = np.concatenate((curve.runs[:n_before], curve.runs))
    own: dict[str, Any] = {
        name: _held(runs, name, bars, held) for name in PER_BAR if getattr(runs, name) is not None
    }
    for name, extra in (
        ("turnover", curve.switch_turnover),
        ("cost_ratio", runs.cost_rate * curve.switch_turnover),
        ("trades", curve.switch_trades),
    ):
        if name in own:
            own[name][n_before:, 0] += extra
            own[name][:n_before] = 0.0
    benchmark = None
    if runs.benchmark is not None:
        benchmark = np.concatenate((np.full(n_before, np.nan), benchmark_returns(runs, curve)))
    stitched = ScenarioRuns(
        scenario=runs.scenario,
        run_ids=("stitched",),
        index=runs.index[bars],
        returns=np.concatenate((np.full(n_before, np.nan), curve.net_return))[:, None],
        parameters=pd.DataFrame(index=range(1)),
        periods_per_year=runs.periods_per_year,
        risk_free_rate=runs.risk_free_rate,
        initial_capital=runs.initial_capital,
        benchmark=benchmark,
        **own,
    )
    return metrics_since(n_before, stitched)


def benchmark_curve_metrics(runs: ScenarioRuns, curve: StitchedCurve) -> dict[str, float]:
    """Return the metrics of the benchmark's returns on the bars of a curve; empty without one."""
    if runs.benchmark is None:
        return {}
    return metrics_since(
        0,
        ScenarioRuns(
            scenario=runs.scenario,
            run_ids=("benchmark",),
            index=runs.index[curve.bars],
            returns=benchmark_returns(runs, curve)[:, None],
            parameters=pd.DataFrame(index=range(1)),
            periods_per_year=runs.periods_per_year,
            risk_free_rate=runs.risk_free_rate,
            initial_capital=runs.initial_capital,
        ),
    )


def benchmark_returns(runs: ScenarioRuns, curve: StitchedCurve) -> FloatArray:
    """Return the benchmark of the run that is held, bar by bar; in cash that of the first run."""
    return runs.benchmark_on(curve.bars, np.maximum(curve.runs, 0))


def metrics_since(bar: int, run: ScenarioRuns) -> dict[str, float]:
    """Return the defined metrics of a single run on its bars from this one on."""
    metrics = measure_windows(run, [(range(bar, len(run.index)),)])
    found = zip(metrics.names, metrics.values[:, 0, 0].tolist(), strict=True)
    return {name: value for name, value in found if math.isfinite(value)}


def _held(runs: ScenarioRuns, name: str, bars: IntArray, held: IntArray) -> FloatArray:
    """Return a per-bar array of the runs that are held, shape (n_bars, 1); 0 in cash."""
    values = np.asarray(getattr(runs, name)[bars, np.maximum(held, 0)])
    return np.where(held == CASH, 0.0, values)[:, None]


def excess_returns(runs: ScenarioRuns, curve: StitchedCurve) -> FloatArray:
    """Return the stitched returns over the risk-free rate, shape (n_test_bars,)."""
    return curve.net_return - runs.risk_free_rate / runs.periods_per_year


def beta_adjusted(runs: ScenarioRuns, curve: StitchedCurve, beta: float) -> FloatArray:
    """Return ``x - beta b``: what the benchmark does not explain, the intercept included.

    Parameters
    ----------
    runs
        The runs of the scenario, with a benchmark.
    curve
        Their stitched returns.
    beta
        Slope of the stitched returns on the benchmark's.
    """
    benchmark = benchmark_returns(runs, curve)
    risk_free = runs.risk_free_rate / runs.periods_per_year
    return curve.net_return - risk_free - beta * (benchmark - risk_free)


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """Returns whose Sharpe ratio is to have a confidence interval.

    Attributes
    ----------
    returns
        Over the risk-free rate, shape (n_bars,).
    index
        Timestamps of the bars.
    periods_per_year
        Bars a year.
    """

    returns: FloatArray
    index: pd.DatetimeIndex
    periods_per_year: float


def sharpe_intervals(
    series: Sequence[Series], bootstrap: Bootstrap
) -> list[tuple[float, float] | None]:
    """Return confidence intervals of annualised Sharpe ratios.

    Percentiles of the Sharpe ratios of stationary bootstrap resamples (Politis and Romano 1994).
    Intraday returns are compounded to days first. Series of one length share their resamples.

    Parameters
    ----------
    series
        The returns.
    bootstrap
        How to draw.

    Returns
    -------
    list of (low, high) or None
        None for fewer than 30 (daily) bars, and for returns that do not vary.
    """
    daily = [_daily(item) for item in series]
    found: list[tuple[float, float] | None] = [None] * len(series)
    for n_bars in sorted({len(item.returns) for item in daily}):
        members = [
            place
            for place, item in enumerate(daily)
            if len(item.returns) == n_bars >= MIN_BARS and t_statistic(item.returns) is not None
        ]
        if not members:
            continue
        counts = stationary_counts(n_bars, bootstrap.draws, bootstrap.mean_block, bootstrap.seed)
        tails = np.array([0.5 - bootstrap.level / 2, 0.5 + bootstrap.level / 2])
        # One by one: the bits of a matrix product depend on how many columns it has.
        for place in members:
            item = daily[place]
            sharpes = bootstrapped_sharpe(item.returns[:, None], counts)[:, 0]
            low, high = np.nanquantile(sharpes, tails) * math.sqrt(item.periods_per_year)
            found[place] = (float(low), float(high))
    return found


def _daily(series: Series) -> Series:
    """Compound intraday returns to days."""
    starts = day_starts(series.index)
    if starts is None:
        return series
    returns = np.multiply.reduceat(1.0 + series.returns, starts) - 1.0
    bars_a_day = len(series.returns) / len(returns)
    return Series(
        returns=returns,
        index=series.index[starts],
        periods_per_year=series.periods_per_year / bars_a_day,
    )
