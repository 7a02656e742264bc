"""What happens inside a worker process: a chunk is computed, written, and answered.

A strategy may change the state of its process (working directory, environment, limits). Most of it
is restored after each chunk. If it cannot be (a limit that cannot be raised again), the parent
replaces the process.
"""

import contextlib
import functools
import gc
import importlib
import logging
import os
import random
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from backtest_batch.core.backtest import Computed, ComputedChunk, compute_chunk
from backtest_batch.core.code import code_fingerprint
from backtest_batch.core.construct import TARGET
from backtest_batch.core.data.cache import open_panel
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.data.permutation import permuted_panel
from backtest_batch.core.data.sources.no_prices import UNNAMED, names_its_data
from backtest_batch.core.fitting import per_bar_arrays, session_end, walks_forward
from backtest_batch.core.live import is_live, receive
from backtest_batch.core.own_account import OwnAccount
from backtest_batch.core.own_bars import own_bars_tags
from backtest_batch.core.windows import PER_BAR
from backtest_batch.errors import ConfigurationError, DataError, WorkerDied
from backtest_batch.records import (
    STRATEGY_KIND,
    PermutedMarket,
    RunFailure,
    RunResult,
    RunSpec,
)
from backtest_batch.rows import row_writer
from backtest_batch.values import RECORDED_MESSAGE, RECORDED_TRACEBACK, cut_in_the_middle
from backtest_batch.workers import start, watch
from backtest_batch.workers.auditing import audit_run
from backtest_batch.workers.chunks import RETURNS, ChunkReply, ChunkTask, array_file, files_folder
from backtest_batch.workers.ended import write_ended
from backtest_batch.workers.own_files import OwnReturns, write_own_returns
from backtest_batch.workers.run_files import profiled, write_run_files, write_timings
from backtest_batch.workers.warm_up import warm_up

TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


@dataclass(frozen=True, kw_only=True)
class ProcessState:
    """The state of a process before a run.

    It is read after the strategy's module was imported: what the import sets up is meant for all
    runs.

    Attributes
    ----------
    environment
        Its environment variables.
    path
        Where it looks for modules.
    umask
        Its file mode creation mask.
    recursion_limit
        Depth of Python's stack.
    handlers
        Signal handlers, by number.
    limits
        Limits of the system: soft limit by resource.
    collects
        Whether the garbage collector is on.
    silenced
        The level up to which logging is disabled.
    """

    environment: dict[str, str]
    path: tuple[str, ...]
    umask: int
    recursion_limit: int
    handlers: dict[int, Any]
    limits: dict[int, int]
    collects: bool
    silenced: int

    @classmethod
    def of_this_process(cls) -> "ProcessState":
        """Read the state of this process; called from its main thread."""
        umask = os.umask(0o077)
        os.umask(umask)
        return cls(
            environment=dict(os.environ),
            path=tuple(sys.path),
            umask=umask,
            recursion_limit=sys.getrecursionlimit(),
            handlers=_handlers(),
            limits=_limits(),
            collects=gc.isenabled(),
            silenced=logging.root.manager.disable,
        )

    def restore(self) -> bool:
        """Restore everything; return whether that worked.

        Added variables and folders stay: a module that was imported during the run may need them,
        and is not imported again.
        """
        _stop_timers()
        _restore_handlers(self.handlers)
        if not self.environment.items() <= os.environ.items():
            os.environ.update(self.environment)
        sys.path[:0] = [folder for folder in self.path if folder not in sys.path]
        os.umask(self.umask)
        sys.setrecursionlimit(max(self.recursion_limit, sys.getrecursionlimit()))
        if self.collects:
            gc.enable()
        logging.disable(self.silenced)
        # A raised limit does no harm.
        now = _limits()
        return not any(_below(now[name], limit) for name, limit in self.limits.items())


def _handlers() -> dict[int, Any]:
    found = ((int(number), signal.getsignal(number)) for number in signal.valid_signals())
    # None: not set from Python, so it cannot be restored.
    return {number: handler for number, handler in found if handler is not None}


def _restore_handlers(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        if signal.getsignal(number) != handler:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, handler)


def _stop_timers() -> None:
    for timer in TIMERS:
        signal.setitimer(timer, 0)


def _limits() -> dict[int, int]:
    names = (name for name in dir(resource) if name.startswith("RLIMIT_"))
    numbers = sorted({int(getattr(resource, name)) for name in names})
    return {number: int(resource.getrlimit(number)[0]) for number in numbers}


