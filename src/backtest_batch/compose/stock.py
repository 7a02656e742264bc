"""Compute runs with any other Hydra launcher, such as the stock ``hydra/launcher=joblib``.

Such a launcher answers only when its last job is done, and loses every answer when a worker dies;
so all runs are recorded at the end, or all as failed.
"""

import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig

from backtest_batch.errors import ConfigurationError, Fault, WorkerDied
from backtest_batch.records import RunFailure, RunRecord, RunSpec
from backtest_batch.workers.chunks import ChunkReply, ChunkTask
from backtest_batch.workers.executor import MakeTask
from backtest_batch.workers.inside import run_chunk
from backtest_batch.workers.settings import ExecutorSettings

UNABLE = {"retries": 0, "timeout_seconds": None, "memory_limit_mb": None, "on_failure": "continue"}
"""Keys for features that only our executors have, and the values that turn them off."""


@dataclass
class StoredTask:
    """Called by the launcher's jobs: reads a task by its number and computes it."""

    folder: Path

    def __call__(self, _: DictConfig) -> ChunkReply:
        """Compute the run of Hydra's current job; its configuration is in the task."""
        number = int(HydraConfig.get().job.num)
        task: ChunkTask = pickle.loads((self.folder / f"{number}.task").read_bytes())
        return run_chunk(task)


class StockExecutor:
    """Runs every job through a launcher of Hydra's."""

    def __init__(self, context: HydraContext, config: DictConfig, folder: Path) -> None:
        self._context = context
        self._config = config
        self._folder = folder
        self.running = 0

    @classmethod
    def factory(
        cls, context: HydraContext, config: DictConfig, batch: Mapping[str, Any]
    ) -> Callable[[ExecutorSettings], "StockExecutor"]:
        """Return the function that makes the executor once the batch's folders are known.

        Parameters
        ----------
        context, config
            What Hydra gives to a sweeper.
        batch
            The configuration of the batch.

        Raises
        ------
        ConfigurationError
            When it needs a feature that such a launcher does not have.
        """
        faults = [
            Fault(key=key, value=batch[key], allowed="needs hydra/launcher=batch")
            for key, off in UNABLE.items()
            if batch[key] != off
        ]
        if faults:
            raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
        chosen = config.hydra.overrides.hydra
        if "n_jobs" in config.hydra.launcher and not any(
            str(item).startswith("hydra.launcher.n_jobs") for item in chosen
        ):
            config.hydra.launcher.n_jobs = batch["n_jobs"]
        return lambda setting: cls(context, config, setting.folder)

    def start(self, count: int | None = None) -> None:
        """Do nothing: the launcher starts its own processes."""

    def execute(
        self, chunks: Sequence[Sequence[RunSpec]], make_task: MakeTask
    ) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        """Yield the records of all runs once the launcher has answered."""
        runs = [run for chunk in chunks for run in chunk]
        self.running = len(runs)
        started_ms = time.time_ns() // 1_000_000
        for number, run in enumerate(runs):
            (self._folder / f"{number}.task").write_bytes(pickle.dumps(make_task([run])))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self._context,
            task_function=StoredTask(self._folder),
            config=self._config,
        )
        yield [], None
        try:
            returned = launcher.launch([list(run.overrides) for run in runs], initial_job_idx=0)
            replies: list[Any] = [job._return_value for job in returned]
        except Exception as error:  # noqa: BLE001 - whatever the launcher makes of a dead worker
            replies = [error] * len(runs)
        self.running = 0
        for run, reply in zip(runs, replies, strict=True):
            yield [_record(run, reply, started_ms)], reply if _finished(reply) else None

    def in_flight(self) -> list[tuple[RunSpec, int]]:
        """Return nothing: it is not known what the launcher is computing."""
        return []

    def close(self) -> None:
        """Do nothing: the launcher ends its own processes."""


def _finished(reply: Any) -> bool:
    return isinstance(reply, ChunkReply) and reply.failure is None


def _record(run: RunSpec, reply: Any, started_ms: int) -> RunRecord:
    if isinstance(reply, ChunkReply):
        outcome = reply.failure or reply.results[0]
        return RunRecord(
            spec=run,
            outcome=outcome,
            attempts=1,
            started_ms=reply.started_ms,
            ended_ms=reply.ended_ms,
        )
    failure = RunFailure(
        error_type=WorkerDied.__name__,
        error_message=f"the launcher lost its jobs: {type(reply).__name__}: {reply}",
    )
    return RunRecord(
        spec=run,
        outcome=failure,
        attempts=1,
        started_ms=started_ms,
        ended_ms=time.time_ns() // 1_000_000,
    )
