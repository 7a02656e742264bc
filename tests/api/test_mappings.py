"""Mappings from Python and from files, with keys that a grammar might take for something else."""

import pytest

import backtest_batch as bb
from backtest_batch.api.sweeps import plain_keys
from backtest_batch.config.schema import processors
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
        keys = plain_keys(given.items())
        found = list(requested("data=synthetic", keys=keys).compositions)
        # What is recorded is text, and says the same.
        texts = [item.text for item in keys]
        typed = requested("data=synthetic", *texts).compositions
        assert [run.config for run in typed] == [run.config for run in found]
        assert [run.overrides for run in typed] == [run.overrides for run in found]
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
    (run,) = requested("data=synthetic", keys=plain_keys(given.items())).compositions
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
        plain_keys([("tags", {None: 1})])


def test_a_key_with_two_values_is_refused_before_anything_is_looked_for():
    with pytest.raises(ConfigurationError, match="commission_bps is given twice, as 1 and in par"):
        bb.run_sweep({"commission_bps": [0, 2]}, data="synthetic", commission_bps=1)
    with pytest.raises(ConfigurationError, match=r"tracking\.uri is given twice, as a and as b"):
        bb.run_sweep(data="synthetic", tracking={"uri": "a"}, **{"tracking.uri": "b"})
    with pytest.raises(ConfigurationError, match=r"strategy\.fast is given twice"):
        bb.run_sweep({"strategy.fast": [5], "strategy": {"fast": [6]}}, data="synthetic")
    with pytest.raises(ConfigurationError, match=r"runs, id=a: strategy\.fast is given twice"):
        bb.run_sweep(
            runs=[{"id": "a", "strategy.fast": 5, "strategy": {"fast": 6}}], data="synthetic"
        )


def test_mappings_of_one_node_are_one(requested):
    request = requested(
        *("data=synthetic", "strategy=custom", "strategy={_target_: mine.A, x: {BRK.B: 1}}"),
        *("strategy={x: {BRK.B: 1, C: 2}}", "tags={a: 1}", "tags={b: {c: 2}}", "seed=1", "seed=1"),
    )
    (run,) = request.compositions
    assert run.config["strategy"] == {"_target_": "mine.A", "x": {"BRK.B": 1, "C": 2}}
    assert run.config["tags"] == {"a": 1, "b": {"c": 2}}
    # What resumes the batch knows an argument by its key.
    assert request.arguments == (
        *("data=synthetic", "strategy=custom", "strategy._target_=mine.A"),
        *("strategy.x={BRK.B:1,C:2}", "tags={a:1,b:{c:2}}", "seed=1"),
    )


def test_minus_one_is_every_processor(requested):
    request = requested("data=synthetic", "n_jobs=-1", "strategy=trend_baseline,equal_weight")
    assert request.config["n_jobs"] == processors()
    assert [run.faults for run in request.compositions] == [(), ()]
