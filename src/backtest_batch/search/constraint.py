"""What a combination must satisfy, as text: ``strategy.fast < strategy.slow``.

A text is read by Python's own grammar, of which a few kinds of nodes are accepted: numbers, texts,
lists, keys, comparisons, arithmetic, ``and``, ``or``, ``not``, ``in``, four functions. Nothing is
handed to ``eval``. It becomes a tree whose nodes know two ways to a value: of one combination, as
Python would compute it, and of many at once, where these are numbers.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backtest_batch.arrays import BoolArray, FloatArray
from backtest_batch.errors import ConfigurationError
from backtest_batch.values import cut, value_text

LONGEST_RULE = 2_000
"""Most characters of a text."""
MOST_RULES = 100
DEEPEST = 60
"""Most levels of nested brackets, signs and functions."""
LARGEST_EXACT = 2.0**53
"""Whole numbers up to it are exact as floats."""
_MOST_BITS = 1_024

ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "absent"})()
"""In the place of a value: the combination has no such key."""

Array = FloatArray | BoolArray


class AbsentError(Exception):
    """A combination lacks a key on which the outcome depends."""


class RuleError(Exception):
    """A text has no value for a combination; the message says why, as a clause."""


class NotNumericError(Exception):
    """Many values cannot be computed at once."""


@dataclass(frozen=True, eq=False)
class _Node:
    """A part of a text.

    Attributes
    ----------
    names
        Keys on which its value depends.
    parts
        The nodes below it.
    """

    names: frozenset[str]
    parts: tuple["_Node", ...]

    def value(self, values: Mapping[str, Any]) -> Any:
        """Return its value for one combination."""
        raise NotImplementedError(values)

    def array(self, parts: Sequence[Array]) -> Array:
        """Return its values for many combinations, from those of its parts."""
        raise NotNumericError(parts)


@dataclass(frozen=True, eq=False)
class _Constant(_Node):
    constant: Any

    def value(self, values: Mapping[str, Any]) -> Any:  # noqa: ARG002 - as all parts
        return self.constant


@dataclass(frozen=True, eq=False)
class _Key(_Node):
    name: str

    def value(self, values: Mapping[str, Any]) -> Any:
        value = values[self.name]
        if value is ABSENT:
            raise AbsentError(self.name)
        return value


@dataclass(frozen=True, eq=False)
class _List(_Node):
    def value(self, values: Mapping[str, Any]) -> Any:
        return [part.value(values) for part in self.parts]


@dataclass(frozen=True, eq=False)
class _Arithmetic(_Node):
    sign: str
    compute: Callable[..., Any]

    def value(self, values: Mapping[str, Any]) -> Any:
        given = [part.value(values) for part in self.parts]
        _require_numbers(self.sign, given)
        return _computed(self.compute, given)

    def array(self, parts: Sequence[Array]) -> Array:
        if self.sign == "**" or any(part.dtype != np.float64 for part in parts):
            raise NotNumericError
        found = _VECTORISED.get(self.sign, self.compute)(*parts)
        # Python's whole numbers do not round. NaN fails the comparison, too.
        if not bool(np.all(np.abs(found) <= LARGEST_EXACT)):
            raise NotNumericError
        return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Comparison(_Node):
    signs: tuple[str, ...]

    def value(self, values: Mapping[str, Any]) -> Any:
        left = self.parts[0].value(values)
        for sign, part in zip(self.signs, self.parts[1:], strict=True):
            right = part.value(values)
            if not _compared(sign, left, right):
                return False
            left = right
        return True

    def array(self, parts: Sequence[Array]) -> Array:
        if any(part.dtype != np.float64 for part in parts):
            raise NotNumericError
        found: Any = True
        for sign, left, right in zip(self.signs, parts, parts[1:], strict=False):
            found = np.logical_and(found, _COMPARISONS[sign](left, right))
        return np.asarray(found, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class _Junction(_Node):
    """``and``, ``or``, or the negation of one part."""

    word: str

    def value(self, values: Mapping[str, Any]) -> Any:
        if self.word == "not":
            return not _truth(self.parts[0].value(values), "not")
        ends = self.word == "or"
        for part in self.parts:
            if _truth(part.value(values), self.word) is ends:
                return ends
        return not ends

    def array(self, parts: Sequence[Array]) -> Array:
        if any(part.dtype != np.bool_ for part in parts):
            raise NotNumericError
        if self.word == "not":
            return np.logical_not(parts[0])
        combine = np.logical_and if self.word == "and" else np.logical_or
        found = parts[0]
        for part in parts[1:]:
            found = combine(found, part)
        return np.asarray(found, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Rule:
    """One text of the key ``constraint``.

    Attributes
    ----------
    text
        As it was given.
    root
        What it means.
    """

    text: str
    root: _Node

    @property
    def names(self) -> frozenset[str]:
        """Keys that it names."""
        return self.root.names

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether a combination satisfies it.

        A combination without a key on which the outcome depends does: what compares parameters of
        one strategy does not speak of another strategy.

        Parameters
        ----------
        values
            Value of each of the names; ``ABSENT`` where there is none.

        Raises
        ------
        RuleError
            When there is no outcome: a division by zero, a text that is compared with a number.
        """
        try:
            found = self.root.value(values)
        except AbsentError:
            return True
        if not isinstance(found, bool | np.bool_):
            raise RuleError(f"it is {_shown(found)}, which is neither true nor false")
        return bool(found)


