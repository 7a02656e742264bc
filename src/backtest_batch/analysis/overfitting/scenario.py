"""The statistics of each scenario of a batch: what the best of its many trials is worth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.overfitting.block_length import mean_block_of
from backtest_batch.analysis.overfitting.cscv import CrossValidation, cross_validate_blocks
from backtest_batch.analysis.overfitting.factor_model import FactorModel, FactorTest, factor_test
from backtest_batch.analysis.overfitting.inference import (
    Inference,
    Shape,
    infer,
    lag_one_correlation,
)
from backtest_batch.analysis.overfitting.multiple_tests import (
    SuperiorAbility,
    bootstrapped_sharpe,
    critical_ratio,
    null_pvalue,
    stationary_counts,
    superior_ability,
)
from backtest_batch.analysis.overfitting.rademacher import DRAWS, lower_bounds, random_signs
from backtest_batch.analysis.overfitting.samples import (
    CASH,
    NOTHING_TO_TEST,
    Exclusion,
    FloatArray,
    IntArray,
    OverfittingSettings,
    Sample,
    Trials,
    samples,
)
from backtest_batch.analysis.overfitting.sharpe import (
    DailyReturns,
    DaysPerYear,
    Measured,
    Moments,
    all_equal,
    deflated_sharpe_ratio,
    empty_moments,
    expected_maximum,
    expected_maximum_sharpe,
    measure_moments,
    probabilistic_sharpe_ratio,
    sharpe_variance,
)
from backtest_batch.analysis.overfitting.trials_band import TrialsBand, trials_band, turning_point
from backtest_batch.core.numbers import in_threads
from backtest_batch.interrupt import heed


@dataclass
class Figures:
    """Figures by name; an undefined one is None, and ``undefined`` says why."""

    values: dict[str, Any] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: Any, reason: str = "") -> None:
        """Enter a figure; None or a non-finite number is undefined, for the given ``reason``."""
        if isinstance(value, float | np.floating):
            value = float(value) if math.isfinite(value) else None
        self.values[name] = value
        if value is None:
            self.undefined[name] = reason

    def nest(self, name: str, inner: "Figures") -> None:
        """Enter figures below one name; their reasons are under ``name.figure``."""
        self.values[name] = inner.values
        for key, reason in inner.undefined.items():
            self.undefined[f"{name}.{key}"] = reason


@dataclass(frozen=True, kw_only=True)
class SelectionEvidence:
    """The evidence of all trials of one scenario together, on one kind of return.

    Attributes
    ----------
    names
        run_ids of the trials, in the order of the plan.
    moments
        Their moments; every std is positive.
    n_bars, n_trials
        T, and N counted as the settings say.
    ability
        Reality check, SPA and StepM; None where there is no selection.
    validation
        Cross-validation; None where there is no selection, the trials do not differ on this kind
        of return, or there are fewer bars than blocks.
    nothing
        Why there is no selection; empty when there is.
    alike
        Why the trials do not differ on this kind of return; empty when they do.
    """

    names: tuple[str, ...]
    moments: Moments
    n_bars: int
    n_trials: int
    ability: SuperiorAbility | None
    validation: CrossValidation | None
    nothing: str
    alike: str

    @property
    def variance(self) -> float | None:
        """V, the variance (ddof 1) of the trials' Sharpe ratios; None where they do not differ."""
        return None if self.nothing or self.alike else float(np.var(self.moments.sharpe, ddof=1))

    @property
    def sr0(self) -> float | None:
        """SR0, 0 for a single trial; None when the trials' variance is not known."""
        if self.n_trials == 1:
            return 0.0
        variance = self.variance
        return None if variance is None else expected_maximum_sharpe(self.n_trials, variance)

    @property
    def survivors(self) -> tuple[str, ...] | None:
        """run_ids that StepM names; None without a selection."""
        if self.ability is None:
            return None
        return tuple(self.names[position] for position in self.ability.survivors)

    def psr(self) -> FloatArray:
        """PSR(0) of each trial, NaN where undefined."""
        moments = self.moments
        return np.asarray(
            probabilistic_sharpe_ratio(
                moments.sharpe, self.n_bars, skew=moments.skew, kurtosis=moments.kurtosis
            )
        )

    def dsr(self) -> FloatArray:
        """DSR of each trial, NaN where undefined."""
        moments = self.moments
        if self.sr0 is None:
            return np.full(len(self.names), np.nan)
        return np.asarray(
            deflated_sharpe_ratio(
                moments.sharpe,
                self.n_bars,
                n_trials=self.n_trials,
                variance=self.variance or 0.0,
                skew=moments.skew,
                kurtosis=moments.kurtosis,
            )
        )

    def noise_of(self, name: str | None) -> float | None:
        """Return the standard deviation of the trials' ratios that chance can account for.

        Trials that truly differ make V large, and with it SR0, although none of that is luck.
        Chance can account for the smaller of V and the sampling variance of one of them.
        """
        if self.variance is None or name not in self.names:
            return None
        moments, position = self.moments, self.names.index(name)
        sampling = sharpe_variance(
            moments.sharpe[position], moments.skew[position], moments.kurtosis[position]
        ) / (self.n_bars - 1)
        return math.sqrt(min(self.variance, float(sampling)))

    def noise_sharpe(self, name: str | None) -> float | None:
        """Return SR0 if the trials' ratios differ by no more than chance can account for."""
        noise = self.noise_of(name)
        return None if noise is None else noise * expected_maximum(self.n_trials)

    def turns_at(self, name: str | None) -> int | None:
        """Return from how many trials on chance alone is expected to show a trial's ratio."""
        noise = self.noise_of(name)
        if name is None or noise is None:
            return None
        return turning_point(float(self.moments.sharpe[self.names.index(name)]), noise)

    def put_run(self, figures: Figures, run_id: str, reason: str) -> None:
        """Enter the figures of a single run; ``reason`` says why they are missing, if they are."""
        position = self.names.index(run_id) if run_id in self.names else None
        moments = self.moments
        for name, array in (
            ("sharpe_per_period", moments.sharpe),
            ("skew", moments.skew),
            ("kurtosis", moments.kurtosis),
        ):
            figures.put(name, None if position is None else array[position], reason)

    def put_probabilities(self, figures: Figures, run_id: str, reason: str) -> None:
        """Enter psr, sr0 and dsr of a run."""
        position = self.names.index(run_id) if run_id in self.names else None
        flat = "the variance of the Sharpe ratio's estimate is not positive"
        figures.put("psr", None if position is None else self.psr()[position], reason or flat)
        figures.put("sr0", None if reason else self.sr0, reason or self.nothing or self.alike)
        figures.put(
            "dsr",
            None if position is None else self.dsr()[position],
            reason or self.nothing or self.alike or flat,
        )

    def put_tests(self, figures: Figures) -> None:
        """Enter reality_check_pvalue and spa_pvalue."""
        ability = self.ability
        for name, value in (
            ("reality_check_pvalue", ability and ability.reality_check_pvalue),
            ("spa_pvalue", ability and ability.spa_pvalue),
        ):
            figures.put(name, value, self.nothing)

    def put_validation(self, figures: Figures, blocks: int) -> None:
        """Enter pbo and p_oos_loss."""
        reason = self.nothing or self.alike
        reason = reason or f"{self.n_bars} bars cannot be cut into {blocks} blocks"
        validation = self.validation
        figures.put("pbo", validation and validation.probability, reason)
        figures.put("p_oos_loss", validation and validation.probability_of_loss, reason)


