"""The bars a year of an index."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.engine.frequency import (
    disagreement,
    find_frequency,
    freq_text,
    name_of_bars,
    periods_per_year_from,
)

DAYS = pd.bdate_range("2015-01-05", periods=500)


def sessions(days: pd.DatetimeIndex, freq: str) -> pd.DatetimeIndex:
    """Return the bars of sessions from 9:30 to 16:00."""
    n_bars = {"5min": 78, "h": 7}[freq]
    starts = days + pd.Timedelta("9h30min")
    bars = [pd.date_range(start, periods=n_bars, freq=freq).to_numpy() for start in starts]
    return pd.DatetimeIndex(np.concatenate(bars))


def currencies(hours: int) -> pd.DatetimeIndex:
    """Return hours from Sunday evening to Friday evening."""
    index = pd.date_range("2015-01-04 17:00", periods=hours, freq="h")
    day, hour = index.day_of_week, index.hour
    closed = ((day == 4) & (hour >= 17)) | (day == 5) | ((day == 6) & (hour < 17))
    return index[~closed]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (DAYS, 252),
        (DAYS[:30], 252),
        (DAYS.tz_localize("Asia/Tokyo").as_unit("s"), 252),
        # Five years without data are no holidays.
        (DAYS.append(pd.bdate_range("2022-01-03", periods=500)), 252),
        (pd.date_range("2015-01-01", periods=700), 365),
        (pd.date_range("2015-01-01", periods=20), 365),
        (pd.date_range("2015-01-04", periods=600, freq="W"), 52),
        (pd.date_range("2015-01-04", periods=10, freq="W-FRI"), 52),
        (pd.date_range("2015-01-01", periods=240, freq="MS"), 12),
        (pd.date_range("2015-01-01", periods=240, freq="ME"), 12),
        (pd.date_range("2015-01-01", periods=24, freq="BME"), 12),
        (pd.date_range("2015-01-01", periods=20, freq="QE"), 4),
        (pd.date_range("1950-01-01", periods=50, freq="YE"), 1),
        (pd.date_range("2015-01-01", periods=9_000, freq="h"), 8_760),
        (pd.date_range("2015-01-01", periods=50_000, freq="min"), 525_600),
        (pd.date_range("2015-01-01", periods=3_000, freq="4h"), 2_190),
        (sessions(DAYS, "5min"), 252 * 78),
        (sessions(DAYS[:3], "5min"), 252 * 78),
        (sessions(DAYS, "h").tz_localize("America/New_York"), 252 * 7),
        (currencies(9_000), 252 * 24),
        (currencies(700), 252 * 24),
        (pd.date_range("2020-01-01", periods=100, freq="SME"), 24),
        (pd.date_range("2020-01-01", periods=100, freq="2D"), 182.5),
        (DAYS[:1], None),
    ],
)
def test_the_usual_number_of_bars_a_year(index: pd.DatetimeIndex, expected: float | None) -> None:
    assert periods_per_year_from(index) == expected


def missing(index: pd.DatetimeIndex, share: float) -> pd.DatetimeIndex:
    """Leave out bars at random."""
    return index[np.random.default_rng(0).random(len(index)) >= share]


@pytest.mark.parametrize(
    ("index", "freq", "expected"),
    [
        (missing(sessions(DAYS, "5min"), 0.1), "5min", 252 * 78),
        (missing(sessions(DAYS, "5min"), 0.01), "5min", 252 * 78),
        # Half of the bars were never traded: what is there counts.
        (missing(sessions(DAYS, "5min"), 0.5), "5min", pytest.approx(252 * 39, rel=0.01)),
        # Days that are cut off, and a half day.
        (sessions(DAYS[:4], "5min")[70:-70], "5min", 252 * 78),
        (sessions(DAYS[:20], "5min").delete(range(780 + 42, 780 + 78)), "5min", 252 * 78),
        # A quarter of a year is missing.
        (sessions(DAYS[:60].append(DAYS[120:200]), "5min"), "5min", 252 * 78),
        # Stamped in UTC, the session moves with the clocks of New York.
        (
            sessions(DAYS, "5min").tz_localize("America/New_York").tz_convert("UTC"),
            "5min",
            252 * 78,
        ),
        (missing(DAYS, 0.1), "1d", 252),
        (missing(DAYS, 0.4), "1d", pytest.approx(261 * 322 / 500, rel=0.01)),
        (missing(pd.date_range("2015-01-01", periods=700), 0.1), "1d", 365),
        # Christmas: every other day is a holiday.
        (DAYS[:2].append(pd.DatetimeIndex(["2015-01-08", "2015-01-09", "2015-01-12"])), "1d", 252),
        # Tel Aviv, Sunday to Thursday.
        (DAYS - pd.Timedelta(days=1), "1d", 252),
        # One bar on Sunday evening is a day of its own in daily bars of currencies.
        (pd.bdate_range("2015-01-04", periods=600, freq="C", weekmask="1111101"), "1d", 312),
        (pd.date_range("2015-01-05 09:30", periods=23_400, freq="s"), "1s", 252 * 23_400),
        (pd.date_range("2015-01-01", periods=700, freq="12h"), "12h", 730),
        (pd.date_range("2015-01-01", periods=24, freq="6ME"), "6mo", 2),
        (pd.date_range("2015-01-01", periods=24, freq="2W"), "2w", 26),
        (pd.date_range("1990-01-01", periods=9, freq="YE"), "12mo", 1),
        (DAYS[:2], "1d", 252),
        (DAYS[4:6], "1d", 252),
    ],
)
def test_what_is_missing_or_cut_off_changes_nothing(
    index: pd.DatetimeIndex, freq: str, expected: float
) -> None:
    found = find_frequency(index)
    assert (found.freq, found.per_year) == (freq, expected)


def futures(zone: str) -> pd.DatetimeIndex:
    """Return bars of 5 minutes from 17:00 to 16:00 in Chicago, on the clock of a zone."""
    index = pd.date_range("2015-01-04 17:00", periods=40_000, freq="5min", tz="America/Chicago")
    day, hour = index.day_of_week, index.hour
    closed = (hour == 16) | ((day == 4) & (hour >= 16)) | (day == 5) | ((day == 6) & (hour < 17))
    return index[~closed].tz_convert(zone)


@pytest.mark.parametrize(
    ("zone", "session_end"),
    [("America/Chicago", "17:00"), ("America/Chicago", None), ("UTC", None), ("Asia/Tokyo", None)],
)
def test_days_that_cross_midnight_are_whole_ones(zone: str, session_end: str | None) -> None:
    found = find_frequency(futures(zone), session_end)
    assert (found.freq, found.per_year) == ("5min", 252 * 276)
    assert found.how == "276 bars a session x 252 sessions"


@pytest.mark.parametrize("step", ["15min", "1h", "4h"])
@pytest.mark.parametrize("days", [10, 12, 15, 18])
@pytest.mark.parametrize("first", pd.date_range("2021-03-01", periods=7))
def test_an_outage_of_some_days_closes_no_market_that_never_closes(
    step: str, days: int, first: pd.Timestamp
) -> None:
    index = pd.date_range(first, first + pd.Timedelta(days=days), freq=step, inclusive="left")
    # From Thursday noon to the end of Saturday.
    end = first + pd.Timedelta(days=(5 - first.day_of_week) % 7 + 1)
    index = index[(index < end - pd.Timedelta("2D 12h")) | (index >= end)]
    found = find_frequency(index)
    assert found.per_year == 365 * pd.Timedelta("1D") / pd.Timedelta(step)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "Australia/Sydney", "Pacific/Auckland"])
@pytest.mark.parametrize("days", [10, 18, 25])
def test_a_few_hours_on_a_weekend_are_no_session(zone: str, days: int) -> None:
    assert find_frequency(futures(zone)[: 276 * days]).per_year == 252 * 276


def test_a_break_at_noon_is_no_missing_bar() -> None:
    index = sessions(DAYS, "5min")
    index = index[(index.hour != 12)]
    assert find_frequency(index).per_year == 252 * 66


@pytest.mark.parametrize(
    ("text", "spelt"),
    [("auto", "auto"), ("5min", "5min"), ("60min", "1h"), ("1H", "1h"), ("24h", "1d"), ("d", "1d"),
     ("7d", "1w"), ("90s", "90s"), ("120s", "2min"), ("1mo", "1mo"), ("12mo", "12mo")],
)  # fmt: skip
def test_a_length_has_one_spelling(text: str, spelt: str) -> None:
    assert freq_text(text) == spelt


@pytest.mark.parametrize(
    ("text", "said"),
    [("5m", r"did you mean 5min or 5mo\?"), ("1M", r"did you mean 1mo\?"),
     ("daily", r"did you mean 1d\?"), ("1wk", r"did you mean 1w\?"), ("x", "or a length"),
     ("0d", "or a length"), ("1.5h", "or a length"), ("", "or a length")],
)  # fmt: skip
def test_what_is_no_length_is_refused_with_what_may_be_meant(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        freq_text(text)


def test_what_disagrees_is_said_also_over_a_short_time() -> None:
    assert disagreement(DAYS, 252) is None
    crypto = pd.date_range("2020-01-01", periods=60)
    said = disagreement(crypto, 252)
    assert said is not None
    assert said.startswith("the data has about 365 bars a year, but periods_per_year is 252: ")
    assert said.endswith("periods_per_year=365 would fit")
    assert disagreement(crypto, 365) is None
    assert disagreement(crypto[:10], 252) is None


@pytest.mark.parametrize(
    ("per_year", "name"),
    [(252, "daily"), (365, "daily"), (52, "weekly"), (12, "monthly"), (4, "quarterly"),
     (1, "yearly"), (26, ""), (8_766, "")],
)  # fmt: skip
def test_bars_have_names(per_year: float, name: str) -> None:
    assert name_of_bars(per_year) == name
