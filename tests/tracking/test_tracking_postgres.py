"""Against a real PostgreSQL server."""

import subprocess
import sys

import pytest

from backtest_batch.errors import StoreError
from backtest_batch.records import RunFailure
from backtest_batch.tracking.leftovers import mark_dead_runs
from backtest_batch.tracking.recorder import Recorder
from backtest_batch.tracking.search import find_batch, finished_keys, load_runs
from backtest_batch.tracking.store import open_store

pytestmark = pytest.mark.slow

OPEN = """
import sys
from backtest_batch.tracking.store import open_store
print(open_store(sys.argv[1], "backtest_batch").experiment_id)
"""


@pytest.fixture
def uri(postgres, request):
    """A database of its own."""
    return postgres.new_database(request.node.name)


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


def test_messages_hold_no_password(postgres, uri):
    wrong = uri.replace("s3cr3t-word", "wr0ng-word")
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        open_store(wrong, "backtest_batch")
    assert "wr0ng-word" not in str(caught.value)
    assert "Check the credentials" in str(caught.value)
    with pytest.raises(StoreError, match="does not exist"):
        open_store(f"{postgres.uri}/nothing", "backtest_batch")


def test_a_database_of_something_else(uri):
    from sqlalchemy import create_engine, text

    engine = create_engine(uri)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE runs (name TEXT)"))
    engine.dispose()
    with pytest.raises(StoreError, match="is not an MLflow store"):
        open_store(uri, "backtest_batch")
