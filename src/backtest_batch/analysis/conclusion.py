"""The comparison of a batch's runs: ranking, sensitivity and the verdict on skill or luck.

It is computed from a table of runs and, if there are any, their returns, in the same way for a
sweep that just ended and for runs read back from the store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.batches import batch_differences
from backtest_batch.analysis.dependence import (
    CHANGES_NOTHING,
    effect_of_parameters,
    parameter_importance,
    parameter_sensitivity,
    warnings_about_parameters,
)
from backtest_batch.analysis.overfitting.document import Assessment, evaluate
from backtest_batch.analysis.overfitting.permutation import PermutationTest
from backtest_batch.analysis.overfitting.samples import (
    CASH,
    OverfittingSettings,
    Trial,
    Trials,
)
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import NEIGHBOURHOOD, RunTable
from backtest_batch.analysis.stability import edge_notes, with_neighbourhood
from backtest_batch.arrays import BoolArray, FloatArray
from backtest_batch.interrupt import heed

if TYPE_CHECKING:
    from backtest_batch.core.factors import FactorReturns

NO_BENCHMARK = -1
"""In :attr:`ReturnsOfRuns.benchmark_of`: there should be a benchmark, but none is known."""


@dataclass(frozen=True, kw_only=True)
class ReturnsOfRuns:
    """Net returns of the runs of a table, for the statistics.

    Attributes
    ----------
    index
        Timestamps of the bars, shape (n_bars,).
    returns
        Net returns of the first n_runs of the table, shape (n_bars, n_runs), NaN where a run has
        none.
    benchmarks
        Net returns of each run's benchmark, shape (n_bars, n_benchmarks).
    benchmark_of
        Column of ``benchmarks`` that belongs to each run of the table, shape (n_runs,); None for a
        run that is compared with cash alone, :data:`NO_BENCHMARK` where none is known.
    decisions
        What the researcher chose in each run, equal text for equal choices, shape (n_runs,).
    risk_free
        Risk-free return per bar of each run, shape (n_runs,).
    periods_per_year
        Bars per year.
    session_end
        Time at which the market's days end, ``HH:MM``; None is midnight.
    calendars
        Which bars each calendar has, shape (n_calendars, n_bars); empty where all data have all
        bars.
    calendar_of
        Row of ``calendars`` that belongs to each run of the table, shape (n_runs,), or empty.
    earlier_decisions
        For each run, the decisions that earlier batches of the experiment tried on its data.
        Shape (n_runs,), or empty where nothing is known of them.
    judged_apart
        Keys of the data and dates that count as conditions here.
    bars_a_year
        Bars per year of each run's data, shape (n_runs,); empty where all have the same.
    unkept
        Further decisions that were tried, and of which nothing is left but their number.
    factors
        Returns of factors by name, each of shape (n_bars, n_factors).
    factors_of
        Name of the factors that explain each run of the table, None without any, shape (n_runs,);
        empty where no run has any.
    """

    index: pd.DatetimeIndex
    returns: FloatArray
    benchmarks: FloatArray
    benchmark_of: Sequence[int | None]
    decisions: Sequence[str]
    risk_free: Sequence[float]
    periods_per_year: float
    session_end: str | None = None
    calendars: BoolArray = field(default_factory=lambda: np.empty((0, 0), dtype=np.bool_))
    calendar_of: Sequence[int] = ()
    earlier_decisions: Sequence[frozenset[str]] = ()
    judged_apart: Sequence[str] = ()
    bars_a_year: Sequence[float] = ()
    unkept: int = 0
    factors: Mapping[str, "FactorReturns"] = field(default_factory=dict)
    factors_of: Sequence[str | None] = ()


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """The comparison of a table of runs.

    Attributes
    ----------
    table
        The runs, with the metric ``sharpe_neighbourhood``.
    ranking, ranked
        How they are ranked, and their places.
    sensitivity, importance
        What the swept parameters do to the metrics.
    differences
        How the batches differ, where there are several; see :func:`.batch_differences`.
    assessment
        Skill or luck; None where there are no returns to judge by.
    skill
        Columns of the assessment, indexed like the table: psr, dsr, spa_survivor,
        benchmark_survivor and skilled, missing for runs that were not judged; None without an
        assessment.
    notes
        What the reader should know before trusting the first place.
    """

    table: RunTable
    ranking: Ranking
    ranked: pd.DataFrame
    sensitivity: pd.DataFrame
    importance: pd.DataFrame
    differences: pd.DataFrame
    assessment: Assessment | None
    skill: pd.DataFrame | None
    notes: tuple[str, ...]

    @property
    def best(self) -> Any:
        """Index label of the run that ranks first; None when none is ranked."""
        ranked = self.ranked.index[self.ranked["rank"].notna()]
        return ranked[0] if len(ranked) else None

    @property
    def bounds(self) -> "pd.Series | None":
        """Lower bound of each run's true annual Sharpe ratio; None without an assessment."""
        return None if self.skill is None else self.skill["sharpe_lower_bound"]

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """Label, sentence and reasons of the verdict."""
        return None if self.assessment is None else self.assessment.document["verdict"]

    @property
    def sentence(self) -> str:
        """The verdict in one sentence; empty without one."""
        return "" if self.verdict is None else str(self.verdict["sentence"])


