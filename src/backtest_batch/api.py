"""The Python API: what the two commands do, on plain objects and DataFrames."""

import contextlib
import datetime as dt
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from backtest_batch.app import Task, run_command
from backtest_batch.arguments import WHOLE_NODES
from backtest_batch.assignments import Assignment, flatten
from backtest_batch.batch.construct import TargetError, locate
from backtest_batch.comparison.importance import importance as parameter_importance
from backtest_batch.comparison.overfitting import OverfittingSettings, Trial, Trials, assess
from backtest_batch.comparison.ranking import Ranking, rank_runs
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.comparison.sensitivity import sensitivity as parameter_sensitivity
from backtest_batch.comparison.stability import with_neighbourhood
from backtest_batch.errors import ConfigurationError, DataError, SelectionError
from backtest_batch.market.cache import store
from backtest_batch.market.panel import Panel, panel_from_frames
from backtest_batch.report.tables import batch_summary_table, rankings_table
from hydra_plugins.backtest_batch._messages import explain

if TYPE_CHECKING:
    from backtest_batch.comparison.conclusion import Conclusion
    from backtest_batch.sweep import BatchOutcome

INTERRUPTED = (130, 143)
"""Exit codes of a batch that was interrupted."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep came to; printed, it is the leaderboard that the command shows.

    Attributes
    ----------
    outcome
        Its runs and their comparison.
    summary
        What the command prints: leaderboard, notes, verdict, where to look further.
    """

    outcome: "BatchOutcome"
    summary: str

    def __repr__(self) -> str:
        return self.summary

    @property
    def batch_id(self) -> str:
        """Unique name of the batch; empty after a dry run."""
        return self.outcome.batch_id

    @property
    def exit_code(self) -> int:
        """What the command would return: 0, 1 when a run failed, 3 when not all is recorded."""
        return self.outcome.exit_code

    @property
    def output_dir(self) -> Path:
        """Folder of the reports.

        Raises
        ------
        SelectionError
            After a dry run, which has none.
        """
        if self.outcome.output_dir is None:
            raise SelectionError("a dry run has no output_dir")
        return self.outcome.output_dir

    @property
    def runs(self) -> RunTable:
        """The runs, for :func:`rank`, :func:`sensitivity` and :func:`importance`."""
        return self._conclusion.table

    @property
    def table(self) -> pd.DataFrame:
        """One row a run, as batch_summary.csv: status, parameters, metrics, errors."""
        return batch_summary_table(self.runs, self._conclusion.ranked)

    @property
    def rankings(self) -> pd.DataFrame:
        """One row a run in order of rank, as rankings.csv."""
        return rankings_table(self.runs, self._conclusion.ranked)

    @property
    def sensitivity(self) -> pd.DataFrame:
        """Metrics by value of each swept parameter, as sensitivity_analysis.csv."""
        return self._conclusion.sensitivity

    @property
    def importance(self) -> pd.DataFrame:
        """How much of each metric's variance the swept parameters explain."""
        return self._conclusion.importance

    @property
    def returns(self) -> pd.DataFrame:
        """Net returns of the runs, and of the benchmark, as returns.parquet."""
        return pd.read_parquet(self.output_dir / "returns.parquet").set_index("timestamp")

    @property
    def overfitting(self) -> Mapping[str, Any] | None:
        """The statistics behind the verdict, as overfitting.json."""
        assessment = self._conclusion.assessment
        return None if assessment is None else assessment.document

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """Label (skill, luck or cannot_tell), sentence and reasons."""
        return self._conclusion.verdict

    @property
    def best_config(self) -> Mapping[str, Any]:
        """Resolved configuration of the run that ranks first.

        Raises
        ------
        SelectionError
            When no run is ranked.
        """
        best = self._conclusion.best
        if best is None:
            raise SelectionError(f"no run of the batch {self.batch_id} is ranked")
        run_id = self.runs.runs.loc[best, "run_id"]
        return next(r.spec.config for r in self.outcome.records if r.spec.run_id == run_id)

    @property
    def _conclusion(self) -> "Conclusion":
        if self.outcome.conclusion is None:
            raise SelectionError(f"nothing was compared:\n{self.summary}")
        return self.outcome.conclusion


