"""Values and names as MLflow accepts them.

MLflow cuts long values without a word and rejects many characters in names. Here a long value is
shortened visibly, and a name is changed so that no two names become one.
"""

import hashlib
import json
import math
import numbers
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

PARAM_LENGTH = 6_000
TAG_LENGTH = 8_000
KEY_LENGTH = 250
RUN_NAME_LENGTH = 250

SCALARS = frozenset({str, int, float, bool, type(None)})
"""What nearly all values are. To see that first costs far less than to ask for a Mapping, which
matters where a run has a hundred values and a batch has ten thousand runs."""

_ALLOWED = re.compile(r"[/\w.\- ]+")
_REJECTED = re.compile(r"[^/\w.\- ]")


def short_digest(text: str) -> str:
    """Return eight hexadecimal digits that stand for ``text``."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def value_text(value: Any) -> str:
    """Return a configuration value as text: YAML's words, floats by repr, the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or isinstance(value, int):  # noqa: SIM101 - a union is slower
        return repr(value)
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def storable_text(text: str, length: int) -> str:
    """Return ``text``, or so much of it that an ellipsis and the digest of the whole fit too.

    What databases cannot store (lone surrogates, the character NUL) is written as an escape.
    """
    if not text.isascii() or "\0" in text:
        text = text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= length:
        return text
    ending = f"… [{len(text)} characters, sha256 {short_digest(text)}]"
    return text[: length - len(ending)] + ending


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings under dotted keys; an empty mapping is a leaf."""
    for name, value in values.items():
        if type(value) not in SCALARS and isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@lru_cache(maxsize=10_000)
def safe_key(key: str) -> str:
    """Return ``key`` as MLflow accepts it; a changed key ends with a digest of the given one."""
    is_allowed = _ALLOWED.fullmatch(key) is not None and len(key) <= KEY_LENGTH
    # MLflow takes names for paths in places, and refuses those that would lead elsewhere.
    is_plain = posixpath.normpath(key) == key and not key.startswith(("..", "/")) and key != "."
    if is_allowed and is_plain:
        return key
    changed = _REJECTED.sub("_", key).replace("/", "_").strip(".") or "_"
    return f"{changed[: KEY_LENGTH - 9]}-{short_digest(key)}"


def safe_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a mapping with keys that MLflow accepts."""
    return {safe_key(key): value for key, value in pairs}


def is_number(value: Any) -> bool:
    """Return whether ``value`` can be a metric: a finite number that is no truth value."""
    if type(value) is float:
        return math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
