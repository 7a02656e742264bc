import math

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.run_table import RunTable
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import RunFailure, RunRecord, RunResult, RunSpec


def spec(index, swept, config=None):
    return RunSpec(
        index=index,
        run_id=f"run_{index}",
        run_name="",
        run_key=f"key{index}",
        config_hash="",
        swept=swept,
        config=config or {},
        overrides=(),
        data_fingerprint="data",
        code_fingerprint="code",
        strategy_seed=0,
        first_bar=0,
        n_bars=300,
    )


def record(spec, outcome, attempts=1):
    return RunRecord(spec=spec, outcome=outcome, attempts=attempts, started_ms=1000, ended_ms=2500)


def result(**metrics):
    return RunResult(
        metrics=metrics, undefined_metrics=("calmar",), runtime_s=1.5, cpu_s=1.0, peak_rss_mb=90.0
    )


def test_records_become_a_table():
    config = {"strategy": {"fast": 7}, "commission_bps": 0.5}
    table = RunTable.from_records(
        [
            record(spec(0, {"commission_bps": 0.5, "strategy.fast": 10}), result(sharpe=1.0)),
            record(
                spec(1, {"commission_bps": 1.0}, config),
                RunFailure(error_type="ValueError", error_message="no \udcff"),
                attempts=3,
            ),
            record(spec(2, {"rebalance": "W"}, config), None),
        ],
        batch_id="b1",
    )

    assert table.runs["run_id"].tolist() == ["run_0", "run_1", "run_2"]
    assert table.runs["status"].tolist() == ["FINISHED", "FAILED", "KILLED"]
    assert table.runs["batch_id"].tolist() == ["b1"] * 3
    assert table.runs["error_type"].tolist() == ["", "ValueError", ""]
    assert table.runs["error_message"].tolist() == ["", "no \\udcff", ""]
    assert table.runs["undefined_metrics"].tolist() == ["calmar", "", ""]
    assert table.metrics["attempts"].tolist() == [1.0, 3.0, 1.0]
    assert table.finished.tolist() == [True, False, False]
    # What a run did not sweep has the value of its configuration.
    assert table.params["strategy.fast"].tolist() == [10, 7, 7]
    assert table.params["commission_bps"].tolist() == [0.5, 1.0, 0.5]
    assert table.params["rebalance"].tolist() == [None, None, "W"]
    assert table.metrics.loc[0].to_dict() == {
        "sharpe": 1.0,
        "runtime_s": 1.5,
        "cpu_s": 1.0,
        "peak_rss_mb": 90.0,
        "attempts": 1.0,
    }
    assert math.isnan(table.metrics.loc[1, "sharpe"])
    assert table.scenario_axes == ("commission_bps",)
    assert table.decision_axes == ("strategy.fast", "rebalance")
    assert table.scenario.tolist() == [
        "commission_bps=0.5",
        "commission_bps=1.0",
        "commission_bps=0.5",
    ]


def test_a_parameter_may_have_the_name_of_a_metric():
    table = RunTable.from_records(
        [record(spec(0, {"sharpe": "high"}), result(sharpe=1.0))], batch_id="b"
    )

    assert table.params.loc[0, "sharpe"] == "high"
    assert table.metrics.loc[0, "sharpe"] == 1.0


def test_no_records_are_an_empty_table():
    table = RunTable.from_records([], batch_id="b")

    assert len(table) == 0
    assert table.scenario.empty
    assert not table.several_batches


def test_a_flat_frame_is_divided():
    frame = pd.DataFrame(
        {"fast": [10, 20], "cagr": [0.1, 0.2], "sharpe": [1.0, np.inf], "note": ["x", "y"]},
        index=["a", "b"],
    )

    table = RunTable.from_frame(frame, params=["fast"])

    assert table.runs["run_id"].tolist() == ["a", "b"]
    assert table.runs["note"].tolist() == ["x", "y"]
    assert table.finished.tolist() == [True, True]
    assert table.params["fast"].tolist() == [10, 20]
    assert sorted(table.metrics.columns) == ["cagr", "sharpe"]
    assert table.metrics["sharpe"].tolist()[0] == 1.0
    assert math.isnan(table.metrics["sharpe"].tolist()[1]), "infinity is no metric"


def test_finished_runs_are_sorted_by_id_whatever_their_order():
    frame = pd.DataFrame(
        {
            "run_id": ["run_9", "run_10", "run_1", "run_1"],
            "batch_id": ["a", "a", "b", "a"],
            "status": ["FINISHED", "FINISHED", "FINISHED", "FAILED"],
            "sharpe": [1.0, 2.0, 3.0, 4.0],
        }
    )

    held = RunTable.from_frame(frame, params=[]).sorted_finished()

    assert held.runs["run_id"].tolist() == ["run_1", "run_10", "run_9"]
    assert held.metrics["sharpe"].tolist() == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": pd.DataFrame({"sharpe": [1.0]})}, "share one index"),
        ({"params": pd.DataFrame({"a": [1, 2]}, index=[1, 0])}, "share one index"),
        ({"runs": pd.DataFrame({"run_id": ["a", "b"]})}, "lacks the columns status"),
        ({"scenario_axes": ("cost",)}, "lacks the columns cost"),
        ({"params": pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])}, "columns twice: a"),
    ],
)
def test_frames_that_do_not_fit_are_refused(change, message):
    parts = {
        "runs": pd.DataFrame({"run_id": ["a", "b"], "status": "FINISHED"}),
        "params": pd.DataFrame({"a": [1, 2]}),
        "metrics": pd.DataFrame({"sharpe": [1.0, 2.0]}),
    }
    with pytest.raises(ConfigurationError, match=message):
        RunTable(**{**parts, **change})


def test_a_frame_without_a_named_parameter_is_refused():
    with pytest.raises(ConfigurationError, match="lacks the columns slow"):
        RunTable.from_frame(pd.DataFrame({"fast": [1]}), params=["fast", "slow"])
