"""Sessions: where a market's days end."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.engine.sessions import begins_session, session_days, session_end_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), ("17:00", "17:00"), ("7:05", "07:05"), ("16:00:00", "16:00"), (1020, "17:00"),
     ("00:00", None), ("24:00", None), (0, None), (570, "09:30")],
)  # fmt: skip
def test_a_time_has_one_spelling_and_midnight_is_none(value, text):
    assert session_end_text(value) == text


@pytest.mark.parametrize("value", ["25:00", "17", "5pm", "17:60", "", -1, 1441])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(ValueError, match="`session_end` must be a time such as 17:00, but got"):
        session_end_text(value)


def test_a_session_has_the_date_on_which_it_ends():
    index = pd.DatetimeIndex(
        ["2024-01-07 16:59", "2024-01-07 17:00", "2024-01-08 16:00", "2024-01-08 17:00"]
    )
    days = session_days(index, "17:00").astype("datetime64[D]").astype(str).tolist()
    assert days == ["2024-01-07", "2024-01-08", "2024-01-08", "2024-01-09"]
    assert begins_session(index, "17:00").tolist() == [True, True, False, True]
    assert begins_session(index).tolist() == [True, False, True, False]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "America/New_York", "Asia/Tokyo"])
def test_without_an_end_days_are_those_of_the_calendar(unit, zone):
    index = pd.date_range("1969-12-28", periods=400, freq="5h").as_unit(unit).tz_localize(zone)
    expected = index.tz_localize(None).to_numpy().astype("datetime64[D]").astype(np.int64)
    assert session_days(index).tolist() == expected.tolist()


def test_days_go_on_where_clocks_are_put_back_across_their_end():
    index = pd.date_range("2024-11-03 00:00", periods=10, freq="30min", tz="America/New_York")
    days = session_days(index, "01:30")
    assert (np.diff(days) >= 0).all()
    assert np.diff(days).sum() == 1


def test_no_bars_have_no_sessions():
    assert session_days(pd.DatetimeIndex([])).tolist() == []
    assert begins_session(pd.DatetimeIndex([]), "17:00").tolist() == []
