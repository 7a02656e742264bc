import json
import subprocess
import sys
import textwrap

import pytest

from backtest_batch.errors import ConfigurationError
from backtest_batch.store import claim
from backtest_batch.store.claim import CLAIM, new_claim, process_of, release, take
from backtest_batch.store.process import this_process
from backtest_batch.store.recorder import Recorder

TAKE = """
    import sys
    from backtest_batch.errors import ConfigurationError
    from backtest_batch.store.claim import release, take
    from backtest_batch.store.store import open_store

    def refuse(process):
        raise ConfigurationError(f"process {process['pid']}")

    store = open_store(sys.argv[1], "backtest_batch")
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        take(store, "b", sys.argv[2], refuse)
        print("taken", flush=True)
    except ConfigurationError as error:
        print(error, flush=True)
    sys.stdin.readline()
    release("b")
"""


def tag(store, run_id) -> str | None:
    return store.client.get_run(run_id).data.tags.get(CLAIM)


def accept(process) -> None:
    """Take every process for one that is over."""


def refuse(process) -> None:
    raise ConfigurationError(f"process {process['pid']} lives")


@pytest.fixture
def run_id(store) -> str:
    return store.client.create_run(store.experiment_id).info.run_id


def test_a_batch_is_claimed_from_its_first_moment_until_it_is_released(store, batch):
    recorder = Recorder(store, batch)
    parent = recorder.start_parent()
    assert process_of(tag(store, parent)) == this_process().tags
    with pytest.raises(ConfigurationError, match="another thread of this process"):
        take(store, batch.batch_id, parent, accept)
    recorder.finish_parent("FINISHED")
    assert tag(store, parent) is not None  # its process may still move reports
    release(batch.batch_id)
    assert tag(store, parent) is None


def test_a_claim_is_taken_from_a_process_that_is_over_and_from_no_other(store, run_id):
    theirs = json.dumps({"host": "h", "pid": "1", "process_started": "then", "token": "t"})
    store.client.set_tag(run_id, CLAIM, theirs)
    with pytest.raises(ConfigurationError, match="process 1 lives"):
        take(store, "b", run_id, refuse)
    assert tag(store, run_id) == theirs
    take(store, "b", run_id, accept)
    assert process_of(tag(store, run_id)) == this_process().tags
    release("b")
    assert tag(store, run_id) is None


def test_releasing_leaves_the_claim_of_another(store, run_id):
    take(store, "b", run_id, accept)
    store.client.set_tag(run_id, CLAIM, "theirs")
    release("b")
    assert tag(store, run_id) == "theirs"


def test_a_claim_is_written_only_in_the_place_of_what_was_read(store, run_id):
    assert claim._put(store, run_id, None, "first")
    assert not claim._put(store, run_id, None, "second")
    assert not claim._put(store, run_id, "other", "second")
    assert tag(store, run_id) == "first"
    assert claim._put(store, run_id, "first", "second")
    assert tag(store, run_id) == "second"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": 1}'])
def test_a_text_of_another_kind_names_no_process(text):
    assert process_of(text)["host"] == ""
    assert process_of(new_claim()) == this_process().tags


@pytest.mark.slow
def test_of_several_processes_one_takes_the_claim(store, run_id):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(TAKE), store.uri, run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.stdout.readline().strip() for process in processes]
    winner = processes[said.index("taken")].pid
    assert sorted(said) == [f"process {winner}", f"process {winner}", "taken"]
    for process in processes:
        process.communicate("\n")
    assert tag(store, run_id) is None
