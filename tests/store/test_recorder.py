import json
import logging
import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

from backtest_batch.errors import StoreError
from backtest_batch.records import RunFailure
from backtest_batch.store.artifacts import local_folder
from backtest_batch.store.mlflow_run import (
    NO_COMMIT,
    RESERVED_TAGS,
    BatchInfo,
    DatasetInfo,
    EquityCurve,
)
from backtest_batch.store.process import this_process
from backtest_batch.store.recorder import Recorder, RecordingError

STARTED_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z, as conftest.py makes the records
FINGERPRINT = "d4" * 32


@pytest.fixture
def folder(tmp_path) -> Path:
    """Files as a worker leaves them."""
    folder = tmp_path / "scratch" / "run_0.0"
    (folder / "profile").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "profile" / "timings.json").write_text("[1]")
    return folder


def artifacts_of(store, run_id) -> dict[str, str]:
    root = local_folder(store.client.get_run(run_id).info.artifact_uri)
    return {
        str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()
    }


def test_a_finished_run_has_all_that_the_contract_names(recorder, store, make_record, folder):
    (run_id,) = recorder.record([make_record(artifacts=folder)])
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (STARTED_MS, STARTED_MS + 500)
    assert run.info.run_name == "commission_bps=0.0"
    assert run.data.params == {
        "batch_name": "demo",
        "seed": "42",
        "start_date": "null",
        "commission_bps": "0.0",
        "data._target_": "backtest_batch.core.data.Synthetic",
        "data.symbols": '["A", "Ö"]',
        "strategy.fast": "20",
        "strategy.slow": "60",
        "strategy.long_short": "true",
        "tags": "{}",
    }
    assert run.data.metrics == {
        "sharpe": 0.5,
        "max_drawdown": -0.25,
        "runtime_s": 0.25,
        "cpu_s": 0.125,
        "peak_rss_mb": 150.5,
        "attempts": 1.0,
        "param.commission_bps": 0.0,
    }
    process = this_process()
    tags = dict(run.data.tags)
    for ours in ("mlflow.user", "mlflow.source.name", "mlflow.source.type"):
        assert tags.pop(ours)
    assert tags == {
        "mlflow.runName": "commission_bps=0.0",
        "mlflow.parentRunId": recorder.parent_run_id,
        "batch_id": "20260101T000000Z-a1b2c3",
        "batch_name": "demo",
        "batch_role": "run",
        "run_id": "run_0.0",
        "run_key": "0" * 64,
        "config_hash": "c0" * 32,
        "data_fingerprint": FINGERPRINT,
        "code_fingerprint": "e5" * 32,
        "git_commit": "f" * 40,
        "git_dirty": "true",
        "attempts": "1",
        "tracking_id": "batch_demo_run_0.0_20260101T000000Z",
        "host": process.host,
        "pid": str(process.pid),
        "process_started": process.process_started,
        "suite": "core",
        "chunk_runs": "2",
        "swept": '{"commission_bps":0.0,"strategy.long_short":true}',
        "undefined_metrics": "calmar,beta",
        "untradable_weights": "3",
    }
    assert artifacts_of(store, run_id) == {"run.json": "{}", "profile/timings.json": "[1]"}
    assert not any(path.is_file() for path in folder.rglob("*"))


def test_our_tags_are_reserved(recorder, store, make_record):
    ids = recorder.record([make_record(failure=RunFailure(error_type="E", error_message="m"))])
    recorder.finish_parent("FINISHED", tags={"n_finished": 0, "n_failed": 1, "n_skipped": 0})
    for run_id in (*ids, recorder.parent_run_id):
        ours = set(store.client.get_run(run_id).data.tags) - set(recorder.batch.tags) - {"batch_id"}
        assert {tag for tag in ours if not tag.startswith("mlflow.")} <= RESERVED_TAGS


def test_a_failed_run_says_why(recorder, store, make_record, folder):
    failure = RunFailure(
        error_type="ValueError",
        error_message="`fast < slow` must hold",
        traceback="Traceback ...\nValueError",
        log="",
        artifacts=folder,
    )
    (run_id,) = recorder.record([make_record(1, failure=failure)])
    run = store.client.get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["error_type"] == "ValueError"
    assert run.data.tags["error_message"] == "`fast < slow` must hold"
    assert run.data.metrics == {"attempts": 1.0, "runtime_s": 0.5, "param.commission_bps": 0.5}
    artifacts = artifacts_of(store, run_id)
    assert artifacts["traceback.txt"] == "Traceback ...\nValueError"
    assert artifacts["log.txt"] == ""
    assert "symbols:\n  - A\n  - Ö\n" in artifacts["config.yaml"]
    assert artifacts["run.json"] == "{}"


