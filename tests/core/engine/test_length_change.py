"""Histories that go over from bars of one length into bars of another."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.engine.length_change import BarLengths, find_length_change
from tests.core.engine.test_spacing import bars_of, exchange, on

MONTHS = pd.date_range("2000-01-01", "2019-12-31", freq="ME")
WEEKS = pd.date_range("2000-01-01", "2019-12-31", freq="W-FRI")
LATER = pd.bdate_range("2020-01-01", "2022-12-31")
DAYS = pd.bdate_range("2015-01-05", periods=400)
DECADE = pd.bdate_range("2010-01-04", "2019-12-31")


def with_nights(step: str, morning: float, nights: int = 250) -> pd.DatetimeIndex:
    """Return sessions with breaks; those from the 250th on go on at night until the morning."""
    every = pd.Timedelta(step) / pd.Timedelta("1h")
    spans = [(9, 11.5), (13.5, 15), (21, 24), (0, morning)]
    hours = [np.arange(first, end, every) for first, end in spans]
    parts = [np.concatenate(hours[:2]), np.sort(np.concatenate(hours))]
    days = pd.bdate_range("2015-01-05", periods=250 + nights)
    parts = [
        pd.to_timedelta(np.tile(part, n), unit="h") + days[np.repeat(at, len(part))]
        for part, n, at in zip(
            parts, (250, nights), (np.arange(250), np.arange(250, 250 + nights)), strict=True
        )
    ]
    return parts[0].append(parts[1])


def thinned(share: float, bars: pd.DatetimeIndex, first: int) -> pd.DatetimeIndex:
    """Return bars of which the share of the first ones is kept, at random."""
    kept = np.random.default_rng(3).random(len(bars)) < share
    kept[first:] = True
    return bars[kept]


def after(days: pd.DatetimeIndex, bars: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Move bars behind days."""
    start = (days[-1] + pd.Timedelta(days=10)).normalize()
    start += pd.Timedelta(days=7 - start.day_of_week)
    return days.append(bars + (start - bars[0].normalize()))


