"""A store with a few small batches, each run by the real command."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backtest_batch.config.arguments import Assignment
from backtest_batch.store.address import resolve_uri
from backtest_batch.store.store import Store, open_store

STRATEGIES = '''
import numpy as np


class Noted:
    """Equal weights, whatever is noted; fails where the note says so."""

    def __init__(self, note: str = "none", further: str = "none"):
        self.note = note

    def target_weights(self, panel, decisions):
        if self.note == "fails":
            raise RuntimeError("the note says so")
        return np.full((len(decisions), panel.n_assets), 1 / panel.n_assets)


class Listed:
    """Equal weights of as many assets as there are items."""

    def __init__(self, items: list | None = None, options: dict | None = None):
        self.n_items = len(items or ())

    def target_weights(self, panel, decisions):
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, : self.n_items] = 0.1
        return weights
'''

PROGRAM = """
import sys
from backtest_batch.cli.main import main

common = ["data=synthetic", "data.n_bars=120", "data.n_assets=4", "n_jobs=1"]
common += ["start_date=2000-03-01"]
noted = ["strategy=custom", "strategy._target_=strategies.Noted"]
expected = 0
for line in sys.stdin:
    arguments = line.rstrip("\\n").split("\\t")
    if arguments[0].startswith("expect="):
        expected = int(arguments.pop(0).removeprefix("expect="))
    code = main(["-m", *common, *(noted if "noted" in arguments else []),
                 *(item for item in arguments if item != "noted")])
    assert code == expected, (code, arguments)
    expected = 0
"""

TRENDS = ["strategy.fast=5,10", "strategy.slow=20,30,40", "commission_bps=0.0,1.0"]

LONG = [
    {"id": "a", "strategy.note": "a" * 6_001},
    {"id": "b", "strategy.note": "a" * 6_000 + "b"},
    # Together beyond the limit of a tag.
    {"id": "c", "strategy.note": "x" * 4_500, "strategy.further": "z" * 4_500},
    {"id": "d", "strategy.note": "y" * 4_500, "strategy.further": "z" * 4_500},
    # Beyond the limits of a tag and of a parameter.
    {"id": "e", "strategy.note": "a" * 9_001},
    {"id": "f", "strategy.note": "a" * 9_000 + "b"},
]

LISTED = ["strategy=custom", "strategy._target_=strategies.Listed"]

BATCHES = [
    ["batch_name=core", *TRENDS, "tags.suite=first", "tags.size=12"],
    ["batch_name=other", "rebalance=W", "strategy.slow=20,50", "strategy.fast=5",
     "tags.suite=second", "tag_names=[reviewed]"],
    ["expect=1", "batch_name=failing", "noted", "strategy.note=one,fails,two"],
    ["batch_name=long", "noted", Assignment("runs", LONG).override],
    # Lists and mappings, swept in one batch and configured in the other; neither has files.
    ["batch_name=listed", *LISTED, "strategy.items=[x,'y z'],[z]",
     "strategy.options={a:1},{a:1,b:'it is'}", "tracking.artifacts=none"],
    ["batch_name=unlisted", *LISTED, "strategy.items=[x,'y z']", "strategy.options={a:1}",
     "rebalance=M,W"],
    # Four runs of the first batch once more, under the same name and without files.
    ["batch_name=core", "strategy.fast=5", "strategy.slow=20,30", "commission_bps=0.0,1.0",
     "tags.suite=newest", "tracking.artifacts=none"],
]  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """The working directory of the batches, and their ids in the order in which they ran."""

    folder: Path
    ids: tuple[str, ...]

    @property
    def core(self) -> str:
        return self.ids[0]

    def reports(self, batch_id: str) -> Path:
        return self.folder / "mlruns" / "batches" / batch_id


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, migrated_store: Path) -> Recorded:
    folder = tmp_path_factory.mktemp("compared")
    (folder / "strategies.py").write_text(STRATEGIES, encoding="utf-8")
    (folder / "mlruns").mkdir()
    shutil.copyfile(migrated_store, folder / "mlruns" / "mlflow.db")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        input="".join("\t".join(batch) + "\n" for batch in BATCHES),
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    prefix = "Reports: "
    lines = [line for line in done.stdout.splitlines() if line.startswith(prefix)]
    ids = tuple(Path(line.removeprefix(prefix)).name for line in lines)
    assert len(ids) == len(BATCHES), done.stdout
    return Recorded(folder, ids)


@pytest.fixture(scope="session")
def store(recorded: Recorded) -> Iterator[Store]:
    opened = open_store(resolve_uri(None, recorded.folder), "backtest_batch", create=False)
    yield opened
    opened.close()


@pytest.fixture
def in_store(recorded: Recorded) -> Iterator[Recorded]:
    """Work in the directory of the batches."""
    previous = Path.cwd()
    os.chdir(recorded.folder)
    try:
        yield recorded
    finally:
        os.chdir(previous)
