"""The bars a year of an index."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.engine.calendar import disagreement, name_of_bars, periods_per_year_from

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
        (pd.date_range("2015-01-01", periods=9_000, freq="h"), 8_766),
        (pd.date_range("2015-01-01", periods=50_000, freq="min"), 525_960),
        (pd.date_range("2015-01-01", periods=3_000, freq="4h"), 2_191.5),
        (sessions(DAYS, "5min"), 252 * 78),
        (sessions(DAYS[:3], "5min"), 252 * 78),
        (sessions(DAYS, "h").tz_localize("America/New_York"), 252 * 7),
        (currencies(9_000), 252 * 24),
        (currencies(700), 252 * 24),
        (pd.date_range("2020-01-01", periods=100, freq="SME"), 24.01),
        (pd.date_range("2020-01-01", periods=100, freq="2D"), 182.6),
        (DAYS[:1], None),
    ],
)
def test_the_usual_number_of_bars_a_year(index: pd.DatetimeIndex, expected: float | None) -> None:
    assert periods_per_year_from(index) == expected


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
