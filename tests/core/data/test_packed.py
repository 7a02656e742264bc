"""CSV files that are packed."""

import bz2
import gzip
import lzma
import zipfile

import pyarrow as pa
import pytest

from backtest_batch.core.data import packed
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Csv
from backtest_batch.errors import DataError

TEXT = b"date,close\n2020-01-02,1.5\n2020-01-03,2.5\n"


def pack(file, content):
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inside.csv", content)
            archive.writestr("__MACOSX/inside.csv", b"rubbish")
    elif file.suffix == ".zst":
        with pa.output_stream(str(file), compression="zstd") as stream:
            stream.write(content)
    else:
        tool = {".gz": gzip, ".bz2": bz2, ".xz": lzma}[file.suffix]
        file.write_bytes(tool.compress(content))


@pytest.mark.parametrize("ending", packed.ENDINGS)
def test_packed_files_are_the_panel_of_the_plain_one(tmp_path, ending):
    (tmp_path / "KO.csv").write_bytes(TEXT)
    plain = load_panel(Csv(path=str(tmp_path / "KO.csv")))
    for name in (f"KO.csv{ending}", f"KO.txt{ending}"):
        pack(tmp_path / name, TEXT)
        assert load_panel(Csv(path=str(tmp_path / name))) == plain
    (tmp_path / "KO.csv").unlink()
    assert load_panel(Csv(path=str(tmp_path))) == plain


@pytest.mark.parametrize("ending", packed.ENDINGS)
def test_a_packed_file_that_was_cut_off_is_refused(tmp_path, ending):
    file = tmp_path / f"KO.csv{ending}"
    pack(file, TEXT)
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"KO\.csv.* cannot be read"):
        load_panel(Csv(path=str(file)))


def test_an_archive_holds_one_table(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("KO.csv", "PEP.csv"):
            archive.writestr(name, TEXT)
    with pytest.raises(DataError, match=r"two\.zip is a zip archive of 2 files \(KO\.csv, PEP"):
        load_panel(Csv(path=str(tmp_path / "two.zip")))


@pytest.mark.parametrize("ending", packed.ENDINGS)
def test_what_unpacks_to_more_than_a_table_would_is_refused(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(packed, "FEWEST_BYTES", 1 << 20)
    file = tmp_path / f"bomb.csv{ending}"
    pack(file, TEXT + b"2020-01-06,2.5\n" * 1_000_000)
    with pytest.raises(DataError, match=r"bomb\.csv.* bytes unpack to over .* table of prices"):
        load_panel(Csv(path=str(file)))
