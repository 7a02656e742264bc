"""Strategies that are fitted in each split: their weights, and the metrics of their runs.

A fitted strategy has different weights in each test window. They are joined, so that one simulation
trades all windows and pays for the change of weights at each boundary.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.config.schema import MARKET_KEYS, SCENARIO_KEYS
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.frequency import USUAL_FREQ, periods_per_year_of
from backtest_batch.core.engine.simulation import Simulation, SimulationSettings, simulate_many
from backtest_batch.core.factors import FactorReturns, factor_metrics_within, factor_returns
from backtest_batch.core.fingerprint import chunk_key, digest
from backtest_batch.core.split_settings import parse
from backtest_batch.core.splits import (
    Split,
    SplitPlan,
    WalkForwardSettings,
    make_splits,
    moved,
    positions,
)
from backtest_batch.core.strategies.base import Strategy, target_weights
from backtest_batch.core.windows import (
    ScenarioRuns,
    available_metrics,
    measure_windows,
    metrics_since,
)
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import RunSpec
from backtest_batch.values import value_at


@dataclass(frozen=True, kw_only=True)
class Route:
    """Target weights to simulate.

    Attributes
    ----------
    decisions
        Decision bars, shape (n_decisions,).
    weights
        Target weights, shape (n_decisions, n_assets).
    first_bar
        First bar of the simulation. It lies before the first decision, so that the entry is paid
        for before the first bar that counts. It also lies before that bar, which thus has a return.
    """

    decisions: IntArray
    weights: FloatArray
    first_bar: int


@dataclass(frozen=True, kw_only=True)
class FittedWeights:
    """The weights of a strategy that was fitted on the training bars of each split.

    Attributes
    ----------
    out_of_sample
        Weights of all test windows in one route: no window starts from cash, and every trade
        between two windows is paid for.
    in_sample
        Weights on the training bars of each split, from the same fit.
    """

    out_of_sample: Route
    in_sample: tuple[Route, ...]


def fitted_weights(
    strategy_factory: Callable[[], Strategy],
    panel: Panel,
    decisions: IntArray,
    splits: Sequence[Split],
    *,
    execution_lag: int,
) -> FittedWeights:
    """Fit a strategy on the training bars of each split and join the weights of the test windows.

    A decision belongs to the latest split whose first test bar it can still earn on: a decision at
    bar d is executed at ``d + execution_lag`` and earns from the next bar on. It never belongs to a
    split that trains on bars after d. The last decision before the first test window is included,
    so that the route is invested from the first test bar on. ``target_weights`` sees no bar after
    the last decision of its window.

    A strategy without ``fit`` is treated in the same way; its weights are those it has without
    splits.

    Parameters
    ----------
    strategy_factory
        Makes a new strategy for each split.
    panel
        Prices; bars are given as positions in it.
    decisions
        Decision bars of the run from its first measured bar on, increasing, shape (n_decisions,).
    splits
        Splits of the panel, one training and one test window each.
    execution_lag
        Bars between decision and execution.

    Raises
    ------
    ConfigurationError
        When a split tests several windows: bars that are tested several times cannot form one
        route.
    StrategyError
        When the strategy returns something that is not weights.
    """
    if any(len(split.test) > 1 or len(split.train) > 1 for split in splits):
        raise ConfigurationError(
            "walk_forward=combinatorial tests every bar several times, which cannot be one route "
            "of a strategy with fit; use rolling or expanding"
        )
    before_test = [split.test_start - 1 - execution_lag for split in splits]
    # A choice that is known late (purged_size < execution_lag) is traded late.
    known = [
        max(bar, split.train_end) for bar, split in zip(before_test[1:], splits[1:], strict=True)
    ]
    starts = [before_test[0], *known]
    first = _last_at_or_before(decisions, starts[0])
    owners = np.searchsorted(np.array(starts[1:], dtype=np.int64), decisions, side="right")
    # An order that is executed on the last test bar earns nothing there, but has a cost.
    last_bar = splits[-1].test_end - execution_lag
    tested = (decisions >= first) & (decisions <= last_bar)
    rows: list[FloatArray] = []
    trained: list[Route] = []
    for split in splits:
        strategy = fitted_on(strategy_factory(), panel, split)
        own = decisions[tested & (owners == split.number)]
        rows.append(_weights(strategy, panel, own))
        trained.append(_in_sample(strategy, panel, decisions, split, execution_lag))
    route = _route(decisions[tested], np.concatenate(rows), splits[0].test_start)
    return FittedWeights(out_of_sample=route, in_sample=tuple(trained))


def _route(decisions: IntArray, weights: FloatArray, first_return_bar: int) -> Route:
    starts = [first_return_bar, *decisions[:1].tolist()]
    return Route(decisions=decisions, weights=weights, first_bar=max(0, min(starts) - 1))


def _last_at_or_before(decisions: IntArray, bar: int) -> int:
    """Return the last decision at or before a bar, or the bar itself when there is none."""
    place = int(np.searchsorted(decisions, bar, side="right"))
    return int(decisions[place - 1]) if place else bar


def fitted_on(strategy: Any, panel: Panel, split: Split) -> Any:
    """Return a strategy after its ``fit``, where it has one, on the training bars of a split."""
    fit = getattr(strategy, "fit", None)
    if fit is None:
        return strategy
    fitted = fit(panel.window(split.train_start, split.train_end + 1))
    # Returning self is the protocol; a fit that returns nothing has still fitted.
    return strategy if fitted is None else fitted


def _in_sample(
    strategy: Strategy, panel: Panel, decisions: IntArray, split: Split, execution_lag: int
) -> Route:
    first = _last_at_or_before(decisions, split.train_start - 1 - execution_lag)
    last = split.train_end - execution_lag
    own = decisions[(decisions >= first) & (decisions <= last)]
    return _route(own, _weights(strategy, panel, own), split.train_start)


def _weights(strategy: Strategy, panel: Panel, decisions: IntArray) -> FloatArray:
    if len(decisions) == 0:
        return target_weights(strategy, panel, decisions)
    n_seen = int(decisions[-1]) + 1
    seen = panel if n_seen == panel.n_bars else panel.window(0, n_seen)
    return target_weights(strategy, seen, decisions)


class BarsOfAccount(Protocol):
    """What is asked of an account bar by bar; see :class:`.Simulation` for each.

    An array of what is not known of the account is None.
    """

    @property
    def settings(self) -> SimulationSettings: ...  # noqa: D102
    @property
    def first_bar(self) -> int: ...  # noqa: D102
    @property
    def n_measured(self) -> int: ...  # noqa: D102
    @property
    def net_return(self) -> FloatArray: ...  # noqa: D102
    @property
    def turnover(self) -> FloatArray | None: ...  # noqa: D102
    @property
    def cost_ratio(self) -> FloatArray | None: ...  # noqa: D102
    @property
    def gross_exposure(self) -> FloatArray | None: ...  # noqa: D102
    @property
    def net_exposure(self) -> FloatArray | None: ...  # noqa: D102
    @property
    def trade_counts(self) -> FloatArray | None: ...  # noqa: D102


def per_bar_arrays(accounts: Sequence[BarsOfAccount], n_bars: int) -> dict[str, FloatArray]:
    """Return the arrays that a walk-forward reads from accounts, one column per account.

    Parameters
    ----------
    accounts
        Runs on one panel.
    n_bars
        Number of bars of the panel.

    Returns
    -------
    dict of str to ndarray of shape (n_bars, n_runs)
        ``returns``, ``turnover``, ``cost_ratio``, ``gross_exposure``, ``net_exposure`` and
        ``trades`` as :class:`.ScenarioRuns` takes them; NaN before the first measured bar and
        after ruin, and everywhere where it is not known. The return of the first measured bar is
        NaN, too.
    """
    names = ("returns", "turnover", "cost_ratio", "gross_exposure", "net_exposure", "trades")
    arrays = {name: np.full((n_bars, len(accounts)), np.nan) for name in names}
    for column, account in enumerate(accounts):
        bars = slice(account.first_bar, account.first_bar + account.n_measured)
        values = (
            account.net_return,
            account.turnover,
            account.cost_ratio,
            account.gross_exposure,
            account.net_exposure,
            account.trade_counts,
        )
        for name, value in zip(names, values, strict=True):
            if value is not None:
                arrays[name][bars, column] = value
    return arrays


def drifted_weights(simulation: Simulation, panel: Panel, bar: int) -> FloatArray:
    """Return the value of each holding over equity at a bar's close, after the bar's trades.

    Parameters
    ----------
    simulation
        A run that was not ruined by then.
    panel
        Its prices.
    bar
        Position of a measured bar in the panel.

    Returns
    -------
    ndarray of shape (n_assets,)
        Negative for shorts.
    """
    trades = simulation.trades()
    done = trades.bar <= bar
    shares = np.bincount(trades.asset[done], trades.shares[done], minlength=panel.n_assets)
    close = panel.fields["close"][bar]
    # A series without a price was sold; what rounding leaves of its shares is not a holding.
    values = np.where(np.isnan(close), 0.0, shares * np.nan_to_num(close))
    return np.asarray(values / simulation.equity[bar - simulation.first_bar])


def metrics_from(
    bar: int,
    account: BarsOfAccount,
    panel: Panel,
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
    benchmark: FloatArray | None = None,
) -> dict[str, float]:
    """Return the defined metrics of a run from a bar on, as if measuring began just before it.

    Parameters
    ----------
    bar
        First bar whose return counts; it lies after the first bar of the account.
    account
        A run that was not ruined before it.
    panel
        Its prices.
    periods_per_year
        Bars per year.
    risk_free_rate
        Annual rate.
    benchmark
        Net returns of the benchmark on the bars of the account, or on more.
    """
    first = bar - 1
    arrays: dict[str, Any] = {
        name: values[first:] for name, values in per_bar_arrays([account], panel.n_bars).items()
    }
    for name in ("returns", "turnover", "cost_ratio", "trades"):
        # The account was entered before; of the first measured bar only the holdings count.
        arrays[name][0] = np.nan
    reference = None
    if benchmark is not None:
        reference = np.full(panel.n_bars - first, np.nan)
        given = benchmark[bar - account.first_bar :]
        reference[1 : len(given) + 1] = given
    run = ScenarioRuns(
        scenario="",
        run_ids=("run",),
        index=panel.index[first:],
        parameters=pd.DataFrame(index=range(1)),
        periods_per_year=periods_per_year,
        risk_free_rate=risk_free_rate,
        initial_capital=account.settings.initial_capital,
        benchmark=reference,
        **arrays,
    )
    return metrics_since(1, run)


def in_sample_metrics(
    fitted: FittedWeights,
    panel: Panel,
    splits: Sequence[Split],
    settings: Sequence[SimulationSettings],
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
    benchmark: FloatArray | None = None,
    factors: Sequence[FactorReturns | None] = (),
) -> list[dict[str, FloatArray]]:
    """Return the metrics of fitted runs on the training bars of each split.

    Parameters
    ----------
    fitted
        Weights of the strategy, fitted split by split.
    panel
        Prices.
    splits
        The splits that it was fitted on.
    settings
        The conditions of each run.
    periods_per_year
        Bars per year.
    risk_free_rate
        Annual rate.
    benchmark
        Net returns of the benchmark, shape (n_bars,), or (n_bars, n_settings) when each of
        ``settings`` has its own.
    factors
        The factors of each of ``settings``; empty if there are none.

    Returns
    -------
    list of dict
        For each of ``settings``, arrays by metric, one value per split, NaN where undefined, as
        :attr:`.ScenarioRuns.in_sample` takes them.
    """
    found: list[dict[str, FloatArray]] = [{} for _ in settings]
    for number, (split, route) in enumerate(zip(splits, fitted.in_sample, strict=True)):
        n_bars = split.train_end + 1
        seen = panel.window(0, n_bars)
        simulations = simulate_many(seen, route.decisions, route.weights, settings, route.first_bar)
        arrays: dict[str, Any] = per_bar_arrays(simulations, n_bars)
        runs = ScenarioRuns(
            scenario="",
            run_ids=tuple(str(position) for position in range(len(settings))),
            index=seen.index,
            parameters=pd.DataFrame(index=range(len(settings))),
            periods_per_year=periods_per_year,
            risk_free_rate=risk_free_rate,
            benchmark=None if benchmark is None else benchmark[:n_bars],
            **arrays,
        )
        measured = measure_windows(runs, [split.train])
        for name in available_metrics(runs):
            for run, value in enumerate(measured.of(name)[0].tolist()):
                # Costs in currency are those of an account that starts with the run's capital.
                scale = settings[run].initial_capital if name == "total_costs" else 1.0
                values = found[run].setdefault(name, np.full(len(splits), np.nan))
                values[number] = value * scale
        for run, given in enumerate(factors):
            if given is None:
                continue
            explained = factor_metrics_within(
                given,
                np.array(arrays["returns"][:, [run]].T),
                [positions(split.train)],
                periods_per_year=float(periods_per_year),
                risk_free_rate=float(risk_free_rate),
            )
            for name, value_of in explained.items():
                values = found[run].setdefault(name, np.full(len(splits), np.nan))
                values[number] = value_of[0, 0]
    return found


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A strategy fitted split by split.

    Attributes
    ----------
    route
        Its weights over all test windows.
    in_sample
        Metrics of each run on the training bars, one value per split.
    first_return_bar
        First test bar. Returns before it do not count: the account then already holds weights that
        were fitted on those bars. None without a fit.
    """

    route: Route
    in_sample: tuple[Mapping[str, tuple[float, ...]], ...]
    first_return_bar: int | None = None


