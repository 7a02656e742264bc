"""Every root key with its type, default, meaning, role and range.

Hydra composes into :class:`BatchConfig`. The nodes ``data`` and ``strategy`` are left open here:
they are constructors (``_target_`` plus arguments), and define themselves what they accept.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final

from backtest_batch.config.key import Role, key, same

AUTO: Final = "auto"
"""A number that is found out."""

ALL = -1
"""``n_jobs`` for one worker per processor, as in joblib and scikit-learn."""


def processors() -> int:
    """Return the number of processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def default_n_jobs() -> int:
    """Return the number of processors this process may use, at most 4."""
    return min(processors(), 4)


@dataclass
class ProfilingConfig:
    """Which runs are profiled with cProfile."""

    enabled: bool = key(False, Role.EXECUTION, "profile runs with cProfile")
    runs: int | None = key(None, Role.EXECUTION, "profile only the first k runs", at_least=1)


@dataclass
class TrackingConfig:
    """Where runs are recorded."""

    uri: str | None = key(
        None, Role.TRACKING, "MLflow store; else MLFLOW_TRACKING_URI, else mlruns/mlflow.db"
    )
    experiment: str | None = key(
        None,
        Role.TRACKING,
        "MLflow experiment; else MLFLOW_EXPERIMENT_NAME, else backtest_batch",
        named=True,
    )
    artifacts: str = key(
        "auto",
        Role.TRACKING,
        "artifacts of each run: auto keeps them all up to 500 runs, then those of the top 50",
        choices=("auto", "full", "top", "none"),
    )
    writer: str = key(
        "auto",
        Role.TRACKING,
        "bulk writes many runs at once into the database, client each by itself",
        choices=("auto", "client", "bulk"),
    )
    returns_max_cells: int = key(
        100_000_000, Role.TRACKING, "most values in returns.parquet", at_least=1
    )


@dataclass
class SearchConfig:
    """Which combinations of the decision axes are tried."""

    method: str = key(
        "grid",
        Role.EXECUTION,
        "all combinations, or those that a sampler proposes",
        choices=("grid", "random", "sobol", "tpe", "gp", "cmaes", "nsga2"),
    )
    n_trials: int = key(100, Role.EXECUTION, "how many decisions are evaluated", at_least=1)
    batch_size: int = key(8, Role.EXECUTION, "how many decisions a round has", at_least=1)
    seed: int = key("${seed}", Role.EXECUTION, "seed of the sampler", at_least=0)
    patience: int | None = key(
        None, Role.EXECUTION, "ends the search after so many decisions without gain", at_least=1
    )
    across: str = key(
        "first",
        Role.EXECUTION,
        "in which scenarios a decision is judged",
        choices=("first", "mean", "worst"),
    )
    sampler: dict[str, Any] = key(
        None, Role.EXECUTION, "further options of Optuna's sampler", factory=dict
    )


@dataclass
class StatisticsConfig:
    """How the statistics of the verdict are computed."""

    mean_block: Any = key(
        "auto",
        Role.REPORT,
        "mean block of the bootstrap, in bars (days, of intraday data)",
        at_least=1,
        special=(AUTO, "as the returns' own dependence asks for"),
    )


@dataclass
class PermutationConfig:
    """The search again on markets whose bars have changed places."""

    n: int | None = key(
        None,
        Role.REPORT,
        "number of permuted markets; by default 200 for a search that adapts, if that is quick",
        at_least=0,
        at_most=100_000,
    )
    mean_block: float = key(
        5.0,
        Role.REPORT,
        "mean number of bars that stay together, or of days where a day has several",
        at_least=1,
    )


@dataclass
class AuditConfig:
    """Whether the best strategies are asked again, of fewer bars."""

    enabled: bool = key(
        True, Role.REPORT, "ask the best strategies again: do they know the future?"
    )
    budget_seconds: float | None = key(
        None,
        Role.REPORT,
        "most seconds of it; else 5, or a tenth of the time of the runs if that is more",
        above=0,
    )
    decisions: int = key(
        12, Role.REPORT, "after how many decisions the future is cut off", at_least=1
    )
    tolerance: float = key(
        0.02,
        Role.REPORT,
        "share of equity by which weights may move with no more history than warmup_bars",
        at_least=0,
        at_most=10,
    )


