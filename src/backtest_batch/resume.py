"""Continue a batch: find it, restore its command, and take over the runs that it finished."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml

from backtest_batch.batch.chunks import RETURNS
from backtest_batch.batch.compute import benchmark_key
from backtest_batch.batch.plan import Plan
from backtest_batch.batch.worker import row_writer
from backtest_batch.batch.workspace import BATCH_CONFIG, Workspace
from backtest_batch.config import SWEEPABLE
from backtest_batch.engine.metrics import RESULT_METRICS
from backtest_batch.errors import ConfigurationError, SelectionError, StoreError
from backtest_batch.market.cache import cache_dir
from backtest_batch.records import RunFailure, RunRecord, RunResult, RunSpec
from backtest_batch.tracking.leftovers import mark_dead_runs
from backtest_batch.tracking.process import lives
from backtest_batch.tracking.search import (
    BatchHandle,
    find_batch,
    load_runs,
    read_artifact,
)
from backtest_batch.tracking.spool import record_spool
from backtest_batch.tracking.store import Store, open_store, resolve_uri


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """A batch that is to be continued.

    Attributes
    ----------
    batch_id
        Its unique name.
    arguments
        The arguments of its command.
    """

    batch_id: str
    arguments: tuple[str, ...]


def recall(batch: str, *, uri: str | None, experiment: str) -> Recalled:
    """Find the batch that ``resume`` names.

    Parameters
    ----------
    batch
        ``latest`` or a batch_id.
    uri, experiment
        The store to look in, as configured.

    Raises
    ------
    SelectionError
        When there is no such batch, or nothing to resume at all.
    """
    local = Path("mlruns", "batches", batch, BATCH_CONFIG)
    if batch != "latest" and local.is_file():
        return _recalled(batch, local.read_bytes())
    try:
        store = open_store(resolve_uri(uri, Path.cwd()), experiment, create=False)
        handle = find_batch(store, batch)
    except StoreError as error:
        raise SelectionError(f"resume={batch}: nothing to resume. {error}") from error
    except SelectionError as error:
        raise SelectionError(f"resume={batch}: nothing to resume. {error}") from error
    return _recalled(handle.batch_id, read_artifact(store, handle.mlflow_run_id, BATCH_CONFIG))


def _recalled(batch_id: str, content: bytes) -> Recalled:
    document = yaml.safe_load(content)
    return Recalled(batch_id=batch_id, arguments=tuple(document["arguments"]))


def merged_arguments(recalled: Recalled, given: Sequence[str]) -> list[str]:
    """Return the recorded command with what was given now in its place.

    How a batch is computed may change from one attempt to the next; what it computes may not.

    Raises
    ------
    ConfigurationError
        When a key that determines results differs; the message names all of them.
    """
    flags = {"-m", "--multirun"}
    new = {_key(item): item for item in given if item not in flags and _key(item) != "resume"}
    old = {_key(item): item for item in recalled.arguments if item not in flags}
    differing = sorted(
        key
        for key, item in new.items()
        if _determines_results(key) and _value(old.get(key, "")) != _value(item)
    )
    if differing:
        named = ", ".join(
            f"{key} (given {_value(new[key])}, recorded {_value(old.get(key, '')) or 'nothing'})"
            for key in differing
        )
        raise ConfigurationError(
            f"resume={recalled.batch_id}: what the batch computes cannot change, but these "
            f"differ: {named}. Leave them out to go on, or start a new batch."
        )
    kept = [item for key, item in old.items() if key not in new and key != "resume"]
    return ["-m", *kept, *new.values(), f"resume={recalled.batch_id}"]


def _key(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+~").partition("@")[0]


def _value(argument: str) -> str:
    return argument.partition("=")[2]


PLAN_KEYS = frozenset({"param_grid", "runs", "batch_file", "experiment"})
"""Keys that say which runs a batch has."""


def _determines_results(key: str) -> bool:
    return key.split(".", maxsplit=1)[0] in SWEEPABLE or key in (
        "param_grid",
        "runs",
        "batch_file",
        "experiment",
    )


def spool_places(batch_id: str, output_dir: Path) -> list[Path]:
    """Return the folders in which unrecorded results may be kept, the best first."""
    spools = Path("backtest_batch-spool", batch_id)
    return [output_dir / "spool", cache_dir() / spools, Path(tempfile.gettempdir()) / spools]


def record_unrecorded(batch_id: str, output_dir: str | None, uri: str | None) -> None:
    """Record the results that could not be recorded when they were computed, if there are any."""
    folder = Path(output_dir) if output_dir else Path("mlruns", "batches", batch_id)
    for place in spool_places(batch_id, folder.absolute()):
        if place.is_dir():
            report = record_spool(place, store_uri=uri)
            sys.stdout.write(
                f"Recorded {report.n_recorded} runs of the batch {batch_id} that were computed "
                "earlier.\n"
            )


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What a batch has in the store already.

    Attributes
    ----------
    handle
        Its parent run.
    records
        Its runs that need not run again.
    run_ids
        MLflow's ids of these, by run key.
    retired
        MLflow's ids of the runs that run again, or that belong to other data or code.
    n_stale
        How many of them belong to other data or code.
    """

    handle: BatchHandle
    records: tuple[RunRecord, ...]
    run_ids: Mapping[str, str]
    retired: tuple[str, ...]
    n_stale: int


