"""The simulation in readable numpy: the specification that the kernels are tested against.

One loop over bars, shares and cash as a broker would book them. It is slow on purpose: nothing is
shared, nothing is worked out in another way than it is said in ``docs/semantics.md``.
"""

from dataclasses import dataclass, field

import numpy as np

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.calendar import year_fractions
from backtest_batch.core.engine.simulation import SimulationSettings
from backtest_batch.core.numbers import DUST, ROUNDING, TRADE_THRESHOLD


@dataclass(frozen=True, kw_only=True)
class ReferenceTrade:
    """One trade; see :class:`backtest_batch.core.engine.simulation.Trades`."""

    bar: int
    asset: int
    shares: float
    price: float
    value: float
    cost: float


@dataclass(frozen=True, kw_only=True)
class ReferenceTrip:
    """One round trip: ``gain`` in currency after the costs of trading."""

    asset: int
    held_bars: int
    gain: float


@dataclass(kw_only=True)
class ReferencePath:
    """The path of one account; see :class:`backtest_batch.core.engine.simulation.Simulation`."""

    equity: list[float] = field(default_factory=list)
    net_return: list[float] = field(default_factory=list)
    gross_exposure: list[float] = field(default_factory=list)
    net_exposure: list[float] = field(default_factory=list)
    turnover: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    target_weights: list[FloatArray] = field(default_factory=list)
    decision_bars: list[int] = field(default_factory=list)
    trades: list[ReferenceTrade] = field(default_factory=list)
    trips: list[ReferenceTrip] = field(default_factory=list)
    scaled_decisions: int = 0
    ruined_bar: int | None = None
    untradable_weights: int = 0


class _Account:
    """Cash and shares, and what trading them came to on the current bar."""

    def __init__(self, settings: SimulationSettings, n_assets: int, path: ReferencePath) -> None:
        self.settings = settings
        self.path = path
        self.cash = settings.initial_capital
        self.shares = np.zeros(n_assets)
        self.turnover = 0.0
        self.cost = 0.0
        # Since each position was opened: what was paid for it, less what it brought, and when.
        self.paid = np.zeros(n_assets)
        self.entries = np.zeros(n_assets, dtype=np.int64)

    def value(self, prices: FloatArray) -> float:
        held = self.shares != 0
        return float(np.sum(self.shares[held] * prices[held]))

    def equity(self, prices: FloatArray) -> float:
        return self.cash + self.value(prices)

    def is_spent(self, prices: FloatArray) -> bool:
        value = self.value(prices)
        return self.cash + value <= ROUNDING * (abs(self.cash) + abs(value))

    def accrue(self, years: float, close_before: FloatArray) -> None:
        """Earn and pay interest on what was held since the bar before."""
        settings = self.settings
        rate = settings.cash_rate if self.cash > 0 else settings.borrow_rate
        short = self.shares < 0
        shorted = float(np.sum(-self.shares[short] * close_before[short]))
        self.cash += (self.cash * rate - shorted * settings.short_fee_rate) * years

    def undoes_costs(self, row: FloatArray, prices: FloatArray) -> bool:
        """Return whether weights ask for what is held, and only costs stand between them.

        They leave nothing in cash, what is missing there is dust, and each symbol has its part.
        """
        equity, value = self.equity(prices), self.value(prices)
        if not 0 < value - equity <= DUST * value or abs(row.sum() - 1) > TRADE_THRESHOLD:
            return False
        change = np.where(np.isnan(prices), 0.0, row * value - self.shares * np.nan_to_num(prices))
        return bool(np.all(np.abs(change) <= TRADE_THRESHOLD * equity))

    def trade_to(self, shares: FloatArray, assets: BoolArray, bar: int, prices: FloatArray) -> None:
        """Hold ``shares`` of ``assets``; the costs come out of cash and resize nothing."""
        equity = self.equity(prices)
        for asset in np.flatnonzero(assets):
            held = self.shares[asset]
            change = shares[asset] - held
            value = change * prices[asset] if change != 0 else 0.0
            self.cash -= value
            self.shares[asset] = shares[asset]
            charged = abs(value) > TRADE_THRESHOLD * equity
            rate = self.settings.cost_rate if charged else 0.0
            self._book_trip(int(asset), held, bar, prices[asset], rate)
            if abs(value) > TRADE_THRESHOLD * equity:
                cost = self.settings.cost_rate * abs(value)
                self.cash -= cost
                self.cost += cost
                self.turnover += abs(value) / equity
                self.path.trades.append(
                    ReferenceTrade(
                        bar=bar,
                        asset=int(asset),
                        shares=change,
                        price=prices[asset],
                        value=value,
                        cost=cost,
                    )
                )

    def _book_trip(self, asset: int, held: float, bar: int, price: float, rate: float) -> None:
        """End the round trip of what was held, or add to it; begin another."""
        now = self.shares[asset]
        if np.sign(held) == np.sign(now):
            self.paid[asset] += (now - held) * price + rate * abs(now - held) * price
            return
        if held != 0:
            gain = (held - rate * abs(held)) * price - self.paid[asset]
            held_bars = bar - int(self.entries[asset])
            self.path.trips.append(ReferenceTrip(asset=asset, held_bars=held_bars, gain=gain))
        self.paid[asset] = (now + rate * abs(now)) * price if now != 0 else 0.0
        self.entries[asset] = bar


