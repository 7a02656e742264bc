"""Timestamps that are no ISO 8601: told, said, or refused."""

import re

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Csv, Parquet
from backtest_batch.errors import DataError

READ = {
    "day first": (["31/01/2020", "03/02/2020"], "%d/%m/%Y", "2020-01-31"),
    "month first": (["01/31/2020", "02/03/2020"], "%m/%d/%Y", "2020-01-31"),
    "day first, with points": (["01.02.2020", "02.02.2020"], "%d.%m.%Y", "2020-02-01"),
    "without zeros": (["1/31/2020", "2/3/2020"], "%m/%d/%Y", "2020-01-31"),
    "names of months": (["31-Jan-2020", "03-Feb-2020"], "%d-%b-%Y", "2020-01-31"),
    "May": (["04-May-2020", "05-May-2020"], "%d-%b-%Y", "2020-05-04"),
    "in America": (["January 31, 2020", "February 3, 2020"], "%B %d, %Y", "2020-01-31"),
    "SAS": (["31JAN2020", "03FEB2020"], "%d%b%Y", "2020-01-31"),
    "two digits": (["31-Jan-20", "03-Feb-20"], "%d-%b-%y", "2020-01-31"),
    "two digits alone": (["12/31/99", "01/31/00"], "%m/%d/%y", "1999-12-31"),
    "AM and PM": (
        ["1/30/2020 9:30 AM", "1/31/2020 1:30 PM"],
        "%m/%d/%Y %I:%M %p",
        "2020-01-30 09:30",
    ),
    "offset": (
        ["30/01/2020 16:00:00 -05:00", "31/01/2020 16:00:00 -05:00"],
        "%d/%m/%Y %H:%M:%S %z",
        "2020-01-30 16:00-05:00",
    ),
    "weekdays": (["Fri, 31 Jan 2020", "Mon, 03 Feb 2020"], "%d %b %Y", "2020-01-31"),
    "Greenwich": (
        ["31.01.2020 00:00:00 GMT", "03.02.2020 00:00:00 GMT"],
        "%d.%m.%Y %H:%M:%S%z",
        "2020-01-31 00:00+00:00",
    ),
    "seconds": (["1577836800", "1577923200"], "s", "2020-01-01 00:00+00:00"),
    "seconds of 1974": (["126230400", "126316800"], "s", "1974-01-01 00:00+00:00"),
    "milliseconds of 1990": (["631152000000", "631238400000"], "ms", "1990-01-01 00:00+00:00"),
    "nanoseconds": (
        ["1577836800000000000", "1577923200000000000"],
        "ns",
        "2020-01-01 00:00+00:00",
    ),
    "fourteen digits": (["20200131160000", "20200203160000"], "%Y%m%d%H%M%S", "2020-01-31 16:00"),
    "twelve digits": (["202001311600", "202002031600"], "%Y%m%d%H%M", "2020-01-31 16:00"),
    "months": (["202001", "202002"], "%Y%m", "2020-01-01"),
    "quarters": (["2020Q1", "2020Q2"], "the first day of the quarter", "2020-01-01"),
    "quarters with a dash": (["2019-Q4", "2020-Q1"], "of the quarter", "2019-10-01"),
    "quarters first": (["Q2 2020", "Q3/2020", "4Q2020"], "of the quarter", "2020-04-01"),
    "weeks": (["2020-W01", "2020W02"], "the Monday of the week", "2019-12-30"),
    "workbook": (["43861", "43864"], "excel", "2020-01-31"),
    "parts of a day": (["43861.395833333336", "43864.5"], "excel", "2020-01-31 09:30"),
}


def table(tmp_path, texts):
    rows = [f'"{text}",{number + 1}.5' for number, text in enumerate(texts)]
    (tmp_path / "a.csv").write_text("\n".join(["date,A", *rows, ""]))
    return str(tmp_path / "a.csv")


@pytest.mark.parametrize("name", READ)
def test_a_form_that_can_be_read_in_one_way_is_read_and_said(tmp_path, name, caplog):
    texts, form, first = READ[name]
    path = table(tmp_path, texts)
    panel = load_panel(Csv(path=path))
    assert panel.index[0] == pd.Timestamp(first)
    assert panel.index.is_monotonic_increasing
    assert form in caplog.text
    assert "timestamps such as" in caplog.text
    caplog.clear()
    if not re.search(
        "of the|week|Greenwich", f"{form} {name}"
    ):  # which are read without what stands around
        assert load_panel(Csv(path=path, timestamp_format=form)) == panel
        assert "timestamps such as" not in caplog.text


