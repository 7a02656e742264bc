"""What a split is: positions of training and test bars."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest_batch.market.panel import IntArray

Windows = tuple[range, ...]
"""Bars as increasing ranges of positions."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split into training and test bars.

    Attributes
    ----------
    number
        Position among the splits, from 0.
    train, test
        Positions of the bars, as increasing ranges. A walk-forward has one of each; the
        combinatorial method has one test range for each test fold.
    """

    number: int
    train: Windows
    test: Windows

    @property
    def train_start(self) -> int:
        """First training bar."""
        return self.train[0].start

    @property
    def train_end(self) -> int:
        """Last training bar, inclusive."""
        return self.train[-1].stop - 1

    @property
    def test_start(self) -> int:
        """First test bar."""
        return self.test[0].start

    @property
    def test_end(self) -> int:
        """Last test bar, inclusive."""
        return self.test[-1].stop - 1


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Bars of an out-of-sample curve over which one choice is held.

    Attributes
    ----------
    split
        Number of the split whose choice it is.
    bars
        Positions of the bars.
    """

    split: int
    bars: range


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """The splits of one index, and what is to be said about them.

    Attributes
    ----------
    splits
        In order of their test windows.
    paths
        How test windows join into out-of-sample curves: each path holds segments in order of time.
        A walk-forward has one path, the combinatorial method several.
    notes
        Sentences about windows that were left out.
    """

    splits: tuple[Split, ...]
    paths: tuple[tuple[Segment, ...], ...]
    notes: tuple[str, ...] = ()


def positions(windows: Sequence[range]) -> IntArray:
    """Return the positions of several ranges in one array."""
    if not windows:
        return np.empty(0, dtype=np.int64)
    return np.concatenate([np.arange(item.start, item.stop, dtype=np.int64) for item in windows])


def size(windows: Sequence[range]) -> int:
    """Return how many bars several ranges hold."""
    return sum(len(item) for item in windows)


def one_path(splits: Sequence[Split]) -> tuple[Segment, ...]:
    """Join the test windows of a walk-forward; where windows overlap, the later choice is held."""
    segments = []
    for split, following in zip(splits, [*splits[1:], None], strict=True):
        stop = split.test_end + 1
        if following is not None:
            stop = min(stop, following.test_start)
        segments.append(Segment(split=split.number, bars=range(split.test_start, stop)))
    return tuple(segments)


def moment(index: pd.DatetimeIndex, bar: int) -> str:
    """Return the timestamp of a bar as messages show it: the date alone for daily bars."""
    stamp = index[bar]
    return str(stamp.date() if stamp == stamp.normalize() else stamp)
