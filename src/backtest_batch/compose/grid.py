"""What a command line, a parameter grid or a list of runs spans."""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import IntervalSweep

from backtest_batch.compose.arguments import RangeValues, Swept, typed_text
from backtest_batch.compose.intervals import interval_of, written_interval
from backtest_batch.config.arguments import (
    WHOLE_NODES,
    Argument,
    Assignment,
    flatten,
    refuse_repeats,
)
from backtest_batch.config.schema import SWEEPABLE, roles
from backtest_batch.errors import ConfigurationError, Fault
from backtest_batch.search.space import Interval

COMMAND_KEYS = frozenset({"param_grid", "runs", "search", "batch_file", "resume", "trust"})
"""Root keys that say which runs a command has; its runs do not repeat them."""

GroupOptions = Callable[[str], Sequence[str]]
"""The choices of a config group; none for a key that is not a group."""


LISTED_VALUES = 100_000
"""Above this number, the values of a range are counted and made on demand, one by one."""


@dataclass(frozen=True, kw_only=True)
class LateAssignments(Sequence[Assignment]):
    """A key with each of very many values, made on demand."""

    key: str
    values: Sequence[Any]
    prefix: str

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, position: int) -> Assignment: ...
    @overload
    def __getitem__(self, position: slice) -> "list[Assignment]": ...
    def __getitem__(self, position: int | slice) -> "Assignment | list[Assignment]":
        if isinstance(position, slice):
            return [self[index] for index in range(*position.indices(len(self)))]
        return Assignment(self.key, self.values[position], prefix=self.prefix)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One swept key and its values; a group's values are names of choices.

    Attributes
    ----------
    key
        The swept key.
    assignments
        Its values; empty for an interval.
    interval
        What a search draws its values from; None for listed values.
    prefix
        What is written before the key of an interval.
    """

    key: str
    assignments: Sequence[Assignment]
    interval: Interval | None = None
    prefix: str = ""

    def __len__(self) -> int:
        return len(self.assignments)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A batch before it is composed: constants, and either axes or listed runs.

    Attributes
    ----------
    constants
        Assignments that every run shares.
    axes
        Swept keys with at least two values each; the batch is their product.
    listed
        Runs of a ``runs`` list: the given id and the assignments of each; None without a list.
    """

    constants: tuple[Assignment, ...]
    axes: tuple[Axis, ...] = ()
    listed: tuple[tuple[str | None, tuple[Assignment, ...]], ...] | None = None

    @property
    def size(self) -> int:
        """Number of combinations, counted without making them."""
        if self.listed is not None:
            return len(self.listed)
        return math.prod(len(axis) for axis in self.axes)

    @property
    def texts(self) -> Iterator[tuple[str, Any]]:
        """Its keys and values, except the numbers of a range."""
        for axis in self.axes:
            if isinstance(axis.assignments, tuple):
                yield from ((item.key, item.value) for item in axis.assignments)
        yield from ((item.key, item.value) for item in self.constants)
        for run_id, assignments in self.listed or ():
            yield "runs", run_id or ""
            yield from ((item.key, item.value) for item in assignments)

    def combinations(self) -> Iterator[tuple[str | None, tuple[Assignment, ...]]]:
        """Yield id (or None) and assignments of each run, the last axis fastest."""
        if self.listed is not None:
            yield from self.listed
            return
        for choice in _combined([axis.assignments for axis in self.axes]):
            yield None, choice


def _combined(axes: Sequence[Sequence[Assignment]]) -> Iterator[tuple[Assignment, ...]]:
    """Yield what itertools.product yields, without first making the values of late axes."""
    if all(isinstance(axis, tuple) for axis in axes):
        yield from itertools.product(*axes)
        return
    for first in axes[0]:
        for others in _combined(axes[1:]):
            yield (first, *others)


def read_grid(
    arguments: Iterable[Argument], param_grid: Any, runs: Any, loader: ConfigLoader
) -> Grid:
    """Return the grid that arguments, ``param_grid`` and ``runs`` span together.

    Axes of the command line multiply those of ``param_grid``, but replace the same key there. An
    axis with one value is a constant.

    Raises
    ------
    ConfigurationError
        When a list is empty or malformed, when a key cannot be swept, or when there are both
        ``runs`` and axes.
    """
    axes: dict[str, Axis] = {}
    constants: dict[str, Assignment] = {}
    given: set[str] = set()
    texts: dict[str, str] = {}

    options = group_options(loader)
    for axis in _grid_axes(param_grid, options):
        axes[axis.key] = axis
    for argument in arguments:
        key = argument.key
        axes.pop(key, None)
        given.add(key)
        if argument.is_sweep:
            axes[key] = axis_of(argument, options, loader)
            texts[key] = argument.value_text
        elif key.partition(".")[0] not in COMMAND_KEYS:
            constants[key] = _assignment(key, argument.value, options, argument.prefix)
    for key in [key for key, axis in axes.items() if len(axis) == 1]:
        constants[key] = axes.pop(key).assignments[0]
    _refuse_unsweepable(axes, texts)
    # A grid in a file (experiment=...) would come back with that file.
    for key, grid in (("param_grid", param_grid), ("runs", runs)):
        if grid is not None and key not in given:
            constants[key] = Assignment(key, None)
    if runs is None:
        return Grid(constants=tuple(constants.values()), axes=tuple(axes.values()))
    if axes:
        raise ConfigurationError(
            "runs cannot be combined with swept keys, but got runs and "
            + ", ".join(axes)
            + ": list the combinations in runs, or use param_grid"
        )
    return Grid(constants=tuple(constants.values()), listed=_listed_runs(runs, options))


