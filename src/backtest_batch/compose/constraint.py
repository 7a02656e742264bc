"""Which combinations of a grid satisfy the key ``constraint``: values of the keys that it names."""

import inspect
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from backtest_batch.compose.grid import Axis, Dimension, Grid
from backtest_batch.compose.messages import expected_type, resembling
from backtest_batch.config.arguments import Assignment
from backtest_batch.core.construct import TARGET, TargetError, locate
from backtest_batch.errors import ConfigurationError
from backtest_batch.search.constraint import ABSENT, Rule, RuleError, parse_rules
from backtest_batch.search.grid import Kept, Variable, kept_cells, no_outcome
from backtest_batch.values import cut, flattened, value_at, value_text

if TYPE_CHECKING:
    from backtest_batch.compose.configurations import Composer

PLAIN_REFERENCE = re.compile(r"\$\{([\w.]+)\}")

MOST_REFERENCES = 10
"""Longest chain of keys that each stand for the next."""


def satisfying(
    grid: Grid, constraint: Any, composer: "Composer", choices: Mapping[str, Any]
) -> Grid:
    """Return the grid with those of its combinations that satisfy the constraint.

    Parameters
    ----------
    grid
        What is spanned.
    constraint
        The root key: a text, a list of texts, or None.
    composer
        Knows the values of keys that are not swept.
    choices
        The choice of each group that is not given, as Hydra composed it.

    Raises
    ------
    ConfigurationError
        When it cannot be read, names a key that no run has, has no outcome for a combination, or
        nothing satisfies it.
    """
    rules = parse_rules(constraint)
    if not rules:
        return grid
    names = sorted({name for rule in rules for name in rule.names})
    spaces = _spaces(grid, composer, choices)
    variables = [{name: space.variable(name) for name in names} for space in spaces]
    for name in names:
        if all(_is_absent(found[name]) for found in variables):
            raise ConfigurationError(
                f"constraint: {name} {_unknown(name, spaces)}; nothing was run"
            )
    found = [
        kept_cells([len(item) for item in space.dimensions], rules, values)
        for space, values in zip(spaces, variables, strict=True)
    ]
    n_kept, n_cells = sum(item.size for item in found), sum(item.n_cells for item in found)
    if not n_kept:
        raise ConfigurationError(_nothing(rules, spaces, variables, n_cells))
    return _kept(grid, found, n_cells - n_kept)


class PointRules:
    """The constraint of a search: which of the combinations that it proposes satisfy it.

    Parameters
    ----------
    constraint
        The root key: a text, a list of texts, or None.
    axes
        What is swept.
    constants
        Assignments that every run shares.
    composer, choices
        As in :func:`satisfying`.

    Raises
    ------
    ConfigurationError
        When it cannot be read, or names a key that no run has.
    """

    def __init__(
        self,
        constraint: Any,
        axes: Sequence[Axis],
        constants: tuple[Assignment, ...],
        composer: "Composer",
        choices: Mapping[str, Any],
    ) -> None:
        self._rules = parse_rules(constraint)
        self._names = sorted({name for rule in self._rules for name in rule.names})
        some = [axis if axis.interval is None else _lowest(axis) for axis in axes]
        self._space = _Space(some, constants, composer, choices)
        for name in self._names:
            if _is_absent(self._space.variable(name)):
                raise ConfigurationError(
                    f"constraint: {name} {_unknown(name, [self._space])}; nothing was run"
                )

    @property
    def text(self) -> str:
        """The constraint, for people."""
        return " and ".join(f'"{cut(rule.text, 200)}"' for rule in self._rules)

    def hold(self, cell: Sequence[Assignment]) -> bool:
        """Return whether a combination satisfies all of them.

        Raises
        ------
        ConfigurationError
            When one has no outcome; the message names the combination.
        """
        if not self._rules:
            return True
        one = [Axis(key=item.key, assignments=(item,)) for item in cell]
        space = self._space.with_dimensions(one)
        values = {name: space.variable(name).values[0] for name in self._names}
        for rule in self._rules:
            try:
                if not rule.holds(values):
                    return False
            except RuleError as why:
                raise no_outcome(rule, values, why) from None
        return True


def _lowest(axis: Axis) -> Axis:
    """Return an axis with the first value of an interval alone."""
    assert axis.interval is not None
    item = Assignment(axis.key, axis.interval.low, prefix=axis.prefix)
    return Axis(key=axis.key, assignments=(item,))


def _kept(grid: Grid, found: Sequence[Kept], n_left_out: int) -> Grid:
    if grid.listed is not None:
        listed = tuple(grid.listed[position] for (position,) in found[0].positions())
        return replace(grid, listed=listed, n_left_out=n_left_out)
    blocks = [replace(block, kept=kept) for block, kept in zip(grid.blocks, found, strict=True)]
    return replace(grid, blocks=tuple(blocks), n_left_out=n_left_out)


