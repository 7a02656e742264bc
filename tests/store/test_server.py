"""Against a real MLflow server on the loopback interface."""

import json

import numpy as np
import pytest

from backtest_batch.records import RunFailure
from backtest_batch.store.claim import mark_dead_runs
from backtest_batch.store.mlflow_run import DatasetInfo, EquityCurve
from backtest_batch.store.recorder import Recorder, RecordingError
from backtest_batch.store.search import find_batch, read_artifact, read_runs, run_states
from backtest_batch.store.spool import Spool, record_spool
from backtest_batch.store.store import open_store
from tests.support.servers import MlflowServer

pytestmark = pytest.mark.server

DATASET = DatasetInfo(
    name="sp500",
    fingerprint="d4" * 32,
    source="sp500",
    n_bars=8_313,
    symbols=("AAPL",),
    fields=("close",),
    first="1990-01-02",
    last="2022-12-28",
)


@pytest.fixture
def make_server(tmp_path):
    servers = []

    def make(backend_uri):
        server = MlflowServer(backend_uri, tmp_path)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    (folder / "profile").mkdir(parents=True)
    (folder / "run.json").write_text('{"seed": 42}')
    (folder / "profile" / "timings.json").write_text("[]")
    return folder


def test_the_ui_shows_runs_that_were_written_in_bulk(store, batch, make_record, make_server, files):
    recorder = Recorder(store, batch, writer="bulk")
    parent_id = recorder.start_parent(dataset=DATASET)
    failure = RunFailure(error_type="E", error_message="m", traceback="T")
    ids = recorder.record([make_record(0, artifacts=files), make_record(1, failure=failure)])
    steps = np.arange(300)
    recorder.log_curves(
        {ids[0]: EquityCurve(steps=steps, equity=steps * 1.0, drawdown=-steps * 1.0)}
    )
    recorder.finish_parent("FINISHED", note="# Summary")
    store.close()
    server = make_server(store.uri)

    search = {
        "experiment_ids": [store.experiment_id],
        "filter": f"tags.batch_id = '{batch.batch_id}' and tags.batch_role = 'run'",
        "order_by": ["metrics.`sharpe` DESC"],
    }
    found = server.ask_json("runs/search", search)["runs"]
    assert [run["info"]["run_id"] for run in found] == ids
    metrics = {item["key"]: item["value"] for item in found[0]["data"]["metrics"]}
    assert (metrics["sharpe"], metrics["param.commission_bps"]) == (0.5, 0.0)
    tags = {item["key"]: item["value"] for item in found[0]["data"]["tags"]}
    assert tags["mlflow.parentRunId"] == parent_id
    run = server.ask_json(f"runs/get?run_id={ids[0]}")["run"]
    assert (run["info"]["status"], run["info"]["run_name"]) == ("FINISHED", "commission_bps=0.0")
    history = server.ask_json(f"metrics/get-history?run_id={ids[0]}&metric_key=equity")
    assert len(history["metrics"]) == 200
    listed = server.ask_json(f"artifacts/list?run_id={ids[0]}")["files"]
    assert [file["path"] for file in listed] == ["profile", "run.json"]
    content = server.ask(f"get-artifact?run_id={ids[0]}&path=run.json")
    assert json.loads(content) == {"seed": 42}
    parent = server.ask_json(f"runs/get?run_id={parent_id}")["run"]
    assert parent["inputs"]["dataset_inputs"][0]["dataset"]["name"] == "sp500"
    assert server.ask_json("runs/delete", {"run_id": ids[0]}) == {}
    left = server.ask_json("runs/search", search)["runs"]
    assert [run["info"]["run_id"] for run in left] == ids[1:]
    assert server.ask_json("runs/restore", {"run_id": ids[0]}) == {}
    assert len(server.ask_json("runs/search", search)["runs"]) == 2
    assert b"<title>MLflow</title>" in server.ask("")


def test_a_batch_is_recorded_over_http(tmp_path, batch, make_record, make_server, files, capfd):
    server = make_server(f"sqlite:///{tmp_path}/server.db")
    store = open_store(server.uri, "backtest_batch")
    assert store.engine is None
    assert store.ui_command == server.uri
    recorder = Recorder(store, batch)
    recorder.start_parent(dataset=DATASET, artifacts=files)
    config = {"empty": "", "none": None, "long": "ü" * 7_000} | {f"k{n}": n for n in range(150)}
    records = [make_record(0, artifacts=files, spec={"config": config})]
    records += [make_record(index) for index in range(1, 12)]
    ids = recorder.record(records)
    steps = np.arange(300)
    recorder.log_curves(
        {ids[0]: EquityCurve(steps=steps, equity=steps * 1.0, drawdown=-steps * 1.0)}
    )
    recorder.add_files([(ids[0], {"equity.html": "<p>"}, None)])
    recorder.finish_parent("FINISHED", tags={"n_finished": 12}, note="# Summary")
    assert capfd.readouterr() == ("", "")

    frame = read_runs(store, batches=[batch.batch_id])
    assert list(frame["run_id"]) == [record.spec.run_id for record in records]
    assert list(frame["mlflow_run_id"]) == ids
    assert frame["params.empty"][0] == ""
    assert "[7000 characters" in frame["params.long"][0]
    assert run_states(store, batch.batch_id) == [
        (record.spec.run_key, "FINISHED", run_id)
        for record, run_id in zip(records, ids, strict=True)
    ]
    assert read_artifact(store, ids[0], "run.json") == b'{"seed": 42}'
    assert read_artifact(store, ids[0], "equity.html") == b"<p>"
    assert (files / "run.json").exists()
    handle = find_batch(store, "demo")
    assert (handle.status, handle.tags["n_finished"]) == ("FINISHED", "12")
    assert mark_dead_runs(store) == 0


def test_a_server_that_dies_in_the_middle_loses_nothing(
    tmp_path, batch, make_record, make_server, files, capfd, monkeypatch
):
    server = make_server(f"sqlite:///{tmp_path}/server.db")
    store = open_store(server.uri, "backtest_batch")
    recorder = Recorder(store, batch)
    parent_id = recorder.start_parent()
    first = [make_record(index) for index in range(3)]
    later = [make_record(3, artifacts=files)] + [make_record(index) for index in range(4, 8)]
    recorder.record(first)
    # A run of which the server got no more than its beginning.
    begun = store.client.create_run(
        store.experiment_id,
        tags={"batch_id": batch.batch_id, "batch_role": "run", "run_key": later[1].spec.run_key},
    ).info.run_id
    server.kill()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with pytest.raises(RecordingError, match="connection refused") as caught:
        recorder.record(later)
    assert caught.value.recorded == {}
    assert capfd.readouterr() == ("", "")
    assert (files / "run.json").exists()

    spool = Spool(
        tmp_path / "spool",
        store_uri=store.uri,
        experiment=store.experiment,
        batch=batch,
        parent_run_id=parent_id,
    )
    for record in later:
        spool.add(record)
    spool.finish("FINISHED", tags={"n_finished": 8})
    server.start()
    report = record_spool(spool.folder)
    assert (report.n_recorded, report.n_known) == (5, 0)
    states = run_states(store, batch.batch_id)
    assert [status for _, status, _ in states] == ["FINISHED"] * 8
    ids = {run_key: run_id for run_key, _, run_id in states}
    assert ids[later[1].spec.run_key] == begun
    assert len(read_runs(store)) == 8
    assert read_artifact(store, ids[later[0].spec.run_key], "run.json")
    assert find_batch(store, "latest").status == "FINISHED"
