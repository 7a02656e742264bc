"""Walk one scenario: in each split, choose the best run in-sample and judge it out-of-sample."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.ranking import OPERATORS, Ranking, weighted_score
from backtest_batch.analysis.run_table import NEIGHBOURHOOD, OUT_OF_SAMPLE, RunTable, direction_of
from backtest_batch.analysis.scenarios import levels_by_name
from backtest_batch.analysis.stability import stability
from backtest_batch.analysis.walk_forward.curve import (
    DriftedWeights,
    StitchedCurve,
    excess_returns,
    stitch,
    t_statistic,
)
from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.splits import SplitPlan, WalkForwardSettings, Windows, make_splits, moved
from backtest_batch.core.windows import (
    ScenarioRuns,
    WindowMetrics,
    available_metrics,
    measure_windows,
)
from backtest_batch.errors import ConfigurationError, Fault


def in_sample_ranking(ranking: Ranking) -> Ranking:
    """Return the ranking with every out-of-sample metric replaced by its in-sample namesake.

    ``oos_sharpe`` is not known when the choice is made, so runs are chosen by ``sharpe``.
    """
    weights: dict[str, float] = {}
    for name, share in ranking.weights.items():
        base = name.removeprefix(OUT_OF_SAMPLE)
        weights[base] = weights.get(base, 0.0) + share
    constraints = tuple(
        replace(item, metric=item.metric.removeprefix(OUT_OF_SAMPLE))
        for item in ranking.constraints
    )
    return replace(ranking, weights=weights, constraints=constraints)


def needed_metrics(ranking: Ranking) -> tuple[str, ...]:
    """Return the metrics of training windows that a choice needs."""
    ranking = in_sample_ranking(ranking)
    names = (*ranking.weights, *(item.metric for item in ranking.constraints))
    windowed = ("sharpe" if name == NEIGHBOURHOOD else name for name in names)
    return tuple(dict.fromkeys(windowed))


def check_ranking(ranking: Ranking, available: Sequence[str]) -> None:
    """Refuse a ranking by metrics that cannot be measured on windows.

    Parameters
    ----------
    ranking
        How runs are ranked.
    available
        Metrics that can be measured on a window; see :func:`.metrics_with`.

    Raises
    ------
    ConfigurationError
        When the ranking or a constraint needs any other metric.
    """
    missing = [name for name in needed_metrics(ranking) if name not in available]
    if missing:
        allowed = (
            f"walk_forward chooses by metrics of training windows, and {', '.join(missing)} "
            f"cannot be measured on one; the choices are {', '.join(available)}"
        )
        fault = Fault(key="rank_by", value=", ".join(missing), allowed=allowed)
        raise ConfigurationError(f"{fault}.", [fault])


class Chooser:
    """Picks the best of the runs of a scenario, as :func:`.rank_runs` would rank them.

    Parameters
    ----------
    ranking
        How runs are ranked.
    run_ids
        Names of the runs; ties go to the first in plain order of characters.
    parameters
        Decision parameters of the runs, one row per run, for the metric ``sharpe_neighbourhood``.
    """

    def __init__(self, ranking: Ranking, run_ids: Sequence[str], parameters: pd.DataFrame) -> None:
        self._ranking = in_sample_ranking(ranking)
        self._run_ids = run_ids
        self._parameters = parameters.reset_index(drop=True)
        by_id = sorted(range(len(run_ids)), key=lambda run: run_ids[run])
        self._order_of_id: IntArray = np.empty(len(run_ids), dtype=np.int64)
        self._order_of_id[by_id] = np.arange(len(run_ids))

    def __call__(self, metrics: Mapping[str, FloatArray]) -> int | None:
        """Return the position of the best run, None when no run qualifies.

        Parameters
        ----------
        metrics
            In-sample metrics by name, each of shape (n_runs,), NaN where undefined. A run without
            a needed metric does not qualify, nor does one that misses a constraint.
        """
        ranking = self._ranking
        constrained = (item.metric for item in ranking.constraints)
        values = {
            name: self._neighbourhood(metrics["sharpe"]) if name == NEIGHBOURHOOD else metrics[name]
            for name in {*ranking.weights, *constrained}
        }
        qualified = np.ones(len(self._run_ids), dtype=np.bool_)
        for name in ranking.weights:
            qualified &= np.isfinite(values[name])
        for item in ranking.constraints:
            met = OPERATORS[item.operator](values[item.metric], item.bound)
            qualified &= met & np.isfinite(values[item.metric])
        runs = np.flatnonzero(qualified)
        if len(runs) == 0:
            return None
        criterion = self._criterion({name: values[name][runs] for name in ranking.weights})
        best = runs[criterion == criterion.max()]
        return int(best[np.argmin(self._order_of_id[best])])

    def _criterion(self, values: Mapping[str, FloatArray]) -> FloatArray:
        if not self._ranking.weighted:
            (name,) = values
            return direction_of(name) * values[name]
        score = weighted_score(
            pd.DataFrame(dict(values)), self._ranking.weights, self._ranking.normalise
        )
        return score.to_numpy(dtype=np.float64)

    def _neighbourhood(self, sharpe: FloatArray) -> FloatArray:
        runs = pd.DataFrame({"run_id": list(self._run_ids), "status": "FINISHED"})
        table = RunTable(
            runs=runs, params=self._parameters, metrics=pd.DataFrame({"sharpe": sharpe})
        )
        mean = stability(table, "sharpe")["neighbourhood"]
        return mean.to_numpy(dtype=np.float64)


def modal_choice(choices: Sequence[int | None], run_ids: Sequence[str]) -> dict[str, Any]:
    """Return the run chosen most often and its share of all splits.

    Parameters
    ----------
    choices
        Position of the chosen run of each split, None where none qualifies.
    run_ids
        Names of the runs; of runs chosen equally often, the first in plain order of characters
        is returned.
    """
    counts = Counter(run_ids[choice] for choice in choices if choice is not None)
    if not counts:
        return {"run_id": None, "share": None}
    run_id = min(counts, key=lambda name: (-counts[name], name))
    return {"run_id": run_id, "share": counts[run_id] / len(choices)}


def parameter_drift(
    choices: Sequence[int | None], parameters: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """Return how each decision parameter moves from choice to choice.

    Parameters
    ----------
    choices
        Position of the chosen run of each split, None where none qualifies.
    parameters
        Decision parameters of the runs, one row per run; a parameter with one value cannot move and
        is left out.

    Returns
    -------
    dict
        By parameter: ``values`` chosen split by split, ``changed`` (share of the steps from one
        split to the next in which its value changed; None without two consecutive choices), and
        for numbers ``mean_steps`` (mean number of positions moved along its values, 0 where it
        stayed), ``mean``, ``min`` and ``max``.
    """
    found = {}
    for name, levels in levels_by_name(parameters).items():
        if len(levels.of_those.values) < 2:
            continue
        # From a strategy without the parameter to one with it is no step.
        codes = [
            None if choice is None or not levels.has[choice] else int(levels.codes[choice])
            for choice in choices
        ]
        moves = [
            abs(after - before)
            for before, after in pairwise(codes)
            if before is not None and after is not None
        ]
        values = [None if code is None else levels.values[code] for code in codes]
        drift: dict[str, Any] = {
            "values": values,
            "changed": sum(move > 0 for move in moves) / len(moves) if moves else None,
        }
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        if levels.numeric and numbers:
            drift["mean_steps"] = sum(moves) / len(moves) if moves else None
            drift |= {
                "mean": float(np.mean(numbers)),
                "min": min(numbers),
                "max": max(numbers),
            }
        found[name] = drift
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class ScenarioWalk:
    """The result of the walk-forward of one scenario.

    Attributes
    ----------
    runs
        The runs that were chosen among.
    settings
        How the bars were split.
    plan
        The splits, in positions of ``runs.index``.
    in_sample, out_of_sample
        Metrics of every run on the training bars and on the test bars of every split.
    tested
        Metrics of every run on all test bars put end to end, as one window.
    choices
        Position of the chosen run of each split, None where none qualifies.
    curves
        Stitched out-of-sample returns, one for each path of the plan.
    best_overall
        Position of the run that the ranking puts first on all bars, in hindsight; None when none
        qualifies.
    notes
        Remarks on the splits and the curves.
    searched
        Which runs each split could choose among, shape (n_splits, n_runs); None for all.
    """

    runs: ScenarioRuns
    settings: WalkForwardSettings
    plan: SplitPlan
    in_sample: WindowMetrics
    out_of_sample: WindowMetrics
    tested: WindowMetrics
    choices: tuple[int | None, ...]
    curves: tuple[StitchedCurve, ...]
    best_overall: int | None
    notes: tuple[str, ...]
    searched: BoolArray | None = None

    @cached_property
    def curve(self) -> StitchedCurve:
        """The curve to report: of several, the one with the (lower) median t-statistic."""
        ordered = sorted(
            self.curves, key=lambda curve: t_statistic(excess_returns(self.runs, curve)) or 0.0
        )
        return ordered[(len(ordered) - 1) // 2]


def walk_forward(
    runs: ScenarioRuns,
    settings: WalkForwardSettings,
    ranking: Ranking,
    drifted_weights: DriftedWeights,
    searched: BoolArray | None = None,
) -> ScenarioWalk:
    """Choose on the training bars of every split and judge on its test bars.

    Parameters
    ----------
    runs
        The runs of one scenario.
    settings
        How to split their common return bars.
    ranking
        How runs are ranked; ``oos_`` metrics are read as the in-sample ones.
    drifted_weights
        Weights of a run after its trades at the close of a bar; asked for only at switches.
    searched
        Which runs each split may choose among, shape (n_splits, n_runs); None for all.

    Raises
    ------
    ConfigurationError
        When there is not enough data for one split, or the ranking needs a metric that cannot be
        measured on windows.
    """
    check_ranking(ranking, available_metrics(runs))
    bars = runs.common_bars
    index = runs.index[bars.start : bars.stop]
    plan = moved(make_splits(settings, index, runs.periods_per_year), bars.start)
    n_splits = len(plan.splits)
    tests = joined([segment.bars for segment in plan.paths[0]])
    # A fitted run has returns only on its test windows.
    everything: Windows = tests if runs.in_sample else (bars,)
    windows = [split.train for split in plan.splits] + [split.test for split in plan.splits]
    measured = measure_windows(runs, [*windows, tests, everything])
    in_sample = _without_lost_runs(runs, plan, _part(measured, 0, n_splits))
    chooser = Chooser(ranking, runs.run_ids, runs.parameters)
    if searched is not None:
        searched = np.broadcast_to(searched, (n_splits, len(runs.run_ids)))
    choices = tuple(
        chooser(_only(in_sample.at(number), None if searched is None else searched[number]))
        for number in range(n_splits)
    )
    curves = tuple(stitch(runs, path, choices, drifted_weights) for path in plan.paths)
    return ScenarioWalk(
        runs=runs,
        settings=settings,
        plan=plan,
        in_sample=in_sample,
        out_of_sample=_part(measured, n_splits, 2 * n_splits),
        tested=_part(measured, 2 * n_splits, 2 * n_splits + 1),
        choices=choices,
        curves=curves,
        best_overall=chooser(measured.at(2 * n_splits + 1)),
        notes=(*plan.notes, *_notes(runs, settings, choices, curves)),
        searched=searched,
    )


def _only(metrics: dict[str, FloatArray], searched: BoolArray | None) -> dict[str, FloatArray]:
    """Return metrics that only the runs have which a split may choose."""
    if searched is None:
        return metrics
    return {name: np.where(searched, values, np.nan) for name, values in metrics.items()}


def joined(windows: Sequence[range]) -> Windows:
    """Return increasing ranges, with adjacent ones merged."""
    merged: list[range] = []
    for bars in windows:
        if merged and merged[-1].stop == bars.start:
            merged[-1] = range(merged[-1].start, bars.stop)
        else:
            merged.append(bars)
    return tuple(merged)


def _part(metrics: WindowMetrics, start: int, stop: int) -> WindowMetrics:
    return WindowMetrics(names=metrics.names, values=metrics.values[:, start:stop])


def _without_lost_runs(
    runs: ScenarioRuns, plan: SplitPlan, in_sample: WindowMetrics
) -> WindowMetrics:
    """Enter the metrics of fitted runs, and remove those of runs ruined by the end of training."""
    values: FloatArray = in_sample.values
    for run, given in runs.in_sample.items():
        for row, name in enumerate(in_sample.names):
            values[row, :, run] = given.get(name, np.nan)
    ends = np.array([split.train_end for split in plan.splits])
    values[:, ends[:, None] >= runs.ruined_bars[None, :]] = np.nan
    return WindowMetrics(names=in_sample.names, values=values)


def _notes(
    runs: ScenarioRuns,
    settings: WalkForwardSettings,
    choices: Sequence[int | None],
    curves: Sequence[StitchedCurve],
) -> list[str]:
    notes = list(dict.fromkeys(note for curve in curves for note in curve.notes))
    if settings.purged_size < runs.execution_lag:
        notes.append(
            f"purged_size={settings.purged_size} is below execution_lag={runs.execution_lag}: "
            "choices use bars that are not known in time, so the results are too good."
        )
    empty = [str(number) for number, choice in enumerate(choices) if choice is None]
    if empty:
        notes.append(
            f"No run qualifies in {len(empty)} of {len(choices)} splits ({', '.join(empty)}): "
            "the curve is in cash there."
        )
    return notes
