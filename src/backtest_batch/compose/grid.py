"""What a command line, a parameter grid or a list of runs spans."""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import IntervalSweep

from backtest_batch.compose.arguments import RangeValues, Swept, typed_text
from backtest_batch.compose.intervals import interval_of, written_interval
from backtest_batch.compose.messages import resembling
from backtest_batch.config.arguments import (
    WHOLE_NODES,
    Argument,
    Assignment,
    flatten,
    refuse_repeats,
)
from backtest_batch.config.checks import close_names
from backtest_batch.config.schema import SWEEPABLE, roles
from backtest_batch.errors import ConfigurationError, Fault
from backtest_batch.search.grid import Kept
from backtest_batch.search.space import Interval
from backtest_batch.values import merged_order, value_text

GRID_KEYS = ("param_grid", "runs", "constraint", "zip", "invalid")
"""Root keys that span the combinations of a batch, or leave some of them out."""

COMMAND_KEYS = frozenset({*GRID_KEYS, "search", "batch_file", "resume", "trust"})
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


Cell = tuple[Assignment, ...]
"""What one position along a dimension assigns."""


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

    @property
    def keys(self) -> tuple[str, ...]:
        """The swept key."""
        return (self.key,)

    def at(self, position: int) -> Cell:
        """Return the value at a position."""
        return (self.assignments[position],)

    @property
    def text(self) -> str:
        """Its size, for people."""
        return f"{len(self):,} {self.key}"


@dataclass(frozen=True, kw_only=True)
class ZippedAxes:
    """Axes of one length that move together: the first values, the second values, and so on."""

    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return len(self.axes[0])

    @property
    def keys(self) -> tuple[str, ...]:
        """The swept keys."""
        return tuple(axis.key for axis in self.axes)

    def at(self, position: int) -> Cell:
        """Return the values at a position."""
        return tuple(axis.assignments[position] for axis in self.axes)

    @property
    def text(self) -> str:
        """Its size, for people."""
        return f"{len(self):,} {' with '.join(self.keys)}"


Dimension = Axis | ZippedAxes


