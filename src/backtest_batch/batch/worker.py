"""What happens inside a worker process."""

import ctypes
import functools
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from backtest_batch.batch.chunks import RETURNS, ChunkReply, ChunkTask, Scratch
from backtest_batch.batch.compute import Computed, ComputedChunk, compute
from backtest_batch.batch.files import write_run_files
from backtest_batch.batch.forward import is_on
from backtest_batch.batch.profiling import profiled
from backtest_batch.comparison.walk_forward.per_bar import per_bar_arrays
from backtest_batch.comparison.walk_forward.runs import PER_BAR
from backtest_batch.errors import ConfigurationError, DataError, MemoryLimitExceeded, WorkerDied
from backtest_batch.market.cache import open_panel
from backtest_batch.market.panel import FloatArray, Panel
from backtest_batch.records import RunFailure, RunResult, RunSpec

LONGEST_LOG = 100_000
"""Characters of a run's log.txt; the last ones are kept."""

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a process needs to know before its first chunk."""

    parent_pid: int
    working_dir: str
    log_folder: str | None


def start_worker(setup: WorkerSetup) -> None:
    """Prepare this process: it dies with its parent, leaves Ctrl-C to it, and logs to a file."""
    # Ctrl-C reaches the whole process group; the parent alone decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with(setup.parent_pid)
    os.chdir(setup.working_dir)
    if setup.working_dir not in sys.path:
        sys.path.insert(0, setup.working_dir)
    if setup.log_folder is not None:
        _log_to(Path(setup.log_folder) / f"worker-{os.getpid()}.log")


def hello() -> int:
    """Return this process's id."""
    return os.getpid()


def run_chunk(task: ChunkTask) -> ChunkReply:
    """Compute a chunk; whatever the strategy does, the answer is plain data."""
    started_ms = _now_ms()
    log_start = _log_size()
    names = ", ".join(run.run_id for run in task.runs[:3])
    logging.getLogger("backtest_batch").info("computing %d runs: %s", len(task.runs), names)
    _reset_peak_rss()
    wall, cpu = time.perf_counter(), time.process_time()
    profile_folder = task.scratch.files_of(task.runs[0]) / "profile"
    try:
        panel = _open(task.runs[0].data_fingerprint)
        loaded = time.perf_counter()
        with profiled(profile_folder) if task.profile else nullcontext():
            chunk = compute(task.runs, panel)
    except BaseException as error:  # noqa: BLE001 - SystemExit must not end the batch either
        return ChunkReply(
            failure=_failure(error, log_start, profile_folder.parent if task.profile else None),
            permanent=isinstance(error, ConfigurationError | DataError),
            benchmarks={},
            started_ms=started_ms,
            ended_ms=_now_ms(),
        )
    steps = {"load": loaded - wall, **chunk.timings}
    written = time.perf_counter()
    write_error = _write(task, panel, chunk, steps)
    steps["write"] = time.perf_counter() - written
    count = len(task.runs)
    runtime_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    peak = _peak_rss_mb()
    results = tuple(
        _result(
            task,
            run,
            computed,
            runtime_s / count,
            cpu_s / count,
            peak,
            {step: seconds / count for step, seconds in steps.items()},
        )
        for run, computed in zip(task.runs, chunk.runs, strict=True)
    )
    return ChunkReply(
        results=results,
        write_error=write_error,
        benchmarks={key: dict(item.metrics) for key, item in chunk.benchmarks.items()},
        started_ms=started_ms,
        ended_ms=_now_ms(),
    )


def _result(
    task: ChunkTask,
    run: RunSpec,
    computed: Computed,
    runtime_s: float,
    cpu_s: float,
    peak_rss_mb: float,
    timings: dict[str, float],
) -> RunResult:
    simulation = computed.simulation
    tags = {}
    if simulation.ruined_bar is not None:
        panel = _open(run.data_fingerprint)
        tags["ruined"] = panel.index[simulation.ruined_bar].isoformat()
    if simulation.untradable_weights:
        tags["untradable_weights"] = str(simulation.untradable_weights)
    return RunResult(
        metrics=computed.metrics,
        undefined_metrics=computed.undefined,
        tags=tags,
        runtime_s=runtime_s,
        cpu_s=cpu_s,
        peak_rss_mb=peak_rss_mb,
        chunk_runs=len(task.runs),
        artifacts=task.scratch.files_of(run) if run.index in task.with_files else None,
        timings=timings,
        in_sample=computed.in_sample,
    )


