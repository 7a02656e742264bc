"""From arguments to the request of a batch: each combination of its grid, composed.

Hydra composes once for each distinct choice of config groups; the values of a run are then applied
to a copy. Hydra does the same for one run; this saves reading every file again for each of them.
With ``fast_compose=false`` Hydra does all of it.
"""

import copy
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from backtest_batch.compose.arguments import read_arguments
from backtest_batch.compose.constraint import satisfying
from backtest_batch.compose.grid import Grid, axis_of, group_options, read_grid
from backtest_batch.compose.messages import choice_fault, expected_type, explain, resembling
from backtest_batch.compose.proposals import make_proposals, refuse_intervals
from backtest_batch.config.arguments import (
    Argument,
    Arguments,
    Assignment,
    configuration_sources,
    flatten,
    quote,
)
from backtest_batch.config.checks import check_keys, grid_faults, require_texts
from backtest_batch.config.key import Role
from backtest_batch.config.schema import ALL, processors, roles
from backtest_batch.errors import ConfigurationError, Fault
from backtest_batch.masking import masked_values
from backtest_batch.records import BatchRequest, Composition, Scalar
from backtest_batch.search.samplers import GRID
from backtest_batch.store.address import resolve_experiment
from backtest_batch.values import value_at

if TYPE_CHECKING:
    from backtest_batch.batch.run import BatchOutcome


Assignments = tuple[Assignment, ...]
KeyPath = tuple[Any, ...]
"""Keys from the root to a value; those of a user's mapping may be numbers."""

Changes = dict[KeyPath, Any]
"""Values by path."""


class Composer:
    """Turns assignments into configurations.

    Parameters
    ----------
    loader
        Hydra's configuration loader.
    config_name
        Name of the primary configuration.
    hydra_overrides
        Overrides of the node ``hydra`` that belong to the command (a search path, say).
    batch
        The configuration of the batch, which runs cannot change.
    sources
        Arguments that say where to look for configuration; each run's command begins with them.
    """

    def __init__(
        self,
        loader: ConfigLoader,
        config_name: str | None,
        hydra_overrides: Sequence[str],
        batch: Mapping[str, Any],
        sources: Sequence[str] = (),
    ) -> None:
        self.loader = loader
        self._config_name = config_name
        self._hydra_overrides = list(hydra_overrides)
        self._batch = batch
        self._sources = tuple(sources)
        self._files: dict[tuple[str, ...], DictConfig] = {}
        self._bases: dict[tuple[str, ...], Base] = {}

    def compose(self, grid: Grid) -> Iterator[Composition]:
        """Yield every combination of the grid; errors are in its ``faults``."""
        for run_id, shared, assignments in grid.combinations():
            replaced = {item.key for item in assignments}
            constants = tuple(item for item in shared if item.key not in replaced)
            yield self.compose_one(run_id, constants, assignments)

    def compose_one(
        self, run_id: str | None, constants: Assignments, assignments: Assignments
    ) -> Composition:
        """Return one combination; errors are in its ``faults``."""
        overrides = tuple(item.override for item in (*constants, *assignments))
        swept = {item.key: _scalar(item.value) for item in assignments}
        try:
            plain, faults = self._configuration(constants, assignments, overrides)
        except (HydraException, OmegaConfBaseException) as error:
            # The chosen file is missing, or does not compose; Hydra says why.
            plain, faults = None, [_composition_fault(error, (*assignments, *constants))]
        if plain is not None:
            swept = {item.key: _swept_value(plain, item) for item in assignments}
            if any(item.is_group for item in assignments):
                faults = list(self._set_for_the_batch(plain, assignments))
        return Composition(
            swept=swept,
            config=None if faults else plain,
            overrides=(*self._sources, *overrides),
            run_id=run_id,
            faults=tuple(faults),
        )

    def _configuration(
        self, constants: Assignments, assignments: Assignments, overrides: Sequence[str]
    ) -> tuple[dict[str, Any] | None, list[Fault]]:
        refused: Exception | None = None
        if not self._batch["fast_compose"]:
            try:
                return resolve(self._load(overrides))
            except (HydraException, OmegaConfBaseException) as error:
                # Hydra stops at the first fault; the fast way finds them all.
                refused = error
        groups = tuple(item for item in assignments if item.is_group)
        values = tuple(item for item in assignments if not item.is_group)
        plain, faults = self._base(constants + groups).with_values(values)
        if refused is not None and plain is not None:
            raise refused
        return plain, faults

    def base(self, constants: Assignments) -> "Base":
        """Return the configuration to which the values of runs with these constants are applied.

        Raises
        ------
        HydraException, OmegaConfBaseException
            When the files of the chosen groups do not compose.
        """
        return self._base(constants)

    def _set_for_the_batch(
        self, plain: Mapping[str, Any], assignments: Assignments
    ) -> Iterator[Fault]:
        """Yield faults: keys of the whole batch that files of a swept group set."""
        swept = " ".join(item.override for item in assignments if item.is_group)
        for name, role in roles().items():
            if role.determines_results or role is Role.LABEL or name not in plain:
                continue
            if name == "search" and plain[name]["method"] == GRID:
                continue  # a run has no search of its own
            if plain[name] != self._batch.get(name) and plain[name] is not None:
                yield Fault(
                    key=name,
                    value=plain[name],
                    allowed=f"belongs to the whole batch, so that {swept} cannot set it for a run",
                )

    def _base(self, constants: Assignments) -> "Base":
        """Return the files of the chosen groups with the constant values applied."""
        # A value override wins over a group chosen after it, so groups come first.
        groups = tuple(item for item in constants if item.is_group)
        values = tuple(item for item in constants if not item.is_group)
        chosen = tuple(item.override for item in groups)
        key = (*chosen, *(item.override for item in values))
        if key not in self._bases:
            if chosen not in self._files:
                self._files[chosen] = self._load(chosen)
            self._bases[key] = Base(copy.deepcopy(self._files[chosen]), values)
        return self._bases[key]

    def _load(self, chosen: Sequence[str]) -> DictConfig:
        config = self.loader.load_configuration(
            self._config_name, [*self._hydra_overrides, *chosen], run_mode=RunMode.RUN
        )
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        name_experiment(config)
        OmegaConf.set_struct(config, True)
        return config


