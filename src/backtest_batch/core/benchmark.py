"""Benchmarks: found when runs are planned; their returns are computed together with the runs.

A benchmark is ``equal_weight`` of all assets, nothing, a symbol that is bought and held, the
returns in a file, or a strategy. All but a file trade on the decision bars of the run and at its
costs, without leverage.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.code import code_fingerprint
from backtest_batch.core.construct import TARGET, build, typed_node
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.cache import open_panel
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import Panel, new_panel
from backtest_batch.core.data.series import (
    OnBars,
    SeriesTable,
    Unit,
    is_series_file,
    keep_fields,
    keep_series,
    levels_on,
    open_series,
    prices_on,
    read_series,
    returns_on,
    stored_series,
)
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.engine.simulation import (
    Simulation,
    SimulationSettings,
    benchmark_settings,
    simulate_many,
)
from backtest_batch.core.fingerprint import derived_seed, digest
from backtest_batch.core.strategies.base import check_fields, target_weights
from backtest_batch.core.strategies.equal_weight import EqualWeight
from backtest_batch.errors import ConfigurationError, DataError, Fault, StrategyError
from backtest_batch.records import Benchmark, RunSpec

EQUAL_WEIGHT, NONE = "equal_weight", "none"

FORMS = (
    "equal_weight, none, a symbol, the path of a file (CSV, Parquet, Excel), or a strategy "
    "({_target_: my_module.MyStrategy, ...})"
)

LONGEST_GAP = 5
"""How many bars in a row may lack a price of their own, unless the data set another limit."""


@dataclass(frozen=True, kw_only=True)
class FoundBenchmark:
    """A benchmark, and its returns on the bars of a panel.

    Attributes
    ----------
    benchmark
        What it is.
    returns
        Its returns on the bars, without costs; None where it is not a single series.
    rows
        How many values of its own it has on each bar; None where that is not checked.
    warmup_bars
        Bars that a strategy needs before its first weight.
    notes
        What a reader of the results should know.
    way_out
        What a message says that can be done about bars which it does not cover.
    """

    benchmark: Benchmark
    returns: FloatArray | None = None
    rows: OnBars | None = None
    warmup_bars: int = 0
    notes: tuple[str, ...] = ()
    way_out: str = ": start_date and end_date say what is measured"

    def faults(self, panel: Panel, first_bar: int, longest_gap: int) -> list[Fault]:
        """Return why a run that is measured from ``first_bar`` on cannot be compared with it.

        Parameters
        ----------
        panel, first_bar
            The data of the run, and its first measured bar.
        longest_gap
            Bars in a row that may lack a value of their own.
        """
        text = self._fault(panel, first_bar, longest_gap)
        return [Fault(key="benchmark", value=self.benchmark.name, allowed=text)] if text else []

    def _fault(self, panel: Panel, first_bar: int, longest_gap: int) -> str:
        if self.warmup_bars > first_bar:
            start = moment_text(panel.index[min(self.warmup_bars, panel.n_bars - 1)])
            return (
                f"needs {self.warmup_bars} bars before its first weight, but measuring begins at "
                f"bar {first_bar}; start_date={start} measures from there"
            )
        if self.returns is None:
            return ""
        known = np.isfinite(self.returns)
        held = np.flatnonzero(known)
        if self.rows is not None and len(held):
            # Checked first: a fault of the whole series says more than bars missing at its end.
            covered_bars = range(max(first_bar + 1, int(held[0])), int(held[-1]) + 1)
            bar, length = self.rows.longest_gap(covered_bars)
            if length > longest_gap:
                return (
                    f"has nothing for {length:,} bars in a row, from "
                    f"{moment_text(panel.index[bar])}: the last value before may stand in for "
                    f"{longest_gap} (data.missing_limit)"
                )
        missing = np.flatnonzero(~known[first_bar + 1 :]) + first_bar + 1
        if len(missing):
            covered = "none of them"
            if len(held):
                ends = (moment_text(panel.index[held[0]]), moment_text(panel.index[held[-1]]))
                covered = f"{ends[0]} to {ends[1]}"
            count = "1 bar" if len(missing) == 1 else f"{len(missing):,} bars"
            return (
                f"must cover the measured bars, {moment_text(panel.index[first_bar])} to "
                f"{moment_text(panel.index[-1])}, but has no return at "
                f"{moment_text(panel.index[missing[0]])} ({count}); it has "
                f"them on {covered}{self.way_out}"
            )
        return ""

    def gap_note(self, panel: Panel, first_bar: int) -> str:
        """Return a note on measured bars without a value of their own; empty if there are none."""
        if self.rows is None:
            return ""
        empty = int((self.rows.rows[first_bar + 1 :] == 0).sum())
        if not empty:
            return ""
        name = self.benchmark.name
        return (
            f"{'benchmark' if name == 'benchmark' else f'benchmark {name}'}: {empty:,} of "
            f"{panel.n_bars - first_bar - 1:,} measured bars have no value of their own; the last "
            "one before stands in, a return of 0"
        )


def find_benchmark(
    given: Any,
    panel: Panel,
    *,
    values: str = "prices",
    source: Source | None = None,
    seed: int = 0,
    rebalance: str = "M",
) -> FoundBenchmark:
    """Return the benchmark that a configuration names.

    Parameters
    ----------
    given
        The value of the key ``benchmark``.
    panel
        The data of the run.
    values
        What a file holds: ``prices`` or ``returns``.
    source
        Where the data come from, to read a symbol that is not among them; None for no source.
    seed, rebalance
        Those of the run; the seed of a benchmark strategy is derived from them.

    Raises
    ------
    ConfigurationError
        When ``given`` names no benchmark; the message says what it may be.
    DataError
        When a file cannot be used.
    """
    if given is None or given == NONE:
        return FoundBenchmark(benchmark=Benchmark(kind="none", name=NONE))
    if isinstance(given, Mapping):
        return _found_mapping(given, panel, values, source, (seed, rebalance))
    if isinstance(given, bool | list | tuple):
        raise ConfigurationError(f"must be {FORMS}")
    name = str(given)
    if name == EQUAL_WEIGHT:
        return FoundBenchmark(benchmark=Benchmark())
    if name not in panel.symbols and names_file(name):
        return _found_series(read_series(name, are_prices=values == "prices"), panel, values)
    return _found_symbol(name, panel, source)


def names_file(text: str) -> bool:
    """Return whether a text is the path of a file and not a symbol."""
    return "/" in text or is_series_file(text)


def _found_mapping(
    given: Mapping[str, Any],
    panel: Panel,
    values: str,
    source: Source | None,
    seeded_by: tuple[int, str],
) -> FoundBenchmark:
    if TARGET in given:
        return _found_strategy(given, panel, *seeded_by)
    if set(given) == {"symbol"}:
        return _found_symbol(str(given["symbol"]), panel, source)
    found = series_of_mapping(given, values)
    assert found is not None
    table, values, unit = found
    return _found_series(table, panel, values, unit)


def series_of_mapping(
    given: Mapping[str, Any], values: str
) -> tuple[SeriesTable, str, Unit | None] | None:
    """Return the series that a mapping names, what it holds, and the unit of its returns.

    None for a mapping that names a strategy or a symbol.

    Parameters
    ----------
    given
        ``file`` with its options, ``values`` and ``unit``; or ``stored``.
    values
        What it holds unless the mapping says so: ``prices`` or ``returns``.

    Raises
    ------
    ConfigurationError
        When it names nothing.
    DataError
        When the file cannot be used.
    """
    if TARGET in given or set(given) == {"symbol"}:
        return None
    if "file" in given:
        ours = ("file", "values", "unit")
        options = {name: value for name, value in given.items() if name not in ours}
        values = given.get("values", values)
        if values not in ("prices", "returns"):
            raise ConfigurationError(f"`values` must be prices or returns, but got {values}")
        table = read_series(str(given["file"]), are_prices=values == "prices", options=options)
        return table, values, given.get("unit")
    if set(given) == {"stored"}:
        return stored_series(str(given["stored"])), values, None
    raise ConfigurationError(
        f"must be {FORMS}; a mapping has _target_, or `symbol`, or `file`, but got "
        f"{', '.join(map(str, given)) or 'nothing'}"
    )


def _found_strategy(
    node: Mapping[str, Any], panel: Panel, seed: int, rebalance: str
) -> FoundBenchmark:
    node = typed_node(node, key="benchmark")
    strategy_seed = derived_seed(seed, panel.fingerprint, node, rebalance)
    strategy, faults = build(node, key="benchmark", seed=strategy_seed)
    if faults:
        raise ConfigurationError("; ".join(f"{fault.key}: {fault.allowed}" for fault in faults))
    if not callable(getattr(strategy, "target_weights", None)):
        raise ConfigurationError(
            f"{type(strategy).__name__} has no method target_weights(panel, decisions)"
        )
    check_fields(strategy, panel)
    return FoundBenchmark(
        benchmark=Benchmark(
            kind="strategy",
            name=type(strategy).__name__,
            node=node,
            seed=strategy_seed,
            code=code_fingerprint(str(node[TARGET])),
        ),
        warmup_bars=int(getattr(strategy, "warmup_bars", 0)),
    )


def _found_series(
    table: SeriesTable, panel: Panel, values: str, unit: Unit | None = None
) -> FoundBenchmark:
    table = benchmark_table(table, values, unit)
    on_bars = table_on(table, panel.index, are_prices=values == "prices")
    return FoundBenchmark(
        benchmark=Benchmark(
            kind="series",
            name=benchmark_name(table),
            content=keep_series(panel.index, ("benchmark",), on_bars.returns),
        ),
        returns=on_bars.returns[:, 0],
        rows=on_bars,
        notes=(*table.notes, *on_bars.notes),
    )


def benchmark_table(table: SeriesTable, values: str, unit: Unit | None = None) -> SeriesTable:
    """Return the one series of a table, checked: prices, or returns as fractions.

    Parameters
    ----------
    table
        What a file or the cache holds.
    values
        ``prices`` or ``returns``.
    unit
        Unit of returns; None tells it by their size.

    Raises
    ------
    DataError
        When it has several columns, or values that no benchmark can have.
    """
    if len(table.names) != 1:
        raise DataError(
            f"{table.place} must hold timestamps and one column, but has {len(table.names)}: "
            f"{', '.join(table.names[:8])}"
        )
    if values == "returns":
        table = table.as_fractions(unit)
    table = table.without_gaps()
    if values == "returns":
        if (table.values <= -1.0).any():
            raise DataError(f"{table.place} holds a return of -100 % or less")
    elif (table.values <= 0.0).any():
        when = moment_text(table.index[int((table.values <= 0.0).any(axis=1).argmax())])
        raise DataError(
            f"{table.place} holds a price of 0 or less at {when}; benchmark_values=returns "
            "reads returns"
        )
    return table


def table_on(table: SeriesTable, index: pd.DatetimeIndex, *, are_prices: bool) -> OnBars:
    """Return the returns of a checked series on bars."""
    return prices_on(table, index) if are_prices else returns_on(table, index, empty=0.0)


def benchmark_name(table: SeriesTable) -> str:
    """Return what people read: the file, or the name of a series from memory."""
    return table.names[0] if table.place == "the given series" else table.place


def _found_symbol(symbol: str, panel: Panel, source: Source | None) -> FoundBenchmark:
    fields, rows = symbol_prices(symbol, panel, source)
    returns = np.full(panel.n_bars, np.nan)
    returns[1:] = fields["close"][1:, 0] / fields["close"][:-1, 0] - 1.0
    content, notes = "", tuple[str, ...]()
    if rows is not None:
        content = keep_fields(panel.index, (symbol,), fields)
        notes = (
            f"benchmark {symbol}: is not among the symbols that are traded, and only compared with",
        )
    return FoundBenchmark(
        benchmark=Benchmark(kind="symbol", name=symbol, content=content),
        returns=returns,
        rows=None if rows is None else OnBars(returns=returns[:, None], rows=rows),
        notes=notes,
    )


def symbol_prices(
    symbol: str, panel: Panel, source: Source | None
) -> tuple[dict[str, FloatArray], IntArray | None]:
    """Return the fields of a symbol on the bars of a panel, each of shape (n_bars, 1).

    A symbol that ``data.symbols`` or ``data.exclude`` leaves out is read from the same source. The
    second value is then how many bars of its own the symbol has on each bar of the panel; it is
    None for one of the panel's assets.

    Raises
    ------
    ConfigurationError
        When neither the panel nor the source has it; the message names similar symbols.
    """
    if symbol in panel.symbols:
        column = panel.symbols.index(symbol)
        return {
            name: np.array(values[:, column : column + 1], order="C")
            for name, values in panel.fields.items()
        }, None
    reason = ""
    if source is not None and is_dataclass(source):
        # The symbol need not be a member of the universe, and its features are not used.
        alone = replace(
            source,
            symbols=[symbol],
            symbols_file=None,
            exclude=None,
            universe=None,
            features=None,
            fields=None,
        )
        try:
            return levels_on(load_panel(alone), panel.index)
        except DataError as error:
            if "unknown symbol" not in str(error):
                raise ConfigurationError(f"'{symbol}' cannot be used: {error}") from error
            reason = f": {error}"
    else:
        close = difflib.get_close_matches(symbol, panel.symbols, n=3)
        reason = f"; did you mean {' or '.join(close)}?" if close else ""
    raise ConfigurationError(
        f"'{symbol}' is no symbol of the data{reason} (a file is named by its path, such as "
        f"{symbol}.csv)"
    )


def benchmark_identity(benchmark: Benchmark) -> Any:
    """Return what identifies a benchmark in hashes: the content of a file, never its path."""
    if benchmark.kind in (EQUAL_WEIGHT, NONE):
        return benchmark.kind
    if benchmark.kind == "series":
        return {"series": benchmark.content}
    if benchmark.kind == "symbol":
        return {"symbol": benchmark.name, "content": benchmark.content}
    return {"strategy": benchmark.node, "seed": benchmark.seed, "code": benchmark.code}


def benchmark_key_of(benchmark: Benchmark, equal_weight_key: str) -> str:
    """Return the key of a run's benchmark, given the key of equal weights; empty without one."""
    if benchmark.kind == NONE:
        return ""
    if benchmark.kind == EQUAL_WEIGHT:
        return equal_weight_key
    return digest([equal_weight_key, benchmark_identity(benchmark)])