@dataclass
class BatchConfig:
    """Every root key. One instance describes one run and the batch it belongs to."""

    batch_name: str = key(
        "sweep", Role.LABEL, "name of the batch, and of its parent run", named=True
    )
    description: str = key("", Role.LABEL, "free text, shown with the batch")
    tags: dict[str, Any] = key(None, Role.LABEL, "tags of every run of the batch", factory=dict)
    tag_names: list[str] = key(
        None, Role.LABEL, 'names that each become a tag with value "true"', factory=list
    )
    filter_tags: Any = key(
        None, Role.REPORT, "adds earlier runs with all these tags to the final comparison"
    )

    data: dict[str, Any] = key(None, Role.DECISION, "the market data (group data)", factory=dict)
    strategy: dict[str, Any] = key(
        None, Role.DECISION, "the strategy and its parameters (group strategy)", factory=dict
    )
    seed: int = key(42, Role.DECISION, "seed of every random number", at_least=0)
    start_date: str | None = key(
        None, Role.DECISION, "first measured bar; earlier bars are history for signals", date=True
    )
    end_date: str | None = key(None, Role.DECISION, "last bar", date=True)
    rebalance: str = key(
        "M", Role.DECISION, "decide at each bar, or at the end of each period", period=True
    )
    execution_lag: int = key(
        1, Role.SCENARIO, "bars between decision and execution", at_least=0, at_most=1_000
    )
    execution_price: str = key(
        "close", Role.SCENARIO, "price at which trades execute", choices=("close", "open")
    )
    initial_capital: float = key(1_000_000.0, Role.SCENARIO, "equity at the start", above=0)
    max_gross_exposure: float = key(
        1.0, Role.SCENARIO, "cap on the sum of absolute weights at a rebalance", above=0
    )
    max_weight: float | None = key(
        None, Role.SCENARIO, "cap on each absolute weight, applied first", above=0
    )
    commission_bps: float = key(
        0.5, Role.SCENARIO, "commission, basis points of traded value", at_least=0, at_most=10_000
    )
    spread_bps: float = key(
        0.0, Role.SCENARIO, "bid-ask spread; half of it is paid", at_least=0, at_most=10_000
    )
    impact_bps: float = key(
        0.0, Role.SCENARIO, "market impact, whatever the size", at_least=0, at_most=10_000
    )
    cash_rate: float = key(
        0.0, Role.SCENARIO, "annual rate earned on positive cash", at_least=-1, at_most=10
    )
    borrow_rate: float = key(
        0.0, Role.SCENARIO, "annual rate paid on negative cash", at_least=-1, at_most=10
    )
    short_fee_rate: float = key(
        0.0, Role.SCENARIO, "annual rate paid on the value of shorts", at_least=-1, at_most=10
    )
    risk_free_rate: float = key(
        "${cash_rate}",
        Role.SCENARIO,
        "annual rate that sharpe and sortino subtract",
        at_least=-1,
        at_most=10,
    )
    periods_per_year: float | None = key(
        None, Role.DECISION, "bars a year; else as many as the data has in a year", above=0
    )

    benchmark: Any = key(
        "equal_weight",
        Role.SCENARIO,
        "what runs are compared with: equal_weight, none, a symbol, a file or a strategy",
    )
    benchmark_values: str = key(
        "prices",
        Role.SCENARIO,
        "what a file of a benchmark holds",
        choices=("prices", "returns"),
    )
    factors: Any = key(
        None, Role.SCENARIO, "a file of factor returns, or symbols: alpha_factors, beta_<factor>"
    )

    n_jobs: int = key(
        None,
        Role.EXECUTION,
        "worker processes",
        factory=default_n_jobs,
        at_least=1,
        at_most=1_024,
        special=(ALL, "all processors"),
    )
    retries: int = key(
        0, Role.EXECUTION, "how often a run that failed is tried again", at_least=0, at_most=100
    )
    retry_delay_seconds: float = key(
        1.0, Role.EXECUTION, "pause before the first retry", at_least=0, at_most=3_600
    )
    retry_backoff: float = key(
        2.0, Role.EXECUTION, "each further pause is this much longer", at_least=1, at_most=100
    )
    retry_worker_failures: bool = key(
        False, Role.EXECUTION, "also retry dead workers, timeouts and exceeded memory limits"
    )
    adaptive_workers: bool = key(
        True, Role.EXECUTION, "run fewer at once while memory or processors are short"
    )
    timeout_seconds: float | None = key(
        None, Role.EXECUTION, "a run that takes longer is ended", above=0
    )
    memory_limit_mb: float | None = key(
        None, Role.EXECUTION, "a worker that grows beyond it is ended", above=0
    )
    on_failure: str = key(
        "continue",
        Role.EXECUTION,
        "whether a failed run ends the batch",
        choices=("continue", "stop"),
    )
    resume: str | None = key(None, Role.EXECUTION, "continue a batch: latest, or its batch_id")
    rerun_failed: bool = key(True, Role.EXECUTION, "whether resume runs failed runs again")
    dry_run: bool = key(False, Role.EXECUTION, "describe the batch, write nothing")
    profiling: ProfilingConfig = key(
        None, Role.EXECUTION, "which runs are profiled", factory=ProfilingConfig
    )
    max_runs: int = key(100_000, Role.EXECUTION, "a larger batch refuses to start", at_least=1)
    fast_compose: bool = key(
        True, Role.EXECUTION, "compose once a choice of groups; false asks Hydra for each run"
    )

    param_grid: Any = key(None, Role.EXECUTION, "grid: a mapping of keys to lists of values")
    runs: Any = key(
        None, Role.EXECUTION, "list of runs, each a mapping of keys with an optional id"
    )
    search: SearchConfig = key(
        None,
        Role.EXECUTION,
        "which combinations are tried (group search)",
        factory=SearchConfig,
    )
    constraint: Any = key(
        None, Role.EXECUTION, 'what combinations satisfy, such as "strategy.fast < strategy.slow"'
    )
    zip: Any = key(None, Role.EXECUTION, "lists of swept keys whose values move together")
    invalid: str = key(
        "error",
        Role.EXECUTION,
        "what becomes of combinations that a strategy itself refuses",
        choices=("error", "skip"),
    )
    batch_file: str | None = key(None, Role.EXECUTION, "YAML or JSON file with any of these keys")
    best: str | None = key(
        None, Role.EXECUTION, "best_params.json whose first run is computed again"
    )
    trust: bool = key(
        False, Role.EXECUTION, "run what a batch or file names that was recorded elsewhere"
    )
    verify: bool = key(
        False, Role.EXECUTION, "compare the results of that run with the recorded ones"
    )

    rank_by: Any = key("sharpe", Role.REPORT, "metric, or mapping of metrics to weights")
    constraints: Any = key(
        None, Role.REPORT, 'mapping of metrics to bounds, such as {max_drawdown: ">= -0.3"}'
    )
    metric_directions: Any = key(
        None, Role.REPORT, "max or min by metric of a strategy's own: which is better"
    )
    normalise: str = key(
        "rank",
        Role.REPORT,
        "how metrics become comparable in a weighted score",
        choices=("rank", "zscore", "minmax"),
    )
    scenario_axes: list[str] = key(
        None, Role.REPORT, "further keys that count as scenario axes", factory=list
    )
    decision_axes: list[str] = key(
        None, Role.REPORT, "further keys that count as decision axes", factory=list
    )
    trials: str = key(
        "experiment",
        Role.REPORT,
        "whose trials the statistics count",
        choices=("experiment", "batch"),
    )
    statistics: StatisticsConfig = key(
        None,
        Role.REPORT,
        "how the statistics of the verdict are computed",
        factory=StatisticsConfig,
    )
    permutation_test: PermutationConfig = key(
        None,
        Role.REPORT,
        "whether the search finds as much on permuted markets",
        factory=PermutationConfig,
    )
    fail_on_verdict: list[str] = key(
        None,
        Role.REPORT,
        "verdicts that make the command exit 1",
        factory=list,
        choices=("skill", "luck", "cannot_tell", "invalid"),
    )
    top_n: int = key(10, Role.REPORT, "rows of the leaderboard", at_least=1)
    audit: AuditConfig = key(
        None, Role.REPORT, "whether and how the best strategies are audited", factory=AuditConfig
    )

    walk_forward: dict[str, Any] = key(
        None,
        Role.REPORT,
        "in-sample choice, out-of-sample judgement (group walk_forward)",
        factory=dict,
    )

    tracking: TrackingConfig = key(
        None, Role.TRACKING, "where runs are recorded (group tracking)", factory=TrackingConfig
    )
    output_dir: str | None = key(
        None, Role.TRACKING, "folder of the batch's files; else mlruns/batches/<batch_id>"
    )


