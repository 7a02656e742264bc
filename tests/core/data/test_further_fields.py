import pickle

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data import cache
from backtest_batch.core.data.load import load_panel, with_fields
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv, Parquet, Stored, Synthetic
from backtest_batch.core.data.sources.stored import store_with_notes
from backtest_batch.errors import DataError

DAYS = pd.bdate_range("2020-01-01", periods=5)


def table():
    close = pd.DataFrame({"A": [1.0, 2, 3, 4, 5], "B": [5.0, 4, 3, 2, 1]}, index=DAYS)
    long = close.rename_axis(index="date", columns="symbol").stack().rename("close").reset_index()
    long["volume"] = 10.0
    long["Market Cap"] = long["close"] * 1_000
    long["dividend"] = np.where(long["date"] == DAYS[2], 0.5, np.nan)
    long["sector"] = "tech"
    return long


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table().to_csv("long.csv", index=False)
    return "long.csv"


def test_columns_that_are_not_asked_for_change_nothing(path):
    plain = load_panel(Csv(path=path))
    assert list(plain.fields) == ["close", "volume"]
    table().drop(columns=["Market Cap", "dividend", "sector"]).to_csv("bare.csv", index=False)
    assert load_panel(Csv(path="bare.csv")) == plain


def test_a_column_becomes_a_field_by_the_name_it_is_asked_for(path):
    panel = load_panel(Csv(path=path, fields=["market_cap", "dividend", "volume"]))
    assert list(panel.fields) == ["close", "volume", "dividend", "market_cap"]
    np.testing.assert_array_equal(panel.fields["market_cap"], panel.fields["close"] * 1_000)
    np.testing.assert_array_equal(
        panel.frame("Dividend")["A"], [np.nan, np.nan, 0.5, np.nan, np.nan]
    )
    assert panel == load_panel(Csv(path=path, fields=["dividend", "market_cap"]))
    with pytest.raises(AttributeError, match="did you mean market_cap"):
        panel.frame("market_cup")


def test_all_reads_every_numeric_column_and_says_which_is_none(path):
    with pytest.raises(DataError, match=r"'sector' holds 'tech'.*`data.fields` names the columns"):
        load_panel(Csv(path=path, fields="all"))
    table().drop(columns="sector").to_parquet("long.parquet")
    panel = load_panel(Parquet(path="long.parquet", fields="all"))
    assert list(panel.fields) == ["close", "volume", "Market Cap", "dividend"]


def test_a_file_of_one_symbol_and_fields_by_symbol_have_further_fields_too(path):
    one = table().query("symbol == 'A'").drop(columns=["symbol", "sector"])
    one.to_csv("A.csv", index=False)
    panel = load_panel(Csv(path="A.csv", fields=["dividend"]))
    assert panel.fields["dividend"][2, 0] == 0.5
    wide = table().pivot(index="date", columns="symbol")[["close", "volume", "dividend"]]
    wide.columns = [f"{symbol}.{field.title()}" for field, symbol in wide.columns]
    wide.to_csv("wide.csv")
    found = load_panel(Csv(path="wide.csv", fields=["dividend"]))
    assert found == load_panel(Csv(path=path, fields=["dividend"]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["dividends"], r"no column 'dividends' \(did you mean dividend.*`data.fields`"),
        (["sector"], "'sector' holds 'tech'"),
        (["open"], "no field 'open'"),
    ],
)
def test_a_field_that_cannot_be_had_is_refused(path, fields, message):
    with pytest.raises(DataError, match=message):
        load_panel(Csv(path=path, fields=fields))


def test_closes_alone_have_no_further_fields(path):
    pd.DataFrame({"A": [1.0, 2], "B": [1.0, 2]}, index=DAYS[:2]).to_csv("w.csv", index_label="date")
    with pytest.raises(DataError, match=r"no field 'cap', as `data.fields` or the required_fields"):
        load_panel(Csv(path="w.csv", fields=["cap"]))
    with pytest.raises(DataError, match=r"no field 'cap'.*required_fields"):
        load_panel(Synthetic(n_bars=50, n_assets=2, fields=["cap"]))


