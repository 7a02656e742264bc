"""Read arguments: batch files and flags are put in, values that make a sweep are told apart."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, overload

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType, QuotedString, RangeSweep

from backtest_batch.config.arguments import (
    WHOLE_NODES,
    Argument,
    Arguments,
    argument_text,
    divide,
    refuse_repeats,
)
from backtest_batch.errors import ConfigurationError

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


PREFIXES = {
    OverrideType.CHANGE: "",
    OverrideType.ADD: "+",
    OverrideType.FORCE_ADD: "++",
    OverrideType.DEL: "~",
}


@dataclass(frozen=True, kw_only=True)
class RangeValues(Sequence[int | float]):
    """The values of ``range(start, stop, step)``, computed in decimals when they are asked for.

    Repeated binary addition would make 0.7999999999999999 of range(0.6,1.0,0.1).
    """

    start: Decimal
    step: Decimal
    n_values: int
    whole: bool

    def __len__(self) -> int:
        return self.n_values

    @overload
    def __getitem__(self, position: int) -> int | float: ...
    @overload
    def __getitem__(self, position: slice) -> "list[int | float]": ...
    def __getitem__(self, position: int | slice) -> "int | float | list[int | float]":
        if isinstance(position, slice):
            return [self[place] for place in range(*position.indices(self.n_values))]
        value = self.start + self.step * range(self.n_values)[position]
        return int(value) if self.whole else float(value)


@dataclass(frozen=True, eq=False)
class Swept:
    """The values of a sweep that was typed; they are made when they are asked for.

    Two are equal when they give the same values in the same order, however they are written.
    """

    override: Override

    @property
    def text(self) -> str:
        """The sweep as it was typed."""
        return argument_text(str(self.override.input_line))

    def values(self, loader: ConfigLoader | None = None) -> Sequence[Any]:
        """Return the values; those of a ``glob`` are choices that the loader knows.

        Raises
        ------
        ConfigurationError
            When there is none, or no end of them.
        """
        self.override.config_loader = loader
        return _sweep_values(self.override)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Swept):
            return NotImplemented
        if self.text == other.text:
            return True
        if any(isinstance(item.override.value(), Glob) for item in (self, other)):
            return False
        try:
            mine, others = self.values(), other.values()
        except ConfigurationError:
            return False
        if isinstance(mine, RangeValues) and isinstance(others, RangeValues):
            return mine == others
        return len(mine) == len(others) and all(
            one == another and isinstance(one, bool) == isinstance(another, bool)
            for one, another in zip(mine, others, strict=True)
        )

    def __hash__(self) -> int:
        return hash(self.override.key_or_group)


def read_arguments(texts: Sequence[str]) -> Arguments:
    """Return what a command line asks for: its options, and its keys with their values.

    Raises
    ------
    HydraException
        When one cannot be read.
    """
    options, keys = divide(texts)
    found: list[Argument] = []
    for override in OverridesParser.create().parse_overrides(keys):
        is_sweep = override.is_sweep_override()
        argument = Argument(
            key=override.key_or_group,
            value=Swept(override) if is_sweep else override.value(),
            text=str(override.input_line),
            prefix=PREFIXES[override.type],
            is_sweep=is_sweep,
        )
        found.append(argument)
    return Arguments(options=tuple(options), keys=tuple(found))


def _sweep_values(override: Override) -> Sequence[Any]:
    if not override.is_discrete_sweep():
        raise ConfigurationError(
            f"{override.input_line}: an interval has no end of values; use range(start,stop,step) "
            "or a list"
        )
    swept = override.value()
    values: Sequence[Any]
    if isinstance(swept, RangeSweep):
        values = _range_values(swept, str(override.input_line))
    else:
        values = [_plain(value) for value in override.sweep_iterator()]
    if not values:
        raise ConfigurationError(f"{override.input_line}: holds no value; nothing to run")
    return values


def _range_values(sweep: RangeSweep, text: str) -> RangeValues:
    """Return the values of ``range(start, stop, step)``, counted and not yet made.

    Raises
    ------
    ConfigurationError
        When there is no end of them, or no number of them that a computer knows.
    """
    given = (sweep.start or 0, sweep.stop, sweep.step)
    start, stop, step = (Decimal(str(part)) for part in given)
    if not all(part.is_finite() for part in (start, stop, step)):
        raise ConfigurationError(
            f"{text}: start, stop and step must be finite, but got start={start}, stop={stop}, "
            f"step={step}"
        )
    if step == 0:
        raise ConfigurationError(f"{text}: `step != 0` must hold, but got step=0")
    count = max(0, math.ceil((Fraction(stop) - Fraction(start)) / Fraction(step)))
    if count > sys.maxsize:
        raise ConfigurationError(f"{text}: holds more values than can be counted; nothing was run")
    return RangeValues(
        start=start,
        step=step,
        n_values=count,
        whole=all(isinstance(part, int) for part in given),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value
