"""Whether the bars are as far apart as ``data.freq`` says."""

from typing import Literal

import numpy as np
import pandas as pd

from backtest_batch.errors import DataError
from backtest_batch.market.bars import moment_text
from backtest_batch.market.zones import stamps_of

_MINUTE = 60 * 10**9


def check_frequency(index: pd.DatetimeIndex, freq: Literal["1d", "5min"]) -> None:
    """Check that the bars are as far apart as ``freq`` says.

    ``1d`` is at most one bar a calendar day, in the time zone of the index; weekends and holidays
    do not matter. ``5min`` is bars at least five minutes apart, several on some day.

    Raises
    ------
    DataError
        When they are not; says on how many days, or how close the bars stand.
    """
    days = index.tz_localize(None).normalize()
    n_days = len(days.unique())
    if freq == "1d" and n_days < len(index):
        counts = days.value_counts(sort=False)
        crowded = counts[counts > 1]
        first = crowded.index.min()
        raise DataError(
            f"`data.freq=1d` is at most one bar a day, but {first.date()} has "
            f"{int(crowded.loc[first]):,} bars ({len(crowded):,} of {n_days:,} days have several); "
            "`data.freq=5min` is for intraday bars"
        )
    if freq == "5min":
        if n_days == len(index):
            raise DataError(
                f"`data.freq=5min` needs several bars a day, but the {len(index):,} bars lie on "
                f"{n_days:,} days; `data.freq=1d` is for daily bars"
            )
        steps = np.diff(stamps_of(index)[0])
        if steps.min() < 5 * _MINUTE:
            row = int((steps < 5 * _MINUTE).argmax())
            raise DataError(
                "`data.freq=5min` is bars at least 5 minutes apart, but those at "
                f"{moment_text(index[row])} and {moment_text(index[row + 1])} are "
                f"{_minutes(steps[row] / _MINUTE)} apart; bars of another length are not read: "
                "combine them, as `frame.resample('5min', closed='right', label='right').last()` "
                "does with closes"
            )


def _minutes(number: float) -> str:
    return f"{number:g} minute{'' if number == 1 else 's'}"
