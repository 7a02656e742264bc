"""The address of the tracking store, and how to show it without its secrets."""

import os
import re
from pathlib import Path

from backtest_batch.errors import StoreError
from backtest_batch.masking import masked

DEFAULT_DATABASE = "mlruns/mlflow.db"
"""The store under the working directory, used when none is configured."""

DEFAULT_EXPERIMENT = "backtest_batch"
"""The experiment that is used when none is configured."""

ARTIFACTS_FOLDER = "artifacts"
"""Folder of a local SQLite store's artifacts, beside the database."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_BARE_NAMES = {"databricks", "databricks-uc", "uc"}


def resolve_uri(configured: str | None, working_dir: Path) -> str:
    """Return the address of the tracking store.

    Parameters
    ----------
    configured
        The key ``tracking.uri``. If it is unset the variable ``MLFLOW_TRACKING_URI`` counts, and
        without that ``sqlite:///mlruns/mlflow.db`` under ``working_dir``.
    working_dir
        Where relative SQLite paths start.

    Returns
    -------
    str
        The address; that of an SQLite store always holds an absolute path.

    Raises
    ------
    StoreError
        For a folder or a ``file:`` address, because MLflow's file store takes no new runs, and for
        an SQLite database in memory, because nothing in it would remain.
    """
    source, given = "tracking.uri", (configured or "").strip()
    if not given:
        source, given = "MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not given:
        return sqlite_uri(working_dir.absolute() / DEFAULT_DATABASE)
    scheme = _SCHEME.match(given)
    if scheme is None and given in _BARE_NAMES:
        return given
    if scheme is None or scheme[1].lower() == "file":
        raise StoreError(_file_store_message(source, given))
    if is_sqlite(given):
        return _absolute_sqlite_uri(source, given, working_dir)
    return given.rstrip("/") if is_http(given) else given


def resolve_experiment(configured: str | None) -> str:
    """Return the name of the experiment.

    Parameters
    ----------
    configured
        The key ``tracking.experiment``. When it is unset the variable ``MLFLOW_EXPERIMENT_NAME``
        counts, and without that ``backtest_batch``.
    """
    named = os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip()
    return configured or named or DEFAULT_EXPERIMENT


def is_sqlite(uri: str) -> bool:
    """Return whether ``uri`` names an SQLite database."""
    return uri.lower().startswith(("sqlite:", "sqlite+"))


def is_http(uri: str) -> bool:
    """Return whether ``uri`` names a tracking server."""
    return uri.lower().startswith(("http:", "https:"))


def sqlite_uri(path: Path) -> str:
    """Return the SQLAlchemy address of the SQLite database at ``path``.

    Raises
    ------
    StoreError
        When the path holds a character that the installed SQLAlchemy cannot put into an address.
    """
    text = path.as_posix()
    if not re.search(r"[%?#]", text):
        return f"sqlite:///{text}"
    # SQLAlchemy 2.0 and 2.1 differ in unquoting addresses, so ask SQLAlchemy itself.
    from sqlalchemy.engine import URL, make_url

    # With the name of the driver, because MLflow makes the folder of `sqlite:///...` without
    # unquoting the text.
    uri = URL.create("sqlite+pysqlite", database=text).render_as_string()
    if make_url(uri).database != text:
        raise StoreError(
            f"The path {text} cannot hold an SQLite store: a database address must not contain the "
            "character `?`. Rename the folder, or set tracking.uri to another path."
        )
    return uri


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite address, or None for one that is in memory."""
    path = uri.partition(":///")[2]
    if "%" in path or "?" in path:
        from sqlalchemy.engine import make_url

        path = make_url(uri).database or ""
    if not path or path.startswith((":memory:", "file:")):
        return None
    return Path(path)


def shown(uri: str) -> str:
    """Return ``uri`` for a message: a path for SQLite, otherwise without secrets."""
    if is_sqlite(uri):
        return str(sqlite_path(uri) or uri)
    return without_secrets(uri)


def without_secrets(text: str, *, uri: str = "") -> str:
    """Return an address, or a text about one, without user names, passwords and tokens.

    Every message of this package about an address passes through here.

    Parameters
    ----------
    text
        The address or the message.
    uri
        The address whose password must not appear in the message on its own either.
    """
    return masked(text, uri=uri)


def has_secret(uri: str) -> bool:
    """Return whether ``uri`` holds a user name, a password or a token."""
    return not is_sqlite(uri) and without_secrets(uri) != uri


def _absolute_sqlite_uri(source: str, given: str, working_dir: Path) -> str:
    path = sqlite_path(given)
    if path is None:
        raise StoreError(
            f"{source}={without_secrets(given)} is a database in memory, which is lost at "
            f"the end. Give a file instead, such as sqlite:///{DEFAULT_DATABASE}."
        )
    if path.is_absolute():
        return sqlite_uri(path) if "%" in given else given
    return sqlite_uri(working_dir.absolute() / path)


def _file_store_message(source: str, given: str) -> str:
    suggestion = DEFAULT_DATABASE
    if not given.lower().startswith("file:"):
        path = Path(given)
        suggestion = (path if path.suffix in (".db", ".sqlite") else path / "mlflow.db").as_posix()
    return (
        f"{source}={without_secrets(given)} is a folder or file, and MLflow's file store takes no "
        f"new runs. Give a database or a server instead, such as {source}=sqlite:///{suggestion}."
    )
