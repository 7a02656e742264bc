"""What a search draws from, and how Optuna knows it."""

import itertools

import numpy as np
import optuna
import pytest

from backtest_batch.search.space import Interval, SearchSpace, ValueSet, place_of

IntDistribution = optuna.distributions.IntDistribution
FloatDistribution = optuna.distributions.FloatDistribution
CategoricalDistribution = optuna.distributions.CategoricalDistribution


@pytest.mark.parametrize(
    ("axis", "distribution"),
    [
        (Interval(low=5, high=60), IntDistribution(5, 60)),
        (Interval(low=1, high=100, log=True), IntDistribution(1, 100, log=True)),
        (Interval(low=0.5, high=2), FloatDistribution(0.5, 2.0)),
        (Interval(low=0.1, high=10.0, log=True), FloatDistribution(0.1, 10.0, log=True)),
        (ValueSet((10, 20, 30)), IntDistribution(10, 30, step=10)),
        (ValueSet((30, 10, 20, 10)), IntDistribution(10, 30, step=10)),
        (ValueSet((5, 20, 60)), IntDistribution(0, 2)),
        (ValueSet((0.5, 0.1, 2)), IntDistribution(0, 2)),
        (ValueSet(("W", "M")), CategoricalDistribution(("W", "M"))),
        (ValueSet((True, False, None)), CategoricalDistribution((True, False, None))),
        (ValueSet(([1, 2], "M")), CategoricalDistribution(("[1, 2]", "M"))),
    ],
)
def test_an_axis_is_one_of_optuna_s_distributions(axis, distribution):
    assert axis.distribution() == distribution


@pytest.mark.parametrize(
    "axis",
    [
        Interval(low=-3, high=3),
        ValueSet((10, 20, 30)),
        ValueSet((5, 20, 60)),
        ValueSet((0.5, 0.1, 2)),
        ValueSet(("W", "M", 1, True, None, [1, 2], {"a": 1})),
    ],
)
def test_what_is_drawn_and_the_values_are_one_to_one(axis):
    values = [axis.cell(number) for number in range(axis.size)]
    assert len({place_of({"": value}) for value in values}) == axis.size
    assert [axis.drawn(axis.param(value)) for value in values] == values
    drawn = [axis.random(np.random.default_rng(n)) for n in range(200)]
    assert {place_of({"": value}) for value in drawn} == {place_of({"": v}) for v in values}


def test_the_cells_of_a_space_are_its_product_the_last_axis_fastest():
    space = SearchSpace({"a": Interval(low=1, high=3), "b": ValueSet(("x", "y"))})
    assert space.size == 6
    cells = [tuple(space.cell(number).values()) for number in range(6)]
    assert cells == list(itertools.product((1, 2, 3), "xy"))


def test_a_continuous_space_has_no_size_and_a_grid_of_it_the_values_that_were_tried():
    space = SearchSpace({"a": Interval(low=0.0, high=1.0), "b": Interval(low=1, high=10)})
    assert space.size is None
    points = [{"a": 0.1, "b": 3}, {"a": 0.2, "b": 3}, {"a": 0.2, "b": 4}]
    assert space.grid_size(points) == 2 * 10


@pytest.mark.parametrize(
    ("interval", "fault"),
    [
        (Interval(low=2, high=1), "low < high"),
        (Interval(low=1, high=1), "low < high"),
        (Interval(low=0.0, high=float("inf")), "finite"),
        (Interval(low=0, high=5, log=True), "above 0"),
    ],
)
def test_an_interval_that_holds_nothing_is_a_fault(interval, fault):
    assert fault in interval.fault


def test_true_and_one_are_two_values():
    assert ValueSet((1, True, 1)).size == 2
    assert not ValueSet((1, True)).is_ordered
