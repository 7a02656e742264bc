"""Prices as CRSP writes them: with a minus sign on days without a trade, and 0 for none at all."""

from collections.abc import Iterable

import numpy as np

from backtest_batch.arrays import FloatArray
from backtest_batch.core.data.column_names import plain

_PRICE = "prc"
_OTHERS = frozenset({"permno", "permco", "ret", "retx", "shrout", "bidlo", "askhi", "cfacpr"})


def is_crsp_price(column: str, others: Iterable[str]) -> bool:
    """Return whether a column holds CRSP's prices: it is named PRC, and another is CRSP's too."""
    return plain(column) == _PRICE and any(plain(other) in _OTHERS for other in others)


def without_marks(close: FloatArray, column: str) -> tuple[FloatArray, list[str]]:
    """Return CRSP's prices without their marks, and notes on them.

    A negative price is the average of bid and ask on a day without a trade, and the sign is a mark;
    0 stands for no price.

    Parameters
    ----------
    close
        The prices, shape (n_rows,).
    column
        Name of their column, for the notes.
    """
    marked, zero = int((close < 0.0).sum()), int((close == 0.0).sum())
    notes = []
    if marked:
        notes.append(
            f"negative values of '{column}' ({marked:,}) are averages of bid and ask, as CRSP "
            "marks them, and are read without the sign"
        )
    if zero:
        notes.append(f"values of '{column}' that are 0 ({zero:,}) are missing, as CRSP writes them")
    return np.where(close == 0.0, np.nan, np.abs(close)), notes
