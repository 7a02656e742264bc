"""The account that a strategy makes itself: what it may hand back, and one made by the engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd

from backtest_batch.arrays import IntArray
from backtest_batch.core.conditions import Conditions
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.simulation import Simulation, simulate
from backtest_batch.core.strategies.base import as_weights
from backtest_batch.errors import StrategyError


@dataclass(frozen=True, kw_only=True, eq=False)
class Account:
    """What happened to the money of one run: whatever of it is known, indexed by timestamp.

    A strategy with ``backtest(panel, conditions)``, or a function, returns it. Figures that need
    what is not given are undefined; none is estimated. It is checked when the run is measured.

    Attributes
    ----------
    net_return
        Simple net returns by bar, as fractions (0.01 is 1 %). The first return belongs to the
        second measured bar; NaN before it are left out. ``net_return`` or ``equity`` is required.
    equity
        Value of the account at each close, after trading. The first measured bar has
        ``initial_capital``, and what its trades cost is in the return of the bar after it; an
        equity that begins lower by no more than ``cost_rate`` lets those trades cost, or than
        ``cost`` says, is read so.
        One on another scale (100, say) has the returns that it shows. At 0 or below it ends.
    gross_exposure, net_exposure
        Sums of absolute and of signed market values over equity, after trading.
    turnover
        Sum of absolute traded values over the equity before the trade.
    cost
        Trading costs of each bar, in the currency of ``equity``.
    trades
        One row per trade, with a column ``timestamp`` or indexed by it; any other columns.
    weights
        Target weights by timestamp of the decision, one column per symbol.
    metrics
        Figures of your own by name; finite numbers. A name of ours is refused.
    """

    net_return: "pd.Series[Any] | None" = None
    equity: "pd.Series[Any] | None" = None
    gross_exposure: "pd.Series[Any] | None" = None
    net_exposure: "pd.Series[Any] | None" = None
    turnover: "pd.Series[Any] | None" = None
    cost: "pd.Series[Any] | None" = None
    trades: pd.DataFrame | None = None
    weights: pd.DataFrame | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.net_return is None and self.equity is None:
            raise StrategyError("an Account needs net_return or equity")


def trade_weights(
    panel: Panel, weights: Any, conditions: Conditions, decisions: IntArray | None = None
) -> Account:
    """Trade target weights with the engine, as is done for a strategy with ``target_weights``.

    For a strategy that makes its own account and changes it afterwards, or reads figures off it.

    Parameters
    ----------
    panel
        Prices of shape (n_bars, n_assets).
    weights
        Target weights at the decisions: an array of shape (n_decisions, n_assets), or a DataFrame,
        which is read by its labels.
    conditions
        The conditions of the run.
    decisions
        Increasing positions of the decision bars; by default those of ``conditions``.

    Raises
    ------
    StrategyError
        When the weights cannot be traded.
    """
    bars = conditions.decisions if decisions is None else np.asarray(decisions, dtype=np.int64)
    if decisions is None and not conditions.has_prices:
        raise StrategyError(
            "trade_weights: with data=none the conditions have no decision bars; decisions=[...] "
            "gives their positions in the panel"
        )
    rows = as_weights(weights, panel, bars) if len(bars) else np.empty((0, panel.n_assets))
    made = simulate(panel, bars, rows, conditions, conditions.first_bar)
    index = measured_index(panel, made)

    def series(name: str) -> "pd.Series[Any]":
        return pd.Series(getattr(made, name), index=index, name=name)

    return Account(
        net_return=series("net_return"),
        equity=series("equity"),
        gross_exposure=series("gross_exposure"),
        net_exposure=series("net_exposure"),
        turnover=series("turnover"),
        cost=series("cost"),
        trades=trades_frame(panel, made),
        weights=weights_frame(panel, made),
    )


class MeasuredFrom(Protocol):
    """What is measured on consecutive bars of a panel."""

    @property
    def first_bar(self) -> int: ...  # noqa: D102
    @property
    def n_measured(self) -> int: ...  # noqa: D102


def measured_index(panel: Panel, made: MeasuredFrom) -> pd.DatetimeIndex:
    """Return the timestamps of the measured bars of an account."""
    return panel.index[made.first_bar : made.first_bar + made.n_measured].rename("timestamp")


def weights_frame(panel: Panel, made: Simulation) -> pd.DataFrame:
    """Return the weights of the traded decisions after the caps, by timestamp and symbol."""
    return pd.DataFrame(
        made.target_weights, index=panel.index[made.decision_bars], columns=list(panel.symbols)
    )


def trades_frame(panel: Panel, made: Simulation) -> pd.DataFrame:
    """Return one row per trade: timestamp, symbol, shares, price, value, cost."""
    trades = made.trades()
    return pd.DataFrame(
        {
            "timestamp": panel.index[trades.bar],
            "symbol": np.array(panel.symbols, dtype=object)[trades.asset],
            "shares": trades.shares,
            "price": trades.price,
            "value": trades.value,
            "cost": trades.cost,
        }
    )
