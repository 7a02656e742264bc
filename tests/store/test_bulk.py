import logging
import sqlite3
from pathlib import Path

import pytest

from backtest_batch.errors import StoreError
from backtest_batch.records import RunFailure
from backtest_batch.store import sql
from backtest_batch.store.address import resolve_uri
from backtest_batch.store.artifacts import local_folder
from backtest_batch.store.mlflow_run import run_entry
from backtest_batch.store.recorder import Recorder, RecordingError
from backtest_batch.store.sql import RunRows, SqlRuns, obstacle_to_writing
from backtest_batch.store.sqlite_file import KNOWN_REVISIONS, head_revision
from backtest_batch.store.store import open_store


def execute(store, *statements: str) -> None:
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def described(run) -> dict:
    """Everything that MLflow's API says about a run, except its own id and its parent's."""
    tags = dict(run.data.tags)
    parent = tags.pop("mlflow.parentRunId", None)
    info = {
        key: value for key, value in dict(run.info).items() if key not in ("run_id", "run_uuid")
    }
    info["artifact_uri"] = info["artifact_uri"].replace(run.info.run_id, "<id>")
    return {
        "info": info,
        "tags": tags,
        "has_parent": parent is not None,
        "params": run.data.params,
        "metrics": run.data.metrics,
        "inputs": run.inputs.to_dictionary(),
        "outputs": run.outputs.to_dictionary(),
    }


def some_records(make_record, scratch: Path) -> list:
    folder = scratch / "files"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    failure = RunFailure(error_type="ValueError", error_message="x" * 9_000, traceback="T\n")
    return [
        make_record(0, artifacts=folder),
        make_record(1, failure=failure),
        make_record(2, interrupted=True),
        make_record(3, result={"metrics": {}, "undefined_metrics": (), "tags": {"ruined": "2008"}}),
        make_record(4, spec={"config": {"größe": "東京", "empty": "", "n": 10**20, "x": 1e-300}}),
    ]


@pytest.fixture
def both(store, batch, make_record, tmp_path):
    """The same runs written both ways: recorders and MLflow run ids."""
    written = {}
    for writer in ("client", "bulk"):
        recorder = Recorder(store, batch, writer=writer)
        recorder.start_parent()
        records = some_records(make_record, tmp_path / writer)
        written[writer] = recorder, recorder.record(records)
    return written


def test_the_installed_mlflow_has_a_schema_that_is_known():
    assert head_revision() in KNOWN_REVISIONS


def test_both_ways_read_the_same_through_every_call(store, both):
    client = store.client
    (by_client, client_ids), (by_bulk, bulk_ids) = both["client"], both["bulk"]
    for one, other in zip(client_ids, bulk_ids, strict=True):
        run, twin = client.get_run(one), client.get_run(other)
        assert described(run) == described(twin)
        for key in run.data.metrics:
            history, copy = (client.get_metric_history(i, key) for i in (one, other))
            assert [dict(m) | {"run_id": None} for m in history] == [
                dict(m) | {"run_id": None} for m in copy
            ]
        assert [vars(a) for a in client.list_artifacts(one)] == [
            vars(a) for a in client.list_artifacts(other)
        ]
        assert client.get_parent_run(other).info.run_id == by_bulk.parent_run_id

    def search(recorder, condition="", order_by=None):
        parent = f"tags.`mlflow.parentRunId` = '{recorder.parent_run_id}'"
        found = client.search_runs(
            [store.experiment_id],
            filter_string=" and ".join(filter(None, [parent, condition])),
            order_by=order_by,
        )
        return [described(run) for run in found]

    for condition, order_by in (
        ("", None),
        ("metrics.sharpe > 0.4", ["metrics.sharpe DESC"]),
        ("params.`strategy.fast` = '20'", ["params.commission_bps ASC"]),
        ("tags.suite = 'core' and attributes.status = 'FAILED'", None),
        ("attributes.run_name LIKE 'commission%'", ["attributes.end_time ASC"]),
        ("metrics.`param.commission_bps` >= 1", ["tags.run_id ASC"]),
        ("attributes.created > 0", ["attributes.start_time ASC"]),
    ):
        found = search(by_client, condition, order_by)
        assert found
        assert found == search(by_bulk, condition, order_by)


