import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.analysis.dependence import parameter_importance, parameter_sensitivity
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.scenarios import levels_of
from backtest_batch.report.html import ReportData
from backtest_batch.report.html.data import plain_number, script_json
from backtest_batch.report.html.figures import TIMES, importance_payload, sensitivity_payload
from backtest_batch.report.html.tables import MAX_CELLS, N_GROUPS, cells, even_sample, runs_payload
from backtest_batch.report.tables import short_numbers


def payload_of(frame: pd.DataFrame, params: list[str]) -> dict:
    table = RunTable.from_frame(frame, params=params)
    ranked = rank_runs(table, Ranking.parse("sharpe"))
    return runs_payload(table, ranked, ranked.index)


def test_runs_stand_in_order_of_rank_with_their_values() -> None:
    frame = pd.DataFrame(
        {"fast": [5, 10, 20], "commission_bps": [0.0, 0.5, 0.5], "sharpe": [0.1, 0.3, 0.2]},
        index=["a", "b", "c"],
    )
    payload = payload_of(frame, ["fast", "commission_bps"])
    assert payload["ids"] == ["b", "c", "a"]
    assert payload["ranks"] == [1, 2, 3]
    fast, cost = payload["params"]
    assert (fast["name"], fast["scenario"], fast["codes"]) == ("fast", False, [1, 2, 0])
    assert cost["scenario"]
    assert cost["levels"] == ["0.0", "0.5"]
    assert payload["scenarios"]["labels"] == ["commission_bps=0.0", "commission_bps=0.5"]
    assert payload["scenarios"]["codes"] == [1, 1, 0]
    (sharpe,) = payload["metrics"]
    assert sharpe == {
        "name": "sharpe",
        "direction": 1,
        "form": "plain",
        "values": [0.3, 0.2, 0.1],
    }


@pytest.mark.parametrize(
    ("metric", "form"),
    [("sharpe", "plain"), ("max_drawdown", "percent"), ("cagr", "percent"), ("trades", "whole")],
)
def test_forms_are_those_of_the_tables(metric: str, form: str) -> None:
    frame = pd.DataFrame({"x": [1, 2], "sharpe": [1.0, 2.0], metric: [1.0, 2.0]})
    by_name = {item["name"]: item for item in payload_of(frame, ["x"])["metrics"]}
    assert by_name[metric]["form"] == form
    text = short_numbers(metric, [0.25])[0]
    assert text == {"plain": "0.250", "percent": "25.00%", "whole": "0"}[form]


def test_missing_metrics_are_null_and_a_metric_without_values_is_left_out() -> None:
    frame = pd.DataFrame(
        {"x": [1, 2], "sharpe": [1.0, 2.0], "calmar": [np.nan, 1.5], "beta": [np.nan, np.nan]}
    )
    by_name = {item["name"]: item["values"] for item in payload_of(frame, ["x"])["metrics"]}
    assert by_name == {"sharpe": [2, 1], "calmar": [1.5, None]}


def test_parameters_of_any_kind() -> None:
    long = "v" * 6001
    frame = pd.DataFrame(
        {"p": pd.Series([None, True, 3, long, "<b>"], dtype=object), "sharpe": range(5)}
    )
    (param,) = payload_of(frame, ["p"])["params"]
    assert not param["numeric"]
    assert param["levels"] == [
        "null",
        "true",
        "3",
        "<b>",
        "v" * 200 + "… (6,001 characters)",
    ]


def test_a_parameter_named_like_a_metric_has_a_name_of_its_own() -> None:
    frame = pd.DataFrame({"trades": [1, 2], "sharpe": [1.0, 2.0]})
    table = RunTable.from_frame(frame, params=["trades"], metrics=["sharpe"])
    ranked = rank_runs(table, Ranking.parse("sharpe"))
    assert runs_payload(table, ranked, ranked.index)["params"][0]["name"] == "param.trades"


def test_few_values_are_cells_of_their_own() -> None:
    labels, cell_of = cells(levels_of([3, 1, 2, 1]))
    assert labels == ["1", "2", "3"]
    assert cell_of.tolist() == [0, 1, 2]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400))
