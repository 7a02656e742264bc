"""From target weights to accounts: conditions, orders, and how accounts develop bar by bar.

This is the public face of the kernels: :class:`SimulationSettings` are the conditions of a run,
:func:`simulate` is for one run, :func:`simulate_many` for runs that share signals.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.config.checks import checked, default
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.calendar import year_fractions
from backtest_batch.core.numbers import BASIS_POINT, TRADE_THRESHOLD, kernel_input
from backtest_batch.errors import DataError, StrategyError

if TYPE_CHECKING:
    from backtest_batch.core.engine.kernels import Orders, RoundTrips, UnitPath


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

    Each value is read and checked like the configuration key of its name, and has its default.

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
        Annual rates: earned on positive cash, paid on negative cash, and paid on the market value
        of shorts; ACT/365.
    execution_lag
        Bars from decision to execution, at least 0. With 0, a decision made with a bar's close is
        executed at that close.
    execution_price
        Trades execute at the ``close`` or at the ``open`` of their bar; at the open only at least
        one bar after the decision.

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
        given = {name: getattr(self, name) for name in SETTING_NAMES}
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
"""The caps of a benchmark, in place of those of the run."""


def simulation_settings(config: Mapping[str, Any]) -> SimulationSettings:
    """Return the settings of a run."""
    return SimulationSettings(**{name: config[name] for name in SETTING_NAMES})


def benchmark_settings(config: Mapping[str, Any]) -> SimulationSettings:
    """Return the settings of a run's benchmark: same costs, no leverage, no cap per symbol."""
    return simulation_settings({**config, **UNLEVERAGED})


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
        Weights as the strategy gave them, one row per order, shape (n_orders, n_assets).
    max_weight
        Cap on absolute weights; infinity for none.
    orders
        What is to be held from each execution on.
    path
        How one unit of currency develops.
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
        from backtest_batch.core.engine import account_kernels

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
    """Work out what is held from each execution on, and how its value develops.

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

    Notes
    -----
    Weights of assets that are not members at the bar of decision become 0. Weights of assets that
    are not members at the bar of execution are set aside, as they are where there is no price.
    """
    # Imported here: numba takes a quarter of a second, and names and settings do not need it.
    from backtest_batch.core.engine import kernels

    if execution_price not in panel.fields:
        raise DataError(
            f"execution_price={execution_price} needs {execution_price} prices, but the data has "
            f"only: {', '.join(panel.fields)}."
        )
    at_close = execution_price == "close"
    close = kernel_input(panel.fields["close"])
    price = kernel_input(panel.fields[execution_price])
    traded_from = int(np.searchsorted(decisions, first_bar))
    decisions, weights = decisions[traded_from:], weights[traded_from:]
    bars = decisions + execution_lag
    bars = bars[bars < panel.n_bars]
    last_bars, barred = _last_bars(close)[None], None
    if panel.members is not None:
        # A weight that is not a number stays, and is refused below.
        barred = ~panel.members[decisions] & (weights != 0.0) & np.isfinite(weights)
        weights = kernel_input(np.where(barred, 0.0, weights))
        last_bars = _last_member_bars(panel.members, decisions[: len(bars)], bars, last_bars)
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
    if barred is not None:
        orders.untradable[:] += np.count_nonzero(barred[: len(bars)], axis=1)
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
    that takes longer than the simulation of a run. One block is kept.
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


