"""Sweeps: the batches of the command, with prices and strategies from memory."""

import datetime as dt
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from backtest_batch.analysis.run_table import RunTable
from backtest_batch.api.batches import Task, run_batch
from backtest_batch.compose.messages import explain
from backtest_batch.config.arguments import Argument, Arguments, refuse_repeats
from backtest_batch.config.key import date_text
from backtest_batch.core.code import live_code_fingerprint
from backtest_batch.core.construct import TargetError, locate
from backtest_batch.core.data.panel import Panel, panel_from_frames
from backtest_batch.core.data.series import store_series
from backtest_batch.core.data.sources.stored import store_with_notes
from backtest_batch.core.live import is_live, packed, register
from backtest_batch.errors import ConfigurationError, SelectionError
from backtest_batch.interrupt import INTERRUPTED, Interrupted
from backtest_batch.report.tables import batch_summary_table, rankings_table
from backtest_batch.streams import forgiving_output

if TYPE_CHECKING:
    from backtest_batch.analysis.conclusion import Conclusion
    from backtest_batch.batch.run import BatchOutcome


def data_keys(data: pd.DataFrame | Panel | str | None) -> dict[str, Any]:
    """Return the keys that choose a source; prices in memory are put into the cache."""
    if data is None or isinstance(data, str):
        return {} if data is None else {"data": data}
    panel = store_with_notes(data if isinstance(data, Panel) else panel_from_frames(data))
    return {"data": "stored", "data.fingerprint": panel.fingerprint}


def compared_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``benchmark`` and ``factors`` as a configuration holds what is in memory.

    Series are put into the cache; of a strategy's class stands where it is imported from.
    """
    found: dict[str, Any] = {
        key: {"stored": store_series(value, key)}
        for key in ("benchmark", "factors")
        if isinstance(value := config.get(key), pd.Series | pd.DataFrame)
    }
    if isinstance(benchmark := config.get("benchmark"), type):
        found["benchmark"] = {"_target_": import_path(benchmark)}
    return found


def strategy_keys(strategy: type | Callable[..., Any] | str | None) -> dict[str, Any]:
    """Return the keys that choose a strategy."""
    if strategy is None or isinstance(strategy, str):
        return {} if strategy is None else {"strategy": strategy}
    return {"strategy": "custom", "strategy._target_": import_path(strategy)}


def import_path(strategy: Any) -> str:
    """Return the path of a strategy's class or function in the configuration.

    Worker processes import it there. What is defined in a notebook or script, or within a function,
    is sent to them by value.

    Raises
    ------
    ConfigurationError
        When it is neither, or can neither be imported nor sent.
    """
    named = hasattr(strategy, "__module__") and hasattr(strategy, "__qualname__")
    if not (callable(strategy) and named):
        raise ConfigurationError(
            f"strategy={strategy!r}: must be a class, a function or a name; its arguments are keys "
            "such as "
            'strategy.window: run_sweep({"strategy.window": [10, 20]}, strategy=MyStrategy)'
        )
    path = f"{strategy.__module__}.{strategy.__qualname__}"
    try:
        live = is_live(path) or "." in strategy.__qualname__
        found = None if live else locate(path, or_function=True)
    except TargetError:
        found = None
    if found is not strategy:
        path = register(strategy, live_code_fingerprint)
        packed([path])  # what cannot be sent is said before anything runs
    return path


def plain_keys(given: Iterable[tuple[str, Any]]) -> list[Argument]:
    """Return the arguments that set these keys; a mapping sets the keys below it.

    Raises
    ------
    ConfigurationError
        When a configuration cannot hold a value.
    """
    found: list[Argument] = []
    for key, value in given:
        name = key.lstrip("+~")
        found += Argument.of(name, _plain(value, name), key.removesuffix(name)).leaves
    return found


def _plain(value: Any, key: str) -> Any:
    """Return a value as a configuration holds it: Python numbers for numpy's, text for dates."""
    if isinstance(value, dt.date | np.datetime64):
        text = date_text(value)
        return str(value) if text is None else text
    if isinstance(value, np.generic):
        return _plain(value.item(), key)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_name(name, key): _plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence | np.ndarray | range | pd.Index | pd.Series):
        return [_plain(item, key) for item in value]
    raise ConfigurationError(
        f"{key}={value!r}: must be a number, text, a date, a list or a mapping of these"
    )


