"""No prices: the strategy reads its own data, which may be named here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backtest_batch.core.data.paths import find_files, hash_file

UNNAMED = "data=none without data.files or data.version"
"""Why it is not known what a run has read."""

_ANY_ENDING = ("",)


@dataclass(frozen=True, kw_only=True)
class NoPrices:
    """No market data: a strategy that makes its own account reads its own, and gets no panel.

    What is named here is part of the run key. If nothing is, it is not known whether the data are
    still the same, and no run of before counts as done.

    Parameters
    ----------
    files
        Files that the strategy reads: a path, a folder, a pattern such as ``ticks/*.parquet``, or a
        list of these. Their names and contents count, not where they lie.
    version
        Any text that names the data, such as the date of a download.

    Raises
    ------
    ValueError
        When one of them is given and empty.
    """

    files: str | list[str] | None = None
    version: str | int | float | None = None

    def __post_init__(self) -> None:
        if self.files is not None and not self.paths:
            raise ValueError(f"`files` must name a file, but got files={self.files!r}.")
        if self.version is not None and not str(self.version).strip():
            raise ValueError(f"`version` must not be empty, but got version={self.version!r}.")

    @property
    def paths(self) -> list[str]:
        """What ``files`` lists."""
        given = self.files or []
        return [name for name in ([given] if isinstance(given, str) else given) if name.strip()]

    @property
    def is_named(self) -> bool:
        """Whether it is known which data the strategy reads."""
        return self.files is not None or self.version is not None

    def fingerprint(self) -> str:
        """Return the sha256 over names and contents of the files, and the version.

        Raises
        ------
        DataError
            When a file does not exist or cannot be read.
        """
        found = find_files(self.paths, _ANY_ENDING)
        files = sorted([file.name, hash_file(file)] for file in found)
        version = None if self.version is None else str(self.version)
        text = json.dumps({"format": "backtest_batch.no_prices.1", "files": files, "v": version})
        return hashlib.sha256(text.encode()).hexdigest()


def has_no_prices(node: Mapping[str, Any]) -> bool:
    """Return whether the node ``data`` of a configuration is ``data=none``."""
    return str(node.get("_target_")).rpartition(".")[2] == NoPrices.__name__


def names_its_data(node: Mapping[str, Any]) -> bool:
    """Return whether such a node says which data the strategy reads."""
    return node.get("files") is not None or node.get("version") is not None
