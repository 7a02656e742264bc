"""Texts without the secrets in them: what leaves the process passes through here."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

MASK = "***"

_WORDS = r"password|passwd|pwd|secret|token|credential|credentials|api[_-]?key|access[_-]?key"
_SECRET_QUERY = re.compile(
    rf"([?&;](?:[^=&;\s]*(?:{_WORDS})[^=&;\s]*|odbc_connect)=)[^&;\s'\"]+", re.IGNORECASE
)
_USER_INFO = re.compile(
    # A password may hold a slash when a colon stands before it; else a slash ends the host.
    r"([A-Za-z][A-Za-z0-9+.-]*://)(?!/)(?:[^\s'\"/:]*:[^\s'\"]*|[^\s'\"/]*)@"
)
_SECRET_KEY = re.compile(rf"(?:^|[._-])(?:{_WORDS})$", re.IGNORECASE)
_SECRET_ARGUMENT = re.compile(
    # A number is a setting of something that is called token, rather than one.
    rf"^([^=\s]*(?:^|[._+-])(?:{_WORDS})=)(?!(?:[\d.,eE+-]+|true|false|null)$).+$",
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
        text = _USER_INFO.sub(rf"\1{MASK}@", text)
    if "=" in text:
        text = _SECRET_QUERY.sub(rf"\1{MASK}", text)
        text = _SECRET_ARGUMENT.sub(rf"\1{MASK}", text)
    return text


def masked_values(value: Any, key: str = "") -> Any:
    """Return nested mappings and lists with every text in them masked.

    Parameters
    ----------
    value
        Plain values.
    key
        The key under which the value stands: a text under one that ends with a word such as
        ``password`` or ``token`` is masked as a whole.
    """
    if isinstance(value, str):
        if value and _SECRET_KEY.search(key):
            return MASK
        return masked(value)
    if isinstance(value, Mapping):
        return {name: masked_values(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked_values(item, key) for item in value)
    return value


def is_masked(text: str) -> bool:
    """Return whether a secret was left out of ``text``."""
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
