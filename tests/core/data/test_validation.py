import logging
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv, Parquet
from backtest_batch.errors import DataError

NAN = np.nan


def csv(tmp_path, *lines, name="prices.csv"):
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    return str(tmp_path / name)


def frame(columns, start="2020-01-01"):
    length = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.date_range(start, periods=length, freq="D"), dtype=float)


# prices


@pytest.mark.parametrize("value", ["0", "-1.5", "0.0", "inf", "-inf", "1e400"])
def test_prices_must_be_positive_and_finite(tmp_path, value):
    path = csv(
        tmp_path,
        "date,AAA,BBB",
        "2020-01-01,1,2",
        f"2020-01-02,1,{value}",
        f"2020-01-03,1,{value}",
        "2020-01-04,1,2",
    )
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=path))
    reason = (
        " (gains are ratios of prices, and spreads, power and futures below zero have none: "
        "`data.kind=differences data.notional=100`, say, takes differences on a notional)"
    )
    rule = f"{reason if float(value) < 0 else ''}; `'data.exclude=[BBB]'` leaves the symbol out"
    assert str(caught.value) == (
        f"{path}: BBB has a close of {float(value):g} at 2020-01-02 (2 bars): "
        f"a price must be positive and finite{rule}"
    )


def test_every_field_is_checked():
    close = frame({"A": [1, 2, 3], "B": [1, 2, 3]})
    bad = close.copy()
    bad.iloc[1, 1] = 0
    for name in ("open", "high", "low"):
        with pytest.raises(DataError, match=f"B has an? {name} of 0 at 2020-01-02"):
            panel_from_frames(close, **{name: bad})
    assert panel_from_frames(close, volume=bad).fields["volume"][1, 1] == 0
    with pytest.raises(DataError, match=r"B has a volume of -1 .*finite and not negative"):
        panel_from_frames(close, volume=bad - 1)
    with pytest.raises(DataError, match="A has a volume of inf at 2020-01-01"):
        panel_from_frames(close, volume=close * np.inf)


def test_faults_of_many_symbols_are_named_in_one_message():
    close = frame({f"S{number}": [1, -1, 1, -number - 1] for number in range(9)})
    with pytest.raises(DataError) as caught:
        panel_from_frames(close)
    assert str(caught.value) == (
        "S0 has a close of -1 at 2020-01-02 (2 bars): a price must be positive and finite (gains "
        "are ratios of prices, and spreads, power and futures below zero have none: "
        "`data.kind=differences data.notional=100`, say, takes differences on a notional); "
        "also S1 (2, "
        "from 2020-01-02), S2 (2, from 2020-01-02), S3 (2, from 2020-01-02), "
        "S4 (2, from 2020-01-02), S5 (2, from 2020-01-02) and 3 more symbols"
    )


# timestamps


def test_duplicate_bars(tmp_path):
    path = csv(
        tmp_path,
        "date,AAA,BBB",
        "2020-01-01,1,2",
        "2020-01-02,1,2",
        "2020-01-02,1,2",
        "2020-01-03,1,2",
    )
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=path))
    assert str(caught.value) == (
        f"{path}: AAA has a duplicate bar at 2020-01-02 (1 bar): a timestamp may stand once for "
        "each symbol; also BBB (1, from 2020-01-02)"
    )


def test_duplicate_bars_of_one_symbol_in_a_long_table(tmp_path):
    path = csv(
        tmp_path,
        "date,symbol,close",
        "2020-01-01,AAA,1",
        "2020-01-01,BBB,1",
        "2020-01-02,BBB,1",
        "2020-01-02,AAA,1",
        "2020-01-02,BBB,1",
    )
    with pytest.raises(DataError, match="BBB has a duplicate bar at 2020-01-02"):
        load_panel(Csv(path=path))


