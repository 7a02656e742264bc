"""From the runs of a batch to overfitting.json and the columns of the leaderboard.

The statistics are plain values, each with its explanation.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.overfitting.inference import Inference
from backtest_batch.analysis.overfitting.multiple_tests import (
    benjamini_yekutieli,
    haircut_sharpe_ratio,
    holm,
    sharpe_pvalues,
)
from backtest_batch.analysis.overfitting.permutation import (
    PermutationTest,
    permutation_figures,
)
from backtest_batch.analysis.overfitting.samples import (
    NOTHING_TO_TEST,
    FloatArray,
    OverfittingSettings,
    Trial,
    Trials,
)
from backtest_batch.analysis.overfitting.scenario import (
    ALL_SAME,
    ALL_SAME_WITHIN,
    CONFIDENCE,
    Figures,
    ScenarioResult,
    SelectionEvidence,
    nothing_to_test,
    scenario_results,
)
from backtest_batch.analysis.overfitting.sharpe import (
    min_backtest_length_years,
    min_track_record_length,
)
from backtest_batch.analysis.overfitting.verdict import (
    Evidence,
    FactorEvidence,
    Opinions,
    Verdict,
    judge,
    judged_apart,
)

_NOT_POSITIVE = "infinite: the Sharpe ratio is not above zero"


def scenario_figures(result: ScenarioResult, settings: OverfittingSettings) -> Figures:
    """Return the figures of one scenario, under the names of overfitting.json.

    Parameters
    ----------
    result, settings
        The statistics, and how they were computed.
    """
    figures = Figures()
    raw, winner = result.raw, result.winner
    reason = "" if winner else raw.nothing
    figures.put("scenario", result.scenario, reason)
    figures.put("n_bars", result.n_bars)
    figures.put("mean_block", result.mean_block, reason)
    figures.put("run_id", winner, reason)
    _put_single(figures, result, winner or "", reason)
    _put_length(figures, result)
    raw.put_validation(figures, settings.blocks)
    figures.put("pbo_blocks", settings.blocks)
    raw.put_tests(figures)
    ability = result.adjusted.ability
    figures.put("benchmark_spa_pvalue", ability and ability.spa_pvalue, result.adjusted.nothing)
    figures.put("stepm_survivors", _listed(raw.survivors), raw.nothing)
    _put_adjusted(figures, result)
    band = result.band
    figures.put("effective_trials", band and band.participation, raw.nothing)
    figures.nest("trials_band", _band(result))
    figures.nest("inference", _inference(result.inferences[0], reason))
    bound = None
    if winner is not None:
        bound = result.lower_bounds[raw.names.index(winner)] * math.sqrt(result.bars_per_year)
    figures.put("sharpe_lower_bound", bound, reason)
    figures.put("excluded", [{"run_id": e.run_id, "reason": e.reason} for e in result.excluded])
    figures.nest("benchmark_adjusted", _beyond(result, settings))
    _put_factors(figures, result)
    return figures


def _put_factors(figures: Figures, result: ScenarioResult) -> None:
    """Enter the test against the factors, and what they explain of the winner."""
    found = result.factors
    if found is None:
        reason = result.raw.nothing if result.winner is None else NO_FACTORS
        figures.put("factors", None, reason)
        return
    inner, alpha, why = Figures(), found.winner, found.no_regression
    inner.put("names", list(found.names))
    inner.put("n_bars", found.n_bars)
    inner.put("alpha", alpha and alpha.per_bar * result.bars_per_year, why)
    inner.put("alpha_t", alpha and alpha.t_statistic, why or "the factors leave nothing of it")
    inner.put("alpha_lags", alpha and alpha.lags, why)
    slopes = Figures()
    for name, slope in zip(found.names, found.slopes, strict=True):
        slopes.put(name, slope, why or "it does not vary, or the factors before it make it up")
    inner.nest("betas", slopes)
    inner.put(
        "benchmark_beta",
        found.benchmark_slope,
        why or result.no_benchmark or BENCHMARK_MADE_UP,
    )
    inner.put("r2", found.r2, why)
    inner.put("spa_pvalue", found.ability and found.ability.spa_pvalue, found.nothing)
    inner.put("stepm_survivors", _listed(found.survivors), found.nothing)
    figures.nest("factors", inner)


BENCHMARK_MADE_UP = (
    "the benchmark is left out of the regression: the factors explain more than 99.99 % of it"
)
NO_FACTORS = "no factors are given (factors: a file of returns, or symbols)"


def ranked_first_figures(result: ScenarioResult, run_id: str, reason: str) -> Figures:
    """Return the figures of a single run: the first of the ranking, if it is not the winner.

    Parameters
    ----------
    result
        Its scenario.
    run_id
        The run.
    reason
        Why it cannot be tested; empty when it can.
    """
    figures = Figures()
    figures.put("run_id", run_id)
    _put_single(figures, result, run_id, reason)
    beyond = Figures()
    _put_beyond(beyond, result, run_id)
    figures.nest("benchmark_adjusted", beyond)
    return figures


def document(
    main: Figures,
    others: Sequence[Figures],
    *,
    ranked_first: Figures | None,
    verdict: Verdict,
    n_trials: int,
    n_trials_experiment: int,
    settings: OverfittingSettings,
    permutation: PermutationTest | str = "",
) -> dict[str, Any]:
    """Return overfitting.json: the scenario of the first of the ranking, then the others."""
    if ranked_first is None:
        main.put("ranked_first", None, "the ranking's first is the winner, or nothing is ranked")
    else:
        main.nest("ranked_first", ranked_first)
    main.put("permutation", *permutation_figures(permutation))
    values = main.values
    return {
        "scenario": values.pop("scenario"),
        "n_trials": n_trials,
        "n_trials_experiment": n_trials_experiment,
        **values,
        "settings": {
            "blocks": settings.blocks,
            "draws": settings.draws,
            "mean_block": values["mean_block"] or settings.mean_block,
            "seed": settings.seed,
        },
        "verdict": {
            "label": verdict.label,
            "sentence": verdict.sentence,
            "reasons": list(verdict.reasons),
        },
        "scenarios": [{**other.values, "undefined": other.undefined} for other in others],
        "undefined": main.undefined,
    }


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)


def _put_single(figures: Figures, result: ScenarioResult, run_id: str, reason: str) -> None:
    """Enter the figures of one run by itself, on r."""
    raw = result.raw
    raw.put_run(figures, run_id, reason)
    figures.put("beta", result.beta.get(run_id), reason or result.no_benchmark)
    raw.put_probabilities(figures, run_id, reason)
    sharpe = figures.values["sharpe_per_period"]
    length = None
    if sharpe is not None:
        length = min_track_record_length(
            sharpe,
            skew=figures.values["skew"],
            kurtosis=figures.values["kurtosis"],
            confidence=CONFIDENCE,
        )
    figures.put("min_track_record_length_bars", length, reason or _NOT_POSITIVE)
    interval = result.intervals.get(run_id)
    scale = math.sqrt(result.bars_per_year)
    figures.put(
        "sharpe_ci",
        interval and {"low": interval[0] * scale, "high": interval[1] * scale, "level": CONFIDENCE},
        reason or "no resample varies",
    )


def _put_length(figures: Figures, result: ScenarioResult) -> None:
    sharpe = figures.values["sharpe_per_period"]
    length = None
    if sharpe is not None and not result.raw.nothing:
        annual = sharpe * math.sqrt(result.bars_per_year)
        length = min_backtest_length_years(annual, result.raw.n_trials)
    figures.put("min_backtest_length_years", length, result.raw.nothing or _NOT_POSITIVE)


def _put_adjusted(figures: Figures, result: ScenarioResult) -> None:
    """Enter the adjusted p-values of the winner and the Sharpe ratio left after adjustment."""
    raw = result.raw
    # With a single strategy, its p-value needs no adjustment.
    if result.winner is None or (raw.nothing and raw.n_trials > 1):
        figures.put("adjusted_pvalues", None, raw.nothing)
        figures.put("haircut_sharpe", None, raw.nothing)
        return
    position = raw.names.index(result.winner)
    pvalues = sharpe_pvalues(raw.moments.sharpe, raw.n_bars)
    figures.put(
        "adjusted_pvalues",
        {
            "holm": float(holm(pvalues, raw.n_trials)[position]),
            "benjamini_yekutieli": float(benjamini_yekutieli(pvalues, raw.n_trials)[position]),
        },
    )
    figures.put(
        "haircut_sharpe",
        haircut_sharpe_ratio(float(raw.moments.sharpe[position]), raw.n_bars, raw.n_trials),
    )


def _beyond(result: ScenarioResult, settings: OverfittingSettings) -> Figures:
    """Return the second set of figures: the winner and the selection on a."""
    figures = Figures()
    adjusted = result.adjusted
    _put_beyond(figures, result, result.winner or "")
    adjusted.put_validation(figures, settings.blocks)
    adjusted.put_tests(figures)
    figures.put("stepm_survivors", _listed(adjusted.survivors), adjusted.nothing)
    absent = "" if result.winner in adjusted.names else result.no_benchmark or _SAME
    figures.nest("inference", _inference(result.inferences[1], absent))
    highest = adjusted.names[int(adjusted.moments.sharpe.argmax())] if adjusted.names else None
    figures.put("best_run_id", highest, result.no_benchmark or _SAME)
    left_out = [name for name in result.raw.names if name not in set(adjusted.names)]
    figures.put(
        "excluded",
        [{"run_id": name, "reason": result.no_benchmark or _SAME} for name in left_out],
    )
    return figures


def _band(result: ScenarioResult) -> Figures:
    """Return how many trials there were by the correlations of their returns."""
    figures, band, reason = Figures(), result.band, result.raw.nothing
    figures.put("participation", band and band.participation, reason)
    figures.put("effective_rank", band and band.effective_rank, reason)
    figures.put("onc", band and band.onc, reason)
    opinions = [kind.turns_at(result.winner) for kind in (result.raw, result.adjusted)]
    known = [number for number in opinions if number is not None]
    figures.put(
        "flips_at",
        min(known, default=None),
        reason or "the deflated Sharpe ratio is undefined, or no number of trials turns it",
    )
    return figures


def _inference(found: Inference | None, reason: str) -> Figures:
    """Return what the winner's ratio proves, under the names of overfitting.json."""
    figures = Figures()
    flat = reason or "the variance of the Sharpe ratio's estimate is not positive"
    for name in ("rho", "psr_null", "critical_sharpe", "power", "observed_fdr"):
        figures.put(name, found and getattr(found, name), flat)
    figures.put(
        "min_track_record_bars", found and found.min_track_record_bars, reason or _NOT_POSITIVE
    )
    figures.put("dsr", found and found.dsr, reason or "the trials' variance is not known")
    single = Figures()
    for name in ("critical_sharpe", "power", "observed_fdr"):
        single.put(name, found and getattr(found, f"single_{name}"), flat)
    figures.nest("single_test", single)
    figures.put("true_annual_sharpe", found and found.true_annual_sharpe, reason)
    figures.put("prior", found and found.prior, reason)
    return figures


