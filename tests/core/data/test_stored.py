import pandas as pd
import pytest

from backtest_batch.core.data.cache import store
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Stored, Synthetic
from backtest_batch.core.data.sources.stored import store_with_notes
from backtest_batch.errors import DataError, DataNotFoundError


@pytest.fixture
def panel():
    return load_panel(Synthetic(n_assets=4, n_bars=60))


def test_a_stored_panel_is_found_by_its_fingerprint(panel):
    found = load_panel(Stored(fingerprint=store(panel).fingerprint))
    assert found == panel
    assert found.symbols == panel.symbols
    assert list(found.fields) == list(panel.fields)


def test_symbols_and_dates_are_selected(panel):
    fingerprint = store(panel).fingerprint
    part = load_panel(
        Stored(fingerprint=fingerprint, symbols=["S02", "S00"]),
        end_date=str(panel.index[29].date()),
    )
    assert part.symbols == ("S02", "S00")
    assert part.n_bars == 30
    assert (part.close["S00"] == panel.close["S00"].iloc[:30]).all()
    with pytest.raises(DataError, match="unknown symbol S09"):
        load_panel(Stored(fingerprint=fingerprint, symbols=["S09"]))


def test_what_is_not_in_the_cache_is_said():
    with pytest.raises(DataNotFoundError, match="the cache has no panel 0000"):
        load_panel(Stored(fingerprint="0" * 64))
    with pytest.raises(ValueError, match="`fingerprint` must be 64 hexadecimal digits"):
        Stored(fingerprint="abc")


def test_what_was_said_about_a_frame_is_said_of_its_panel(caplog):
    days = pd.bdate_range("2020-01-01", periods=5)
    bars = pd.DataFrame({"Close": 10.0, "Adj Close": 9.0}, index=days)
    fingerprint = store_with_notes(panel_from_frames(bars)).fingerprint
    for _ in ("read", "cached"):
        caplog.clear()
        load_panel(Stored(fingerprint=fingerprint))
        assert "closes are those of 'Adj Close', not of 'Close'" in caplog.text
