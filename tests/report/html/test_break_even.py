from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.run_table import RunTable
from backtest_batch.report.html.figures import cost_bps, cost_payload


def table(**columns: Any) -> RunTable:
    frame = pd.DataFrame(columns)
    known = ("breakeven_cost_bps", "turnover_annual", "sharpe")
    metrics = [name for name in known if name in frame]
    params = [name for name in frame if name not in (*metrics, "run_id", "status", "batch_id")]
    return RunTable.from_frame(frame, params=params, metrics=metrics)


def test_half_the_spread_counts() -> None:
    runs = table(commission_bps=[0.5, 1.0], spread_bps=[2.0, 4.0], sharpe=[1.0, 2.0])
    np.testing.assert_allclose(cost_bps(runs, {"impact_bps": 0.25}), [1.75, 3.25])


def test_a_cost_that_nobody_gives_is_not_guessed() -> None:
    runs = table(commission_bps=[0.5], sharpe=[1.0])
    assert np.isnan(cost_bps(runs, {"spread_bps": 0.0})).all()


def test_the_mean_return_is_zero_at_the_break_even() -> None:
    runs = table(
        commission_bps=[0.0, 5.0, 20.0],
        fast=[5, 5, 5],
        breakeven_cost_bps=[20.0, 20.0, 20.0],
        turnover_annual=[10.0, 10.0, 10.0],
        sharpe=[1.0, 0.7, 0.0],
    )
    payload = cost_payload(runs, {"spread_bps": 0.0, "impact_bps": 0.0}, 1)
    assert payload is not None
    # (20 - 5) bps of ten times the equity a year.
    assert payload["mean"] == pytest.approx(0.015)
    assert payload["runs"]["means"] == pytest.approx([0.02, 0.015, 0.0])
    assert payload["runs"]["best"] == 1
    assert payload["runs"]["metrics"]["sharpe"] == [1, 0.7, 0]


def test_only_runs_that_differ_in_costs_alone_stand_beside_the_best() -> None:
    runs = table(
        commission_bps=[2.0, 0.0, 1.0, 0.0, 1.0],
        fast=[5, 5, 10, 5, 5],
        batch_id=["a", "a", "a", "b", "a"],
        status=["FINISHED", "FINISHED", "FINISHED", "FINISHED", "FAILED"],
        run_id=["r0", "r1", "r2", "r3", "r4"],
        breakeven_cost_bps=[9.0, 9.0, 9.0, 9.0, np.nan],
        turnover_annual=[1.0, 1.0, 1.0, 1.0, np.nan],
        sharpe=[1.0, 2.0, 3.0, 4.0, np.nan],
    )
    payload = cost_payload(runs, {"spread_bps": 0.0, "impact_bps": 0.0}, 1)
    assert payload is not None
    assert payload["runs"]["ids"] == ["r1", "r0"]


def test_without_break_even_and_other_costs_there_is_nothing_to_show() -> None:
    runs = table(fast=[5, 10], sharpe=[1.0, 2.0])
    given = {"commission_bps": 0.5, "spread_bps": 0.0, "impact_bps": 0.0}
    assert cost_payload(runs, given, 0) is None
    assert cost_payload(runs, given, None) is None


def test_an_unknown_cost_leaves_the_break_even() -> None:
    runs = table(fast=[5], sharpe=[1.0], breakeven_cost_bps=[12.5], turnover_annual=[3.0])
    payload = cost_payload(runs, {}, 0)
    assert payload is not None
    assert payload["breakeven"] == 12.5
    assert payload["own"] is None
    assert payload["mean"] is None
    assert payload["runs"]["best"] == -1
