"""A local SQLite store: created completely or not at all, checked before MLflow opens it, tuned.

Nothing here opens the file of a store other than through SQLite. Under POSIX a process loses all
its locks on a file as soon as it closes any handle of that file. Another connection of the process
(a notebook's client, say) would then go on without locks, and other processes would remove the log
that it writes into.
"""

import contextlib
import os
import shlex
import sqlite3
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest_batch.errors import StoreError
from backtest_batch.store.address import ARTIFACTS_FOLDER, sqlite_uri

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory


@contextlib.contextmanager
def locked(path: Path, *, timeout_seconds: float = 120.0) -> Iterator[None]:
    """Hold an exclusive lock on the file at ``path`` during the block, then remove the file.

    The operating system releases the lock when the process dies, however it dies.

    Raises
    ------
    StoreError
        When another process holds the lock for longer than ``timeout_seconds``.
    OSError
        When the file cannot be made, or its file system has no such locks.
    """
    from filelock import Timeout, UnixFileLock  # late: few commands need a lock

    path.parent.stat()  # a missing folder is not made
    lock = UnixFileLock(path, timeout=timeout_seconds, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"Another process has locked {path} for {timeout_seconds:.0f} seconds. Wait for it "
            "to finish, or end it."
        ) from error
    try:
        yield
    finally:
        # While still locked: those that wait see that the file is gone, and make another.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


KNOWN_REVISIONS = frozenset(
    {
        "d3e4f5a6b7c8",  # MLflow 3.9
        "1b5f0d9ad7c1",  # MLflow 3.10
        "c3d6457b6d8a",  # MLflow 3.11
        "7d34483879f0",  # MLflow 3.12
        "da6fb0208061",  # MLflow 3.13
        "b7e4c1a90f23",  # MLflow 3.14
        "6f8d9c3b2a1e",  # MLflow 3.15
        "b7e2c1a4d9f3",  # MLflow 3.16
        "dc11669786a5",  # MLflow 3.17
    }
)
"""Schemas in which the tests have compared this package's own SQL with MLflow's client."""


def head_revision() -> str:
    """Return the alembic revision that the installed MLflow works with."""
    return str(_migrations().get_current_head())


def check_revision(
    revision: str | None, *, shown: str, n_runs: int, move_away: str, upgrade: str
) -> None:
    """Refuse a database whose schema is not the installed MLflow's.

    Parameters
    ----------
    revision
        What the database's table ``alembic_version`` holds; None without one.
    shown
        The name of the database for messages.
    n_runs
        0 when the database holds no runs.
    move_away
        The command that moves the database away.
    upgrade
        The command by which MLflow upgrades the schema.

    Raises
    ------
    StoreError
        With the command that MLflow recommends for an older schema, or other advice.
    """
    if revision == head_revision():
        return
    from mlflow.version import VERSION

    if revision is None:
        raise StoreError(
            f"The database {shown} is not an MLflow store: it has other tables. Give tracking.uri "
            "a database of its own."
        )
    if not _is_known(revision):
        raise StoreError(
            f"The tracking store {shown} was written by a newer MLflow than the installed {VERSION}"
            f" (its schema is {revision}). Upgrade it: pip install -U mlflow"
        )
    if not n_runs:
        raise StoreError(
            f"The tracking store {shown} has an older or unfinished schema ({revision}) and holds "
            f"no runs. Move it away and a new one will be made: {move_away}"
        )
    raise StoreError(
        f"The tracking store {shown} has the schema {revision} of an older MLflow; {VERSION} works "
        f"with {head_revision()}. Make a backup, then upgrade it: {upgrade}"
    )


@lru_cache(maxsize=1)
def _migrations() -> "ScriptDirectory":
    import mlflow
    from alembic.script import ScriptDirectory

    # mlflow.store.db.utils does the same from its own folder, but has no public name for it.
    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _is_known(revision: str) -> bool:
    from alembic.script.revision import ResolutionError
    from alembic.util import CommandError

    try:
        return _migrations().get_revision(revision) is not None
    except (CommandError, ResolutionError):
        return False


_BUSY_SECONDS = 20.0
_CHECKED_BYTES = 16 * 2**20
"""A database up to this size is checked completely; a larger one would delay every start."""


def artifact_root(database: Path) -> Path:
    """Return the folder of the artifacts of the store in ``database``."""
    return database.parent / ARTIFACTS_FOLDER


def holds_store(database: Path) -> bool:
    """Return whether ``database`` has any content; an empty file has none."""
    return database.is_file() and database.stat().st_size > 0


def identity(database: Path) -> tuple[int, int] | None:
    """Return what identifies a file, whatever gets its name later; None if there is none."""
    try:
        found = database.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def create_if_missing(database: Path) -> None:
    """Create the store unless it exists; several processes may do so at once.

    MLflow's migrations take about a second, must not run twice at once, and leave an unusable file
    when interrupted. So they run under a lock, on a file with a temporary name, which is renamed
    when it is complete.

    Raises
    ------
    StoreError
        When the folder cannot be made or written.
    """
    if holds_store(database):
        return
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with locked(database.with_name(f".{database.name}.lock")):
            if not holds_store(database):
                _create(database)
    except StoreError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"The tracking store {database} cannot be created: {_text(error)}. Make its folder "
            "writable and its disk not full, or give tracking.uri another place."
        ) from error