@dataclass
class CompareConfig:
    """Every key of the comparison command; a key of a sweep with the same name means the same."""

    batch: Any = key(
        None, Role.REPORT, "batch_id, batch_name, latest, or a list of these (default latest)"
    )
    filter_tags: Any = key(
        None, Role.REPORT, "tags that the runs have: a mapping, or names with value true"
    )
    filter: str | None = key(None, Role.REPORT, "condition in MLflow's own language")
    statuses: list[str] = key(
        None, Role.REPORT, "MLflow statuses of the runs", factory=lambda: ["FINISHED"]
    )
    rank_by: Any = same(BatchConfig, "rank_by")
    constraints: Any = same(BatchConfig, "constraints")
    metric_directions: Any = same(BatchConfig, "metric_directions")
    normalise: str = same(BatchConfig, "normalise", "rank, zscore or minmax")
    scenario_axes: list[str] = same(BatchConfig, "scenario_axes")
    decision_axes: list[str] = same(BatchConfig, "decision_axes")
    top_n: int = same(BatchConfig, "top_n")
    tracking: TrackingConfig = key(
        None, Role.TRACKING, "tracking.uri and tracking.experiment", factory=TrackingConfig
    )
    output_dir: str | None = key(
        None, Role.TRACKING, "folder of the tables; else mlruns/comparisons/<UTC time>"
    )


