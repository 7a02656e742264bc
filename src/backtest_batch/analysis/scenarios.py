"""Scenario axes and decision axes, and their values as levels: distinct, ordered, coded.

Scenario axes are conditions that a strategy is judged under; decision axes are choices about it.
"""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import BoolArray, IntArray
from backtest_batch.config.checks import check_axes
from backtest_batch.config.schema import MARKET_KEYS, NODES, SCENARIO_KEYS
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import RunRecord, RunResult, Scalar
from backtest_batch.values import value_text

ONE_SCENARIO = "base"
"""Label of the scenario of a batch that sweeps no scenario axis."""


@dataclass(frozen=True)
class AxisKinds:
    """Which swept keys are conditions that a strategy is judged under, and which are choices.

    Conditions are the scenario keys of the configuration; everything else that is swept is a
    choice, including what is traded and when.

    Parameters
    ----------
    scenario, decision
        Keys moved to the conditions, and keys moved to the choices. Each also applies to the
        keys below it (``data.path`` is below ``data``); where several apply to a key, the longest
        counts.

    Raises
    ------
    ConfigurationError
        When a key is moved both ways.
    """

    scenario: tuple[str, ...] = ()
    decision: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = list(check_axes(self.scenario, self.decision))
        if faults:
            raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "AxisKinds":
        """Return the kinds that a root configuration names."""
        return cls(tuple(config["scenario_axes"]), tuple(config["decision_axes"]))

    def is_scenario(self, name: str) -> bool:
        """Return whether a key, such as ``commission_bps`` or ``data.path``, is a condition."""
        parts = name.split(".")
        for depth in range(len(parts), 0, -1):
            above = ".".join(parts[:depth])
            if above in self.scenario:
                return True
            if above in self.decision:
                return False
        return parts[0] in SCENARIO_KEYS

    def scenario_names(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the swept keys that are scenario axes, in the order given."""
        return tuple(name for name in names if self.is_scenario(name))

    def divides(self, name: str) -> bool:
        """Return whether one of the moved keys lies below this one."""
        below = f"{name}."
        return any(named.startswith(below) for named in (*self.scenario, *self.decision))

    def without_effect(self, names: Sequence[str]) -> list[str]:
        """Return one sentence for each moved key that has no effect on any swept key.

        Otherwise a typo in a name would silently count conditions as choices, or choices as
        conditions.

        Parameters
        ----------
        names
            The swept keys.
        """
        notes = []
        effects = {"scenario_axes": "it divides no runs", "decision_axes": "it joins no runs"}
        for key, axes in (("scenario_axes", self.scenario), ("decision_axes", self.decision)):
            for axis in axes:
                if any(f"{name}.".startswith(f"{axis}.") for name in names):
                    continue
                close = difflib.get_close_matches(axis, names, n=1)
                meant = f" (did you mean {close[0]}?)" if close else ""
                notes.append(f"{key}={axis} is not a swept parameter{meant}: {effects[key]}.")
        return notes


def is_market(name: str) -> bool:
    """Return whether a key says what is traded, or when."""
    return name.partition(".")[0] in MARKET_KEYS


def scenario_label(values: Mapping[str, Any]) -> str:
    """Return the name of a scenario, such as ``commission_bps=0.5 max_gross_exposure=0.8``.

    Parameters
    ----------
    values
        Values of the swept scenario axes, in axis order; without any, the label is ``base``.
    """
    words = [f"{name}={value_as_typed(value)}" for name, value in values.items()]
    return " ".join(words) or ONE_SCENARIO


def scaled_text(cap: str, value: float | None, scaled: int, n_decisions: int) -> str:
    """Return ``max_gross_exposure=1.0 scaled down 131 of 390 decisions``."""
    return f"{cap}={value} scaled down {scaled} of {n_decisions} decisions"


def cap_notes(records: Iterable[RunRecord], swept: Collection[str]) -> list[str]:
    """Say which caps scaled decisions down, in one line for the whole batch.

    Swept caps are left out: they are what the batch asks about.

    Parameters
    ----------
    records
        The runs.
    swept
        The swept keys.
    """
    found: dict[str, list[tuple[int, Mapping[str, Any], str, int]]] = {}
    for record in records:
        if isinstance(record.outcome, RunResult):
            for cap, scaled in record.outcome.scaled_by.items():
                if scaled and cap not in swept:
                    entry = (scaled, record.spec.config, record.spec.run_id)
                    found.setdefault(cap, []).append((*entry, record.outcome.n_decisions))
    parts = []
    for cap, entries in found.items():
        scaled, config, run_id, n_decisions = max(entries, key=lambda entry: entry[0])
        text = f"{scaled_text(cap, config[cap], scaled, n_decisions)} of {run_id}"
        others = len(entries) - 1
        also = f", and some of {others} more run{'s' if others > 1 else ''}" if others else ""
        parts.append(text + also)
    return ["; ".join(parts)] if parts else []


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

    ``null``, ``true`` and ``false`` are read as such, and numbers where they are written as Python
    writes them (``0.5``, ``20``; ``020`` and ``1e3`` stay text). A text that looks like one of
    these is read as one: a store does not know the difference.
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
    """Return the conventional name of the config group choice with this ``_target_``.

    ``backtest_batch.strategies.TrendBaseline`` is ``trend_baseline``. A configuration holds
    the class, not the name of the file that chose it.
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
    below
        The parameter, such as ``strategy``, with some values of which runs do not have this one.
        Their value is None. None where all runs have it.
    """

    codes: IntArray
    values: tuple[Scalar, ...]
    below: str | None = None

    @property
    def numeric(self) -> bool:
        """Whether the values are all numbers (None aside), and there is at least one."""
        given = [value for value in self.values if value is not None]
        return bool(given) and all(_is_number(value) for value in given)

    @property
    def has(self) -> BoolArray:
        """Which runs have the parameter, shape (n_runs,)."""
        if self.below is None:
            return np.ones(len(self.codes), dtype=np.bool_)
        return np.asarray(self.codes > 0, dtype=np.bool_)

    @property
    def of_those(self) -> "Levels":
        """The levels of the runs that have the parameter."""
        if self.below is None:
            return self
        return Levels(codes=self.codes[self.codes > 0] - 1, values=self.values[1:])

    def texts(self, absent: str = "") -> list[str]:
        """Return the values as they are typed on the command line.

        Parameters
        ----------
        absent
            What stands for runs that do not have the parameter.
        """
        texts = [value_as_typed(value) for value in self.values]
        return texts if self.below is None else [absent, *texts[1:]]


def levels_by_name(params: pd.DataFrame) -> dict[str, Levels]:
    """Return the levels of each parameter, where each is known to depend on a choice above it.

    ``strategy.window`` does not exist for a strategy without a window. That is told from a value
    that is null by the choices: with each of them all runs have a value, or none has.

    Parameters
    ----------
    params
        Values by parameter, one row a run.
    """
    found = {str(name): levels_of(params[name]) for name in params.columns}
    return {
        name: replace(levels, below=_choice_above(name, levels, found))
        for name, levels in found.items()
    }


def _choice_above(name: str, levels: Levels, found: Mapping[str, Levels]) -> str | None:
    root = name.partition(".")[0]
    if root == name or root not in NODES or len(levels.values) < 2 or levels.values[0] is not None:
        return None
    lacking = levels.codes == 0
    for above in (root, f"{root}._target_"):
        if above in found and above != name:
            choices = found[above].codes
            if not np.isin(choices[lacking], choices[~lacking]).any():
                return above
    return None


def levels_of(values: Iterable[Any]) -> Levels:
    """Return the levels of a parameter, whatever the order of the runs.

    Parameters
    ----------
    values
        One value for each run.
    """
    keys: list[tuple[int, Any]] = []
    # The float represents both 1 and 1.0, whichever comes first.
    distinct: dict[tuple[int, Any], Scalar] = {}
    # Many runs share few distinct values: each value is read once.
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
    """Return a number for each run, equal for runs with the same combination of levels.

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