def _below(limit: int, before: int) -> bool:
    if limit == resource.RLIM_INFINITY:
        return False
    return before == resource.RLIM_INFINITY or limit < before


MEBIBYTE = 1024 * 1024


log = logging.getLogger("backtest_batch")

_is_own_process = False
"""Whether this process only computes chunks."""


def prepare_process() -> int:
    """Return this process's id once it is ready."""
    global _is_own_process  # noqa: PLW0603 - one worker per process
    start.restore()
    warm_up()
    watch.install()
    _is_own_process = True
    return os.getpid()


def run_chunk(task: ChunkTask) -> ChunkReply:
    """Compute one or several chunks; the answer is plain data, whatever the strategy does."""
    if not task.sizes:
        return _run_one(task)
    parts: list[ChunkReply] = []
    for part in task.parts:
        parts.append(_run_one(part))
        if parts[-1].spent:
            break
    return ChunkReply(
        parts=tuple(parts),
        spent=parts[-1].spent,
        benchmarks={},
        started_ms=parts[0].started_ms,
        ended_ms=parts[-1].ended_ms,
    )


def _run_one(task: ChunkTask) -> ChunkReply:
    start.restore()
    started_ms, log_start = _now_ms(), start.position()
    names = ", ".join(run.run_id for run in task.runs[:3])
    log.info("computing %d runs: %s", len(task.runs), names)
    profile = files_folder(task.scratch.folder, task.runs[0]) if task.profile else None
    before = None
    try:
        with _own_state(task.runs[0].strategy_seed):
            receive(task.objects)
            for run in task.runs:
                _require_code(run)
        before = ProcessState.of_this_process() if _is_own_process else None
        reply = _run(task, started_ms, profile) if task.audit is None else _audit(task, started_ms)
    except BaseException as error:  # noqa: BLE001 - SystemExit must not end the batch either
        reply = ChunkReply(
            failure=_failure(error, log_start, profile),
            permanent=isinstance(error, ConfigurationError | DataError),
            benchmarks={},
            started_ms=started_ms,
            ended_ms=_now_ms(),
        )
    if before is not None and not before.restore():
        return replace(reply, spent=True)
    return reply


def _run(task: ChunkTask, started_ms: int, profile: Path | None) -> ChunkReply:
    _reset_peak_rss()
    target = str(task.runs[0].config["strategy"][TARGET])
    wall, cpu = time.perf_counter(), time.process_time()
    with _own_state(task.runs[0].strategy_seed):
        first = task.runs[0]
        data = None if first.own_data else _market(first)
        loaded = time.perf_counter()
        with (
            profiled(profile / "profile") if profile else nullcontext(),
            watch.strategy_at_work(target),
        ):
            chunk = compute_chunk(task.runs, data)
    count = len(task.runs)
    steps = {
        step: seconds / count for step, seconds in {"load": loaded - wall, **chunk.timings}.items()
    }
    inputs = _inputs(target, first)
    task = replace(task, provenance={**task.provenance, **inputs})
    folder, write_error = _write(task, chunk, steps)
    whole = RunResult(
        metrics={},
        undefined_metrics=(),
        runtime_s=(time.perf_counter() - wall) / count,
        cpu_s=(time.process_time() - cpu) / count,
        peak_rss_mb=_peak_rss_mb(),
        chunk_runs=count,
        timings=steps,
        tags=inputs,
    )
    results = tuple(
        _result(task, run, computed, chunk.panel, whole, folder)
        for run, computed in zip(chunk.specs, chunk.runs, strict=True)
    )
    reply = ChunkReply(
        results=results,
        write_error=write_error,
        benchmarks={key: dict(item.metrics) for key, item in chunk.benchmarks.items()},
        started_ms=started_ms,
        ended_ms=_now_ms(),
    )
    if folder is not None and task.with_rows:
        write_ended(folder, task, reply)
    return reply


def _audit(task: ChunkTask, started_ms: int) -> ChunkReply:
    _reset_peak_rss()
    wall, cpu = time.perf_counter(), time.process_time()
    run = task.runs[0]
    assert task.audit is not None
    found = audit_run(
        run,
        _open(run.data_fingerprint),
        task.audit,
        task.objects,
        functools.partial(_own_state, run.strategy_seed),
    )
    result = RunResult(
        metrics={},
        undefined_metrics=(),
        runtime_s=time.perf_counter() - wall,
        cpu_s=time.process_time() - cpu,
        peak_rss_mb=_peak_rss_mb(),
    )
    return ChunkReply(
        results=(result,),
        benchmarks={},
        started_ms=started_ms,
        ended_ms=_now_ms(),
        audit=found,
    )


