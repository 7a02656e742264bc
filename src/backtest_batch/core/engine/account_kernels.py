"""From the path of one unit of currency to the account of each run, in compiled loops.

A run holds ``amount`` times the unit of
:class:`~backtest_batch.core.engine.kernels.UnitPath`, so its account loops over assets only where
it trades: O(bars + orders * assets) per run.
"""

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.engine.kernels import Orders, RoundTrips, UnitPath, compiled
from backtest_batch.core.numbers import DUST, ROUNDING, TRADE_THRESHOLD

GROSS, NET, MAX_GROSS, TURNOVER, COST, COST_RATIO, GAINED, LOST = range(8)
"""Columns of ``totals``: sums of gross and net exposure, the largest gross exposure, sums of
turnover, of cost, and of cost over the equity of the bar before; what round trips gained and lost,
each at least 0."""

BARS, ORDERS, SALES, TRADES, RUINED, SCALED, TRIPS, WINS, HELD_BARS = range(9)
"""Columns of ``counts``; RUINED is 0 or 1. SCALED are the orders that a cap made smaller; TRIPS the
round trips, WINS those that gained, HELD_BARS the bars of all of them."""

BEFORE, TRADED, AMOUNT = range(3)
"""Rows of ``events``: equity before, the value traded, and the units then held."""


@compiled
def _spent_at(cash: float) -> float:
    """Return the value of positions at and below which nothing is left of ``cash + value``.

    ``cash + value <= ROUNDING * (|cash| + |value|)`` solved for ``value``, which has the sign
    opposite to that of ``cash``.
    """
    left, right = 1.0 - ROUNDING, 1.0 + ROUNDING
    return -cash * (left / right if cash > 0.0 else right / left)


@compiled
def _hold(
    long: FloatArray,
    short: FloatArray,
    cash: float,
    amount: float,
    start: int,
    stop: int,
    worth: FloatArray,
) -> int:
    """Mark the bars up to ``stop``; return the first one on which nothing is left, or ``stop``."""
    spent_at = _spent_at(cash)
    for bar in range(start, stop):
        value = amount * (long[bar] + short[bar])
        worth[bar] = cash + value
        if value <= spent_at:
            return bar
    return stop


@compiled
def _accrue(cash: float, shorted: float, years: float, rates: tuple[float, float, float]) -> float:
    cash_rate, borrow_rate, short_fee_rate = rates
    interest = cash * (cash_rate if cash > 0.0 else borrow_rate)
    return cash + (interest + shorted * short_fee_rate) * years


@compiled
def _hold_with_interest(
    long: FloatArray,
    short: FloatArray,
    years: FloatArray,
    rates: tuple[float, float, float],
    cash: float,
    amount: float,
    start: int,
    stop: int,
    worth: FloatArray,
) -> tuple[int, float]:
    """Do the same as ``_hold``, but with interest added first; return the cash as well."""
    for bar in range(start, stop):
        # Nothing is held before bar 0, and no time has passed.
        shorted = amount * short[bar - 1] if bar > 0 else 0.0
        cash = _accrue(cash, shorted, years[bar], rates)
        value = amount * (long[bar] + short[bar])
        worth[bar] = cash + value
        if value <= _spent_at(cash):
            return bar, cash
    return stop, cash


@compiled
def _add_exposures(
    long: FloatArray,
    short: FloatArray,
    amount: float,
    start: int,
    stop: int,
    worth: FloatArray,
    totals: FloatArray,
) -> None:
    gross_sum = net_sum = largest = 0.0
    for bar in range(start, stop):
        units = amount / worth[bar]
        gross = units * (long[bar] - short[bar])
        gross_sum += gross
        largest = gross if gross > largest else largest
        net_sum += units * (long[bar] + short[bar])
    totals[GROSS] += gross_sum
    totals[NET] += net_sum
    totals[MAX_GROSS] = max(totals[MAX_GROSS], largest)


@compiled
def _charge(
    traded: float, before: float, previous: float, rate: float, totals: FloatArray
) -> float:
    cost = rate * traded
    totals[TURNOVER] += traded / before
    totals[COST] += cost
    totals[COST_RATIO] += cost / previous
    return cost


