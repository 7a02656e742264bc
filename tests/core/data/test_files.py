import gzip
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv, Parquet
from backtest_batch.errors import DataError, DataNotFoundError

SYMBOLS = ["AAA", "BBB", "CCC"]


@pytest.fixture
def close():
    random = np.random.default_rng(7)
    index = pd.bdate_range("2020-01-01", periods=30)
    return pd.DataFrame(
        100 * np.exp(random.normal(0, 0.01, (30, 3)).cumsum(axis=0)), index=index, columns=SYMBOLS
    )


def fields_of(close):
    return {
        "open": close * 0.99,
        "high": close * 1.02,
        "low": close * 0.98,
        "close": close,
        "volume": (close * 1000).round(),
    }


def long_table(frames, *, timestamp="timestamp", symbol="symbol"):
    stacked = {name: frame.stack() for name, frame in frames.items()}
    table = pd.DataFrame(stacked)
    table.index.names = [timestamp, symbol]
    return table.reset_index()


def write_single_files(folder, frames, ending):
    folder.mkdir()
    for symbol in frames["close"].columns:
        table = pd.DataFrame({name: frame[symbol] for name, frame in frames.items()})
        table = table.rename_axis("timestamp").reset_index()
        if ending == ".parquet":
            table.to_parquet(folder / f"{symbol}.parquet")
        else:
            table.to_csv(folder / f"{symbol}{ending}", index=False)


def test_every_layout_of_the_same_prices_is_the_same_panel(tmp_path, close):
    expected = panel_from_frames(close)
    as_text = close.set_index(close.index.astype(str))
    as_text.to_parquet(tmp_path / "text.parquet")
    assert load_panel(Parquet(path=str(tmp_path / "text.parquet"))).fingerprint == (
        expected.fingerprint
    )
    close.to_csv(tmp_path / "wide.csv")
    close.to_csv(tmp_path / "wide.csv.gz", index_label="Date")
    close.to_parquet(tmp_path / "indexed.parquet")
    close.rename_axis("Date").to_parquet(tmp_path / "named.parquet")
    close.rename_axis("time").reset_index().to_parquet(tmp_path / "column.parquet", index=False)
    long = long_table({"close": close})
    long.to_csv(tmp_path / "long.csv", index=False)
    long.to_parquet(tmp_path / "long.parquet")
    long.astype({"symbol": "category"}).to_parquet(tmp_path / "categories.parquet")
    long.set_index(["timestamp", "symbol"]).to_parquet(tmp_path / "two-levels.parquet")
    # Sorted by symbol, and with an index that means nothing.
    long.sort_values(["symbol", "timestamp"]).to_parquet(tmp_path / "sorted.parquet")
    write_single_files(tmp_path / "csv", {"close": close}, ".csv")
    write_single_files(tmp_path / "gz", {"close": close}, ".csv.gz")
    write_single_files(tmp_path / "parquet", {"close": close}, ".parquet")
    for name in ("wide.csv", "wide.csv.gz", "long.csv", "csv", "gz"):
        assert load_panel(Csv(path=str(tmp_path / name))) == expected, name
    for file in sorted(tmp_path.glob("*.parquet")):
        assert load_panel(Parquet(path=str(file))) == expected, file
    assert load_panel(Parquet(path=str(tmp_path / "parquet"))) == expected


def test_all_fields_are_read_from_long_and_single_files(tmp_path, close):
    frames = fields_of(close)
    expected = panel_from_frames(**frames)
    long_table(frames).to_csv(tmp_path / "long.csv", index=False)
    long_table(frames).to_parquet(tmp_path / "long.parquet")
    write_single_files(tmp_path / "singles", frames, ".parquet")
    assert load_panel(Csv(path=str(tmp_path / "long.csv"))) == expected
    assert load_panel(Parquet(path=str(tmp_path / "long.parquet"))) == expected
    assert load_panel(Parquet(path=str(tmp_path / "singles"))) == expected


def test_fields_can_be_left_out(tmp_path, close):
    long_table(fields_of(close)).to_csv(tmp_path / "long.csv", index=False)
    source = Csv(path=str(tmp_path / "long.csv"), volume_column=None, high_column=None)
    assert list(load_panel(source).fields) == ["open", "low", "close"]