def _inputs(target: str, run: RunSpec) -> dict[str, str]:
    """Return the tags of what a strategy has read besides the prices.

    With ``data=none`` that is all of it: what is named in the configuration is known, and whatever
    else it reads is not.
    """
    inputs = watch.input_tags(target)
    if run.own_data:
        inputs.pop(watch.UNKNOWN, None)
        if not names_its_data(run.config["data"]):
            inputs[watch.UNKNOWN] = UNNAMED
    return inputs


@contextmanager
def _own_state(seed: int) -> Iterator[None]:
    """Start a strategy in the same state, whatever this process computed before.

    A strategy that uses the global random generators gets the same numbers in any order of runs.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - that is the generator such strategies use
    with warnings.catch_warnings(), np.errstate():
        yield


def _result(
    task: ChunkTask,
    run: RunSpec,
    computed: Computed,
    panel: Panel,
    whole: RunResult,
    folder: Path | None,
) -> RunResult:
    """Return the result of one run, with its share of the chunk's time."""
    account = computed.account
    tags = {**whole.tags, STRATEGY_KIND: run.strategy_kind}
    if account.ruined_bar is not None:
        tags["ruined"] = panel.index[account.ruined_bar].isoformat()
    n_decisions, scaled_by = 0, dict[str, int]()
    if isinstance(account, OwnAccount):
        tags |= account.tags
    else:
        n_decisions = len(account.decision_bars)
        if account.untradable_weights:
            tags["untradable_weights"] = str(account.untradable_weights)
        if account.scaled_decisions:
            tags["scaled_decisions"] = str(account.scaled_decisions)
            scaled_by = account.scaled_by
    if run.own_data:
        tags |= own_bars_tags(run, panel.index[account.first_bar :])
    artifacts = None
    if folder is not None and run.index in task.with_files:
        artifacts = files_folder(folder, run)
    return replace(
        whole,
        metrics=computed.metrics,
        undefined_metrics=computed.undefined,
        tags=tags,
        n_decisions=n_decisions,
        scaled_by=scaled_by,
        artifacts=artifacts,
        in_sample=computed.in_sample,
    )


def _write(
    task: ChunkTask, chunk: ComputedChunk, steps: dict[str, float]
) -> tuple[Path | None, str | None]:
    """Write returns and files into the first folder that has room for all.

    Returns
    -------
    folder
        The folder; None if none has room.
    error
        The reason if there is none, else None.
    """
    error = None
    started = time.perf_counter()
    with_files = [run for run in task.runs if run.index in task.with_files]
    for folder in task.scratch.folders:
        try:
            _write_into(folder, task, chunk)
            steps["write"] = (time.perf_counter() - started) / len(task.runs)
            for run in with_files:
                write_timings(files_folder(folder, run), steps)
        except OSError as failed:
            error = error or f"{failed.strerror or failed} ({folder})"
            for run in with_files:
                shutil.rmtree(files_folder(folder, run), ignore_errors=True)
        else:
            return folder, None
    return None, error


def _write_into(folder: Path, task: ChunkTask, chunk: ComputedChunk) -> None:
    task.scratch.make(folder)
    if task.with_rows and task.runs[0].own_data:
        _write_own(folder, task.runs[0], chunk)
    elif task.with_rows:
        _write_returns(folder, task, chunk)
        if walks_forward(task.runs[0].config):
            _write_per_bar(folder, task, chunk)
    for run, computed in zip(chunk.specs, chunk.runs, strict=True):
        if run.index in task.with_files:
            signature = task.signatures.get(run.run_id, "")
            write_run_files(
                files_folder(folder, run), run, chunk.panel, computed, task.provenance, signature
            )


def _write_own(folder: Path, run: RunSpec, chunk: ComputedChunk) -> None:
    """Write the returns of a run that reads its own data, on its bars."""
    computed, n_bars = chunk.runs[0], chunk.panel.n_bars
    first, stop = computed.first_bar, computed.first_bar + computed.account.n_measured
    beside = {}
    if walks_forward(run.config):
        arrays = per_bar_arrays([computed.account], n_bars)
        beside = {name: arrays[name][first:stop, 0] for name in PER_BAR}
    found = OwnReturns(
        index=chunk.panel.index[first:stop], net_return=computed.net_return, beside=beside
    )
    write_own_returns(folder, run.run_key, found)


