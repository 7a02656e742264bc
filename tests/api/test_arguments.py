"""From plain objects to what a batch is asked for."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from backtest_batch.api.sweeps import plain_keys


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (2006, "2006"),
        (date(2006, 1, 2), "2006-01-02"),
        # A day is the whole day, as it is for `backtest`.
        (datetime(2006, 1, 2), "2006-01-02"),
        (pd.Timestamp("2006-01-02"), "2006-01-02"),
        (np.datetime64("2006-01-02"), "2006-01-02"),
        (np.datetime64("2006-01-02T00:00:00.000000000"), "2006-01-02"),
        (datetime(2006, 1, 2, 9, 30), "2006-01-02T09:30:00"),
        (datetime(2006, 1, 2, tzinfo=UTC), "2006-01-02T00:00:00+00:00"),
    ],
)
def test_dates_of_any_type_are_text(given, text):
    (argument,) = plain_keys([("start_date", given)])
    assert str(argument.value) == text
    assert argument.text.replace("'", "") == f"start_date={text}"


def test_what_is_no_date_is_left_to_the_check_of_the_key():
    (argument,) = plain_keys([("start_date", pd.NaT)])
    assert argument.text == "start_date=NaT"
