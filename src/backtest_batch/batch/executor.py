"""Compute the chunks of a batch in worker processes, and survive what happens to them.

A chunk that fails, hangs or takes its process down is split into its runs; a run that does so
alone is the culprit. Only its own failures count as its attempts.
"""

import heapq
import itertools
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from backtest_batch.batch.chunks import ChunkReply, ChunkTask
from backtest_batch.batch.monitor import HostMonitor, rss_mb
from backtest_batch.batch.retry import RetryPolicy
from backtest_batch.batch.slot import Slot, Work, make_setup
from backtest_batch.batch.worker import WorkerSetup
from backtest_batch.errors import (
    BacktestBatchError,
    BacktestError,
    MemoryLimitExceeded,
    RunTimeout,
    WorkerDied,
)
from backtest_batch.market.cache import cache_dir
from backtest_batch.records import RunFailure, RunRecord, RunSpec

log = logging.getLogger("backtest_batch.batch")

MakeTask = Callable[[Sequence[RunSpec]], ChunkTask]

IDLE_WAIT_SECONDS = 0.5
LIMIT_WAIT_SECONDS = 0.05
"""How often workers are looked at; more often while a time or memory limit is to be kept."""
MOST_FAILED_STARTS = 3


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a run may take."""

    timeout_seconds: float | None = None
    memory_limit_mb: float | None = None

    @property
    def wait_seconds(self) -> float:
        """How long to wait before looking again."""
        watched = self.timeout_seconds is not None or self.memory_limit_mb is not None
        return LIMIT_WAIT_SECONDS if watched else IDLE_WAIT_SECONDS


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
        setup=make_setup(setting.logs),
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
    setup
        What each process is told when it starts.
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
    setup: WorkerSetup
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

    def start(self, count: int | None = None) -> None:
        """Start processes, so that they are up when the first chunk is there."""
        wanted = self.n_jobs if count is None else min(count, self.n_jobs)
        while len(self._slots) < wanted:
            slot = Slot(setup=self.setup, environment=dict(self.environment))
            slot.start()
            self._slots.append(slot)

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
                elif (broken := self._broken_limit(slot)) is not None:
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
                raise BacktestBatchError(
                    f"worker processes do not start ({type(error).__name__}: {error}); "
                    f"their output is in {self.setup.log_folder}"
                ) from error
            slot.restart()
            return False
        self._failed_starts = 0
        return True

    def _bloated(self, slot: Slot) -> bool:
        """Replace a process that still holds so much memory that the next run would suffer."""
        limit = self.limits.memory_limit_mb
        if limit is None or slot.pid is None:
            return False
        if rss_mb(slot.pid) <= slot.first_rss_mb + (limit - slot.first_rss_mb) / 2:
            return False
        slot.restart()
        return True

    def _wait(self) -> None:
        pause = self.limits.wait_seconds
        if self._delayed:
            pause = min(pause, max(0.0, self._delayed[0][0] - time.monotonic()))
        waiting = [slot.future for slot in self._busy if slot.future is not None]
        if self._ready:
            # Idle processes that are still starting take work as soon as they are up.
            starting: list[Any] = [
                slot._hello for slot in self._slots if slot.work is None and slot._hello
            ]
            waiting += [future for future in starting if not future.done()]
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
            yield from self._end(slot, WorkerDied(_death(error)))
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
                failure.error_message,
                delay,
            )
            due = time.monotonic() + delay
            again = Work(runs=[run], attempts=attempts, not_before=due)
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

    def _broken_limit(self, slot: Slot) -> BacktestError | None:
        assert slot.work is not None
        timeout, memory = self.limits.timeout_seconds, self.limits.memory_limit_mb
        # A chunk that takes longer than one run may is split; its runs then have it each.
        if timeout is not None and time.monotonic() - slot.started > timeout:
            return RunTimeout(f"took longer than timeout_seconds={timeout:g}")
        if memory is not None and slot.pid is not None:
            used = rss_mb(slot.pid)
            if used > memory:
                return MemoryLimitExceeded(
                    f"its process used {used:,.0f} MiB, more than memory_limit_mb={memory:g}"
                )
        return None


def _death(error: Exception) -> str:
    """Say in one sentence how a worker ended."""
    codes = re.findall(r"exit codes? of the workers? (?:are|is) \{([^}]*)\}", str(error))
    if codes:
        return f"the worker process ended before it answered: {codes[0]}"
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"the worker process ended before it answered: {type(error).__name__}: {first_line}"