def benchmark_simulations(
    runs: Sequence[RunSpec], panel: Panel, decisions: IntArray, first_bar: int
) -> list[Simulation | FloatArray | None]:
    """Return the benchmark of each run: an account, the returns from a file, or None.

    Parameters
    ----------
    runs
        Runs that share data and rebalance dates.
    panel, decisions
        Prices, and decision bars.
    first_bar
        First bar of the accounts; returns from a file also begin there.
    """
    measured = decisions[decisions >= first_bar]
    found: list[Simulation | FloatArray | None] = [None] * len(runs)
    groups: dict[str, list[int]] = {}
    for position, run in enumerate(runs):
        groups.setdefault(digest(benchmark_identity(run.benchmark)), []).append(position)
    for positions in groups.values():
        benchmark = runs[positions[0]].benchmark
        if benchmark.kind == "series":
            returns = np.array(open_series(benchmark.content)[first_bar:, 0])
            returns[0] = np.nan
            for position in positions:
                found[position] = returns
        elif benchmark.kind != NONE:
            settings = [benchmark_settings(runs[position].config) for position in positions]
            accounts = simulated(benchmark, panel, measured, settings, first_bar)
            for position, account in zip(positions, accounts, strict=True):
                found[position] = account
    return found


def simulated(
    benchmark: Benchmark,
    panel: Panel,
    decisions: IntArray,
    settings: Sequence[SimulationSettings],
    first_bar: int,
) -> list[Simulation]:
    """Return the accounts of a benchmark that trades, one for each of ``settings``."""
    weights: FloatArray
    if benchmark.kind == "symbol":
        panel = _alone(benchmark, panel)
        weights = np.ones((len(decisions), 1))
    else:
        strategy: Any = EqualWeight()
        if benchmark.node is not None:
            strategy, faults = build(benchmark.node, key="benchmark", seed=benchmark.seed)
            if faults:
                raise ConfigurationError("\n".join(map(str, faults)), faults)
        try:
            weights = target_weights(strategy, panel, decisions)
        except Exception as error:
            # Otherwise the user would look for the error in the strategy of the run.
            said = f"the benchmark {benchmark.name}: {type(error).__name__}: {error}"
            raise StrategyError(said) from error
    return simulate_many(panel, decisions, weights, settings, first_bar)


def _alone(benchmark: Benchmark, panel: Panel) -> Panel:
    """Return the panel of the benchmark's symbol alone."""
    if benchmark.content:
        return open_panel(benchmark.content)
    fields, _ = symbol_prices(benchmark.name, panel, None)
    return new_panel(panel.index, (benchmark.name,), fields)


def net_returns(found: Simulation | FloatArray | None) -> FloatArray | None:
    """Return the net returns of a benchmark from its first bar on."""
    return found.net_return if isinstance(found, Simulation) else found
