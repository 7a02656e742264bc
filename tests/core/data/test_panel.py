import pickle
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.errors import ConfigurationError, DataError


def frame(n_bars=5, symbols=("B", "A"), *, start="2020-01-01", freq="D", tz=None, unit="ns"):
    index = pd.date_range(start, periods=n_bars, freq=freq, tz=tz).as_unit(unit)
    values = 10.0 + np.arange(n_bars * len(symbols), dtype=float).reshape(n_bars, len(symbols))
    return pd.DataFrame(values, index=index, columns=list(symbols))


def test_a_panel_holds_the_frames_as_they_are():
    close = frame()
    panel = panel_from_frames(close, open=close - 1, volume=close * 100)
    assert panel.symbols == ("B", "A")
    assert list(panel.fields) == ["open", "close", "volume"]
    assert (panel.n_bars, panel.n_assets) == (5, 2)
    np.testing.assert_array_equal(panel.close.to_numpy(), close.to_numpy())
    np.testing.assert_array_equal(panel.open.to_numpy(), close.to_numpy() - 1)
    assert list(panel.close.columns) == ["B", "A"]
    with pytest.raises(AttributeError, match=r"no field 'high'.*open, close, volume"):
        _ = panel.high


def test_arrays_are_read_only_contiguous_and_independent_of_the_frame():
    close = frame()
    panel = panel_from_frames(close)
    values = panel.fields["close"]
    assert values.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 1.0
    close.iloc[0, 0] = 99.0
    assert values[0, 0] == 10.0


def test_columns_of_other_fields_are_brought_into_the_order_of_close():
    close = frame()
    panel = panel_from_frames(close, open=(close - 1)[["A", "B"]])
    np.testing.assert_array_equal(panel.open.to_numpy(), close.to_numpy() - 1)


def test_numbers_of_any_type_are_read():
    close = frame().astype(object)
    close["A"] = ["11", "13", "15.5", "17", "19"]
    close["B"] = pd.array([10, 12, 14, 16, 18], dtype="Int64")
    panel = panel_from_frames(close)
    assert panel.fields["close"][:, 1].tolist() == [11.0, 13.0, 15.5, 17.0, 19.0]
    assert panel.fields["close"].dtype == np.float64


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_the_index_does_not_matter(unit):
    expected = panel_from_frames(frame(unit="ns"))
    panel = panel_from_frames(frame(unit=unit))
    assert panel.fingerprint == expected.fingerprint
    assert panel.index.unit == "ns"


@pytest.mark.parametrize("tz", ["UTC", "Etc/UTC", UTC, timezone(timedelta(0)), "+00:00"])
def test_the_spelling_of_the_time_zone_does_not_matter(tz):
    assert panel_from_frames(frame(tz=tz)) == panel_from_frames(frame(tz="UTC"))


def test_fixed_offsets_have_one_name():
    by_number = panel_from_frames(frame(tz=timezone(timedelta(hours=-5))))
    assert by_number == panel_from_frames(frame(tz="UTC-05:00"))
    assert str(by_number.index.tz) == "UTC-05:00"


def test_the_fingerprint_sees_everything_that_is_content():
    close = frame()
    later = close.set_axis(close.index + pd.Timedelta(days=1))
    changed = close.copy()
    changed.iloc[4, 1] += 1e-12
    panels = [
        panel_from_frames(close),
        panel_from_frames(later),
        panel_from_frames(changed),
        panel_from_frames(close[["A", "B"]]),
        panel_from_frames(close.rename(columns={"A": "C"})),
        panel_from_frames(close.tz_localize("UTC")),
        panel_from_frames(close.tz_localize("UTC").tz_convert("America/New_York")),
        panel_from_frames(close, open=close),
        panel_from_frames(close, high=close),
    ]
    assert len({panel.fingerprint for panel in panels}) == len(panels)


def test_the_fingerprint_is_the_documented_one():
    # The value is worked out from the description in content_fingerprint's docstring.
    import hashlib
    import json
    import struct

    header = {
        "format": "backtest_batch.panel.1",
        "tz": None,
        "symbols": ["A"],
        "fields": ["close"],
    }
    day = 86_400 * 10**9
    content = json.dumps(header, sort_keys=True).encode() + b"\0"
    content += struct.pack("<2q", 0, day) + struct.pack("<2d", 1.5, 2.5)
    close = pd.DataFrame({"A": [1.5, 2.5]}, index=pd.to_datetime(["1970-01-01", "1970-01-02"]))
    assert panel_from_frames(close).fingerprint == hashlib.sha256(content).hexdigest()


