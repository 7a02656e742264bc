"""A folder in which one batch meets its faults: how it is started, and what can be seen of it."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STRATEGY = """
import time

import numpy as np


class Held:
    def __init__(self, k: int = 0, seconds: float = 0.1):
        self.k, self.seconds = k, seconds

    def target_weights(self, panel, decisions):
        with open("../calls.txt", "a") as calls:
            calls.write(f"{self.k}\\n")
        time.sleep(self.seconds)
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, self.k % panel.n_assets] = 1.0
        return weights
"""

MARK = "BACKTEST_BATCH_STORM"
"""Variable by which the processes of one sandbox are found, whoever their parent is by then."""

DEADLINE_SECONDS = 300.0
"""No command of a storm takes as long; one that does hangs."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What the batches of a storm compute.

    Attributes
    ----------
    n_choices
        How many strategies; each is one call of the strategy.
    n_scenarios
        How many commissions each is judged under.
    seconds
        How long one call takes.
    output_dir
        Whether the batch has a folder of its own choice.
    """

    n_choices: int
    n_scenarios: int = 1
    seconds: float = 0.1
    output_dir: bool = False

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return self.n_choices * self.n_scenarios

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line."""
        scenarios = ",".join(str(number) for number in range(self.n_scenarios))
        return (
            "-m",
            "data=synthetic",
            "data.n_assets=31",
            "data.n_bars=260",
            "n_jobs=2",
            "adaptive_workers=false",
            "audit.enabled=false",  # it asks strategies again, whose calls are counted here
            "strategy=custom",
            "strategy._target_=held.Held",
            f"strategy.k=range(0,{self.n_choices})",
            f"strategy.seconds={self.seconds}",
            f"commission_bps={scenarios}",
            *(("output_dir=reports",) if self.output_dir else ()),
        )


@dataclass(kw_only=True)
class Command:
    """One command that was started, with its output in files."""

    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path
    shell: str = ""

    def has_ended(self) -> bool:
        """Return whether it has."""
        return self.process.poll() is not None

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self.err.read_text(errors="replace") if self.err.exists() else ""

    def send(self, number: int) -> None:
        """Send a signal, as a process manager does."""
        if not self.has_ended():
            self.process.send_signal(number)

    def send_group(self, number: int) -> None:
        """Send a signal to the whole group, as a terminal does."""
        if not self.has_ended():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def can_be_signalled(self) -> bool:
        """Return whether the command has taken charge of signals."""
        for line in _lines(Path(f"/proc/{self.process.pid}/status")):
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) & (1 << (signal.SIGTERM - 1)))
        return False


