import pandas as pd
import pytest

from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.errors import ConfigurationError, SelectionError
from backtest_batch.store.selection import select_runs, tag_filter


def table_of(store, batch=None, **asked):
    return select_runs(store, batch=batch, **asked).table


def test_the_runs_of_a_batch_are_read_with_typed_parameters(recorded, store):
    table = table_of(store, recorded.core)

    assert len(table) == 12
    assert table.params.columns.tolist() == ["strategy.fast", "strategy.slow", "commission_bps"]
    assert set(table.params["strategy.slow"]) == {20, 30, 40}
    assert {type(value) for value in table.params["commission_bps"]} == {float}
    assert table.scenario_axes == ("commission_bps",)
    assert table.metrics["sharpe"].notna().all()
    assert set(table.runs["batch_name"]) == {"core"}
    assert not table.several_batches


def test_a_name_means_the_newest_batch_of_that_name(recorded, store):
    selection = select_runs(store, batch="core")

    assert [batch.batch_id for batch in selection.batches] == [recorded.ids[-1]]
    assert select_runs(store, batch="latest").batches == selection.batches
    assert select_runs(store).batches == selection.batches


def test_a_batch_that_is_named_twice_is_read_once(recorded, store):
    selection = select_runs(store, batch=["core", "latest", recorded.ids[-1]])

    assert len(selection.batches) == 1
    assert len(selection.table) == 4


def test_a_run_that_occurs_in_two_batches_counts_once(recorded, store):
    selection = select_runs(store, batch=[recorded.core, "core"])

    assert len(selection.table) == 12
    assert set(selection.table.runs["batch_id"]) == {recorded.core}
    assert "4 runs occur more than once (same run key) and count once." in selection.notes


def test_runs_have_the_configured_value_of_what_only_others_swept(recorded, store):
    table = table_of(store, [recorded.core, "other"])

    assert table.several_batches
    assert table.params.columns.tolist() == [
        "strategy.fast",
        "strategy.slow",
        "commission_bps",
        # Swept by neither, and not the same in both.
        "rebalance",
    ]
    other = table.params[table.runs["batch_id"] != recorded.core]
    assert other["strategy.fast"].tolist() == [5, 5]
    assert other["commission_bps"].tolist() == [0.5, 0.5]
    assert other["rebalance"].tolist() == ["W", "W"]
    assert table.scenario.nunique() == 3


def test_whole_numbers_stay_whole_beside_runs_without_the_key(store):
    table = table_of(store, ["other", "long"])

    values = table.params["strategy.slow"]
    assert values[values.notna()].tolist() == [20, 50]
    assert {type(value) for value in values} == {int, type(None)}


def test_lists_and_mappings_are_the_same_whether_swept_or_configured(store):
    table = table_of(store, ["listed", "unlisted"])

    assert set(table.params["strategy.items"]) == {'["x", "y z"]', '["z"]'}
    assert set(table.params["strategy.options"]) == {'{"a": 1}', '{"a": 1, "b": "it is"}'}
    configured = table.params[table.runs["batch_name"] == "unlisted"]
    assert set(configured["strategy.items"]) == {'["x", "y z"]'}
    assert set(configured["strategy.options"]) == {'{"a": 1}'}
    assert configured["rebalance"].tolist() == ["W"]  # M is the default, and a run of the other


def test_another_strategy_is_a_parameter_of_the_comparison(recorded, store):
    table = table_of(store, ["other", "long"])

    assert "strategy" in table.params
    assert dict(table.runs.groupby("batch_name")["run_id"].count()) == {"other": 2, "long": 6}
    chosen = table.params["strategy"].groupby(table.runs["batch_name"]).agg(set)
    assert chosen.to_dict() == {"other": {"trend_baseline"}, "long": {"noted"}}
    assert table.params["strategy.note"].isna().sum() == 2


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        ({"suite": "first"}, {"core"}),
        ({"suite": "second", "reviewed": True}, {"other"}),
        (["reviewed"], {"other"}),
        ("reviewed", {"other"}),
        ({"size": 12}, {"core"}),
    ],
)
def test_runs_are_selected_by_all_of_the_tags(store, tags, names):
    assert set(table_of(store, filter_tags=tags).runs["batch_name"]) == names


