"""A server, or what stands before it, that answers 200 and something else than it was asked."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backtest_batch.errors import StoreError
from backtest_batch.store.recorder import Recorder, RecordingError
from backtest_batch.store.search import list_artifacts, read_runs
from backtest_batch.store.spool import Spool, record_spool
from backtest_batch.store.store import open_store
from tests.support.servers import Asked, MlflowServer, Proxy, started

pytestmark = pytest.mark.server

LOGIN = b"<!doctype html><title>Sign in</title>"
EMPTY = b"{}"
OTHER = (
    b'{"run": {"info": {"run_id": "0123456789abcdef0123456789abcdef", "experiment_id": "1", '
    b'"start_time": 1}}, "run_info": {"run_id": "0123456789abcdef0123456789abcdef", '
    b'"status": "FINISHED"}, "files": []}'
)
CALLS = {
    "a file": ("PUT", "/mlflow-artifacts/artifacts/"),
    "a list of files": ("GET", "/mlflow-artifacts/artifacts?"),
    "values": ("POST", "/runs/log-batch"),
    "a beginning": ("POST", "/runs/create"),
    "an end": ("POST", "/runs/update"),
    "a run": ("GET", "/runs/get?"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    with started(MlflowServer(f"sqlite:///{folder}/server.db", folder)) as server:
        yield server


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "files"
    (folder / "profile").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "profile" / "timings.json").write_text("[]")
    return folder


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("a file", LOGIN),
        ("a list of files", LOGIN),
        ("a list of files", EMPTY),
        ("values", EMPTY),
        ("a beginning", EMPTY),
        ("a beginning", OTHER),
        ("an end", EMPTY),
        ("an end", OTHER),
        ("a run", OTHER),
    ],
)
def test_no_run_is_finished_without_all_that_it_has(
    server, batch, make_record, folder, tmp_path, call, said
):
    broken = False

    def behave(asked: Asked) -> str | bytes:
        method, path = CALLS[call]
        return said if broken and asked.method == method and path in asked.path else "pass"

    own = replace(batch, batch_id=f"{call} {len(said)}")
    with Proxy(server.port, behave) as proxy:
        recorder = Recorder(open_store(proxy.uri, "backtest_batch"), own)
        parent_id = recorder.start_parent()
        broken = True
        with pytest.raises(RecordingError) as refused:
            recorder.record([make_record(0, artifacts=folder)])
    assert "server" in str(refused.value)
    store = open_store(server.uri, "backtest_batch")
    complete = {"run.json", "profile"}
    frame = read_runs(store, batches=[own.batch_id])
    for run_id in frame.loc[frame["status"] == "FINISHED", "mlflow_run_id"]:
        assert set(list_artifacts(store, run_id)) == complete
        assert store.client.get_run(run_id).data.metrics["sharpe"] == 0.5
    # What was kept is recorded when the server answers again.
    spool = Spool(
        tmp_path / "spool",
        store_uri=store.uri,
        experiment=store.experiment,
        batch=own,
        parent_run_id=parent_id,
    )
    spool.add(make_record(0, artifacts=folder))
    record_spool(spool.folder)
    (run_id,) = read_runs(store, batches=[own.batch_id], statuses=["FINISHED"])["mlflow_run_id"]
    assert set(list_artifacts(store, run_id)) == complete
    assert store.client.get_run(run_id).data.params["seed"] == "42"


@pytest.mark.parametrize("said", [LOGIN, EMPTY, b"[]"], ids=["login", "empty", "list"])
def test_what_answers_in_the_place_of_a_server_is_no_store(server, said):
    with Proxy(server.port, lambda _: said) as proxy, pytest.raises(StoreError, match="server"):
        open_store(proxy.uri, "backtest_batch")
