"""Training and test windows on an index of return bars."""

from dataclasses import replace

import pandas as pd

from backtest_batch.comparison.walk_forward.combinatorial import combinatorial_plan
from backtest_batch.comparison.walk_forward.explicit import explicit_splits
from backtest_batch.comparison.walk_forward.moving import moving_splits
from backtest_batch.comparison.walk_forward.settings import WalkForwardSettings
from backtest_batch.comparison.walk_forward.split import Segment, SplitPlan, one_path


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
        As :func:`.parse.parse` returns them.
    index
        Timestamps of the return bars, strictly increasing; positions in the result count from its
        first bar.
    periods_per_year
        Bars a year, to say in a message how many bars a calendar length needs.

    Raises
    ------
    ConfigurationError
        When there is too little data for one split; the message has the numbers needed.
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
