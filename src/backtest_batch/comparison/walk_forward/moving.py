"""Windows that move along the bars: rolling and expanding training."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from backtest_batch.comparison.walk_forward.offsets import bars_of, grid, parse_offset, shift
from backtest_batch.comparison.walk_forward.settings import DATED_SHARE, WalkForwardSettings
from backtest_batch.comparison.walk_forward.split import Split, moment
from backtest_batch.errors import ConfigurationError, Fault
from backtest_batch.market.panel import IntArray


def moving_splits(
    settings: WalkForwardSettings, index: pd.DatetimeIndex, periods_per_year: float
) -> tuple[list[Split], list[str]]:
    """Return the splits of moving windows, and sentences about those that were left out.

    Raises
    ------
    ConfigurationError
        When not one window is long enough.
    """
    splits: list[Split] = []
    notes: list[str] = []
    for train, test in _windows(settings, index):
        reason = _too_short(settings, train, test)
        if not reason:
            splits.append(Split(number=len(splits), train=(train,), test=(test,)))
        # The bars of an overlapping window are those of the one before it, too.
        elif not splits or splits[-1].test_end < test[-1]:
            first, last = moment(index, test[0]), moment(index, test[-1])
            notes.append(f"The test window {first} to {last} was left out: {reason}.")
    if not splits:
        raise _too_little_data(settings, index, periods_per_year)
    return splits, notes


def _windows(
    settings: WalkForwardSettings, index: pd.DatetimeIndex
) -> Iterator[tuple[range, range]]:
    """Yield training and test bars of every window that has its history before it."""
    if len(index) == 0:
        return
    # Wall clock time of the index's own zone: days end at its midnight.
    wall = index.tz_localize(None)
    dates, starts, stops = _test_windows(settings, wall)
    train_stops = starts - settings.purged_size
    if isinstance(settings.train_size, str):
        length = parse_offset(settings.train_size)
        dated = isinstance(settings.step_size, str)
        along = parse_offset(settings.step_size) if isinstance(settings.step_size, str) else None
        lookback = shift(dates, length, along=along, backwards=True)
        # Windows counted in bars begin where their history does, up to the length of a month.
        known = (lookback >= wall[0].normalize()) | (not dated)
        train_starts = _positions_at(wall, lookback)
    else:
        train_starts = train_stops - settings.train_size
        known = train_starts >= 0
    if settings.method == "expanding":
        train_starts = np.zeros_like(train_starts)
    for row in np.flatnonzero(known & (stops > starts)):
        yield (
            range(int(train_starts[row]), int(max(train_starts[row], train_stops[row]))),
            range(int(starts[row]), int(stops[row])),
        )


def _test_windows(
    settings: WalkForwardSettings, wall: pd.DatetimeIndex
) -> tuple[pd.DatetimeIndex, IntArray, IntArray]:
    """Return date, first bar and the bar after the last one of every test window."""
    if isinstance(settings.test_size, str) and isinstance(settings.step_size, str):
        step = parse_offset(settings.step_size)
        dates = grid(wall, step)
        ends = shift(dates, parse_offset(settings.test_size), along=step)
        return dates, _positions_at(wall, dates), _positions_at(wall, ends)
    n_bars = len(wall)
    test_size, step_size = int(settings.test_size), int(settings.step_size)
    starts = np.arange(_first_test_bar(settings, wall), n_bars, step_size, dtype=np.int64)
    return wall[starts], starts, np.minimum(starts + test_size, n_bars)


def _first_test_bar(settings: WalkForwardSettings, wall: pd.DatetimeIndex) -> int:
    if isinstance(settings.train_size, str):
        end = shift(wall[:1], parse_offset(settings.train_size))
        return int(_positions_at(wall, end)[0])
    return settings.train_size + settings.purged_size


def _positions_at(wall: pd.DatetimeIndex, dates: pd.DatetimeIndex) -> IntArray:
    """Return the first bar at or after each date."""
    return np.asarray(wall.searchsorted(dates, side="left"), dtype=np.int64)


def _too_short(settings: WalkForwardSettings, train: range, test: range) -> str:
    """Say which minimum a window misses; empty when it misses none."""
    share = DATED_SHARE if isinstance(settings.test_size, str) else 1
    if len(test) < settings.min_test_size * share:
        return f"it has {len(test)} bars, and min_test_size is {settings.min_test_size}"
    if isinstance(settings.train_size, str):
        # Purging shortens a training window that is given by its dates.
        given = len(train) + settings.purged_size
        if len(train) == 0 or given < settings.min_train_size * DATED_SHARE:
            return (
                f"{len(train)} training bars lie before it, and min_train_size is "
                f"{settings.min_train_size}"
            )
    return ""


def _too_little_data(
    settings: WalkForwardSettings, index: pd.DatetimeIndex, periods_per_year: float
) -> ConfigurationError:
    span = f" ({moment(index, 0)} to {moment(index, -1)})" if len(index) else ""
    text = f"{needed_bars(settings, periods_per_year)}, but the data has {len(index)}{span}"
    fault = Fault(key="walk_forward.train_size", value=settings.train_size, allowed=text)
    return ConfigurationError(f"{fault}.", [fault])


def needed_bars(settings: WalkForwardSettings, periods_per_year: float) -> str:
    """Say how many return bars one split takes.

    Parameters
    ----------
    settings
        With sizes in bars or calendar lengths.
    periods_per_year
        Bars a year, for calendar lengths.
    """
    about = ""
    train = settings.train_size
    if isinstance(train, str):
        train, about = bars_of(parse_offset(train), periods_per_year), "about "
    needed = train + settings.purged_size + settings.min_test_size
    return (
        f"one split needs train_size + purged_size + min_test_size = {about}{train} + "
        f"{settings.purged_size} + {settings.min_test_size} = {needed} return bars"
    )