def _last_member_bars(
    members: BoolArray, decisions: IntArray, bars: IntArray, last_bars: IntArray
) -> IntArray:
    """Return the last bar on which each order's assets may be held, shape (n_orders, n_assets).

    That is the end of the membership, or of the series; -1 for an asset that is not a member at
    both the bar of decision and the bar of execution.
    """
    found = np.full((max(len(bars), 1), members.shape[1]), -1, dtype=np.int64)
    allowed = members[decisions] & members[bars]
    for asset in range(members.shape[1]):
        barred = np.append(np.flatnonzero(~members[:, asset]), len(members) + 1)
        last = barred[np.searchsorted(barred, bars)] - 1
        rows = np.flatnonzero(allowed[:, asset])
        found[rows, asset] = np.minimum(last[rows], last_bars[0, asset])
    return found


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
    """The round trips of one account: from 0, or a change of sign, to the next of either.

    Positions that are open at the end are not counted.

    Attributes
    ----------
    n_trips, n_wins
        How many there are, and how many gained after their costs of trading.
    held_bars
        Sum of the bars from entry to exit.
    gained, lost
        What they gained and lost, in currency, each at least 0.
    """

    n_trips: float
    n_wins: float
    held_bars: float
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
        How many weights other than 0 had no price to trade at, or belonged to no member.
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

        Shape (n_traded, n_assets). Weights that had no price to trade at are given as they were
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
        """Work out the individual trades."""
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
        # Stable: on each bar, orders come before the sales at its close.
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
    def cost_ratio(self) -> FloatArray:
        """Costs over the equity of the bar before, which is that bar's own on the first one."""
        before = np.concatenate((self.equity[:1], self.equity[:-1]))
        return _read_only(self.cost / before)

    @cached_property
    def trade_counts(self) -> FloatArray:
        """Number of trades on each bar."""
        counts = np.bincount(self.trades().bar - self.first_bar, minlength=self.n_measured)
        return _read_only(counts.astype(np.float64))

    @cached_property
    def _events(self) -> FloatArray:
        """Equity before each order and then each sale, the value traded, and the units then held.

        Shape (3, n_events).

        Computed again when needed, which takes less time than writing it for every run of a batch.
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
        if self.ruined_bar is not None:  # equity may be exactly 0 on that bar
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


def simulate(
    panel: Panel,
    decisions: IntArray,
    weights: FloatArray,
    settings: SimulationSettings,
    first_bar: int = 0,
) -> Simulation:
    """Trade target weights under one set of conditions.

    The result is bit for bit the same as for this run within :func:`simulate_many`, and so are the
    parameters and errors.
    """
    return simulate_many(panel, decisions, weights, [settings], first_bar)[0]


def simulate_many(
    panel: Panel,
    decisions: IntArray,
    weights: FloatArray,
    settings: Sequence[SimulationSettings],
    first_bar: int = 0,
) -> list[Simulation]:
    """Trade the same target weights under several sets of conditions.

    Runs that differ only in costs, rates, capital and exposure share the work over assets.

    Parameters
    ----------
    panel
        Prices of shape (n_bars, n_assets).
    decisions
        Strictly increasing positions of the decision bars, shape (n_decisions,).
    weights
        Target weights as fractions of equity, negative for shorts, before any cap; shape
        (n_decisions, n_assets).
    settings
        The conditions of each run.
    first_bar
        The first measured bar. Decisions before it are not traded.

    Returns
    -------
    list of Simulation
        One for each of ``settings``, in their order.

    Raises
    ------
    StrategyError
        When the weights have another shape, or one at or after ``first_bar`` is not finite.
    DataError
        When a position cannot be priced on a bar on which it is to be traded.
    ValueError
        When ``decisions`` or ``first_bar`` lie outside the panel, or decisions do not increase.
    """
    first_bar = int(first_bar)
    decisions = _checked_decisions(panel, decisions, first_bar)
    rows = _checked_shape(panel, decisions, weights)
    groups: dict[tuple[float, int, str], list[int]] = {}
    for position, item in enumerate(settings):
        max_weight = math.inf if item.max_weight is None else float(item.max_weight)
        terms = (max_weight, item.execution_lag, item.execution_price)
        groups.setdefault(terms, []).append(position)
    simulations: dict[int, Simulation] = {}
    for (max_weight, lag, price), members in groups.items():
        execution = execute(
            panel,
            decisions,
            rows,
            first_bar,
            max_weight=max_weight,
            execution_lag=lag,
            execution_price=price,
        )
        accounts = execution.accounts([settings[position] for position in members])
        for run, position in enumerate(members):
            simulations[position] = _simulation(execution, settings[position], accounts, run)
    return [simulations[position] for position in range(len(settings))]


def _checked_decisions(panel: Panel, decisions: IntArray, first_bar: int) -> IntArray:
    if not 0 <= first_bar < panel.n_bars:
        raise ValueError(
            f"`0 <= first_bar < n_bars` must hold, but got first_bar={first_bar}, "
            f"n_bars={panel.n_bars}."
        )
    decisions = np.asarray(decisions, dtype=np.int64)
    if decisions.ndim != 1 or np.any(decisions[1:] <= decisions[:-1]):
        raise ValueError("decisions must be a strictly increasing list of bars.")
    if len(decisions) and not 0 <= decisions[0] <= decisions[-1] < panel.n_bars:
        raise ValueError(
            f"decisions must lie within the {panel.n_bars} bars of the panel, but range from "
            f"{decisions[0]} to {decisions[-1]}."
        )
    return decisions


def _checked_shape(panel: Panel, decisions: IntArray, weights: npt.ArrayLike) -> FloatArray:
    expected = (len(decisions), panel.n_assets)
    try:
        rows = kernel_input(weights)
    except (TypeError, ValueError) as error:
        raise StrategyError(f"target weights must be numbers, but {error}.") from error
    if rows.shape != expected:
        raise StrategyError(
            f"target weights must have shape (n_decisions, n_assets) = {expected}, "
            f"but got {rows.shape}."
        )
    return rows


def _simulation(
    execution: Execution, settings: SimulationSettings, accounts: Accounts, run: int
) -> Simulation:
    n_bars, n_orders, n_sales, n_trades, ruined, *counted = accounts.counts[run].tolist()
    n_scaled, n_trips, n_wins, held_bars = counted
    gross, net, max_gross, turnover, cost, cost_ratio, gained, lost = accounts.totals[run].tolist()
    return Simulation(
        settings=settings,
        first_bar=execution.first_bar,
        equity=accounts.equity[run, :n_bars],
        n_trades=n_trades,
        ruined_bar=execution.first_bar + n_bars - 1 if ruined else None,
        untradable_weights=int(execution.orders.untradable[:n_orders].sum()),
        scaled_decisions=n_scaled,
        trips=Trips(n_trips, n_wins, held_bars, gained, lost),
        totals=Totals(
            gross_exposure=gross,
            net_exposure=net,
            max_gross_exposure=max_gross,
            turnover=turnover,
            cost=cost,
            cost_ratio=cost_ratio,
            n_exposure_bars=n_bars - ruined,
        ),
        _execution=execution,
        _n_orders=n_orders,
        _n_sales=n_sales,
    )
