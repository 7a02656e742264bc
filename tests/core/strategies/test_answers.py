"""What a strategy may answer, and what is refused with which words."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.panel import Panel, panel_from_frames
from backtest_batch.core.strategies.base import as_weights, target_weights
from backtest_batch.errors import StrategyError

DECISIONS = np.array([3, 7])
WEIGHTS = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.0]])


@pytest.fixture
def panel() -> Panel:
    index = pd.date_range("2020-01-01", periods=10, tz="Europe/Berlin")
    return panel_from_frames(pd.DataFrame(np.full((10, 3), 5.0), index=index, columns=list("ABC")))


@pytest.fixture
def labelled(panel: Panel) -> pd.DataFrame:
    return pd.DataFrame(WEIGHTS, index=panel.index[DECISIONS], columns=list(panel.symbols))


def test_columns_are_taken_by_symbol(panel: Panel, labelled: pd.DataFrame) -> None:
    assert as_weights(labelled[["C", "A", "B"]], panel, DECISIONS).tolist() == WEIGHTS.tolist()


def test_a_symbol_that_is_missing_has_weight_0(panel: Panel, labelled: pd.DataFrame) -> None:
    found = as_weights(labelled[["C", "A"]], panel, DECISIONS)
    assert found.tolist() == [[0.1, 0.0, 0.3], [0.4, 0.0, 0.0]]


def test_rows_are_taken_by_timestamp(panel: Panel, labelled: pd.DataFrame) -> None:
    for frame in (labelled.iloc[::-1], labelled.tz_convert("UTC")):
        assert as_weights(frame, panel, DECISIONS).tolist() == WEIGHTS.tolist()


@pytest.mark.parametrize("index", [range(2), [3, 7]])
def test_rows_without_timestamps_are_taken_in_order(panel: Panel, index: Any) -> None:
    frame = pd.DataFrame(WEIGHTS, index=index)
    assert as_weights(frame, panel, DECISIONS).tolist() == WEIGHTS.tolist()


def test_symbols_that_are_numbers_are_still_labels() -> None:
    index = pd.date_range("2020-01-01", periods=10)
    panel = panel_from_frames(pd.DataFrame(np.ones((10, 3)), index=index, columns=[2, 1, 0]))
    found = as_weights(pd.DataFrame(WEIGHTS), panel, DECISIONS)
    assert found.tolist() == WEIGHTS[:, ::-1].tolist()


def test_a_series_is_one_decision_or_one_symbol(panel: Panel) -> None:
    row = pd.Series({"B": 0.5, "A": -0.5})
    assert as_weights(row, panel, DECISIONS[:1]).tolist() == [[-0.5, 0.5, 0.0]]
    with pytest.raises(StrategyError, match=r"must have shape .* = \(2, 3\), but got \(2,\)"):
        as_weights(row, panel, DECISIONS)
    alone = panel_from_frames(panel.close[["B"]])
    column = pd.Series([0.25, 0.5], index=panel.index[DECISIONS])
    assert as_weights(column, alone, DECISIONS).tolist() == [[0.25], [0.5]]


@pytest.mark.parametrize(
    "answer",
    [
        WEIGHTS.astype(np.float32),
        np.ones((2, 3), dtype=bool),
        np.ones((2, 3), dtype=np.int8),
        WEIGHTS.tolist(),
        WEIGHTS.astype(object),
        np.ma.MaskedArray(WEIGHTS),
        pd.DataFrame(WEIGHTS).astype("Float64"),
        pd.DataFrame(WEIGHTS > 0.3).astype("boolean"),
        pd.DataFrame(WEIGHTS > 0.3).astype(object),
    ],
)
def test_whatever_holds_real_numbers_is_weights(panel: Panel, answer: Any) -> None:
    expected = np.asarray(answer, dtype=np.float64)
    assert as_weights(answer, panel, DECISIONS).tolist() == expected.tolist()


def _with(value: Any) -> np.ndarray:
    answer = WEIGHTS.astype(object)
    answer[1, 2] = value
    return answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "target_weights returned None; is a `return` missing?"),
        (WEIGHTS + 0j, "ndarray: the values are complex numbers"),
        (pd.DataFrame(WEIGHTS + 1j), "the values are complex numbers"),
        (WEIGHTS.astype(str), "the values are text"),
        (WEIGHTS.astype(bytes), "the values are text"),
        (WEIGHTS.astype("datetime64[s]"), "the values are dates"),
        (_with("0.1"), "the values are objects, str among them"),
        (_with(Decimal(1)), "the values are objects, Decimal among them"),
        (_with(None), "the values are objects, None among them"),
        (pd.DataFrame(_with("x")), "the values are objects, str among them"),
        (np.where(WEIGHTS > 0.3, True, _with(np.nan)), "booleans with .*float"),
        (pd.DataFrame({"A": [True, np.nan]}), "the values are booleans with NaN among them"),
        (pd.DataFrame({"A": [True, None]}), "the values are booleans with None among them"),
        (pd.DataFrame({"A": [True, None]}, dtype="boolean"), "booleans with <NA> among them"),
        (np.ma.masked_less(WEIGHTS, 0.3), "some values are masked"),
        ([[1, 2], [3]], "list: .*inhomogeneous"),
        ("weights", "str: the values are text"),
        (WEIGHTS[:1], r"must have shape \(n_decisions, n_assets\) = \(2, 3\), but got \(1, 3\)"),
        (WEIGHTS[0], r"but got \(3,\)"),
        (np.zeros((10, 3)), r"got \(10, 3\), a row for each bar: .* are weights\[decisions\], "),
        (0.3, r"but got \(1,\)"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(panel: Panel, answer: Any, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        as_weights(answer, panel, DECISIONS)


def test_labels_that_do_not_fit_are_named(panel: Panel, labelled: pd.DataFrame) -> None:
    cases = [
        (labelled.assign(X=0, Y=0), r"weights of X, Y, which the data does not have \(it has A, B"),
        (labelled[["A", "A"]], "two columns for A"),
        (labelled.tz_localize(None), "must be indexed by the timestamps of the decisions"),
        (labelled.shift(freq="1D"), "2020-01-04 00:00:00.*to 2020-01-08.*but got 2020-01-05"),
        (labelled.iloc[[0, 0]], "must be indexed by the timestamps of the decisions"),
        (labelled.set_axis(["x", "y"]), "but got x to y"),
        (labelled.set_axis([1, 2]), "but got 1 to 2"),
        (pd.DataFrame(WEIGHTS[:, :2], columns=range(2)), "but got .2, 2."),
        (
            labelled.set_axis(pd.MultiIndex.from_product([["w"], list("ABC")]), axis=1),
            "weights of .'w', ",
        ),
    ]
    for frame, message in cases:
        with pytest.raises(StrategyError, match=message):
            as_weights(frame, panel, DECISIONS)


def test_what_a_strategy_does_to_its_arguments_reaches_nobody(panel: Panel) -> None:
    class Careless:
        def target_weights(self, panel: Panel, decisions: np.ndarray) -> np.ndarray:
            panel.close["D"] = 1.0
            decisions += 1
            return WEIGHTS

    decisions = DECISIONS.copy()
    target_weights(Careless(), panel, decisions)
    assert decisions.tolist() == DECISIONS.tolist()
    assert list(panel.close.columns) == ["A", "B", "C"]
