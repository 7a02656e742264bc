"""Remove secrets from texts: whatever leaves the process passes through here.

Each way out calls this module in one place: the terminal and the log (streams), the store
(store.mlflow_run; store.address for messages about it), a database of prices (core.data.database),
and the writer of each kind of file. Secrets are removed from names of runs and errors of strategies
when these arrive, so that what is ranked, reported or returned holds none. A test names these
places.
"""

import os
import re
import string
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

MASK = "***"

_NUMBERS = frozenset((bool, int, float))

_WORDS = r"password|passwd|pwd|secret|token|credential|credentials|api[_-]?key|access[_-]?key"
_WORD = re.compile(_WORDS, re.IGNORECASE)
_SECRET_WORD = re.compile(rf"{_WORDS}|odbc_connect", re.IGNORECASE)
# The patterns below run on texts of others, so they are possessive, and match only from the
# beginning of a name: on any text they take time proportional to its length.
_NAME = re.compile(r"(?<![^=&;\s])[^=&;\s]*+=")
_REST_OF_NAME = re.compile(r"[^=&;\s]*+=")
_QUERY_VALUE = re.compile(r"[^&;\s'\"]++")
_END_OF_ADDRESS = re.compile(r"[\s'\"]|\Z")
_END_OF_USER = re.compile(r"[/:\s'\"]|\Z")
_SCHEME = frozenset(string.ascii_letters + string.digits + "+.-")
_SECRET_KEY = re.compile(rf"(?:^|[._-])(?:{_WORDS})$", re.IGNORECASE)
_SECRET_ARGUMENT = re.compile(
    # A number is a setting of something called token, rather than a token.
    # Beyond a question mark stands the query of an address, which ends where the address does.
    rf"^([^=\s?]*(?:^|[._+-])(?:{_WORDS})=)(?!(?:[\d.,eE+-]+|true|false|null)$).+$",
    re.IGNORECASE | re.DOTALL,
)


def masked(text: str, *, uri: str = "") -> str:
    """Return ``text`` without the user names, passwords and tokens of addresses in it.

    Parameters
    ----------
    text
        An address, a message that may hold one, or an argument ``key=value``, whose value is a
        secret when its key ends with a word such as ``password`` or ``token``.
    uri
        An address whose password must not appear in ``text`` on its own either.
    """
    for secret in _secrets(uri) if uri else ():
        text = text.replace(secret, MASK)
    if "://" in text:
        text = _without_user_info(text)
    if "=" in text and _SECRET_WORD.search(text):
        text = _without_secret_queries(text)
        text = _SECRET_ARGUMENT.sub(rf"\1{MASK}", text)
    return text


def masked_values(value: Any, key: str = "") -> Any:
    """Return nested mappings and lists with every text in them masked.

    Parameters
    ----------
    value
        Plain values.
    key
        The key of the value: a text under one that ends with a word such as
        ``password`` or ``token`` is masked as a whole.
    """
    if isinstance(value, str):
        if value and _SECRET_KEY.search(key):
            return MASK
        return masked(value)
    if isinstance(value, Mapping):
        return {
            name: item if type(item) in _NUMBERS else masked_values(item, str(name))
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(masked_values(item, key) for item in value)
    return value


def _without_user_info(text: str) -> str:
    """Mask the text between ``://`` and ``@``, in time proportional to its length.

    A password may hold a slash if a colon precedes it; else a slash ends the host.
    """
    parts: list[str] = []
    done, end, last = 0, 0, -1
    separator = text.find("://")
    while separator >= 0:
        begin = separator + 3
        if begin > end:
            end = _END_OF_ADDRESS.search(text, begin).start()  # type: ignore[union-attr]
            last = text.rfind("@", begin, end)
        if _has_scheme(text, done, separator) and not text.startswith("/", begin):
            sign = _end_of_user_info(text, begin, end, last)
            if sign >= 0:
                parts += [text[done:begin], MASK]
                done = begin = sign
        separator = text.find("://", begin)
    return "".join(parts) + text[done:]


def _has_scheme(text: str, done: int, end: int) -> bool:
    """Return whether the characters before ``end`` can be a scheme, with at least one letter."""
    for position in range(end - 1, done - 1, -1):
        char = text[position]
        if char not in _SCHEME:
            return False
        if char.isalpha():
            return True
    return False


def _end_of_user_info(text: str, begin: int, end: int, last: int) -> int:
    """Return the position of the ``@`` after a name, or a name and a password; or -1."""
    user = _END_OF_USER.search(text, begin).start()  # type: ignore[union-attr]
    if text.startswith(":", user) and last > user:
        return last
    slash = text.find("/", begin, end)
    return text.rfind("@", begin, end if slash < 0 else slash)


def _without_secret_queries(text: str) -> str:
    """Mask values as in ``?token=...``, in time proportional to the length of the text."""
    parts: list[str] = []
    done = 0
    name = _NAME.search(text)
    while name is not None:
        position = name.end()
        if _is_secret_query(text, name):
            value = _QUERY_VALUE.match(text, position)
            if value is not None:
                parts += [text[done:position], MASK]
                done = position = value.end()
                # A quote ends a value, but may be part of a name.
                name = _REST_OF_NAME.match(text, position) or _NAME.search(text, position)
                continue
        name = _NAME.search(text, position)
    return "".join(parts) + text[done:]


def _is_secret_query(text: str, name: re.Match[str]) -> bool:
    """Return whether a name with its ``=`` is part of a query, and names a secret."""
    key = name[0][:-1]
    if text[max(0, name.start() - 1) : name.start()] not in ("&", ";"):
        mark = key.find("?")
        if mark < 0:
            return False
        key = key[mark + 1 :]
    return _WORD.search(key) is not None or key.rpartition("?")[2].lower() == "odbc_connect"


def is_masked(text: str) -> bool:
    """Return whether ``text`` had a secret, which was removed."""
    return f"{MASK}@" in text or f"={MASK}" in text


def _secrets(uri: str) -> Iterator[str]:
    user_info = re.match(r"[^/]*//(?P<user>[^:/]*):(?P<password>.*)@", uri)
    candidates = [user_info["password"]] if user_info else []
    candidates += [os.environ.get("MLFLOW_TRACKING_PASSWORD", "")]
    candidates += [os.environ.get("MLFLOW_TRACKING_TOKEN", "")]
    for raw in candidates:
        for form in (raw, unquote(raw), unquote_plus(raw)):
            # Replacing one or two characters everywhere would make a message unreadable.
            if len(form) > 2:
                yield form
