"""Compute the chunks of a batch in worker processes, and survive what happens to them.

A chunk that fails, hangs or takes its process down is split into its runs; a run that does so
alone is the culprit. Only its own failures count as its attempts.
"""

import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from backtest_batch.batch.chunks import ChunkReply, ChunkTask
from backtest_batch.batch.guard import Guard
from backtest_batch.batch.interrupt import exposed
from backtest_batch.batch.limits import Limits
from backtest_batch.batch.monitor import HostMonitor
from backtest_batch.batch.retry import RetryPolicy
from backtest_batch.batch.slot import Slot, Work, how_it_ended, make_setup
from backtest_batch.errors import (
    BacktestBatchError,
    BacktestError,
    ConfigurationError,
    WorkerDied,
)
from backtest_batch.market.cache import cache_dir
from backtest_batch.records import RunFailure, RunRecord, RunSpec

log = logging.getLogger("backtest_batch.batch")

MakeTask = Callable[[Sequence[RunSpec]], ChunkTask]

MOST_FAILED_STARTS = 3
LONGEST_MESSAGE = 300
"""Characters of an error that the log shows when a run is tried again."""


@dataclass(frozen=True, kw_only=True)
class Setting:
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


class ComputesChunks(Protocol):
    """What a sweep asks of whatever computes its chunks."""

    running: int

    def start(self, count: int | None = None) -> None:
        """Start processes, so that they are up when the first chunk is there."""

    def execute(
        self, chunks: Sequence[Sequence[RunSpec]], make_task: MakeTask
    ) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        """Yield the records of runs as they end, with the reply that they came in."""

    def in_flight(self) -> list[tuple[RunSpec, int]]:
        """Return the runs that are being computed, with their start in milliseconds."""

    def close(self) -> None:
        """End every process."""


def make_executor(setting: Setting) -> "Executor":
    """Return the executor that the configuration of a batch describes."""
    config = setting.config
    return Executor(
        n_jobs=config["n_jobs"],
        logs=setting.logs,
        environment={"NUMBA_CACHE_DIR": str(cache_dir() / "numba")},
        policy=RetryPolicy(
            retries=config["retries"],
            delay_seconds=config["retry_delay_seconds"],
            backoff=config["retry_backoff"],
            worker_failures=config["retry_worker_failures"],
            seed=config["seed"],
        ),
        limits=Limits(
            timeout_seconds=config["timeout_seconds"], memory_limit_mb=config["memory_limit_mb"]
        ),
        adaptive=config["adaptive_workers"],
    )


