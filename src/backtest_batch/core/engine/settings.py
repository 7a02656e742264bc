"""The conditions under which target weights are traded, and what a trade costs under them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from backtest_batch.config.checks import checked, default

BASIS_POINT = 1e-4

TRADE_THRESHOLD = 1e-9
"""A change of position up to this fraction of equity is no trade: it is neither charged nor
counted. Otherwise rounding alone would trade at each rebalance."""

DUST = 1e-4
"""Cash that costs took is not fetched back from the positions up to this fraction of them. Selling
4 to pay for a cost of 4, and then 0.008 for the cost of that, is nothing that anybody would do."""

ROUNDING = 1e-12
"""Equity up to this fraction of what was added up to it is rounding, and counts as zero."""


def cost_rate(*, commission_bps: float, spread_bps: float, impact_bps: float) -> float:
    """Return the cost of trading one unit of currency.

    ``(commission_bps + spread_bps / 2 + impact_bps) * 1e-4``: a trade crosses half of the spread,
    and the impact does not depend on the size of the trade.

    Parameters
    ----------
    commission_bps, spread_bps, impact_bps
        Basis points of traded value.
    """
    return (commission_bps + spread_bps / 2 + impact_bps) * BASIS_POINT


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """The conditions under which target weights are traded; one per run.

    Each value is read and bounded as the configuration key of its name, and has its default.

    Attributes
    ----------
    initial_capital
        Equity on the first measured bar, above 0. All results but those in currency are the same
        for any value.
    max_gross_exposure
        Cap on the sum of absolute weights, above 0: a row of weights beyond it is scaled down.
    max_weight
        Cap on each absolute weight, above 0, applied first; None for no cap.
    commission_bps, spread_bps, impact_bps
        Basis points of traded value, at least 0; half of the spread is paid.
    cash_rate, borrow_rate, short_fee_rate
        Annual rates earned on positive cash, paid on negative cash, paid on the market value of
        shorts; ACT/365.
    execution_lag
        Bars from decision to execution, at least 0. With 0, a decision made with a bar's close is
        executed at that close.
    execution_price
        Trades execute at the ``close`` or at the ``open`` of their bar; at the open only a bar
        later than they were decided, or more.

    Raises
    ------
    ConfigurationError
        When a value is of the wrong kind or out of its range; ``faults`` lists all of them.
    """

    initial_capital: float = default("initial_capital")
    max_gross_exposure: float = default("max_gross_exposure")
    max_weight: float | None = default("max_weight")
    commission_bps: float = default("commission_bps")
    spread_bps: float = default("spread_bps")
    impact_bps: float = default("impact_bps")
    cash_rate: float = default("cash_rate")
    borrow_rate: float = default("borrow_rate")
    short_fee_rate: float = default("short_fee_rate")
    execution_lag: int = default("execution_lag")
    execution_price: Literal["close", "open"] = default("execution_price")

    def __post_init__(self) -> None:
        given = vars(self)
        for name, value in checked(given).items():
            if value is not given[name]:
                object.__setattr__(self, name, value)

    @property
    def cost_rate(self) -> float:
        """Cost of trading one unit of currency."""
        return cost_rate(
            commission_bps=self.commission_bps,
            spread_bps=self.spread_bps,
            impact_bps=self.impact_bps,
        )

    @property
    def accrues_interest(self) -> bool:
        """Whether cash or shorts bear interest."""
        return self.cash_rate != 0 or self.borrow_rate != 0 or self.short_fee_rate != 0


SETTING_NAMES = tuple(item.name for item in fields(SimulationSettings))
"""The configuration keys that settings are made of."""

UNLEVERAGED: Mapping[str, Any] = {"max_gross_exposure": 1.0, "max_weight": None}
"""What a benchmark has in place of a run's caps."""


def simulation_settings(config: Mapping[str, Any]) -> SimulationSettings:
    """Return the settings of a run."""
    return SimulationSettings(**{name: config[name] for name in SETTING_NAMES})


def benchmark_settings(config: Mapping[str, Any]) -> SimulationSettings:
    """Return the settings of a run's benchmark: the same costs, no leverage, no cap a symbol."""
    return simulation_settings({**config, **UNLEVERAGED})
