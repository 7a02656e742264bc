"""Open a store: find or create it, check it, and correct the addresses of its artifacts.

MLflow records absolute addresses of artifacts, for experiments and for runs. In a renamed project,
new artifacts would go to a folder that no longer exists; in a copy, into the original.
"""

import contextlib
import logging
import os
import shlex
import sqlite3
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest_batch.errors import StoreError
from backtest_batch.store import sqlite_file
from backtest_batch.store.address import (
    is_http,
    is_sqlite,
    resolve_uri,
    shown,
    sqlite_path,
    sqlite_uri,
    without_secrets,
)
from backtest_batch.store.artifacts import local_folder, unbelievable
from backtest_batch.store.mlflow_calls import calling, import_mlflow, new_client, require_variables
from backtest_batch.store.sqlite_file import artifact_root, check_revision, connect

if TYPE_CHECKING:
    import sqlalchemy
    from mlflow.entities import Experiment, RunInfo
    from mlflow.tracking import MlflowClient
    from sqlalchemy.orm import Session

BESIDE = "backtest_batch.artifacts"
"""Tag of an experiment whose artifacts were beside the database when it was created."""

_log = logging.getLogger(__name__)


def bring_artifacts_along(database: Path) -> None:
    """Correct the addresses of artifacts after the database was moved or copied.

    That is done for experiments that this package created beside their database, and for their
    runs. A run whose files are only at the recorded address (just the database was moved) keeps it.
    Other experiments keep the address that somebody gave them.

    Raises
    ------
    sqlite3.Error
        When the database fails.
    """
    root = artifact_root(database)
    with contextlib.closing(connect(database)) as connection:
        if not list(_elsewhere(connection, root)):
            return
        connection.execute("BEGIN IMMEDIATE")
        before = list(_elsewhere(connection, root))
        for experiment_id, address, recorded in before:
            _move(connection, experiment_id, address, recorded, root)
        connection.execute("COMMIT")
    for parent in sorted({str(recorded.parent) for _, _, recorded in before}):
        _log.warning(
            "The tracking store %s was made in %s. From now on its artifacts are those beside it.",
            database,
            parent,
        )


def _elsewhere(connection: sqlite3.Connection, root: Path) -> Iterator[tuple[int, str, Path]]:
    """Yield id, address and folder of experiments that were created beside another database.

    The default experiment, which MLflow creates with a store, shows where an older one was made.
    """
    addresses = dict(
        connection.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
    )
    query = "SELECT experiment_id FROM experiment_tags WHERE key = ?"
    tagged = {experiment_id for (experiment_id,) in connection.execute(query, (BESIDE,))}
    for experiment_id, address in addresses.items():
        recorded = local_folder(address or "")
        if recorded is None or not address or experiment_id == 0:
            continue
        is_ours = experiment_id in tagged or addresses.get(0) == f"{address}/0"
        if is_ours and not _is_same(recorded.parent, root.parent):
            yield experiment_id, address, recorded


def _is_same(folder: Path, other: Path) -> bool:
    try:
        return folder.samefile(other)
    except OSError:
        return folder == other


def _move(
    connection: sqlite3.Connection, experiment_id: int, address: str, recorded: Path, root: Path
) -> None:
    new = root.as_uri()
    connection.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
        (new, experiment_id),
    )
    connection.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0 "
        "AND artifact_location = ?",
        (f"{new}/0", f"{address}/0"),
    )
    prefix = f"{address}/"
    stay = _names(recorded) - _names(root)
    runs = connection.execute(
        "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ? "
        "AND substr(artifact_uri, 1, ?) = ?",
        (experiment_id, len(prefix), prefix),
    ).fetchall()
    connection.executemany(
        "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?",
        [
            (f"{new}/{uri.removeprefix(prefix)}", run_id)
            for run_id, uri in runs
            if uri.removeprefix(prefix).partition("/")[0] not in stay
        ],
    )


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()


__all__ = ["Store", "StoreNotFoundError", "close_stores", "open_store", "resolve_uri"]

_DATABASE_SERVERS = ("postgresql", "mysql", "mssql")

_CREATION_LOCK = 0x6261636B74657374
"""Number of the PostgreSQL advisory lock under which a store is created."""