def test_bars_that_stand_in_two_files_count_once_where_they_agree(tmp_path, caplog):
    first = csv(tmp_path, "date,AAA", "2020-01-01,1", "2020-01-02,1.5", name="a.csv")
    second = csv(tmp_path, "date,AAA", "2020-01-02,1.5", "2020-01-03,2", name="b.csv")
    assert load_panel(Csv(path=[second, first])).close["AAA"].tolist() == [1, 1.5, 2]
    assert (
        "1 bar stands in two files with equal values, read once (AAA at 2020-01-02)" in caplog.text
    )
    inside = csv(tmp_path, "date,AAA", "2020-01-02,1.5", name="c.csv")
    assert load_panel(Csv(path=[first, second, inside])).n_bars == 3
    third = csv(tmp_path, "date,AAA", "2020-01-02,1.6", "2020-01-03,2", name="d.csv")
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=[first, third]))
    assert str(caught.value) == (
        f"{first} and {third} have different values of AAA at 2020-01-02 (close 1.5 and 1.6; 1 "
        "such bars): a timestamp may stand once for each symbol"
    )


def test_duplicates_are_named_as_such_where_they_do_not_stand_together(tmp_path):
    path = csv(tmp_path, "date,AAA", "2020-01-01,1", "2020-01-02,1", "2020-01-01,1")
    with pytest.raises(DataError, match="AAA has a duplicate bar at 2020-01-01"):
        load_panel(Csv(path=path))


def test_unsorted_index(tmp_path):
    path = csv(tmp_path, "date,AAA", "2020-01-01,1", "2020-01-03,1", "2020-01-02,1")
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=path))
    assert str(caught.value) == (
        f"{path}: AAA has a bar that is earlier than the one before it at 2020-01-02 (1 bar): "
        "timestamps must increase (unsorted index)"
    )
    close = frame({"A": [1, 2, 3]})
    with pytest.raises(DataError, match="unsorted index"):
        panel_from_frames(close.iloc[::-1])


def test_files_that_overlap_are_unsorted(tmp_path):
    first = csv(tmp_path, "date,AAA", "2020-01-01,1", "2020-01-03,1", name="a.csv")
    second = csv(tmp_path, "date,AAA", "2020-01-02,1", "2020-01-04,1", name="b.csv")
    with pytest.raises(DataError, match="unsorted index"):
        load_panel(Csv(path=[first, second]))


@pytest.mark.parametrize("text", ["01/02/2020", "yesterday", "", "2020-02-30", "43831"])
def test_unparseable_timestamps(tmp_path, text):
    path = csv(tmp_path, "date,AAA", "2020-01-01,1", f"{text},1", f"{text},1")
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=path))
    assert f"{path}: unparseable timestamp '{text}' in data row 2 (2 such values)" in str(
        caught.value
    )
    assert "data.timestamp_format" in str(caught.value)


def test_timestamps_of_parquet_that_are_none(tmp_path):
    table = pd.DataFrame({"date": [2001, 2002], "AAA": [1.0, 2.0]})
    table.to_parquet(tmp_path / "numbers.parquet")
    source = {"path": str(tmp_path / "numbers.parquet")}
    with pytest.raises(DataError, match="unparseable timestamps: the column holds numbers such as"):
        load_panel(Parquet(**source))
    assert str(load_panel(Parquet(**source, timestamp_format="%Y")).index[1].date()) == (
        "2002-01-01"
    )
    table["date"] = [pd.Timestamp("2020-01-01"), pd.NaT]
    table.to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(DataError, match=r"unparseable timestamp empty in data row 2 \(1 such"):
        load_panel(Parquet(path=str(tmp_path / "empty.parquet")))
    table["date"] = pd.DatetimeIndex(np.array(["1500-01-01", "1500-01-02"], dtype="M8[us]"))
    table.to_parquet(tmp_path / "old.parquet")
    with pytest.raises(DataError, match="between 1677 and 2262"):
        load_panel(Parquet(path=str(tmp_path / "old.parquet")))
    (tmp_path / "old.csv").write_text("date,AAA\n1500-01-01,1\n2020-01-02,1\n")
    with pytest.raises(DataError, match=r"old.csv: timestamps must lie between 1677 and 2262"):
        load_panel(Csv(path=str(tmp_path / "old.csv")))


