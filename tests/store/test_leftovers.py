import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psutil

from backtest_batch.store.claim import mark_dead_runs
from backtest_batch.store.mlflow_run import BatchInfo
from backtest_batch.store.process import ProcessIdentity, host_name, lives, this_process
from backtest_batch.store.recorder import Recorder

LEAVE_BEHIND = """
import os, signal, sys
from backtest_batch.store.recorder import BatchInfo, Recorder
from backtest_batch.store.store import open_store
store = open_store(sys.argv[1], "backtest_batch")
recorder = Recorder(store, BatchInfo(batch_id="b1", batch_name="demo", n_runs=1, started_ms=1))
recorder.start_parent()
tags = {"batch_id": "b1", "batch_role": "run"} | recorder.batch.process.tags
store.client.create_run(store.experiment_id, tags=tags)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_running_is_marked(store, batch):
    store.close()
    subprocess.run([sys.executable, "-c", LEAVE_BEHIND, store.uri])
    mine = Recorder(store, batch)
    parent_id = mine.start_parent()
    running = "attributes.status = 'RUNNING'"
    assert len(store.client.search_runs([store.experiment_id], running)) == 3
    assert mark_dead_runs(store) == 2
    (left,) = store.client.search_runs([store.experiment_id], running)
    assert left.info.run_id == parent_id
    killed = store.client.search_runs([store.experiment_id], "attributes.status = 'KILLED'")
    assert all(run.info.end_time is not None for run in killed)
    assert mark_dead_runs(store) == 0


def test_runs_of_other_hosts_and_other_programs_are_left_alone(store):
    elsewhere = ProcessIdentity(
        host="elsewhere", pid=1, process_started="2020-01-01T00:00:00+00:00"
    )
    batch = BatchInfo(batch_id="b1", batch_name="demo", n_runs=1, started_ms=1, process=elsewhere)
    Recorder(store, batch).start_parent()
    store.client.create_run(store.experiment_id, tags={"host": host_name(), "pid": "999999999"})
    assert mark_dead_runs(store) == 0


def test_this_process_lives():
    me = this_process()
    assert (me.host, me.pid) == (host_name(), os.getpid())
    assert lives(str(me.pid), me.process_started)


def test_a_reused_process_id_is_another_process():
    started = datetime.fromtimestamp(psutil.Process().create_time(), tz=UTC)
    earlier = started - timedelta(seconds=3)
    assert not lives(str(os.getpid()), earlier.isoformat())


def test_a_process_that_ended_but_was_not_waited_for_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        started = datetime.fromtimestamp(psutil.Process(process.pid).create_time(), tz=UTC)
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        assert not lives(str(process.pid), started.isoformat())
    finally:
        process.wait()


def test_tags_that_cannot_be_read_count_as_alive():
    assert lives("not a number", "2020-01-01T00:00:00+00:00")
    assert lives(str(os.getpid()), "yesterday")
    assert lives(str(os.getpid()), "2020-01-01T00:00:00")  # without a time zone