def test_a_field_that_some_symbols_lack_is_left_out_with_a_warning(tmp_path, close, caplog):
    frames = fields_of(close)
    write_single_files(tmp_path / "singles", frames, ".csv")
    file = tmp_path / "singles" / "BBB.csv"
    pd.read_csv(file).drop(columns="volume").to_csv(file, index=False)
    panel = load_panel(Csv(path=str(tmp_path / "singles")))
    assert list(panel.fields) == ["open", "high", "low", "close"]
    assert "volume is left out: BBB has none (1 of 3 symbols)" in caplog.text


def test_column_names_are_found_without_regard_to_case_or_as_they_are_given(tmp_path, close):
    expected = panel_from_frames(close, volume=(close * 1000).round())
    table = long_table({"close": close, "volume": (close * 1000).round()})
    renamed = table.set_axis(["Date", "Ticker", "Adj Close", "VOLUME"], axis=1)
    renamed["Close"] = 1.0
    renamed["note"] = "a text"
    renamed.to_csv(tmp_path / "long.csv", index=False)
    source = Csv(path=str(tmp_path / "long.csv"), symbol_column="ticker", close_column="Adj Close")
    assert load_panel(source) == expected
    strict = Csv(
        path=str(tmp_path / "long.csv"),
        symbol_column="Ticker",
        close_column="Adj Close",
        timestamp_column="Date",
    )
    assert load_panel(strict) == expected


def test_the_order_of_the_symbols(tmp_path, close):
    shuffled = close[["CCC", "AAA", "BBB"]]
    shuffled.to_csv(tmp_path / "wide.csv")
    long_table({"close": shuffled}).to_csv(tmp_path / "long.csv", index=False)
    wide, long = (str(tmp_path / name) for name in ("wide.csv", "long.csv"))
    assert load_panel(Csv(path=wide)).symbols == ("CCC", "AAA", "BBB")
    assert load_panel(Csv(path=long)).symbols == ("AAA", "BBB", "CCC")
    chosen = ["BBB", "AAA"]
    assert load_panel(Csv(path=wide, symbols=chosen)).symbols == ("BBB", "AAA")
    assert load_panel(Csv(path=long, symbols=chosen)) == load_panel(Csv(path=wide, symbols=chosen))


def test_a_selection_is_the_panel_of_these_symbols_alone(tmp_path, close):
    close.loc[: close.index[9], "BBB"] = np.nan
    close.iloc[3, 0] = -1.0  # a fault of a symbol that is not asked for does not matter
    close.to_csv(tmp_path / "wide.csv")
    long_table({"close": close}).to_parquet(tmp_path / "long.parquet")
    expected = panel_from_frames(close[["BBB"]].iloc[10:])
    assert load_panel(Csv(path=str(tmp_path / "wide.csv"), symbols=["BBB"])) == expected
    assert load_panel(Parquet(path=str(tmp_path / "long.parquet"), symbols=["BBB"])) == expected


def test_files_patterns_lists_and_folders(tmp_path, close):
    expected = panel_from_frames(close)
    folder = tmp_path / "prices by year"
    folder.mkdir()
    close.iloc[20:].to_csv(folder / "a later.csv")
    close.iloc[:20].to_csv(folder / "b earlier.csv")
    (folder / "notes.txt").write_text("not a table")
    (folder / ".hidden.csv").write_text("not a table")
    (folder / "_temporary.csv").write_text("not a table")
    later, earlier = str(folder / "a later.csv"), str(folder / "b earlier.csv")
    for path in (
        str(folder),
        str(folder / "*er.csv"),
        str(tmp_path / "**" / "?*er.csv"),
        [later, earlier],
        [earlier, later, later],
        [str(folder / "a*"), earlier],
    ):
        assert load_panel(Csv(path=path)) == expected, path


def test_a_name_that_looks_like_a_pattern_is_a_name_first(tmp_path, close):
    file = tmp_path / "prices [eur].csv"
    close.to_csv(file)
    assert load_panel(Csv(path=str(file))) == panel_from_frames(close)


