"""From what is asked for to the request of a batch, with Hydra kept apart.

Hydra keeps what it is doing in globals: one application, one configuration store, one set of
resolvers a process. ``run_sweep`` may be called by a program that is a Hydra application itself,
or by a notebook after ``hydra.initialize``, and by several threads at once.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.types import HydraContext
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer

from backtest_batch.compose.arguments import read_arguments
from backtest_batch.compose.configurations import Composer, Compositions, name_experiment
from backtest_batch.compose.grid import Grid, read_grid
from backtest_batch.config.arguments import Arguments, configuration_sources
from backtest_batch.config.checks import check_keys, require_texts
from backtest_batch.config.key import Role
from backtest_batch.config.schema import ALL, processors, roles
from backtest_batch.errors import ConfigurationError
from backtest_batch.masking import masked_values
from backtest_batch.records import BatchRequest

if TYPE_CHECKING:
    from backtest_batch.batch.run import BatchOutcome

Run = Callable[..., Any]
"""Runs the batch of a request, with another executor if one is given."""

LABELS = tuple(name for name, role in roles().items() if role is Role.LABEL)

BATCH_LAUNCHER = "hydra_plugins.backtest_batch.plugins.BatchLauncher"


def sweep_arguments(
    asked: Arguments, context: HydraContext, config: DictConfig, run: Run
) -> "BatchOutcome":
    """Run the batch that the arguments, ``param_grid`` and ``runs`` describe.

    Parameters
    ----------
    asked
        What the batch is asked for.
    context, config
        What Hydra gives to a sweeper.
    run
        What runs a batch: :func:`backtest_batch.batch.run.run`.

    Raises
    ------
    ConfigurationError
        When the keys are not those of a batch, or they span no runs.
    """
    loader, batch = context.config_loader, batch_config(config)
    keys = [item for item in asked.keys if not item.is_hydra]
    grid = read_grid(keys, batch["param_grid"], batch["runs"], loader)
    request = make_request(grid, make_composer(loader, config, batch, asked), batch, asked)
    launcher = config.hydra.launcher
    if launcher._target_ == BATCH_LAUNCHER:
        from backtest_batch.workers.settings import executor_factory

        chosen = executor_factory(launcher.backend, launcher.address)
        return cast("BatchOutcome", run(request, make_executor=chosen))
    from backtest_batch.compose.stock import StockExecutor

    executor = StockExecutor.factory(context, config, request.config)
    return cast("BatchOutcome", run(request, make_executor=executor))


def make_request(
    grid: Grid, composer: Composer, batch: dict[str, Any], asked: Arguments
) -> BatchRequest:
    """Return the request of a grid.

    Raises
    ------
    ConfigurationError
        When a text of it cannot be recorded.
    """
    require_texts([*grid.texts, *batch.items()])
    n_jobs = processors() if batch["n_jobs"] == ALL else batch["n_jobs"]
    # Nothing is computed by a label, so that no secret in one needs to go any further.
    labels = {name: masked_values(batch[name], name) for name in LABELS}
    return BatchRequest(
        config={**batch, **labels, "n_jobs": n_jobs},
        compositions=Compositions(composer, grid),
        size=grid.size,
        axes={axis.key: len(axis) for axis in grid.axes},
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
        The ranking metric of each job, or what went wrong with it.
    """
    loader, batch = context.config_loader, batch_config(config)
    jobs = [
        read_grid(read_arguments(overrides).keys, None, None, loader).constants
        for overrides in job_overrides
    ]
    # What every job has is no parameter of the search.
    shared = tuple(item for item in jobs[0] if all(item in job for job in jobs))
    listed = tuple((None, tuple(item for item in job if item not in shared)) for job in jobs)
    grid = Grid(constants=shared, listed=listed)
    composer = make_composer(loader, config, batch, asked)
    outcome = run(make_request(grid, composer, batch, asked))
    # A dry run has none.
    return outcome, outcome.values or [None] * len(job_overrides)


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
    """Return the batch's own configuration; a value that only runs have may be missing in it.

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


OF_A_PROGRAM = frozenset({GlobalHydra, HydraConfig, ConfigStore, JobRuntime, VersionBase})
"""What Hydra keeps of the program that it is running."""

PROVIDER = "batch"
"""Who has stored our nodes in Hydra's configuration store."""

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Give the block a Hydra that nobody has used, and put back afterwards what was there.

    Only what is installed is known inside: Hydra's own nodes, those of plugins and ours, but not
    what the program around it has stored. A second thread waits until the first has left.
    """
    with _one_at_a_time:
        # Plugins are looked for once; they store their nodes before the store is copied.
        Plugins.instance()
        surrounding, resolvers = Singleton._instances, BaseContainer._resolvers
        stored = ConfigStore.instance().repo
        Singleton._instances = {
            kind: instance for kind, instance in surrounding.items() if kind not in OF_A_PROGRAM
        }
        BaseContainer._resolvers = dict(resolvers)
        own = ConfigStore.instance()
        own.repo = {
            name: node
            for name, node in stored.items()
            if name == "hydra" or getattr(node, "provider", None) in ("hydra", PROVIDER)
        }
        own.repo["hydra"] = dict(stored["hydra"])
        if getattr(stored["hydra"]["config.yaml"], "provider", None) != "hydra":
            # Programs configure their Hydra by storing this one anew. It takes time to make.
            own.store(group="hydra", name="config", node=HydraConf, provider="hydra")
        try:
            yield
        finally:
            Singleton._instances = surrounding
            BaseContainer._resolvers = resolvers
