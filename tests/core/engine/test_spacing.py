"""Bars a year of bars that come at most once a session, and of sessions that differ."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.core.engine.frequency import find_frequency

WEEKDAYS = pd.bdate_range("2015-01-01", periods=2_000)


def exchange(first: str = "2004", last: str = "2023-12-31", seed: int = 0) -> pd.DatetimeIndex:
    """Return weekdays without nine or ten holidays a year, as an exchange has them."""
    days = pd.bdate_range(first, last)
    holidays = np.random.default_rng(seed).choice(len(days), len(days) * 9 // 261, replace=False)
    return days.delete(holidays)


def on(days: pd.DatetimeIndex, *weekdays: int) -> pd.DatetimeIndex:
    return days[days.day_of_week.isin(weekdays)]


@pytest.mark.parametrize(
    ("index", "freq", "per_year", "how"),
    [
        (WEEKDAYS[::2], "2d", 126, "a bar every 2 sessions of a market open on 5 days a week"),
        (exchange()[::2], "2d", 126, "252 / 2"),
        (WEEKDAYS[::3], "3d", 84, "252 / 3"),
        (WEEKDAYS[::4], "4d", 63, "252 / 4"),
        (WEEKDAYS[::21], "29d", 12, "252 / 21"),
        # Every fifth weekday is a week; every fifth session is later by the holidays.
        (WEEKDAYS[::5], "1w", 52, "bars of 1w"),
        (exchange()[::5], "1w", 50.4, "252 / 5"),
        (WEEKDAYS[::10], "2w", 26, "bars of 2w"),
        (on(WEEKDAYS[:261], 1, 3), "4d", 104, "bars on 2 days of the week x 52"),
        (on(WEEKDAYS, 0, 2, 4), "2d", 156, "bars on 3 days of the week x 52"),
        (on(exchange(), 0, 2, 4), "2d", 151.2, "bars on 3 days of the week x 50.4"),
        (on(WEEKDAYS, 0, 1, 2), "1d", 156, "3 days a week"),
        (pd.date_range("2015", periods=200, freq="2D"), "2d", 182.5, "365 / 2"),
        (pd.date_range("2015", periods=200, freq="4D"), "4d", 91.25, "365 / 4"),
        (pd.date_range("2015", periods=200, freq="10D"), "10d", 36.5, "365 / 10"),
        (pd.date_range("2015", periods=200, freq="30D"), "30d", 12.17, "365 / 30"),
        (pd.date_range("2015", periods=100, freq="14D"), "2w", 26, "bars of 2w"),
        (pd.date_range("2015", periods=100, freq="28D"), "4w", 13, "bars of 4w"),
        (pd.date_range("2015", periods=100, freq="SME"), "15d", 24, "2 bars a month"),
        (pd.date_range("2015", periods=100, freq="SMS"), "15d", 24, "2 bars a month"),
        (pd.date_range("2015", periods=100, freq="WOM-3FRI"), "1mo", 12, "bars of 1mo"),
        (pd.date_range("2000", periods=60, freq="BQE"), "3mo", 4, "bars of 3mo"),
        (pd.date_range("2000", periods=60, freq="2ME"), "2mo", 6, "bars of 2mo"),
        # A month is missing here and there.
        (pd.date_range("2000", periods=200, freq="ME").delete([5, 50, 51]), "1mo", 12, "1mo"),
        (pd.bdate_range("1940", "1952", freq="C", weekmask="1111110"), "1d", 312, "6 days a week"),
    ],
)  # fmt: skip
def test_a_pattern_has_its_number(
    index: pd.DatetimeIndex, freq: str, per_year: float, how: str
) -> None:
    found = find_frequency(index)
    assert (found.freq, found.per_year) == (freq, per_year)
    assert how in found.how


@pytest.mark.parametrize("mean", [1.3, 3, 8, 30, 100])
def test_events_at_any_time_are_counted(mean: float) -> None:
    steps = np.random.default_rng(int(mean)).exponential(mean, 800)
    days = np.unique(np.cumsum(steps).astype(int))
    index = pd.DatetimeIndex(pd.Timestamp("2000-01-01") + pd.to_timedelta(days, unit="D"))
    found = find_frequency(index)
    counted = (len(days) - 1) / (days[-1] - days[0]) * 365.25
    assert found.per_year == pytest.approx(counted, rel=0.02)
    assert found.how == "as many as are counted"


def test_pairs_of_days_far_apart_are_counted() -> None:
    first = pd.date_range("2005-01-04", periods=100, freq="45D")
    index = first.append(first + pd.Timedelta(days=1)).sort_values()
    assert find_frequency(index).per_year == pytest.approx(2 * 365.25 / 45, rel=0.01)


# What a calendar that misses no bar may be: every k-th session of an exchange, some days of its
# week, every k-th day, and what pandas names.
CALENDARS = st.one_of(
    st.tuples(st.just("sessions"), st.integers(1, 70)),
    st.tuples(st.just("days"), st.integers(1, 100)),
    st.tuples(
        st.just("named"),
        st.sampled_from(
            ["W-MON", "W-WED", "W-FRI", "2W", "3W", "SME", "SMS", "ME", "MS", "BME", "BMS",
             "WOM-3FRI", "WOM-1MON", "2ME", "QE", "BQS", "6ME"]
        ),
    ),
    st.tuples(st.just("weekdays"), st.sets(st.integers(0, 4), min_size=2, max_size=5)),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(calendar=CALENDARS, years=st.integers(4, 25), seed=st.integers(0, 99))
def test_regular_calendars_have_as_many_bars_a_year_as_there_are(calendar, years, seed):
    kind, value = calendar
    first, last = "1999-01-01", f"{1998 + years}-12-31"
    if kind == "sessions":
        index = exchange(first, last, seed)[::value]
    elif kind == "days":
        index = pd.date_range(first, last, freq=f"{value}D")
    elif kind == "named":
        index = pd.date_range(first, last, freq=value)
    else:
        index = on(exchange(first, last, seed), *value)
    counted = (len(index) - 1) / ((index[-1] - index[0]) / pd.Timedelta(days=365.25))
    tolerance = 0.02
    if kind == "weekdays":  # the last step would be shorter than the others
        counted = len(index) / years
        tolerance = 0.025  # by chance, holidays spare two days of the week
    assert find_frequency(index).per_year == pytest.approx(counted, rel=tolerance)


def bars_of(counts: np.ndarray, step: str = "1min") -> pd.DatetimeIndex:
    """Return sessions from 9:30 on, with that many bars each."""
    days = pd.bdate_range("2015-01-05", periods=len(counts)) + pd.Timedelta("9h30min")
    steps = np.concatenate([np.arange(n) for n in counts]) * pd.Timedelta(step).to_timedelta64()
    return pd.DatetimeIndex(np.repeat(days.to_numpy(), counts) + steps)


def drawn(kind: str, n: int = 600) -> np.ndarray:
    draws = np.random.default_rng(5)
    return {
        "longer hours from some year on": np.repeat([390, 960], [360, 240]),
        "longer hours for most years": np.repeat([390, 960], [240, 360]),
        "uniform": draws.integers(20, 61, n),
        "lognormal": np.exp(draws.normal(3, 1, n)).astype(int) + 1,
        "growing": np.linspace(10, 200, n).astype(int),
        "one or more": draws.choice([1, 1, 2, 9], n),
        "half of them half": np.tile([390, 210], n // 2),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["longer hours from some year on", "longer hours for most years", "uniform", "lognormal",
     "growing", "one or more", "half of them half"],
)  # fmt: skip
def test_sessions_that_differ_count_with_their_mean(kind: str) -> None:
    counts = drawn(kind)
    found = find_frequency(bars_of(counts))
    assert found.per_year == pytest.approx(252 * counts.mean(), rel=0.005)
    assert "bars a session on average" in found.how


@pytest.mark.parametrize("closed", [False, True])
def test_bars_cut_by_volume_count_with_their_mean(closed: bool) -> None:
    draws = np.random.default_rng(6)
    days = (
        pd.bdate_range("2015-01-05", periods=400) if closed else pd.date_range("2015", periods=400)
    )
    counts = np.exp(draws.normal(4, 0.6, 400)).astype(int) + 2
    seconds = [
        np.sort(draws.choice(23_400 if closed else 86_400, n, replace=False)) for n in counts
    ]
    starts = np.repeat(days.to_numpy().astype("datetime64[s]"), counts)
    found = find_frequency(pd.DatetimeIndex(starts + np.concatenate(seconds)))
    assert found.per_year == pytest.approx((252 if closed else 365) * counts.mean(), rel=0.01)


def test_times_of_day_that_are_met_by_chance_are_no_grid() -> None:
    full = bars_of(np.full(300, 390))
    half = full[np.random.default_rng(7).random(len(full)) < 0.5]
    assert find_frequency(half).per_year == pytest.approx(252 * len(half) / 300, rel=0.005)


@pytest.mark.parametrize("share", [0.04, 0.1])
def test_half_days_are_no_ragged_sessions(share: float) -> None:
    counts = np.full(500, 390)
    counts[:: round(1 / share)] = 210
    assert find_frequency(bars_of(counts)).per_year == 98_280
