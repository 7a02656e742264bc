"""Mappings from Python and from files, with keys that a grammar might take for something else."""

import pytest

from backtest_batch.api.arguments import key_arguments
from backtest_batch.errors import ConfigurationError

ODD = {
    "BRK.B": 0.25,
    "S&P 500": [1e-7, None, -0.0],
    "a: b, c=d": {"it's": 'say "so"', "null": True},
    "Größe": "#1; 100%",
    "": "empty",
}


@pytest.fixture
def composed(requested):
    """Return the configurations of the runs that keys and Python's values span."""

    def compose(**given):
        arguments = [item for key, value in given.items() for item in key_arguments(key, value)]
        found = list(requested("data=synthetic", *arguments).compositions)
        assert [run.faults for run in found] == [()] * len(found)
        return [run.config for run in found]

    return compose


@pytest.mark.parametrize("fast", [True, False])
def test_mappings_reach_a_strategy_as_they_were_given(composed, requested, fast):
    runs = composed(
        fast_compose=fast,
        strategy={"_target_": "mine.Strategy", "levels": {1: "a", 2: "b"}, "weights": ODD},
        param_grid={"strategy.more": [{"BRK.B": 1}, ODD, {3: 0.5}], "seed": [1, 2]},
        tags=ODD,
    )
    assert [run["strategy"]["more"] for run in runs[::2]] == [{"BRK.B": 1}, ODD, {3: 0.5}]
    assert all(run["strategy"]["weights"] == ODD for run in runs)
    assert all(run["strategy"]["levels"] == {1: "a", 2: "b"} for run in runs)
    assert runs[0]["tags"] == ODD


def test_what_a_run_s_command_says_is_what_the_run_had(composed, requested):
    given = {"strategy._target_": "mine.Strategy", "strategy": {"weights": ODD}}
    arguments = [item for key, value in given.items() for item in key_arguments(key, value)]
    (run,) = requested("data=synthetic", *arguments).compositions
    (again,) = requested(*run.overrides).compositions
    assert again.config == run.config


@pytest.mark.parametrize("fast", [True, False])
def test_listed_runs_hold_mappings(composed, fast):
    runs = composed(
        fast_compose=fast,
        strategy={"_target_": "mine.Strategy"},
        runs=[{"id": "a", "strategy": {"weights": ODD}}, {"strategy.weights": {"BRK.B": 1}}],
    )
    assert [run["strategy"]["weights"] for run in runs] == [ODD, {"BRK.B": 1}]


def test_a_key_that_is_no_name_is_refused():
    with pytest.raises(ConfigurationError, match="keys must be text or numbers, but got None"):
        key_arguments("tags", {None: 1})
