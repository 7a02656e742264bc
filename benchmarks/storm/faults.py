"""The faults of a storm: what is done to a command, at which moment, and how it may end then."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.storm.sandbox import Command, Sandbox


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a fault is done to: a command in a sandbox, by chance that can be repeated."""

    sandbox: Sandbox
    command: Command
    rng: random.Random


Apply = Callable[[Target], bool]
"""Does something to a command; returns whether there was something to do it to."""

MOMENTS = ("start", "begun", "running", "recording", "reports", "printed")
"""When a fault happens, in the order in which a batch reaches them."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault.

    Attributes
    ----------
    name
        Name in the table.
    apply
        What is done.
    codes
        Exit codes that the command may have because of it, beside 0.
    moments
        Moments at which it makes sense.
    ends
        Whether the command is over with it.
    spoils
        Whether results of finished runs may be gone, so that they are computed again.
    kills_workers
        Whether a worker may die with runs in flight, which are then computed again.
    shows_tracebacks
        Whether somebody else's process says of itself that it was killed, with a traceback.
    shell
        Script by which the command is started otherwise; ``apply`` then only counts.
    """

    name: str
    apply: Apply
    codes: tuple[int, ...] = ()
    moments: tuple[str, ...] = MOMENTS
    ends: bool = False
    spoils: bool = False
    kills_workers: bool = False
    shows_tracebacks: bool = False
    shell: str = ""


def _send(number: int) -> Apply:
    def apply(target: Target) -> bool:
        target.command.send(number)
        return True

    return apply


def _send_group(number: int) -> Apply:
    def apply(target: Target) -> bool:
        target.command.send_group(number)
        return True

    return apply


def _many_interrupts(target: Target) -> bool:
    gap = target.rng.choice((0.001, 0.01, 0.05))
    for _ in range(target.rng.randint(2, 200)):
        if target.command.has_ended():
            break
        target.command.send(signal.SIGINT)
        time.sleep(gap)
    return True


def _two_signals(target: Target) -> bool:
    first, second = target.rng.sample((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), 2)
    target.command.send(first)
    time.sleep(target.rng.choice((0, 0, 0.0005, 0.02)))
    target.command.send(second)
    return True


def _pause(target: Target) -> bool:
    send = target.rng.choice((target.command.send, target.command.send_group))
    send(signal.SIGSTOP)
    time.sleep(target.rng.uniform(0.2, 2))
    send(signal.SIGCONT)
    return True


def _kill_worker(target: Target) -> bool:
    sandbox, rng = target.sandbox, target.rng
    workers = [pid for pid in sandbox.processes() if "popen_loky" in sandbox.named(pid)]
    if not workers:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(workers), rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)))
    return True


def _kill_other(*, trackers: bool) -> Callable[[Target], bool]:
    """Kill what is neither the command nor a worker: a tracker of joblib's, or another process."""

    def apply(target: Target) -> bool:
        sandbox = target.sandbox
        others = [
            pid
            for pid in sandbox.processes()
            if pid != target.command.process.pid
            and "popen_loky" not in sandbox.named(pid)
            and ("resource_tracker" in sandbox.named(pid)) is trackers
        ]
        if not others:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(target.rng.choice(others), signal.SIGKILL)
        return True

    return apply


def _lock_database(target: Target) -> bool:
    if not target.sandbox.database.exists():
        return False
    store = sqlite3.connect(target.sandbox.database, timeout=20, check_same_thread=False)
    try:
        store.execute("begin immediate")
    except sqlite3.Error:
        store.close()
        return False

    def release() -> None:
        time.sleep(target.rng.uniform(0.5, 3))
        store.rollback()
        store.close()

    threading.Thread(target=release).start()
    return True


def _replace_database(target: Target) -> bool:
    """Put a copy into the place of the database, as editors and synchronising programs do."""
    if not target.sandbox.database.exists():
        return False
    copy = target.sandbox.database.with_name("mlflow.db.copy")
    with (
        contextlib.closing(sqlite3.connect(target.sandbox.database, timeout=20)) as store,
        contextlib.closing(sqlite3.connect(copy)) as other,
    ):
        store.backup(other)
    copy.replace(target.sandbox.database)
    return True


def _delete_database(target: Target) -> bool:
    if not target.sandbox.database.exists():
        return False
    for path in target.sandbox.database.parent.glob("mlflow.db*"):
        path.unlink(missing_ok=True)
    return True


def _delete_scratch(target: Target) -> bool:
    scratches = target.sandbox.scratches
    for folder in scratches:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(scratches)


def _delete_returns(target: Target) -> bool:
    arrays = [path for scratch in target.sandbox.scratches for path in scratch.glob("*.dat")]
    for path in arrays:
        path.unlink(missing_ok=True)
    return bool(arrays)


def _delete_output(target: Target) -> bool:
    batches = target.sandbox.batches
    for folder in batches:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(batches)


def _delete_cache(target: Target) -> bool:
    had = any(target.sandbox.cache.iterdir())
    for path in target.sandbox.cache.iterdir():
        shutil.rmtree(path, ignore_errors=True)
    return had


def _damage_cache(target: Target) -> bool:
    """Change a byte of the cached prices on a copy: what is mapped by now stays as it was."""
    files = [path for path in target.sandbox.cache.rglob("*") if path.suffix in (".npy", ".json")]
    if not files:
        return False
    path = target.rng.choice(sorted(files))
    content = bytearray(path.read_bytes())
    if not content:
        return False
    content[target.rng.randrange(min(len(content), 128))] ^= 0x20
    damaged = path.with_suffix(".damaged")
    damaged.write_bytes(content)
    damaged.replace(path)
    return True


