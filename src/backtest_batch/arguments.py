"""Expand what stands for other arguments: files and flags."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from backtest_batch.assignments import Assignment, flatten, quote
from backtest_batch.config.schema import SWEEPABLE
from backtest_batch.errors import ConfigurationError

PROFILING_FLAG = "--with-profiling"
OPTIONS_WITH_VALUE = frozenset(
    {
        "--config-dir",
        "-cd",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--cfg",
        "-c",
        "--package",
        "-p",
        "--info",
        "-i",
    }
)
SOURCE_OPTIONS = frozenset({"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"})
"""Options that say where configuration is looked for."""
WHOLE_NODES = ("param_grid", "runs", "tags", "filter_tags", "rank_by", "constraints")
"""Keys whose mappings are one value and not a path to several."""
GRAMMAR = frozenset("'\"()[]{}<>$")
"""What gives a value a structure of its own."""
PLAN_KEYS = frozenset({"param_grid", "runs", "batch_file", "experiment"})
"""Keys that say which runs a batch has."""


def expand_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as Hydra reads them.

    ``--with-profiling`` becomes ``profiling.enabled=true``, and ``batch_file`` the keys that the
    file holds; a key that the command line sets itself is not taken from the file.

    Raises
    ------
    ConfigurationError
        When the batch file is missing, unreadable or no mapping of keys.
    """
    replaced = ["profiling.enabled=true" if item == PROFILING_FLAG else item for item in arguments]
    flags, expanded = divide(replaced)
    for item in expanded:
        if not argument_key(item):
            raise ConfigurationError(f"{item!r}: is not key=value")
    expanded = [_readable(item) for item in expanded]
    name = argument_value(expanded, "batch_file")
    if name is None:
        return [*flags, *expanded]
    given = {argument_key(item) for item in expanded}
    from_file = [item.override for item in read_batch_file(Path(name)) if item.key not in given]
    return [*flags, *from_file, *expanded]


def _readable(argument: str) -> str:
    """Return an argument whose values beyond ASCII are quoted; Hydra reads them only so."""
    key, _, text = argument.partition("=")
    if text.isascii() or not GRAMMAR.isdisjoint(text):
        return argument
    values = (item if item.isascii() else quote(item) for item in text.split(","))
    return f"{key}={','.join(values)}"


def divide(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return options with their values, and keys.

    Hydra's parser does not understand keys on both sides of an option.
    """
    flags: list[str] = []
    keys: list[str] = []
    waiting = False
    for item in arguments:
        (flags if waiting or item.startswith("-") else keys).append(item)
        waiting = item in OPTIONS_WITH_VALUE
    return flags, keys


def configuration_sources(arguments: Sequence[str]) -> list[str]:
    """Return what of the arguments says where configuration is looked for.

    Options such as ``--config-dir conf``, and Hydra's search path: a command that repeats a run
    needs them beside the keys.
    """
    found: list[str] = []
    waiting = False
    for item in arguments:
        name = item.partition("=")[0]
        if waiting or name in SOURCE_OPTIONS or name == "hydra.searchpath":
            found.append(item)
        waiting = item in SOURCE_OPTIONS
    return found


def option_value(options: Sequence[str], *names: str) -> str | None:
    """Return the value of an option, given as ``--name value`` or ``--name=value``, or None."""
    found = None
    for position, item in enumerate(options):
        name, equals, value = item.partition("=")
        if name in names and equals:
            found = value
        elif name in names and position + 1 < len(options):
            found = options[position + 1]
    return found


def argument_key(argument: str) -> str:
    """Return the key of ``key=value``, without ``+`` and without a package."""
    return argument.partition("=")[0].lstrip("+~").partition("@")[0]


def argument_text(argument: str) -> str:
    """Return the value of ``key=value`` as it stands there."""
    return argument.partition("=")[2]


def determines_results(key: str) -> bool:
    """Return whether a key says what is computed, and not how, or what it is called."""
    return key.split(".", maxsplit=1)[0] in SWEEPABLE or key in PLAN_KEYS


def argument_value(arguments: Sequence[str], key: str) -> str | None:
    """Return the unquoted text that the last argument of this key gives, or None."""
    texts = [argument_text(item) for item in arguments if argument_key(item) == key]
    if not texts or texts[-1] in ("", "null"):
        return None
    text = texts[-1]
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].replace(f"\\{text[0]}", text[0]) if quoted else text


def read_batch_file(path: Path) -> list[Assignment]:
    """Return the keys and values of a batch file, YAML or JSON by its name."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"batch_file={path}: cannot be read ({error.strerror or error}; looked in {Path.cwd()})"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"batch_file={path}: is not UTF-8 text ({error})") from error
    try:
        content = _json(text) if path.suffix.lower() == ".json" else _yaml(text)
    except (ValueError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
        raise ConfigurationError(f"batch_file={path}: is not valid {kind}: {error}") from error
    if not isinstance(content, Mapping) or not content:
        raise ConfigurationError(
            f"batch_file={path}: must hold a mapping of keys to values, such as "
            "param_grid: {commission_bps: [0.0, 0.5]}"
        )
    if "batch_file" in content:
        raise ConfigurationError(f"batch_file={path}: must not name another batch_file")
    if "trust" in content:
        raise ConfigurationError(
            f"batch_file={path}: must not hold trust; whoever trusts another's batch types it"
        )
    assignments: list[Assignment] = []
    for key, value in content.items():
        if isinstance(value, Mapping) and key not in WHOLE_NODES:
            assignments += [Assignment(*leaf) for leaf in flatten({key: value})]
        else:
            assignments.append(Assignment(str(key), value))
    return assignments


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise ValueError(f"found duplicate key {', '.join(repeated)}")
    return dict(pairs)


def _yaml(text: str) -> Any:
    """Return YAML as Hydra reads it: a date stays text, 1e-3 is a number."""
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
