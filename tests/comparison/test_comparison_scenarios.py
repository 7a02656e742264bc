import pytest

from backtest_batch.comparison.scenarios import is_scenario_axis, scenario_label, scenario_names


@pytest.mark.parametrize(
    "name",
    [
        *("commission_bps", "spread_bps", "impact_bps", "cash_rate", "borrow_rate"),
        *("short_fee_rate", "risk_free_rate", "initial_capital", "max_gross_exposure"),
        *("max_weight", "execution_lag", "execution_price", "data", "data.path", "data.missing"),
        *("start_date", "end_date"),
    ],
)
def test_conditions_are_scenario_axes(name):
    assert is_scenario_axis(name)


@pytest.mark.parametrize(
    "name", ["strategy", "strategy.fast", "rebalance", "seed", "database", "strategy.data"]
)
def test_choices_are_decision_axes(name):
    assert not is_scenario_axis(name)


def test_further_axes_stand_for_what_is_below_them():
    names = ["rebalance", "strategy.factors.value", "strategy.fast", "commission_bps"]

    further = scenario_names(names, ["strategy.factors", "rebalance"])

    assert further == ("rebalance", "strategy.factors.value", "commission_bps")
    assert scenario_names(names) == ("commission_bps",)


def test_a_label_names_the_axes_and_their_values():
    assert scenario_label({"commission_bps": 0.5, "max_weight": None}) == (
        "commission_bps=0.5 max_weight=null"
    )
    assert scenario_label({}) == "base"
