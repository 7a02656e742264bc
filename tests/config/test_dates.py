"""Whether an end lies after a start, where dates are as long as they are written."""

import pandas as pd
import pytest

from backtest_batch.config.key import are_in_order


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (2006, 2006),
        ("2006-03", "2006"),
        ("2006-03-15", "2006-03"),
        ("2006-03-15", "2006-03-15"),
        ("2006-03-15 09:30", "2006-03-15 16:00"),
        ("2006-03-15 09:30", pd.Timestamp("2006-03-15")),
        ("2006-03-15T09:00+09:00", "2006-03-15T00:30+00:00"),
        ("2006-03-15T09:00+09:00", "2006-03-15"),
        ("9999-12-31", "9999-12-31"),
        (None, 2006),
        (2006, None),
    ],
)
def test_an_end_counts_to_its_own_end(start, end):
    assert are_in_order(start, end)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (2007, 2006),
        ("2007-01-01", 2006),
        ("2006-04", "2006-03"),
        ("2006-03-16", "2006-03-15"),
        ("2006-03-15 16:00", "2006-03-15 09:30"),
        ("2006-03-15 16:00", "2006-03-15 16:00"),
        ("2006-03-15T09:00+09:00", "2006-03-15T00:00+00:00"),
        ("9999", "2006"),
    ],
)
def test_an_end_before_the_start(start, end):
    assert not are_in_order(start, end)
