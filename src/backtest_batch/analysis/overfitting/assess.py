"""The entry: from the runs of a batch to overfitting.json and the columns of the leaderboard."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.overfitting.document import (
    document,
    ranked_first_figures,
    scenario_figures,
)
from backtest_batch.analysis.overfitting.samples import (
    FloatArray,
    OverfittingSettings,
    Trial,
    Trials,
)
from backtest_batch.analysis.overfitting.scenario import (
    ALL_SAME,
    ALL_SAME_WITHIN,
    Figures,
    ScenarioResult,
    SelectionEvidence,
    nothing_to_test,
    scenario_results,
)
from backtest_batch.analysis.overfitting.verdict import (
    Evidence,
    Opinions,
    Verdict,
    judge,
    judged_apart,
)


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """Skill or luck, for the files, the leaderboard and the report.

    Attributes
    ----------
    document
        overfitting.json, ready to be written.
    columns
        By run_id, one row a run that has returns: ``psr``, ``dsr``, ``spa_survivor`` (StepM on
        the returns names the run), ``benchmark_survivor`` (StepM on the beta-adjusted ones does)
        and ``skilled`` (the verdict on the run's scenario is skill, and the run is among those
        that it is said of), each within the run's own scenario; missing where undefined.
    logits
        lambda of every split of the cross-validation, in the scenario of the verdict; empty when
        undefined.
    null_maxima
        Resampled largest Sharpe ratios per bar of the SPA test, likewise.
    statistic
        The largest Sharpe ratio per bar that they are compared with; None when undefined.
    """

    document: dict[str, Any]
    columns: pd.DataFrame
    logits: FloatArray
    null_maxima: FloatArray
    statistic: float | None


def assess(trials: Trials, settings: OverfittingSettings | None = None) -> dict[str, Any]:
    """Return overfitting.json; see :func:`evaluate`."""
    return evaluate(trials, settings).document


def evaluate(trials: Trials, settings: OverfittingSettings | None = None) -> Assessment:
    """Say whether the best run of a batch is skill or luck.

    Parameters
    ----------
    trials
        The runs, in the order of the plan, which decides between equals.
    settings
        How it is computed; the defaults when None.

    Returns
    -------
    Assessment
        Every figure is finite or None with its reason in ``document["undefined"]``. Equal trials
        and settings give equal figures.
    """
    settings = settings or OverfittingSettings()
    tried = {run.decision for run in (*trials.runs, *trials.failed)}
    everything: dict[str | None, int] = {
        scenario: len(tried | set(trials.earlier_decisions.get(scenario, ())))
        for scenario in {run.scenario for run in (*trials.runs, *trials.failed)}
    }
    batch = settings.trials == "batch"
    counted: dict[str | None, int] = {
        name: len(tried) if batch else number for name, number in everything.items()
    }
    results = scenario_results(trials, settings, n_tried=len(tried), n_counted=counted)
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
            n_trials=len(tried),
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
        n_trials=len(tried),
        n_trials_experiment=everything.get(main.scenario, 0),
        settings=settings,
    )
    validation, ability = main.raw.validation, main.raw.ability
    return Assessment(
        document=content,
        columns=_columns(trials, results, verdicts),
        logits=np.empty(0) if validation is None else validation.logits,
        null_maxima=np.empty(0) if ability is None else ability.null_maxima,
        statistic=None if ability is None else ability.statistic,
    )


def _main(
    results: Sequence[ScenarioResult], first: Trial | None, settings: OverfittingSettings
) -> ScenarioResult:
    """Return the scenario of the ranking's first; unranked, the first that can be tested."""
    if not results:
        return nothing_to_test(None, (), settings)
    if first is not None:
        return next(result for result in results if result.scenario == first.scenario)
    return next((result for result in results if result.winner is not None), results[0])


def _other_than_winner(main: ScenarioResult, first: Trial | None) -> str | None:
    """Return the ranking's first, or None when it is the winner or nothing is ranked."""
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
        untested=result.raw.nothing if result.winner is None else "",
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
        no_benchmark=result.adjusted.nothing,
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
    )


def _opinions(
    selection: SelectionEvidence, values: Mapping[str, Any], winner: str | None
) -> Opinions:
    noise = None
    if winner in selection.names:
        noise = selection.noise_sharpe(selection.names.index(winner))
    return Opinions(
        sharpe=values["sharpe_per_period"],
        noise_sharpe=noise,
        dsr=values["dsr"],
        pbo=values["pbo"],
        p_oos_loss=values["p_oos_loss"],
    )


def _columns(
    trials: Trials, results: Sequence[ScenarioResult], verdicts: Mapping[str | None, Verdict]
) -> pd.DataFrame:
    """Return the columns of the leaderboard; runs of one decision share those of one of them."""
    decisions = {run.run_id: (run.scenario, run.decision) for run in trials.runs}
    rows: dict[tuple[str, str], tuple[float, float, bool | None, bool | None, bool | None]] = {}
    left_out: set[str] = set()
    for result in results:
        left_out.update(exclusion.run_id for exclusion in result.excluded)
        if result.winner is None:
            continue
        raw, psr, dsr = result.raw, result.raw.psr(), result.raw.dsr()
        zero, beyond = _flags(raw), _flags(result.adjusted)
        verdict = verdicts[result.scenario]
        for place, name in enumerate(raw.names):
            rows[decisions[name]] = (
                psr[place],
                dsr[place],
                zero.get(name),
                beyond.get(name),
                verdict.calls_skilled(name),
            )
    missing = (np.nan, np.nan, None, None, None)
    table = pd.DataFrame(
        [
            missing if run.run_id in left_out else rows.get((run.scenario, run.decision), missing)
            for run in trials.runs
        ],
        index=pd.Index([run.run_id for run in trials.runs], name="run_id", dtype="object"),
        columns=["psr", "dsr", "spa_survivor", "benchmark_survivor", "skilled"],
    )
    flags = dict.fromkeys(("spa_survivor", "benchmark_survivor", "skilled"), "boolean")
    return table.astype({"psr": "float64", "dsr": "float64", **flags})


def _flags(selection: SelectionEvidence) -> dict[str, bool]:
    """Return whether StepM names each run; empty without a selection."""
    if selection.survivors is None:
        return {}
    surviving = set(selection.survivors)
    return {name: name in surviving for name in selection.names}
