"""What a batch is asked for: keys with their values, and options; and the same as text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backtest_batch.assignments import Assignment, flatten, put_together
from backtest_batch.config.schema import SWEEPABLE

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
"""Options that say where configuration is looked for."""
WHOLE_NODES = ("param_grid", "runs", "tags", "filter_tags", "rank_by", "constraints")
"""Keys whose mappings are one value and not a path to several."""
PLAN_KEYS = frozenset({"param_grid", "runs", "batch_file", "experiment"})
"""Keys that say which runs a batch has."""
SHORT_OPTIONS = {"-cd": "--config-dir", "-cp": "--config-path", "-cn": "--config-name"}


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One key with the value that it was given, whether in Python, in a file or as text.

    Attributes
    ----------
    key
        Dotted path of a value, or name of a config group, without ``+``.
    value
        A plain value; of a sweep what knows its values; None for a key that is deleted.
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
        """Return what gives a key a plain value: here, and nowhere else, it is quoted."""
        text = Assignment(key, value, prefix=prefix).override
        return cls(key=key, value=value, text=text, prefix=prefix)

    @property
    def value_text(self) -> str:
        """The value as it stands in the text."""
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
        """The same with a mapping as one argument for each of its values."""
        if not self.is_mapping or self.key in WHOLE_NODES:
            return [self]
        return [Argument.of(*leaf, prefix=self.prefix) for leaf in flatten({self.key: self.value})]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What a batch is asked for.

    Attributes
    ----------
    keys
        Keys with their values, in the order in which they were given.
    options
        Hydra's options, such as ``--config-dir`` and its value, one item a word.
    """

    keys: tuple[Argument, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Options and keys as they stand on a command line."""
        return (*self.options, *(item.text for item in self.keys))

    def option(self, *names: str) -> str | None:
        """Return the value of an option, or None."""
        return option_value(self.options, *names)

    def value(self, key: str) -> str | None:
        """Return the text that a key is given last, by itself or in a mapping; None without one."""
        found = None
        for item in self.keys:
            if item.key == key:
                found = None if item.value is None else _plain_text(item)
            elif key.startswith(f"{item.key}.") and isinstance(item.value, Mapping):
                value = item.value.get(key.removeprefix(f"{item.key}."))
                found = found if value is None else str(value)
        return found or None

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yield keys and values, those of options among them; of a sweep what was typed."""
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

        ``strategy=custom strategy={fast: 5}`` becomes ``strategy=custom strategy.fast=5``.
        """
        counts = Counter(item.key for item in self.keys)
        values: dict[str, Any] = {}
        found: dict[str, Argument] = {}
        for item in self.keys:
            if counts[item.key] == 1 or item.is_sweep or not item.is_mapping:
                found[item.key] = item
                continue
            for leaf in [item] if item.key in WHOLE_NODES else item.leaves:
                values[leaf.key] = put_together(values.get(leaf.key), leaf.value)
                found.pop(leaf.key, None)  # what stands behind it was given before it
                found[leaf.key] = Argument.of(leaf.key, values[leaf.key], item.prefix)
        return self.with_keys(found.values())

    def with_keys(self, keys: Iterable[Argument]) -> "Arguments":
        """Return the same options with other keys."""
        return Arguments(keys=tuple(keys), options=self.options)

    def sources_without(self, given: "Arguments") -> tuple[str, ...]:
        """Return the options that say where configuration is looked for, unless given anew."""
        anew = {_option_name(item) for item in given.options}
        kept: list[str] = []
        waiting = False
        for item in self.options:
            name = _option_name(item)
            if waiting or (name in SOURCE_OPTIONS and name not in anew):
                kept.append(item)
                waiting = not waiting and item in SOURCE_OPTIONS
        return tuple(kept)


def _option_name(item: str) -> str:
    name = item.partition("=")[0]
    return SHORT_OPTIONS.get(name, name)


def _plain_text(item: Argument) -> str:
    # A number is meant as it was typed: batch 007 is not batch 7.
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
