"""Commands to kill, in folders of their own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest_batch.store import sqlite_file
from backtest_batch.store.mlflow_calls import import_mlflow
from tests.support.commands import Command


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all processes of a test session, so that kernels are compiled once."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def environment(shared_folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, "BACKTEST_BATCH_CACHE": str(shared_folder / "survival-cache")}


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database that MLflow's migrations made; copying it saves each test that second."""
    import_mlflow()
    database = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    sqlite_file.create_if_missing(database)
    return database


@pytest.fixture
def bare_command(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """The command in an empty folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command = Command(tmp_path, environment)
    yield command
    for process in command.running:
        process.kill()
        process.communicate()


@pytest.fixture
def command(bare_command: Command, migrated_store: Path) -> Command:
    """The command in a folder that has a store already."""
    database = bare_command.folder / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    shutil.copyfile(migrated_store, database)
    return bare_command
