"""Runs that read their own data (``data=none``): their bars are those that they hand back.

A benchmark or factors out of a file are kept in the cache as they are read, and set on the bars of
each run when these are known.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray
from backtest_batch.core.account import Account
from backtest_batch.core.benchmark import (
    EQUAL_WEIGHT,
    LONGEST_GAP,
    NONE,
    FoundBenchmark,
    benchmark_name,
    benchmark_table,
    names_file,
    series_of_mapping,
    table_on,
)
from backtest_batch.core.conditions import Conditions, conditions_of
from backtest_batch.core.construct import TARGET
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.data.series import keep_series, read_series, stored_series
from backtest_batch.core.engine.length_change import BarLengths
from backtest_batch.core.engine.spacing import SESSIONS_PER_YEAR
from backtest_batch.core.factors import (
    FoundFactors,
    factor_names,
    factor_table,
    factors_of_file,
    factors_on,
)
from backtest_batch.core.fitting import periods_per_year
from backtest_batch.core.own_account import (
    OwnAccount,
    as_account,
    name_of,
    read_account,
    require_order,
    timestamps_of,
)
from backtest_batch.errors import ConfigurationError, DataError, StrategyError
from backtest_batch.records import BARS_OF_RUN, Benchmark, Factors, RunSpec

PRICES, RETURNS = "prices", "returns"
"""What the column of a kept benchmark holds, which is its name."""

NO_EQUAL_WEIGHT = (
    "data=none has no prices, and so no benchmark of equal weights: runs are compared with cash; "
    "benchmark=FILE compares them with a file"
)

_NEEDS_PRICES = "needs prices, and data=none has none; name a file (benchmark=SPY.csv), or none"
_DAY, _SATURDAY = pd.Timedelta(days=1), 5


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnRun:
    """A run that has read its own data.

    Attributes
    ----------
    spec
        The run, with the bars a year of its returns in its configuration.
    panel
        Its bars, without prices.
    account
        What it handed back, checked.
    benchmark
        Returns of its benchmark from the first measured bar on; None without one.
    factors
        Returns of its factors on the bars, shape (n_bars, n_factors); None without any.
    """

    spec: RunSpec
    panel: Panel
    account: OwnAccount
    benchmark: FloatArray | None
    factors: FloatArray | None


def ask_without_prices(strategy: Any, run: RunSpec) -> OwnRun:
    """Ask a strategy that reads its own data for its account.

    Its bars are the timestamps that it hands back. Measuring begins on the bar before the first
    return. A return that is not 0 on the very first timestamp counts as well: a bar before it is
    added, on which the account is opened.

    Raises
    ------
    StrategyError
        When what it returns is no account.
    DataError
        When the benchmark or the factors do not cover its bars.
    Exception
        Whatever the strategy raises.
    """
    conditions = conditions_of(run.config, 0, np.empty(0, dtype=np.int64))
    panel, account = account_without_prices(strategy, conditions)
    return OwnRun(
        spec=with_bars_a_year(run, panel.index[account.first_bar :], name_of(strategy)),
        panel=panel,
        account=account,
        benchmark=_compared(run, panel, account.first_bar),
        factors=_explained(run, panel, account.first_bar),
    )


def account_without_prices(strategy: Any, conditions: Conditions) -> tuple[Panel, OwnAccount]:
    """Return the account of a strategy that reads its own data, and its bars as a panel.

    Raises
    ------
    StrategyError
        When what it returns is no account.
    Exception
        Whatever the strategy raises.
    """
    who = name_of(strategy)
    given = as_account(strategy.backtest(None, conditions), who)
    index, first_bar = _bars_of(given, who)
    panel = bars_alone(index)
    return panel, read_account(given, panel, replace(conditions, first_bar=first_bar), who=who)


def bars_alone(index: pd.DatetimeIndex, fingerprint: str = "") -> Panel:
    """Return a panel that has bars, and no prices."""
    return Panel(index=index, symbols=(), fields={}, fingerprint=fingerprint)


def with_bars_a_year(run: RunSpec, index: pd.DatetimeIndex, who: str = "") -> RunSpec:
    """Return a run with its number of bars, and with the bars a year of an index.

    Raises
    ------
    StrategyError
        When bars of several lengths are to be annualised with one number.
    """
    given = run.config["periods_per_year"]
    if given is None:
        bars = BarLengths(index).measured()
        if bars.mixed is not None:
            raise StrategyError(f"{who}: {bars.mixed.refusal(has_dates=False)}")
        given = bars.frequency.per_year or SESSIONS_PER_YEAR
    return replace(run, n_bars=len(index), config={**run.config, "periods_per_year": float(given)})


def keep_benchmark(given: Any, values: str) -> FoundBenchmark:
    """Return the benchmark that a configuration names, a file or none, and keep it in the cache.

    Parameters
    ----------
    given
        The value of the key ``benchmark``.
    values
        What a file holds: ``prices`` or ``returns``.

    Raises
    ------
    ConfigurationError
        When it names something that needs prices, or nothing that is known.
    DataError
        When the file cannot be used.
    """
    nothing = FoundBenchmark(benchmark=Benchmark(kind="none", name=NONE))
    if given is None or given == NONE:
        return nothing
    if given == EQUAL_WEIGHT:
        return replace(nothing, notes=(NO_EQUAL_WEIGHT,))
    if isinstance(given, Mapping):
        found = series_of_mapping(given, values)
        if found is None:
            what = "a strategy" if TARGET in given else "a symbol"
            raise ConfigurationError(f"{what} {_NEEDS_PRICES}")
        table, values, unit = found
    elif isinstance(given, str) and names_file(given):
        table, unit = read_series(given, are_prices=values == PRICES), None
    else:
        raise ConfigurationError(f"the symbol {given} {_NEEDS_PRICES}")
    table = benchmark_table(table, values, unit)
    content = keep_series(table.index, (values,), table.values)
    kept = Benchmark(kind="series", name=benchmark_name(table), content=content)
    return FoundBenchmark(benchmark=kept, notes=table.notes)


def keep_factors(given: Any) -> FoundFactors:
    """Return the factors that a configuration names, of a file, and keep them in the cache.

    Raises
    ------
    ConfigurationError
        When it names symbols, or nothing that is known.
    DataError
        When the file cannot be used.
    """
    if given is None or given == NONE:
        return FoundFactors()
    found = factors_of_file(given)
    if found is None:
        raise ConfigurationError(
            "symbols need prices, and data=none has none; name a file with one column a factor"
        )
    table, said = factor_table(*found)
    content = keep_series(table.index, table.names, table.values)
    return FoundFactors(
        factors=Factors(names=factor_names(table.names, table.place), content=content),
        place=table.place,
        notes=said,
    )


def benchmark_on(run: RunSpec, index: pd.DatetimeIndex) -> FoundBenchmark:
    """Return the benchmark of a run on the bars of an index."""
    benchmark = run.benchmark
    if benchmark.kind == "none":
        return FoundBenchmark(benchmark=benchmark)
    table = replace(stored_series(benchmark.content), place=benchmark.name)
    on_bars = table_on(table, index, are_prices=table.names == (PRICES,))
    return FoundBenchmark(
        benchmark=benchmark,
        returns=on_bars.returns[:, 0],
        rows=on_bars,
        notes=on_bars.notes,
        way_out="",
    )


def explaining_on(run: RunSpec, index: pd.DatetimeIndex) -> FoundFactors:
    """Return the factors of a run on the bars of an index."""
    if run.factors is None:
        return FoundFactors()
    return factors_on(stored_series(run.factors.content), index, run.factors)


def _compared(run: RunSpec, panel: Panel, first_bar: int) -> FloatArray | None:
    found = benchmark_on(run, panel.index)
    faults = found.faults(panel, first_bar, LONGEST_GAP)
    if faults:
        raise DataError(str(faults[0]))
    if found.returns is None:
        return None
    returns = np.array(found.returns[first_bar:])
    returns[0] = math.nan
    return returns


def _explained(run: RunSpec, panel: Panel, first_bar: int) -> FloatArray | None:
    found = explaining_on(run, panel.index)
    faults = found.faults(panel, first_bar)
    if faults:
        raise DataError(str(faults[0]))
    return found.returns


def _bars_of(given: Account, who: str) -> tuple[pd.DatetimeIndex, int]:
    """Return the timestamps of an account, and the position of its first measured bar."""
    series: Mapping[str, Any] = {
        name: value
        for name, value in (("net_return", given.net_return), ("equity", given.equity))
        if value is not None
    }
    index: pd.DatetimeIndex | None = None
    for name, value in series.items():
        if not isinstance(value, pd.Series):
            raise StrategyError(
                f"{who}: {name} must be a pandas Series by timestamp, but got "
                f"{type(value).__name__}"
            )
        if not len(value):
            raise StrategyError(f"{who}: {name} holds no bars")
        stamps = timestamps_of(value.index, f"{who}: {name}")
        require_order(stamps, f"{who}: {name}")
        if index is not None and str(index.tz) != str(stamps.tz):
            raise StrategyError(
                f"{who}: net_return is in the time zone {index.tz or 'none'}, equity in "
                f"{stamps.tz or 'none'}; tz_convert or tz_localize makes them one"
            )
        index = stamps if index is None else index.union(stamps)
    assert index is not None
    name = "net_return" if given.equity is None else "equity"
    known = np.flatnonzero(series[name].notna().to_numpy())
    if not len(known):
        raise StrategyError(f"{who}: {name} holds NaN only")
    moment = timestamps_of(series[name].index[known[:1]], who)[0]
    first = int(index.searchsorted(moment))
    if given.equity is not None:
        return index, first
    if first > 0:
        return index, first - 1
    if series[name].iloc[0] == 0.0 and len(index) > 1:
        return index, 0
    return index.insert(0, _bar_before(index)), 0


def _bar_before(index: pd.DatetimeIndex) -> pd.Timestamp:
    """Return a timestamp before the first one, as far away as they usually are from each other.

    Bars of days or longer keep their time of day, and miss weekends if the others do.
    """
    steps = np.diff(index.asi8)
    step = pd.Timedelta(int(np.median(steps)), "ns") if len(steps) else _DAY
    if step < _DAY:
        return index[0] - step
    before = index[0].tz_localize(None) - step.floor("D")
    days = set(index.day_of_week)
    while before.day_of_week >= _SATURDAY and before.day_of_week not in days:
        before -= _DAY
    return before.tz_localize(index.tz, ambiguous=True, nonexistent="shift_forward")


def own_bars_tags(run: RunSpec, index: pd.DatetimeIndex) -> dict[str, str]:
    """Return the tags that say which bars a run has."""
    values = (index[0].isoformat(), index[-1].isoformat(), len(index), periods_per_year(run.config))
    return {name: str(value) for name, value in zip(BARS_OF_RUN, values, strict=True)}


def with_recorded_bars(run: RunSpec, tags: Mapping[str, str]) -> RunSpec:
    """Return a run with what these tags say of its bars; as it is where they say nothing."""
    try:
        n_bars, per_year = int(tags["bars_count"]), float(tags["bars_a_year"])
    except (KeyError, ValueError):
        return run
    return replace(run, n_bars=n_bars, config={**run.config, "periods_per_year": per_year})
