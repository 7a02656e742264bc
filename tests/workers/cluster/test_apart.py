"""Workers that see neither the working directory nor the cache of the command.

They run in a mount namespace of their own, in which both folders are empty, with another working
directory and another BACKTEST_BATCH_CACHE: all that another machine would lack but its own host.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest_batch.errors import SelectionError
from backtest_batch.store.store import StoreNotFoundError
from tests.support.commands import Command, alive, descendants, wait_for

pytestmark = pytest.mark.slow

HELPER = "def share(number):\n    return (1 + number % 7) / 10\n"
STRATEGY = """
import numpy as np
from lookback import share


class Mine:
    def __init__(self, number: int = 0):
        self.number = number

    def target_weights(self, panel, decisions):
        if self.number == 5:
            print("five was asked for")
            raise ArithmeticError("five is refused")
        rising = (panel.close > panel.close.shift(20)).to_numpy()[decisions]
        return share(self.number) * rising / panel.n_assets
"""

APART = 'mount -t tmpfs none "$0" && mount -t tmpfs none "$1" && shift && exec "$@"'
"""Hides two folders and runs a command."""


TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""What a Ray cluster asks of who connects to it; each machine would make one of its own."""


class Apart:
    """Starts processes that do not see the folders of the command."""

    def __init__(self, command: Command, elsewhere: Path) -> None:
        self.hidden = (str(command.folder), command.environment["BACKTEST_BATCH_CACHE"])
        self.cache = elsewhere / "cache"
        self.elsewhere = elsewhere
        self.running: list[subprocess.Popen[bytes]] = []
        copy_kernels(self.cache)

    def start(self, *program: str, hide: bool = True) -> "subprocess.Popen[bytes]":
        if hide:
            program = ("unshare", "--mount", "--", "sh", "-c", APART, *self.hidden, *program)
        with (self.elsewhere / "out.txt").open("ab") as file:
            process = subprocess.Popen(
                program,
                cwd=self.elsewhere,
                env={
                    **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                    "BACKTEST_BATCH_CACHE": str(self.cache),
                    "NUMBA_CACHE_DIR": str(self.cache / "numba"),
                    **TOKEN,
                },
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.running.append(process)
        return process

    def end(self) -> None:
        started = [item for process in self.running for item in descendants(process.pid)]
        for process in self.running:
            process.terminate()
        for process in self.running:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for item in alive(started):
            item.kill()

    @property
    def said(self) -> str:
        return (self.elsewhere / "out.txt").read_text(errors="replace")


def copy_kernels(cache: Path) -> None:
    """Copy compiled kernels, which are no data: making them again would only take time."""
    made = Path(os.environ["NUMBA_CACHE_DIR"])
    made.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made, cache / "numba")


@pytest.fixture
def apart(command: Command, tmp_path: Path, require) -> Iterator[Apart]:
    possible = shutil.which("unshare") is not None and (
        subprocess.run(
            ["unshare", "--mount", "--", "sh", "-c", APART, str(tmp_path), str(tmp_path), "true"],
            capture_output=True,
        ).returncode
        == 0
    )
    require(possible, "needs the right to unshare a mount namespace (root on Linux)")
    cache = tmp_path / "cache of the command"
    copy_kernels(cache)
    command.environment |= {
        "BACKTEST_BATCH_CACHE": str(cache),
        "NUMBA_CACHE_DIR": str(cache / "numba"),
        **TOKEN,
    }
    (tmp_path / "elsewhere").mkdir()
    started = Apart(command, tmp_path / "elsewhere")
    yield started
    started.end()


def dask_address(apart: Apart) -> str:
    """Start a scheduler and a machine with two workers; return its address."""
    file = apart.elsewhere / "scheduler.json"
    python = (sys.executable, "-m")
    options = ("--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    apart.start(*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", *options)
    wait_for(lambda: file.exists() and file.read_text().endswith("}"), of=apart.running[-1])
    address = json.loads(file.read_text())["address"]
    apart.start(
        *(*python, "distributed.cli.dask_worker", address, "--nworkers", "2", "--nthreads", "1"),
        *("--no-dashboard", "--local-directory", str(apart.elsewhere)),
    )
    wait_for(lambda: apart.said.count("Registered to") >= 2, of=apart.running[-1])
    return address