def test_both_ways_leave_the_same_rows(store, both):
    connection = sqlite3.connect(store.uri.removeprefix("sqlite:///"))
    tables = {}
    for writer, (recorder, ids) in both.items():
        names = {run_id: f"<{number}>" for number, run_id in enumerate(ids)}
        names[recorder.parent_run_id] = "<parent>"
        rows = []
        for table in ("runs", "tags", "params", "metrics", "latest_metrics", "inputs"):
            column = "destination_id" if table == "inputs" else "run_uuid"
            marks = ", ".join("?" * len(ids))
            query = f"SELECT * FROM {table} WHERE {column} IN ({marks})"
            for row in connection.execute(query, ids):
                text = repr((table, row))
                for run_id, name in names.items():
                    text = text.replace(run_id, name)
                rows.append(text)
        tables[writer] = sorted(rows)
    connection.close()
    assert tables["client"] == tables["bulk"]


def test_runs_written_in_bulk_can_be_changed_deleted_and_restored(store, both):
    client, (_, ids) = store.client, both["bulk"]
    client.log_metric(ids[0], "sharpe", 9.0, step=1)
    client.set_tag(ids[0], "suite", "other")
    client.log_param(ids[0], "new", "1")
    client.log_text(ids[0], "text", "note.txt")
    client.update_run(ids[0], name="renamed")
    run = client.get_run(ids[0])
    assert (run.data.metrics["sharpe"], run.data.tags["suite"]) == (9.0, "other")
    assert (run.data.params["new"], run.info.run_name) == ("1", "renamed")
    client.delete_run(ids[0])
    listed = {run.info.run_id for run in client.search_runs([store.experiment_id])}
    assert listed.isdisjoint(ids[:1])
    assert listed.issuperset(ids[1:])
    client.restore_run(ids[0])
    assert client.get_run(ids[0]).info.lifecycle_stage == "active"
    client.delete_experiment(store.experiment_id)
    client.restore_experiment(store.experiment_id)
    assert len(client.search_runs([store.experiment_id])) == 12


def test_mlflows_own_gc_removes_them(store, both, tmp_path):
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    _, ids = both["bulk"]
    place = local_folder(store.client.get_run(ids[0]).info.artifact_uri)
    store.client.delete_run(ids[0])
    backend = store.client._tracking_client.store
    assert backend._get_deleted_runs() == [ids[0]]
    get_artifact_repository(store.client.get_run(ids[0]).info.artifact_uri).delete_artifacts()
    backend._hard_delete_run(ids[0])
    assert not place.exists()
    with pytest.raises(Exception, match="not found"):
        store.client.get_run(ids[0])


def test_many_runs_in_several_transactions(store, batch, make_record, monkeypatch):
    monkeypatch.setattr(sql, "RUNS_PER_TRANSACTION", 7)
    recorder = Recorder(store, batch, writer="bulk")
    recorder.start_parent()
    ids = recorder.record([make_record(index) for index in range(20)])
    assert len(set(ids)) == 20
    tags = [store.client.get_run(run_id).data.tags["run_id"] for run_id in ids]
    assert tags == [f"run_{index / 2}" for index in range(20)]