def _delete_temporary(target: Target) -> bool:
    entries = list(target.sandbox.temporary.iterdir())
    for path in entries:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return bool(entries)


def _beside(codes: tuple[int, ...], *arguments: str, module: str = "backtest_batch") -> Apply:
    """Start another command beside the first and let it end."""

    def apply(target: Target) -> bool:
        if not target.sandbox.batch_ids:
            return False
        named = [word.format(batch_id=target.sandbox.batch_ids[0]) for word in arguments]
        rival = target.sandbox.start(named, module=module)
        target.sandbox.rivals.append((rival, codes))
        rival.process.wait(timeout=300)
        return True

    return apply


def _counted(_: Target) -> bool:
    return True


INTERRUPTED, TERMINATED, HUNG_UP, KILLED = 130, 143, 129, -9

KINDS = (
    Kind(
        name="SIGKILL of the command",
        apply=_send(signal.SIGKILL),
        codes=(KILLED,),
        ends=True,
    ),
    Kind(name="Ctrl-C", apply=_send_group(signal.SIGINT), codes=(INTERRUPTED,), ends=True),
    Kind(name="SIGINT", apply=_send(signal.SIGINT), codes=(INTERRUPTED,), ends=True),
    Kind(name="Ctrl-C many times", apply=_many_interrupts, codes=(INTERRUPTED,), ends=True),
    Kind(name="SIGTERM", apply=_send(signal.SIGTERM), codes=(TERMINATED,), ends=True),
    Kind(
        name="SIGTERM to the group",
        apply=_send_group(signal.SIGTERM),
        codes=(TERMINATED, 1),
        ends=True,
        kills_workers=True,
    ),
    Kind(
        name="SIGHUP to the group",
        apply=_send_group(signal.SIGHUP),
        codes=(HUNG_UP, 1),
        ends=True,
        kills_workers=True,
    ),
    Kind(
        name="two signals at once",
        apply=_two_signals,
        codes=(INTERRUPTED, TERMINATED, HUNG_UP),
        ends=True,
    ),
    Kind(name="stopped and continued", apply=_pause),
    Kind(
        name="worker killed",
        apply=_kill_worker,
        codes=(1,),
        moments=("running", "recording"),
        kills_workers=True,
    ),
    Kind(name="guard killed", apply=_kill_other(trackers=False), moments=("running", "recording")),
    Kind(
        name="resource tracker killed",
        apply=_kill_other(trackers=True),
        moments=("running", "recording"),
        shows_tracebacks=True,
    ),
    Kind(name="database locked", apply=_lock_database),
    Kind(
        name="database replaced by its copy",
        apply=_replace_database,
        codes=(2, 3),  # 2: a resume that was still reading has run nothing
        moments=("running", "recording", "reports"),
    ),
    Kind(
        name="database deleted",
        apply=_delete_database,
        codes=(2, 3),
        moments=("running", "recording"),
        spoils=True,
    ),
    Kind(
        name="working folder deleted",
        apply=_delete_scratch,
        codes=(1, 2, 3),
        moments=("running", "recording", "reports"),
        spoils=True,
    ),
    Kind(
        name="returns deleted",
        apply=_delete_returns,
        codes=(1, 2, 3),
        moments=("running", "recording"),
        spoils=True,
    ),
    Kind(
        name="output folder deleted",
        apply=_delete_output,
        codes=(1, 2, 3),
        moments=("running", "recording", "reports"),
        spoils=True,
    ),
    Kind(
        name="cache deleted",
        apply=_delete_cache,
        codes=(1,),
        moments=("begun", "running", "recording", "reports"),
    ),
    Kind(
        name="cache damaged",
        apply=_damage_cache,
        codes=(1,),
        moments=("begun", "running", "printed"),
    ),
    Kind(
        name="temporary files deleted",
        apply=_delete_temporary,
        codes=(1,),
        moments=("begun", "running", "recording"),
        spoils=True,
    ),
    Kind(
        name="second resume",
        apply=_beside((0, 2), "resume={batch_id}"),
        moments=("running", "recording", "reports"),
    ),
    Kind(
        name="second batch",
        apply=_beside(
            (0,),
            "data=synthetic",
            "data.n_bars=120",
            "strategy=equal_weight",
            "n_jobs=1",
            "batch_name=rival",
            "output_dir=../rival",
        ),
        moments=("begun", "running", "recording", "reports"),
    ),
    Kind(
        name="comparison beside it",
        apply=_beside(
            (0, 2),
            "batch={batch_id}",
            "output_dir=../compared",
            module="backtest_batch.compare",
        ),
        moments=("running", "recording", "reports"),
    ),
    Kind(name="no standard output", apply=_counted, moments=("start",), shell='exec "$@" >&-'),
    Kind(name="no standard error", apply=_counted, moments=("start",), shell='exec "$@" 2>&-'),
    Kind(
        name="no standard streams",
        apply=_counted,
        moments=("start",),
        shell='exec "$@" >&- 2>&- <&-',
    ),
    Kind(
        name="standard output full",
        apply=_counted,
        moments=("start",),
        shell='exec "$@" >/dev/full',
    ),
    Kind(
        name="standard error full",
        apply=_counted,
        moments=("start",),
        shell='exec "$@" 2>/dev/full',
    ),
    Kind(
        name="no room for larger files",
        apply=_counted,
        moments=("start",),
        codes=(1, 2, 3),
        shell='trap "" XFSZ; ulimit -f $((RANDOM % 2600 + 300)); exec "$@"',
        spoils=True,
    ),
)
