import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.engine.calendar import (
    decision_bars,
    observed_periods_per_year,
    year_fractions,
)


def dates(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(texts)


def test_every_bar_but_the_last_decides() -> None:
    index = pd.date_range("2024-01-01", periods=4)
    assert decision_bars(index, "bar").tolist() == [0, 1, 2]
    assert decision_bars(index, "D").tolist() == [0, 1, 2]


def test_weeks_end_on_sunday() -> None:
    # Thursday, Friday, Sunday, Monday, Saturday, next Monday
    index = dates(
        "2024-01-04", "2024-01-05", "2024-01-07", "2024-01-08", "2024-01-13", "2024-01-15"
    )
    assert decision_bars(index, "W").tolist() == [2, 4]


def test_iso_weeks_run_across_new_year() -> None:
    # 2019-12-30 to 2020-01-05 is one ISO week.
    index = dates("2019-12-30", "2019-12-31", "2020-01-02", "2020-01-03", "2020-01-06")
    assert decision_bars(index, "W").tolist() == [3]
    assert decision_bars(index, "M").tolist() == [1]
    assert decision_bars(index, "Q").tolist() == [1]


def test_months_and_quarters() -> None:
    index = dates(
        "2024-01-30", "2024-02-01", "2024-03-28", "2024-04-02", "2024-06-28", "2025-06-30"
    )
    assert decision_bars(index, "M").tolist() == [0, 1, 2, 3, 4]
    assert decision_bars(index, "Q").tolist() == [2, 4]


@pytest.mark.parametrize("rebalance", ["bar", "D", "W", "M", "Q"])
def test_the_last_bar_never_decides(rebalance: str) -> None:
    for n_bars in (0, 1, 2, 300):
        index = pd.bdate_range("2019-12-31", periods=n_bars)
        bars = decision_bars(index, rebalance)
        assert bars.dtype == np.int64
        assert n_bars - 1 not in bars


@pytest.mark.parametrize("period", ["W", "M", "Q"])
def test_equals_the_periods_of_pandas(period: str) -> None:
    index = pd.bdate_range("1968-11-20", "1975-02-10")[::3]
    periods = index.to_period(period)
    expected = np.flatnonzero(periods[1:] > periods[:-1])
    assert decision_bars(index, period).tolist() == expected.tolist()


def test_days_end_at_midnight_of_the_index_own_zone() -> None:
    wall = pd.DatetimeIndex(["2024-01-31 20:00", "2024-01-31 23:00", "2024-02-01 01:00"])
    index = wall.tz_localize("America/New_York")
    assert decision_bars(index, "D").tolist() == [1]
    assert decision_bars(index, "M").tolist() == [1]
    # The same instants lie within one day and month of UTC.
    assert decision_bars(index.tz_convert("UTC"), "D").tolist() == []
    assert decision_bars(index.tz_convert("UTC"), "M").tolist() == []


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_the_index_does_not_matter(unit: str) -> None:
    index = pd.bdate_range("2024-01-01", periods=60).as_unit(unit)
    assert decision_bars(index, "M").tolist() == [22, 43]
    assert year_fractions(index)[1] == 1 / 365
    assert observed_periods_per_year(index) is None


def test_an_unknown_period_is_named() -> None:
    with pytest.raises(ValueError, match="rebalance must be one of bar, D, W, M, Q, but got 'X'"):
        decision_bars(dates("2024-01-01"), "X")


def test_year_fractions_count_actual_time() -> None:
    index = dates("2024-01-05 10:00", "2024-01-05 16:00", "2024-01-08 10:00")
    assert year_fractions(index).tolist() == [0.0, 0.25 / 365, 2.75 / 365]
    assert year_fractions(index[:1]).tolist() == [0.0]


def test_a_day_on_which_clocks_change_is_shorter() -> None:
    index = dates("2024-03-09", "2024-03-10", "2024-03-11").tz_localize("America/New_York")
    assert year_fractions(index).tolist() == [0.0, 1 / 365, 23 / 24 / 365]


def test_observed_periods_per_year() -> None:
    daily = pd.bdate_range("2000-01-01", "2010-01-01")
    assert observed_periods_per_year(daily) == pytest.approx(261, rel=0.01)
    monthly = pd.date_range("2000-01-01", periods=121, freq="MS")
    assert observed_periods_per_year(monthly) == pytest.approx(12, rel=0.001)


def test_too_few_bars_to_observe() -> None:
    assert observed_periods_per_year(dates()) is None
    assert observed_periods_per_year(dates("2024-01-01")) is None
    assert observed_periods_per_year(pd.date_range("2024-01-01", periods=60)) is None
