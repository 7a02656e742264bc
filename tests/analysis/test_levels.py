import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.analysis.scenarios import (
    cells_of,
    choice_name,
    levels_of,
    plain_value,
    typed_value,
    value_as_typed,
)

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([0.5, 1.0, -2.5]), st.text("ab")
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (float("nan"), "null"),
        (pd.NA, "null"),
        (pd.NaT, "null"),
        (True, "true"),
        (np.bool_(False), "false"),
        (0.0, "0.0"),
        (0.1 + 0.2, "0.30000000000000004"),
        (np.float64(0.5), "0.5"),
        (np.int64(20), "20"),
        ("ema", "ema"),
        ("x" * 6_001, "x" * 6_001),
        ([20, 60], "[20, 60]"),
        ({"a": 1}, '{"a": 1}'),
        (pd.Timestamp("2020-01-31"), "2020-01-31 00:00:00"),
    ],
)
def test_a_value_is_formatted_as_it_is_typed(value, text):
    assert value_as_typed(value) == text


def test_levels_are_null_booleans_numbers_and_texts_in_order():
    levels = levels_of(["b", 10, None, 2.5, True, "a", -1, float("nan"), False])

    assert levels.values == (None, False, True, -1, 2.5, 10, "a", "b")
    assert levels.codes.tolist() == [7, 5, 0, 4, 2, 6, 3, 0, 1]
    assert not levels.numeric


def test_one_and_one_point_zero_are_one_level_but_true_and_text_are_others():
    one_way, other_way = levels_of([1, 1.0, True, "1"]), levels_of(["1", True, 1.0, 1])

    assert one_way.values == other_way.values == (True, 1.0, "1")
    assert isinstance(one_way.values[1], float)
    assert isinstance(other_way.values[1], float)
    assert one_way.codes.tolist() == [1, 1, 0, 2]


@pytest.mark.parametrize(
    ("values", "numeric"),
    [([1, 2.5], True), ([None, 3], True), ([None], False), ([True, 1], False), (["a"], False)],
)
def test_numeric_levels_are_numbers_null_aside(values, numeric):
    assert levels_of(values).numeric is numeric


def test_no_run_has_no_level():
    levels = levels_of([])

    assert levels.values == ()
    assert levels.codes.shape == (0,)
    assert cells_of([levels.codes], 0).shape == (0,)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(SCALARS, SCALARS, SCALARS), min_size=1, max_size=30))
def test_cells_are_equal_exactly_where_all_values_are(rows):
    columns = [levels_of(column) for column in zip(*rows, strict=True)]
    cells = cells_of([levels.codes for levels in columns], len(rows))

    def identity(row):
        return tuple((isinstance(value, bool), isinstance(value, str), value) for value in row)

    expected = {}
    for cell, row in zip(cells.tolist(), rows, strict=True):
        assert expected.setdefault(identity(row), cell) == cell
    assert sorted(expected.values()) == list(range(len(expected)))
    for levels, column in zip(columns, zip(*rows, strict=True), strict=True):
        assert [levels.values[code] for code in levels.codes] == [plain_value(v) for v in column]


def test_without_columns_all_runs_are_in_one_cell():
    assert cells_of([], 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("true", True),
        ("false", False),
        ("20", 20),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-05", 1e-05),
        ("020", "020"),
        ("1e3", "1e3"),
        ("1_000", "1_000"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("", ""),
        ("True", "True"),
        (" 5", " 5"),
        ("2005-01-31", "2005-01-31"),
        ("9" * 5_000, "9" * 5_000),
    ],
)
def test_recorded_text_is_read_as_it_was_written(text, value):
    found = typed_value(text)

    assert found == value
    assert type(found) is type(value)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False)))
@settings(deadline=None)
def test_recorded_values_come_back(value):
    text = value_as_typed(value)
    expected = text if isinstance(value, float) and not math.isfinite(value) else value

    assert typed_value(text) == expected


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("backtest_batch.strategies.TrendBaseline", "trend_baseline"),
        ("backtest_batch.market.sources.Sp500", "sp500"),
        ("my.MultifactorLongShort2", "multifactor_long_short2"),
        ("MyStrategy", "my_strategy"),
    ],
)
def test_a_choice_is_called_like_its_class(target, name):
    assert choice_name(target) == name


def test_values_of_any_kind_are_levels():
    levels = levels_of([[1], (2, 3), {"a": 1}, "x", 1, True, 1.0, None, np.int64(1)])

    assert levels.values == (None, True, 1.0, "[1]", "[2, 3]", "x", '{"a": 1}')
    assert levels.codes.tolist() == [3, 4, 6, 5, 2, 1, 2, 0, 2]
