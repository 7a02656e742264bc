"""Compute the runs of one chunk: data -> weights -> accounts -> metrics.

A chunk holds runs that share data, strategy, rebalance dates and first bar, and differ in costs,
exposure and the like. The strategy is asked once; every run is then simulated from the same
weights. A strategy that makes its own account is asked once for each run. The result of a run does
not depend on the other runs in its chunk.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.benchmark import benchmark_simulations, net_returns
from backtest_batch.core.conditions import conditions_of
from backtest_batch.core.construct import build
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.data.series import open_series
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.metrics import ACCOUNT_METRICS, equity_metrics, result_metrics
from backtest_batch.core.engine.simulation import (
    Simulation,
    SimulationSettings,
    simulate_many,
    simulation_settings,
)
from backtest_batch.core.factors import factor_metric_names, factor_metrics
from backtest_batch.core.fitted_account import fitted_account
from backtest_batch.core.fitting import (
    Fitted,
    Route,
    fit,
    metrics_from,
    periods_per_year,
    session_end,
    split_plan,
)
from backtest_batch.core.own_account import OwnAccount, ask_for_account
from backtest_batch.core.own_bars import ask_without_prices
from backtest_batch.core.strategies.base import (
    LACKS_BOTH,
    call_fault,
    strategy_kind,
    target_weights,
)
from backtest_batch.errors import ConfigurationError, DataError, Fault
from backtest_batch.records import RunSpec


@dataclass(frozen=True, kw_only=True)
class Computed:
    """One run and its metrics.

    Attributes
    ----------
    account
        What happened to its money: simulated from weights, or made by the strategy itself.
    first_bar
        Position in the panel of the first measured bar. It is the first bar of the account,
        except for a fitted strategy, whose account is entered before its returns start to count.
    metrics, undefined
        The metrics from that bar on, and the names of those that are undefined.
    in_sample
        Metrics of a fitted strategy on its training bars, one value per split.
    """

    account: Simulation | OwnAccount
    first_bar: int
    metrics: Mapping[str, float]
    undefined: tuple[str, ...]
    in_sample: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def n_left_out(self) -> int:
        """Bars of the account before the first measured one."""
        return self.first_bar - self.account.first_bar

    @property
    def net_return(self) -> FloatArray:
        """Net returns from the first measured bar on; NaN on that bar itself."""
        returns = self.account.net_return
        if self.n_left_out == 0:
            return returns
        return np.concatenate(([np.nan], returns[self.n_left_out + 1 :]))


@dataclass(frozen=True, kw_only=True)
class ComputedSeries:
    """A benchmark that is given as returns and not as an account, and its metrics.

    Attributes
    ----------
    first_bar
        Position in the panel of the first measured bar.
    net_return
        Returns from that bar on; NaN on that bar itself.
    metrics
        The metrics that a path of equity defines.
    """

    first_bar: int
    net_return: FloatArray
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ComputedChunk:
    """The results of a chunk.

    Attributes
    ----------
    runs
        One entry per run, in the order given.
    benchmarks
        The benchmarks of the runs by ``benchmark_key``; runs without a benchmark have no entry.
    timings
        Seconds per step: signals, simulate, metrics.
    panel
        The data; of a run that reads its own, the bars that it handed back.
    specs
        The runs that were asked for, with what was only known when they had ended.
    """

    runs: tuple[Computed, ...]
    benchmarks: Mapping[str, Computed | ComputedSeries]
    timings: Mapping[str, float]
    panel: Panel
    specs: tuple[RunSpec, ...]


def first_measured_bar(
    config: Mapping[str, Any], panel: Panel, warmup: int
) -> tuple[int, list[Fault]]:
    """Return the first measured bar, and the fault that leaves too few bars to measure, if any."""
    start = config["start_date"]
    try:
        first = warmup if start is None else panel.first_bar_from(start)
    except (ConfigurationError, DataError) as error:
        return 0, [Fault(key="start_date", value=start, allowed=str(error))]
    if first <= panel.n_bars - 2:
        return first, []
    span = f"{panel.index[0].date()} to {panel.index[-1].date()}"
    if start is None:
        message = (
            f"the strategy needs {warmup} bars before its first weight and two to measure, "
            f"but the data has {panel.n_bars} ({span})"
        )
        return first, [Fault(key="strategy", value=config["strategy"]["_target_"], allowed=message)]
    message = f"at least two bars must follow, but the data spans {span}"
    return first, [Fault(key="start_date", value=start, allowed=message)]


def read_warmup_bars(strategy: Any) -> tuple[int, list[Fault]]:
    """Return how many bars a strategy needs before its first weight, or what is wrong with it."""
    name = getattr(strategy, "function_name", type(strategy).__name__)
    if strategy_kind(strategy) is None:
        return 0, [Fault(key="strategy", value=name, allowed=LACKS_BOTH)]
    wrong = call_fault(strategy)
    if wrong:
        return 0, [Fault(key="strategy", value=name, allowed=wrong)]
    try:
        warmup = getattr(strategy, "warmup_bars", 0)
    except Exception as error:  # noqa: BLE001 - a property of a strategy may raise anything
        message = f"warmup_bars raises {type(error).__name__}: {error}"
        return 0, [Fault(key="strategy", value=name, allowed=message)]
    if isinstance(warmup, bool) or not isinstance(warmup, Integral) or warmup < 0:
        message = f"warmup_bars must be a whole number >= 0, but got {warmup!r}"
        return 0, [Fault(key="strategy", value=name, allowed=message)]
    return int(warmup), []


def compute_chunk(runs: Sequence[RunSpec], panel: Panel | None) -> ComputedChunk:
    """Backtest runs that share data, strategy, rebalance dates and first bar.

    Without a panel it is one run, whose strategy reads its own data.

    Raises
    ------
    StrategyError
        When the strategy returns something that is not weights, or weights that are not finite;
        or an account that cannot be true.
    Exception
        Whatever the strategy itself raises.
    """
    if panel is None:
        return _without_prices(*runs)
    started = time.perf_counter()
    first = runs[0]
    bars = decision_bars(panel.index, first.config["rebalance"], session_end(first.config))
    decisions = bars[bars >= first.first_bar]
    made = _ACCOUNTS[first.strategy_kind](runs, panel, decisions)
    examples = list({run.benchmark_key: run for run in runs}.values())
    references = benchmark_simulations(examples, panel, decisions, made.first_bar)
    simulated = time.perf_counter()

    since = made.first_return_bar
    benchmarks = {
        run.benchmark_key: _measure_benchmark(found, run, panel, made.first_bar, since)
        for run, found in zip(examples, references, strict=True)
        if found is not None
    }
    returns_of = {
        run.benchmark_key: net_returns(found)
        for run, found in zip(examples, references, strict=True)
    }
    explained = {
        run.factors.content: open_series(run.factors.content)
        for run in runs
        if run.factors is not None
    }
    computed = tuple(
        _explained(
            replace(
                _measure(
                    account,
                    run.config,
                    _from(account.first_bar - made.first_bar, returns_of[run.benchmark_key]),
                    panel,
                    since,
                ),
                in_sample=in_sample,
            ),
            run,
            explained,
        )
        for account, run, in_sample in zip(made.accounts, runs, made.in_sample, strict=True)
    )
    measured = time.perf_counter()
    return ComputedChunk(
        runs=computed,
        benchmarks=benchmarks,
        timings={
            "signals": made.signalled - started,
            "simulate": simulated - made.signalled,
            "metrics": measured - simulated,
        },
        panel=panel,
        specs=tuple(runs),
    )


def _without_prices(run: RunSpec) -> ComputedChunk:
    """Backtest a run that reads its own data."""
    started = time.perf_counter()
    found = ask_without_prices(_strategy(run), run)
    signalled = time.perf_counter()
    computed = _measure(found.account, found.spec.config, found.benchmark, found.panel, None)
    factors = {} if found.factors is None else {_content_of(run): found.factors}
    computed = _explained(computed, found.spec, factors)
    return ComputedChunk(
        runs=(computed,),
        benchmarks={},
        timings={
            "signals": signalled - started,
            "simulate": 0.0,
            "metrics": time.perf_counter() - signalled,
        },
        panel=found.panel,
        specs=(found.spec,),
    )


def _content_of(run: RunSpec) -> str:
    return "" if run.factors is None else run.factors.content


@dataclass(frozen=True, kw_only=True)
class _Made:
    """The accounts of a chunk.

    Attributes
    ----------
    accounts
        One per run.
    first_bar
        First bar of the accounts; one that a strategy made may begin later.
    in_sample
        Metrics of each run on the training bars, one value per split.
    first_return_bar
        First bar whose return counts, of a fitted strategy; None for all returns.
    signalled
        When the strategy had answered.
    """

    accounts: Sequence[Simulation | OwnAccount]
    first_bar: int
    in_sample: Sequence[Mapping[str, tuple[float, ...]]]
    first_return_bar: int | None = None
    signalled: float


def _from_weights(runs: Sequence[RunSpec], panel: Panel, decisions: IntArray) -> _Made:
    settings = [simulation_settings(run.config) for run in runs]
    signals = _signals(runs, panel, decisions, settings)
    route = signals.route
    signalled = time.perf_counter()
    return _Made(
        accounts=simulate_many(panel, route.decisions, route.weights, settings, route.first_bar),
        first_bar=route.first_bar,
        in_sample=signals.in_sample,
        first_return_bar=signals.first_return_bar,
        signalled=signalled,
    )


def _from_strategies(runs: Sequence[RunSpec], panel: Panel, decisions: IntArray) -> _Made:
    if runs[0].fit_bars is not None:
        return _from_fitted(runs, panel, decisions)
    accounts = [
        ask_for_account(_strategy(run), panel, conditions_of(run.config, run.first_bar, decisions))
        for run in runs
    ]
    return _Made(
        accounts=accounts,
        first_bar=runs[0].first_bar,
        in_sample=({},) * len(runs),
        signalled=time.perf_counter(),
    )


def _from_fitted(runs: Sequence[RunSpec], panel: Panel, decisions: IntArray) -> _Made:
    """Return accounts of a strategy that is fitted split by split, on the test windows."""
    first = runs[0]
    assert first.fit_bars is not None
    splits = split_plan(first, panel, first.fit_bars).splits
    references = _benchmark_columns(runs, panel, decisions)
    found = [
        fitted_account(
            partial(_strategy, run),
            panel,
            conditions_of(run.config, run.first_bar, decisions),
            splits,
            None if run.benchmark.kind == "none" else references[:, column],
        )
        for column, run in enumerate(runs)
    ]
    return _Made(
        accounts=[item.account for item in found],
        first_bar=first.first_bar,
        in_sample=[item.in_sample for item in found],
        first_return_bar=splits[0].test_start,
        signalled=time.perf_counter(),
    )


_ACCOUNTS = {"weights": _from_weights, "account": _from_strategies}
"""How the accounts of a chunk are made, by the kind of its strategy."""


def _from(skipped: int, returns: FloatArray | None) -> FloatArray | None:
    """Return the returns of a benchmark from the first bar of an account that begins later."""
    return returns if returns is None or not skipped else returns[skipped:]


def _signals(
    runs: Sequence[RunSpec],
    panel: Panel,
    decisions: IntArray,
    settings: Sequence[SimulationSettings],
) -> Fitted:
    """Ask the strategy for its weights; in a walk-forward, fit it split by split."""
    first = runs[0]
    if first.fit_bars is None:
        weights = target_weights(_strategy(first), panel, decisions)
        route = Route(decisions=decisions, weights=weights, first_bar=first.first_bar)
        return Fitted(route=route, in_sample=({},) * len(runs))
    benchmark = _benchmark_columns(runs, panel, decisions)
    return fit(lambda: _strategy(first), runs, panel, decisions, settings, benchmark)


def _benchmark_columns(runs: Sequence[RunSpec], panel: Panel, decisions: IntArray) -> FloatArray:
    """Return the returns of each run's benchmark, shape (n_bars, n_runs), NaN where it has none.

    Each run has its own, so that its figures do not depend on the rest of the chunk.
    """
    first_bar = runs[0].first_bar
    benchmark = np.full((panel.n_bars, len(runs)), np.nan)
    references = benchmark_simulations(runs, panel, decisions, first_bar)
    for column, reference in enumerate(references):
        returns = net_returns(reference)
        if returns is not None:
            benchmark[first_bar : first_bar + len(returns), column] = returns
    return benchmark


def _strategy(run: RunSpec) -> Any:
    strategy, faults = build(run.config["strategy"], key="strategy", seed=run.strategy_seed)
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    return strategy


def _measure(
    account: Simulation | OwnAccount,
    config: Mapping[str, Any],
    benchmark: FloatArray | None,
    panel: Panel,
    since: int | None,
) -> Computed:
    """Measure a whole run, or only the part from the bar ``since`` on."""
    per_year, risk_free_rate = periods_per_year(config), float(config["risk_free_rate"])
    # A run that is ruined before its returns count is measured whole; nothing is judged by it.
    if since is not None and (account.ruined_bar is None or account.ruined_bar >= since):
        found = metrics_from(
            since,
            account,
            panel,
            periods_per_year=per_year,
            risk_free_rate=risk_free_rate,
            benchmark=benchmark,
        )
        lacking = [name for name in ACCOUNT_METRICS if name not in found]
        return Computed(
            account=account,
            first_bar=since - 1,
            metrics=found,
            undefined=(*lacking, *_undefined_of_its_own(account)),
        )
    metrics, undefined = result_metrics(
        account,
        periods_per_year=per_year,
        risk_free_rate=risk_free_rate,
        benchmark_returns=benchmark,
    )
    own = account.metrics if isinstance(account, OwnAccount) else {}
    return Computed(
        account=account,
        first_bar=account.first_bar,
        metrics={**metrics, **own},
        undefined=(*undefined, *_undefined_of_its_own(account)),
    )


def _undefined_of_its_own(account: Simulation | OwnAccount) -> tuple[str, ...]:
    return account.undefined if isinstance(account, OwnAccount) else ()


def _measure_benchmark(
    found: Simulation | FloatArray, run: RunSpec, panel: Panel, first_bar: int, since: int | None
) -> Computed | ComputedSeries:
    """Measure a benchmark: an account like a run, returns as a path of equity."""
    if isinstance(found, Simulation):
        return _measure(found, run.config, None, panel, since)
    begins = first_bar if since is None else since - 1
    returns = np.array(found[begins - first_bar :])
    returns[0] = np.nan
    metrics, _ = equity_metrics(
        np.cumprod(np.concatenate(([1.0], 1.0 + returns[1:]))),
        periods_per_year=periods_per_year(run.config),
        risk_free_rate=float(run.config["risk_free_rate"]),
    )
    return ComputedSeries(first_bar=begins, net_return=returns, metrics=metrics)


def _explained(computed: Computed, run: RunSpec, explained: Mapping[str, FloatArray]) -> Computed:
    """Add the metrics that the factors of a run define."""
    if run.factors is None:
        return computed
    returns = computed.net_return
    bars = slice(computed.first_bar, computed.first_bar + len(returns))
    found = factor_metrics(
        run.factors,
        explained[run.factors.content][bars],
        returns,
        periods_per_year=periods_per_year(run.config),
        risk_free_rate=float(run.config["risk_free_rate"]),
    )
    missing = [name for name in factor_metric_names(run.factors) if name not in found]
    return replace(
        computed,
        metrics={**computed.metrics, **found},
        undefined=(*computed.undefined, *missing),
    )
