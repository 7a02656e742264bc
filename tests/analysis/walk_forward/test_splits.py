from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pandas.tseries.frequencies import to_offset
from pandas.tseries.holiday import USFederalHolidayCalendar

from backtest_batch.analysis.walk_forward import Segment, WalkForwardSettings, make_splits, moved
from backtest_batch.core.offsets import years_of
from backtest_batch.core.split_settings import parse
from backtest_batch.core.splits import positions
from backtest_batch.errors import ConfigurationError
from tests.support.walk_forward_cases import business_days

# Trading days of a real exchange: weekends and holidays at month ends.
HOLIDAYS = USFederalHolidayCalendar().holidays("1990", "2022")
EXCHANGE = pd.bdate_range("1990-01-03", "2022-12-28").difference(HOLIDAYS)


def pairs_of(plan):
    return [(positions(split.train), positions(split.test)) for split in plan.splits]


def assert_same(plan, expected):
    found, expected = pairs_of(plan), list(expected)
    assert len(found) == len(expected)
    for (train, test), (expected_train, expected_test) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(train, expected_train)
        np.testing.assert_array_equal(test, expected_test)


def frame(index):
    return pd.DataFrame(np.zeros((len(index), 1)), index=index)


@pytest.mark.oracle
@given(
    n_bars=st.integers(2, 300),
    train=st.integers(1, 60),
    test=st.integers(1, 40),
    purged=st.integers(0, 10),
    expanding=st.booleans(),
)
@hypothesis_settings(deadline=None, max_examples=150)
def test_windows_in_bars_agree_with_skfolio(n_bars, train, test, purged, expanding):
    from skfolio.model_selection import WalkForward

    settings = WalkForwardSettings(
        method="expanding" if expanding else "rolling",
        train_size=train,
        test_size=test,
        step_size=test,
        purged_size=purged,
        min_train_size=1,
        min_test_size=1,
    )
    index = business_days(n_bars)
    oracle = WalkForward(
        test_size=test,
        train_size=train,
        purged_size=purged,
        expand_train=expanding,
        reduce_test=True,
    )
    if train + purged >= n_bars:
        with pytest.raises(ConfigurationError, match="one split needs"):
            make_splits(settings, index)
    else:
        assert_same(make_splits(settings, index), oracle.split(frame(index)))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("train", "test", "n_train", "n_test", "freq"),
    [
        ("3YE", "6ME", 36, 6, "ME"),
        ("3YE", "1YE", 3, 1, "YE"),
        ("36MS", "6MS", 36, 6, "MS"),
        ("5YS", "12MS", 60, 12, "MS"),
        ("8QE", "2QE", 8, 2, "QE"),
        ("2YE-SEP", "1YE-SEP", 2, 1, "YE-SEP"),
        ("36BME", "6BME", 36, 6, "BME"),
        ("104W", "26W", 104, 26, "W"),
        ("400D", "100D", 4, 1, "100D"),
    ],
)
@pytest.mark.parametrize("method", ["rolling", "expanding"])
@pytest.mark.parametrize("purged", [0, 1, 7])
def test_calendar_windows_agree_with_skfolio(train, test, n_train, n_test, freq, method, purged):
    from skfolio.model_selection import WalkForward

    given = {"method": method, "train_size": train, "test_size": test, "purged_size": purged}
    settings = parse(given | {"min_test_size": 1}, EXCHANGE, 252.0, 1)
    oracle = WalkForward(
        test_size=n_test,
        train_size=n_train,
        freq=freq,
        purged_size=purged,
        expand_train=method == "expanding",
        reduce_test=True,
    )

    assert_same(make_splits(settings, EXCHANGE), oracle.split(frame(EXCHANGE)))


def test_three_years_are_three_years_wherever_they_start():
    settings = parse(
        {"method": "rolling", "train_size": "3YE", "test_size": "6ME"}, EXCHANGE, 252, 1
    )
    for split in make_splits(settings, EXCHANGE).splits:
        start, end = EXCHANGE[split.train_start], EXCHANGE[split.train_end]
        assert 1_085 <= (end - start).days <= 1_096


def test_bars_and_calendar_lengths_mix():
    given = {"method": "rolling", "train_size": 500, "test_size": "6ME", "purged_size": 2}
    plan = make_splits(parse(given, EXCHANGE, 252.0, 1), EXCHANGE)
    assert {len(split.train[0]) for split in plan.splits} == {500}
    assert {split.test_start - split.train[0].stop for split in plan.splits} == {2}
    assert EXCHANGE[plan.splits[0].test_start] == pd.Timestamp("1992-01-31")

    given = {"method": "rolling", "train_size": "2YE", "test_size": 100, "purged_size": 2}
    plan = make_splits(parse(given, EXCHANGE, 252.0, 1), EXCHANGE)
    assert EXCHANGE[plan.splits[0].test_start] == pd.Timestamp("1992-01-03")
    assert EXCHANGE[plan.splits[0].train_start] == pd.Timestamp("1990-01-03")
    assert {len(split.test[0]) for split in plan.splits[:-1]} == {100}


