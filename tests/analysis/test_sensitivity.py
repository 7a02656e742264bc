import itertools
import math

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.dependence import SENSITIVITY_COLUMNS, parameter_sensitivity
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.core.engine.metrics import RESULT_METRICS


def grid(seed=0):
    rng = np.random.default_rng(seed)
    values = itertools.product([10, 20, 50], ["ema", "sma"], [0.0, 0.5])
    frame = pd.DataFrame(list(values), columns=["fast", "average", "commission_bps"])
    for name in ("sharpe", "cagr", "calmar"):
        frame[name] = rng.normal(size=len(frame))
    frame.loc[3, "calmar"] = np.nan
    frame["runtime_s"] = 1.0
    frame["status"] = "FINISHED"
    frame.loc[5, "status"] = "FAILED"
    return frame


def test_every_row_agrees_with_plain_pandas():
    frame = grid()
    table = RunTable.from_frame(frame, params=["fast", "average", "commission_bps"])

    rows = parameter_sensitivity(table, best=7)

    held = frame[frame["status"] == "FINISHED"]
    assert list(rows.columns) == list(SENSITIVITY_COLUMNS)
    assert len(rows) == (3 + 2 + 2) * 3
    for row in rows.itertuples():
        values = held.loc[held[row.parameter] == row.value, row.metric].dropna()
        assert row.count == len(values)
        expected = (values.mean(), values.std(ddof=1), values.min(), values.max())
        assert (row.mean, row.std, row.min, row.max) == pytest.approx(expected)
        assert row.best == (frame.loc[7, row.parameter] == row.value)


def test_rows_are_in_axis_order_with_ascending_values():
    frame = grid().sample(frac=1, random_state=1)
    rows = parameter_sensitivity(
        RunTable.from_frame(frame, params=["fast", "average", "commission_bps"])
    )

    pairs = list(dict.fromkeys(zip(rows["parameter"], rows["value"], strict=True)))
    assert pairs == [
        ("fast", 10),
        ("fast", 20),
        ("fast", 50),
        ("average", "ema"),
        ("average", "sma"),
        ("commission_bps", 0.0),
        ("commission_bps", 0.5),
    ]
    assert list(dict.fromkeys(rows["metric"])) == [
        name for name in RESULT_METRICS if name in ("sharpe", "cagr", "calmar")
    ]
    assert not rows["best"].any()


def test_the_order_of_the_runs_does_not_change_a_bit():
    frame = grid()
    frame["run_id"] = [f"run_{i}" for i in range(len(frame))]
    params = ["fast", "average", "commission_bps"]
    first = parameter_sensitivity(RunTable.from_frame(frame, params=params))
    second = parameter_sensitivity(
        RunTable.from_frame(frame.sample(frac=1, random_state=3), params=params)
    )

    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_one_run_has_no_deviation():
    table = RunTable.from_frame(pd.DataFrame({"fast": [None], "sharpe": [-1.0]}), params=["fast"])

    row = parameter_sensitivity(table, best=0).iloc[0].to_dict()

    assert math.isnan(row.pop("std"))
    assert row == {
        "parameter": "fast",
        "value": None,
        "metric": "sharpe",
        "count": 1,
        "mean": -1.0,
        "min": -1.0,
        "max": -1.0,
        "best": True,
    }


@pytest.mark.parametrize(
    ("columns", "params"),
    [
        ({"fast": [], "sharpe": []}, ["fast"]),
        ({"fast": [1, 2], "sharpe": [1.0, 2.0], "status": "FAILED"}, ["fast"]),
        ({"fast": [1, 2], "sharpe": [np.nan, np.nan]}, ["fast"]),
        ({"sharpe": [1.0, 2.0]}, []),
    ],
)
def test_without_runs_values_or_parameters_the_table_is_empty(columns, params):
    rows = parameter_sensitivity(RunTable.from_frame(pd.DataFrame(columns), params=params))

    assert rows.empty
    assert list(rows.columns) == list(SENSITIVITY_COLUMNS)


def test_values_that_are_equal_but_of_other_types_stay_apart():
    frame = pd.DataFrame({"x": [1, "1", True, None], "sharpe": [1.0, 2.0, 3.0, 4.0]})
    frame["x"] = frame["x"].astype(object)

    rows = parameter_sensitivity(RunTable.from_frame(frame, params=["x"]))

    assert rows["value"].tolist() == [None, True, 1, "1"]
    assert rows["mean"].tolist() == [4.0, 3.0, 1.0, 2.0]
