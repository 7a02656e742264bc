"""The sweeper ``batch`` and the launcher ``batch``, both the default of the command.

The sweeper turns the command line into a grid, composes its runs and hands them to
:mod:`backtest_batch.batch.run`; the launcher says where they are computed. Hydra imports this
module at every start to find the classes, so everything else is imported only when needed.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from backtest_batch.compose.apart import PROVIDER
from backtest_batch.config.schema import NODES, BatchConfig

if TYPE_CHECKING:
    from backtest_batch.config.arguments import Arguments

SCHEMA = "backtest_batch_schema"


@dataclass
class BatchSweeperConfig:
    """The sweeper has no options of its own."""

    _target_: str = "hydra_plugins.backtest_batch.plugins.BatchSweeper"


@dataclass
class BatchLauncherConfig:
    """Where runs are computed."""

    _target_: str = "hydra_plugins.backtest_batch.plugins.BatchLauncher"
    # loky: processes on this machine; dask, ray: a cluster
    backend: str = "loky"
    # of an existing cluster (tcp://scheduler:8786, ray://head:10001); none: start a local one
    address: str | None = None


def _register() -> None:
    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="batch", node=BatchSweeperConfig, provider=PROVIDER)
    store.store(group="hydra/launcher", name="batch", node=BatchLauncherConfig, provider=PROVIDER)
    schema = OmegaConf.structured(BatchConfig)
    # These hold keys that the schema cannot know; what they accept is checked later.
    for name in ("tags", *NODES):
        OmegaConf.set_struct(schema[name], False)
    OmegaConf.set_struct(schema.search.sampler, False)
    store.store(name=SCHEMA, node=schema, provider=PROVIDER)


_register()


class Command(Protocol):
    """The task that Hydra is given: it knows what was asked for, and runs the batch."""

    arguments: "Arguments"
    run: Callable[..., Any]
    outcome: Any


def _command(task_function: TaskFunction | None) -> Command:
    return cast(Command, task_function)


class BatchSweeper(Sweeper):
    """Expands the command line, a grid or a list of runs, and runs them as one batch."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra passes; see Hydra's Sweeper."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:  # noqa: ARG002 - those of the command
        """Run the batch that the arguments describe and return its outcome."""
        from backtest_batch.compose.configurations import sweep_arguments

        assert self.hydra_context is not None
        assert self.config is not None
        command = _command(self.task_function)
        outcome = sweep_arguments(command.arguments, self.hydra_context, self.config, command.run)
        command.outcome = outcome
        return outcome


class BatchLauncher(Launcher):
    """Computes runs in worker processes; here for sweepers other than ``batch``."""

    def __init__(self, backend: str = "loky", address: str | None = None) -> None:
        self.backend = backend
        self.address = address

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra passes; see Hydra's Launcher."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self,
        job_overrides: Sequence[Sequence[str]],
        initial_job_idx: int,  # noqa: ARG002 - a batch numbers its runs itself
    ) -> Sequence[JobReturn]:
        """Run the jobs of another sweeper as one batch; each returns its ranking metric."""
        from backtest_batch.compose.configurations import launch_jobs

        assert self.hydra_context is not None
        assert self.config is not None
        command = _command(self.task_function)
        from backtest_batch.workers.settings import executor_factory

        executor = executor_factory(self.backend, self.address)
        run = functools.partial(command.run, make_executor=executor)
        outcome, values = launch_jobs(
            job_overrides, command.arguments, self.hydra_context, self.config, run
        )
        command.outcome = outcome
        returns: list[JobReturn] = []
        for overrides, value in zip(job_overrides, values, strict=True):
            job = JobReturn(overrides=list(overrides))
            job.status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
            job.return_value = value
            returns.append(job)
        return returns