def test_tags_batches_and_a_filter_narrow_each_other(recorded, store):
    everything = table_of(store, recorded.core)
    bound = float(everything.metrics["sharpe"].median())

    found = table_of(
        store,
        [recorded.core, "other"],
        filter_tags={"suite": "first"},
        filter_string=f"metrics.sharpe > {bound!r}",
    )

    wanted = everything.runs["run_id"][everything.metrics["sharpe"] > bound]
    assert sorted(found.runs["run_id"]) == sorted(wanted)


def test_runs_that_did_not_finish_are_counted_and_said(recorded, store):
    selection = select_runs(store, batch="failing")

    assert selection.table.runs["run_id"].tolist() == ["run_one", "run_two"]
    assert selection.notes == ("Left out: 1 FAILED (statuses=[FINISHED,FAILED] includes them).",)
    whole = select_runs(store, batch="failing", statuses=["finished", "FAILED"])
    assert sorted(whole.table.runs["status"]) == ["FAILED", "FINISHED", "FINISHED"]
    assert whole.table.runs["error_type"].tolist().count("RuntimeError") == 1
    assert whole.notes == ()


def test_long_values_are_read_back_whole(store):
    table = table_of(store, "long")

    values = table.params["strategy.note"].set_axis(table.runs["run_id"])
    assert values["a"] == "a" * 6_001
    assert values["b"] == "a" * 6_000 + "b"
    assert values["c"] == "x" * 4_500
    assert values["d"] == "y" * 4_500


def test_values_beyond_every_limit_stay_apart(store):
    table = table_of(store, "long")

    values = table.params["strategy.note"].set_axis(table.runs["run_id"])
    assert values["e"] != values["f"]
    assert all("9001 characters" in values[name] for name in "ef")


def test_without_a_record_of_what_was_swept_the_parameters_that_differ_are_taken(store):
    from backtest_batch.store.recorded import table_of as as_table
    from backtest_batch.store.search import find_batch, read_runs

    frame = read_runs(store, batches=[find_batch(store, "core").batch_id])

    table = as_table(frame.drop(columns="tags.swept"))

    assert table.params.columns.tolist() == ["commission_bps", "strategy.slow"]
    assert set(table.params["strategy.slow"]) == {20, 30}


def test_further_scenario_axes_are_taken(recorded, store):
    table = table_of(store, recorded.core, kinds=AxisKinds(scenario=("strategy.slow",)))

    assert table.scenario_axes == ("strategy.slow", "commission_bps")


def test_a_scenario_axis_that_is_no_parameter_is_said(recorded, store):
    kinds = AxisKinds(scenario=("strategy.slo", "strategy.slow", "commission_bps"))

    selection = select_runs(store, batch=recorded.core, kinds=kinds)

    assert selection.notes == (
        "scenario_axes=strategy.slo is not a swept parameter (did you mean strategy.slow?): "
        "it divides no runs.",
    )


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"batch": "cor"}, ["batch=cor:", "Similar ones: core"]),
        ({"batch": "2026-nothing-like-it"}, ["The newest ones: core"]),
        ({"batch": ["core", "nix"]}, ["batch=nix:"]),
        (
            {"filter_tags": {"suite": "secnd"}},
            ["filter_tags.suite=secnd:", "did you mean second?", "first, newest, second"],
        ),
        (
            {"filter_tags": {"suit": "first"}},
            ["filter_tags.suit=first:", "did you mean suite?", "reviewed, size, suite"],
        ),
        (
            {"filter_tags": {"suite": "first", "reviewed": "true"}},
            ["filter_tags:", "12 have suite=first, 2 have reviewed=true"],
        ),
        (
            {"filter_string": "metrics.sharpe > 1000"},
            ["filter=metrics.sharpe > 1000:", "none of the", "metrics.sharpe is from "],
        ),
        (
            {"filter_string": "metrics.sharp > 0"},
            ["no run has metrics.sharp; did you mean sharpe?"],
        ),
        ({"filter_string": "params.commission_bps > 0"}, ["filter=", "is not understood"]),
        ({"filter_string": "metrics.sharpe >"}, ["filter=metrics.sharpe >", "is not understood"]),
        (
            {"batch": "other", "statuses": ["FAILED"]},
            ["statuses=[FAILED]:", "they are 2 FINISHED"],
        ),
    ],
)
def test_an_empty_selection_names_the_key_and_the_choices(store, asked, words):
    with pytest.raises(SelectionError) as caught:
        select_runs(store, **asked)

    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("batch", [[], {"a": 1}, [None], [["core"]]])
