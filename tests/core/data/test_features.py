import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv
from backtest_batch.errors import DataError

DAYS = pd.bdate_range("2020-01-01", periods=6)


def prices(index=DAYS):
    return pd.DataFrame({"A": 10.0, "B": 20.0}, index=index)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def with_features(text, *, index=DAYS, **options):
        prices(index).to_csv("prices.csv", index_label="date")
        texts = [text] if isinstance(text, str) else text
        names = [f"features-{number}.csv" for number in range(len(texts))]
        for name, each in zip(names, texts, strict=True):
            (tmp_path / name).write_text(each)
        return Csv(path="prices.csv", features=names, **options)

    return with_features


def test_each_bar_has_the_last_value_known_by_then_and_nan_before_the_first(source):
    panel = load_panel(source("date,VIX\n2020-01-02,12\n2020-01-05,13\n2020-01-08,14\n"))
    assert panel.features.VIX.index.equals(panel.index)
    np.testing.assert_array_equal(panel.features["VIX"], [np.nan, 12, 12, 13, 13, 14])


def test_an_empty_cell_says_nothing_new_and_the_order_of_rows_nothing_at_all(source):
    panel = load_panel(source("date,X,Y\n2020-01-06,3,\n2020-01-01,1,2\n2020-01-03,,5\n"))
    np.testing.assert_array_equal(panel.features.X, [1, 1, 1, 3, 3, 3])
    np.testing.assert_array_equal(panel.features.Y, [2, 2, 5, 5, 5, 5])


def test_a_column_of_symbols_makes_a_frame_of_each_feature(source, caplog):
    panel = load_panel(
        source("date,symbol,score\n2020-01-02,B,1\n2020-01-03,Z,2\n2020-01-06,B,3\n")
    )
    assert panel.features.score.columns.tolist() == ["A", "B"]
    np.testing.assert_array_equal(panel.features.score["B"], [np.nan, 1, 1, 3, 3, 3])
    assert panel.features.score["A"].isna().all()
    assert "no values of 1 of 2 symbols (A)" in caplog.text


def test_a_feature_with_a_time_is_known_from_that_moment_on(source):
    bars = pd.DatetimeIndex(["2020-01-02 09:30", "2020-01-02 10:00", "2020-01-02 10:30"])
    text = "time,X\n2020-01-02 10:00,1\n2020-01-02 10:00:01,2\n"
    panel = load_panel(source(text, index=bars, freq="5min"))
    np.testing.assert_array_equal(panel.features.X, [np.nan, 1, 2])
    # A daily bar bears its date: what happens within the day is later.
    daily = load_panel(source("time,X\n2020-01-02 10:00,1\n2020-01-02 10:01,2\n"))
    np.testing.assert_array_equal(daily.features.X, [np.nan, np.nan, 2, 2, 2, 2])


def test_a_date_is_the_whole_day_and_known_from_the_next_one_on_within_days(source):
    bars = pd.date_range("2020-01-02 09:30", periods=4, freq="7h")  # 2 on the 2nd, then 23:30, 6:30
    panel = load_panel(source("date,X\n2020-01-01,1\n2020-01-02,2\n", index=bars, freq="5min"))
    np.testing.assert_array_equal(panel.features.X, [1, 1, 1, 2])


def test_a_moment_without_a_zone_is_the_wall_clock_of_the_prices_and_one_with_it_an_instant(source):
    bars = pd.date_range("2020-01-02 09:00", periods=3, freq="h", tz="America/New_York")
    plain = load_panel(source("time,X\n2020-01-02 10:00,1\n", index=bars, freq="5min"))
    np.testing.assert_array_equal(plain.features.X, [np.nan, 1, 1])
    zoned = load_panel(source("time,X\n2020-01-02 16:00Z,1\n", index=bars, freq="5min"))
    np.testing.assert_array_equal(zoned.features.X, [np.nan, np.nan, 1])
    with pytest.raises(DataError, match=r"time zone \(UTC\), but those of the prices have none"):
        load_panel(source("time,X\n2020-01-02 16:00Z,1\n"))


def test_a_lag_makes_them_known_that_many_bars_later(source):
    text = "date,VIX\n2020-01-01,12\n2020-01-06,13\n"
    lagged = load_panel(source(text, features_lag=2))
    np.testing.assert_array_equal(lagged.features.VIX, [np.nan, np.nan, 12, 12, 12, 13])
    assert load_panel(source(text, features_lag=99)).features.VIX.isna().all()
    assert lagged.fingerprint != load_panel(source(text)).fingerprint
    with pytest.raises(ValueError, match="features_lag >= 0"):
        Csv(path="prices.csv", features_lag=-1)


