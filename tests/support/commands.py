"""Real commands in processes of their own, and what they leave behind."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from backtest_batch.store.address import resolve_uri
from backtest_batch.store.search import BatchHandle, list_artifacts, list_batches, read_runs
from backtest_batch.store.store import Store, open_store

SMALL_MARKET = ("data=synthetic", "data.n_assets=3", "data.n_bars=260")
"""Prices that are made in milliseconds."""

DEADLINE_SECONDS = 500.0
"""Longer than any command takes on a machine that is busy with others; what hangs ends here."""

AFTER = """
import fcntl, os, resource, signal, sys, termios
exec(sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs a command after a line of Python in the same process."""

# Strategies that misbehave in one way each, chosen by ``mode``; every call leaves a line.
HOSTILE = r'''
import ctypes, multiprocessing, os, pathlib, resource, signal, struct, subprocess
import sys, threading, time
import numpy as np


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Unpicklable(Exception):
    def __init__(self, first, second):
        super().__init__(first)
        self.lock = threading.Lock()


def hold_the_interpreter():
    """Sleep in C without releasing the interpreter's lock: no Python code can run beside it."""
    ctypes.PyDLL(None).sleep(100_000)


class Hostile:
    def __init__(self, mode: str = "good", number: int = 0, seconds: float = 0.0):
        self.mode, self.number, self.seconds = mode, number, seconds

    def target_weights(self, panel, decisions):
        with open("calls.txt", "a") as file:
            file.write(f"{self.mode} {self.number}\n")
        print("computing", self.mode, self.number)
        time.sleep(self.seconds)
        getattr(self, self.mode)(panel, decisions)
        weight = (1 + self.number % 7) / 10
        return np.full((len(decisions), panel.n_assets), weight / panel.n_assets)

    def good(self, panel, decisions): pass
    def mixed(self, panel, decisions):
        modes = ("error", "kill", "sleep", "twice", "memory")
        getattr(self, dict(enumerate(modes)).get(self.number, "good"))(panel, decisions)
    def several(self, panel, decisions):
        modes = {50: "kill", 51: "error", 120: "error", 121: "leave", 199: "kill"}
        getattr(self, modes.get(self.number, "good"))(panel, decisions)
    def error(self, panel, decisions): raise ValueError("broken on purpose\nsecond line")
    def kill(self, panel, decisions): os.kill(os.getpid(), signal.SIGKILL)
    def leave(self, panel, decisions): os._exit(3)
    def crash(self, panel, decisions): ctypes.string_at(0)
    def exit(self, panel, decisions): sys.exit(7)
    def sleep(self, panel, decisions): time.sleep(100_000)
    def hang(self, panel, decisions): hold_the_interpreter()
    def unspeakable(self, panel, decisions): raise Unspeakable
    def unpicklable(self, panel, decisions): raise Unpicklable(1, 2)
    def close(self, panel, decisions):
        sys.stdout.close(); sys.stderr.close(); os.close(1); os.close(2)
    def move(self, panel, decisions): os.chdir("/")
    def thread(self, panel, decisions):
        threading.Thread(target=time.sleep, args=(100_000,)).start()
    def child(self, panel, decisions):
        child = subprocess.Popen(["sleep", "100000"])
        pathlib.Path("child.pid").write_text(str(child.pid))
    def orphan(self, panel, decisions):
        self.child(panel, decisions)
        os._exit(0)
    def escape(self, panel, decisions):
        child = subprocess.Popen(["sleep", "100000"], start_new_session=True)
        pathlib.Path("escaped.pid").write_text(str(child.pid))
    def daemon(self, panel, decisions):
        code = (
            "import os, time; os.setsid(); os.fork() and os._exit(0); "
            "open('daemon.new', 'w').write(str(os.getpid())); "
            "os.rename('daemon.new', 'daemon.pid'); time.sleep(100_000)"
        )
        subprocess.run([sys.executable, "-I", "-S", "-c", code], env={}, check=True)
        while not os.path.exists("daemon.pid"):
            time.sleep(0.01)
    def abandon(self, panel, decisions):
        self.daemon(panel, decisions)
        os._exit(0)
    def bereaved(self, panel, decisions):
        pid = int(pathlib.Path("daemon.pid").read_text())
        deadline = time.monotonic() + 60
        while os.path.exists(f"/proc/{pid}/exe"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.unlink("daemon.pid")
    def spawn(self, panel, decisions):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(abs, [-1]) == [1]
    def shrink(self, panel, decisions): resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))
    def shrunk(self, panel, decisions):
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 99
    def long(self, panel, decisions): raise ValueError("x" * 20_000_000)
    def half(self, panel, decisions):
        # As when the system ends a process that is writing its answer.
        frame = sys._getframe()
        while "result_queue" not in frame.f_locals:
            frame = frame.f_back
        os.write(frame.f_locals["result_queue"]._writer.fileno(), struct.pack("!i", 100_000) + b"x")
        os._exit(0)
    def rewrite(self, panel, decisions):
        with open("hostile.py", "a") as file:
            file.write("CHANGED = True\n")
        os._exit(0)
    def numbers(self, panel, decisions): np.seterr(all="raise")
    def prices(self, panel, decisions):
        panel.fields["close"] = panel.fields["close"] * 2
        decisions += 1
    def result(self, panel, decisions):
        import backtest_batch.records
        backtest_batch.records.RunResult.__reduce__ = lambda self: (eval, ("1/0",))
    def memory(self, panel, decisions):
        self.held = np.ones(200_000_000)
    def twice(self, panel, decisions):
        tries = pathlib.Path("tries.txt")
        with tries.open("a") as file:
            file.write("x")
        if tries.stat().st_size <= 2:
            raise OSError("not yet")
    def first(self, panel, decisions):
        if not os.path.exists("seen"):
            pathlib.Path("seen").touch()
            os._exit(9)
