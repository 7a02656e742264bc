"""One setting of a configuration, from the command line, a grid or a file."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PLAIN_WORD = re.compile(r"(?!\.\d)[A-Za-z_./:][\w./:+-]*\Z", re.ASCII)
PLAIN_KEY = re.compile(r"[A-Za-z_][\w./+ :=,()\[\]{}-]*\Z", re.ASCII)
NAME = re.compile(r"[A-Za-z_][\w-]*\Z", re.ASCII)
PATH = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*\Z", re.ASCII)
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
    """Return a plain value in Hydra's override grammar, quoted where it needs to be.

    Hydra reads the text back as the same value. Its grammar knows no quotes around the keys of a
    mapping; one whose keys need them is given as the YAML text that ``oc.create`` reads.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        if not _keys_are_plain(value):
            # Hydra keeps the argument as it was typed, too, and reads interpolations in it: within
            # these quotes both are the same text.
            escaped = _yaml(value).replace('"', '\\"')
            return "'${oc.create:\"" + escaped + "\"}'"
        items = (f"{plain_key(key)}:{quote(item)}" for key, item in value.items())
        return "{" + ",".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(quote(item) for item in value) + "]"
    text = str(value)
    plain = PLAIN_WORD.match(text) and text.lower() not in RESERVED_WORDS
    return text if plain else quote_text(text)


def quote_text(text: str) -> str:
    """Return text within quotes, as Hydra and OmegaConf read it."""
    # A backslash escapes only in front of a quote, and those that stand there are doubled.
    escaped = re.sub(r"(?<!\\)(\\*)(')", lambda found: found[1] * 2 + "\\'", text)
    return "'" + re.sub(r"(?<!\\)(\\+)\Z", lambda found: found[1] * 2, escaped) + "'"


def _keys_are_plain(value: Any) -> bool:
    """Return whether Hydra's grammar can write every key below."""
    if isinstance(value, Mapping):
        return all(
            (not isinstance(key, str) or is_plain_key(key)) and _keys_are_plain(item)
            for key, item in value.items()
        )
    return not isinstance(value, list | tuple) or all(map(_keys_are_plain, value))


def is_plain_key(key: str) -> bool:
    """Return whether Hydra's grammar can write a key of a mapping so that it stays text."""
    return PLAIN_KEY.match(key) is not None and key.lower() not in RESERVED_WORDS


def plain_key(key: Any) -> str:
    """Return a plain key of a mapping in Hydra's override grammar."""
    # Quotes would stand in the key itself; whatever separates is escaped.
    return re.sub(r"([ :=,()\[\]{}])", r"\\\1", key) if isinstance(key, str) else quote(key)


def _yaml(value: Any) -> str:
    """Return a plain value as YAML on one line, which is JSON where that can say it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    if value is None or isinstance(value, bool | int | float):
        return quote(value)
    return '"' + "".join(map(_yaml_character, str(value))) + '"'


def _yaml_character(character: str) -> str:
    # Quotes, backslashes and $ have a meaning in the texts around it, too.
    if character.isprintable() and character not in "\"'\\$":
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def flatten(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of every leaf.

    A mapping is a leaf when it is empty, or when a key of it could not be told from a path:
    ``strategy: {weights: {BRK.B: 1}}`` sets ``strategy.weights``. Only the keys right below a node
    (``strategy: {factors.momentum: 1}``) may be paths themselves.
    """
    for name, value in values.items():
        path = str(name)
        if isinstance(value, Mapping) and value and all(_is_step(key, path) for key in value):
            yield from flatten({f"{path}.{key}": item for key, item in value.items()})
        else:
            yield path, value


def put_together(earlier: Any, later: Any) -> Any:
    """Return what two values of one key are together: the later one, but mappings are merged."""
    if not (isinstance(earlier, Mapping) and isinstance(later, Mapping)):
        return later
    return {**earlier, **{key: put_together(earlier.get(key), later[key]) for key in later}}


def _is_step(key: Any, path: str) -> bool:
    return isinstance(key, str) and (PATH if "." not in path else NAME).match(key) is not None
