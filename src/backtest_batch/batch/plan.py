"""From composed configurations to keyed, validated runs.

Nothing is computed or written here: a plan holds every run of the batch, or is refused with a list
of all that is wrong.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from backtest_batch.batch.declared import (
    DeclaredStrategy,
    Market,
    collected_warnings,
    lacking_fields,
    read_required_fields,
    refuses_arguments,
    spelt_alike,
    swept_as_typed,
)
from backtest_batch.batch.own_data import OwnDataPlanner, needs_prices, refuse_mixed
from backtest_batch.batch.plan_notes import faults_text, plan_notes, skip_notes
from backtest_batch.config.checks import config_faults
from backtest_batch.config.schema import NEUTRAL
from backtest_batch.core.backtest import first_measured_bar, read_warmup_bars
from backtest_batch.core.benchmark import (
    LONGEST_GAP,
    FoundBenchmark,
    benchmark_identity,
    benchmark_key_of,
    find_benchmark,
)
from backtest_batch.core.code import code_fingerprint
from backtest_batch.core.construct import TARGET, build, typed_node
from backtest_batch.core.data.load import load_panel, with_fields
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.sources.no_prices import has_no_prices
from backtest_batch.core.engine.calendar import unreachable_period
from backtest_batch.core.engine.frequency import Frequency
from backtest_batch.core.engine.length_change import MeasuredBars
from backtest_batch.core.factors import FoundFactors, factors_identity, find_factors
from backtest_batch.core.fingerprint import (
    OTHER_COLUMNS,
    benchmark_key,
    calendar_text,
    chunk_key,
    derived_seed,
    digest,
    new_run_id,
    result_config,
    run_key,
)
from backtest_batch.core.fitting import periods_per_year, session_end, with_fits
from backtest_batch.core.strategies.base import StrategyKind, strategy_kind
from backtest_batch.errors import ConfigurationError, DataError, Fault
from backtest_batch.interrupt import heed
from backtest_batch.masking import masked
from backtest_batch.records import Benchmark, Composition, RunSpec
from backtest_batch.values import merged_order


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every run of a batch, ready to be computed.

    Attributes
    ----------
    runs
        The runs in the order of the grid, without duplicates.
    panels
        The data by fingerprint.
    duplicates
        Names of combinations that are the same run as an earlier one, with that run's name.
    notes
        What the user should know before reading the results.
    keys
        The run key of every combination, duplicates included, in the order of the grid.
    most_runs
        How many runs there may be in the end, where they are not all known yet.
    n_skipped_cells
        Number of combinations that are no runs: they do not satisfy the constraint, or a strategy
        refuses them and ``invalid=skip`` says that they are to be left out.
    """

    runs: tuple[RunSpec, ...]
    panels: Mapping[str, Panel]
    keys: tuple[str, ...] = ()
    duplicates: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    n_skipped_cells: int = 0
    most_runs: int = 0

    @property
    def n_rows(self) -> int:
        """Rows of an array of bars that are kept for runs."""
        return max(self.most_runs, len(self.runs))

    @property
    def own_data(self) -> bool:
        """Whether its runs read their own data, so that their bars are known at their end."""
        return any(run.own_data for run in self.runs)

    @property
    def swept(self) -> tuple[str, ...]:
        """Names of the swept keys, in axis order."""
        return tuple(merged_order(run.swept for run in self.runs))