def _nothing(
    rules: Sequence[Rule],
    spaces: Sequence["_Space"],
    variables: Sequence[Mapping[str, Variable]],
    n_cells: int,
) -> str:
    """Say which rule no combination satisfies, and between which values it chose."""
    alone = [rule for rule in rules if not _n_kept([rule], spaces, variables)]
    blamed = alone[:1] or rules
    names = sorted({name for rule in blamed for name in rule.names})
    values = "; ".join(f"{name}={_few(name, variables)}" for name in names)
    texts = " and ".join(f'"{cut(rule.text, 200)}"' for rule in blamed)
    of = (
        f"none of {n_cells:,} combinations satisfies" if n_cells > 1 else "the run does not satisfy"
    )
    return (
        f"constraint: {of} {texts}, with {values}; nothing was run. Change the constraint, or take "
        "other values"
    )


def _n_kept(
    rules: Sequence[Rule],
    spaces: Sequence["_Space"],
    variables: Sequence[Mapping[str, Variable]],
) -> int:
    try:
        return sum(
            kept_cells([len(item) for item in space.dimensions], rules, values).size
            for space, values in zip(spaces, variables, strict=True)
        )
    except ConfigurationError:  # without the rules before it, it may have no outcome
        return 1


def _few(name: str, variables: Sequence[Mapping[str, Variable]]) -> str:
    """Return the values of a key for a message: all, or the first and the last."""
    values = itertools.chain.from_iterable(found[name].values for found in variables)
    given = list(dict.fromkeys(value_text(item) for item in values if item is not ABSENT))
    shown = given if len(given) <= 6 else [*given[:3], "...", given[-1]]
    return cut(", ".join(shown), 200)


def _is_absent(variable: Variable) -> bool:
    return all(value is ABSENT for value in variable.values)


@dataclass(frozen=True)
class _Listed:
    """The runs of a list, as a dimension."""

    runs: Sequence[tuple[str | None, tuple[Assignment, ...]]]

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.key for _, items in self.runs for item in items))

    def at(self, position: int) -> tuple[Assignment, ...]:
        return self.runs[position][1]


def _spaces(grid: Grid, composer: "Composer", choices: Mapping[str, Any]) -> list["_Space"]:
    if grid.listed is not None:
        return [_Space((_Listed(grid.listed),), grid.constants, composer, choices)]
    return [
        _Space(block.dimensions, grid.constants + block.constants + block.chosen, composer, choices)
        for block in grid.blocks
    ]