def parse_rules(given: Any) -> tuple[Rule, ...]:
    """Return the rules of the key ``constraint``: a text, a list of texts, or None.

    Raises
    ------
    ConfigurationError
        When it is something else, or one of the texts cannot be read; the message quotes it.
    """
    if given is None:
        return ()
    texts = given if isinstance(given, list | tuple) else [given]
    if len(texts) > MOST_RULES:
        raise ConfigurationError(
            f"constraint: at most {MOST_RULES} texts can be given, but got {len(texts):,}"
        )
    return tuple(map(parse_rule, texts))


def parse_rule(text: Any) -> Rule:
    """Return the rule that a text states; see :func:`parse_rules`."""
    if not isinstance(text, str):
        raise ConfigurationError(
            f"constraint={value_text(text)}: must be a text such as {EXAMPLE}, or a list of these"
        )
    if len(text) > LONGEST_RULE:
        raise ConfigurationError(
            f"constraint={cut(text, 60)}: holds {len(text):,} characters; at most "
            f"{LONGEST_RULE:,} are read. Several texts may be given as a list"
        )
    try:
        root = _read(_parsed(text), DEEPEST)
    except _UnreadError as why:
        raise ConfigurationError(f"constraint={_quoted(text)}: {why}") from None
    if not root.names:
        raise ConfigurationError(
            f"constraint={_quoted(text)}: names no key, so that it is the same for every "
            f"combination; write {EXAMPLE}"
        )
    return Rule(text, root)


EXAMPLE = '"strategy.fast < strategy.slow"'


class _UnreadError(Exception):
    """Why a text cannot be read, as a clause."""