'''


@dataclass
class Command:
    """The command line in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    running: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def run(
        self,
        *arguments: str,
        folder: Path | None = None,
        first: str | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end, after a line of Python in its process, if given."""
        return self.end(self.start(*arguments, folder=folder, first=first))

    def start(
        self,
        *arguments: str,
        folder: Path | None = None,
        start_new_session: bool = False,
        first: str | None = None,
        terminal: int | None = None,
    ) -> "subprocess.Popen[str]":
        """Start the command, after a line of Python in its process, and on a terminal, if given."""
        program = [sys.executable, "-m", "backtest_batch"]
        if first is not None:
            program = [sys.executable, "-c", AFTER, first, *program]
        process = subprocess.Popen(
            [*program, *last_of_each(arguments)],
            cwd=folder or self.folder,
            env=self.environment,
            stdin=terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE if terminal is None else terminal,
            text=True,
            start_new_session=start_new_session,
        )
        self.running.append(process)
        return process

    def end(self, process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
        """Wait for a command to end."""
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
        self.running.remove(process)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def hostile(self, *arguments: str) -> tuple[str, ...]:
        """Return the arguments of a sweep over the strategies above."""
        (self.folder / "hostile.py").write_text(HOSTILE)
        target = ("strategy=custom", "strategy._target_=hostile.Hostile")
        # An audit would call them again.
        usual = ("n_jobs=2", "adaptive_workers=false", "audit.enabled=false")
        return ("-m", *SMALL_MARKET, *usual, *target, *arguments)

    @property
    def calls(self) -> list[str]:
        """What the strategies above were asked for, one entry a call."""
        path = self.folder / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def batches(self) -> list[Path]:
        """The folders of the batches, the oldest first."""
        return sorted((self.folder / "mlruns" / "batches").glob("*"))

    def report(self, name: str) -> Path:
        """Return a report of the newest batch."""
        return self.batches[-1] / name

    def store(self) -> Store:
        """Open the store of the folder."""
        return open_store(resolve_uri(None, self.folder), "backtest_batch", create=False)

    def recorded(self) -> "Recorded":
        """Return what the store holds of the newest batch."""
        store = self.store()
        try:
            handle = list_batches(store)[0]
            frame = read_runs(store, batches=[handle.batch_id])
            artifacts = {
                row["run_id"]: list_artifacts(store, row["mlflow_run_id"])
                for row in frame.to_dict("records")
            }
            own = list_artifacts(store, handle.mlflow_run_id)
        finally:
            store.close()
        return Recorded(handle=handle, runs=frame, artifacts=artifacts, batch_artifacts=own)


def last_of_each(arguments: Sequence[str]) -> list[str]:
    """Return arguments without those whose key is given again: a test changes what is usual."""
    last = {argument.partition("=")[0]: argument for argument in arguments}
    return list(last.values())


@dataclass(frozen=True)
class Recorded:
    """What the store holds of a batch."""

    handle: BatchHandle
    runs: pd.DataFrame
    artifacts: dict[str, list[str]]
    batch_artifacts: list[str]

    @property
    def statuses(self) -> dict[str, str]:
        """Status of each run, by run_id."""
        return dict(zip(self.runs["run_id"], self.runs["status"], strict=True))

    def tag(self, name: str) -> dict[str, str]:
        """Return one tag of each run that has it, by run_id."""
        values = self.runs.set_index("run_id")[f"tags.{name}"].dropna()
        return {str(run_id): str(value) for run_id, value in values.items()}


def wait_for(
    condition: Callable[[], object],
    seconds: float = DEADLINE_SECONDS,
    of: "subprocess.Popen[str] | None" = None,
) -> None:
    """Wait until something is so, or the process that makes it so has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if of is not None and of.poll() is not None:
            raise AssertionError(f"it ended with {of.returncode}: {of.communicate()}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {seconds} s")
        time.sleep(0.02)


def descendants(pid: int) -> list[psutil.Process]:
    """Return the processes that a process has started, and those that these have."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_alive(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        return bool(alive([psutil.Process(pid)]))
    except psutil.NoSuchProcess:
        return False


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; what only waits to be cleared away by the system does not."""
    running = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running


def interrupt(process: "subprocess.Popen[str]", number: int = signal.SIGINT) -> None:
    """Send a signal to the command alone, as a process manager does."""
    process.send_signal(number)