def earlier_runs(store: Store, batch_id: str, plan: Plan, *, rerun_failed: bool) -> Earlier:
    """Read what a batch has in the store, and mark as killed what its dead process left.

    Raises
    ------
    ConfigurationError
        When the batch is still running.
    """
    mark_dead_runs(store)
    handle = find_batch(store, batch_id)
    tags = handle.tags
    if handle.status == "RUNNING" and lives(tags.get("pid", ""), tags.get("process_started", "")):
        raise ConfigurationError(
            f"resume={batch_id}: the batch is still running (process {tags.get('pid')} on "
            f"{tags.get('host')})"
        )
    frame = load_runs(store, batches=[batch_id], parts=("metrics", "tags"))
    specs = {run.run_key: run for run in plan.runs}
    records: dict[str, RunRecord] = {}
    run_ids: dict[str, str] = {}
    retired, n_stale = [], 0
    for row in frame.to_dict("records"):
        spec = specs.get(str(row.get("tags.run_key")))
        keeps = row["status"] == "FINISHED" or (row["status"] == "FAILED" and not rerun_failed)
        if spec is None or not keeps or spec.run_key in records:
            retired.append(str(row["mlflow_run_id"]))
            n_stale += spec is None and row["status"] == "FINISHED"
            continue
        records[spec.run_key] = _record(spec, row)
        run_ids[spec.run_key] = str(row["mlflow_run_id"])
    return Earlier(
        handle=handle,
        records=tuple(records.values()),
        run_ids=run_ids,
        retired=tuple(retired),
        n_stale=n_stale,
    )


def _record(spec: RunSpec, row: Mapping[Any, Any]) -> RunRecord:
    def tag(name: str, default: str = "") -> str:
        value = row.get(f"tags.{name}")
        return default if value is None or pd.isna(value) else str(value)

    def metric(name: str) -> float | None:
        value = row.get(f"metrics.{name}")
        return None if value is None or pd.isna(value) else float(value)

    outcome: RunResult | RunFailure
    if row["status"] == "FINISHED":
        found = {name: metric(name) for name in RESULT_METRICS}
        undefined = tag("undefined_metrics")
        outcome = RunResult(
            metrics={name: value for name, value in found.items() if value is not None},
            undefined_metrics=tuple(undefined.split(",")) if undefined else (),
            tags={name: tag(name) for name in ("ruined", "untradable_weights") if tag(name)},
            runtime_s=metric("runtime_s") or 0.0,
            cpu_s=metric("cpu_s") or 0.0,
            peak_rss_mb=metric("peak_rss_mb") or 0.0,
            chunk_runs=int(tag("chunk_runs", "1")),
        )
    else:
        outcome = RunFailure(error_type=tag("error_type"), error_message=tag("error_message"))
    return RunRecord(
        spec=spec,
        outcome=outcome,
        attempts=int(tag("attempts", "1")),
        started_ms=int(row["started_ms"]),
        ended_ms=int(row["ended_ms"]),
    )


def restore_returns(workspace: Workspace, plan: Plan, finished: Sequence[RunRecord]) -> None:
    """Fill rows of returns.dat from returns.parquet, where a complete batch left only that."""
    path = workspace.output_dir / "returns.parquet"
    if workspace.scratch.returns.exists() or not path.is_file():
        return
    names = set(pq.read_schema(path).names)
    with row_writer(workspace.scratch, RETURNS) as write:
        for record in finished:
            spec = record.spec
            if spec.run_id not in names:
                continue
            stored = pq.read_table(path, columns=["timestamp", spec.run_id])
            column = pd.Series(
                stored[spec.run_id].to_numpy(zero_copy_only=False),
                index=pd.DatetimeIndex(stored["timestamp"].to_pandas()),
            )
            index = plan.panels[spec.data_fingerprint].index
            values = column.reindex(index).to_numpy(dtype=np.float64)
            if np.isfinite(values).sum() == column.notna().sum():
                write(spec.index, 0, np.ascontiguousarray(values))


def without_returns(workspace: Workspace, plan: Plan, done: Sequence[RunRecord]) -> list[RunSpec]:
    """Return the finished runs that must be computed again because their returns are not at hand.

    That are those without a row in returns.dat, and one for each benchmark without a row.
    """
    finished = [record.spec for record in done if record.status == "FINISHED"]
    benchmarks = workspace.scratch.benchmark_rows
    rows = workspace.returns(len(plan.runs) + len(benchmarks))

    def written(row: int, spec: RunSpec) -> bool:
        # A row that was written has no return on the first measured bar; others are zeros.
        return bool(np.isnan(rows[row, spec.first_bar]))

    missing: dict[str, RunSpec] = {}
    for spec in finished:
        key = benchmark_key(spec)
        if not written(spec.index, spec):
            missing[spec.run_key] = spec
        elif not written(benchmarks[key], spec):
            missing.setdefault(key, spec)
    return list({spec.run_key: spec for spec in missing.values()}.values())
