"""Series out of files, brought onto the bars of a panel."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.series import (
    SeriesTable,
    prices_on,
    read_series,
    returns_on,
    store_series,
    stored_series,
)
from backtest_batch.errors import ConfigurationError, DataError, DataNotFoundError

DAYS = pd.bdate_range("2020-01-01", periods=10)


def table(index, values):
    columns = np.asarray(values, dtype=float).reshape(len(index), -1)
    names = tuple(f"x{n}" for n in range(columns.shape[1]))
    return SeriesTable(place="x.csv", index=pd.DatetimeIndex(index), names=names, values=columns)


def test_each_bar_has_the_last_price_up_to_it():
    found = prices_on(table(DAYS[[0, 2, 3, 8]], [100, 110, 121, 60.5]), DAYS)
    expected = [np.nan, 0, 0.1, 0.1, 0, 0, 0, 0, -0.5, np.nan]
    assert found.returns[:, 0] == pytest.approx(expected, nan_ok=True)
    assert found.longest_gap(range(1, 9)) == (4, 4)
    assert found.longest_gap(range(2, 4)) == (2, 0)


def test_returns_that_share_a_bar_are_compounded():
    daily = table(pd.date_range("2020-01-01", periods=14, freq="D"), [0.01] * 14)
    weeks = pd.DatetimeIndex(["2020-01-03", "2020-01-07", "2020-01-08", "2020-01-14", "2020-01-20"])
    found = returns_on(daily, weeks, empty=0.0)
    expected = [np.nan, 1.01**4 - 1, 0.01, 1.01**6 - 1, np.nan]
    assert found.returns[:, 0] == pytest.approx(expected, nan_ok=True)


def test_a_single_return_on_a_bar_keeps_its_bits():
    values = np.random.default_rng(1).normal(0, 0.01, (10, 2))
    found = returns_on(table(DAYS, values), DAYS, empty=np.nan)
    assert np.isnan(found.returns[0]).all()
    assert (found.returns[1:] == values[1:]).all()


def test_returns_may_begin_one_bar_after_the_prices():
    found = returns_on(table(DAYS[1:], [0.01] * 9), DAYS, empty=0.0)
    assert found.returns[:, 0] == pytest.approx([np.nan, *[0.01] * 9], nan_ok=True)


@pytest.mark.parametrize("hours", [(16, 0), (0, 16)])
def test_closes_of_a_day_belong_together_whatever_the_time_they_are_stamped_with(hours):
    bars, rows = (DAYS + pd.Timedelta(hours=hour) for hour in hours)
    prices = 100 * 1.01 ** np.arange(10)
    assert prices_on(table(rows, prices), bars).returns[1:, 0] == pytest.approx(0.01)
    zoned = bars.tz_localize("America/New_York")
    assert prices_on(table(rows, prices), zoned).returns[1:, 0] == pytest.approx(0.01)


def test_percent_are_told_by_their_size_and_that_is_said():
    noise = np.random.default_rng(2).normal(0, 1, (10, 1))
    read = table(DAYS, noise).as_fractions()
    assert read.values == pytest.approx(noise / 100)
    assert "are read as percent" in read.notes[0]
    fractions = table(DAYS, noise / 100)
    assert fractions.as_fractions() is fractions
    between = table(DAYS, noise / 100 * 16)
    with pytest.raises(DataError, match=r"may be fractions or percent; .* unit: percent\}"):
        between.as_fractions()
    assert between.as_fractions("fraction") is between
    assert between.as_fractions("percent").values == pytest.approx(between.values / 100)
    with pytest.raises(ConfigurationError, match="must be percent or fraction"):
        between.as_fractions("bps")
    with pytest.raises(DataError, match="x0 holds prices, it seems, 100 first"):
        table(DAYS, np.full(10, 100.0)).as_fractions()


def test_days_without_separators_and_newest_first_are_read(tmp_path):
    path = tmp_path / "ff.csv"
    path.write_text("date,SMB,HML\n20200103,0.5,0.1\n20200102,-0.5,\n")
    found = read_series(str(path), are_prices=False)
    assert list(found.index) == [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-03")]
    assert found.names == ("SMB", "HML")
    assert found.values.tolist()[1] == [0.5, 0.1]
    assert np.isnan(found.values[0, 1])


def test_a_file_of_one_asset_gives_its_adjusted_close(tmp_path):
    path = tmp_path / "SPY.csv"
    path.write_text(
        "Date,Open,High,Low,Close,Adj Close,Volume\n"
        "2020-01-02,10,11,9,10,5,100\n2020-01-03,10,11,9,10.5,5.5,100\n"
    )
    assert read_series(str(path), are_prices=True).values.tolist() == [[5.0], [5.5]]


def test_a_file_of_rows_by_symbol_may_hold_one(tmp_path):
    path = tmp_path / "long.csv"
    rows = "date,symbol,close\n2020-01-02,KO,10\n2020-01-03,KO,11\n"
    path.write_text(rows)
    assert read_series(str(path), are_prices=True).values.tolist() == [[10.0], [11.0]]
    path.write_text(rows + "2020-01-03,PEP,11\n")
    with pytest.raises(DataError, match="holds 2 symbols; one is wanted: KO, PEP"):
        read_series(str(path), are_prices=True)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.csv", "date,x\n2020-01-02,1\n2020-01-02,2\n", "2020-01-02 stands twice"),
        (
            "x.csv",
            "date,x\n2020-10-25 02:00,1\n2020-10-25 02:00,2\n",
            "02:00:00 stands twice: .* write timestamps with an offset",
        ),
        ("x.csv", "date,x\n2020-01-02,one\n", "which is no number"),
        ("x.dat", "", "must be a CSV, Parquet, Feather or Excel file"),
    ],
)
def test_a_file_that_is_no_series_is_refused(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_series(str(path), are_prices=False)
    with pytest.raises(DataNotFoundError, match="no such file"):
        read_series(str(tmp_path / "other.csv"), are_prices=False)


def test_series_of_a_notebook_come_back_from_the_cache():
    frame = pd.DataFrame({"a": range(10), 7: 0.5}, index=DAYS[::-1])
    found = stored_series(store_series(frame, "factors"))
    assert found.names == ("a", "7")
    assert found.values[:, 0].tolist() == list(range(10))[::-1]
    for wrong in (frame.reset_index(), [1, 2], frame.assign(a="x")):
        with pytest.raises(DataError, match="`factors` must"):
            store_series(wrong, "factors")


FRENCH = """This file was created by CMPT_ME_BEME_RETS using the 202210 CRSP database.
The 1-month TBill return is from Ibbotson and Associates, Inc.

,Mkt-RF,SMB,RF
20100104,    1.69,    0.60,   0.000
20100105,    0.31,   -0.60,   0.000

Copyright 2022 Kenneth R. French
"""


def test_a_file_of_french_is_read_as_it_comes(tmp_path):
    path = tmp_path / "F-F_Research_Data_Factors_daily.csv"
    path.write_text(FRENCH)
    found = read_series(str(path), are_prices=False)
    assert found.names == ("Mkt-RF", "SMB", "RF")
    assert found.values[:, 0].tolist() == [1.69, 0.31]


def test_options_of_files_stand_beside_them(tmp_path):
    path = tmp_path / "index.csv"
    path.write_text("Tag;Kurs\n02.01.2010;1.234,5\n13.01.2010;1.235,5\n")
    with pytest.raises(DataError, match=r"such options stand beside the file: \{file: "):
        read_series(str(path), are_prices=True)
    found = read_series(str(path), are_prices=True, options={"timestamp_column": "Tag"})
    assert found.values[:, 0].tolist() == [1234.5, 1235.5]
    with pytest.raises(ConfigurationError, match=r"did you mean file\.timestamp_column"):
        read_series(str(path), are_prices=True, options={"timestamp_colum": "Tag"})
