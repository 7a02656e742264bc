"""From Hydra's arguments to a batch."""

import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from backtest_batch.records import BatchRequest
from backtest_batch.sweep import BatchOutcome, run
from hydra_plugins.backtest_batch._compose import Composer
from hydra_plugins.backtest_batch._grid import Grid, read_grid
from hydra_plugins.backtest_batch._stock import StockExecutor

BATCH_LAUNCHER = "hydra_plugins.backtest_batch.plugins.BatchLauncher"


def sweep_arguments(
    arguments: Sequence[str], context: HydraContext, config: DictConfig
) -> BatchOutcome:
    """Run the batch that the arguments, ``param_grid`` and ``runs`` describe."""
    composer = make_composer(context.config_loader, config)
    request = read_request(arguments, composer, config)
    target = config.hydra.launcher._target_
    if target == BATCH_LAUNCHER:
        return run(request)
    return run(request, make_executor=StockExecutor.factory(context, config))


def read_request(arguments: Sequence[str], composer: Composer, config: DictConfig) -> BatchRequest:
    """Return the batch that the arguments describe, not yet composed."""
    batch = batch_config(config)
    grid = read_grid(arguments, batch["param_grid"], batch["runs"], composer.loader)
    return make_request(grid, composer, batch, arguments)


def make_request(
    grid: Grid, composer: Composer, batch: dict[str, Any], arguments: Sequence[str]
) -> BatchRequest:
    """Return the request of a grid."""
    return BatchRequest(
        config=batch,
        compositions=composer.compose(grid),
        size=grid.size,
        axes={axis.key: len(axis) for axis in grid.axes},
        overrides=tuple(arguments),
        arguments=tuple(sys.argv[1:]),
    )


def launch_jobs(
    job_overrides: Sequence[Sequence[str]], context: HydraContext, config: DictConfig
) -> tuple[BatchOutcome, list[Any]]:
    """Run the jobs of another sweeper as one batch.

    Returns
    -------
    outcome
        The batch's.
    values
        The ranking metric of each job, or what went wrong with it.
    """
    composer = make_composer(context.config_loader, config)
    jobs = [
        (None, read_grid(overrides, None, None, composer.loader).constants)
        for overrides in job_overrides
    ]
    grid = Grid(constants=(), listed=tuple(jobs))
    arguments = OmegaConf.to_container(config.hydra.overrides.task)
    assert isinstance(arguments, list)
    outcome = run(make_request(grid, composer, batch_config(config), arguments))
    return outcome, outcome.values


def make_composer(loader: ConfigLoader, config: DictConfig) -> Composer:
    """Return the composer of the command that Hydra is running."""
    hydra_overrides = OmegaConf.to_container(config.hydra.overrides.hydra)
    assert isinstance(hydra_overrides, list)
    return Composer(loader, config.hydra.job.config_name, [str(item) for item in hydra_overrides])


def batch_config(config: DictConfig) -> dict[str, Any]:
    """Return the batch's own configuration; a value that only runs have may be missing in it."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    OmegaConf.set_struct(own, False)
    for path in OmegaConf.missing_keys(own):
        OmegaConf.update(own, path, None, force_add=True)
    plain = OmegaConf.to_container(own, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
