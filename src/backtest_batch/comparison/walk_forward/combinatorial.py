"""Combinatorial purged cross-validation (Lopez de Prado 2018, chapter 12)."""

import itertools

import numpy as np
import pandas as pd

from backtest_batch.comparison.walk_forward.settings import WalkForwardSettings
from backtest_batch.comparison.walk_forward.split import Segment, Split, SplitPlan, Windows, size
from backtest_batch.errors import ConfigurationError, Fault


def combinatorial_plan(settings: WalkForwardSettings, index: pd.DatetimeIndex) -> SplitPlan:
    """Split return bars into folds, and test every combination of ``n_test_folds`` of them.

    The first ``n_folds - 1`` folds have ``n_bars // n_folds`` bars, the last one the rest. Of the
    training folds, ``purged_size`` bars before each test fold and ``purged_size + embargo_size``
    after it are left out. Each fold is tested ``n_splits * n_test_folds / n_folds`` times: in so
    many paths, the k-th of which takes each fold from the k-th split that tests it. Splits and
    paths are those of skfolio's ``CombinatorialPurgedCV``.

    This is cross-validation, no walk-forward: training bars lie after the test, too.

    Parameters
    ----------
    settings
        As :func:`.parse.parse` returns them.
    index
        Timestamps of the return bars.

    Raises
    ------
    ConfigurationError
        When the folds are too short; the message has the numbers needed.
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
