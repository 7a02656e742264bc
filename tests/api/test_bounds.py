"""Bounds and defaults are those of the command."""

import inspect

import pytest

import backtest_batch as bb
from backtest_batch.config.schema import BatchConfig, CompareConfig


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"statuses": ["DONE"]}, "statuses=DONE: must be one of FINISHED"),
        ({"scenario_axes": ["seed"], "decision_axes": ["seed"]}, "never both"),
    ],
)
def test_what_the_comparison_refuses_is_refused_of_a_program(working_dir, given, said):
    with pytest.raises(bb.ConfigurationError, match=said):
        bb.load_runs("latest", **given)


def test_defaults_are_those_of_the_command():
    command = BatchConfig()
    for function in (bb.backtest, bb.rank):
        for name, parameter in inspect.signature(function).parameters.items():
            if hasattr(command, name) and parameter.default not in (parameter.empty, None):
                assert parameter.default == getattr(command, name)
    comparison = CompareConfig()
    for name in ("rank_by", "constraints", "normalise", "scenario_axes", "decision_axes", "top_n"):
        assert getattr(comparison, name) == getattr(command, name)
        bounds = [
            schema.__dataclass_fields__[name].metadata["bounds"]
            for schema in (BatchConfig, CompareConfig)
        ]
        assert bounds[0] == bounds[1]
