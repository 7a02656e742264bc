"""One run that goes wrong costs itself alone, whatever it does."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import Command, is_alive, last_of_each

FAILING = {
    "error": "ValueError",
    "kill": "WorkerDied",
    "leave": "WorkerDied",
    "crash": "WorkerDied",
    "exit": "WorkerDied",
    "result": "WorkerDied",
    "orphan": "WorkerDied",
    "unspeakable": "Unspeakable",
    "unpicklable": "Unpicklable",
    "hang": "RunTimeout",
}
HARMLESS = ("close", "move", "thread", "child", "numbers", "prices", "good")


@pytest.mark.slow
def test_thirty_runs_of_which_five_go_wrong_in_five_ways(command: Command) -> None:
    done = command.run(
        *command.hostile("strategy.mode=mixed", "strategy.number=range(0,30)"),
        "timeout_seconds=3",
        "memory_limit_mb=1000",
        "retries=2",
        "retry_delay_seconds=0.1",
    )
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    failed = {"run_0", "run_1", "run_2", "run_4"}
    assert {name for name, status in recorded.statuses.items() if status == "FAILED"} == failed
    assert list(recorded.statuses.values()).count("FINISHED") == 26
    assert recorded.tag("error_type") == {
        "run_0": "ValueError",
        "run_1": "WorkerDied",
        "run_2": "RunTimeout",
        "run_4": "MemoryLimitExceeded",
    }
    attempts = recorded.tag("attempts")
    # Raised errors are tried again; what costs a worker is not, unless that is asked for.
    assert {name: count for name, count in attempts.items() if count != "1"} == {
        "run_0": "3",
        "run_3": "3",
    }
    calls = command.calls
    assert calls.count("mixed 0") == calls.count("mixed 3") == 3
    assert all(calls.count(f"mixed {number}") == 1 for number in (1, 2, 4, *range(5, 30)))
    summary = command.report("batch_summary.md").read_text()
    assert all(f"run_{number}" in summary for number in (0, 1, 2, 4))
    assert {"n_finished": "26", "n_failed": "4"}.items() <= recorded.handle.tags.items()
    assert recorded.handle.status == "FINISHED"
    assert {"traceback.txt", "log.txt", "config.yaml"} <= set(recorded.artifacts["run_1"])


@pytest.mark.slow
def test_each_way_to_fail_has_its_name_and_spares_the_others(command: Command) -> None:
    modes = ",".join([*FAILING, *HARMLESS])
    done = command.run(*command.hostile(f"strategy.mode={modes}"), "timeout_seconds=5")
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    assert recorded.tag("error_type") == {f"run_{mode}": name for mode, name in FAILING.items()}
    assert all(recorded.statuses[f"run_{mode}"] == "FINISHED" for mode in HARMLESS)
    assert set(recorded.tag("attempts").values()) == {"1"}
    sharpe = recorded.runs.set_index("run_id")["metrics.sharpe"]
    # What one run does to its process, its prices or its dates changes nothing for the others.
    assert sharpe.loc[[f"run_{mode}" for mode in HARMLESS]].nunique() == 1
    messages = recorded.tag("error_message")
    assert messages["run_unspeakable"] == "(its message cannot be shown: RuntimeError)"
    assert messages["run_exit"] == "the strategy raised SystemExit(7)"
    assert messages["run_leave"].endswith("exited with code 3")
    assert messages["run_crash"].endswith("was ended by SIGSEGV")
    assert messages["run_hang"] == "took longer than timeout_seconds=5"
    child = int((command.folder / "child.pid").read_text())
    assert not is_alive(child)
    log = artifact(command, "run_error", "log.txt")
    assert "computing error" in log
    assert "run_error" in log
    assert not any(f"computing {mode}" in log for mode in (*FAILING, *HARMLESS) if mode != "error")
    assert "broken on purpose" in artifact(command, "run_error", "traceback.txt")


@pytest.mark.slow
def test_what_a_run_leaves_of_its_process_is_not_left_to_the_next(command: Command) -> None:
    modes = "shrink,shrunk,spawn,half,long,good"
    done = command.run(*command.hostile(f"strategy.mode={modes}"), "n_jobs=1")
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    assert recorded.tag("error_type") == {"run_half": "WorkerDied", "run_long": "ValueError"}
    assert len(recorded.tag("error_message")["run_long"]) < 20_000
    assert len(artifact(command, "run_long", "traceback.txt")) < 2_000_000
    assert command.report("batch_summary.md").stat().st_size < 100_000
    assert command.report("batch_summary.csv").stat().st_size < 100_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems show no marks of processes")
def test_a_daemon_ends_with_its_worker_and_with_the_batch(command: Command) -> None:
    """One that has left group, session, parent and environment."""
    modes = "strategy.mode=abandon,bereaved,daemon"
    done = command.run(*command.hostile(modes, "n_jobs=1"))
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    assert recorded.tag("error_type") == {"run_abandon": "WorkerDied"}
    assert not is_alive(int((command.folder / "daemon.pid").read_text()))


@pytest.mark.slow
def test_a_group_whose_worker_dies_is_computed_run_by_run(command: Command) -> None:
    done = command.run(
        *command.hostile("strategy.mode=first", "commission_bps=0,1,2,3"), "n_jobs=1"
    )
    assert done.returncode == 0, done.stderr
    recorded = command.recorded()
    # The attempt that took the others down with it is not theirs.
    assert set(recorded.tag("attempts").values()) == {"1"}
    assert set(recorded.tag("chunk_runs").values()) == {"1"}
    assert len(command.calls) == 5


@pytest.mark.slow
def test_a_large_group_whose_worker_dies_is_computed_in_pieces(command: Command) -> None:
    arguments = command.hostile("strategy.mode=first", "commission_bps=range(0,256)", "n_jobs=1")
    done = command.run(*arguments, "tracking.artifacts=none")
    assert done.returncode == 0, done.stderr
    recorded = command.recorded()
    assert list(recorded.statuses.values()) == ["FINISHED"] * 256
    assert set(recorded.tag("attempts").values()) == {"1"}
    assert set(recorded.tag("chunk_runs").values()) == {"16"}
    assert len(command.calls) == 1 + 16


@pytest.mark.slow
def test_several_culprits_among_many_short_runs_that_are_sent_together(command: Command) -> None:
    done = command.run(*command.hostile("strategy.mode=several", "strategy.number=range(0,200)"))
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    assert recorded.tag("error_type") == {
        "run_50": "WorkerDied",
        "run_51": "ValueError",
        "run_120": "ValueError",
        "run_121": "WorkerDied",
        "run_199": "WorkerDied",
    }
    assert list(recorded.statuses.values()).count("FINISHED") == 195
    assert set(recorded.tag("attempts").values()) == {"1"}
    calls = command.calls
    # What raises is final at once; what was sent with a run that ended its process runs again.
    assert calls.count("several 120") <= 2
    assert len(calls) < 300


@pytest.mark.slow
def test_code_that_changes_while_the_batch_runs_computes_nothing(command: Command) -> None:
    done = command.run(*command.hostile("strategy.mode=good,rewrite,move", "n_jobs=1"))
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    assert recorded.tag("error_type") == {
        "run_rewrite": "WorkerDied",
        "run_move": "ConfigurationError",
    }
    assert "has changed since the batch began" in recorded.tag("error_message")["run_move"]
    assert command.calls == ["good 0", "rewrite 0"]


@pytest.mark.slow
def test_worker_failures_are_tried_again_when_asked_for(command: Command) -> None:
    done = command.run(
        *command.hostile("strategy.mode=first,kill"),
        "n_jobs=1",
        "retries=1",
        "retry_delay_seconds=0",
        "retry_worker_failures=true",
    )
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    assert recorded.statuses == {"run_first": "FINISHED", "run_kill": "FAILED"}
    assert recorded.tag("attempts") == {"run_first": "2", "run_kill": "2"}


@pytest.mark.slow
def test_a_failure_ends_the_batch_where_that_is_asked_for(command: Command) -> None:
    arguments = command.hostile("strategy.mode=good,error,move", "n_jobs=1")
    done = command.run(*arguments, "on_failure=stop")
    assert done.returncode == 1, done.stderr
    recorded = command.recorded()
    assert recorded.handle.status == "FAILED"
    assert recorded.statuses == {"run_good": "FINISHED", "run_error": "FAILED"}
    assert "on_failure=stop: 1 of 3 runs were not computed" in done.stderr
    _, _, advised = done.stderr.partition("python -m backtest_batch ")
    again = command.run(*advised.split("\n")[0].split())
    assert again.returncode == 1, again.stderr
    recorded = command.recorded()
    assert recorded.handle.status == "FINISHED"
    assert recorded.statuses == {
        "run_good": "FINISHED",
        "run_error": "FAILED",
        "run_move": "FINISHED",
    }
    assert command.calls.count("good 0") == 1


@pytest.mark.slow
def test_a_memory_limit_below_what_a_worker_needs_is_refused(command: Command) -> None:
    done = command.run(*command.hostile("strategy.mode=good"), "memory_limit_mb=50")
    assert done.returncode == 2
    assert "memory_limit_mb=50: a worker needs" in done.stderr
    assert "Traceback" not in done.stderr


BROKEN = """
import sys
from backtest_batch.api.batches import Task, run_batch
from backtest_batch.workers.settings import make_executor
from backtest_batch.batch.run import run
from backtest_batch.compose.arguments import read_arguments


