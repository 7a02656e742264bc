"""Walk-forward as far as it concerns planning and computing the runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backtest_batch.batch.fingerprint import digest
from backtest_batch.batch.run_ids import chunk_key
from backtest_batch.comparison.walk_forward.fitted import Route, fitted_weights
from backtest_batch.comparison.walk_forward.parse import parse
from backtest_batch.comparison.walk_forward.per_bar import in_sample_metrics
from backtest_batch.comparison.walk_forward.settings import WalkForwardSettings
from backtest_batch.comparison.walk_forward.split import SplitPlan
from backtest_batch.comparison.walk_forward.splits import make_splits, moved
from backtest_batch.config.schema import MARKET_KEYS, SCENARIO_KEYS
from backtest_batch.engine.metrics import periods_per_year_of
from backtest_batch.engine.settings import SimulationSettings
from backtest_batch.errors import ConfigurationError
from backtest_batch.market.panel import FloatArray, IntArray, Panel
from backtest_batch.records import RunSpec
from backtest_batch.strategies.base import Strategy


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A strategy fitted split by split.

    Attributes
    ----------
    route
        Its weights over all test windows.
    in_sample
        Metrics of each run on the training bars, one value a split.
    first_return_bar
        First test bar. Returns before it are of an account that holds already what was fitted on
        them, and count for nothing. None without a fit.
    """

    route: Route
    in_sample: tuple[Mapping[str, tuple[float, ...]], ...]
    first_return_bar: int | None = None


def walks_forward(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration asks for a walk-forward."""
    return bool(config["walk_forward"].get("method", "none") != "none")


def periods_per_year(config: Mapping[str, Any]) -> float:
    """Return the bars a year of a run."""
    given = config["periods_per_year"]
    return float(periods_per_year_of(config["data"].get("freq", "1d")) if given is None else given)


def common_bars(runs: Sequence[RunSpec]) -> list[tuple[int, int]]:
    """Return, for each run, the return bars that all runs have that are walked with it.

    Scenarios, data and dates are walked one by one: a later start_date of one says nothing about
    the others.
    """
    scenarios = [_walk_group(run) for run in runs]
    starts: dict[str, int] = {}
    for run, scenario in zip(runs, scenarios, strict=True):
        starts[scenario] = max(starts.get(scenario, 0), run.first_bar + 1)
    return [(starts[scenario], run.n_bars) for run, scenario in zip(runs, scenarios, strict=True)]


def _walk_group(run: RunSpec) -> str:
    """Return a hash of the conditions, data and dates of a run, and of what was named as one."""
    named = [_value(run.config, axis.split(".")) for axis in run.config["scenario_axes"]]
    keys = [run.config[name] for name in sorted({*SCENARIO_KEYS, *MARKET_KEYS})]
    return digest([run.data_fingerprint, keys, named])


def _value(node: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


def with_fits(
    runs: Sequence[RunSpec], panels: Mapping[str, Panel], fitted: Collection[str]
) -> tuple[RunSpec, ...]:
    """Check the walk-forward of a batch, and say which bars its fitted runs split.

    Parameters
    ----------
    runs
        The runs of the batch.
    panels
        Their data by fingerprint.
    fitted
        Run keys of those whose strategy has ``fit``.

    Raises
    ------
    ConfigurationError
        When the settings are wrong, or the data too short for one split.
    """
    if not runs or not walks_forward(runs[0].config):
        return tuple(runs)
    checked = set()
    planned = []
    for run, bars in zip(runs, common_bars(runs), strict=True):
        lag, per_year = run.config["execution_lag"], periods_per_year(run.config)
        case = (run.data_fingerprint, bars, lag, per_year)
        if case not in checked:
            checked.add(case)
            settings = walk_forward_settings(run, panels[run.data_fingerprint], bars)
            if settings.method == "combinatorial" and fitted:
                raise ConfigurationError(
                    "walk_forward=combinatorial tests every bar several times, which cannot be "
                    "one route of a strategy with fit; use rolling or expanding"
                )
        if run.run_key in fitted:
            # What such a run comes to depends on where the splits lie.
            key = digest([run.run_key, bars])
            together = chunk_key(
                run.config, run.data_fingerprint, run.strategy_seed, run.first_bar, bars
            )
            planned.append(replace(run, run_key=key, fit_bars=bars, chunk_key=together))
        else:
            planned.append(run)
    return tuple(planned)


def walk_forward_settings(run: RunSpec, panel: Panel, bars: tuple[int, int]) -> WalkForwardSettings:
    """Return the settings of a run's walk-forward; see :func:`.parse.parse`."""
    settings = parse(
        run.config["walk_forward"],
        panel.index[slice(*bars)],
        periods_per_year(run.config),
        run.config["execution_lag"],
    )
    assert settings is not None
    return settings


def split_plan(run: RunSpec, panel: Panel, bars: tuple[int, int]) -> SplitPlan:
    """Return the splits of a run, in positions of its panel."""
    settings = walk_forward_settings(run, panel, bars)
    index = panel.index[slice(*bars)]
    return moved(make_splits(settings, index, periods_per_year(run.config)), bars[0])


def fit(
    make_strategy: Any,
    runs: Sequence[RunSpec],
    panel: Panel,
    decisions: IntArray,
    settings: Sequence[SimulationSettings],
    benchmark: FloatArray,
) -> Fitted:
    """Fit a strategy on the training bars of each split.

    Parameters
    ----------
    make_strategy
        Makes a new strategy.
    runs
        Runs that share the strategy and its splits.
    panel, decisions
        Prices, and decision bars from the first measured bar on.
    settings
        The conditions of each run.
    benchmark
        Net returns of each run's benchmark, shape (n_bars, n_runs).
    """
    first = runs[0]
    assert first.fit_bars is not None
    splits = split_plan(first, panel, first.fit_bars).splits

    def new_strategy() -> Strategy:
        made: Strategy = make_strategy()
        return made

    weights = fitted_weights(
        new_strategy, panel, decisions, splits, execution_lag=first.config["execution_lag"]
    )
    metrics = in_sample_metrics(
        weights,
        panel,
        splits,
        settings,
        periods_per_year=periods_per_year(first.config),
        risk_free_rate=first.config["risk_free_rate"],
        benchmark=benchmark,
    )
    return Fitted(
        route=weights.out_of_sample,
        in_sample=tuple(
            {name: tuple(np.asarray(values).tolist()) for name, values in found.items()}
            for found in metrics
        ),
        first_return_bar=splits[0].test_start,
    )