def test_relative_paths_count_from_the_working_directory(tmp_path, monkeypatch, close):
    folder = tmp_path / "Gerät mit Leerzeichen"
    folder.mkdir()
    close.to_csv(folder / "Börse.csv")
    (folder / "wanted.txt").write_text("BBB\n")
    monkeypatch.chdir(folder)
    panel = load_panel(Csv(path="Börse.csv", symbols_file="wanted.txt"))
    assert panel == panel_from_frames(close[["BBB"]])
    assert sorted(item.name for item in folder.iterdir()) == ["Börse.csv", "wanted.txt"]


def test_symbols_in_names_of_files(tmp_path, close):
    folder = tmp_path / "singles"
    folder.mkdir()
    table = close[["AAA"]].set_axis(["close"], axis=1).rename_axis("timestamp")
    table.to_csv(folder / "BRK.B.csv.gz")
    table.to_csv(folder / "BF.B.csv")
    assert load_panel(Csv(path=str(folder))).symbols == ("BF.B", "BRK.B")
    assert load_panel(Csv(path=str(folder / "BF.B.csv"))).symbols == ("BF.B",)


def test_symbols_that_look_like_missing_values_or_truth(tmp_path, close):
    odd = close.set_axis(["NA", "TRUE", "null"], axis=1)
    long_table({"close": odd}).to_csv(tmp_path / "long.csv", index=False)
    odd.to_csv(tmp_path / "wide.csv")
    assert load_panel(Csv(path=str(tmp_path / "long.csv"))).symbols == ("NA", "TRUE", "null")
    assert load_panel(Csv(path=str(tmp_path / "wide.csv"))).symbols == ("NA", "TRUE", "null")


def test_numbers_as_symbols(tmp_path, close):
    numbered = long_table({"close": close})
    numbered["symbol"] = numbered["symbol"].map({"AAA": 5, "BBB": 700, "CCC": 9988})
    numbered.to_parquet(tmp_path / "long.parquet")
    assert load_panel(Parquet(path=str(tmp_path / "long.parquet"))).symbols == ("5", "700", "9988")


def test_values_are_read_exactly(tmp_path):
    texts = ["0.1", "1e-3", "123456789.123456789", "0.30000000000000004", "5", '"7.25"', " 8.5 "]
    lines = [f"2020-01-{day:02d},{text}" for day, text in enumerate(texts, start=1)]
    (tmp_path / "a.csv").write_text("\ufefftimestamp,A\r\n" + "\r\n".join(lines) + "\r\n\r\n")
    values = load_panel(Csv(path=str(tmp_path / "a.csv"))).fields["close"][:, 0]
    assert values.tolist() == [float(text.strip('" ')) for text in texts]


def test_other_separators_and_decimals(tmp_path, close):
    close.to_csv(tmp_path / "de.csv", sep=";", decimal=",")
    source = Csv(path=str(tmp_path / "de.csv"), separator=";", decimal=",")
    assert load_panel(source) == panel_from_frames(close)
    text = (tmp_path / "de.csv").read_text().replace("\n2020-01-02;", "\n2020-01-02;k.A.")
    (tmp_path / "de.csv").write_text(text)
    with pytest.raises(DataError, match=r"column 'AAA' holds 'k\.A\.\d+,\d+' at 2020-01-02"):
        load_panel(source)


@pytest.mark.parametrize("kind", [pa.float32(), pa.int64(), pa.decimal128(21, 2), pa.string()])
def test_types_of_numbers_in_parquet(tmp_path, kind):
    prices = pa.array([10, 11, 12]).cast(kind)
    stamps = pa.array(pd.bdate_range("2020-01-01", periods=3)).cast(pa.date32())
    parquet.write_table(pa.table({"date": stamps, "A": prices}), tmp_path / "a.parquet")
    panel = load_panel(Parquet(path=str(tmp_path / "a.parquet")))
    assert panel.fields["close"][:, 0].tolist() == [10.0, 11.0, 12.0]


