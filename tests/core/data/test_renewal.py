"""Next week's file under the same name: what was added, and whether the past was restated."""

import logging

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data import renewal as module
from backtest_batch.core.data.cache import find_panel, own_cache_dir
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.renewal import describe_renewal, renewal
from backtest_batch.core.data.sources import Csv


def closes(n_bars=20, symbols="ABC"):
    walk = np.random.default_rng(2).normal(0, 0.01, (100, 26)).cumsum(axis=0)[:n_bars]
    index = pd.bdate_range("2020-01-01", periods=n_bars)
    frame = pd.DataFrame(
        100 * np.exp(walk), index=index, columns=list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    )
    return frame[list(symbols)].round(3)


def said_of(before, after):
    return describe_renewal(renewal(panel_from_frames(before), panel_from_frames(after)))


@pytest.fixture
def said(tmp_path, monkeypatch, caplog):
    """Write a file, load it, and return what was said."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.WARNING, logger="backtest_batch.market")

    def load(frame, **options):
        frame.to_csv("prices.csv", index_label="date")
        caplog.clear()
        panel = load_panel(Csv(path="prices.csv", **options))
        return panel, caplog.text

    return load


def test_bars_that_were_added_are_counted_and_nothing_before_was_changed(said):
    first, text = said(closes(20))
    assert "prices.csv" not in text
    _, text = said(closes(20))
    assert "prices.csv" not in text
    later, text = said(closes(25))
    assert (
        "prices.csv: 5 bars were added since it was last read, up to 2020-02-04; nothing before "
        "was changed" in text
    )
    assert find_panel(first.fingerprint) == first
    assert find_panel(later.fingerprint) == later


def test_a_past_that_was_restated_is_named_by_its_first_value(said):
    said(closes(20))
    other = closes(21)
    other.iloc[7, 1], other.iloc[9, 0] = 12.3, 45.6
    then = closes().iloc[7, 1]
    _, text = said(other)
    assert "1 bar was added since it was last read, up to 2020-01-29; " in text
    assert (
        "the past was restated: 2 values, the first is the close of B at 2020-01-10, "
        f"which was {then:g} and is 12.3" in text
    )
    _, text = said(closes(20))  # what was read before is found in the cache, and compared too
    assert "1 of 21 bars are no longer there; " in text
    assert f"which was 12.3 and is {then:g}" in text


def test_other_options_are_other_data(said):
    said(closes(20))
    _, text = said(closes(21), symbols=["A"])
    assert "added" not in text


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (closes(20), closes(20).iloc[5:], "5 of 20 bars are no longer there; nothing"),
        (
            closes(20).iloc[3:],
            closes(20),
            "3 bars were added before the last one that there was; nothing before was changed",
        ),
        (
            closes(20, "ABC"),
            closes(20, "CAD"),
            "new symbols: D; symbols that are gone: B; nothing before was changed",
        ),
        (closes(20), closes(20), None),
        (closes(20, "A"), closes(20, "B"), "these are other data than when it was last read: "),
        (closes(5), closes(20).iloc[10:], "these are other data than when it was last read: "),
    ],
)
def test_whatever_else_became_of_them_is_said(before, after, expected):
    found = said_of(before, after)
    assert found is None if expected is None else found.startswith(expected), found


def test_a_series_that_was_late_has_arrived():
    late = closes(20)
    late.iloc[-2:, 1] = np.nan
    expected = "2 values missing before, there now; nothing before was changed"
    assert said_of(late, closes(20)) == expected
    assert "the past was restated: 2 values, the first is the close of B at 2020-01-27, " in str(
        said_of(closes(20), late)
    )


def test_blocks_of_any_size_find_the_same(monkeypatch):
    before, after = closes(60), closes(60).drop(closes(60).index[30])[list("CAB")]
    after.iloc[40, 0] = 7.0
    whole = said_of(before, after)
    monkeypatch.setattr(module, "_CELLS", 4)
    assert said_of(before, after) == whole
    assert "the past was restated: 1 value," in whole


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fingerprint": 3}', "null"])
def test_a_damaged_record_says_nothing_and_is_written_again(said, content):
    said(closes(20))
    (record,) = (own_cache_dir() / "last").iterdir()
    record.write_text(content)
    _, text = said(closes(21))
    assert "added" not in text
    _, text = said(closes(22))
    assert "1 bar was added" in text


def test_a_record_of_somebody_else_is_not_believed(said):
    said(closes(20))
    (record,) = (own_cache_dir() / "last").iterdir()
    record.write_text(record.read_text().replace('"signature": "', '"signature": "0'))
    _, text = said(closes(21))
    assert "added" not in text


def test_a_table_beside_the_prices_that_changed_is_named_and_not_the_prices(said, tmp_path):
    frame = closes(20)
    frame.loc[frame.index[15] :, "C"] = np.nan
    table = tmp_path / "delisted.csv"
    table.write_text("symbol,return\nC,-0.3\n")
    said(frame, delisting_returns="delisted.csv")
    table.write_text("symbol,return\nC,-0.6\n")
    _, text = said(frame, delisting_returns="delisted.csv")
    assert "delisted.csv was changed since the data were last read, the prices not: 1 value" in text
    assert "the first the close of C at 2020-01-22, follow from it" in text
    assert "restated" not in text
    frame.iloc[3, 0] = 55.0
    _, text = said(frame, delisting_returns="delisted.csv")
    assert "the past was restated: 1 value, the first is the close of A" in text


def test_a_universe_or_a_feature_that_changed_is_named_too(said, tmp_path):
    universe, feature = tmp_path / "members.csv", tmp_path / "vix.csv"
    universe.write_text("symbol,from,to\nA,2019-01-01,\n")
    feature.write_text("date,vix\n2020-01-02,12\n")
    options = {"universe": "members.csv", "features": ["vix.csv"]}
    said(closes(20), **options)
    universe.write_text("symbol,from,to\nB,2019-01-01,\n")
    feature.write_text("date,vix\n2020-01-02,13\n")
    _, text = said(closes(20), **options)
    assert "members.csv, vix.csv were changed since the data were last read, the prices not" in text
    _, text = said(closes(20), **options)
    assert "were changed" not in text
