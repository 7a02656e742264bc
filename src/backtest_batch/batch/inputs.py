"""Files that strategies read besides the panel, as the tag ``strategy_inputs`` names them.

Which ones a strategy reads is known only when it has run, so that they cannot be part of the run
key. They are recorded with their content instead, and who would take a recorded run for done looks
whether it is still the same.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

INPUTS = "strategy_inputs"
"""Tag with the files that a run has read, as JSON: sha256 (cut) by path; null for one that was not
there. Paths inside the working directory are relative to it; those of folders, whose names were
read, end in a slash."""
UNKNOWN = "inputs_unknown"
"""Tag of a run that has read what cannot be recorded that way, with the reason."""

LARGEST_BYTES = 256 * 1024 * 1024
"""A larger file is not hashed: it would take longer than most runs."""
LONGEST_TEXT = 5_000
"""Characters of the tag; stores cut longer ones without a word."""
_DIGITS = 16
_PASSING = ("mlruns", "__pycache__")
"""Names in a folder that come and go with batches."""


class UnreadableError(Exception):
    """The content of an input cannot be told; the message says why."""


def content_digest(path: str) -> str | None:
    """Return what tells the content of a file or the names in a folder; None where it is not.

    Raises
    ------
    UnreadableError
        When that cannot be told.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - paths here are text, as they were opened
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path} cannot be read") from error
    try:
        if stat.S_ISDIR(found.st_mode):
            names = sorted(item for item in os.listdir(path) if not _is_passing(item))  # noqa: PTH208
            return hashlib.sha256(os.fsencode("\0".join(names))).hexdigest()[:_DIGITS]
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableError(f"{path} is no file")
        if found.st_size > LARGEST_BYTES:
            raise UnreadableError(f"{path} is larger than {LARGEST_BYTES >> 20} MiB")
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read") from error


def _is_passing(name: str) -> bool:
    return name.startswith(".") or name in _PASSING


def as_tag(files: Mapping[str, str | None], working_dir: str) -> str:
    """Return the tag that names files.

    Parameters
    ----------
    files
        Digests by absolute path.
    working_dir
        The folder in which the strategy ran.

    Raises
    ------
    UnreadableError
        When there are more of them than a tag can hold.
    """
    inside = os.path.join(working_dir, "")  # noqa: PTH118
    named = {path.removeprefix(inside) or "./": digest for path, digest in sorted(files.items())}
    text = json.dumps(named, separators=(",", ":"))
    if len(text) > LONGEST_TEXT:
        raise UnreadableError(f"{len(files)} files were read, more than can be recorded")
    return text


class Checked:
    """Says of recorded inputs whether they are still the same; each file is read once."""

    def __init__(self) -> None:
        self._now: dict[str, str | None] = {}

    def fault(self, tags: Mapping[str, str]) -> str | None:
        """Return why a run with these tags does not pass for done, or None."""
        if tags.get(UNKNOWN):
            return tags[UNKNOWN]
        text = tags.get(INPUTS)
        if not text:
            return None
        try:
            recorded = json.loads(text)
            items = [(str(path), digest) for path, digest in recorded.items()]
        except (ValueError, AttributeError):
            return "what it has read is not recorded in full"
        for path, digest in items:
            try:
                now = self._digest(os.path.abspath(path))  # noqa: PTH100
            except UnreadableError as error:
                return str(error)
            if now != digest:
                return f"{path} has changed"
        return None

    def _digest(self, path: str) -> str | None:
        if path not in self._now:
            self._now[path] = content_digest(path)
        return self._now[path]
