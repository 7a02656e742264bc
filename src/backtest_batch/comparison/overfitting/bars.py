"""Which runs and which bars the statistics of a scenario stand on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest_batch.comparison.overfitting.trials import FloatArray, IntArray, Trial, Trials
from backtest_batch.market.mapped_pages import let_go

MIN_BARS = 30
"""Fewer (daily) bars than this give no figure at all."""

_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A run that the statistics leave out, and why."""

    run_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The runs of one scenario that can be tested, on the bars that they share.

    Attributes
    ----------
    scenario
        Its text.
    columns
        Columns of the matrix of returns: one run a decision, in the order of the plan.
    start, stop
        The common bars, half-open; the run with the longest warm-up decides where they start.
    longest_warmup
        Column of that run; None without runs.
    excluded
        Runs left out.
    """

    scenario: str
    columns: IntArray
    start: int
    stop: int
    longest_warmup: int | None
    excluded: tuple[Exclusion, ...]


@dataclass(frozen=True)
class _Coverage:
    """First and last finite bar, their number, and the range of values, of each column."""

    first: IntArray
    last: IntArray
    count: IntArray
    low: FloatArray
    high: FloatArray


def samples(trials: Trials) -> list[Sample]:
    """Return the sample of each scenario, in the order in which the plan names them.

    Failed and ruined runs, runs without returns, with gaps, with fewer than :data:`MIN_BARS` days,
    or whose returns never vary are excluded. Of runs that share a decision one stands for all: the
    best ranked, else the first.
    """
    coverage = _cover(trials.returns)
    days = day_starts(trials.index)
    members: dict[str, list[int]] = {}
    for column, run in enumerate(trials.runs):
        members.setdefault(run.scenario, []).append(column)
    failed: dict[str, list[Exclusion]] = {}
    for run in trials.failed:
        members.setdefault(run.scenario, [])
        exclusion = Exclusion(run_id=run.run_id, reason="failed: it has no returns")
        failed.setdefault(run.scenario, []).append(exclusion)
    return [
        _sample(scenario, columns, trials, coverage, days, failed.get(scenario, []))
        for scenario, columns in members.items()
    ]


def day_starts(index: pd.DatetimeIndex) -> IntArray | None:
    """Return the first bar of each calendar day, or None when no day holds two bars."""
    if index.empty:
        return None
    # The day of the exchange, not of UTC.
    days = index.tz_localize(None).normalize().to_numpy()
    starts = np.flatnonzero(np.r_[True, days[1:] != days[:-1]]).astype(np.int64)
    return None if len(starts) == len(index) else starts


def _sample(
    scenario: str,
    columns: Sequence[int],
    trials: Trials,
    coverage: _Coverage,
    days: IntArray | None,
    failed: Sequence[Exclusion],
) -> Sample:
    end = max((int(coverage.last[column]) for column in columns), default=-1) + 1
    valid, excluded = [], list(failed)
    for column in columns:
        reason = _fault(trials.runs[column], column, end, trials.index, coverage, days)
        if reason:
            excluded.append(Exclusion(run_id=trials.runs[column].run_id, reason=reason))
        else:
            valid.append(column)
    chosen = _one_per_decision(valid, trials.runs)
    longest = max(chosen, key=lambda column: int(coverage.first[column]), default=None)
    return Sample(
        scenario=scenario,
        columns=np.array(chosen, dtype=np.int64),
        start=0 if longest is None else int(coverage.first[longest]),
        stop=0 if longest is None else end,
        longest_warmup=longest,
        excluded=tuple(excluded),
    )


def _fault(
    run: Trial,
    column: int,
    end: int,
    index: pd.DatetimeIndex,
    coverage: _Coverage,
    days: IntArray | None,
) -> str | None:
    """Return why a run cannot be tested, or None."""
    if run.ruined:
        return "ruined: its equity fell to zero"
    count = int(coverage.count[column])
    if count == 0:
        return "it has no returns"
    first, last = int(coverage.first[column]), int(coverage.last[column])
    if last + 1 < end:
        return f"its returns end early, at {index[last]}"
    if count < end - first:
        return f"{end - first - count} of its returns are missing"
    n_days = count_days(first, end, days)
    if n_days < MIN_BARS:
        kind = "returns" if days is None else "daily returns"
        return f"too short: {n_days} {kind}, at least {MIN_BARS} are needed"
    low, high = float(coverage.low[column]), float(coverage.high[column])
    if high - low <= 1e-14 + 1e-9 * max(abs(low), abs(high)):
        return "zero variance: its returns never vary"
    return None


def count_days(start: int, stop: int, days: IntArray | None) -> int:
    """Return the number of (daily) returns on the bars from ``start`` to ``stop``."""
    if days is None or stop <= start:
        return stop - start
    return int(np.count_nonzero((days > start) & (days < stop))) + 1


def _one_per_decision(columns: Iterable[int], runs: Sequence[Trial]) -> list[int]:
    chosen: dict[str, int] = {}
    for column in columns:
        run = runs[column]
        held = chosen.get(run.decision)
        if held is None or _place(run) < _place(runs[held]):
            chosen[run.decision] = column
    return sorted(chosen.values())


def _place(run: Trial) -> float:
    return float("inf") if run.rank is None else run.rank


def _cover(returns: FloatArray) -> _Coverage:
    n_bars, n_runs = returns.shape
    found = _Coverage(
        first=np.full(n_runs, n_bars, dtype=np.int64),
        last=np.full(n_runs, -1, dtype=np.int64),
        count=np.zeros(n_runs, dtype=np.int64),
        low=np.full(n_runs, np.inf),
        high=np.full(n_runs, -np.inf),
    )
    # Some runs at a time, as they lie in the file that the returns of a batch are mapped from.
    step = max(1, _VALUES_AT_ONCE // max(1, n_bars))
    for left in range(0, n_runs if n_bars else 0, step):
        part = slice(left, left + step)
        rows = np.asarray(returns[:, part], dtype=np.float64).T
        finite = np.isfinite(rows)
        some = finite.any(axis=1)
        found.first[part] = np.where(some, np.argmax(finite, axis=1), n_bars)
        found.last[part] = np.where(some, n_bars - 1 - np.argmax(finite[:, ::-1], axis=1), -1)
        found.count[part] = np.count_nonzero(finite, axis=1)
        found.low[part] = np.where(finite, rows, np.inf).min(axis=1)
        found.high[part] = np.where(finite, rows, -np.inf).max(axis=1)
        let_go(returns)
    return found
