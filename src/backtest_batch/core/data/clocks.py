"""From wall clock to instants, where a change of the clocks repeats an hour or skips one."""

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, IntArray
from backtest_batch.core.data.bars import moment_text
from backtest_batch.errors import DataError


def instants_of(
    walls: pd.DatetimeIndex, index: pd.DatetimeIndex, label: str, series: IntArray | None = None
) -> IntArray:
    """Return the instants of times on the wall clock of an index, in nanoseconds since 1970.

    Of an hour that occurs twice, as clocks are put back, the order of the rows tells which one is
    meant: if the rows of a series are in order of time (or all in reverse), and the hour begins
    again once within them.

    Parameters
    ----------
    walls
        Times without a zone, shape (n_rows,).
    index
        An index with a zone, whose clock they are read on.
    label
        Name of the table, for messages.
    series
        Which series each row belongs to, shape (n_rows,); None means that all are one.

    Raises
    ------
    DataError
        When a change of the clocks skips a time, or repeats it and it is unclear which is meant.
    """
    early, late = (
        walls.tz_localize(
            index.tz, ambiguous=np.full(len(walls), is_dst), nonexistent="NaT"
        ).as_unit("ns")
        for is_dst in (True, False)
    )
    skipped = np.asarray(early.isna())
    if skipped.any():
        raise _unclear(walls, skipped, label, "does not exist")
    instants = np.array(early.asi8)
    twice = instants != late.asi8
    if not twice.any():
        return instants
    of = np.zeros(len(walls), dtype=np.int64) if series is None else series
    order = _in_order(walls, of)
    again = _occurs_again(walls, of, twice, order)
    instants[again] = late.asi8[again]
    steps = np.diff(instants[order])
    wrong = (steps <= 0) & (of[order][1:] == of[order][:-1])
    unclear = twice & np.isin(of, of[order][1:][wrong])
    # An hour of which only one occurrence is there may be either.
    both = pd.DataFrame({"series": of, "day": walls.normalize().asi8, "again": again})[twice]
    held = both.groupby(["series", "day"])["again"].transform("any").to_numpy()
    unclear[np.flatnonzero(twice)[~held]] = True
    if unclear.any():
        raise _unclear(walls, unclear, label, "occurs twice")
    return instants


def _in_order(walls: pd.DatetimeIndex, of: IntArray) -> IntArray:
    """Return the rows by series, each as in the file, or turned if it begins with its last row."""
    codes, first = np.unique(of, return_index=True)
    last = len(of) - 1 - np.unique(of[::-1], return_index=True)[1]
    stamps = walls.asi8
    turned = (stamps[last] < stamps[first])[np.searchsorted(codes, of)]
    rows = np.arange(len(of))
    return np.lexsort((np.where(turned, -rows, rows), of))


def _occurs_again(
    walls: pd.DatetimeIndex, of: IntArray, twice: BoolArray, order: IntArray
) -> BoolArray:
    """Return which rows come after the clock has gone back, within their series and day."""
    rows = order[twice[order]]
    day, stamps = walls.normalize().asi8[rows], walls.asi8[rows]
    same = (day[1:] == day[:-1]) & (of[rows][1:] == of[rows][:-1])
    back = np.concatenate(([0], (same & (np.diff(stamps) <= 0)).astype(np.int64)))
    total = np.cumsum(back)
    starts = np.concatenate(([True], ~same))
    before = np.maximum.accumulate(np.where(starts, total - back, 0))
    again = np.zeros(len(walls), dtype=np.bool_)
    again[rows] = total > before
    return again


def _unclear(walls: pd.DatetimeIndex, rows: BoolArray, label: str, what: str) -> DataError:
    row, count = int(rows.argmax()), int(rows.sum())
    such = "1 such timestamp" if count == 1 else f"{count:,} such timestamps"
    return DataError(
        f"{label}: {moment_text(walls[row])} {what} on the clock of the prices, as clocks change "
        f"(data row {row + 1}; {such}): write timestamps with an offset, such as "
        "2020-11-01T01:30:00-04:00"
    )
