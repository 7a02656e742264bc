"""Out-of-sample returns of the choices, joined into one curve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from backtest_batch.comparison.walk_forward.runs import ScenarioRuns
from backtest_batch.comparison.walk_forward.split import Segment, positions
from backtest_batch.engine.calendar import year_fractions
from backtest_batch.engine.costs import DUST, TRADE_THRESHOLD
from backtest_batch.market.panel import FloatArray, IntArray

DriftedWeights = Callable[[int, int], FloatArray]
"""``(run, bar) -> weights``: values of a run's holdings over its equity at the close of a bar,
after its own trades on that bar, shape (n_assets,). Runs and bars are positions in
:class:`.runs.ScenarioRuns`."""

CASH = -1
"""Stands for the run of a segment in which nothing qualified."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A change of the run whose positions are held.

    Attributes
    ----------
    bar
        The bar at whose close it is made, the one before the first test bar.
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
        Number of the split whose choice is held.
    runs
        Position of the run that is held, -1 for cash.
    net_return
        Its returns, with the cost of a switch subtracted from the first bar after it.
    equity
        Initial capital times the compounded returns.
    switch_turnover
        Turnover of the switch before a bar; 0 elsewhere.
    switch_trades
        Number of symbols traded by it.
    switches
        The changes of the run.
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
    close before the first test bar is subtracted from that bar's return, beside the chosen run's
    own costs; nothing is, where both hold the same and differ by the cash that costs took. The
    first segment pays nothing. Where no run qualifies, the curve is in cash at ``cash_rate``
    (ACT/365).

    Parameters
    ----------
    runs
        The runs of the scenario.
    path
        Segments in order of time.
    choices
        Position of the chosen run of each split, None where none qualifies.
    drifted_weights
        Asked for the runs on both sides of a real switch only.
    """
    cash = _cash_returns(runs)
    parts: list[FloatArray] = []
    held: list[int] = []
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
        if held and held[-1] != run:
            switch, n_traded = _switch(runs, held[-1], run, bars.start - 1, drifted_weights)
            returns[0] -= switch.cost
            switches.append(switch)
            traded.append(n_traded)
        parts.append(returns)
        held.append(run)
    return _curve(runs, path, held, parts, switches, traded, notes)


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
    """Return whether both hold the same, all of it invested, and only paid other costs for it.

    As the engine leaves dust alone: rule 8 of docs/semantics.md.
    """
    before, after = float(np.sum(old)), float(np.sum(new))
    if min(before, after) < 1.0 - TRADE_THRESHOLD or abs(after - before) > DUST * before:
        return False
    change = np.asarray(new) / after - np.asarray(old) / before
    return bool(np.all(np.abs(change) <= TRADE_THRESHOLD))


def _curve(
    runs: ScenarioRuns,
    path: Sequence[Segment],
    held: Sequence[int],
    parts: Sequence[FloatArray],
    switches: Sequence[Switch],
    traded: Sequence[int],
    notes: Sequence[str],
) -> StitchedCurve:
    lengths = [len(segment.bars) for segment in path]
    bars = positions([segment.bars for segment in path])
    net_return = np.concatenate(parts)
    lost = np.flatnonzero(net_return <= -1.0)
    n_kept = int(lost[0]) + 1 if len(lost) else len(bars)
    turnover, trades = np.zeros(len(bars)), np.zeros(len(bars))
    for switch, n_traded in zip(switches, traded, strict=True):
        place = np.searchsorted(bars, switch.bar, side="right")
        turnover[place], trades[place] = switch.turnover, n_traded
    return StitchedCurve(
        bars=bars[:n_kept],
        splits=np.repeat([segment.split for segment in path], lengths)[:n_kept],
        runs=np.repeat(held, lengths)[:n_kept],
        net_return=net_return[:n_kept],
        equity=np.asarray(runs.initial_capital * np.cumprod(1.0 + net_return[:n_kept])),
        switch_turnover=turnover[:n_kept],
        switch_trades=trades[:n_kept],
        switches=tuple(item for item in switches if item.bar < bars[n_kept - 1]),
        ruined_bar=int(bars[n_kept - 1]) if len(lost) else None,
        notes=tuple(notes),
    )
