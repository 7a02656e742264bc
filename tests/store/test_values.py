import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from backtest_batch.store.mlflow_run import KEY_LENGTH, is_number, safe_key, storable_text


def test_a_value_of_the_allowed_length_is_untouched_and_a_longer_one_says_so():
    assert storable_text("x" * 6_000, 6_000) == "x" * 6_000
    short = storable_text("x" * 6_001, 6_000)
    assert len(short) == 6_000
    assert short.endswith("] ".strip())
    assert "… [6001 characters, sha256 " in short


def test_long_values_with_the_same_beginning_stay_different():
    assert storable_text("x" * 7_000 + "a", 6_000) != storable_text("x" * 7_000 + "b", 6_000)


def test_what_databases_cannot_store_is_escaped():
    assert storable_text("a\0b", 100) == r"a\x00b"
    assert storable_text("a\ud800b", 100) == r"a\ud800b"
    assert storable_text("Zürich", 100) == "Zürich"


@pytest.mark.parametrize("key", ["sharpe", "strategy.fast", "param.a_b-c", "a b", "größe", "a/b"])
def test_names_that_mlflow_accepts_are_kept(key):
    assert safe_key(key) == key


@pytest.mark.parametrize(
    "key", ["a=b", "a[0]", "a,b", "a(b)", "a+b", "a@b", "5%", "a:b", "", ".", "..", "/a", "a//b"]
)
def test_other_names_are_changed_to_ones_that_it_accepts(key):
    from mlflow.utils.validation import _validate_param_name

    assert safe_key(key) != key
    _validate_param_name(safe_key(key))


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=300))
def test_every_name_becomes_one_that_mlflow_accepts(key):
    from mlflow.utils.validation import _validate_param_name

    _validate_param_name(safe_key(key))
    assert 0 < len(safe_key(key)) <= KEY_LENGTH


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text("ab=[/.:+", max_size=6), unique=True, max_size=30))
def test_different_names_stay_different(keys):
    assert len({safe_key(key) for key in keys}) == len(keys)


@pytest.mark.parametrize("value", [0, -1.5, np.float64(2), np.int64(3), 10**300])
def test_numbers_are_metrics(value):
    assert is_number(value)


def name_of_type(value) -> str:
    return type(value).__name__


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), float("nan"), float("inf"), np.nan, "1", None, 10**400],
    ids=name_of_type,
)
def test_other_values_are_not(value):
    assert not is_number(value)
