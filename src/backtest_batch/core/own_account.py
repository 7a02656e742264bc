"""What a strategy's own account says on the bars of its panel: read, checked, ready to measure."""

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.config.schema import roles
from backtest_batch.core.account import Account
from backtest_batch.core.conditions import Conditions
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.metrics import may_be_own
from backtest_batch.core.engine.simulation import SimulationSettings, Totals, Trips
from backtest_batch.core.numbers import real_numbers
from backtest_batch.core.strategies.base import panel_of_its_own
from backtest_batch.errors import StrategyError

TOLERANCE = 1e-9
"""Largest difference between a return and the one that the equity shows."""

MOST_OPENING_COST = 0.2
"""By which share of the capital an equity may begin lower, and not be on another scale."""

UNKNOWN_TRIPS = Trips(math.nan, math.nan, math.nan, math.nan, math.nan)

_METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
_RESERVED = frozenset((
    "run", "run_id", "run_key", "batch_id", "batch_name", "mlflow_run_id", "status", "scenario",
    "rank", "rank_in_scenario", "score", "pareto", "unranked", "ruined", "equity", "drawdown",
    "timestamp", "error_type", "error_message", "undefined_metrics",
    "started", "ended", "psr", "dsr", "spa_survivor", "benchmark_survivor", "skilled",
    "sharpe_lower_bound",
))  # fmt: skip
"""Names of columns in the reports, and of what stands beside the metrics of a run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnAccount:
    """An account that a strategy made itself, on the bars of its panel.

    It answers what is asked of a :class:`.Simulation` when a run is measured. Arrays have shape
    (n_measured,), run to the last bar of the panel or to the bar of ruin, and are read-only; an
    array of what was not given is None.

    Attributes
    ----------
    settings
        The conditions of the run.
    first_bar
        Position in the panel of its first measured bar.
    equity, net_return
        Equity at each close; returns, NaN on the first measured bar.
    gross_exposure, net_exposure, turnover, cost
        As :class:`.Account` has them.
    ruined_bar
        Position of the bar on which equity fell to 0 or below; None without ruin.
    trades_given, weights_given
        The tables that were given.
    trade_bars
        Position in the panel of each trade from the first measured bar on; None without trades.
    metrics
        Figures of the strategy's own.
    undefined
        Names of such figures that the whole account does not have.
    notes
        What a reader of the results should know.
    held_before
        Whether it had begun before its first measured bar; trades of that bar do not open it then.
    """

    settings: SimulationSettings
    first_bar: int
    equity: FloatArray
    net_return: FloatArray
    gross_exposure: FloatArray | None = None
    net_exposure: FloatArray | None = None
    turnover: FloatArray | None = None
    cost: FloatArray | None = None
    ruined_bar: int | None = None
    trades_given: pd.DataFrame | None = None
    weights_given: pd.DataFrame | None = None
    trade_bars: IntArray | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    undefined: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    held_before: bool = False

    @property
    def n_measured(self) -> int:
        """Number of measured bars."""
        return len(self.equity)

    @property
    def tags(self) -> dict[str, str]:
        """Facts of the run: the names of the strategy's own metrics, and the notes."""
        found = {"own_metrics": ",".join(self.metrics), "account_notes": "; ".join(self.notes)}
        return {name: text for name, text in found.items() if text}

    @property
    def n_trades(self) -> float:
        """Number of trades; NaN where it is not known."""
        return math.nan if self.trade_bars is None else float(len(self.trade_bars))

    @property
    def scaled_decisions(self) -> float:
        """How many decisions a cap made smaller is not known of such an account."""
        return math.nan

    @property
    def trips(self) -> Trips:
        """Round trips are not known of such an account."""
        return UNKNOWN_TRIPS

    @cached_property
    def totals(self) -> Totals:
        """Sums over the measured bars, NaN of what was not given."""
        n_bars = self.n_measured - (self.ruined_bar is not None)
        gross = None if self.gross_exposure is None else self.gross_exposure[:n_bars]
        net = None if self.net_exposure is None else self.net_exposure[:n_bars]
        return Totals(
            gross_exposure=_sum(gross),
            net_exposure=_sum(net),
            turnover=_sum(self.turnover),
            cost=_sum(self.cost),
            cost_ratio=_sum(self.cost_ratio),
            max_gross_exposure=math.nan if gross is None else float(gross.max()),
            n_exposure_bars=n_bars,
        )

    @cached_property
    def cost_ratio(self) -> FloatArray | None:
        """Costs over the equity of the bar before."""
        if self.cost is None:
            return None
        before = np.concatenate((self.equity[:1], self.equity[:-1]))
        return np.asarray(self.cost / before)

    @cached_property
    def trade_counts(self) -> FloatArray | None:
        """Number of trades on each bar."""
        if self.trade_bars is None:
            return None
        counts = np.bincount(self.trade_bars - self.first_bar, minlength=self.n_measured)
        return counts[: self.n_measured].astype(np.float64)


