"""The request for a batch: keys with their values, and options; and the same as text."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backtest_batch.config.schema import NESTED, NODES, SWEEPABLE
from backtest_batch.errors import ConfigurationError

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

    Hydra reads the text back as the same value. Its grammar has no quotes around the keys of a
    mapping; a mapping that needs them is given as YAML text, which ``oc.create`` reads.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        if not _keys_are_plain(value):
            # Hydra also keeps the argument as typed, and reads interpolations in it: within these
            # quotes both are the same text.
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
    # A backslash escapes only before a quote; backslashes there are doubled.
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
    # Quotes would become part of the key; separators are escaped.
    return re.sub(r"([ :=,()\[\]{}])", r"\\\1", key) if isinstance(key, str) else quote(key)


def _yaml(value: Any) -> str:
    """Return a plain value as YAML on one line: JSON wherever possible."""
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
    # Quotes, backslashes and $ also have a meaning in the texts around it.
    if character.isprintable() and character not in "\"'\\$":
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def flatten(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of every leaf.

    A mapping is a leaf if it is empty, or if one of its keys looks like a path:
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
    """Combine two values of one key: the later one wins, but mappings are merged."""
    if not (isinstance(earlier, Mapping) and isinstance(later, Mapping)):
        return later
    return {**earlier, **{key: put_together(earlier.get(key), later[key]) for key in later}}


def _is_step(key: Any, path: str) -> bool:
    return isinstance(key, str) and (PATH if "." not in path else NAME).match(key) is not None


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
FLAGS = frozenset(
    {
        *("-m", "--multirun", "-r", "--run", "-h", "--help", "--hydra-help", "--version"),
        *("--resolve", "-sc", "--shell-completion", "--with-profiling"),
    }
)
"""Options without a value: Hydra's, and our own."""
SOURCE_OPTIONS = frozenset({"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"})
"""Options that say where to look for configuration."""
WHOLE_NODES = (
    *("param_grid", "runs", "tags", "filter_tags", "rank_by", "constraints"),
    *("benchmark", "factors", "metric_directions"),
)
"""Keys whose mappings are a single value rather than paths to several."""
GATHERED_KEYS = ("benchmark", "factors", "metric_directions")
"""Keys whose mapping may be given in parts: ``benchmark._target_=... benchmark.bonds=AGG``."""
PLAN_KEYS = frozenset(
    {"param_grid", "runs", "search", "constraint", "zip", "invalid", "batch_file", "experiment"}
)
"""Keys that say which runs a batch has."""
SEARCHED_BY = frozenset(
    {"rank_by", "constraints", "metric_directions", "scenario_axes", "decision_axes"}
)
"""Keys that say which runs a batch has if it searches: what it proposes depends on them."""
SHORT_OPTIONS = {"-cd": "--config-dir", "-cp": "--config-path", "-cn": "--config-name"}


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One key with its value, whether given in Python, in a file or as text.

    Attributes
    ----------
    key
        Dotted path of a value, or name of a config group, without ``+``.
    value
        A plain value; for a sweep an object with its values; None for a deleted key.
    text
        The argument as Hydra reads it. It is recorded, and it is what Hydra composes.
    prefix
        ``+`` and ``++`` as Hydra reads them, or ``~`` to delete.
    is_sweep
        Whether it gives the key several values.
    """

    key: str
    value: Any
    text: str
    prefix: str = ""
    is_sweep: bool = False

    @classmethod
    def of(cls, key: str, value: Any, prefix: str = "") -> "Argument":
        """Return the argument that gives a key a plain value; only here is it quoted."""
        text = Assignment(key, value, prefix=prefix).override
        return cls(key=key, value=value, text=text, prefix=prefix)

    @property
    def value_text(self) -> str:
        """The value as written in the text."""
        return argument_text(self.text)

    @property
    def is_mapping(self) -> bool:
        """Whether its value is a mapping with keys, each of which could be given by itself."""
        return isinstance(self.value, Mapping) and bool(self.value)

    @property
    def is_hydra(self) -> bool:
        """Whether Hydra takes it for itself."""
        return self.key.startswith(("hydra.", "hydra/"))

    @property
    def leaves(self) -> "list[Argument]":
        """The same, with a mapping split into one argument per value."""
        if not self.is_mapping or self.key in WHOLE_NODES:
            return [self]
        return [Argument.of(*leaf, prefix=self.prefix) for leaf in flatten({self.key: self.value})]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The request for a batch.

    Attributes
    ----------
    keys
        Keys with their values, in the order in which they were given.
    options
        Hydra's options, such as ``--config-dir`` and its value, one item per word.
    """

    keys: tuple[Argument, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Options and keys as on a command line."""
        return (*self.options, *(item.text for item in self.keys))

    def option(self, *names: str) -> str | None:
        """Return the value of an option, or None."""
        return option_value(self.options, *names)

    def value(self, key: str) -> str | None:
        """Return the last text given to a key, directly or in a mapping; None without one."""
        found = None
        for item in self.keys:
            if item.key == key:
                found = None if item.value is None else _plain_text(item)
            elif key.startswith(f"{item.key}.") and isinstance(item.value, Mapping):
                value = item.value.get(key.removeprefix(f"{item.key}."))
                found = found if value is None else str(value)
        return found or None

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yield keys and values, including those of options; for a sweep the typed text."""
        for position, item in enumerate(self.options[:-1]):
            if item in OPTIONS_WITH_VALUE:
                yield item, self.options[position + 1]
        for key in self.keys:
            if key.prefix == "~":
                yield key.key, "(deleted)"
            else:
                yield key.key, key.value_text if key.is_sweep else key.value

    def merged(self) -> "Arguments":
        """Return one argument for each key; a later value wins, mappings are put together.

        ``strategy=custom strategy={fast: 5}`` becomes ``strategy=custom strategy.fast=5``, and
        ``benchmark.file=spy.csv benchmark.values=returns`` one mapping.
        """
        keys = [_gathered(item) for item in self.keys]
        counts = Counter(item.key for item in keys)
        values: dict[str, Any] = {}
        found: dict[str, Argument] = {}
        for item in keys:
            if counts[item.key] == 1 or item.is_sweep or not item.is_mapping:
                found[item.key] = item
                continue
            for leaf in [item] if item.key in WHOLE_NODES else item.leaves:
                values[leaf.key] = put_together(values.get(leaf.key), leaf.value)
                found.pop(leaf.key, None)  # its order is that of its last mention
                found[leaf.key] = Argument.of(leaf.key, values[leaf.key], item.prefix)
        return self.with_keys(found.values())

    def with_keys(self, keys: Iterable[Argument]) -> "Arguments":
        """Return the same options with other keys."""
        return Arguments(keys=tuple(keys), options=self.options)

    def sources_without(self, given: "Arguments") -> tuple[str, ...]:
        """Return the options that say where to look for configuration, unless given anew."""
        anew = {_option_name(item) for item in given.options}
        options: list[str] = []
        waiting = False
        for item in self.options:
            name = _option_name(item)
            if waiting or (name in SOURCE_OPTIONS and name not in anew):
                options.append(item)
                waiting = not waiting and item in SOURCE_OPTIONS
        return tuple(options)


def _gathered(item: Argument) -> Argument:
    """Return a part of a mapping that is one value as a mapping of its own; others as they are."""
    root, *path = item.key.split(".")
    if not path or root not in GATHERED_KEYS:
        return item
    if item.is_sweep:
        raise ConfigurationError(
            f"{item.key}={item.value_text}: a part of {root} cannot be swept; give the mappings "
            f"whole, as '{root}={{...}},{{...}}'"
        )
    value = item.value
    for name in reversed(path):
        value = {name: value}
    return Argument.of(root, value, item.prefix)


def _option_name(item: str) -> str:
    name = item.partition("=")[0]
    return SHORT_OPTIONS.get(name, name)


def _plain_text(item: Argument) -> str:
    # Numbers count as typed: batch 007 is not batch 7.
    return item.value if isinstance(item.value, str) else item.value_text


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
    """Return the arguments that say where to look for configuration.

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
    """Return the value of ``key=value`` as written."""
    return argument.partition("=")[2]


def determines_results(key: str, *, searches: bool = False) -> bool:
    """Return whether a key says what is computed, rather than how, or under which name.

    Parameters
    ----------
    key
        The key.
    searches
        Whether the batch searches, rather than computing every combination.
    """
    root = key.split(".", maxsplit=1)[0]
    return root in SWEEPABLE or root in PLAN_KEYS or (searches and root in SEARCHED_BY)


def argument_value(arguments: Sequence[str], key: str) -> str | None:
    """Return the unquoted text of the last argument with this key, or None."""
    texts = [argument_text(item) for item in arguments if argument_key(item) == key]
    if not texts or texts[-1] in ("", "null"):
        return None
    text = texts[-1]
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].replace(f"\\{text[0]}", text[0]) if quoted else text


CHOICES = frozenset({*NODES, *NESTED, "experiment"})
"""Root keys whose text chooses a file; values may be given beside it."""
CHOICE = "(choice)"

Path = tuple[Any, ...]


def refuse_repeats(given: Iterable[tuple[str, Any]], *, where: str = "", grid: Any = None) -> None:
    """Refuse keys with two values; values of one node may be given in several places.

    Parameters
    ----------
    given
        Keys and plain values, in the order in which they were given.
    where
        Beginning of the message.
    grid
        A ``param_grid`` that is given beside them.

    Raises
    ------
    ConfigurationError
        When a key has two values, or one as a whole and others for its parts; all are named.
    """
    leaves: dict[Path, Any] = {}
    faults = []
    for key, value in given:
        for path, leaf in _leaves(tuple(key.split(".")), value):
            if path in leaves and not _same(leaves[path], leaf):
                faults.append(_twice(path, leaves[path], leaf))
            leaves.setdefault(path, leaf)
    faults += [
        f"{_name(path[:length])} is given as a whole, and {_name(path)} beside it: leave one out"
        for path in leaves
        for length in range(1, len(path))
        if path[:length] in leaves
    ]
    if isinstance(grid, Mapping):
        faults += [
            f"{key} is given twice, as {_shown(leaves[path])} and in param_grid: leave one out"
            for key, _ in flatten(grid)
            if (path := _key_path(key)) in leaves
        ]
    if faults:
        raise ConfigurationError("\n".join(where + fault for fault in dict.fromkeys(faults)))


def _key_path(key: str) -> Path:
    return (key, CHOICE) if key in CHOICES else tuple(key.split("."))


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves((*path, key), item)
    elif len(path) == 1 and path[0] in CHOICES:
        if not isinstance(value, Mapping):
            yield (*path, CHOICE), value
    else:
        yield path, value


def _same(one: Any, other: Any) -> bool:
    # 1 and true are different values, 1 and 1.0 are the same.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _twice(path: Path, one: Any, other: Any) -> str:
    key = _name(path)
    message = f"{key} is given twice, as {_shown(one)} and as {_shown(other)}: leave one out"
    if path[0] in SWEEPABLE and not isinstance(one, list | Mapping):
        message += f"; {key}={_shown(one)},{_shown(other)} runs both"
    return message


def _name(path: Path) -> str:
    return ".".join(str(part) for part in path if part != CHOICE)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
