"""Splits of a walk-forward: what a split is, its settings, and how each kind of split is made.

Rolling and expanding windows move, explicit ones are given by dates, and combinatorial ones take
each choice of test folds in turn. Windows are positions of bars.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from backtest_batch.arrays import IntArray
from backtest_batch.core.data.panel import span
from backtest_batch.core.offsets import bars_of, grid, parse_offset, shift
from backtest_batch.errors import ConfigurationError, Fault

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
    """The splits of one index, the curves that they form, and notes on them.

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


Method = Literal["rolling", "expanding", "combinatorial"]

DAILY_BARS_PER_YEAR = 252
"""Periods per year of daily bars, in which the minimum sizes are given."""

SPLIT_RUNS = 500
"""Up to this many split runs are logged by default."""

DATED_SHARE = 0.9
"""Share of a minimum size that windows given in dates must reach: holidays differ."""


@dataclass(frozen=True, kw_only=True)
class ExplicitSplit:
    """One split given by its dates, both ends included; a date is the whole day.

    Attributes
    ----------
    train
        First and last date of training.
    test
        First and last date of the test.
    """

    train: tuple[str, str]
    test: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class WalkForwardSettings:
    """How the return bars are split into training and test windows.

    :func:`.split_settings.parse` reads and checks them, and fills in what depends on the data.

    Attributes
    ----------
    method
        ``rolling``: training windows of one length move along. ``expanding``: training begins with
        the first return bar and grows. ``combinatorial``: folds, of which every combination of
        ``n_test_folds`` is tested once.
    train_size
        Length of the (first) training window: bars, or a calendar length such as ``3YE``.
    test_size
        Length of a test window: bars, or a calendar length such as ``6ME``.
    step_size
        Distance between test windows: bars or a calendar length, whichever ``test_size`` is.
    purged_size
        Bars left out between training and test; default ``execution_lag``, so that a choice is
        known in time to be traded at the close before the first test bar.
    min_train_size, min_test_size
        Shortest windows, in bars of the data. Windows given in dates may fall short of them by a
        tenth, because years and quarters differ in holidays.
    max_splits
        Largest number of splits, of which the latest are kept; None for all.
    overlap_allowed
        Whether test windows may overlap.
    splits
        Windows given by dates, in place of the sizes.
    n_folds, n_test_folds, embargo_size
        For the combinatorial method: number of folds, folds tested at once, and the bars left out
        of training after a test fold, in addition to ``purged_size``.
    log_split_runs
        Whether each split becomes a run in the tracking store, below its own run; None means yes
        for up to 500 of them.
    """

    method: Method
    train_size: int | str = 756
    test_size: int | str = 126
    step_size: int | str = 126
    purged_size: int = 1
    min_train_size: int = 252
    min_test_size: int = 63
    max_splits: int | None = None
    overlap_allowed: bool = False
    splits: tuple[ExplicitSplit, ...] = ()
    n_folds: int = 10
    n_test_folds: int = 2
    embargo_size: int = 0
    log_split_runs: bool | None = None

    def logs_split_runs(self, n_split_runs: int) -> bool:
        """Return whether this many splits (runs times splits) are to be logged as runs."""
        if self.log_split_runs is None:
            return n_split_runs <= SPLIT_RUNS
        return self.log_split_runs


def moving_splits(
    settings: WalkForwardSettings, index: pd.DatetimeIndex, periods_per_year: float
) -> tuple[list[Split], list[str]]:
    """Return the splits of moving windows, and sentences about those that were left out.

    Raises
    ------
    ConfigurationError
        When no window is long enough.
    """
    splits: list[Split] = []
    notes: list[str] = []
    for train, test in _windows(settings, index):
        reason = _too_short(settings, train, test)
        if not reason:
            splits.append(Split(number=len(splits), train=(train,), test=(test,)))
        # Where windows overlap, the window before this one may hold all of its bars.
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
        # Windows counted in bars begin where their history does, up to differences in month length.
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
        Settings with sizes in bars or calendar lengths.
    periods_per_year
        Bars per year, for calendar lengths.
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


def explicit_splits(settings: WalkForwardSettings, index: pd.DatetimeIndex) -> list[Split]:
    """Return the splits given by dates, both ends included.

    Training bars closer than ``purged_size`` to the first test bar are left out.

    Raises
    ------
    ConfigurationError
        With every fault at once: a window without bars or below the minimum size, training that
        ends after the test begins, tests that are out of order or overlap.
    """
    faults: list[Fault] = []
    splits: list[Split] = []
    for number, given in enumerate(settings.splits):
        train, test = _bars(given.train, index), _bars(given.test, index)
        text = _fault(settings, index, given, train, test, splits[-1] if splits else None)
        if text:
            shown = {"train": list(given.train), "test": list(given.test)}
            faults.append(Fault(key=f"walk_forward.splits[{number}]", value=shown, allowed=text))
            continue
        stop = min(train.stop, test.start - settings.purged_size)
        splits.append(
            Split(number=number, train=(range(train.start, stop),), test=(test,)),
        )
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    return splits