def _sum(values: FloatArray | None) -> float:
    return math.nan if values is None else float(values.sum())


def ask_for_account(
    strategy: Any, panel: Panel, conditions: Conditions, first_bar: int | None = None
) -> OwnAccount:
    """Ask a strategy for its account; see :func:`read_account` for what it may return.

    Changes that it makes to its prices affect nothing else. It is measured from ``first_bar`` on,
    which is that of its conditions unless the account is to be entered before.

    Raises
    ------
    StrategyError
        When what it returns is no account on the bars of the panel.
    Exception
        Whatever the strategy raises.
    """
    answer = strategy.backtest(panel_of_its_own(panel), conditions)
    if first_bar is not None:
        conditions = replace(conditions, first_bar=first_bar)
    return read_account(answer, panel, conditions, who=name_of(strategy))


def name_of(strategy: Any) -> str:
    """Return what a strategy that makes its own account is called in messages."""
    name: str = getattr(strategy, "function_name", "") or f"{type(strategy).__name__}.backtest"
    return name


def read_account(answer: Any, panel: Panel, conditions: Conditions, *, who: str) -> OwnAccount:
    """Return what a strategy answered as an account on the bars of its panel.

    Parameters
    ----------
    answer
        A Series of net returns, or an :class:`.Account`.
    panel
        The data of the run.
    conditions
        Its conditions.
    who
        What the strategy is called in messages.

    Returns
    -------
    OwnAccount
        Bars up to the first measured one of the run are left out. It begins there, or on the bar
        before its first return if that is later, and has a return on each bar from then on.

    Raises
    ------
    StrategyError
        When it is something else, or something in it cannot be true; the message says what, where
        first, and how often.
    """
    return _Reader(panel, conditions, who).read(as_account(answer, who))


def as_account(answer: Any, who: str) -> Account:
    """Return what a strategy answered as an account that has not been checked yet.

    Raises
    ------
    StrategyError
        When it is neither an account nor a Series; the message says what to return instead.
    """
    if isinstance(answer, Account):
        return answer
    if isinstance(answer, pd.Series):
        return Account(net_return=answer)
    if answer is None:
        raise StrategyError(f"{who} returned None; is a `return` missing?")
    hint = ""
    if isinstance(answer, pd.DataFrame):
        hint = "; a column of it is a Series: frame['net_return']"
    elif isinstance(answer, list | tuple | np.ndarray):
        hint = "; with its timestamps it is one: pd.Series(returns, index=panel.index)"
    elif inspect.isawaitable(answer):
        answer.close() if inspect.iscoroutine(answer) else None
        hint = "; an async function cannot be a strategy"
    raise StrategyError(
        f"{who} must return a pandas Series of net returns by timestamp, or a "
        f"backtest_batch.Account, but returned {type(answer).__name__}{hint}"
    )


@dataclass(frozen=True)
class _OnBars:
    """Values of a series with the positions of their bars, NaN at the beginning left out."""

    bars: IntArray
    values: FloatArray


