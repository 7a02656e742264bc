"""What the tests of the commands share: one cache, and a store whose migrations were run once."""

import functools
import importlib.util
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backtest_batch.api.batches import Task, run_batch
from backtest_batch.batch.plan import Plan, make_plan
from backtest_batch.cli.main import main
from backtest_batch.compose.arguments import read_arguments, readable
from backtest_batch.config.arguments import Argument
from backtest_batch.core.engine.metrics import RESULT_METRICS
from backtest_batch.records import BatchRequest
from tests.support.tiers import DEFAULT, TIERS, tier_of

CACHE = "BACKTEST_BATCH_CACHE"
KERNELS = "NUMBA_CACHE_DIR"
MADE = pytest.StashKey[str]()
SIGNALS = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
NO_SKIPS = "BACKTEST_BATCH_NO_SKIPS"
"""Set where everything is installed that a test may need, such as in CI: nothing may be missing."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs every tier."""
    parser.addoption("--all", action="store_true", help="run every tier, the slow tests included")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, before tests are chosen by their markers."""
    for item in items:
        tier = tier_of(item)
        if item.get_closest_marker(tier) is None:
            item.add_marker(tier)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the processes among which tests are divided: none for a file or test that is named."""
    named = config.option.file_or_dir
    if named and all(".py" in name for name in named):
        return 0
    return len(os.sched_getaffinity(0))


def pytest_configure(config: pytest.Config) -> None:
    """Choose the tests; share one cache among all processes, so that kernels compile once."""
    for name, use in TIERS.items():
        config.addinivalue_line("markers", f"{name}: {use}")
    option = config.option
    # Whoever names files or markers chooses the tests; the processes of xdist are told the choice.
    if not (option.all or option.markexpr or option.file_or_dir):
        option.markexpr = DEFAULT
    # Workers of pytest-xdist inherit the variables of the process that starts them.
    if CACHE not in os.environ:
        config.stash[MADE] = tempfile.mkdtemp(prefix="backtest_batch-tests-")
        os.environ[CACHE] = config.stash[MADE]
    os.environ.setdefault(KERNELS, str(Path(os.environ[CACHE], "numba")))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    # Under nohup, or in the background of a script, signals are ignored, also by what is started.
    for number, handler in SIGNALS.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache that was made for the session."""
    made = config.stash.get(MADE, None)
    if made is not None:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def require() -> Callable[[object, str], None]:
    """Skip a test that lacks a part, and say which; fail where BACKTEST_BATCH_NO_SKIPS=1."""

    def check(condition: object, reason: str) -> None:
        if condition:
            return
        if os.environ.get(NO_SKIPS, "") not in ("", "0"):
            pytest.fail(f"{reason} ({NO_SKIPS} is set: nothing may be missing)", pytrace=False)
        pytest.skip(reason)

    return check


@pytest.fixture(scope="module", autouse=True)
def _no_hydra_is_left() -> Iterator[None]:
    """See that a file leaves no Hydra behind that is initialised: tests may run in any order."""
    yield
    module = sys.modules.get("hydra.core.global_hydra")
    assert module is None or not module.GlobalHydra.instance().is_initialized()


@pytest.fixture(scope="session")
def oracle(require: Callable[[object, str], None]) -> Callable[[str], Any]:
    """Import a library that computes the same, or skip where it is not installed."""

    def imported(name: str) -> Any:
        found = importlib.util.find_spec(name.partition(".")[0])
        require(found, f"{name} is not installed: pip install -e '.[oracles]'")
        return importlib.import_module(name)

    return imported


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database that MLflow's migrations made; copying it saves each test that time."""
    from backtest_batch.store import sqlite_file
    from backtest_batch.store.mlflow_calls import import_mlflow

    import_mlflow()
    database = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    sqlite_file.create_if_missing(database)
    return database


@pytest.fixture
def working_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with a space and letters beyond ASCII in its name."""
    folder = tmp_path / "Käufe & Verkäufe 交易"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def with_store(working_dir: Path, migrated_store: Path) -> Path:
    """A working directory whose store is migrated already."""
    (working_dir / "mlruns").mkdir()
    shutil.copyfile(migrated_store, working_dir / "mlruns" / "mlflow.db")
    return working_dir


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def batch_id(self) -> str:
        """The batch_id that the last lines name."""
        found = re.search(r"tags.batch_id = '([^']+)'", self.out)
        assert found is not None, self.out + self.err
        return found[1]


def run_process(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Ended:
    """Run the command in a process of its own, without a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "backtest_batch", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def ended_command() -> Callable[..., Ended]:
    """Run the command in a process of its own, in the folder given."""
    return run_process


@pytest.fixture
def command(working_dir: Path) -> Callable[..., Ended]:
    """Run the command in a process of its own, in the working directory of the test."""
    return functools.partial(run_process, working_dir)


def read_request(*arguments: str, keys: Sequence[Argument] = ()) -> BatchRequest:
    """Return the batch that the command would run, or a program that gives keys as values."""
    kept: list[BatchRequest] = []

    def keep(request: BatchRequest, **_: Any) -> SimpleNamespace:
        # Runs are composed while Hydra is there.
        kept.append(replace(request, compositions=tuple(request.compositions)))
        return SimpleNamespace(exit_code=0)

    asked = read_arguments(readable(arguments))
    run_batch(asked.with_keys([*asked.keys, *keys]), Task(io.StringIO(), keep))
    return kept[0]


@pytest.fixture
def requested() -> Callable[..., BatchRequest]:
    return read_request


@pytest.fixture
def planned() -> Callable[..., Plan]:
    """Plan the batch that the command would run."""

    def plan(*arguments: str) -> Plan:
        return make_plan(read_request(*arguments).compositions)

    return plan


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command in this process."""

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        code = main(list(arguments))
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


@dataclass(frozen=True)
class RecordedRun:
    """One run as the store and its artifacts have it."""

    run_id: str
    status: str
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    files: Path

    @property
    def results(self) -> dict[str, float]:
        """The metrics that are compared bit for bit."""
        return {name: self.metrics[name] for name in RESULT_METRICS if name in self.metrics}


def read_runs(folder: Path, batch_id: str | None = None) -> dict[str, RecordedRun]:
    """Return the runs of a batch (by default of all) by run_id, read from the store as MLflow does.

    Parameters
    ----------
    folder
        Working directory of the command.
    batch_id
        The batch.
    """
    from mlflow.tracking import MlflowClient
    from mlflow.utils.file_utils import local_file_uri_to_path

    client = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("backtest_batch")
    if experiment is None:
        return {}
    wanted = "tags.batch_role = 'run'"
    if batch_id is not None:
        wanted += f" and tags.batch_id = '{batch_id}'"
    runs = client.search_runs([experiment.experiment_id], wanted, max_results=1_000)
    return {
        run.data.tags["run_id"]: RecordedRun(
            run_id=run.data.tags["run_id"],
            status=run.info.status,
            metrics=run.data.metrics,
            params=run.data.params,
            tags=run.data.tags,
            files=Path(local_file_uri_to_path(run.info.artifact_uri)),
        )
        for run in runs
    }


@pytest.fixture(scope="session")
def recorded_runs() -> Callable[..., dict[str, RecordedRun]]:
    return read_runs
