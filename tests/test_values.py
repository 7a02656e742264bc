"""Plain values: as text, by the keys that lead to them, and as leaves."""

import numpy as np
import pytest

from backtest_batch.errors import Fault
from backtest_batch.values import flattened, merged_order, value_at, value_text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, "0.5"),
        (0.0, "0.0"),
        (1e-07, "1e-07"),
        (20, "20"),
        (np.float64(-1.5), "-1.5"),
        (True, "true"),
        (None, "null"),
        ("ema", "ema"),
        ("", ""),
        (["A", "Ö"], '["A", "Ö"]'),
        ((1, 2.5), "[1, 2.5]"),
        ({}, "{}"),
    ],
)
def test_values_as_text(value, expected):
    assert value_text(value) == expected


def test_a_fault_shows_a_value_as_it_is_typed():
    fault = Fault(key="data.symbols", value=["A", None], allowed="must be text")
    assert str(fault) == 'data.symbols=["A", null]: must be text'


def test_a_value_is_found_by_the_keys_that_lead_to_it():
    nested = {"a": {"b": {"c": None}, 1: "one", "x.y": 2}}
    assert value_at(nested, ["a", "b"]) == {"c": None}
    assert value_at(nested, ("a", 1)) == "one"
    assert value_at(nested, ("a", "x.y")) == 2
    assert value_at(nested, ()) is nested
    # What is null is there.
    assert value_at(nested, ["a", "b", "c"], "absent") is None
    assert value_at(nested, ["a", "b", "c", "d"], "absent") == "absent"
    assert value_at(nested, ["a", "z"]) is None


def test_nested_keys_are_dotted_and_empty_mappings_stay():
    nested = {"a": 1, "b": {"c": {"d": 2}, "e": {}}, "f": []}
    assert dict(flattened(nested)) == {"a": 1, "b.c.d": 2, "b.e": {}, "f": []}


@pytest.mark.parametrize(
    ("lists", "merged"),
    [
        ([], []),
        (["ab", "ab"], "ab"),
        (["a", "b"], "ab"),
        (["sfl", "sw"], "sflw"),
        (["sflc", "swc", "sc"], "sflwc"),
        (["a", "ba"], "ba"),
        (["ab", "ba"], "ab"),
    ],
)
def test_names_of_several_lists_keep_the_order_of_each(lists, merged):
    assert merged_order(lists) == list(merged)
