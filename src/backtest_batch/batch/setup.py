"""What a configuration says of the executor of a batch, and the executor on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtest_batch.batch.executor import Executor
from backtest_batch.batch.guard import Guard
from backtest_batch.batch.hash_seed import hash_seed
from backtest_batch.batch.limits import Limits
from backtest_batch.batch.monitor import HostMonitor
from backtest_batch.batch.retry import RetryPolicy
from backtest_batch.batch.slot import ProcessSeat, join_ended_pools, make_setup, worker_environment


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings:
    """What an executor is made from once the batch's folders are known.

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
    """Return the executor of processes on this machine that a configuration describes."""
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
    """Return what a configuration allows a run to take."""
    return Limits(
        timeout_seconds=config["timeout_seconds"], memory_limit_mb=config["memory_limit_mb"]
    )


def sends_together(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration lets several chunks be sent to a worker at once."""
    limits, profiling = limits_of(config), config["profiling"]
    limited = limits.timeout_seconds is not None or limits.memory_limit_mb is not None
    return not (limited or profiling["enabled"] or profiling["runs"] is not None)


def policy_of(config: Mapping[str, Any]) -> RetryPolicy:
    """Return when a configuration lets failed runs be tried again."""
    return RetryPolicy(
        retries=config["retries"],
        delay_seconds=config["retry_delay_seconds"],
        backoff=config["retry_backoff"],
        worker_failures=config["retry_worker_failures"],
        seed=config["seed"],
    )
