import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.analysis.ranking import pareto_front


def brute_force(values):
    return [
        not any((other >= one).all() and (other > one).any() for other in values) for one in values
    ]


def test_the_front_of_a_worked_example():
    values = np.array([[1.0, 5.0], [2.0, 4.0], [2.0, 3.0], [0.0, 5.0], [2.0, 4.0]])

    assert pareto_front(values).tolist() == [True, True, False, False, True]


def test_with_one_column_the_front_is_the_best():
    assert pareto_front(np.array([[1.0], [3.0], [3.0]])).tolist() == [False, True, True]


def test_no_point_and_one_point():
    assert pareto_front(np.empty((0, 2))).tolist() == []
    assert pareto_front(np.array([[1.0, -2.0]])).tolist() == [True]


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 4), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_front_agrees_with_brute_force(n_metrics, n_runs, seed):
    values = np.random.default_rng(seed).integers(-2, 3, (n_runs, n_metrics)).astype(float)

    assert pareto_front(values).tolist() == brute_force(values)


@pytest.mark.parametrize("n_metrics", [1, 2, 3, 5])
def test_the_front_of_more_points_than_a_block(n_metrics):
    values = np.random.default_rng(n_metrics).normal(size=(900, n_metrics)).round(1)

    assert pareto_front(values).tolist() == brute_force(values)
