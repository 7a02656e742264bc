"""Read what people type: quote values, expand batch files and flags, recognise sweeps.

Hydra's grammar takes letters of ASCII, digits and some characters without quotes, and the shell has
removed the quotes that were typed around a value. So ``separator=;``, ``symbols=[^GSPC]`` and
``description=profit & loss!`` come without any. Such values can mean only one thing: they get the
quotes that Hydra needs where that is unambiguous.
"""

import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, overload

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    Override,
    OverrideType,
    QuotedString,
    RangeSweep,
    Sweep,
)
from hydra.errors import HydraException

from backtest_batch.config.arguments import (
    FLAGS,
    OPTIONS_WITH_VALUE,
    WHOLE_NODES,
    Argument,
    Arguments,
    argument_text,
    divide,
    is_plain_key,
    option_value,
    plain_key,
    quote,
    quote_text,
    refuse_repeats,
)
from backtest_batch.errors import ConfigurationError
from backtest_batch.report.tables import one_line

SIMPLE = re.compile(r"[\w./:+*@?|%-]+(,[\w./:+*@?|%-]+)*", re.ASCII)
"""Values that Hydra reads without quotes."""

TYPED_KEY = re.compile(r"(~|\+{0,2})[A-Za-z_$][\w$-]*([./][\w$-]+)*(@[\w.$:/-]*)?", re.ASCII)
"""Keys as Hydra reads them: ``key.key``, ``group/group``, ``group@package``, with prefixes."""

QUERY_KEYS = ("data.query",)
"""Keys that take a query of a database."""

RULE_KEY = "constraint"
"""The key that takes a comparison, which may be typed without quotes."""

QUERY = re.compile(r"\s*(select|with|from|values|table)\b", re.IGNORECASE)
"""How a query begins that is typed without quotes."""

FUNCTIONS = re.compile(r"\s*(range|choice|interval|glob|sort|shuffle|tag|int|float|str|bool)\s*")
USAGES = {
    "range": "range(start,stop,step) of numbers",
    "choice": "choice(value,value,...)",
    "glob": "glob(pattern)",
}
CLOSING = {"[": "]", "{": "}", "(": ")"}


class _UnreadableError(Exception):
    """Why a value cannot be read, as a clause."""


def readable(arguments: Sequence[str]) -> list[str]:
    """Return the typed arguments in the form that Hydra reads.

    Raises
    ------
    ConfigurationError
        When one is not ``key=value``, or its value can mean several things or none; the message
        names the character at fault, and what to type.
    """
    options, typed = divide(arguments)
    value_follows = False
    for item in options:
        if not value_follows:
            _check_option(item)
        value_follows = item in OPTIONS_WITH_VALUE
    if value_follows and options[-1] not in ("--info", "-i"):
        raise ConfigurationError(f"{options[-1]}: needs a value")
    if option_value(options, "--package", "-p") and not option_value(options, "--cfg", "-c"):
        raise ConfigurationError("--package: says what --cfg shows, and needs --cfg job")
    return [*options, *map(_readable, typed)]


def _check_option(option: str) -> None:
    name, _, value = option.partition("=")
    if name in OPTIONS_WITH_VALUE or name in FLAGS:
        return
    message, key = f"{one_line(name)}: is not an option", name.strip("-").replace("-", "_")
    if TYPED_KEY.fullmatch(key) and len(key) > 1:
        message += f"; keys are written without dashes: {key}={one_line(value) or '...'}"
    raise ConfigurationError(message)


def typed_text(key: str, text: str) -> str:
    """Return what to type in a shell for a value that is one text."""
    quoted = quote_text(text) if '"' in text or "\\" in text else f'"{text}"'
    return shlex.quote(f"{key}={quoted}")


def _readable(argument: str) -> str:
    key, equals, text = argument.partition("=")
    key = key.strip()
    if not key:
        around = "; there must be no spaces around =" if equals else ""
        raise ConfigurationError(f"{one_line(argument)!r}: is not key=value{around}")
    if not TYPED_KEY.fullmatch(key):
        raise ConfigurationError(f"{one_line(str(key))}: is not a known key")
    if not equals:
        if key.startswith("~"):
            return key
        raise ConfigurationError(
            f"{one_line(argument)}: is not key=value; there must be no spaces around ="
        )
    if not text or SIMPLE.fullmatch(text):
        return f"{key}={text}"
    if key.lstrip("+") in QUERY_KEYS and QUERY.match(text):
        return f"{key}={quote_text(text)}"  # its commas separate columns, not values of a sweep
    if key == RULE_KEY and text.lstrip()[:1] not in ("[", '"', "'"):
        return f"{key}={quote_text(text)}"  # its commas separate values of a list or a function
    try:
        return f"{key}={_value(key, text)}"
    except _UnreadableError as why:
        raise ConfigurationError(
            f"{one_line(f'{key}={text}')}: {why}. To give it as one text, write "
            f"{one_line(typed_text(key, text))}"
        ) from None


