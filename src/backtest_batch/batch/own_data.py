"""Plan runs that read their own data (``data=none``): what is known of them beforehand."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from backtest_batch.core.benchmark import FoundBenchmark
from backtest_batch.core.construct import TARGET, build
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.data.sources.no_prices import NoPrices, names_its_data
from backtest_batch.core.factors import FoundFactors
from backtest_batch.core.fingerprint import digest
from backtest_batch.core.fitting import walks_forward
from backtest_batch.core.own_bars import bars_alone, keep_benchmark, keep_factors
from backtest_batch.core.split_settings import parse
from backtest_batch.core.strategies.base import StrategyKind
from backtest_batch.errors import ConfigurationError, DataError, Fault
from backtest_batch.records import Benchmark, RunSpec

log = logging.getLogger("backtest_batch")

_ANY_DAYS = pd.bdate_range("1950-01-02", "2099-12-31")
"""Bars on which the settings of a walk-forward are read before those of the runs are known."""


@dataclass
class OwnDataPlanner:
    """What runs without prices share while they are planned."""

    panels: dict[str, tuple[Panel, list[Fault]]] = field(default_factory=dict)
    """By node ``data``."""
    found: dict[str, tuple[FoundBenchmark, FoundFactors, list[Fault]]] = field(default_factory=dict)
    """What runs are compared with, by its keys."""

    def panel(self, config: Mapping[str, Any]) -> tuple[Panel, list[Fault]]:
        """Return a panel without bars, with the fingerprint of what the run says that it reads."""
        key = digest(config["data"])
        if key not in self.panels:
            self.panels[key] = _unknown_bars(config["data"])
        return self.panels[key]

    def compared(
        self, config: Mapping[str, Any]
    ) -> tuple[FoundBenchmark, FoundFactors, list[Fault]]:
        """Return the benchmark and the factors of a run, and what is wrong with them."""
        given = {name: config[name] for name in ("benchmark", "benchmark_values", "factors")}
        key = digest(given)
        if key not in self.found:
            self.found[key] = _compared(given)
        return self.found[key]


def _unknown_bars(node: Mapping[str, Any]) -> tuple[Panel, list[Fault]]:
    source, faults = build(node, key="data")
    fingerprint = ""
    if not faults:
        assert isinstance(source, NoPrices)
        try:
            fingerprint = source.fingerprint()
        except DataError as error:
            faults = [Fault(key="data.files", value=node.get("files"), allowed=str(error))]
    return bars_alone(pd.DatetimeIndex([], dtype="datetime64[ns]"), fingerprint), faults


def _compared(given: Mapping[str, Any]) -> tuple[FoundBenchmark, FoundFactors, list[Fault]]:
    faults = []
    benchmark = FoundBenchmark(benchmark=Benchmark(kind="none", name="none"))
    factors = FoundFactors()
    try:
        benchmark = keep_benchmark(given["benchmark"], given["benchmark_values"])
    except (ConfigurationError, DataError) as error:
        faults.append(Fault(key="benchmark", value=given["benchmark"], allowed=str(error)))
    try:
        factors = keep_factors(given["factors"])
    except (ConfigurationError, DataError) as error:
        faults.append(Fault(key="factors", value=given["factors"], allowed=str(error)))
    return benchmark, factors, faults


def needs_prices(
    config: Mapping[str, Any], kind: StrategyKind, *, fits: bool, fields: Sequence[str]
) -> list[Fault]:
    """Return why a strategy cannot run without prices.

    Parameters
    ----------
    config
        The configuration of the run.
    kind, fits, fields
        What the strategy gives, whether it has ``fit``, and the fields that it needs.
    """
    name = str(config["strategy"][TARGET]).rpartition(".")[2]
    if kind == "weights":
        text = (
            "has target_weights, which needs prices, and data=none has none: choose data, or give "
            "a function that returns its net returns"
        )
    elif fields:
        text = f"needs the field '{fields[0]}' (required_fields), and data=none has no prices"
    elif fits and walks_forward(config):
        text = "has fit, which is given prices, and data=none has none: choose data, or take it off"
    else:
        return []
    return [Fault(key="strategy", value=name, allowed=text)]


def refuse_mixed(runs: Sequence[RunSpec]) -> None:
    """Refuse a batch in which only some runs read their own data; check its walk-forward.

    Raises
    ------
    ConfigurationError
        For that, or for settings of a walk-forward that are wrong on any bars.
    """
    alone = [run for run in runs if run.own_data]
    if not alone:
        return
    if len(alone) < len(runs):
        raise ConfigurationError(
            f"data=none cannot be swept together with other data ({len(alone)} of {len(runs)} runs "
            "have it): which bars they have in common is not known before they have run. Run two "
            "batches"
        )
    config = alone[0].config
    if walks_forward(config):
        per_year = config["periods_per_year"] or 252.0
        parse(config["walk_forward"], _ANY_DAYS, per_year, config["execution_lag"])


def own_data_notes(runs: Sequence[RunSpec]) -> Iterable[str]:
    """Yield what a user should know of runs that read their own data."""
    if not all(names_its_data(run.config["data"]) for run in runs):
        yield (
            "data=none names neither data.files nor data.version, so it is not known whether the "
            "data are still the same: resume computes every run again"
        )
