"""Tables of the page that hold text only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.comparison.levels import format_value
from backtest_batch.cutting import REPORTED_MESSAGE, cut_text


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """One table: headings, and rows whose first cell names them.

    Attributes
    ----------
    caption
        What it shows, for those who cannot see where it stands.
    head
        Headings of the columns.
    rows
        Cells as text.
    numbers
        Positions of the columns that are set flush right.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


def table_of_rows(caption: str, head: Sequence[str], rows: Mapping[str, str]) -> TextTable:
    """Return a table of two columns from text by name."""
    cells = [(str(name), cut_text(str(text), REPORTED_MESSAGE)) for name, text in rows.items()]
    return TextTable(caption=caption, head=head, rows=cells)


def table_of_frame(caption: str, frame: pd.DataFrame) -> TextTable:
    """Return a frame as text, without its index.

    Numbers have four significant digits, midnights are dates, missing values are empty.
    """
    numbers = frozenset(
        place
        for place, name in enumerate(frame.columns)
        if pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != np.bool_
    )
    columns = [[cell_text(value) for value in frame[name].tolist()] for name in frame.columns]
    return TextTable(
        caption=caption,
        head=[str(name) for name in frame.columns],
        rows=list(zip(*columns, strict=True)),
        numbers=numbers,
    )


def cell_text(value: Any) -> str:
    """Return a value of any kind for people."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, float | np.floating):
        return number_text(float(value))
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if isinstance(value, pd.Timestamp):
        return str(value.date()) if value == value.normalize() else str(value)
    if isinstance(value, list | tuple):
        return cut_text(", ".join(cell_text(item) for item in value))
    return cut_text(format_value(value))


def number_text(value: float) -> str:
    """Return a number with four significant digits, grouped when large; empty when missing."""
    if not math.isfinite(value):
        return ""
    if value.is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