def select(
    names: tuple[str, ...], moments: Moments, *, n_bars: int, n_trials: int, nothing: str
) -> SelectionEvidence:
    """Run the tests of the selection on one kind of return.

    Parameters
    ----------
    names, moments
        The trials and their moments.
    n_bars, n_trials
        T and N.
    nothing
        Why there is no selection; empty when there is.
    """
    alike = ""
    if len(names) < 2:
        alike = "fewer than 2 trials have such returns"
    elif all_equal(moments):
        alike = "all trials have the same returns of this kind"
    ability = validation = None
    bars_per_block = n_bars // len(moments.sums)
    if not nothing:
        ability = superior_ability(moments.mean, moments.std, moments.deviations, n_bars)
    if not nothing and not alike and bars_per_block:
        validation = cross_validate_blocks(
            moments.sums, moments.squares, bars_per_block=bars_per_block
        )
    return SelectionEvidence(
        names=names,
        # The resampled means are by far the largest part, and are no longer needed.
        moments=replace(moments, deviations=np.empty((0, len(names)))),
        n_bars=n_bars,
        n_trials=n_trials,
        ability=ability,
        validation=validation,
        nothing=nothing,
        alike=alike,
    )


CONFIDENCE = 0.95
"""Level of the confidence interval and of the minimum track record length."""

_RUNS_AT_ONCE = 128