def _bars(dates: tuple[str, str], index: pd.DatetimeIndex) -> range:
    first, _ = span(dates[0], index)
    _, after = span(dates[1], index)
    start = int(index.searchsorted(first, side="left"))
    return range(start, max(start, int(index.searchsorted(after, side="left"))))


def _fault(
    settings: WalkForwardSettings,
    index: pd.DatetimeIndex,
    given: ExplicitSplit,
    train: range,
    test: range,
    before: Split | None,
) -> str:
    """Return what is wrong with one split; empty if nothing is."""
    for name, dates, bars in (("train", given.train, train), ("test", given.test, test)):
        if not bars:
            held = f"{moment(index, 0)} to {moment(index, -1)}" if len(index) else "no bars"
            return (
                f"the {name} window {dates[0]} to {dates[1]} holds no return bar; the data has "
                f"{held}"
            )
    if train.stop > test.start:
        return (
            "`end of train < start of test` must hold, but got "
            f"{moment(index, train.stop - 1)} and {moment(index, test.start)}"
        )
    purged = range(train.start, min(train.stop, test.start - settings.purged_size))
    if not purged:
        return (
            f"`purged_size < train bars` must hold, but got purged_size={settings.purged_size}, "
            f"train bars={len(train)}"
        )
    for name, bars, minimum in (
        ("train", train, settings.min_train_size),
        ("test", test, settings.min_test_size),
    ):
        if len(bars) < minimum * DATED_SHARE:
            return (
                f"`min_{name}_size <= {name} bars` must hold (up to a tenth, for holidays), but "
                f"got min_{name}_size={minimum}, {name} bars={len(bars)}"
            )
    return "" if before is None else _order_fault(settings, index, before, test)


def _order_fault(
    settings: WalkForwardSettings, index: pd.DatetimeIndex, before: Split, test: range
) -> str:
    if test.start <= before.test_start:
        return (
            "splits must be in order of their tests, but this one begins "
            f"{moment(index, test.start)} and the one before it {moment(index, before.test_start)}"
        )
    if test.start <= before.test_end and not settings.overlap_allowed:
        return (
            "`end of one test < start of the next` must hold without overlap_allowed=true, but "
            f"got {moment(index, before.test_end)} and {moment(index, test.start)}"
        )
    return ""