def _value(key: str, text: str) -> str:
    """Return a value as Hydra reads it.

    Raises
    ------
    _UnreadableError
        When there is none.
    """
    if not text.strip() or len(text) == 1:
        return quote_text(text)
    fault = _fault(f"{key}={text}")
    if fault is None and "{" not in text:
        return text
    written = _Reader(text).read()
    if fault is not None:
        fault = _fault(f"{key}={written}")
        if fault is not None:
            raise _UnreadableError(fault)
        return written
    return text


def _fault(argument: str) -> str | None:
    """Return Hydra's error about an argument that it cannot read."""
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        called = re.search(r"=\s*(\w+)\s*\(", argument)
        usage = USAGES.get(called[1]) if called else None
        return f"is no {usage}" if usage else "cannot be read"
    if isinstance(value, list | dict) and _holds_sweep(value):
        return "a sweep is inside a list or a mapping"
    return None


def _holds_sweep(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_holds_sweep, value if isinstance(value, list) else value.values()))
    return isinstance(value, Sweep)


class _Reader:
    """Reads a value from left to right, and adds the quotes that Hydra needs."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> str:
        """Return the whole value: one element, or several in a sweep."""
        elements = self._elements("")
        return ",".join(elements)

    def _elements(self, end: str) -> list[str]:
        """Return the elements up to a closing bracket, or to the end of the text."""
        return self._listed(end, lambda: self._element("," + end))

    def _listed(self, end: str, read_one: Callable[[], str]) -> list[str]:
        opened = self._at
        found: list[str] = []
        while True:
            self._skip_spaces()
            if self._next == end and not found:
                break
            if self._next in (",", end):
                where = "after the last comma" if self._next == end else "before a comma"
                raise _UnreadableError(f"a value is missing {where}")
            found.append(read_one())
            self._skip_spaces()
            if self._next == end:
                break
            if not self._next:
                raise _UnreadableError(f"{self._text[opened - 1]} is not closed")
            self._at += 1
        self._at += 1
        return found

    def _element(self, ends: str) -> str:
        if self._next == "[":
            self._at += 1
            return self._closed("[" + ",".join(self._elements("]")) + "]", ends)
        if self._next == "{":
            self._at += 1
            return self._closed(self._mapping(), ends)
        return self._word(ends)

    def _closed(self, written: str, ends: str) -> str:
        """Return the content of a bracket; nothing may follow the bracket."""
        self._skip_spaces()
        if self._next and self._next not in ends:
            raise _UnreadableError(f"{self._next} follows {written[-1]}")
        return written

    def _mapping(self) -> str:
        items: dict[Any, str] = {}

        def read_item() -> str:
            key = self._key()
            if self._next != ":":
                raise _UnreadableError(
                    f"{one_line(str(key))} is in {{}} without a colon and a value"
                )
            self._at += 1
            self._skip_spaces()
            if self._next in (",", "}"):
                raise _UnreadableError(f"{one_line(str(key))} has no value")
            if key in items:
                raise _UnreadableError(f"{one_line(str(key))} is given twice")
            items[key] = self._element(",}")
            return str(key)

        self._listed("}", read_item)
        if all(isinstance(key, int) or is_plain_key(key) for key in items):
            return "{" + ",".join(f"{plain_key(key)}:{item}" for key, item in items.items()) + "}"
        return quote({key: _evaluated(item) for key, item in items.items()})

    def _word(self, ends: str) -> str:
        """Return the text up to one of the characters that end it, as Hydra reads it."""
        word = self._passed(ends)
        if _fault(f"key={word}") is None:
            return word
        function = re.match(r"(\w+)\s*\(", word)
        if function and FUNCTIONS.fullmatch(function[1]) and word.endswith(")"):
            return word  # Hydra says what is wrong with it
        return quote_text(word)

    def _key(self) -> str | int:
        """Return a key of a mapping: a number without quotes is one."""
        text = self._passed(":,}", is_key=True)
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            return str(_evaluated(text))
        if re.fullmatch(r"[+-]?\d+", text, re.ASCII):
            return int(text)
        return re.sub(r"\\([ :=,()\[\]{}\\])", r"\1", text)

    def _passed(self, ends: str, *, is_key: bool = False) -> str:
        """Move to one of the characters that end a word, and return the word."""
        start = self._at
        while self._next and self._next not in ends:
            character = self._next
            before = self._text[start : self._at]
            if character == "\\" and self._at + 1 < len(self._text):
                self._at += 2
            elif character in "'\"" and not before[-1:].isalnum():
                self._skip_quoted(required=not before.strip())
            elif character in "([{" and not is_key:
                is_call = FUNCTIONS.fullmatch(before) is not None
                self._skip_bracket(required=character != "(" or is_call)
            elif character in "]}":
                raise _UnreadableError(f"{character} closes nothing")
            else:
                self._at += 1
        return self._text[start : self._at].strip()

    def _skip_quoted(self, *, required: bool) -> None:
        character, position = self._next, self._at + 1
        while position < len(self._text) and self._text[position] != character:
            position += 2 if self._text[position] == "\\" else 1
        if position < len(self._text):
            self._at = position + 1
        elif required:
            raise _UnreadableError(f"the quote {character} is not closed")
        else:
            self._at += 1

    def _skip_bracket(self, *, required: bool) -> None:
        """Move past the bracket that closes the next one; commas inside do not separate."""
        opening, depth = self._next, 0
        for position in range(self._at, len(self._text)):
            if self._text[position] == opening:
                depth += 1
            elif self._text[position] == CLOSING[opening]:
                depth -= 1
                if depth == 0:
                    self._at = position + 1
                    return
        if required:
            raise _UnreadableError(f"{opening} is not closed")
        self._at += 1

    def _skip_spaces(self) -> None:
        while self._next in (" ", "\t", "\n", "\r"):
            self._at += 1

    @property
    def _next(self) -> str:
        return self._text[self._at : self._at + 1]


def _evaluated(text: str) -> Any:
    """Return the plain value that Hydra reads from a text."""
    return OverridesParser.create().parse_override(f"key={text}").value()


PROFILING_FLAG = "--with-profiling"

MOST_VALUES = 10_000_000
"""Most values in a file, with every alias (``*name``) expanded."""

KEY = re.compile(r"[A-Za-z_][\w-]*([./][\w-]+)*", re.ASCII)


def expand_arguments(arguments: Arguments) -> Arguments:
    """Return one argument per key, with shorthands replaced by the keys they stand for.

    ``--with-profiling`` becomes ``profiling.enabled=true``, and ``batch_file`` the keys in the
    file, except those that are also given beside it.

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
        return expanded.merged()
    # strategy={fast: 10} sets a value, and does not replace the file's choice.
    given = {item.key for item in keys if not item.is_mapping or item.key in WHOLE_NODES}
    from_file = [item for item in read_batch_file(Path(name)) if item.key not in given]
    return expanded.with_keys([*from_file, *keys]).merged()


