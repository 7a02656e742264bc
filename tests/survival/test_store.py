"""Stores and disks that fail: nothing that was computed is lost, and it is said what to do."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest_batch.store.search import list_artifacts, list_batches, read_runs
from backtest_batch.store.store import open_store
from tests.support.commands import SMALL_MARKET, Command, wait_for

FILES = {"equity.parquet", "trades.parquet", "run.json", "config.yaml", "metrics.csv"}


def printed_command(err: str) -> list[str]:
    """Return the arguments of the command that the output says to run."""
    lines = [line for line in err.splitlines() if "python -m backtest_batch" in line]
    assert lines, err
    return lines[-1].rpartition("python -m backtest_batch ")[2].split()


@pytest.mark.slow
def test_two_batches_at_once_in_a_folder_without_a_store(bare_command: Command) -> None:
    arguments = bare_command.hostile("strategy.number=range(0,5)")
    both = [bare_command.start(*arguments), bare_command.start(*arguments)]
    for done in [bare_command.end(process) for process in both]:
        assert done.returncode == 0, done.stderr
    store = bare_command.store()
    handles = list_batches(store)
    assert [handle.status for handle in handles] == ["FINISHED", "FINISHED"]
    for handle in handles:
        runs = read_runs(store, batches=[handle.batch_id], parts=())
        assert runs["status"].tolist() == ["FINISHED"] * 5
    store.close()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nothing can be written to."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    with mounted(folder, "ro"):
        yield folder


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory on a folder, where that is allowed."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only a superuser that may mount can make such a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(bare_command: Command, read_only: Path) -> None:
    done = bare_command.run("-m", *SMALL_MARKET, "commission_bps=0,1", folder=read_only)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(read_only.iterdir()) == []

    elsewhere = bare_command.folder / "elsewhere"
    done = bare_command.run(
        "-m",
        *SMALL_MARKET,
        "commission_bps=0,1",
        f"tracking.uri=sqlite:///{elsewhere}/mlflow.db",
        f"output_dir={elsewhere}/batch",
        folder=read_only,
    )
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "batch" / "rankings.csv").exists()


@pytest.mark.slow
def test_a_corrupt_store(bare_command: Command) -> None:
    database = bare_command.folder / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    database.write_bytes(b"SQLite format 3\x00" + b"\xff" * 8_000)
    done = bare_command.run("-m", *SMALL_MARKET, "commission_bps=0,1")
    assert done.returncode == 2, done.stderr
    assert str(database) in done.stderr
    assert "Traceback" not in done.stderr
    assert bare_command.batches == []


def check_recorded_without_computing(
    command: Command, folder: Path, err: str, n_runs: int, **where: str
) -> None:
    """Run the printed command and see that every run is recorded and none was computed again."""
    calls = folder / "calls.txt"
    before = calls.read_bytes()
    done = command.run(*printed_command(err), folder=folder)
    assert done.returncode == 0, done.stderr
    assert "Recorded" in done.stdout
    assert calls.read_bytes() == before
    uri = where.get("uri", f"sqlite:///{folder}/mlruns/mlflow.db")
    store = open_store(uri, "backtest_batch", create=False)
    handle = list_batches(store)[0]
    assert handle.status == "FINISHED"
    runs = read_runs(store, batches=[handle.batch_id], parts=("metrics",))
    assert runs["status"].tolist() == ["FINISHED"] * n_runs
    for run_id in runs["mlflow_run_id"]:
        assert set(list_artifacts(store, run_id)) >= FILES
    assert {"rankings.csv", "report.html"} <= set(list_artifacts(store, handle.mlflow_run_id))
    store.close()
    assert list(folder.glob("mlruns/batches/*/rankings.csv"))


@pytest.mark.slow
def test_a_store_that_vanishes_in_the_middle(command: Command) -> None:
    arguments = command.hostile("strategy.mode=good,error", "strategy.number=range(0,6)")
    process = command.start(*arguments, "strategy.seconds=0.5")
    wait_for(lambda: any(command.folder.glob("mlruns/artifacts/*/artifacts/*.parquet")), of=process)
    for file in (command.folder / "mlruns").glob("mlflow.db*"):
        file.unlink()
    done = command.end(process)
    assert done.returncode == 1, done.stderr
    assert "was removed, or replaced by another" in done.stderr
    assert "The store that is there now has all 12 runs of the batch" in done.stderr
    assert len(command.calls) == 12
    recorded = command.recorded()
    assert recorded.handle.status == "FINISHED"
    assert sorted(recorded.statuses.values()) == ["FAILED"] * 6 + ["FINISHED"] * 6
    for run_id, status in recorded.statuses.items():
        if status == "FINISHED":
            assert set(recorded.artifacts[run_id]) >= FILES
        else:
            folder = recorded.runs.set_index("run_id").loc[run_id, "mlflow_run_id"]
            text = command.folder / "mlruns" / "artifacts" / folder / "artifacts" / "traceback.txt"
            assert "broken on purpose" in text.read_text()
    assert {"batch_config.yaml", "rankings.csv"} <= set(recorded.batch_artifacts)


@pytest.mark.slow
def test_a_store_that_is_damaged_in_the_middle_loses_nothing(command: Command) -> None:
    """The batch's own connection may not notice: it has what it needs of the file in memory."""
    arguments = command.hostile("strategy.number=range(0,10)", "strategy.seconds=0.3")
    process = command.start(*arguments)
    wait_for(lambda: any(command.folder.glob("mlruns/artifacts/*/artifacts/*.parquet")), of=process)
    database = command.folder / "mlruns" / "mlflow.db"
    with database.open("r+b") as file:
        for page in range(4096, database.stat().st_size - 4096, 12_288):
            file.seek(page)
            file.write(b"\xa5" * 4096)
    done = command.end(process)
    assert done.returncode == 3, done.stderr
    assert "is damaged" in done.stderr
    refused = command.run(*printed_command(done.stderr))
    assert refused.returncode == 2, refused.stderr
    (move_away,) = [line for line in refused.stderr.splitlines() if "mv " in line]
    subprocess.run(move_away[move_away.index("mv ") :], shell=True, check=True)
    check_recorded_without_computing(command, command.folder, done.stderr, 10)
    assert len(command.calls) == 10