def test_no_bar_sees_a_value_that_is_stamped_later(source):
    rng = np.random.default_rng(3)
    start = pd.Timestamp("2020-01-01")
    bars = rng.choice(10_000, 200, replace=False)
    stamps = rng.choice(10_000, 60, replace=False)
    feature = pd.Series(stamps * 1.0, index=start + pd.to_timedelta(stamps, unit="min"))
    index = start + pd.to_timedelta(np.sort(bars), unit="min")
    panel = panel_from_frames(prices(index), features={"minute": feature})
    expected = [max((s for s in stamps if s <= bar), default=np.nan) for bar in np.sort(bars)]
    np.testing.assert_array_equal(panel.features.minute, expected)


def test_features_are_content_but_neither_assets_nor_fields(source):
    plain = load_panel(source("date,X\n2020-01-01,1\n"))
    other = load_panel(source("date,X\n2020-01-01,2\n"))
    renamed = load_panel(source("date,Y\n2020-01-01,1\n"))
    bare = load_panel(Csv(path="prices.csv"))
    assert len({plain, other, renamed, bare}) == 4
    assert (plain.symbols, list(plain.fields)) == (("A", "B"), ["close"])
    assert len(bare.features) == 0


def test_a_name_may_be_in_any_case_and_a_wrong_one_has_near_matches(source):
    features = load_panel(source("date,Put Call,VIX\n2020-01-01,1,2\n")).features
    assert features.vix is features["VIX"]
    assert list(features) == ["Put Call", "VIX"]
    with pytest.raises(AttributeError, match=r"no feature 'VIXX' .*did you mean VIX"):
        _ = features.VIXX
    with pytest.raises(KeyError, match="did you mean Put Call"):
        _ = features["Put Cal"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,X\n2020-01-01,high\n", "'X' holds 'high' at 2020-01-01"),
        ("date,X\n2020-01-01,1\n2020-01-01,2\n", "twice, the first 2020-01-01"),
        ("date,symbol,X\n2020-01-01,A,1\n2020-01-01,A,2\n", "of A twice"),
        ("date,symbol,X\n2020-01-01,Q,1\n", r"none of its 1 symbols \(Q\)"),
        ("date,X\n2020-01-01,inf\n", "holds inf"),
        ("date\n2020-01-01\n", "no column of a feature"),
        ("X,Y\n1,2\n", "no column of timestamps"),
        ("date,X\n2020-01,1\n2020-02,2\n", "'2020-01' is a whole month or year"),
        ("date,X\n2019,1\n2020,2\n", "'2019' is a whole month or year"),
        ("date,X\nJan-20,1\nFeb-20,2\n", "'Jan-20' is a whole month or year"),
        (["date,X\n2020-01-01,1\n", "date,x\n2020-01-01,1\n"], "both have a feature 'x'"),
    ],
)
def test_what_cannot_be_understood_is_refused(source, text, message):
    with pytest.raises(DataError, match=rf"features-\d\.csv.*{message}"):
        load_panel(source(text))


def test_frames_in_memory_are_joined_as_files_are(source):
    text = "date,VIX\n2020-01-02,12\n2020-01-05,13\n"
    expected = load_panel(source(text))
    frame = pd.read_csv(pd.io.common.StringIO(text), parse_dates=["date"])
    for given in (frame, frame.set_index("date"), {"VIX": frame.set_index("date")["VIX"]}):
        assert panel_from_frames(prices(), features=given) == expected
    by_symbol = pd.DataFrame({"B": [1.0, 2.0]}, index=DAYS[[1, 3]])
    panel = panel_from_frames(prices(), features={"score": by_symbol})
    np.testing.assert_array_equal(panel.features.score["B"], [np.nan, 1, 1, 2, 2, 2])
    assert panel.features.score["A"].isna().all()
    with pytest.raises(DataError, match="none of its columns is a symbol"):
        panel_from_frames(prices(), features={"score": by_symbol[["B"]].rename(columns={"B": "Q"})})


def test_columns_named_as_symbols_are_said_to_be_of_the_whole_market(source, caplog):
    load_panel(source("date,A\n2020-01-01,1\n"))
    assert "features of the whole market" in caplog.text


def test_semicolons_and_decimal_commas_are_read(source):
    panel = load_panel(source("date;VIX\n2020-01-01;12,5\n"))
    assert panel.features.VIX.iloc[0] == 12.5


NEW_YORK = pd.date_range("2020-11-01 00:00", periods=6, freq="h", tz="America/New_York")
"""0:00, 1:00 twice, 2:00, 3:00 and 4:00."""