@pytest.mark.parametrize(
    ("texts", "parts"),
    [
        (
            ["01/02/2020", "02/02/2020"],
            [
                "the timestamp '01/02/2020', and all the others, can be read in 2 ways",
                "`data.timestamp_format=%d/%m/%Y` reads 1 February 2020",
                "`data.timestamp_format=%m/%d/%Y` reads 2 January 2020",
            ],
        ),
        (["01/01/2020", "02/01/2020"], ["the timestamp '02/01/2020'", "reads 1 February 2020"]),
        (["01/02/03", "02/02/03"], ["in 3 ways", "%y/%m/%d"]),
        (["200101", "200102"], ["%Y%m` reads 1 January 2001", "%y%m%d` reads 1 January 2020"]),
        (["18262", "18263"], ["`data.timestamp_format=days`", "`data.timestamp_format=excel`"]),
        (["31-Jan-60", "03-Feb-60"], ["has two digits, and was read as 2060"]),
        (["1577836800", "1577923200000"], ["different units: 1577836800 (s) and 157792320"]),
        (
            ["31/01/2020", "01/31/2020"],
            [
                "unparseable timestamp '01/31/2020' in data row 2 (1 such value)",
                "; others are read by `data.timestamp_format=%d/%m/%Y`",
            ],
        ),
        (["192607", "192608", "1927"], ["timestamp '1927' in data row 3", "%Y%m`"]),
        (
            ["2020-01-02 16:00 EST", "2020-01-03 16:00 EST"],
            ["names such as EST stand for several zones", "`data.timezone=America/New_York`"],
        ),
    ],
)
def test_a_form_that_is_unclear_is_refused_with_the_key_that_decides(tmp_path, texts, parts):
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=table(tmp_path, texts)))
    for part in parts:
        assert part in str(caught.value)


def test_days_that_are_whole_numbers(tmp_path, caplog):
    days = pd.bdate_range("2020-01-01", periods=3)
    for numbers in (
        [int(f"{day:%Y%m%d}") for day in days],
        [float(f"{day:%Y%m%d}") for day in days],
        [43831, 43832, 43833],
        (days.as_unit("ms").asi8).tolist(),
        (days.as_unit("s").asi8).astype(float).tolist(),
    ):
        frame = pd.DataFrame({"date": numbers, "A": [1.0, 2.0, 3.0]})
        frame.to_parquet(tmp_path / "a.parquet")
        caplog.clear()
        index = load_panel(Parquet(path=str(tmp_path / "a.parquet"))).index
        assert list(index.tz_localize(None)) == list(days)
        assert "such as" in caplog.text
    pd.DataFrame({"date": [1.0, np.nan], "A": [1.0, 2.0]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="unparseable timestamp empty in data row 2"):
        load_panel(Parquet(path=str(tmp_path / "a.parquet")))


@pytest.mark.parametrize("times", [["09:30", "09:35"], ["093000", "093500"], ["930", "935"]])
def test_days_and_times_in_two_columns(tmp_path, times):
    rows = [f"2020-01-0{day},{time},1.5" for day in (2, 3) for time in times]
    (tmp_path / "a.csv").write_text("\n".join(["Date,Time,Close", *rows, ""]))
    (tmp_path / "b.csv").write_text("\n".join(["Date,Uhr,Close", *rows, ""]))
    panel = load_panel(Csv(path=str(tmp_path / "a.csv"), freq="5min", symbol_column=None))
    assert str(panel.index[1]) == "2020-01-02 09:35:00"
    named = load_panel(Csv(path=str(tmp_path / "b.csv"), freq="5min", time_column="Uhr"))
    assert list(named.index) == list(panel.index)
    there = Csv(path=str(tmp_path / "a.csv"), freq="5min", timezone="America/New_York")
    assert str(load_panel(there).index[1]) == "2020-01-02 09:35:00-05:00"


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        ("Date,Time,Close", ["20200131,2300", "20200131,2400", "20200201,0100"]),
        ("Date,Time,Close", ["2020-01-31,23:00", "2020-01-31,24:00", "2020-02-01,01:00"]),
        ("Date,Close", ["2020-01-31 23:00", "2020-01-31 24:00", "2020-02-01 01:00"]),
        ("Date,Close", ["2020-01-31T23:00Z", "2020-01-31T24:00:00Z", "2020-02-01T01:00Z"]),
        ("Date,Close", ["31.01.2020 23:00", "31.01.2020 24:00", "01.02.2020 01:00"]),
        ("Date,Close", ["20200131 2300", "20200131 2400", "20200201 0100"]),
    ],
)
def test_24_00_is_midnight_of_the_next_day(tmp_path, names, rows, caplog):
    lines = [names, *(f"{row},1.5" for row in rows), ""]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    index = load_panel(Csv(path=str(tmp_path / "a.csv"), freq="1h")).index.tz_localize(None)
    assert index[1] == pd.Timestamp("2020-02-01")
    assert "24:00 is read as 00:00 of the next day" in caplog.text