def read_batch_file(path: Path) -> list[Argument]:
    """Return the keys and values of a batch file, YAML or JSON by its name.

    Raises
    ------
    ConfigurationError
        When it cannot be read, is not a mapping of keys, or repeats a key.
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
            f"{where}must not hold trust; to trust a batch, type trust=true on the command line"
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
    except ValueError as error:  # a character that paths cannot have
        raise ConfigurationError(f"{where}cannot be read ({error})") from error
    try:
        content = _json(text) if kind == "JSON" else yaml.load(text, _Loader)
        if _size(content, {}) > MOST_VALUES:
            raise ConfigurationError(f"{where}holds more than {MOST_VALUES:,} values")
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where}is not valid {kind}: {_yaml_problem(error)}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{where}is nested too deeply, or contains itself") from error
    except ConfigurationError:
        raise
    except ValueError as error:
        raise ConfigurationError(f"{where}is not valid {kind}: {error}") from error
    return content


def _size(value: Any, known: dict[int, int | None]) -> int:
    """Return how many values a value holds; each use of an alias counts."""
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

    A date stays text, 1e-3 is a number; no and on, 12:30 and 0700 are text, which PyYAML reads as
    false and true, 750 and 448. A repeated key is an error.
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
    """The values of ``range(start, stop, step)``, computed in decimals, on demand.

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
            return [self[index] for index in range(*position.indices(self.n_values))]
        value = self.start + self.step * range(self.n_values)[position]
        return int(value) if self.whole else float(value)


@dataclass(frozen=True, eq=False)
class Swept:
    """The values of a typed sweep, made on demand.

    Two are equal if they give the same values in the same order, however they are written.
    """

    override: Override

    @property
    def text(self) -> str:
        """The sweep as it was typed."""
        return argument_text(str(self.override.input_line))

    def values(self, loader: ConfigLoader | None = None) -> Sequence[Any]:
        """Return the values; a ``glob`` yields choices that the loader knows.

        Raises
        ------
        ConfigurationError
            When there is none, or infinitely many.
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
    """Return the options of a command line, and its keys with their values.

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


MOST_LISTED = 100_000
"""Values of a list that are looked at; a range, which may be longer, holds numbers only."""


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
    if any(isinstance(value, Sweep) for value in values[:MOST_LISTED]):
        raise ConfigurationError(
            f"{override.input_line}: a sweep is among other values; write one interval or range "
            "alone, or list values"
        )
    return values


def _range_values(sweep: RangeSweep, text: str) -> RangeValues:
    """Return the values of ``range(start, stop, step)``, counted but not yet made.

    Raises
    ------
    ConfigurationError
        When there are infinitely many, or more than can be counted.
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