def test_a_dead_worker_has_no_traceback_but_a_reason(recorder, store, make_record):
    failure = RunFailure(error_type="WorkerDied", error_message="killed by SIGKILL")
    (run_id,) = recorder.record([make_record(failure=failure)])
    assert artifacts_of(store, run_id)["traceback.txt"] == "WorkerDied: killed by SIGKILL\n"


def test_an_interrupted_run_is_killed(recorder, store, make_record):
    (run_id,) = recorder.record([make_record(interrupted=True)])
    run = store.client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.metrics == {"attempts": 1.0, "param.commission_bps": 0.0}


def test_nothing_to_record(recorder):
    assert recorder.record([]) == []


def test_undefined_values_never_become_metrics(recorder, store, make_record):
    values = {"metrics": {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0}}
    (run_id,) = recorder.record([make_record(result=values)])
    metrics = store.client.get_run(run_id).data.metrics
    assert metrics["d"] == 1.0
    assert metrics.keys().isdisjoint("abc")


def test_only_swept_numbers_become_metrics(recorder, store, make_record):
    swept = {"n": 3, "x": 0.5, "flag": True, "name": "ema", "none": None, "bad": math.nan}
    (run_id,) = recorder.record([make_record(spec={"swept": swept})])
    metrics = store.client.get_run(run_id).data.metrics
    assert {key for key in metrics if key.startswith("param.")} == {"param.n", "param.x"}


def test_long_values_and_odd_names_arrive_visibly_changed(recorder, store, make_record, caplog):
    config = {
        "long": "x" * 6_001,
        "a=b": 1,
        "a[b": 2,
        "many": {f"key{number}": number for number in range(250)},
    }
    failure = RunFailure(error_type="E", error_message="y" * 8_001)
    with caplog.at_level(logging.WARNING):
        (run_id,) = recorder.record([make_record(failure=failure, spec={"config": config})])
    assert caplog.messages == []
    run = store.client.get_run(run_id)
    assert len(run.data.params) == 253
    assert run.data.params["long"].endswith("]")
    assert "… [6001 characters, sha256 " in run.data.params["long"]
    assert len(run.data.params["long"]) == 6_000
    odd = [key for key in run.data.params if key.startswith("a_b-")]
    assert sorted(run.data.params[key] for key in odd) == ["1", "2"]
    assert "… [8001 characters, sha256 " in run.data.tags["error_message"]
    assert f"long: {'x' * 6_001}" in artifacts_of(store, run_id)["config.yaml"].replace("\n  ", "")


def test_hundreds_of_tags_and_metrics(store, batch, make_record):
    tags = {f"tag{number}": str(number) for number in range(230)}
    many = BatchInfo(batch_id="b", batch_name="demo", n_runs=1, started_ms=STARTED_MS, tags=tags)
    recorder = Recorder(store, many, writer="client")
    recorder.start_parent()
    metrics = {f"m{number}": float(number) for number in range(1_500)}
    (run_id,) = recorder.record([make_record(result={"metrics": metrics})])
    data = store.client.get_run(run_id).data
    assert tags.items() <= data.tags.items()
    assert metrics.items() <= data.metrics.items()


def test_a_long_run_name_is_shortened(recorder, store, make_record):
    (run_id,) = recorder.record([make_record(spec={"run_name": "a=1 " * 100})])
    run = store.client.get_run(run_id)
    assert len(run.info.run_name) == 250
    assert run.info.run_name == run.data.tags["mlflow.runName"]


def test_outside_a_repository(store, make_record):
    batch = BatchInfo(batch_id="b", batch_name="demo", n_runs=1, started_ms=STARTED_MS)
    recorder = Recorder(store, batch)
    parent = store.client.get_run(recorder.start_parent())
    assert (parent.data.tags["git_commit"], parent.data.tags["git_dirty"]) == (NO_COMMIT, "false")


