"""Which bars an account has that comes with its own."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch import Account
from backtest_batch.core.own_bars import _bars_of as bars_of


def series(values, index):
    return pd.Series(values, index=index, dtype=float)


DAYS = pd.bdate_range("2024-01-08", periods=5)  # Monday to Friday


@pytest.mark.parametrize(
    ("values", "first"),
    [([np.nan, 0.1, 0, 0, 0], 0), ([np.nan, np.nan, 0.1, 0, 0], 1), ([0.0, 0.1, 0, 0, 0], 0)],
)
def test_the_bar_before_the_first_return_is_the_first_measured_one(values, first):
    index, found = bars_of(Account(net_return=series(values, DAYS)), "f")
    assert found == first
    assert index.equals(DAYS)


@pytest.mark.parametrize(
    ("index", "before"),
    [
        (DAYS, "2024-01-05"),  # the Friday before
        (DAYS.tz_localize("America/New_York"), "2024-01-05 00:00-05:00"),
        (pd.date_range("2024-01-06", periods=5), "2024-01-05"),
        (pd.date_range("2024-01-06 10:00", periods=5, freq="h"), "2024-01-06 09:00"),
        (pd.date_range("2024-03-11", periods=1), "2024-03-08"),
        (pd.date_range("2024-03-11", periods=8, tz="America/New_York"), "2024-03-10 00:00-05:00"),
    ],
)
def test_a_return_on_the_very_first_timestamp_counts_from_a_bar_before_it(index, before):
    found, first = bars_of(Account(net_return=series(0.01, index)), "f")
    assert first == 0
    assert found[0] == pd.Timestamp(before)
    assert found[1:].equals(index.as_unit("ns"))


def test_an_equity_says_itself_where_it_opens():
    equity = series([np.nan, 100.0, 101, 102, 103], DAYS)
    assert bars_of(Account(equity=equity), "f")[1] == 1
    returns = equity.pct_change(fill_method=None).iloc[2:]
    index, first = bars_of(Account(equity=equity, net_return=returns), "f")
    assert first == 1
    assert index.equals(DAYS)
