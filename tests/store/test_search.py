import numpy as np
import pandas as pd
import pytest

from backtest_batch.errors import SelectionError, StoreError
from backtest_batch.records import RunFailure
from backtest_batch.store.client import ClientRuns
from backtest_batch.store.kinds import RunQuery
from backtest_batch.store.mlflow_run import BatchInfo, DatasetInfo
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.search import (
    find_batch,
    list_artifacts,
    list_batches,
    read_artifact,
    read_runs,
    run_states,
)
from backtest_batch.store.sql import SqlRuns

STARTED_MS = 1_767_225_600_000

DATASET = DatasetInfo(
    name="sp500",
    fingerprint="d4" * 32,
    source="sp500",
    n_bars=3,
    symbols=("A",),
    fields=("close",),
    first="2020-01-01",
    last="2020-01-03",
)


@pytest.fixture
def begin(store):
    """Begin a batch and return its recorder."""

    def begin(
        batch_id: str, name: str, *, hours: int = 0, rerun_of: str = "", **tags: str
    ) -> Recorder:
        batch = BatchInfo(
            batch_id=batch_id,
            batch_name=name,
            n_runs=1,
            started_ms=STARTED_MS + hours * 3_600_000,
            tags=tags,
            rerun_of=rerun_of,
        )
        recorder = Recorder(store, batch)
        recorder.start_parent(dataset=DATASET if name == "core" else None)
        return recorder

    return begin


@pytest.fixture
def filled(begin, make_record):
    """Two batches with runs of every kind."""
    failure = RunFailure(error_type="ValueError", error_message="m")
    core = begin("b1", "core", suite="x", quote="it's")
    core.record([make_record(0), make_record(1), make_record(2, failure=failure)])
    other = begin("b2", "core_ml", hours=1, suite="y")
    other.record([make_record(0), make_record(3, interrupted=True)])
    return core, other


def test_a_batch_is_found_by_id_then_by_name_then_as_the_latest(store, begin):
    begin("b1", "core")
    begin("b3", "core", hours=2)
    begin("b2", "core", hours=1)
    begin("core", "odd", hours=-1)
    assert find_batch(store, "b2").batch_name == "core"
    assert find_batch(store, "core").batch_name == "odd"
    assert find_batch(store, "odd").batch_id == "core"
    assert find_batch(store, "latest").batch_id == "b3"
    assert [handle.batch_id for handle in list_batches(store)] == ["b3", "b2", "b1", "core"]


def test_a_winner_that_runs_again_is_not_what_the_name_of_its_batch_means(store, begin):
    begin("b1", "core")
    begin("b2", "core (rerun)", hours=1, rerun_of="b1")
    # Even where the name was given by hand.
    begin("b3", "core", hours=2, rerun_of="b1")
    assert find_batch(store, "core").batch_id == "b1"
    assert find_batch(store, "latest").batch_id == "b1"
    assert find_batch(store, "b3").tags["rerun_of"] == "b1"
    assert find_batch(store, "core (rerun)").batch_id == "b2"


def test_there_is_no_latest_batch_among_winners_that_ran_again(store, begin):
    begin("b2", "mine", rerun_of="b1")
    assert find_batch(store, "mine").batch_id == "b2"
    with pytest.raises(SelectionError, match=r"no latest batch: .* winners .*again \(b2\)"):
        find_batch(store, "latest")


def test_of_equal_names_the_newest_is_meant(store, begin):
    begin("b3", "core", hours=2)
    begin("b2", "core", hours=1)
    handle = find_batch(store, "core")
    assert (handle.batch_id, handle.status, handle.ended_ms) == ("b3", "RUNNING", None)
    assert handle.started_ms == STARTED_MS + 7_200_000
    assert handle.tags["batch_role"] == "batch"


@pytest.mark.parametrize("name", ["it's", 'say "x"', "Zürich", "a b", "100%"])
def test_odd_names_are_found(store, begin, name):
    begin("b1", name)
    assert find_batch(store, name).batch_id == "b1"


def test_an_unknown_batch_names_similar_ones(store, begin):
    begin("b1", "core_ml")
    begin("b2", "baseline", hours=1)
    with pytest.raises(SelectionError, match=r"no batch 'core_m' in .*Similar ones: core_ml\."):
        find_batch(store, "core_m")
    with pytest.raises(SelectionError, match=r"The newest ones: baseline, core_ml\."):
        find_batch(store, "zzz")
    with pytest.raises(SelectionError, match="no batch"):
        find_batch(store, "'\"")


def test_an_empty_store(store):
    with pytest.raises(SelectionError, match="holds no batches yet"):
        find_batch(store, "latest")
    frame = read_runs(store)
    assert len(frame) == 0
    assert list(frame)[:4] == ["run_id", "batch_id", "status", "mlflow_run_id"]
    assert run_states(store, "b1") == []
    assert len(read_runs(store, batches=[])) == 0


