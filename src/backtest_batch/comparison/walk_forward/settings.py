"""The settings of a walk-forward, as they stand under ``walk_forward`` in the configuration."""

from dataclasses import dataclass
from typing import Literal

Method = Literal["rolling", "expanding", "combinatorial"]

DAILY_BARS_PER_YEAR = 252
"""Periods per year of daily bars, in which the minimum sizes are given."""

SPLIT_RUNS = 500
"""Split runs that are logged without being asked for."""

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

    :func:`.parse.parse` reads and checks them, and fills in what depends on the data.

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
        Distance of the test windows, of the kind of ``test_size``.
    purged_size
        Bars left out between training and test; default ``execution_lag``, so that a choice is
        known in time to be traded at the close before the first test bar.
    min_train_size, min_test_size
        Shortest windows, in bars of the data. Windows given in dates may fall short of them by a
        tenth, because years and quarters differ in holidays.
    max_splits
        Most splits, of which the latest are kept; None for all.
    overlap_allowed
        Whether test windows may overlap.
    splits
        Windows given by dates; they take the place of the sizes.
    n_folds, n_test_folds, embargo_size
        Of the combinatorial method: number of folds, folds tested at once, and the bars left out
        of training after a test fold, beyond ``purged_size``.
    log_split_runs
        Whether each split becomes a run of the tracking store, below its run; None for yes up to
        500 of them.
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
        """Return whether so many splits (runs times splits) are to be logged as runs."""
        if self.log_split_runs is None:
            return n_split_runs <= SPLIT_RUNS
        return self.log_split_runs
