import pytest

from backtest_batch.analysis.scenarios import AxisKinds, scenario_label
from backtest_batch.errors import ConfigurationError


@pytest.mark.parametrize(
    "name",
    [
        *("commission_bps", "spread_bps", "impact_bps", "cash_rate", "borrow_rate"),
        *("short_fee_rate", "risk_free_rate", "initial_capital", "max_gross_exposure"),
        *("max_weight", "execution_lag", "execution_price"),
    ],
)
def test_conditions_are_scenario_axes(name):
    assert AxisKinds().is_scenario(name)


@pytest.mark.parametrize(
    "name",
    [
        *("strategy", "strategy.fast", "rebalance", "seed", "periods_per_year", "strategy.data"),
        # What is traded, and when, is chosen too.
        *("data", "data.path", "data.symbols", "data.freq", "start_date", "end_date"),
    ],
)
def test_choices_are_decision_axes(name):
    assert not AxisKinds().is_scenario(name)


def test_a_key_that_is_moved_stands_for_what_is_below_it():
    names = ["rebalance", "strategy.factors.value", "strategy.fast", "commission_bps"]

    moved = AxisKinds(scenario=("strategy.factors", "rebalance"))

    assert moved.scenario_names(names) == ("rebalance", "strategy.factors.value", "commission_bps")
    assert AxisKinds().scenario_names(names) == ("commission_bps",)
    assert AxisKinds(decision=("commission_bps",)).scenario_names(names) == ()


def test_of_keys_above_one_another_the_longest_counts():
    kinds = AxisKinds(scenario=("data",), decision=("data.symbols",))

    assert kinds.scenario_names(["data", "data.path", "data.symbols"]) == ("data", "data.path")
    assert kinds.divides("data")
    assert not kinds.divides("data.symbols")


def test_a_key_cannot_be_moved_both_ways():
    with pytest.raises(ConfigurationError, match=r"decision_axes=data\.symbols: is in scenario"):
        AxisKinds(scenario=("data.symbols",), decision=("data.symbols",))


def test_a_key_that_moves_nothing_is_named():
    kinds = AxisKinds(scenario=("data.symbol",), decision=("commission_bp", "strategy"))

    assert kinds.without_effect(["data.symbols", "strategy.fast"]) == [
        "scenario_axes=data.symbol is not a swept parameter (did you mean data.symbols?): it "
        "divides no runs.",
        "decision_axes=commission_bp is not a swept parameter: it joins no runs.",
    ]


def test_a_label_names_the_axes_and_their_values():
    assert scenario_label({"commission_bps": 0.5, "max_weight": None}) == (
        "commission_bps=0.5 max_weight=null"
    )
    assert scenario_label({}) == "base"