def test_a_malformed_batch_is_refused(store, batch):
    with pytest.raises(ConfigurationError, match=r"batch=.*must be latest"):
        select_runs(store, batch=batch)


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        (None, {}),
        ({}, {}),
        ([], {}),
        ("reviewed", {"reviewed": "true"}),
        (["a", "b"], {"a": "true", "b": "true"}),
        (
            {"a": True, "b": 5, "c": 0.5, "d": "x y"},
            {"a": "true", "b": "5", "c": "0.5", "d": "x y"},
        ),
    ],
)
def test_tags_are_read_as_they_are_typed(given, tags):
    assert tag_filter(given) == tags


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"a": ["x", "y"]}, "filter_tags.a="),
        ({"a": None}, "filter_tags.a="),
        ([{"a": "x"}], "filter_tags="),
        (["suite=core"], "filter_tags=suite=core"),
        (5, "filter_tags=5"),
    ],
)
def test_malformed_tags_are_refused(given, key):
    with pytest.raises(ConfigurationError) as caught:
        tag_filter(given)

    assert str(caught.value).startswith(key)
    assert all(fault.key.startswith("filter_tags") for fault in caught.value.faults)


def test_a_store_that_holds_nothing_says_so(tmp_path, migrated_store):
    from backtest_batch.store.address import sqlite_uri
    from backtest_batch.store.mlflow_run import BatchInfo
    from backtest_batch.store.recorder import Recorder
    from backtest_batch.store.store import open_store

    database = tmp_path / "mlflow.db"
    database.write_bytes(migrated_store.read_bytes())
    empty = open_store(sqlite_uri(database), "backtest_batch")

    with pytest.raises(SelectionError, match="holds no batches yet"):
        select_runs(empty)
    with pytest.raises(SelectionError, match="There is no run in the experiment"):
        select_runs(empty, filter_tags={"suite": "first"})
    Recorder(
        empty, BatchInfo(batch_id="begun", batch_name="begun", n_runs=3, started_ms=1)
    ).start_parent()
    with pytest.raises(SelectionError, match="batch=begun: no run of it is recorded yet"):
        select_runs(empty)
    empty.close()


def test_the_selection_agrees_with_mlflows_own_search(recorded, store):
    table = table_of(store, recorded.core)
    found = {
        run.info.run_id: run
        for run in store.client.search_runs(
            [store.experiment_id],
            f"tags.batch_id = '{recorded.core}' and tags.batch_role = 'run'",
        )
    }

    assert set(table.runs["mlflow_run_id"]) == set(found)
    for row in table.runs.index:
        run = found[table.runs.loc[row, "mlflow_run_id"]]
        assert table.runs.loc[row, "run_id"] == run.data.tags["run_id"]
        assert table.metrics.loc[row].dropna().to_dict() == pytest.approx(
            {name: run.data.metrics[name] for name in table.metrics.loc[row].dropna().index}, rel=0
        )
        for name in table.params:
            assert str(table.params.loc[row, name]) == run.data.params[name]
    assert isinstance(table.runs, pd.DataFrame)