@pytest.mark.parametrize("form", ["%Y%m%d%H%M", "%Y%m%d%H", "%Y%m%d%H%M%S"])
def test_24_00_is_read_in_compact_stamps_too(tmp_path, form, caplog):
    hours = pd.date_range("2020-12-30 22:00", periods=50, freq="h")
    ends = [
        f"{hour - pd.Timedelta(days=1):%Y%m%d}24{form[8:].replace('%M', '00').replace('%S', '00')}"
        if hour.hour == 0
        else f"{hour:{form}}"
        for hour in hours
    ]
    rows = [f"{each},{n + 1}" for n, each in enumerate(ends)]
    (tmp_path / "a.csv").write_text("\n".join(["Date,Close", *rows, ""]))
    index = load_panel(Csv(path=str(tmp_path / "a.csv"), freq="1h")).index
    assert list(index) == list(hours)
    assert "24:00 is read as 00:00 of the next day" in caplog.text
    numbers = pd.DataFrame({"date": [int(each) for each in ends], "A": np.arange(1.0, 51.0)})
    numbers.to_parquet(tmp_path / "a.parquet")
    assert list(load_panel(Parquet(path=str(tmp_path / "a.parquet"))).index) == list(hours)


@pytest.mark.parametrize("form", ["%Y-%m-%d 24:00", "%d.%m.%Y 24:00", "%Y%m%d2400", "%Y%m%d,2400"])
def test_daily_bars_at_24_00_are_the_bars_of_their_dates(tmp_path, form, caplog):
    days = pd.bdate_range("2020-01-01", periods=20)
    rows = [f"{day:{form}},{n + 1}" for n, day in enumerate(days)]
    names = "date,time,A" if "," in form else "date,A"
    (tmp_path / "a.csv").write_text("\n".join([names, *rows, ""]))
    pd.DataFrame({"date": days, "y": np.arange(20.0)}).to_csv(tmp_path / "y.csv", index=False)
    source = Csv(path=str(tmp_path / "a.csv"), features=str(tmp_path / "y.csv"))
    panel = load_panel(source)
    assert list(panel.index) == list(days)
    np.testing.assert_array_equal(panel.features.y, np.arange(20.0))
    if "," not in form:
        assert "24:00, the time of every bar, is the end of its day" in caplog.text


def test_a_value_of_a_date_is_known_at_the_end_of_its_day_within_days(tmp_path):
    rows = [f"2020-01-0{day} {hour:02d}:00,5" for day in (1, 2) for hour in (12, 18, 24)]
    (tmp_path / "a.csv").write_text("\n".join(["date,A", *rows, ""]))
    (tmp_path / "y.csv").write_text("date,y\n2020-01-01,1\n2020-01-02,2\n")
    panel = load_panel(Csv(path=str(tmp_path / "a.csv"), features=str(tmp_path / "y.csv")))
    np.testing.assert_array_equal(panel.features.y, [np.nan, np.nan, 1, 1, 1, 2])


@pytest.mark.parametrize(
    ("hours", "first"), [(range(1, 25), "01:00"), (range(24), "00:00"), (range(7, 20), "07:00")]
)
@pytest.mark.parametrize("width", [1, 2])
def test_a_column_of_hours_holds_hours(tmp_path, hours, first, width, caplog):
    rows = [
        f"2020-01-{day:02d},{hour:0{width}d},{hour + 100}" for day in range(1, 9) for hour in hours
    ]
    (tmp_path / "a.csv").write_text("\n".join(["date,time,price", *rows, ""]))
    index = load_panel(Csv(path=str(tmp_path / "a.csv"))).index
    assert index[0] == pd.Timestamp(f"2020-01-01 {first}")
    assert set(np.diff(index.asi8)[: len(hours) - 1]) == {3600 * 10**9}
    assert "times of day are whole hours" in caplog.text