def walks_forward(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration asks for a walk-forward."""
    return bool(config["walk_forward"].get("method", "none") != "none")


def periods_per_year(config: Mapping[str, Any]) -> float:
    """Return the bars per year of a run whose configuration has been resolved."""
    given = config["periods_per_year"]
    if given is not None:
        return float(given)
    return periods_per_year_of(config["data"].get("freq", USUAL_FREQ))


def session_end(config: Mapping[str, Any]) -> str | None:
    """Return when the sessions of a run's market end; None is midnight."""
    found: str | None = config["data"].get("session_end")
    return found


def common_bars(runs: Sequence[RunSpec]) -> list[tuple[int, int]]:
    """Return, for each run, the return bars common to all runs that are walked forward with it.

    Scenarios, data and dates are walked forward separately: a later start_date in one of them does
    not affect the others.
    """
    scenarios = [_walk_group(run) for run in runs]
    starts: dict[str, int] = {}
    for run, scenario in zip(runs, scenarios, strict=True):
        starts[scenario] = max(starts.get(scenario, 0), run.first_bar + 1)
    return [(starts[scenario], run.n_bars) for run, scenario in zip(runs, scenarios, strict=True)]


def _walk_group(run: RunSpec) -> str:
    """Return a hash of the conditions, data and dates of a run, and of its ``scenario_axes``."""
    named = [value_at(run.config, axis.split(".")) for axis in run.config["scenario_axes"]]
    keys = [run.config[name] for name in sorted({*SCENARIO_KEYS, *MARKET_KEYS})]
    return digest([run.data_fingerprint, keys, named])


def with_fits(
    runs: Sequence[RunSpec], panels: Mapping[str, Panel], fitted: Collection[str]
) -> tuple[RunSpec, ...]:
    """Check the walk-forward of a batch, and set which bars its fitted runs split.

    Parameters
    ----------
    runs
        The runs of the batch.
    panels
        Their data by fingerprint.
    fitted
        Run keys of the runs whose strategy has ``fit``.

    Raises
    ------
    ConfigurationError
        When the settings are wrong, or the data too short for one split.
    """
    if not runs or not walks_forward(runs[0].config) or runs[0].own_data:
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
            # The result of such a run depends on where the splits lie.
            key = digest([run.run_key, bars])
            together = chunk_key(
                run.config, run.data_fingerprint, run.strategy_seed, run.first_bar, bars
            )
            planned.append(replace(run, run_key=key, fit_bars=bars, chunk_key=together))
        else:
            planned.append(run)
    return tuple(planned)


def walk_forward_settings(run: RunSpec, panel: Panel, bars: tuple[int, int]) -> WalkForwardSettings:
    """Return the settings of a run's walk-forward; see :func:`.split_settings.parse`."""
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
        factors=[factor_returns(run) for run in runs],
    )
    return Fitted(
        route=weights.out_of_sample,
        in_sample=tuple(
            {name: tuple(np.asarray(values).tolist()) for name, values in found.items()}
            for found in metrics
        ),
        first_return_bar=splits[0].test_start,
    )
