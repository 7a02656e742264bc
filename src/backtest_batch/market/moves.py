"""Moves that are more often a fault in the data than a fact of the market."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from backtest_batch.market.bars import moment_text
from backtest_batch.market.fields import FloatArray, IntArray

LARGE_MOVE = 0.5
"""Largest change of a close in one bar, as a fraction, that passes without a warning."""

SPLITS = (*((n, 1) for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 100)), (3, 2))
"""Shares after and before the splits that are looked for; their reverse too."""

SPLIT_DAY = 0.035
"""Largest move of the market itself, in logs, on the bar of a split."""

CLOSE_SPLIT_DAY = 0.01
"""The same for 3 for 2, where closes alone are known: many a stock has lost a third in a day."""

TIMES_USUAL = 10.0
"""A split moves a price at least this many times as far as it usually moves."""

FEWEST_STEPS = 5.0
"""A split is at least so many of the smallest steps that the price makes: 0.03 to 0.02 is one."""

_SMALLEST_SPLIT = 0.3  # 3 for 2 takes a third off
_ROWS_AT_ONCE = 512
_NAMED = 3


# Each as (shares after, shares before, log of the new price over the old one).
_WAYS = sorted(
    ((new, old, float(np.log(old / new))) for a, b in SPLITS for new, old in ((a, b), (b, a))),
    key=lambda way: way[2],
)


def describe_moves(
    close: FloatArray,
    index: pd.DatetimeIndex,
    symbols: Sequence[str],
    *,
    fields: Mapping[str, FloatArray] | None = None,
) -> str | None:
    """Return a sentence about moves that look like faults in the data, None when there are none.

    Closes that moved over 50 % in one bar are counted, and the one is named that is largest in
    absolute log terms: a fall to a half weighs as much as a doubling.

    A move of any size looks like a split of a for b that is not adjusted for when the close is
    b / a of the last one within 3.5 % (in logs), the way to it is ten times the asset's usual move
    or more (the median of all but the largest) and five of its smallest steps or more, and, where
    open, high and low are known, all of them lie nearer to the new level than to the old one. For
    3 for 2 and closes alone, within 1 %.

    Parameters
    ----------
    close
        Closes, shape (n_bars, n_assets).
    index, symbols
        Timestamps and names.
    fields
        Open, high and low of the same shape, where they are known.
    """
    count, worst, place = 0, 0.0, (0, 0)
    rows, columns = [], []
    for start in range(1, len(close), _ROWS_AT_ONCE):
        block = close[start - 1 : start + _ROWS_AT_ONCE]
        ratio = block[1:] / block[:-1]
        change = np.abs(ratio - 1.0)
        notable = change > _SMALLEST_SPLIT
        if not notable.any():
            continue
        here = np.nonzero(notable)
        rows.append(here[0] + start)
        columns.append(here[1])
        large = change > LARGE_MOVE
        if large.any():
            count += int(large.sum())
            size = np.where(large, np.abs(np.log(ratio)), 0.0)
            row, column = divmod(int(size.argmax()), size.shape[1])
            if size[row, column] > worst:
                worst, place = float(size[row, column]), (start + row, column)
    if not rows:
        return None
    splits = _splits(close, np.concatenate(rows), np.concatenate(columns), fields or {})
    sentences = []
    if count:
        moves = "1 move" if count == 1 else f"{count:,} moves"
        named = _named(close, index, symbols, *place)
        sentences.append(f"{moves} over 50 % in one bar; the largest is {named}.")
        if not splits:
            sentences.append("Are splits adjusted for?")
    if splits:
        one = len(splits) == 1
        what = (
            "1 move looks like a split that is"
            if one
            else (f"{len(splits):,} moves look like splits that are")
        )
        shown = [
            f"{_named(close, index, symbols, row, column)} ({_WAYS[way][0]} for {_WAYS[way][1]}?)"
            for row, column, way in splits[:_NAMED]
        ]
        more = ", ..." if len(splits) > _NAMED else ""
        sentences.append(f"{what} not adjusted for: {', '.join(shown)}{more}")
    return " ".join(sentences) or None


def _splits(
    close: FloatArray, rows: IntArray, columns: IntArray, fields: Mapping[str, FloatArray]
) -> list[tuple[int, int, int]]:
    """Return row, column and position in ``_WAYS`` of the moves that look like splits."""
    before = close[rows - 1, columns]
    move = np.log(close[rows, columns] / before)
    levels = np.array([way for _, _, way in _WAYS])
    nearest = np.abs(move[:, None] - levels).argmin(axis=1)
    way = levels[nearest]
    ranges = [fields[name][rows, columns] for name in ("open", "high", "low") if name in fields]
    a_third = np.isclose(np.abs(way), np.log(1.5))
    within = np.where(a_third & (not ranges), CLOSE_SPLIT_DAY, SPLIT_DAY)
    alike = np.abs(move - way) <= within
    for price in ranges:
        # The whole bar must live on the new level: a crash begins on the old one.
        alike &= np.abs(np.log(price / before) - way) <= np.abs(way) / 2
    distance = np.abs(close[rows, columns] - before)
    named = np.unique(columns[alike]).tolist()
    usual = {column: _usual_move(close[:, column]) for column in named}
    step = {column: _smallest_step(close[:, column]) for column in named}
    return [
        (row, column, number)
        for row, column, number, far in zip(
            rows[alike].tolist(),
            columns[alike].tolist(),
            nearest[alike].tolist(),
            distance[alike].tolist(),
            strict=True,
        )
        if abs(_WAYS[number][2]) >= TIMES_USUAL * usual[column]
        and far >= FEWEST_STEPS * step[column]
    ]


def _usual_move(close: FloatArray) -> float:
    """Return the median of the absolute moves in logs of one asset, the largest left out."""
    moves = np.abs(np.diff(np.log(close)))
    moves = np.sort(moves[np.isfinite(moves)])[:-1]
    return float(np.median(moves)) if len(moves) else 0.0


def _smallest_step(close: FloatArray) -> float:
    """Return the smallest change of a close but the largest; 0 when there is no other."""
    steps = np.abs(np.diff(close))
    steps = np.sort(steps[np.isfinite(steps) & (steps > 0)])[:-1]
    return float(steps[0]) if len(steps) else 0.0


def _named(
    close: FloatArray, index: pd.DatetimeIndex, symbols: Sequence[str], row: int, column: int
) -> str:
    change = close[row, column] / close[row - 1, column] - 1.0
    return f"{symbols[column]} {change:+.1%} at {moment_text(index[row])}"