def test_nulls_of_parquet_are_missing_values(tmp_path):
    stamps = pd.bdate_range("2020-01-01", periods=4)
    table = pa.table({"date": stamps, "A": pa.array([None, 10.0, 11.0, None]), "B": [1, 2, 3, 4]})
    parquet.write_table(table, tmp_path / "a.parquet")
    panel = load_panel(Parquet(path=str(tmp_path / "a.parquet")))
    np.testing.assert_array_equal(panel.fields["close"][:, 0], [np.nan, 10.0, 11.0, np.nan])


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path, close):
    folder = tmp_path / "year=2020"
    folder.mkdir()
    close.to_parquet(folder / "wide.parquet")
    assert load_panel(Parquet(path=str(folder))) == panel_from_frames(close)


def test_series_of_different_length_are_aligned(tmp_path):
    folder = tmp_path / "singles"
    folder.mkdir()
    days = [f"2020-01-0{day}" for day in range(1, 7)]
    for name, own in (("A", days), ("B", days[2:]), ("C", days[1:4])):
        rows = [f"{day},{10 + number}" for number, day in enumerate(own)]
        (folder / f"{name}.csv").write_text("timestamp,close\n" + "\n".join(rows) + "\n")
    nan = np.nan
    expected = [
        [10, nan, nan],
        [11, nan, 10],
        [12, 10, 11],
        [13, 11, 12],
        [14, 12, nan],
        [15, 13, nan],
    ]
    panel = load_panel(Csv(path=str(folder)))
    np.testing.assert_array_equal(panel.fields["close"], expected)


def test_hash_seed_and_order_of_the_folder_do_not_matter(tmp_path, close):
    program = """
import sys
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Csv, Synthetic
print(load_panel(Csv(path=sys.argv[1])).fingerprint, load_panel(Synthetic(n_bars=50)).fingerprint)
"""
    printed = set()
    for seed in ("0", "1"):
        folder = tmp_path / f"singles{seed}"
        frames = {"close": close[close.columns[:: -1 if seed == "1" else 1]]}
        write_single_files(folder, frames, ".csv")
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "BACKTEST_BATCH_CACHE": str(tmp_path / seed),
        }
        command = [sys.executable, "-c", program, str(folder)]
        printed.add(
            subprocess.run(command, env=environment, capture_output=True, check=True).stdout
        )
    assert len(printed) == 1


# files that cannot be used


def test_missing_files(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"prices\.csv: no such file or folder"):
        load_panel(Csv(path=str(tmp_path / "prices.csv")))
    with pytest.raises(DataNotFoundError, match=r"\*\.csv: the pattern matches no file"):
        load_panel(Csv(path=str(tmp_path / "*.csv")))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.parquet").touch()
    with pytest.raises(DataNotFoundError, match=r"empty: the folder has no file named \*\.csv or"):
        load_panel(Csv(path=str(tmp_path / "empty")))
    assert issubclass(DataNotFoundError, FileNotFoundError)


def test_empty_files(tmp_path):
    for source in (Csv(path=str(tmp_path / "a.csv")), Parquet(path=str(tmp_path / "a.parquet"))):
        (tmp_path / source.path).touch()
        with pytest.raises(DataError, match=r"a\.(csv|parquet) is empty"):
            load_panel(source)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match="is empty"):
        load_panel(Csv(path=str(tmp_path / "a.csv.gz")))


def test_tables_without_rows(tmp_path):
    (tmp_path / "wide.csv").write_text("timestamp,AAA,BBB\n")
    with pytest.raises(DataError, match=r"wide\.csv: AAA has no bars"):
        load_panel(Csv(path=str(tmp_path / "wide.csv")))
    (tmp_path / "long.csv").write_text("timestamp,symbol,close\n")
    with pytest.raises(DataError, match=r"long\.csv holds no bars"):
        load_panel(Csv(path=str(tmp_path / "long.csv")))


def test_files_of_another_format(tmp_path, close):
    close.to_parquet(tmp_path / "prices.csv")
    with pytest.raises(DataError, match="is a Parquet file; `data=parquet` reads it"):
        load_panel(Csv(path=str(tmp_path / "prices.csv")))
    close.to_csv(tmp_path / "wide.csv")
    with pytest.raises(DataError, match=r"cannot be read as Parquet.*`data=csv` reads CSV"):
        load_panel(Parquet(path=str(tmp_path / "wide.csv")))
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"noise\.csv cannot be read as CSV"):
        load_panel(Csv(path=str(tmp_path / "noise.csv")))
    (tmp_path / "plain.csv.gz").write_text("timestamp,A\n2020-01-01,1\n")
    with pytest.raises(DataError, match=r"plain\.csv\.gz cannot be read as CSV"):
        load_panel(Csv(path=str(tmp_path / "plain.csv.gz")))