@compiled
def _execute(
    targets: FloatArray,
    drifted: FloatArray,
    order: int,
    held: float,
    before: float,
    wanted: float,
    rate: float,
    values: FloatArray,
    paid: FloatArray,
) -> tuple[float, int]:
    """Trade from ``held`` units of the last order to ``wanted`` units of this one.

    Returns the value of the trades and their number. The value of each symbol's trade is written to
    ``values``, and ``paid`` is kept at what its position has cost, less what it has brought in.
    """
    threshold = TRADE_THRESHOLD * before
    for asset in range(len(values)):
        change = wanted * targets[order, asset] - held * drifted[order, asset]
        value = abs(change)
        value = value if value > threshold else 0.0
        values[asset] = value
        paid[asset] += change + rate * value
    traded = 0.0
    n_trades = 0
    for asset in range(len(values)):
        traded += values[asset]
        n_trades += values[asset] > 0.0
    return traded, n_trades


@compiled
def _end_trips(
    assets: IntArray,
    first: int,
    stop: int,
    targets: FloatArray,
    order: int,
    wanted: float,
    before: float,
    rate: float,
    paid: FloatArray,
) -> tuple[int, float, float]:
    """End the round trips that an order closes; return how many won, and total gain and loss."""
    n_wins = 0
    gained = lost = 0.0
    for i in range(first, stop):
        asset = assets[i]
        # Where the sign changes, a part of the trade and its cost belongs to the new position.
        opened = wanted * targets[order, asset]
        opened += rate * abs(opened)
        gain = opened - paid[asset]
        paid[asset] = opened
        # Rounding is neither a gain nor a loss.
        n_wins += gain > ROUNDING * before
        gained += gain if gain > ROUNDING * before else 0.0
        lost -= gain if gain < -ROUNDING * before else 0.0
    return n_wins, gained, lost


@compiled
def _sell_ended(
    path: UnitPath,
    sold_after_bars: IntArray,
    first_sale: int,
    sale: int,
    amount: float,
    before: float,
    rate: float,
    events: FloatArray,
    paid: FloatArray,
    total: FloatArray,
    count: IntArray,
) -> tuple[float, int]:
    """Sell the series that end on this bar; return the value of the trades and their number."""
    first_event = events.shape[1] - len(path.sale_values)
    traded = 0.0
    n_trades = 0
    for i in range(first_sale, sale):
        brought = amount * path.sale_values[i]
        value = abs(brought)
        value = value if value > TRADE_THRESHOLD * before else 0.0
        traded += value
        n_trades += value > 0.0
        events[BEFORE, first_event + i] = before
        events[TRADED, first_event + i] = value
        events[AMOUNT, first_event + i] = amount
        asset = path.sale_assets[i]
        gain = brought - rate * value - paid[asset]
        paid[asset] = 0.0
        if sold_after_bars[i] >= 0:
            count[TRIPS] += 1
            count[HELD_BARS] += sold_after_bars[i]
            count[WINS] += gain > ROUNDING * before
            total[GAINED] += gain if gain > ROUNDING * before else 0.0
            total[LOST] -= gain if gain < -ROUNDING * before else 0.0
    return traded, n_trades