@pytest.mark.parametrize(
    ("form", "texts"),
    [
        (None, ["2020-01-02", "2020-01-03"]),
        (None, ["20200102", "20200103"]),
        (None, ["2020-01-02 00:00:00", "2020-01-03T00:00:00"]),
        ("%d/%m/%Y", ["02/01/2020", "03/01/2020"]),
        ("%d %b %y", ["02 Jan 20", "03 Jan 20"]),
    ],
)
def test_forms_of_timestamps(tmp_path, form, texts):
    path = csv(tmp_path, "date,AAA", *(f"{text},1" for text in texts))
    index = load_panel(Csv(path=path, timestamp_format=form)).index
    assert index.equals(pd.DatetimeIndex(["2020-01-02", "2020-01-03"]).as_unit("ns"))


# time zones


@pytest.mark.parametrize("offset", ["Z", "+00", "+0000", "+00:00", " +00:00"])
def test_offsets_of_timestamps(tmp_path, offset):
    path = csv(tmp_path, "date,AAA", f"2020-01-02 10:00{offset},1", f"2020-01-03 10:00{offset},1")
    index = load_panel(Csv(path=path)).index
    assert str(index.tz) == "UTC"
    assert str(index[0]) == "2020-01-02 10:00:00+00:00"


def test_one_offset_is_kept(tmp_path):
    path = csv(tmp_path, "date,AAA", "2020-01-02T10:00-05:00,1", "2020-01-03T10:00-05:00,1")
    index = load_panel(Csv(path=path)).index
    assert str(index[0]) == "2020-01-02 10:00:00-05:00"
    formed = Csv(path=path, timestamp_format="%Y-%m-%dT%H:%M%z")
    assert load_panel(formed).index.equals(index)


def test_mixed_offsets_in_one_file(tmp_path):
    path = csv(tmp_path, "date,AAA", "2020-03-06 16:00-05:00,1", "2020-03-09 16:00-04:00,1")
    message = "mixed time zones: the timestamp 2020-03-06 16:00-05:00 has UTC-05:00, but "
    message += "2020-03-09 16:00-04:00 has UTC-04:00; `data.timezone="
    with pytest.raises(DataError, match=re.escape(message)):
        load_panel(Csv(path=path))
    index = load_panel(Csv(path=path, timezone="America/New_York")).index
    assert [str(stamp) for stamp in index] == [
        "2020-03-06 16:00:00-05:00",
        "2020-03-09 16:00:00-04:00",
    ]


def test_midnights_of_several_offsets_are_days(tmp_path, caplog):
    rows = ["2020-03-06 00:00:00-05:00,1", "2020-03-09 00:00:00-04:00,1", "2020-11-02T00:00-0500,1"]
    path = csv(tmp_path, "Date,AAA", *rows)  # as yfinance's history() is saved
    index = load_panel(Csv(path=path)).index
    assert [str(stamp) for stamp in index.date] == ["2020-03-06", "2020-03-09", "2020-11-02"]
    assert index.tz is None
    assert "are midnights of several offsets, and are read as days" in caplog.text
    index = load_panel(Csv(path=path, timezone="America/New_York")).index
    assert [str(stamp) for stamp in index.date] == ["2020-03-06", "2020-03-09", "2020-11-02"]


def test_timestamps_with_and_without_a_zone(tmp_path):
    path = csv(tmp_path, "date,AAA", "2020-01-02 10:00,1", "2020-01-03 10:00+00:00,1")
    for zone in (None, "UTC"):
        with pytest.raises(DataError, match="mixed time zones: the timestamp 2020-01-02 10:00 has"):
            load_panel(Csv(path=path, timezone=zone))


