"""One readable message for what Hydra and OmegaConf have to say."""

import difflib
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.errors import OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from backtest_batch.config.schema import BatchConfig
from backtest_batch.errors import Fault

TYPE_NAMES: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "a mapping",
}
"""How people call the types of keys."""

LONGEST_LIST = 12
"""More keys than these are not listed in a message."""


def explain(error: BaseException, schema: type = BatchConfig) -> str:
    """Return what the user should read: the key, the value and what is allowed.

    Parameters
    ----------
    error
        What was raised.
    schema
        Dataclass of the known root keys.
    """
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    text = str(error).strip()
    cause = error.__cause__
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown:
        return f"{unknown[1]}: is not a known key{close_keys(unknown[1], schema)}"
    merging = re.match(r"Error merging override (.+)", text, re.DOTALL)
    if merging and cause is not None:
        key, _, value = merging[1].partition("=")
        return f"{merging[1]}: {_type_message(key, value, schema) or _first_line(cause)}"
    choice = choice_fault(error)
    if choice is not None:
        return str(choice)
    if not text and cause is not None:
        return explain(cause, schema)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {_first_line(error)}"
    return re.sub(r"\nSee https?://\S+.*", "", text) or type(error).__name__


def choice_fault(error: BaseException) -> Fault | None:
    """Return the group, the choice that it does not have, and those that it has."""
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", str(error))
    if missing is None:
        return None
    available = re.search(r"Available options in '[^']+':\n((?:\t.+\n?)+)", str(error))
    names = available[1].split() if available else []
    listed = f"; choose one of: {', '.join(names)}" if names else ""
    return Fault(key=missing[1], value=missing[2], allowed=f"there is no such choice{listed}")


def close_keys(key: str, schema: type) -> str:
    """Return the known keys that resemble ``key``, as the end of a sentence."""
    parent, _, _ = key.lstrip("+~").rpartition(".")
    siblings = [name for name in _known_keys(schema) if name.rpartition(".")[0] == parent]
    return resembling(key.lstrip("+~"), siblings)


def resembling(key: str, known: Sequence[str]) -> str:
    """Return those of the known keys that resemble ``key``, as the end of a sentence."""
    close = difflib.get_close_matches(key, known, n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    if not known or len(known) > LONGEST_LIST:
        return "; --cfg job shows the keys there are"
    return f"; known are: {', '.join(sorted(known))}"


def expected_type(key: str, schema: type = BatchConfig) -> str | None:
    """Say which type a key of the schema takes; None for a key that it does not know."""
    node: Any = schema
    for part in key.lstrip("+~").split("."):
        if not (isinstance(node, type) and is_dataclass(node)):
            return None
        hints = typing.get_type_hints(node)
        if part not in hints:
            return None
        node = hints[part]
    optional = ""
    if isinstance(node, types.UnionType):
        kinds = [kind for kind in typing.get_args(node) if kind is not types.NoneType]
        node, optional = kinds[0], " or null"
    if isinstance(node, type) and is_dataclass(node):
        return "must be a mapping"
    name = TYPE_NAMES.get(typing.get_origin(node) or node)
    return None if name is None else f"must be {name}{optional}"


def _type_message(key: str, value: str, schema: type) -> str | None:
    wanted = expected_type(key, schema)
    if wanted is None or not value.startswith("[") or "a list" in wanted:
        return wanted
    return f"{wanted}; several values are a sweep: {key}={value[1:-1]}"


def _unreadable(error: OverrideParseException) -> str:
    override = error.override
    if "=" not in override:
        return f"{override}: is not key=value"
    return (
        f"{override}: cannot be read; a value with one of ,:=<>(){{}}[] or quotes needs quotes of "
        "its own within those of the shell, such as 'description=\"costs, exposure\"'"
    )


def _known_keys(schema: type, prefix: str = "") -> typing.Iterator[str]:
    hints = typing.get_type_hints(schema)
    for item in fields(schema):
        yield prefix + item.name
        inner = hints[item.name]
        if isinstance(inner, type) and is_dataclass(inner):
            yield from _known_keys(inner, f"{prefix}{item.name}.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
