import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.engine.calendar import (
    decision_bars,
    idle_text,
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


def test_an_unknown_period_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"rebalance must be one of bar, D, W, M, Q, Y.*, but got 'X'"
    ):
        decision_bars(dates("2024-01-01"), "X")


def test_year_fractions_count_actual_time() -> None:
    index = dates("2024-01-05 10:00", "2024-01-05 16:00", "2024-01-08 10:00")
    assert year_fractions(index).tolist() == [0.0, 0.25 / 365, 2.75 / 365]
    assert year_fractions(index[:1]).tolist() == [0.0]


def test_a_day_on_which_clocks_change_is_shorter() -> None:
    index = dates("2024-03-09", "2024-03-10", "2024-03-11").tz_localize("America/New_York")
    assert year_fractions(index).tolist() == [0.0, 1 / 365, 23 / 24 / 365]


def intraday(step: str, *days: str, start: str = "09:30", n_bars: int = 78) -> pd.DatetimeIndex:
    parts = [pd.date_range(f"{day} {start}", periods=n_bars, freq=step) for day in days]
    return parts[0].append(parts[1:])


@pytest.mark.parametrize("start", ["09:30", "09:35"])
def test_a_quarter_of_an_hour_is_three_bars_whichever_end_they_are_stamped_with(start: str) -> None:
    index = intraday("5min", "2024-01-04", "2024-01-05", start=start)
    every_third = np.arange(2, 156, 3)
    assert decision_bars(index, "15min").tolist() == every_third[:-1].tolist()
    begins = decision_bars(index, "15min:start")
    assert begins.tolist() == np.arange(0, 156, 3).tolist()


def test_hours_start_anew_with_each_session() -> None:
    index = intraday("h", "2024-01-04", "2024-01-05", start="10:00", n_bars=7)
    # 10 to 13 and 14 to 16, on both days.
    assert decision_bars(index, "4h").tolist() == [3, 6, 10]
    assert decision_bars(index, "4h:start").tolist() == [0, 4, 7, 11]
    assert decision_bars(index, "1h").tolist() == decision_bars(index, "bar").tolist()


def test_a_missing_bar_ends_no_period() -> None:
    index = intraday("5min", "2024-01-04", n_bars=9).delete([2, 4])
    # 9:30, 9:35 | 9:45, 9:55 | 10:00, 10:05, 10:10
    assert decision_bars(index, "15min").tolist() == [1, 3]


def test_hours_that_the_clocks_repeat_are_counted_once_each() -> None:
    index = pd.date_range("2024-11-03", periods=50, freq="30min", tz="America/New_York")
    # A day of 25 hours: 1:00 comes twice.
    assert decision_bars(index, "1h").tolist() == list(range(1, 49, 2))


def test_multiples_of_bars_are_counted_from_the_first_one() -> None:
    index = pd.date_range("2024-01-01", periods=11)
    assert decision_bars(index, "bars:5").tolist() == [4, 9]
    assert decision_bars(index, "bars:5:start").tolist() == [0, 5]
    assert decision_bars(index[:10], "bars:5").tolist() == [4]


@pytest.mark.parametrize(
    ("rebalance", "alias"),
    [("W-MON", "W-MON"), ("W-WED", "W-WED"), ("W-FRI", "W-FRI"), ("W-SAT", "W-SAT"), ("Y", "Y")],
)
def test_weeks_and_years_are_those_of_pandas(rebalance: str, alias: str) -> None:
    index = pd.date_range("1968-11-20", "1975-02-10")[::2]
    periods = index.to_period(alias)
    changes = np.flatnonzero(periods[1:] > periods[:-1])
    assert decision_bars(index, rebalance).tolist() == changes.tolist()
    starts = [0, *(bar + 1 for bar in changes.tolist() if bar + 2 < len(index))]
    assert decision_bars(index, f"{rebalance}:start").tolist() == starts


