import itertools

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.dependence import effect_of_parameters, warnings_about_parameters
from backtest_batch.analysis.run_table import RunTable


def grid(sharpe, **columns):
    """Runs over cap and fast with the Sharpe ratio that a function of both gives."""
    rows = list(itertools.product([0.8, 1.0, 1.2], [10, 20]))
    frame = pd.DataFrame(rows, columns=["max_gross_exposure", "fast"])
    frame["sharpe"] = [sharpe(cap, fast) for cap, fast in rows]
    for name, values in columns.items():
        frame[name] = values
    return frame


def effects(frame, params=("max_gross_exposure", "fast")):
    return effect_of_parameters(RunTable.from_frame(frame, params=list(params))).set_index(
        "parameter"
    )


def test_a_parameter_that_is_not_connected_is_reported():
    frame = grid(lambda cap, fast: fast / 7)

    found = effects(frame)

    assert found["effect"].to_dict() == {
        "max_gross_exposure": "changes nothing",
        "fast": "changes results",
    }
    assert found.loc["max_gross_exposure", "comparisons"] == 4
    table = RunTable.from_frame(frame, params=["max_gross_exposure", "fast"])
    assert warnings_about_parameters(effect_of_parameters(table)) == [
        (
            "max_gross_exposure changes no result: its 3 values (0.8, 1.0, 1.2) give the same "
            "metrics, bit for bit. It is not connected, or it is a cap that does not bind."
        )
    ]


def test_a_cap_that_stops_binding_is_reported_between_its_values():
    found = effects(grid(lambda cap, fast: fast * min(cap, 1.0)))

    assert found.loc["max_gross_exposure", "effect"] == "changes results"
    assert found.loc["max_gross_exposure", "equal_values"] == ((1.0, 1.2),)
    assert found.loc["max_gross_exposure", "message"] == (
        "max_gross_exposure changes no result between 1.0 and 1.2: a cap that does not bind, "
        "perhaps."
    )
    assert found.loc["fast", "message"] == ""


def test_one_bit_is_a_change():
    found = effects(grid(lambda cap, fast: np.nextafter(fast, 99) if cap == 1.2 else float(fast)))

    assert found.loc["max_gross_exposure", "effect"] == "changes results"


def test_a_change_in_any_result_metric_counts_and_in_time_does_not():
    constant = grid(lambda cap, fast: 1.0)
    timed = constant.assign(runtime_s=np.arange(6.0))
    costly = constant.assign(total_costs=np.arange(6.0))

    assert set(effects(timed)["effect"]) == {"changes nothing"}
    assert set(effects(costly)["effect"]) == {"changes results"}


def test_a_missing_metric_equals_a_missing_metric_only():
    frame = grid(lambda cap, fast: 1.0, calmar=[np.nan] * 6)
    assert set(effects(frame)["effect"]) == {"changes nothing"}
    frame.loc[0, "calmar"] = 0.0
    assert set(effects(frame)["effect"]) == {"changes results"}


def test_incomplete_grids_are_compared_where_they_can_be():
    frame = grid(lambda cap, fast: fast / 7).drop(index=[0, 3])

    found = effects(frame)

    assert found.loc["max_gross_exposure", "comparisons"] == 2
    assert found.loc["max_gross_exposure", "effect"] == "changes nothing"


def test_failed_runs_and_runs_without_metrics_are_not_compared():
    frame = grid(lambda cap, fast: np.nan if cap == 0.8 else 1.0)
    frame["status"] = ["FINISHED"] * 4 + ["FAILED"] * 2

    found = effects(frame)

    assert found.loc["max_gross_exposure", "effect"] == "cannot be told"
    assert found.loc["max_gross_exposure", "message"] == ""
    assert found.loc["fast", "comparisons"] == 1


@pytest.mark.parametrize(
    ("frame", "params", "expected"),
    [
        (
            pd.DataFrame({"a": [1, 2], "b": [1, 2], "sharpe": [1.0, 1.0]}),
            ["a", "b"],
            ["cannot be told"] * 2,
        ),
        (pd.DataFrame({"a": [1, 1], "sharpe": [1.0, 1.0]}), ["a"], ["cannot be told"]),
        (pd.DataFrame({"a": [], "sharpe": []}), ["a"], ["cannot be told"]),
        (pd.DataFrame({"a": [1, 2]}), ["a"], ["cannot be told"]),
        (pd.DataFrame({"sharpe": [1.0]}), [], []),
    ],
)
def test_without_comparisons_nothing_can_be_told(frame, params, expected):
    found = effect_of_parameters(RunTable.from_frame(frame, params=params))

    assert found["effect"].tolist() == expected


def test_runs_of_other_batches_are_not_compared():
    frame = pd.DataFrame(
        {"a": [1, 2, 1, 2], "batch_id": list("xxyy"), "sharpe": [1.0, 1.0, 2.0, 2.0]}
    )

    found = effects(frame, params=["a"])

    assert found.loc["a", "effect"] == "changes nothing"
    assert found.loc["a", "comparisons"] == 2


def test_the_neighbourhood_is_no_result_of_a_run():
    frame = grid(lambda cap, fast: 1.0)
    table = RunTable.from_frame(frame, params=["max_gross_exposure", "fast"]).with_metric(
        "sharpe_neighbourhood", pd.Series(np.arange(6.0))
    )

    assert set(effect_of_parameters(table)["effect"]) == {"changes nothing"}


def test_only_values_that_were_compared_are_said_to_give_the_same():
    frame = pd.DataFrame(
        {"a": [None, 1, 2, 3, 4, 5], "batch_id": list("xyyzzz"), "sharpe": [9.0, 1, 1, 2, 2, 2]}
    )

    found = effects(frame, params=["a"])

    assert found.loc["a", "message"] == (
        "a changes no result: within each group its 5 values (1.0, 2.0; 3.0, 4.0, 5.0) give the "
        "same metrics, bit for bit. It is not connected, or it is a cap that does not bind."
    )