@pytest.mark.parametrize(
    ("n_bars", "n_splits", "last", "note"),
    [
        (757 + 126 + 63, 2, 63, None),
        (
            757 + 126 + 62,
            1,
            126,
            "The test window 2004-05-21 to 2004-08-16 was left out: it has 62 bars, and "
            "min_test_size is 63.",
        ),
    ],
)
def test_the_last_window_is_kept_when_it_is_long_enough_and_said_when_not(
    n_bars, n_splits, last, note
):
    index = business_days(n_bars)
    plan = make_splits(parse({"method": "rolling"}, index, 252.0, 1), index)

    assert len(plan.splits) == n_splits
    assert len(plan.splits[-1].test[0]) == last
    assert plan.notes == (() if note is None else (note,))


def test_the_latest_splits_are_kept():
    index = business_days(2_000)
    every = make_splits(parse({"method": "expanding"}, index, 252.0, 1), index)
    plan = make_splits(parse({"method": "expanding", "max_splits": 3}, index, 252.0, 1), index)

    assert [split.test for split in plan.splits] == [split.test for split in every.splits[-3:]]
    assert [split.number for split in plan.splits] == [0, 1, 2]
    assert plan.notes[-1] == f"Of {len(every.splits)} splits the latest 3 were kept."


def test_overlapping_windows_hold_each_choice_until_the_next():
    index = business_days(1_000)
    given = {"method": "rolling", "step_size": 21, "overlap_allowed": True}
    plan = make_splits(parse(given, index, 252.0, 1), index)
    (path,) = plan.paths

    assert {len(split.test[0]) for split in plan.splits[:5]} == {126}
    assert {len(segment.bars) for segment in path[:-1]} == {21}
    bars = positions([segment.bars for segment in path])
    np.testing.assert_array_equal(bars, np.arange(757, 1_000))
    assert not plan.notes


def test_steps_beyond_the_test_leave_gaps():
    index = business_days(2_000)
    plan = make_splits(parse({"method": "rolling", "step_size": 200}, index, 252.0, 1), index)

    starts = [split.test_start for split in plan.splits]
    assert {after - before for before, after in pairwise(starts)} == {200}
    assert plan.paths[0][0] == Segment(split=0, bars=range(757, 883))


def test_no_split_trains_on_what_it_tests():
    index = business_days(3_000)
    for method in ("rolling", "expanding", "combinatorial"):
        plan = make_splits(parse({"method": method, "purged_size": 5}, index, 252.0, 1), index)
        for split in plan.splits:
            train, test = positions(split.train), positions(split.test)
            assert not np.intersect1d(train, test).size
            distance = np.abs(train[:, None] - test[None, [0, -1]])
            assert distance.min() > 5


def test_intraday_calendar_windows_begin_with_the_day():
    days = pd.bdate_range("2001-01-02", "2002-03-29")
    index = pd.DatetimeIndex(
        [day + pd.Timedelta(hours=9 + hour) for day in days for hour in range(6)]
    )
    for zone in (None, "America/New_York"):
        zoned = index.tz_localize(zone)
        given = {
            "method": "rolling",
            "train_size": "6MS",
            "test_size": "3MS",
            "min_train_size": 100,
        }
        plan = make_splits(parse(given, zoned, 252.0 * 6, 1), zoned)
        starts = [str(zoned[split.test_start])[:16] for split in plan.splits]
        assert starts == ["2001-08-01 09:00", "2001-11-01 09:00"]
        assert plan.splits[0].test[0].stop == plan.splits[1].test_start


def test_moved_plans_count_from_the_first_bar_of_the_panel():
    index = business_days(1_000)
    plan = make_splits(parse({"method": "rolling"}, index, 252.0, 1), index)
    shifted = moved(plan, 61)

    assert shifted.splits[0].train == (range(61, 817),)
    assert shifted.splits[0].test == (range(818, 944),)
    assert shifted.paths[0][0].bars == range(818, 944)


@pytest.mark.parametrize(
    ("text", "years"),
    [("3YE", 3.0), ("6ME", 0.5), ("QS", 0.25), ("52W", 0.997), ("365D", 0.999), ("1h", 0.000114)],
)
def test_calendar_lengths_in_years(text, years):
    offset = to_offset(text)
    assert years_of(offset) == pytest.approx(years, rel=0.01)


@pytest.mark.parametrize("text", ["261B", "24SME", "12WOM-3FRI"])
def test_other_calendar_lengths_are_about_a_year(text):
    assert years_of(to_offset(text)) == pytest.approx(1.0, rel=0.02)