@pytest.mark.parametrize(
    ("table", "change", "named"),
    [
        ("tags", "UPDATE tags SET value = 'x' WHERE run_uuid = NEW.run_uuid", "tags"),
        ("params", "UPDATE params SET value = 'x' WHERE run_uuid = NEW.run_uuid", "params"),
        (
            "metrics",
            "UPDATE metrics SET step = 5 WHERE run_uuid = NEW.run_uuid",
            "history of the metric",
        ),
        ("latest_metrics", "UPDATE latest_metrics SET value = 7", "metrics"),
        ("runs", "UPDATE runs SET end_time = 5 WHERE run_uuid = NEW.run_uuid", "end_time"),
    ],
)
def test_rows_that_read_otherwise_are_removed_and_the_client_takes_over(
    store, batch, make_record, tmp_path, caplog, table, change, named
):
    recorder = Recorder(store, batch)
    recorder.start_parent()
    # A database that changes what is written: whatever is inserted after another row of its run.
    execute(
        store,
        f"CREATE TRIGGER meddle AFTER INSERT ON {table} WHEN NEW.run_uuid NOT IN "
        f"(SELECT run_uuid FROM runs WHERE end_time IS NULL) BEGIN {change}; END",
    )
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        ids = recorder.record([make_record(0, artifacts=folder), make_record(1)])
    assert f"({named}" in caplog.text
    assert "written one by one through MLflow's client" in caplog.text
    runs = store.client.search_runs([store.experiment_id], "tags.batch_role = 'run'")
    assert {run.info.run_id for run in runs} == set(ids)
    first = store.client.get_run(ids[0])
    assert first.data.tags["run_id"] == "run_0.0"
    assert (local_folder(first.info.artifact_uri) / "run.json").read_text() == "{}"
    assert len(list(local_folder(store.artifact_location).iterdir())) == 1


def test_an_unknown_schema_is_left_to_the_client(store, batch, monkeypatch):
    monkeypatch.setattr(sql, "KNOWN_REVISIONS", frozenset())
    assert "newer than what writing in bulk was tested with" in obstacle_to_writing(store)
    with pytest.raises(StoreError, match=r"^tracking.writer=bulk cannot be used: the schema"):
        Recorder(store, batch, writer="bulk")
    recorder = Recorder(store, batch, writer="auto")
    assert not isinstance(recorder._runs, SqlRuns)


def test_a_transaction_that_fails_leaves_nothing(store, batch, make_record, tmp_path):
    recorder = Recorder(store, batch, writer="bulk")
    recorder.start_parent()
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    execute(
        store,
        "CREATE TRIGGER full BEFORE INSERT ON latest_metrics WHEN NEW.value = 1.5 "
        "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    )
    with pytest.raises(RecordingError, match="database or disk is full"):
        recorder.record([make_record(0, artifacts=folder), make_record(1)])
    assert len(store.client.search_runs([store.experiment_id])) == 1
    assert (folder / "run.json").read_text() == "{}"
    assert list(local_folder(store.artifact_location).parent.glob("artifacts/*")) == []
    execute(store, "DROP TRIGGER full")
    assert len(recorder.record([make_record(0, artifacts=folder), make_record(1)])) == 2


def test_runs_written_in_bulk_survive_mlflows_upgrade(tmp_path, batch, make_record):
    import sqlalchemy
    from alembic import command
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    older = "d3e4f5a6b7c8"  # MLflow 3.9
    assert older in KNOWN_REVISIONS
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    (tmp_path / "mlruns").mkdir()
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, older)
    entry = run_entry(make_record(3), batch, "0" * 32)
    rows = RunRows(0)
    rows.add(entry, "a" * 32, "file:///a")
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO experiments (experiment_id, name, lifecycle_stage, artifact_location)"
                " VALUES (0, 'Default', 'active', 'file:///a')"
            )
        )
        rows.insert(connection)
    with pytest.raises(StoreError, match="mlflow db upgrade"):
        open_store(resolve_uri(None, tmp_path), "backtest_batch")
    utils._upgrade_db(engine)
    engine.dispose()
    store = open_store(resolve_uri(None, tmp_path), "backtest_batch")
    run = store.client.get_run("a" * 32)
    assert (run.data.params, run.data.metrics) == (dict(entry.params), dict(entry.metrics))
    assert (run.data.tags, run.info.status) == (dict(entry.tags), "FINISHED")
    store.close()
