from typing import Any

import pytest

from backtest_batch.engine.costs import cost_rate
from backtest_batch.engine.simulate import SimulationSettings
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
    ],
)
def test_a_value_out_of_range_is_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{key}={value}: must be") as caught:
        SimulationSettings(**{key: value})
    assert [fault.key for fault in caught.value.faults] == [key]


def test_interest_accrues_when_any_rate_is_set() -> None:
    assert not SimulationSettings().accrues_interest
    for key in ("cash_rate", "borrow_rate", "short_fee_rate"):
        assert SimulationSettings(**{key: 0.01}).accrues_interest