class StoreNotFoundError(StoreError):
    """There is no such store or experiment, and none was to be created."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """An open tracking store and one experiment in it.

    Attributes
    ----------
    uri
        Its address, which may hold a password; for messages use :attr:`shown`.
    experiment
        Name of the experiment.
    experiment_id
        Its id in the store.
    artifact_location
        Where the experiment's artifacts are.
    client
        MLflow's client of the store.
    files
        MLflow's client for artifacts: the same, unless a tracking server serves them.
    file_identity
        Identity of a local SQLite store's file when it was opened.
    """

    uri: str = field(repr=False)
    experiment: str
    experiment_id: str
    artifact_location: str
    client: "MlflowClient" = field(repr=False)
    files: "MlflowClient" = field(repr=False)
    file_identity: tuple[int, int] | None = field(default=None, repr=False)

    @property
    def is_local_sqlite(self) -> bool:
        """Whether the store is an SQLite file."""
        return is_sqlite(self.uri)

    @property
    def is_http(self) -> bool:
        """Whether the store is behind a tracking server."""
        return is_http(self.uri)

    @property
    def shown(self) -> str:
        """The address for messages, without secrets."""
        return shown(self.uri)

    @property
    def ui_command(self) -> str:
        """The command to browse the store; for a server, its address."""
        if self.is_http:
            return without_secrets(self.uri)
        return f"mlflow ui --backend-store-uri {shlex.quote(without_secrets(_relative(self.uri)))}"

    @property
    def engine(self) -> "sqlalchemy.Engine | None":
        """The SQLAlchemy engine of a database store, None for a server."""
        engine: sqlalchemy.Engine | None = getattr(_backend(self.client), "engine", None)
        return engine

    def session(self) -> "contextlib.AbstractContextManager[Session]":
        """Return a session of a database store, set up as MLflow does for its own reading."""
        session: contextlib.AbstractContextManager[Session]
        session = _backend(self.client).ManagedSessionMaker()
        return session

    @contextlib.contextmanager
    def calling(self, doing: str, *, patient: bool = False) -> Iterator[None]:
        """Turn MLflow's errors inside the block into a StoreError; see ``mlflow_calls``.

        Open connections would go on writing into a removed database file, where nobody finds it:
        that is an error, too.
        """
        self.require_file()
        try:
            with calling(self.uri, doing, patient=patient):
                yield
        except StoreError:
            self.require_file()
            raise
        self.require_file()

    def require_file(self) -> None:
        """Raise if the database file is no longer the one that was opened.

        Raises
        ------
        StoreError
            When it was removed or replaced.
        """
        if self.is_gone:
            raise StoreError(
                f"The tracking store {self.shown} was removed, or replaced by another, while it "
                "was in use. What it held is gone from there."
            )

    @property
    def is_gone(self) -> bool:
        """Whether the database file is no longer the one that was opened."""
        database = sqlite_path(self.uri)
        if self.file_identity is None or database is None:
            return False
        return self.file_identity != sqlite_file.identity(database)

    def require_whole(self) -> None:
        """Raise if a quick check finds the database file damaged.

        An open connection may not notice: it has the pages in memory.

        Raises
        ------
        StoreError
            With what is wrong and what to do.
        """
        database = sqlite_path(self.uri)
        if database is not None:
            sqlite_file.require_whole(database)

    @property
    def is_damaged(self) -> bool:
        """Whether :meth:`require_whole` raises."""
        try:
            self.require_whole()
        except StoreError:
            return True
        return False

    def host_credentials(self) -> Any:  # Any: an entity of MLflow, which loads late
        """Return the address and credentials with which MLflow's client calls an HTTP store."""
        return _backend(self.client).get_host_creds()

    def update_run(self, run_id: str, status: str, ended_ms: int) -> "RunInfo":
        """End a run, and return the store's answer, which MLflow's client does not pass on."""
        from mlflow.entities import RunStatus

        info: RunInfo = _backend(self.client).update_run_info(
            run_id, RunStatus.from_string(status), ended_ms, None
        )
        return info

    def close(self) -> None:
        """Close the connections of a database store; the store can be used again afterwards."""
        if self.engine is not None:
            self.engine.dispose()


def open_store(uri: str, experiment: str, *, create: bool = True) -> Store:
    """Open the store at ``uri`` and the experiment in it.

    Any number of processes may do this at once. The first call in a process imports MLflow, which
    takes seconds; it may be made in a thread beside the main one.

    Parameters
    ----------
    uri
        What :func:`resolve_uri` returned.
    experiment
        Name of the experiment.
    create
        Whether to create a missing store or experiment.

    Raises
    ------
    StoreNotFoundError
        When ``create`` is false and the store or experiment does not exist.
    StoreError
        When the store cannot be reached, read or written, is of another MLflow version, or the
        experiment was deleted; the message says which, and what to do.
    """
    database = sqlite_path(uri) if is_sqlite(uri) else None
    if database is not None and not create and not sqlite_file.holds_store(database):
        raise StoreNotFoundError(f"There is no tracking store at {database}.")
    import_mlflow()
    require_variables()
    with calling(uri, "open"):
        if database is not None:
            client = _open_sqlite(uri, database)
        elif uri.startswith(_DATABASE_SERVERS):
            client = _open_database(uri)
        else:
            client = new_client(uri)
        found = _experiment(uri, client, experiment, database, create=create)
        files = _files_client(uri, client, found, required=create)
    store = Store(
        uri=uri,
        experiment=experiment,
        experiment_id=found.experiment_id,
        artifact_location=found.artifact_location,
        client=client,
        files=files,
        file_identity=None if database is None else sqlite_file.identity(database),
    )
    if store.engine is not None:
        _opened.add(store.engine)
    return store


