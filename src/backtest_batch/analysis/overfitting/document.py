"""overfitting.json: the statistics of a batch as plain values, each with its explanation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from backtest_batch.analysis.overfitting.multiple_tests import (
    benjamini_yekutieli,
    haircut_sharpe_ratio,
    holm,
    sharpe_pvalues,
)
from backtest_batch.analysis.overfitting.samples import OverfittingSettings
from backtest_batch.analysis.overfitting.scenario import CONFIDENCE, Figures, ScenarioResult
from backtest_batch.analysis.overfitting.sharpe import (
    min_backtest_length_years,
    min_track_record_length,
)
from backtest_batch.analysis.overfitting.verdict import Verdict

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


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One figure in plain words.

    Attributes
    ----------
    title
        Its name in full.
    what
        What it is.
    what_not
        What it is not.
    source
        Author and year.
    """

    title: str
    what: str
    what_not: str
    source: str


EXPLANATIONS: Mapping[str, Explanation] = MappingProxyType(
    {
        "verdict": Explanation(
            title="Verdict",
            what="Whether the best run of the sweep is better than the best of as many runs "
            "without skill, by fixed rules.",
            what_not="A forecast, or a judgement of costs, data and assumptions of the backtest.",
            source="The rules in docs/statistics.md",
        ),
        "n_trials": Explanation(
            title="Number of trials",
            what="Distinct strategies tried, failed ones included; runs that differ only in "
            "costs, dates or caps are one strategy.",
            what_not="The number of independent ideas: similar strategies count one by one.",
            source="Bailey and Lopez de Prado (2014)",
        ),
        "sharpe_ci": Explanation(
            title="Confidence interval of the Sharpe ratio",
            what="The range of the winner's annual Sharpe ratio over resampled histories.",
            what_not="Corrected for having picked the winner: it is too high by the selection.",
            source="Politis and Romano (1994)",
        ),
        "psr": Explanation(
            title="Probabilistic Sharpe ratio",
            what="The probability that the true Sharpe ratio is above zero, given the length, "
            "skew and fat tails of the returns.",
            what_not="Corrected for the number of trials; it treats the bars as independent.",
            source="Bailey and Lopez de Prado (2012)",
        ),
        "sr0": Explanation(
            title="Expected best Sharpe ratio without skill",
            what="The Sharpe ratio a bar that the best of N trials is expected to show by chance.",
            what_not="A hurdle the market sets: it depends on how much the trials differ, and is "
            "too high when they truly differ.",
            source="Bailey and Lopez de Prado (2014)",
        ),
        "dsr": Explanation(
            title="Deflated Sharpe ratio",
            what="The probability that the true Sharpe ratio is above the expected best of N "
            "trials without skill.",
            what_not="The probability that the strategy makes money.",
            source="Bailey and Lopez de Prado (2014)",
        ),
        "min_track_record_length_bars": Explanation(
            title="Minimum track record length",
            what="How many bars it takes until the probabilistic Sharpe ratio reaches 95 %.",
            what_not="A rule of the verdict, or corrected for selection.",
            source="Bailey and Lopez de Prado (2012)",
        ),
        "min_backtest_length_years": Explanation(
            title="Minimum backtest length",
            what="On fewer years than this, the best of N trials without skill is expected to "
            "show the winner's Sharpe ratio.",
            what_not="Long enough: it is the length below which the result means nothing.",
            source="Bailey, Borwein, Lopez de Prado and Zhu (2014)",
        ),
        "pbo": Explanation(
            title="Probability of backtest overfitting",
            what="How often the run that is best on one half of the history is no better than "
            "the median run on the other half.",
            what_not="The probability of a loss: equally good runs give about one half.",
            source="Bailey, Borwein, Lopez de Prado and Zhu (2017)",
        ),
        "p_oos_loss": Explanation(
            title="Probability of an out-of-sample loss",
            what="How often the run that is best on one half of the history loses on the other.",
            what_not="A forecast of a loss: halves of one history are not the future.",
            source="Bailey, Borwein, Lopez de Prado and Zhu (2017)",
        ),
        "reality_check_pvalue": Explanation(
            title="Reality check",
            what="The probability of a best Sharpe ratio this high when no run has skill, all "
            "runs taken as equally good.",
            what_not="Sensitive: a sweep full of poor runs hides a good one.",
            source="White (2000)",
        ),
        "spa_pvalue": Explanation(
            title="Test for superior predictive ability, against zero",
            what="The same, with runs that are clearly poor left out.",
            what_not="Enough for skill: in a rising market any long book beats zero.",
            source="Hansen (2005)",
        ),
        "benchmark_spa_pvalue": Explanation(
            title="Test for superior predictive ability, against the benchmark",
            what="The same on what is left of the returns when the benchmark's share is taken "
            "out (at equal beta).",
            what_not="Proof against other known sources of return: there is one benchmark.",
            source="Hansen (2005)",
        ),
        "stepm_survivors": Explanation(
            title="Surviving runs",
            what="The runs that are better than zero, with at most a 5 % chance that even one "
            "of them is there by luck.",
            what_not="A list of good strategies: it is not corrected for the market.",
            source="Romano and Wolf (2005)",
        ),
        "adjusted_pvalues": Explanation(
            title="Adjusted p-values of the winner",
            what="The p-value of the winner's t-statistic, raised for the number of trials: Holm "
            "bounds any false find, Benjamini-Yekutieli the share of false finds.",
            what_not="Aware that similar runs repeat each other: both are strict.",
            source="Holm (1979); Benjamini and Yekutieli (2001)",
        ),
        "haircut_sharpe": Explanation(
            title="Haircut Sharpe ratio",
            what="The Sharpe ratio a bar that a single trial would need for the winner's "
            "Holm-adjusted p-value.",
            what_not="An estimate of the true Sharpe ratio.",
            source="Harvey and Liu (2015)",
        ),
        "effective_trials": Explanation(
            title="Effective number of trials",
            what="How many uncorrelated runs are as diverse as these (participation ratio of "
            "the correlation matrix).",
            what_not="Used by any test: the tests know the correlation already.",
            source="Participation ratio of the eigenvalues",
        ),
        "beta": Explanation(
            title="Beta",
            what="How much the winner moves when the benchmark moves by one.",
            what_not="Constant in time: it is one least-squares slope over the common bars.",
            source="Jensen (1968)",
        ),
    }
)
"""Explanations by the key of overfitting.json."""
