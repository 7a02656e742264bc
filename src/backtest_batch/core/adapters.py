"""Results of other backtesting libraries as an :class:`.Account`, and prices as they want them.

Each function takes the object that the library returns, and none of the libraries is imported here.
"""

import contextlib
from dataclasses import replace
from typing import Any

import pandas as pd

from backtest_batch.core.account import Account
from backtest_batch.core.data.panel import Panel
from backtest_batch.errors import StrategyError


def ohlcv(panel: Panel, symbol: str | None = None) -> pd.DataFrame:
    """Return the bars of one symbol with columns Open, High, Low, Close and Volume.

    Parameters
    ----------
    panel
        Prices of shape (n_bars, n_assets).
    symbol
        A symbol of the panel; may be left out where there is one.

    Returns
    -------
    DataFrame of shape (n_bars, n_fields)
        Fields that the panel does not have are left out; bars without a close too.

    Raises
    ------
    StrategyError
        When there are several symbols, or none of this name.
    """
    if symbol is None and panel.n_assets == 1:
        symbol = panel.symbols[0]
    if symbol not in panel.symbols:
        known = ", ".join(panel.symbols[:5]) + (", …" if panel.n_assets > 5 else "")
        raise StrategyError(f"ohlcv needs one symbol of {known}, but got symbol={symbol!r}")
    position = panel.symbols.index(symbol)
    names = [name for name in ("open", "high", "low", "close", "volume") if name in panel.fields]
    columns = {name.capitalize(): panel.fields[name][:, position] for name in names}
    return pd.DataFrame(columns, index=panel.index).dropna(subset="Close")


def vectorbt_account(portfolio: Any) -> Account:
    """Return the account of a ``vectorbt.Portfolio`` with one column, or one that shares its cash.

    Equity is the portfolio's; exposures are market values over equity (vectorbt's own are over what
    is left of the cash, which is another figure for shorts); turnover is the traded value over the
    equity of the bar before, costs are the fees of its orders. Slippage is in the prices of the
    trades.

    Raises
    ------
    StrategyError
        When it holds several accounts.
    """
    equity = portfolio.value()
    if isinstance(equity, pd.DataFrame):
        if equity.shape[1] != 1:
            raise StrategyError(
                f"the portfolio holds {equity.shape[1]} accounts: make it with cash_sharing=True "
                "and group_by=True, or return one column of it"
            )
        equity = equity.iloc[:, 0]
    values = pd.DataFrame(portfolio.asset_value(group_by=False))
    orders = portfolio.orders.records_readable
    shares = orders["Size"].where(orders["Side"] == "Buy", -orders["Size"])
    trades = pd.DataFrame(
        {
            "timestamp": orders["Timestamp"],
            "symbol": orders["Column"].map(str),
            "shares": shares,
            "price": orders["Price"],
            "value": shares * orders["Price"],
            "cost": orders["Fees"],
        }
    )
    return Account(
        equity=equity,
        gross_exposure=values.abs().sum(axis=1) / equity,
        net_exposure=values.sum(axis=1) / equity,
        trades=trades,
        turnover=_turnover(trades, equity),
        cost=trades.groupby("timestamp")["cost"].sum().reindex(equity.index, fill_value=0.0),
    )


def bt_account(result: Any, name: str | None = None) -> Account:
    """Return the account of a strategy in what ``bt.run`` returns, or of a ``bt.Backtest``.

    Trades and costs include those of the strategies below it. One with flows of capital has returns
    alone and no equity: deposits are no gain.

    Parameters
    ----------
    result
        The result; a backtest that has been run does, too.
    name
        Name of the backtest; may be left out where there is one.
    """
    if hasattr(result, "backtests"):
        tests = result.backtests
        if name is None and len(tests) == 1:
            name = next(iter(tests))
        if name not in tests:
            raise StrategyError(f"name one of the backtests: {', '.join(tests)}; got {name!r}")
        result = tests[name]
    strategy = result.strategy
    index = result.data.index[1:]  # bt puts a row of its own before the first bar
    equity, deposits = strategy.values.reindex(index), strategy.flows.reindex(index)
    orders = strategy.get_transactions().reset_index()
    trades = pd.DataFrame(
        {
            "timestamp": orders["Date"],
            "symbol": orders["Security"].map(str),
            "shares": orders["quantity"],
            "price": orders["price"],
            "value": orders["quantity"] * orders["price"],
        }
    )
    held = result.security_weights.reindex(index)
    known = Account(
        equity=equity,
        gross_exposure=held.abs().sum(axis=1),
        net_exposure=held.sum(axis=1),
        trades=trades,
        turnover=_turnover(trades, equity),
        cost=_bt_costs(strategy).reindex(index, fill_value=0.0),
    )
    if not deposits.any():
        return known
    # Money that comes and goes is no return: bt's index of prices is without it.
    returns = strategy.prices.reindex(index).pct_change(fill_method=None)
    return replace(known, equity=None, cost=None, net_return=returns)


def _bt_costs(strategy: Any) -> "pd.Series[Any]":
    """Return fees and half spreads of a strategy and of those below it, by bar."""
    costs: pd.Series[Any] = 0.0 * strategy.values
    for member in strategy.members:
        for name in ("fees", "bidoffers_paid"):
            # A security has no fees, and spreads are known only where they were given.
            with contextlib.suppress(Exception):
                paid = getattr(member, name)
                if isinstance(paid, pd.Series) and hasattr(member, "fees"):
                    costs = costs.add(paid, fill_value=0.0)
    return costs.fillna(0.0)


def backtesting_account(stats: Any) -> Account:
    """Return the account of what ``backtesting.Backtest.run`` returns.

    Its trades are round trips, which stand in ``trades`` as the library writes them; turnover and
    costs are not known by bar.
    """
    trades = stats["_trades"].rename(columns={"EntryTime": "timestamp"})
    return Account(equity=stats["_equity_curve"]["Equity"], trades=trades)


def _turnover(trades: pd.DataFrame, equity: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the traded value of each bar over the equity of the bar before."""
    traded = trades["value"].abs().groupby(trades["timestamp"]).sum()
    before = equity.shift(fill_value=equity.iloc[0])
    return traded.reindex(equity.index, fill_value=0.0) / before
