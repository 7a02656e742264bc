"""The part of a simulation that runs with the same data, weights and execution share."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from backtest_batch.engine.arrays import kernel_input
from backtest_batch.engine.calendar import year_fractions
from backtest_batch.engine.settings import SimulationSettings
from backtest_batch.errors import DataError, StrategyError
from backtest_batch.market.panel import FloatArray, IntArray, Panel

if TYPE_CHECKING:
    from backtest_batch.engine.kernels import Orders, RoundTrips, UnitPath


class Accounts(NamedTuple):
    """The accounts of several runs, a row for each; see ``account_kernels.run_accounts``."""

    equity: FloatArray
    events: FloatArray
    totals: FloatArray
    counts: IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Execution:
    """What runs with the same data, weights and execution have in common.

    Attributes
    ----------
    price, close
        Prices of execution and closing prices, shape (n_bars, n_assets).
    first_bar
        The first measured bar.
    index
        Timestamps of the bars, shape (n_bars,).
    decision_bars
        Bar of decision of each order, shape (n_orders,).
    weights
        Weights as the strategy gave them, one row an order, shape (n_orders, n_assets).
    max_weight
        Cap on absolute weights; infinity for none.
    orders
        What is to be held from each execution on.
    path
        What becomes of one unit of currency.
    trips
        Where positions are closed.
    """

    price: FloatArray
    close: FloatArray
    first_bar: int
    index: pd.DatetimeIndex
    decision_bars: IntArray
    weights: FloatArray
    max_weight: float
    orders: "Orders"
    path: "UnitPath"
    trips: "RoundTrips"

    @cached_property
    def years(self) -> FloatArray:
        """Time since the bar before, in years, 0 for the first; shape (n_measured,)."""
        return year_fractions(self.index[self.first_bar :])

    def accounts(self, settings: Sequence[SimulationSettings]) -> Accounts:
        """Follow one account under each of ``settings``."""
        from backtest_batch.engine import account_kernels

        conditions = np.array(
            [
                (
                    item.initial_capital,
                    item.max_gross_exposure,
                    item.cost_rate,
                    item.cash_rate,
                    item.borrow_rate,
                    item.short_fee_rate,
                )
                for item in settings
            ],
            dtype=np.float64,
        )
        n_events = len(self.orders.bars) + len(self.path.sale_bars)
        accounts = Accounts(
            equity=np.empty((len(settings), len(self.path.long))),
            events=np.empty((3, n_events)),
            totals=np.empty((len(settings), 8)),
            counts=np.empty((len(settings), 9), dtype=np.int64),
        )
        # Without rates the time between bars is never read.
        years = self.years if any(item.accrues_interest for item in settings) else np.empty(0)
        account_kernels.run_accounts(
            self.orders, self.path, self.trips, self.first_bar, years, conditions, *accounts
        )
        for array in accounts:
            array.flags.writeable = False
        return accounts


def execute(
    panel: Panel,
    decisions: IntArray,
    weights: FloatArray,
    first_bar: int,
    *,
    max_weight: float,
    execution_lag: int,
    execution_price: str,
) -> Execution:
    """Work out what is held from each execution on, and what becomes of it.

    Parameters
    ----------
    panel
        Prices of shape (n_bars, n_assets).
    decisions, weights
        Bars and weights of the decisions, those before ``first_bar`` included.
    first_bar
        The first measured bar.
    max_weight
        Cap on absolute weights; infinity for none.
    execution_lag, execution_price
        When and at which price orders are executed.

    Raises
    ------
    StrategyError
        When a weight decided at or after ``first_bar`` is not finite.
    DataError
        When a position cannot be priced on a bar on which it is to be traded.
    """
    # Numba takes a quarter of a second to import; who only reads names and settings is spared.
    from backtest_batch.engine import kernels

    if execution_price not in panel.fields:
        raise DataError(
            f"execution_price={execution_price} needs {execution_price} prices, but the data has "
            f"only: {', '.join(panel.fields)}."
        )
    at_close = execution_price == "close"
    close = kernel_input(panel.fields["close"])
    price = kernel_input(panel.fields[execution_price])
    last_bars = _last_bars(close)
    traded_from = int(np.searchsorted(decisions, first_bar))
    decisions, weights = decisions[traded_from:], weights[traded_from:]
    bars = decisions + execution_lag
    bars = bars[bars < panel.n_bars]
    n_measured = panel.n_bars - first_bar
    n_weights = len(bars) * panel.n_assets
    targets, drifted, long, short, closings = _workspace(
        (len(bars), panel.n_assets),
        (len(bars), panel.n_assets),
        (n_measured,),
        (n_measured,),
        (n_weights + 1,),
    )
    orders, (reason, row, asset) = kernels.size_orders(
        weights, price, close, bars, last_bars, max_weight, at_close, targets
    )
    if reason == kernels.NOT_FINITE:
        raise StrategyError(
            f"target weights must be finite, but the weight of {panel.symbols[asset]} decided at "
            f"{panel.index[decisions[row]]} is {weights[row, asset]}."
        )
    if reason == kernels.NO_PRICE:
        raise DataError(
            f"a position can only be traded at a price, but {panel.symbols[asset]} is held and "
            f"has no {execution_price} price at {panel.index[bars[row]]}."
        )
    path = kernels.walk_prices(
        orders, price, close, last_bars, first_bar, at_close, drifted, long, short
    )
    return Execution(
        price=price,
        close=close,
        first_bar=first_bar,
        index=panel.index,
        decision_bars=decisions[: len(bars)],
        weights=weights[: len(bars)],
        max_weight=max_weight,
        orders=orders,
        path=path,
        trips=kernels.find_round_trips(orders, path, closings.view(np.int64)),
    )


def _workspace(*shapes: tuple[int, ...]) -> list[FloatArray]:
    """Return empty arrays that lie in one block of memory.

    An allocator returns many small arrays to the system and asks for them again, page by page;
    that takes longer than the simulation of a run. One block stays.
    """
    sizes = [math.prod(shape) for shape in shapes]
    block = np.empty(sum(sizes))
    starts = itertools.accumulate(sizes, initial=0)
    return [
        block[start : start + size].reshape(shape)
        for start, size, shape in zip(starts, sizes, shapes, strict=False)
    ]


def _last_bars(close: FloatArray) -> IntArray:
    """Return the bar on which each series ends: ``n_bars`` where it does not, -1 without prices."""
    n_bars, n_assets = close.shape
    last = np.full(n_assets, n_bars, dtype=np.int64)
    for asset in np.flatnonzero(np.isnan(close[-1])):
        priced = np.flatnonzero(~np.isnan(close[:, asset]))
        last[asset] = priced[-1] if len(priced) else -1
    return last