def run_sweep(
    param_grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    runs: Sequence[Mapping[str, Any]] | None = None,
    data: pd.DataFrame | Panel | str | None = None,
    strategy: type | str | None = None,
    **config: Any,
) -> Sweep:
    """Run a sweep as the command does: validated, parallel, tracked in MLflow, ranked, reported.

    Parameters
    ----------
    param_grid
        Lists of values by key; every combination is run. Keys are those of the command:
        ``commission_bps``, ``strategy.fast``.
    runs
        Instead of a grid: the runs one by one, each a mapping of keys with an optional ``id``.
    data
        Closes of shape (n_bars, n_assets) or a panel, which are stored in the cache; or the name
        of a source (``sp500``, ``csv``), whose options are keys such as ``data.path``.
    strategy
        A class in a module that worker processes can import, or the name of a shipped strategy.
        Its arguments are keys such as ``strategy.window``.
    **config
        Any further root key (``batch_name``, ``n_jobs``, ``rank_by``, ``tracking={"uri": ...}``);
        dotted ones as ``**{"strategy.slow": 90}``.

    Returns
    -------
    Sweep
        Failed runs are part of it: see ``exit_code`` and the column ``status`` of ``table``.

    Raises
    ------
    BacktestBatchError
        When nothing was run: the configuration, the data or the store are unusable.
    KeyboardInterrupt
        When it was interrupted; the message has the command that goes on with it.

    Examples
    --------
    >>> outcome = run_sweep({"strategy.fast": [10, 20], "strategy.slow": [60, 120]}, data=prices)
    >>> outcome.rankings.head()
    >>> outcome.verdict["sentence"]
    """
    given: dict[str, Any] = {"param_grid": param_grid, "runs": runs, **config}
    arguments = [*_data_arguments(data), *_strategy_arguments(strategy)]
    for key, value in given.items():
        if value is not None or key in config:
            arguments += _arguments(key, _plain(value, key))
    return _run(arguments)


def rerun(best: "str | Path | Sweep", *, verify: bool = False, **config: Any) -> Sweep:
    """Run the winner of a sweep again.

    Parameters
    ----------
    best
        A best_params.json, or the sweep itself.
    verify
        Whether to compare the result with the recorded one; a difference is an ``exit_code`` of 1.
    **config
        Keys that do not change the result, such as ``batch_name`` or ``tracking``.

    Raises
    ------
    BacktestBatchError
        When there is no winner, or it cannot be run again.
    """
    path = best.output_dir / "best_params.json" if isinstance(best, Sweep) else Path(best)
    arguments = [Assignment("best", str(path)).override, Assignment("verify", verify).override]
    for key, value in config.items():
        arguments += _arguments(key, _plain(value, key))
    return _run(arguments)