class Broken:
    def __init__(self, setting):
        self.inner = make_executor(setting)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def execute(self, chunks, make_task):
        for ended, reply in self.inner.execute(chunks, make_task):
            yield ended, reply
            if ended:
                raise RuntimeError("a fault of ours")


def broken(request, output, **_):
    return run(request, output=output, make_executor=Broken)


run_batch(read_arguments(sys.argv[1:]), Task(sys.stdout, broken))
"""
"""The command with workers whose bookkeeping breaks after the first run."""


@pytest.mark.slow
def test_a_fault_of_ours_leaves_no_batch_that_seems_to_run(command: Command) -> None:
    arguments = command.hostile("strategy.number=0,1,2", "n_jobs=1")
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, *last_of_each(arguments)],
        cwd=command.folder,
        env=command.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "RuntimeError: a fault of ours" in done.stderr
    recorded = command.recorded()
    assert recorded.handle.status == "FAILED"
    assert list(recorded.statuses.values()) == ["FINISHED"]
    assert f"resume={recorded.handle.batch_id}" in done.stderr
    again = command.run("resume=latest")
    assert again.returncode == 0, again.stderr
    assert sorted(command.calls) == ["good 0", "good 1", "good 2"]


def artifact(command: Command, run_id: str, name: str) -> str:
    recorded = command.recorded().runs.set_index("run_id")
    folder = command.folder / "mlruns" / "artifacts" / recorded.loc[run_id, "mlflow_run_id"]
    return Path(folder, "artifacts", name).read_text()