@dataclass
class VerdictTracking:
    """Whether and where a verdict is recorded."""

    enabled: bool | None = key(
        None,
        Role.TRACKING,
        "record the verdict in MLflow (tracking=true for short); else where a store is named",
    )
    uri: str | None = same(TrackingConfig, "uri")
    experiment: str | None = same(TrackingConfig, "experiment")

    @property
    def is_wanted(self) -> bool:
        """Whether the verdict is recorded."""
        if self.enabled is not None:
            return self.enabled
        return self.uri is not None or self.experiment is not None


@dataclass
class VerdictConfig:
    """Every key of the verdict command; a key of a sweep with the same name means the same."""

    file: str | None = key(
        None, Role.REPORT, "CSV or Parquet file: timestamps, a column of returns for each trial"
    )
    benchmark: Any = key(
        None,
        Role.REPORT,
        "a column, a file, or none (cash); else the column benchmark, if there is one",
    )
    benchmark_values: str = same(BatchConfig, "benchmark_values")
    factors: Any = key(
        None, Role.REPORT, "a file of factor returns, or columns, that must be beaten, too"
    )
    n_trials: int | None = key(
        None, Role.REPORT, "how many trials there were, if more than columns", at_least=1
    )
    decisions: str | None = key(
        None, Role.REPORT, "file with the values that each trial tried, such as rankings.csv"
    )
    scenario_axes: list[str] = same(BatchConfig, "scenario_axes")
    decision_axes: list[str] = same(BatchConfig, "decision_axes")
    returns_unit: str = key(
        "auto", Role.REPORT, "unit of the returns", choices=("auto", "percent", "fraction")
    )
    options: Any = key(
        None, Role.REPORT, "how the file is read, as in {timestamp_column: day}: keys of data=csv"
    )
    periods_per_year: float | None = key(
        None, Role.REPORT, "bars a year; else as many as the file has in a year", above=0
    )
    session_end: str | None = key(
        None, Role.REPORT, "when the market's day ends, HH:MM; else at midnight"
    )
    risk_free_rate: float = key(
        0.0, Role.REPORT, "annual rate that the Sharpe ratio subtracts", at_least=-1, at_most=10
    )
    seed: int = same(BatchConfig, "seed")
    rank_by: Any = same(BatchConfig, "rank_by")
    top_n: int = same(BatchConfig, "top_n")
    statistics: StatisticsConfig = same(BatchConfig, "statistics")
    fail_on_verdict: list[str] = same(BatchConfig, "fail_on_verdict")
    batch_name: str | None = key(
        None, Role.LABEL, "name in the report and in MLflow; else that of the file", named=True
    )
    tracking: VerdictTracking = key(
        None, Role.TRACKING, "whether and where it is recorded", factory=VerdictTracking
    )
    output_dir: str | None = key(
        None, Role.TRACKING, "folder of the files; else mlruns/verdicts/<file>-<UTC time>"
    )