@compiled
def run_accounts(
    orders: Orders,
    path: UnitPath,
    trips: RoundTrips,
    first_bar: int,
    years: FloatArray,
    conditions: FloatArray,
    equity: FloatArray,
    events: FloatArray,
    totals: FloatArray,
    counts: IntArray,
) -> None:
    """Follow the account of each run over the measured bars.

    Parameters
    ----------
    orders, path, trips
        What the runs have in common.
    first_bar
        The first measured bar.
    years
        Time since the bar before, in years, 0 for the first, shape (n_measured,).
    conditions
        A row for each run: initial_capital, max_gross_exposure, cost rate, cash_rate, borrow_rate,
        short_fee_rate.
    equity
        Filled, shape (n_runs, n_measured).
    events
        Filled for the last run, a column for each order and then for each sale, shape
        (3, n_orders + n_sales).
    totals, counts
        Filled, a row for each run. Rows and columns are named above.
    """
    n_runs, n_measured = equity.shape
    n_orders = len(orders.bars)
    n_sales = len(path.sale_bars)
    # Unpacked: passing the tuples to inner functions costs more than the functions themselves.
    long, short = path.long, path.short
    targets, drifted = orders.targets, path.drifted
    values = np.empty(targets.shape[1])
    paid = np.empty(targets.shape[1])
    for run in range(n_runs):
        capital, cap, rate, cash_rate, borrow_rate, short_fee_rate = conditions[run]
        rates = (cash_rate, borrow_rate, short_fee_rate)
        accrues = cash_rate != 0.0 or borrow_rate != 0.0 or short_fee_rate != 0.0
        worth = equity[run]
        total, count = totals[run], counts[run]
        for column in range(len(total)):
            total[column] = 0.0
        for column in range(len(count)):
            count[column] = 0
        for asset in range(len(paid)):
            paid[asset] = 0.0
        cash = capital
        amount = 0.0
        # As plain literals these would compile the inner functions once more.
        order = int(np.int64(0))
        sale = int(np.int64(0))
        n_trades = 0
        # The same amount is invested since `held_from`; from `bar` on, bars are not yet valued.
        held_from = int(np.int64(0))
        bar = int(np.int64(0))
        ruined = False
        while True:
            event = n_measured
            if order < n_orders:
                event = min(event, orders.bars[order] - first_bar)
            if sale < n_sales:
                event = min(event, path.sale_bars[sale] - first_bar)
            if bar < event and accrues:
                bar, cash = _hold_with_interest(
                    long, short, years, rates, cash, amount, bar, event, worth
                )
            elif bar < event:
                bar = _hold(long, short, cash, amount, bar, event, worth)
            _add_exposures(long, short, amount, held_from, bar, worth, total)
            if bar < event:
                ruined = True
                worth[bar] = min(worth[bar], 0.0)
                break
            if bar == n_measured:
                break
            held_from = bar
            previous = worth[bar - 1] if bar > 0 else capital
            if accrues and bar > 0:
                cash = _accrue(cash, amount * short[bar - 1], years[bar], rates)
            if order < n_orders and orders.bars[order] - first_bar == bar:
                value = amount * path.drifted_net[order]
                ruined = value <= _spent_at(cash)
                if not ruined:
                    before = cash + value
                    gross = orders.gross[order]
                    wanted = before * min(1.0, cap / gross) if gross > 0.0 else 0.0
                    net = orders.net[order]
                    missing = value - before
                    if (
                        path.kept[order] != 0
                        and 0.0 < missing <= DUST * value
                        and abs(wanted * net - before) <= TRADE_THRESHOLD * before
                    ):
                        # The order leaves no cash, and cash is short only by what costs took.
                        wanted = value / net
                    traded, n_traded = _execute(
                        targets, drifted, order, amount, before, wanted, rate, values, paid
                    )
                    won, gained, lost = _end_trips(
                        trips.assets,
                        trips.starts[order],
                        trips.starts[order + 1],
                        targets,
                        order,
                        wanted,
                        before,
                        rate,
                        paid,
                    )
                    count[WINS] += won
                    total[GAINED] += gained
                    total[LOST] += lost
                    events[BEFORE, order] = before
                    events[TRADED, order] = traded
                    events[AMOUNT, order] = wanted
                    count[SCALED] += orders.clipped[order] > 0 or gross > cap * (
                        1.0 + TRADE_THRESHOLD
                    )
                    amount = wanted
                    value = amount * orders.net[order]
                    cash = before - value - _charge(traded, before, previous, rate, total)
                    n_trades += n_traded
                    order += 1
                    ruined = value <= _spent_at(cash)
            if not ruined and sale < n_sales and path.sale_bars[sale] - first_bar == bar:
                n_ended = 0
                sold = 0.0
                while (
                    sale + n_ended < n_sales and path.sale_bars[sale + n_ended] - first_bar == bar
                ):
                    sold += amount * path.sale_values[sale + n_ended]
                    n_ended += 1
                value = amount * (long[bar] + short[bar]) + sold
                ruined = value <= _spent_at(cash)
                if not ruined:
                    before = cash + value
                    traded, n_traded = _sell_ended(
                        path,
                        trips.sold_after_bars,
                        sale,
                        sale + n_ended,
                        amount,
                        before,
                        rate,
                        events,
                        paid,
                        total,
                        count,
                    )
                    cash += sold - _charge(traded, before, previous, rate, total)
                    n_trades += n_traded
                    sale += n_ended
            if not ruined:
                value = amount * (long[bar] + short[bar])
                ruined = value <= _spent_at(cash)
            worth[bar] = min(cash + value, 0.0) if ruined else cash + value
            if bar == 0:
                # What happens on the first measured bar shows in the return of the second.
                worth[bar] = capital
            if ruined:
                break
            bar += 1
        count[TRIPS] += trips.starts[order]
        count[HELD_BARS] += trips.held_bars[order]
        count[BARS] = bar + ruined
        count[ORDERS] = order
        count[SALES] = sale
        count[TRADES] = n_trades
        count[RUINED] = ruined