def _write_returns(folder: Path, task: ChunkTask, chunk: ComputedChunk) -> None:
    with row_writer(array_file(folder, RETURNS), task.scratch.row_bars) as write:
        for key, reference in chunk.benchmarks.items():
            row = task.scratch.benchmark_rows[key]
            write(row, key, reference.first_bar, reference.net_return)
        for run, computed in zip(task.runs, chunk.runs, strict=True):
            write(run.index, run.run_key, computed.first_bar, computed.net_return)


def _write_per_bar(folder: Path, task: ChunkTask, chunk: ComputedChunk) -> None:
    """Write the arrays that a walk-forward needs besides the returns."""
    arrays = per_bar_arrays([computed.account for computed in chunk.runs], chunk.panel.n_bars)
    for name in PER_BAR:
        with row_writer(array_file(folder, name), task.scratch.row_bars) as write:
            for column, run in enumerate(task.runs):
                write(run.index, run.run_key, 0, arrays[name][:, column])


def _require_code(run: RunSpec) -> None:
    """Refuse to compute with sources other than those in the run key.

    A process that is started hours later would otherwise use code that the user has edited
    meanwhile, and one on another machine the code that is installed there.

    Raises
    ------
    ConfigurationError
        When they differ.
    """
    targets = {str(run.config["strategy"][TARGET]): run.code_fingerprint}
    if run.benchmark.node is not None:
        targets.setdefault(str(run.benchmark.node[TARGET]), run.benchmark.code)
    changed = [name for name, code in targets.items() if _code_here(name) not in (None, code)]
    if not changed:
        return
    target = changed[0]
    if start.worker_setup is not None and start.worker_setup.checks_code:
        raise ConfigurationError(
            f"the sources of {target}, or those of backtest_batch, are not the same on the worker "
            f"{socket.gethostname()}: install the same version there, and the modules that "
            "the strategy imports from outside the working directory"
        )
    raise ConfigurationError(
        f"the code of {target}, of a module that it imports, or of this package has changed "
        "since the batch began; with the new code it is another run. To compute what is left with "
        "the old code, bring that back and resume the batch; to compute all of it with the new "
        "code, just resume"
    )


@functools.lru_cache(maxsize=32)
def _code_here(target: str) -> str | None:
    """Return the fingerprint of the code that this process has loaded; None if there is none."""
    if is_live(target):  # it came with the task
        return None
    module = target.rpartition(".")[0]
    try:
        with watch.strategy_at_work(target):
            importlib.import_module(module)
    except Exception:  # noqa: BLE001 - the strategy is imported again, and its error recorded
        return None
    return code_fingerprint(target)


def _market(run: RunSpec) -> Panel:
    """Return the prices of a run: the real ones, or those in another order."""
    if run.market is None:
        return _open(run.data_fingerprint)
    return _permuted(run.data_fingerprint, run.market, session_end(run.config))


@functools.lru_cache(maxsize=4)
def _open(fingerprint: str) -> Panel:
    return open_panel(fingerprint)


@functools.lru_cache(maxsize=1)
def _permuted(fingerprint: str, market: PermutedMarket, end: str | None) -> Panel:
    return permuted_panel(_open(fingerprint), market, end)


def _failure(error: BaseException, log_start: int, artifacts: Path | None) -> RunFailure:
    if isinstance(error, SystemExit):
        name, message = WorkerDied.__name__, f"the strategy raised SystemExit({error.code!r})"
    else:
        name, message = type(error).__name__, _message(error)
    # If an exception cannot be shown, its name still helps.
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as broken:  # noqa: BLE001 - an exception of a strategy may raise anything
        text = f"(the traceback cannot be shown: {type(broken).__name__})\n{name}: {message}\n"
    return RunFailure(
        error_type=name,
        error_message=cut_in_the_middle(message, RECORDED_MESSAGE),
        traceback=cut_in_the_middle(text, RECORDED_TRACEBACK),
        log=start.since(log_start),
        artifacts=artifacts if artifacts is not None and artifacts.exists() else None,
    )


def _message(error: BaseException) -> str:
    try:
        # __str__ may return an instance of the strategy's own subclass of str.
        return "".join(str(error))
    except BaseException as broken:  # noqa: BLE001 - an exception of a strategy may raise anything
        return f"(its message cannot be shown: {type(broken).__name__})"


def _reset_peak_rss() -> None:
    """Reset the peak of memory, if the system can (Linux)."""
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