def test_nan_of_any_sign_is_the_same_nan():
    close = frame()
    close.iloc[0, 0] = np.nan
    other = close.copy()
    other.iloc[0, 0] = -np.nan
    other_bits = other.to_numpy().copy()
    other_bits[0, 0] = np.frombuffer(np.uint64(0xFFF8000000000001).tobytes(), dtype=float)[0]
    odd = pd.DataFrame(other_bits, index=close.index, columns=close.columns)
    volume = close * 0.0
    expected = panel_from_frames(close, volume=volume)
    assert panel_from_frames(odd, volume=volume) == expected
    assert panel_from_frames(close, volume=-volume) == expected


def test_pickling_keeps_a_panel_whole_and_read_only():
    panel = panel_from_frames(frame(tz="America/New_York"))
    _ = panel.close
    copy = pickle.loads(pickle.dumps(panel))
    assert copy == panel
    assert hash(copy) == hash(panel)
    assert not copy.fields["close"].flags.writeable
    pd.testing.assert_frame_equal(copy.close, panel.close)


def test_panels_are_compared_by_content():
    assert panel_from_frames(frame()) == panel_from_frames(frame())
    assert panel_from_frames(frame()) != panel_from_frames(frame(4))
    assert panel_from_frames(frame()) != "panel"


# until and first_bar_from


def test_until_keeps_the_bars_up_to_and_including_the_day():
    panel = panel_from_frames(frame())
    cut = panel.until("2020-01-03")
    assert cut.n_bars == 3
    assert cut.symbols == panel.symbols
    assert cut.fields["close"].flags.c_contiguous
    assert np.shares_memory(cut.fields["close"], panel.fields["close"])
    assert cut == panel_from_frames(frame(3))
    assert cut.base == panel.fingerprint
    assert cut.until("2020-01-02").base == panel.fingerprint


@pytest.mark.parametrize(
    "end", ["9999-12-31", "2999", "2020-01-05", "2020-01-09", "2020", "2020-01", date(2020, 1, 31)]
)
def test_until_a_date_after_the_last_bar_is_the_panel_itself(end):
    panel = panel_from_frames(frame())
    assert panel.until(end) is panel


@pytest.mark.parametrize(
    ("end", "n_bars"),
    [
        ("2020-01-01", 24),
        ("2020-01-01 12:00", 13),
        ("2020-01-01T12:30:00", 13),
        ("2020-01-01 00:00", None),
        (date(2020, 1, 1), 24),
        (pd.Timestamp("2020-01-01"), 24),
        (datetime(2020, 1, 1, 3), 4),
        ("2020-01", 48),
    ],
)
def test_a_date_without_a_time_is_the_whole_day(end, n_bars):
    panel = panel_from_frames(frame(48, freq="h"))
    if n_bars is None:
        with pytest.raises(DataError, match="leaves 1 of the 48 bars"):
            panel.until(end)
    else:
        assert panel.until(end).n_bars == n_bars


def test_days_are_those_of_the_time_zone_of_the_index():
    panel = panel_from_frames(frame(48, freq="h", tz="America/New_York"))
    assert panel.until("2020-01-01").n_bars == 24
    assert panel.first_bar_from("2020-01-02") == 24
    # 2020-01-01T12:00Z is 07:00 in New York.
    assert panel.until("2020-01-01T12:00:00+00:00").n_bars == 8
    assert panel.first_bar_from("2020-01-01T12:00:00+00:00") == 7


def test_days_on_which_clocks_change():
    spring = panel_from_frames(frame(48, freq="h", start="2020-03-07", tz="America/New_York"))
    assert spring.until("2020-03-08").n_bars == 47  # this day has 23 hours
    # In Santiago midnight of 2019-09-08 does not exist, and that of 2020-04-05 begins twice.
    skipped = panel_from_frames(frame(48, freq="h", start="2019-09-07", tz="America/Santiago"))
    assert skipped.first_bar_from("2019-09-08") == 24
    assert skipped.until("2019-09-07").n_bars == 24


@pytest.mark.parametrize(
    ("start", "position"),
    [
        ("2019-01-01", 0),
        ("2020", 0),
        ("2020-01-03", 2),
        ("2020-01-03 00:00", 2),
        ("2020-01-03 00:01", 3),
        (date(2020, 1, 5), 4),
    ],
)
def test_first_bar_from(start, position):
    assert panel_from_frames(frame()).first_bar_from(start) == position


def test_dates_far_away():
    panel = panel_from_frames(frame(tz="UTC"))
    assert panel.first_bar_from("0001-01-01") == 0
    assert panel.until("9999-12-31T00:00+00:00") is panel
    with pytest.raises(DataError, match="no bars in the date range"):
        panel.until("0001-01-01")


