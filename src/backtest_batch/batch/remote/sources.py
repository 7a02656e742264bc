"""The user's modules, carried to workers that do not see the working directory.

They are the files that the code fingerprint covers: the strategy's module and the modules of the
working directory that it imports. What is installed (below site-packages) is expected on the
workers, too; the fingerprint that each worker computes again says when it is not the same.
"""

import functools
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backtest_batch.batch.fingerprint import user_modules
from backtest_batch.market.cache import own_cache_dir
from backtest_batch.ownership import make_own_folder, own_temporary_folder


@dataclass(frozen=True)
class Sources:
    """Source files by their path below the folder that they are imported from."""

    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """Sha256 of names and contents."""
        whole = hashlib.sha256()
        for name in sorted(self.files):
            whole.update(f"{name}\0{len(self.files[name])}\0".encode() + self.files[name])
        return whole.hexdigest()

    def stand_in(self, folder: Path) -> bool:
        """Return whether a folder holds exactly these files under these names."""
        try:
            return all((folder / name).read_bytes() == text for name, text in self.files.items())
        except OSError:
            return False

    def unpacked(self) -> Path:
        """Return a folder of the cache that holds these files; it is made when it is not there.

        Raises
        ------
        OSError
            When neither the cache nor the temporary directory takes them.
        """
        # They are imported from there: nobody else may be able to add to them.
        failed: OSError = PermissionError("no folder of one's own")
        for base in (own_cache_dir(), own_temporary_folder(create=True)):
            if base is None:
                continue
            folder = base / "sources-shipped" / self.digest
            try:
                if not folder.is_dir() or not self.stand_in(folder):
                    self._write(folder)
            except OSError as error:
                failed = error
                continue
            return folder
        raise failed

    def _write(self, folder: Path) -> None:
        make_own_folder(folder, above=2)
        for name, text in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Other workers of this machine may be writing the same.
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
            temporary.write_bytes(text)
            temporary.replace(target)


@functools.cache
def sources_of(target: str) -> Sources:
    """Return the user's files behind a strategy's class; none for a shipped strategy."""
    module = target.rpartition(".")[0]
    if module.split(".")[0] == "backtest_batch":
        return Sources({})
    files = {}
    for name, path in user_modules(module):
        if "site-packages" in path.parts:
            continue
        stem = PurePosixPath(*name.split("."))
        place = stem / "__init__.py" if path.name == "__init__.py" else stem.with_suffix(".py")
        files[str(place)] = path.read_bytes()
    return Sources(files)
