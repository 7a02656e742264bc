"""Real stores and made-up results for the tests of the tracking room."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backtest_batch.records import RunFailure, RunRecord, RunResult, RunSpec
from backtest_batch.store import sqlite_file
from backtest_batch.store.address import resolve_uri
from backtest_batch.store.mlflow_calls import import_mlflow
from backtest_batch.store.mlflow_run import BatchInfo
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.store import Store, open_store
from tests.support.servers import MlflowServer, PostgreSQL, missing_for_postgres, started

STARTED_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
FINGERPRINT = "d4" * 32

MakeStore = Callable[[Path], Store]
MakeRecord = Callable[..., RunRecord]


@pytest.fixture(autouse=True)
def _no_configured_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database that MLflow's migrations made; copying it saves each test that second."""
    import_mlflow()
    database = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    sqlite_file.create_if_missing(database)
    return database


@pytest.fixture(scope="session")
def postgres(require: Callable[[object, str], None]) -> Iterator[PostgreSQL]:
    """A PostgreSQL server."""
    missing = missing_for_postgres()
    require(not missing, missing)
    server = PostgreSQL()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def team_server(
    postgres: PostgreSQL, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """An MLflow server on a PostgreSQL database that serves the artifacts itself."""
    folder = tmp_path_factory.mktemp("team")
    backend = postgres.new_database(folder.name)
    with started(MlflowServer(backend, folder)) as server:
        yield server


@pytest.fixture
def make_store(migrated_database: Path) -> Iterator[MakeStore]:
    """Open a store of its own in a folder."""
    opened = []

    def make(folder: Path) -> Store:
        database = folder / "mlruns" / "mlflow.db"
        if not database.exists():
            database.parent.mkdir(parents=True)
            shutil.copyfile(migrated_database, database)
        store = open_store(resolve_uri(None, folder), "backtest_batch")
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(make_store: MakeStore, tmp_path: Path) -> Store:
    return make_store(tmp_path)


@pytest.fixture
def make_record() -> MakeRecord:
    """Make one run as it ended: a result, or with ``failure`` or ``interrupted`` another end."""

    def make(
        index: int = 0,
        *,
        failure: RunFailure | None = None,
        interrupted: bool = False,
        artifacts: Path | None = None,
        spec: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
    ) -> RunRecord:
        commission = index / 2
        config = {
            "batch_name": "demo",
            "seed": 42,
            "start_date": None,
            "commission_bps": commission,
            "data": {"_target_": "backtest_batch.core.data.Synthetic", "symbols": ["A", "Ö"]},
            "strategy": {"fast": 20, "slow": 60, "long_short": True},
            "tags": {},
        }
        fields: dict[str, Any] = {
            "index": index,
            "run_id": f"run_{commission}",
            "run_name": f"commission_bps={commission}",
            "run_key": f"{index:064x}",
            "config_hash": "c0" * 32,
            "swept": {"commission_bps": commission, "strategy.long_short": True},
            "config": config,
            "overrides": (f"commission_bps={commission}",),
            "data_fingerprint": FINGERPRINT,
            "code_fingerprint": "e5" * 32,
            "strategy_seed": 7,
            "first_bar": 60,
            "n_bars": 500,
        }
        outcome: RunResult | RunFailure | None = failure
        if failure is None and not interrupted:
            values: dict[str, Any] = {
                "metrics": {"sharpe": 0.5 + index, "max_drawdown": -0.25},
                "undefined_metrics": ("calmar", "beta"),
                "tags": {"untradable_weights": "3"},
                "runtime_s": 0.25,
                "cpu_s": 0.125,
                "peak_rss_mb": 150.5,
                "chunk_runs": 2,
                "artifacts": artifacts,
            }
            outcome = RunResult(**values | (result or {}))
        return RunRecord(
            spec=RunSpec(**fields | (spec or {})),
            outcome=outcome,
            attempts=1,
            started_ms=STARTED_MS + index * 1_000,
            ended_ms=STARTED_MS + index * 1_000 + 500,
        )

    return make


@pytest.fixture
def batch() -> BatchInfo:
    return BatchInfo(
        batch_id="20260101T000000Z-a1b2c3",
        batch_name="demo",
        n_runs=3,
        started_ms=STARTED_MS,
        tags={"suite": "core"},
        git_commit="f" * 40,
        git_dirty=True,
    )


@pytest.fixture(params=["client", "bulk"])
def recorder(request: pytest.FixtureRequest, store: Store, batch: BatchInfo) -> Recorder:
    """A recorder with its parent run begun, for each way of writing."""
    recorder = Recorder(store, batch, writer=request.param)
    recorder.start_parent()
    return recorder
