"""Markets whose bars have changed places: equal gains in another order, and so nothing to foresee.

A strategy that times the market lives on the order of its bars. In a permuted market the gains of
all assets are those of the real one, day by day together, and only their order is another one; what
a search still finds there is luck.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.data.panel import Panel, new_panel
from backtest_batch.core.engine.sessions import session_days, session_starts
from backtest_batch.records import PermutedMarket

_RELATIVE = ("open", "high", "low")
"""Fields that are kept relative to the close of their bar."""


def permuted_panel(panel: Panel, market: PermutedMarket, session_end: str | None = None) -> Panel:
    """Return the market in another order.

    The gain of each bar, close over close before, moves with its open, high and low relative to the
    close and its volume, for all assets together. Where a day has several bars, whole sessions
    move, among those with as many bars. Timestamps, members and the first bar stay; so does a bar
    on which an asset appears or ends, and bars move only among those on which the same assets have
    prices, so that each asset begins and ends where it does.

    Parameters
    ----------
    panel
        The real market.
    market
        Which permutation.
    session_end
        When the market's days end, ``HH:MM``; None is midnight.

    Raises
    ------
    ValueError
        When the panel has fields or features beside prices and volume: how they would move is not
        known.
    """
    extra = [*set(panel.fields).difference((*_RELATIVE, "close", "volume")), *panel.feature_arrays]
    if extra:
        raise ValueError(f"{', '.join(sorted(extra))} cannot be permuted")
    order = bar_order(panel, market, session_end)
    close = panel.fields["close"]
    gains = np.ones_like(close)
    gains[1:] = close[1:] / close[:-1]
    fields = {"close": _path(close, gains[order])}
    for name in _RELATIVE:
        if name in panel.fields:
            fields[name] = (panel.fields[name] / close)[order] * fields["close"]
    if "volume" in panel.fields:
        fields["volume"] = panel.fields["volume"][order]
    for name, values in fields.items():
        # What has not moved keeps its last bits.
        same = _unmoved(order)
        values[same] = panel.fields[name][same]
        fields[name] = np.ascontiguousarray(values)
    return new_panel(panel.index, panel.symbols, fields, members=panel.members)


def share_moved(panel: Panel, session_end: str | None = None) -> float:
    """Return which share of the gains can change places with another one."""
    groups = _groups(panel, session_end)
    return sum(len(bars) for group in groups if len(group) > 1 for bars in group) / (
        panel.n_bars - 1
    )


def bar_order(panel: Panel, market: PermutedMarket, session_end: str | None = None) -> IntArray:
    """Return which bar of the real market each bar of a permuted one takes its gain from.

    Blocks of geometric lengths are shuffled, once to set out and once more. If a plain permutation
    of blocks were compared with the real order, that would be the only one whose blocks are
    whole: with a random order to set out from, the real market is one of equals, and the p-value
    is exact for independent bars, whatever the lengths of the blocks (Ramdas, Barber, Candes and
    Tibshirani 2023, Permutation Tests Using Arbitrary Permutation Distributions, Sankhya A 85).
    """
    order = np.arange(panel.n_bars)
    for number, group in enumerate(_groups(panel, session_end)):
        first = _shuffled(len(group), market.mean_block, (market.seed, 0, number))
        other = _shuffled(len(group), market.mean_block, (market.seed, market.number, number))
        units = np.argsort(first)[other]
        order[np.concatenate(group)] = np.concatenate([group[unit] for unit in units])
    return order


def _shuffled(n_units: int, mean_block: float, seed: Sequence[int]) -> IntArray:
    """Return the positions 0 to n - 1, cut into blocks, in random order of the blocks."""
    generator = np.random.default_rng(seed)
    # Two bars stay together if neither of the two shuffles cuts between them.
    starts = generator.random(n_units) < 1.0 - math.sqrt(1.0 - 1.0 / max(mean_block, 1.0))
    blocks = np.split(np.arange(n_units), np.flatnonzero(starts[1:]) + 1)
    return np.concatenate([blocks[number] for number in generator.permutation(len(blocks))])


def _groups(panel: Panel, session_end: str | None) -> list[list[IntArray]]:
    """Return the bars that move together, grouped by those with which they may change places."""
    lives = ~np.isnan(panel.fields["close"])
    steady = np.zeros(panel.n_bars, dtype=np.bool_)
    steady[1:] = (lives[1:] == lives[:-1]).all(axis=1)
    era = np.cumsum(~steady)
    groups: dict[tuple[int, int], list[IntArray]] = {}
    for bars in _units(panel.index, session_end):
        if steady[bars].all():
            groups.setdefault((int(era[bars[0]]), len(bars)), []).append(bars)
    return list(groups.values())


def _units(index: pd.DatetimeIndex, session_end: str | None) -> list[IntArray]:
    starts = session_starts(session_days(index, session_end))
    return np.split(np.arange(len(index)), starts[1:])


def _path(close: FloatArray, gains: FloatArray) -> FloatArray:
    """Return prices that start as each asset did, and grow by the gains while it lives."""
    lives = ~np.isnan(close)
    begins = lives.copy()
    begins[1:] &= ~lives[:-1]
    steps = np.where(lives, np.where(begins, close, gains), 1.0)
    path = np.multiply.accumulate(steps, axis=0)
    path[~lives] = np.nan
    return path


def _unmoved(order: IntArray) -> BoolArray:
    """Return the bars up to which nothing has moved."""
    moved = order != np.arange(len(order))
    return ~np.logical_or.accumulate(moved)
