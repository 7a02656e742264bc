"""Against a real PostgreSQL server, which is started as another user because it refuses root."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from backtest_batch.errors import StoreError
from backtest_batch.records import RunFailure
from backtest_batch.tracking.leftovers import mark_dead_runs
from backtest_batch.tracking.recorder import Recorder
from backtest_batch.tracking.search import find_batch, finished_keys, load_runs
from backtest_batch.tracking.store import open_store

pwd = pytest.importorskip("pwd", reason="users are a matter of POSIX systems")

pytestmark = pytest.mark.slow

INITDB = ["-U", "me", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C"]

OPEN = """
import sys
from backtest_batch.tracking.store import open_store
print(open_store(sys.argv[1], "backtest_batch").experiment_id)
"""


def server_user() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL is not installed")
    user = server_user()
    options = {} if user is None else {"user": user, "cwd": "/"}
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "password").write_text("s3cr3t-word")
    (folder / "password").chmod(0o644)
    subprocess.run(
        ["initdb", "-D", data, *INITDB, "--pwfile", folder / "password"],
        check=True,
        capture_output=True,
        **options,
    )
    flags = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    start = ["pg_ctl", "-D", data, "-w", "-o", f"{flags} -c fsync=off", "-l", folder / "log"]
    subprocess.run([*start, "start"], check=True, stdout=subprocess.DEVNULL, **options)
    yield f"postgresql+psycopg2://me:s3cr3t-word@127.0.0.1:{port}"
    subprocess.run(
        ["pg_ctl", "-D", data, "-m", "immediate", "stop"], stdout=subprocess.DEVNULL, **options
    )
    shutil.rmtree(folder)


@pytest.fixture
def uri(server, request):
    """A database of its own."""
    from sqlalchemy import create_engine, text

    name = f"db{abs(hash(request.node.name))}"
    engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server}/{name}"


def test_processes_that_open_a_fresh_database_at_once(uri, tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for _ in range(3)
    ]
    results = [process.communicate() for process in processes]
    assert results == [("1\n", "")] * 3


def test_both_ways_of_writing_agree(uri, batch, make_record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store(uri, "backtest_batch")
    failure = RunFailure(error_type="E", error_message="Ö" * 9_000 + "\0", traceback="T")
    frames = {}
    for writer in ("client", "bulk"):
        recorder = Recorder(store, batch, writer=writer)
        recorder.start_parent()
        files = tmp_path / writer
        files.mkdir()
        (files / "run.json").write_text("{}")
        records = [make_record(0, artifacts=files), make_record(1, failure=failure)]
        ids = recorder.record(records)
        assert [info.path for info in store.client.list_artifacts(ids[0])] == ["run.json"]
        assert list(finished_keys(store, batch.batch_id)) == [records[0].spec.run_key]
        frame = load_runs(
            store, filter_string=f"tags.`mlflow.parentRunId` = '{recorder.parent_run_id}'"
        )
        frames[writer] = frame.drop(columns=["mlflow_run_id", "tags.mlflow.parentRunId"])
        recorder.finish_parent("FINISHED")
    assert len(frames["bulk"]) == 2
    assert frames["client"].equals(frames["bulk"])
    assert find_batch(store, "latest").status == "FINISHED"
    assert mark_dead_runs(store) == 0
    store.close()


def test_messages_hold_no_password(server, uri):
    wrong = uri.replace("s3cr3t-word", "wr0ng-word")
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        open_store(wrong, "backtest_batch")
    assert "wr0ng-word" not in str(caught.value)
    assert "Check the credentials" in str(caught.value)
    with pytest.raises(StoreError, match="does not exist"):
        open_store(f"{server}/nothing", "backtest_batch")


def test_a_database_of_something_else(uri):
    from sqlalchemy import create_engine, text

    engine = create_engine(uri)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE runs (name TEXT)"))
    engine.dispose()
    with pytest.raises(StoreError, match="is not an MLflow store"):
        open_store(uri, "backtest_batch")
