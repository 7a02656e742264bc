"""The files that a path names, their formats, and the hash of their content."""

import glob
import hashlib
import zipfile
from pathlib import Path
from urllib.parse import unquote

from backtest_batch.core.data.wording import printable_name
from backtest_batch.errors import DataError, DataNotFoundError

_CHUNK_BYTES = 1 << 20


def find_files(
    path: str | list[str], suffixes: tuple[str, ...], others: tuple[str, ...] = ()
) -> list[Path]:
    """Return the files of a path, each once, sorted within each folder or pattern.

    Parameters
    ----------
    path
        A file, a folder (its files with one of ``suffixes``, but not those of its subfolders unless
        these are partitions, such as ``symbol=AAPL``), a pattern such as ``prices/*.csv``, or a
        list of these. Relative to the working directory.
    suffixes
        Endings of file names that count in a folder. Hidden and temporary files never count.
    others
        Endings to try, in this order, in a folder that has no file with one of ``suffixes``.

    Raises
    ------
    DataNotFoundError
        When there is no such file or folder, or a folder or pattern has no file.
    DataError
        When a path is neither a file nor a folder: a device or a pipe, which may never end.
    """
    found: dict[Path, Path] = {}
    for item in [path] if isinstance(path, str) else path:
        for file in _expand(item, suffixes, others):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _expand(text: str, suffixes: tuple[str, ...], others: tuple[str, ...]) -> list[Path]:
    try:
        place = Path(text).expanduser()
        if place.is_dir():
            return _in_folder(place, printable_name(text), suffixes, others)
        if place.is_file():
            return [place]
        if place.exists():
            raise DataError(f"{printable_name(text)} is neither a file nor a folder")
    except DataError:
        raise
    except (ValueError, RuntimeError) as error:  # a NUL in it, the home of an unknown user
        raise DataNotFoundError(
            f"{printable_name(text)}: no such file or folder ({error})"
        ) from error
    except OSError as error:
        raise DataError(
            f"{printable_name(text)} cannot be read: {error.strerror or error}"
        ) from error
    if glob.has_magic(text):
        matches = [Path(match) for match in glob.glob(str(place), recursive=True)]  # noqa: PTH207 - absolute patterns
        files = sorted(match for match in matches if match.is_file())
        if not files:
            raise DataNotFoundError(f"{printable_name(text)}: the pattern matches no file")
        return files
    raise DataNotFoundError(
        f"{printable_name(text)}: no such file or folder "
        f"(looked for {printable_name(place.absolute())})"
    )


def _in_folder(
    place: Path, text: str, suffixes: tuple[str, ...], others: tuple[str, ...]
) -> list[Path]:
    # Leave out hidden files, and those that an open workbook leaves beside it (~$prices.xlsx).
    held = sorted(item for item in place.iterdir() if not item.name.startswith((".", "_", "~")))
    for endings in (suffixes, *((other,) for other in others)):
        files = [file for file in held if file.name.lower().endswith(endings) and file.is_file()]
        files = [file for file in files if not _is_remark(file)] if endings != suffixes else files
        if files:
            return files
    partitions = [folder for folder in held if "=" in folder.name and folder.is_dir()]
    files = [
        file
        for folder in partitions
        for file in _in_folder(folder, f"{text}/{printable_name(folder.name)}", suffixes, others)
    ]
    if files:
        return files
    named = " or *".join(suffixes)
    rest = sorted({file.suffix for file in held if file.suffix and file.is_file()})
    source = next((_SOURCES[each] for each in rest if each in _SOURCES), None)
    if source is not None:
        hint = f"; `data={source[0]}` reads its {source[1]} files"
    else:
        hint = f"; `data.path={text}/*{rest[0]}` reads its {rest[0]} files" if rest else ""
    raise DataNotFoundError(f"{text}: the folder has no file named *{named}{hint}")


_SOURCES = {
    ending: (name, ending)
    for name, endings in (
        ("csv", (".csv", ".txt", ".tsv")),
        ("parquet", (".parquet", ".pq", ".feather", ".arrow")),
        ("excel", (".xlsx", ".xls", ".xlsb", ".ods")),
    )
    for ending in endings
}


def _is_remark(file: Path) -> bool:
    return file.name.casefold().startswith(("readme", "license", "licence"))


def partition(file: Path, key: str) -> str | None:
    """Return the value of a key in the folders above a file: ``AAPL`` for symbol=AAPL.

    Raises
    ------
    DataError
        When the value is the one that stands for a missing value.
    """
    for folder in reversed(file.parts[:-1]):
        name, equals, value = folder.partition("=")
        if equals and name.casefold() == key.casefold():
            if value == "__HIVE_DEFAULT_PARTITION__":
                raise DataError(f"{printable_name(file)}: the folder {folder} stands for no {key}")
            return unquote(value)
    return None


def stem_of(file: Path, suffixes: tuple[str, ...]) -> str:
    """Return the name of a file without its ending: ``BRK.B`` for ``BRK.B.csv.gz``."""
    for suffix in sorted(suffixes, key=len, reverse=True):
        if file.name.lower().endswith(suffix):
            return file.name[: -len(suffix)]
    return file.stem


def hash_file(file: Path) -> str:
    """Return the sha256, in hex, of the bytes of a file.

    Raises
    ------
    DataError
        When the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise DataError(
            f"{printable_name(file)} cannot be read: {error.strerror or error}"
        ) from error
    return digest.hexdigest()


_STARTS = (
    (b"PAR1", "a Parquet file; `data=parquet` reads it"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls); `data=excel` reads it"),
    (b"\x1f\x8b", "compressed with gzip; it is unpacked when its name ends in .gz"),
    (b"BZh", "compressed with bzip2; it is unpacked when its name ends in .bz2"),
    (b"\xfd7zXZ", "compressed with xz; it is unpacked when its name ends in .xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstandard; it is unpacked when its name ends in .zst"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it"),
    (b"FEA1", "a Feather file of the first version; write it again with pandas or polars"),
    (b"\x80\x04\x95", "a Python pickle; write the table as Parquet (frame.to_parquet)"),
    (b"\x80\x05\x95", "a Python pickle; write the table as Parquet (frame.to_parquet)"),
    (b"ARROW1", "an Arrow (Feather) file; `data=parquet` reads it"),
    (b"SQLite format 3", "a SQLite database; save the table as CSV or Parquet"),
    (b"\x89HDF", "an HDF5 file; save the table as Parquet"),
)


def recognised_format(file: Path) -> str | None:
    """Return what a file is and how to use it; None if its first bytes show no known format."""
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
        return "an Excel workbook (.xlsx); `data=excel` reads it"
    if any(name == "content.xml" for name in names):
        return "an OpenDocument spreadsheet (.ods); `data=excel` reads it"
    return "a zip archive; it is unpacked when its name ends in .zip"
