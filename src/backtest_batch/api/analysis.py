"""Runs that are there: read them from a store, rank them, and judge what they came to."""

import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.api.annualisation import bars_a_year
from backtest_batch.api.returns import returns_of_benchmark, returns_of_trials
from backtest_batch.comparison.importance import parameter_importance
from backtest_batch.comparison.overfitting import OverfittingSettings, Trial, Trials, assess
from backtest_batch.comparison.ranking import Ranking, rank_runs
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.comparison.scenarios import AxisKinds
from backtest_batch.comparison.sensitivity import parameter_sensitivity
from backtest_batch.comparison.stability import with_neighbourhood
from backtest_batch.config.check import require_selection
from backtest_batch.config.values import checked, default
from backtest_batch.report.tables import rankings_table
from backtest_batch.tracking.address import resolve_experiment

log = logging.getLogger("backtest_batch")


def load_runs(
    batch: str | Sequence[str] | None = None,
    *,
    filter_tags: Mapping[str, Any] | Sequence[str] | None = None,
    filter_string: str = "",
    statuses: Collection[str] = ("FINISHED",),
    scenario_axes: Collection[str] = (),
    decision_axes: Collection[str] = (),
    uri: str | None = None,
    experiment: str | None = None,
) -> RunTable:
    """Read recorded runs from an MLflow store.

    Parameters
    ----------
    batch
        A batch_id, a batch_name, ``latest`` (the default without tags or filter), or several.
    filter_tags
        Tags that the runs have: a mapping, or names whose value is "true".
    filter_string
        Condition in MLflow's own language, such as ``"metrics.sharpe > 0.5"``.
    statuses
        MLflow statuses of the runs.
    scenario_axes, decision_axes
        Further keys that count as scenario axes, and as decision axes.
    uri, experiment
        The store and its experiment; by default where the commands record.

    Raises
    ------
    ConfigurationError, SelectionError
        When the selection is malformed, an axis is named as both, or nothing is selected.
    StoreError
        When the store cannot be read.
    """
    from backtest_batch.stored.selection import select_runs
    from backtest_batch.tracking.store import open_store, resolve_uri

    require_selection(statuses, scenario_axes, decision_axes)
    store = open_store(resolve_uri(uri, Path.cwd()), resolve_experiment(experiment), create=False)
    with contextlib.closing(store):
        selection = select_runs(
            store,
            batch=batch,
            filter_tags=filter_tags,
            filter_string=filter_string,
            statuses=list(statuses),
            kinds=AxisKinds(tuple(scenario_axes), tuple(decision_axes)),
        )
    for text in selection.contradictions:
        log.warning("%s", text)
    return selection.table


def rank(
    runs: RunTable,
    rank_by: str | Mapping[str, float] = default("rank_by"),
    *,
    constraints: Mapping[str, str] | None = None,
    normalise: str = default("normalise"),
) -> pd.DataFrame:
    """Rank runs by a metric or by a weighted score of several.

    Parameters
    ----------
    runs
        The runs: ``Sweep.runs``, :func:`load_runs`, or ``RunTable.from_frame`` of a DataFrame.
    rank_by
        A metric, or metrics with their weights; each counts in its good direction.
    constraints
        What a run must meet to be ranked, such as ``{"max_drawdown": ">= -0.3"}``.
    normalise
        How metrics become comparable in a score: ``rank``, ``zscore`` or ``minmax``.

    Returns
    -------
    DataFrame of shape (n_runs, any)
        Best first: rank, rank_in_scenario, run_id, parameters, metrics, score, pareto, and in
        ``unranked`` why a run has no rank.

    Raises
    ------
    ConfigurationError
        When a metric, a weight or a constraint is wrong.
    """
    table = with_neighbourhood(runs)
    return rankings_table(table, rank_runs(table, Ranking.parse(rank_by, constraints, normalise)))


def sensitivity(runs: RunTable) -> pd.DataFrame:
    """Return mean, std (ddof 1), min and max of each metric by value of each parameter."""
    return parameter_sensitivity(with_neighbourhood(runs))


def importance(runs: RunTable) -> pd.DataFrame:
    """Return how much of each metric's variance each parameter, and each pair, explains."""
    return parameter_importance(with_neighbourhood(runs))


def skill_or_luck(
    returns: pd.DataFrame | pd.Series,
    benchmark: pd.Series | None = None,
    *,
    risk_free_rate: float = 0.0,
    periods_per_year: float | None = None,
    settings: OverfittingSettings | None = None,
) -> dict[str, Any]:
    """Say whether the best of several return series is skill or luck.

    Parameters
    ----------
    returns
        Net simple returns of shape (n_bars, n_trials), one column for everything that was tried,
        on a DatetimeIndex; 0.01 is 1 %. A Series is one trial. A column ``benchmark`` is taken as
        the benchmark.
    benchmark
        Net returns of what could have been held instead, on the same index.
    risk_free_rate
        Annual rate that is subtracted, over ``periods_per_year`` a bar.
    periods_per_year
        Bars a year; by default taken from the index, and logged where they are not 252.
    settings
        Blocks, draws, mean block and seed of the statistics.

    Returns
    -------
    dict
        overfitting.json: see docs/statistics.md. ``["verdict"]["sentence"]`` says it in words.

    Raises
    ------
    DataError
        When the index holds no increasing timestamps, the benchmark has another index, or values
        are no returns (text, prices, percent).
    ConfigurationError
        When ``risk_free_rate`` or ``periods_per_year`` is out of its range.
    """
    trials = returns_of_trials(returns)
    index = pd.DatetimeIndex(trials.index)
    if benchmark is None and "benchmark" in trials:
        benchmark = trials["benchmark"]
    benchmarks = {} if benchmark is None else {"": returns_of_benchmark(benchmark, index)}
    rate = checked({"risk_free_rate": risk_free_rate})["risk_free_rate"]
    per_year, _ = bars_a_year(periods_per_year, index)
    trials = trials.drop(columns="benchmark", errors="ignore")
    risk_free = rate / per_year
    return assess(
        Trials(
            returns=trials.to_numpy(dtype=np.float64),
            index=index,
            runs=[
                Trial(run_id=name, scenario="", decision=name, risk_free=risk_free)
                for name in trials.columns
            ],
            benchmarks=benchmarks,
            periods_per_year=per_year,
        ),
        settings,
    )
