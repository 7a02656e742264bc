"""To look at a seat changes nothing: what replaces a worker or sends data is a method."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.cache import store
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.records import RunSpec
from backtest_batch.workers.chunks import ChunkReply, ChunkTask, Scratch
from backtest_batch.workers.cluster.seat import MOST_DELIVERIES, ClusterSeat
from backtest_batch.workers.cluster.transfer import Answer, CommandOrigin, Request, Sources
from backtest_batch.workers.executor import StartError, Work
from backtest_batch.workers.monitor import Limits
from backtest_batch.workers.process import ProcessSeat, join_ended_pools, make_setup
from backtest_batch.workers.start import Guard

NO_LIMITS = Limits(timeout_seconds=None, memory_limit_mb=None)


def test_a_seat_for_a_process_is_filled_when_that_is_asked_for():
    guard = Guard()
    seat = ProcessSeat(setup=make_setup(None, 1), environment={}, guard=guard, limits=NO_LIMITS)
    guard.start()
    try:
        assert not seat.idle
        assert seat.pids == []
        seat.replace_lost()
        (pid,) = seat.pids
        seat.replace_lost()  # it is only starting
        assert seat.pids == [pid]
    finally:
        seat.kill()
        join_ended_pools()
        guard.close()


@dataclass
class Engine:
    """A cluster whose worker lacks data until some has been sent often enough."""

    missing: str
    lacks: int
    sent: list = field(default_factory=list)
    shipped: list = field(default_factory=list)

    def submit(self, request):
        self.sent.append(request)
        future: Future[Answer] = Future()
        lacking = len(self.sent) <= self.lacks
        reply = ChunkReply(benchmarks={}, started_ms=7, ended_ms=8)
        future.set_result(
            Answer(
                worker="it",
                reply=None if lacking else reply,
                missing=self.missing if lacking else None,
            )
        )
        return future

    def ship(self, copy):
        self.shipped.append(copy.fingerprint)


@pytest.fixture
def panel():
    index = pd.date_range("2020-01-01", periods=3)
    close = pd.DataFrame(np.arange(1.0, 7.0).reshape(3, 2), index=index, columns=["A", "B"])
    panel = panel_from_frames(close=close)
    store(panel)
    return panel


@pytest.fixture
def task(panel):
    run = RunSpec(
        index=0,
        run_id="run_0",
        run_name="",
        run_key="0" * 64,
        config_hash="",
        swept={},
        config={},
        overrides=(),
        data_fingerprint=panel.fingerprint,
        code_fingerprint="",
        strategy_seed=1,
        first_bar=0,
        n_bars=3,
    )
    scratch = Scratch(folder=Path("x"), row_bars=3, benchmark_rows={})
    return ChunkTask(
        runs=(run,), scratch=scratch, with_files=frozenset(), profile=False, provenance={}
    )


def seat_of(engine, tmp_path):
    origin, sources = CommandOrigin.here(tmp_path), Sources(files={})
    return ClusterSeat(
        cluster=engine,
        make_request=lambda task: Request(
            task=task, limits=NO_LIMITS, origin=origin, sources=sources
        ),
        log=None,
    )


def test_data_that_a_worker_lacks_is_sent_when_that_is_asked_for(panel, task, tmp_path):
    engine = Engine(missing=panel.fingerprint, lacks=1)
    seat = seat_of(engine, tmp_path)
    seat.give(Work(runs=list(task.runs)), task)
    assert not seat.answered
    assert not seat.answered
    assert (len(engine.sent), engine.shipped) == (1, [])
    seat.send_missing_data()
    assert (len(engine.sent), engine.shipped) == (2, [panel.fingerprint])
    seat.send_missing_data()  # it lacks nothing now
    assert (len(engine.sent), engine.shipped) == (2, [panel.fingerprint])
    assert seat.answered
    assert seat.answer().ended_ms == 8


def test_a_worker_that_cannot_keep_data_is_told_at_last(panel, task, tmp_path):
    engine = Engine(missing=panel.fingerprint, lacks=99)
    seat = seat_of(engine, tmp_path)
    seat.give(Work(runs=list(task.runs)), task)
    for _ in range(MOST_DELIVERIES):
        assert not seat.answered
        seat.send_missing_data()
    assert seat.answered
    seat.send_missing_data()
    assert len(engine.shipped) == MOST_DELIVERIES
    with pytest.raises(StartError, match="it cannot keep the data"):
        seat.answer()