def test_infinite_values_and_empty_fields_are_refused_and_symbols_without_any_said(path, caplog):
    long = table()
    long.loc[3, "Market Cap"] = np.inf
    long["nothing"] = np.nan
    long.loc[long["symbol"] == "A", "dividend"] = np.nan
    long.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"long\.csv: B has a market_cap of inf at 2020-01-02"):
        load_panel(Csv(path=path, fields=["market_cap"]))
    with pytest.raises(DataError, match="'nothing' has no value"):
        load_panel(Csv(path=path, fields=["nothing"]))
    load_panel(Csv(path=path, fields=["dividend"]))
    assert "dividend has no value of A (1 of 2 symbols)" in caplog.text


def test_what_a_strategy_needs_is_read_by_its_name(path):
    source = with_fields(Csv(path=path, fields=["Market Cap", "dividend"]), ("close", "market_cap"))
    assert list(load_panel(source).fields) == ["close", "volume", "dividend", "market_cap"]
    assert with_fields(source, ("volume", "Close")) is source


def everything():
    close = pd.DataFrame({"A": [1.0, 2, 3, 4, 5], "B": [5.0, 4, 3, np.nan, np.nan]}, index=DAYS)
    return panel_from_frames(
        close,
        fields={"../cap": close * 7, "dividend": close * 0},
        members=pd.DataFrame({"A": [True, False], "B": [True, True]}, index=DAYS[[1, 3]]),
        delisting_returns={"B": -1.0},
        features={"vix": pd.Series([1.0, 2.0], index=DAYS[[1, 3]]), "score": close * 2},
    )


def parts(panel):
    return (
        {name: values.tolist() for name, values in panel.fields.items()},
        panel.members.tolist(),
        {name: values.tolist() for name, values in panel.feature_arrays.items()},
    )


def test_all_parts_come_back_from_pickles_and_from_the_cache(cache_folder):
    panel = everything()
    for found in (pickle.loads(pickle.dumps(panel)), cache.store(panel)):
        assert found == panel
        assert str(parts(found)) == str(parts(panel))
        for values in (*found.fields.values(), found.members, *found.feature_arrays.values()):
            assert not values.flags.writeable
    assert cache.open_panel(panel.fingerprint) == panel
    names = {file.name for file in (cache_folder / "panels" / panel.fingerprint).iterdir()}
    assert {"field-0.npy", "field-1.npy", "members.npy", "feature-1.npy"} <= names


@pytest.mark.parametrize("file", ["field-0.npy", "members.npy", "feature-0.npy"])
def test_damage_to_any_part_is_noticed(cache_folder, file):
    panel = cache.store(everything())
    damaged = cache_folder / "panels" / panel.fingerprint / file
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert cache.find_panel(panel.fingerprint) is None
    damaged.unlink()
    assert cache.find_panel(panel.fingerprint) is None


def test_a_part_of_the_bars_has_that_part_of_everything():
    panel = everything()
    cut = panel.until(DAYS[2])
    assert str(parts(cut)) == str(
        (
            {name: values[:3].tolist() for name, values in panel.fields.items()},
            panel.members[:3].tolist(),
            {name: values[:3].tolist() for name, values in panel.feature_arrays.items()},
        )
    )
    stored = cache.store(cache.store(panel).until(DAYS[2]))
    assert stored == cut
    assert stored.members.shape == (3, 2)
    assert stored.features.score.shape == (3, 2)
    assert cut != panel.window(1, 4)


def test_a_panel_in_the_cache_is_a_source_with_all_its_parts():
    panel = store_with_notes(everything())
    assert load_panel(Stored(fingerprint=panel.fingerprint)) == panel
    one = load_panel(Stored(fingerprint=panel.fingerprint, symbols=["B"]))
    assert one.symbols == ("B",)
    assert one.close["B"].tolist() == [5.0, 4.0, 3.0, 0.0]
    assert one.members[:, 0].tolist() == [False, True, True, True]
    assert one.features.score["B"].tolist() == panel.features.score["B"].tolist()[:4]
