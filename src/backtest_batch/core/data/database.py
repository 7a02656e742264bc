"""Sending a query to a database, which is never written to, and its answer as a table."""

import difflib
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote as quoted

from backtest_batch.core.data.wording import printable_name
from backtest_batch.errors import DataError, DataNotFoundError
from backtest_batch.masking import masked

ROWS = 50_000
"""Number of rows that are fetched from a database at a time."""

_MOST_SHOWN = 4

CONNECT_SECONDS = 10
"""How long connecting to PostgreSQL may take."""

_BEGINNINGS = ("select", "with", "from", "values", "table")
_EXTRAS = {"psycopg2": "postgres", "duckdb": "duckdb"}
_PIECES = re.compile(
    r"""
    '(?:[^']|'')*'                      # a text
    | "(?:[^"]|"")*" | `[^`]*`          # a name
    | \$(?P<mark>\w*)\$.*?\$(?P=mark)\$ # a text of PostgreSQL
    | --[^\n]* | /\*.*?\*/              # a comment
    """,
    re.VERBOSE | re.DOTALL,
)
_UNKNOWN_TABLE = re.compile(
    r"no such table|relation \S+ does not exist|table .*(does not|doesn't) exist", re.IGNORECASE
)
_TABLES = re.compile(r"\b(?:from|join)\s+[\"`\[]?([\w.]+)", re.IGNORECASE)


class QueryTable:
    """The answer of a database, read as a file is.

    Parameters
    ----------
    table
        A pyarrow Table.
    """

    path = Path("the query")
    decimal = "."
    thousands: str | None = None
    is_doubtful = False
    notes: tuple[str, ...] = ()

    def __init__(self, table: Any) -> None:
        self._table = table

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""
        return list(self._table.column_names)

    @property
    def index_column(self) -> str | None:
        """The only column whose type is a date or timestamp; None if there is none, or several."""
        import pyarrow as pa

        found = [
            each.name
            for each in self._table.schema
            if pa.types.is_timestamp(each.type) or pa.types.is_date(each.type)
        ]
        return found[0] if len(found) == 1 else None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self._table.num_rows)

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns; the first of ``text`` holds the timestamps.

        Raises
        ------
        DataError
            When a timestamp is NULL.
        """
        found = self._table.select([*text, *numbers])
        for name in text[:1]:
            if found[name].null_count:
                raise self._no_timestamp(name, found)
        return found

    def _no_timestamp(self, name: str, found: Any) -> DataError:
        import pyarrow.compute as pc

        missing = found[name].is_null()
        row = pc.index(missing, True).as_py()
        others = [other for other in found.column_names if other != name][:_MOST_SHOWN]
        shown = ", ".join(f"{other} is {found[other][row].as_py()}" for other in others)
        return DataError(
            f"{self.path}: the timestamp '{name}' is NULL in {found[name].null_count:,} of "
            f"{self.n_rows:,} rows, the first is row {row + 1:,} (where {shown}): "
            f'`where "{name}" is not null` in `data.query` leaves them out, '
            "`data.timestamp_column` names another column"
        )

    def digest(self) -> str:
        """Return the sha256 of the names, types, values and order of the rows."""
        import pyarrow as pa

        found = hashlib.sha256()
        for name in self._table.column_names:
            # One column at a time, because making chunks of equal size needs a copy.
            one = pa.table({name: self._table[name].combine_chunks()})
            with pa.ipc.new_stream(_Hashed(found), one.schema) as stream:
                stream.write_table(one, max_chunksize=ROWS)
        return found.hexdigest()


class _Hashed:
    """A file that keeps only the hash of what is written to it."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is kept."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


def check_query(query: str) -> None:
    """Check that a query is one statement that only reads.

    Raises
    ------
    ValueError
        When it is empty, has several statements, or is not a SELECT.
    """
    bare = _PIECES.sub(" '' ", query).strip()
    statement, _, rest = bare.partition(";")
    if not statement.strip().strip("'").strip():
        raise ValueError("`query` must be a SELECT, but is empty.")
    if rest.replace(";", "").replace("''", "").strip():
        raise ValueError("`query` must be one statement, but a second one follows its semicolon.")
    words = re.findall(r"\w+", statement.replace("''", " "))
    if not words or words[0].casefold() not in _BEGINNINGS:
        raise ValueError(
            f"`query` must be a SELECT (or WITH ... SELECT), but is {query.strip()[:60]!r}: a "
            "source only reads."
        )


