"""The walk-forward of one scenario: measure, choose, stitch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from backtest_batch.comparison.ranking import Ranking
from backtest_batch.comparison.walk_forward.choose import Chooser, check_ranking
from backtest_batch.comparison.walk_forward.evidence import excess_returns, t_statistic
from backtest_batch.comparison.walk_forward.runs import ScenarioRuns
from backtest_batch.comparison.walk_forward.settings import WalkForwardSettings
from backtest_batch.comparison.walk_forward.split import SplitPlan, Windows
from backtest_batch.comparison.walk_forward.splits import make_splits, moved
from backtest_batch.comparison.walk_forward.stitch import DriftedWeights, StitchedCurve, stitch
from backtest_batch.comparison.walk_forward.windows import (
    WindowMetrics,
    available_metrics,
    measure_windows,
)
from backtest_batch.market.panel import FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class ScenarioWalk:
    """What the walk-forward of one scenario came to.

    Attributes
    ----------
    runs
        The runs that were chosen among.
    settings
        How the bars were split.
    plan
        The splits, in positions of ``runs.index``.
    in_sample, out_of_sample
        Metrics of every run on the training and on the test bars of every split.
    tested
        Metrics of every run on all test bars put end to end, one window.
    choices
        Position of the chosen run of each split, None where none qualifies.
    curves
        Stitched out-of-sample returns, one for each path of the plan.
    best_overall
        Position of the run that the ranking puts first on all bars, in hindsight; None when none
        qualifies.
    notes
        What is to be said about the splits and the curves.
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

    @cached_property
    def curve(self) -> StitchedCurve:
        """The curve to report: of several, the one whose t-statistic is the (lower) median."""
        ordered = sorted(
            self.curves, key=lambda curve: t_statistic(excess_returns(self.runs, curve)) or 0.0
        )
        return ordered[(len(ordered) - 1) // 2]


def walk_forward(
    runs: ScenarioRuns,
    settings: WalkForwardSettings,
    ranking: Ranking,
    drifted_weights: DriftedWeights,
) -> ScenarioWalk:
    """Choose on the training bars of every split and judge on its test bars.

    Parameters
    ----------
    runs
        The runs of one scenario.
    settings
        How to split their common return bars.
    ranking
        What is better; ``oos_`` metrics are read as the in-sample ones.
    drifted_weights
        Weights of a run after its trades at the close of a bar; asked for at switches only.

    Raises
    ------
    ConfigurationError
        When there is too little data for one split, or the ranking needs a metric that cannot be
        measured on windows.
    """
    check_ranking(ranking, available_metrics(runs))
    bars = runs.common_bars
    index = runs.index[bars.start : bars.stop]
    plan = moved(make_splits(settings, index, runs.periods_per_year), bars.start)
    n_splits = len(plan.splits)
    tests = joined([segment.bars for segment in plan.paths[0]])
    # A fitted run has no returns but those of its test windows.
    everything: Windows = tests if runs.in_sample else (bars,)
    windows = [split.train for split in plan.splits] + [split.test for split in plan.splits]
    measured = measure_windows(runs, [*windows, tests, everything])
    in_sample = _without_lost_runs(runs, plan, _part(measured, 0, n_splits))
    chooser = Chooser(ranking, runs.run_ids, runs.parameters)
    choices = tuple(chooser(in_sample.at(number)) for number in range(n_splits))
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
    )


def joined(windows: Sequence[range]) -> Windows:
    """Return increasing ranges with those that touch made one."""
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
    """Take the metrics of fitted runs, and none of runs that are ruined by the end of training."""
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