def test_mixed_zones_of_files(tmp_path):
    index = pd.bdate_range("2020-01-01", periods=3) + pd.Timedelta(hours=21)
    for name, zone in (("A", "UTC"), ("B", "Europe/Berlin"), ("C", None)):
        table = pd.DataFrame({"close": 1.0}, index=index.tz_localize(zone))
        table.to_parquet(tmp_path / f"{name}.parquet")
    paths = [str(tmp_path / f"{name}.parquet") for name in "ABC"]
    with pytest.raises(DataError, match=r"mixed time zones: .* of A in .* have UTC but .* of B"):
        load_panel(Parquet(path=paths[:2]))
    with pytest.raises(DataError, match=r"of C in .*have none"):
        load_panel(Parquet(path=paths[1:]))
    panel = load_panel(Parquet(path=paths[0], timezone="America/New_York"))
    assert [stamp.hour for stamp in panel.index] == [16, 16, 16]
    walls = load_panel(Parquet(path=paths[2], timezone="America/New_York"))
    assert [stamp.hour for stamp in walls.index] == [21, 21, 21]


def test_zones_are_kept_by_every_format(tmp_path):
    close = frame({"A": [1, 2, 3]}).tz_localize("America/New_York")
    close.to_parquet(tmp_path / "a.parquet")
    close.to_csv(tmp_path / "a.csv")
    expected = panel_from_frames(close)
    assert load_panel(Parquet(path=str(tmp_path / "a.parquet"))) == expected
    assert load_panel(Csv(path=str(tmp_path / "a.csv"), timezone="America/New_York")) == expected


def test_wall_clocks_that_exist_twice_or_not_at_all(tmp_path):
    for name, night in (("skipped", "2020-03-29 02:30"), ("twice", "2020-10-25 02:30")):
        path = csv(tmp_path, "date,AAA", f"{night},1", "2020-12-01 12:00,1", name=f"{name}.csv")
        with pytest.raises(DataError, match=rf"{night}:00 exists twice or not at all in Europe"):
            load_panel(Csv(path=path, timezone="Europe/Berlin"))


# gaps


def test_a_gap_is_an_error_that_says_how_to_fill_it(tmp_path):
    path = csv(
        tmp_path,
        "date,AAA,BBB",
        "2020-01-01,1,",
        "2020-01-02,1,2",
        "2020-01-03,1,",
        "2020-01-04,1,NaN",
        "2020-01-05,1,2",
        "2020-01-06,1,",
    )
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=path))
    assert str(caught.value) == (
        f"{path}: BBB has no close inside its series at 2020-01-03 (2 bars): a series may have no "
        "gap; `data.missing=ffill` fills it with the last close, `data.missing_limit=5` bars in a "
        "row at most"
    )
    filled = load_panel(Csv(path=path, missing="ffill", missing_limit=2))
    np.testing.assert_array_equal(filled.fields["close"][:, 1], [NAN, 2, 2, 2, 2, NAN])
    with pytest.raises(DataError, match=r"BBB .* at 2020-01-03 \(2 bars\): more than `data.miss"):
        load_panel(Csv(path=path, missing="ffill", missing_limit=1))


def test_a_bar_that_one_symbol_lacks_is_a_gap(tmp_path):
    path = csv(
        tmp_path,
        "date,symbol,close",
        *(f"2020-01-0{day},AAA,1" for day in (1, 2, 3)),
        *(f"2020-01-0{day},BBB,1" for day in (1, 3)),
    )
    with pytest.raises(
        DataError, match=r"BBB has no close inside its series at 2020-01-02 \(1 bar"
    ):
        load_panel(Csv(path=path))


def test_a_gap_in_the_only_symbol(tmp_path):
    path = csv(tmp_path, "date,AAA", "2020-01-01,1", "2020-01-02,", "2020-01-03,1")
    with pytest.raises(DataError, match="AAA has no close inside its series at 2020-01-02"):
        load_panel(Csv(path=path))


