"""Expand what stands for other arguments: files and flags."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from backtest_batch.arguments import WHOLE_NODES, Argument, Arguments
from backtest_batch.errors import ConfigurationError
from backtest_batch.repeats import refuse_repeats

PROFILING_FLAG = "--with-profiling"

MOST_VALUES = 10_000_000
"""A file may hold no more values than these, with every alias (``*name``) in full."""

KEY = re.compile(r"[A-Za-z_][\w-]*([./][\w-]+)*", re.ASCII)


def expand_arguments(arguments: Arguments) -> Arguments:
    """Return the arguments with keys in place of what stands for them.

    ``--with-profiling`` becomes ``profiling.enabled=true``, and ``batch_file`` the keys that the
    file holds; a key that is given beside it is not taken from the file.

    Raises
    ------
    ConfigurationError
        When the batch file is missing, unreadable or no mapping of keys.
    """
    options = tuple(item for item in arguments.options if item != PROFILING_FLAG)
    keys = arguments.keys
    if len(options) < len(arguments.options):
        keys = (Argument.of("profiling.enabled", value=True), *keys)
    expanded = Arguments(keys=keys, options=options)
    name = expanded.value("batch_file")
    if name is None:
        return expanded
    # strategy={fast: 10} sets a value, and leaves the choice of the file.
    given = {item.key for item in keys if not item.is_mapping or item.key in WHOLE_NODES}
    from_file = [item for item in read_batch_file(Path(name)) if item.key not in given]
    return expanded.with_keys([*from_file, *keys])


def read_batch_file(path: Path) -> list[Argument]:
    """Return the keys and values of a batch file, YAML or JSON by its name.

    Raises
    ------
    ConfigurationError
        When it cannot be read, is no mapping of keys, or gives one twice.
    """
    where = f"batch_file={path}: "
    content = _content(path, where)
    if not isinstance(content, Mapping) or not content:
        raise ConfigurationError(
            f"{where}must hold a mapping of keys to values, such as "
            "param_grid: {commission_bps: [0.0, 0.5]}"
        )
    if "batch_file" in content:
        raise ConfigurationError(f"{where}must not name another batch_file")
    if "trust" in content:
        raise ConfigurationError(
            f"{where}must not hold trust; whoever trusts another's batch types it"
        )
    for key in content:
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise ConfigurationError(f"{where}{key!r} is not a known key")
    arguments = [leaf for item in content.items() for leaf in Argument.of(*item).leaves]
    pairs = [(item.key, item.value) for item in arguments]
    refuse_repeats(pairs, where=where, grid=content.get("param_grid"))
    return arguments


def _content(path: Path, where: str) -> Any:
    kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"{where}cannot be read ({error.strerror or error}; looked in {Path.cwd()})"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{where}is not UTF-8 text ({error})") from error
    except ValueError as error:  # a character that no path can have
        raise ConfigurationError(f"{where}cannot be read ({error})") from error
    try:
        content = _json(text) if kind == "JSON" else yaml.load(text, _Loader)
        if _size(content, {}) > MOST_VALUES:
            raise ConfigurationError(f"{where}holds more than {MOST_VALUES:,} values")
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where}is not valid {kind}: {_yaml_problem(error)}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{where}is nested too deeply, or holds itself") from error
    except ConfigurationError:
        raise
    except ValueError as error:
        raise ConfigurationError(f"{where}is not valid {kind}: {error}") from error
    return content


def _size(value: Any, known: dict[int, int | None]) -> int:
    """Return how many values a value holds; aliases are counted wherever they stand."""
    if not isinstance(value, Mapping | list):
        return 1
    if id(value) not in known:
        known[id(value)] = None
        items = value.values() if isinstance(value, Mapping) else value
        known[id(value)] = 1 + sum(_size(item, known) for item in items)
    size = known[id(value)]
    if size is None:
        raise RecursionError
    return size


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise ValueError(f"found duplicate key {', '.join(repeated)}")
    return dict(pairs)


class _Loader(yaml.SafeLoader):
    """YAML as the command line reads values.

    A date stays text, 1e-3 is a number; no and on, 12:30 and 0700 are text, while PyYAML takes them
    for false and true, 750 and 448. A key that stands twice is an error.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; see PyYAML's."""
        keys = [
            item.value
            for item, _ in node.value
            if isinstance(item, yaml.ScalarNode) and item.value != "<<"
        ]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"found duplicate key {', '.join(repeated)}", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?((0|[1-9][0-9_]*)?\.[0-9][0-9_]*|(0|[1-9][0-9_]*)\.?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first
    )


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    return problem if mark is None else f"{problem} (line {mark.line + 1})"
