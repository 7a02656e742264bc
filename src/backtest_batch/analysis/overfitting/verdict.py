"""The verdict: skill, luck or cannot tell, by the rules in docs/statistics.md."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from backtest_batch.analysis.overfitting.inference import TRUE_ANNUAL_SHARPE
from backtest_batch.analysis.overfitting.multiple_tests import LEVEL
from backtest_batch.analysis.overfitting.permutation import (
    LEAST_MARKETS,
    NOT_ASKED,
    PermutationTest,
)
from backtest_batch.analysis.overfitting.samples import NOTHING_TO_TEST
from backtest_batch.analysis.overfitting.trials_band import TrialsBand
from backtest_batch.core.engine.frequency import name_of_bars

MIN_YEARS = 250 / 252
"""A shorter time is no basis for a verdict: the error of an annual Sharpe ratio is about one over
the square root of the number of years, whatever the frequency of the returns."""

MIN_RETURNS = 60
"""Fewer returns than this are no basis either: the resamples of so few hardly differ."""

Label = Literal["skill", "luck", "cannot_tell"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Skill or luck, in one sentence, with the figures behind it."""

    label: Label
    sentence: str
    reasons: tuple[str, ...]
    skilled: frozenset[str] = frozenset()
    """The runs that the verdict calls skilled; empty unless the label is skill."""

    def calls_skilled(self, run_id: str) -> bool | None:
        """Return whether the verdict calls a run skilled; None where it cannot tell."""
        return None if self.label == "cannot_tell" else run_id in self.skilled


@dataclass(frozen=True, kw_only=True)
class Opinions:
    """Figures on one kind of return that may be evidence against skill; None where undefined.

    Attributes
    ----------
    sharpe
        Sharpe ratio of the winner, per bar.
    noise_sharpe
        Sharpe ratio that the best of N trials without skill is expected to show, if the trials'
        ratios differ by no more than sampling noise.
    dsr, pbo, p_oos_loss
        As in overfitting.json.
    turns_at
        From how many trials on ``noise_sharpe`` exceeds ``sharpe``; None for no number.
    """

    sharpe: float | None
    noise_sharpe: float | None
    dsr: float | None
    pbo: float | None
    p_oos_loss: float | None
    turns_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class FactorEvidence:
    """The test against the factors.

    Attributes
    ----------
    names
        Names of the factors.
    pvalue
        p-value of the main test on what they leave; None without one.
    n_bars
        Number of (daily) bars on which they are known.
    alpha_t
        t-statistic of the winner's intercept.
    is_winner_among
        Whether the winner is among the test's survivors.
    nothing
        Why there is no test; empty when there is one.
    left_out
        That the benchmark is no part of the regression, and why; empty where it is, or there is
        none.
    """

    names: tuple[str, ...]
    pvalue: float | None
    n_bars: int
    alpha_t: float | None
    is_winner_among: bool
    nothing: str
    left_out: str = ""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that the rules take into account.

    Attributes
    ----------
    n_trials, n_trials_experiment, n_valid
        Number of decisions tried in the batch, tried in the experiment, and testable in the
        scenario.
    n_unkept
        Number of decisions of the first of these of which no returns were kept.
    n_counted
        N of the deflated Sharpe ratio: one of the first two, as the settings say.
    untested
        Why no trial can be tested; empty when some can.
    n_bars, bars_per_year
        Number of (daily) bars that the trials share, and (daily) bars per year.
    longest_warmup, first_end
        run_ids of the trials that decide where the shared bars start and, if the trials do not all
        end together, where they end.
    run_id, annual_sharpe, interval
        The winner, its annualised Sharpe ratio and the confidence interval of that.
    ranked_first
        The first of the ranking where it is another run; None where it is the winner.
    all_equal
        What to say when all trials have the same returns; empty when they do not.
    spa_pvalue, benchmark_spa_pvalue
        p-values of the main test against zero and against the benchmark.
    is_against_cash
        Whether there is no benchmark by choice, so that the test against zero decides.
    no_benchmark
        Why there is no test against the benchmark; empty when there is one.
    factors
        The test against the factors; None where none are given.
    psr
        Probabilistic Sharpe ratio of the winner.
    benchmark_t
        t-statistic of the winner's mean return beyond the benchmark.
    winner_beats_benchmark
        Whether the winner is among the benchmark test's survivors.
    survivors
        Trials that survive both tests.
    raw, adjusted
        Figures on r and on a that may be evidence against skill.
    neighbour_t
        Mean Sharpe ratio of the winner's neighbours, as a t-statistic.
    walk_forward_t
        t-statistic of the stitched out-of-sample returns.
    min_track_record_bars
        Minimum track record length of the winner.
    permutation
        The permutation test of the whole search, or why there is none.
    powers
        How often the test against zero and that against the benchmark find a true Sharpe ratio of
        :data:`.TRUE_ANNUAL_SHARPE`; None where there is no test.
    band
        How many independent trials the returns amount to.
    """

    n_trials: int
    n_trials_experiment: int
    n_counted: int
    n_valid: int
    n_unkept: int = 0
    untested: str
    n_bars: int
    bars_per_year: float
    longest_warmup: str | None
    first_end: str | None
    run_id: str | None
    annual_sharpe: float | None
    interval: tuple[float, float] | None
    ranked_first: str | None
    all_equal: str
    spa_pvalue: float | None
    benchmark_spa_pvalue: float | None
    is_against_cash: bool = False
    no_benchmark: str
    factors: FactorEvidence | None = None
    psr: float | None
    benchmark_t: float | None
    winner_beats_benchmark: bool
    survivors: tuple[str, ...]
    raw: Opinions
    adjusted: Opinions
    neighbour_t: float | None
    walk_forward_t: float | None
    min_track_record_bars: float | None
    permutation: PermutationTest | str = ""
    powers: tuple[float | None, float | None] = (None, None)
    band: TrialsBand | None = None


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on a sweep."""
    unknown = _cannot_tell(evidence)
    against = tuple(_against(evidence))
    reasons = (*_figures(evidence), *against)
    if unknown:
        return Verdict(label="cannot_tell", sentence=f"cannot tell: {unknown}", reasons=reasons)
    luck = _luck(evidence, tuple(_against(evidence, plainly=True)))
    if luck:
        return Verdict(label="luck", sentence=f"luck: {luck}", reasons=reasons)
    return Verdict(
        label="skill",
        sentence=f"skill: {_skill(evidence)}",
        reasons=reasons,
        skilled=frozenset(evidence.survivors),
    )


