import json
import shlex

import numpy as np
import pandas as pd
import pytest

from backtest_batch.config.schema import SWEEPABLE
from backtest_batch.store.mlflow_run import configuration
from backtest_batch.store.recorded import (
    batch_facts,
    details_of,
    recorded_assessment,
    recorded_returns,
    swept_values,
)
from backtest_batch.store.selection import select_runs


def chosen(config):
    return {key: value for key, value in config.items() if key in SWEEPABLE}


def test_configuration_command_and_environment_come_from_the_files(recorded, store):
    table = select_runs(store, batch=recorded.core).table
    rows = table.runs.index[table.runs["run_id"] == "run_10_30_1.0"]

    details = details_of(store, table, rows)[rows[0]]

    assert details.config["strategy"]["fast"] == 10
    assert details.config["commission_bps"] == 1.0
    assert {"strategy.fast=10", "strategy.slow=30", "commission_bps=1.0"} <= set(details.command)
    assert details.mlflow_run_id == table.runs.loc[rows[0], "mlflow_run_id"]
    assert details.environment["packages"]["numpy"] == np.__version__


def test_without_files_they_are_put_together_from_what_mlflow_has(recorded, store):
    # The same runs, once with files and once without.
    bare = select_runs(store, batch="core").table
    whole = select_runs(store, batch=recorded.core).table
    bare_details = details_of(store, bare, bare.runs.index)
    whole_details = details_of(store, whole, whole.runs.index)

    for row, details in bare_details.items():
        twin = whole.runs.index[whole.runs["run_key"] == bare.runs.loc[row, "run_key"]][0]
        assert chosen(details.config) == chosen(whole_details[twin].config)
        swept = {f"{name}={value}" for name, value in bare.params.loc[row].items()}
        assert swept <= set(details.command)
        assert "strategy.fast=5" in details.command
        assert not any("," in word for word in details.command)
        assert details.environment == {}


def test_lists_and_mappings_are_repeated_as_such(recorded, store, planned, in_store):
    table = select_runs(store, batch="listed").table
    details = details_of(store, table, table.runs.index)

    assert len(details) == 4
    for row, run in details.items():
        assert run.environment == {}  # no file of the run tells its command
        plan = planned(*shlex.split(run.shell_command)[3:])
        assert [spec.run_key for spec in plan.runs] == [table.runs.loc[row, "run_key"]]


def test_a_value_that_was_cut_leaves_no_command(recorded, store):
    frame = {
        "tags.swept": json.dumps(["strategy.note", "strategy"]),
        "params.strategy.note": "a" * 6_000,
        "params.strategy._target_": "my.OwnStrategy",
    }

    assert swept_values(frame) is None
    assert swept_values({**frame, "params.strategy.note": "0.5"}) == {
        "strategy.note": 0.5,
        "strategy": "own_strategy",
    }
    assert swept_values({"tags.swept": '{"a":1'}) is None
    assert swept_values({}) is None


def test_a_configuration_is_read_from_parameters():
    found = configuration(
        {
            "params.seed": "42",
            "params.start_date": "2005-01-31",
            "params.end_date": "null",
            "params.commission_bps": "0.5",
            "params.strategy.fast": "5",
            "params.strategy.list": "[1, 2]",
            "params.strategy.odd": "[1, 2",
            "params.strategy.on": "true",
            "params.tags": "{}",
            "params.missing": None,
            "metrics.sharpe": 1.0,
        }
    )

    assert found == {
        "seed": 42,
        "start_date": "2005-01-31",
        "end_date": None,
        "commission_bps": 0.5,
        "strategy": {"fast": 5, "list": [1, 2], "odd": "[1, 2", "on": True},
        "tags": {},
    }


def test_versions_are_known_of_batches_with_files(recorded, store):
    both = select_runs(store, batch=[recorded.core, "other"]).table
    one = select_runs(store, batch="other").table
    bare = select_runs(store, batch=["other", "core"]).table

    facts = batch_facts(store, both)

    assert facts["batch_id"].tolist() == both.runs["batch_id"].unique().tolist()
    assert facts["numpy"].tolist() == [np.__version__] * 2
    assert batch_facts(store, one).empty
    # Of one of these nothing is known, and so no difference either.
    assert batch_facts(store, bare).empty


def test_the_assessment_of_a_batch_is_read_back(recorded, store):
    one = select_runs(store, batch=recorded.core).table
    both = select_runs(store, batch=[recorded.core, "other"]).table

    found = recorded_assessment(store, one)

    path = recorded.reports(recorded.core) / "overfitting.json"
    assert found == json.loads(path.read_text())
    assert recorded_assessment(store, both) is None


def test_returns_of_several_batches_stand_side_by_side(recorded, store):
    table = select_runs(store, batch=[recorded.core, "other"]).table
    rows = [table.runs.index[-1], table.runs.index[0]]

    found = recorded_returns(store, table, rows)

    assert set(found.columns) == {*rows, "benchmark"}
    for row in rows:
        batch_id, run_id = table.runs.loc[row, ["batch_id", "run_id"]]
        path = recorded.reports(str(batch_id)) / "returns.parquet"
        expected = pd.read_parquet(path).set_index("timestamp")[run_id]
        np.testing.assert_array_equal(found[row].dropna(), expected.dropna())
    first = table.runs.loc[rows[0], "batch_id"]
    benchmark = pd.read_parquet(recorded.reports(str(first)) / "returns.parquet")["benchmark"]
    np.testing.assert_array_equal(found["benchmark"].dropna(), benchmark.dropna())


def test_without_returns_there_are_no_curves(recorded, store):
    table = select_runs(store, batch="other").table
    elsewhere = type(table)(
        runs=table.runs.assign(batch_id="nowhere"), params=table.params, metrics=table.metrics
    )

    assert recorded_returns(store, elsewhere, table.runs.index).empty
    assert recorded_assessment(store, elsewhere) is None


@pytest.mark.parametrize("run_id", ["a", "c", "e"])
def test_long_values_are_repeated_whole_by_the_command(recorded, store, run_id):
    table = select_runs(store, batch="long").table
    row = table.runs.index[table.runs["run_id"] == run_id][0]

    command = details_of(store, table, [row])[row].command

    # run.json has no limits.
    note = {"a": "a" * 6_001, "c": "x" * 4_500, "e": "a" * 9_001}[run_id]
    assert f"strategy.note={note}" in command