@pytest.mark.slow
def test_a_full_disk_in_the_middle_of_a_batch(bare_command: Command, migrated_store: Path) -> None:
    folder = bare_command.folder / "small"
    folder.mkdir()
    with mounted(folder, "size=4m"):
        (folder / "mlruns").mkdir()
        shutil.copyfile(migrated_store, folder / "mlruns" / "mlflow.db")
        arguments = bare_command.hostile("strategy.number=range(0,60)")
        shutil.copyfile(bare_command.folder / "hostile.py", folder / "hostile.py")
        done = bare_command.run(*arguments, folder=folder)
        assert done.returncode == 3, done.stderr
        assert "disk is full" in done.stderr or "No space left" in done.stderr
        assert "Traceback" not in done.stderr
        assert "60 of 60 runs ranked" in done.stdout

        remount = ["mount", "-o", "remount,size=64m", str(folder)]
        subprocess.run(remount, check=True)
        check_recorded_without_computing(bare_command, folder, done.stderr, 60)


@pytest.mark.slow
def test_files_that_may_not_grow(command: Command) -> None:
    """As on a full disk, where the test may not mount one: writing fails with an OSError."""
    database = command.folder / "mlruns" / "mlflow.db"
    most = database.stat().st_size + 300_000
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, resource.RLIM_INFINITY))"
    done = command.run(*command.hostile("strategy.number=range(0,60)"), first=limit)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    check_recorded_without_computing(command, command.folder, done.stderr, 60)


class Server:
    """An MLflow server that can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._arguments = [
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/served.db"),
            *("--artifacts-destination", (folder / "served").as_uri()),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *self._arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
                cwd=self._folder,
            )
        wait_for(self._answers)

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.uri}/health", timeout=5),
        ):
            return True
        return False

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def server(tmp_path: Path, migrated_store: Path) -> Iterator[Server]:
    shutil.copyfile(migrated_store, tmp_path / "served.db")
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_tracking_server_that_is_lost_in_the_middle(
    bare_command: Command, server: Server
) -> None:
    bare_command.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "2"  # else for two minutes
    arguments = bare_command.hostile("strategy.number=range(0,14)", "strategy.seconds=0.5")
    process = bare_command.start(*arguments, f"tracking.uri={server.uri}")

    def recorded_some() -> bool:
        return any((bare_command.folder / "served").glob("*/*/artifacts/equity.parquet"))

    wait_for(recorded_some, of=process)
    server.kill()
    done = bare_command.end(process)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert len(bare_command.calls) == 14
    assert "14 of 14 runs ranked" in done.stdout
    server.start()
    check_recorded_without_computing(
        bare_command, bare_command.folder, done.stderr, 14, uri=server.uri
    )


@pytest.mark.slow
def test_a_tracking_server_that_is_not_there_at_all(bare_command: Command) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = bare_command.run(*bare_command.hostile("strategy.number=0,1"), f"tracking.uri={uri}")
    assert done.returncode == 2, done.stderr
    assert uri in done.stderr
    assert "Traceback" not in done.stderr
    assert bare_command.batches == []
