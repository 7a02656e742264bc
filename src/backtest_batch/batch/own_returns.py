"""Returns of runs that read their own data, brought onto common bars when the runs have ended.

Their bars are then known: those of all runs together are the bars of the batch, and a run has no
return on bars of others.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.batch.plan import Plan
from backtest_batch.batch.returns import BatchReturns
from backtest_batch.core.benchmark import benchmark_identity
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.engine.length_change import BarLengths
from backtest_batch.core.engine.metrics import equity_metrics
from backtest_batch.core.engine.spacing import SESSIONS_PER_YEAR
from backtest_batch.core.factors import FactorReturns
from backtest_batch.core.fingerprint import digest
from backtest_batch.core.fitting import periods_per_year
from backtest_batch.core.own_bars import (
    bars_alone,
    benchmark_on,
    explaining_on,
    with_recorded_bars,
)
from backtest_batch.errors import ConfigurationError
from backtest_batch.interrupt import heed
from backtest_batch.records import RunRecord, RunResult, RunSpec
from backtest_batch.store.folders import Workspace
from backtest_batch.workers.own_files import OwnReturns, own_file, read_own_returns

_FEWEST_BARS = 2


def known_now(record: RunRecord) -> RunRecord:
    """Return a run that has ended with what is now known of its bars."""
    if not record.spec.own_data or not isinstance(record.outcome, RunResult):
        return record
    return replace(record, spec=with_recorded_bars(record.spec, record.outcome.tags))


def without_own_returns(workspace: Workspace, records: Sequence[RunRecord]) -> list[RunSpec]:
    """Return the finished runs whose returns are in no folder."""
    folders = workspace.scratch.folders
    return [
        record.spec
        for record in records
        if record.status == "FINISHED"
        and not any(own_file(folder, record.spec.run_key).is_file() for folder in folders)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnBatch:
    """The runs of a batch on the bars of all of them.

    Attributes
    ----------
    plan
        The planned runs, with their bars; each run that has returns has a benchmark of its
        calendar.
    index
        The bars of all runs, shape (n_bars,).
    held
        The returns of each run, by run key.
    positions
        Where the bars of each calendar are among all, by number of the calendar.
    calendar_of
        Number of the calendar of each run, by run key.
    benchmarks
        Returns of each benchmark on all bars, by benchmark key, NaN where it has none.
    benchmark_metrics
        Their metrics.
    notes
        What a reader of the results should know.
    """

    plan: Plan
    index: pd.DatetimeIndex
    held: Mapping[str, OwnReturns]
    positions: Sequence[IntArray]
    calendar_of: Mapping[str, int]
    benchmarks: Mapping[str, FloatArray]
    benchmark_metrics: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]

    def bars_of(self, run: RunSpec) -> IntArray:
        """Return where the bars of a run are among all; empty where it has no returns."""
        number = self.calendar_of.get(run.run_key)
        return np.empty(0, dtype=np.int64) if number is None else self.positions[number]

    @cached_property
    def returns(self) -> BatchReturns:
        """The returns of all runs and benchmarks."""
        runs, n_bars = self.plan.runs, len(self.index)
        rows = np.full((len(runs) + len(self.benchmarks), n_bars), np.nan)
        for run in runs:
            if run.run_key in self.held:
                rows[run.index, self.bars_of(run)] = self.held[run.run_key].net_return
        row_of = {key: len(runs) + number for number, key in enumerate(self.benchmarks)}
        for key, values in self.benchmarks.items():
            rows[row_of[key]] = values
        masks = np.ones((len(self.positions), n_bars), dtype=np.bool_)
        for mask, bars in zip(masks, self.positions, strict=True):
            mask[bars[0] :] = False  # bars before are as those of a warm-up
            mask[bars] = True
        partial = bool(len(masks)) and not masks.all()
        return BatchReturns(
            index=self.index,
            rows=rows,
            benchmark_row=tuple(row_of.get(run.benchmark_key) for run in runs),
            calendars=masks if partial else np.empty((0, 0), dtype=np.bool_),
            calendar_of=tuple(self.calendar_of.get(run.run_key, 0) for run in runs)
            if partial
            else (),
        )

    def factors_of(self, run: RunSpec) -> FloatArray | None:
        """Return the factors of a run on its own bars, shape (n_own, n_factors); None without."""
        return explaining_on(run, self.index[self.bars_of(run)]).returns

    def together(self, runs: Sequence[RunSpec]) -> "OwnTogether":
        """Return some runs on the bars that all of them have.

        Raises
        ------
        ConfigurationError
            When they share no bars, or some lack bars that others have between these.
        """
        numbers = sorted({self.calendar_of[run.run_key] for run in runs})
        has_bar = np.zeros((len(numbers), len(self.index)), dtype=np.bool_)
        for mask, number in zip(has_bar, numbers, strict=True):
            mask[self.positions[number]] = True
        bars = np.flatnonzero(has_bar.all(axis=0))
        if len(bars) < _FEWEST_BARS:
            raise ConfigurationError("they share no bars")
        span = slice(bars[0], bars[-1] + 1)
        apart = np.flatnonzero(has_bar[:, span].any(axis=0) != has_bar[:, span].all(axis=0))
        if len(apart):
            when = moment_text(self.index[span][int(apart[0])])
            raise ConfigurationError(
                f"some have a bar at {when} and others have none ({len(apart):,} such bars): "
                "windows need the same bars in all runs"
            )
        index = self.index[bars]

        def column(run: RunSpec, values: FloatArray) -> FloatArray:
            whole = np.full(len(self.index), np.nan)
            whole[self.bars_of(run)] = values
            return whole[bars]

        first = runs[0]
        names = self.held[first.run_key].beside
        found = benchmark_on(first, index).returns
        factors = explaining_on(first, index).returns
        return OwnTogether(
            index=index,
            returns=np.column_stack(
                [column(run, self.held[run.run_key].net_return) for run in runs]
            ),
            per_bar={
                name: np.column_stack(
                    [column(run, self.held[run.run_key].beside[name]) for run in runs]
                )
                for name in names
            },
            benchmark=found,
            factors=None
            if factors is None or first.factors is None
            else FactorReturns(factors=first.factors, values=factors),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnTogether:
    """Runs on the bars that all of them have, for a walk-forward.

    Attributes
    ----------
    index
        These bars.
    returns, per_bar
        Arrays of shape (n_bars, n_runs).
    benchmark
        Shape (n_bars,); None without one.
    factors
        Their factors; None without any.
    """

    index: pd.DatetimeIndex
    returns: FloatArray
    per_bar: Mapping[str, FloatArray]
    benchmark: FloatArray | None
    factors: FactorReturns | None


def own_batch(
    workspace: Workspace, plan: Plan, records: Sequence[RunRecord], lost: Collection[int] = ()
) -> OwnBatch:
    """Bring the finished runs of a batch onto the bars of all of them.

    Parameters
    ----------
    workspace
        Where the workers have left their returns.
    plan
        The batch.
    records
        Its runs that have ended, with what is known of their bars.
    lost
        Indices of runs whose returns are not to be used.
    """
    held: dict[str, OwnReturns] = {}
    for record in records:
        heed()
        if record.status == "FINISHED" and record.spec.index not in lost:
            found = read_own_returns(workspace.scratch.folders, record.spec.run_key)
            if found is not None:
                held[record.spec.run_key] = found
    zones = {str(item.index.tz) for item in held.values()}
    numbers: dict[bytes, int] = {}
    calendars: list[pd.DatetimeIndex] = []
    calendar_of: dict[str, int] = {}
    for key, item in held.items():
        index = item.index
        if len(zones) > 1:
            index = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
        number = numbers.setdefault(index.asi8.tobytes(), len(numbers))
        if number == len(calendars):
            calendars.append(index)
        calendar_of[key] = number
    union = pd.DatetimeIndex([], dtype="datetime64[ns]")
    for index in calendars:
        union = index if not len(union) else union.union(index)
    positions = [np.asarray(union.get_indexer(index), dtype=np.int64) for index in calendars]
    known = {record.spec.run_key: record.spec for record in records}
    usual = next((known[key].config["periods_per_year"] for key in held), SESSIONS_PER_YEAR)
    runs = []
    for run in plan.runs:
        spec = known.get(run.run_key, run)
        if spec.config["periods_per_year"] is None:  # it has failed, or was not run
            spec = replace(spec, config={**spec.config, "periods_per_year": float(usual)})
        runs.append(_with_benchmark_key(spec, calendar_of.get(run.run_key)))
    benchmarks, metrics, said = _benchmarks(runs, calendars, positions, calendar_of, len(union))
    return OwnBatch(
        plan=replace(
            plan,
            runs=tuple(runs),
            panels={key: bars_alone(union, key) for key in plan.panels},
        ),
        index=union,
        held=held,
        positions=positions,
        calendar_of=calendar_of,
        benchmarks=benchmarks,
        benchmark_metrics=metrics,
        notes=(*said, *_notes(plan, calendars), *_lengths(known[key] for key in held)),
    )


def _with_benchmark_key(run: RunSpec, calendar: int | None) -> RunSpec:
    if calendar is None or run.benchmark.kind == "none":
        return run
    rate = run.config["risk_free_rate"]
    identity = [benchmark_identity(run.benchmark), calendar, periods_per_year(run.config), rate]
    return replace(run, benchmark_key=digest(identity))


def _benchmarks(
    runs: Sequence[RunSpec],
    calendars: Sequence[pd.DatetimeIndex],
    positions: Sequence[IntArray],
    calendar_of: Mapping[str, int],
    n_bars: int,
) -> tuple[dict[str, FloatArray], dict[str, Mapping[str, float]], tuple[str, ...]]:
    """Return the benchmarks on all bars, their metrics, and notes on the values they lack."""
    found: dict[str, FloatArray] = {}
    metrics: dict[str, Mapping[str, float]] = {}
    notes: dict[str, None] = {}
    for run in runs:
        key = run.benchmark_key
        if not key or key in found:
            continue
        number = calendar_of[run.run_key]
        compared = benchmark_on(run, calendars[number])
        assert compared.returns is not None
        values = np.array(compared.returns)
        values[0] = np.nan
        found[key] = np.full(n_bars, np.nan)
        found[key][positions[number]] = values
        notes |= dict.fromkeys(compared.notes)
        panel = bars_alone(calendars[number])
        notes |= dict.fromkeys(filter(None, [compared.gap_note(panel, 0)]))
        metrics[key], _ = equity_metrics(
            np.cumprod(np.concatenate(([1.0], 1.0 + values[1:]))),
            periods_per_year=periods_per_year(run.config),
            risk_free_rate=float(run.config["risk_free_rate"]),
        )
    return found, metrics, tuple(notes)


def _notes(plan: Plan, calendars: Sequence[pd.DatetimeIndex]) -> list[str]:
    """Say what is particular about the bars of the runs."""
    if not calendars:
        return []
    given = plan.runs[0].config["periods_per_year"]
    notes = BarLengths(calendars[0]).measured().notes(given)
    if len(calendars) > 1:
        begin = _between([bars[0] for bars in calendars])
        end = _between([bars[-1] for bars in calendars])
        notes.append(
            f"the runs have returned {len(calendars)} sets of bars, which begin {begin} and end "
            f"{end}: their metrics are of different times; the verdict and a walk-forward use the "
            "bars that they share"
        )
    return notes


def _lengths(runs: Iterable[RunSpec]) -> list[str]:
    """Say that bars of runs are of several lengths."""
    lengths = sorted({periods_per_year(run.config) for run in runs})
    if len(lengths) < 2:
        return []
    return [
        f"the runs have bars of several lengths ({', '.join(f'{item:,g}' for item in lengths)} a "
        "year), each annualised with its own"
    ]


def _between(moments: Sequence[pd.Timestamp]) -> str:
    first, last = moment_text(min(moments)), moment_text(max(moments))
    return first if first == last else f"between {first} and {last}"
