"""Adjusted closes beside those that were quoted."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv, Parquet, Synthetic
from backtest_batch.errors import DataError

USED = "closes are those of 'Adj Close', not of 'Close', and open, high and low are adjusted in the"


@pytest.fixture
def bars():
    """Quoted bars of one symbol, and closes adjusted for a dividend on bar 20."""
    panel = load_panel(Synthetic(n_assets=1, n_bars=40, seed=2))
    table = pd.DataFrame({name: panel.frame(name)["S00"] for name in panel.fields})
    # On one bar the close is the high, on another the low: rounding must not put it outside.
    table.iloc[3, table.columns.get_loc("high")] = table["close"].iloc[3]
    table.iloc[4, table.columns.get_loc("low")] = table["close"].iloc[4]
    table.columns = ["Open", "High", "Low", "Close", "Volume"]
    factor = np.where(np.arange(40) < 20, 0.973, 1.0)
    return table.assign(**{"Adj Close": table["Close"] * factor}).rename_axis("Date")


@pytest.fixture
def path(tmp_path, bars):
    bars.to_csv(tmp_path / "KO.csv")
    return str(tmp_path / "KO.csv")


def test_adjusted_closes_are_used_with_their_bars_and_that_is_said(path, bars, caplog):
    panels = []
    for _ in ("read", "cached"):
        caplog.clear()
        panels.append(load_panel(Csv(path=path)))
        assert f"KO.csv: {USED} same ratio (`data.adjusted=false` takes" in caplog.text
    assert panels[0] == panels[1] == load_panel(Csv(path=path, adjusted=True))
    fields = panels[0].fields
    np.testing.assert_array_equal(fields["close"][:, 0], bars["Adj Close"])
    np.testing.assert_array_equal(fields["volume"][:, 0], bars["Volume"])
    ratio = (bars["Adj Close"] / bars["Close"]).to_numpy()
    np.testing.assert_allclose(fields["open"][:, 0], bars["Open"] * ratio, rtol=1e-12)
    assert (fields["low"] <= fields["close"]).all()
    assert (fields["close"] <= fields["high"]).all()
    assert fields["high"][3, 0] == fields["close"][3, 0]


def test_quoted_closes_are_used_when_they_are_asked_for(path, bars, caplog):
    quoted = bars.drop(columns="Adj Close")
    expected = panel_from_frames(quoted, symbol="KO")
    assert not caplog.records
    assert load_panel(Csv(path=path, adjusted=False)) == expected
    assert "closes are those of 'Close', not of 'Adj Close'" in caplog.text
    assert load_panel(Csv(path=path, close_column="Close")) == expected
    by_name = load_panel(Csv(path=path, close_column="Adj Close"))
    assert by_name == load_panel(Csv(path=path))
    quoted.to_csv(path)
    assert load_panel(Csv(path=path)) == expected
    with pytest.raises(DataError, match=r"no column of adjusted closes .*`data\.adjusted=true`"):
        load_panel(Csv(path=path, adjusted=True))
    wide = quoted[["Close"]].set_axis(["KO"], axis=1)
    with pytest.raises(DataError, match="no column of adjusted closes"):
        panel_from_frames(wide, adjusted=True)
    wide.to_csv(path)
    with pytest.raises(DataError, match="no column of adjusted closes"):
        load_panel(Csv(path=path, adjusted=True))
    with pytest.raises(ValueError, match="`adjusted` must be auto, true or false, but got"):
        Csv(path=path, adjusted="yes")


def test_every_kind_of_table_is_adjusted_alike(tmp_path, path, bars, caplog):
    expected = load_panel(Csv(path=path))
    assert panel_from_frames(bars, symbol="KO") == expected
    assert "`panel_from_frames(frame, adjusted=False)` takes them as quoted" in caplog.text
    long = bars.assign(symbol="KO").reset_index()
    long.to_parquet(tmp_path / "long.parquet")
    assert load_panel(Parquet(path=str(tmp_path / "long.parquet"))) == expected
    levels = pd.concat({"KO": bars}, axis=1).swaplevel(axis=1)
    levels.to_csv(tmp_path / "levels.csv")
    assert load_panel(Csv(path=str(tmp_path / "levels.csv"))) == expected
    assert panel_from_frames(levels) == expected
    assert panel_from_frames(levels, adjusted=False) == load_panel(Csv(path=path, adjusted=False))


def test_adjusted_fields_of_the_file_are_read_as_they_are(tmp_path, bars):
    table = bars.rename(columns={"Adj Close": "adjClose"}).assign(
        adjOpen=bars["Adj Close"] * 1.001, adjVolume=7.0
    )
    panel = panel_from_frames(table)
    np.testing.assert_array_equal(panel.fields["open"][:, 0], table["adjOpen"])
    np.testing.assert_array_equal(panel.fields["volume"][:, 0], 7.0)
    ratio = (bars["Adj Close"] / bars["Close"]).to_numpy()
    np.testing.assert_allclose(panel.fields["low"][:, 0], bars["Low"] * ratio, rtol=1e-12)


def test_adjusted_closes_alone(path, bars, caplog):
    alone = bars.drop(columns="Close")
    alone.to_csv(path)
    panel = load_panel(Csv(path=path))
    assert list(panel.fields) == ["close", "volume"]
    assert "open, high and low cannot be adjusted and are left out" in caplog.text
    with pytest.raises(DataError, match=r"has adjusted closes alone \('Adj Close'\)"):
        load_panel(Csv(path=path, adjusted=False))
    # Bars that hold the adjusted closes are on their scale.
    ratio = bars["Adj Close"] / bars["Close"]
    for name in ("Open", "High", "Low"):
        alone[name] *= ratio
    assert list(panel_from_frames(alone).fields) == ["open", "high", "low", "close", "volume"]


def test_adjusted_closes_that_are_empty_or_cannot_be_compared(path, bars, caplog):
    bars.assign(**{"Adj Close": np.nan}).to_csv(path)
    assert load_panel(Csv(path=path)) == load_panel(Csv(path=path, adjusted=False))
    assert "closes are those of 'Close', as 'Adj Close' is empty" in caplog.text
    bars.iloc[6, bars.columns.get_loc("Close")] = 0
    bars.to_csv(path)
    with pytest.raises(DataError, match=r"column 'Close' holds 0 in data row 7, so that 'Open'"):
        load_panel(Csv(path=path))


def test_files_with_the_same_choice_are_said_once(tmp_path, bars, caplog):
    for name in ("A", "B", "C"):
        bars.to_csv(tmp_path / f"{name}.csv")
    load_panel(Csv(path=str(tmp_path)))
    assert [record.message.split(":")[0] for record in caplog.records] == ["A.csv and 2 more files"]
