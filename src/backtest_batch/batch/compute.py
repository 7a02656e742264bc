"""Compute the runs of one chunk: data -> weights -> simulations -> metrics.

A chunk holds runs that share data, strategy, rebalance dates and first bar, and differ in costs,
exposure and the like. The strategy is asked once; every run is then simulated from the same
weights. What a run comes to does not depend on the others in its chunk.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from backtest_batch.batch.construct import build
from backtest_batch.batch.fingerprint import digest
from backtest_batch.engine.calendar import decision_bars
from backtest_batch.engine.metrics import periods_per_year_of, result_metrics
from backtest_batch.engine.simulate import Simulation, SimulationSettings, simulate_many
from backtest_batch.errors import ConfigurationError, StrategyError
from backtest_batch.market.panel import FloatArray, IntArray, Panel
from backtest_batch.records import RunSpec
from backtest_batch.strategies import EqualWeight

SETTING_NAMES = tuple(item.name for item in fields(SimulationSettings))


@dataclass(frozen=True, kw_only=True)
class Computed:
    """One simulated run and its metrics."""

    simulation: Simulation
    metrics: Mapping[str, float]
    undefined: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ComputedChunk:
    """What a chunk came to.

    Attributes
    ----------
    runs
        One entry a run, in the order given.
    benchmarks
        The benchmarks of the runs by :func:`benchmark_key`.
    timings
        Seconds by step: signals, simulate, metrics.
    """

    runs: tuple[Computed, ...]
    benchmarks: Mapping[str, Computed]
    timings: Mapping[str, float]


def settings_of(config: Mapping[str, Any]) -> SimulationSettings:
    """Return the engine's settings of a run."""
    return SimulationSettings(**{name: config[name] for name in SETTING_NAMES})


def benchmark_settings(config: Mapping[str, Any]) -> SimulationSettings:
    """Return the settings of a run's benchmark: the same costs, no leverage, no cap a symbol."""
    return replace(settings_of(config), max_gross_exposure=1.0, max_weight=None)


def benchmark_key(run: RunSpec) -> str:
    """Return the hash of what determines a run's benchmark."""
    settings = benchmark_settings(run.config)
    return digest(
        [
            run.data_fingerprint,
            run.config["rebalance"],
            run.first_bar,
            [getattr(settings, name) for name in SETTING_NAMES],
            _annualisation(run.config),
        ]
    )


def chunk_key(run: RunSpec) -> str:
    """Return the hash of what runs must share to be computed together."""
    return digest(
        [
            run.data_fingerprint,
            run.config["strategy"],
            run.strategy_seed,
            run.config["rebalance"],
            run.first_bar,
        ]
    )


def compute(runs: Sequence[RunSpec], panel: Panel) -> ComputedChunk:
    """Backtest runs that share data, strategy, rebalance dates and first bar.

    Raises
    ------
    StrategyError
        When the strategy returns weights of the wrong shape, or weights that are not finite.
    Exception
        Whatever the strategy itself raises.
    """
    started = time.perf_counter()
    first = runs[0]
    bars = decision_bars(panel.index, first.config["rebalance"])
    decisions = bars[bars >= first.first_bar]
    weights = _weights(first, panel, decisions)
    signalled = time.perf_counter()

    simulations = simulate_many(
        panel, decisions, weights, [settings_of(run.config) for run in runs], first.first_bar
    )
    keys = [benchmark_key(run) for run in runs]
    examples = dict(zip(keys, runs, strict=True))
    references = simulate_many(
        panel,
        decisions,
        EqualWeight().target_weights(panel, decisions),
        [benchmark_settings(run.config) for run in examples.values()],
        first.first_bar,
    )
    simulated = time.perf_counter()

    benchmarks = {
        key: _measure(simulation, run.config, None)
        for (key, run), simulation in zip(examples.items(), references, strict=True)
    }
    computed = tuple(
        _measure(simulation, run.config, benchmarks[key].simulation.net_return)
        for simulation, run, key in zip(simulations, runs, keys, strict=True)
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


def _weights(run: RunSpec, panel: Panel, decisions: IntArray) -> FloatArray:
    strategy, faults = build(run.config["strategy"], key="strategy", seed=run.strategy_seed)
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    raw = strategy.target_weights(panel, decisions)
    try:
        return np.ascontiguousarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StrategyError(
            f"target_weights must return an array of numbers of shape "
            f"({len(decisions)}, {panel.n_assets}), but got {type(raw).__name__}: {error}"
        ) from error


def _measure(
    simulation: Simulation, config: Mapping[str, Any], benchmark: FloatArray | None
) -> Computed:
    periods_per_year, risk_free_rate = _annualisation(config)
    metrics, undefined = result_metrics(
        simulation,
        periods_per_year=periods_per_year,
        risk_free_rate=risk_free_rate,
        benchmark_returns=benchmark,
    )
    return Computed(simulation=simulation, metrics=metrics, undefined=tuple(undefined))


def _annualisation(config: Mapping[str, Any]) -> tuple[float, float]:
    given = config["periods_per_year"]
    bars = periods_per_year_of(config["data"].get("freq", "1d")) if given is None else given
    return float(bars), float(config["risk_free_rate"])