def group_options(loader: ConfigLoader) -> GroupOptions:
    """Return a function that knows the choices of each config group."""

    @functools.cache
    def options(key: str) -> Sequence[str]:
        return tuple(loader.get_group_options(key, ObjectType.CONFIG))

    return options


def axis_of(argument: Argument, options: GroupOptions, loader: ConfigLoader) -> Axis:
    """Return the values that an argument gives its key; more than one is a sweep.

    Raises
    ------
    ConfigurationError
        When there is no value, or a group gets something other than a choice.
    """
    value = argument.value
    if isinstance(value, Swept) and isinstance(sweep := value.override.value(), IntervalSweep):
        interval = interval_of(argument.key, sweep, value.text)
        return Axis(key=argument.key, assignments=(), interval=interval, prefix=argument.prefix)
    values = value.values(loader) if isinstance(value, Swept) else [value]
    return _axis(argument.key, values, options, argument.prefix)


def _axis(key: str, values: Sequence[Any], options: GroupOptions, prefix: str = "") -> Axis:
    # The first value tells whether the key takes values rather than choices.
    first = _assignment(key, values[0], options, prefix)
    if isinstance(values, RangeValues) and len(values) > LISTED_VALUES:
        return Axis(key=key, assignments=LateAssignments(key=key, values=values, prefix=prefix))
    assignments = (_assignment(key, value, options, prefix) for value in values[1:])
    return Axis(key=key, assignments=(first, *assignments))


def _assignment(key: str, value: Any, options: GroupOptions, prefix: str = "") -> Assignment:
    choices = options(key)
    # strategy=trend_baseline is a choice, strategy={fast: 10} sets values of the chosen one.
    is_choice = bool(choices) and not isinstance(value, Mapping)
    if is_choice and not isinstance(value, str) and prefix != "~":
        fault = Fault(key=key, value=value, allowed=f"must be one of: {', '.join(choices)}")
        raise ConfigurationError(str(fault), [fault])
    return Assignment(key, value, is_choice, prefix)


def _grid_axes(param_grid: Any, options: GroupOptions) -> Iterator[Axis]:
    if param_grid is None:
        return
    if not isinstance(param_grid, Mapping):
        raise ConfigurationError(
            f"param_grid={param_grid}: must be a mapping of keys to lists of values, "
            "such as {commission_bps: [0.0, 0.5]}"
        )
    if not param_grid:
        raise ConfigurationError("param_grid={}: holds no key; nothing to run")
    axes = list(flatten(param_grid))
    refuse_repeats(axes, where="param_grid: ")
    for key, values in axes:
        if isinstance(values, Mapping) and values:
            raise ConfigurationError(
                f"param_grid.{key}={values}: its keys are not names, so none can be an axis; "
                f"give a list of mappings: {key}: [{values}]"
            )
        interval = written_interval(key, values)
        if interval is not None:
            yield Axis(key=key, assignments=(), interval=interval)
            continue
        listed = list(values) if isinstance(values, list | tuple) else [values]
        if not listed:
            raise ConfigurationError(f"param_grid.{key}=[]: holds no value; nothing to run")
        yield _axis(key, listed, options)


def _listed_runs(
    runs: Any, options: GroupOptions
) -> tuple[tuple[str | None, tuple[Assignment, ...]], ...]:
    if not isinstance(runs, list | tuple) or not all(isinstance(run, Mapping) for run in runs):
        raise ConfigurationError(
            f"runs={runs}: must be a list of mappings, such as [{{id: core, rebalance: W}}]"
        )
    if not runs:
        raise ConfigurationError("runs=[]: holds no run; nothing to run")
    listed = [_listed_run(run, options) for run in runs]
    ids = Counter(run_id for run_id, _ in listed if run_id is not None)
    repeated = sorted(run_id for run_id, count in ids.items() if count > 1)
    if repeated:
        named = ", ".join(repeated)
        raise ConfigurationError(f"runs: each id must be unique, but got {named} more than once")
    _refuse_unsweepable(dict.fromkeys(item.key for _, items in listed for item in items))
    return tuple(listed)


def _listed_run(
    run: Mapping[str, Any], options: GroupOptions
) -> tuple[str | None, tuple[Assignment, ...]]:
    run_id = run.get("id")
    assignments = []
    where = "runs: " if run_id is None else f"runs, id={run_id}: "
    refuse_repeats(((str(key), value) for key, value in run.items()), where=where)
    for key, value in run.items():
        if key == "id":
            continue
        if isinstance(value, Mapping) and key not in WHOLE_NODES:
            assignments += [Assignment(*leaf) for leaf in flatten({key: value})]
        else:
            assignments.append(_assignment(str(key), value, options))
    given = "" if run_id is None else str(run_id).strip()
    return given or None, tuple(assignments)


def _refuse_unsweepable(axes: Iterable[str], texts: Mapping[str, str] | None = None) -> None:
    known, typed = roles(), texts or {}
    faults = [
        Fault(
            key=key,
            value="(swept)",
            allowed="cannot be swept, since it belongs to the whole batch and not to a run"
            + (f"; one text is written {_one_text(key, typed[key])}" if key in typed else ""),
        )
        for key in axes
        if (root := key.split(".")[0]) in known and root not in SWEEPABLE
    ]
    if faults:
        message = "\n".join(f"{fault.key} {fault.allowed}" for fault in faults)
        raise ConfigurationError(message, faults)


def _one_text(key: str, text: str) -> str:
    # Quotes may have been added to parts of the typed text, so it is not repeated.
    return f"'{key}=\"...\"'" if "'" in text or '"' in text else typed_text(key, text)
