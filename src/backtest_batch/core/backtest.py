"""Compute the runs of one chunk: data -> weights -> simulations -> metrics.

A chunk holds runs that share data, strategy, rebalance dates and first bar, and differ in costs,
exposure and the like. The strategy is asked once; every run is then simulated from the same
weights. What a run comes to does not depend on the others in its chunk.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.construct import build
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.metrics import RESULT_METRICS, result_metrics
from backtest_batch.core.engine.simulation import (
    Simulation,
    SimulationSettings,
    benchmark_settings,
    simulate_many,
    simulation_settings,
)
from backtest_batch.core.fitting import Fitted, Route, fit, metrics_from, periods_per_year
from backtest_batch.core.strategies.base import target_weights
from backtest_batch.core.strategies.equal_weight import EqualWeight
from backtest_batch.errors import ConfigurationError, DataError, Fault
from backtest_batch.records import RunSpec


@dataclass(frozen=True, kw_only=True)
class Computed:
    """One simulated run and its metrics.

    Attributes
    ----------
    simulation
        The account.
    first_bar
        Position in the panel of the first measured bar. That of the simulation, but for a fitted
        strategy: its account is entered before the bar from which on its returns count.
    metrics, undefined
        From that bar on.
    in_sample
        Metrics on training bars of a fitted strategy, one value a split.
    """

    simulation: Simulation
    first_bar: int
    metrics: Mapping[str, float]
    undefined: tuple[str, ...]
    in_sample: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def n_left_out(self) -> int:
        """Bars of the simulation before the first measured one."""
        return self.first_bar - self.simulation.first_bar

    @property
    def net_return(self) -> FloatArray:
        """Net returns from the first measured bar on, which has none."""
        returns = self.simulation.net_return
        if self.n_left_out == 0:
            return returns
        return np.concatenate(([np.nan], returns[self.n_left_out + 1 :]))


@dataclass(frozen=True, kw_only=True)
class ComputedChunk:
    """What a chunk came to.

    Attributes
    ----------
    runs
        One entry a run, in the order given.
    benchmarks
        The benchmarks of the runs, by the ``benchmark_key`` of these.
    timings
        Seconds by step: signals, simulate, metrics.
    """

    runs: tuple[Computed, ...]
    benchmarks: Mapping[str, Computed]
    timings: Mapping[str, float]


def first_measured_bar(
    config: Mapping[str, Any], panel: Panel, warmup: int
) -> tuple[int, list[Fault]]:
    """Return where measuring begins, or what leaves too few bars to measure."""
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
    """Return the bars that a strategy needs before its first weight, or what is wrong with it."""
    name = type(strategy).__name__
    if not callable(getattr(strategy, "target_weights", None)):
        message = "has no method target_weights(panel, decisions)"
        return 0, [Fault(key="strategy", value=name, allowed=message)]
    try:
        warmup = getattr(strategy, "warmup_bars", 0)
    except Exception as error:  # noqa: BLE001 - a property of a strategy may raise anything
        message = f"warmup_bars raises {type(error).__name__}: {error}"
        return 0, [Fault(key="strategy", value=name, allowed=message)]
    if isinstance(warmup, bool) or not isinstance(warmup, Integral) or warmup < 0:
        message = f"warmup_bars must be a whole number >= 0, but got {warmup!r}"
        return 0, [Fault(key="strategy", value=name, allowed=message)]
    return int(warmup), []


def compute_chunk(runs: Sequence[RunSpec], panel: Panel) -> ComputedChunk:
    """Backtest runs that share data, strategy, rebalance dates and first bar.

    Raises
    ------
    StrategyError
        When the strategy returns something that is not weights, or weights that are not finite.
    Exception
        Whatever the strategy itself raises.
    """
    started = time.perf_counter()
    first = runs[0]
    settings = [simulation_settings(run.config) for run in runs]
    bars = decision_bars(panel.index, first.config["rebalance"])
    decisions = bars[bars >= first.first_bar]
    signals = _signals(runs, panel, decisions, settings)
    route = signals.route
    signalled = time.perf_counter()

    simulations = simulate_many(panel, route.decisions, route.weights, settings, route.first_bar)
    examples = {run.benchmark_key: run for run in runs}
    references = _benchmarks(list(examples.values()), panel, decisions, route.first_bar)
    simulated = time.perf_counter()

    since = signals.first_return_bar
    benchmarks = {
        key: _measure(simulation, run.config, None, panel, since)
        for (key, run), simulation in zip(examples.items(), references, strict=True)
    }
    computed = tuple(
        replace(
            _measure(
                simulation,
                run.config,
                benchmarks[run.benchmark_key].simulation.net_return,
                panel,
                since,
            ),
            in_sample=in_sample,
        )
        for simulation, run, in_sample in zip(simulations, runs, signals.in_sample, strict=True)
    )
    measured = time.perf_counter()
    return ComputedChunk(
        runs=computed,
        benchmarks=benchmarks,
        timings={
            "signals": signalled - started,
            "simulate": simulated - signalled,
            "metrics": measured - simulated,
        },
    )


def _signals(
    runs: Sequence[RunSpec],
    panel: Panel,
    decisions: IntArray,
    settings: Sequence[SimulationSettings],
) -> Fitted:
    """Ask the strategy, or fit it split by split where the batch walks forward."""
    first = runs[0]
    if first.fit_bars is None:
        weights = target_weights(_strategy(first), panel, decisions)
        route = Route(decisions=decisions, weights=weights, first_bar=first.first_bar)
        return Fitted(route=route, in_sample=({},) * len(runs))
    # Each has its own, so that no run's figures depend on which others share its chunk.
    benchmark = np.full((panel.n_bars, len(runs)), np.nan)
    for column, reference in enumerate(_benchmarks(runs, panel, decisions, first.first_bar)):
        bars = slice(first.first_bar, first.first_bar + reference.n_measured)
        benchmark[bars, column] = reference.net_return
    return fit(lambda: _strategy(first), runs, panel, decisions, settings, benchmark)


def _benchmarks(
    runs: Sequence[RunSpec], panel: Panel, decisions: IntArray, first_bar: int
) -> list[Simulation]:
    measured = decisions[decisions >= first_bar]
    return simulate_many(
        panel,
        measured,
        target_weights(EqualWeight(), panel, measured),
        [benchmark_settings(run.config) for run in runs],
        first_bar,
    )


def _strategy(run: RunSpec) -> Any:
    strategy, faults = build(run.config["strategy"], key="strategy", seed=run.strategy_seed)
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    return strategy


def _measure(
    simulation: Simulation,
    config: Mapping[str, Any],
    benchmark: FloatArray | None,
    panel: Panel,
    since: int | None,
) -> Computed:
    """Measure a run, or what it comes to from the bar ``since`` on."""
    per_year, risk_free_rate = periods_per_year(config), float(config["risk_free_rate"])
    # What is ruined before it counts is shown as it is; nothing is judged by it.
    if since is not None and (simulation.ruined_bar is None or simulation.ruined_bar >= since):
        found = metrics_from(
            since,
            simulation,
            panel,
            periods_per_year=per_year,
            risk_free_rate=risk_free_rate,
            benchmark=benchmark,
        )
        return Computed(
            simulation=simulation,
            first_bar=since - 1,
            metrics=found,
            undefined=tuple(name for name in RESULT_METRICS if name not in found),
        )
    metrics, undefined = result_metrics(
        simulation,
        periods_per_year=per_year,
        risk_free_rate=risk_free_rate,
        benchmark_returns=benchmark,
    )
    return Computed(
        simulation=simulation,
        first_bar=simulation.first_bar,
        metrics=metrics,
        undefined=tuple(undefined),
    )
