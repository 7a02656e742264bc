"""Parquet and Feather as polars, pandas and Arrow write them; folders of partitions."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Csv, Parquet
from backtest_batch.errors import DataError

DAYS = pd.DatetimeIndex(["2020-01-02", "2020-01-03", "2020-01-06"], name="Date")


@pytest.fixture
def fields():
    labels = pd.MultiIndex.from_product(
        [["Close", "Volume"], ["AA", "BB"]], names=["Price", "Ticker"]
    )
    return pd.DataFrame(np.arange(12.0).reshape(3, 4) + 1, DAYS, labels)


@pytest.fixture
def wide(tmp_path, fields):
    fields["Close"].to_csv(tmp_path / "wide.csv")
    return load_panel(Csv(path=str(tmp_path / "wide.csv")))


def write(table, file):
    (feather.write_feather if file.suffix != ".parquet" else parquet.write_table)(table, str(file))
    return Parquet(path=str(file))


KINDS = {
    "dates": lambda t: t.set_column(0, "Date", t["Date"].cast(pa.date32())),
    "microseconds": lambda t: t.set_column(0, "Date", t["Date"].cast(pa.timestamp("us"))),
    "text": lambda t: t.set_column(0, "Date", pa.array([str(day.date()) for day in DAYS])),
    "large text": lambda t: t.set_column(
        0, "Date", pa.array([str(day.date()) for day in DAYS], pa.large_string())
    ),
    "views of text": lambda t: t.set_column(
        0, "Date", pa.array([str(day.date()) for day in DAYS], pa.string_view())
    ),
    "dictionaries": lambda t: t.set_column(
        0, "Date", pa.array([str(day.date()) for day in DAYS]).dictionary_encode()
    ),
    "decimals": lambda t: t.set_column(1, "AA", t["AA"].cast(pa.decimal128(9, 3))),
    "float32": lambda t: t.set_column(1, "AA", t["AA"].cast(pa.float32())),
    "int64": lambda t: t.set_column(1, "AA", t["AA"].cast(pa.int64())),
    "numbers as text": lambda t: t.set_column(1, "AA", t["AA"].cast(pa.string())),
}


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".arrow"])
@pytest.mark.parametrize("name", KINDS)
def test_types_of_arrow(tmp_path, fields, wide, name, ending):
    if (name, ending) == ("views of text", ".parquet"):
        pytest.skip("Parquet has no views")
    table = pa.Table.from_pandas(fields["Close"].reset_index(), preserve_index=False)
    assert load_panel(write(KINDS[name](table), tmp_path / f"a{ending}")) == wide


def test_symbols_that_are_dictionaries_of_views_as_polars_writes_them(tmp_path, wide):
    days = [day for day in DAYS for _ in range(2)]
    words = pa.DictionaryArray.from_arrays(
        pa.array([0, 1] * 3, pa.uint32()), pa.array(["AA", "BB"], pa.string_view())
    )
    closes = wide.close.to_numpy().ravel()
    table = pa.table({"date": days, "symbol": words, "close": closes})
    sink = pa.OSFile(str(tmp_path / "long.arrow"), "wb")
    with sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert load_panel(Parquet(path=str(tmp_path / "long.arrow"))) == wide


@pytest.mark.parametrize("ending", [".parquet", ".feather"])
def test_what_pandas_writes(tmp_path, fields, wide, ending):
    close = fields["Close"]
    rows = close.stack().rename("close").rename_axis(["date", "symbol"])
    frames = {
        "index": close,
        "range": close.reset_index(),
        "rows": rows.to_frame(),
        "turned rows": rows.swaplevel().to_frame(),
        "fields": fields,
        "turned fields": fields.swaplevel(axis=1),
    }
    for name, frame in frames.items():
        source = write(pa.Table.from_pandas(frame), tmp_path / f"{name}{ending}")
        pd.testing.assert_frame_equal(load_panel(source).close, wide.close)


def test_lists_are_no_numbers(tmp_path):
    table = pa.table({"date": DAYS, "A": [[1.0], [2.0], [3.0]]})
    for ending in (".parquet", ".arrow"):
        with pytest.raises(DataError, match=r"column 'A' holds list<.*>, not numbers"):
            load_panel(write(table, tmp_path / f"a{ending}"))


def test_a_feather_file_that_was_cut_off(tmp_path, fields):
    file = tmp_path / "a.arrow"
    write(pa.Table.from_pandas(fields["Close"]), file)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.arrow cannot be read as Parquet"):
        load_panel(Parquet(path=str(file)))
    file.rename(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"is an Arrow .* file; `data=parquet` reads it"):
        load_panel(Csv(path=str(tmp_path / "a.csv")))


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [(Csv, "a.parquet", "parquet"), (Parquet, "a.csv", "csv"), (Parquet, "a.xlsx", "excel")],
)
def test_a_folder_of_another_kind_of_files(tmp_path, kind, name, hint):
    (tmp_path / name).write_text("something")
    with pytest.raises(DataError, match=f"`data={hint}` reads its .{name[2:]} files"):
        load_panel(kind(path=str(tmp_path)))


@pytest.mark.parametrize("place", ["symbol={}/year={}", "year={1}/ticker={0}", "year={1}/{0}"])
def test_folders_of_partitions(tmp_path, place):
    for symbol in ("A", "B"):
        for year in (2020, 2021):
            folder = tmp_path / "px" / place.format(symbol, year)
            file = folder / "part-0.parquet"
            if "=" not in place.rpartition("/")[2]:
                file = folder.with_suffix(".parquet")
            file.parent.mkdir(parents=True, exist_ok=True)
            days = pd.bdate_range(f"{year}-01-01", periods=4)
            pd.DataFrame({"date": days, "close": [1.0, 2, 3, 4]}).to_parquet(file)
    (tmp_path / "px" / "README.md").write_text("prices")
    (tmp_path / "px" / "_SUCCESS").write_text("")
    panel = load_panel(Parquet(path=str(tmp_path / "px")))
    assert panel.symbols == ("A", "B")
    assert panel.n_bars == 8


@pytest.mark.oracle
def test_what_polars_writes(tmp_path, caplog):
    pl = pytest.importorskip("polars")
    stamps = pl.Series([day.to_pydatetime() for day in DAYS]).dt.cast_time_unit("us")
    frame = pl.DataFrame(
        {
            "date": stamps.dt.replace_time_zone("America/New_York"),
            "symbol": pl.Series(["A"] * 3).cast(pl.Categorical),
            "close": pl.Series(["1.5", "1.75", "2.0"]).cast(pl.Decimal(10, 3)),
            "volume": pl.Series([1, 2, 3], dtype=pl.UInt32),
        }
    )
    frames = [
        frame,
        frame.with_columns(pl.col("symbol").cast(pl.String).cast(pl.Enum(["A"]))),
        frame.with_columns(pl.col("symbol").cast(pl.String), pl.col("close").cast(pl.Float32)),
    ]
    panels = []
    for number, each in enumerate(frames):
        each.write_parquet(tmp_path / f"{number}.parquet")
        each.write_ipc(tmp_path / f"{number}.arrow", compression="zstd")
        panels += [
            load_panel(Parquet(path=str(tmp_path / f"{number}.{ending}")))
            for ending in ("parquet", "arrow")
        ]
    assert all(panel == panels[0] for panel in panels)
    assert panels[0].index[0] == pd.Timestamp(dt.datetime(2020, 1, 2), tz="America/New_York")
    assert panels[0].close["A"].tolist() == [1.5, 1.75, 2.0]


def test_symbols_that_are_categories_in_several_row_groups(tmp_path):
    # Categories that stand in no row, and two that differ in a space, as only this column has them.
    groups = [["A", "B", "A ", "B"], ["B", "A", "C", "A"]]
    kinds = pd.CategoricalDtype(["never", "B", "A ", "A", "C"])
    file = tmp_path / "long.parquet"
    with parquet.ParquetWriter(
        file,
        pa.schema(
            [
                ("date", pa.timestamp("us")),
                ("symbol", pa.dictionary(pa.int8(), pa.string())),
                ("close", pa.float64()),
            ]
        ),
    ) as writer:
        for number, names in enumerate(groups):
            first = pd.Timestamp("2020-01-01") + pd.Timedelta(days=4 * number)
            table = pa.table(
                {
                    "date": pa.array(pd.date_range(first, periods=4), pa.timestamp("us")),
                    "symbol": pa.array(pd.Categorical(names, dtype=kinds)),
                    "close": np.arange(1.0, 5.0) + 4 * number,
                },
            )
            writer.write_table(table.cast(writer.schema))
    panel = load_panel(Parquet(path=str(file), missing="ffill"))
    assert panel.symbols == ("A", "B", "C")
    assert panel.close["A"].dropna().tolist() == [1, 1, 3, 3, 3, 6, 6, 8]
    assert panel.close["C"].dropna().tolist() == [7]
    names = pa.array(["A", None, "A"]).dictionary_encode()
    gap = pa.table({"date": DAYS, "symbol": names, "close": [1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match=r"no symbol in data row 2 \(1 such rows\)"):
        load_panel(write(gap, tmp_path / "gap.parquet"))