def check_url(url: str) -> None:
    """Check that a URL is the address of a database.

    Raises
    ------
    ValueError
        When it is not; the message contains no secret.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:
        file = Path(url)
        hint = f": sqlite:///{url} is the file" if "://" not in url and file.is_file() else ""
        raise ValueError(
            "`url` must be the address of a database, such as sqlite:///prices.db, "
            "duckdb:///prices.duckdb or postgresql+psycopg2://host/database, but got "
            f"url={masked(url)}{hint}."
        ) from error


def run_query(url: str, query: str) -> QueryTable:
    """Return the answer of a database to one query that only reads.

    SQLite and DuckDB files are opened read-only; the session with PostgreSQL, MySQL and MariaDB is
    read-only. With other databases, nothing is committed.

    Parameters
    ----------
    url
        Address of the database, as SQLAlchemy writes it.
    query
        A SELECT.

    Raises
    ------
    DataNotFoundError
        When there is no such database, or no driver for it.
    DataError
        When it does not answer, or refuses the query. No message contains a secret of ``url``.
    """
    from sqlalchemy.engine import make_url

    address = make_url(url)
    with _errors_without_secrets(url):
        if address.get_backend_name() == "duckdb":
            return QueryTable(_ask_duckdb(address, query))
        return QueryTable(_ask(address, query))


@contextmanager
def _errors_without_secrets(url: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        text = masked(printable_name(str(error)), uri=url)
        # Without the cause, which holds the address.
        raise type(error)(text) from None


def _ask(address: Any, query: str) -> Any:
    from sqlalchemy.exc import SQLAlchemyError

    engine = _engine(address)
    try:
        try:
            connection = engine.connect()
        except SQLAlchemyError as error:
            raise DataError(f"{_shown(address)} cannot be opened: {_reason(error)}") from error
        with connection:
            try:
                _make_read_only(connection, engine.dialect.name)
                options = {"stream_results": True, "no_parameters": True}
                answer = connection.execution_options(**options).exec_driver_sql(query)
                return _table(list(answer.keys()), answer)
            except SQLAlchemyError as error:
                reason = _reason(error)
                connection.rollback()
                raise _refused(address, query, reason, _tables_of(connection)) from error
            finally:
                connection.rollback()
    finally:
        engine.dispose()


def _engine(address: Any) -> Any:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    options: dict[str, Any] = {"poolclass": NullPool}
    try:
        dialect = address.get_dialect()
        if dialect.name == "sqlite":
            options["creator"] = _sqlite_opener(address)
            address = address.set(database=None, query={})
        elif "psycopg" in dialect.driver and "connect_timeout" not in address.query:
            options["connect_args"] = {"connect_timeout": CONNECT_SECONDS}
        return create_engine(address, **options)
    except NoSuchModuleError as error:
        raise DataNotFoundError(
            f"SQLAlchemy knows no database '{address.drivername}': is the address spelt right? "
            "(sqlite, duckdb and postgresql are known; others need a package of their own)"
        ) from error
    except ModuleNotFoundError as error:
        raise _no_driver(str(error.name), address) from error
    except DataError:
        raise
    except (ArgumentError, TypeError, ValueError) as error:
        raise DataError(f"{_shown(address)} is no address that can be used: {error}") from error


def _sqlite_opener(address: Any) -> Any:
    import sqlite3

    database = address.database or ""
    if not database or database == ":memory:":
        raise DataError(f"{_shown(address)} is a database in memory, which holds no prices")
    if database.startswith("file:"):
        place = database
    else:
        file = Path(database).expanduser().absolute()
        if not file.is_file():
            raise DataNotFoundError(
                f"{_shown(address)}: no such file (looked for {printable_name(file)})"
            )
        place = f"file:{quoted(str(file))}?mode=ro"
    return lambda: sqlite3.connect(place, uri=True)


def _make_read_only(connection: Any, dialect: str) -> None:
    """Make the session read-only, whatever the query contains."""
    commands = {
        "sqlite": ("PRAGMA query_only=ON",),
        # Set the zone, so that an answer depends on neither the server's nor this machine's.
        "postgresql": (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET SESSION TIME ZONE 'UTC'",
        ),
        "mysql": ("SET SESSION TRANSACTION READ ONLY",),
        "mariadb": ("SET SESSION TRANSACTION READ ONLY",),
    }
    for command in commands.get(dialect, ()):
        connection.exec_driver_sql(command)
    if dialect != "sqlite":
        connection.commit()  # the settings apply from the next transaction on


def _ask_duckdb(address: Any, query: str) -> Any:
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise _no_driver("duckdb", address) from error
    import pyarrow as pa

    database = address.database or ":memory:"
    file = Path(database).expanduser()
    if database != ":memory:" and "://" not in database and not file.is_file():
        raise DataNotFoundError(
            f"{_shown(address)}: no such file (looked for {printable_name(file.absolute())})"
        )
    try:
        connection = duckdb.connect(str(file), read_only=database != ":memory:")
    except duckdb.Error as error:
        raise DataError(f"{_shown(address)} cannot be opened: {_reason(error)}") from error
    with connection:
        try:
            # Otherwise the names of Python variables would be usable as tables.
            connection.execute("SET python_enable_replacements = false")
            connection.execute("SET TimeZone = 'UTC'")
            relation = connection.sql(query)
            open_reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
            with open_reader(ROWS) as reader:
                return pa.Table.from_batches(
                    [batch for batch in map(_usual_types, reader) if batch.num_rows],
                    _usual_schema(reader.schema),
                )
        except duckdb.Error as error:
            reason = _reason(error)
            raise _refused(address, query, reason, _duckdb_tables(connection)) from error


def _usual_types(batch: Any) -> Any:
    return batch.cast(_usual_schema(batch.schema))


def _usual_schema(schema: Any) -> Any:
    """Return a schema with decimals as float64, the only kind of number in a panel."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field(each.name, pa.float64() if pa.types.is_decimal(each.type) else each.type)
            for each in schema
        ]
    )


