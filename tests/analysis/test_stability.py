import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.stability import (
    edge_notes,
    edges,
    ordered_axes,
    stability,
    with_neighbourhood,
)


def line(values, sharpe, **columns):
    return RunTable.from_frame(
        pd.DataFrame({"fast": values, "sharpe": sharpe, **columns}), params=["fast"]
    )


def test_a_lonely_spike_shows_as_one():
    table = line([10, 20, 30, 40, 50], [0.1, 0.2, 3.0, 0.3, 0.5])

    result = stability(table)

    assert result["value"].tolist() == [0.1, 0.2, 3.0, 0.3, 0.5]
    assert result["neighbourhood"].tolist() == [0.2, 1.55, 0.25, 1.75, 0.3]
    assert result["neighbours"].tolist() == [1, 2, 2, 2, 1]
    assert result["on_edge"].tolist() == [True, False, False, False, True]
    ranked = rank_runs(with_neighbourhood(table), Ranking.parse("sharpe_neighbourhood"))
    assert ranked.index.tolist() == [3, 1, 4, 2, 0]


def test_neighbours_differ_in_one_parameter_by_one_step():
    frame = pd.DataFrame(list(itertools.product([1, 2, 3], [10, 20, 30])), columns=["a", "b"])
    frame["sharpe"] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]
    table = RunTable.from_frame(frame, params=["a", "b"])

    result = stability(table)

    # In the middle: above 2, left 8, right 32, below 128; the corners do not count.
    assert result.loc[4, "neighbourhood"] == (2 + 8 + 32 + 128) / 4
    assert result.loc[0, "neighbourhood"] == (2 + 8) / 2
    assert result["neighbours"].tolist() == [2, 3, 2, 3, 4, 3, 2, 3, 2]
    assert result["on_edge"].tolist() == [True] * 4 + [False] + [True] * 4


def test_a_neighbour_without_the_metric_does_not_count_and_is_not_skipped():
    table = line([10, 20, 30], [1.0, np.nan, 3.0])
    result = stability(table)
    assert result["neighbours"].tolist() == [0, 2, 0]
    assert result["neighbourhood"].isna().all()

    failed = line([10, 20, 30], [1.0, 2.0, 3.0], status=["FINISHED", "FAILED", "FINISHED"])
    assert stability(failed)["neighbourhood"].isna().all()


def test_scenarios_and_unordered_parameters_do_not_mix():
    frame = pd.DataFrame(
        list(itertools.product([10, 20], ["ema", "sma"], [0.0, 1.0], [1, 2])),
        columns=["fast", "average", "commission_bps", "strategy.seed"],
    )
    frame["sharpe"] = np.arange(16.0)
    table = RunTable.from_frame(frame, params=list(frame.columns[:4]))

    assert ordered_axes(table) == ("fast",)
    other = [*range(8, 16), *range(8)]
    assert stability(table)["neighbourhood"].tolist() == [float(item) for item in other]


def test_strategies_with_other_grids_do_not_disturb_each_other():
    frame = pd.DataFrame(
        {
            "strategy": ["trend"] * 3 + ["revert"] * 3,
            "strategy.window": [10, 20, 30, 15, 25, 35],
            "sharpe": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        }
    )
    table = RunTable.from_frame(frame, params=["strategy", "strategy.window"])

    assert stability(table)["neighbourhood"].tolist() == [2.0, 2.0, 2.0, 5.0, 5.0, 5.0]
    assert edges(table)["strategy.window"].tolist() == ["lowest", "", "highest"] * 2


def test_null_is_no_step_of_an_ordered_parameter():
    table = line([None, 1, 2, 3], [9.0, 1.0, 2.0, 4.0])

    result = stability(table)

    assert math.isnan(result.loc[0, "neighbourhood"])
    assert result["neighbourhood"].tolist()[1:] == [2.0, 2.5, 2.0]
    assert result["on_edge"].tolist() == [False, True, False, True]


def test_runs_with_equal_parameters_are_one_neighbour():
    table = line([10, 10, 20, 30], [1.0, 3.0, 5.0, 7.0])

    result = stability(table)

    assert result["neighbourhood"].tolist() == [5.0, 5.0, (2.0 + 7.0) / 2, 5.0]
    assert result["neighbours"].tolist() == [1, 1, 2, 1]


def test_batches_on_other_data_are_other_surroundings():
    table = line([10, 20, 10, 20], [1.0, 2.0, 3.0, 4.0], data_fingerprint=["a", "a", "b", "b"])

    assert stability(table)["neighbourhood"].tolist() == [2.0, 1.0, 4.0, 3.0]


@pytest.mark.parametrize(
    "table",
    [
        line([], []),
        line([10], [1.0]),
        line(["ema", "sma"], [1.0, 2.0]),
        line([True, False], [1.0, 2.0]),
        RunTable.from_frame(pd.DataFrame({"sharpe": [1.0, 2.0]}), params=[]),
        RunTable.from_frame(
            pd.DataFrame({"commission_bps": [0, 1], "sharpe": [1.0, 2.0]}),
            params=["commission_bps"],
        ),
        RunTable.from_frame(pd.DataFrame({"fast": [10, 20], "cagr": [1.0, 2.0]}), params=["fast"]),
    ],
)
def test_without_neighbours_there_is_no_mean(table):
    result = stability(table)

    assert len(result) == len(table)
    assert result["neighbourhood"].isna().all()
    assert with_neighbourhood(table).metrics["sharpe_neighbourhood"].isna().all()


def test_the_edge_of_the_grid_is_said_of_the_best():
    frame = pd.DataFrame(
        list(itertools.product([1, 2, 3], [0.5, 1.0, 2.0])), columns=["fast", "band"]
    )
    frame["sharpe"] = 0.0
    table = RunTable.from_frame(frame, params=["fast", "band"])

    assert edge_notes(table, 4) == []
    assert edge_notes(table, 5) == [
        "The best run has band=2.0, the highest value tried: better ones may lie beyond the grid."
    ]
    assert len(edge_notes(table, 0)) == 2


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 3),
            st.sampled_from(["x", "y"]),
            st.sampled_from([-1.0, 0.5, 2.0, float("nan")]),
            st.booleans(),
        ),
        min_size=1,
        max_size=25,
        unique_by=lambda row: row[:3],
    )
)
def test_incomplete_grids_agree_with_brute_force(rows):
    frame = pd.DataFrame(rows, columns=["a", "b", "kind", "sharpe", "fine"])
    frame["status"] = np.where(frame["fine"], "FINISHED", "FAILED")
    table = RunTable.from_frame(frame, params=["a", "b", "kind"])
    axes = ordered_axes(table)

    result = stability(table)

    for row in frame.index:
        near = frame
        for name in {"a", "b", "kind"} - set(axes):
            near = near[near[name] == frame.loc[row, name]]
        found = []
        for name in axes:
            values = sorted(near[name].unique())
            at = values.index(frame.loc[row, name])
            line = near[near[name].isin(values[max(at - 1, 0) : at] + values[at + 1 : at + 2])]
            for other in set(axes) - {name}:
                line = line[line[other] == frame.loc[row, other]]
            found += line.loc[line["fine"], "sharpe"].dropna().tolist()
        own = frame.loc[row, "sharpe"] if frame.loc[row, "fine"] else math.nan
        expected = np.mean(found) if found and not math.isnan(own) else math.nan
        assert result.loc[row, "neighbourhood"] == pytest.approx(expected, nan_ok=True)
        assert result.loc[row, "neighbours"] == len(found)
