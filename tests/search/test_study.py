"""A search asks what Optuna asks, never twice, and ends where nothing is left."""

import warnings

import optuna
import pytest

from backtest_batch.errors import ConfigurationError
from backtest_batch.search.samplers import SAMPLERS
from backtest_batch.search.space import Interval, SearchSpace, ValueSet, place_of
from backtest_batch.search.study import FAILED, Judged, SearchSettings, Study, search

SPACE = SearchSpace(
    {
        "fast": Interval(low=1, high=10_000),
        "rate": Interval(low=1e-4, high=10.0, log=True),
        "rebalance": ValueSet(("W", "M", "Q")),
        "window": ValueSet((10, 20, 30, 40)),
        "level": ValueSet((0.5, 1, 5)),
    }
)
METHODS = [method for method in SAMPLERS if method != "gp"]
CLASSES = {
    "random": optuna.samplers.RandomSampler,
    "sobol": optuna.samplers.QMCSampler,
    "tpe": optuna.samplers.TPESampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
}


def goodness(point):
    """Best at fast=4_000, rate=1, W, 30, 5; nothing at fast above 9,000."""
    if point["fast"] > 9_000:
        return None
    distance = (point["fast"] - 4_000) ** 2 / 1e7 + (point["rate"] - 1) ** 2
    return -distance + (point["rebalance"] == "W") + point["window"] / 100 + point["level"] / 10


def judged(point):
    value = goodness(point)
    return FAILED if value is None else Judged(values=(value,))


def evaluate(proposals):
    return {item.number: judged(item.point) for item in proposals}