def ray_address(apart: Apart) -> str:
    """Start a head node that computes two chunks at once; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    apart.start(
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--port", str(port), "--num-cpus", "2", "--include-dashboard", "false"),
        *("--node-ip-address", "127.0.0.1", "--disable-usage-stats"),
    )
    wait_for(lambda: "Ray runtime started" in apart.said, of=apart.running[-1])
    return f"127.0.0.1:{port}"


@pytest.mark.parametrize(("backend", "start"), [("dask", dask_address), ("ray", ray_address)])
def test_data_and_modules_reach_them_and_results_come_back(
    command, apart, needs, recorded_runs, backend, start
):
    needs(backend)
    (command.folder / "mine.py").write_text(STRATEGY)
    (command.folder / "lookback.py").write_text(HELPER)
    sweep = (
        *("-m", "data=synthetic", "data.n_assets=5", "data.n_bars=900", "n_jobs=2"),
        *("strategy=custom", "strategy._target_=mine.Mine", "strategy.number=range(0,6)"),
        *("walk_forward=rolling", "walk_forward.train_size=252", "walk_forward.test_size=126"),
    )
    first = command.run(*sweep)
    assert first.returncode == 1, first.stderr
    address = start(apart)
    options = (f"hydra.launcher.backend={backend}", f"hydra.launcher.address={address}")
    second = command.run(*sweep, *options)
    assert second.returncode == 1, second.stderr + apart.said
    here, there = (recorded_runs(command.folder, batch.name) for batch in command.batches)
    assert sorted(here) == sorted(there) == [f"run_{number}" for number in range(6)]
    for run_id, run in there.items():
        assert run.status == here[run_id].status
        assert run.results == here[run_id].results
        for name in ("equity", "target_weights", "trades") if run_id != "run_5" else ():
            one = (here[run_id].files / f"{name}.parquet").read_bytes()
            assert one == (run.files / f"{name}.parquet").read_bytes()
    assert there["run_5"].tags["error_message"] == "five is refused"
    assert "five was asked for" in (there["run_5"].files / "log.txt").read_text()
    for name in ("rankings.csv", "returns.parquet", "walk_forward_equity.parquet"):
        one, other = (batch / name for batch in command.batches)
        assert one.read_bytes() == other.read_bytes()
    # The data lies in their own cache, and so do the modules; the data is there once.
    assert len(list((apart.cache / "panels").iterdir())) == 1
    (sources,) = (apart.cache / "sources-shipped").iterdir()
    assert {path.name for path in sources.glob("*.py")} == {"mine.py", "lookback.py"}
    # What computed there ends with the command.
    wait_for(lambda: not loky_processes(apart), seconds=60)


def loky_processes(apart: Apart) -> list[int]:
    """Return the processes below the workers that compute."""
    started = [item for process in apart.running for item in alive(descendants(process.pid))]
    lines = {item.pid: " ".join(item.cmdline()) for item in started}
    return [pid for pid, line in lines.items() if "popen_loky" in line]


def test_a_scheduler_that_is_killed_ends_the_batch_with_what_goes_on(command, apart, needs):
    needs("dask")
    (command.folder / "slow.py").write_text(
        "import time\nimport numpy as np\n\n\nclass Slow:\n"
        "    def __init__(self, number: int = 0):\n        self.number = number\n\n"
        "    def target_weights(self, panel, decisions):\n        time.sleep(1)\n"
        "        return np.full((len(decisions), panel.n_assets), 0.1)\n"
    )
    address = dask_address(apart)
    process = command.start(
        *("-m", "data=synthetic", "data.n_assets=3", "data.n_bars=260", "n_jobs=2"),
        *("strategy=custom", "strategy._target_=slow.Slow", "strategy.number=range(0,100)"),
        *("hydra.launcher.backend=dask", f"hydra.launcher.address={address}"),
    )

    def some_are_recorded() -> bool:
        try:
            return list(command.recorded().statuses.values()).count("FINISHED") >= 2
        except (SelectionError, StoreNotFoundError, IndexError):
            return False

    wait_for(some_are_recorded, of=process)
    apart.running[0].kill()
    done = command.end(process)
    assert done.returncode == 1, done.stderr
    assert f"the Dask cluster at {address} is gone" in done.stderr
    assert f"resume={command.batches[-1].name}" in done.stderr
    assert "Traceback" not in done.stderr
    recorded = command.recorded()
    assert recorded.handle.status == "FAILED"
    assert list(recorded.statuses.values()).count("FINISHED") >= 2
