from dataclasses import fields
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from backtest_batch.config.schema import BatchConfig
from backtest_batch.core.engine.simulation import SimulationSettings, cost_rate
from backtest_batch.errors import ConfigurationError


def test_half_of_the_spread_is_paid() -> None:
    assert cost_rate(commission_bps=1.0, spread_bps=4.0, impact_bps=2.0) == pytest.approx(5e-4)
    settings = SimulationSettings(commission_bps=1.0, spread_bps=4.0, impact_bps=2.0)
    assert settings.cost_rate == cost_rate(commission_bps=1.0, spread_bps=4.0, impact_bps=2.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("initial_capital", 0.0),
        ("initial_capital", float("inf")),
        ("max_gross_exposure", -1.0),
        ("max_gross_exposure", float("nan")),
        ("max_weight", 0.0),
        ("commission_bps", -0.5),
        ("spread_bps", float("inf")),
        ("impact_bps", float("nan")),
        ("cash_rate", float("nan")),
        ("borrow_rate", float("inf")),
        ("short_fee_rate", float("-inf")),
        ("execution_lag", -1),
        ("execution_price", "vwap"),
        ("execution_price", 3),
        ("commission_bps", 50_000),
        ("spread_bps", "many"),
        ("impact_bps", None),
        ("initial_capital", True),
        ("max_weight", 1 + 1j),
        ("borrow_rate", 11),
        ("cash_rate", -1.5),
        ("execution_lag", 1.0),
        ("execution_lag", "soon"),
        ("execution_lag", True),
        ("execution_lag", 1_001),
    ],
)
def test_a_value_out_of_range_is_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SimulationSettings(**{key: value})
    (fault,) = caught.value.faults
    assert str(fault).startswith(f"{key}={fault.shown}: must be ")
    assert str(caught.value) == f"{fault}."


def test_a_value_without_an_upper_bound_must_be_finite() -> None:
    with pytest.raises(ConfigurationError, match="initial_capital=inf: must be > 0 and finite"):
        SimulationSettings(initial_capital=float("inf"))


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SimulationSettings(commission_bps=-1, execution_lag=-1)
    assert [fault.key for fault in caught.value.faults] == ["commission_bps", "execution_lag"]


@pytest.mark.parametrize("value", [5, "5", " 5.0 ", np.int64(5), np.float32(5), Fraction(5)])
def test_a_number_is_read_whatever_its_type(value: Any) -> None:
    settings = SimulationSettings(commission_bps=value)
    assert (settings.commission_bps, type(settings.commission_bps)) == (5.0, float)


def test_a_count_is_read_whatever_its_type() -> None:
    for value in (2, "2", np.int32(2)):
        settings = SimulationSettings(execution_lag=value)
        assert (settings.execution_lag, type(settings.execution_lag)) == (2, int)


def test_a_decision_cannot_be_executed_at_the_open_of_its_own_bar() -> None:
    with pytest.raises(ConfigurationError, match="execution_lag=0: must be >= 1 with execution_pr"):
        SimulationSettings(execution_lag=0, execution_price="open")
    assert SimulationSettings(execution_lag=0).execution_lag == 0
    assert SimulationSettings(execution_price="open").execution_lag == 1


def test_the_defaults_and_the_names_are_those_of_the_configuration() -> None:
    keys = {item.name: item.default for item in fields(BatchConfig)}
    for item in fields(SimulationSettings):
        assert item.default == keys[item.name]


def test_interest_accrues_when_any_rate_is_set() -> None:
    assert not SimulationSettings().accrues_interest
    for key in ("cash_rate", "borrow_rate", "short_fee_rate"):
        assert SimulationSettings(**{key: 0.01}).accrues_interest
