from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import pytest

from backtest_batch.errors import WorkerDied
from backtest_batch.records import RunFailure, RunResult, RunSpec
from backtest_batch.workers.chunks import ChunkReply, ChunkTask, Scratch
from backtest_batch.workers.executor import Executor, RetryPolicy, StartError

RESULT = RunResult(
    metrics={},
    undefined_metrics=(),
    runtime_s=0.0,
    cpu_s=0.0,
    peak_rss_mb=1.0,
    chunk_runs=1,
    timings={},
)
POLICY = RetryPolicy(retries=0, delay_seconds=0, backoff=1, worker_failures=False, seed=0)


@dataclass
class Here:
    """A seat that answers at once; some runs fail, end the process or leave it spent."""

    sent: list = field(default_factory=list)
    sizes: list = field(default_factory=list)
    milliseconds: int = 1
    failing: frozenset = frozenset()
    deadly: frozenset = frozenset()
    spent: frozenset = frozenset()
    unstarted: int = 0
    work: object = None
    started_ms: int = 0
    pids: tuple = ()
    idle = True
    answered = True

    def start(self):
        pass

    restart = kill = replace_lost = send_missing_data = start

    def prepare(self):
        return True

    def give(self, work, task):
        self.work, self.task = work, task
        self.sent.append([run.index for run in task.runs])
        self.sizes += task.sizes or [len(task.runs)]

    @property
    def waits_for(self):
        future = Future()
        future.set_result(None)
        return future

    def broken(self):
        return None

    def log_tail(self):
        return ""

    def release(self):
        work, self.work = self.work, None
        return work

    def answer(self):
        if self.unstarted and self.task.sizes:
            self.unstarted -= 1
            raise StartError("not yet")
        if self.deadly.intersection(run.index for run in self.task.runs):
            raise WorkerDied("gone")
        if not self.task.sizes:
            return self.reply(self.task)
        parts = []
        for part in self.task.parts:
            parts.append(self.reply(part))
            if parts[-1].spent:
                break
        return ChunkReply(benchmarks={}, started_ms=0, ended_ms=1, parts=tuple(parts))

    def reply(self, task):
        indices = {run.index for run in task.runs}
        failure = RunFailure(error_type="ValueError", error_message="no", traceback="", log="")
        return ChunkReply(
            results=() if self.failing & indices else (RESULT,) * len(task.runs),
            failure=failure if self.failing & indices else None,
            spent=bool(self.spent & indices),
            benchmarks={},
            started_ms=0,
            ended_ms=self.milliseconds,
        )


def make_task(runs):
    scratch = Scratch(folder=Path("x"), row_bars=1, benchmark_rows={})
    return ChunkTask(
        runs=tuple(runs), scratch=scratch, with_files=frozenset(), profile=False, provenance={}
    )


@pytest.fixture
def run():
    return RunSpec(
        index=0,
        run_id="run_0",
        run_name="",
        run_key="0" * 64,
        config_hash="",
        swept={},
        config={"strategy": {"_target_": "some.Strategy"}},
        overrides=(),
        data_fingerprint="d",
        code_fingerprint="",
        strategy_seed=1,
        first_bar=0,
        n_bars=10,
    )


def chunks(run, count):
    return [[replace(run, index=index, run_id=f"run_{index}")] for index in range(count)]


def executed(seat, work, **options):
    """Return the outcome of each run by index, and the calls of each record."""
    executor = Executor(
        n_jobs=1, make_seat=lambda _: seat, policy=POLICY, wait_seconds=0.0, **options
    )
    records = [record for ended, _ in executor.execute(work, make_task) for record in ended]
    assert all(record.attempts == 1 for record in records)
    outcomes = {record.spec.index: record.outcome for record in records}
    assert len(outcomes) == len(records)
    return {
        index: getattr(outcome, "error_type", "") for index, outcome in sorted(outcomes.items())
    }


def test_short_chunks_are_sent_together_once_it_is_known_that_they_are_short(run):
    seat = Here()
    assert executed(seat, chunks(run, 100), sends_together=True) == dict.fromkeys(range(100), "")
    assert [len(indices) for indices in seat.sent[:3]] == [1, 25, 19]
    # The last ones go one by one, so that no worker waits for another.
    assert [len(indices) for indices in seat.sent[-3:]] == [1, 1, 1]
    assert list(chain.from_iterable(seat.sent)) == list(range(100))


@pytest.mark.parametrize(("options", "milliseconds"), [({}, 1), ({"sends_together": True}, 101)])
def test_long_chunks_and_those_with_limits_are_sent_one_by_one(run, options, milliseconds):
    seat = Here(milliseconds=milliseconds)
    executed(seat, chunks(run, 20), **options)
    assert [len(indices) for indices in seat.sent] == [1] * 20


def test_what_fails_among_others_fails_alone_and_at_once(run):
    seat = Here(failing=frozenset({5, 30}))
    found = executed(seat, chunks(run, 40), sends_together=True)
    assert {index for index, error in found.items() if error} == {5, 30}
    assert sum(map(len, seat.sent)) == 40


def test_what_ends_a_process_is_found_among_what_was_sent_together(run):
    seat = Here(deadly=frozenset({3, 33}))
    found = executed(seat, chunks(run, 40), sends_together=True)
    assert {index for index, error in found.items() if error == "WorkerDied"} == {3, 33}
    assert len(found) == 40
    assert [3] in seat.sent


def test_what_a_spent_process_leaves_undone_goes_to_the_next(run):
    seat = Here(spent=frozenset({2, 9}))
    assert executed(seat, chunks(run, 40), sends_together=True) == dict.fromkeys(range(40), "")


def test_what_was_sent_together_to_a_process_that_did_not_start_is_not_one_chunk(run):
    seat = Here(unstarted=1)
    assert executed(seat, chunks(run, 40), sends_together=True) == dict.fromkeys(range(40), "")
    assert max(seat.sizes) == 1


def test_chunks_of_other_data_or_code_are_not_sent_together(run):
    seat = Here()
    work = chunks(run, 60)
    for (item,) in work:
        fingerprint, target = f"d{item.index % 2}", f"some.Strategy{item.index // 2 % 2}"
        work[item.index] = [
            replace(item, data_fingerprint=fingerprint, config={"strategy": {"_target_": target}})
        ]
    executed(seat, work, sends_together=True)
    assert [len(indices) for indices in seat.sent] == [1] * 60