def _name(name: Any, key: str) -> str | int | float:
    """Return a key of a mapping: text or a number, which OmegaConf accepts."""
    plain = _plain(name, key)
    if isinstance(plain, str | int | float):
        return plain
    raise ConfigurationError(f"{key}: its keys must be text or numbers, but got {name!r}")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The outcome of a sweep; printed, it shows the leaderboard of the command.

    A notebook shows the best runs, the verdict and a link to the report.

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

    def _repr_html_(self) -> str:
        from backtest_batch.report.html.notebook import outcome_html, text_html

        conclusion = self.outcome.conclusion
        if conclusion is None:  # a dry run, or nothing that could be compared
            return text_html(self.summary)
        return outcome_html(conclusion, self.summary, output_dir=self.outcome.output_dir)

    @property
    def batch_id(self) -> str:
        """Unique name of the batch; empty after a dry run."""
        return self.outcome.batch_id

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0, 1 when a run failed, 3 when not all is recorded."""
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
        """One row per run, as in batch_summary.csv: status, parameters, metrics, errors."""
        return batch_summary_table(self.runs, self._conclusion.ranked)

    @property
    def rankings(self) -> pd.DataFrame:
        """One row per run in order of rank, as in rankings.csv."""
        return rankings_table(self.runs, self._conclusion.ranked, self._conclusion.bounds)

    @property
    def sensitivity(self) -> pd.DataFrame:
        """Metrics by value of each swept parameter, as in sensitivity_analysis.csv."""
        return self._conclusion.sensitivity

    @property
    def importance(self) -> pd.DataFrame:
        """How much of each metric's variance the swept parameters explain."""
        return self._conclusion.importance

    @property
    def returns(self) -> pd.DataFrame:
        """Net returns of the runs and of the benchmark, as in returns.parquet."""
        return pd.read_parquet(self.output_dir / "returns.parquet").set_index("timestamp")

    @property
    def overfitting(self) -> Mapping[str, Any] | None:
        """The statistics behind the verdict, as in overfitting.json."""
        assessment = self._conclusion.assessment
        return None if assessment is None else assessment.document

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """Label (skill, luck, cannot_tell or invalid), sentence and reasons."""
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
    strategy: type | Callable[..., Any] | str | None = None,
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
        A class or function, or the name of a shipped strategy. Worker processes import it from its
        module; one that is defined in a notebook, in a script or in a function is sent to them by
        value. Its arguments are keys such as ``strategy.window``.
    **config
        Any further root key (``batch_name``, ``n_jobs``, ``rank_by``, ``tracking={"uri": ...}``);
        dotted ones as ``**{"strategy.slow": 90}``. ``benchmark`` may be a Series of prices or a
        strategy's class, and ``factors`` a DataFrame of returns, one column a factor.

    Returns
    -------
    Sweep
        Failed runs are part of it: see ``exit_code`` and the column ``status`` of ``table``.

    Raises
    ------
    BacktestBatchError
        When nothing was run: the configuration, the data or the store are unusable.
    KeyboardInterrupt
        When it was interrupted; the message has the command that continues it.

    Examples
    --------
    >>> outcome = run_sweep({"strategy.fast": [10, 20], "strategy.slow": [60, 120]}, data=prices)
    >>> outcome.rankings.head()
    >>> outcome.verdict["sentence"]
    """
    config = {**config, **compared_keys(config)}
    given: dict[str, Any] = {"param_grid": param_grid, "runs": runs, **config}
    refuse_repeats(config.items(), grid=param_grid)
    chosen = {**data_keys(data), **strategy_keys(strategy)}
    wanted = [(key, value) for key, value in given.items() if value is not None or key in config]
    return _run([*chosen.items(), *wanted])


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
    given = {"best": path, "verify": verify, **config}
    return _run(given.items())


def _run(given: Iterable[tuple[str, Any]]) -> Sweep:
    summary = io.StringIO()
    asked = Arguments(keys=tuple(plain_keys(given)))
    try:
        # A service may have no standard streams.
        with forgiving_output():
            outcome = run_batch(asked, Task(summary))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigurationError(explain(error)) from error
    except Interrupted:
        raise KeyboardInterrupt from None
    if outcome.exit_code in INTERRUPTED:
        begun = outcome.batch_id
        raise KeyboardInterrupt(f"to go on: run_sweep(resume='{begun}')" if begun else "")
    return Sweep(outcome=outcome, summary=summary.getvalue())