def judged_apart(verdict: Verdict, keys: Sequence[str], scenarios: Sequence[Verdict]) -> Verdict:
    """Return a verdict with a note on what it leaves out: the choice of data or dates.

    Parameters
    ----------
    verdict
        The verdict on the scenario of the run that ranks first.
    keys
        Keys of the data and dates that were declared conditions.
    scenarios
        The verdicts on all scenarios.
    """
    names = " and ".join(keys)
    told = [item.label for item in scenarios if item.label != "cannot_tell"]
    sentence = (
        f"{verdict.sentence}; the values of {names} were judged one by one, nothing was selected "
        "over them: whoever picks one by its result has made a choice that is not accounted for"
    )
    counted = (
        f"of {len(scenarios)} scenarios, {told.count('skill')} of {len(told)} that can be judged "
        f"pass as skill; without any skill, up to {LEVEL * len(told):.1f} would"
    )
    return replace(verdict, sentence=sentence, reasons=(*verdict.reasons, counted))


def _passes(pvalue: float | None) -> bool:
    return pvalue is not None and pvalue <= LEVEL


def _cannot_tell(evidence: Evidence) -> str:
    """Return why there is no verdict, or an empty text."""
    if evidence.n_valid == 0:
        if evidence.untested in ("", NOTHING_TO_TEST):
            return "no run has returns that can be tested"
        return evidence.untested
    if evidence.n_trials == 1:
        return f"{_one_strategy(evidence)}{_own_test(evidence)}{_power(evidence)}"
    if evidence.n_valid == 1:
        return (
            f"only 1 of {evidence.n_trials:,} strategies can be tested in this scenario, at least "
            f"2 are needed{_own_test(evidence)}{_power(evidence)}"
        )
    if evidence.all_equal:
        same = evidence.all_equal.replace("all trials", f"all {evidence.n_valid:,} strategies")
        return f"{same}{_power(evidence)}"
    least = max(MIN_RETURNS, round(MIN_YEARS * evidence.bars_per_year))
    if evidence.n_bars < least:
        ends = f" and end where {evidence.first_end} does" if evidence.first_end else ""
        return (
            f"the trials share {_returns(evidence)}, at least {least} are needed "
            f"(they start where {evidence.longest_warmup} does{ends}){_power(evidence)}"
        )
    lacks_test = evidence.benchmark_spa_pvalue is None and not evidence.is_against_cash
    if _passes(evidence.spa_pvalue) and lacks_test:
        return (
            f"{_winner(evidence)} beats zero (p = {evidence.spa_pvalue:.3f}), but "
            f"{evidence.no_benchmark}"
        )
    return _factors_unknown(evidence, least)


