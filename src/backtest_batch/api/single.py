"""One backtest of a strategy on prices in memory: no configuration, no store, no processes."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.scenarios import scaled_text
from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.config.checks import checked, default
from backtest_batch.core.account import measured_index, trades_frame, weights_frame
from backtest_batch.core.benchmark import (
    EQUAL_WEIGHT,
    LONGEST_GAP,
    NONE,
    find_benchmark,
    simulated,
)
from backtest_batch.core.conditions import Conditions
from backtest_batch.core.construct import function_strategy
from backtest_batch.core.data.panel import Date, Panel, panel_from_frames
from backtest_batch.core.data.series import store_series
from backtest_batch.core.engine.calendar import (
    decision_bars,
    idle_text,
    unreachable_period,
)
from backtest_batch.core.engine.length_change import BarLengths, MeasuredBars
from backtest_batch.core.engine.metrics import result_metrics
from backtest_batch.core.engine.sessions import session_end_text
from backtest_batch.core.engine.simulation import (
    UNLEVERAGED,
    Simulation,
    SimulationSettings,
    simulate,
)
from backtest_batch.core.engine.spacing import SESSIONS_PER_YEAR
from backtest_batch.core.factors import factor_metric_names, factor_metrics, find_factors
from backtest_batch.core.kernel_cache import use_kernel_cache
from backtest_batch.core.own_account import OwnAccount, ask_for_account
from backtest_batch.core.own_bars import account_without_prices
from backtest_batch.core.strategies.base import (
    LACKS_BOTH,
    Strategy,
    call_fault,
    check_fields,
    strategy_kind,
    target_weights,
)
from backtest_batch.errors import ConfigurationError, DataError, Fault, StrategyError

LOG = logging.getLogger("backtest_batch.api")


def bars_a_year(
    given: float | None,
    bars: MeasuredBars,
    session_end: str | None = None,
) -> tuple[float, tuple[str, ...]]:
    """Return the bars per year to annualise with, and notes about them.

    The notes are also logged as warnings. There is none for the 252 days of an exchange.

    Parameters
    ----------
    given
        The caller's choice; None takes it from the index.
    bars
        The bars that are measured.
    session_end
        Where the market's days end, ``HH:MM``; None is midnight.

    Raises
    ------
    ConfigurationError
        When ``given`` is not a number above 0.
    DataError
        When it is None, and the index goes over from bars of one length into bars of another.
    """
    per_year, notes = told_bars_a_year(given, bars, session_end)
    for note in notes:
        LOG.warning("%s", note)
    return per_year, notes


def told_bars_a_year(
    given: float | None,
    bars: MeasuredBars,
    session_end: str | None = None,
    *,
    has_dates: bool = True,
) -> tuple[float, tuple[str, ...]]:
    """Return the same as :func:`bars_a_year`, and log nothing.

    Without ``has_dates``, the caller has no ``start_date`` and ``end_date``.
    """
    per_year = checked({"periods_per_year": given})["periods_per_year"]
    if per_year is None and bars.mixed is not None:
        raise DataError(bars.mixed.refusal(has_dates=has_dates))
    notes = tuple(bars.notes(per_year, session_end))
    return per_year or bars.frequency.per_year or float(SESSIONS_PER_YEAR), notes


SETTING_NAMES = tuple(item.name for item in fields(SimulationSettings))


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """The result of one backtest.

    Attributes
    ----------
    metrics
        Result metrics by name; an undefined one is absent. docs/metrics.md has the formulas.
    undefined_metrics
        Names of the metrics that are not defined for this run.
    periods_per_year
        Bars a year that the metrics are annualised with.
    notes
        What to know before reading the figures; also logged as warnings.
    equity
        One row per measured bar, indexed by timestamp: equity, net_return, drawdown,
        gross_exposure, turnover, cost; of an account that the strategy made, those that it gave.
    target_weights
        Weights of each traded decision after the caps, shape (n_decisions, n_assets), indexed by
        the timestamp of the decision bar.
    trades
        One row per trade: timestamp, symbol, shares, price, value, cost; of an account that the
        strategy made, the trades and weights that it gave.
    benchmark
        Net returns of the benchmark on the same bars; None without one.
    ruined
        Timestamp at which equity fell to 0 or below; None without ruin.
    """

    metrics: pd.Series
    undefined_metrics: tuple[str, ...]
    periods_per_year: float
    notes: tuple[str, ...]
    equity: pd.DataFrame
    target_weights: pd.DataFrame
    trades: pd.DataFrame
    benchmark: pd.Series | None
    ruined: pd.Timestamp | None

    def __repr__(self) -> str:
        shown = ("sharpe", "cagr", "max_drawdown", "trades")
        figures = [f"{name}={self.metrics[name]:.4g}" for name in shown if name in self.metrics]
        first, last = self.equity.index[0], self.equity.index[-1]
        bars = f"{self.periods_per_year:,g} bars a year"
        return f"<Backtest: {first} to {last}, {bars}, {', '.join(figures)}>"


def backtest(
    strategy: Any,
    prices: pd.DataFrame | Panel | None = None,
    *,
    rebalance: str = default("rebalance"),
    start_date: Date | None = None,
    end_date: Date | None = None,
    risk_free_rate: float | None = None,
    periods_per_year: float | None = None,
    benchmark: Any = "equal_weight",
    benchmark_values: str = default("benchmark_values"),
    factors: Any = None,
    session_end: str | None = None,
    **settings: Any,
) -> Backtest:
    """Backtest a strategy once. The numbers equal those of the command, bit for bit.

    Parameters
    ----------
    strategy
        An object with ``target_weights(panel, decisions)``, one with
        ``backtest(panel, conditions)``, or a class of either that needs no arguments; or a function
        of ``panel`` and ``conditions`` whose further parameters have defaults; a ``seed`` without
        one is 42, the default of the key.
    prices
        Closes of shape (n_bars, n_assets), one column per symbol, on a DatetimeIndex; or a panel
        with further fields (:func:`panel_from_frames`). A frame with the fields of one asset, or
        with fields by symbol as yfinance returns it, is recognised. None for a strategy that makes
        its own account and reads its own data: its ``panel`` is None then, and its bars are those
        that it hands back.
    rebalance
        Decide at each ``bar``, or at the end of each day, week, month, quarter or year: D, W, M, Q,
        Y, or a multiple (``15min``, ``4h``, ``2W``); ``M:start`` is the first bar of a month,
        ``W-WED`` a week that ends on Wednesday, ``bars:5`` every fifth bar.
    start_date, end_date
        First and last measured bar: ISO text (``2006-01-31``; ``2006`` is the year), a date, a
        datetime or a numpy.datetime64. Without ``start_date`` measuring begins after the
        strategy's ``warmup_bars``.
    risk_free_rate
        Annual rate that sharpe and sortino subtract; by default ``cash_rate``.
    periods_per_year
        Bars a year; by default taken from the index: 252 for business days, 365 for all days, 12
        for months, the bars of a session times its sessions, ... ``Backtest.periods_per_year``
        holds the number; one other than 252 is logged.
    benchmark
        What it is compared with: ``equal_weight``, ``none``, a symbol of the prices, the path of a
        CSV or Parquet file of prices, a Series of prices, or a strategy (an object with
        ``target_weights``, or a class). A file and a Series are without costs, all others trade at
        the same decisions and costs.
    benchmark_values
        What that file or Series holds: ``prices`` or ``returns``.
    factors
        Returns that explain those of the strategy: a DataFrame with one column a factor, the path
        of such a file, or a list of symbols. They add ``alpha_factors``, ``r2_factors`` and
        ``beta_<factor>`` to the metrics.
    session_end
        When the market's day ends, ``HH:MM`` on the clock of the index; by default at midnight.
    **settings
        Conditions of :class:`~backtest_batch.core.engine.simulation.SimulationSettings`:
        ``commission_bps``, ``max_gross_exposure``, ``execution_lag``, ...

    Raises
    ------
    ConfigurationError
        When a setting is unknown or out of its range.
    DataError
        When the prices cannot be used, or leave fewer than two bars to measure.
    StrategyError
        When the object is not a strategy, or its weights cannot be traded.

    Examples
    --------
    >>> from backtest_batch.core.strategies import TrendBaseline
    >>> result = backtest(TrendBaseline(fast=10, slow=50), prices, commission_bps=1.0)
    >>> result.metrics["sharpe"], result.equity["drawdown"].min()
    """
    use_kernel_cache()
    conditions = _conditions(settings)
    given = checked(
        {
            "rebalance": rebalance,
            "start_date": start_date,
            "end_date": end_date,
            "benchmark_values": benchmark_values,
            "risk_free_rate": conditions.cash_rate if risk_free_rate is None else risk_free_rate,
        }
    )
    chosen = _chosen(strategy)
    if prices is None:
        against = (benchmark, given["benchmark_values"], factors)
        return _without_prices(chosen, conditions, given, periods_per_year, against)
    panel = prices if isinstance(prices, Panel) else panel_from_frames(prices)
    if given["end_date"] is not None:
        panel = panel.until(given["end_date"])
    check_fields(chosen, panel)
    first_bar = _first_bar(panel, chosen, given["start_date"])
    end = market_session_end(session_end)
    measured = BarLengths(panel.index, end).measured(first_bar)
    per_year, notes = bars_a_year(periods_per_year, measured, end)
    bars = _decisions(panel, given["rebalance"], end, measured)
    decisions = bars[bars >= first_bar]
    idle = idle_text(
        panel.index,
        bars,
        given["rebalance"],
        first_bar=first_bar,
        execution_lag=conditions.execution_lag,
    )
    annual = {"periods_per_year": per_year, "risk_free_rate": given["risk_free_rate"]}
    account: Simulation | OwnAccount
    if strategy_kind(chosen) == "weights":
        account = _simulate(chosen, panel, decisions, conditions, first_bar)
    else:
        idle = None
        asked = {name: given[name] for name in ("start_date", "end_date", "rebalance")}
        account = ask_for_account(
            chosen,
            panel,
            Conditions(
                **{name: getattr(conditions, name) for name in SETTING_NAMES},
                **{**asked, **annual, "first_bar": first_bar, "decisions": decisions},
            ),
        )
    reference, benchmark_notes = _benchmark(
        benchmark, given["benchmark_values"], panel, decisions, conditions, first_bar
    )
    compared = None if reference is None else reference[account.first_bar - first_bar :]
    metrics, undefined = result_metrics(account, benchmark_returns=compared, **annual)
    found, missing, factor_notes = _explained(factors, panel, account, **annual)
    own = account if isinstance(account, OwnAccount) else None
    said = (
        *filter(None, [idle]),
        *benchmark_notes,
        *factor_notes,
        *(() if own is None else own.notes),
    )
    for note in said:
        LOG.warning("%s", note)
    ruined = account.ruined_bar
    figures = {**metrics, **found, **({} if own is None else own.metrics)}
    return Backtest(
        metrics=pd.Series(figures, name="value", dtype=np.float64),
        undefined_metrics=(*undefined, *missing),
        periods_per_year=per_year,
        notes=(*notes, *said, *([] if isinstance(account, OwnAccount) else _scaled(account))),
        equity=_equity(panel, account),
        target_weights=_table(weights_frame, panel, account),
        trades=_table(trades_frame, panel, account),
        benchmark=_benchmark_returns(reference, panel, first_bar),
        ruined=None if ruined is None else panel.index[ruined],
    )


def _without_prices(
    strategy: Any,
    conditions: SimulationSettings,
    given: dict[str, Any],
    periods_per_year: float | None,
    against: tuple[Any, str, Any],
) -> Backtest:
    """Backtest a strategy that reads its own data."""
    if strategy_kind(strategy) == "weights":
        raise StrategyError(
            f"{type(strategy).__name__} has target_weights, which needs prices: give them, or a "
            "function that returns its net returns"
        )
    benchmark, values, factors = against
    if callable(getattr(benchmark, "target_weights", None)) or isinstance(benchmark, type):
        raise _wrong("benchmark", benchmark, "a strategy needs prices")
    per_year = checked({"periods_per_year": periods_per_year})["periods_per_year"]
    panel, account = account_without_prices(
        strategy,
        Conditions(
            **{name: getattr(conditions, name) for name in SETTING_NAMES},
            **{name: given[name] for name in ("start_date", "end_date", "rebalance")},
            risk_free_rate=given["risk_free_rate"],
            periods_per_year=np.nan if per_year is None else per_year,
            has_prices=False,
        ),
    )
    first_bar, no_bars = account.first_bar, np.empty(0, dtype=np.int64)
    measured = BarLengths(panel.index[first_bar:]).measured()
    per_year, notes = bars_a_year(per_year, measured)
    annual = {"periods_per_year": per_year, "risk_free_rate": given["risk_free_rate"]}
    if isinstance(benchmark, str) and benchmark == EQUAL_WEIGHT:
        benchmark = NONE
    reference, said = _benchmark(benchmark, values, panel, no_bars, conditions, first_bar)
    metrics, undefined = result_metrics(account, benchmark_returns=reference, **annual)
    found, missing, about = _explained(factors, panel, account, **annual)
    said = (*said, *about, *account.notes)
    for note in said:
        LOG.warning("%s", note)
    ruined = account.ruined_bar
    return Backtest(
        metrics=pd.Series({**metrics, **found, **account.metrics}, name="value", dtype=np.float64),
        undefined_metrics=(*undefined, *missing),
        periods_per_year=per_year,
        notes=(*notes, *said),
        equity=_equity(panel, account),
        target_weights=_table(weights_frame, panel, account),
        trades=_table(trades_frame, panel, account),
        benchmark=_benchmark_returns(reference, panel, first_bar),
        ruined=None if ruined is None else panel.index[ruined],
    )


def _chosen(strategy: Any) -> Any:
    """Return a strategy that can be asked: a class is made, a function is wrapped."""
    chosen = strategy() if isinstance(strategy, type) else strategy
    if strategy_kind(chosen) is not None:
        if wrong := call_fault(chosen):
            raise StrategyError(f"{type(chosen).__name__}: {wrong}")
        return chosen
    if not callable(chosen):
        raise StrategyError(f"{type(chosen).__name__} {LACKS_BOTH}")
    return function_strategy(chosen, default("seed"))


def _conditions(settings: dict[str, Any]) -> SimulationSettings:
    unknown = sorted(settings.keys() - set(SETTING_NAMES))
    if unknown:
        known = ", ".join(SETTING_NAMES)
        raise _wrong(unknown[0], settings[unknown[0]], f"is not a setting; settings are: {known}")
    return SimulationSettings(**settings)


def market_session_end(value: str | None) -> str | None:
    """Return a time of day as ``HH:MM``, None for midnight; refuse what is none."""
    try:
        return session_end_text(value)
    except ValueError as error:
        raise _wrong("session_end", value, str(error).rstrip(".")) from None


def _decisions(
    panel: Panel, rebalance: str, session_end: str | None, bars: MeasuredBars
) -> IntArray:
    wrong = unreachable_period(rebalance, bars.frequency)
    if wrong is not None:
        raise _wrong("rebalance", rebalance, wrong)
    return decision_bars(panel.index, rebalance, session_end)


def _first_bar(panel: Panel, strategy: Any, start_date: str | None) -> int:
    warmup = int(getattr(strategy, "warmup_bars", 0))
    first = warmup if start_date is None else panel.first_bar_from(start_date)
    if first > panel.n_bars - 2:
        raise DataError(
            f"at least two bars must be measured, but the prices have {panel.n_bars} bars "
            f"({panel.index[0]} to {panel.index[-1]}) and measuring begins at bar {first} "
            f"(start_date={start_date}, warmup_bars={warmup})"
        )
    return first


def _simulate(
    strategy: Strategy,
    panel: Panel,
    decisions: IntArray,
    conditions: SimulationSettings,
    first_bar: int,
) -> Simulation:
    weights = target_weights(strategy, panel, decisions)
    return simulate(panel, decisions, weights, conditions, first_bar)


def _benchmark(
    given: Any,
    values: str,
    panel: Panel,
    decisions: IntArray,
    conditions: SimulationSettings,
    first_bar: int,
) -> tuple[FloatArray | None, tuple[str, ...]]:
    """Return the returns of the benchmark from the first measured bar on, and what to say of it."""
    unlevered = replace(conditions, **UNLEVERAGED)
    strategy = given() if isinstance(given, type) else given
    if callable(getattr(strategy, "target_weights", None)):
        return _simulate(strategy, panel, decisions, unlevered, first_bar).net_return, ()
    if isinstance(given, pd.Series | pd.DataFrame):
        given = {"stored": store_series(given, "benchmark")}
    try:
        found = find_benchmark(given, panel, values=values)
    except ConfigurationError as error:
        raise _wrong("benchmark", given, str(error)) from error
    faults = found.faults(panel, first_bar, LONGEST_GAP)
    if faults:
        raise ConfigurationError(f"{faults[0]}.", faults)
    notes = tuple(filter(None, (*found.notes, found.gap_note(panel, first_bar))))
    if found.benchmark.kind == "none":
        return None, notes
    if found.benchmark.kind == "series" and found.returns is not None:
        returns = np.array(found.returns[first_bar:])
        returns[0] = np.nan
        return returns, notes
    (account,) = simulated(found.benchmark, panel, decisions, [unlevered], first_bar)
    return account.net_return, notes


def _benchmark_returns(
    returns: FloatArray | None, panel: Panel, first_bar: int
) -> pd.Series | None:
    if returns is None:
        return None
    index = panel.index[first_bar : first_bar + len(returns)].rename("timestamp")
    return pd.Series(returns, index=index, name="benchmark")


def _explained(
    given: Any, panel: Panel, account: Simulation | OwnAccount, **annual: float
) -> tuple[dict[str, float], tuple[str, ...], tuple[str, ...]]:
    """Return the metrics that factors define, the names of those that they do not, and notes."""
    if isinstance(given, pd.Series | pd.DataFrame):
        given = {"stored": store_series(given, "factors")}
    try:
        found = find_factors(given, panel)
    except ConfigurationError as error:
        raise _wrong("factors", given, str(error)) from error
    if found.factors is None or found.returns is None:
        return {}, (), ()
    first_bar = account.first_bar
    faults = found.faults(panel, first_bar)
    if faults:
        raise ConfigurationError(f"{faults[0]}.", faults)
    returns = found.returns[first_bar : first_bar + account.n_measured]
    metrics = factor_metrics(found.factors, returns, account.net_return, **annual)
    names = factor_metric_names(found.factors)
    notes = (*found.notes, *found.cover_notes(panel, first_bar))
    return metrics, tuple(name for name in names if name not in metrics), notes


def _scaled(simulation: Simulation) -> list[str]:
    """Return notes on the caps that scaled decisions down, and log them."""
    n_decisions = len(simulation.decision_bars)
    notes = [
        scaled_text(cap, getattr(simulation.settings, cap), scaled, n_decisions)
        for cap, scaled in simulation.scaled_by.items()
        if scaled
    ]
    for text in notes:
        LOG.warning("%s", text)
    return notes


def _equity(panel: Panel, account: Simulation | OwnAccount) -> pd.DataFrame:
    peak = np.maximum.accumulate(account.equity)
    columns = {
        "equity": account.equity,
        "net_return": account.net_return,
        "drawdown": account.equity / peak - 1.0,
        "gross_exposure": account.gross_exposure,
        "turnover": account.turnover,
        "cost": account.cost,
    }
    known = {name: values for name, values in columns.items() if values is not None}
    return pd.DataFrame(known, index=measured_index(panel, account))


def _table(
    made: Callable[[Panel, Simulation], pd.DataFrame],
    panel: Panel,
    account: Simulation | OwnAccount,
) -> pd.DataFrame:
    """Return the trades or weights of an account; those that a strategy gave, or an empty table."""
    if isinstance(account, Simulation):
        return made(panel, account)
    given = account.trades_given if made is trades_frame else account.weights_given
    return pd.DataFrame() if given is None else given


def _wrong(key: str, value: Any, allowed: str) -> ConfigurationError:
    fault = Fault(key=key, value=value, allowed=allowed)
    return ConfigurationError(f"{fault}.", [fault])
