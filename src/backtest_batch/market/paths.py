"""The files that a path names, and their content's hash."""

import glob
import hashlib
from pathlib import Path

from backtest_batch.errors import DataError, DataNotFoundError

_CHUNK_BYTES = 1 << 20


def find_files(path: str | list[str], suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of a path, sorted within each folder or pattern, each once.

    Parameters
    ----------
    path
        A file, a folder (its files with one of ``suffixes``, not those of its subfolders), a
        pattern such as ``prices/*.csv``, or a list of these. Relative to the working directory.
    suffixes
        Endings of file names that count in a folder. Hidden files never do.

    Raises
    ------
    DataNotFoundError
        When there is no such file or folder, or a folder or pattern has no file.
    """
    found: dict[Path, Path] = {}
    for item in [path] if isinstance(path, str) else path:
        for file in _expand(item, suffixes):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _expand(text: str, suffixes: tuple[str, ...]) -> list[Path]:
    place = Path(text).expanduser()
    if place.is_dir():
        files = [
            file
            for file in place.iterdir()
            if file.name.lower().endswith(suffixes)
            and not file.name.startswith((".", "_"))
            and file.is_file()
        ]
        if not files:
            endings = " or *".join(suffixes)
            raise DataNotFoundError(f"{text}: the folder has no file named *{endings}")
        return sorted(files)
    if place.exists():
        return [place]
    if glob.has_magic(text):
        matches = [Path(match) for match in glob.glob(str(place), recursive=True)]  # noqa: PTH207 - absolute patterns
        files = sorted(match for match in matches if match.is_file())
        if not files:
            raise DataNotFoundError(f"{text}: the pattern matches no file")
        return files
    raise DataNotFoundError(f"{text}: no such file or folder (looked for {place.absolute()})")


def stem_of(file: Path, suffixes: tuple[str, ...]) -> str:
    """Return the name of a file without its ending: ``BRK.B`` of ``BRK.B.csv.gz``."""
    for suffix in sorted(suffixes, key=len, reverse=True):
        if file.name.lower().endswith(suffix):
            return file.name[: -len(suffix)]
    return file.stem


def hash_file(file: Path) -> str:
    """Return the sha256, in hex, of the bytes of a file.

    Raises
    ------
    DataError
        When it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