def _parsed(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about backslashes in texts
            return ast.parse(text.strip(), mode="eval").body
    except (RecursionError, MemoryError):
        raise _UnreadError("is nested too deeply") from None
    except SyntaxError as error:
        raise _UnreadError(_syntax_clause(text, error)) from None
    except ValueError as error:  # a character that no source may hold, a number that is too long
        raise _UnreadError(f"cannot be read ({error})") from None


def _syntax_clause(text: str, error: SyntaxError) -> str:
    if not text.strip():
        return f"is empty; write {EXAMPLE}, or leave it out"
    if "nested" in str(error.msg):
        return "is nested too deeply"
    hints = (("&&", "and"), ("||", "or"), ("<>", "!="))
    for written, meant in hints:
        if written in text:
            return f"cannot be read; write {meant} for {written}"
    if "=" in text and not any(sign in text for sign in ("==", "<=", ">=", "!=")):
        return "cannot be read; equality is written =="
    return f"cannot be read ({error.msg}); write it like {EXAMPLE}"


_LITERALS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
"""Words of YAML; those of Python are literals already."""

_ARITHMETIC: Mapping[type, tuple[str, Callable[..., Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
    ast.USub: ("-", operator.neg),
    ast.UAdd: ("+", operator.pos),
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"abs": abs, "min": min, "max": max, "round": round}
_VECTORISED: Mapping[str, Callable[..., Any]] = {
    "abs": np.abs,
    "min": lambda *parts: _folded(np.minimum, parts),
    "max": lambda *parts: _folded(np.maximum, parts),
    "round": lambda *parts: _rounded(parts),
    "/": np.true_divide,
    "//": np.floor_divide,
    "%": np.remainder,
}
_COMPARISONS: Mapping[str, Callable[..., Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_SIGNS: Mapping[type, str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "==",
    ast.IsNot: "!=",
}


def _folded(combine: Callable[..., Any], parts: Sequence[Array]) -> Any:
    found = parts[0]
    for part in parts[1:]:
        found = combine(found, part)
    return found


def _rounded(parts: Sequence[Array]) -> Any:
    if len(parts) > 1:  # Python rounds decimals, numpy multiples
        raise NotNumericError
    return np.rint(parts[0])


def _read(node: ast.expr, deeper: int) -> _Node:
    """Return what a part of the text means; ``deeper`` is how many levels may follow."""
    if deeper == 0:
        raise _UnreadError("is nested too deeply")

    def read(*parts: ast.expr) -> tuple[_Node, ...]:
        return tuple(_read(part, deeper - 1) for part in parts)

    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return _Constant(frozenset(), (), node.value)
        case ast.Name(id=word) if word in _LITERALS:
            return _Constant(frozenset(), (), _LITERALS[word])
        case ast.Name() | ast.Attribute():
            name = _dotted(node)
            return _Key(frozenset({name}), (), name)
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            parts = read(*items)
            return _List(_names(parts), parts)
        case ast.BoolOp(op=op, values=items):
            parts = read(*items)
            return _Junction(_names(parts), parts, "and" if isinstance(op, ast.And) else "or")
        case ast.UnaryOp(op=ast.Not(), operand=item):
            parts = read(item)
            return _Junction(_names(parts), parts, "not")
        case ast.UnaryOp(op=(ast.USub() | ast.UAdd()) as sign, operand=item):
            parts = read(item)
            return _Arithmetic(_names(parts), parts, *_ARITHMETIC[type(sign)])
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _ARITHMETIC:
            parts = read(left, right)
            return _Arithmetic(_names(parts), parts, *_ARITHMETIC[type(sign)])
        case ast.Compare(left=left, ops=signs, comparators=items):
            return _read_comparison(signs, read(left, *items))
        case ast.Call(func=ast.Name(id=word), args=items, keywords=[]) if word in _FUNCTIONS:
            return _read_call(word, read(*items))
    raise _UnreadError(f"{_part_text(node)} is not allowed; {_ALLOWED}")


_ALLOWED = (
    "allowed are keys, numbers, texts in quotes, true, false, null, comparisons, `in` with a list, "
    "arithmetic, and, or, not, abs, min, max, round"
)


def _read_comparison(signs: Sequence[ast.cmpop], parts: tuple[_Node, ...]) -> _Node:
    for sign, part in zip(signs, parts[1:], strict=True):
        is_list = isinstance(part, _List)
        if isinstance(sign, ast.In | ast.NotIn) and not is_list:
            raise _UnreadError("after `in` must stand a list, such as [10, 20]")
        if isinstance(sign, ast.Is | ast.IsNot) and not isinstance(part, _Constant):
            raise _UnreadError("`is` compares with null, true and false; write == instead")
    return _Comparison(_names(parts), parts, tuple(_SIGNS[type(sign)] for sign in signs))


def _read_call(word: str, parts: tuple[_Node, ...]) -> _Node:
    wanted = {"abs": (1, 1), "round": (1, 2)}.get(word, (2, MOST_RULES))
    if not wanted[0] <= len(parts) <= wanted[1]:
        count = {"abs": "one value", "round": "one value, and digits"}.get(word, "several values")
        raise _UnreadError(f"{word} takes {count}, but got {len(parts)}")
    return _Arithmetic(_names(parts), parts, word, _FUNCTIONS[word])


def _names(parts: Sequence[_Node]) -> frozenset[str]:
    return frozenset().union(*(part.names for part in parts))


def _dotted(node: ast.expr) -> str:
    """Return a key such as ``strategy.fast``; what else has a dot is not one."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        if node.attr.startswith("__"):
            raise _UnreadError(f"{node.attr} is no key")
        return f"{_dotted(node.value)}.{node.attr}"
    raise _UnreadError(f"{_part_text(node)} is not allowed before a dot; {_ALLOWED}")


def _part_text(node: ast.AST) -> str:
    try:
        return cut(ast.unparse(node), 60)
    except (RecursionError, ValueError):
        return type(node).__name__


def _quoted(text: str) -> str:
    """Return a text for a message: in quotes, and not longer than a message should be."""
    return '"' + cut(" ".join(text.split()), 200) + '"'


def _shown(value: Any) -> str:
    text = cut(value_text(value), 60)
    return f'"{text}"' if isinstance(value, str) else text


def _kind(value: Any) -> str:
    return f"the text {_shown(value)}" if isinstance(value, str) else _shown(value)


def _require_numbers(sign: str, given: Sequence[Any]) -> None:
    for value in given:
        if not isinstance(value, int | float):
            raise RuleError(f"{sign} needs numbers, but got {_kind(value)}")
    if sign == "**":
        base, exponent = given
        if isinstance(base, int) and isinstance(exponent, int):
            bits = max(1, abs(base).bit_length()) * abs(exponent)
            if abs(base) > 1 and bits > _MOST_BITS:
                raise RuleError(f"{base} ** {exponent} is too large")
    if sign == "round" and len(given) == 2 and not isinstance(given[1], int):
        raise RuleError(f"round needs a whole number of digits, but got {_kind(given[1])}")


def _computed(compute: Callable[..., Any], given: Sequence[Any]) -> Any:
    try:
        found = compute(*given)
    except (ArithmeticError, ValueError) as error:
        clause = "division by zero" if isinstance(error, ZeroDivisionError) else str(error)
        raise RuleError(clause) from None
    if isinstance(found, complex):
        raise RuleError("a root of a negative number is none")
    if isinstance(found, int) and found.bit_length() > 2 * _MOST_BITS:
        raise RuleError("a number becomes too large")
    return found


def _compared(sign: str, left: Any, right: Any) -> bool:
    if sign in ("in", "not in"):
        return any(_equal(left, item) for item in right) == (sign == "in")
    if sign in ("==", "!="):
        return _equal(left, right) == (sign == "==")
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        raise RuleError(f"{_kind(left)} and {_kind(right)} have no order")
    return bool(_COMPARISONS[sign](left, right))


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, tuple):
        left = list(left)
    return bool(left == right)


def _truth(value: Any, word: str) -> bool:
    if isinstance(value, bool | np.bool_ | int | float) or value is None:
        return bool(value)
    raise RuleError(f"{word} needs true or false, but got {_kind(value)}")
