"""From weights and prices to the path of one unit of currency, in compiled loops.

:func:`size_orders` turns weights into the targets that can be traded, :func:`walk_prices` follows
one unit of currency put into each row of targets until the next row is executed. Both are called
once for all runs that share data, weights and execution; ``account_kernels.py`` does the rest.
The tests do the same in readable numpy, which the kernels match up to rounding.

Every sum is one sequential loop over assets or bars: its bits depend on nothing but its terms,
not on how many runs are computed together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.numbers import TRADE_THRESHOLD

_UnsignedArray = npt.NDArray[np.uint64]
_Function = TypeVar("_Function", bound=Callable[..., Any])

NOT_FINITE, NO_PRICE = 1, 2
"""Why orders cannot be sized: a weight is not a number, or a position cannot be priced."""


# IEEE semantics as written: no reordered sums, no threads. Nobody calls the kernels from C.
_OPTIONS: dict[str, Any] = {
    "cache": True,
    "error_model": "numpy",
    "nogil": True,
    "no_cfunc_wrapper": True,
}


def compiled(function: _Function) -> _Function:
    """Compile at the first call, and keep the machine code on disk.

    The code on disk is made anew only when the function's own file changes. So a compiled function
    calls only functions of its own file; and whoever changes a constant in ``numbers.py`` must also
    touch the files that use it.
    """
    return cast(_Function, njit(**_OPTIONS)(function))


class Orders(NamedTuple):
    """What is to be held from each execution on.

    Attributes
    ----------
    bars
        Bar of execution, shape (n_orders,).
    targets
        Weights after ``max_weight``, 0 where there is no price to trade at, shape
        (n_orders, n_assets).
    gross
        Sum of absolute weights after ``max_weight``, those without a price included.
    net
        Sum of ``targets``.
    untradable
        How many weights other than 0 were set aside because there is no price, or no membership,
        on the bar of execution.
    clipped
        How many weights ``max_weight`` made smaller.
    """

    bars: IntArray
    targets: FloatArray
    gross: FloatArray
    net: FloatArray
    untradable: IntArray
    clipped: IntArray


class UnitPath(NamedTuple):
    """How one unit of currency develops that is put into the targets of each order.

    Attributes
    ----------
    long, short
        Value of the longs and of the shorts (negative) at each measured close, after trading,
        shape (n_measured,).
    drifted
        Value of each holding just before each order, at the order's prices, shape
        (n_orders, n_assets).
    drifted_net
        Sum of ``drifted`` over assets.
    kept
        1 where an order asks for the holdings as they are, each with its share of the whole, else
        0.
    sale_bars, sale_assets, sale_orders
        Series, and memberships, that end while held: last bar, asset, and the order that opened the
        position, by bar; shape (n_sales,).
    sale_values
        Value of the holding at the close of that bar.
    """

    long: FloatArray
    short: FloatArray
    drifted: FloatArray
    drifted_net: FloatArray
    kept: IntArray
    sale_bars: IntArray
    sale_assets: IntArray
    sale_orders: IntArray
    sale_values: FloatArray


class RoundTrips(NamedTuple):
    """Where positions are closed: the same for every run, except for what the trips earn.

    A round trip begins where a symbol leaves 0 or changes its sign, and ends where it is back at 0
    or changes its sign. Weights up to TRADE_THRESHOLD are 0.

    Attributes
    ----------
    starts
        Where the closings of each order begin in ``assets``, shape (n_orders + 1,).
    assets
        The assets whose positions are closed, shape (n_closings,).
    held_bars
        Bars from entry to exit, summed over the positions closed before each order, shape
        (n_orders + 1,).
    sold_after_bars
        Bars from entry to exit of each series that ends while held, -1 where its weight was 0;
        shape (n_sales,).
    """

    starts: IntArray
    assets: IntArray
    held_bars: IntArray
    sold_after_bars: IntArray


@compiled
def _first_not_finite(weights: FloatArray, first_row: int) -> tuple[int, int, int]:
    for row in range(first_row, weights.shape[0]):
        for asset in range(weights.shape[1]):
            if not np.isfinite(weights[row, asset]):
                return NOT_FINITE, row, asset
    return 0, 0, 0


@compiled
def _some_end(last_bars: IntArray, n_bars: int) -> bool:
    for row in range(last_bars.shape[0]):
        for asset in range(last_bars.shape[1]):
            if last_bars[row, asset] < n_bars:
                return True
    return False


@compiled
def _most_sales(targets: FloatArray, bars: IntArray, last_bars: IntArray, n_bars: int) -> int:
    """Return the largest number of positions that can be sold between orders."""
    n_orders, n_assets = targets.shape
    if len(last_bars) <= 1:
        return int(n_assets)
    most = 0
    for order in range(n_orders):
        end = bars[order + 1] if order + 1 < n_orders else n_bars
        for asset in range(n_assets):
            if targets[order, asset] != 0.0 and last_bars[order, asset] < end:
                most += 1
    return most


@compiled
def size_orders(
    weights: FloatArray,
    price: FloatArray,
    close: FloatArray,
    bars: IntArray,
    last_bars: IntArray,
    max_weight: float,
    at_close: bool,
    targets: FloatArray,
) -> tuple[Orders, tuple[int, int, int]]:
    """Clip the weights, and set aside those that cannot be traded.

    Parameters
    ----------
    weights
        Weights, shape (n_rows, n_assets); rows from ``len(bars)`` on are only checked.
    price, close
        Prices of execution and closing prices, shape (n_bars, n_assets).
    bars
        Bar on which each row is executed, shape (n_orders,).
    last_bars
        Last bar on which each asset may be held from each order on: the end of its series or of its
        membership, ``n_bars`` where neither ends. It lies before the bar of execution where the
        asset may not be bought. Shape (n_orders, n_assets), or (1, n_assets) where it is the same
        for all orders.
    max_weight
        Cap on absolute weights; infinity for none.
    at_close
        Whether orders are executed at the close.
    targets
        Filled, and part of the result: shape (n_orders, n_assets).

    Returns
    -------
    orders : Orders
    fault : tuple of (reason, row, asset)
        The reason is NOT_FINITE, NO_PRICE, or 0 when there is none.
    """
    n_assets = weights.shape[1]
    n_orders = len(bars)
    gross = np.empty(n_orders)
    net = np.empty(n_orders)
    untradable = np.zeros(n_orders, np.int64)
    clipped = np.zeros(n_orders, np.int64)
    orders = Orders(bars, targets, gross, net, untradable, clipped)
    # A weight that exceeds the cap by rounding alone does not count as clipped.
    largest = max_weight * (1.0 + TRADE_THRESHOLD)
    some_end = _some_end(last_bars, len(close))
    own = np.int64(len(last_bars) > 1)
    for order in range(n_orders):
        bar = bars[order]
        if max_weight < np.inf:
            for asset in range(n_assets):
                clipped[order] += abs(weights[order, asset]) > largest
        total = 0.0
        # These two are NaN where a weight is not finite, or a price is missing.
        weights_sum = 0.0
        prices_sum = 0.0
        for asset in range(n_assets):
            weight = weights[order, asset]
            weights_sum += weight * 0.0
            weight = max_weight if weight > max_weight else weight
            weight = -max_weight if weight < -max_weight else weight
            targets[order, asset] = weight
            total += abs(weight)
            prices_sum += price[bar, asset]
        gross[order] = total
        if np.isnan(weights_sum):
            return orders, _first_not_finite(weights, order)
        if not at_close:
            for asset in range(n_assets):
                prices_sum += close[bar, asset]
        if some_end or np.isnan(prices_sum):
            for asset in range(n_assets):
                last = last_bars[own * order, asset]
                priced = not (np.isnan(price[bar, asset]) or np.isnan(close[bar, asset]))
                held = order > 0 and targets[order - 1, asset] != 0.0
                if held and not priced and last_bars[own * (order - 1), asset] >= bar:
                    return orders, (NO_PRICE, order, asset)
                # A position bought and sold at the same close would only be charged twice. At a
                # price of 0, which a total loss leaves, there is no number of shares.
                if (
                    not priced
                    or last < bar
                    or (at_close and last == bar)
                    or price[bar, asset] == 0.0
                ):
                    untradable[order] += targets[order, asset] != 0.0
                    targets[order, asset] = 0.0
        total = 0.0
        for asset in range(n_assets):
            total += targets[order, asset]
        net[order] = total
    return orders, _first_not_finite(weights, n_orders)


@compiled
def _hold(
    close: FloatArray,
    assets: _UnsignedArray,
    units: FloatArray,
    n_held: int,
    start: int,
    stop: int,
    first_bar: int,
    value: FloatArray,
) -> None:
    # Four bars at a time keep the processor busy; each has its own sum over assets.
    fours = stop - (stop - start) % 4
    for bar in range(start, fours, 4):
        a = b = c = d = 0.0
        for i in range(n_held):
            a += units[i] * close[bar, assets[i]]
            b += units[i] * close[bar + 1, assets[i]]
            c += units[i] * close[bar + 2, assets[i]]
            d += units[i] * close[bar + 3, assets[i]]
        first = bar - first_bar
        value[first] = a
        value[first + 1] = b
        value[first + 2] = c
        value[first + 3] = d
    for bar in range(fours, stop):
        total = 0.0
        for i in range(n_held):
            total += units[i] * close[bar, assets[i]]
        value[bar - first_bar] = total


@compiled
def _drop_ended(
    assets: _UnsignedArray, units: FloatArray, n_held: int, last_bars: IntArray, bar: int
) -> int:
    n_kept = 0
    for i in range(n_held):
        if last_bars[assets[i]] != bar:
            assets[n_kept] = assets[i]
            units[n_kept] = units[i]
            n_kept += 1
    return n_kept


@compiled
def _drift(
    price: FloatArray,
    assets: _UnsignedArray,
    units: FloatArray,
    n_held: int,
    bar: int,
    drifted: FloatArray,
) -> float:
    total = 0.0
    for i in range(n_held):
        value = units[i] * price[bar, assets[i]]
        drifted[assets[i]] = value
        total += value
    return total


@compiled
def _is_kept(targets: FloatArray, net: float, drifted: FloatArray, drifted_net: float) -> bool:
    if not (net > 0.0 and drifted_net > 0.0):
        return False
    units = drifted_net / net
    threshold = TRADE_THRESHOLD * drifted_net
    for asset in range(len(targets)):
        if abs(units * targets[asset] - drifted[asset]) > threshold:
            return False
    return True


@compiled
def walk_prices(
    orders: Orders,
    price: FloatArray,
    close: FloatArray,
    last_bars: IntArray,
    first_bar: int,
    at_close: bool,
    drifted: FloatArray,
    long: FloatArray,
    short: FloatArray,
) -> UnitPath:
    """Follow one unit of currency put into each row of targets until the next is executed.

    Parameters
    ----------
    orders
        As :func:`size_orders` returns them.
    price, close, last_bars
        As for :func:`size_orders`.
    first_bar
        The first measured bar.
    at_close
        Whether orders are executed at the close.
    drifted, long, short
        Filled, and part of the result: shapes (n_orders, n_assets), (n_measured,), (n_measured,).
    """
    n_bars, n_assets = close.shape
    n_orders = len(orders.bars)
    targets = orders.targets
    for bar in range(len(long)):
        long[bar] = 0.0
        short[bar] = 0.0
    for order in range(n_orders):
        for asset in range(n_assets):
            drifted[order, asset] = 0.0
    drifted_net = np.zeros(n_orders)
    kept = np.zeros(n_orders, np.int64)
    most_sales = _most_sales(targets, orders.bars, last_bars, n_bars)
    sale_bars = np.empty(most_sales, np.int64)
    sale_assets = np.empty(most_sales, np.int64)
    sale_orders = np.empty(most_sales, np.int64)
    sale_values = np.empty(most_sales)
    n_sales = 0
    some_end = _some_end(last_bars, n_bars)
    own = np.int64(len(last_bars) > 1)
    # Longs and shorts are kept apart, so that each sum runs over its own part. They are unsigned,
    # as an index that may be negative takes one more check.
    longs = np.empty(n_assets, np.uint64)
    shorts = np.empty(n_assets, np.uint64)
    long_units = np.empty(n_assets)
    short_units = np.empty(n_assets)
    for order in range(n_orders):
        start = orders.bars[order]
        end = orders.bars[order + 1] if order + 1 < n_orders else n_bars
        ends = last_bars[own * order]
        # As plain literals these would compile the inner functions once more.
        n_long = int(np.int64(0))
        n_short = int(np.int64(0))
        long_total = short_total = 0.0
        for asset in range(n_assets):
            target = targets[order, asset]
            if target > 0.0:
                long_total += target
                longs[n_long] = asset
                long_units[n_long] = target / price[start, asset]
                n_long += 1
            elif target < 0.0:
                short_total += target
                shorts[n_short] = asset
                short_units[n_short] = target / price[start, asset]
                n_short += 1
        bar = start
        if at_close:
            long[bar - first_bar] = long_total
            short[bar - first_bar] = short_total
            bar += 1
        while bar < end:
            stop = end
            if some_end:
                for i in range(n_long):
                    stop = min(stop, ends[longs[i]])
                for i in range(n_short):
                    stop = min(stop, ends[shorts[i]])
            _hold(close, longs, long_units, n_long, bar, stop, first_bar, long)
            if n_short > 0:
                _hold(close, shorts, short_units, n_short, bar, stop, first_bar, short)
            bar = stop
            if stop == end:
                break
            for asset in range(n_assets):
                if ends[asset] == stop and targets[order, asset] != 0.0:
                    sale_bars[n_sales] = stop
                    sale_assets[n_sales] = asset
                    sale_orders[n_sales] = order
                    units = targets[order, asset] / price[start, asset]
                    sale_values[n_sales] = units * close[stop, asset]
                    n_sales += 1
            n_long = _drop_ended(longs, long_units, n_long, ends, stop)
            n_short = _drop_ended(shorts, short_units, n_short, ends, stop)
        if order + 1 < n_orders:
            drifted_net[order + 1] = _drift(
                price, longs, long_units, n_long, end, drifted[order + 1]
            ) + _drift(price, shorts, short_units, n_short, end, drifted[order + 1])
            kept[order + 1] = _is_kept(
                targets[order + 1],
                orders.net[order + 1],
                drifted[order + 1],
                drifted_net[order + 1],
            )
    return UnitPath(
        long,
        short,
        drifted,
        drifted_net,
        kept,
        sale_bars[:n_sales],
        sale_assets[:n_sales],
        sale_orders[:n_sales],
        sale_values[:n_sales],
    )


@compiled
def find_round_trips(orders: Orders, path: UnitPath, assets: IntArray) -> RoundTrips:
    """Return where positions are closed.

    Parameters
    ----------
    orders, path
        As :func:`size_orders` and :func:`walk_prices` return them.
    assets
        Filled; its first part belongs to the result. It needs room for n_orders * n_assets + 1,
        since one entry may be written that is not used.
    """
    n_orders, n_assets = orders.targets.shape
    starts = np.zeros(n_orders + 1, np.int64)
    held_bars = np.zeros(n_orders + 1, np.int64)
    sold_after_bars = np.empty(len(path.sale_bars), np.int64)
    sides = np.zeros(n_assets, np.int64)
    entries = np.zeros(n_assets, np.int64)
    closes = np.zeros(n_assets, np.int64)
    found = np.uint64(0)  # unsigned, as above
    sale = int(np.int64(0))
    for order in range(n_orders):
        bar = orders.bars[order]
        weights = orders.targets[order]
        held = int(np.int64(0))
        # Without branches: the processor cannot predict whether a position is closed.
        for asset in range(n_assets):
            weight = weights[asset]
            side = np.int64(weight > TRADE_THRESHOLD) - np.int64(weight < -TRADE_THRESHOLD)
            changed = np.int64(side != sides[asset])
            closed = changed * np.int64(sides[asset] != 0)
            since = bar - entries[asset]
            held += since * closed
            closes[asset] = closed
            sides[asset] = side
            entries[asset] += since * changed
        for asset in range(n_assets):
            assets[found] = asset
            found += np.uint64(closes[asset])
        starts[order + 1] = np.int64(found)
        held_bars[order + 1] = held_bars[order] + held
        while sale < len(path.sale_bars) and path.sale_orders[sale] == order:
            asset = path.sale_assets[sale]
            after = path.sale_bars[sale] - entries[asset]
            sold_after_bars[sale] = after if sides[asset] != 0 else -1
            sides[asset] = 0
            sale += 1
    return RoundTrips(starts, assets[:found], held_bars, sold_after_bars)
