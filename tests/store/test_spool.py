import json
import signal
import subprocess
import sys
from dataclasses import replace
from textwrap import dedent

import numpy as np
import pytest

from backtest_batch.errors import SelectionError, StoreError
from backtest_batch.records import RunFailure, RunRecord
from backtest_batch.store.artifacts import local_folder
from backtest_batch.store.mlflow_run import BatchInfo, DatasetInfo, EquityCurve
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.search import find_batch, read_runs, run_states
from backtest_batch.store.spool import (
    Spool,
    SpoolEnding,
    SpoolHead,
    read_json,
    record_from_json,
    record_of,
    record_spool,
    record_to_json,
    write_whole,
)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    (folder / "profile").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "profile" / "timings.json").write_text("[]")
    return folder


@pytest.fixture
def make_spool(tmp_path, store, batch):
    def make(parent_run_id=None, **options) -> Spool:
        options = {"store_uri": store.uri, "experiment": store.experiment, "batch": batch} | options
        return Spool(tmp_path / "spool", parent_run_id=parent_run_id, **options)

    return make


def artifacts_of(store, run_id) -> set[str]:
    root = local_folder(store.client.get_run(run_id).info.artifact_uri)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_spool_is_recorded_as_if_nothing_had_happened(
    store, batch, make_record, make_spool, files
):
    recorder = Recorder(store, batch)
    parent_id = recorder.start_parent()
    recorder.record([make_record(0)])
    failure = RunFailure(error_type="E", error_message="m", traceback="T")
    records = [make_record(1, artifacts=files), make_record(2, failure=failure)]
    spool = make_spool(parent_id)
    for record in records:
        spool.add(record)
    steps = np.arange(500)
    spool.add_curve(
        records[0].spec, EquityCurve(steps=steps, equity=steps + 1.0, drawdown=-steps * 1.0)
    )
    spool.add_curve(
        make_record(0).spec, EquityCurve(steps=steps, equity=steps + 2.0, drawdown=steps * 0.0)
    )
    spool.add_texts(records[0].spec, {"equity.html": "<p>"})
    spool.add_tags(records[0].spec, {"lookahead": "clean"})
    spool.add_tags(make_record(0).spec, {"lookahead": "found"})
    (files / "batch_summary.md").write_text("#")
    spool.finish("FINISHED", tags={"n_finished": 2}, artifacts=files, note="# Summary")
    assert not (files / "run.json").exists()

    report = record_spool(spool.folder)
    assert (report.n_recorded, report.n_known, report.parent_run_id) == (2, 0, parent_id)
    assert (report.batch_id, report.batch_name) == (batch.batch_id, "demo")
    assert not spool.folder.exists()
    frame = read_runs(store, batches=[batch.batch_id])
    assert list(frame["run_id"]) == ["run_0.0", "run_0.5", "run_1.0"]
    assert list(frame["status"]) == ["FINISHED", "FINISHED", "FAILED"]
    assert list(frame["metrics.equity"][:2]) == [501.0, 500.0]
    assert list(frame["tags.lookahead"][:2]) == ["found", "clean"]
    assert artifacts_of(store, frame["mlflow_run_id"][1]) == {
        "run.json",
        "profile/timings.json",
        "equity.html",
    }
    assert len(store.client.get_metric_history(frame["mlflow_run_id"][1], "equity")) == 200
    parent = store.client.get_run(parent_id)
    assert (parent.info.status, parent.data.tags["n_finished"]) == ("FINISHED", "2")
    assert parent.data.tags["mlflow.note.content"] == "# Summary"
    assert artifacts_of(store, parent_id) == {"batch_summary.md"}


def test_a_run_that_the_store_has_is_not_written_again(store, batch, make_record, make_spool):
    recorder = Recorder(store, batch)
    recorder.start_parent()
    recorder.record([make_record(0)])
    begun = store.client.create_run(
        store.experiment_id,
        tags={"batch_id": batch.batch_id, "batch_role": "run", "run_key": f"{1:064x}"},
    ).info.run_id
    spool = make_spool(recorder.parent_run_id)
    for index in range(3):
        spool.add(make_record(index))
    report = record_spool(spool.folder)
    assert (report.n_recorded, report.n_known) == (2, 1)
    frame = read_runs(store)
    assert list(frame["status"]) == ["FINISHED"] * 3
    assert begun in set(frame["mlflow_run_id"])