class Base:
    """A configuration to which the values of a run are applied.

    Applying a value and resolving the whole takes milliseconds. Each value is therefore applied
    once, alone, and what it changes is kept; a run is the union of what its values change. That
    is the same where the changes do not overlap and where no interpolation depends on two keys;
    elsewhere the values are applied together.

    A search proposes thousands of values of a key. Where one of them changed nothing but the key,
    and no interpolation refers to it, others of the same type do not either.
    """

    def __init__(self, config: DictConfig, constants: Assignments) -> None:
        self._faults = [fault for item in constants if (fault := apply(config, item)) is not None]
        self._config = config
        self._plain, self._missing = resolve(config) if not self._faults else (None, [])
        self._simple = self._plain is not None and _interpolations_are_plain(config)
        self._changes: dict[tuple[str, str], Changes | Fault | None] = {}
        self._referred = _referred_keys(config) if self._simple else frozenset()
        self._alone: set[tuple[str, type]] = set()

    @property
    def plain(self) -> Mapping[str, Any]:
        """Its values; those that cannot be resolved, or must be given, are missing."""
        if self._plain is not None:
            return self._plain
        config = copy.deepcopy(self._config)
        OmegaConf.set_struct(config, False)
        for key in OmegaConf.missing_keys(config):
            parent, _, last = key.rpartition(".")
            del (OmegaConf.select(config, parent) if parent else config)[last]
        return resolve(config)[0] or {}

    @property
    def written(self) -> Mapping[str, Any]:
        """Its values as they are written: interpolations stand in the place of values."""
        plain = OmegaConf.to_container(self._config, resolve=False)
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}

    def with_values(self, values: Assignments) -> tuple[dict[str, Any] | None, list[Fault]]:
        """Return the resolved configuration with the values applied, or what is wrong."""
        if self._simple and self._plain is not None:
            parts = [self._change_of(item) for item in values]
            faults = [part for part in parts if isinstance(part, Fault)]
            if faults:
                return None, faults
            changes = [part for part in parts if isinstance(part, dict)]
            paths = [path for part in changes for path in part]
            if len(changes) == len(parts) and len(set(paths)) == len(paths):
                return _changed(self._plain, changes), []
        return self._together(values)

    def _together(self, values: Assignments) -> tuple[dict[str, Any] | None, list[Fault]]:
        config = copy.deepcopy(self._config)
        faults = list(self._faults)
        faults += [fault for item in values if (fault := apply(config, item)) is not None]
        return (None, faults) if faults else resolve(config)

    def _change_of(self, item: Assignment) -> "Changes | Fault | None":
        """Return what one value changes, what is wrong with it, or None when it is not simple."""
        key = (item.override, type(item.value).__name__)
        if key not in self._changes:
            self._changes[key] = self._find_change(item)
        return self._changes[key]

    def _find_change(self, item: Assignment) -> "Changes | Fault | None":
        if item.prefix or "${" in item.override or "[" in item.key:
            return None
        path = _path(item.key)
        if (item.key, type(item.value)) in self._alone and item.value != _MISSING:
            return {path: item.value}
        config = copy.deepcopy(self._config)
        fault = apply(config, item)
        if fault is not None:
            return fault
        plain, _ = resolve(config)
        if plain is None or self._plain is None:
            return None
        changes = _difference(self._plain, plain)
        if changes is None:
            return None
        # Setting a key to its present value matters: an interpolation no longer follows.
        changes |= _set_leaves(item, plain)
        is_plain = type(item.value) in _PLAIN and type(changes.get(path)) is type(item.value)
        if is_plain and changes == {path: item.value} and not self._is_referred(path):
            self._alone.add((item.key, type(item.value)))
        return changes

    def _is_referred(self, path: KeyPath) -> bool:
        """Return whether an interpolation refers to a key, to one above it, or below."""
        return any(
            path[: len(other)] == other or other[: len(path)] == path for other in self._referred
        )


