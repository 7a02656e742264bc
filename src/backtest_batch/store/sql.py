"""The runs of a store written and read by SQL, many in one transaction.

MLflow's client takes several transactions and some twenty milliseconds to write a run, and two
milliseconds to read one. Here the same rows are inserted and read through MLflow's own SQLAlchemy
tables, a thousand runs at a time; ten thousand are read in about two seconds. That is done only in
databases whose schema has been tested, and the first runs are read back through the client and
compared before any more are written.

A run with files is RUNNING until they are where they belong: whatever ends the process in between,
the store knows the run, and never holds a finished one without its files.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from backtest_batch.store.artifacts import MovedFiles, local_folder, points, send
from backtest_batch.store.client import ClientRuns, call_each, put_into_folder
from backtest_batch.store.kinds import RunColumns, RunQuery, RunStore
from backtest_batch.store.mlflow_run import EquityCurve, RunEntry
from backtest_batch.store.sqlite_file import KNOWN_REVISIONS, head_revision
from backtest_batch.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run
    from sqlalchemy import ColumnElement, Connection, Select, Table
    from sqlalchemy.orm import Session

Row = tuple[Any, ...]
_RUN_COLUMNS = (
    "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status",
    "start_time", "end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri",
    "experiment_id",
)  # fmt: skip
_TEXT_COLUMNS = ("key", "value", "run_uuid")
METRIC_COLUMNS = ("key", "value", "timestamp", "step", "is_nan", "run_uuid")


class RunRows:
    """The rows of some runs, as MLflow's own store would write them."""

    def __init__(self, experiment_id: int) -> None:
        self._experiment_id = experiment_id
        self._runs: list[Row] = []
        self._tags: list[Row] = []
        self._params: list[Row] = []
        self._metrics: list[Row] = []

    def add(
        self, entry: RunEntry, run_id: str, artifact_uri: str, *, status: str | None = None
    ) -> None:
        """Add the rows of one run, with the status of the entry unless another is given."""
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
        """Insert all rows, in the order of their references."""
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
        # SQLAlchemy would take as long as the database itself: it needs a dictionary per row.
        placeholders = ", ".join("?" * len(columns))
        names = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in columns)
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) VALUES ({placeholders})",
            list(rows),
        )
        return
    connection.execute(table.insert(), [dict(zip(columns, row, strict=True)) for row in rows])


class RunTables(NamedTuple):
    """MLflow's tables of runs, in the order of their references."""

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


_IDS_AT_ONCE = 1_000


def query_database(store: Store, query: RunQuery, filter_string: str) -> RunColumns:
    """Return the runs of the store's experiment that are not in the trash.

    Raises
    ------
    MlflowException
        When ``filter_string`` is not understood.
    """
    from sqlalchemy import select

    runs, tags, params, _, latest_metrics = run_tables()
    table = RunColumns(query.parts)
    with store.session() as session:
        chosen = _chosen(store, query).where(*_mlflow_conditions(session, filter_string))
        infos = select(
            runs.c.run_uuid, runs.c.status, runs.c.name, runs.c.start_time, runs.c.end_time
        ).where(runs.c.run_uuid.in_(chosen))
        for info in session.execute(infos):
            table.add_info(*info)
        # run_id and batch_id are columns of their own, so tags are read in any case.
        texts = select(tags.c.run_uuid, tags.c.key, tags.c.value).where(tags.c.run_uuid.in_(chosen))
        if "tags" not in query.parts:
            texts = texts.where(tags.c.key.in_(["run_id", "batch_id"]))
        # Row by row: in larger portions Python's garbage collection takes twice as long.
        table.add_values("tags", session.execute(texts))
        if "params" in query.parts:
            rows = select(params.c.run_uuid, params.c.key, params.c.value)
            table.add_values("params", session.execute(rows.where(params.c.run_uuid.in_(chosen))))
        if "metrics" in query.parts:
            columns = latest_metrics.c
            numbers = select(columns.run_uuid, columns.key, columns.value)
            numbers = numbers.where(columns.run_uuid.in_(chosen), columns.is_nan.is_(False))
            table.add_values("metrics", session.execute(numbers))
    return table


def query_keys(store: Store, query: RunQuery) -> list[tuple[str, str, str]]:
    """Return run key, status and MLflow run id of runs, in the order of their start."""
    from sqlalchemy import select

    runs, tags, *_ = run_tables()
    rows = (
        select(tags.c.value, runs.c.status, runs.c.run_uuid)
        .join(runs, runs.c.run_uuid == tags.c.run_uuid)
        .where(tags.c.key == "run_key", runs.c.run_uuid.in_(_chosen(store, query)))
        .order_by(runs.c.start_time, runs.c.run_uuid)
    )
    with store.session() as session:
        return [(key, status, run_id) for key, status, run_id in session.execute(rows)]