@dataclass
class _Planner:
    """What the runs of a batch share while they are planned."""

    sources: dict[tuple[str, tuple[str, ...]], Source] = field(default_factory=dict)
    panels: dict[tuple[str, str | None, tuple[str, ...]], Panel | Fault] = field(
        default_factory=dict
    )
    """By data, end date and the fields that are needed."""
    markets: dict[tuple[str, str | None], Market] = field(default_factory=dict)
    """What the timestamps of the panels say, by data and end date."""
    strategies: dict[tuple[str, int], DeclaredStrategy] = field(default_factory=dict)
    keys: dict[int, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Hashes of nodes by their identity, and the nodes, which therefore stay."""
    chunk_keys: dict[tuple[tuple[str, int], str, str, int], str] = field(default_factory=dict)
    fitted: set[str] = field(default_factory=set)
    """Run keys of the runs whose strategy has ``fit``."""
    nodes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    benchmarks: dict[str, FoundBenchmark | Fault] = field(default_factory=dict)
    factors: dict[str, FoundFactors | Fault] = field(default_factory=dict)
    alone: OwnDataPlanner = field(default_factory=OwnDataPlanner)
    """What runs without prices share."""
    covers: dict[tuple[int, int, str, int], list[Fault]] = field(default_factory=dict)
    """What is wrong with a benchmark and factors on the bars of runs; both are kept above."""
    needs: dict[str, tuple[tuple[str, ...], list[Fault]]] = field(default_factory=dict)
    """Fields that a strategy needs, by the hash of its node."""
    warnings: dict[str, None] = field(default_factory=dict)
    found: dict[str, None] = field(default_factory=dict)
    """What was found in the data and should be said, each once."""
    noted: set[tuple[int, float | None]] = field(default_factory=set)
    """Bars and numbers a year of which it was kept."""

    def typed(self, composition: Composition) -> Composition:
        """Return the combination with the arguments of its nodes converted to their types."""
        config = composition.config
        if config is None:
            return composition
        typed = {name: spelt_alike(name, value) for name, value in config.items()}
        for name in ("data", "strategy", "benchmark"):
            if isinstance(config.get(name), Mapping) and TARGET in config[name]:
                typed[name] = self._typed_node(config[name], name)
        swept = {key: swept_as_typed(typed, key, value) for key, value in composition.swept.items()}
        return replace(composition, config=typed, swept=swept)

    def _typed_node(self, node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        key = digest(node)
        if key not in self.nodes:
            self.nodes[key] = typed_node(node, key=name)
        return self.nodes[key]

    def key_of(self, node: Mapping[str, Any]) -> str:
        """Return the hash of a node; runs that have it in common are spared the work."""
        found = self.keys.get(id(node))
        if found is None:
            found = self.keys[id(node)] = (digest(node), node)
        return found[0]

    def panel(self, config: Mapping[str, Any]) -> tuple[Panel | None, list[Fault]]:
        """Return the data of a run up to its end date, with the fields that its strategy needs."""
        node, end_date = config["data"], config["end_date"]
        needed, faults = self.required_fields(config["strategy"])
        if faults:
            return None, faults
        key = (self.key_of(node), end_date, needed)
        if key not in self.panels:
            source, faults = build(node, key="data")
            if faults:
                return None, faults
            try:
                with collected_warnings(self.warnings):
                    # One source for all end dates: a database is asked once a batch.
                    known = (key[0], needed)
                    if known not in self.sources:
                        self.sources[known] = with_fields(source, needed)
                    panel = load_panel(self.sources[known], end_date=end_date)
                self.panels[key] = panel
                self.markets[key[:2]] = Market(source, panel)
            except ConfigurationError as error:
                self.panels[key] = Fault(key="end_date", value=end_date, allowed=str(error))
            except DataError as error:
                name, text = type(source).__name__, str(error)
                asked = set(needed).difference(getattr(source, "further_fields", ()))
                if lacking := [
                    field for field in needed if field in asked and f"'{field}'" in text
                ]:
                    who = str(config["strategy"].get(TARGET)).rpartition(".")[2]
                    text += f"; {who} needs {', '.join(lacking)} (required_fields)"
                self.panels[key] = Fault(key="data", value=name, allowed=text)
            except Exception as error:  # noqa: BLE001 - a source of the user's may raise anything
                name, shown = type(source).__name__, f"{type(error).__name__}: {error}"
                self.panels[key] = Fault(key="data", value=name, allowed=shown)
        found = self.panels[key]
        if isinstance(found, Fault):
            return None, [found]
        source = self.sources[key[0], needed]
        return found, lacking_fields(config["strategy"], needed, found, source)

    def required_fields(self, node: Mapping[str, Any]) -> tuple[tuple[str, ...], list[Fault]]:
        """Return the fields that a strategy needs; a class that cannot be used needs none."""
        key = self.key_of(node)
        if key not in self.needs:
            self.needs[key] = read_required_fields(node)
        return self.needs[key]

    def market(self, config: Mapping[str, Any]) -> Market:
        """Return what the timestamps of a run's data say; its panel has been loaded."""
        return self.markets[self.key_of(config["data"]), config["end_date"]]

    def note_bars(self, bars: MeasuredBars, given: float | None, end: str | None) -> None:
        """Keep what is to be said about the bars a year of a run, for which ``given`` was given."""
        if (id(bars), given) not in self.noted:
            self.noted.add((id(bars), given))
            self.found |= dict.fromkeys(bars.notes(given, end))

    def benchmark(self, config: Mapping[str, Any], panel: Panel) -> FoundBenchmark | Fault:
        """Return what a run is compared with, or what is wrong with it."""
        given, values = config["benchmark"], config["benchmark_values"]
        if given == NEUTRAL["benchmark"]:
            return _EQUAL_WEIGHT
        seeded_by = (config["seed"], config["rebalance"]) if isinstance(given, Mapping) else None
        key = digest([given, values, seeded_by, config["data"], panel.fingerprint])
        if key not in self.benchmarks:
            try:
                with collected_warnings(self.warnings):
                    self.benchmarks[key] = find_benchmark(
                        given,
                        panel,
                        values=values,
                        source=build(config["data"], key="data")[0],
                        seed=config["seed"],
                        rebalance=config["rebalance"],
                    )
            except (ConfigurationError, DataError) as error:
                self.benchmarks[key] = Fault(key="benchmark", value=given, allowed=str(error))
        found = self.benchmarks[key]
        self.warnings |= dict.fromkeys(() if isinstance(found, Fault) else found.notes)
        return found

    def explained_by(self, config: Mapping[str, Any], panel: Panel) -> FoundFactors | Fault:
        """Return the factors of a run, or what is wrong with them."""
        given = config["factors"]
        if given is None:
            return _NO_FACTORS
        key = digest([given, config["data"], panel.fingerprint])
        if key not in self.factors:
            try:
                with collected_warnings(self.warnings):
                    source = build(config["data"], key="data")[0]
                    self.factors[key] = find_factors(given, panel, source)
            except (ConfigurationError, DataError) as error:
                self.factors[key] = Fault(key="factors", value=given, allowed=str(error))
        found = self.factors[key]
        self.warnings |= dict.fromkeys(() if isinstance(found, Fault) else found.notes)
        return found

    def uncovered(
        self,
        config: Mapping[str, Any],
        benchmark: FoundBenchmark,
        factors: FoundFactors,
        panel: Panel,
        first_bar: int,
    ) -> list[Fault]:
        """Return why benchmark or factors do not fit the bars of a run; what fits is noted."""
        case = (id(benchmark), id(factors), panel.fingerprint, first_bar)
        if case not in self.covers:
            longest_gap = int(config["data"].get("missing_limit") or LONGEST_GAP)
            faults = benchmark.faults(panel, first_bar, longest_gap)
            faults += factors.faults(panel, first_bar)
            self.covers[case] = faults
            said = [benchmark.gap_note(panel, first_bar), *factors.cover_notes(panel, first_bar)]
            self.warnings |= dict.fromkeys(filter(None, said))
        return self.covers[case]

    def strategy(self, config: Mapping[str, Any], seed: int) -> DeclaredStrategy:
        """Return what the strategy of a run declares."""
        key = (self.key_of(config["strategy"]), seed)
        if key not in self.strategies:
            strategy, faults = build(config["strategy"], key="strategy", seed=seed)
            warmup, fits = 0, False
            if not faults:
                warmup, faults = read_warmup_bars(strategy)
                fits = callable(getattr(strategy, "fit", None))
            elif refuses_arguments(config["strategy"], seed):
                faults = [replace(fault, refused=True) for fault in faults]
            kind = strategy_kind(strategy) or "weights"
            self.strategies[key] = DeclaredStrategy(key, warmup, fits, tuple(faults), kind)
        return self.strategies[key]

    def chunk_key(
        self,
        config: Mapping[str, Any],
        strategy: DeclaredStrategy,
        seed: int,
        panel: Panel,
        first: int,
    ) -> str:
        """Return the hash of what runs must have in common to be computed together."""
        shared = strategy.key, calendar_text(config), panel.fingerprint, first
        if shared not in self.chunk_keys:
            self.chunk_keys[shared] = chunk_key(config, panel.fingerprint, seed, first)
        return self.chunk_keys[shared]

    def code_fingerprint(self, target: str) -> str:
        """Return the hash of the sources behind a strategy, the same for the whole batch."""
        if target not in self.codes:
            self.codes[target] = code_fingerprint(target)
        return self.codes[target]


_EQUAL_WEIGHT, _NO_FACTORS = FoundBenchmark(benchmark=Benchmark()), FoundFactors()


class Planning:
    """The runs of a batch while they are planned: combinations are added one by one."""

    def __init__(self) -> None:
        self._planner = _Planner()
        self._runs: dict[str, RunSpec] = {}
        self._panels: dict[str, Panel] = {}
        self._duplicates: list[tuple[str, str]] = []
        self._taken = set(OTHER_COLUMNS)
        self._labels: dict[str, str] = {}
        self._keys: list[str] = []

    @property
    def n_runs(self) -> int:
        """Number of distinct runs so far."""
        return len(self._runs)

    def add(self, composed: Composition) -> tuple[RunSpec | None, Sequence[Fault]]:
        """Plan a combination: return its run, which an equal one may have made, or its faults."""
        composition = self._planner.typed(composed)
        spec, panel, wrong = _plan_one(
            composition, self._planner, index=len(self._runs), taken=self._taken
        )
        if spec is None or panel is None:
            named = (replace(fault, run=composition.name) for fault in wrong)
            return None, tuple(named)
        key = spec.run_key
        self._keys.append(key)
        if key in self._runs:
            self._duplicates.append((_label(composition), self._labels[key]))
            return self._runs[key], ()
        self._runs[key] = spec
        self._labels[key] = _label(composition)
        self._panels[spec.data_fingerprint] = panel
        self._taken.add(spec.run_id.lower())
        return spec, ()

    def add_together(
        self, compositions: Iterable[Composition], *, trial: int, search_round: int
    ) -> tuple[list[RunSpec], Sequence[Fault]]:
        """Plan the combinations of a decision: all of them, or none where one is invalid.

        Parameters
        ----------
        compositions
            The combinations.
        trial, search_round
            Those of the runs that are new.
        """
        known = len(self._runs), len(self._keys), len(self._duplicates)
        found: list[RunSpec] = []
        for composition in compositions:
            spec, faults = self.add(composition)
            if spec is None:
                for run in list(self._runs.values())[known[0] :]:
                    del self._runs[run.run_key], self._labels[run.run_key]
                    self._taken.discard(run.run_id.lower())
                del self._keys[known[1] :], self._duplicates[known[2] :]
                return [], faults
            if spec.index >= known[0]:
                spec = replace(spec, trial=trial, search_round=search_round)
                self._runs[spec.run_key] = spec
            found.append(spec)
        return found, ()

    def plan(self, most_runs: int = 0) -> Plan:
        """Return the plan of what was added; ``most_runs`` is part of it.

        Raises
        ------
        ConfigurationError
            When the settings of the walk-forward are wrong, or the data too short for one split.
        """
        planner, runs = self._planner, self._runs
        refuse_mixed(list(runs.values()))
        planned = with_fits(list(runs.values()), self._panels, planner.fitted)
        renamed = dict(zip(runs, (run.run_key for run in planned), strict=True))
        # They look at all runs: while more follow, they are not made.
        notes = () if most_runs else plan_notes(planned, self._panels, self._duplicates)
        return Plan(
            runs=planned,
            panels=dict(self._panels),
            keys=tuple(renamed[key] for key in self._keys),
            duplicates=tuple(self._duplicates),
            notes=(*planner.warnings, *planner.found, *notes),
            most_runs=most_runs,
        )


def make_plan(
    compositions: Iterable[Composition],
    *,
    invalid: str = "error",
    n_left_out: int = 0,
    at_most: int | None = None,
) -> Plan:
    """Check every combination, load its data once, and key the runs.

    Parameters
    ----------
    compositions
        The combinations.
    invalid
        ``skip`` leaves out the combinations that a strategy itself refuses.
    n_left_out
        Number of combinations that a constraint has left out.
    at_most
        Number of runs after which no further combination is looked at; None looks at all.

    Raises
    ------
    ConfigurationError
        When any combination is invalid, or all are refused; its message and ``faults`` list all
        that is wrong.
    """
    planning = Planning()
    faults: list[Fault] = []
    refused: list[Fault] = []
    n_combinations = n_invalid = 0
    for composed in compositions:
        if at_most is not None and planning.n_runs >= at_most:
            break
        heed()
        n_combinations += 1
        spec, wrong = planning.add(composed)
        if invalid == "skip" and wrong and all(fault.refused for fault in wrong):
            refused.append(wrong[0])
            continue
        n_invalid += spec is None
        faults += wrong
    if faults:
        raise ConfigurationError(faults_text(faults, n_invalid, n_combinations), faults)
    if not planning.n_runs and refused:
        _, *lines = faults_text(refused, len(refused), n_combinations).splitlines()
        head = "The strategy refuses" + (
            " the only combination"
            if n_combinations == 1
            else f" all {n_combinations:,} combinations"
        )
        said = f"{head}, and invalid=skip leaves it out: nothing was run, there is nothing to run."
        raise ConfigurationError("\n".join([said, *lines]), refused)
    plan = planning.plan()
    notes = (*skip_notes(n_left_out, refused, n_combinations), *plan.notes)
    return replace(plan, notes=notes, n_skipped_cells=n_left_out + len(refused))


def _label(composition: Composition) -> str:
    """Return what tells a combination from the others: the id it was given, or its values."""
    return composition.run_id or composition.name or "base"


def _plan_one(
    composition: Composition, planner: _Planner, *, index: int, taken: Collection[str]
) -> tuple[RunSpec | None, Panel | None, Sequence[Fault]]:
    config = composition.config
    if config is None:
        return None, None, composition.faults
    faults = list(config_faults(config))
    if has_no_prices(config["data"]):
        return _plan_without_prices(composition, config, planner, faults, index=index, taken=taken)
    panel: Panel | None = None
    data_faults: list[Fault] = []
    if not any(fault.key in ("start_date", "end_date") for fault in faults):
        panel, data_faults = planner.panel(config)
    # One fault must not hide the others.
    seed = 0
    if panel is not None:
        seed = derived_seed(
            config["seed"], panel.fingerprint, config["strategy"], config["rebalance"]
        )
    strategy = planner.strategy(config, seed)
    faults += [*data_faults, *strategy.faults]
    if panel is not None and config["execution_price"] in ("close", "open"):
        faults += _unpriced(config["execution_price"], panel)
    first_bar = strategy.warmup_bars
    if panel is not None and not strategy.faults:
        first_bar, late = first_measured_bar(config, panel, strategy.warmup_bars)
        faults += late
    if panel is None:
        return None, None, faults
    bars = planner.market(config).lengths.measured(first_bar)
    faults += _unreachable(config["rebalance"], bars.frequency, faults)
    faults += _mixed(config["periods_per_year"], bars)
    given = config["periods_per_year"]
    config = planner.market(config).resolved(config, bars.frequency)
    benchmark, factors = planner.benchmark(config, panel), planner.explained_by(config, panel)
    if isinstance(benchmark, Fault) or isinstance(factors, Fault):
        return None, None, [*faults, *(x for x in (benchmark, factors) if isinstance(x, Fault))]
    faults += [] if faults else planner.uncovered(config, benchmark, factors, panel, first_bar)
    if faults:
        return None, None, faults
    planner.note_bars(bars, given, session_end(config))
    spec = _described(
        composition, config, planner, panel, strategy, benchmark, factors, index=index, taken=taken
    )
    if strategy.fits:
        planner.fitted.add(spec.run_key)
    spec = replace(
        spec,
        strategy_seed=seed,
        first_bar=first_bar,
        n_bars=panel.n_bars,
        benchmark_key=benchmark_key_of(
            benchmark.benchmark,
            benchmark_key(config, panel.fingerprint, first_bar, periods_per_year(config)),
        ),
        chunk_key=_alone_if_account(
            strategy.kind,
            spec.run_key,
            planner.chunk_key(config, strategy, seed, panel, first_bar),
        ),
    )
    return spec, panel, ()


_OF_BATCHES = frozenset(
    {"search", "constraint", "zip", "invalid", "statistics", "permutation_test", "audit"}
)
"""Keys that say which runs a batch has and how all are judged, and nothing about any of them."""


def _of_a_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without the keys that are the batch's alone."""
    return {key: value for key, value in config.items() if key not in _OF_BATCHES}


def _plan_without_prices(
    composition: Composition,
    config: Mapping[str, Any],
    planner: _Planner,
    faults: list[Fault],
    *,
    index: int,
    taken: Collection[str],
) -> tuple[RunSpec | None, Panel | None, Sequence[Fault]]:
    """Plan a run whose strategy reads its own data."""
    panel, wrong = planner.alone.panel(config)
    seed = derived_seed(config["seed"], panel.fingerprint, config["strategy"], config["rebalance"])
    strategy = planner.strategy(config, seed)
    fields, unusable = planner.required_fields(config["strategy"])
    faults = [*faults, *wrong, *strategy.faults, *unusable]
    if not strategy.faults:
        faults += needs_prices(config, strategy.kind, fits=strategy.fits, fields=fields)
    benchmark, factors, uncompared = planner.alone.compared(config)
    faults += uncompared
    if faults:
        return None, None, faults
    planner.warnings |= dict.fromkeys((*benchmark.notes, *factors.notes))
    spec = _described(
        composition, config, planner, panel, strategy, benchmark, factors, index=index, taken=taken
    )
    spec = replace(spec, strategy_seed=seed, own_data=True)
    return spec, panel, ()


def _described(
    composition: Composition,
    config: Mapping[str, Any],
    planner: _Planner,
    panel: Panel,
    strategy: DeclaredStrategy,
    benchmark: FoundBenchmark,
    factors: FoundFactors,
    *,
    index: int,
    taken: Collection[str],
) -> RunSpec:
    """Return the keys and names of a valid run; which bars it has is not in it yet."""
    config_hash = digest(result_config(_by_content(config, benchmark, factors)))
    code = planner.code_fingerprint(str(config["strategy"]["_target_"]))
    key = run_key(config_hash, panel.fingerprint, code)
    return RunSpec(
        index=index,
        run_id=new_run_id(composition, key, taken),
        run_name=masked(composition.name or composition.run_id or "base"),
        run_key=key,
        config_hash=config_hash,
        swept=composition.labels,
        config=_of_a_run(config),
        overrides=tuple(masked(item) for item in composition.overrides),
        data_fingerprint=panel.fingerprint,
        code_fingerprint=code,
        strategy_seed=0,
        first_bar=0,
        n_bars=0,
        benchmark=benchmark.benchmark,
        factors=factors.factors,
        chunk_key=key,
        strategy_kind=strategy.kind,
    )


def _alone_if_account(kind: StrategyKind, run_key: str, chunk: str) -> str:
    """Return the chunk key of a run; a strategy that makes its own account shares no work."""
    return chunk if kind == "weights" else digest([chunk, run_key])


def _by_content(
    config: Mapping[str, Any], benchmark: FoundBenchmark, factors: FoundFactors
) -> dict[str, Any]:
    """Return a configuration in which content stands for the files of benchmark and factors."""
    return {
        **config,
        "benchmark": benchmark_identity(benchmark.benchmark),
        "benchmark_values": NEUTRAL["benchmark_values"],
        "factors": factors_identity(factors.factors),
    }


def _unreachable(rebalance: str, found: Frequency, faults: Sequence[Fault]) -> list[Fault]:
    """Return what is wrong with periods that the bars of the data cannot keep."""
    allowed = None
    if not any(fault.key == "rebalance" for fault in faults):
        with suppress(ValueError):  # it stands among other faults that are said first
            allowed = unreachable_period(rebalance, found)
    return [] if allowed is None else [Fault(key="rebalance", value=rebalance, allowed=allowed)]


def _mixed(given: Any, bars: MeasuredBars) -> list[Fault]:
    """Return the fault where bars of several lengths are to be annualised with one number."""
    if given is not None or bars.mixed is None:
        return []
    return [Fault(key="periods_per_year", value=None, allowed=bars.mixed.refusal())]


def _unpriced(execution_price: str, panel: Panel) -> list[Fault]:
    """Return the fault when the data lack the prices to execute at."""
    if execution_price in panel.fields:
        return []
    allowed = f"needs {execution_price} prices, but the data has only: {', '.join(panel.fields)}"
    return [Fault(key="execution_price", value=execution_price, allowed=allowed)]