_PLAIN = (int, float, bool, str)
_MISSING = "???"


PLAIN_INTERPOLATION = re.compile(r"\$\{[\w.]+\}")


def _interpolations_are_plain(config: DictConfig) -> bool:
    """Return whether each interpolation is just the value of one other key."""
    return all(
        isinstance(value, str) and PLAIN_INTERPOLATION.fullmatch(value)
        for value in _interpolations(config)
    )


def _interpolations(config: DictConfig) -> list[Any]:
    """Return the values that hold interpolations."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    values = flatten({str(key): value for key, value in plain.items()})
    return [value for _, value in values if isinstance(value, str | list) and "${" in str(value)]


def _referred_keys(config: DictConfig) -> frozenset[KeyPath]:
    """Return the keys that plain interpolations refer to; a relative one could mean any."""
    names = [str(value)[2:-1] for value in _interpolations(config)]
    return frozenset(() if name.startswith(".") else _path(name) for name in names)


def _difference(before: dict[str, Any], after: dict[str, Any]) -> Changes | None:
    """Return the leaves that differ; None when a key is gone."""
    changes: Changes = {}
    if before.keys() - after.keys():
        return None
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = _difference(old, value)
            if inner is None:
                return None
            changes |= {(key, *path): leaf for path, leaf in inner.items()}
        elif key not in before or type(old) is not type(value) or old != value:
            changes[(key,)] = value
    return changes


def _set_leaves(item: Assignment, plain: dict[str, Any]) -> Changes:
    """Return the leaves that an assignment names, with the values that they have after it."""
    return {path: value_at(plain, path) for path in _leaf_paths(item.value, _path(item.key))}


def _leaf_paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaf_paths(inner, (*path, key))
    else:
        yield path


def _changed(plain: dict[str, Any], parts: Sequence[Changes]) -> dict[str, Any]:
    """Return ``plain`` with the changes; unchanged parts are shared, not copied."""
    result = dict(plain)
    own: set[KeyPath] = set()
    for changes in parts:
        for path, value in changes.items():
            node = result
            for depth, part in enumerate(path[:-1], start=1):
                if path[:depth] not in own:
                    node[part] = dict(node[part])
                    own.add(path[:depth])
                node = node[part]
            node[path[-1]] = value
    return result


def apply(config: DictConfig, item: Assignment) -> Fault | None:
    """Set one value as Hydra's command line would; return the fault, or None."""
    try:
        if item.prefix == "~":
            parent, _, last = item.key.rpartition(".")
            node = OmegaConf.select(config, parent) if parent else config
            OmegaConf.set_struct(node, False)
            del node[last]
        else:
            OmegaConf.update(config, item.key, item.value, merge=True, force_add=bool(item.prefix))
    except (ConfigAttributeError, ConfigKeyError):
        return Fault(key=item.key, value=item.value, allowed=unknown_key(config, item.key))
    except (ValidationError, ValueError, TypeError, OmegaConfBaseException):
        allowed = expected_type(item.key) or "has the wrong type"
        return Fault(key=item.key, value=item.value, allowed=allowed)
    return None


