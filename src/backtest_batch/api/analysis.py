"""Read recorded runs from a store, rank them, and ask what they depend on."""

import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from backtest_batch.analysis.dependence import parameter_importance, parameter_sensitivity
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.analysis.stability import with_neighbourhood
from backtest_batch.config.checks import default, require_selection
from backtest_batch.report.tables import rankings_table
from backtest_batch.store.address import resolve_experiment

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
        A batch_id, a batch_name, ``latest`` (the default without tags or filter), or a list of
        these.
    filter_tags
        Tags that the runs must have: a mapping, or names whose value is "true".
    filter_string
        Condition in MLflow's own language, such as ``"metrics.sharpe > 0.5"``.
    statuses
        MLflow statuses of the runs.
    scenario_axes, decision_axes
        Further keys that count as scenario axes or as decision axes.
    uri, experiment
        The store and its experiment; by default where the commands record.

    Raises
    ------
    ConfigurationError, SelectionError
        When the selection is malformed, an axis is named as both, or nothing is selected.
    StoreError
        When the store cannot be read.
    """
    from backtest_batch.store.address import resolve_uri
    from backtest_batch.store.selection import select_runs
    from backtest_batch.store.store import open_store

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
    metric_directions: Mapping[str, str] | None = None,
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
    metric_directions
        ``max`` or ``min`` for metrics of a strategy's own that runs are ranked by.

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
    ranking = Ranking.parse(rank_by, constraints, normalise, metric_directions)
    return rankings_table(table, rank_runs(table, ranking))


def sensitivity(runs: RunTable) -> pd.DataFrame:
    """Return mean, std (ddof 1), min and max of each metric by value of each parameter."""
    return parameter_sensitivity(with_neighbourhood(runs))


def importance(runs: RunTable) -> pd.DataFrame:
    """Return how much of each metric's variance each parameter, and each pair, explains."""
    return parameter_importance(with_neighbourhood(runs))
