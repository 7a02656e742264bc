"""Divide a batch into chunks, have them computed, and survive whatever happens to workers.

A chunk that fails, hangs or takes its process down is split, in the end into single runs; a run
that does so alone is the culprit. Only its own failures count as its attempts. This is the same
wherever runs are computed: all that the executor needs of a worker is a :class:`Seat`. A
:class:`.ProcessSeat` is a process on this machine, a :class:`.ClusterSeat` a share of a cluster.

Workers of ``multiprocessing.Pool``, Celery and clusters are daemons, which may not have children:
Python would end them without warning, and their children would stay behind. Our workers may be
started there all the same, since each ends with the process that started it.
"""

import heapq
import itertools
import logging
import math
import multiprocessing
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from backtest_batch.core.construct import TARGET
from backtest_batch.errors import (
    BacktestBatchError,
    BacktestError,
    MemoryLimitExceeded,
    RunTimeout,
    WorkerDied,
)
from backtest_batch.interrupt import NOTICE_SECONDS, heed
from backtest_batch.records import RunFailure, RunRecord, RunSpec
from backtest_batch.values import LOGGED_MESSAGE, cut
from backtest_batch.workers.chunks import ChunkReply, ChunkTask
from backtest_batch.workers.monitor import HostMonitor

LARGEST_CHUNK = 256
"""Most runs of one chunk; limits a worker's memory and what a crash repeats."""
SMALLEST_PIECE = 16
"""Fewest runs of a piece that a group is divided into. Starting another worker for fewer takes
longer than simulating them, and their common strategy would be asked twice."""
LARGE_RUN_BARS = 50_000
"""From this number of bars on, a run is computed apart from those that share its strategy."""


def group_runs(runs: Sequence[RunSpec], n_jobs: int, alone: frozenset[int]) -> list[list[RunSpec]]:
    """Return the chunks of a batch, in the order of their first runs.

    Parameters
    ----------
    runs
        The runs to compute.
    n_jobs
        Number of workers. A batch with fewer groups than workers is split further where that is
        worth another worker: into pieces of at least :data:`SMALLEST_PIECE` runs, or of one run
        where runs are large or the strategy is fitted.
    alone
        Indices of runs that are computed one by one (profiled ones).
    """
    groups: dict[str, list[RunSpec]] = {}
    for run in runs:
        key = f"alone {run.index}" if run.index in alone else run.chunk_key
        groups.setdefault(key, []).append(run)
    pieces = max(1, math.ceil(n_jobs / len(groups))) if groups else 1
    chunks: list[list[RunSpec]] = []
    for group in groups.values():
        size = max(math.ceil(len(group) / pieces), _smallest_piece(group[0]))
        size = min(LARGEST_CHUNK, size)
        chunks += [group[start : start + size] for start in range(0, len(group), size)]
    return chunks


def _smallest_piece(run: RunSpec) -> int:
    large = run.fit_bars is not None or run.n_bars >= LARGE_RUN_BARS
    return 1 if large else SMALLEST_PIECE


@dataclass
class Work:
    """Runs that wait for a worker, or that one is computing.

    Attributes
    ----------
    runs
        What is computed together.
    attempts
        Attempts of the run so far; counted for a run that is alone.
    alone
        Whether it must be sent alone, because it may have ended a process.
    parts
        What is sent together, and computed one after the other; empty for one chunk.
    """

    runs: list[RunSpec]
    attempts: int = 0
    alone: bool = False
    parts: "tuple[Work, ...]" = ()

    @classmethod
    def together(cls, parts: "Sequence[Work]") -> "Work":
        """Return several chunks as one."""
        return cls(runs=[run for part in parts for run in part.runs], parts=tuple(parts))


class StartError(Exception):
    """A worker process did not start; the message says why, if that is known."""