def conclude(
    table: RunTable,
    ranking: Ranking,
    *,
    returns: ReturnsOfRuns | None = None,
    settings: OverfittingSettings | None = None,
    notes: Sequence[str] = (),
    facts: pd.DataFrame | None = None,
    walk_forward_t: Mapping[str, float] | None = None,
    permutation: PermutationTest | str = "",
) -> Conclusion:
    """Compare the runs of a table.

    Parameters
    ----------
    table
        The runs.
    ranking
        How runs are ranked.
    returns
        Their returns; without them there is no verdict. When there are fewer than the table has
        runs, they belong to the first runs, and only these are judged.
    settings
        How the statistics are computed.
    notes
        Sentences to put before the notes of the comparison.
    facts
        Facts of the batches that the table does not hold; see :func:`.batch_differences`.
    walk_forward_t
        By run_id of the batch: t-statistic of the mean of the stitched out-of-sample returns of
        the walk-forward in which the run took part.
    permutation
        The permutation test of the whole search, or why there is none.
    """
    table = with_neighbourhood(table)
    ranked = rank_runs(table, ranking)
    ranked_runs = ranked.index[ranked["rank"].notna()]
    best = ranked_runs[0] if len(ranked_runs) else None
    effects = effect_of_parameters(table)
    all_notes = [*notes, *warnings_about_parameters(effects)]
    if best is not None:
        idle = effects.loc[effects["effect"] == CHANGES_NOTHING, "parameter"].tolist()
        all_notes += edge_notes(table, best, without=idle)
    if ranking.out_of_sample_metrics:
        names = ", ".join(ranking.out_of_sample_metrics)
        all_notes.append(
            f"Runs are selected by {names}, which is therefore no longer out-of-sample."
        )
    assessment, skill = None, None
    if returns is not None and len(table):
        judged = table.subset(np.arange(len(table)) < len(returns.decisions))
        trials = _trials(judged, ranked, returns, walk_forward_t or {})
        trials = replace(trials, permutation=permutation)
        assessment = evaluate(trials, settings)
        skill = assessment.columns.reindex(_distinct_ids(judged))
        skill = skill.set_axis(judged.runs.index).reindex(table.runs.index)
    heed()
    return Conclusion(
        table=table,
        ranking=ranking,
        ranked=ranked,
        sensitivity=parameter_sensitivity(table, best=best),
        importance=parameter_importance(table),
        differences=batch_differences(table, facts),
        assessment=assessment,
        skill=skill,
        notes=tuple(all_notes),
    )


def _trials(
    table: RunTable,
    ranked: pd.DataFrame,
    returns: ReturnsOfRuns,
    walk_forward_t: Mapping[str, float],
) -> Trials:
    """Return the runs of a table in the form that the statistics need."""
    scenarios = table.scenario.tolist()
    ranks = ranked["rank"].reindex(table.runs.index).tolist()
    ruined = table.runs["ruined"].tolist() if "ruined" in table.runs else [False] * len(table)
    run_ids = _distinct_ids(table)
    trials = [
        Trial(
            run_id=run_ids[row],
            scenario=scenarios[row],
            decision=returns.decisions[row],
            rank=None if pd.isna(ranks[row]) else int(ranks[row]),
            ruined=bool(ruined[row]),
            benchmark=CASH if returns.benchmark_of[row] is None else str(returns.benchmark_of[row]),
            factors=returns.factors_of[row] if returns.factors_of else None,
            calendar=str(returns.calendar_of[row]) if len(returns.calendar_of) else None,
            risk_free=returns.risk_free[row],
            periods_per_year=returns.bars_a_year[row] if returns.bars_a_year else None,
        )
        for row in range(len(table))
    ]
    finished = np.flatnonzero(table.finished)
    lost = [trials[row] for row in np.flatnonzero(~table.finished)]
    neighbours = table.metrics[NEIGHBOURHOOD].tolist()
    matrix = returns.returns
    if len(finished) < len(table):
        matrix = matrix[:, finished]
    return Trials(
        returns=matrix,
        index=returns.index,
        runs=[trials[row] for row in finished],
        failed=lost,
        benchmarks={
            str(column): returns.benchmarks[:, column]
            for row in finished.tolist()
            if (column := returns.benchmark_of[row]) not in (None, NO_BENCHMARK)
        },
        factors=returns.factors,
        calendars={str(row): mask for row, mask in enumerate(returns.calendars)},
        periods_per_year=returns.periods_per_year,
        session_end=returns.session_end,
        earlier_decisions=_by_scenario(scenarios, returns.earlier_decisions),
        walk_forward_t=walk_forward_t,
        neighbour_sharpe={
            run_ids[row]: float(neighbours[row])
            for row in finished.tolist()
            if not pd.isna(neighbours[row])
        },
        judged_apart=returns.judged_apart,
        unkept=returns.unkept,
    )


def _by_scenario(
    scenarios: Sequence[str], earlier: Sequence[frozenset[str]]
) -> dict[str, frozenset[str]]:
    """Return what earlier batches tried on the data of each scenario."""
    # Runs with one source of prices share one set.
    found: dict[str, dict[int, frozenset[str]]] = {}
    for scenario, decisions in zip(scenarios, earlier, strict=False):
        found.setdefault(scenario, {})[id(decisions)] = decisions
    return {scenario: frozenset().union(*sets.values()) for scenario, sets in found.items()}


def _distinct_ids(table: RunTable) -> list[str]:
    """Return a name for each run that is unique even among several batches."""
    names = table.runs["run_id"].astype(str).tolist()
    if not table.several_batches:
        return names
    batches = table.runs["batch_id"].astype(str).tolist()
    return [f"{batch}/{name}" for batch, name in zip(batches, names, strict=True)]