def test_the_parent_run(store, batch, folder):
    recorder = Recorder(store, batch)
    dataset = DatasetInfo(
        name="sp500",
        fingerprint=FINGERPRINT,
        source="sp500",
        n_bars=8_313,
        symbols=("AAPL", "Ö"),
        fields=("close",),
        first="1990-01-02",
        last="2022-12-28",
    )
    parent_id = recorder.start_parent(
        tags={"note": "x"}, params={"n_jobs": 2}, dataset=dataset, artifacts=folder
    )
    running = store.client.get_run(parent_id)
    assert running.info.status == "RUNNING"
    assert running.info.run_name == "demo"
    assert running.info.start_time == STARTED_MS
    assert running.data.params == {"n_jobs": "2"}
    expected = {"batch_role": "batch", "batch_id": batch.batch_id, "n_runs": "3", "suite": "core"}
    assert expected.items() <= running.data.tags.items()
    (data,) = running.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("sp500", FINGERPRINT[:36])
    profile = json.loads(data.dataset.profile)
    assert (profile["n_bars"], profile["n_symbols"]) == (8_313, 2)
    assert (profile["first"], profile["last"]) == ("1990-01-02", "2022-12-28")
    assert profile["symbols"] == ["AAPL", "Ö"]
    assert (folder / "run.json").exists()

    recorder.finish_parent(
        "FINISHED",
        tags={"n_finished": 2, "n_failed": 1, "n_skipped": 0},
        metrics={"benchmark_sharpe": 0.4, "benchmark_calmar": math.nan},
        artifacts=folder,
        note="# Summary",
        ended_ms=STARTED_MS + 9_000,
    )
    done = store.client.get_run(parent_id)
    assert (done.info.status, done.info.end_time) == ("FINISHED", STARTED_MS + 9_000)
    assert done.data.metrics == {"benchmark_sharpe": 0.4}
    counts = {"n_finished": "2", "n_failed": "1", "n_skipped": "0"}
    assert counts.items() <= done.data.tags.items()
    assert done.data.tags["mlflow.note.content"] == "# Summary"
    assert artifacts_of(store, parent_id)["run.json"] == "{}"


PRICES = DatasetInfo(
    name="sp500",
    fingerprint=FINGERPRINT,
    source="sp500",
    n_bars=3,
    symbols=("A",),
    fields=("close",),
    first="2020-01-01",
    last="2020-01-03",
)


def test_two_batches_begin_on_the_same_new_data_at_once(store, batch):
    faster = []

    def be_faster(_connection, _cursor, statement, *_):
        if statement.startswith("INSERT INTO datasets") and not faster:
            faster.append(True)
            Recorder(store, replace(batch, batch_id="faster")).start_parent(dataset=PRICES)

    event.listen(store.engine, "before_cursor_execute", be_faster)
    parent_id = Recorder(store, batch).start_parent(dataset=PRICES)
    runs = store.client.search_runs([store.experiment_id])
    assert len(runs) == 2
    assert [len(run.inputs.dataset_inputs) for run in runs] == [1, 1]
    assert store.client.get_run(parent_id).data.tags["batch_id"] == batch.batch_id


def test_a_parent_that_cannot_be_begun_completely_is_taken_back(store, batch):
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON datasets "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    connection.close()
    from mlflow.entities import ViewType

    recorder = Recorder(store, batch)
    with pytest.raises(StoreError, match=r"failed to begin the batch: .*disk is full"):
        recorder.start_parent(dataset=PRICES)
    assert recorder.parent_run_id is None
    (left,) = store.client.search_runs([store.experiment_id], run_view_type=ViewType.ALL)
    assert (left.info.lifecycle_stage, left.info.status) == ("deleted", "FAILED")


def test_a_long_note_says_that_it_goes_on_elsewhere(store, batch):
    recorder = Recorder(store, batch)
    parent_id = recorder.start_parent()
    recorder.finish_parent("KILLED", note="x" * 9_000)
    note = store.client.get_run(parent_id).data.tags["mlflow.note.content"]
    assert len(note) == 8_000
    assert note.endswith("batch_summary.md.")


def test_a_batch_goes_on_in_another_process(store, batch):
    first = Recorder(store, batch)
    parent_id = first.start_parent()
    store.client.set_tag(parent_id, "pid", "1")
    first.finish_parent("KILLED")
    second = Recorder(store, batch)
    second.continue_parent(parent_id, tags={"n_runs": 5})
    run = store.client.get_run(parent_id)
    assert run.info.status == "RUNNING"
    assert run.data.tags["pid"] == str(this_process().pid)
    assert run.data.tags["n_runs"] == "5"
    second.finish_parent("FINISHED")
    assert store.client.get_run(parent_id).info.status == "FINISHED"


def test_a_run_that_was_begun_is_completed(recorder, store, make_record, folder):
    record = make_record(artifacts=folder)
    begun = store.client.create_run(store.experiment_id).info.run_id
    store.client.log_param(begun, "seed", "42")
    ids = recorder.record([record, make_record(1)], begun={record.spec.run_key: begun})
    assert ids[0] == begun
    run = store.client.get_run(begun)
    assert run.info.status == "FINISHED"
    assert run.data.tags["run_key"] == record.spec.run_key
    assert run.data.metrics["sharpe"] == 0.5
    assert artifacts_of(store, begun).keys() == {"run.json", "profile/timings.json"}
    assert len(store.client.search_runs([store.experiment_id])) == 3


def test_retired_runs_go_to_the_trash(recorder, store, make_record):
    (run_id,) = recorder.record([make_record()])
    recorder.retire([run_id])
    assert store.client.get_run(run_id).info.lifecycle_stage == "deleted"


