"""The input of the statistics: the trials, and for each scenario its runs and its bars."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest_batch.analysis.overfitting.permutation import PermutationTest
from backtest_batch.core.data.panel import release_pages
from backtest_batch.core.engine.sessions import begins_session

if TYPE_CHECKING:
    from backtest_batch.core.factors import FactorReturns

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MAX_BLOCKS = 20
"""S blocks make S! / (S/2)!^2 splits: 184,756 at 20, and 2.7 million at 24."""


@dataclass(frozen=True, kw_only=True)
class OverfittingSettings:
    """How the statistics are computed.

    Attributes
    ----------
    blocks
        S, the number of contiguous blocks of the cross-validation; even, 2 to 20.
    draws
        Resamples of the bootstrap, at least 100.
    mean_block
        Mean length of the bootstrap's blocks, in (daily) bars; at least 1. ``auto`` takes it from
        the returns' own dependence.
    seed
        Seed of every random number here.
    trials
        Whether N counts the decisions of the whole experiment or only those of this batch.

    Raises
    ------
    ValueError
        When a value is outside its range.
    """

    blocks: int = 16
    draws: int = 1_000
    mean_block: float | Literal["auto"] = "auto"
    seed: int = 42
    trials: Literal["experiment", "batch"] = "experiment"

    def __post_init__(self) -> None:
        if self.blocks % 2 or not 2 <= self.blocks <= MAX_BLOCKS:
            raise ValueError(
                f"`blocks` must be even and from 2 to {MAX_BLOCKS}, but got blocks={self.blocks}."
            )
        if self.draws < 100:
            raise ValueError(f"`draws >= 100` must hold, but got draws={self.draws}.")
        if not _is_block(self.mean_block):
            raise ValueError(
                "`mean_block >= 1` or `mean_block == 'auto'` must hold, but got "
                f"mean_block={self.mean_block}."
            )
        if self.seed < 0:
            raise ValueError(f"`seed >= 0` must hold, but got seed={self.seed}.")
        if self.trials not in ("experiment", "batch"):
            raise ValueError(
                f"`trials` must be one of experiment, batch, but got trials={self.trials}."
            )


def _is_block(value: float | str) -> bool:
    if isinstance(value, str):
        return value == "auto"
    return 1 <= value < np.inf


CASH = "cash"
"""Name of the benchmark of runs that have none and are compared with cash alone."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run, as the statistics see it.

    Attributes
    ----------
    run_id
        Name of the run.
    scenario
        The conditions under which it was judged, as text; equal text means equal conditions.
    decision
        What the researcher chose, as text or hash; equal text means an equal strategy.
    rank
        Place in the ranking, from 1; None when unranked.
    ruined
        Whether its equity fell to zero.
    benchmark
        Name of its benchmark, which has the run's costs, calendar and warm-up. None for the
        benchmark named like the scenario; :data:`CASH` to compare the run with cash alone.
    factors
        Name of the factors that explain its returns; None when there are none.
    calendar
        Name of the calendar (the bars that its data have); None when they have all bars.
    risk_free
        Risk-free return per bar, subtracted from the run and its benchmark.
    periods_per_year
        Bars per year of its data; None for those of the batch.
    """

    run_id: str
    scenario: str
    decision: str
    rank: int | None = None
    ruined: bool = False
    benchmark: str | None = None
    factors: str | None = None
    calendar: str | None = None
    risk_free: float = 0.0
    periods_per_year: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The runs of a batch, in the order of the plan.

    Attributes
    ----------
    returns
        Net simple returns of shape (n_bars, n_runs), possibly memory-mapped; not finite before a
        run's first return bar, after its ruin, and where its data have no bar.
    index
        Timestamps of the bars, increasing, shape (n_bars,). Where a session holds several bars,
        returns are compounded to sessions, which are calendar days unless ``session_end`` is set.
    runs
        One entry per column of ``returns``.
    failed
        Runs without returns; each counts as a trial.
    benchmarks
        Net returns of the benchmarks by name, each of shape (n_bars,); see
        :attr:`Trial.benchmark`.
    factors
        Returns of factors by name, each of shape (n_bars, n_factors); see :attr:`Trial.factors`.
    calendars
        By name: which bars the data of runs with this calendar have, each of shape (n_bars,); see
        :attr:`Trial.calendar`.
    periods_per_year
        Bars per year.
    session_end
        Time at which the market's days end, ``HH:MM``; None is midnight.
    earlier_decisions
        By scenario: decisions that earlier batches of the experiment tried on its data.
    neighbour_sharpe
        By run_id: mean annualised Sharpe ratio of the run's neighbours in the grid.
    walk_forward_t
        By run_id: t-statistic of the mean of the stitched out-of-sample returns of the
        walk-forward in which the run took part.
    judged_apart
        Keys of the data and dates that count as conditions: their values are judged one by one.
    unkept
        Further decisions that were tried, and of which nothing is left but their number.

    Raises
    ------
    ValueError
        When shapes disagree, a run_id occurs twice, or ``periods_per_year`` is not positive.
    permutation
        The permutation test of the whole search, or why there is none; empty where nothing is
        known of it.
    """

    returns: FloatArray
    index: pd.DatetimeIndex
    runs: Sequence[Trial]
    failed: Sequence[Trial] = ()
    benchmarks: Mapping[str, FloatArray] = field(default_factory=dict)
    factors: Mapping[str, "FactorReturns"] = field(default_factory=dict)
    calendars: Mapping[str, BoolArray] = field(default_factory=dict)
    periods_per_year: float = 252.0
    session_end: str | None = None
    earlier_decisions: Mapping[str, Collection[str]] = field(default_factory=dict)
    neighbour_sharpe: Mapping[str, float] = field(default_factory=dict)
    walk_forward_t: Mapping[str, float] = field(default_factory=dict)
    judged_apart: Sequence[str] = ()
    unkept: int = 0
    permutation: PermutationTest | str = ""

    def __post_init__(self) -> None:
        expected = (len(self.index), len(self.runs))
        if self.returns.shape != expected:
            raise ValueError(
                f"`returns.shape == (len(index), len(runs))` must hold, but got "
                f"{self.returns.shape} and {expected}."
            )
        for kind, arrays in (("benchmark", self.benchmarks), ("calendar", self.calendars)):
            for name, array in arrays.items():
                if np.shape(array) != expected[:1]:
                    raise ValueError(
                        f"a {kind} must have shape {expected[:1]}, but '{name}' has "
                        f"{np.shape(array)}."
                    )
        for name, given in self.factors.items():
            shape = (expected[0], len(given.factors.names))
            if given.values.shape != shape:
                raise ValueError(
                    f"factors must have shape {shape}, but '{name}' have {given.values.shape}."
                )
        names = Counter(run.run_id for run in self.runs)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise ValueError(f"each run_id must stand once, but these stand more often: {twice}.")
        if not 0 < self.periods_per_year < np.inf:
            raise ValueError(
                "`periods_per_year > 0` must hold, but got "
                f"periods_per_year={self.periods_per_year}."
            )

    def own_bars(self, column: int) -> BoolArray | None:
        """Return which bars the data of a run have, shape (n_bars,); None for all of them."""
        name = self.runs[column].calendar
        return None if name is None else self.calendars[name]

    def benchmark_name(self, column: int) -> str:
        """Return the name of a run's benchmark."""
        run = self.runs[column]
        return run.scenario if run.benchmark is None else run.benchmark