def _factors_unknown(evidence: Evidence, least: int) -> str:
    """Return why a winner that has passed so far cannot be tested against the factors."""
    factors = evidence.factors
    if factors is None or not _passes_before_factors(evidence):
        return ""
    why = factors.nothing
    if not why and factors.n_bars < least:
        why = f"the factors are known on {factors.n_bars:,} of the {_returns(evidence)}"
        why += f", at least {least} are needed"
    beaten = " and the benchmark" * (not evidence.is_against_cash)
    return f"{_winner(evidence)} beats zero{beaten}, but {why}" if why else ""


def _passes_before_factors(evidence: Evidence) -> bool:
    passes = _passes(evidence.spa_pvalue) and (evidence.annual_sharpe or 0.0) > 0
    if evidence.is_against_cash:
        return passes
    return passes and _passes(evidence.benchmark_spa_pvalue) and evidence.winner_beats_benchmark


def _power(evidence: Evidence, *, beyond: bool | None = None) -> str:
    """Say what the test could have found: that against the benchmark if there is one, or is asked.

    Empty where there was no test.
    """
    against_zero, against_benchmark = evidence.powers
    if beyond is None:
        beyond = against_benchmark is not None
    power = against_benchmark if beyond else against_zero
    if power is None:
        return ""
    kind = " beyond the benchmark" if beyond else ""
    return (
        f"; a true Sharpe ratio of {TRUE_ANNUAL_SHARPE:g} a year{kind} would have been found in "
        f"{percentage(power)} of such samples"
    )


def percentage(share: float) -> str:
    """Return a share as a whole percentage, never 0 % or 100 % of what is neither."""
    if 0 < share < 0.005:
        return "less than 1 %"
    return "more than 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def _returns(evidence: Evidence) -> str:
    return f"{evidence.n_bars:,} {name_of_bars(evidence.bars_per_year)} returns".replace("  ", " ")


def _one_strategy(evidence: Evidence) -> str:
    """Say that the batch tried one strategy, and how many earlier batches tried."""
    earlier = evidence.n_trials_experiment - evidence.n_trials
    if earlier <= 0:
        return "one strategy was tried, nothing was selected"
    return (
        f"one strategy was tried, after {earlier:,} other{'s' * (earlier > 1)} in earlier batches: "
        "if it was picked among these, that is not accounted for"
    )


def _own_test(evidence: Evidence) -> str:
    """Return the figures of a single strategy, in brackets."""
    figures = []
    if evidence.annual_sharpe is not None:
        figures.append(f"its own Sharpe ratio is {evidence.annual_sharpe:.2f} a year")
    if evidence.interval is not None:
        low, high = evidence.interval
        figures.append(f"{low:.2f} to {high:.2f} at 95 %")
    if evidence.benchmark_t is not None:
        figures.append(f"beyond the benchmark at equal beta t = {evidence.benchmark_t:.1f}")
    return f" ({', '.join(figures)})" if figures else ""