def test_how_fields_are_filled():
    close = frame({"A": [10, NAN, 12, 13]})
    panel = panel_from_frames(
        close,
        open=frame({"A": [NAN, NAN, 11, NAN]}),
        high=frame({"A": [10, 11, 12, 13]}),
        volume=frame({"A": [5, NAN, NAN, 8]}),
        missing="ffill",
    )
    assert panel.fields["close"][:, 0].tolist() == [10, 10, 12, 13]
    # The close of the bar before; on the first bar, which has none before it, its own.
    assert panel.fields["open"][:, 0].tolist() == [10, 10, 11, 12]
    assert panel.fields["high"][:, 0].tolist() == [10, 11, 12, 13]
    assert panel.fields["volume"][:, 0].tolist() == [5, 0, 0, 8]


def test_gaps_of_other_fields_are_gaps():
    close = frame({"A": [10, 11, 12]})
    with pytest.raises(DataError, match="A has no open inside its series at 2020-01-02"):
        panel_from_frames(close, open=frame({"A": [10, NAN, 12]}))
    with pytest.raises(DataError, match=r"A has no volume inside its series .*\(1 bar\)"):
        panel_from_frames(close, volume=frame({"A": [1, NAN, 1]}))


def test_other_fields_outside_the_closes_are_dropped():
    close = frame({"A": [NAN, 11, 12, NAN], "B": [1, 1, 1, 1]})
    volume = frame({"A": [0, 5, 6, 0], "B": [1, 1, 1, 1]})
    panel = panel_from_frames(close, volume=volume)
    np.testing.assert_array_equal(panel.fields["volume"][:, 0], [NAN, 5, 6, NAN])


def test_bars_before_the_first_and_after_the_last_price_are_dropped():
    close = frame({"A": [NAN, NAN, 11, 12, NAN], "B": [NAN, 1, 1, NAN, NAN]})
    panel = panel_from_frames(close)
    assert [str(stamp.date()) for stamp in panel.index] == [
        "2020-01-02",
        "2020-01-03",
        "2020-01-04",
    ]


def test_columns_without_a_price(tmp_path):
    path = csv(tmp_path, "date,AAA,BBB,CCC", "2020-01-01,1,,", "2020-01-02,1,,")
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=path))
    assert str(caught.value) == (
        f"{path}: BBB has no price on any of 2 bars (all-NaN column); nor have CCC; "
        "`'data.exclude=[BBB,CCC]'` leaves them out"
    )
    assert load_panel(Csv(path=path, symbols=["AAA"])).symbols == ("AAA",)


def test_fewer_than_two_bars(tmp_path):
    path = csv(tmp_path, "date,AAA", "2020-01-01,1")
    with pytest.raises(DataError, match="at least 2 bars, but the data have 1"):
        load_panel(Csv(path=path))


@settings(deadline=None, max_examples=100)
@given(
    present=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=25),
    limit=st.integers(1, 4),
)
def test_filling_agrees_with_pandas(present, limit):
    keep = np.array(present)
    values = 10.0 + np.arange(keep.size, dtype=float).reshape(keep.shape) % 5
    close = pd.DataFrame(
        np.where(keep, values, NAN),
        index=pd.date_range("2020-01-01", periods=len(keep), freq="D"),
        columns=["A", "B", "C"],
    )
    alive = close.loc[close.notna().any(axis=1)]
    if not keep.any(axis=0).all() or alive.index[0] == alive.index[-1]:
        with pytest.raises(DataError):
            panel_from_frames(close, missing="ffill")
        return
    inside = close.ffill().notna() & close.bfill().notna()
    expected = close.ffill(limit=limit).where(inside).loc[alive.index[0] : alive.index[-1]]
    refused = (inside & close.ffill(limit=limit).isna()).any(axis=None)
    if refused:
        with pytest.raises(DataError, match="bars in a row are not filled"):
            panel_from_frames(close, missing="ffill", missing_limit=limit)
    else:
        panel = panel_from_frames(close, missing="ffill", missing_limit=limit)
        np.testing.assert_array_equal(panel.fields["close"], expected.to_numpy())


# ends of series


