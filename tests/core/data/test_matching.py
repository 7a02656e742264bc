"""Rows of a series on bars that are dated in another way."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.matching import matched
from backtest_batch.core.data.series import SeriesTable, prices_on, returns_on
from backtest_batch.errors import DataError

MONTHS = pd.date_range("2005-01-31", periods=144, freq="ME")


def starts(index, unit):
    return index.to_period(unit).start_time


def ends(index, unit):
    return index.to_period(unit).end_time.normalize()


def last_sessions(index, unit):
    """Return the last weekday of each period."""
    return pd.DatetimeIndex([pd.offsets.BDay().rollback(day) for day in ends(index, unit)])


DATINGS = (starts, ends, last_sessions)


def on(rows, bars):
    return matched(pd.DatetimeIndex(rows), pd.DatetimeIndex(bars), "x.csv")


@pytest.mark.parametrize("rows_dated", DATINGS)
@pytest.mark.parametrize("bars_dated", DATINGS)
@pytest.mark.parametrize(("unit", "every"), [("M", 1), ("Q", 3), ("Y", 12), ("W", 1)])
def test_periods_are_matched_however_each_side_dates_them(rows_dated, bars_dated, unit, every):
    inside = MONTHS[every - 1 :: every]
    if unit == "W":
        inside = pd.date_range("2005-01-05", periods=100, freq="W-WED")
    rows, bars = rows_dated(inside, unit), bars_dated(inside, unit)
    found = on(rows, bars)
    assert found.last.tolist() == list(range(len(inside)))
    assert found.before == -1
    assert not found.is_beyond.any()
    late = on(rows[:-2], bars[2:])
    assert late.before == 1
    assert late.is_beyond.tolist() == [False] * (len(inside) - 4) + [True, True]


@pytest.mark.parametrize("rows_dated", DATINGS)
def test_rows_of_months_are_compounded_on_quarters(rows_dated):
    rows = rows_dated(MONTHS, "M")
    table = SeriesTable(place="x.csv", index=rows, names=("x",), values=np.full((144, 1), 0.01))
    for bars_dated in DATINGS:
        found = returns_on(table, bars_dated(MONTHS[2::3], "Q"), empty=0.0)
        assert found.returns[1:, 0] == pytest.approx(1.01**3 - 1), bars_dated


def test_bars_dated_on_the_first_have_the_days_of_their_month():
    days = pd.bdate_range("2005-01-03", "2016-12-30")
    levels = np.arange(100.0, 100.0 + len(days))
    table = SeriesTable(place="x.csv", index=days, names=("x",), values=levels[:, None])
    found = prices_on(table, starts(MONTHS, "M"))
    expected = pd.Series(levels, days).resample("ME").last().pct_change()
    assert found.returns[1:, 0] == pytest.approx(expected.to_numpy()[1:])
    assert "matched by month" in found.notes[0]


def test_what_is_matched_by_date_is_not_noted():
    weeks = pd.date_range("2020-01-03", periods=60, freq="W-FRI")
    days = pd.bdate_range("2020-01-01", periods=300)
    middles = MONTHS - pd.Timedelta(days=15)
    for rows, bars in ((weeks, weeks), (days, weeks), (days, days[20:]), (middles, MONTHS)):
        found = on(rows, bars)
        assert found.note == ""
        assert (rows[found.last] <= bars).all()


def test_weeks_that_end_on_sundays_are_those_of_the_last_session():
    fridays = pd.date_range("2020-01-03", periods=60, freq="W-FRI")
    sessions = pd.DatetimeIndex([*fridays[:20], fridays[20] - pd.Timedelta(days=1), *fridays[21:]])
    found = on(fridays + pd.Timedelta(days=2), sessions)
    assert found.last.tolist() == list(range(60))
    assert "the row of 2020-01-05 belongs to the bar of 2020-01-03 (60 of 60 bars" in found.note


def test_a_month_that_is_not_over_has_no_row_that_was_known_later():
    bars = pd.DatetimeIndex([*last_sessions(MONTHS[:9], "M"), "2005-10-12"])
    assert on(ends(MONTHS, "M"), bars).last.tolist() == [*range(9), 8]
    # As `resample` dates what it has of the month.
    assert on(ends(MONTHS[:10], "M"), bars).last.tolist() == list(range(10))


@pytest.mark.parametrize("rows_in", ["Europe/Berlin", "Asia/Tokyo", "UTC", "America/Los_Angeles"])
@pytest.mark.parametrize("hours", [0, 16])
def test_midnights_are_dates_in_whatever_zone(rows_in, hours):
    days = pd.bdate_range("2020-01-01", periods=300)
    bars = (days + pd.Timedelta(hours=hours)).tz_localize("America/New_York")
    assert on(days.tz_localize(rows_in), bars).last.tolist() == list(range(300))
    closes = (days + pd.Timedelta(hours=15)).tz_localize("Asia/Tokyo")
    assert on(closes, days.tz_localize("UTC")).last.tolist() == list(range(300))


HALF_HOURS = pd.date_range("2020-10-24 22:00", periods=12, freq="30min", tz="UTC")


def test_an_hour_that_the_clock_repeats_is_never_a_way_back():
    bars = HALF_HOURS.tz_convert("Europe/Berlin")
    walls = bars.tz_localize(None)
    assert on(walls, bars).last.tolist() == list(range(12))
    with pytest.raises(DataError, match=r"x\.csv: .* occurs twice .* write timestamps with an off"):
        on(walls[~walls.duplicated()], bars)
    assert on(HALF_HOURS, bars).last.tolist() == list(range(12))
    by_wall = on(bars, walls[~walls.duplicated()])
    assert (np.diff(by_wall.last) > 0).all()
    assert by_wall.last[-1] == 11
