"""Intervals: Hydra's grammar, and whole numbers where both ends are written as such."""

import pytest

from backtest_batch.compose.arguments import read_arguments
from backtest_batch.compose.grid import axis_of
from backtest_batch.compose.intervals import written_interval
from backtest_batch.errors import ConfigurationError
from backtest_batch.search.space import Interval

WRITTEN = [
    ("interval(5,60)", Interval(low=5, high=60)),
    ("interval( 5 , 60 )", Interval(low=5, high=60)),
    ("interval(start=-5,end=60)", Interval(low=-5, high=60)),
    ("interval(5,60.0)", Interval(low=5.0, high=60.0)),
    ("interval(1e-4,1)", Interval(low=1e-4, high=1.0)),
    ("float(interval(1,3))", Interval(low=1.0, high=3.0)),
    ("int(interval(1.5,3))", Interval(low=1, high=3)),
    ("tag(log,interval(1,100))", Interval(low=1, high=100, log=True)),
    ("tag(log, interval(0.1, 100))", Interval(low=0.1, high=100.0, log=True)),
]


@pytest.mark.parametrize(("text", "interval"), WRITTEN)
def test_an_interval_is_the_same_on_the_command_line_and_in_a_grid(text, interval):
    (argument,) = read_arguments([f"strategy.fast={text}"]).keys
    assert argument.is_sweep
    found = axis_of(argument, lambda _: (), None).interval
    assert found == written_interval("strategy.fast", text) == interval
    assert [type(end) for end in (found.low, found.high)] == [
        type(end) for end in (interval.low, interval.high)
    ]


@pytest.mark.parametrize("value", ["W", "interval", "my interval(1,2)", "range(1,3)", 5, [1], None])
def test_other_values_of_a_grid_are_no_intervals(value):
    assert written_interval("x", value) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interval(3,1)", "low < high"),
        ("interval(1,inf)", "finite"),
        ("tag(log,interval(0,1))", "above 0"),
        ("tag(fast,interval(0,1))", "the only tag"),
        ("interval(a,b)", "no interval"),
        ("interval(1)", "no interval"),
    ],
)
def test_what_is_no_interval_is_said(text, message):
    with pytest.raises(ConfigurationError, match=message):
        written_interval("strategy.fast", text)
