"""What a search draws from: one axis for each decision, an interval or a set of values.

How an axis becomes one of Optuna's distributions:

=======================================  ==========================================
``interval(5,60)``                       ``IntDistribution(5, 60)``
``interval(0.1,0.9)``                    ``FloatDistribution(0.1, 0.9)``
``tag(log,interval(1,100))``             the same with ``log=True``
evenly spaced whole numbers (10,20,30)   ``IntDistribution(10, 30, step=10)``
other numbers (5,20,60)                  ``IntDistribution(0, 2)``: their position
anything else (W,M)                      ``CategoricalDistribution(["W", "M"])``
=======================================  ==========================================
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest_batch.values import value_text

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Point = Mapping[str, Any]
"""One value for each axis, by key."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """All numbers from ``low`` to ``high``, both included; whole ones if both are whole.

    Attributes
    ----------
    low, high
        The ends.
    log
        Whether the logarithm is drawn evenly, rather than the number.
    """

    low: int | float
    high: int | float
    log: bool = False

    @property
    def fault(self) -> str | None:
        """What is wrong with it, or None."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return "both ends of an interval must be finite"
        if not self.low < self.high:
            return f"`low < high` must hold, but got low={self.low}, high={self.high}"
        if self.log and self.low <= 0:
            return f"a logarithmic interval must begin above 0, but got {self.low}"
        return None

    @property
    def is_whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def size(self) -> int | None:
        """How many values it has; None for infinitely many."""
        return int(self.high) - int(self.low) + 1 if self.is_whole else None

    def distribution(self) -> "BaseDistribution":
        """Return it in Optuna's terms."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(float(self.low), float(self.high), log=self.log)

    def drawn(self, value: Any) -> Any:
        """Return the value for what was drawn from the distribution."""
        return value

    def param(self, value: Any) -> Any:
        """Return what is drawn from the distribution for a value."""
        return value

    def cell(self, number: int) -> Any:
        """Return the value with a number, from 0; of whole ones only."""
        return int(self.low) + number

    def random(self, rng: np.random.Generator) -> Any:
        """Return a random value."""
        if self.is_whole:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        return float(rng.uniform(self.low, self.high))

    def __str__(self) -> str:
        text = f"{value_text(self.low)} to {value_text(self.high)}"
        return f"{text}, logarithmic" if self.log else text


@dataclass(frozen=True)
class ValueSet:
    """A few values: numbers have an order, other values have none.

    Parameters
    ----------
    values
        At least one; repeated ones count once.
    """

    values: tuple[Any, ...]

    @cached_property
    def distinct(self) -> tuple[Any, ...]:
        """The values without repetitions; numbers in increasing order."""
        found = tuple({_identity(value): value for value in self.values}.values())
        return tuple(sorted(found)) if self.is_ordered else found

    @cached_property
    def is_ordered(self) -> bool:
        """Whether all of them are numbers."""
        return all(_is_number(value) for value in self.values)

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.distinct)

    @cached_property
    def step(self) -> int | None:
        """The distance between whole numbers that are evenly spaced; else None."""
        if not self.is_ordered or not all(isinstance(value, int) for value in self.distinct):
            return None
        steps = {b - a for a, b in zip(self.distinct, self.distinct[1:], strict=False)}
        return steps.pop() if len(steps) == 1 else None

    @cached_property
    def _labels(self) -> tuple[str | int | float | bool | None, ...]:
        """What Optuna knows the values by: itself a value, or the text of a list or a mapping."""
        return tuple(
            value if isinstance(value, str | int | float | bool | None) else value_text(value)
            for value in self.distinct
        )

    def distribution(self) -> "BaseDistribution":
        """Return it in Optuna's terms."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        if self.step is not None:
            return IntDistribution(self.distinct[0], self.distinct[-1], step=self.step)
        if self.is_ordered:
            return IntDistribution(0, self.size - 1)
        return CategoricalDistribution(self._labels)

    def drawn(self, value: Any) -> Any:
        """Return the value for what was drawn from the distribution."""
        if self.step is not None:
            return value
        if self.is_ordered:
            return self.distinct[value]
        labels = [_identity(label) for label in self._labels]
        return self.distinct[labels.index(_identity(value))]

    def param(self, value: Any) -> Any:
        """Return what is drawn from the distribution for a value."""
        if self.step is not None:
            return value
        number = [_identity(item) for item in self.distinct].index(_identity(value))
        return number if self.is_ordered else self._labels[number]

    def cell(self, number: int) -> Any:
        """Return the value with a number, from 0."""
        return self.distinct[number]

    def random(self, rng: np.random.Generator) -> Any:
        """Return a random value."""
        return self.distinct[int(rng.integers(self.size))]

    def __str__(self) -> str:
        shown = ", ".join(map(value_text, self.distinct[:5]))
        more = self.size - 5
        return f"{shown} and {more:,} more" if more > 0 else shown


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _identity(value: Any) -> Hashable:
    """Return what tells values apart: 1 and True differ, lists can be compared."""
    return type(value).__name__, value_text(value)


@dataclass(frozen=True)
class SearchSpace:
    """The axes of a search, in order.

    Parameters
    ----------
    axes
        What is drawn from, by key.
    """

    axes: Mapping[str, Interval | ValueSet]

    @cached_property
    def size(self) -> int | None:
        """How many points it has; None for infinitely many."""
        sizes = [axis.size for axis in self.axes.values()]
        known = [size for size in sizes if size is not None]
        return math.prod(known) if len(known) == len(sizes) else None

    def distributions(self) -> "dict[str, BaseDistribution]":
        """Return the axes in Optuna's terms, by key."""
        return {key: axis.distribution() for key, axis in self.axes.items()}

    def point(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point for what was drawn from the distributions."""
        return {key: axis.drawn(params[key]) for key, axis in self.axes.items()}

    def params(self, point: Point) -> dict[str, Any]:
        """Return what is drawn from the distributions for a point."""
        return {key: axis.param(point[key]) for key, axis in self.axes.items()}

    def cell(self, number: int) -> dict[str, Any]:
        """Return the point with a number, from 0; the last axis changes fastest."""
        found: dict[str, Any] = {}
        for key, axis in reversed(list(self.axes.items())):
            assert axis.size is not None
            number, position = divmod(number, axis.size)
            found[key] = axis.cell(position)
        return {key: found[key] for key in self.axes}

    def random(self, rng: np.random.Generator) -> dict[str, Any]:
        """Return a random point."""
        return {key: axis.random(rng) for key, axis in self.axes.items()}

    def grid_size(self, points: Sequence[Point]) -> int:
        """Return how many points a grid of the same resolution has.

        Of an axis with finitely many values it has all of them, of a continuous one as many as the
        given points have.
        """
        return math.prod(
            axis.size if axis.size is not None else len({point[key] for point in points})
            for key, axis in self.axes.items()
        )


def place_of(point: Point) -> Hashable:
    """Return what tells points apart."""
    return tuple(_identity(value) for value in point.values())