def test_windows_of_a_panel():
    close = frame()
    panel = panel_from_frames(close)
    window = panel.window(1, 4)
    assert window == panel_from_frames(close.iloc[1:4])
    assert window.fields["close"].flags.c_contiguous
    assert window.base is None
    assert panel.window(0, 3).base == panel.fingerprint
    assert window.window(0, 2).base == window.fingerprint
    for start, stop in ((-1, 3), (2, 2), (3, 2), (0, 6)):
        with pytest.raises(ValueError, match=f"start={start}, stop={stop}, n_bars=5"):
            panel.window(start, stop)


def test_date_ranges_without_bars():
    panel = panel_from_frames(frame())
    with pytest.raises(DataError, match="no bars in the date range: end_date=2019-12-31"):
        panel.until("2019-12-31")
    with pytest.raises(DataError, match="end_date=2020-01-01 leaves 1 of the 5 bars"):
        panel.until("2020-01-01")
    with pytest.raises(
        DataError, match="start_date=2021-01-01 lies after the last bar, 2020-01-05"
    ):
        panel.first_bar_from("2021-01-01")


@pytest.mark.parametrize("text", ["tomorrow morning", "", "2020-13-01", None])
def test_what_is_no_date(text):
    with pytest.raises(ConfigurationError, match="is not a date"):
        panel_from_frames(frame()).until(text)


def test_a_zone_against_an_index_without_one():
    with pytest.raises(ConfigurationError, match="has a time zone"):
        panel_from_frames(frame()).until("2020-01-02T10:00+01:00")


def test_until_keeps_symbols_that_begin_later():
    close = frame()
    close.iloc[:3, 1] = np.nan
    cut = panel_from_frames(close).until("2020-01-02")
    assert cut.symbols == ("B", "A")
    assert np.isnan(cut.fields["close"][:, 1]).all()


@settings(deadline=None, max_examples=50)
@given(n_bars=st.integers(2, 40), cut=st.integers(2, 40), hours=st.integers(1, 30))
def test_until_agrees_with_pandas_slicing(n_bars, cut, hours):
    close = frame(n_bars, freq=f"{hours}h")
    day = str(close.index[min(cut, n_bars) - 1].date())
    expected = close.loc[:day]
    panel = panel_from_frames(close)
    assert panel.until(day).n_bars == len(expected)
    assert panel.first_bar_from(day) == len(close.loc[: pd.Timestamp(day) - pd.Timedelta("1ns")])


# frames that do not fit


def test_frames_that_do_not_fit_together():
    close = frame()
    with pytest.raises(DataError, match="`open` and `close` must have the same index"):
        panel_from_frames(close, open=close.iloc[1:])
    with pytest.raises(DataError, match="same columns, but A stands in one of them only"):
        panel_from_frames(close, open=close[["B"]])
    with pytest.raises(DataError, match="`close` has the column A twice"):
        panel_from_frames(close.set_axis(["A", "A"], axis=1))
    with pytest.raises(DataError, match="must be a DataFrame, but is a Series"):
        panel_from_frames(close["A"])
    with pytest.raises(DataError, match="must have a DatetimeIndex"):
        panel_from_frames(close.reset_index(drop=True))
    with pytest.raises(DataError, match="no symbol"):
        panel_from_frames(close[[]])
    with pytest.raises(DataError, match="NaT in its index"):
        panel_from_frames(close.set_axis([pd.NaT, *close.index[1:]]))
    with pytest.raises(DataError, match="at least 2 bars, but the data have 1"):
        panel_from_frames(close.iloc[:1])
    with pytest.raises(DataError, match="B has no bars"):
        panel_from_frames(close.iloc[:0])


def test_values_that_are_no_numbers():
    close = frame().astype(object)
    close.iloc[2, 1] = "n.a."
    with pytest.raises(DataError, match=r"close of A at 2020-01-03.*'n\.a\.'.*1 such values"):
        panel_from_frames(close)
    with pytest.raises(DataError, match="no number"):
        panel_from_frames(close.where(close != "n.a.", True))
    with pytest.raises(DataError, match="holds bool, not numbers"):
        panel_from_frames(frame() > 0)
    with pytest.raises(DataError, match="not numbers"):
        panel_from_frames(frame().astype("datetime64[ns]"))


def test_years_beyond_nanoseconds():
    index = pd.DatetimeIndex(np.array(["1500-01-01", "1500-01-02"], dtype="M8[us]"))
    with pytest.raises(DataError, match="between 1677 and 2262, but reach from 1500-01-01"):
        panel_from_frames(pd.DataFrame({"A": [1.0, 2.0]}, index=index))