class _Reader:
    """Reads the parts of one account; its methods raise StrategyError."""

    def __init__(self, panel: Panel, conditions: Conditions, who: str) -> None:
        self._panel = panel
        self._conditions = conditions
        self._who = who
        self._notes: list[str] = []

    def read(self, given: Account) -> OwnAccount:
        equity = None if given.equity is None else self._equity(given.equity)
        ruined = equity is not None and bool(equity.values[-1] <= 0.0)
        ruin = int(equity.bars[-1]) if equity is not None and ruined else None
        if given.net_return is not None:
            returns = self._returns(given.net_return, ruin)
        else:
            assert equity is not None
            equity = self._with_opening_costs(equity, given.cost)
            returns = _OnBars(equity.bars[1:], equity.values[1:] / equity.values[:-1] - 1.0)
        began = int(returns.bars[0] if equity is None else equity.bars[0])
        returns = self._measured(returns, ruined)
        if equity is not None and given.net_return is not None:
            self._require_match(returns, equity)
        first = int(returns.bars[0]) - 1
        net_return = np.concatenate(([np.nan], returns.values))
        path = self._path(first, returns, equity)
        last = int(returns.bars[-1])
        bars = range(first, last + 1)
        if first > self._conditions.first_bar:
            self._notes.append(
                f"begins at {self._when(first)}, {first - self._conditions.first_bar:,} bars after "
                "the first measured bar"
            )
        beside = {
            name: self._beside(getattr(given, name), name, bars, ruined)
            for name in ("gross_exposure", "net_exposure", "turnover", "cost")
        }
        trades = self._table(given.trades, "trades")
        return OwnAccount(
            settings=self._conditions,
            first_bar=first,
            equity=_read_only(path),
            net_return=_read_only(net_return),
            ruined_bar=last if ruined else None,
            trades_given=trades,
            trade_bars=None if trades is None else self._trade_bars(trades, bars),
            weights_given=self._weights(given.weights),
            metrics=self._metrics(given.metrics),
            undefined=(),
            notes=tuple(self._notes),
            held_before=began < first,
            **beside,
        )

    def _returns(self, series: Any, ruin: int | None) -> _OnBars:
        ruined = ruin is not None
        returns = self._on_bars(series, "net_return", until=ruin)
        values = returns.values[:-1] if ruined else returns.values
        self._refuse(
            values <= -1.0,
            returns.bars,
            "holds a return of -100 % or less",
            lambda place: f" ({returns.values[place]:g}); returns are fractions, 0.01 is 1 %",
        )
        large = np.flatnonzero(np.abs(returns.values) > 1.0)
        if len(large) and not ruined:
            self._notes.append(
                f"holds returns beyond 100 % a bar ({returns.values[large[0]]:g} at "
                f"{self._when(returns.bars[large[0]])}, {len(large):,} in all): are they percent "
                "instead of fractions?"
            )
        return returns

    def _equity(self, series: Any) -> _OnBars:
        equity = self._on_bars(series, "equity")
        if not len(equity.bars):
            return equity
        equity = self._until_ruin(equity)
        self._require_no_gap(equity, "equity")
        return equity

    def _until_ruin(self, equity: _OnBars) -> _OnBars:
        """Return an equity up to the first bar on which nothing is left."""
        lost = np.flatnonzero(equity.values <= 0.0)
        if not len(lost):
            return equity
        ruin, place = int(equity.bars[lost[0]]), int(lost[0]) + 1
        if place == 1 or ruin <= self._conditions.first_bar:
            raise StrategyError(
                f"{self._who}: equity is 0 or less at {self._when(ruin)}, before there is a return "
                f"to measure (after {self._when(self._conditions.first_bar)})"
            )
        if (equity.values[place:] > 0.0).any():
            self._notes.append(
                f"falls to 0 or below at {self._when(ruin)} and ends there; later values, which "
                "are above 0 again, do not count"
            )
        return _OnBars(equity.bars[:place], equity.values[:place])

    def _with_opening_costs(self, equity: _OnBars, cost: Any) -> _OnBars:
        """Return an equity that begins with the capital where costs of the first bar explain it.

        An equity on a scale of its own stays as it is.
        """
        capital = self._conditions.initial_capital
        lacking = capital - float(equity.values[0])
        opens = int(equity.bars[0]) == self._conditions.first_bar
        if not opens or not 1e-12 < lacking / capital <= MOST_OPENING_COST:
            return equity
        payable = self._conditions.cost_rate * max(1.0, self._conditions.max_gross_exposure)
        if cost is not None:
            stated = self._on_bars(cost, "cost", holes=True)
            payable = max(payable, *stated.values[stated.bars == equity.bars[0]] / capital, 0.0)
        if lacking / capital > payable + TOLERANCE:
            self._notes.append(
                f"begins with {equity.values[0]:g}, {lacking / capital:.2%} below initial_capital "
                f"({capital:g}), more than trades of that bar cost by its conditions or its "
                "cost, and in no return: begin with initial_capital"
            )
            return equity
        return _OnBars(equity.bars, np.concatenate(([capital], equity.values[1:])))

    def _measured(self, returns: _OnBars, ruined: bool) -> _OnBars:
        """Return the part after the first measured bar; refuse what leaves bars uncovered."""
        panel, first = self._panel, self._conditions.first_bar
        before = returns.bars <= first
        if first == 0 and before.any() and returns.values[before][-1] != 0.0:
            self._notes.append(
                f"has a return on the first bar of the data ({returns.values[before][-1]:g}), "
                "which does not count: the first return belongs to the second measured bar"
            )
        kept = _OnBars(returns.bars[~before], returns.values[~before])
        if not len(kept.bars):
            raise StrategyError(
                f"{self._who} returned no return on the measured bars, those after "
                f"{self._when(first)} up to {self._when(panel.n_bars - 1)}"
            )
        self._require_no_gap(kept, "net_return")
        last = int(kept.bars[-1])
        if last < panel.n_bars - 1 and not ruined:
            raise StrategyError(
                f"{self._who} returned returns up to {self._when(last)}, but the data go on to "
                f"{self._when(panel.n_bars - 1)} ({panel.n_bars - 1 - last:,} bars): give 0.0 "
                "where nothing is held, or set end_date"
            )
        return kept

    def _path(self, first: int, returns: _OnBars, equity: _OnBars | None) -> FloatArray:
        if equity is None:
            with np.errstate(over="ignore", under="ignore"):
                grown = np.concatenate(([1.0], np.cumprod(1.0 + returns.values)))
                path = np.asarray(self._conditions.initial_capital * grown)
            beyond = ~(np.isfinite(path) & (path > 0.0))[1:]
            text = (
                "returns compound beyond what a number holds, as percent instead of fractions do,"
            )
            self._refuse(beyond, returns.bars, text)
            return path
        held = equity.values[equity.bars >= first]
        if equity.bars[0] > first:
            held = np.concatenate(([held[0] / (1.0 + returns.values[0])], held))
        return np.array(held)

    def _require_match(self, returns: _OnBars, equity: _OnBars) -> None:
        panel = self._panel
        path = np.full(panel.n_bars, np.nan)
        path[equity.bars] = equity.values
        shown = path[returns.bars]
        missing = np.isnan(shown)
        self._refuse(missing, returns.bars, "equity has no value where net_return has one")
        extra = equity.bars[equity.bars > returns.bars[-1]]
        if len(extra):
            raise StrategyError(
                f"{self._who}: net_return has no value at {self._when(extra[0])}, but equity has"
            )
        grown = shown / path[returns.bars - 1] - 1.0
        with np.errstate(invalid="ignore"):
            wrong = np.abs(grown - returns.values) > TOLERANCE
        self._refuse(
            wrong,
            returns.bars,
            "equity does not match net_return",
            lambda place: f": {grown[place]!r} and {returns.values[place]!r}",
        )

    def _beside(self, series: Any, name: str, bars: range, ruined: bool) -> FloatArray | None:
        """Return an array beside the returns; on the first measured bar it may be missing."""
        if series is None:
            return None
        # What is held over an equity of nothing is no number.
        until = bars.stop - 1 - (ruined and "exposure" in name)
        given = self._on_bars(series, name, holes=True, until=until)
        values = np.full(self._panel.n_bars, np.nan)
        values[given.bars] = given.values
        values = values[bars.start : bars.stop]
        if np.isnan(values[0]):
            values[0] = 0.0
        checked = values[: len(values) - 1] if ruined and "exposure" in name else values
        places: IntArray = np.arange(bars.start, bars.stop)
        self._refuse(~np.isfinite(checked), places, f"{name} has no number where there is a return")
        if name != "net_exposure":
            self._refuse(checked < 0.0, places, f"{name} is negative")
        return _read_only(values)

    def _on_bars(
        self, series: Any, name: str, *, holes: bool = False, until: int | None = None
    ) -> _OnBars:
        """Return a series by position of its bars; it must increase, and hold numbers.

        What it holds after the bar ``until`` is left out.
        """
        if not isinstance(series, pd.Series):
            raise StrategyError(
                f"{self._who}: {name} must be a pandas Series by timestamp, but got "
                f"{type(series).__name__}"
            )
        bars = self._positions(series.index, name)
        try:
            values = _numbers_of(series)
        except (TypeError, ValueError) as error:
            raise StrategyError(f"{self._who}: {name} must hold numbers, but {error}") from error
        if until is not None:
            bars, values = bars[bars <= until], values[bars <= until]
        known = np.flatnonzero(~np.isnan(values))
        first = int(known[0]) if len(known) else len(values)
        found = _OnBars(bars[first:], values[first:])
        self._refuse(np.isinf(found.values), found.bars, f"{name} holds an infinite value")
        if not holes:
            self._refuse(
                np.isnan(found.values),
                found.bars,
                f"{name} holds NaN inside",
                lambda _: "; give 0.0 where nothing is held" if name == "net_return" else "",
            )
        if not len(found.bars) and not holes:
            raise StrategyError(f"{self._who}: {name} holds NaN only")
        return found

    def _positions(self, index: pd.Index, name: str) -> IntArray:
        """Return the positions in the panel of timestamps, which must be distinct bars in order."""
        panel, who = self._panel, f"{self._who}: {name}"
        if not len(index):
            raise StrategyError(f"{who} holds no bars")
        stamps = self._stamps(index, name)
        require_order(stamps, who)
        bars = panel.index.as_unit("ns").get_indexer(stamps)
        outside = np.flatnonzero(bars < 0)
        if len(outside):
            raise StrategyError(
                f"{who} has {len(outside):,} timestamps that are no bars of the data, the first "
                f"{moment_text(stamps[int(outside[0])])}; the data have {panel.n_bars:,} bars, "
                f"{self._when(0)} to {self._when(panel.n_bars - 1)}"
            )
        return np.asarray(bars, dtype=np.int64)

    def _stamps(self, index: Any, name: str) -> pd.DatetimeIndex:
        panel, who = self._panel, f"{self._who}: {name}"
        stamps = timestamps_of(index, who)
        if str(stamps.tz) != str(panel.index.tz):
            raise StrategyError(
                f"{who} is in the time zone {stamps.tz or 'none'}, the data in "
                f"{panel.index.tz or 'none'}; tz_convert or tz_localize makes them one"
            )
        return stamps

    def _require_no_gap(self, found: _OnBars, name: str) -> None:
        gaps = np.flatnonzero(np.diff(found.bars) != 1)
        if len(gaps):
            absent = int(found.bars[-1] - found.bars[0] + 1 - len(found.bars))
            raise StrategyError(
                f"{self._who}: {name} has no value on {absent:,} bars between its first and its "
                f"last one, the first {self._when(int(found.bars[gaps[0]]) + 1)}; it needs one on "
                "each bar of the data (a return of 0.0 where nothing is held)"
            )

    def _table(self, frame: Any, name: str) -> pd.DataFrame | None:
        if frame is None or isinstance(frame, pd.DataFrame):
            return frame
        raise StrategyError(
            f"{self._who}: {name} must be a pandas DataFrame, but got {type(frame).__name__}"
        )

    def _trade_bars(self, trades: pd.DataFrame, bars: range) -> IntArray:
        """Return the bar of each trade: the one that its timestamp lies on, or the one before."""
        if not len(trades):
            return np.empty(0, dtype=np.int64)
        stamps = self._stamps(self._trade_times(trades), "trades")
        found = bars_at(stamps, self._panel)
        if (found < 0).any():
            raise StrategyError(f"{self._who}: trades begin before the data")
        index = self._panel.index
        # A trade within the last bar bears a time after it.
        length = pd.Timedelta(np.median(np.diff(index.as_unit("ns").asi8)), "ns")
        beyond = stamps > index[-1] + max(pd.Timedelta(days=1), length)
        if beyond.any():
            raise StrategyError(
                f"{self._who}: {np.count_nonzero(beyond):,} trades lie after the end of the data, "
                f"{self._when(-1)}, the first at {moment_text(stamps[int(beyond.argmax())])}"
            )
        return found[(found >= bars.start) & (found < bars.stop)]

    def _trade_times(self, trades: pd.DataFrame) -> pd.DatetimeIndex:
        times = times_of(trades)
        if times is None:
            raise StrategyError(
                f"{self._who}: trades must have a column timestamp, or be indexed by timestamps"
            )
        return times

    def _weights(self, frame: Any) -> pd.DataFrame | None:
        weights = self._table(frame, "weights")
        if weights is None or not len(weights):
            return None
        self._positions(weights.index, "weights")
        try:
            real_numbers(weights.to_numpy())
        except (TypeError, ValueError) as error:
            raise StrategyError(f"{self._who}: weights must hold numbers, but {error}") from error
        return weights

    def _metrics(self, given: Any) -> dict[str, float]:
        if not isinstance(given, Mapping):
            raise StrategyError(
                f"{self._who}: metrics must map names to numbers, but got {type(given).__name__}"
            )
        found: dict[str, float] = {}
        for name, value in given.items():
            fault = metric_name_fault(name) or _value_fault(value)
            if fault:
                raise StrategyError(f"{self._who}: the metric {name!r} {fault}")
            found[name] = float(value)
        return found

    def _refuse(
        self, wrong: Any, bars: Sequence[int] | IntArray, text: str, more: Any = None
    ) -> None:
        """Raise when a mask of bars is not empty; the message has the first and the number."""
        places = np.flatnonzero(wrong)
        if len(places):
            place = int(places[0])
            ending = "" if more is None else more(place)
            count = f" ({len(places):,} bars)" if len(places) > 1 else ""
            raise StrategyError(f"{self._who}: {text} at {self._when(bars[place])}{count}{ending}")

    def _when(self, bar: Any) -> str:
        return moment_text(self._panel.index[int(bar)])