@pytest.mark.parametrize(
    ("index", "lengths", "at"),
    [
        (MONTHS.append(LATER), ["1mo", "1d"], "2020-01-01"),
        (pd.date_range("2000", "2020", freq="BMS").append(LATER[1:]), ["1mo", "1d"], "2020-01-02"),
        (WEEKS.append(LATER), ["1w", "1d"], "2020-01-02"),
        (MONTHS[-36:].append(pd.bdate_range("2020", "2039")), ["1mo", "1d"], "2020-01-01"),
        (pd.bdate_range("1995", "1999-12-31").append(MONTHS), ["1d", "1mo"], "2000-01-31"),
        (MONTHS[:120].append(WEEKS[521:]).append(LATER), ["1mo", "1w", "1d"], "2010-01-01"),
        (DAYS[:200:2].append(DAYS[200:]), ["2d", "1d"], None),
        (after(DAYS, bars_of(np.full(40, 390))), ["1d", "1min"], None),
        (after(DAYS, bars_of(np.full(400, 7), "1h")), ["1d", "1h"], None),
        (after(bars_of(np.full(99, 7), "1h"), bars_of(np.full(99, 390))), ["1h", "1min"], None),
        (after(bars_of(np.full(99, 390)), bars_of(np.full(99, 7), "1h")), ["1min", "1h"], None),
        (pd.date_range("2017", "2018", freq="D").append(
            pd.date_range("2018-01-02", "2018-06-01", freq="h")), ["1d", "1h"], "2018-01-02"),
        # Another pattern of the week, and a few days at the end of months.
        (on(DECADE[:1304], 1, 3).append(DECADE[1304:]), ["4d", "1d"], "2015-01-02"),
        (on(exchange()[:1260], 0, 2, 4).append(exchange()[1260:2520]), ["2d", "1d"], None),
        (MONTHS[180:].append(LATER[:15]), ["1mo", "1d"], "2020-01-01"),
        (after(thinned(0.6, bars_of(np.full(250, 78), "5min"), 19_500),
               bars_of(np.full(99, 390))), ["5min", "1min"], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_a_change_is_found_where_it_is(
    index: pd.DatetimeIndex, lengths: list[str], at: str | None, zone: str | None
) -> None:
    change = find_length_change(
        index.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    )
    assert change is not None
    assert [stretch.freq for stretch in change.stretches] == lengths
    assert at is None or str(change.stretches[1].first.date()) == at
    # Either part by itself is of one length.
    assert find_length_change(index[index >= change.stretches[-1].first.tz_localize(None)]) is None
    assert find_length_change(index[index <= change.stretches[0].last.tz_localize(None)]) is None


@pytest.mark.parametrize(
    "index",
    [
        exchange(),
        exchange()[::2],
        bars_of(np.full(300, 390)),
        exchange().delete(range(2_000, 2_250)),
        # An exchange is closed for four months, as in 1914.
        pd.bdate_range("1910", "1914-07-30").append(pd.bdate_range("1914-12-12", "1920")),
        # Saturdays until 1952, currencies from five days to seven.
        pd.bdate_range("1928", "1952", freq="C", weekmask="1111110").append(
            pd.bdate_range("1952-06-02", "1970")),
        DAYS.append(pd.date_range("2017", "2019")),
        # Longer hours, half days, more of the minutes traded.
        bars_of(np.repeat([390, 960], 200)),
        bars_of(np.tile([390, 390, 210], 100)),
        # Sessions at night, with breaks, from some year on.
        with_nights("1h", 3), with_nights("30min", 2.5), with_nights("30min", 0),
        with_nights("15min", 1), with_nights("1h", 3, nights=30),
        # Few bars are traded in the first year.
        thinned(0.55, bars_of(np.full(500, 78), "5min"), 19_500),
        thinned(0.52, bars_of(np.full(500, 390)), 97_500),
        thinned(0.3, bars_of(np.full(500, 390)), 97_500),
        # Some years in which every second day is there change the mean length by little.
        DAYS[:200].append(DAYS[200:220:2]).append(DAYS[220:]),
        pd.bdate_range("2010", periods=1_000).delete(range(501, 560, 2)),
        MONTHS.delete(range(50, 60)),
        pd.date_range("2000", periods=300, freq="SME"),
        pd.date_range("2000", periods=9, freq="YE"),
        DAYS[:1], DAYS[:0],
    ],
)  # fmt: skip
def test_gaps_and_longer_hours_are_no_change(index: pd.DatetimeIndex) -> None:
    assert find_length_change(index) is None


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_days_that_are_missing_at_random_are_no_change(share: float) -> None:
    for seed in range(20):
        for n in (60, 200, 400):
            index = DAYS[:n][np.random.default_rng(seed).random(n) > share]
            assert find_length_change(index) is None, (seed, n)


@pytest.mark.parametrize("unit", ["s", "min"])
def test_more_bars_of_equal_volume_are_no_change(unit: str) -> None:
    draws = np.random.default_rng(1)
    counts = np.repeat([30, 150], 200) * np.exp(draws.normal(0, 0.3, 400))
    days = (DAYS + pd.Timedelta("9h30min")).to_numpy().astype("datetime64[s]")
    seconds = [np.sort(draws.choice(23_400, int(n), replace=False)) for n in counts]
    index = pd.DatetimeIndex(np.repeat(days, counts.astype(int)) + np.concatenate(seconds))
    assert find_length_change(index.floor(unit).unique()) is None


def test_what_is_said_names_both_spans_and_the_ways_out() -> None:
    change = find_length_change(MONTHS.append(LATER))
    assert change is not None
    assert change.refusal() == (
        "bars are 1mo apart from 2000-01-31 to 2019-12-31 and 1d apart from 2020-01-01 to "
        "2022-12-30 (12 and 252 a year), and no one number annualises them all: "
        "start_date=2020-01-01 measures the last of them, end_date=2019-12-31 the first; "
        "periods_per_year=N takes N for all"
    )
    assert "cut the index at 2020-01-01" in change.refusal(has_dates=False)


def test_measured_bars_of_one_length_have_their_own_number() -> None:
    lengths = BarLengths(MONTHS.append(LATER))
    assert lengths.measured(0).mixed is not None
    measured = lengths.measured(len(MONTHS))
    assert measured.mixed is None
    assert (measured.frequency.freq, measured.frequency.per_year) == ("1d", 252)
    (note,) = measured.notes(None)
    assert "signals that look back beyond 2020-01-01 count bars of other lengths" in note
    (_, differs) = measured.notes(12)
    assert differs.startswith("the data has about 252 bars a year, but periods_per_year is 12")