MIN_BARS = 30
"""With fewer (daily) bars than this, no figure is computed at all."""

NOTHING_TO_TEST = "no run can be tested"

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
        Columns of the matrix of returns: one run per decision, in the order of the plan.
    start, stop
        The common bars, half-open; the run with the longest warm-up decides where they start.
    periods
        First bar of each (daily) period, counted from ``start``; None where each bar is a period.
    calendars
        Names of the runs' calendars, if any of them lacks one of the common bars; what lies
        between two common periods is then compounded into the later one. Otherwise empty.
    longest_warmup, first_end
        Columns of the run that starts last, and of the run whose data end first, if some end
        before others. None without runs.
    cut
        Whether some run has returns outside of the common bars.
    excluded
        Runs that are left out.
    nothing
        Why the runs cannot be tested together; empty when they can.
    """

    scenario: str
    columns: IntArray
    start: int
    stop: int
    periods: IntArray | None
    calendars: tuple[str, ...]
    longest_warmup: int | None
    first_end: int | None
    cut: bool
    excluded: tuple[Exclusion, ...]
    nothing: str

    @property
    def n_periods(self) -> int:
        """T, the number of (daily) returns that the runs share."""
        return self.stop - self.start if self.periods is None else len(self.periods)


@dataclass(frozen=True)
class _Coverage:
    """For each column: first and last finite bar, number of them, and range of the values."""

    first: IntArray
    last: IntArray
    count: IntArray
    low: FloatArray
    high: FloatArray


def samples(trials: Trials) -> list[Sample]:
    """Return the sample of each scenario, in the order of the plan.

    Failed and ruined runs, runs without returns, with gaps, with fewer than :data:`MIN_BARS` days,
    or whose returns never vary are excluded. Of runs that share a decision, one represents all: the
    best ranked, else the first.
    """
    bars = _Bars(trials)
    members: dict[str, list[int]] = {}
    for column, run in enumerate(trials.runs):
        members.setdefault(run.scenario, []).append(column)
    failed: dict[str, list[Exclusion]] = {}
    for run in trials.failed:
        members.setdefault(run.scenario, [])
        exclusion = Exclusion(run_id=run.run_id, reason="failed: it has no returns")
        failed.setdefault(run.scenario, []).append(exclusion)
    return [
        bars.sample(scenario, columns, failed.get(scenario, []))
        for scenario, columns in members.items()
    ]


def day_starts(index: pd.DatetimeIndex, session_end: str | None = None) -> IntArray | None:
    """Return the first bar of each day of the market, or None when no day has two bars.

    Parameters
    ----------
    index
        Timestamps of the bars; days are those of the exchange, not of UTC.
    session_end
        Time at which days end, ``HH:MM``; None is midnight.
    """
    if index.empty:
        return None
    starts = np.flatnonzero(begins_session(index, session_end)).astype(np.int64)
    return None if len(starts) == len(index) else starts


def count_days(start: int, stop: int, days: IntArray | None) -> int:
    """Return the number of (daily) returns on the bars from ``start`` to ``stop``."""
    if days is None or stop <= start:
        return stop - start
    return int(np.count_nonzero((days > start) & (days < stop))) + 1


def common_periods(has_bar: BoolArray) -> tuple[IntArray, int]:
    """Return the periods that several calendars share.

    A period is the shortest sequence of days, following the previous period, in which each
    calendar has a bar. For example, next to a calendar of weekdays, a calendar of all days has its
    weekends compounded into the Mondays.

    Parameters
    ----------
    has_bar
        Whether each calendar has a bar on each day, shape (n_calendars, n_days).

    Returns
    -------
    tuple
        First day of each period, shape (n_periods,), and the day after the last one.
    """
    n_days = has_bar.shape[1]
    days = np.where(has_bar, np.arange(n_days), n_days)
    # For each day, the next day on which a calendar has a bar; the latest of these decides.
    following = np.minimum.accumulate(days[:, ::-1], axis=1)[:, ::-1]
    complete = following.max(axis=0).tolist()
    first, firsts = 0, []
    while first < n_days and complete[first] < n_days:
        firsts.append(first)
        first = complete[first] + 1
    return np.array(firsts, dtype=np.int64), first


class _Bars:
    """The bars of all runs, and which of them the runs of a scenario share."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._coverage = _cover(trials.returns)
        self._days = day_starts(trials.index, trials.session_end)
        self._periods: dict[tuple[int, int, tuple[str, ...]], tuple[IntArray | None, int]] = {}
        self._ends = {
            name: int(np.flatnonzero(own)[-1]) + 1 for name, own in trials.calendars.items()
        }

    def sample(self, scenario: str, columns: Sequence[int], failed: Sequence[Exclusion]) -> Sample:
        coverage, runs = self._coverage, self._trials.runs
        last = max((int(coverage.last[column]) for column in columns), default=-1)
        ends = {column: self._end(column, last + 1) for column in columns}
        valid, excluded = [], list(failed)
        for column in columns:
            reason = self._fault(column, ends[column])
            if reason:
                excluded.append(Exclusion(run_id=runs[column].run_id, reason=reason))
            else:
                valid.append(column)
        chosen = _one_per_decision(valid, runs)
        longest = max(chosen, key=lambda column: int(coverage.first[column]), default=None)
        shortest = min(chosen, key=ends.__getitem__, default=None)
        start, stop = 0, 0
        periods: IntArray | None = None
        calendars: tuple[str, ...] = ()
        ends_apart = len({ends[column] for column in chosen}) > 1
        if longest is not None and shortest is not None:
            start, stop = int(coverage.first[longest]), ends[shortest]
            calendars = self._partial(chosen, start, stop)
            periods, stop = self._divided(start, stop, calendars)
        sample = Sample(
            scenario=scenario,
            columns=np.array(chosen, dtype=np.int64),
            start=start,
            stop=max(start, stop),
            periods=periods,
            calendars=calendars,
            longest_warmup=longest,
            first_end=shortest if ends_apart else None,
            cut=ends_apart or len({int(coverage.first[column]) for column in chosen}) > 1,
            excluded=tuple(excluded),
            nothing="" if chosen else NOTHING_TO_TEST,
        )
        if not chosen or sample.n_periods >= MIN_BARS:
            return sample
        return replace(sample, nothing=self._too_little(sample, ends))

    def _end(self, column: int, end: int) -> int:
        """Return the bar after the last one that a run should have."""
        name = self._trials.runs[column].calendar
        return end if name is None else self._ends[name]

    def _partial(self, columns: Sequence[int], start: int, stop: int) -> tuple[str, ...]:
        """Return the calendars of the runs if one of them lacks a common bar, else nothing."""
        names = sorted({self._trials.runs[column].calendar or "" for column in columns})
        given = self._trials.calendars
        if all(name == "" or given[name][start:stop].all() for name in names):
            return ()
        return tuple(names)

    def _divided(
        self, start: int, stop: int, calendars: tuple[str, ...]
    ) -> tuple[IntArray | None, int]:
        """Return the periods of the common bars, and where the last of them ends."""
        if stop <= start:
            return None, start
        if not calendars and self._days is None:
            return None, stop
        # Thousands of scenarios may have the same bars.
        key = (start, stop, calendars)
        if key not in self._periods:
            self._periods[key] = self._periods_of(*key)
        return self._periods[key]

    def _periods_of(
        self, start: int, stop: int, calendars: tuple[str, ...]
    ) -> tuple[IntArray | None, int]:
        index = self._trials.index[start:stop]
        if not calendars:
            return day_starts(index, self._trials.session_end), stop
        days = np.flatnonzero(begins_session(index, self._trials.session_end))
        given = self._trials.calendars
        whole = np.ones(stop - start, dtype=np.bool_)
        masks = [given[name][start:stop] if name else whole for name in calendars]
        has_bar = np.array([np.logical_or.reduceat(mask, days) for mask in masks])
        firsts, end = common_periods(has_bar)
        bounds = np.append(days, stop - start)
        return bounds[firsts].astype(np.int64), start + int(bounds[end])

    def _too_little(self, sample: Sample, ends: Mapping[int, int]) -> str:
        """Say that the runs, each of which could be tested by itself, share too few bars."""
        runs, index = self._trials.runs, self._trials.index
        longest, shortest = sample.longest_warmup, sample.first_end
        assert longest is not None
        starts = f"{runs[longest].run_id} starts at {index[self._coverage.first[longest]]}"
        kind = "returns" if self._days is None else "daily returns"
        shared = f"the trials share {sample.n_periods} {kind}, at least {MIN_BARS} are needed"
        if shortest is None:
            return f"{shared} ({starts})"
        ended = f"{runs[shortest].run_id} ends at {index[ends[shortest] - 1]}"
        return f"{shared} ({starts}, {ended})"

    def _fault(self, column: int, end: int) -> str | None:
        """Return why a run cannot be tested, or None."""
        run, coverage, index = self._trials.runs[column], self._coverage, self._trials.index
        if run.ruined:
            return "ruined: its equity fell to zero"
        count = int(coverage.count[column])
        if count == 0:
            return "it has no returns"
        first, last = int(coverage.first[column]), int(coverage.last[column])
        if last + 1 < end:
            return f"its returns end early, at {index[last]}"
        own = self._trials.own_bars(column)
        expected = end - first if own is None else int(np.count_nonzero(own[first:end]))
        if count < expected:
            return f"{expected - count} of its returns are missing"
        days = self._days
        n_days = count_days(first, end, days)
        if own is not None and not own[first:end].all():
            n_days = int(
                np.count_nonzero(
                    begins_session(index[first:end][own[first:end]], self._trials.session_end)
                )
            )
        if n_days < MIN_BARS:
            kind = "returns" if days is None else "daily returns"
            return f"too short: {n_days} {kind}, at least {MIN_BARS} are needed"
        low, high = float(coverage.low[column]), float(coverage.high[column])
        if high - low <= 1e-14 + 1e-9 * max(abs(low), abs(high)):
            return "zero variance: its returns never vary"
        return None


def _one_per_decision(columns: Iterable[int], runs: Sequence[Trial]) -> list[int]:
    chosen: dict[str, int] = {}
    for column in columns:
        run = runs[column]
        best = chosen.get(run.decision)
        if best is None or _rank_of(run) < _rank_of(runs[best]):
            chosen[run.decision] = column
    return sorted(chosen.values())


def _rank_of(run: Trial) -> float:
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
    # A few runs at a time: the file that returns are mapped from stores them run by run.
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
        release_pages(returns)
    return found
