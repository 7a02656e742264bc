"""The path of one account, and what is worked out from it only when asked for."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from backtest_batch.engine.costs import TRADE_THRESHOLD
from backtest_batch.engine.execution import Execution
from backtest_batch.engine.settings import SimulationSettings
from backtest_batch.market.panel import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Trades:
    """The trades of one account in order of execution, arrays of shape (n_trades,).

    Attributes
    ----------
    bar
        Position of the bar in the panel.
    asset
        Position of the symbol in the panel.
    shares, value
        Number of shares and their value at ``price``; negative for sales.
    price
        Price of execution.
    cost
        What the trade cost, at least 0.
    """

    bar: IntArray
    asset: IntArray
    shares: FloatArray
    price: FloatArray
    value: FloatArray
    cost: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Totals:
    """Sums over the measured bars, the bar of ruin left out of the exposures.

    Attributes
    ----------
    gross_exposure, net_exposure, turnover, cost
        Sum of the array of that name.
    cost_ratio
        Sum of each bar's cost over the equity of the bar before it.
    max_gross_exposure
        The largest gross exposure.
    n_exposure_bars
        How many bars the sums of exposures run over.
    """

    gross_exposure: float
    net_exposure: float
    turnover: float
    cost: float
    cost_ratio: float
    max_gross_exposure: float
    n_exposure_bars: int


class Trips(NamedTuple):
    """The round trips of one account: from 0, or a change of sign, to the next one of either.

    Positions that are open at the end are none.

    Attributes
    ----------
    n_trips, n_wins
        How many there are, and how many gained after their costs of trading.
    held_bars
        Sum of the bars from entry to exit.
    gained, lost
        What they gained and lost, in currency, each at least 0.
    """

    n_trips: int
    n_wins: int
    held_bars: int
    gained: float
    lost: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """The path of one account over the measured bars.

    Arrays have shape (n_measured,), cover the bars from ``first_bar`` to the last bar of the
    panel, or to the bar of ruin, and are read-only.

    Attributes
    ----------
    settings
        The conditions of the run.
    first_bar
        Position of the first measured bar in the panel.
    equity
        Value of the account at each close, after trading, in currency. The first is
        ``initial_capital``, also where trades of that bar (execution_lag 0) have cost something;
        that shows in the return of the second bar. The last is <= 0 when the run is ruined.
    n_trades
        Number of trades: symbols whose traded value exceeds 1e-9 of equity, order by order.
    ruined_bar
        Position in the panel of the bar on which equity fell to 0 or below; None without ruin.
    untradable_weights
        How many weights other than 0 had no price to trade at.
    scaled_decisions
        How many executed decisions a cap made smaller.
    trips
        The round trips.
    totals
        Sums over the bars.
    """

    settings: SimulationSettings
    first_bar: int
    equity: FloatArray
    n_trades: int
    ruined_bar: int | None
    untradable_weights: int
    scaled_decisions: int
    trips: Trips
    totals: Totals
    _execution: Execution = field(repr=False)
    _n_orders: int = field(repr=False)
    _n_sales: int = field(repr=False)

    @property
    def n_measured(self) -> int:
        """Number of measured bars."""
        return len(self.equity)

    @property
    def decision_bars(self) -> IntArray:
        """Bars of the decisions that were traded, shape (n_traded,)."""
        return self._execution.decision_bars[: self._n_orders]

    @property
    def scaled_by(self) -> dict[str, int]:
        """How many executed decisions each cap made smaller, by the name of the cap."""
        orders, cap = self._execution.orders, self.settings.max_gross_exposure
        above = orders.gross[: self._n_orders] > cap * (1.0 + TRADE_THRESHOLD)
        return {
            "max_weight": int(np.count_nonzero(orders.clipped[: self._n_orders])),
            "max_gross_exposure": int(np.count_nonzero(above)),
        }

    @cached_property
    def net_return(self) -> FloatArray:
        """``equity[t] / equity[t - 1] - 1``; NaN on the first measured bar."""
        returns = np.full(self.n_measured, np.nan)
        returns[1:] = self.equity[1:] / self.equity[:-1] - 1.0
        return _read_only(returns)

    @cached_property
    def target_weights(self) -> FloatArray:
        """Weights of the traded decisions after ``max_weight`` and the cap on gross exposure.

        Shape (n_traded, n_assets). Weights that had no price to trade at stand here as they were
        wanted.
        """
        cap = self._execution.max_weight
        weights = np.clip(self._execution.weights[: self._n_orders], -cap, cap)
        return _read_only(weights * self._scales[:, None])

    @cached_property
    def gross_exposure(self) -> FloatArray:
        """Sum of absolute market values over equity, after trading; NaN on the bar of ruin."""
        return self._exposure(self._execution.path.long - self._execution.path.short)

    @cached_property
    def net_exposure(self) -> FloatArray:
        """Sum of signed market values over equity, after trading; NaN on the bar of ruin."""
        return self._exposure(self._execution.path.long + self._execution.path.short)

    @cached_property
    def turnover(self) -> FloatArray:
        """Sum of absolute traded values over the equity before the trade."""
        equity, traded, _ = self._events
        return self._per_bar(traded / equity)

    @cached_property
    def cost(self) -> FloatArray:
        """Trading costs of each bar, in currency."""
        traded = self._events[1]
        return self._per_bar(self.settings.cost_rate * traded)

    def trades(self) -> Trades:
        """Work out the single trades."""
        orders, path = self._execution.orders, self._execution.path
        equity, traded, _ = self._events
        held = np.concatenate(([0.0], self._amounts))[: self._n_orders]
        values = self._amounts[:, None] * orders.targets[: self._n_orders]
        values -= held[:, None] * path.drifted[: self._n_orders]
        threshold = TRADE_THRESHOLD * equity[: self._n_orders]
        order, bought = np.nonzero(np.abs(values) > threshold[:, None])
        ended = np.flatnonzero(traded[self._n_orders :])
        sold = path.sale_assets[ended]
        bar = np.concatenate((orders.bars[order], path.sale_bars[ended]))
        # Stable: on one bar, orders stand before what is sold at its close.
        sequence = np.argsort(bar, kind="stable")
        value = np.concatenate(
            (
                values[order, bought],
                -self._amounts[path.sale_orders[ended]] * path.sale_values[ended],
            )
        )
        price = np.concatenate(
            (
                self._execution.price[orders.bars[order], bought],
                self._execution.close[path.sale_bars[ended], sold],
            )
        )
        return Trades(
            bar=bar[sequence],
            asset=np.concatenate((bought, sold))[sequence],
            shares=(value / price)[sequence],
            price=price[sequence],
            value=value[sequence],
            cost=(self.settings.cost_rate * np.abs(value))[sequence],
        )

    @cached_property
    def _events(self) -> FloatArray:
        """Equity before each order and then each sale, the value traded, and the units then held.

        Shape (3, n_events).

        Computed again, which takes less time than to write it for every run of a batch.
        """
        events = self._execution.accounts([self.settings]).events
        first_sale = len(self._execution.orders.bars)
        return np.concatenate(
            (events[:, : self._n_orders], events[:, first_sale : first_sale + self._n_sales]),
            axis=1,
        )

    @cached_property
    def _scales(self) -> FloatArray:
        gross = self._execution.orders.gross[: self._n_orders]
        scales = np.ones(len(gross))
        np.divide(self.settings.max_gross_exposure, gross, out=scales, where=gross > 0)
        return np.minimum(scales, 1.0)

    @cached_property
    def _amounts(self) -> FloatArray:
        """Currency put into the targets of each order."""
        return self._events[2, : self._n_orders]

    @cached_property
    def _order_offsets(self) -> IntArray:
        return self._execution.orders.bars[: self._n_orders] - self.first_bar

    def _exposure(self, units: FloatArray) -> FloatArray:
        offsets = np.append(self._order_offsets, self.n_measured)
        amount = np.repeat(np.concatenate(([0.0], self._amounts)), np.diff(offsets, prepend=0))
        equity = self.equity
        if self.ruined_bar is not None:  # what is left then may be exactly nothing
            equity = equity.copy()
            equity[-1] = np.nan
        return _read_only(amount / equity * units[: self.n_measured])

    def _per_bar(self, events: FloatArray) -> FloatArray:
        total = np.zeros(self.n_measured)
        total[self._order_offsets] = events[: self._n_orders]
        offsets = self._execution.path.sale_bars[: self._n_sales] - self.first_bar
        np.add.at(total, offsets, events[self._n_orders :])
        return _read_only(total)


def _read_only(array: FloatArray) -> FloatArray:
    array.flags.writeable = False
    return array