def name_experiment(config: DictConfig) -> None:
    """Write the name of the experiment into a configuration without one.

    The record then holds it, whatever the environment is when the batch is resumed.
    """
    if OmegaConf.select(config, "tracking.experiment", default="") is None:
        config.tracking.experiment = resolve_experiment(None)


def resolve(config: DictConfig) -> tuple[dict[str, Any] | None, list[Fault]]:
    """Return the configuration as plain values with interpolations resolved, or the faults."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        return None, [Fault(key=key, value="???", allowed="must be given") for key in missing]
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (InterpolationResolutionError, MissingMandatoryValue) as error:
        message = str(error).splitlines()[0]
        return None, [Fault(key=str(error.full_key), value="${...}", allowed=message)]
    except (ValidationError, ValueError) as error:
        message = str(error).splitlines()[0]
        key = str(getattr(error, "full_key", "") or "")
        return None, [Fault(key=key, value="${...}", allowed=message)]
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}, []


def _composition_fault(error: BaseException, assignments: Assignments) -> Fault:
    fault = choice_fault(error)
    if fault is not None:
        return fault
    key = getattr(error, "full_key", None)
    if key:
        allowed = explain(error).removeprefix(f"{key}: ")
        return Fault(key=str(key), value="${...}", allowed=allowed)
    group = next((item for item in assignments if item.is_group), None)
    if group is None:
        return Fault(key="configuration", value="(composed)", allowed=explain(error))
    return Fault(key=group.key, value=group.value, allowed=explain(error))


def unknown_key(config: DictConfig, key: str) -> str:
    """Say that a key is unknown, and name similar ones."""
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    names = [str(name) for name in node] if isinstance(node, DictConfig) else []
    known = [f"{parent}.{name}" if parent else name for name in names]
    return "is not a known key" + resembling(key, known)


@dataclass(frozen=True)
class Compositions:
    """The combinations of a grid, composed anew in each iteration."""

    composer: Composer
    grid: Grid

    def __iter__(self) -> Iterator[Composition]:
        return self.composer.compose(self.grid)


def _path(key: str) -> KeyPath:
    return tuple(key.split("."))


def _swept_value(plain: dict[str, Any], item: Assignment) -> Scalar:
    """Return the value of a swept key in its type; a group has the name of the choice."""
    if item.is_group or "[" in item.key:
        return _scalar(item.value)
    return _scalar(value_at(plain, _path(item.key)))


def _scalar(value: Any) -> Scalar:
    """Return a value that fits into a table cell: a list or mapping as JSON text.

    The store writes a configured list, which was not swept, in the same way.
    """
    if isinstance(value, str | int | float | bool | None):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def faults_of(
    arguments: Sequence[Argument], config_folder: Path, config_name: str, further_folder: str | None
) -> list[Fault]:
    """Return the faults in keys and types of a command that does not compose.

    Parameters
    ----------
    arguments
        Its keys.
    config_folder, config_name
        Where the primary configuration stands.
    further_folder
        What ``--config-dir`` names.
    """
    GlobalHydra.instance().clear()
    hidden = []
    if further_folder is not None:
        hidden.append(f"hydra.searchpath=[{quote(str(Path(further_folder).absolute()))}]")
    try:
        with initialize_config_dir(str(config_folder), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            hidden += [item.text for item in arguments if item.is_hydra]
            keys = [item for item in arguments if not item.is_hydra]
            return list(_faults(keys, loader, config_name, hidden))
    except (HydraException, OmegaConfBaseException):
        return []


MOST_VALUES = 1_000
"""Number of values per key that are checked for faults."""


def _faults(
    arguments: Sequence[Argument], loader: ConfigLoader, config_name: str, hidden: Sequence[str]
) -> Iterator[Fault]:
    options = group_options(loader)
    assignments: list[Assignment] = []
    for argument in arguments:
        values = axis_of(argument, options, loader).assignments
        assignments += itertools.islice(values, MOST_VALUES)
    chosen = []
    for item in assignments:
        if item.is_group:
            fault = _choice_fault(item, loader, config_name, hidden)
            if fault is None:
                chosen.append(item.override)
            else:
                yield fault
    config = loader.load_configuration(config_name, [*hidden, *chosen], run_mode=RunMode.RUN)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    OmegaConf.set_struct(config, True)
    for item in assignments:
        if not item.is_group:
            fault = apply(copy.deepcopy(config), item)
            if fault is not None:
                yield fault


def _choice_fault(
    item: Assignment, loader: ConfigLoader, config_name: str, hidden: Sequence[str]
) -> Fault | None:
    try:
        loader.load_configuration(config_name, [*hidden, item.override], run_mode=RunMode.RUN)
    except HydraException as error:
        return choice_fault(error)
    return None


Run = Callable[..., Any]
"""Runs the batch of a request, optionally with another executor."""

LABELS = tuple(name for name, role in roles().items() if role is Role.LABEL)

BATCH_LAUNCHER = "hydra_plugins.backtest_batch.plugins.BatchLauncher"


def sweep_arguments(
    asked: Arguments, context: HydraContext, config: DictConfig, run: Run
) -> "BatchOutcome":
    """Run the batch that the arguments, ``param_grid`` and ``runs`` describe.

    Parameters
    ----------
    asked
        The request: keys and options.
    context, config
        What Hydra gives to a sweeper.
    run
        The function that runs a batch: :func:`backtest_batch.batch.run.run`.

    Raises
    ------
    ConfigurationError
        When the keys are not those of a batch, or they span no runs.
    """
    loader, batch = context.config_loader, batch_config(config)
    keys = [item for item in asked.keys if not item.is_hydra]
    spanning = {"zipped": batch["zip"], "constraint": batch["constraint"]}
    grid = read_grid(keys, batch["param_grid"], batch["runs"], loader, **spanning)
    composer = make_composer(loader, config, batch, asked)
    if batch["search"]["method"] == GRID:
        refuse_intervals(grid, [item.key for item in keys])
        grid = satisfying(grid, batch["constraint"], composer, config.hydra.runtime.choices)
    elif not any(item.key == "search" for item in keys):
        # It comes from a file, and would come back with that file.
        grid = replace(grid, constants=(*grid.constants, Assignment("search.method", GRID)))
    request = make_request(grid, composer, batch, asked, config.hydra.runtime.choices)
    launcher = config.hydra.launcher
    if launcher._target_ == BATCH_LAUNCHER:
        from backtest_batch.workers.settings import executor_factory

        chosen = executor_factory(launcher.backend, launcher.address)
        return cast("BatchOutcome", run(request, make_executor=chosen))
    from backtest_batch.compose.stock import StockExecutor

    executor = StockExecutor.factory(context, config, request.config)
    return cast("BatchOutcome", run(request, make_executor=executor))


def make_request(
    grid: Grid,
    composer: Composer,
    batch: dict[str, Any],
    asked: Arguments,
    choices: Mapping[str, Any],
) -> BatchRequest:
    """Return the request of a grid.

    Parameters
    ----------
    grid, composer
        What is swept, and what composes it.
    batch, asked
        The configuration of the batch, and its command.
    choices
        The choice of each group that is not given, as Hydra composed it.

    Raises
    ------
    ConfigurationError
        When a text in it cannot be recorded.
    """
    faults = list(grid_faults(batch))
    if faults:
        raise ConfigurationError("\n".join(f"{fault}." for fault in faults), faults)
    require_texts([*grid.texts, *batch.items()])
    n_jobs = processors() if batch["n_jobs"] == ALL else batch["n_jobs"]
    # Labels do not affect results, so that a secret in one need not go any further.
    labels = {name: masked_values(batch[name], name) for name in LABELS}
    proposals = make_proposals(grid, composer, batch, choices)
    size = grid.size
    if proposals is not None:
        n_trials = batch["search"]["n_trials"]
        size = min(n_trials, proposals.space.size or n_trials) * proposals.n_scenarios
    return BatchRequest(
        config={**batch, **labels, "n_jobs": n_jobs},
        compositions=Compositions(composer, grid),
        proposals=proposals,
        size=size,
        axes=grid.n_values,
        size_text=grid.size_text,
        count_values=grid.count,
        n_left_out=grid.n_left_out,
        overrides=tuple(item.text for item in asked.keys if not item.is_hydra),
        arguments=asked.texts,
    )


def launch_jobs(
    job_overrides: Sequence[Sequence[str]],
    asked: Arguments,
    context: HydraContext,
    config: DictConfig,
    run: Run,
) -> "tuple[BatchOutcome, list[Any]]":
    """Run the jobs of another sweeper as one batch.

    Returns
    -------
    outcome
        The batch's.
    values
        The ranking metric of each job, or why there is none.
    """
    loader, batch = context.config_loader, batch_config(config)
    _refuse_with_other_sweepers(batch)
    jobs = [
        read_grid(read_arguments(overrides).keys, None, None, loader).constants
        for overrides in job_overrides
    ]
    # What all jobs share is not a parameter of the search.
    shared = tuple(item for item in jobs[0] if all(item in job for job in jobs))
    listed = tuple((None, tuple(item for item in job if item not in shared)) for job in jobs)
    grid = Grid(constants=shared, listed=listed)
    composer = make_composer(loader, config, batch, asked)
    outcome = run(make_request(grid, composer, batch, asked, config.hydra.runtime.choices))
    # A dry run has none.
    return outcome, outcome.values or [None] * len(job_overrides)


def _refuse_with_other_sweepers(batch: Mapping[str, Any]) -> None:
    """Refuse keys that leave combinations out: another sweeper waits for every job of its own."""
    given = [key for key in ("constraint", "zip") if batch[key] is not None]
    given += ["invalid=skip"] if batch["invalid"] == "skip" else []
    if given:
        raise ConfigurationError(
            f"{', '.join(given)}: another sweeper chooses the jobs, and each of them is run; leave "
            "hydra/sweeper out, or these keys"
        )


def make_composer(
    loader: ConfigLoader, config: DictConfig, batch: Mapping[str, Any], asked: Arguments
) -> Composer:
    """Return the composer of the command that Hydra is running."""
    hydra_overrides = OmegaConf.to_container(config.hydra.overrides.hydra)
    assert isinstance(hydra_overrides, list)
    named = config.hydra.job.config_name
    sources = configuration_sources(asked.texts)
    return Composer(loader, named, [str(item) for item in hydra_overrides], batch, sources)


def batch_config(config: DictConfig) -> dict[str, Any]:
    """Return the batch's own configuration, where values that only runs have may be missing.

    Raises
    ------
    ConfigurationError
        When it has a key too many or too few.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    OmegaConf.set_struct(own, False)
    for path in OmegaConf.missing_keys(own):
        OmegaConf.update(own, path, None, force_add=True)
    name_experiment(own)
    plain = OmegaConf.to_container(own, resolve=True)
    assert isinstance(plain, dict)
    batch = {str(key): value for key, value in plain.items()}
    faults = list(check_keys(batch))
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    return batch
