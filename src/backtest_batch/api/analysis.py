"""Read recorded runs from a store, rank them, and judge their results."""

import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.dependence import parameter_importance, parameter_sensitivity
from backtest_batch.analysis.overfitting.document import assess
from backtest_batch.analysis.overfitting.samples import OverfittingSettings, Trial, Trials
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.analysis.stability import with_neighbourhood
from backtest_batch.api.single import bars_a_year, market_session_end
from backtest_batch.arrays import FloatArray
from backtest_batch.config.checks import checked, default, require_selection
from backtest_batch.core.numbers import real_numbers
from backtest_batch.errors import DataError
from backtest_batch.report.tables import rankings_table
from backtest_batch.store.address import resolve_experiment

LARGEST_USUAL = 0.5
"""A column of values with a larger median, in absolute terms, does not hold returns."""

FEWEST_MOVES = 20
"""A column with fewer returns other than 0 is not questioned: a strategy that trades twice may gain
80 % in a bar."""


def returns_of_trials(returns: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Return a table of returns as float64, one column per trial; a Series is one trial.

    Raises
    ------
    DataError
        When it is not a table, its index does not increase, a name occurs twice, or a column does
        not hold returns but text, complex numbers, prices, equity or percent.
    """
    if isinstance(returns, pd.Series):
        returns = returns.to_frame("returns" if returns.name is None else returns.name)
    if not isinstance(returns, pd.DataFrame):
        raise DataError(f"`returns` must be a DataFrame, but is a {type(returns).__name__}")
    index = returns.index
    if not isinstance(index, pd.DatetimeIndex) or not index.is_monotonic_increasing:
        raise DataError("`returns` must have a DatetimeIndex that increases")
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise DataError(f"`returns` has the timestamp {twice} twice: one row per bar")
    names = pd.Index([str(name) for name in returns.columns])
    if not names.is_unique:
        raise DataError(f"`returns` has the column {names[names.duplicated()][0]} twice")
    columns = {name: _numbers(returns.iloc[:, k], name) for k, name in enumerate(names)}
    return pd.DataFrame(columns, index=index)


def returns_of_benchmark(
    benchmark: pd.Series | pd.DataFrame, index: pd.DatetimeIndex
) -> FloatArray:
    """Return the returns of a benchmark, shape (n_bars,); a frame with one column will do.

    Raises
    ------
    DataError
        When it is not a Series, has another index, or does not hold returns.
    """
    if isinstance(benchmark, pd.DataFrame) and benchmark.shape[1] == 1:
        benchmark = benchmark.iloc[:, 0]
    if not isinstance(benchmark, pd.Series):
        raise DataError(f"`benchmark` must be a Series, but is a {type(benchmark).__name__}")
    if not benchmark.index.equals(index):
        raise DataError("`returns` and `benchmark` must have the same index, but differ")
    return _numbers(benchmark, "benchmark")


def _numbers(column: pd.Series, name: str) -> FloatArray:
    numeric = pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c"
    try:
        values = column.to_numpy(np.float64, na_value=np.nan) if numeric else real_numbers(column)
    except (TypeError, ValueError) as error:
        raise DataError(f"the returns of {name} must be numbers: {error}") from None
    if pd.api.types.is_bool_dtype(column.dtype):
        raise DataError(f"the returns of {name} must be numbers, but are true and false")
    if np.isinf(values).any():
        moment = column.index[int(np.isinf(values).argmax())]
        raise DataError(f"the returns of {name} must be finite, but one is infinite at {moment}")
    moves = np.abs(values[np.isfinite(values) & (values != 0)])
    if len(moves) >= FEWEST_MOVES and float(np.median(moves)) > LARGEST_USUAL:
        raise DataError(
            f"the returns of {name} are around {np.median(moves):,.4g} a bar, which look like "
            "prices, equity or percent: returns are fractions (0.01 is 1 %), as "
            "`prices.pct_change()` gives them"
        )
    return values


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
    session_end: str | None = None,
    settings: OverfittingSettings | None = None,
) -> dict[str, Any]:
    """Say whether the best of several return series is skill or luck.

    Parameters
    ----------
    returns
        Net simple returns of shape (n_bars, n_trials), one column for everything that was tried, on
        a DatetimeIndex; 0.01 is 1 %. A Series is one trial. A column ``benchmark`` is the
        benchmark.
    benchmark
        Net returns of the alternative that the trials are compared with, on the same index.
    risk_free_rate
        Annual rate; 1 / ``periods_per_year`` of it is subtracted per bar.
    periods_per_year
        Bars a year; by default taken from the index, and logged where they are not 252.
    session_end
        When the market's day ends, ``HH:MM`` on the clock of the index; by default at midnight.
        Returns within days are compounded to days.
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
        are not returns (text, prices, percent).
    ConfigurationError
        When ``risk_free_rate`` or ``periods_per_year`` is out of its range.
    """
    trials = returns_of_trials(returns)
    index = pd.DatetimeIndex(trials.index)
    if benchmark is None and "benchmark" in trials:
        benchmark = trials["benchmark"]
    benchmarks = {} if benchmark is None else {"": returns_of_benchmark(benchmark, index)}
    rate = checked({"risk_free_rate": risk_free_rate})["risk_free_rate"]
    end = market_session_end(session_end)
    per_year, _ = bars_a_year(periods_per_year, index, end)
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
            session_end=end,
        ),
        settings,
    )
