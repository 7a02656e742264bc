"""Windows that are given by their dates."""

import pandas as pd

from backtest_batch.comparison.walk_forward.settings import (
    DATED_SHARE,
    ExplicitSplit,
    WalkForwardSettings,
)
from backtest_batch.comparison.walk_forward.split import Split, moment
from backtest_batch.errors import ConfigurationError, Fault
from backtest_batch.market.dates import span


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
    """Say what is wrong with one split; empty when nothing is."""
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
