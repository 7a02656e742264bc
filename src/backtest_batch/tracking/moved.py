"""Stores that were moved, copied or renamed: their artifacts lie beside the database that is open.

MLflow records where artifacts are as whole addresses, of experiments and of runs. In a project that
was renamed, new artifacts would go to a folder that is no more; in a copy, into the original.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from backtest_batch.tracking.artifacts import local_folder
from backtest_batch.tracking.sqlite_file import artifact_root, connect

BESIDE = "backtest_batch.artifacts"
"""Tag of an experiment whose artifacts were beside the database when it was made."""

_log = logging.getLogger(__name__)


def bring_artifacts_along(database: Path) -> None:
    """Let the addresses of artifacts lead beside the database, if they were recorded elsewhere.

    That is done for experiments that this package has made beside their database, and for their
    runs. A run whose files are at the recorded place only (the database alone was moved) keeps its
    address. Other experiments were given their place by somebody, and keep it.

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
    for place in sorted({str(recorded.parent) for _, _, recorded in before}):
        _log.warning(
            "The tracking store %s was made in %s. From now on its artifacts are those beside it.",
            database,
            place,
        )


def _elsewhere(connection: sqlite3.Connection, root: Path) -> Iterator[tuple[int, str, Path]]:
    """Yield id, address and folder of experiments that were made beside another database.

    The default experiment, which MLflow makes with a store, shows where an older one was made.
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
