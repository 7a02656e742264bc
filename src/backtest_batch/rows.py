"""Arrays of bars on disk, such as the net returns of every run of a batch: one row per run.

A row holds the values on the bars of the run's data (NaN where there is no value), followed by a
mark: a number derived from the row and its key. A row is complete and belongs to the key exactly if
its mark is right. That excludes rows that were never written, rows half written when a process or
the machine died, and rows that belong to other data or code.
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backtest_batch.arrays import FloatArray


@contextmanager
def row_writer(path: Path, row_bars: int) -> Iterator["RowWriter"]:
    """Open or create a file of rows, and yield a function that writes one row.

    Rows are written with pwrite rather than through a memory map: a full disk then raises an error
    instead of killing the process.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield RowWriter(descriptor, row_bars)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class RowWriter:
    """Writes rows of ``row_bars`` values."""

    descriptor: int
    row_bars: int

    def __call__(self, row: int, key: str, first_bar: int, values: FloatArray) -> None:
        """Write one row: NaN wherever the run has no value.

        Parameters
        ----------
        row
            Number of the row.
        key
            The run key, or the key of a benchmark.
        first_bar
            The bar of the first value.
        values
            Shape (n,).
        """
        whole = np.full(self.row_bars + 1, np.nan)
        whole[first_bar : first_bar + len(values)] = values
        whole[-1] = mark(whole[:-1], key)
        data = memoryview(whole.tobytes())
        offset = row * len(data)
        while data:
            written = os.pwrite(self.descriptor, data, offset)
            data, offset = data[written:], offset + written


def mark(values: FloatArray, key: str) -> float:
    """Return the number at the end of a row with these values."""
    # At least 2**32, so that a row of zeros is never right.
    return float(zlib.crc32(values.tobytes(), zlib.crc32(key.encode())) | 1 << 32)


def open_rows(path: Path, n_rows: int, row_bars: int) -> FloatArray:
    """Map a file of rows read-only, shape (n_rows, row_bars + 1); missing rows are zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have deleted it
    size = n_rows * (row_bars + 1) * 8
    with path.open("ab") as file:
        if file.tell() < size:
            file.truncate(size)
    return np.memmap(path, dtype=np.float64, mode="r", shape=(n_rows, row_bars + 1))


def is_whole(row: FloatArray, key: str) -> bool:
    """Return whether a row was completely written for this key."""
    return bool(row[-1] == mark(row[:-1], key))


def are_written(rows: FloatArray, wanted: Sequence[int]) -> bool:
    """Return whether all wanted rows were written; unlike :func:`is_whole`, reads only marks."""
    return bool((rows[:, -1][list(wanted)] >= 1 << 32).all())


def copy_rows(source: Path, target: Path, rows: Iterable[tuple[int, str]], row_bars: int) -> None:
    """Copy the given rows (number and key) from one file to another, except incomplete ones."""
    copy_rows_to(source, target, [(row, row, key) for row, key in rows], (row_bars, row_bars))


def copy_rows_to(
    source: Path, target: Path, rows: Sequence[tuple[int, int, str]], row_bars: tuple[int, int]
) -> None:
    """Copy rows from one file to another, except incomplete ones.

    Parameters
    ----------
    source, target
        The files.
    rows
        Number in the source, number in the target, and key.
    row_bars
        Values in a row of the source, and in one of the target.
    """
    if not rows or not source.exists():
        return
    source_bars, target_bars = row_bars
    source_rows = open_rows(source, max(row for row, _, _ in rows) + 1, source_bars)
    with row_writer(target, target_bars) as write:
        for row, place, key in rows:
            if is_whole(source_rows[row], key):
                write(place, key, 0, source_rows[row][: min(row_bars)])