def test_truncated_files(tmp_path, close):
    close.to_parquet(tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet"):
        load_panel(Parquet(path=str(tmp_path / "a.parquet")))
    close.to_csv(tmp_path / "a.csv.gz")
    content = (tmp_path / "a.csv.gz").read_bytes()
    (tmp_path / "a.csv.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.csv\.gz cannot be read as CSV"):
        load_panel(Csv(path=str(tmp_path / "a.csv.gz")))
    close.to_csv(tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text()
    (tmp_path / "a.csv").write_text(text[: text.rindex(",")])
    with pytest.raises(DataError, match="Expected 4 columns, got 3"):
        load_panel(Csv(path=str(tmp_path / "a.csv")))


def test_lines_with_too_many_fields(tmp_path):
    (tmp_path / "a.csv").write_text("timestamp,A\n2020-01-01,1\n2020-01-02,1,000\n")
    with pytest.raises(DataError, match="Expected 2 columns, got 3"):
        load_panel(Csv(path=str(tmp_path / "a.csv")))


def test_a_file_where_a_folder_should_be(tmp_path, close):
    close.to_csv(tmp_path / "a.csv")
    with pytest.raises(DataNotFoundError, match="no such file or folder"):
        load_panel(Csv(path=str(tmp_path / "a.csv" / "b.csv")))


def test_subfolders_are_left_alone(tmp_path, close):
    (tmp_path / "prices" / "b.csv").mkdir(parents=True)
    close.to_csv(tmp_path / "prices" / "a.csv")
    assert load_panel(Csv(path=str(tmp_path / "prices"))) == panel_from_frames(close)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all files")
def test_files_without_permission(tmp_path, close):
    close.to_csv(tmp_path / "a.csv")
    (tmp_path / "a.csv").chmod(0)
    with pytest.raises(DataError, match=r"a\.csv cannot be read: Permission denied"):
        load_panel(Csv(path=str(tmp_path / "a.csv")))


# columns that cannot be understood


def write(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    return str(tmp_path / "a.csv")


def test_no_column_of_timestamps(tmp_path):
    path = write(tmp_path, "day,AAA\n2020-01-01,1\n2020-01-02,1\n")
    with pytest.raises(DataError, match="no column of timestamps: none of 'day', 'AAA'"):
        load_panel(Csv(path=path))
    assert load_panel(Csv(path=path, timestamp_column="Day")).n_bars == 2


def test_no_header(tmp_path):
    path = write(tmp_path, "2020-01-01,1\n2020-01-02,1\n")
    with pytest.raises(DataError, match=r"the first line names no columns, .* \(2020-01-01, 1\)"):
        load_panel(Csv(path=path))


def test_columns_that_are_named_but_not_there(tmp_path):
    path = write(tmp_path, "date,symbol,close,volumen\n2020-01-01,A,1,2\n")
    with pytest.raises(DataError, match=r"no column 'volume_' \(did you mean volumen\?\)"):
        load_panel(Csv(path=path, volume_column="volume_"))
    with pytest.raises(DataError, match=r"'closing'.*`data.close_column`"):
        load_panel(Csv(path=path, close_column="closing"))
    with pytest.raises(DataError, match=r"'when'.*`data.timestamp_column`"):
        load_panel(Csv(path=path, timestamp_column="when"))
    with pytest.raises(DataError, match=r"'ticker'.*`data.symbol_column`"):
        load_panel(Csv(path=path, symbol_column="ticker"))
    path = write(tmp_path, "date,symbol,price\n2020-01-01,A,1\n")
    with pytest.raises(DataError, match=r"no column 'close', as `data.close_column` says"):
        load_panel(Csv(path=path))


def test_columns_of_one_name(tmp_path):
    path = write(tmp_path, "date,AAA,BBB,AAA\n2020-01-01,1,2,3\n")
    with pytest.raises(DataError, match="has the column 'AAA' 2 times"):
        load_panel(Csv(path=path))


def test_no_column_of_prices(tmp_path):
    path = write(tmp_path, "date\n2020-01-01\n")
    with pytest.raises(DataError, match="no column of prices beside 'date'"):
        load_panel(Csv(path=path))


def test_a_column_of_symbols_by_another_name(tmp_path, caplog):
    path = write(tmp_path, "date,asset,close\n2020-01-01,A,1\n2020-01-02,A,1\n")
    with pytest.raises(DataError, match=r"`data.symbol_column=asset` reads the symbols"):
        load_panel(Csv(path=path))
    path = write(tmp_path, "date,ticker,close\n2020-01-01,A,1\n2020-01-02,A,1\n")
    assert load_panel(Csv(path=path)).symbols == ("A",)
    assert "symbols are those of 'ticker' (`data.symbol_column` names another" in caplog.text
    caplog.clear()
    assert load_panel(Csv(path=path, symbol_column="ticker")).symbols == ("A",)
    assert "symbols are those" not in caplog.text
    assert load_panel(Csv(path=path, symbol_column=None)).symbols == ("a",)


def test_rows_without_a_symbol(tmp_path):
    path = write(tmp_path, "date,symbol,close\n2020-01-01,A,1\n2020-01-02,,1\n")
    with pytest.raises(DataError, match=r"no symbol in data row 2 \(1 such rows\)"):
        load_panel(Csv(path=path))


@pytest.mark.parametrize("value", ["n.a.", "12,5,6", "1_000", "True", "12.5 EUR", "1.2.3", "0x10"])
def test_values_that_are_no_numbers(tmp_path, value):
    path = write(
        tmp_path, f'date,AAA,BBB\n2020-01-01,1,2\n2020-01-02,1,"{value}"\n2020-01-03,x,1\n'
    )
    with pytest.raises(DataError, match=r"a\.csv: column '(AAA|BBB)' holds .* is no number"):
        load_panel(Csv(path=path))
    with pytest.raises(DataError) as caught:
        load_panel(Csv(path=path, symbols=["BBB"]))
    assert f"column 'BBB' holds {value!r} at 2020-01-02 (data row 2)" in str(caught.value)


def test_parquet_columns_that_are_no_numbers(tmp_path):
    stamps = pd.bdate_range("2020-01-01", periods=3)
    for name, values in (("texts", ["1", "2", "three"]), ("truths", [True, False, True])):
        file = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.table({"date": stamps, "A": values}), file)
        with pytest.raises(DataError, match=r"column 'A' holds ('three' at 2020-01-03|bool)"):
            load_panel(Parquet(path=str(file)))


# arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": ""}, "`path` must name a file or folder, but got path=''"),
        ({"path": []}, "`path` must name a file or folder"),
        ({"path": [""]}, "`path` must name a file or folder"),
        (
            {"separator": ";;"},
            r"`separator` must be one character or its name .*, but got separator=';;'",
        ),
        ({"separator": ";", "decimal": "semicolon"}, "`separator` and `decimal` must differ"),
        ({"timezone": "America/Gotham"}, "got timezone=America/Gotham"),
        ({"timezone": "/etc"}, "`timezone` must be an IANA name"),
        ({"missing": "drop"}, "`missing` must be error or ffill, but got missing=drop"),
        ({"missing_limit": 0}, "`missing_limit >= 1` must hold, but got missing_limit=0"),
        ({"freq": "5m"}, r"`freq` must be auto or a length .*mean 5min or 5mo.*got freq=5m"),
        ({"freq": "daily"}, r"did you mean 1d\?"),
        ({"freq": "0min"}, "`freq` must be auto or a length such as 1min"),
        ({"session_end": "25:00"}, "`session_end` must be a time such as 17:00, but got .*25:00"),
        ({"delisting": "x"}, "`delisting` must be liquidate_at_last or error, but got delisting=x"),
        ({"symbols": []}, "`symbols` must name at least one"),
        ({"symbols": ["A"], "symbols_file": "a.txt"}, "at most one of `symbols` and"),
    ],
)
def test_arguments_that_are_not_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        Csv(**{"path": "a.csv", **arguments})