AGAINST_CASH = "there is none (benchmark=none): skill and luck are measured against cash"
ALL_BENCHMARK = "every trial's returns are a multiple of the benchmark's"
ONE_STRATEGY = "one strategy was tried, nothing was selected"
ALL_SAME = "all trials have the same returns, nothing was selected"
ALL_SAME_WITHIN = (
    "all trials have the same returns on the bars that they share: what was selected lies outside "
    "of these, where it cannot be tested"
)

_ABOUT_AS_GIVEN = 0.05
"""Up to this relative difference, the bars per year of several calendars are those given."""


@dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """The statistics of the trials of one scenario.

    Attributes
    ----------
    scenario
        Its text; None when there are no runs at all.
    n_bars
        T, the number of common (daily) bars; 0 when no run can be tested.
    mean_block
        Mean block of the bootstrap in (daily) bars; None when no run can be tested.
    bars_per_year
        (Daily) bars per year.
    excluded
        Runs that are left out.
    longest_warmup
        run_id of the trial that decides where the common bars start.
    first_end
        run_id of the trial that decides where they end; None where all end together.
    winner
        run_id of the trial with the highest Sharpe ratio.
    raw, adjusted
        The selection on r and on a; the latter without runs whose returns are a multiple of the
        benchmark's.
    beta
        Slope of r on the benchmark's returns, by run_id.
    no_benchmark
        Why there is no a; empty when there is.
    intervals
        Confidence intervals of the Sharpe ratios per bar of the winner and the best ranked run.
    factors
        The test against the factors; None where none are given.
    band
        How many independent trials there were; None without a selection.
    lower_bounds
        Lower bounds of the true Sharpe ratios per bar of all trials at once, in the order of
        ``raw.names``.
    inferences
        What the winner's ratio proves on r, and on a; None where there is none.
    """

    scenario: str | None
    n_bars: int
    mean_block: float | None
    bars_per_year: float
    excluded: tuple[Exclusion, ...]
    longest_warmup: str | None
    first_end: str | None
    winner: str | None
    raw: SelectionEvidence
    adjusted: SelectionEvidence
    beta: dict[str, float]
    no_benchmark: str
    intervals: dict[str, tuple[float, float]]
    band: TrialsBand | None
    lower_bounds: FloatArray
    factors: FactorTest | None = None
    inferences: tuple[Inference | None, Inference | None] = (None, None)

    @property
    def is_against_cash(self) -> bool:
        """Whether there is no benchmark by choice, so that the test against zero decides."""
        return self.no_benchmark == AGAINST_CASH

    @property
    def survivors(self) -> tuple[str, ...]:
        """run_ids of the trials that StepM names in each test that there is."""
        beyond = set(self.raw.survivors or ())
        if not self.is_against_cash:
            beyond &= set(self.adjusted.survivors or ())
        if self.factors is not None:
            beyond &= set(self.factors.survivors or ())
        return tuple(name for name in self.raw.survivors or () if name in beyond)


def scenario_results(
    trials: Trials,
    settings: OverfittingSettings,
    *,
    n_tried: int,
    n_counted: Mapping[str | None, int],
) -> list[ScenarioResult]:
    """Return the statistics of each scenario, in the order of the plan.

    Parameters
    ----------
    trials, settings
        The runs, and how they are tested.
    n_tried
        Number of decisions of the batch.
    n_counted
        N of the formulas, by scenario.
    """
    ordered = samples(trials)
    found: dict[str | None, ScenarioResult] = {}
    for group in _groups(ordered):
        heed()
        if group[0].nothing:
            found.update((s.scenario, _untested(s, settings)) for s in group)
            continue
        daily = DailyReturns(trials, group)
        block = mean_block_of(daily, settings)
        counts = stationary_counts(daily.n_bars, settings.draws, block, settings.seed)
        signs = random_signs(daily.n_bars, DRAWS, settings.seed)
        measured = measure_moments(daily, counts, settings.blocks, signs)
        heed()
        days_per_year = DaysPerYear(trials)
        context = _Context(
            trials, settings, daily, block, counts, measured, n_tried, n_counted, days_per_year
        )
        found.update((result.scenario, result) for result in context.results(group))
    return [found[sample.scenario] for sample in ordered]


def _groups(ordered: Sequence[Sample]) -> list[list[Sample]]:
    """Group the samples by their bars: those with equal bars share resamples and products."""
    groups: dict[tuple[int, int, tuple[str, ...], bool], list[Sample]] = {}
    for sample in ordered:
        bars = (sample.start, sample.stop, sample.calendars, bool(sample.nothing))
        groups.setdefault(bars, []).append(sample)
    return list(groups.values())


