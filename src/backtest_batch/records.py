"""The frozen records that the rooms hand to each other.

A plan is a list of :class:`RunSpec`; a worker answers each with a :class:`RunResult` or a
:class:`RunFailure`; tracking stores the :class:`RunRecord` that pairs them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from backtest_batch.errors import Fault
from backtest_batch.masking import masked_values
from backtest_batch.values import value_text

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from backtest_batch.search.space import Point, SearchSpace

T = TypeVar("T")

Scalar = str | int | float | bool | None

RUN_FILES = (
    "equity.parquet",
    "target_weights.parquet",
    "trades.parquet",
    "metrics.csv",
    "config.yaml",
    "run.json",
)
"""Files of each run that keeps its files; see also :meth:`RunResult.files`."""

MAY_BE_UNKNOWN = ("target_weights.parquet", "trades.parquet")
"""Those that a strategy which makes its own account need not give."""

STRATEGY_KIND = "strategy_kind"
"""The tag that says whether a strategy gives target weights or makes its own account."""

BARS_OF_RUN = ("bars_first", "bars_last", "bars_count", "bars_a_year")
"""Tags of a run that has read its own data: its measured bars, and how many make a year."""


@dataclass(frozen=True, kw_only=True)
class Composition:
    """One combination of a batch, composed but not yet checked.

    Attributes
    ----------
    swept
        Values by swept key, in axis order. A swept group has the name of the choice.
    config
        The resolved configuration as plain values, every root key; None when there are faults.
    overrides
        Command-line arguments that compose this configuration again.
    run_id
        The given id, or None.
    faults
        The faults in keys and types.
    """

    swept: Mapping[str, Scalar]
    config: Mapping[str, Any] | None
    overrides: tuple[str, ...]
    run_id: str | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def labels(self) -> Mapping[str, Scalar]:
        """The swept values that name and describe the run: without secrets."""
        labels: Mapping[str, Scalar] = masked_values(self.swept)
        return labels

    @property
    def name(self) -> str:
        """Its name for people: ``commission_bps=0.5 max_gross_exposure=0.8``."""
        return " ".join(f"{key}={value_text(value)}" for key, value in self.labels.items())


class ComposesPoints(Protocol):
    """What a search may propose, composed when it is proposed."""

    @property
    def space(self) -> "SearchSpace":
        """What is chosen."""

    @property
    def n_scenarios(self) -> int:
        """How many runs a proposal has."""

    @property
    def constraint(self) -> str:
        """What must hold, for people; empty for nothing."""

    def holds(self, point: "Point") -> bool:
        """Return whether a point satisfies the constraint."""

    def compose(self, point: "Point") -> Iterable[Composition]:
        """Return the combinations of a point, one for each scenario, in order."""


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """A batch as requested.

    Attributes
    ----------
    config
        The configuration of the batch itself, every root key; swept keys have their first value.
    compositions
        The combinations. Each iteration composes them anew, one by one: there may be many.
    size
        Number of combinations; with a search, the most that there may be.
    axes
        Number of values of each swept key, in axis order; empty for a list of runs.
    overrides
        The command's arguments, with files and flags expanded.
    arguments
        The same, including those for Hydra itself (``--config-dir``, ``hydra/launcher=...``).
    proposals
        What a search may propose; None where every combination is computed.
    size_text
        Of which sizes the grid is the product, for people; empty for a list of runs.
    count_values
        Returns how many different values some of the swept keys have together, those for whose
        names a function returns True.
    n_left_out
        Number of combinations that do not satisfy ``constraint``; they are no runs.
    """

    config: Mapping[str, Any]
    compositions: Iterable[Composition]
    size: int
    axes: Mapping[str, int]
    overrides: tuple[str, ...]
    arguments: tuple[str, ...]
    proposals: ComposesPoints | None = None
    size_text: str = ""
    count_values: Callable[[Callable[[str], bool]], int] = lambda _: 0
    n_left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What runs are compared with, as it was found when they were planned.

    Attributes
    ----------
    kind
        ``equal_weight`` of all assets; ``none``; a ``symbol`` that is bought and held; a
        ``series`` of returns out of a file; a ``strategy``.
    name
        What people read.
    content
        Fingerprint of what the cache keeps of it: the series, or the prices of a symbol that is
        not among those that are traded.
    node
        The strategy: ``_target_`` and its arguments.
    seed
        Seed of its random numbers.
    code
        sha256 of its sources.
    """

    kind: Literal["equal_weight", "none", "symbol", "series", "strategy"] = "equal_weight"
    name: str = "equal_weight"
    content: str = ""
    node: Mapping[str, Any] | None = None
    seed: int = 0
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Returns that those of runs are explained by, as they were found when these were planned.

    Attributes
    ----------
    names
        Names of the factors; the metrics are ``beta_<name>``.
    content
        Fingerprint of their returns in the cache.
    are_excess
        Whether they are above the risk-free rate already, as those of a file are.
    """

    names: tuple[str, ...]
    content: str
    are_excess: bool = True


@dataclass(frozen=True, kw_only=True)
class PermutedMarket:
    """A market whose bars have changed places.

    Attributes
    ----------
    number
        Which one, from 1.
    seed
        Seed of all of them.
    mean_block
        Mean number of bars, or of days where a day has several, that stay together.
    """

    number: int
    seed: int
    mean_block: float


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One configuration to backtest once.

    Attributes
    ----------
    index
        Position in the batch, from 0.
    run_id
        Name of the run within its batch, safe as a file name (``run_0.5_0.8``).
    run_name
        Name for people (``commission_bps=0.5 max_gross_exposure=0.8``).
    run_key
        Hash of everything that determines the result. Same key, same result.
    config_hash
        sha256 of the resolved configuration alone, the part of ``run_key`` without data and code.
    swept
        Values of the swept keys, in axis order. A swept group has the name of the choice.
    config
        The resolved configuration as plain values, every root key.
    overrides
        Command-line arguments that compose this configuration again.
    data_fingerprint
        sha256 of the data that the run uses.
    code_fingerprint
        sha256 of the sources that determine the result.
    strategy_seed
        Seed of the strategy's random numbers, the same for all runs that differ in costs only.
    first_bar, n_bars
        Position of the first measured bar, and how many bars the run's data has.
    fit_bars
        First and last (exclusive) of the return bars that a walk-forward splits, if the strategy is
        fitted on the training bars of each split; None if nothing is fitted.
    benchmark, factors
        What it is compared with, and explained by; None for no factors.
    benchmark_key
        Hash of everything that determines the run's benchmark; runs with the same hash share one.
        Empty without a benchmark, and in a run that an earlier version recorded.
    chunk_key
        Hash of what runs must have in common to be computed together; empty likewise.
    strategy_kind
        Whether the strategy gives target ``weights`` or makes its own ``account``.
    trial, search_round
        Of a run that a search has chosen: when its decision was asked for, and in which round, both
        from 1; else 0.
    own_data
        Whether it reads its own data (``data=none``). Its bars are then known when it has ended,
        and ``n_bars`` is 0 until then.
    market
        The permuted market that it is computed on; None for the real one.
    """

    index: int
    run_id: str
    run_name: str
    run_key: str
    config_hash: str
    swept: Mapping[str, Scalar]
    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    data_fingerprint: str
    code_fingerprint: str
    strategy_seed: int
    first_bar: int
    n_bars: int
    fit_bars: tuple[int, int] | None = None
    benchmark: Benchmark = field(default_factory=Benchmark)
    factors: Factors | None = None
    benchmark_key: str = ""
    chunk_key: str = ""
    strategy_kind: Literal["weights", "account"] = "weights"
    trial: int = 0
    search_round: int = 0
    own_data: bool = False
    market: PermutedMarket | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of a run.

    Attributes
    ----------
    metrics
        Result metrics by name; an undefined one is absent.
    undefined_metrics
        Names of the metrics that are not defined for this run.
    tags
        Facts of the run (``ruined``, ``untradable_weights``, ``scaled_decisions``,
        ``strategy_inputs``, ``inputs_unknown``).
    n_decisions, scaled_by
        How many decisions were executed, and how many of them each cap scaled down; unknown for a
        run of an earlier attempt.
    runtime_s, cpu_s
        Wall and processor seconds; runs computed together share the chunk's time evenly.
    peak_rss_mb
        Highest resident memory of the process while it computed the run, in MiB.
    chunk_runs
        How many runs were computed together.
    artifacts
        Folder with the files of the run, or None if none were wanted.
    timings
        Seconds by step: load, signals, simulate, metrics, write.
    in_sample
        For a run with a fitted strategy: metrics on the training bars, one value per split.
    """

    metrics: Mapping[str, float]
    undefined_metrics: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    n_decisions: int = 0
    scaled_by: Mapping[str, int] = field(default_factory=dict)
    runtime_s: float
    cpu_s: float
    peak_rss_mb: float
    chunk_runs: int = 1
    artifacts: Path | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    in_sample: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that a folder of the run must have to be whole."""
        if self.tags.get(STRATEGY_KIND) != "account":
            return RUN_FILES
        return tuple(name for name in RUN_FILES if name not in MAY_BE_UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class RunFailure:
    """Why a run has no result.

    Attributes
    ----------
    error_type
        Name of the exception, or WorkerDied, RunTimeout, MemoryLimitExceeded.
    error_message
        Its message; for a very long one its beginning and end.
    traceback
        The traceback as text, shortened likewise; empty when the process died.
    log
        The log lines that belong to the run.
    artifacts
        Folder with further files of the run (its profile), or None.
    """

    error_type: str
    error_message: str
    traceback: str = ""
    log: str = ""
    artifacts: Path | None = None


Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One ended run, to be recorded, ranked and reported.

    Attributes
    ----------
    spec
        The requested run.
    outcome
        Its result or its failure; None if it was interrupted.
    attempts
        How often it was computed; repeats caused by another run's crash do not count.
    started_ms, ended_ms
        Milliseconds since the epoch.
    """

    spec: RunSpec
    outcome: RunResult | RunFailure | None
    attempts: int
    started_ms: int
    ended_ms: int

    @property
    def status(self) -> Status:
        """MLflow's status of the run."""
        if isinstance(self.outcome, RunResult):
            return "FINISHED"
        return "KILLED" if self.outcome is None else "FAILED"


@lru_cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def fields_of(item: Any) -> dict[str, Any]:  # Any: a record of any kind
    """Return the fields of a record, and of the records in it, as plain values."""
    kind: Any = type(item)
    values: dict[str, Any] = _adapter(kind).dump_python(item, warnings=False)
    return values


def record_of(kind: type[T], values: Any) -> T:
    """Return the record whose fields are ``values``.

    Raises
    ------
    ValueError
        When they do not fit such a record.
    """
    wanted: Any = kind  # mypy considers a type unhashable
    record: T = _adapter(wanted).validate_python(values)
    return record
