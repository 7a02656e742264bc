"""Texts that can be written down: into a store, a report, a file.

A name of a file that is not UTF-8, and half of a character in a JSON file, are texts in Python, but
no encoding has them. They would fail one run after the other, or the whole batch at its end.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from backtest_batch.errors import ConfigurationError, Fault

ALLOWED = (
    "holds what is no UTF-8 text and cannot be recorded; rename the file or folder, or write it "
    "in UTF-8"
)


def is_text(value: str) -> bool:
    """Return whether a text can be written as UTF-8."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_text(value: str) -> str:
    r"""Return a text that can be written: what has no encoding is escaped, as in ``\udce9``."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def require_texts(values: Iterable[tuple[str, Any]]) -> None:
    """Refuse values in which a text cannot be written.

    Parameters
    ----------
    values
        Keys and plain values.

    Raises
    ------
    ConfigurationError
        When there is one; the message names key and value, of all that are found.
    """
    faults = [
        Fault(key=as_text(key), value=as_text(text), allowed=ALLOWED)
        for key, value in values
        if (text := _first_unwritable(key, value)) is not None
    ]
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)


def require_written_arguments(arguments: Iterable[str]) -> None:
    """Refuse arguments, and a working directory, that cannot be written; see above.

    Raises
    ------
    ConfigurationError
        When there is one.
    """
    parts = (item.partition("=") for item in arguments)
    require_texts(
        (key.lstrip("+~") if equals else "argument", text or key) for key, equals, text in parts
    )
    with contextlib.suppress(OSError):
        require_texts([("the working directory", str(Path.cwd()))])


def _first_unwritable(key: str, value: Any) -> str | None:
    if not is_text(key):
        return str(value)
    if isinstance(value, str):
        return None if is_text(value) else value
    if isinstance(value, Mapping):
        found = (_first_unwritable(str(name), item) for name, item in value.items())
    elif isinstance(value, list | tuple):
        found = (_first_unwritable("", item) for item in value)
    else:
        return None
    return next((text for text in found if text is not None), None)
