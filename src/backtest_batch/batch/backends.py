"""Where a batch is computed: ``hydra.launcher.backend`` and ``hydra.launcher.address``.

What an engine needs is imported only when it is chosen.
"""

import importlib.util
import logging
from collections.abc import Callable

from backtest_batch.batch.chunks import ChunkTask
from backtest_batch.batch.construct import TARGET
from backtest_batch.batch.executor import Executor
from backtest_batch.batch.limits import IDLE_WAIT_SECONDS
from backtest_batch.batch.setup import (
    ExecutorSettings,
    limits_of,
    make_executor,
    policy_of,
    sends_together,
)
from backtest_batch.errors import ConfigurationError, Fault

log = logging.getLogger("backtest_batch.batch")

MODULES = {"loky": "joblib", "dask": "distributed", "ray": "ray"}
"""What each backend imports."""


def executor_factory(backend: str, address: str | None) -> Callable[[ExecutorSettings], Executor]:
    """Return what makes the executor of a batch.

    Parameters
    ----------
    backend
        ``loky`` (processes on this machine), ``dask`` or ``ray``.
    address
        A cluster that is there; without one, Dask and Ray start theirs on this machine.

    Raises
    ------
    ConfigurationError
        When there is no such backend, its packages are not installed, or it has no addresses.
    """
    if backend not in MODULES:
        raise _refused("backend", backend, f"must be one of: {', '.join(MODULES)}")
    if backend == "loky":
        if address is not None:
            raise _refused("address", address, "needs hydra.launcher.backend=dask or ray")
        return make_executor
    if importlib.util.find_spec(MODULES[backend]) is None:
        raise _refused(
            "backend", backend, f"is not installed: pip install 'backtest-batch[{backend}]'"
        )
    return lambda settings: make_remote_executor(settings, backend, address)


def make_remote_executor(settings: ExecutorSettings, backend: str, address: str | None) -> Executor:
    """Return the executor of a cluster."""
    from backtest_batch.batch.remote.messages import Origin, Request
    from backtest_batch.batch.remote.place import Cluster, ClusterSeat
    from backtest_batch.batch.remote.sources import sources_of

    cluster: Cluster
    if backend == "dask":
        from backtest_batch.batch.remote.dask_cluster import DaskCluster

        cluster = DaskCluster(address, settings.logs / "cluster.log")
    else:
        from backtest_batch.batch.remote.ray_cluster import RayCluster

        cluster = RayCluster(address)
    config, limits = settings.config, limits_of(settings.config)
    origin = Origin.here(settings.folder)

    def make_request(task: ChunkTask) -> Request:
        target = str(task.runs[0].config["strategy"][TARGET])
        return Request(task=task, limits=limits, origin=origin, sources=sources_of(target))

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
