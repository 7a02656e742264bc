"""Calls into MLflow: imported without side effects, quiet, and with errors people can read.

MLflow is imported inside these functions, because that takes seconds; the other modules of this
package do the same.
"""

import contextlib
import importlib
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from backtest_batch.errors import StoreError
from backtest_batch.store.address import is_http, is_sqlite, shown, without_secrets

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Result = TypeVar("Result")

_AT_IMPORT = {
    # Without it, importing MLflow writes a file below the home directory, looks up a telemetry
    # server, and takes 0.4 s longer.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
}
_DURING_CALLS = {
    # Otherwise every file read or written draws a bar on stderr.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_DURING_HTTP_CALLS = {
    # Otherwise ending a run writes two lines to stdout.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_AT_ONCE = {
    # MLflow's defaults wait minutes for a lost server before each single error.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_PATIENTLY = {
    # Pauses of 0, 4, 8, 16, 32 and 64 s: a server may be restarted meanwhile.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "6",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
_LOGGERS = (
    "alembic.runtime.migration",
    "alembic.runtime.plugins",
    "alembic.runtime.plugins.setup",
    "mlflow.store.db.utils",
    "mlflow.store.tracking.sqlalchemy_store",
    "urllib3.connectionpool",
)

_quiet: ContextVar[bool] = ContextVar("_quiet", default=False)
_environment_lock = threading.Lock()
_import_lock = threading.Lock()


def import_mlflow() -> None:
    """Import MLflow, which takes seconds; safe in a thread beside the main one."""
    with _import_lock, _environment(_AT_IMPORT):
        importlib.import_module("mlflow.tracking")

    _install_filters()


def require_variables() -> None:
    """Check the values of MLflow's own environment variables.

    MLflow reads each of them when it needs it, and would raise in the middle of something else.

    Raises
    ------
    StoreError
        When MLflow refuses a value.
    """
    from mlflow import environment_variables

    for name in sorted(name for name in os.environ if name.startswith("MLFLOW_")):
        variable = getattr(environment_variables, name, None)
        if variable is not None and hasattr(variable, "get"):
            try:
                variable.get()
            except ValueError as error:
                raise StoreError(
                    f"MLflow refuses the environment variable "
                    f"{name}={without_secrets(os.environ[name])}: "
                    f"{without_secrets(str(error))}. Correct it, or unset it."
                ) from error


def new_client(uri: str) -> "MlflowClient":
    """Return a client of the store at ``uri``; an empty database gets its tables."""
    import_mlflow()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextlib.contextmanager
def calling(uri: str, doing: str, *, patient: bool = False) -> Iterator[None]:
    """Turn MLflow's errors inside the block into a StoreError; keep its log lines off stderr.

    Parameters
    ----------
    uri
        Address of the store.
    doing
        What is being done, as the message says it ("open it", "record runs").
    patient
        Whether to try a server that does not answer for two minutes rather than seconds: nobody
        waits for it meanwhile. MLflow's own variables override both.

    Raises
    ------
    StoreError
        One line that names the store, what failed and what to do; without secrets.
    """
    variables = dict(_DURING_CALLS)
    if not is_sqlite(uri):  # a server may keep the files of a database, too
        variables |= _DURING_HTTP_CALLS | (_PATIENTLY if patient else _AT_ONCE)
    environment = _environment(variables)
    token = _quiet.set(True)
    try:
        with environment:
            yield
    except StoreError:
        raise
    except Exception as error:
        if not _is_of_the_store(error):
            raise
        raise StoreError(
            f"The tracking store {shown(uri)} failed to {doing}: "
            f"{without_secrets(_reason(error), uri=uri)}. {_advice(uri, error)}"
        ) from error
    finally:
        _quiet.reset(token)


class _QuietCalls(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the context decides
        return not _quiet.get()


_filter = _QuietCalls()


def _install_filters() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)  # adding it twice changes nothing


_borrowed: dict[str, list[str]] = {}
"""The values that threads want for variables that the user has not set."""


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that the user has not set, while any thread is inside.

    Where threads want different numbers, the largest counts.
    """
    borrowed = {}
    with _environment_lock:
        for name, value in values.items():
            if name not in os.environ or name in _borrowed:
                borrowed[name] = value
                _borrowed.setdefault(name, []).append(value)
                os.environ[name] = max(_borrowed[name], key=_size)
    try:
        yield
    finally:
        with _environment_lock:
            for name, value in borrowed.items():
                _borrowed[name].remove(value)
                if _borrowed[name]:
                    os.environ[name] = max(_borrowed[name], key=_size)
                else:
                    del _borrowed[name]
                    os.environ.pop(name, None)


def _size(value: str) -> float:
    return float(value) if value.isdecimal() else 0.0


_COLLISIONS = ("unique constraint failed", "duplicate key", "duplicate entry", "deadlock")
"""What databases say when two clients write the same row at once."""
_COLLISION_RETRIES = 8


def again_after_collisions(call: Callable[[], Result]) -> Result:
    """Call a function that adds missing entries, again if another process was faster.

    MLflow inserts a dataset, for example, if it is not there: two processes that begin at once both
    insert it, and one of them fails.
    """
    for attempt in range(_COLLISION_RETRIES):
        try:
            return call()
        except Exception as error:
            if not _is_collision(error):
                raise
            time.sleep((attempt + random.random()) * 0.05)
    return call()


def _is_collision(error: BaseException) -> bool:
    text = " ".join(str(cause) for cause in _chain(error)).lower()
    return any(words in text for words in _COLLISIONS)


_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP codes after which MLflow's own client retries."""


def is_transient(error: BaseException) -> bool:
    """Return whether a request to a server may succeed when repeated.

    It may if the server could not be reached, did not answer, or answered 408, 429, 500 or 502 to
    504; not if its certificate or the client's credentials were refused.
    """
    import requests
    from mlflow.exceptions import MlflowException

    causes = list(_chain(error))
    if any(isinstance(cause, requests.exceptions.SSLError) for cause in causes):
        return False
    if any(isinstance(cause, requests.exceptions.RequestException) for cause in causes):
        return True
    if not isinstance(error, MlflowException):
        return False
    status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
    return status in _TRANSIENT


def _is_of_the_store(error: Exception) -> bool:
    """Return whether ``error`` comes from the store rather than from a mistake in this package."""
    if isinstance(error, OSError | sqlite3.Error | ModuleNotFoundError):
        return True
    if isinstance(error, Warning):
        return False
    origin = type(error).__module__.partition(".")[0]
    return origin in ("mlflow", "sqlalchemy", "alembic", "requests", "urllib3", "google")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: Exception) -> str:
    """Return the innermost cause in one line."""
    for cause in _chain(error):
        if isinstance(cause, sqlite3.Error):
            return str(cause)
        if isinstance(cause, ConnectionError | TimeoutError) and cause.strerror:
            return cause.strerror.lower()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    _, _, caused = first.partition("(Caused by ")
    return (caused.rpartition(": ")[2].rstrip(")'\"") if caused else first).rstrip(". ")


def _advice(uri: str, error: Exception) -> str:
    text = " ".join(str(cause) for cause in _chain(error)).lower()
    for words, advice in _ADVICE:
        if any(word in text for word in words):
            return advice
    if is_http(uri):
        return "Check that the server runs and that tracking.uri is its address."
    return "Check tracking.uri."


_ADVICE = (
    (("disk is full", "no space left"), "Free some space on its disk."),
    (
        ("database is locked",),
        "Another process holds it: wait for it to finish, or give tracking.uri another file.",
    ),
    (
        ("malformed", "not a database", "disk i/o error"),
        "The file is damaged: restore a copy, or move it away and a new one will be made.",
    ),
    (
        ("readonly database", "read-only", "permission denied", "unable to open database"),
        "Make its folder writable, or give tracking.uri another place.",
    ),
    (("no module named",), "Install the database's Python driver."),
    (
        ("code 401", "code 403", "unauthorized", "password authentication", "forbidden"),
        "Check the credentials (MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN).",
    ),
)
