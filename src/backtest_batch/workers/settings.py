"""Settings of a configuration for execution, and the executor that it names.

The packages of a backend are imported only when it is chosen.
"""

import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from backtest_batch.errors import ConfigurationError, Fault
from backtest_batch.workers.chunks import ChunkTask, targets_of
from backtest_batch.workers.executor import Executor, RetryPolicy
from backtest_batch.workers.monitor import IDLE_WAIT_SECONDS, HostMonitor, Limits
from backtest_batch.workers.process import (
    ProcessSeat,
    hash_seed,
    join_ended_pools,
    make_setup,
    worker_environment,
)
from backtest_batch.workers.start import Guard

if TYPE_CHECKING:
    from backtest_batch.workers.cluster.seat import Cluster


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings:
    """Settings to make an executor from once the batch's folders are known.

    Attributes
    ----------
    config
        The configuration of the batch.
    folder
        Scratch folder of the batch.
    logs
        Folder of the log files.
    """

    config: Mapping[str, Any]
    folder: Path
    logs: Path


def make_executor(settings: ExecutorSettings) -> Executor:
    """Return the executor with processes on this machine that a configuration describes."""
    config, limits, guard = settings.config, limits_of(settings.config), Guard()
    environment = worker_environment(hash_seed())

    def make_seat(number: int) -> ProcessSeat:
        guard.start()
        return ProcessSeat(
            setup=make_setup(settings.logs, number),
            environment=environment,
            guard=guard,
            limits=limits,
        )

    def end() -> None:
        join_ended_pools()
        guard.close()

    return Executor(
        n_jobs=config["n_jobs"],
        make_seat=make_seat,
        policy=policy_of(config),
        wait_seconds=limits.wait_seconds,
        monitor=HostMonitor(n_jobs=config["n_jobs"], adaptive=config["adaptive_workers"]),
        sends_together=sends_together(config),
        end=end,
    )


def limits_of(config: Mapping[str, Any]) -> Limits:
    """Return the limits of a configuration for one run."""
    return Limits(
        timeout_seconds=config["timeout_seconds"], memory_limit_mb=config["memory_limit_mb"]
    )


def sends_together(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration lets several chunks be sent to a worker at once."""
    limits, profiling = limits_of(config), config["profiling"]
    limited = limits.timeout_seconds is not None or limits.memory_limit_mb is not None
    return not (limited or profiling["enabled"] or profiling["runs"] is not None)


def policy_of(config: Mapping[str, Any]) -> RetryPolicy:
    """Return when a configuration lets failed runs be retried."""
    return RetryPolicy(
        retries=config["retries"],
        delay_seconds=config["retry_delay_seconds"],
        backoff=config["retry_backoff"],
        worker_failures=config["retry_worker_failures"],
        seed=config["seed"],
    )


log = logging.getLogger("backtest_batch.batch")


class ClusterBackend(NamedTuple):
    """The parts needed for a cluster: the module of its backend, and how it is made."""

    module: str
    make: "Callable[[str | None, Path], Cluster]"
    """Takes an address (None for a cluster on this machine), and a file for what its workers
    print."""


def _dask(address: str | None, log_file: Path) -> "Cluster":
    from backtest_batch.workers.cluster.dask_cluster import DaskCluster

    return DaskCluster(address, log_file)


def _ray(address: str | None, log_file: Path) -> "Cluster":  # noqa: ARG001 - Ray has logs of its own
    from backtest_batch.workers.cluster.ray_cluster import RayCluster

    return RayCluster(address)


CLUSTERS: Mapping[str, ClusterBackend] = MappingProxyType(
    {"dask": ClusterBackend("distributed", _dask), "ray": ClusterBackend("ray", _ray)}
)
"""Backends beside ``loky``: values of ``hydra.launcher.backend``, and names of extras."""


def executor_factory(backend: str, address: str | None) -> Callable[[ExecutorSettings], Executor]:
    """Return the function that makes the executor of a batch.

    Parameters
    ----------
    backend
        ``loky`` (processes on this machine), ``dask`` or ``ray``.
    address
        Address of a running cluster; without one, Dask and Ray start theirs on this machine.

    Raises
    ------
    ConfigurationError
        When there is no such backend, its packages are not installed, or it takes no address.
    """
    if backend == "loky":
        if address is not None:
            clusters = " or ".join(CLUSTERS)
            raise _refused("address", address, f"needs hydra.launcher.backend={clusters}")
        return make_executor
    if backend not in CLUSTERS:
        raise _refused("backend", backend, f"must be one of: loky, {', '.join(CLUSTERS)}")
    if importlib.util.find_spec(CLUSTERS[backend].module) is None:
        raise _refused(
            "backend", backend, f"is not installed: pip install 'backtest-batch[{backend}]'"
        )
    return lambda settings: make_remote_executor(settings, backend, address)


def make_remote_executor(settings: ExecutorSettings, backend: str, address: str | None) -> Executor:
    """Return the executor of a cluster."""
    from backtest_batch.workers.cluster.seat import ClusterSeat
    from backtest_batch.workers.cluster.transfer import CommandOrigin, Request, sources_of

    cluster = CLUSTERS[backend].make(address, settings.logs / "cluster.log")
    config, limits = settings.config, limits_of(settings.config)
    origin = CommandOrigin.here(settings.folder)

    def make_request(task: ChunkTask) -> Request:
        sources = sources_of(*targets_of(task.runs))
        return Request(task=task, limits=limits, origin=origin, sources=sources)

    def make_seat(number: int) -> ClusterSeat:
        file = settings.logs / f"worker-{number}.log"
        return ClusterSeat(cluster=cluster, make_request=make_request, log=file)

    def begin(n_seats: int) -> None:
        where = "on this machine" if address is None else f"at {address}"
        log.info("computing on %s, %s", backend, where)
        if config["adaptive_workers"]:
            log.info("adaptive_workers: has no effect on %s, which shares out its workers", backend)
        cluster.open(n_seats)

    return Executor(
        n_jobs=config["n_jobs"],
        make_seat=make_seat,
        policy=policy_of(config),
        wait_seconds=IDLE_WAIT_SECONDS,
        sends_together=sends_together(config),
        begin=begin,
        end=lambda: cluster.close(origin.token),
    )


def _refused(option: str, value: str, allowed: str) -> ConfigurationError:
    fault = Fault(key=f"hydra.launcher.{option}", value=value, allowed=allowed)
    return ConfigurationError(str(fault), [fault])