def by_hand(method, seed, n_trials, batch_size):
    """Ask and tell as the documentation of Optuna does."""
    study = optuna.create_study(sampler=CLASSES[method](seed=seed), direction="maximize")
    distributions = {
        "fast": optuna.distributions.IntDistribution(1, 10_000),
        "rate": optuna.distributions.FloatDistribution(1e-4, 10.0, log=True),
        "rebalance": optuna.distributions.CategoricalDistribution(["W", "M", "Q"]),
        "window": optuna.distributions.IntDistribution(10, 40, step=10),
        "level": optuna.distributions.IntDistribution(0, 2),
    }
    asked = []
    while len(asked) < n_trials:
        trials = [study.ask(distributions) for _ in range(min(batch_size, n_trials - len(asked)))]
        for trial in trials:
            point = {**trial.params, "level": (0.5, 1, 5)[trial.params["level"]]}
            asked.append(point)
            value = goodness(point)
            if value is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)
    return asked


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("method", METHODS)
def test_plain_optuna_asks_for_the_same_points_in_the_same_order(method, batch_size):
    settings = SearchSettings(method=method, n_trials=50, batch_size=batch_size, seed=7)
    found = search(SPACE, settings, evaluate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [item.point for item, _ in found.values()] == by_hand(method, 7, 50, batch_size)
    assert [item.number for item, _ in found.values()] == list(range(1, 51))
    assert [item.round_number for item, _ in found.values()] == [
        1 + n // batch_size for n in range(50)
    ]


@pytest.mark.parametrize("method", METHODS)
def test_no_point_is_asked_for_twice_and_the_search_ends_with_the_space(method):
    space = SearchSpace({"a": Interval(low=1, high=6), "b": Interval(low=1, high=6)})

    def identify(point):
        return None if point["a"] >= point["b"] else place_of(point)

    study = Study(space, SearchSettings(method=method, n_trials=100, seed=3), identify)
    asked = []
    while proposals := study.ask():
        asked += [tuple(item.point.values()) for item in proposals]
        study.tell({item.number: Judged(values=(-item.point["a"],)) for item in proposals})
    assert sorted(asked) == [(a, b) for a in range(1, 7) for b in range(a + 1, 7)]
    assert study.n_impossible == 21
    assert "every point" in study.ending


def test_points_with_the_same_identity_are_evaluated_once():
    space = SearchSpace({"a": Interval(low=0.0, high=1.0)})
    study = Study(
        space, SearchSettings(method="random", n_trials=9), lambda point: round(point["a"] * 5)
    )
    asked = []
    for _ in range(3):
        proposals = study.ask()
        asked += proposals
        study.tell({item.number: Judged(values=(0.0,)) for item in proposals})
        if study.n_asked == 6:
            break
    assert len({round(item.point["a"] * 5) for item in asked}) == len(asked) == 6
    assert study.n_repeats > 0


def test_where_nothing_can_be_evaluated_a_search_gives_up(monkeypatch):
    monkeypatch.setattr("backtest_batch.search.study.MOST_MISSES", 100)
    space = SearchSpace({"a": Interval(low=0.0, high=1.0)})
    study = Study(space, SearchSettings(method="tpe", n_trials=9), lambda _: None)
    assert study.ask() == []
    assert "no further point" in study.ending


def test_patience_ends_a_search_without_gain():
    values = iter([1.0, 3.0, 2.0, 3.0, 2.9, 1.0, 9.0, 9.0])
    study = Study(SPACE, SearchSettings(method="random", n_trials=8, batch_size=1, patience=4))
    while proposals := study.ask():
        study.tell({item.number: Judged(values=(next(values),)) for item in proposals})
    assert study.n_asked == 6
    assert "search.patience" in study.ending


def test_with_several_objectives_a_gain_is_a_point_that_no_other_dominates():
    values = iter([(1.0, 1.0), (0.5, 2.0), (0.4, 0.5), (1.0, 1.0), (5.0, 5.0)])
    settings = SearchSettings(
        method="nsga2", n_trials=5, batch_size=1, patience=2, directions=(1, -1)
    )
    study = Study(SPACE, settings)
    while proposals := study.ask():
        study.tell({item.number: Judged(values=next(values)) for item in proposals})
    assert study.n_asked == 5  # the third has less of what should be little


def test_bounds_that_are_exceeded_keep_the_search_away():
    def bounded(proposals):
        return {
            item.number: Judged(
                values=(item.point["x"],), constraints={"x <= 0.3": item.point["x"] - 0.3}
            )
            for item in proposals
        }

    def unbounded(proposals):
        return {item.number: Judged(values=(item.point["x"],)) for item in proposals}

    def n_low(evaluate):
        found = search(space, SearchSettings(method="tpe", n_trials=60, seed=1), evaluate)
        return sum(item.point["x"] <= 0.3 for item, _ in list(found.values())[30:])

    space = SearchSpace({"x": Interval(low=0.0, high=1.0)})
    assert n_low(unbounded) < 5 < 15 < n_low(bounded)
    assert not Judged(values=(1.0,), constraints={"": 0.1}).is_feasible


def test_minimising_is_maximising_the_negative():
    def minimised(proposals):
        return {item.number: Judged(values=(-goodness_or_low(item),)) for item in proposals}

    def maximised(proposals):
        return {item.number: Judged(values=(goodness_or_low(item),)) for item in proposals}

    def goodness_or_low(item):
        return goodness(item.point) or -1e9

    settings = SearchSettings(method="tpe", n_trials=40, seed=2)
    lower = SearchSettings(method="tpe", n_trials=40, seed=2, directions=(-1,))
    one, other = search(SPACE, settings, maximised), search(SPACE, lower, minimised)
    assert [item.point for item, _ in one.values()] == [item.point for item, _ in other.values()]


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("tpe", {"n_startup": 3}, "did you mean n_startup_trials"),
        ("tpe", {"seed": 3}, "search.seed"),
        ("nsga2", {"population_size": 1}, "refuses it"),
        ("random", {"x": 1}, "Its options: none"),
    ],
)
def test_options_that_the_sampler_does_not_have_are_refused(method, options, message):
    with pytest.raises(ConfigurationError, match=message):
        Study(SPACE, SearchSettings(method=method, n_trials=1, options=options))


def test_a_sampler_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(
        "backtest_batch.search.samplers.importlib.util.find_spec",
        lambda name: None if name in ("torch", "optuna") else object(),
    )
    with pytest.raises(
        ConfigurationError, match=r"optuna and torch.*backtest-batch\[search\].*torch"
    ):
        Study(SPACE, SearchSettings(method="gp", n_trials=1))


def test_what_users_set_for_optuna_s_log_stays_set():
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    search(SPACE, SearchSettings(method="random", n_trials=3), evaluate)
    assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    optuna.logging.set_verbosity(optuna.logging.INFO)
