"""The statistics of every scenario of a batch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from backtest_batch.comparison.overfitting.bars import Exclusion, Sample, samples
from backtest_batch.comparison.overfitting.bootstrap import bootstrapped_sharpe, stationary_counts
from backtest_batch.comparison.overfitting.moments import (
    DailyReturns,
    Measured,
    Moments,
    all_equal,
    effective_trials,
    empty_moments,
    measure,
)
from backtest_batch.comparison.overfitting.selection import Selection, select
from backtest_batch.comparison.overfitting.trials import (
    FloatArray,
    IntArray,
    OverfittingSettings,
    Trials,
)
from backtest_batch.comparison.threads import in_threads

CONFIDENCE = 0.95
"""Level of the confidence interval and of the minimum track record length."""

_RUNS_AT_ONCE = 128

ALL_BENCHMARK = "every trial's returns are a multiple of the benchmark's"
ONE_STRATEGY = "one strategy was tried, nothing was selected"


@dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """What is known of the trials of one scenario.

    Attributes
    ----------
    scenario
        Its text; None when there are no runs at all.
    n_bars
        T, the number of common (daily) bars; 0 when no run can be tested.
    excluded
        Runs left out.
    longest_warmup
        run_id of the trial that decides where the common bars start.
    winner
        run_id of the trial with the highest Sharpe ratio.
    raw, adjusted
        The selection on r and on a; the latter without runs that are a multiple of the benchmark.
    beta
        By run_id.
    no_benchmark
        Why there is no a; empty when there is.
    intervals
        Confidence interval of the Sharpe ratio per bar of the winner and the best ranked run.
    effective_trials
        Participation ratio; None without a selection.
    """

    scenario: str | None
    n_bars: int
    excluded: tuple[Exclusion, ...]
    longest_warmup: str | None
    winner: str | None
    raw: Selection
    adjusted: Selection
    beta: dict[str, float]
    no_benchmark: str
    intervals: dict[str, tuple[float, float]]
    effective_trials: float | None


def scenario_results(
    trials: Trials,
    settings: OverfittingSettings,
    *,
    n_tried: int,
    n_counted: Mapping[str | None, int],
) -> list[ScenarioResult]:
    """Return the statistics of each scenario, in the order in which the plan names them.

    Parameters
    ----------
    trials, settings
        The runs, and how they are tested.
    n_tried
        Decisions of the batch.
    n_counted
        N of the formulas, by scenario.
    """
    ordered = samples(trials)
    found: dict[str | None, ScenarioResult] = {}
    for group in _groups(ordered):
        if len(group[0].columns) == 0:
            found.update(
                (s.scenario, nothing_to_test(s.scenario, s.excluded, settings)) for s in group
            )
            continue
        daily = DailyReturns(trials, group)
        counts = stationary_counts(daily.n_bars, settings.draws, settings.mean_block, settings.seed)
        measured = measure(daily, counts, settings.blocks)
        context = _Context(trials, settings, daily, counts, measured, n_tried, n_counted)
        found.update((result.scenario, result) for result in context.results(group))
    return [found[sample.scenario] for sample in ordered]


def _groups(ordered: Sequence[Sample]) -> list[list[Sample]]:
    """Return the samples by their bars: those with equal bars share resamples and products."""
    groups: dict[tuple[int, int], list[Sample]] = {}
    for sample in ordered:
        groups.setdefault((sample.start, sample.stop), []).append(sample)
    return list(groups.values())


def nothing_to_test(
    scenario: str | None, excluded: tuple[Exclusion, ...], settings: OverfittingSettings
) -> ScenarioResult:
    """Return the result of a scenario in which no run can be tested."""
    reason = "no run can be tested"
    moments = empty_moments(0, settings.blocks, settings.draws)
    selection = select((), moments, n_bars=0, n_trials=1, nothing=reason)
    return ScenarioResult(
        scenario=scenario,
        n_bars=0,
        excluded=excluded,
        longest_warmup=None,
        winner=None,
        raw=selection,
        adjusted=selection,
        beta={},
        no_benchmark=reason,
        intervals={},
        effective_trials=None,
    )


@dataclass(frozen=True)
class _Context:
    """What the scenarios of a group share."""

    trials: Trials
    settings: OverfittingSettings
    daily: DailyReturns
    counts: FloatArray
    measured: Measured
    n_tried: int
    n_counted: Mapping[str | None, int]

    def results(self, group: Sequence[Sample]) -> list[ScenarioResult]:
        """Return the statistics of each scenario of the group."""
        bare = in_threads(lambda item: self._result(*item), list(enumerate(group)))
        position = {name: place for place, name in enumerate(self._names(slice(None)))}
        wanted = {position[name] for result in bare for name in self._single(result, position)}
        intervals = self._intervals(np.array(sorted(wanted), dtype=np.int64))
        return [
            replace(
                result,
                intervals={
                    name: intervals[name]
                    for name in self._single(result, position)
                    if name in intervals
                },
            )
            for result in bare
        ]

    def _single(self, result: ScenarioResult, position: Mapping[str, int]) -> list[str]:
        """Return the runs that are shown by themselves: the winner and the best ranked."""
        names = result.raw.names
        if result.winner is None:
            return []
        return [result.winner, min(names, key=lambda name: self._place(position[name]))]

    def _result(self, number: int, sample: Sample) -> ScenarioResult:
        positions = np.flatnonzero(self.daily.scenarios == number).astype(np.int64)
        raw = self.measured.raw
        varies = raw.std[positions] > 1e-14 + 1e-9 * np.abs(raw.mean[positions])
        still = [
            Exclusion(
                run_id=self._names(positions)[place],
                reason="zero variance: its returns do not vary on the common bars",
            )
            for place in np.flatnonzero(~varies)
        ]
        positions = positions[varies]
        if len(positions) == 0:
            excluded = (*sample.excluded, *still)
            return nothing_to_test(sample.scenario, excluded, self.settings)
        no_benchmark = self._no_benchmark(sample)
        beyond = positions[self._differs_from_benchmark(positions)]
        nothing = ""
        if self.n_tried == 1:
            nothing = ONE_STRATEGY
        elif len(positions) == 1:
            nothing = f"only 1 of {self.n_tried} trials can be tested, at least 2 are needed"
        elif all_equal(raw.take(positions)):
            nothing = "all trials have the same returns, nothing was selected"
        n_counted = self.n_counted[sample.scenario]
        selection = self._select(raw, positions, n_counted, nothing)
        names = selection.names
        winner = self._winner(selection.moments, positions)
        longest = sample.longest_warmup
        return ScenarioResult(
            scenario=sample.scenario,
            n_bars=self.daily.n_bars,
            excluded=(*sample.excluded, *still),
            longest_warmup=None if longest is None else self.trials.runs[longest].run_id,
            winner=names[winner],
            raw=selection,
            adjusted=self._select(
                self.measured.adjusted,
                beyond,
                n_counted,
                no_benchmark or nothing or ("" if len(beyond) else ALL_BENCHMARK),
            ),
            beta=dict(zip(names, self.measured.beta[positions].tolist(), strict=True)),
            no_benchmark=no_benchmark,
            intervals={},
            effective_trials=None
            if selection.nothing
            else effective_trials(self.daily, positions, self.settings.seed),
        )

    def _names(self, positions: IntArray | slice) -> tuple[str, ...]:
        return tuple(self.trials.runs[column].run_id for column in self.daily.columns[positions])

    def _select(
        self, moments: Moments, positions: IntArray, n_counted: int, nothing: str
    ) -> Selection:
        return select(
            self._names(positions),
            moments.take(positions),
            n_bars=self.daily.n_bars,
            n_trials=n_counted,
            nothing=nothing,
        )

    def _no_benchmark(self, sample: Sample) -> str:
        """Return why the trials cannot be adjusted: what is wrong with a benchmark of theirs."""
        columns = sample.columns.tolist()
        for name in dict.fromkeys(self.trials.benchmark_name(column) for column in columns):
            given = self.trials.benchmarks.get(name)
            if given is None:
                return "there is no benchmark for this scenario"
            bars = np.asarray(given[sample.start : sample.stop], dtype=np.float64)
            missing = int(np.count_nonzero(~np.isfinite(bars)))
            if missing:
                return f"the benchmark has no returns on {missing} of the {len(bars)} common bars"
            if float(np.ptp(bars)) <= 1e-14:
                return "the benchmark's returns do not vary"
        return ""

    def _differs_from_benchmark(self, positions: IntArray) -> FloatArray:
        std = self.measured.adjusted.std[positions]
        return np.asarray(std > 1e-14 + 1e-8 * self.measured.raw.std[positions])

    def _place(self, position: int) -> float:
        rank = self.trials.runs[self.daily.columns[position]].rank
        return math.inf if rank is None else rank

    def _winner(self, moments: Moments, positions: IntArray) -> int:
        """Return the highest Sharpe ratio; of equals, the best ranked, else the first."""
        sharpe = moments.sharpe
        tied = np.flatnonzero(sharpe >= sharpe.max() - 1e-12)
        return int(min(tied, key=lambda place: self._place(int(positions[place]))))

    def _intervals(self, positions: IntArray) -> dict[str, tuple[float, float]]:
        """Return percentile intervals of the Sharpe ratios of some runs."""
        tail = (1 - CONFIDENCE) / 2
        intervals = {}
        for first in range(0, len(positions), _RUNS_AT_ONCE):
            part = positions[first : first + _RUNS_AT_ONCE]
            resampled = bootstrapped_sharpe(self.daily.runs(part), self.counts)
            for name, values in zip(self._names(part), resampled.T, strict=True):
                finite = values[np.isfinite(values)]
                if len(finite):
                    low, high = np.quantile(finite, [tail, 1 - tail])
                    intervals[name] = (float(low), float(high))
        return intervals