def test_hours_to_25_are_refused_with_the_way_out(tmp_path):
    rows = [f"2020-10-25,{hour},{hour + 100}" for hour in range(1, 26)]
    (tmp_path / "a.csv").write_text("\n".join(["date,time,price", *rows, ""]))
    with pytest.raises(DataError, match=r"counted from 1 to 25.*timestamps with an offset"):
        load_panel(Csv(path=str(tmp_path / "a.csv")))


def test_quarters_written_with_a_point_are_quarters(tmp_path, caplog):
    rows = [
        f"{year}.{number},{100 + year + number}" for year in (1950, 1951) for number in range(1, 5)
    ]
    (tmp_path / "a.csv").write_text("\n".join(["Date,P", *rows, ""]))
    index = load_panel(Csv(path=str(tmp_path / "a.csv"))).index
    assert list(index) == list(pd.date_range("1950-01-01", periods=8, freq="QS"))
    assert "timestamps such as '1950.1' are read as the first day of the quarter" in caplog.text


@pytest.mark.parametrize("rows", [[(1950, n) for n in range(1, 5)], [(y, 3) for y in (50, 51, 52)]])
def test_a_point_that_may_separate_a_month_or_a_quarter_is_refused(tmp_path, rows):
    lines = [f"{1900 + year % 1900}.{number},{year + number}" for year, number in rows]
    (tmp_path / "a.csv").write_text("\n".join(["Date,P", *lines, ""]))
    with pytest.raises(DataError, match=r"may be a quarter or a month: write 1950Q1"):
        load_panel(Csv(path=str(tmp_path / "a.csv")))
    months = load_panel(Csv(path=str(tmp_path / "a.csv"), timestamp_format="%Y.%m")).index
    assert months[0].month == rows[0][1]


def test_months_written_with_a_point_stay_months(tmp_path):
    rows = [f"1871.{month:02d},{month}" for month in range(1, 13)]
    (tmp_path / "a.csv").write_text("\n".join(["Date,P", *rows, ""]))
    index = load_panel(Csv(path=str(tmp_path / "a.csv"))).index
    assert list(index) == list(pd.date_range("1871-01-01", periods=12, freq="MS"))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("日期", "%Y年%m月%d日"),
        ("日付", "%Y年{0.month}月{0.day}日"),
        ("交易日期", "%Y%m%d"),
        ("일자", "%Y년 %m월 %d일"),
        ("일자", "%Y-%m-%d"),
        ("날짜", "%Y- %m- %d"),
        ("날짜", "{0.year}. {0.month}. {0.day}."),
        ("날짜", "%Y. %m. %d"),
    ],
)
def test_dates_are_read_in_chinese_japanese_and_korean(tmp_path, name, form):
    days = pd.bdate_range("2020-01-02", periods=30)
    rows = [f"{day.strftime(form).format(day)},{n + 1}" for n, day in enumerate(days)]
    (tmp_path / "a.csv").write_text("\n".join([f"{name},종가", *rows, ""]), encoding="utf-8")
    assert list(load_panel(Csv(path=str(tmp_path / "a.csv"))).index) == list(days)


def test_24_30_is_no_time(tmp_path):
    (tmp_path / "a.csv").write_text("Date,Close\n2020-01-31 23:00,1.5\n2020-01-31 24:30,1.5\n")
    with pytest.raises(DataError, match="unparseable timestamp '2020-01-31 24:30' in data row 2"):
        load_panel(Csv(path=str(tmp_path / "a.csv"), freq="1h"))


def test_times_of_day_beside_days_that_do_not_repeat_are_not_read(tmp_path):
    (tmp_path / "a.csv").write_text("Date,Time,Close\n2020-01-02,16:00,1.5\n2020-01-03,13:00,2.5\n")
    index = load_panel(Csv(path=str(tmp_path / "a.csv"))).index
    assert list(index) == [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-03")]
    (tmp_path / "a.csv").write_text("Date,Time,Close\n2020-01-02,16:00,1.5\n2020-01-02,noon,2.5\n")
    with pytest.raises(DataError, match="'noon' is no time of day"):
        load_panel(Csv(path=str(tmp_path / "a.csv")))
