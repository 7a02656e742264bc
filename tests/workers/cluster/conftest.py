"""Batches on Dask and Ray: real clusters, really killed."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.commands import Command

MODULES = {"dask": "distributed", "ray": "ray"}
"""What a backend imports; loky is always there."""


@pytest.fixture
def needs(require: Callable[[object, str], None]) -> Callable[[str], None]:
    """Skip the test where a backend is not installed."""

    def check(backend: str) -> None:
        module = MODULES.get(backend)
        if module is not None:
            found = importlib.util.find_spec(module)
            require(found, f"needs pip install 'backtest-batch[{backend}]'")

    return check


@pytest.fixture
def command(tmp_path: Path, migrated_store: Path) -> Iterator[Command]:
    """The command in a folder that has a store already."""
    folder = tmp_path / "work"
    (folder / "mlruns").mkdir(parents=True)
    shutil.copyfile(migrated_store, folder / "mlruns" / "mlflow.db")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    started = Command(folder, kept)
    yield started
    for process in started.running:
        process.kill()
        process.communicate()
