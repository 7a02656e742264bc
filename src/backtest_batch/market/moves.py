"""Moves that are more often a fault in the data than a fact of the market."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from backtest_batch.market.bars import moment_text
from backtest_batch.market.fields import FloatArray

LOG = logging.getLogger("backtest_batch.market")

LARGE_MOVE = 0.5
"""Largest change of a close in one bar, as a fraction, that passes without a warning."""

_ROWS_AT_ONCE = 512


def warn_of_moves(close: FloatArray, index: pd.DatetimeIndex, symbols: Sequence[str]) -> None:
    """Log a warning when closes moved over 50 % in one bar."""
    moves = describe_moves(close, index, symbols)
    if moves is not None:
        LOG.warning("%s", moves)


def describe_moves(
    close: FloatArray, index: pd.DatetimeIndex, symbols: Sequence[str]
) -> str | None:
    """Return a sentence about the closes that moved over 50 % in one bar, None when none did.

    Counts them and names the one that is largest in absolute log terms: a fall to a half weighs as
    much as a doubling.
    """
    count, worst, place = 0, 0.0, (0, 0)
    for start in range(1, len(close), _ROWS_AT_ONCE):
        block = close[start - 1 : start + _ROWS_AT_ONCE]
        ratio = block[1:] / block[:-1]
        large = np.abs(ratio - 1.0) > LARGE_MOVE
        if large.any():
            count += int(large.sum())
            size = np.where(large, np.abs(np.log(ratio)), 0.0)
            row, column = divmod(int(size.argmax()), size.shape[1])
            if size[row, column] > worst:
                worst, place = float(size[row, column]), (start + row, column)
    if not count:
        return None
    row, column = place
    change = close[row, column] / close[row - 1, column] - 1.0
    moves = "1 move" if count == 1 else f"{count:,} moves"
    named = f"{symbols[column]} {change:+.1%} at {moment_text(index[row])}"
    return f"{moves} over 50 % in one bar; the largest is {named}. Are splits adjusted for?"
