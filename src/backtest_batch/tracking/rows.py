"""Rows of MLflow's tables, as its own store would have left them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from backtest_batch.tracking.entries import RunEntry

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

Row = tuple[Any, ...]
_RUN_COLUMNS = (
    "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status",
    "start_time", "end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri",
    "experiment_id",
)  # fmt: skip
_TEXT_COLUMNS = ("key", "value", "run_uuid")
METRIC_COLUMNS = ("key", "value", "timestamp", "step", "is_nan", "run_uuid")


class RunRows:
    """The rows of some runs, as MLflow's own store would have left them."""

    def __init__(self, experiment_id: int) -> None:
        self._experiment_id = experiment_id
        self._runs: list[Row] = []
        self._tags: list[Row] = []
        self._params: list[Row] = []
        self._metrics: list[Row] = []

    def add(
        self, entry: RunEntry, run_id: str, artifact_uri: str, *, status: str | None = None
    ) -> None:
        """Add the rows of one run; its status is that of the entry unless another is given."""
        self._runs.append(
            (
                run_id,
                entry.name,
                "UNKNOWN",
                "",
                "",
                entry.tags["mlflow.user"],
                status or entry.status,
                entry.started_ms,
                entry.ended_ms,
                None,
                "",
                "active",
                artifact_uri,
                self._experiment_id,
            )
        )
        self._tags += [(key, value, run_id) for key, value in entry.tags.items()]
        self._params += [(key, value, run_id) for key, value in entry.params.items()]
        time = entry.ended_ms
        self._metrics += [
            (key, value, time, 0, False, run_id) for key, value in entry.metrics.items()
        ]

    def insert(self, connection: "Connection") -> None:
        """Insert all rows, those that others refer to first."""
        for table, columns, rows in zip(
            run_tables(),
            (_RUN_COLUMNS, _TEXT_COLUMNS, _TEXT_COLUMNS, METRIC_COLUMNS, METRIC_COLUMNS),
            (self._runs, self._tags, self._params, self._metrics, self._metrics),
            strict=True,
        ):
            insert_rows(connection, table, columns, rows)


def insert_rows(
    connection: "Connection", table: "Table", columns: Sequence[str], rows: Sequence[Row]
) -> None:
    """Insert ``rows`` with values in the order of ``columns``."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        # SQLAlchemy's own way costs as much again as the database: a dictionary a row.
        places = ", ".join("?" * len(columns))
        names = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in columns)
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) VALUES ({places})",
            list(rows),
        )
        return
    connection.execute(table.insert(), [dict(zip(columns, row, strict=True)) for row in rows])


class RunTables(NamedTuple):
    """MLflow's tables of runs, those that others refer to first."""

    runs: "Table"
    tags: "Table"
    params: "Table"
    metrics: "Table"
    latest_metrics: "Table"


def run_tables() -> RunTables:
    """Return MLflow's tables of runs."""
    from mlflow.store.tracking.dbmodels.models import (
        SqlLatestMetric,
        SqlMetric,
        SqlParam,
        SqlRun,
        SqlTag,
    )

    models = (SqlRun, SqlTag, SqlParam, SqlMetric, SqlLatestMetric)
    return RunTables(*(model.__table__ for model in models))