_SAME = "its returns are a multiple of the benchmark's"


def _put_beyond(figures: Figures, result: ScenarioResult, run_id: str) -> None:
    """Enter the figures of one run by itself, on a."""
    adjusted = result.adjusted
    reason = "" if run_id in adjusted.names else result.no_benchmark or _SAME
    adjusted.put_run(figures, run_id, reason)
    sharpe = figures.values["sharpe_per_period"]
    figures.put(
        "t_statistic", None if sharpe is None else sharpe * math.sqrt(adjusted.n_bars), reason
    )
    adjusted.put_probabilities(figures, run_id, reason)


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """Skill or luck, for the files, the leaderboard and the report.

    Attributes
    ----------
    document
        overfitting.json, ready to be written.
    columns
        By run_id, one row per run that has returns: ``psr``, ``dsr``, ``spa_survivor`` (StepM on
        the returns names the run), ``benchmark_survivor`` (StepM on the beta-adjusted returns names
        it) and ``skilled`` (the verdict on the run's scenario is skill, and the run is one of those
        called skilled), each within the run's own scenario, and ``sharpe_lower_bound`` (below which
        no trial's true annual Sharpe ratio lies, at 95 % for all of them); missing where undefined.
    logits
        lambda of each split of the cross-validation, in the scenario of the verdict; empty when
        undefined.
    null_maxima
        Resampled largest Sharpe ratios per bar of the SPA test, in the same scenario; empty when
        undefined.
    statistic
        The largest Sharpe ratio per bar, with which they are compared; None when undefined.
    bars_per_year
        (Daily) bars per year, in the same scenario.
    """

    document: dict[str, Any]
    columns: pd.DataFrame
    logits: FloatArray
    null_maxima: FloatArray
    statistic: float | None
    bars_per_year: float


