"""Against a real PostgreSQL server."""

import subprocess
import sys

import pytest

from backtest_batch.cli.compare import main as compare
from backtest_batch.errors import StoreError
from backtest_batch.records import RunFailure
from backtest_batch.store.claim import mark_dead_runs
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.search import find_batch, read_runs, run_states
from backtest_batch.store.store import open_store

pytestmark = pytest.mark.server

OPEN = """
import sys
from backtest_batch.store.store import open_store
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
        states = {key: status for key, status, _ in run_states(store, batch.batch_id)}
        assert states == {records[0].spec.run_key: "FINISHED", records[1].spec.run_key: "FAILED"}
        frame = read_runs(
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


MARKET = ("data=synthetic", "data.n_assets=3", "data.n_bars=300", "n_jobs=1")
PRIVATE = '''
class Private:
    """Reads its signals from a database, whose address holds a password."""

    def __init__(self, url: str = "", number: int = 0):
        self.url, self.number = url, number

    def target_weights(self, panel, decisions):
        print("connecting to", self.url)
        if self.number < 0:
            raise ConnectionError(f"cannot connect to {self.url}")
        return np.full((len(decisions), panel.n_assets), 0.1)

import numpy as np
'''
URL = "postgresql://ann:pr1vate-word@prices.team/db?sslmode=require"


def everything_in(uri):
    """Return every text in the database."""
    from sqlalchemy import MetaData, create_engine, select

    engine, metadata = create_engine(uri), MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        rows = [
            str(tuple(row))
            for table in metadata.sorted_tables
            for row in connection.execute(select(table))
        ]
    engine.dispose()
    return "\n".join(rows)


def texts_below(folder):
    return "\n".join(
        path.read_bytes().decode("utf-8", "replace")
        for path in folder.rglob("*")
        # What a strategy prints stands in its worker's log as it was printed.
        if path.is_file() and not path.match("logs/worker-*.log")
    )


def test_the_commands_straight_into_the_database(uri, working_dir, monkeypatch, invoke):
    (working_dir / "private.py").write_text(PRIVATE)
    monkeypatch.syspath_prepend(str(working_dir))
    where = f"tracking.uri={uri}"
    custom = ("strategy=custom", "strategy._target_=private.Private", f'strategy.url="{URL}"')
    feed = 'tags.feed="https://ann:pr1vate-word@feed.team/x?token=t0ken-word"'
    sweep = ("-m", *MARKET, *custom, feed, "strategy.number=-1,1", "commission_bps=0,1")
    done = invoke(*sweep, where)
    assert done.code == 1, done.err
    assert "mlflow ui --backend-store-uri 'postgresql+psycopg2://***@127" in done.out
    said = done.out + done.err
    store = open_store(uri, "backtest_batch", create=False)
    runs = read_runs(store)
    assert sorted(runs["status"]) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    assert set(runs["params.strategy.url"]) == {"postgresql://***@prices.team/db?sslmode=require"}
    assert set(runs["tags.feed"]) == {"https://***@feed.team/x?token=***"}
    store.close()

    done = invoke("resume=latest", where)
    assert done.code == 2
    assert "not recorded: strategy.url. Give them again" in done.err, done.err
    said += done.err
    done = invoke("resume=latest", where, custom[2])  # failed runs run again
    assert (done.code, "2 of 4 runs ranked" in done.out) == (1, True), done.err
    assert "2 finished runs" not in done.out  # the others have the same keys as before
    said += done.out + done.err

    assert compare(["batch=latest", where, "output_dir=compared"]) == 0
    best = working_dir / "compared" / "best_params.json"
    done = invoke(f'best="{best}"', "verify=true", where)
    assert (done.code, "Give them again" in done.err) == (2, True), done.err
    done = invoke(f'best="{best}"', "verify=true", where, custom[2])
    assert (done.code, "Verified: all" in done.out) == (0, True), done.err
    assert "bit for bit" in done.out
    said += done.out + done.err

    kept = texts_below(working_dir / "mlruns") + texts_below(working_dir / "compared")
    for secret in ("s3cr3t-word", "pr1vate-word", "t0ken-word"):
        assert secret not in said
        assert secret not in kept
        assert secret not in everything_in(uri)
