"""Prices and returns as CRSP writes them, with marks and codes in place of some."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from backtest_batch.arrays import FloatArray
from backtest_batch.core.data.column_names import is_of_crsp, plain

_PRICE = "prc"
_RETURNS = ("ret", "retx")


def is_crsp_price(column: str, others: Iterable[str]) -> bool:
    """Return whether a column holds CRSP's prices: it is named PRC, and another is CRSP's too."""
    return plain(column) == _PRICE and is_of_crsp(others)


def is_crsp_return(column: str, others: Iterable[str]) -> bool:
    """Return whether a column holds CRSP's returns: it is named RET, and another is CRSP's too."""
    beside = [other for other in others if plain(other) not in _RETURNS]
    of_crsp = is_of_crsp(beside) or any(plain(other) == _PRICE for other in beside)
    return plain(column) in _RETURNS and of_crsp


def without_codes(values: Any, column: str) -> tuple[Any, list[str]]:
    """Return an arrow column of text without CRSP's letters for a return that is not there.

    Parameters
    ----------
    values
        The returns as text; other columns are returned as they are.
    column
        Name of the column, for the note.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(values.type):
        return values, []
    coded = pc.fill_null(pc.match_substring_regex(values, r"^\s*[A-E]\s*$"), False)
    count = pc.sum(coded).as_py() or 0
    if not count:
        return values, []
    note = f"letters in '{column}' ({count:,}) are returns that are missing, as CRSP writes them"
    return pc.if_else(coded, pa.scalar(None, pa.string()), values), [note]


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