def check_file(database: Path) -> None:
    """Check that the database is sound, of the installed MLflow's schema, and can be written.

    MLflow itself would retry for minutes before it answers most of these faults with a traceback,
    and would migrate some older stores without asking.

    Raises
    ------
    StoreError
        With what is wrong and what to do.
    """
    try:
        with contextlib.closing(connect(database)) as connection:
            tables = {
                row[0] for row in connection.execute("SELECT name FROM sqlite_master").fetchall()
            }
            if database.stat().st_size <= _CHECKED_BYTES:
                _check_pages(connection)
            revision = _revision(connection) if "alembic_version" in tables else None
            n_runs = _count_runs(connection) if "runs" in tables else 0
            check_revision(
                revision,
                shown=str(database),
                n_runs=n_runs,
                move_away=_move_away(database),
                upgrade=f"mlflow db upgrade {shlex.quote(sqlite_uri(database))}",
            )
            _use_wal(connection)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except StoreError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise StoreError(_explain(database, error)) from error


def require_whole(database: Path) -> None:
    """Check the pages of a database in use, through a connection that has read none yet.

    A database that cannot be read for another reason, such as a lock, passes.

    Raises
    ------
    StoreError
        When it is damaged; the message says what to do.
    """
    try:
        with contextlib.closing(connect(database)) as connection:
            if database.stat().st_size <= _CHECKED_BYTES:
                _check_pages(connection)
    except (OSError, sqlite3.OperationalError):
        return
    except sqlite3.DatabaseError as error:
        raise StoreError(_explain(database, error)) from error


def tune(engine: Any) -> None:
    """Make each new connection of an SQLAlchemy engine wait for others, and sync less often.

    With a write-ahead log, synchronous=NORMAL cannot corrupt the database; a power cut can lose
    the last transactions. It makes recording a run about five times faster.
    """
    from sqlalchemy import event

    if not event.contains(engine, "connect", _on_connect):
        event.listen(engine, "connect", _on_connect)
    # Earlier connections, or those to a file that was deleted since, are not used again.
    engine.dispose()


def _on_connect(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000:.0f}")


def _create(database: Path) -> None:
    for leftover in database.parent.glob(f".{database.name}.*.creating*"):
        leftover.unlink()  # of a process that was killed: nobody else works here under the lock
    temporary = database.with_name(f".{database.name}.{uuid.uuid4().hex[:8]}.creating")
    try:
        _migrate(temporary, artifact_root(database))
        with contextlib.closing(connect(temporary)) as connection:
            _use_wal(connection)
        _flush(temporary)
        # Left by a deleted database: SQLite would apply their content to the new one.
        for leftover in _companions(database):
            leftover.unlink(missing_ok=True)
        temporary.replace(database)
    finally:
        for part in (temporary, *_companions(temporary)):
            part.unlink(missing_ok=True)


def _migrate(temporary: Path, artifacts: Path) -> None:
    from mlflow.store.db import utils
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event

    uri = sqlite_uri(temporary)
    engine = utils.create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
    # The file does not count until it is complete and flushed.
    event.listen(engine, "connect", _without_sync)
    try:
        utils._initialize_tables(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()
    # Adds the default experiment.
    store = SqlAlchemyStore(uri, artifacts.as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()


def _without_sync(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")


def _companions(database: Path) -> list[Path]:
    """Return the files that SQLite keeps beside a database while it is used."""
    return [database.with_name(database.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _flush(path: Path) -> None:
    # Of a file that does not have its name yet: nobody has a connection to it.
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def connect(database: Path) -> sqlite3.Connection:
    """Return a connection that waits for others; its statements begin and end transactions."""
    # isolation_level None: the statements below begin and end their transactions themselves.
    return sqlite3.connect(
        f"{database.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
    )


def _check_pages(connection: sqlite3.Connection) -> None:
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise sqlite3.DatabaseError(f"database disk image is malformed ({answer.strip()})")


def _revision(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


def _count_runs(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM (SELECT 1 FROM runs LIMIT 1)").fetchone()
    return int(count)


def _use_wal(connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        # Needs exclusive access for a moment, and persists. Without it all is slower, not wrong.
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL")


def _move_away(database: Path) -> str:
    old = database.with_name(f"{database.name}.old")
    pairs = [(database, old), *zip(_companions(database), _companions(old), strict=True)]
    return " && ".join(
        f"mv {shlex.quote(str(source))} {shlex.quote(str(target))}"
        for source, target in pairs
        if source.exists()
    )


def _explain(database: Path, error: OSError | sqlite3.Error) -> str:
    text = _text(error)
    if "locked" in text:
        return (
            f"The tracking store {database} has been locked by another process for "
            f"{_BUSY_SECONDS:.0f} seconds. Wait for it to finish, or give tracking.uri another "
            "file."
        )
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return (
            f"The tracking store {database} is damaged: {text}. Restore a copy of it, or move it "
            f"away and a new one will be made: {_move_away(database)}"
        )
    return (
        f"The tracking store {database} cannot be opened for writing: {text}. Make it and its "
        "folder writable, or give tracking.uri another place."
    )


def _text(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return (strerror or str(error)).lower().rstrip(".")
