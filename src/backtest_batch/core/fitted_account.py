"""Strategies that are fitted in each split and make their own accounts: these end to end."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.conditions import Conditions
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.metrics import ACCOUNT_METRICS, result_metrics
from backtest_batch.core.fitting import fitted_on
from backtest_batch.core.own_account import OwnAccount, ask_for_account, bars_at, times_of
from backtest_batch.core.splits import Split
from backtest_batch.errors import StrategyError


@dataclass(frozen=True, kw_only=True)
class FittedAccount:
    """The account of a strategy that was fitted on the training bars of each split.

    Attributes
    ----------
    account
        Its accounts on the test windows, end to end; each begins on the bar before its window.
    in_sample
        Metrics on the training bars, one value per split, NaN where undefined.
    """

    account: OwnAccount
    in_sample: Mapping[str, tuple[float, ...]]


def fitted_account(
    make_strategy: Callable[[], Any],
    panel: Panel,
    conditions: Conditions,
    splits: Sequence[Split],
    benchmark: FloatArray | None,
) -> FittedAccount:
    """Fit a strategy on the training bars of each split, and put its test accounts end to end.

    A test account sees no bar after its window. It goes on to the bar before the next window, the
    last one to the end of the data. It is entered with the last decision before its window, so that
    no window begins in cash. What it costs to enter, or to change from the positions of one split
    to those of the next, is in no account.

    Parameters
    ----------
    make_strategy
        Makes a new strategy for each split.
    panel, conditions
        The data and the conditions of the run.
    splits
        Splits of the panel.
    benchmark
        Net returns of the benchmark, shape (n_bars,); None without one.

    Raises
    ------
    StrategyError
        When an account cannot be true, or has no return on the first bar of its test window.
    """
    tested: list[OwnAccount] = []
    trained: list[dict[str, float]] = []
    ends = [*(split.test_start for split in splits[1:]), panel.n_bars]
    for split, end in zip(splits, ends, strict=True):
        if tested and tested[-1].ruined_bar is not None:
            trained.append({})  # an account that is told from the first bar on has ended, too
            continue
        strategy = fitted_on(make_strategy(), panel, split)
        first = max(split.train_start - 1, conditions.first_bar)
        seen = _account(strategy, panel, conditions, first, split.train_end + 1)
        trained.append(_metrics(seen, conditions, benchmark))
        account = _account(strategy, panel, conditions, split.test_start - 1, end)
        if account.first_bar != split.test_start - 1:
            raise StrategyError(
                f"the account of split {split.number} has no return on the first bar of its test "
                f"window, {panel.index[split.test_start]}"
            )
        tested.append(account)
    return FittedAccount(
        account=_joined(tested, panel),
        in_sample={
            name: tuple(found.get(name, math.nan) for found in trained)
            for name in ACCOUNT_METRICS
            if any(name in found for found in trained)
        },
    )


def _account(
    strategy: Any, panel: Panel, conditions: Conditions, first_bar: int, stop: int
) -> OwnAccount:
    """Ask for an account that is measured from a bar on, and has its positions by then."""
    decisions = conditions.decisions
    entered = _entered(decisions, first_bar, conditions.execution_lag)
    own = decisions[(decisions >= entered) & (decisions < stop)]
    seen = panel if stop == panel.n_bars else panel.window(0, stop)
    asked = replace(conditions, first_bar=entered, decisions=own)
    return ask_for_account(strategy, seen, asked, first_bar)


def _entered(decisions: IntArray, first_bar: int, execution_lag: int) -> int:
    """Return where an account begins that has its positions at a bar: just before their decision.

    Without a decision that is executed by then it begins at the bar itself.
    """
    place = int(np.searchsorted(decisions, first_bar - execution_lag, side="right"))
    return max(0, int(decisions[place - 1]) - 1) if place else first_bar


def _metrics(
    account: OwnAccount, conditions: Conditions, benchmark: FloatArray | None
) -> dict[str, float]:
    bars = slice(account.first_bar, account.first_bar + account.n_measured)
    metrics, _ = result_metrics(
        account,
        periods_per_year=conditions.periods_per_year,
        risk_free_rate=conditions.risk_free_rate,
        benchmark_returns=None if benchmark is None else benchmark[bars],
    )
    return metrics


def _joined(accounts: Sequence[OwnAccount], panel: Panel) -> OwnAccount:
    """Return accounts end to end as one; what one of them does not know, the whole does not."""
    first, last = accounts[0], accounts[-1]
    bars = slice(first.first_bar, last.first_bar + last.n_measured)
    returns = np.concatenate([[np.nan], *(item.net_return[1:] for item in accounts)])
    equity = first.equity[0] * np.concatenate(([1.0], np.cumprod(1.0 + returns[1:])))

    def along(name: str) -> FloatArray | None:
        whole = np.zeros(panel.n_bars)
        for item in accounts:
            values = getattr(item, name)
            if values is None:
                return None
            start = item.first_bar
            # The trades that open a window belong to its first measured bar, as the exposure does.
            # Those of an account that goes on from before are in the window before.
            if name not in ("turnover", "cost_ratio"):
                whole[start] = values[0]
            elif not item.held_before:
                whole[start] += values[0]
            whole[start + 1 : start + len(values)] = values[1:]
        return whole[bars]

    figures = tuple(dict.fromkeys(name for item in accounts for name in item.metrics))
    notes = [note for item in accounts for note in item.notes]
    if figures:
        notes.append(
            f"has figures of its own ({', '.join(figures)}): each test window has one, and the "
            "whole has none"
        )
    ratio = along("cost_ratio")
    before = np.concatenate((equity[:1], equity[:-1]))
    trades = [
        item.trade_bars[item.trade_bars >= _traded_from(item)]
        for item in accounts
        if item.trade_bars is not None
    ]
    return replace(
        first,
        equity=equity,
        net_return=returns,
        gross_exposure=along("gross_exposure"),
        net_exposure=along("net_exposure"),
        turnover=along("turnover"),
        cost=None if ratio is None else ratio * before,
        ruined_bar=last.ruined_bar,
        trades_given=_stacked([_within(item.trades_given, item, panel) for item in accounts]),
        weights_given=_stacked([_within(item.weights_given, item, panel) for item in accounts]),
        trade_bars=np.concatenate(trades) if len(trades) == len(accounts) else None,
        metrics={},
        undefined=figures,
        notes=tuple(dict.fromkeys(notes)),
    )


def _traded_from(account: OwnAccount) -> int:
    """Return the first bar whose trades are those of a window."""
    return account.first_bar + account.held_before


def _within(frame: pd.DataFrame | None, account: OwnAccount, panel: Panel) -> pd.DataFrame | None:
    """Return the rows of a table that belong to a window."""
    times = None if frame is None or not len(frame) else times_of(frame)
    if frame is None or times is None:
        return frame
    bars = bars_at(times, panel)
    end = account.first_bar + account.n_measured
    return frame[(bars >= _traded_from(account)) & (bars < end)]


def _stacked(frames: Sequence[pd.DataFrame | None]) -> pd.DataFrame | None:
    given = [frame for frame in frames if frame is not None]
    if len(given) < len(frames):
        return None
    return pd.concat(given, ignore_index=all("timestamp" in frame for frame in given))