def test_series_that_end(tmp_path):
    path = csv(
        tmp_path,
        "date,AAA,BBB,CCC",
        "2020-01-01,1,1,1",
        "2020-01-02,1,1,1",
        "2020-01-03,1,1,",
        "2020-01-04,1,,",
    )
    assert load_panel(Csv(path=path)).n_bars == 4
    source = Csv(path=path, delisting="error")
    with pytest.raises(DataError) as caught:
        load_panel(source)
    assert str(caught.value) == (
        "BBB has its last bar at 2020-01-03 (1 bar): `data.delisting=error` wants every series to "
        "reach the last bar, 2020-01-04; `data.delisting=liquidate_at_last` sells it on its last "
        "bar; also CCC (2, from 2020-01-02)"
    )
    with pytest.raises(DataError, match="CCC has its last bar at 2020-01-02"):
        load_panel(source, end_date="2020-01-03")
    assert load_panel(source, end_date="2020-01-02").n_bars == 2


# large moves


def test_large_moves_are_a_warning_that_names_the_largest(tmp_path, caplog):
    path = csv(
        tmp_path,
        "date,AAA,BBB",
        "2020-01-01,10,10",
        "2020-01-02,16,15",
        "2020-01-03,16,5",
        "2020-01-04,16,5",
    )
    expected = (
        "2 moves over 50 % in one bar; the largest is BBB -66.7% at 2020-01-03. "
        "Are splits adjusted for?"
    )
    for _ in ("read", "cached"):
        caplog.clear()
        load_panel(Csv(path=path))
        assert [(record.name, record.levelno, record.message) for record in caplog.records] == [
            ("backtest_batch.market", logging.WARNING, expected)
        ]


def test_moves_after_the_end_date_do_not_matter(tmp_path, caplog):
    path = csv(tmp_path, "date,AAA", "2020-01-01,10", "2020-01-02,10", "2020-01-03,30")
    load_panel(Csv(path=path), end_date="2020-01-02")
    assert not caplog.records


def test_moves_of_a_half_are_not_large(caplog):
    panel_from_frames(frame({"A": [10, 15, 7.5], "B": [NAN, 1, 1.2]}))
    assert not caplog.records
    panel_from_frames(frame({"A": [10, 15.1, 15]}))
    assert "1 move over 50 % in one bar; the largest is A +51.0% at 2020-01-02" in caplog.text


def test_moves_are_counted_in_every_part_of_a_long_series(caplog):
    values = np.ones(3000)
    values[[512, 513, 1024, 2999]] = 3.0
    panel_from_frames(frame({"A": values}))
    # Up at 512, down at 514, up and down at 1024 and 1025, up at the end.
    assert "5 moves over 50 %" in caplog.text


# frequency


def test_intraday_bars_as_daily(tmp_path):
    rows = [f"2020-01-0{day} {hour:02d}:00,1" for day in (1, 2) for hour in range(9, 16)]
    path = csv(tmp_path, "date,AAA", "2019-12-31,1", *rows)
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=path, freq="1d"))
    assert str(caught.value) == (
        f"{path}: `data.freq=1d` is at most one bar a day, but 2020-01-01 has 7 bars (2 of 3 days "
        "have several); `data.freq=auto` takes bars as they are"
    )
    assert load_panel(Csv(path=path)).n_bars == 15
    assert load_panel(Csv(path=path, freq="5min")).n_bars == 15