def _write(
    task: ChunkTask, panel: Panel, chunk: ComputedChunk, steps: dict[str, float]
) -> str | None:
    """Write rows and files; return why that failed, or None."""
    try:
        with row_writer(task.scratch, RETURNS) as write:
            for key, reference in chunk.benchmarks.items():
                simulation = reference.simulation
                row = task.scratch.benchmark_rows[key]
                write(row, simulation.first_bar, simulation.net_return)
            for run, computed in zip(task.runs, chunk.runs, strict=True):
                simulation = computed.simulation
                write(run.index, simulation.first_bar, simulation.net_return)
        if is_on(task.runs[0].config):
            _write_per_bar(task, panel, chunk)
        for run, computed in zip(task.runs, chunk.runs, strict=True):
            if run.index in task.with_files:
                folder = task.scratch.files_of(run)
                write_run_files(folder, run, panel, computed, task.provenance, steps)
    except OSError as error:
        return f"{error.strerror or error} ({error.filename or task.scratch.folder})"
    return None


def _write_per_bar(task: ChunkTask, panel: Panel, chunk: ComputedChunk) -> None:
    """Write what a walk-forward measures on windows, beside the returns."""
    arrays = per_bar_arrays([computed.simulation for computed in chunk.runs], panel.n_bars)
    for name in PER_BAR:
        with row_writer(task.scratch, name) as write:
            for column, run in enumerate(task.runs):
                write(run.index, 0, arrays[name][:, column])


@contextmanager
def row_writer(scratch: Scratch, name: str) -> Iterator["RowWriter"]:
    """Open an array of bars and yield what writes one row of it.

    Rows are written with pwrite and not through a memory map: a full disk then raises an error
    where a map would kill the process.
    """
    descriptor = os.open(scratch.array(name), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield RowWriter(descriptor, scratch.row_bars)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class RowWriter:
    """Writes rows of an array of bars."""

    descriptor: int
    row_bars: int

    def __call__(self, row: int, first_bar: int, values: FloatArray) -> None:
        """Write one row: NaN wherever the run has no value."""
        whole = np.full(self.row_bars, np.nan)
        whole[first_bar : first_bar + len(values)] = values
        data = whole.tobytes()
        offset = row * len(data)
        while data:
            written = os.pwrite(self.descriptor, data, offset)
            data, offset = data[written:], offset + written


@functools.lru_cache(maxsize=4)
def _open(fingerprint: str) -> Panel:
    return open_panel(fingerprint)


def _failure(error: BaseException, log_start: int, artifacts: Path | None) -> RunFailure:
    # The frames of this module are of no use to the author of a strategy.
    text = "".join(traceback.format_exception(error))
    if isinstance(error, SystemExit):
        name, message = WorkerDied.__name__, f"the strategy raised SystemExit({error.code})"
    elif isinstance(error, MemoryLimitExceeded):
        name, message = MemoryLimitExceeded.__name__, str(error)
    else:
        name, message = type(error).__name__, _message(error)
    return RunFailure(
        error_type=name,
        error_message=message,
        traceback=text,
        log=_log_since(log_start),
        artifacts=artifacts,
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - an exception of a strategy may raise anything
        return f"(its message cannot be shown: {type(broken).__name__})"


def _die_with(parent_pid: int) -> None:
    """Make this process end when its parent does, however that ends."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(0.5)
        os._exit(1)

    # Other systems have no such signal, and the parent may have died before it was asked for.
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


_log_descriptor: int | None = None


def _log_to(path: Path) -> None:
    """Send everything that this process prints or logs to a file of its own."""
    global _log_descriptor  # noqa: PLW0603 - one log a process
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _log_descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        # Without a place for the log, output must still not reach the user's pipe.
        _log_descriptor = None
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        return
    os.dup2(_log_descriptor, 1)
    os.dup2(_log_descriptor, 2)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    logging.getLogger("numba").setLevel(logging.WARNING)


def _log_size() -> int:
    return 0 if _log_descriptor is None else os.fstat(_log_descriptor).st_size


def _log_since(start: int) -> str:
    if _log_descriptor is None:
        return ""
    sys.stdout.flush()
    sys.stderr.flush()
    length = _log_size() - start
    skipped = max(0, length - LONGEST_LOG)
    return os.pread(_log_descriptor, length - skipped, start + skipped).decode(errors="replace")


def _reset_peak_rss() -> None:
    """Forget the highest memory so far, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_rss_mb() -> float:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float(psutil.Process().memory_info().rss) / MEBIBYTE


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