def _winner(evidence: Evidence) -> str:
    tested = "" if evidence.n_valid == evidence.n_trials else f", {evidence.n_valid:,} testable"
    return (
        f"the best of {evidence.n_trials:,} trials{tested}, {evidence.run_id} (Sharpe ratio "
        f"{evidence.annual_sharpe or 0.0:.2f} a year),"
    )


def _luck(evidence: Evidence, against: tuple[str, ...]) -> str:
    """Return why the result is luck, or an empty text."""
    winner, pvalue = _winner(evidence), evidence.spa_pvalue
    if not _passes(pvalue) or (evidence.annual_sharpe or 0.0) <= 0:
        return (
            f"{winner} is no better than the best of as many strategies without skill "
            f"(p = {pvalue:.3f} against zero){_power(evidence, beyond=False)}"
        )
    if evidence.is_against_cash:
        explained = _luck_by_factors(evidence)
        if explained or not against:
            return explained
        return (
            f"{winner} passes the test (p = {pvalue:.3f} against zero; no benchmark was "
            f"given), but {against[0]}"
        )
    beyond = evidence.benchmark_spa_pvalue
    if not _passes(beyond):
        return (
            f"{winner} beats zero (p = {pvalue:.3f}) but not the benchmark at equal beta "
            f"(p = {beyond:.3f}){_power(evidence, beyond=True)}"
        )
    if not evidence.winner_beats_benchmark:
        return (
            f"{winner} beats zero (p = {pvalue:.3f}) but is not among the runs that beat the "
            f"benchmark at equal beta (p = {beyond:.3f}){_power(evidence, beyond=True)}"
        )
    explained = _luck_by_factors(evidence)
    if explained:
        return explained
    if against:
        return (
            f"{winner} passes the tests (p = {pvalue:.3f} against zero, {beyond:.3f} against the "
            f"benchmark), but {against[0]}"
        )
    return ""


def _luck_by_factors(evidence: Evidence) -> str:
    """Return that the factors explain the winner, or an empty text."""
    factors = evidence.factors
    if factors is None or (_passes(factors.pvalue) and factors.is_winner_among):
        return ""
    but = "is not among the runs that beat" if _passes(factors.pvalue) else "not"
    beaten = f"beats zero (p = {evidence.spa_pvalue:.3f})"
    if not evidence.is_against_cash:
        beaten += f" and the benchmark at equal beta (p = {evidence.benchmark_spa_pvalue:.3f})"
    return (
        f"{_winner(evidence)} {beaten}, but {but} the factors {_named(factors.names)} "
        f"(p = {factors.pvalue:.3f})"
    )


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_FACTORS])
    more = len(names) - _SHOWN_FACTORS
    return f"{shown} and {more} more" if more > 0 else shown


_SHOWN_FACTORS = 6


def _skill(evidence: Evidence) -> str:
    others = len(evidence.survivors) - 1
    also = f"; {others:,} other run{'s survive' if others > 1 else ' survives'}" if others else ""
    if evidence.ranked_first is not None:
        among = "is" if evidence.ranked_first in evidence.survivors else "is not"
        also += f"; the ranking's first, {evidence.ranked_first}, {among} among those that do"
    if evidence.n_unkept:
        also += (
            f"; of the trials, {evidence.n_unkept:,} left no returns: the deflated Sharpe ratio "
            "counts them, the tests cannot"
        )
    beaten = [f"zero (p = {evidence.spa_pvalue:.3f})"]
    if not evidence.is_against_cash:
        beaten.append(f"the benchmark at equal beta (p = {evidence.benchmark_spa_pvalue:.3f})")
    elif evidence.factors is None:
        also = (
            "; this is against cash alone, no benchmark was given (benchmark=none): a rising "
            f"market passes, too{also}"
        )
    if evidence.factors is not None:
        names = _named(evidence.factors.names)
        beaten.append(f"the factors {names} (p = {evidence.factors.pvalue:.3f})")
    listed = " and ".join([*([", ".join(beaten[:-1])] if beaten[1:] else []), beaten[-1]])
    return f"{_winner(evidence)} beats {listed}, the selection accounted for{also}"


