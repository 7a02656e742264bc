"""One setting of a configuration, from the command line, a grid or a file."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PLAIN_WORD = re.compile(r"[A-Za-z_./:][\w./:+-]*\Z", re.ASCII)
RESERVED_WORDS = frozenset({"null", "true", "false", "nan", "inf"})


@dataclass(frozen=True)
class Assignment:
    """``key=value``, or the choice of a config group.

    Attributes
    ----------
    key
        Dotted path of a value, or name of a config group, without ``+``.
    value
        A plain value; for a group the name of the choice.
    is_group
        Whether ``key`` is a config group.
    prefix
        ``+`` and ``++`` as Hydra reads them, or ``~`` to delete.
    """

    key: str
    value: Any
    is_group: bool = False
    prefix: str = ""

    @property
    def override(self) -> str:
        """The assignment as Hydra's command line reads it."""
        if self.prefix == "~" and self.value is None:
            return f"~{self.key}"
        return f"{self.prefix}{self.key}={quote(self.value)}"


def quote(value: Any) -> str:
    """Return a plain value in Hydra's override grammar, quoted where it needs to be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{quote(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(quote(item) for item in value) + "]"
    text = str(value)
    if PLAIN_WORD.match(text) and text.lower() not in RESERVED_WORDS:
        return text
    # A backslash escapes only in front of a quote, and those that stand there are doubled.
    escaped = re.sub(r"(\\*)(')", lambda found: found[1] * 2 + "\\'", text)
    return "'" + re.sub(r"(\\+)\Z", lambda found: found[1] * 2, escaped) + "'"


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of every leaf; an empty mapping is a leaf."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, prefix=f"{path}.")
        else:
            yield path, value