class Seat(Protocol):
    """The interface of a seat, which the executor uses."""

    work: Work | None
    started_ms: int

    def start(self) -> None:
        """Begin to start the worker, without waiting for it."""

    def replace_lost(self) -> None:
        """Begin to start another worker if a seat without work has lost its own."""

    @property
    def idle(self) -> bool:
        """Whether the worker is up and has nothing to do."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes of this seat on this machine, including those that are starting."""

    def prepare(self) -> bool:
        """Make an idle seat ready for work; return whether it is ready.

        Raises
        ------
        StartError
            When the worker did not start; the seat is starting it again.
        ConfigurationError
            When every run would exceed its limits here.
        """

    def give(self, work: Work, task: ChunkTask) -> None:
        """Hand over work."""

    @property
    def waits_for(self) -> "Future[Any] | None":
        """A future that is done when the worker has started, or has answered."""

    def send_missing_data(self) -> None:
        """Send the data that the worker says it lacks, and the work again."""

    @property
    def answered(self) -> bool:
        """Whether the work has come to an end."""

    def broken(self) -> BacktestError | None:
        """Return the limit that the work exceeds now, or None."""

    def answer(self) -> ChunkReply:
        """Return the answer to the work.

        Raises
        ------
        BacktestError
            When the worker died or exceeded a limit.
        StartError
            When it did not even start; the work has not begun.
        """

    def log_tail(self) -> str:
        """Return what was printed and logged since the work was handed over."""

    def release(self) -> Work:
        """Take the work back."""

    def restart(self) -> None:
        """Replace the worker, whatever it is doing."""

    def kill(self) -> None:
        """End the worker, whatever it is doing."""


LONGEST_DELAY_SECONDS = 300.0
JITTER = 0.25
"""A pause is lengthened by up to this share, so that runs that failed together are retried
apart."""

