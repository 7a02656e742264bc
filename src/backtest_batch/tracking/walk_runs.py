"""What a walk-forward adds to the store: metrics of its runs, and a run for each split."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest_batch.tracking.client_writer import metrics_at
from backtest_batch.tracking.connections import call_each
from backtest_batch.tracking.entries import BatchInfo, RunEntry, common_tags, metrics_of, tags_of
from backtest_batch.tracking.rows import METRIC_COLUMNS, insert_rows, run_tables
from backtest_batch.tracking.store import Store
from backtest_batch.tracking.values import RUN_NAME_LENGTH, shortened

if TYPE_CHECKING:
    from sqlalchemy import Engine


@dataclass(frozen=True, kw_only=True)
class SplitRun:
    """One run on one split of a walk-forward.

    Attributes
    ----------
    run_key, run_id, mlflow_run_id
        The run that was split; the split's MLflow run stands below it.
    split
        Number of the split, from 0.
    windows
        First and last bar of training and test: train_start, train_end, test_start, test_end.
    chosen
        Whether the run was chosen in this split.
    metrics
        In-sample metrics ``is_*`` and out-of-sample ones ``oos_*``.
    """

    run_key: str
    run_id: str
    mlflow_run_id: str
    split: int
    windows: Mapping[str, str]
    chosen: bool
    metrics: Mapping[str, float]


def split_entry(run: SplitRun, batch: BatchInfo, ended_ms: int) -> RunEntry:
    """Return the entry of one split."""
    name = shortened(f"{run.run_id} split {run.split}", RUN_NAME_LENGTH)
    tags = {
        **common_tags(batch, name),
        "mlflow.parentRunId": run.mlflow_run_id,
        "batch_role": "split",
        "run_id": run.run_id,
        "run_key": run.run_key,
        "split": str(run.split),
        "chosen": json.dumps(run.chosen),
    }
    return RunEntry(
        name=name,
        status="FINISHED",
        started_ms=batch.started_ms,
        ended_ms=ended_ms,
        params=dict(run.windows),
        metrics=metrics_of(run.metrics),
        tags=tags_of(tags),
    )


def log_metrics(
    store: Store, metrics: Mapping[str, Mapping[str, float]], timestamp_ms: int
) -> None:
    """Add metrics to runs, given by MLflow run id, through MLflow's client."""

    def log(item: tuple[str, Mapping[str, float]]) -> None:
        run_id, values = item
        held = metrics_at(metrics_of(values), timestamp_ms)
        store.client.log_batch(run_id, metrics=held, synchronous=True)

    call_each(store, log, list(metrics.items()))


def insert_metrics(
    engine: "Engine", metrics: Mapping[str, Mapping[str, float]], timestamp_ms: int
) -> None:
    """Write metrics of runs straight into the database, in place of earlier ones."""
    tables = run_tables()
    rows = [
        (key, value, timestamp_ms, 0, False, run_id)
        for run_id, values in metrics.items()
        for key, value in metrics_of(values).items()
    ]
    names = sorted({row[0] for row in rows})
    run_ids = list(metrics)
    with engine.begin() as connection:
        for table in (tables.metrics, tables.latest_metrics):
            for start in range(0, len(run_ids), 500):  # SQLite bounds the values of a statement
                part = run_ids[start : start + 500]
                connection.execute(
                    table.delete().where(table.c.run_uuid.in_(part), table.c.key.in_(names))
                )
            insert_rows(connection, table, METRIC_COLUMNS, rows)
