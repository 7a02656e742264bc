"""Parameters that only some strategies have: what tables and importance make of them."""

import itertools

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.dependence import parameter_importance, parameter_sensitivity
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.stability import edges, stability
from backtest_batch.analysis.walk_forward.walk import parameter_drift
from backtest_batch.report.html.figures import sensitivity_payload
from backtest_batch.report.tables import parameter_text


def rows():
    trend = itertools.product(["trend"], [10, 20], [60, 120], [None], [0.0, 1.0])
    reversion = itertools.product(["reversion"], [None], [None], [5, 10, 15], [0.0, 1.0])
    return [*trend, *reversion]


NAMES = ["strategy", "strategy.fast", "strategy.slow", "strategy.window", "commission_bps"]


@pytest.fixture
def table():
    params = pd.DataFrame(rows(), columns=NAMES, dtype=object)
    sharpe = [
        1.0 + 0.1 * (fast == 20) + 0.3 * (slow == 120) - 0.05 * cost
        if strategy == "trend"
        else 0.2 + 0.02 * window - 0.05 * cost
        for strategy, fast, slow, window, cost in rows()
    ]
    frame = params.assign(sharpe=sharpe)
    return RunTable.from_frame(frame, params=NAMES, scenario_axes=["commission_bps"])


def test_what_a_run_does_not_have_is_empty_and_no_value(table):
    assert table.levels["strategy.window"].below == "strategy"
    assert table.levels["strategy"].below is None
    assert parameter_text(table, "strategy.window").tolist() == [
        *[""] * 8, "5", "5", "10", "10", "15", "15",
    ]  # fmt: skip
    sensitivity = parameter_sensitivity(table, best=table.runs.index[6])
    counts = sensitivity.groupby(["parameter", "value"], sort=False)["count"].first()
    assert counts["strategy.fast"].to_dict() == {10: 4, 20: 4}
    assert counts["strategy.window"].to_dict() == {5: 2, 10: 2, 15: 2}
    best = sensitivity[sensitivity["best"]].set_index("parameter")["value"].to_dict()
    assert best == {
        "strategy": "trend",
        "strategy.fast": 20,
        "strategy.slow": 120,
        "commission_bps": 0.0,
    }


def test_the_page_shows_the_same_values(table):
    best = table.runs.index[6]
    payload = sensitivity_payload(table, parameter_sensitivity(table, best=best), best)
    found = {item["name"]: item for item in payload}
    assert found["strategy.window"]["labels"] == ["5", "10", "15"]
    assert found["strategy.window"]["best"] is None
    assert found["strategy.fast"]["best"] == 1
    assert [row[0] for row in found["strategy.window"]["metrics"]["sharpe"]] == [2, 2, 2]


def test_importance_counts_a_choice_before_what_stands_below_it(table):
    shares = parameter_importance(table, ["sharpe"]).set_index("term")["eta_squared"]
    assert "strategy x strategy.fast" not in shares
    assert "strategy.fast x strategy.window" not in shares
    sharpe = table.metrics["sharpe"]
    total = ((sharpe - sharpe.mean()) ** 2).sum()
    means = sharpe.groupby(table.params["strategy"].astype(str)).transform("mean")
    assert shares["strategy"] == pytest.approx(((means - sharpe.mean()) ** 2).sum() / total)
    assert shares["strategy.fast"] == pytest.approx(8 * 0.05**2 / total)
    assert shares["strategy.slow"] == pytest.approx(8 * 0.15**2 / total)
    assert shares["strategy.window"] == pytest.approx(4 * 0.1**2 / total)
    assert shares["commission_bps"] == pytest.approx(14 * 0.025**2 / total)
    assert shares["strategy.fast x strategy.slow"] == pytest.approx(0, abs=1e-9)
    main = [name for name in shares.index if " x " not in name]
    assert shares[main].sum() == pytest.approx(1)


def test_neighbours_and_edges_are_those_of_the_own_strategy(table):
    found = stability(table, "sharpe")
    assert found["neighbours"].tolist() == [2] * 8 + [1, 1, 2, 2, 1, 1]
    sides = edges(table)
    assert sides["strategy.window"].tolist() == [""] * 8 + [
        "lowest", "lowest", "", "", "highest", "highest",
    ]  # fmt: skip


def test_from_a_strategy_without_a_parameter_to_one_with_it_is_no_step(table):
    drift = parameter_drift([0, 8, 10, 12, 2], table.params)
    assert drift["strategy.window"]["values"] == [None, 5, 10, 15, None]
    assert drift["strategy.window"]["mean_steps"] == 1
    assert drift["strategy.fast"]["values"] == [10, None, None, None, 10]
    assert drift["strategy.fast"]["changed"] is None
    assert drift["strategy"]["changed"] == 0.5


def test_a_value_that_is_null_is_a_value():
    frame = pd.DataFrame(
        {
            "strategy": ["a", "a", "b", "b"],
            "strategy.cap": [None, 0.5, None, 0.5],
            "max_weight": [None, None, 0.1, 0.1],
            "sharpe": np.arange(4.0),
        },
        dtype=object,
    )
    table = RunTable.from_frame(frame, params=["strategy", "strategy.cap", "max_weight"])
    assert parameter_text(table, "strategy.cap").tolist() == ["null", "0.5"] * 2
    assert parameter_text(table, "max_weight").tolist() == ["null"] * 2 + ["0.1"] * 2
