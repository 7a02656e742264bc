"""The combinations of a search: composed when they are proposed, in every scenario."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.compose.constraint import PointRules
from backtest_batch.compose.grid import LISTED_VALUES, Axis, Grid, ZippedAxes
from backtest_batch.config.arguments import Assignment
from backtest_batch.config.checks import search_faults
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import Composition
from backtest_batch.search.samplers import GRID, require_sampler
from backtest_batch.search.space import Interval, Point, SearchSpace, ValueSet, place_of

if TYPE_CHECKING:
    from backtest_batch.compose.configurations import Composer


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """What a search may propose.

    Attributes
    ----------
    composer
        Composes it.
    constants
        Assignments that every run shares.
    axes
        The swept keys, in axis order.
    space
        Those that the search chooses.
    scenarios
        The values of the others together: every proposal is computed with each.
    rules
        What must hold.
    """

    composer: "Composer"
    constants: tuple[Assignment, ...]
    axes: tuple[Axis, ...]
    space: SearchSpace
    scenarios: tuple[tuple[Assignment, ...], ...]
    rules: PointRules

    @property
    def n_scenarios(self) -> int:
        """How many runs a proposal has."""
        return len(self.scenarios)

    def holds(self, point: Point) -> bool:
        """Return whether a point satisfies the constraint in every scenario.

        Raises
        ------
        ConfigurationError
            When the constraint has no outcome for it.
        """
        return all(self.rules.hold(cell) for cell in self._cells(point))

    def compose(self, point: Point) -> Iterator[Composition]:
        """Yield the combinations of a point, one for each scenario, in order."""
        for cell in self._cells(point):
            yield self.composer.compose_one(None, self.constants, cell)

    @property
    def constraint(self) -> str:
        """The constraint, for people; empty without one."""
        return self.rules.text

    def _cells(self, point: Point) -> Iterator[tuple[Assignment, ...]]:
        chosen = {axis.key: _assigned(axis, point[axis.key]) for axis in self._searched}
        for scenario in self.scenarios:
            given = chosen | {item.key: item for item in scenario}
            yield tuple(given[axis.key] for axis in self.axes)

    @property
    def _searched(self) -> list[Axis]:
        return [axis for axis in self.axes if axis.key in self.space.axes]


def _assigned(axis: Axis, value: Any) -> Assignment:
    """Return the assignment of an axis with this value."""
    if axis.interval is not None:
        return Assignment(axis.key, value, prefix=axis.prefix)
    wanted = place_of({axis.key: value})
    return next(item for item in axis.assignments if place_of({axis.key: item.value}) == wanted)


def refuse_intervals(grid: Grid, given: Sequence[str]) -> None:
    """Refuse what only a search that draws can use, where all combinations are computed.

    Parameters
    ----------
    grid
        What is swept.
    given
        The keys of the command.

    Raises
    ------
    ConfigurationError
        When an axis is an interval, or keys of a sampler are given.
    """
    for axis in grid.axes:
        if axis.interval is not None:
            raise ConfigurationError(
                f"{axis.key}: an interval ({axis.interval}) has no end of values, and search=grid "
                "computes all of them. Draw from it (search=random, sobol, tpe, ... with "
                "search.n_trials=...), or list values: range(start,stop,step)"
            )
    unused = sorted(key for key in given if key.startswith("search.") and key != "search.method")
    if unused:
        raise ConfigurationError(
            f"{', '.join(unused)}: search=grid computes every combination, and has no such key. "
            f"Choose a search that draws, such as search=random or search=tpe"
        )


def make_proposals(
    grid: Grid, composer: "Composer", config: Mapping[str, Any], choices: Mapping[str, Any]
) -> Proposals | None:
    """Return what a search may propose; None where all combinations are computed.

    Parameters
    ----------
    grid
        What is swept.
    composer
        Composes it.
    config
        The configuration of the batch.
    choices
        The choice of each group that is not given, as Hydra composed it.

    Raises
    ------
    ConfigurationError
        When keys of the search are wrong, its sampler is not installed, or nothing can be chosen.
    """
    faults = list(search_faults(config))
    if faults:
        raise ConfigurationError("\n".join(f"{fault}." for fault in faults), faults)
    method = config["search"]["method"]
    if method == GRID:
        return None
    named = f"search={method}"
    if grid.listed is not None:
        raise ConfigurationError(
            f"{named}: chooses values of swept keys, but runs lists whole runs. Sweep keys instead "
            "(strategy.fast=10,20, or param_grid), or leave search out"
        )
    if len(grid.blocks) > 1 or any(isinstance(item, ZippedAxes) for item in grid.dimensions):
        raise ConfigurationError(
            f"{named}: draws each key by itself, so that none can stand below a choice of "
            "param_grid or move with another (zip). Leave these out, or leave search out"
        )
    kinds = AxisKinds.of(config)
    conditions = [axis for axis in grid.axes if kinds.is_scenario(axis.key)]
    searched = {axis.key: _drawn_from(axis) for axis in grid.axes if axis not in conditions}
    for axis in conditions:
        if axis.interval is not None:
            raise ConfigurationError(
                f"{axis.key}: is a scenario, in which every proposal of {named} is computed, and "
                f"cannot be an interval ({axis.interval}). List its values, or make it a choice: "
                f"decision_axes=[{axis.key}]"
            )
    if not searched:
        swept = ", ".join(axis.key for axis in conditions)
        only = f"; {swept} are scenarios, all of which are computed" if swept else ""
        raise ConfigurationError(
            f"{named}: there is nothing to choose from{only}. Sweep a decision, such as "
            "'strategy.fast=interval(5,60)' or strategy.fast=10,20,40"
        )
    require_sampler(method)
    constants = grid.constants + grid.blocks[0].constants
    return Proposals(
        composer=composer,
        constants=constants,
        rules=PointRules(config["constraint"], grid.axes, constants, composer, choices),
        axes=grid.axes,
        space=SearchSpace(searched),
        scenarios=tuple(itertools.product(*(axis.assignments for axis in conditions))),
    )


def _drawn_from(axis: Axis) -> Interval | ValueSet:
    if axis.interval is not None:
        return axis.interval
    if len(axis) > LISTED_VALUES:
        raise ConfigurationError(
            f"{axis.key}: has {len(axis):,} values; to draw from so many, write interval(low,high)"
        )
    return ValueSet(tuple(item.value for item in axis.assignments))