@pytest.mark.parametrize(
    "selection",
    [
        {},
        {"batches": ["b1"]},
        {"batches": ["b1", "b2", "b9"]},
        {"tags": {"suite": "x"}},
        {"tags": {"suite": "x", "quote": "it's"}},
        {"tags": {"suite": "nothing"}},
        {"statuses": ["FINISHED"]},
        {"statuses": ["FAILED", "KILLED"], "batches": ["b2"]},
        {"role": "batch"},
        {"parts": ["metrics"]},
        {"parts": []},
        {"filter_string": "metrics.sharpe > 1 and tags.suite = 'x'"},
        {"filter_string": "metrics.sharpe != 0.5", "batches": ["b1", "b2"]},
        {"filter_string": "metrics.unknown > 1"},
        {"filter_string": "params.commission_bps = '0.5' and status = 'FINISHED'"},
        {"filter_string": "tags.run_id LIKE 'RUN%'"},
        {"filter_string": "tags.run_id ILIKE 'RUN%' and params.seed != '1'"},
        {"filter_string": "run_name LIKE '%=1.%' and attributes.start_time > 5"},
        {"filter_string": "dataset.name = 'sp500'", "role": "batch"},
        {"filter_string": "  "},
    ],
)
def test_the_database_says_what_the_client_says(store, filled, selection):
    # What read_runs asks of the kind of store that it chooses.
    query = RunQuery(
        batches=tuple(selection["batches"]) if "batches" in selection else None,
        tags={"batch_role": selection.get("role", "run"), **selection.get("tags", {})},
        statuses=tuple(selection["statuses"]) if "statuses" in selection else None,
        parts=tuple(selection.get("parts", ("metrics", "params", "tags"))),
    )
    client = ClientRuns(store)
    both = [
        kind.read(query, selection.get("filter_string", "")).frame()
        for kind in (client, SqlRuns(store, client))
    ]
    pd.testing.assert_frame_equal(*both)
    pd.testing.assert_frame_equal(both[0], read_runs(store, **selection))


def test_both_kinds_say_how_the_runs_of_a_batch_ended(store, filled):
    client = ClientRuns(store)
    for batch in ("b1", "b2"):
        assert client.states(batch) == SqlRuns(store, client).states(batch) != []


def test_the_columns_of_the_table(store, filled):
    frame = read_runs(store, batches=["b1"])
    assert list(frame["run_id"]) == ["run_0.0", "run_0.5", "run_1.0"]
    assert list(frame["status"]) == ["FINISHED", "FINISHED", "FAILED"]
    assert list(frame["batch_id"]) == ["b1"] * 3
    assert list(frame["started_ms"] - STARTED_MS) == [0, 1_000, 2_000]
    assert list(frame["ended_ms"] - STARTED_MS) == [500, 1_500, 2_500]
    np.testing.assert_array_equal(frame["metrics.sharpe"], [0.5, 1.5, np.nan])
    assert list(frame["params.commission_bps"]) == ["0.0", "0.5", "1.0"]
    assert list(frame["tags.error_type"].isna()) == [True, True, False]
    assert list(frame)[:7] == [
        "run_id",
        "batch_id",
        "status",
        "mlflow_run_id",
        "run_name",
        "started_ms",
        "ended_ms",
    ]
    run = store.client.get_run(frame["mlflow_run_id"][0])
    assert run.data.tags["run_id"] == "run_0.0"


def test_a_running_run_has_no_end(store, filled):
    frame = read_runs(store, role="batch")
    assert frame["ended_ms"].isna().all()


def test_runs_in_the_trash_are_left_out(store, filled):
    frame = read_runs(store)
    store.client.delete_run(frame["mlflow_run_id"][0])
    pd.testing.assert_series_equal(
        read_runs(store)["mlflow_run_id"], frame["mlflow_run_id"][1:].reset_index(drop=True)
    )


def test_a_condition_in_mlflows_language(store, filled):
    frame = read_runs(store, filter_string="metrics.sharpe > 1 and tags.suite = 'x'")
    assert list(frame["run_id"]) == ["run_0.5"]
    assert len(read_runs(store, filter_string="metrics.unknown > 1")) == 0


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("condition", ["sharpe >", "metrics.sharpe > 'a'", "a or b", "!!!"])
def test_a_condition_that_mlflow_does_not_understand(store, filled, condition, known, monkeypatch):
    if not known:
        monkeypatch.setattr("backtest_batch.store.sql.KNOWN_REVISIONS", frozenset())
    with pytest.raises(SelectionError, match="is not understood") as caught:
        read_runs(store, filter_string=condition)
    assert f"filter={condition}" in str(caught.value)


def test_searching_goes_on_over_pages(store, filled, monkeypatch):
    monkeypatch.setattr("backtest_batch.store.sql.KNOWN_REVISIONS", frozenset())
    monkeypatch.setattr("backtest_batch.store.client._PAGE_SIZE", 2)
    assert len(read_runs(store)) == 5


def test_keys_for_resuming(store, filled, make_record):
    core, _ = filled
    keys = [f"{index:064x}" for index in range(4)]
    states = run_states(store, "b1")
    assert [state[:2] for state in states] == [
        (keys[0], "FINISHED"),
        (keys[1], "FINISHED"),
        (keys[2], "FAILED"),
    ]
    assert [state[:2] for state in run_states(store, "b2")] == [
        (keys[0], "FINISHED"),
        (keys[3], "KILLED"),
    ]
    (again,) = core.record([make_record(2)])
    assert (keys[2], "FINISHED", again) in run_states(store, "b1")
    core.retire([states[2][2]])
    assert "FAILED" not in {status for _, status, _ in run_states(store, "b1")}


def test_artifacts_can_be_read(store, filled):
    core, _ = filled
    core.add_files([(core.parent_run_id, {"batch_config.yaml": "seed: 42\n"}, None)])
    assert list_artifacts(store, core.parent_run_id) == ["batch_config.yaml"]
    assert read_artifact(store, core.parent_run_id, "batch_config.yaml") == b"seed: 42\n"
    with pytest.raises(StoreError, match=r"failed to read the artifact missing\.json"):
        read_artifact(store, core.parent_run_id, "missing.json")