def test_an_interrupted_recording_can_be_repeated(store, batch, make_record, make_spool, files):
    parent_id = Recorder(store, batch).start_parent()
    spool = make_spool(parent_id)
    spool.add(make_record(0, artifacts=files))
    spool.finish("FINISHED")
    copy = {path: path.read_text() for path in spool.folder.rglob("*") if path.is_file()}
    record_spool(spool.folder)
    for path, text in copy.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    report = record_spool(spool.folder)
    assert (report.n_recorded, report.n_known) == (0, 1)
    assert len(read_runs(store)) == 1


RECORD = """
    import os, signal, sys
    from pathlib import Path
    from backtest_batch.store.spool import record_spool

    moved = 0

    def die(event, arguments):
        global moved
        if event == "os.rename" and "mlruns/artifacts" in str(arguments[1]):
            if moved == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            moved += 1

    sys.addaudithook(die)
    record_spool(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("writer", ["bulk", "client"])
@pytest.mark.parametrize("moved", [3])
def test_a_kill_while_files_are_moved_loses_none(
    store, batch, make_record, make_spool, tmp_path, moved, writer
):
    spool = make_spool(Recorder(store, batch).start_parent())
    for index in range(3):
        files = tmp_path / f"files{index}"
        (files / "profile").mkdir(parents=True)
        (files / "run.json").write_text(str(index))
        (files / "profile" / "timings.json").write_text("[]")
        spool.add(make_record(index, artifacts=files))
    spool.finish("FINISHED")
    if writer == "client":  # runs that were begun are completed one by one
        for index in range(3):
            tags = {"batch_id": batch.batch_id, "batch_role": "run", "run_key": f"{index:064x}"}
            store.client.create_run(store.experiment_id, tags=tags)
    ending = subprocess.run([sys.executable, "-c", dedent(RECORD), spool.folder, str(moved)])
    assert ending.returncode == -signal.SIGKILL
    finished = read_runs(store, statuses=["FINISHED"])["mlflow_run_id"]
    assert all(len(artifacts_of(store, run_id)) == 2 for run_id in finished)
    record_spool(spool.folder)
    frame = read_runs(store, batches=[batch.batch_id])
    assert list(frame["status"]) == ["FINISHED"] * 3
    for run_id, index in zip(frame["mlflow_run_id"], range(3), strict=True):
        root = local_folder(store.client.get_run(run_id).info.artifact_uri)
        assert (root / "run.json").read_text() == str(index)
        assert artifacts_of(store, run_id) == {"run.json", "profile/timings.json"}
    known = {*frame["mlflow_run_id"], find_batch(store, batch.batch_id).mlflow_run_id}
    assert {path.name for path in local_folder(store.artifact_location).iterdir()} <= known
    assert not spool.folder.exists()


def test_a_run_that_the_store_has_without_its_files_gets_them(
    store, batch, make_record, make_spool, files
):
    recorder = Recorder(store, batch)
    recorder.start_parent()
    (run_id,) = recorder.record([make_record(0)])
    spool = make_spool(recorder.parent_run_id)
    spool.add(make_record(0, artifacts=files))
    report = record_spool(spool.folder)
    assert (report.n_recorded, report.n_known) == (0, 1)
    assert artifacts_of(store, run_id) == {"run.json", "profile/timings.json"}
    assert not spool.folder.exists()


def test_a_result_replaces_a_failure_of_the_same_run(store, batch, make_record, make_spool):
    recorder = Recorder(store, batch)
    recorder.start_parent()
    recorder.record([make_record(0, failure=RunFailure(error_type="E", error_message="m"))])
    spool = make_spool(recorder.parent_run_id)
    spool.add(make_record(0))
    assert record_spool(spool.folder).n_recorded == 1
    assert sorted(read_runs(store)["status"]) == ["FAILED", "FINISHED"]


def test_without_a_parent_one_is_begun(store, batch, make_record, make_spool):
    dataset = DatasetInfo(
        name="sp500",
        fingerprint="d4" * 32,
        source="/data",
        is_path=True,
        n_bars=3,
        symbols=("A",),
        fields=("close",),
        first="2020-01-01",
        last="2020-01-03",
    )
    spool = make_spool(None, dataset=dataset)
    spool.add(make_record(0))
    spool.finish("KILLED")
    report = record_spool(spool.folder)
    handle = find_batch(store, batch.batch_id)
    assert (handle.mlflow_run_id, handle.status) == (report.parent_run_id, "KILLED")
    (data,) = store.client.get_run(report.parent_run_id).inputs.dataset_inputs
    assert json.loads(data.dataset.source) == {"uri": "/data"}


def test_a_parent_that_is_gone_is_begun_again(store, batch, make_record, make_spool):
    spool = make_spool("0" * 32)
    spool.add(make_record(0))
    assert record_spool(spool.folder).parent_run_id != "0" * 32


def test_records_come_back_exactly(make_record, files, tmp_path):
    for record in (
        make_record(3, result={"metrics": {"a": 0.1 + 0.2, "b": np.float64(1e-300)}}),
        make_record(4, failure=RunFailure(error_type="E", error_message="\ud800", log="ü")),
        make_record(5, interrupted=True),
        make_record(6, artifacts=files),
    ):
        text = json.dumps(record_to_json(record))
        assert record_from_json(json.loads(text), files) == record


SPEC = """{
    "index": 3, "run_id": "run_1.5", "run_name": "commission_bps=1.5", "run_key": "3333",
    "config_hash": "c0c0", "swept": {"commission_bps": 1.5, "strategy.long_short": true},
    "config": {"commission_bps": 1.5, "strategy": {"fast": 20}},
    "overrides": ["commission_bps=1.5"], "data_fingerprint": "d4d4", "code_fingerprint": "e5e5",
    "strategy_seed": 7, "first_bar": 60, "n_bars": 500, "fit_bars": [1, 400]}"""
RESULT = """{
    "metrics": {"sharpe": 0.5, "skew": NaN}, "undefined_metrics": ["calmar"],
    "tags": {"ruined": "2008"}, "n_decisions": 0, "scaled_by": {}, "runtime_s": 0.25,
    "cpu_s": 0.125, "peak_rss_mb": 150.5, "chunk_runs": 2, "artifacts": true, "timings": {},
    "in_sample": {"sharpe": [1.0, 2.0]}}"""
FAILURE = """{
    "error_type": "E", "error_message": "m", "traceback": "t", "log": "l", "artifacts": false}"""


def test_a_spool_of_an_earlier_version_is_read(files):
    times = '"attempts": 2, "started_ms": 5, "ended_ms": 9'

    def read(text: str) -> RunRecord:
        return record_from_json(json.loads(text), files)

    done = read(f'{{"spec": {SPEC}, {times}, "result": {RESULT}}}')
    failed = read(f'{{"spec": {SPEC}, {times}, "failure": {FAILURE}}}')
    interrupted = read(f'{{"spec": {SPEC}, {times}}}')

    assert done.spec.swept == {"commission_bps": 1.5, "strategy.long_short": True}
    assert (done.spec.overrides, done.spec.fit_bars) == (("commission_bps=1.5",), (1, 400))
    assert done.outcome.artifacts == files
    assert np.isnan(done.outcome.metrics["skew"])
    assert done.outcome.in_sample == {"sharpe": (1.0, 2.0)}
    assert failed.outcome == RunFailure(error_type="E", error_message="m", traceback="t", log="l")
    assert (interrupted.outcome, interrupted.attempts) == (None, 2)
    ending = {"status": "KILLED", "tags": {"n_failed": 1}, "metrics": {}, "note": "", "ended_ms": 7}
    assert record_of(SpoolEnding, ending).status == "KILLED"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", f'{{"spec": {SPEC}, "attempts": "two", "started_ms": 5, "ended_ms": 9}}'),
        ("finish.json", '{"status": "LOST", "tags": {}, "metrics": {}, "note": "", "ended_ms": 7}'),
    ],
)
def test_a_damaged_file_is_never_taken_for_a_result(
    store, batch, make_record, make_spool, name, content
):
    spool = make_spool(Recorder(store, batch).start_parent())
    spool.add(make_record(0))
    spool.finish("FINISHED")
    (path,) = spool.folder.rglob(name)
    path.write_text(content)
    with pytest.raises(StoreError, match=rf"{name} is damaged"):
        record_spool(spool.folder)
    assert path.exists()


def test_a_password_is_not_kept_and_asked_for(make_spool, make_record, tmp_path):
    spool = make_spool(store_uri="postgresql://me:s3cr3t@h/db")
    spool.add(make_record(0))
    assert all(
        "s3cr3t" not in path.read_text() for path in tmp_path.rglob("*.json") if path.is_file()
    )
    with pytest.raises(StoreError, match="whose password it does not keep"):
        record_spool(spool.folder)


def test_another_store_can_be_given(make_spool, make_record, make_store, tmp_path):
    spool = make_spool(store_uri="http://127.0.0.1:1")
    spool.add(make_record(0))
    (tmp_path / "other").mkdir()
    other = make_store(tmp_path / "other")
    record_spool(spool.folder, store_uri=other.uri)
    assert len(read_runs(other)) == 1


def test_a_folder_that_is_no_spool(tmp_path):
    with pytest.raises(SelectionError, match="no unrecorded results"):
        record_spool(tmp_path)
    (tmp_path / "batch.json").write_text('{"format": 99}')
    with pytest.raises(SelectionError, match=r"another version .*format 99"):
        record_spool(tmp_path)


def test_a_store_that_still_fails_keeps_the_spool(make_spool, make_record, tmp_path):
    spool = make_spool(store_uri="http://127.0.0.1:1")
    spool.add(make_record(0))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        record_spool(spool.folder, store_uri=f"sqlite:///{tmp_path}/file/x/mlflow.db")
    assert (spool.folder / "runs" / "run_0.0" / "record.json").exists()


def test_batches_come_back_exactly(make_spool, batch):
    spool = make_spool()
    read = record_of(SpoolHead, read_json(spool.folder / "batch.json")).batch
    assert isinstance(read, BatchInfo)
    assert read == batch


def test_a_spool_holds_no_secrets(batch, make_record, make_spool):
    url = "postgresql://ann:pr1vate-word@prices.team/db"
    spec = {
        "config": {"strategy": {"url": url, "api_key": "pr1vate-word"}},
        "overrides": (f"strategy.url={url}",),
    }
    failure = RunFailure(error_type="E", error_message=f"lost {url}", traceback=url, log=url)
    spool = make_spool(
        store_uri="postgresql+psycopg2://me:pr1vate-word@h/db",
        batch=replace(batch, tags={"feed": url}),
        dataset=DatasetInfo(
            name="custom",
            fingerprint="d4" * 32,
            source=url,
            n_bars=3,
            symbols=("A",),
            fields=("close",),
            first="2020-01-01",
            last="2020-01-03",
        ),
    )
    spool.add(make_record(0, spec=spec))
    spool.add(make_record(1, spec=spec, failure=failure))
    spool.finish("FAILED", tags={"feed": url}, note=f"# Lost {url}")
    files = [path for path in spool.folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if b"pr1vate-word" in path.read_bytes()]


def test_of_a_run_that_was_begun_twice_one_remains(store, batch, make_record, make_spool):
    recorder = Recorder(store, batch)
    parent_id = recorder.start_parent()
    record = make_record(0)
    tags = {"batch_id": batch.batch_id, "batch_role": "run", "run_key": record.spec.run_key}
    for _ in range(2):
        store.client.create_run(store.experiment_id, tags=tags)
    spool = make_spool(parent_id)
    spool.add(record)
    record_spool(spool.folder)
    assert read_runs(store, batches=[batch.batch_id])["status"].tolist() == ["FINISHED"]


def test_an_address_that_is_not_ones_own_is_asked_for(make_spool, make_record, tmp_path):
    spool = make_spool()
    spool.add(make_record(0))
    head = read_json(spool.folder / "batch.json")
    write_whole(spool.folder / "batch.json", head | {"store_uri": "http://127.0.0.1:9"})

    with pytest.raises(StoreError, match="without your signature"):
        record_spool(spool.folder)
    assert (spool.folder / "runs" / make_record(0).spec.run_id / "record.json").exists()


def test_a_spool_is_private_and_links_in_it_lead_nowhere(
    store, batch, make_record, make_spool, files, tmp_path
):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("mine")
    parent_id = Recorder(store, batch).start_parent()
    spool = make_spool(parent_id)
    spool.add(make_record(1, artifacts=files))
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    place = spool.folder / "runs" / make_record(1).spec.run_id / "artifacts"
    (place / "taken").symlink_to(precious)

    record_spool(spool.folder)

    assert (precious / "thesis").read_text() == "mine"
    ((_, status, run_id),) = run_states(store, batch.batch_id)
    assert status == "FINISHED"
    assert artifacts_of(store, run_id) == {"run.json", "profile/timings.json"}