@pytest.mark.parametrize(("rebalance", "n"), [("2M", 2), ("Q", 3), ("6M", 6), ("2Y", 24)])
def test_months_are_counted_from_1970(rebalance: str, n: int) -> None:
    index = pd.bdate_range("1999-05-03", "2012-01-10")
    months = ((index.year - 1970) * 12 + index.month - 1) // n
    expected = np.flatnonzero(months[1:] > months[:-1])
    assert decision_bars(index, rebalance).tolist() == expected.tolist()
    # Data that begin later have the same periods.
    later = decision_bars(index[100:], rebalance)
    assert later.tolist() == [bar - 100 for bar in expected.tolist() if bar >= 100]


def test_two_weeks_are_the_same_two_weeks_whenever_the_data_begin() -> None:
    index = pd.bdate_range("2024-01-01", periods=60)
    decided = set(index[decision_bars(index, "2W")])
    assert len(decided) == 5
    assert set(index[7:][decision_bars(index[7:], "2W")]) == {
        day for day in decided if day >= index[7]
    }
    assert all(day.day_of_week == 4 for day in decided)


def test_the_first_bar_of_a_period_decides_but_never_the_last_of_the_data() -> None:
    index = dates("2024-01-30", "2024-01-31", "2024-02-01", "2024-02-29", "2024-03-01")
    assert decision_bars(index, "M:start").tolist() == [0, 2]
    assert decision_bars(index, "M").tolist() == [1, 3]
    assert decision_bars(index[:1], "M:start").tolist() == []
    assert decision_bars(index[:0], "M:start").tolist() == []


def test_sunday_evening_is_monday_where_sessions_end_in_the_afternoon() -> None:
    # Futures: 17:00 to 16:00, from Sunday to Friday; the month ends on Wednesday.
    hours = pd.date_range("2024-01-28 17:00", "2024-02-02 15:00", freq="h", tz="America/Chicago")
    index = hours[hours.hour != 16]
    by_session = index[decision_bars(index, "D", "17:00")]
    assert [str(bar) for bar in by_session.tz_localize(None)] == [
        f"2024-{day} 15:00:00" for day in ("01-29", "01-30", "01-31", "02-01")
    ]
    assert decision_bars(index, "D").size == 5
    month = index[decision_bars(index, "M", "17:00")]
    assert str(month.tz_localize(None)[0]) == "2024-01-31 15:00:00"
    assert str(index[decision_bars(index, "M")].tz_localize(None)[0]) == "2024-01-31 23:00:00"
    # Weeks: the Sunday evening is part of the week that it begins.
    assert decision_bars(index, "W", "17:00").tolist() == []
    assert decision_bars(index, "W").tolist() == [6]
    four = index[decision_bars(index, "4h", "17:00")][:7].tz_localize(None)
    assert [str(bar.time()) for bar in four] == [
        "20:00:00", "00:00:00", "04:00:00", "08:00:00", "12:00:00", "15:00:00", "20:00:00"
    ]  # fmt: skip


def idle(rebalance: str, first_bar: int = 0, execution_lag: int = 1) -> str | None:
    index = pd.bdate_range("2015-01-01", "2024-12-31")
    return idle_text(
        index,
        decision_bars(index, rebalance),
        rebalance,
        first_bar=first_bar,
        execution_lag=execution_lag,
    )


@pytest.mark.parametrize(
    ("rebalance", "first_bar", "lag", "said"),
    [
        (
            "900M",
            0,
            1,
            "no period ends on them before the last one. The whole data has 1 such period;",
        ),
        ("Y", 2_500, 1, "on the 109 measured bars (2024-08-01 to 2024-12-31): no period ends"),
        ("M:start", 2_590, 1, "no period begins on them before the last one"),
        ("M", 2_580, 30, "the first decision is due after the last one (execution_lag=30)"),
        ("2Y", 2_400, 1, "The whole data has 6 such periods;"),
    ],
)
def test_bars_without_a_decision_are_said(
    rebalance: str, first_bar: int, lag: int, said: str
) -> None:
    text = idle(rebalance, first_bar, lag)
    assert text is not None
    assert text.startswith(f"rebalance={rebalance} never trades on the ")
    assert said in text


@pytest.mark.parametrize(
    ("rebalance", "first_bar"), [("Y", 0), ("M", 2_580), ("bar", 2_600), ("900M:start", 0)]
)
def test_one_decision_that_is_executed_is_enough(rebalance: str, first_bar: int) -> None:
    assert idle(rebalance, first_bar) is None
