"""Which combinations of a grid satisfy its constraint: counted, and listed in order, lazily.

A grid is a product of dimensions. A rule depends on some of them, so that it is evaluated over the
product of these alone; rules that share a dimension are put together. Ten million combinations
are counted without being made.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from backtest_batch.arrays import BoolArray
from backtest_batch.errors import ConfigurationError
from backtest_batch.search.constraint import (
    ABSENT,
    LARGEST_EXACT,
    AbsentError,
    Array,
    NotNumericError,
    Rule,
    RuleError,
)
from backtest_batch.values import cut, value_text

MOST_CELLS = 100_000_000
"""Most combinations of the dimensions that rules with a dimension in common name."""
MOST_ONE_BY_ONE = 10_000_000
"""Most of them where they cannot be computed many at once."""
_BLOCK = 1_000_000
"""Combinations that are computed at once."""
_FEW = 4_096
"""Up to so many values of a part, they are computed one by one, whatever they are."""


@dataclass(frozen=True, eq=False)
class Variable:
    """The values of a key over the grid.

    Attributes
    ----------
    dimensions
        Positions of the dimensions on which its value depends, ascending; none for a constant.
    values
        Its values over the product of these dimensions, the last one fastest.
    """

    dimensions: tuple[int, ...]
    values: Sequence[Any]


@dataclass(frozen=True, eq=False)
class Mask:
    """What holds over the product of some dimensions.

    Attributes
    ----------
    dimensions
        Their positions, ascending.
    holds
        Shape as the dimensions.
    """

    dimensions: tuple[int, ...]
    holds: BoolArray

    @cached_property
    def begun(self) -> tuple[BoolArray, ...]:
        """Which beginnings can be completed, by their number of dimensions less one."""
        parts = [self.holds]
        while parts[-1].ndim > 1:
            parts.append(np.asarray(parts[-1].any(axis=-1), dtype=np.bool_))
        return tuple(reversed(parts))


@dataclass(frozen=True, eq=False)
class Kept:
    """The combinations of a grid that satisfy its rules.

    Attributes
    ----------
    sizes
        Number of points of each dimension.
    masks
        What holds; each dimension is in at most one mask.
    """

    sizes: tuple[int, ...]
    masks: tuple[Mask, ...] = ()

    @property
    def n_cells(self) -> int:
        """Number of combinations of the whole grid."""
        return math.prod(self.sizes)

    @property
    def size(self) -> int:
        """Number of combinations that hold."""
        return self.count(range(len(self.sizes)))

    def count(self, dimensions: Sequence[int]) -> int:
        """Return how many different combinations of some dimensions occur."""
        wanted = set(dimensions)
        masked = {item for mask in self.masks for item in mask.dimensions}
        found = math.prod(self.sizes[item] for item in wanted - masked)
        for mask in self.masks:
            others = tuple(n for n, item in enumerate(mask.dimensions) if item not in wanted)
            holds = mask.holds.any(axis=others) if others else mask.holds
            found *= int(np.count_nonzero(holds))
        return found

    def positions(self) -> Iterator[tuple[int, ...]]:
        """Yield the combinations that hold, as positions; the last dimension is the fastest."""
        if not self.size:
            return
        if not self.masks:
            yield from itertools.product(*map(range, self.sizes))
            return
        where = {
            item: (mask, depth) for mask in self.masks for depth, item in enumerate(mask.dimensions)
        }
        yield from self._below((), where)

    def _below(
        self, chosen: tuple[int, ...], where: Mapping[int, tuple[Mask, int]]
    ) -> Iterator[tuple[int, ...]]:
        at = len(chosen)
        if at == len(self.sizes):
            yield chosen
            return
        for point in self._next(at, chosen, where):
            yield from self._below((*chosen, point), where)

    def _next(
        self, at: int, chosen: tuple[int, ...], where: Mapping[int, tuple[Mask, int]]
    ) -> Sequence[int]:
        """Return the points of a dimension with which a beginning can be completed."""
        if at not in where:
            return range(self.sizes[at])
        mask, depth = where[at]
        begun = tuple(chosen[item] for item in mask.dimensions[:depth])
        found: list[int] = np.flatnonzero(mask.begun[depth][begun]).tolist()
        return found


def kept_cells(
    sizes: Sequence[int], rules: Sequence[Rule], variables: Mapping[str, Variable]
) -> Kept:
    """Return the combinations of a grid that satisfy every rule.

    Parameters
    ----------
    sizes
        Number of points of each dimension.
    rules
        What must hold. A rule is only asked about combinations that satisfy those before it.
    variables
        Values of the keys that the rules name.

    Raises
    ------
    ConfigurationError
        When a rule has no outcome for a combination, or they name dimensions that span too many.
    """
    sizes = tuple(sizes)
    masks = [
        Mask(dimensions, _Space(sizes, dimensions, variables).mask(own))
        for dimensions, own in _components(rules, variables)
    ]
    return Kept(sizes, tuple(masks))


def _components(
    rules: Sequence[Rule], variables: Mapping[str, Variable]
) -> Iterator[tuple[tuple[int, ...], list[Rule]]]:
    """Yield dimensions and rules such that rules of different components share no dimension."""
    found: list[tuple[set[int], list[int]]] = []
    for number, rule in enumerate(rules):
        dimensions = {item for name in rule.names for item in variables[name].dimensions}
        numbers = [number]
        for others in [item for item in found if item[0] & dimensions]:
            dimensions |= others[0]
            numbers += others[1]
            found.remove(others)
        found.append((dimensions, numbers))
    for dimensions, numbers in found:
        yield tuple(sorted(dimensions)), [rules[number] for number in sorted(numbers)]


class _Space:
    """The product of some dimensions, over which rules are evaluated."""

    def __init__(
        self,
        sizes: tuple[int, ...],
        dimensions: tuple[int, ...],
        variables: Mapping[str, Variable],
    ) -> None:
        self._dimensions = dimensions
        self._sizes = sizes
        self._shape = tuple(sizes[item] for item in dimensions)
        self._variables = variables
        self._parts: dict[int, Array] = {}

    def mask(self, rules: Sequence[Rule]) -> BoolArray:
        """Return where all rules hold."""
        n_cells = math.prod(self._shape)
        if n_cells > MOST_CELLS:
            raise ConfigurationError(
                f"constraint: {_listed(rules)} names axes that span {n_cells:,} combinations, and "
                f"at most {MOST_CELLS:,} are looked at; nothing was run. Take fewer values of "
                "these axes"
            )
        holds: BoolArray = np.ones(self._shape, dtype=np.bool_)
        for rule in rules:
            try:
                self._many(rule, holds)
            except NotNumericError:
                self._one_by_one(rule, holds)
            if not holds.any():
                break
        return holds

    def _many(self, rule: Rule, holds: BoolArray) -> None:
        """Evaluate a rule over blocks of the first dimension, and note where it does not hold.

        Raises
        ------
        NotNumericError
            When it cannot be; nothing is changed then.
        """
        if math.prod(self._shape) <= _FEW or not self._shape:
            raise NotNumericError
        rows = max(1, _BLOCK // max(1, math.prod(self._shape[1:])))
        found: BoolArray = np.empty(self._shape, dtype=np.bool_)
        for start in range(0, self._shape[0], rows):
            block = slice(start, start + rows)
            with np.errstate(all="raise", under="ignore"):
                try:
                    part = self._array(rule.root, block)
                except FloatingPointError:
                    raise NotNumericError from None
            if part.dtype != np.bool_:
                raise NotNumericError
            found[block] = part
        holds &= found

    def _array(self, node: Any, block: slice) -> Array:
        """Return the values of a part of a rule, to be broadcast over the block."""
        dimensions = sorted({i for name in node.names for i in self._variables[name].dimensions})
        n_values = math.prod(self._sizes[item] for item in dimensions)
        if n_values > _FEW and node.parts:
            return node.array([self._array(part, block) for part in node.parts])  # type: ignore[no-any-return]
        whole = self._parts.get(id(node))
        if whole is None:
            whole = self._parts[id(node)] = self._tabulated(node, dimensions)
        starts_here = bool(dimensions) and dimensions[0] == self._dimensions[0]
        return whole[block] if starts_here else whole

    def _tabulated(self, node: Any, dimensions: Sequence[int]) -> Array:
        """Return the values of a part, one by one, in the shape of the product."""
        try:
            values = [node.value(given) for given in self._given(node.names, dimensions)]
        except (RuleError, AbsentError):
            # Where it matters at all is found one by one.
            raise NotNumericError from None
        shape = [n if item in dimensions else 1 for item, n in self._lengths]
        return _numeric(values).reshape(shape)

    @property
    def _lengths(self) -> list[tuple[int, int]]:
        return list(zip(self._dimensions, self._shape, strict=True))

    def _one_by_one(self, rule: Rule, holds: BoolArray) -> None:
        """Evaluate a rule for each combination that holds so far."""
        dimensions = sorted({i for name in rule.names for i in self._variables[name].dimensions})
        n_cells = math.prod(self._sizes[item] for item in dimensions)
        if n_cells > MOST_ONE_BY_ONE:
            raise ConfigurationError(
                f'constraint="{cut(rule.text, 200)}": names axes that span {n_cells:,} '
                "combinations, and those that are not all numbers are looked at one by one, at "
                f"most {MOST_ONE_BY_ONE:,}; nothing was run. Take fewer values of these axes"
            )
        others = tuple(n for n, item in enumerate(self._dimensions) if item not in dimensions)
        wanted = holds.any(axis=others) if others else holds
        found = np.zeros(wanted.shape, dtype=np.bool_)
        flat = found.reshape(-1)
        cells = zip(wanted.ravel().tolist(), self._given(rule.names, dimensions), strict=True)
        for cell, (needed, given) in enumerate(cells):
            if needed:
                try:
                    flat[cell] = rule.holds(given)
                except RuleError as why:
                    raise no_outcome(rule, given, why) from None
        holds &= np.expand_dims(found, others) if others else found

    def _given(
        self, names: frozenset[str], dimensions: Sequence[int]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the values of names over the product of some dimensions.

        It is one mapping, with other values each time.
        """
        given: dict[str, Any] = {}
        own = [
            (name, self._variables[name].values, self._steps(name, dimensions)) for name in names
        ]
        for points in itertools.product(*(range(self._sizes[item]) for item in dimensions)):
            for name, values, steps in own:
                at = 0
                for depth, step in steps:
                    at += points[depth] * step
                given[name] = values[at]
            yield given

    def _steps(self, name: str, dimensions: Sequence[int]) -> list[tuple[int, int]]:
        """Return by how much each of the dimensions moves in the values of a name."""
        steps, step = [], 1
        for item in reversed(self._variables[name].dimensions):
            steps.append((list(dimensions).index(item), step))
            step *= self._sizes[item]
        return steps


def no_outcome(rule: Rule, given: Mapping[str, Any], why: RuleError) -> ConfigurationError:
    """Return the error about a rule that has no outcome for a combination."""
    named = " ".join(
        f"{name}={value_text(value)}"
        for name, value in sorted(given.items())
        if value is not ABSENT
    )
    return ConfigurationError(
        f'constraint="{cut(rule.text, 200)}": cannot be evaluated for {named}: {why}; nothing was '
        "run"
    )


def _numeric(values: list[Any]) -> Array:
    """Return values as an array, if they are all numbers or all truth values."""
    if all(isinstance(value, bool) for value in values):
        return np.array(values, dtype=np.bool_)
    with contextlib.suppress(OverflowError):
        if all(
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= LARGEST_EXACT
            for value in values
        ):
            return np.array(values, dtype=np.float64)
    raise NotNumericError


def _listed(rules: Sequence[Rule]) -> str:
    return " and ".join(f'"{cut(rule.text, 200)}"' for rule in rules)