def _against(evidence: Evidence, *, plainly: bool = False) -> Iterator[str]:
    """Yield the second opinions that are strongly against skill, for the sentence ``plainly``."""
    for opinions, kind, plain in (
        (evidence.raw, "returns", ""),
        (evidence.adjusted, "beta-adjusted returns", " beyond the benchmark"),
    ):
        sharpe, noise = opinions.sharpe, opinions.noise_sharpe
        if sharpe is not None and noise is not None and sharpe < noise:
            figures = "" if plainly else f" ({kind}: {sharpe:.4f} a bar against {noise:.4f})"
            yield (
                f"chance alone is expected to show a higher Sharpe ratio{plain * plainly} after "
                f"{evidence.n_counted:,} trials{figures}{_unless_alike(evidence, opinions)}"
            )
        pbo, loss = opinions.pbo, opinions.p_oos_loss
        if pbo is not None and loss is not None and pbo > 0.5 and loss > 0.5:
            yield (
                f"the in-sample best is below the median out of sample in {pbo:.0%} of the splits "
                f"and loses in {loss:.0%} of them{plain if plainly else f' ({kind})'}"
            )
    if evidence.neighbour_t is not None and evidence.neighbour_t < -1.645:
        yield f"its neighbours in the grid lose (t = {evidence.neighbour_t:.1f})"
    if evidence.walk_forward_t is not None and evidence.walk_forward_t < 0:
        yield f"the walk-forward loses out of sample (t = {evidence.walk_forward_t:.1f})"
    test = evidence.permutation
    if not isinstance(test, PermutationTest) or not test.is_adaptive or not test.can_pass:
        return
    if not _passes(test.pvalue):
        yield (
            f"the same search finds as much on {test.n_as_good:,} of {test.n:,} permuted markets, "
            f"which hold nothing to be found (p = {test.pvalue:.3f})"
        )


def _factor_figures(evidence: Evidence) -> Iterator[str]:
    factors = evidence.factors
    if factors is None:
        return
    if factors.pvalue is not None:
        yield f"SPA test against {_named(factors.names)}: p = {factors.pvalue:.3f}"
    elif evidence.spa_pvalue is not None:
        yield f"no test against the factors: {factors.nothing}"
    if factors.left_out:
        yield f"test against the factors: {factors.left_out}"
    if factors.alpha_t is not None and math.isfinite(factors.alpha_t):
        yield f"what the factors leave of {evidence.run_id}: t = {factors.alpha_t:.1f}"
    if 0 < factors.n_bars < evidence.n_bars:
        yield f"the factors are known on {factors.n_bars:,} of {evidence.n_bars:,} bars"


def _unless_alike(evidence: Evidence, opinions: Opinions) -> str:
    """Say that fewer trials would not be held against the run, if similar ones may be that few."""
    band, turns_at = evidence.band, opinions.turns_at
    if band is None or turns_at is None or evidence.n_counted != evidence.n_valid:
        return ""
    low, high = sorted((band.participation, band.effective_rank))
    if low >= turns_at:
        return ""
    few, many = f"{low:,.0f}", f"{high:,.0f}"
    amount = few if few == many else f"{few} to {many}"
    return (
        f", though not after fewer than {turns_at:,}, and these trials are so alike that they "
        f"count as {amount}"
    )


def _excuse(opinions: Opinions) -> str:
    """Return why a low deflated Sharpe ratio is not held against a run, or an empty text."""
    if opinions.dsr is None or opinions.dsr >= 0.5 or opinions.sharpe is None:
        return ""
    if opinions.noise_sharpe is None or opinions.sharpe < opinions.noise_sharpe:
        return ""
    return " (not held against it: the trials differ by more than sampling noise)"


def _permuted(test: PermutationTest | str) -> Iterator[str]:
    """Yield what the permutation test says, or why there is none although one is due."""
    if isinstance(test, PermutationTest):
        markets = "permuted market" if test.n == 1 else "permuted markets"
        line = (
            f"permutation test of the whole search by {test.metric}: p = {test.pvalue:.3f}, as "
            f"much is found on {test.n_as_good:,} of {test.n:,} {markets}"
        )
        if not test.can_pass:
            line += f" (fewer than {LEAST_MARKETS} show nothing: p cannot be 0.05)"
        if test.n_failed:
            line += f"; {test.n_failed:,} runs failed there"
        yield line
    elif test not in ("", NOT_ASKED):
        yield f"no permutation test of the whole search: {test}"


