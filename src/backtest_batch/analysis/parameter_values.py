"""Values of swept parameters as levels: distinct, ordered, coded by position."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import IntArray
from backtest_batch.records import Scalar
from backtest_batch.values import value_text


def plain_value(value: Any) -> Scalar:
    """Return a parameter's value as a plain scalar.

    Missing values (None, NaN, NaT, pandas' NA) become None, numpy scalars Python ones, lists and
    mappings their JSON text, anything else its ``str``.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple | dict):
        return value_text(value)
    return str(value)


def value_as_typed(value: Any) -> str:
    """Return a parameter's value as it is typed on the command line.

    Floats by ``repr`` (``0.5``, ``0.0``), None as ``null``, booleans as ``true`` and ``false``.
    Nothing is shortened.
    """
    return value_text(plain_value(value))


def typed_value(text: str) -> Scalar:
    """Return the value that a store kept as text; the inverse of :func:`value_as_typed`.

    ``null``, ``true`` and ``false`` are read as such, numbers where they are written as Python
    writes them (``0.5``, ``20``; ``020`` and ``1e3`` stay text). A text that looks like one of
    these is taken for it: a store does not know the difference.
    """
    if text in _WORDS:
        return _WORDS[text]
    for read in (int, float):
        try:
            value = read(text)
        except ValueError:
            continue
        if repr(value) == text and math.isfinite(value):
            return value
    return text


def choice_name(target: str) -> str:
    """Return the choice that a config group with this ``_target_`` is called by convention.

    ``backtest_batch.strategies.TrendBaseline`` is ``trend_baseline``. A configuration holds
    the class and not the name of the file that chose it.
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", target.rpartition(".")[2]).lower()


_HASHED = frozenset((str, int, float, bool))

_WORDS: dict[str, Scalar] = {"null": None, "true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The distinct values of one parameter.

    Attributes
    ----------
    codes
        Position in ``values`` of each run's value, shape (n_runs,).
    values
        Distinct values: None first, then booleans, numbers and texts, each in ascending order.
        ``1`` and ``1.0`` are one level; ``1``, ``true`` and ``"1"`` are three.
    """

    codes: IntArray
    values: tuple[Scalar, ...]

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers (None aside), of which there is at least one."""
        given = [value for value in self.values if value is not None]
        return bool(given) and all(_is_number(value) for value in given)


def levels_of(values: Iterable[Any]) -> Levels:
    """Return the levels of a parameter, whatever the order of the runs.

    Parameters
    ----------
    values
        One value for each run.
    """
    keys: list[tuple[int, Any]] = []
    # Of 1 and 1.0 the float stands for both, whichever run comes first.
    distinct: dict[tuple[int, Any], Scalar] = {}
    # Parameters have few distinct values among many runs: each is read once.
    known: dict[tuple[type, Any], tuple[int, Any]] = {}
    for given in values:
        kind = type(given)
        key = known.get((kind, given)) if kind in _HASHED else None
        if key is None:
            value = plain_value(given)
            key = _sort_key(value)
            if kind in _HASHED:
                known[kind, given] = key
            if key not in distinct or isinstance(value, float):
                distinct[key] = value
        keys.append(key)
    position = {key: code for code, key in enumerate(sorted(distinct))}
    codes = np.fromiter((position[key] for key in keys), dtype=np.int64, count=len(keys))
    return Levels(codes=codes, values=tuple(distinct[key] for key in position))


def cells_of(codes: Sequence[IntArray], n_runs: int) -> IntArray:
    """Return a number for each run, alike for runs with the same combination of levels.

    Parameters
    ----------
    codes
        Level codes, each of shape (n_runs,); none at all puts every run into cell 0.
    n_runs
        Number of runs.

    Returns
    -------
    ndarray of shape (n_runs,)
        Consecutive numbers from 0, in the order of the codes.
    """
    cells: IntArray = np.zeros(n_runs, dtype=np.int64)
    for column in codes:
        if n_runs == 0:
            break
        # Renumbering after each column keeps the product below n_runs ** 2: no overflow.
        combined = cells * (int(column.max()) + 1) + column
        cells = np.unique(combined, return_inverse=True)[1].astype(np.int64)
    return cells


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sort_key(value: Scalar) -> tuple[int, Any]:
    if value is None:
        return 0, 0
    if isinstance(value, bool):
        return 1, value
    return (3, value) if isinstance(value, str) else (2, value)
