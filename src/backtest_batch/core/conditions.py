"""The conditions of a run, as a strategy that makes its own account is given them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backtest_batch.arrays import IntArray
from backtest_batch.config.checks import default
from backtest_batch.core.data.sources.no_prices import has_no_prices
from backtest_batch.core.engine.simulation import SETTING_NAMES, SimulationSettings
from backtest_batch.core.fitting import periods_per_year


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditions(SimulationSettings):
    """Under which conditions a run is to be backtested: its scenario keys, dates and decisions.

    Costs, rates, caps, capital, ``execution_lag`` and ``execution_price`` are those of
    :class:`~backtest_batch.core.engine.simulation.SimulationSettings`; ``cost_rate`` is the cost of
    trading one unit of currency. Whoever makes an account is responsible for obeying them.

    Attributes
    ----------
    risk_free_rate
        Annual rate that sharpe and sortino subtract.
    start_date, end_date, rebalance
        As the configuration has them; None for a date that is not given.
    periods_per_year
        Bars a year that the metrics are annualised with; NaN with ``data=none``, unless the key
        is given.
    first_bar
        Position in the panel of the first measured bar. Earlier bars are history. The return of
        the bar after it is the first that counts.
    decisions
        Positions in the panel of the decision bars by ``rebalance``, from the first measured bar
        on, shape (n_decisions,). Empty with ``data=none``, whose bars are not known before the run.
    has_prices
        Whether there is a panel: not with ``data=none``.
    """

    risk_free_rate: float = 0.0
    start_date: str | None = None
    end_date: str | None = None
    rebalance: str = default("rebalance")
    periods_per_year: float = 252.0
    first_bar: int = 0
    decisions: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    has_prices: bool = True


def conditions_of(config: Mapping[str, Any], first_bar: int, decisions: IntArray) -> Conditions:
    """Return the conditions of a run whose configuration has been resolved.

    Parameters
    ----------
    config
        The configuration.
    first_bar, decisions
        As :class:`Conditions` has them.
    """
    own = decisions[decisions >= first_bar].copy()
    has_prices = not has_no_prices(config["data"])
    unknown = config["periods_per_year"] is None and not has_prices
    own.flags.writeable = False
    return Conditions(
        **{name: config[name] for name in SETTING_NAMES},
        risk_free_rate=float(config["risk_free_rate"]),
        start_date=config["start_date"],
        end_date=config["end_date"],
        rebalance=config["rebalance"],
        periods_per_year=math.nan if unknown else periods_per_year(config),
        first_bar=int(first_bar),
        decisions=own,
        has_prices=has_prices,
    )