@settings(max_examples=60, deadline=None)
def test_groups_of_numbers_are_in_order_and_few(values: list[float]) -> None:
    levels = levels_of(values)
    labels, cell_of = cells(levels)
    assert (np.diff(cell_of) >= 0).all()
    assert sorted(set(cell_of.tolist())) == list(range(len(labels)))
    limit = MAX_CELLS if len(levels.values) <= MAX_CELLS else N_GROUPS
    assert len(labels) <= limit


def test_groups_hold_about_equally_many_runs() -> None:
    levels = levels_of(np.arange(1200).tolist())
    labels, cell_of = cells(levels)
    assert np.bincount(cell_of).tolist() == [100] * N_GROUPS
    assert labels[0] == "0 to 99"


def test_of_many_texts_the_frequent_stay() -> None:
    values = [f"name{i:03d}" for i in range(100)] + ["name050"] * 3
    levels = levels_of(values)
    labels, cell_of = cells(levels)
    assert len(labels) == MAX_CELLS
    assert "name050" in labels
    assert labels[-1] == "71 others"
    assert np.bincount(cell_of)[-1] == 71


@given(st.integers(0, 5000), st.integers(2, 300))
@settings(max_examples=60, deadline=None)
def test_an_even_sample_has_both_ends(n_items: int, limit: int) -> None:
    sample = even_sample(n_items, limit)
    assert len(sample) <= limit
    assert len(sample) == min(n_items, limit)
    assert (np.diff(sample) > 0).all()
    if n_items:
        assert (sample[0], sample[-1]) == (0, n_items - 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (2.0, "2"),
        (float("nan"), "null"),
        (float("inf"), "null"),
        (1e300, "1e+300"),
    ],
)
def test_numbers_of_the_page(value: float, text: str) -> None:
    assert json.dumps(plain_number(value)) == text


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_no_text_ends_the_script_that_holds_it(text: str) -> None:
    written = script_json({"text": text + "</script><!--"})
    assert "<" not in written
    assert "&" not in written
    assert json.loads(written)["text"] == text + "</script><!--"


def test_sensitivity_is_what_the_csv_holds(grid: ReportData) -> None:
    assert grid.sensitivity is not None
    best = grid.ranked.index[0]
    entries = sensitivity_payload(grid.table, grid.sensitivity, best)
    assert [entry["name"] for entry in entries] == list(grid.table.params.columns)
    finished = grid.table.metrics[grid.table.finished]
    for entry in entries:
        values = grid.table.params.loc[finished.index, entry["name"]]
        groups = finished["sharpe"].groupby(values.astype(float).to_numpy())
        expected = groups.agg(["count", "mean", "std", "min", "max"]).to_numpy()
        np.testing.assert_allclose(entry["metrics"]["sharpe"], expected, rtol=1e-5)
        own = str(grid.table.params.loc[best, entry["name"]])
        assert entry["labels"][entry["best"]] == own


def test_sensitivity_of_many_values_is_grouped() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.random(240), "one": 1, "sharpe": rng.random(240)})
    table = RunTable.from_frame(frame, params=["x", "one"])
    best = rank_runs(table, Ranking.parse("sharpe")).index[0]
    (entry,) = sensitivity_payload(table, parameter_sensitivity(table, best=best), best)
    assert entry["grouped"]
    rows = entry["metrics"]["sharpe"]
    assert [row[0] for row in rows] == [20] * N_GROUPS
    assert max(row[4] for row in rows) == rows[entry["best"]][4]


def test_importance_as_the_page_shows_it(build: Callable[..., ReportData]) -> None:
    data = build({"strategy.fast": [5, 20], "commission_bps": [0.0, 2.0]}, with_verdict=False)
    payload = importance_payload(parameter_importance(data.table, ["sharpe"]))
    assert list(payload) == ["sharpe"]
    terms = {row["term"]: row for row in payload["sharpe"]}
    assert set(terms) == {"strategy.fast", "commission_bps", f"strategy.fast{TIMES}commission_bps"}
    assert terms[f"strategy.fast{TIMES}commission_bps"]["pair"]
    assert sum(row["share"] for row in terms.values()) == pytest.approx(1.0, abs=1e-5)