@dataclass
class Executor:
    """A set of worker processes.

    Parameters
    ----------
    n_jobs
        Number of processes.
    logs
        Folder of the processes' log files.
    environment
        Environment variables of the processes.
    policy
        When failed runs are tried again.
    limits
        What a run may take.
    adaptive
        Whether fewer compute while the host is short of memory or processors.
    """

    n_jobs: int
    logs: Path | None
    environment: Mapping[str, str]
    policy: RetryPolicy
    limits: Limits
    adaptive: bool
    running: int = field(default=0, init=False)
    """Runs that workers are computing now."""
    _slots: list[Slot] = field(default_factory=list, init=False)
    _ready: deque[Work] = field(default_factory=deque, init=False)
    _delayed: list[tuple[float, int, Work]] = field(default_factory=list, init=False)
    _order: Iterator[int] = field(default_factory=itertools.count, init=False)
    _failed_starts: int = field(default=0, init=False)
    _guard: Guard = field(default_factory=Guard, init=False)

    def start(self, count: int | None = None) -> None:
        """Start processes, so that they are up when the first chunk is there."""
        wanted = self.n_jobs if count is None else min(count, self.n_jobs)
        self._guard.start()
        while len(self._slots) < wanted:
            setup = make_setup(self.logs, len(self._slots) + 1)
            slot = Slot(setup=setup, environment=dict(self.environment), guard=self._guard)
            self._slots.append(slot)
            slot.start()

    def execute(
        self, chunks: Sequence[Sequence[RunSpec]], make_task: MakeTask
    ) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        """Yield the records of runs as they end, with the reply that they came in.

        A reply is None for runs that failed. None is yielded for nothing else than ends; between
        them an empty list comes now and then, so that the caller can show progress.

        Raises
        ------
        BacktestBatchError
            When worker processes cannot even start.
        """
        self._ready.extend(Work(runs=list(chunk)) for chunk in chunks)
        self.start(len(chunks))
        monitor = HostMonitor(n_jobs=self.n_jobs, adaptive=self.adaptive)
        while self._ready or self._delayed or self._busy:
            self._wake_delayed()
            self._dispatch(monitor.allowed, make_task)
            yield [], None
            self._wait()
            for slot in self._busy:
                if slot.future is not None and slot.future.done():
                    yield from self._settle(slot)
                elif (broken := self.limits.broken(slot.seconds, slot.memory)) is not None:
                    yield from self._end(slot, broken)
            note = monitor.sample([slot.pid for slot in self._slots if slot.pid is not None])
            if note is not None:
                log.warning(note)

    def in_flight(self) -> list[tuple[RunSpec, int]]:
        """Return the runs that workers are computing, with their start in milliseconds."""
        return [
            (run, slot.started_ms)
            for slot in self._slots
            if slot.work is not None
            for run in slot.work.runs
        ]

    def close(self) -> None:
        """End every process, whatever it is doing."""
        for slot in self._slots:
            slot.kill()
        self._slots.clear()
        self._guard.close()

    @property
    def _busy(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.work is not None]

    def _wake_delayed(self) -> None:
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            self._ready.append(heapq.heappop(self._delayed)[2])

    def _dispatch(self, allowed: int, make_task: MakeTask) -> None:
        for slot in self._slots:
            if not self._ready or len(self._busy) >= allowed:
                break
            if slot.idle and self._greet(slot) and not self._bloated(slot):
                work = self._ready.popleft()
                slot.give(work, make_task(work.runs))
        self.running = sum(len(slot.work.runs) for slot in self._busy if slot.work)

    def _greet(self, slot: Slot) -> bool:
        try:
            slot.greet()
        except Exception as error:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                tail = slot.log_tail()[-2_000:]
                raise BacktestBatchError(
                    f"worker processes do not start: {how_it_ended(error)}\n{tail}".rstrip()
                ) from error
            slot.restart()
            return False
        self._failed_starts = 0
        limit, memory = self.limits.memory_limit_mb, slot.memory
        if limit is not None and memory is not None and memory.first_mb >= limit:
            raise ConfigurationError(
                f"memory_limit_mb={limit:g}: a worker needs {memory.first_mb:,.0f} MiB before "
                "its first run, so that every run would fail"
            )
        return True

    def _bloated(self, slot: Slot) -> bool:
        """Replace a process that still holds so much memory that the next run would suffer."""
        limit, memory = self.limits.memory_limit_mb, slot.memory
        if limit is None or memory is None:
            return False
        if memory.used_mb <= memory.first_mb + (limit - memory.first_mb) / 2:
            return False
        slot.restart()
        return True

    def _wait(self) -> None:
        pause = self.limits.wait_seconds
        if self._delayed:
            pause = min(pause, max(0.0, self._delayed[0][0] - time.monotonic()))
        waiting = [slot.future for slot in self._busy if slot.future is not None]
        if self._ready:
            # Processes that are still starting take work as soon as they are up.
            starting: list[Any] = [slot.starting for slot in self._slots if slot.starting]
            waiting += starting
        with exposed():
            if waiting:
                wait(waiting, timeout=pause, return_when=FIRST_COMPLETED)
            elif pause > 0:
                time.sleep(pause)

    def _settle(self, slot: Slot) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        """Take the answer of a worker."""
        assert slot.future is not None
        try:
            reply = slot.future.result()
        except Exception as error:  # noqa: BLE001 - whatever came back, the batch goes on
            # The process is gone, or what it sent cannot be read.
            yield from self._end(slot, WorkerDied(how_it_ended(error)))
            return
        peak = max((result.peak_rss_mb for result in reply.results), default=0.0)
        exceeded = self.limits.exceeded(peak)
        if exceeded is not None:
            yield from self._end(slot, exceeded)
            return
        started_ms = slot.started_ms
        work = slot.release()
        if reply.failure is None:
            yield (
                [
                    RunRecord(
                        spec=run,
                        outcome=result,
                        attempts=work.attempts + 1,
                        started_ms=started_ms,
                        ended_ms=reply.ended_ms,
                    )
                    for run, result in zip(work.runs, reply.results, strict=True)
                ],
                reply,
            )
            return
        yield from self._failed(work, reply.failure, reply.permanent, started_ms)

    def _end(
        self, slot: Slot, reason: BacktestError
    ) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        """Replace a worker that died or broke a limit."""
        failure = RunFailure(
            error_type=type(reason).__name__, error_message=str(reason), log=slot.log_tail()
        )
        started_ms = slot.started_ms
        work = slot.release()
        slot.restart()
        yield from self._failed(work, failure, False, started_ms)

    def _failed(
        self, work: Work, failure: RunFailure, permanent: bool, started_ms: int
    ) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        if len(work.runs) > 1:
            self._ready.extendleft(Work(runs=[run]) for run in reversed(work.runs))
            return
        run = work.runs[0]
        attempts = work.attempts + 1
        if self.policy.allows(attempts, failure.error_type, permanent=permanent):
            delay = self.policy.delay(run.index, attempts)
            log.warning(
                "%s failed (attempt %d of %d): %s: %s; trying again in %.1f s",
                run.run_id,
                attempts,
                self.policy.retries + 1,
                failure.error_type,
                " ".join(failure.error_message.split())[:LONGEST_MESSAGE],
                delay,
            )
            due = time.monotonic() + delay
            again = Work(runs=[run], attempts=attempts)
            heapq.heappush(self._delayed, (due, next(self._order), again))
            return
        record = RunRecord(
            spec=run,
            outcome=failure,
            attempts=attempts,
            started_ms=started_ms,
            ended_ms=time.time_ns() // 1_000_000,
        )
        yield [record], None
