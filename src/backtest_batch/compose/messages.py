"""One readable message for each error of Hydra and OmegaConf."""

import re
import types
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import yaml
from hydra.errors import OverrideParseException
from omegaconf.errors import KeyValidationError, OmegaConfBaseException

from backtest_batch.config.checks import close_names
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
"""Names of the types of keys, for people."""

PLUGINS = {("hydra/launcher", "joblib"): "joblib"}
"""Choices that need a Hydra plugin, and the extra that installs it."""

LONGEST_LIST = 12
"""Most keys that a message lists."""


def explain(error: BaseException, schema: type = BatchConfig) -> str:
    """Return a message for the user: the key, the value and what is allowed.

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
    if "BatchSweeper" in text or (unknown and unknown[1].startswith("hydra.sweeper.")):
        return (
            "hydra.sweeper: has no keys of its own; a grid is written "
            "param_grid: {strategy.fast: [10, 20]}"
        )
    if isinstance(error, yaml.YAMLError):
        return _not_yaml(error)
    if isinstance(cause, KeyValidationError):
        key = text.partition("Error merging override ")[2].partition("=")[0]
        return f'{key}: its keys must be text; a number in quotes is text: {{"2024": ...}}'
    if unknown:
        return f"{unknown[1]}: is not a known key{close_keys(unknown[1], schema)}"
    merging = re.match(r"Error merging override (.+)", text, re.DOTALL)
    if merging and cause is not None:
        key, _, value = merging[1].partition("=")
        return f"{merging[1]}: {_type_message(key, value, schema) or _first_line(cause)}"
    choice = choice_fault(error)
    if choice is not None:
        return str(choice)
    plain = _in_plain_words(text, schema)
    if plain is not None:
        return plain
    if not text and cause is not None:
        return explain(cause, schema)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {_first_line(error)}"
    return re.sub(r"\n(See https?://|Config search path:)(?s:.*)", "", text) or type(error).__name__


def _in_plain_words(text: str, schema: type) -> str | None:
    """Return our wording of Hydra's errors about ``+``, ``~`` and files; None for others."""
    chosen = re.match(r"Multiple values for (\S+)\.", text)
    if chosen:
        return f"{chosen[1]}: has a choice already; to choose another, leave out the +"
    present = re.match(r"Could not append to config\. An item is already at '([^']+)'", text)
    if present:
        return f"{present[1]}: is a known key; leave out the +"
    absent = re.match(r"Could not delete from config\. '([^']+)' does not exist", text)
    if absent:
        return f"~{absent[1]}: is not a known key{close_keys(absent[1], schema)}"
    within = re.match(r"In '([^']+)': \w+ raised while composing config:\n(.+)", text)
    named = re.search(r"^ *full_key: (\S+)$", text, re.MULTILINE)
    if within is None:
        return None
    where, problem = within.groups()
    if named is None:
        value = re.match("Merge error: .* value: (.+)", problem)
        return f"{where}: must hold a mapping of keys" + (f", not {value[1]}" if value else "")
    key = named[1]
    if where.startswith("experiment/") and key == "experiment":
        return f"{where}: its first line must be `# @package _global_`"
    if re.match("Key .* not in ", problem):
        return f"{where}: {key}: is not a known key{close_keys(key, schema)}"
    return f"{where}: {key}: {expected_type(key, schema) or problem}"


def _not_yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    if mark is None:
        return f"{getattr(error, 'name', 'a file')}: is not valid YAML: {problem}"
    return f"{mark.name}: is not valid YAML: {problem} (line {mark.line + 1})"


def choice_fault(error: BaseException) -> Fault | None:
    """Return the group, the unknown choice, and the choices that exist."""
    missing = re.search(r"Could not find '(.+)/(.*)'(\n|$)", str(error))
    if missing is None:
        return None
    group, choice = missing[1], missing[2]
    available = re.search(r"Available options in '([^']+)':\n((?:\t.+\n?)+)", str(error))
    names = available[2].split() if available else []
    if available and group.startswith(f"{available[1]}/"):  # the choice holds a slash
        group, choice = available[1], f"{group}/{choice}".removeprefix(f"{available[1]}/")
    listed = f"; choose one of: {', '.join(names)}" if names else ""
    if (group, choice) in PLUGINS:
        install = f"pip install 'backtest-batch[{PLUGINS[group, choice]}]'"
        return Fault(key=group, value=choice, allowed=f"is not installed: {install}")
    return Fault(key=group, value=choice, allowed=f"there is no such choice{listed}")


def close_keys(key: str, schema: type) -> str:
    """Return the known keys that resemble ``key``, as the end of a sentence."""
    parent, _, _ = key.lstrip("+~").rpartition(".")
    siblings = [name for name in _known_keys(schema) if name.rpartition(".")[0] == parent]
    return resembling(key.lstrip("+~"), siblings)


def resembling(key: str, known: Sequence[str]) -> str:
    """Return those of the known keys that resemble ``key``, as the end of a sentence."""
    close = close_names(key, known)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    if not known or len(known) > LONGEST_LIST:
        return "; --cfg job shows the keys there are"
    return f"; known are: {', '.join(sorted(known))}"


def expected_type(key: str, schema: type = BatchConfig) -> str | None:
    """Say which type a key of the schema takes; None for an unknown key."""
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
    return f"{error.override}: cannot be read as key=value"


def _known_keys(schema: type, prefix: str = "") -> typing.Iterator[str]:
    hints = typing.get_type_hints(schema)
    for item in fields(schema):
        yield prefix + item.name
        inner = hints[item.name]
        if isinstance(inner, type) and is_dataclass(inner):
            yield from _known_keys(inner, f"{prefix}{item.name}.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