def _resolution(evidence: Evidence) -> Iterator[str]:
    """Yield what the tests could have found, and how many trials there were."""
    found = [
        f"{percentage(power)} {against}"
        for power, against in zip(
            evidence.powers, ("against zero", "against the benchmark"), strict=True
        )
        if power is not None
    ]
    if found:
        yield f"power at a true Sharpe ratio of {TRUE_ANNUAL_SHARPE:g} a year: {', '.join(found)}"
    band = evidence.band
    if band is not None:
        turns = [item.turns_at for item in (evidence.raw, evidence.adjusted)]
        first = min((number for number in turns if number is not None), default=None)
        flips = "no number of trials" if first is None else f"{first:,} trials and more"
        counted, known = evidence.n_counted, evidence.n_valid
        those = f"{counted:,} trials, by the correlations of their returns"
        if counted != known:
            those = (
                f"{counted:,} trials; of the {known:,} trials whose returns are known, by their "
                "correlations"
            )
        yield (
            f"{those} {band.participation:,.1f} (participation ratio), {band.effective_rank:,.1f} "
            f"(effective rank) or {band.onc} (clusters): chance is expected to do as well with "
            f"{flips}"
        )


def _figures(evidence: Evidence) -> Iterator[str]:
    """Yield the figures behind the verdict, one line each."""
    if evidence.n_valid:
        yield f"{_returns(evidence)}, {evidence.bars_per_year:,.4g} of them a year"
    if evidence.spa_pvalue is not None:
        yield f"SPA test against zero: p = {evidence.spa_pvalue:.3f}"
    if evidence.benchmark_spa_pvalue is not None:
        yield (
            f"SPA test against the benchmark at equal beta: p = {evidence.benchmark_spa_pvalue:.3f}"
        )
    elif evidence.no_benchmark and evidence.spa_pvalue is not None:
        yield f"no test against the benchmark: {evidence.no_benchmark}"
    yield from _factor_figures(evidence)
    n_tests = sum(
        value is not None
        for value in (
            evidence.spa_pvalue,
            evidence.benchmark_spa_pvalue,
            evidence.factors and evidence.factors.pvalue,
        )
    )
    if n_tests > 1:
        tests = "both" if n_tests == 2 else "all"
        survivors = len(evidence.survivors)
        yield f"runs that survive {tests} tests: {survivors:,} of {evidence.n_valid:,}"
    if evidence.psr is not None:
        yield f"probabilistic Sharpe ratio: {evidence.psr:.3f}"
    if evidence.raw.dsr is not None and evidence.n_counted > 1:
        yield f"deflated Sharpe ratio: {evidence.raw.dsr:.3f}{_excuse(evidence.raw)}"
    if evidence.raw.pbo is not None:
        yield f"probability of backtest overfitting: {evidence.raw.pbo:.3f}"
    yield from _permuted(evidence.permutation)
    yield from _resolution(evidence)
    length = evidence.min_track_record_bars
    if length is not None and math.isfinite(length):
        yield f"minimum track record: {length:,.0f} bars, there are {evidence.n_bars:,}"
    if evidence.ranked_first is not None:
        yield f"the ranking's first is another run, {evidence.ranked_first}"
    if evidence.n_unkept:
        yield (
            f"of {evidence.n_trials:,} trials, {evidence.n_unkept:,} left no returns: they enter "
            "the deflated Sharpe ratio, not the tests"
        )
    earlier = evidence.n_trials_experiment - evidence.n_trials
    if earlier > 0:
        counted = "they enter the deflated Sharpe ratio, not the tests"
        if evidence.n_counted == evidence.n_trials:
            counted = "with trials=batch they are not counted"
        yield (
            f"{earlier:,} more strateg{'ies were' if earlier > 1 else 'y was'} tried in earlier "
            f"batches: {counted}"
        )