@dataclass
class MonitorTracking:
    """Whether and where it is recorded what became of a winner."""

    enabled: bool = key(True, Role.TRACKING, "record it in MLflow")
    uri: str | None = key(
        None, Role.TRACKING, "MLflow store; else that of the batch, as its command named it"
    )
    experiment: str | None = key(
        None, Role.TRACKING, "MLflow experiment; else that of the batch", named=True
    )


@dataclass
class MonitorConfig:
    """Every key of the monitor command but ``data`` and those below it, which are a sweep's."""

    best: str | None = key(None, Role.REPORT, "best_params.json whose first run is followed")
    benchmark: Any = key(
        None, Role.REPORT, "what it is compared with, as newer data; else that of the batch"
    )
    benchmark_values: str | None = key(
        None, Role.REPORT, "what a file of a benchmark holds", choices=("prices", "returns")
    )
    end_date: str | None = key(
        None, Role.REPORT, "last bar; else all that the data hold", date=True
    )
    since: str | None = key(
        None, Role.REPORT, "last bar of the batch, where that is not recorded", date=True
    )
    trust: bool = same(BatchConfig, "trust")
    batch_name: str | None = key(
        None, Role.LABEL, "name in the report and in MLflow; else that of the run", named=True
    )
    tracking: MonitorTracking = key(
        None, Role.TRACKING, "whether and where it is recorded", factory=MonitorTracking
    )
    output_dir: str | None = key(
        None, Role.TRACKING, "folder of the files; else mlruns/monitors/<run>-<UTC time>"
    )


NODES = ("data", "strategy", "walk_forward")
"""Root keys that are open nodes: their constructors define what they accept."""


@cache
def roles() -> Mapping[str, Role]:
    """Return the role of each root key."""
    return {item.name: item.metadata["role"] for item in fields(BatchConfig)}


NESTED: Mapping[str, type] = {
    "profiling": ProfilingConfig,
    "tracking": TrackingConfig,
    "search": SearchConfig,
    "statistics": StatisticsConfig,
    "permutation_test": PermutationConfig,
    "audit": AuditConfig,
}
"""Root keys that are typed mappings."""

SWEEPABLE = frozenset(name for name, role in roles().items() if role.determines_results)
"""Root keys that determine results: they are in the run key and can be swept."""

SCENARIO_KEYS = frozenset(name for name, role in roles().items() if role is Role.SCENARIO)
"""Root keys with the conditions under which a strategy is judged."""

NEUTRAL: Mapping[str, Any] = {
    "benchmark": "equal_weight",
    "benchmark_values": "prices",
    "factors": None,
    "metric_directions": None,
    "data.values": "prices",
    "data.returns_unit": "auto",
    "data.kind": "ratios",
    "data.notional": None,
    "data.roll": None,
    "data.roll_adjust": "ratio",
    "data.session_end": None,
    "data.fields": None,
    "data.universe": None,
    "data.delisting_returns": None,
    "data.features": None,
    "data.features_lag": 0,
    "data.time_column": None,
    "data.thousands": None,
    "data.encoding": None,
    "data.columns": None,
}
"""Keys that were added later, each with the value that leaves results unchanged.

At this value a key is not part of any hash, so that earlier run keys and trials stay the same.
"""

MARKET_KEYS = ("data", "start_date", "end_date")
"""Root keys that say what is traded, and when; ranking over them is a choice."""