def _duckdb_tables(connection: Any) -> list[str]:
    try:
        rows = connection.execute("select table_name from information_schema.tables").fetchall()
    except Exception:  # noqa: BLE001 - it only helps a message
        return []
    return sorted(str(row[0]) for row in rows)


def _tables_of(connection: Any) -> list[str]:
    from sqlalchemy import inspect

    try:
        found = inspect(connection)
        return sorted({*found.get_table_names(), *found.get_view_names()})
    except Exception:  # noqa: BLE001 - it only helps a message
        return []


def _refused(address: Any, query: str, reason: str, tables: Sequence[str]) -> DataError:
    hint = ""
    if _UNKNOWN_TABLE.search(reason):
        asked = [name.rpartition(".")[2] for name in _TABLES.findall(query)]
        near = [
            match
            for name in asked
            if name not in tables
            for match in difflib.get_close_matches(name, tables, n=2)
        ]
        held = ", ".join(tables[:8]) + (", ..." if len(tables) > 8 else "")
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        hint += f"; it has {held or 'no tables'}"
    return DataError(f"{_shown(address)} refuses the query: {reason}{hint}")


def _no_driver(module: str, address: Any) -> DataNotFoundError:
    name = module.partition(".")[0]
    extra = _EXTRAS.get(name)
    package = f"'backtest-batch[{extra}]'" if extra else name
    return DataNotFoundError(
        f"{address.drivername} needs the package {name}: `pip install {package}` installs it"
    )


def _reason(error: Exception) -> str:
    """Return the error message of a database, on one line, without SQLAlchemy's additions."""
    said = str(getattr(error, "orig", None) or error)
    lines = [line.strip() for line in said.splitlines()]
    return "; ".join(line for line in lines if line and not set(line) <= {"^"})


def _shown(address: Any) -> str:
    return masked(str(address.render_as_string(hide_password=True)))


def _table(names: Sequence[str], answer: Any) -> Any:
    """Return the rows of an answer as a pyarrow Table."""
    import pyarrow as pa

    chunks: list[list[Any]] = [[] for _ in names]
    while rows := answer.fetchmany(ROWS):
        for chunk, values in zip(chunks, zip(*rows, strict=True), strict=True):
            chunk.append(_array(values))
    columns = [_joined(chunk) for chunk in chunks]
    return pa.Table.from_arrays(columns, names=list(names))


def _array(values: Sequence[Any]) -> Any:
    """Return Python values as an arrow array; values of several kinds become text."""
    import pyarrow as pa

    plain = [float(value) if isinstance(value, Decimal) else value for value in values]
    try:
        return pa.array(plain)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([None if value is None else str(value) for value in plain], pa.string())


def _joined(chunks: Sequence[Any]) -> Any:
    """Return chunks as one column: float64 if they are different kinds of numbers, else text."""
    import pyarrow as pa

    kinds = {chunk.type for chunk in chunks if not pa.types.is_null(chunk.type)}
    if not kinds:
        return pa.chunked_array(chunks, pa.null())
    if len(kinds) == 1:
        (kind,) = kinds
    elif all(pa.types.is_integer(each) or pa.types.is_floating(each) for each in kinds):
        kind = pa.float64()
    else:
        kind = pa.string()
    return pa.chunked_array([chunk.cast(kind) for chunk in chunks], kind)
