"""A small storm; `python -m benchmarks.storm --faults 1000` is the large one."""

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from benchmarks.storm.batch import plan
from benchmarks.storm.faults import KINDS, MOMENTS
from benchmarks.storm.invariants import violations
from benchmarks.storm.sandbox import Grid, Sandbox

TOP = Path(__file__).parents[2]

GRID = Grid(n_choices=3, seconds=0.0)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with one batch that met no fault."""
    root = tmp_path_factory.mktemp("storm")
    kernels = Path(os.environ["NUMBA_CACHE_DIR"])
    sandbox = Sandbox(root=root / "sandbox", kernels=kernels)
    command = sandbox.start(GRID.arguments)
    assert command.process.wait(timeout=300) == 0, command.errors
    yield sandbox
    sandbox.end_everything()


@contextmanager
def changed(sandbox: Sandbox, sql: str, back: str) -> Iterator[None]:
    """Change the store for a while."""
    for statement in (sql, back):
        with closing(sqlite3.connect(sandbox.database)) as store:
            store.execute(statement)
            store.commit()
        if statement is sql:
            yield


@contextmanager
def away(path: Path) -> Iterator[None]:
    """Take a file away for a while."""
    hidden = path.parents[1] / "hidden"
    path.rename(hidden)
    yield
    hidden.rename(path)


def test_each_invariant_notices_what_breaks_it(complete: Sandbox) -> None:
    rankings = complete.batches[0] / "rankings.csv"
    reference = rankings.read_bytes()

    def wrong(expected: bytes = reference) -> str:
        return "; ".join(violations(complete, GRID, expected, spoiled=False))

    assert wrong() == ""
    assert "rankings.csv differs" in wrong(b"other")
    one = "(select min(run_uuid) from tags where key = 'batch_role' and value = 'run')"
    finish = f"update runs set status = 'FINISHED' where run_uuid = {one}"
    with changed(complete, finish.replace("FINISHED", "RUNNING"), finish):
        assert "1 runs are RUNNING" in wrong()
        assert "instead of 3 FINISHED" in wrong()
    active = f"update runs set lifecycle_stage = 'active' where run_uuid = {one}"
    with changed(complete, active.replace("'active'", "'deleted'"), active):
        assert "2 runs recorded" in wrong()
    files = sorted(complete.work.glob("mlruns/artifacts/*/artifacts/equity.parquet"))
    with away(files[0]):
        assert "FINISHED without all files" in wrong()
    with away(complete.batches[0] / "report.html"):
        assert "the folder of the batch lacks ['report.html']" in wrong()
    stray = complete.work / "mlruns" / "stray"
    stray.touch()
    assert "stray files in mlruns: ['stray']" in wrong()
    stray.unlink()
    assert wrong() == ""


def test_a_plan_follows_from_its_seed_and_ends_with_what_ends_a_command() -> None:
    for seed in range(200):
        commands = plan(random.Random(seed))
        assert commands == plan(random.Random(seed))
        for faults in commands:
            order = [MOMENTS.index(fault.moment) for fault in faults]
            assert order == sorted(order)
            assert not any(fault.kind.ends for fault in faults[:-1])
    planned = {f.kind.name for seed in range(400) for c in plan(random.Random(seed)) for f in c}
    assert planned == {kind.name for kind in KINDS}


@pytest.mark.slow
def test_a_small_storm_loses_and_doubles_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.storm", "--faults", "24", "--seed", "20261127"],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