class _Space:
    """A product of dimensions, and the values of any key over it."""

    def __init__(
        self,
        dimensions: Sequence[Dimension | _Listed],
        constants: tuple[Assignment, ...],
        composer: "Composer",
        choices: Mapping[str, Any],
    ) -> None:
        self.dimensions = dimensions
        self._constants = constants
        self._composer = composer
        self._choices = choices
        self._configs: dict[tuple[str, ...], tuple[Mapping[str, Any], Mapping[str, Any]]] = {}

    def with_dimensions(self, dimensions: Sequence[Axis]) -> "_Space":
        """Return the same with other values of the same keys."""
        space = _Space(dimensions, self._constants, self._composer, self._choices)
        space._configs = self._configs
        return space

    def variable(self, name: str, depth: int = 0) -> Variable:
        """Return the values of a key; ``ABSENT`` where a run has none."""
        own = [n for n, item in enumerate(self.dimensions) if _covers(item, name)]
        if len(own) == 1 and _is_axis_of(self.dimensions[own[0]], name):
            axis = self.dimensions[own[0]]
            values = [_typed(name, axis.at(n)[0].value) for n in range(len(axis))]
            return Variable((own[0],), values)
        if not own and (alias := self._stands_for(name)) is not None and depth < MOST_REFERENCES:
            return self.variable(alias, depth + 1)
        groups = [
            n
            for n, item in enumerate(self.dimensions)
            if isinstance(item, _Listed) or any(one.is_group for one in item.at(0))
        ]
        return self._tabulated(name, sorted({*own, *groups}))

    def _tabulated(self, name: str, dimensions: Sequence[int]) -> Variable:
        lengths = [len(self.dimensions[item]) for item in dimensions]
        values = [
            self._value(
                name,
                [
                    one
                    for item, point in zip(dimensions, points, strict=True)
                    for one in self.dimensions[item].at(point)
                ],
            )
            for points in itertools.product(*map(range, lengths))
        ]
        if all(value is values[0] or _same(value, values[0]) for value in values):
            return Variable((), values[:1])
        return Variable(tuple(dimensions), values)

    def _value(self, name: str, assigned: Sequence[Assignment]) -> Any:
        """Return the value of a key where some dimensions have chosen."""
        for item in reversed([*self._constants, *assigned]):
            if item.key == name and item.is_group:
                return item.value
        for item in reversed(assigned):
            if item.is_group or item.prefix == "~":
                continue
            if item.key == name and not isinstance(item.value, Mapping):
                return _typed(name, item.value)
            if name.startswith(f"{item.key}.") and isinstance(item.value, Mapping):
                value = value_at(item.value, name[len(item.key) + 1 :].split("."), ABSENT)
                if value is not ABSENT:
                    return value
        plain, _ = self._config(assigned)
        value = value_at(plain, name.split("."), ABSENT)
        if isinstance(value, Mapping):
            if name in self._choices and TARGET in value:
                return self._choices[name]
            raise ConfigurationError(
                f"constraint: {name} is a mapping; name one of its keys: "
                f"{', '.join(f'{name}.{key}' for key in list(value)[:6])}"
            )
        return _default(plain, name) if value is ABSENT else value

    def _config(
        self, assigned: Sequence[Assignment]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the configuration of the chosen groups: values, and how they are written."""
        groups = tuple(item for item in assigned if item.is_group)
        replaced = {item.key for item in assigned}
        constants = tuple(item for item in self._constants if item.key not in replaced)
        key = tuple(item.override for item in groups)
        if key not in self._configs:
            try:
                base = self._composer.base(constants + groups)
                self._configs[key] = base.plain, base.written
            except (HydraException, OmegaConfBaseException):
                self._configs[key] = {}, {}  # said where the runs are composed
        return self._configs[key]

    def _stands_for(self, name: str) -> str | None:
        """Return the key whose value a key has: that of ``risk_free_rate`` is ``cash_rate``."""
        _, written = self._config([one for item in self.dimensions for one in item.at(0)])
        text = value_at(written, name.split("."))
        if not isinstance(text, str) or "${" not in text:
            return None
        reference = PLAIN_REFERENCE.fullmatch(text)
        if reference is not None:
            return reference[1]
        swept = [key for item in self.dimensions for key in item.keys if key in text]
        if swept:
            raise ConfigurationError(
                f"constraint: {name} is computed from {swept[0]} ({text}); name that key instead"
            )
        return None

    def known(self) -> list[str]:
        """Return the keys that its runs have."""
        plain, _ = self._config([one for item in self.dimensions for one in item.at(0)])
        swept = [key for item in self.dimensions for key in item.keys]
        return [*swept, *(key for key, _ in flattened(plain) if not key.endswith(TARGET))]


def _covers(dimension: Dimension | _Listed, name: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in dimension.keys)


def _is_axis_of(dimension: Dimension | _Listed, name: str) -> bool:
    """Return whether a dimension gives a key a plain value at each of its points."""
    if not isinstance(dimension, Axis) or dimension.key != name:
        return False
    first = dimension.at(0)[0]
    return not isinstance(first.value, Mapping) and first.prefix != "~"


def _typed(name: str, value: Any) -> Any:
    """Return a value of a root key in its type: 2005 is text where the key takes text."""
    wanted = expected_type(name) or ""
    if wanted.startswith("must be text") and isinstance(value, int | float):
        return value if isinstance(value, bool) else value_text(value)
    if "number" in wanted and isinstance(value, str):
        for read in (int, float):
            try:
                return read(value)
            except ValueError:
                continue
    return value


def _default(plain: Mapping[str, Any], name: str) -> Any:
    """Return the default of a constructor's parameter that a configuration does not set."""
    root, _, parameter = name.partition(".")
    target = value_at(plain, (root, TARGET))
    if not parameter or "." in parameter or not target:
        return ABSENT
    try:
        parameters = inspect.signature(locate(str(target), or_function=True)).parameters
    except (TargetError, TypeError, ValueError):
        return ABSENT
    found = parameters.get(parameter)
    known = found is not None and found.default is not inspect.Parameter.empty
    return found.default if known and found is not None else ABSENT


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _unknown(name: str, spaces: Sequence[_Space]) -> str:
    """Say that no run has a key, and which key may be meant."""
    known = list(dict.fromkeys(key for space in spaces for key in space.known()))
    if "." not in name and name not in known:
        below = [key for key in known if key.endswith(f".{name}")]
        if below:
            return f"is not a known key; did you mean {' or '.join(below[:3])}?"
    parent = name.rpartition(".")[0]
    beside = [key for key in known if key.rpartition(".")[0] == parent]
    hint = resembling(name, beside)
    if "did you mean" in hint or "." in name:
        return f"is not a known key{hint}"
    return f'is not a known key{hint}; a text stands in quotes: "{name}"'