def assess(trials: Trials, settings: OverfittingSettings | None = None) -> dict[str, Any]:
    """Return overfitting.json; see :func:`evaluate`."""
    return evaluate(trials, settings).document


def evaluate(trials: Trials, settings: OverfittingSettings | None = None) -> Assessment:
    """Say whether the best run of a batch is skill or luck.

    Parameters
    ----------
    trials
        The runs, in the order of the plan, which breaks ties.
    settings
        How the statistics are computed; None means the defaults.

    Returns
    -------
    Assessment
        Every figure is finite or None with its reason in ``document["undefined"]``. Equal trials
        and settings give equal figures.
    """
    settings = settings or OverfittingSettings()
    tried = {run.decision for run in (*trials.runs, *trials.failed)}
    n_tried = len(tried) + trials.unkept
    everything: dict[str | None, int] = {
        scenario: len(tried | set(trials.earlier_decisions.get(scenario, ()))) + trials.unkept
        for scenario in {run.scenario for run in (*trials.runs, *trials.failed)}
    }
    batch = settings.trials == "batch"
    counted: dict[str | None, int] = {
        name: n_tried if batch else number for name, number in everything.items()
    }
    results = scenario_results(trials, settings, n_tried=n_tried, n_counted=counted)
    first = min(
        (run for run in trials.runs if run.rank is not None),
        key=lambda run: run.rank or 0,
        default=None,
    )
    main = _main(results, first, settings)
    other = _other_than_winner(main, first)
    figures, verdicts = {}, {}
    for result in results or [main]:
        scenario = result.scenario
        figures[scenario] = scenario_figures(result, settings)
        evidence = _evidence(
            result,
            figures[scenario],
            trials,
            ranked_first=other if result is main else None,
            n_trials=n_tried,
            n_trials_experiment=everything.get(scenario, 0),
            n_counted=counted.get(scenario, 0),
        )
        verdicts[scenario] = judge(evidence)
    verdict = verdicts[main.scenario]
    if trials.judged_apart:
        verdict = judged_apart(verdict, trials.judged_apart, list(verdicts.values()))
    content = document(
        figures[main.scenario],
        [figures[result.scenario] for result in results if result is not main],
        ranked_first=_ranked_first(main, other),
        verdict=verdict,
        n_trials=n_tried,
        n_trials_experiment=everything.get(main.scenario, 0),
        settings=settings,
        permutation=trials.permutation,
    )
    validation, ability = main.raw.validation, main.raw.ability
    return Assessment(
        document=content,
        columns=_columns(trials, results, verdicts),
        logits=np.empty(0) if validation is None else validation.logits,
        null_maxima=np.empty(0) if ability is None else ability.null_maxima,
        statistic=None if ability is None else ability.statistic,
        bars_per_year=main.bars_per_year,
    )