def _untested(sample: Sample, settings: OverfittingSettings) -> ScenarioResult:
    return nothing_to_test(sample.scenario, sample.excluded, settings, sample.nothing)


def nothing_to_test(
    scenario: str | None,
    excluded: tuple[Exclusion, ...],
    settings: OverfittingSettings,
    reason: str = NOTHING_TO_TEST,
) -> ScenarioResult:
    """Return the result of a scenario in which no run can be tested."""
    moments = empty_moments(0, settings.blocks, settings.draws)
    selection = select((), moments, n_bars=0, n_trials=1, nothing=reason)
    return ScenarioResult(
        scenario=scenario,
        n_bars=0,
        mean_block=None,
        bars_per_year=1.0,
        excluded=excluded,
        longest_warmup=None,
        first_end=None,
        winner=None,
        raw=selection,
        adjusted=selection,
        beta={},
        no_benchmark=reason,
        intervals={},
        band=None,
        lower_bounds=np.empty(0),
    )


@dataclass(frozen=True)
class _Context:
    """What the scenarios of a group share."""

    trials: Trials
    settings: OverfittingSettings
    daily: DailyReturns
    mean_block: float
    counts: FloatArray
    measured: Measured
    n_tried: int
    n_counted: Mapping[str | None, int]
    days_per_year: "DaysPerYear"

    def results(self, group: Sequence[Sample]) -> list[ScenarioResult]:
        """Return the statistics of each scenario of the group."""
        bare = in_threads(lambda item: self._result(*item), list(enumerate(group)))
        position = {name: number for number, name in enumerate(self._names(slice(None)))}
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
                inferences=self._inferences(result, position),
            )
            for result in bare
        ]

    def _single(self, result: ScenarioResult, position: Mapping[str, int]) -> list[str]:
        """Return the runs that are shown by themselves: the winner and the best ranked."""
        names = result.raw.names
        if result.winner is None:
            return []
        return [result.winner, min(names, key=lambda name: self._rank_of(position[name]))]

    def _result(self, number: int, sample: Sample) -> ScenarioResult:
        positions = np.flatnonzero(self.daily.scenarios == number).astype(np.int64)
        raw = self.measured.raw
        varies = raw.std[positions] > 1e-14 + 1e-9 * np.abs(raw.mean[positions])
        still = [
            Exclusion(
                run_id=self._names(positions)[column],
                reason="zero variance: its returns do not vary on the common bars",
            )
            for column in np.flatnonzero(~varies)
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
            nothing = f"only 1 of {self.n_tried:,} trials can be tested, at least 2 are needed"
        elif all_equal(raw.take(positions)):
            nothing = ALL_SAME_WITHIN if sample.cut else ALL_SAME
        n_counted = self.n_counted[sample.scenario]
        selection = self._select(raw, positions, n_counted, nothing)
        names = selection.names
        winner = self._winner(selection.moments, positions)
        return ScenarioResult(
            scenario=sample.scenario,
            n_bars=self.daily.n_bars,
            mean_block=self.mean_block,
            bars_per_year=self._bars_per_year(sample),
            excluded=(*sample.excluded, *still),
            longest_warmup=self._name(sample.longest_warmup),
            first_end=self._name(sample.first_end),
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
            band=None
            if selection.nothing
            else trials_band(self.daily, positions, self.settings.seed),
            lower_bounds=lower_bounds(
                selection.moments.sharpe,
                float(self.measured.alignments[number].mean()) if len(positions) > 1 else 0.0,
                self.daily.n_bars,
                max(n_counted, len(positions)),
            ),
            factors=self._factors(positions, names, winner, nothing),
        )

    def _factors(
        self, positions: IntArray, names: tuple[str, ...], winner: int, nothing: str
    ) -> FactorTest | None:
        if (self.daily.explaining[positions] < 0).all():
            return None
        return factor_test(
            FactorModel(self.daily, positions),
            names,
            winner,
            counts=self.counts,
            deviations=self.measured.raw.take(positions).deviations,
            mean_block=self.mean_block,
            seed=self.settings.seed,
            nothing=nothing,
        )

    def _inferences(
        self, result: ScenarioResult, position: Mapping[str, int]
    ) -> tuple[Inference | None, Inference | None]:
        """Return what the winner's ratio proves on r, and on a."""
        if result.winner is None:
            return None, None
        column = np.array([position[result.winner]], dtype=np.int64)
        r = self.daily.runs(column)[:, 0]
        market = self.daily.benchmarks(self.daily.bases[column])[:, 0]
        a = r - result.beta[result.winner] * market
        return self._inference(result, result.raw, r), self._inference(result, result.adjusted, a)

    def _inference(
        self, result: ScenarioResult, selection: SelectionEvidence, returns: FloatArray
    ) -> Inference | None:
        if result.winner not in selection.names:
            return None
        number, moments = selection.names.index(result.winner), selection.moments
        sharpe, null = float(moments.sharpe[number]), None
        if selection.ability is not None:
            null = selection.ability.null_maxima
        return infer(
            sharpe,
            self.daily.n_bars,
            shape=Shape(
                skew=float(moments.skew[number]),
                kurtosis=float(moments.kurtosis[number]),
                rho=lag_one_correlation(returns),
            ),
            bars_per_year=result.bars_per_year,
            n_trials=selection.n_trials,
            variance=selection.variance,
            critical=None if null is None else critical_ratio(null),
            pvalue=None if null is None else null_pvalue(sharpe, null),
        )

    def _bars_per_year(self, sample: Sample) -> float:
        """Return the (daily) bars per year; where calendars differ, of the bars that they share."""
        given, index = self.days_per_year.of(sample.columns), self.trials.index
        if not sample.calendars or sample.periods is None:
            return given
        first, last = sample.periods[[0, -1]] + sample.start
        years = (index[last] - index[first]) / pd.Timedelta(days=365.25)
        counted = float((len(sample.periods) - 1) / years)
        return given if abs(counted / given - 1) <= _ABOUT_AS_GIVEN else counted

    def _name(self, column: int | None) -> str | None:
        return None if column is None else self.trials.runs[column].run_id

    def _names(self, positions: IntArray | slice) -> tuple[str, ...]:
        return tuple(self.trials.runs[column].run_id for column in self.daily.columns[positions])

    def _select(
        self, moments: Moments, positions: IntArray, n_counted: int, nothing: str
    ) -> SelectionEvidence:
        return select(
            self._names(positions),
            moments.take(positions),
            n_bars=self.daily.n_bars,
            n_trials=n_counted,
            nothing=nothing,
        )

    def _no_benchmark(self, sample: Sample) -> str:
        """Say why the trials cannot be adjusted for their benchmarks; empty when they can."""
        trials, own = self.trials, slice(sample.start, sample.stop)
        first_of: dict[str, int] = {}
        for column in sample.columns.tolist():
            first_of.setdefault(trials.benchmark_name(column), column)
        for name, column in first_of.items():
            given = trials.benchmarks.get(name)
            if given is None and name == CASH:
                return AGAINST_CASH
            if given is None:
                return "there is no benchmark for this scenario"
            bars = np.asarray(given[own], dtype=np.float64)
            has_bar = trials.own_bars(column)
            if has_bar is not None:
                bars = bars[has_bar[own]]
            missing = int(np.count_nonzero(~np.isfinite(bars)))
            if missing:
                return f"the benchmark has no returns on {missing} of the {len(bars)} common bars"
            if float(np.ptp(bars)) <= 1e-14:
                return "the benchmark's returns do not vary"
        return ""

    def _differs_from_benchmark(self, positions: IntArray) -> FloatArray:
        std = self.measured.adjusted.std[positions]
        return np.asarray(std > 1e-14 + 1e-8 * self.measured.raw.std[positions])

    def _rank_of(self, position: int) -> float:
        rank = self.trials.runs[self.daily.columns[position]].rank
        return math.inf if rank is None else rank

    def _winner(self, moments: Moments, positions: IntArray) -> int:
        """Return the run with the highest Sharpe ratio; of equals, best ranked, else the first."""
        sharpe = moments.sharpe
        tied = np.flatnonzero(sharpe >= sharpe.max() - 1e-12)
        return int(min(tied, key=lambda column: self._rank_of(int(positions[column]))))

    def _intervals(self, positions: IntArray) -> dict[str, tuple[float, float]]:
        """Return percentile intervals of the Sharpe ratios of some runs."""
        tail = (1 - CONFIDENCE) / 2
        intervals = {}
        for first in range(0, len(positions), _RUNS_AT_ONCE):
            heed()
            part = positions[first : first + _RUNS_AT_ONCE]
            resampled = bootstrapped_sharpe(self.daily.runs(part), self.counts)
            for name, values in zip(self._names(part), resampled.T, strict=True):
                finite = values[np.isfinite(values)]
                if len(finite):
                    low, high = np.quantile(finite, [tail, 1 - tail])
                    intervals[name] = (float(low), float(high))
        return intervals
