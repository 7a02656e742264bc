"""Packed files: opened as bytes, with a bound on how much they may unpack to."""

import bz2
import io
import lzma
import zipfile
from pathlib import Path
from typing import IO, Any

from backtest_batch.core.data.wording import printable_name
from backtest_batch.errors import DataError

ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Endings of packed files."""

MOST_BYTES = 4 << 30
"""Largest number of bytes that are unpacked."""

MOST_TIMES = 250
"""Largest number of bytes that are unpacked per packed byte, above ``FEWEST_BYTES``."""

FEWEST_BYTES = 1 << 28
"""Unpacked size up to which any ratio is allowed: a table of a constant price packs very well."""

ERRORS: tuple[type[Exception], ...] = (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile)
"""Errors that damaged packed files raise; zlib.error is another."""


def ending(path: Path) -> str | None:
    """Return the ending of a packed file, None for a plain one."""
    name = path.name.lower()
    return next((each for each in ENDINGS if name.endswith(each)), None)


def opened(path: Path) -> IO[bytes]:
    """Open a file for reading, unpacked.

    Raises
    ------
    DataError
        When an archive does not hold exactly one file, is encrypted, or is an Excel workbook.
    """
    kind = ending(path)
    if kind is None:
        return path.open("rb")
    source: Any
    if kind == ".zip":
        source = _member(path)
    elif kind == ".bz2":
        source = bz2.BZ2File(path)
    elif kind == ".xz":
        source = lzma.LZMAFile(path)  # noqa: SIM115 - closed by the reader
    else:
        source = _by_arrow(path, "gzip" if kind == ".gz" else "zstd")
    return io.BufferedReader(_Bounded(source, path), buffer_size=1 << 20)


def _by_arrow(path: Path, codec: str) -> Any:
    import pyarrow as pa

    # Arrow cannot open file names that are not UTF-8, but it can read an open file.
    return pa.input_stream(path.open("rb"), compression=codec)


def _member(path: Path) -> Any:
    archive = zipfile.ZipFile(path)
    names = [
        item.filename
        for item in archive.infolist()
        if not item.is_dir() and not item.filename.startswith(("__MACOSX/", "."))
    ]
    if any(name.startswith("xl/") for name in names):
        raise DataError(f"{printable_name(path)} is an Excel workbook; `data=excel` reads it")
    if len(names) != 1:
        listed = ", ".join(map(printable_name, names[:3])) + (", ..." if len(names) > 3 else "")
        raise DataError(
            f"{printable_name(path)} is a zip archive of {len(names):,} files"
            + (f" ({listed})" if names else "")
            + ": one is read from an archive; unpack it and name the folder"
        )
    if archive.getinfo(names[0]).flag_bits & 1:
        raise DataError(f"{printable_name(path)} is encrypted; unpack it")
    member = archive.open(names[0])
    archive.close()  # the file stays open until the member is closed
    return member


class _Bounded(io.RawIOBase):
    """The unpacked bytes of a file, up to a bound."""

    def __init__(self, source: Any, path: Path) -> None:
        self._source = source
        self._path = path
        self._packed = max(1, path.stat().st_size)
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._source.read(len(buffer))
        self._count += len(piece)
        if self._count > min(MOST_BYTES, max(FEWEST_BYTES, MOST_TIMES * self._packed)):
            raise DataError(
                f"{printable_name(self._path)}: {self._packed:,} bytes unpack to over "
                f"{self._count:,}, more than a table of prices would; unpack it, or save it as "
                "Parquet"
            )
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
