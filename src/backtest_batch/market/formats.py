"""What a file is that was taken for a table, told by its first bytes."""

import zipfile
from pathlib import Path

_STARTS = (
    (b"PAR1", "a Parquet file; `data=parquet` reads it"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls); save it as CSV (UTF-8)"),
    (b"\x1f\x8b", "compressed with gzip; CSV is read so when the name ends in .csv.gz"),
    (b"BZh", "compressed with bzip2; unpack it"),
    (b"\xfd7zXZ", "compressed with xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstandard; unpack it"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it"),
    (b"ARROW1", "an Arrow (Feather) file; save it as Parquet"),
    (b"SQLite format 3", "a SQLite database; save the table as CSV or Parquet"),
    (b"\x89HDF", "an HDF5 file; save the table as Parquet"),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"),
)
_ENCODINGS = "save it as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8 where it came from Windows)"


def recognised_format(file: Path) -> str | None:
    """Return what a file is and how to use it, None where its first bytes name no other format."""
    with file.open("rb") as stream:
        start = stream.read(256)
    if start.startswith(b"PK\x03\x04"):
        return _zip(file)
    for magic, what in _STARTS:
        if start.startswith(magic):
            return what
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML), as a download that failed leaves it"
    if text.startswith((b"{", b"[")):
        return "JSON; save the table as CSV or Parquet"
    return None


def _zip(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        names = []
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook (.xlsx); save it as CSV (UTF-8)"
    return "a zip archive; unpack it"


def not_utf8(error: UnicodeDecodeError) -> str:
    """Return what is wrong with text that is no UTF-8."""
    byte = error.object[error.start]
    return f"it is not UTF-8 (byte 0x{byte:02x} at position {error.start:,}); {_ENCODINGS}"