def capped(weights: FloatArray, settings: SimulationSettings) -> FloatArray:
    """Clip weights to ``max_weight``, then scale them to ``max_gross_exposure``.

    ``w * min(1, max_gross_exposure / sum|w|)``; a row of zeros stays as it is.
    """
    if settings.max_weight is not None:
        weights = np.clip(weights, -settings.max_weight, settings.max_weight)
    gross = np.sum(np.abs(weights))
    return weights * min(1.0, settings.max_gross_exposure / gross) if gross > 0 else weights


def simulate_reference(
    panel: Panel,
    decisions: IntArray,
    weights: FloatArray,
    settings: SimulationSettings,
    first_bar: int = 0,
) -> ReferencePath:
    """Trade target weights bar by bar.

    Parameters are those of :func:`backtest_batch.core.engine.simulation.simulate`; the weights must
    be finite.
    """
    close = panel.fields["close"]
    price = panel.fields[settings.execution_price]
    at_close = settings.execution_price == "close"
    years = year_fractions(panel.index)
    last_priced = np.array([_last_priced(close[:, asset]) for asset in range(panel.n_assets)])
    ends = last_priced < panel.n_bars - 1
    everybody = np.ones((panel.n_bars, panel.n_assets), dtype=bool)
    members = everybody if panel.members is None else panel.members
    wishes = {
        int(decision): np.where(members[decision], row, 0.0)
        for decision, row in zip(decisions, weights, strict=True)
        if decision >= first_bar
    }
    barred = {
        int(decision): int(np.sum((row != 0) & ~members[decision]))
        for decision, row in zip(decisions, weights, strict=True)
    }
    rows = {
        decision + settings.execution_lag: (decision, capped(row, settings), row)
        for decision, row in wishes.items()
    }
    path = ReferencePath()
    account = _Account(settings, panel.n_assets, path)
    for bar in range(first_bar, panel.n_bars):
        account.turnover = account.cost = 0.0
        marks = close[bar]
        leaves = ends & (last_priced == bar)
        if bar + 1 < panel.n_bars:
            leaves |= members[bar] & ~members[bar + 1]
        if bar > first_bar:
            account.accrue(years[bar], close[bar - 1])
        if bar in rows:
            marks = price[bar]
            spent = account.is_spent(marks)
            if not spent:
                decision, row, given = rows[bar]
                path.decision_bars.append(decision)
                path.target_weights.append(row)
                path.scaled_decisions += bool(np.any(np.abs(row - given) > TRADE_THRESHOLD))
                tradable = ~(np.isnan(price[bar]) | np.isnan(close[bar])) & members[bar]
                if at_close:
                    tradable &= ~leaves
                path.untradable_weights += int(np.sum((row != 0) & ~tradable)) + barred[decision]
                wanted = np.zeros(panel.n_assets)
                row = np.where(tradable, row, 0.0)
                undoes = account.undoes_costs(row, marks)
                worth = account.value(marks) if undoes else account.equity(marks)
                wanted[tradable] = row[tradable] * worth / marks[tradable]
                account.trade_to(wanted, (wanted != 0) | (account.shares != 0), bar, marks)
                spent = account.is_spent(marks)
        else:
            spent = False
        if not spent:
            marks = close[bar]
            ended = leaves & (account.shares != 0)
            spent = account.is_spent(marks)
            if ended.any() and not spent:
                account.trade_to(np.zeros(panel.n_assets), ended, bar, marks)
                spent = account.is_spent(marks)
        _book(path, account, marks, spent)
        if spent:
            path.ruined_bar = bar
            break
    return path


def _book(path: ReferencePath, account: _Account, marks: FloatArray, spent: bool) -> None:
    equity = min(account.equity(marks), 0.0) if spent else account.equity(marks)
    # What happens on the first measured bar shows in the return of the second.
    equity = equity if path.equity else account.settings.initial_capital
    path.net_return.append(equity / path.equity[-1] - 1 if path.equity else np.nan)
    path.equity.append(equity)
    held = account.shares != 0
    values = account.shares[held] * marks[held]
    path.gross_exposure.append(np.nan if spent else float(np.sum(np.abs(values))) / equity)
    path.net_exposure.append(np.nan if spent else float(np.sum(values)) / equity)
    path.turnover.append(account.turnover)
    path.cost.append(account.cost)


def _last_priced(close: FloatArray) -> int:
    priced = np.flatnonzero(~np.isnan(close))
    return int(priced[-1]) if len(priced) else -1