def combinatorial_plan(settings: WalkForwardSettings, index: pd.DatetimeIndex) -> SplitPlan:
    """Split return bars into folds, and test every combination of ``n_test_folds`` of them.

    The first ``n_folds - 1`` folds have ``n_bars // n_folds`` bars, the last one the rest. Of the
    training folds, ``purged_size`` bars before each test fold and ``purged_size + embargo_size``
    after it are left out. Each fold is tested ``n_splits * n_test_folds / n_folds`` times. There
    are as many paths, and the k-th path takes each fold from the k-th split that tests it. Splits
    and paths are those of skfolio's ``CombinatorialPurgedCV``.

    This is cross-validation and not a walk-forward: training bars also lie after the test.

    Parameters
    ----------
    settings
        As :func:`.split_settings.parse` returns them.
    index
        Timestamps of the return bars.

    Raises
    ------
    ConfigurationError
        When the folds are too short; the message says how many bars are needed.
    """
    n_bars, n_folds = len(index), settings.n_folds
    _check_sizes(settings, n_bars)
    bounds = np.arange(n_folds + 1) * (n_bars // n_folds)
    bounds[-1] = n_bars
    folds = [range(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
    combinations = list(itertools.combinations(range(n_folds), settings.n_test_folds))
    splits = [
        Split(
            number=number,
            train=_training(settings, folds, frozenset(tested)),
            test=tuple(folds[fold] for fold in tested),
        )
        for number, tested in enumerate(combinations)
    ]
    short = min(splits, key=lambda split: size(split.train))
    if size(short.train) < settings.min_train_size:
        raise _error(
            "n_test_folds",
            settings.n_test_folds,
            "`min_train_size <= train bars` must hold, but got "
            f"min_train_size={settings.min_train_size}, train bars={size(short.train)} in split "
            f"{short.number} of {n_bars} return bars in {n_folds} folds",
        )
    testing = [
        [number for number, tested in enumerate(combinations) if fold in tested]
        for fold in range(n_folds)
    ]
    paths = tuple(
        tuple(
            Segment(split=numbers[path], bars=folds[fold]) for fold, numbers in enumerate(testing)
        )
        for path in range(len(testing[0]))
    )
    return SplitPlan(splits=tuple(splits), paths=paths)


def _training(settings: WalkForwardSettings, folds: list[range], tested: frozenset[int]) -> Windows:
    """Return the folds that are not tested, without the bars too close to a test."""
    windows: list[range] = []
    for number, fold in enumerate(folds):
        if number in tested:
            continue
        start, stop = fold.start, fold.stop
        if number - 1 in tested:
            start += settings.purged_size + settings.embargo_size
        if number + 1 in tested:
            stop -= settings.purged_size
        if windows and windows[-1].stop == start:
            windows[-1] = range(windows[-1].start, stop)
        elif start < stop:
            windows.append(range(start, stop))
    return tuple(windows)


def _check_sizes(settings: WalkForwardSettings, n_bars: int) -> None:
    fold = n_bars // settings.n_folds
    left_out = settings.purged_size + settings.embargo_size
    needed = max(settings.min_test_size, left_out + 2) * settings.n_folds
    if fold < settings.min_test_size:
        raise _error(
            "n_folds",
            settings.n_folds,
            f"`min_test_size <= bars of a fold` must hold, but got "
            f"min_test_size={settings.min_test_size}, bars of a fold={fold}; {settings.n_folds} "
            f"folds need {needed} return bars, but the data has {n_bars}",
        )
    if left_out >= fold - 1:
        raise _error(
            "purged_size",
            settings.purged_size,
            "`purged_size + embargo_size < bars of a fold - 1` must hold, but got "
            f"purged_size={settings.purged_size}, embargo_size={settings.embargo_size}, bars of a "
            f"fold={fold}; {settings.n_folds} folds need {needed} return bars, but the data has "
            f"{n_bars}",
        )


def _error(key: str, value: int, text: str) -> ConfigurationError:
    fault = Fault(key=f"walk_forward.{key}", value=value, allowed=text)
    return ConfigurationError(f"{fault}.", [fault])


def make_splits(
    settings: WalkForwardSettings, index: pd.DatetimeIndex, periods_per_year: float = 252.0
) -> SplitPlan:
    """Split return bars into training and test windows.

    Windows given in bars agree with skfolio's ``WalkForward``, except that the last, shorter test
    window is kept exactly when it reaches ``min_test_size`` (skfolio keeps any or none). Windows
    given as calendar lengths agree with its ``freq``, counted in one unit: ``3YE`` and ``6ME`` are
    36 and 6 periods of ``ME``. Their dates begin with the first one in the data; a test window
    runs from the first bar at or after its date to the last bar before the next.

    Parameters
    ----------
    settings
        As :func:`.split_settings.parse` returns them.
    index
        Timestamps of the return bars, strictly increasing; positions in the result count from its
        first bar.
    periods_per_year
        Bars per year, to say in a message how many bars a calendar length needs.

    Raises
    ------
    ConfigurationError
        When there is too little data for one split; the message says how many bars are needed.
    """
    if settings.method == "combinatorial":
        return combinatorial_plan(settings, index)
    notes: list[str] = []
    if settings.splits:
        splits = explicit_splits(settings, index)
    else:
        splits, notes = moving_splits(settings, index, periods_per_year)
    n_splits = len(splits)
    if settings.max_splits is not None and n_splits > settings.max_splits:
        latest = splits[-settings.max_splits :]
        splits = [replace(split, number=number) for number, split in enumerate(latest)]
        notes.append(f"Of {n_splits} splits the latest {settings.max_splits} were kept.")
    return SplitPlan(splits=tuple(splits), paths=(one_path(splits),), notes=tuple(notes))


def moved(plan: SplitPlan, by: int) -> SplitPlan:
    """Return the plan with all positions moved: from an index of return bars to a whole panel.

    Parameters
    ----------
    plan
        The splits of the return bars.
    by
        Position of the first return bar in the panel.
    """

    def shifted(bars: range) -> range:
        return range(bars.start + by, bars.stop + by)

    return SplitPlan(
        splits=tuple(
            replace(
                split,
                train=tuple(shifted(item) for item in split.train),
                test=tuple(shifted(item) for item in split.test),
            )
            for split in plan.splits
        ),
        paths=tuple(
            tuple(Segment(split=item.split, bars=shifted(item.bars)) for item in path)
            for path in plan.paths
        ),
        notes=plan.notes,
    )