@pytest.mark.parametrize(
    ("declared", "step", "said"),
    [
        ("5min", "1D", "most bars are 1d apart: they are taken as they are, about 365 a year"),
        ("5min", "1h", "most bars are 1h apart: they are taken as they are, about 8,760 a year"),
        ("1d", "7D", "most bars are 1w apart: they are taken as they are, about 52 a year"),
        ("1d", "2B", "most bars are 2d apart: they are taken as they are, about 126 a year"),
        ("1d", "SME", "most bars are 15d apart: they are taken as they are, about 24 a year"),
        ("1mo", "QE", "most bars are 3mo apart: they are taken as they are, about 4 a year"),
    ],
)
def test_bars_further_apart_than_declared_are_taken_and_said(
    tmp_path, caplog, declared, step, said
):
    index = pd.date_range("2020-01-01", periods=100, freq=step)
    rows = [f"{stamp},{1 + row}" for row, stamp in enumerate(index)]
    path = csv(tmp_path, "date,AAA", *rows)
    assert load_panel(Csv(path=path, freq=declared)).n_bars == 100
    assert f"`data.freq={declared}`, but {said}" in caplog.text
    caplog.clear()
    load_panel(Csv(path=path))
    assert "data.freq" not in caplog.text


def test_half_months_as_months(tmp_path):
    days = pd.date_range("2020-01-01", periods=60, freq="SME")
    path = csv(tmp_path, "date,AAA", *(f"{day.date()},1" for day in days))
    with pytest.raises(
        DataError, match="15d apart: those at 2020-01-15 and 2020-01-31 are 16 days"
    ):
        load_panel(Csv(path=path, freq="1mo"))


def test_daily_bars_as_weekly(tmp_path):
    path = csv(tmp_path, "date,AAA", *(f"2020-01-0{day},1" for day in range(1, 10)))
    with pytest.raises(DataError, match="but most bars are 1d apart: those at 2020-01-01"):
        load_panel(Csv(path=path, freq="1w"))


def test_a_stray_bar_among_daily_ones_is_refused_and_may_be_declared(tmp_path):
    days = [f"{day.date()},1" for day in pd.bdate_range("2020-01-01", periods=50)]
    path = csv(tmp_path, "date,AAA", *days, "2020-03-10 15:30,1")
    with pytest.raises(DataError, match=r"2020-03-10 has 2 bars \(1 of 50 days.*data.freq=1h"):
        load_panel(Csv(path=path))
    assert load_panel(Csv(path=path, freq="1h")).n_bars == 51


def test_bars_of_a_minute_as_five(tmp_path):
    path = csv(
        tmp_path, "date,AAA", "2020-01-01 09:30,1", "2020-01-01 09:35,1", "2020-01-01 09:36,1"
    )
    with pytest.raises(DataError, match=r"09:35:00 and 2020-01-01 09:36:00 are 1min apart \(1 of"):
        load_panel(Csv(path=path, freq="5min"))


def test_a_few_bars_that_are_closer_than_declared_are_said(tmp_path, caplog):
    # Half an hour after the open begins the first full hour.
    times = ("09:30", "10:00", "11:00", "12:00", "13:00")
    rows = [f"2020-01-0{day} {time},1" for day in (6, 7, 8) for time in times]
    path = csv(tmp_path, "date,AAA", *rows)
    assert load_panel(Csv(path=path, freq="1h")).n_bars == 15
    assert "`data.freq=1h`, but a few bars are closer together: those at 2020-01-06 09:30" in (
        caplog.text
    )
    assert "are 30min apart (3 of 14)" in caplog.text


def test_a_day_that_crosses_midnight_is_one_day(tmp_path):
    rows = [
        f"{day} {time},1" for day in ("2020-01-06", "2020-01-07") for time in ("03:00", "20:00")
    ]
    path = csv(tmp_path, "date,AAA", *rows)
    with pytest.raises(DataError, match="2020-01-06 has 2 bars"):
        load_panel(Csv(path=path, freq="1d"))
    with pytest.raises(DataError, match="2020-01-07 has 2 bars"):
        load_panel(Csv(path=path, freq="1d", session_end="17:00"))


def test_days_of_the_frequency_are_those_of_the_zone(tmp_path):
    # Daily bars stamped at the end of the session in Tokyo, across a change of clocks elsewhere.
    rows = [f"2020-01-0{day} 15:00+09:00,1" for day in (1, 2, 3)]
    path = csv(tmp_path, "date,AAA", *rows)
    assert load_panel(Csv(path=path, timezone="Asia/Tokyo")).n_bars == 3