def timestamps_of(index: Any, who: str) -> pd.DatetimeIndex:
    """Return an index of timestamps in nanoseconds.

    Raises
    ------
    StrategyError
        When it holds something else, or a timestamp is missing.
    """
    if not isinstance(index, pd.DatetimeIndex):
        raise StrategyError(
            f"{who} must be indexed by timestamps, such as panel.index, but its index is a "
            f"{type(index).__name__}"
        )
    if index.hasnans:
        raise StrategyError(
            f"{who} has {np.count_nonzero(index.isna()):,} missing timestamps (NaT)"
        )
    return index.as_unit("ns")


def require_order(stamps: pd.DatetimeIndex, who: str) -> None:
    """Refuse timestamps that occur twice or are not in order.

    Raises
    ------
    StrategyError
        With the first of them.
    """
    if stamps.has_duplicates:
        twice = np.asarray(stamps.duplicated())
        raise StrategyError(
            f"{who} has {np.count_nonzero(twice):,} timestamps that occur twice, the first "
            f"{moment_text(stamps[int(twice.argmax())])}"
        )
    if not stamps.is_monotonic_increasing:
        place = int(np.argmax(np.diff(stamps.asi8) < 0)) + 1
        raise StrategyError(
            f"{who} must be in order of time, but {moment_text(stamps[place])} follows "
            f"{moment_text(stamps[place - 1])}; sort_index() orders it"
        )