def query_artifact_uris(store: Store, run_ids: Sequence[str]) -> dict[str, str]:
    """Return where the artifacts of runs are, by MLflow run id."""
    from sqlalchemy import select

    runs, *_ = run_tables()
    found: dict[str, str] = {}
    with store.session() as session:
        # A database limits the number of values in one statement.
        for start in range(0, len(run_ids), _IDS_AT_ONCE):
            wanted = runs.c.run_uuid.in_(run_ids[start : start + _IDS_AT_ONCE])
            rows = session.execute(select(runs.c.run_uuid, runs.c.artifact_uri).where(wanted))
            found |= {row.run_uuid: row.artifact_uri for row in rows}
    return found


def _chosen(store: Store, query: RunQuery) -> "Select[Any]":
    from sqlalchemy import select

    runs, tags, *_ = run_tables()
    chosen = select(runs.c.run_uuid).where(
        runs.c.experiment_id == int(store.experiment_id), runs.c.lifecycle_stage == "active"
    )
    if query.statuses is not None:
        chosen = chosen.where(runs.c.status.in_(query.statuses))
    conditions = [(key, tags.c.value == value) for key, value in query.tags.items()]
    if query.batches is not None:
        conditions.append(("batch_id", tags.c.value.in_(query.batches)))
    for key, condition in conditions:
        holders = select(tags.c.run_uuid).where(tags.c.key == key, condition)
        chosen = chosen.where(runs.c.run_uuid.in_(holders))
    return chosen


def _mlflow_conditions(session: "Session", filter_string: str) -> "Iterator[ColumnElement[bool]]":
    """Yield a condition in MLflow's language as MLflow's own store would translate it."""
    from mlflow.store.tracking.sqlalchemy_store import _get_sqlalchemy_filter_clauses
    from mlflow.utils.search_utils import SearchUtils
    from sqlalchemy import select

    if not filter_string.strip():
        return
    parsed = SearchUtils.parse_search_filter(filter_string)  # type: ignore[no-untyped-call]
    dialect = session.get_bind().dialect.name
    runs = run_tables().runs
    clauses = _get_sqlalchemy_filter_clauses(parsed, session, dialect)  # type: ignore[no-untyped-call]
    of_runs, of_values, of_datasets = clauses
    yield from of_runs
    for values in of_values:
        yield runs.c.run_uuid.in_(select(values.c.run_uuid))
    for datasets in of_datasets:
        yield runs.c.run_uuid.in_(select(datasets.c.destination_id))


RUNS_PER_TRANSACTION = 1_000
_IDS_AT_ONCE = 500
"""MLflow run ids in one statement; SQLite limits its values."""


class BulkWriteError(Exception):
    """MLflow's client does not read what was written; the rows have been removed again."""


def obstacle_to_writing(store: Store) -> str | None:
    """Return why a store cannot be written by SQL, or None when it can."""
    if store.engine is None:
        return f"the store {store.shown} is not a database that can be reached directly"
    dialect = store.engine.dialect.name
    if dialect not in ("sqlite", "postgresql"):
        return f"a {dialect} store is written through MLflow's client only"
    if head_revision() not in KNOWN_REVISIONS:
        return (
            f"the schema {head_revision()} of the installed MLflow is newer than what "
            "writing in bulk was tested with"
        )
    return None


def store_to_read(store: Store) -> RunStore:
    """Return the interface through which the runs of a store are read."""
    if store.engine is None or head_revision() not in KNOWN_REVISIONS:
        return ClientRuns(store)
    return SqlRuns(store, ClientRuns(store))


