"""Bars a year, and sessions, of the calendars that exchange_calendars knows."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.frequency import find_frequency
from backtest_batch.core.engine.sessions import session_days

pytestmark = pytest.mark.oracle

SPAN = ("2018-01-02", "2020-12-30")


@cache
def calendar(name: str):  # type: ignore[no-untyped-def]
    exchanges = pytest.importorskip("exchange_calendars")
    return exchanges.get_calendar(name, start="2017-01-01", end="2021-12-31")


def bars(name: str, step: str, zone: str, *, closed: str = "left") -> pd.DatetimeIndex:
    if step == "1D":
        return pd.DatetimeIndex(calendar(name).sessions_in_range(*SPAN))
    found = calendar(name).trading_index(*SPAN, step, intervals=False, closed=closed, force=True)
    return pd.DatetimeIndex(found).tz_convert(zone)


@pytest.mark.parametrize("closed", ["left", "right"])
@pytest.mark.parametrize(
    ("name", "zone", "step", "freq", "per_year"),
    [
        ("XNYS", "America/New_York", "1min", "1min", 390 * 252),
        ("XNYS", "UTC", "1min", "1min", 390 * 252),
        ("XNYS", "America/New_York", "5min", "5min", 78 * 252),
        ("XNYS", "America/New_York", "1h", "1h", 7 * 252),
        ("XNYS", "UTC", "1D", "1d", 252),
        ("CMES", "America/Chicago", "1h", "1h", 24 * 252),
        ("CMES", "UTC", "5min", "5min", 288 * 252),
        ("CMES", "UTC", "1D", "1d", 252),
        ("24/5", "UTC", "1h", "1h", 24 * 252),
        ("24/7", "UTC", "1h", "1h", 8_760),
        ("24/7", "UTC", "1min", "1min", 525_600),
        ("24/7", "UTC", "1D", "1d", 365),
        # Two breaks at noon, and one market that is open longer.
        ("XTKS", "Asia/Tokyo", "1min", "1min", 300 * 252),
        ("XHKG", "Asia/Hong_Kong", "5min", "5min", 66 * 252),
        ("XLON", "Europe/London", "5min", "5min", 102 * 252),
    ],
)
def test_the_bars_a_year_are_those_of_the_exchange(
    name: str, zone: str, step: str, freq: str, per_year: float, closed: str
) -> None:
    found = find_frequency(bars(name, step, zone, closed=closed))
    assert (found.freq, found.per_year) == (freq, per_year)


@pytest.mark.parametrize(
    ("name", "zone", "session_end"),
    [("XNYS", "America/New_York", None), ("CMES", "America/Chicago", "17:00")],
)
def test_days_are_the_sessions_of_the_exchange(
    name: str, zone: str, session_end: str | None
) -> None:
    index = bars(name, "1h", zone)
    days = np.unique(session_days(index, session_end)).astype("datetime64[D]")
    sessions = calendar(name).sessions_in_range(*SPAN).to_numpy().astype("datetime64[D]")
    assert days.tolist() == sessions.tolist()
    months = index[decision_bars(index, "M", session_end)]
    closes = calendar(name).schedule.loc[SPAN[0] : SPAN[1], "close"]
    last = closes.groupby(closes.index.to_period("M")).last().iloc[:-1]
    # The last bar of the last session of each month, half days among them.
    away = (last.to_numpy() - months.tz_convert("UTC").to_numpy()) / np.timedelta64(1, "m")
    assert ((away > 0) & (away <= 60)).all()
