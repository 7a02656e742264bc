"""overfitting.json: the statistics of a batch as plain values."""

import math
from collections.abc import Sequence
from typing import Any

from backtest_batch.comparison.overfitting.pvalues import (
    benjamini_yekutieli,
    haircut_sharpe_ratio,
    holm,
    sharpe_pvalues,
)
from backtest_batch.comparison.overfitting.scenario import CONFIDENCE, ScenarioResult
from backtest_batch.comparison.overfitting.selection import Figures
from backtest_batch.comparison.overfitting.sharpe import (
    min_backtest_length_years,
    min_track_record_length,
)
from backtest_batch.comparison.overfitting.trials import OverfittingSettings
from backtest_batch.comparison.overfitting.verdict import Verdict

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
    figures.put("effective_trials", result.effective_trials, raw.nothing)
    figures.put("excluded", [{"run_id": e.run_id, "reason": e.reason} for e in result.excluded])
    figures.nest("benchmark_adjusted", _beyond(result, settings))
    return figures


def ranked_first_figures(result: ScenarioResult, run_id: str, reason: str) -> Figures:
    """Return the figures of a single run: the ranking's first where it is not the winner.

    Parameters
    ----------
    result
        Its scenario.
    run_id
        The run.
    reason
        Why it cannot be tested, empty when it can.
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
) -> dict[str, Any]:
    """Return overfitting.json: the scenario of the ranking's first, then the others."""
    if ranked_first is None:
        main.put("ranked_first", None, "the ranking's first is the winner, or nothing is ranked")
    else:
        main.nest("ranked_first", ranked_first)
    values = main.values
    return {
        "scenario": values.pop("scenario"),
        "n_trials": n_trials,
        "n_trials_experiment": n_trials_experiment,
        **values,
        "settings": {
            "blocks": settings.blocks,
            "draws": settings.draws,
            "mean_block": settings.mean_block,
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
    """Enter what is known of one run by itself, on r."""
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
    """Enter the adjusted p-values of the winner and the Sharpe ratio that they leave."""
    raw = result.raw
    # A single strategy has a p-value of its own, which needs no adjustment.
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
    """Return the second set: the winner and the selection on a."""
    figures = Figures()
    adjusted = result.adjusted
    _put_beyond(figures, result, result.winner or "")
    adjusted.put_validation(figures, settings.blocks)
    adjusted.put_tests(figures)
    figures.put("stepm_survivors", _listed(adjusted.survivors), adjusted.nothing)
    highest = adjusted.names[int(adjusted.moments.sharpe.argmax())] if adjusted.names else None
    figures.put("best_run_id", highest, result.no_benchmark or _SAME)
    left_out = [name for name in result.raw.names if name not in set(adjusted.names)]
    figures.put(
        "excluded",
        [{"run_id": name, "reason": result.no_benchmark or _SAME} for name in left_out],
    )
    return figures


_SAME = "its returns are a multiple of the benchmark's"


def _put_beyond(figures: Figures, result: ScenarioResult, run_id: str) -> None:
    """Enter what is known of one run by itself, on a."""
    adjusted = result.adjusted
    reason = "" if run_id in adjusted.names else result.no_benchmark or _SAME
    adjusted.put_run(figures, run_id, reason)
    sharpe = figures.values["sharpe_per_period"]
    figures.put(
        "t_statistic", None if sharpe is None else sharpe * math.sqrt(adjusted.n_bars), reason
    )
    adjusted.put_probabilities(figures, run_id, reason)