@pytest.mark.parametrize("turned", [False, True])
def test_an_hour_that_occurs_twice_is_told_by_the_order_of_the_rows(source, turned):
    hours = ["00:00", "01:00", "01:00", "02:00", "03:00", "04:00"]
    rows = [f"2020-11-01 {hour},{number}\n" for number, hour in enumerate(hours)]
    text = "time,X\n" + "".join(reversed(rows) if turned else rows)
    panel = load_panel(source(text, index=NEW_YORK, timezone="America/New_York"))
    np.testing.assert_array_equal(panel.features.X, [0, 1, 2, 3, 4, 5])


def test_it_is_told_for_each_symbol_by_its_own_rows(source):
    text = "time,symbol,X\n" + "".join(
        f"2020-11-01 {hour},{symbol},{number}\n"
        for number, hour in enumerate(["00:30", "01:30", "01:30", "02:30"])
        for symbol in "AB"
    )
    panel = load_panel(source(text, index=NEW_YORK, timezone="America/New_York"))
    for symbol in "AB":
        np.testing.assert_array_equal(panel.features.X[symbol], [np.nan, 0, 1, 2, 3, 3])


@pytest.mark.parametrize(
    "hours",
    [
        ["00:30", "01:30", "02:30"],  # one of both
        ["01:00", "00:30", "01:00", "02:30"],  # not in order
        ["01:00", "01:00", "01:00"],  # once too often
    ],
)
def test_where_the_order_does_not_tell_it_is_refused_with_the_way_out(source, hours):
    text = "time,X\n" + "".join(f"2020-11-01 {hour},1\n" for hour in hours)
    said = r"features-0\.csv: 2020-11-01 01:.* occurs twice .*with an offset"
    with pytest.raises(DataError, match=said):
        load_panel(source(text, index=NEW_YORK, timezone="America/New_York"))


def test_a_time_that_the_clocks_skip_is_refused(source):
    bars = pd.date_range("2020-03-08 00:00", periods=6, freq="h", tz="America/New_York")
    with pytest.raises(DataError, match=r"2020-03-08 02:30.* does not exist .*data row 2; 1 such"):
        load_panel(
            source(
                "time,X\n2020-03-08 01:30,1\n2020-03-08 02:30,2\n",
                index=bars,
                timezone="America/New_York",
            )
        )


@pytest.mark.parametrize("name", ["symbol", "Ticker", "sym", "code", "asset"])
def test_the_column_of_symbols_may_have_the_names_that_it_has_in_files_of_prices(source, name):
    panel = load_panel(source(f"date,{name},X\n2020-01-02,B,1\n2020-01-03,B,2\n"))
    np.testing.assert_array_equal(panel.features.X["B"], [np.nan, 1, 2, 2, 2, 2])


def test_a_column_of_numbers_named_code_is_a_feature(source):
    panel = load_panel(source("date,code\n2020-01-02,7\n"))
    np.testing.assert_array_equal(panel.features.code, [np.nan, 7, 7, 7, 7, 7])


@pytest.mark.parametrize("times", [("09:30", "11:30"), ("093000", "113000"), ("930", "1130")])
def test_days_and_times_may_stand_in_two_columns(source, caplog, times):
    bars = pd.date_range("2020-01-02 09:00", periods=4, freq="h")
    text = "date,time,X\n2020-01-02,{},1\n2020-01-02,{},2\n".format(*times)
    panel = load_panel(source(text, index=bars))
    np.testing.assert_array_equal(panel.features.X, [np.nan, 1, 1, 2])
    assert "times of day are those of 'time'" in caplog.text


def test_what_helps_is_no_key_of_the_files_of_prices(source):
    with pytest.raises(DataError, match=r"no column of timestamps.*: name the .* date$"):
        load_panel(source("when,X\n2020-01-02,1\n"))


@pytest.mark.parametrize("text", [",date,X\n0,2020-01-02,1\n", "date,X,\n2020-01-02,1,\n"])
def test_a_column_without_a_name_is_no_feature(source, text):
    assert list(load_panel(source(text)).features) == ["X"]


def test_notes_name_no_key_that_applies_to_the_prices_alone(source, caplog):
    load_panel(source("date;X\n10.01.2020;0,5\n13.01.2020;0,7\n"))
    assert "features-0.csv: timestamps such as '10.01.2020' are read as %d.%m.%Y" in caplog.text
    assert "features-0.csv: the separator is a semicolon\n" in caplog.text
    assert "`data." not in caplog.text