_opened: "weakref.WeakSet[sqlalchemy.Engine]" = weakref.WeakSet()


def close_stores() -> None:
    """Close the connections of the database stores that this process has opened.

    When the last connection is closed, SQLite writes its log into the database and removes the
    files beside it; until then a copy of just the database is incomplete. The stores can be used
    again.
    """
    for engine in list(_opened):
        engine.dispose()


def _files_client(
    uri: str, client: "MlflowClient", experiment: "Experiment", *, required: bool
) -> "MlflowClient":
    """Return the client for artifacts, which a server does not keep in its database."""
    if is_http(uri) or not experiment.artifact_location.startswith("mlflow-artifacts:"):
        return client
    server = os.environ.get("MLFLOW_TRACKING_URI", "").strip().rstrip("/")
    if is_http(server):
        return new_client(server)
    if required:
        raise StoreError(
            f"The experiment '{experiment.name}' of the store {shown(uri)} keeps its files with a "
            "tracking server. Set MLFLOW_TRACKING_URI to the server's address, beside "
            "tracking.uri, or set tracking.experiment to another name."
        )
    return client


def _open_sqlite(uri: str, database: Path) -> "MlflowClient":
    import_mlflow()
    sqlite_file.create_if_missing(database)
    sqlite_file.check_file(database)
    bring_artifacts_along(database)
    client = new_client(uri)
    sqlite_file.tune(_backend(client).engine)
    return client


def _open_database(uri: str) -> "MlflowClient":
    """Open a store in a database server, creating its tables when it is empty."""
    import_mlflow()
    import sqlalchemy

    # MLflow retries a failing connection for more than a minute; our own probe fails at once.
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            # Held until this connection closes: other processes must not migrate at once.
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_CREATION_LOCK})"))
        tables = set(sqlalchemy.inspect(connection).get_table_names())
        if tables & {"alembic_version", "runs", "experiments"}:
            _check_schema(uri, connection, tables)
        # An open transaction would block the migrations.
        connection.rollback()
        return new_client(uri)


def _check_schema(uri: str, connection: "sqlalchemy.Connection", tables: set[str]) -> None:
    from sqlalchemy import text

    revision, n_runs = None, 0
    if "alembic_version" in tables:
        query = text("SELECT version_num FROM alembic_version")
        revision = connection.execute(query).scalar_one_or_none()
    if "runs" in tables:
        n_runs = int(connection.execute(text("SELECT count(*) FROM runs")).scalar_one())
    check_revision(
        revision,
        shown=shown(uri),
        n_runs=n_runs,
        move_away="drop its tables, or name another database in tracking.uri",
        upgrade=f"mlflow db upgrade {shlex.quote(without_secrets(uri))}",
    )


def _experiment(
    uri: str, client: "MlflowClient", name: str, database: Path | None, *, create: bool
) -> "Experiment":
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None and not create:
        raise StoreNotFoundError(f"There is no experiment '{name}' in the store {shown(uri)}.")
    if found is None:
        # Other stores know themselves where artifacts belong.
        location, tags = None, None
        if database is not None:
            location, tags = sqlite_file.artifact_root(database).as_uri(), {BESIDE: "true"}
        try:
            found = client.get_experiment(client.create_experiment(name, location, tags))
        except MlflowException as error:
            # Another process may have been faster.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None:
        raise StoreError(f"The store {shown(uri)} does not keep the experiment '{name}'.")
    if found.name != name or not found.experiment_id:
        raise unbelievable(shown(uri), f"not about the experiment '{name}' that it was asked for")
    if found.lifecycle_stage != "active":
        raise StoreError(
            f"The experiment '{name}' of the store {shown(uri)} was deleted. Restore it (mlflow "
            f"experiments restore --experiment-id {found.experiment_id}, with "
            f"MLFLOW_TRACKING_URI={shlex.quote(without_secrets(uri))}), or set "
            "tracking.experiment to another name."
        )
    if create and database is not None:
        _say_where_artifacts_go(found, database)
    return found


def _say_where_artifacts_go(experiment: "Experiment", database: Path) -> None:
    """Log it when somebody gave an experiment a folder that is not beside the database."""
    folder = local_folder(experiment.artifact_location)
    beside = database.parent.resolve()
    if folder is not None and not folder.resolve().is_relative_to(beside):
        _log.warning(
            "The artifacts of the experiment '%s' go to %s, as was set at its creation, and not "
            "beside the database %s.",
            experiment.name,
            folder,
            database,
        )


def _backend(client: "MlflowClient") -> Any:  # Any: one of MLflow's stores, each of another type
    return client._tracking_client.store


def _relative(uri: str) -> str:
    """Return an SQLite address relative to the working directory if it lies below it."""
    database = sqlite_path(uri) if is_sqlite(uri) else None
    if database is None:
        return uri
    try:
        below = database.relative_to(Path.cwd())
    except ValueError:
        return uri
    return sqlite_uri(below)