class SqlRuns:
    """The runs of a store in a database; see :class:`.RunStore`.

    Parameters
    ----------
    store
        A store in a database with a tested schema; to write, it must be SQLite or PostgreSQL.
    client
        Completes runs that have begun.
    """

    def __init__(self, store: Store, client: ClientRuns) -> None:
        if store.engine is None:
            raise ValueError(f"{store.shown} is not a database.")
        self._store = store
        self._client = client
        self._engine = store.engine
        self._is_verified = False

    def write(
        self, entries: Sequence[RunEntry], existing: Sequence[str | None]
    ) -> Iterator[tuple[int, str]]:
        """Write runs, a thousand in one transaction; see :class:`.RunStore`.

        Raises
        ------
        BulkWriteError
            When the first runs are not read back correctly; they are removed again.
        StoreError
            When the database fails; the transaction is rolled back.
        """
        fresh = [index for index, run_id in enumerate(existing) if run_id is None]
        for position, run_id in self._write_fresh([entries[index] for index in fresh]):
            yield fresh[position], run_id
        begun = [index for index, run_id in enumerate(existing) if run_id is not None]
        for position, run_id in self._client.write(
            [entries[index] for index in begun], [existing[index] for index in begun]
        ):
            yield begun[position], run_id

    def write_curves(self, curves: Mapping[str, EquityCurve]) -> None:
        """Write curves, replacing earlier ones; see :class:`.RunStore`.

        Through the client nine curves would take half a second.
        """
        tables = run_tables()
        rows, latest = [], []
        for run_id, curve in curves.items():
            last: dict[str, tuple[int, int, float]] = {}
            for name, value, time_ms, step in points(curve):
                rows.append((name, value, time_ms, step, False, run_id))
                point = (step, time_ms, value)
                last[name] = max(last.get(name, point), point)
            latest += [
                (name, value, time_ms, step, False, run_id)
                for name, (step, time_ms, value) in last.items()
            ]
        with self._engine.begin() as connection:
            self._delete_metrics(connection, list(curves), ["equity", "drawdown"])
            # MLflow counts a repeated point once; here it would be refused.
            insert_rows(connection, tables.metrics, METRIC_COLUMNS, list(dict.fromkeys(rows)))
            insert_rows(connection, tables.latest_metrics, METRIC_COLUMNS, latest)

    def write_metrics(self, metrics: Mapping[str, Mapping[str, float]], timestamp_ms: int) -> None:
        """Write metrics, replacing earlier ones; see :class:`.RunStore`."""
        tables = run_tables()
        rows = [
            (key, value, timestamp_ms, 0, False, run_id)
            for run_id, values in metrics.items()
            for key, value in values.items()
        ]
        with self._engine.begin() as connection:
            self._delete_metrics(connection, list(metrics), sorted({row[0] for row in rows}))
            for table in (tables.metrics, tables.latest_metrics):
                insert_rows(connection, table, METRIC_COLUMNS, rows)

    def read(self, query: RunQuery, filter_string: str) -> RunColumns:
        """Return the requested runs; see :class:`.RunStore`."""
        return query_database(self._store, query, filter_string)

    def states(self, batch_id: str) -> list[tuple[str, str, str]]:
        """Return run key, status and id of a batch's runs; see :class:`.RunStore`."""
        tags = {"batch_role": "run"}
        query = RunQuery(batches=(batch_id,), tags=tags, statuses=None, parts=())
        return query_keys(self._store, query)

    def artifact_uris(self, run_ids: Sequence[str]) -> Mapping[str, str]:
        """Return where the artifacts of runs are; see :class:`.RunStore`."""
        return query_artifact_uris(self._store, run_ids)

    @staticmethod
    def _delete_metrics(
        connection: "Connection", run_ids: Sequence[str], names: Sequence[str]
    ) -> None:
        tables = run_tables()
        for table in (tables.metrics, tables.latest_metrics):
            for start in range(0, len(run_ids), _IDS_AT_ONCE):
                part = run_ids[start : start + _IDS_AT_ONCE]
                connection.execute(
                    table.delete().where(table.c.run_uuid.in_(part), table.c.key.in_(names))
                )

    def _write_fresh(self, entries: Sequence[RunEntry]) -> Iterator[tuple[int, str]]:
        for start in range(0, len(entries), RUNS_PER_TRANSACTION):
            chunk = entries[start : start + RUNS_PER_TRANSACTION]
            run_ids = [new_mlflow_id() for _ in chunk]
            with self._store.calling("record runs", patient=True):
                self._write_chunk(chunk, run_ids)
            for offset, run_id in enumerate(run_ids):
                yield start + offset, run_id

    def _write_chunk(self, entries: Sequence[RunEntry], run_ids: Sequence[str]) -> None:
        from mlflow.utils.uri import append_to_uri_path

        root = self._store.artifact_location
        uris = [
            str(append_to_uri_path(root, run_id, "artifacts"))  # type: ignore[no-untyped-call]
            for run_id in run_ids
        ]
        addressed = list(zip(entries, uris, strict=True))
        with_files = [item for item in addressed if _has_files(item[0])]
        moved = MovedFiles()
        try:
            self._insert(entries, run_ids, uris)
            if with_files:
                self._put_files(with_files, moved)
                self._end(entries, run_ids)
            if not self._is_verified:
                self._verify(entries[0], run_ids, uris[0])
            self._store.require_file()
        except BaseException as error:
            if self._store.is_gone:
                moved.undo()
                raise
            if isinstance(error, Exception) and self._holds(entries, run_ids):
                return  # only the answer was lost
            moved.undo()
            # Runs that cannot be removed now stay RUNNING, and are completed or retired later.
            with contextlib.suppress(Exception):
                self._delete(run_ids)
            raise

    def _put_files(self, items: Sequence[tuple[RunEntry, str]], moved: MovedFiles) -> None:
        """Put the files of runs where they belong."""
        remote: list[tuple[RunEntry, str]] = []
        for entry, uri in items:
            folder = local_folder(uri)
            if folder is None:
                remote.append((entry, uri))
            else:
                put_into_folder(entry, folder, moved)
        call_each(self._store, self._send, remote, at_once=True)

    def _send(self, item: tuple[RunEntry, str]) -> None:
        entry, uri = item
        send(uri, self._store.files.tracking_uri, entry.folder, entry.texts)

    def _insert(
        self, entries: Sequence[RunEntry], run_ids: Sequence[str], uris: Sequence[str]
    ) -> None:
        rows = RunRows(int(self._store.experiment_id))
        for entry, run_id, uri in zip(entries, run_ids, uris, strict=True):
            rows.add(entry, run_id, uri, status="RUNNING" if _has_files(entry) else entry.status)
        with self._engine.begin() as connection:
            rows.insert(connection)

    def _end(self, entries: Sequence[RunEntry], run_ids: Sequence[str]) -> None:
        """Give runs whose files have arrived their final status."""
        runs = run_tables().runs
        ids: dict[str, list[str]] = {}
        for entry, run_id in zip(entries, run_ids, strict=True):
            if _has_files(entry):
                ids.setdefault(entry.status, []).append(run_id)
        with self._engine.begin() as connection:
            for status, ended in ids.items():
                chosen = runs.c.run_uuid.in_(ended)
                connection.execute(runs.update().where(chosen).values(status=status))

    def _verify(self, entry: RunEntry, run_ids: Sequence[str], uri: str) -> None:
        client = self._store.client
        try:
            run = client.get_run(run_ids[0])
            difference = _difference(entry, run, self._store.experiment_id, uri)
            for key, value in list(entry.metrics.items())[:1]:
                history = [
                    (metric.value, metric.timestamp, metric.step)
                    for metric in client.get_metric_history(run_ids[0], key)
                ]
                if history != [(value, entry.ended_ms, 0)]:
                    difference = difference or f"history of the metric {key}"
        except Exception as error:
            self._delete(run_ids)
            raise BulkWriteError(
                f"MLflow's client cannot read a run that was written in bulk ({error})."
            ) from error
        if difference:
            self._delete(run_ids)
            raise BulkWriteError(
                f"MLflow's client reads a run that was written in bulk differently ({difference})."
            )
        self._is_verified = True

    def _delete(self, run_ids: Sequence[str]) -> None:
        with self._engine.begin() as connection:
            for table in reversed(run_tables()):
                connection.execute(table.delete().where(table.c.run_uuid.in_(run_ids)))

    def _holds(self, entries: Sequence[RunEntry], run_ids: Sequence[str]) -> bool:
        """Return whether the store has the complete runs."""
        runs = run_tables().runs
        query = runs.select().where(runs.c.run_uuid.in_(run_ids))
        with contextlib.suppress(Exception), self._engine.connect() as connection:
            found = {row.run_uuid: row.status for row in connection.execute(query)}
            return found == {
                run_id: entry.status for entry, run_id in zip(entries, run_ids, strict=True)
            }
        return False