@dataclass(frozen=True, kw_only=True)
class Block:
    """A product of dimensions, or the part of it that satisfies the constraint.

    Attributes
    ----------
    constants
        Assignments that all its runs share beside those of the grid, such as the only value of a
        key below a choice.
    chosen
        Choices of groups for which it stands; its runs are named by them.
    dimensions
        What is swept.
    kept
        Which combinations of them there are; None for all.
    """

    constants: tuple[Assignment, ...] = ()
    chosen: tuple[Assignment, ...] = ()
    dimensions: tuple[Dimension, ...] = ()
    kept: Kept | None = None

    @property
    def n_cells(self) -> int:
        """Number of combinations of the whole product."""
        return math.prod(len(item) for item in self.dimensions)

    @property
    def size(self) -> int:
        """Number of combinations that there are."""
        return self.n_cells if self.kept is None else self.kept.size

    def cells(self) -> Iterator[Cell]:
        """Yield the combinations, the last dimension fastest."""
        if self.kept is None:
            yield from (self.chosen + cell for cell in _combined(self.dimensions))
            return
        for positions in self.kept.positions():
            parts = (item.at(n) for item, n in zip(self.dimensions, positions, strict=True))
            yield self.chosen + tuple(itertools.chain.from_iterable(parts))

    def count(self, wanted: Callable[[str], bool]) -> int:
        """Return how many different values some of the keys have together."""
        which = [n for n, item in enumerate(self.dimensions) if any(map(wanted, item.keys))]
        if self.kept is not None:
            return self.kept.count(which)
        return math.prod(len(self.dimensions[n]) for n in which)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A batch before it is composed: constants, and either blocks of a grid or listed runs.

    Attributes
    ----------
    constants
        Assignments that every run shares.
    blocks
        The batch is their union. There is one, unless keys are swept below a choice alone.
    listed
        Runs of a ``runs`` list: the given id and the assignments of each; None without a list.
    n_left_out
        Number of combinations that do not satisfy the constraint.
    """

    constants: tuple[Assignment, ...]
    blocks: tuple[Block, ...] = (Block(),)
    listed: tuple[tuple[str | None, tuple[Assignment, ...]], ...] | None = None
    n_left_out: int = 0

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What is swept, in all blocks."""
        return tuple(item for block in self.blocks for item in block.dimensions)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Swept keys with several values each, in all blocks."""
        return tuple(
            axis
            for item in self.dimensions
            for axis in (item.axes if isinstance(item, ZippedAxes) else (item,))
        )

    @property
    def size(self) -> int:
        """Number of combinations, counted without making them."""
        if self.listed is not None:
            return len(self.listed)
        return sum(block.size for block in self.blocks)

    @property
    def n_values(self) -> dict[str, int]:
        """Number of values of each swept key, in axis order."""
        counts: dict[str, int] = {}
        for block in self.blocks:
            for item in block.chosen:
                counts[item.key] = len(
                    {one for b in self.blocks for one in b.chosen if one.key == item.key}
                )
        found: dict[str, Axis] = {}
        for axis in self.axes:
            before = found.setdefault(axis.key, axis)
            if before is axis:
                counts[axis.key] = len(axis)
            elif before != axis:
                both = (*before.assignments, *axis.assignments)
                counts[axis.key] = len({item.override for item in both})
        order = merged_order(
            [*(item.key for item in block.chosen), *(k for d in block.dimensions for k in d.keys)]
            for block in self.blocks
        )
        return {key: counts[key] for key in order}

    @property
    def texts(self) -> Iterator[tuple[str, Any]]:
        """Its keys and values, except the numbers of a range."""
        for axis in self.axes:
            if isinstance(axis.assignments, tuple):
                yield from ((item.key, item.value) for item in axis.assignments)
        for block in self.blocks:
            yield from ((item.key, item.value) for item in (*block.constants, *block.chosen))
        yield from ((item.key, item.value) for item in self.constants)
        for run_id, assignments in self.listed or ():
            yield "runs", run_id or ""
            yield from ((item.key, item.value) for item in assignments)

    @property
    def size_text(self) -> str:
        """Say of which sizes it is the product: ``3 commission_bps x 4 strategy.fast``."""
        parts = []
        for block in self.blocks:
            chosen = [f"{item.key}={item.value}" for item in block.chosen]
            parts.append(" x ".join([*chosen, *(item.text for item in block.dimensions)]))
        return " + ".join(parts)

    def combinations(self) -> Iterator[tuple[str | None, Cell, Cell]]:
        """Yield id (or None), constants and swept values of each run.

        Block by block, the last axis fastest.
        """
        if self.listed is not None:
            yield from ((run_id, self.constants, cell) for run_id, cell in self.listed)
            return
        for block in self.blocks:
            constants = self.constants + block.constants
            yield from ((None, constants, cell) for cell in block.cells())

    def count(self, wanted: Callable[[str], bool]) -> int:
        """Return how many different values some of the keys have together."""
        if self.listed is not None:
            return len(self.listed)
        return sum(block.count(wanted) for block in self.blocks if block.size)


def _combined(dimensions: Sequence[Dimension]) -> Iterator[Cell]:
    """Yield what itertools.product yields, without first making the values of late axes."""
    axes = [item.assignments for item in dimensions if isinstance(item, Axis)]
    if len(axes) == len(dimensions) and all(isinstance(axis, tuple) for axis in axes):
        yield from itertools.product(*axes)
        return
    for position in range(len(dimensions[0])):
        first = dimensions[0].at(position)
        for others in _combined(dimensions[1:]):
            yield first + others


def read_grid(
    arguments: Iterable[Argument],
    param_grid: Any,
    runs: Any,
    loader: ConfigLoader,
    *,
    zipped: Any = None,
    constraint: Any = None,
) -> Grid:
    """Return the grid that arguments, ``param_grid`` and ``runs`` span together.

    Axes of the command line multiply those of ``param_grid``, but replace the same key there. An
    axis with one value is a constant. Axes below a choice multiply for this choice alone.

    Parameters
    ----------
    arguments
        Keys with their values.
    param_grid, runs
        Root keys.
    loader
        Knows the choices of each group.
    zipped
        The root key ``zip``: lists of keys whose axes move together.
    constraint
        The root key; which combinations satisfy it is found later, by :func:`.satisfying`.

    Raises
    ------
    ConfigurationError
        When a list is empty or malformed, when a key cannot be swept, when there are both
        ``runs`` and axes, or when axes that are to move together cannot.
    """
    constants: dict[str, Assignment] = {}
    given: set[str] = set()
    texts: dict[str, str] = {}

    options = group_options(loader)
    axes, choices = _read_param_grid(param_grid, options)
    for argument in arguments:
        key = argument.key
        axes.pop(key, None)
        for choice in choices:
            choice.axes.pop(key, None)
        given.add(key)
        if argument.is_sweep:
            axes[key] = axis_of(argument, options, loader)
            texts[key] = argument.value_text
        elif key.partition(".")[0] not in COMMAND_KEYS:
            constants[key] = _assignment(key, argument.value, options, argument.prefix)
    choices = _chosen(choices, axes, constants)
    swept = [key for key, axis in axes.items() if len(axis) != 1]
    swept += dict.fromkeys(item.group.key for item in choices)
    _refuse_unsweepable(swept, texts)
    blocks = _blocks(axes, choices, read_zip(zipped))
    constants |= {key: axis.assignments[0] for key, axis in axes.items() if len(axis) == 1}
    # A grid in a file (experiment=...) would come back with that file.
    spanning = {"param_grid": param_grid, "runs": runs, "constraint": constraint, "zip": zipped}
    for key, value in spanning.items():
        if value is not None and key not in given:
            constants[key] = Assignment(key, None)
    if runs is None:
        return Grid(constants=tuple(constants.values()), blocks=blocks)
    if swept:
        raise ConfigurationError(
            "runs cannot be combined with swept keys, but got runs and "
            + ", ".join(swept)
            + ": list the combinations in runs, or use param_grid"
        )
    return Grid(constants=tuple(constants.values()), listed=_listed_runs(runs, options))


@dataclass(frozen=True)
class _Choice:
    """A choice of a group with axes below it."""

    group: Assignment
    axes: dict[str, Axis]


def _chosen(
    choices: list[_Choice], axes: dict[str, Axis], constants: dict[str, Assignment]
) -> list[_Choice]:
    """Return the choices that the command line leaves: a group given there replaces them.

    What is swept below a choice that stays is kept.
    """
    found = []
    below = {(item.group.key, item.group.value): item for item in choices}
    for group in dict.fromkeys(item.group.key for item in choices):
        given: Sequence[Assignment] = ()
        if group in axes and not axes[group].assignments[0].is_group:
            raise ConfigurationError(
                f"{group} is swept by mappings, and its choices in param_grid: leave one out"
            )
        if group in axes:
            given = axes.pop(group).assignments
        elif group in constants and constants[group].is_group:
            given = [constants.pop(group)]
        if given:
            found += [below.get((group, one.value), _Choice(one, {})) for one in given]
        else:
            found += [item for item in choices if item.group.key == group]
    return found


def _blocks(
    axes: Mapping[str, Axis], choices: Sequence[_Choice], zips: Sequence[tuple[str, ...]]
) -> tuple[Block, ...]:
    """Return the products of the axes, one for each combination of choices."""
    by_group: dict[str, list[_Choice]] = {}
    for item in choices:
        by_group.setdefault(item.group.key, []).append(item)
    known = [*axes, *(key for item in choices for key in item.axes)]
    for key in itertools.chain.from_iterable(zips):
        if key not in known:
            raise ConfigurationError(
                f"zip: {key} is not swept{resembling(key, known) if known else ''}"
            )
    return tuple(
        _block(axes, combination, {key for key, one in by_group.items() if len(one) > 1}, zips)
        for combination in itertools.product(*by_group.values())
    )


def _block(
    axes: Mapping[str, Axis],
    choices: Sequence[_Choice],
    varying: Collection[str],
    zips: Sequence[tuple[str, ...]],
) -> Block:
    own: dict[str, Axis] = {}
    for item in choices:
        own |= item.axes
    found = {**own, **axes}
    where = ", ".join(f"{item.group.key}={item.group.value}" for item in choices)
    partner = {key: zipped for zipped in zips for key in zipped if key in found}
    dimensions: list[Dimension] = []
    for key, axis in found.items():
        together = partner.get(key)
        if together is None:
            dimensions.append(axis)
        elif next(name for name in found if name in together) == key:
            dimensions.append(_zipped(together, found, where))
    constants = [item.group for item in choices if item.group.key not in varying]
    constants += [axis.assignments[0] for axis in own.values() if len(axis) == 1]
    return Block(
        constants=tuple(constants),
        chosen=tuple(item.group for item in choices if item.group.key in varying),
        dimensions=tuple(item for item in dimensions if len(item) != 1),
    )


def _zipped(keys: Sequence[str], axes: Mapping[str, Axis], where: str) -> ZippedAxes:
    lacking = [key for key in keys if key not in axes]
    if lacking:
        there = [key for key in keys if key in axes]
        raise ConfigurationError(
            f"zip: {' and '.join(keys)} cannot move together, since with {where} "
            f"{', '.join(there)} is swept and {', '.join(lacking)} is not"
        )
    lengths = [len(axes[key]) for key in keys]
    if len(set(lengths)) > 1:
        counts = ", ".join(
            f"{key} has {length:,} value{'s' if length > 1 else ''}"
            for key, length in zip(keys, lengths, strict=True)
        )
        raise ConfigurationError(
            f"zip: axes that move together have equally many values, but {counts}"
        )
    return ZippedAxes(axes=tuple(axes[key] for key in keys))


def read_zip(given: Any) -> list[tuple[str, ...]]:
    """Return the lists of keys whose axes move together.

    Raises
    ------
    ConfigurationError
        When it is no list of lists of keys, or holds a key twice.
    """
    if given is None:
        return []
    is_nested = isinstance(given, list | tuple) and all(
        isinstance(keys, list | tuple) and all(isinstance(key, str) for key in keys)
        for keys in given
    )
    if not is_nested:
        raise ConfigurationError(
            f"zip={value_text(given)}: must be a list of lists of keys, such as "
            "[[strategy.fast, strategy.slow]]"
        )
    zips = [tuple(keys) for keys in given]
    counts = Counter(itertools.chain.from_iterable(zips))
    if short := [keys for keys in zips if len(keys) < 2]:
        raise ConfigurationError(
            f"zip: at least two keys move together, but got {value_text(short[0])}"
        )
    if twice := [key for key, count in counts.items() if count > 1]:
        raise ConfigurationError(
            f"zip: holds {', '.join(twice)} twice; a key can move with one list"
        )
    return zips


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


def _read_param_grid(
    param_grid: Any, options: GroupOptions
) -> tuple[dict[str, Axis], list[_Choice]]:
    """Return the axes of a grid, and the choices of groups with the axes below them."""
    if param_grid is None:
        return {}, []
    if not isinstance(param_grid, Mapping):
        raise ConfigurationError(
            f"param_grid={param_grid}: must be a mapping of keys to lists of values, "
            "such as {commission_bps: [0.0, 0.5]}"
        )
    if not param_grid:
        raise ConfigurationError("param_grid={}: holds no key; nothing to run")
    choices: list[_Choice] = []
    plain: dict[Any, Any] = {}
    for key, value in param_grid.items():
        below = _choices_below(str(key), value, options)
        if below is None:
            plain[key] = value
        else:
            choices += below
    axes = list(flatten(plain))
    refuse_repeats(axes, where="param_grid: ")
    found = {key: _grid_axis(key, values, options) for key, values in axes}
    for key in found:
        for item in choices:
            if key in item.axes or key == item.group.key:
                raise ConfigurationError(
                    f"param_grid: {key} is swept twice, below {item.group.key}: "
                    f"{item.group.value} and beside it: leave one out"
                )
    return found, choices


def _choices_below(key: str, value: Any, options: GroupOptions) -> list[_Choice] | None:
    """Return the choices of a group whose axes stand below them; None for any other key.

    ``strategy: {trend_baseline: {fast: [10, 20]}}`` names a choice, ``strategy: {fast: [10, 20]}``
    a key of every choice.
    """
    if key not in SWEEPABLE or not isinstance(value, Mapping):
        return None
    names = [name for name in value if name in options(key)]
    if not names:
        return None
    others = [str(name) for name in value if name not in names]
    if others:
        close = close_names(others[0], options(key))
        meant = f" (did you mean {' or '.join(close)}?)" if close else ""
        raise ConfigurationError(
            f"param_grid.{key}: {', '.join(names)} is a choice of {key}, and {', '.join(others)} "
            f"is not{meant}: keys of a choice stand below it; keys of every choice are written "
            f"{key}.{others[0]}"
        )
    return [
        _Choice(Assignment(key, name, is_group=True), _axes_below(key, name, below, options))
        for name, below in value.items()
    ]


def _axes_below(group: str, choice: str, below: Any, options: GroupOptions) -> dict[str, Axis]:
    if below is None:
        return {}
    if not isinstance(below, Mapping):
        raise ConfigurationError(
            f"param_grid.{group}.{choice}={value_text(below)}: {choice} is a choice of {group}, "
            f"below which stands a mapping of its keys to lists of values, such as "
            f"{group}: {{{choice}: {{window: [10, 20]}}}}; a key of that name is written "
            f"{group}.{choice}: [...] in one piece"
        )
    axes = list(flatten({group: below})) if below else []
    refuse_repeats(axes, where=f"param_grid.{group}.{choice}: ")
    return {key: _grid_axis(key, values, options, f"{group}: {choice}: ") for key, values in axes}


def _grid_axis(key: str, values: Any, options: GroupOptions, where: str = "") -> Axis:
    if isinstance(values, Mapping) and values:
        raise ConfigurationError(
            f"param_grid.{where}{key}={values}: its keys are not names, so none can be an axis; "
            f"give a list of mappings: {key}: [{values}]"
        )
    interval = written_interval(key, values)
    if interval is not None:
        return Axis(key=key, assignments=(), interval=interval)
    listed = list(values) if isinstance(values, list | tuple) else [values]
    if not listed:
        raise ConfigurationError(f"param_grid.{where}{key}=[]: holds no value; nothing to run")
    return _axis(key, listed, options)


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
