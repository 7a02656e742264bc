import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.bars import assemble
from backtest_batch.core.data.sources import Yahoo
from backtest_batch.core.data.sources.yahoo import yahoo_bars
from backtest_batch.errors import DataError

# Stands in for the package: answers as yfinance 1.x does, or fails as the network does.
STAND_IN = """
import os, pandas as pd

def set_tz_cache_location(folder):
    print("zones in", folder)

def download(tickers, start, end, interval, auto_adjust, group_by, progress, threads,
             multi_level_index):
    print(tickers, start, end, interval, auto_adjust, progress, threads)
    if os.environ.get("NO_NETWORK"):
        raise ConnectionError("no route to host")
    index = pd.DatetimeIndex(["2020-01-02", "2020-01-03"], name="Date")
    columns = pd.MultiIndex.from_product([["Close", "Open"], sorted(tickers)])
    return pd.DataFrame(10.0, index=index, columns=columns)
"""

PROGRAM = """
import sys
from backtest_batch.errors import DataError
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Yahoo
try:
    panel = load_panel(Yahoo(symbols=["MSFT", "AAPL"], start="2020-01-01"))
    print(panel.symbols, list(panel.fields), panel.n_bars)
except DataError as error:
    print(type(error).__name__, error)
"""


def run(folder, **environment):
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_prices_are_downloaded_once_a_day(tmp_path, cache_folder):
    folder = tmp_path / "stand-in"
    folder.mkdir()
    (folder / "yfinance.py").write_text(STAND_IN)
    panel = "('MSFT', 'AAPL') ['open', 'close'] 2"
    assert run(folder) == [
        f"zones in {cache_folder / 'yfinance'}",
        "['MSFT', 'AAPL'] 2020-01-01 None 1d True False False",
        panel,
    ]
    assert run(folder) == [panel]


def test_a_network_that_fails(tmp_path):
    folder = tmp_path / "stand-in"
    folder.mkdir()
    (folder / "yfinance.py").write_text(STAND_IN)
    assert run(folder, NO_NETWORK="1")[-1] == (
        "DataError Yahoo Finance did not answer for MSFT, AAPL: no route to host"
    )


def test_without_the_extra_the_message_says_what_to_install(tmp_path):
    folder = tmp_path / "stand-in"
    folder.mkdir()
    (folder / "yfinance.py").write_text("raise ImportError('not installed')")
    (message,) = run(folder)
    assert message == (
        "DataNotFoundError data=yahoo needs the package yfinance: "
        "`pip install 'backtest-batch[yahoo]'` installs it"
    )


def table(**closes):
    index = pd.bdate_range("2020-01-02", periods=3, name="Date")
    parts = {("Close", name): values for name, values in closes.items()}
    parts |= {("Volume", name): [100, 200, 300] for name in closes}
    return pd.DataFrame(parts, index=index)


def test_a_table_of_yahoo_becomes_bars():
    bars = yahoo_bars(table(AAPL=[1.0, 2.0, 3.0], MSFT=[np.nan, 5.0, 6.0]), ["MSFT", "AAPL"])
    panel = assemble(bars).panel
    assert panel.symbols == ("MSFT", "AAPL")
    assert list(panel.fields) == ["close", "volume"]
    np.testing.assert_array_equal(panel.close["MSFT"], [np.nan, 5, 6])


def test_symbols_that_yahoo_does_not_know():
    with pytest.raises(DataError, match=r"no prices of XX, YY in this period \(2 of 3 symbols"):
        yahoo_bars(table(AAPL=[1.0, 2.0, 3.0], XX=[np.nan] * 3), ["AAPL", "XX", "YY"])
    for nothing in (None, pd.DataFrame()):
        with pytest.raises(DataError, match=r"no prices of AAPL in this period \(1 of 1"):
            yahoo_bars(nothing, ["AAPL"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`symbols` or `symbols_file` must be given"),
        ({"symbols": ["A"], "start": "x"}, "`start` must be a date such as 2005-01-31, but got"),
        ({"symbols": ["A"], "end": "x"}, "`end` must be a date such as 2005-01-31, but got end=x"),
        (
            {"symbols": ["A"], "start": "2020-01-02", "end": "2020-01-02"},
            "`start < end` must hold, but got start=2020-01-02, end=2020-01-02",
        ),
    ],
)
def test_arguments_that_are_not_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        Yahoo(**arguments)
