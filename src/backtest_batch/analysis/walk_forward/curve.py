"""The chosen runs' out-of-sample returns joined into one curve, and the evidence it gives."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.overfitting.multiple_tests import (
    bootstrapped_sharpe,
    stationary_counts,
)
from backtest_batch.analysis.overfitting.samples import MIN_BARS, day_starts
from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.engine.calendar import year_fractions
from backtest_batch.core.numbers import DUST, TRADE_THRESHOLD
from backtest_batch.core.splits import Segment, positions
from backtest_batch.core.windows import PER_BAR, ScenarioRuns, metrics_since

DriftedWeights = Callable[[int, int], FloatArray]
"""``(run, bar) -> weights``: values of a run's holdings divided by its equity at the close of a
bar, after its own trades on that bar, shape (n_assets,). Runs and bars are positions in
:class:`.ScenarioRuns`."""

CASH = -1
"""Takes the place of a run in segments in which no run qualified."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A change of the run whose positions are held.

    Attributes
    ----------
    bar
        The bar at whose close the switch is made, the one before the first test bar.
    before, after
        Positions of the runs; None is cash.
    turnover
        sum |new drifted weights - old drifted weights|.
    cost
        ``rate * turnover``, as a fraction of equity.
    """

    bar: int
    before: int | None
    after: int | None
    turnover: float
    cost: float


@dataclass(frozen=True, kw_only=True, eq=False)
class StitchedCurve:
    """Stitched out-of-sample returns; arrays have shape (n_test_bars,).

    Attributes
    ----------
    bars
        Positions of the test bars.
    splits
        Number of the split whose choice is held on each bar.
    runs
        Position of the run that is held on each bar, -1 for cash.
    net_return
        Returns of that run, with the cost of a switch subtracted from the first bar after it.
    equity
        Initial capital times the compounded returns.
    switch_turnover
        Turnover of the switch just before a bar; 0 elsewhere.
    switch_trades
        Number of symbols traded by that switch.
    switches
        The changes from one run to another.
    ruined_bar
        The bar on which equity fell to 0 or below, the last one of the curve; None without ruin.
    notes
        Sentences about segments that could not be held as chosen.
    """

    bars: IntArray
    splits: IntArray
    runs: IntArray
    net_return: FloatArray
    equity: FloatArray
    switch_turnover: FloatArray
    switch_trades: FloatArray
    switches: tuple[Switch, ...]
    ruined_bar: int | None
    notes: tuple[str, ...]


def stitch(
    runs: ScenarioRuns,
    path: Sequence[Segment],
    choices: Sequence[int | None],
    drifted_weights: DriftedWeights,
) -> StitchedCurve:
    """Join the returns of the chosen runs over their test bars.

    Where the choice changes, ``cost_rate * sum |new drifted weights - old drifted weights|`` at the
    close before the first test bar is subtracted from that bar's return, in addition to the chosen
    run's own costs. Nothing is subtracted where both runs hold the same and differ only by the cash
    that their costs took. The first segment pays nothing. Where no run qualifies, the curve is in
    cash at ``cash_rate`` (ACT/365).

    Parameters
    ----------
    runs
        The runs of the scenario.
    path
        Segments in order of time.
    choices
        Position of the chosen run of each split, None where none qualifies.
    drifted_weights
        Called only for the runs on both sides of an actual switch.
    """
    cash = _cash_returns(runs)
    parts: list[FloatArray] = []
    chosen_runs: list[int] = []
    switches: list[Switch] = []
    traded: list[int] = []
    notes: list[str] = []
    for segment in path:
        bars = slice(segment.bars.start, segment.bars.stop)
        chosen = choices[segment.split]
        if chosen is not None and not np.isfinite(runs.returns[bars.start, chosen]):
            notes.append(_lost(runs, segment, chosen))
            chosen = None
        run = CASH if chosen is None else chosen
        returns = np.array(cash[bars] if run == CASH else runs.returns[bars, run], dtype=np.float64)
        if chosen_runs and chosen_runs[-1] != run:
            switch, n_traded = _switch(runs, chosen_runs[-1], run, bars.start - 1, drifted_weights)
            returns[0] -= switch.cost
            switches.append(switch)
            traded.append(n_traded)
        parts.append(returns)
        chosen_runs.append(run)
    return _curve(runs, path, chosen_runs, parts, switches, traded, notes)


def _lost(runs: ScenarioRuns, segment: Segment, run: int) -> str:
    return (
        f"Split {segment.split} chose {runs.run_ids[run]}, which was ruined before the test began: "
        "the curve is in cash."
    )


def _cash_returns(runs: ScenarioRuns) -> FloatArray:
    return runs.cash_rate * year_fractions(runs.index)


def _switch(
    runs: ScenarioRuns, before: int, after: int, bar: int, drifted_weights: DriftedWeights
) -> tuple[Switch, int]:
    old, new = (
        0.0 if run == CASH else np.asarray(drifted_weights(run, bar), dtype=np.float64)
        for run in (before, after)
    )
    change = np.zeros(1) if _differ_by_costs(old, new) else np.abs(np.asarray(new - old))
    turnover = float(change.sum())
    switch = Switch(
        bar=bar,
        before=None if before == CASH else before,
        after=None if after == CASH else after,
        turnover=turnover,
        cost=runs.cost_rate * turnover,
    )
    return switch, int(np.count_nonzero(change > TRADE_THRESHOLD))


def _differ_by_costs(old: FloatArray | float, new: FloatArray | float) -> bool:
    """Return whether both hold the same, fully invested, and differ only in the costs they paid.

    The engine ignores dust in the same way: rule 8 of docs/semantics.md.
    """
    before, after = float(np.sum(old)), float(np.sum(new))
    if min(before, after) < 1.0 - TRADE_THRESHOLD or abs(after - before) > DUST * before:
        return False
    change = np.asarray(new) / after - np.asarray(old) / before
    return bool(np.all(np.abs(change) <= TRADE_THRESHOLD))


def _curve(
    runs: ScenarioRuns,
    path: Sequence[Segment],
    chosen_runs: Sequence[int],
    parts: Sequence[FloatArray],
    switches: Sequence[Switch],
    traded: Sequence[int],
    notes: Sequence[str],
) -> StitchedCurve:
    lengths = [len(segment.bars) for segment in path]
    bars = positions([segment.bars for segment in path])
    net_return = np.concatenate(parts)
    lost = np.flatnonzero(net_return <= -1.0)
    n_bars = int(lost[0]) + 1 if len(lost) else len(bars)
    turnover, trades = np.zeros(len(bars)), np.zeros(len(bars))
    for switch, n_traded in zip(switches, traded, strict=True):
        first_bar = np.searchsorted(bars, switch.bar, side="right")
        turnover[first_bar], trades[first_bar] = switch.turnover, n_traded
    return StitchedCurve(
        bars=bars[:n_bars],
        splits=np.repeat([segment.split for segment in path], lengths)[:n_bars],
        runs=np.repeat(chosen_runs, lengths)[:n_bars],
        net_return=net_return[:n_bars],
        equity=np.asarray(runs.initial_capital * np.cumprod(1.0 + net_return[:n_bars])),
        switch_turnover=turnover[:n_bars],
        switch_trades=trades[:n_bars],
        switches=tuple(item for item in switches if item.bar < bars[n_bars - 1]),
        ruined_bar=int(bars[n_bars - 1]) if len(lost) else None,
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How confidence intervals are computed: percentiles of the stationary bootstrap.

    Attributes
    ----------
    draws
        Number of resamples.
    mean_block
        Mean length of a block in (daily) bars.
    seed
        Seed of the draws.
    level
        Confidence level of the interval.
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
    """Return the result metrics of a stitched curve, without undefined ones.

    Turnover, costs and trades are those of the chosen runs and of the switches between them;
    exposures are those of the chosen runs.

    Parameters
    ----------
    runs
        The runs that were chosen among.
    curve
        Their stitched returns.
    """
    # Measuring starts one bar before the curve: what is held on that bar earns the first return.
    n_before = 1 if curve.bars[0] > 0 else 0
    bars = np.concatenate((curve.bars[:n_before] - 1, curve.bars))
    run_at = np.concatenate((curve.runs[:n_before], curve.runs))
    own: dict[str, Any] = {
        name: _of_chosen_runs(runs, name, bars, run_at)
        for name in PER_BAR
        if getattr(runs, name) is not None
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
        factors=None if runs.factors is None else runs.factors.on(bars),
        **own,
    )
    return metrics_since(n_before, stitched)


def benchmark_curve_metrics(runs: ScenarioRuns, curve: StitchedCurve) -> dict[str, float]:
    """Return the metrics of the benchmark on the bars of a curve; empty without a benchmark."""
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
    """Return, bar by bar, the benchmark of the run that is held; in cash, that of the first run."""
    return runs.benchmark_on(curve.bars, np.maximum(curve.runs, 0))


def _of_chosen_runs(runs: ScenarioRuns, name: str, bars: IntArray, run_at: IntArray) -> FloatArray:
    """Return the named per-bar array of the runs that are held, shape (n_bars, 1); 0 in cash."""
    values = np.asarray(getattr(runs, name)[bars, np.maximum(run_at, 0)])
    return np.where(run_at == CASH, 0.0, values)[:, None]


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
    """Returns whose Sharpe ratio needs a confidence interval.

    Attributes
    ----------
    returns
        Over the risk-free rate, shape (n_bars,).
    index
        Timestamps of the bars.
    periods_per_year
        Bars per year.
    session_end
        Time at which the market's days end, ``HH:MM``; None is midnight.
    """

    returns: FloatArray
    index: pd.DatetimeIndex
    periods_per_year: float
    session_end: str | None = None


def sharpe_intervals(
    series: Sequence[Series], bootstrap: Bootstrap
) -> list[tuple[float, float] | None]:
    """Return confidence intervals of annualised Sharpe ratios.

    Percentiles of the Sharpe ratios of stationary bootstrap resamples (Politis and Romano 1994).
    Intraday returns are compounded to days first. Series of equal length share their resamples.

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
            position
            for position, item in enumerate(daily)
            if len(item.returns) == n_bars >= MIN_BARS and t_statistic(item.returns) is not None
        ]
        if not members:
            continue
        counts = stationary_counts(n_bars, bootstrap.draws, bootstrap.mean_block, bootstrap.seed)
        tails = np.array([0.5 - bootstrap.level / 2, 0.5 + bootstrap.level / 2])
        # One by one: the bits of a matrix product depend on how many columns it has.
        for position in members:
            item = daily[position]
            sharpes = bootstrapped_sharpe(item.returns[:, None], counts)[:, 0]
            low, high = np.nanquantile(sharpes, tails) * math.sqrt(item.periods_per_year)
            found[position] = (float(low), float(high))
    return found


def _daily(series: Series) -> Series:
    """Compound intraday returns to one return per session."""
    starts = day_starts(series.index, series.session_end)
    if starts is None:
        return series
    returns = np.multiply.reduceat(1.0 + series.returns, starts) - 1.0
    bars_a_day = len(series.returns) / len(returns)
    return Series(
        returns=returns,
        index=series.index[starts],
        periods_per_year=series.periods_per_year / bars_a_day,
    )