def test_files_can_be_added_later(recorder, store, make_record, folder):
    (run_id,) = recorder.record([make_record()])
    recorder.add_files([(run_id, {"equity.html": "<p>Ö"}, folder)])
    assert artifacts_of(store, run_id) == {
        "run.json": "{}",
        "profile/timings.json": "[1]",
        "equity.html": "<p>Ö",
    }
    assert (folder / "run.json").exists()


@pytest.mark.parametrize("n_bars", [0, 1, 199, 200, 8_313])
def test_curves_have_at_most_two_hundred_points(recorder, store, make_record, n_bars):
    (run_id,) = recorder.record([make_record()])
    steps = np.arange(60, 60 + n_bars)
    curve = EquityCurve(steps=steps, equity=1e6 + steps * 1.0, drawdown=-steps / 1e6)
    recorder.log_curves({run_id: curve})
    recorder.log_curves({})
    history = store.client.get_metric_history(run_id, "equity")
    assert len(history) == min(n_bars, 200)
    if n_bars:
        points = sorted((point.step, point.value) for point in history)
        assert points[0] == (60, 1e6 + 60)
        assert points[-1] == (59 + n_bars, 1e6 + 59 + n_bars)
        assert store.client.get_run(run_id).data.metrics["equity"] == 1e6 + 59 + n_bars


def test_both_ways_of_writing_curves_agree(store, batch, make_record):
    times = np.array([-86_400_000, 0, 86_400_000, 2 * 86_400_000])
    curve = EquityCurve(
        steps=np.array([0, 1, 2, 3]),
        equity=np.array([1.0, np.nan, 3.0, np.inf]),
        drawdown=np.array([0.0, -0.1, -0.2, -0.3]),
        timestamps_ms=times,
    )
    histories = []
    for writer in ("client", "bulk"):
        recorder = Recorder(store, batch, writer=writer)
        recorder.start_parent()
        (run_id,) = recorder.record([make_record()])
        recorder.log_curves({run_id: curve})
        history = [
            (point.key, point.step, point.value, point.timestamp if point.step else "now")
            for name in ("equity", "drawdown")
            for point in store.client.get_metric_history(run_id, name)
        ]
        latest = store.client.get_run(run_id).data.metrics
        histories.append((sorted(history, key=str), latest["equity"], latest["drawdown"]))
    assert histories[0] == histories[1]
    assert histories[0][1:] == (3.0, -0.3)


def test_a_store_that_fails_leaves_the_files_and_says_what_was_recorded(
    recorder, store, make_record, folder
):
    (first,) = recorder.record([make_record(0)])
    store.close()
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as connection:
        connection.execute("ALTER TABLE params RENAME TO gone")
    connection.close()
    with pytest.raises(RecordingError, match="failed to record") as caught:
        recorder.record([make_record(1, artifacts=folder)])
    assert caught.value.exit_code == 3
    assert caught.value.recorded == {}
    assert isinstance(caught.value, StoreError)
    assert (folder / "run.json").read_text() == "{}"
    assert (folder / "profile" / "timings.json").read_text() == "[1]"
    kept = local_folder(store.artifact_location)
    assert not kept.exists() or all(path.name == first for path in kept.iterdir())


def test_what_was_recorded_before_the_failure_is_named(store, batch, make_record):
    recorder = Recorder(store, batch, writer="client")
    recorder.start_parent()
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON params WHEN NEW.value = '1.0' "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    connection.close()
    records = [make_record(index) for index in range(4)]
    with pytest.raises(RecordingError, match=r"database or disk is full\. Free some") as caught:
        recorder.record(records)
    assert set(caught.value.recorded) == {records[0].spec.run_key, records[1].spec.run_key}


def test_recording_needs_a_parent(store, batch, make_record):
    with pytest.raises(RuntimeError, match="comes before `record`"):
        Recorder(store, batch).record([make_record()])
    with pytest.raises(RuntimeError, match="comes before `finish_parent`"):
        Recorder(store, batch).finish_parent("FINISHED")


def test_recording_is_quiet(recorder, store, make_record, capfd):
    recorder.record([make_record()])
    recorder.finish_parent("FINISHED")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_database_that_was_removed_records_nothing(recorder, store, make_record, folder, moment):
    database = Path(store.engine.url.database)
    if moment == "before":
        database.unlink()
    else:  # what is committed from here on goes into a file without a name
        event.listen(store.engine, "commit", lambda _: database.unlink(missing_ok=True))
    with pytest.raises(RecordingError, match="was removed, or replaced by another") as raised:
        recorder.record([make_record(artifacts=folder)])
    assert raised.value.recorded == {}
    assert store.is_gone
    # The files are where they were, to be recorded elsewhere.
    assert (folder / "run.json").read_text() == "{}"
    assert (folder / "profile" / "timings.json").read_text() == "[1]"
