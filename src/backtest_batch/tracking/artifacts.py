"""Files of runs: put where MLflow serves them from, and read from there."""

import contextlib
import posixpath
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def local_folder(artifact_uri: str) -> Path | None:
    """Return the folder of a local artifact address, or None for any other address."""
    parsed = urlparse(artifact_uri)
    if parsed.scheme == "file" and parsed.netloc in ("", "localhost"):
        return Path(url2pathname(parsed.path))
    if not parsed.scheme:
        return Path(artifact_uri)
    return None


class PlacedFiles:
    """Files that were moved from one folder into another, and can be moved back.

    Moving takes no time on the same disk, where copying a batch's files would take as long as
    computing it.
    """

    def __init__(self) -> None:
        self._moved: list[tuple[Path, Path]] = []
        self._written: list[Path] = []
        self._made: list[Path] = []

    def move(self, source: Path, target: Path) -> None:
        """Move the content of ``source`` into ``target``; a file that is there is replaced.

        Links are removed: what they lead to is none of the files of a run.
        """
        self._make(target)
        for item in sorted(source.iterdir()):
            place = target / item.name
            if item.is_symlink():
                item.unlink()
            elif item.is_dir():
                self.move(item, place)
            else:
                _move_file(item, place)
                self._moved.append((item, place))

    def write(self, texts: Mapping[str, str], target: Path) -> None:
        """Write ``texts`` as files below ``target``."""
        self._make(target)
        for name, text in texts.items():
            self._written.append(target / name)
            (target / name).write_text(text, encoding="utf-8", errors="backslashreplace")

    def undo(self) -> None:
        """Move the files back, and remove what was made for them and is empty again."""
        for item, place in reversed(self._moved):
            if place.exists():
                item.parent.mkdir(parents=True, exist_ok=True)
                _move_file(place, item)
        for text in self._written:
            text.unlink(missing_ok=True)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # others have put something there meanwhile
                folder.rmdir()
        self._moved, self._written, self._made = [], [], []

    def _make(self, folder: Path) -> None:
        if not folder.exists():
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
            self._made.append(folder)


def _move_file(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError:  # another disk
        try:
            shutil.copyfile(source, target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        source.unlink()


def upload(
    client: "MlflowClient",
    run_id: str,
    *,
    folder: Path | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Copy files to the artifact store of a run through MLflow's client."""
    for place in _folders(folder, texts or {}):
        client.log_artifacts(run_id, str(place))


def send(
    artifact_uri: str, tracking_uri: str, folder: Path | None, texts: Mapping[str, str]
) -> None:
    """Copy files to an artifact address that is known, or will be that of a run.

    MLflow's client would ask for the whole run first, to learn the address.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(artifact_uri, tracking_uri=tracking_uri)
    for place in _folders(folder, texts):
        repository.log_artifacts(str(place))  # type: ignore[no-untyped-call]


def names_below(folder: Path) -> list[str]:
    """Return the names of all files below a folder, relative to it; none when it is not there."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def missing(artifact_uri: str, tracking_uri: str, names: Iterable[str]) -> list[str]:
    """Return which of the names are no file at an artifact address."""
    place = local_folder(artifact_uri)
    if place is not None:
        return [name for name in names if not (place / name).is_file()]
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(artifact_uri, tracking_uri=tracking_uri)
    names = list(names)
    held: set[str] = set()
    for folder in {posixpath.dirname(name) for name in names}:
        found = repository.list_artifacts(folder or None)
        held.update(str(info.path) for info in found if not info.is_dir)
    return [name for name in names if name not in held]


def _folders(folder: Path | None, texts: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folders whose files are to be copied: the given one, and one with the texts."""
    if folder is not None and any(folder.iterdir()):
        yield folder
    if texts:
        with tempfile.TemporaryDirectory() as temporary:
            PlacedFiles().write(texts, Path(temporary))
            yield Path(temporary)
