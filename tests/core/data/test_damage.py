"""Files that are damaged, of another format, or under odd names."""

import gzip
import os
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import Panel, panel_from_frames
from backtest_batch.core.data.sources import Csv, Parquet
from backtest_batch.core.data.wording import is_plain
from backtest_batch.errors import DataError, DataNotFoundError

DAYS = pd.bdate_range("2021-03-01", periods=30)


@pytest.fixture
def close():
    walk = np.random.default_rng(4).normal(0, 0.01, (30, 3)).cumsum(axis=0)
    return pd.DataFrame(20 * np.exp(walk), DAYS, ["AAA", "BBB", "CCC"]).rename_axis("date")


def refusal(source):
    with pytest.raises(DataError) as caught:
        load_panel(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# formats


def test_a_file_of_another_format_is_named_as_what_it_is(tmp_path):
    for name, inner in (
        ("book.xlsx", "xl/workbook.xml"),
        ("sheet.ods", "content.xml"),
        ("prices.csv", "a.csv"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(inner, "date,A\n2020-01-01,1\n")
    files = {
        "old.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
        "packed.csv": gzip.compress(b"date,A\n"),
        "page.csv": b"<!DOCTYPE html><html>not found</html>",
        "answer.csv": b'{"error": "limit"}',
        "table.csv": b"ARROW1" + bytes(100),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    said = {
        "book.xlsx": "book.xlsx is an Excel workbook (.xlsx); `data=excel` reads it",
        "sheet.ods": "sheet.ods is an OpenDocument spreadsheet (.ods); `data=excel` reads it",
        "prices.csv": "prices.csv is a zip archive; it is unpacked when its name ends in .zip",
        "old.xls": "old.xls is an Excel workbook (.xls); `data=excel` reads it",
        "packed.csv": "packed.csv is compressed with gzip; it is unpacked when its name ends in",
        "page.csv": "page.csv is a web page (HTML)",
        "answer.csv": "answer.csv is JSON",
        "table.csv": "table.csv is an Arrow (Feather) file; `data=parquet` reads it",
    }
    for name, text in said.items():
        assert text in refusal(Csv(path=str(tmp_path / name)))
    assert "it is an Excel workbook" in refusal(Parquet(path=str(tmp_path / "book.xlsx")))


def test_a_first_line_without_names(tmp_path):
    (tmp_path / "klines.csv").write_text("1735689600000000,0.316,0.316,27.0\n" * 3)
    assert "klines.csv: the first line names no columns, it holds values (17356896000" in refusal(
        Csv(path=str(tmp_path / "klines.csv"))
    )
    # Tickers may be numbers: the first column has no name.
    (tmp_path / "hongkong.csv").write_text(",5,700\n2020-01-02,1,2\n2020-01-03,1,2\n")
    assert load_panel(Csv(path=str(tmp_path / "hongkong.csv"))).symbols == ("5", "700")


@pytest.mark.parametrize("cell", ["1.5", "12,5 EUR", "1.23,5"])
def test_values_are_shown_as_they_stand_in_the_file(tmp_path, cell):
    (tmp_path / "dax.csv").write_text(f"date;DAX\n2020-01-02;1,5\n2020-01-03;{cell}\n")
    source = Csv(path=str(tmp_path / "dax.csv"), separator="semicolon", decimal="comma")
    text = f"column 'DAX' holds {cell!r} at 2020-01-03 (data row 2), which is no number"
    message = refusal(source)
    assert text in message
    assert ("',' is read before the fraction" in message) == (cell != "12,5 EUR")


@pytest.mark.parametrize("separator", ["\t", "\\t", "tab"])
def test_tabs(tmp_path, separator):
    (tmp_path / "t.csv").write_text("date\tA\n2020-01-02\t1\n2020-01-03\t2\n")
    assert load_panel(Csv(path=str(tmp_path / "t.csv"), separator=separator)).n_bars == 2


# timestamps


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 10**3), ("us", 10**6)])
def test_whole_numbers_since_1970(tmp_path, unit, per_second):
    numbers = [second * per_second for second in (1577836800, 1577923200, 1578009600)]
    pd.DataFrame({"time": numbers, "A": [1.0, 2.0, 3.0]}).to_csv(tmp_path / "a.csv", index=False)
    pd.read_csv(tmp_path / "a.csv").to_parquet(tmp_path / "a.parquet")
    for kind, path in ((Csv, tmp_path / "a.csv"), (Parquet, tmp_path / "a.parquet")):
        panel = load_panel(kind(path=str(path), timestamp_format=unit))
        assert str(panel.index[0]) == "2020-01-01 00:00:00+00:00"
        assert panel.n_bars == 3
        assert load_panel(kind(path=str(path))) == panel
    (tmp_path / "b.csv").write_text("begin_time,end_date,close\n1577836800,1,1\n")
    assert "`data.timestamp_column=begin_time` names another" in refusal(
        Csv(path=str(tmp_path / "b.csv"))
    )
    message = refusal(Csv(path=str(tmp_path / "a.csv"), timestamp_format="%Q"))
    assert "`data.timestamp_format=%Q` is no format" in message


def test_whole_numbers_that_are_none(tmp_path):
    (tmp_path / "a.csv").write_text("time,A\n1577836800,1\nlater,2\n")
    message = refusal(Csv(path=str(tmp_path / "a.csv"), timestamp_format="s"))
    assert "unparseable timestamp 'later' in data row 2 (1 such value)" in message
    (tmp_path / "a.csv").write_text("time,A\n1577836800000,1\n1577923200000,2\n")
    message = refusal(Csv(path=str(tmp_path / "a.csv"), timestamp_format="s"))
    assert "between 1677 and 2262, read as s; `data.timestamp_format=ms` reads" in message


# folders, partitions and names


def test_partitions_by_symbol(tmp_path, close):
    long = close.stack().rename_axis(["date", "symbol"]).rename("close").reset_index()
    long.to_parquet(tmp_path / "prices", partition_cols=["symbol"])
    for path in (tmp_path / "prices", tmp_path / "prices" / "**" / "*.parquet"):
        assert load_panel(Parquet(path=str(path))) == panel_from_frames(close)
    selected = Parquet(path=str(tmp_path / "prices"), symbols=["BBB"])
    assert load_panel(selected) == panel_from_frames(close[["BBB"]])
    long.to_parquet(tmp_path / "by date", partition_cols=["date"])
    assert "has no column of timestamps" in refusal(Parquet(path=str(tmp_path / "by date")))


def test_a_folder_of_files_with_another_ending(tmp_path):
    folder = tmp_path / "stooq"
    folder.mkdir()
    (folder / "ko.us.txt").write_text(
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
        "KO.US,D,20200102,000000,1,3,1,2,9,0\nKO.US,D,20200103,000000,2,3,1,2,9,0\n"
    )
    (folder / "README.txt").write_text("Prices of Coca-Cola.\n")
    (folder / "~lock.txt").write_text("")
    for path in (folder, folder / "k*.txt"):
        panel = load_panel(Csv(path=str(path)))
        assert panel.symbols == ("KO.US",)
        assert list(panel.fields) == ["open", "high", "low", "close", "volume"]
    (folder / "ko.us.txt").rename(folder / "ko.dat")
    (folder / "README.txt").unlink()
    with pytest.raises(DataNotFoundError, match=r"`data\.path=.*stooq/\*\.dat` reads its \.dat"):
        load_panel(Csv(path=str(folder)))


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no devices")  # noqa: PTH110
def test_what_never_ends_is_not_read(tmp_path):
    assert "is neither a file nor a folder" in refusal(Csv(path="/dev/zero"))
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is neither a file nor a folder" in refusal(Csv(path=str(tmp_path / "pipe.csv")))
    assert "no such file or folder" in refusal(Csv(path=str(tmp_path / "a\0b.csv")))


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@pytest.mark.parametrize("odd", [b"K\xf6ln", b"two\nlines", b"\x1b[31mred", "Köln 株".encode()])
def test_names_of_files_that_are_odd(tmp_path, close, odd):
    folder = os.fsencode(tmp_path / "prices")
    os.mkdir(folder)  # noqa: PTH102
    stem = os.fsdecode(os.path.join(folder, odd))  # noqa: PTH118
    close[["AAA"]].set_axis(["close"], axis=1).to_csv(tmp_path / "plain.csv")
    content = (tmp_path / "plain.csv").read_bytes()
    close[["AAA"]].set_axis(["close"], axis=1).to_parquet(tmp_path / "plain.parquet")
    files = {
        ".csv": content,
        ".csv.gz": gzip.compress(content),
        ".parquet": (tmp_path / "plain.parquet").read_bytes(),
    }
    for ending, held in files.items():
        with open(stem + ending, "wb") as out:  # noqa: PTH123
            out.write(held)
        kind = Parquet if ending == ".parquet" else Csv
        (symbol,) = load_panel(kind(path=stem + ending)).symbols
        assert symbol.isprintable()
        symbol.encode("utf-8")
        with open(stem + ending, "wb") as out:  # noqa: PTH123
            out.write(b"\xff\xfe" + held)
        with pytest.raises(DataError) as caught:
            load_panel(kind(path=stem + ending))
        assert str(caught.value).isprintable()
        str(caught.value).encode("utf-8")
        os.unlink(stem + ending)  # noqa: PTH108


# damage


def test_damaged_notes_of_pandas_and_names_that_are_no_utf8(tmp_path):
    table = pa.table({"timestamp": list(DAYS), "AAA": [10.0 + row for row in range(30)]})
    file = tmp_path / "notes.parquet"
    for notes in (b'{"index_columns": [', b"\xff\xfe"):
        parquet.write_table(table.replace_schema_metadata({b"pandas": notes}), file)
        assert "notes.parquet cannot be read as Parquet: " in refusal(Parquet(path=str(file)))
    for notes in (b"[1, 2]", b"null", b'{"index_columns": 3}'):
        parquet.write_table(table.replace_schema_metadata({b"pandas": notes}), file)
        assert load_panel(Parquet(path=str(file))).symbols == ("AAA",)
    plain = {"store_schema": False, "compression": "none", "use_dictionary": False}
    parquet.write_table(table, tmp_path / "name.parquet", **plain)
    content = (tmp_path / "name.parquet").read_bytes()
    (tmp_path / "name.parquet").write_bytes(content.replace(b"AAA", b"A\xffA"))
    message = refusal(Parquet(path=str(tmp_path / "name.parquet")))
    assert "name.parquet cannot be read as Parquet: a name or text in it is no UTF-8" in message
    # In a column of symbols.
    long = pa.table({"timestamp": list(DAYS[:2]), "symbol": ["AAA"] * 2, "close": [1.0, 2.0]})
    parquet.write_table(long, tmp_path / "long.parquet", **plain)
    content = (tmp_path / "long.parquet").read_bytes()
    (tmp_path / "long.parquet").write_bytes(content.replace(b"AAA", b"A\xffA"))
    assert "long.parquet cannot be read" in refusal(Parquet(path=str(tmp_path / "long.parquet")))


def test_symbols_with_control_characters(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"date,A\x1b[31m,B\n2020-01-02,1,2\n2020-01-03,1,2\n")
    message = refusal(Csv(path=str(tmp_path / "a.csv")))
    assert r"a.csv names a symbol with a control character, 'A\x1b[31m'" in message


def test_a_line_without_an_end(tmp_path):
    with gzip.open(tmp_path / "bomb.csv.gz", "wb") as out:
        for _ in range(64):
            out.write(b"a" * (1 << 20))
    message = refusal(Csv(path=str(tmp_path / "bomb.csv.gz")))
    assert "bomb.csv.gz cannot be read as CSV: a line is longer than 16 MiB" in message


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Return the bytes of small files of every layout, with the source that reads them."""
    folder = tmp_path_factory.mktemp("originals")
    walk = np.random.default_rng(4).normal(0, 0.01, (12, 2)).cumsum(axis=0)
    close = pd.DataFrame(20 * np.exp(walk), DAYS[:12], ["AA", "BB"]).rename_axis("date")
    levels = pd.concat({"Close": close, "Adj Close": close, "Volume": close.round()}, axis=1)
    long = close.stack().rename_axis(["date", "symbol"]).rename("close").reset_index()
    kept = []
    for number, table in enumerate((close, levels, long.set_index("date"))):
        file = folder / f"{number}.csv"
        table.to_csv(file)
        kept += [(Csv, file.read_bytes())]
        for compression in ("none", "snappy"):
            table.to_parquet(folder / "0.parquet", compression=compression)
            kept += [(Parquet, (folder / "0.parquet").read_bytes())]
    return kept


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "repeat", "end"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=4)
        | st.sampled_from([b"\n", b",", b'"', b"\0", b"\xff" * 4, b"-", b"1e400", b"nan", b"\r"]),
    ),
    min_size=1,
    max_size=4,
)


def mutated(content, mutations):
    for kind, place, piece in mutations:
        # Parquet describes itself at its end: half of the changes go there.
        at = int(place * len(content))
        if kind == "set":
            content = content[:at] + piece + content[at + len(piece) :]
        elif kind == "cut":
            content = content[:at] + content[at + len(piece) * 7 :]
        elif kind == "insert":
            content = content[:at] + piece + content[at:]
        elif kind == "repeat":
            content = content[:at] + content[at : at + 40] + content[at:]
        else:
            at = len(content) - int(place * min(len(content), 900))
            content = content[:at] + piece + content[at + len(piece) :]
    return content


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(which=st.integers(0, 8), mutations=MUTATIONS)
def test_mutated_bytes_end_in_a_panel_or_in_one_readable_message(
    tmp_path, originals, which, mutations
):
    kind, content = originals[which]
    file = tmp_path / "mutated"
    file.write_bytes(mutated(content, mutations))
    try:
        panel = load_panel(kind(path=str(file)))
    except DataError as error:
        message = str(error)
        assert is_plain(message)
        assert str(file) in message, message
        assert len(message) < 2_000
    else:
        assert isinstance(panel, Panel)
        assert np.isfinite(panel.fields["close"]).any()


def test_a_file_of_another_separator_is_told(tmp_path):
    (tmp_path / "a.csv").write_text("date;A\n2020-01-02;1\n2020-01-03;2\n")
    source = Csv(path=str(tmp_path / "a.csv"), separator="tab")
    assert "the first line is one column, 'date;A': `data.separator=semicolon`" in refusal(source)
    assert load_panel(Csv(path=source.path, separator="semicolon")).n_bars == 2
