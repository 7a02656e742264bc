"""The version of a database's schema, compared with the one that the installed MLflow wants."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from backtest_batch.errors import StoreError

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

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
        The database as a message names it.
    n_runs
        0 when the database holds no runs.
    move_away
        What makes room for a new store.
    upgrade
        The command by which MLflow upgrades the schema.

    Raises
    ------
    StoreError
        With the command that MLflow advises for an older schema, or what else to do.
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