@dataclass(kw_only=True)
class Sandbox:
    """A folder with everything of its own: working directory, cache, temporary directory.

    Attributes
    ----------
    root
        The folder; the working directory is a folder in it.
    kernels
        Folder of the compiled kernels, shared by all sandboxes.
    started
        The commands that were started, in order.
    rivals
        Those that ran beside the batch, each with the exit codes that it may have.
    """

    root: Path
    kernels: Path
    started: list[Command] = field(default_factory=list)
    rivals: list[tuple[Command, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in (self.work, self.cache, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        (self.work / "held.py").write_text(STRATEGY)

    @property
    def work(self) -> Path:
        """The working directory."""
        return self.root / "work"

    @property
    def cache(self) -> Path:
        """The cache of prices."""
        return self.root / "cache"

    @property
    def temporary(self) -> Path:
        """The temporary directory."""
        return self.root / "tmp"

    @property
    def database(self) -> Path:
        """The store."""
        return self.work / "mlruns" / "mlflow.db"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the commands."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        return kept | {
            "BACKTEST_BATCH_CACHE": str(self.cache),
            "NUMBA_CACHE_DIR": str(self.kernels),
            "TMPDIR": str(self.temporary),
            "PYTHONPYCACHEPREFIX": str(self.kernels / "bytecode"),
            MARK: str(self.root),
        }

    def start(
        self,
        arguments: Sequence[str],
        *,
        module: str = "backtest_batch",
        shell: str = "",
    ) -> Command:
        """Start a command, by a script of bash where one is given."""
        number = len(self.started)
        out, err = self.root / f"{number}.out", self.root / f"{number}.err"
        command = [sys.executable, "-m", module, *arguments]
        if shell:
            command = ["bash", "-c", shell, "bash", *command]
        with out.open("wb") as output, err.open("wb") as errors:
            process = subprocess.Popen(
                command,
                cwd=self.work,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        self.started.append(Command(process=process, out=out, err=err, shell=shell))
        return self.started[-1]

    @property
    def calls(self) -> Counter[int]:
        """How often each strategy was asked for weights."""
        return Counter(int(line) for line in _lines(self.root / "calls.txt"))

    @property
    def batches(self) -> list[Path]:
        """Folders of the batches."""
        default = list((self.work / "mlruns" / "batches").glob("*"))
        own = self.work / "reports"
        return sorted(default) + ([own] if own.is_dir() else [])

    @property
    def scratches(self) -> list[Path]:
        """Working folders of the batches."""
        return [path for batch in self.batches for path in batch.glob(".scratch-*")]

    @property
    def n_artifact_folders(self) -> int:
        """Number of folders with artifacts."""
        return len(list((self.work / "mlruns" / "artifacts").glob("*")))

    def query(self, sql: str) -> list[tuple[str, ...]]:
        """Ask the database; nothing where it cannot answer."""
        if not self.database.exists():
            return []
        try:
            # A connection that may not write would leave the log of the database behind it.
            with contextlib.closing(sqlite3.connect(self.database, timeout=20)) as store:
                return store.execute(sql).fetchall()
        except sqlite3.Error:
            return []

    def finished(self) -> frozenset[str]:
        """Return the run_id of each run of the batch that the store has as FINISHED."""
        return frozenset(
            name
            for (name,) in self.query(
                "select t.value from runs r join tags t on t.run_uuid = r.run_uuid"
                " and t.key = 'run_id' join tags n on n.run_uuid = r.run_uuid and n.key ="
                " 'batch_name' and n.value = 'sweep' where r.status = 'FINISHED' and"
                " r.lifecycle_stage = 'active'"
            )
        )

    @property
    def batch_ids(self) -> list[str]:
        """The batch_id of each batch of the storm's own that can be continued, the newest first.

        Those that the store knows, and those whose folder says how they were asked for.
        """
        names = self.query(
            "select i.value from tags i join tags n on n.run_uuid = i.run_uuid and n.key ="
            " 'batch_name' and n.value = 'sweep' join tags r on r.run_uuid = i.run_uuid and"
            " r.key = 'batch_role' and r.value = 'batch' join runs on runs.run_uuid = i.run_uuid"
            " and runs.lifecycle_stage = 'active' where i.key = 'batch_id'"
        )
        found = {name for (name,) in names}
        for scratch in self.scratches:
            if (scratch / "start" / "batch_config.yaml").exists():
                found.add(scratch.name.removeprefix(".scratch-"))
        for batch in self.batches:
            for line in _lines(batch / "batch_config.yaml"):
                if line.startswith("batch_id:"):
                    found.add(line.removeprefix("batch_id:").strip().strip("'\""))
        return sorted(found, reverse=True)

    def processes(self) -> list[int]:
        """Return the processes that commands of this sandbox have started and that still run."""
        wanted = f"{MARK}={self.root}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (folder / "environ").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if wanted in variables and state != "Z":
                    found.append(int(folder.name))
        return found

    def named(self, pid: int) -> str:
        """Return the command line of a process."""
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            return b" ".join(words).decode(errors="replace")[:200]
        return "gone"

    def end(self, pid: int) -> None:
        """End a process."""
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)

    def end_everything(self) -> None:
        """End what still runs."""
        for pid in self.processes():
            self.end(pid)


def wait_until(
    condition: Callable[[], object], command: Command, seconds: float = DEADLINE_SECONDS
) -> bool:
    """Wait for something while a command runs; return whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if command.has_ended() or time.monotonic() > deadline:
            return False
        time.sleep(0.004)
    return True


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
