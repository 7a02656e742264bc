"""Results of other backtesting libraries as an :class:`.Account`, and prices as they want them.

Each function takes the object that the library returns, and none of the libraries is imported here.
"""

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

    Equity and exposures are the portfolio's; turnover is the traded value over the equity of the
    bar before, costs are the fees of its orders. Slippage is in the prices of the trades.

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
        gross_exposure=_one(portfolio.gross_exposure()),
        net_exposure=_one(portfolio.net_exposure()),
        trades=trades,
        turnover=_turnover(trades, equity),
        cost=trades.groupby("timestamp")["cost"].sum().reindex(equity.index, fill_value=0.0),
    )


def bt_account(result: Any, name: str | None = None) -> Account:
    """Return the account of a strategy in what ``bt.run`` returns, or of a ``bt.Backtest``.

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
    held = result.security_weights.reindex(index)
    prices, positions = strategy.universe.reindex(index), strategy.positions.reindex(index)
    shares = positions.diff()
    shares.iloc[:1] = positions.iloc[:1]
    rows = shares.stack()
    rows = rows[rows != 0]
    price = prices.stack().reindex(rows.index)
    trades = pd.DataFrame(
        {
            "timestamp": rows.index.get_level_values(0),
            "symbol": rows.index.get_level_values(1).astype(str),
            "shares": rows.to_numpy(),
            "price": price.to_numpy(),
            "value": (rows * price).to_numpy(),
        }
    )
    equity = strategy.values.reindex(index)
    return Account(
        equity=equity,
        gross_exposure=held.abs().sum(axis=1),
        net_exposure=held.sum(axis=1),
        trades=trades,
        turnover=_turnover(trades, equity),
        cost=strategy.fees.reindex(index).fillna(0.0),
    )


def backtesting_account(stats: Any) -> Account:
    """Return the account of what ``backtesting.Backtest.run`` returns.

    Its trades are round trips, which stand in ``trades`` as the library writes them; turnover and
    costs are not known by bar.
    """
    trades = stats["_trades"].rename(columns={"EntryTime": "timestamp"})
    return Account(equity=stats["_equity_curve"]["Equity"], trades=trades)


def _one(values: "pd.Series[Any] | pd.DataFrame") -> "pd.Series[Any]":
    return values.iloc[:, 0] if isinstance(values, pd.DataFrame) else values


def _turnover(trades: pd.DataFrame, equity: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the traded value of each bar over the equity of the bar before."""
    traded = trades["value"].abs().groupby(trades["timestamp"]).sum()
    before = equity.shift(fill_value=equity.iloc[0])
    return traded.reindex(equity.index, fill_value=0.0) / before