def _main(
    results: Sequence[ScenarioResult], first: Trial | None, settings: OverfittingSettings
) -> ScenarioResult:
    """Return the scenario of the first of the ranking; without one, the first testable one."""
    if not results:
        return nothing_to_test(None, (), settings)
    if first is not None:
        return next(result for result in results if result.scenario == first.scenario)
    return next((result for result in results if result.winner is not None), results[0])


def _other_than_winner(main: ScenarioResult, first: Trial | None) -> str | None:
    """Return the first of the ranking; None when it is the winner or nothing is ranked."""
    return None if first is None or first.run_id == main.winner else first.run_id


def _ranked_first(main: ScenarioResult, run_id: str | None) -> Figures | None:
    if run_id is None:
        return None
    reason = next((e.reason for e in main.excluded if e.run_id == run_id), "")
    return ranked_first_figures(main, run_id, reason)


def _evidence(
    result: ScenarioResult,
    figures: Figures,
    trials: Trials,
    *,
    ranked_first: str | None,
    n_trials: int,
    n_trials_experiment: int,
    n_counted: int,
) -> Evidence:
    values, winner = figures.values, result.winner
    sharpe, interval = values["sharpe_per_period"], values["sharpe_ci"]
    neighbours = trials.neighbour_sharpe.get(winner) if winner else None
    survivors = result.survivors
    return Evidence(
        n_trials=n_trials,
        n_trials_experiment=n_trials_experiment,
        n_counted=n_counted,
        n_valid=len(result.raw.names),
        n_unkept=trials.unkept,
        untested=_untested(result),
        n_bars=result.n_bars,
        bars_per_year=result.bars_per_year,
        longest_warmup=result.longest_warmup,
        first_end=result.first_end,
        run_id=winner,
        annual_sharpe=None if sharpe is None else sharpe * math.sqrt(result.bars_per_year),
        interval=interval and (interval["low"], interval["high"]),
        ranked_first=ranked_first,
        all_equal=result.raw.nothing if result.raw.nothing in (ALL_SAME, ALL_SAME_WITHIN) else "",
        spa_pvalue=values["spa_pvalue"],
        benchmark_spa_pvalue=values["benchmark_spa_pvalue"],
        is_against_cash=result.is_against_cash,
        no_benchmark=result.adjusted.nothing,
        factors=_factor_evidence(result),
        psr=values["psr"],
        benchmark_t=values["benchmark_adjusted"]["t_statistic"],
        winner_beats_benchmark=winner in (result.adjusted.survivors or ()),
        survivors=survivors,
        raw=_opinions(result.raw, values, winner),
        adjusted=_opinions(result.adjusted, values["benchmark_adjusted"], winner),
        neighbour_t=None
        if neighbours is None
        else neighbours * math.sqrt(result.n_bars / result.bars_per_year),
        walk_forward_t=trials.walk_forward_t.get(winner) if winner else None,
        min_track_record_bars=values["min_track_record_length_bars"],
        permutation=trials.permutation,
        powers=(
            values["inference"]["power"],
            values["benchmark_adjusted"]["inference"]["power"],
        ),
        band=result.band,
    )


