"""NaN inside a series: an error, or filled with the last close up to a limit."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from backtest_batch.errors import DataError
from backtest_batch.market.bars import BarFault, moment_text, raise_faults, without
from backtest_batch.market.fields import BoolArray, FloatArray, IntArray

LOG = logging.getLogger("backtest_batch.market")


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """What to do about a bar without a value between an asset's first and last close.

    Attributes
    ----------
    missing
        ``error`` refuses it. ``ffill`` fills it: a missing price is the last close before it, a
        missing volume 0.
    missing_limit
        Bars in a row that are filled at most; a longer gap is an error.
    """

    missing: Literal["error", "ffill"] = "error"
    missing_limit: int = 5

    def __post_init__(self) -> None:
        if self.missing not in ("error", "ffill"):
            raise ValueError(f"`missing` must be error or ffill, but got missing={self.missing}.")
        if self.missing_limit < 1:
            raise ValueError(
                f"`missing_limit >= 1` must hold, but got missing_limit={self.missing_limit}."
            )


def check_columns(close: FloatArray, symbols: Sequence[str], files: Mapping[str, str]) -> None:
    """Check that every symbol has a close.

    Raises
    ------
    DataError
        When a column of ``close``, shape (n_bars, n_assets), is all NaN.
    """
    empty = [symbols[column] for column in np.flatnonzero(np.isnan(close).all(axis=0)).tolist()]
    if empty:
        where = f"{files[empty[0]]}: " if files[empty[0]] else ""
        others = f"; nor have {', '.join(empty[1:6])}" if len(empty) > 1 else ""
        others += f" and {len(empty) - 6:,} more symbols" if len(empty) > 6 else ""
        # All of them, so that one answer is enough.
        out = without("close", empty, files[empty[0]])
        if len(empty) > 1:
            out = out.replace("leaves the symbol out", "leaves them out")
        raise DataError(
            f"{where}{empty[0]} has no price on any of {len(close):,} bars (all-NaN column)"
            f"{others}{out}"
        )


def lifetimes(close: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the positions of each asset's first and last bar, each of shape (n_assets,)."""
    priced = ~np.isnan(close)
    return priced.argmax(axis=0), len(close) - 1 - priced[::-1].argmax(axis=0)


def fill_or_refuse(
    fields: Mapping[str, FloatArray],
    index: pd.DatetimeIndex,
    symbols: Sequence[str],
    files: Mapping[str, str],
    gaps: Gaps,
) -> None:
    """Make NaN stand only outside each asset's first and last close, in place.

    Values of other fields outside the first and last close are dropped: no close, no bar.

    Raises
    ------
    DataError
        When there is a gap and ``missing`` is ``error``, or it is longer than the limit.
    """
    first, last = lifetimes(fields["close"])
    rows = np.arange(len(index))[:, None]
    inside = (rows >= first) & (rows <= last)
    faults: list[BarFault] = []
    filled = 0
    for name in ("close", *(name for name in fields if name != "close")):
        values = fields[name]
        if name != "close":
            values[~inside] = np.nan
        # One NaN and one zero, as the fingerprint is over bits.
        empty = np.isnan(values)
        values[empty] = np.nan
        values += 0.0
        gap = inside & empty
        for column in np.flatnonzero(gap.any(axis=0)).tolist():
            allowed = 0 if gaps.missing == "error" else gaps.missing_limit
            long = _runs_over(gap[:, column], allowed)
            if long.any():
                symbol = symbols[column]
                faults.append(
                    BarFault(
                        symbol=symbol,
                        moment=moment_text(index[int(long.argmax())]),
                        count=int(long.sum()),
                        what=f"has no {name} inside its series",
                        file=files[symbol],
                    )
                )
            else:
                _fill(values, fields["close"], gap[:, column], column, name)
                filled += int(gap[:, column].sum())
        raise_faults(faults, _rule(gaps, name) + _advice(name, faults))
    if filled:
        LOG.info("filled %s missing values with the last close", f"{filled:,}")


def _advice(name: str, faults: Sequence[BarFault]) -> str:
    """Return how an optional field is left out: closes with gaps are a matter of the limit."""
    return without(name, (), faults[0].file) if faults and name != "close" else ""


def _rule(gaps: Gaps, name: str) -> str:
    if gaps.missing == "error":
        fill = "0" if name == "volume" else "the last close"
        return (
            f"a series may have no gap; `data.missing=ffill` fills it with {fill}, "
            f"`data.missing_limit={gaps.missing_limit}` bars in a row at most"
        )
    return f"more than `data.missing_limit={gaps.missing_limit}` bars in a row are not filled"


def _runs_over(gap: BoolArray, allowed: int) -> BoolArray:
    """Return the bars of those runs of True that are longer than ``allowed``."""
    edges = np.diff(gap.astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    long = np.zeros(len(gap), dtype=np.bool_)
    for start, end in zip(starts, ends, strict=True):
        long[start:end] = end - start > allowed
    return long


def _fill(values: FloatArray, close: FloatArray, gap: BoolArray, column: int, name: str) -> None:
    for row in np.flatnonzero(gap):
        if name == "volume":
            values[row, column] = 0.0
        else:
            # An asset's first bar has no close before it: its own stands in.
            before = close[row - 1, column] if row else np.nan
            values[row, column] = close[row, column] if np.isnan(before) else before