def _has_files(entry: RunEntry) -> bool:
    return entry.folder is not None or bool(entry.texts)


def new_mlflow_id() -> str:
    """Return an id of 32 hexadecimal digits that begins with the time.

    Rows of later runs then follow those of earlier ones in every index, so that writing a run takes
    no longer in a large store. MLflow's own ids are random.
    """
    return f"{time.time_ns() // 1_000_000:012x}{uuid.uuid4().hex[12:]}"


def _difference(entry: RunEntry, run: "Run", experiment_id: str, uri: str) -> str:
    """Return the name of the first field that differs from what was written, or an empty text."""
    info, data = run.info, run.data
    expected: dict[str, tuple[Any, Any]] = {
        "run_name": (entry.name, info.run_name),
        "experiment_id": (experiment_id, info.experiment_id),
        "user_id": (entry.tags["mlflow.user"], info.user_id),
        "status": (entry.status, info.status),
        "start_time": (entry.started_ms, info.start_time),
        "end_time": (entry.ended_ms, info.end_time),
        "lifecycle_stage": ("active", info.lifecycle_stage),
        "artifact_uri": (uri, info.artifact_uri),
        "params": (dict(entry.params), data.params),
        "metrics": (dict(entry.metrics), data.metrics),
        "tags": (dict(entry.tags), data.tags),
    }
    return next((name for name, (written, read) in expected.items() if written != read), "")