WORKER_FAILURES = frozenset(
    error.__name__ for error in (WorkerDied, RunTimeout, MemoryLimitExceeded)
)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, and after which pauses, a failed run is retried.

    Attributes
    ----------
    retries
        Attempts after the first.
    delay_seconds
        Pause before the first retry.
    backoff
        Factor from one pause to the next; no pause is longer than five minutes plus jitter.
    worker_failures
        Whether dead workers, timeouts and exceeded memory limits are retried.
    seed
        Seed of the jitter.
    """

    retries: int = 0
    delay_seconds: float = 1.0
    backoff: float = 2.0
    worker_failures: bool = False
    seed: int = 0

    def allows(self, attempts: int, error_type: str, *, permanent: bool) -> bool:
        """Return whether a run whose ``attempts``-th attempt failed is retried."""
        if permanent or attempts > self.retries:
            return False
        return self.worker_failures or error_type not in WORKER_FAILURES

    def delay(self, index: int, attempts: int) -> float:
        """Return the pause in seconds after a run's ``attempts``-th failed attempt.

        delay_seconds * backoff ** (attempts - 1), capped, times 1 + jitter; the jitter is drawn
        from the seed, the run and the attempt, so that a batch repeats itself exactly.
        """
        pause = self.delay_seconds * min(self.backoff ** (attempts - 1), 1e9)
        jitter = random.Random(f"{self.seed} {index} {attempts}").uniform(0, JITTER)
        return min(pause, LONGEST_DELAY_SECONDS) * (1 + jitter)


def allow_children() -> bool:
    """Let this process have children; return whether that was forbidden."""
    this = multiprocessing.current_process()
    forbidden = this.daemon
    if forbidden:
        this.daemon = False
    return forbidden


def forbid_children() -> None:
    """Undo :func:`allow_children`."""
    multiprocessing.current_process().daemon = True


log = logging.getLogger("backtest_batch.batch")

MakeSeat = Callable[[int], Seat]
"""Makes the seat with a number, counted from 1."""

MakeTask = Callable[[Sequence[RunSpec]], ChunkTask]

MOST_FAILED_STARTS = 3
TOGETHER_SECONDS = 0.1
"""Chunks that take less are sent together: sending one and reading its answer takes
milliseconds."""
PIECES = 16
"""Number of parts that a failed chunk is divided into: two or three steps find the run to blame. If
there is none, because the system ended the process, few runs are computed one by one."""


class ComputesChunks(Protocol):
    """The interface of whatever computes the chunks of a sweep."""

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


@dataclass
class Executor:
    """Keeps seats busy with chunks.

    Parameters
    ----------
    n_jobs
        Number of seats.
    make_seat
        Makes them.
    policy
        When failed runs are tried again.
    wait_seconds
        How long to wait for an answer before looking at limits and the host again.
    monitor
        Says how many seats may compute at once; None: all of them.
    sends_together
        Whether several chunks may be sent at once; not if each has limits of its own.
    begin, end
        Called before the first seat starts, and after the last one has ended. ``begin`` gets the
        number of seats that the first chunks need.
    """

    n_jobs: int
    make_seat: MakeSeat
    policy: RetryPolicy
    wait_seconds: float
    monitor: HostMonitor | None = None
    sends_together: bool = False
    begin: Callable[[int], None] = lambda _: None
    end: Callable[[], None] = lambda: None
    running: int = field(default=0, init=False)
    """Runs that are being computed now."""
    _seats: list[Seat] = field(default_factory=list, init=False)
    _ready: deque[Work] = field(default_factory=deque, init=False)
    _delayed: list[tuple[float, int, Work]] = field(default_factory=list, init=False)
    _order: Iterator[int] = field(default_factory=itertools.count, init=False)
    _failed_starts: int = field(default=0, init=False)
    _was_daemon: bool = field(default=False, init=False)
    _run_seconds: float | None = field(default=None, init=False)
    """Recent time per run."""

    def start(self, count: int | None = None) -> None:
        """Start processes, so that they are up when the first chunk is there."""
        wanted = self.n_jobs if count is None else min(count, self.n_jobs)
        if not self._seats:
            self._was_daemon = allow_children() or self._was_daemon
            self.begin(wanted)
        while len(self._seats) < wanted:
            seat = self.make_seat(len(self._seats) + 1)
            self._seats.append(seat)
            try:
                seat.start()
            except OSError as error:
                raise BacktestBatchError(f"worker processes do not start: {error}") from error

    def execute(
        self, chunks: Sequence[Sequence[RunSpec]], make_task: MakeTask
    ) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        """Yield the records of runs as they end, with the reply that they came in.

        The reply is None for runs that failed. Sometimes an empty list is yielded although no run
        has ended, so that the caller can show progress.

        Raises
        ------
        BacktestBatchError
            When worker processes cannot even start.
        """
        self._ready.extend(Work(runs=list(chunk)) for chunk in chunks)
        self.start(len(chunks))
        while self._ready or self._delayed or self._busy:
            heed()
            self._wake_delayed()
            self._dispatch(make_task)
            yield [], None
            self._wait()
            for seat in self._busy:
                seat.send_missing_data()
                if seat.answered:
                    yield from self._settle(seat)
                elif (broken := seat.broken()) is not None:
                    yield from self._end(seat, broken)
            self._look_at_host()

    def in_flight(self) -> list[tuple[RunSpec, int]]:
        """Return the runs that are being computed, with their start in milliseconds."""
        return [
            (run, seat.started_ms)
            for seat in self._seats
            if seat.work is not None
            for run in seat.work.runs
        ]

    def close(self) -> None:
        """End everything, whatever it is doing."""
        for seat in self._seats:
            seat.kill()
        self._seats.clear()
        self.end()
        if self._was_daemon:
            forbid_children()
            self._was_daemon = False

    @property
    def _busy(self) -> list[Seat]:
        return [seat for seat in self._seats if seat.work is not None]

    def _wake_delayed(self) -> None:
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            self._ready.append(heapq.heappop(self._delayed)[2])

    def _dispatch(self, make_task: MakeTask) -> None:
        allowed = self.n_jobs if self.monitor is None else self.monitor.allowed
        busy = len(self._busy)
        for seat in self._seats:
            if not self._ready or busy >= allowed:
                break
            seat.replace_lost()
            if seat.idle and self._prepare(seat):
                work = self._next_work()
                task = replace(make_task(work.runs), attempt=work.attempts + 1)
                if work.parts:
                    task = replace(task, sizes=tuple(len(part.runs) for part in work.parts))
                seat.give(work, task)
                busy += 1
        self.running = sum(len(seat.work.runs) for seat in self._busy if seat.work)

    def _next_work(self) -> Work:
        """Return the next chunk, with the following ones if they are short."""
        first = self._ready.popleft()
        if not self.sends_together or self._run_seconds is None or first.alone:
            return first
        # Few enough that no seat is idle at the end while another has several left.
        most = len(self._ready) // (4 * self.n_jobs)
        parts, count = [first], len(first.runs)
        while len(parts) <= most and _may_follow(first, self._ready[0]):
            count += len(self._ready[0].runs)
            if count > LARGEST_CHUNK or self._run_seconds * count > TOGETHER_SECONDS:
                break
            parts.append(self._ready.popleft())
        return first if len(parts) == 1 else Work.together(parts)

    def _prepare(self, seat: Seat) -> bool:
        try:
            ready = seat.prepare()
        except StartError as error:
            self._not_started(error)
            return False
        self._failed_starts = 0
        return ready

    def _not_started(self, error: StartError) -> None:
        self._failed_starts += 1
        if self._failed_starts >= MOST_FAILED_STARTS:
            raise BacktestBatchError(f"worker processes do not start: {error}") from error

    def _look_at_host(self) -> None:
        if self.monitor is None:
            return
        note = self.monitor.sample([pid for seat in self._seats for pid in seat.pids])
        if note is not None:
            log.warning(note)

    def _wait(self) -> None:
        pause = self.wait_seconds
        if self._delayed:
            pause = min(pause, max(0.0, self._delayed[0][0] - time.monotonic()))
        # Seats that are still starting take work as soon as they are up.
        seats = self._seats if self._ready else self._busy
        waiting = [future for seat in seats if (future := seat.waits_for) is not None]
        end = time.monotonic() + pause
        while True:
            heed()
            left = max(0.0, end - time.monotonic())
            if not waiting:
                time.sleep(min(left, NOTICE_SECONDS))
            elif wait(waiting, timeout=min(left, NOTICE_SECONDS), return_when=FIRST_COMPLETED).done:
                return
            if left <= NOTICE_SECONDS:
                return

    def _settle(self, seat: Seat) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        """Take the answer of a seat."""
        try:
            reply = seat.answer()
        except BacktestError as reason:
            yield from self._end(seat, reason)
            return
        except StartError as error:
            work = seat.release()
            self._ready.extendleft(reversed(work.parts or (work,)))
            self._not_started(error)
            return
        self._failed_starts = 0
        started_ms = seat.started_ms
        work = seat.release()
        if not work.parts:
            yield from self._take(work, reply, started_ms)
            return
        # Chunks that a spent process did not begin go to the next process.
        self._ready.extendleft(reversed(work.parts[len(reply.parts) :]))
        for part, answer in zip(work.parts, reply.parts, strict=False):
            yield from self._take(part, answer, answer.started_ms)

    def _take(
        self, work: Work, reply: ChunkReply, started_ms: int
    ) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        """Take the reply to one chunk."""
        seconds = max(0, reply.ended_ms - reply.started_ms) / 1000 / len(work.runs)
        known = self._run_seconds
        self._run_seconds = seconds if known is None else 0.8 * known + 0.2 * seconds
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
        self, seat: Seat, reason: BacktestError
    ) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        """Replace a worker that died or exceeded a limit."""
        failure = RunFailure(
            error_type=type(reason).__name__, error_message=str(reason), log=seat.log_tail()
        )
        started_ms = seat.started_ms
        work = seat.release()
        seat.restart()
        if work.parts:
            self._ready.extendleft(replace(part, alone=True) for part in reversed(work.parts))
            return
        yield from self._failed(work, failure, False, started_ms)

    def _failed(
        self, work: Work, failure: RunFailure, permanent: bool, started_ms: int
    ) -> Iterator[tuple[list[RunRecord], ChunkReply | None]]:
        if len(work.runs) > 1:
            self._ready.extendleft(reversed(split(work.runs)))
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
                cut(" ".join(failure.error_message.split()), LOGGED_MESSAGE),
                delay,
            )
            due = time.monotonic() + delay
            again = Work(runs=[run], attempts=attempts, alone=True)
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


def split(runs: Sequence[RunSpec]) -> list[Work]:
    """Divide runs that failed together into at least two parts."""
    size = math.ceil(len(runs) / PIECES)
    return [
        Work(runs=list(runs[start : start + size]), alone=True)
        for start in range(0, len(runs), size)
    ]


def _may_follow(first: Work, other: Work) -> bool:
    """Return whether a chunk may be sent with another: same data and code, none suspected."""
    one, two = first.runs[0], other.runs[0]
    same_data = one.data_fingerprint == two.data_fingerprint
    same_code = one.config["strategy"][TARGET] == two.config["strategy"][TARGET]
    return same_data and same_code and not other.alone
