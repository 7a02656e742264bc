"""What people type: values that Hydra reads only within quotes get them where that is unambiguous.

Hydra's grammar takes letters of ASCII, digits and some characters without quotes, and the shell has
removed the quotes that were typed around a value. So ``separator=;``, ``symbols=[^GSPC]`` and
``description=profit & loss!`` come without any. They can mean one thing only, and are read so.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Sweep
from hydra.errors import HydraException

from backtest_batch.config.arguments import (
    FLAGS,
    OPTIONS_WITH_VALUE,
    divide,
    is_plain_key,
    option_value,
    plain_key,
    quote,
    quote_text,
)
from backtest_batch.errors import ConfigurationError
from backtest_batch.report.text import one_line

SIMPLE = re.compile(r"[\w./:+*@?|%-]+(,[\w./:+*@?|%-]+)*", re.ASCII)
"""Values that Hydra reads as they are."""

KEY = re.compile(r"(~|\+{0,2})[A-Za-z_$][\w$-]*([./][\w$-]+)*(@[\w.$:/-]*)?", re.ASCII)
"""Keys as Hydra reads them: ``key.key``, ``group/group``, ``group@package``, and what they do."""

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
    """Return the arguments that were typed as Hydra reads them.

    Raises
    ------
    ConfigurationError
        When one is not ``key=value``, or its value can mean several things or none; the message
        names the character that is at fault, and what to type.
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
    said, key = f"{one_line(name)}: is no option", name.strip("-").replace("-", "_")
    if KEY.fullmatch(key) and len(key) > 1:
        said += f"; keys are written without dashes: {key}={one_line(value) or '...'}"
    raise ConfigurationError(said)


def typed_text(key: str, text: str) -> str:
    """Return what to type in a shell so that a value is one text."""
    quoted = quote_text(text) if '"' in text or "\\" in text else f'"{text}"'
    return shlex.quote(f"{key}={quoted}")


def _readable(argument: str) -> str:
    key, equals, text = argument.partition("=")
    key = key.strip()
    if not key:
        around = "; there must be no spaces around =" if equals else ""
        raise ConfigurationError(f"{one_line(argument)!r}: is not key=value{around}")
    if not KEY.fullmatch(key):
        raise ConfigurationError(f"{one_line(str(key))}: is not a known key")
    if not equals:
        if key.startswith("~"):
            return key
        raise ConfigurationError(
            f"{one_line(argument)}: is not key=value; there must be no spaces around ="
        )
    if not text or SIMPLE.fullmatch(text):
        return f"{key}={text}"
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
    """Return what Hydra says of an argument that it cannot read."""
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        called = re.search(r"=\s*(\w+)\s*\(", argument)
        usage = USAGES.get(called[1]) if called else None
        return f"is no {usage}" if usage else "cannot be read"
    if isinstance(value, list | dict) and _holds_sweep(value):
        return "a sweep stands inside of a list or a mapping"
    return None


def _holds_sweep(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_holds_sweep, value if isinstance(value, list) else value.values()))
    return isinstance(value, Sweep)


class _Reader:
    """Reads a value from left to right, and writes it with quotes where Hydra needs them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> str:
        """Return the whole value: one element, or several of a sweep."""
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
        """Return what a bracket held; nothing else may stand beside it."""
        self._skip_spaces()
        if self._next and self._next not in ends:
            raise _UnreadableError(f"{self._next} stands behind {written[-1]}")
        return written

    def _mapping(self) -> str:
        items: dict[Any, str] = {}

        def read_item() -> str:
            key = self._key()
            if self._next != ":":
                raise _UnreadableError(
                    f"{one_line(str(key))} stands in {{}} without a colon and a value"
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
        """Return what stands before one of the characters that end it, as Hydra reads it."""
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
        """Go to one of the characters that end a word, and return the word."""
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
        """Go behind the bracket that closes the next one; commas between do not separate."""
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