def load_runs(
    batch: str | Sequence[str] | None = None,
    *,
    filter_tags: Mapping[str, Any] | Sequence[str] | None = None,
    filter_string: str = "",
    statuses: Collection[str] = ("FINISHED",),
    scenario_axes: Collection[str] = (),
    uri: str | None = None,
    experiment: str = "backtest_batch",
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
    scenario_axes
        Further keys that count as scenario axes.
    uri, experiment
        The store and its experiment; by default where the commands record.

    Raises
    ------
    ConfigurationError, SelectionError
        When the selection is malformed, or nothing is selected.
    StoreError
        When the store cannot be read.
    """
    from backtest_batch.selection import select_runs
    from backtest_batch.tracking.store import open_store, resolve_uri

    opened = open_store(resolve_uri(uri, Path.cwd()), experiment, create=False)
    return select_runs(
        opened,
        batch=batch,
        filter_tags=filter_tags,
        filter_string=filter_string,
        statuses=list(statuses),
        scenario_axes=list(scenario_axes),
    ).table


def rank(
    runs: RunTable,
    rank_by: str | Mapping[str, float] = "sharpe",
    *,
    constraints: Mapping[str, str] | None = None,
    normalise: str = "rank",
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
    returns: pd.DataFrame,
    benchmark: pd.Series | None = None,
    *,
    risk_free_rate: float = 0.0,
    periods_per_year: float = 252.0,
    settings: OverfittingSettings | None = None,
) -> dict[str, Any]:
    """Say whether the best of several return series is skill or luck.

    Parameters
    ----------
    returns
        Net simple returns of shape (n_bars, n_trials), one column for everything that was tried,
        on a DatetimeIndex. A column ``benchmark`` is taken as the benchmark.
    benchmark
        Net returns of what could have been held instead, on the same index.
    risk_free_rate
        Annual rate that is subtracted, over ``periods_per_year`` a bar.
    periods_per_year
        Bars a year.
    settings
        Blocks, draws, mean block and seed of the statistics.

    Returns
    -------
    dict
        overfitting.json: see docs/statistics.md. ``["verdict"]["sentence"]`` says it in words.

    Raises
    ------
    DataError
        When the index holds no increasing timestamps, or the benchmark has another index.
    """
    index = returns.index
    if not isinstance(index, pd.DatetimeIndex) or not index.is_monotonic_increasing:
        raise DataError("`returns` must have a DatetimeIndex that increases")
    if benchmark is None and "benchmark" in returns:
        benchmark = returns["benchmark"]
    if benchmark is not None and not benchmark.index.equals(index):
        raise DataError("`returns` and `benchmark` must have the same index, but differ")
    trials = returns.drop(columns="benchmark", errors="ignore")
    names = [str(name) for name in trials.columns]
    benchmarks = {} if benchmark is None else {"": benchmark.to_numpy(dtype=np.float64)}
    return assess(
        Trials(
            returns=trials.to_numpy(dtype=np.float64),
            index=index,
            runs=[Trial(run_id=name, scenario="", decision=name) for name in names],
            benchmarks=benchmarks,
            risk_free={"": risk_free_rate / periods_per_year},
            periods_per_year=periods_per_year,
        ),
        settings,
    )


def _run(arguments: Sequence[str]) -> Sweep:
    task, printed = Task(), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            outcome = run_command(arguments, task)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(explain(error)) from error
    if outcome.exit_code in INTERRUPTED:
        raise KeyboardInterrupt(f"to go on: run_sweep(resume='{outcome.batch_id}')")
    return Sweep(outcome=outcome, summary=printed.getvalue())


def _data_arguments(data: pd.DataFrame | Panel | str | None) -> list[str]:
    if data is None:
        return []
    if isinstance(data, str):
        return [Assignment("data", data).override]
    panel = store(data if isinstance(data, Panel) else panel_from_frames(data))
    return ["data=stored", f"data.fingerprint={panel.fingerprint}"]


def _strategy_arguments(strategy: type | str | None) -> list[str]:
    if strategy is None:
        return []
    if isinstance(strategy, str):
        return [Assignment("strategy", strategy).override]
    return ["strategy=custom", Assignment("strategy._target_", import_path(strategy)).override]


def import_path(strategy: Any) -> str:
    """Return where worker processes can import a strategy's class from.

    Raises
    ------
    ConfigurationError
        When it is no class, or they cannot.
    """
    if not isinstance(strategy, type):
        raise ConfigurationError(
            f"strategy={strategy!r}: must be a class or a name; its arguments are keys such as "
            'strategy.window: run_sweep({"strategy.window": [10, 20]}, strategy=MyStrategy)'
        )
    module, name = strategy.__module__, strategy.__qualname__
    advice = (
        "put it into a file of the working directory, such as my_module.py, and import it from "
        f"there: from my_module import {strategy.__name__}"
    )
    if module == "__main__":
        raise ConfigurationError(
            f"strategy={name}: is defined in this notebook or script (__main__), where worker "
            f"processes cannot import it; {advice}"
        )
    path = f"{module}.{name}"
    try:
        found = None if "." in name else locate(path)
    except TargetError:
        found = None
    if found is not strategy:
        raise ConfigurationError(f"strategy={path}: cannot be imported under this name; {advice}")
    return path


def _arguments(key: str, value: Any) -> list[str]:
    if isinstance(value, Mapping) and key not in WHOLE_NODES:
        leaves: Iterator[tuple[str, Any]] = flatten(value, prefix=f"{key}.")
        return [Assignment(*leaf).override for leaf in leaves]
    return [Assignment(key, value).override]


def _plain(value: Any, key: str) -> Any:
    """Return a value as a configuration holds it: numpy's numbers are Python's, dates are text."""
    if isinstance(value, np.generic):
        return _plain(value.item(), key)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence | np.ndarray | range | pd.Index | pd.Series):
        return [_plain(item, key) for item in value]
    raise ConfigurationError(
        f"{key}={value!r}: must be a number, text, a date, a list or a mapping of these"
    )