def _untested(result: ScenarioResult) -> str:
    """Return why no trial can be tested, with what most of them lack; empty when some can."""
    if result.winner is not None:
        return ""
    nothing, reasons = result.raw.nothing, Counter(item.reason for item in result.excluded)
    if nothing != NOTHING_TO_TEST or not reasons:
        return nothing
    others = ", among other reasons" * (len(reasons) > 1)
    return f"no run has returns that can be tested ({reasons.most_common(1)[0][0]}{others})"


def _factor_evidence(result: ScenarioResult) -> FactorEvidence | None:
    found = result.factors
    if found is None:
        return None
    return FactorEvidence(
        names=found.names,
        pvalue=None if found.ability is None else found.ability.spa_pvalue,
        n_bars=found.n_bars,
        alpha_t=None if found.winner is None else found.winner.t_statistic,
        is_winner_among=result.winner in (found.survivors or ()),
        nothing=found.nothing,
        left_out=""
        if found.no_regression or result.no_benchmark or math.isfinite(found.benchmark_slope)
        else BENCHMARK_MADE_UP,
    )


def _opinions(
    selection: SelectionEvidence, values: Mapping[str, Any], winner: str | None
) -> Opinions:
    return Opinions(
        sharpe=values["sharpe_per_period"],
        noise_sharpe=selection.noise_sharpe(winner),
        turns_at=selection.turns_at(winner),
        dsr=values["dsr"],
        pbo=values["pbo"],
        p_oos_loss=values["p_oos_loss"],
    )


def _columns(
    trials: Trials, results: Sequence[ScenarioResult], verdicts: Mapping[str | None, Verdict]
) -> pd.DataFrame:
    """Return the columns of the leaderboard; runs with the same decision share the same values."""
    decisions = {run.run_id: (run.scenario, run.decision) for run in trials.runs}
    rows: dict[tuple[str, str], tuple[float, float, bool | None, bool | None, bool | None, float]]
    rows = {}
    left_out: set[str] = set()
    for result in results:
        left_out.update(exclusion.run_id for exclusion in result.excluded)
        if result.winner is None:
            continue
        raw, psr, dsr = result.raw, result.raw.psr(), result.raw.dsr()
        zero, beyond = _flags(raw), _flags(result.adjusted)
        verdict = verdicts[result.scenario]
        bounds = result.lower_bounds * math.sqrt(result.bars_per_year)
        for position, name in enumerate(raw.names):
            rows[decisions[name]] = (
                psr[position],
                dsr[position],
                zero.get(name),
                beyond.get(name),
                verdict.calls_skilled(name),
                bounds[position],
            )
    missing = (np.nan, np.nan, None, None, None, np.nan)
    table = pd.DataFrame(
        [
            missing if run.run_id in left_out else rows.get((run.scenario, run.decision), missing)
            for run in trials.runs
        ],
        index=pd.Index([run.run_id for run in trials.runs], name="run_id", dtype="object"),
        columns=[
            *("psr", "dsr", "spa_survivor", "benchmark_survivor", "skilled"),
            "sharpe_lower_bound",
        ],
    )
    numbers = dict.fromkeys(("psr", "dsr", "sharpe_lower_bound"), "float64")
    flags = dict.fromkeys(("spa_survivor", "benchmark_survivor", "skilled"), "boolean")
    return table.astype({**numbers, **flags})


def _flags(selection: SelectionEvidence) -> dict[str, bool]:
    """Return whether StepM names each run; empty without a selection."""
    if selection.survivors is None:
        return {}
    surviving = set(selection.survivors)
    return {name: name in surviving for name in selection.names}