def times_of(table: pd.DataFrame) -> pd.DatetimeIndex | None:
    """Return the column ``timestamp`` of a table, or its index; None where neither is one."""
    given: Any = table.get("timestamp", table.index)
    if pd.api.types.is_datetime64_any_dtype(given.dtype):
        given = pd.DatetimeIndex(given)
    return given if isinstance(given, pd.DatetimeIndex) else None


def bars_at(times: pd.DatetimeIndex, panel: Panel) -> IntArray:
    """Return the bar that each time lies on, or the one before; -1 before the first."""
    places = panel.index.as_unit("ns").searchsorted(times.as_unit("ns"), side="right") - 1
    return np.asarray(places, dtype=np.int64)


def metric_name_fault(name: Any) -> str:
    """Return why a metric of a strategy's own cannot have this name; empty if it can."""
    if not isinstance(name, str) or not _METRIC_NAME.fullmatch(name):
        return "must be named by a letter and letters, digits, '_' and '-' after it, at most 100"
    if not may_be_own(name) or name in _RESERVED or name in roles():
        return "has a name that is ours; give it another one"
    return ""


def _value_fault(value: Any) -> str:
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or isinstance(value, bool):
        return f"must be a number, but is {value!r} ({type(value).__name__})"
    try:
        finite = math.isfinite(value)
    except OverflowError:
        return f"must be a number that float64 holds, but has {len(str(abs(value))):,} digits"
    return "" if finite else f"must be a finite number, but is {value!r}"


def _numbers_of(series: "pd.Series[Any]") -> FloatArray:
    """Return a series as numbers; what pandas would turn into one (text, true) is refused."""
    if pd.api.types.is_bool_dtype(series.dtype):
        raise TypeError("the values are booleans")
    if isinstance(series.dtype, np.dtype):
        return real_numbers(series.to_numpy())
    if pd.api.types.is_numeric_dtype(series.dtype):
        return real_numbers(series.to_numpy(dtype=np.float64, na_value=np.nan))
    raise TypeError(f"the values are {series.dtype}")


def _read_only(array: FloatArray) -> FloatArray:
    array.flags.writeable = False
    return array
