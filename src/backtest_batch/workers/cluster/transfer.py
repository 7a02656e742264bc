"""What the command and the workers of a cluster send each other: requests, code, prices, files.

The code consists of the files that the code fingerprint covers: the strategy's module and the
modules of the working directory that it imports. Installed packages (below site-packages) are
expected on the workers, too; each worker computes the fingerprint again, which shows whether they
are the same.
"""

import contextlib
import functools
import hashlib
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath

import numpy as np

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.code import user_modules
from backtest_batch.core.data import cache
from backtest_batch.core.data.cache import own_cache_dir
from backtest_batch.core.data.panel import Panel, content_fingerprint
from backtest_batch.core.data.timestamps import index_of, stamps_of
from backtest_batch.core.windows import PER_BAR
from backtest_batch.errors import BacktestBatchError, DataError
from backtest_batch.ownership import make_own_folder, own_temporary_folder
from backtest_batch.rows import is_whole, open_rows, row_writer
from backtest_batch.workers.chunks import RETURNS, ChunkReply, ChunkTask, array_file, files_folder
from backtest_batch.workers.executor import StartError
from backtest_batch.workers.monitor import Limits
from backtest_batch.workers.own_files import FOLDER as OWN_FILES
from backtest_batch.workers.process import hash_seed


@dataclass(frozen=True)
class Sources:
    """Source files by their path below the folder that they are imported from."""

    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """Sha256 of names and contents."""
        whole = hashlib.sha256()
        for name in sorted(self.files):
            whole.update(f"{name}\0{len(self.files[name])}\0".encode() + self.files[name])
        return whole.hexdigest()

    def stand_in(self, folder: Path) -> bool:
        """Return whether a folder holds these files with exactly this content."""
        try:
            return all((folder / name).read_bytes() == text for name, text in self.files.items())
        except OSError:
            return False

    def unpacked(self) -> Path:
        """Return a folder of the cache that holds these files; it is made if it does not exist.

        Raises
        ------
        OSError
            When they can be written neither into the cache nor into the temporary directory.
        """
        # They are imported from there: nobody else may be able to change them.
        failed: OSError = PermissionError("no folder of one's own")
        for base in (own_cache_dir(), own_temporary_folder(create=True)):
            if base is None:
                continue
            folder = base / "sources-shipped" / self.digest
            try:
                if not folder.is_dir() or not self.stand_in(folder):
                    self._write(folder)
            except OSError as error:
                failed = error
                continue
            return folder
        raise failed

    def _write(self, folder: Path) -> None:
        make_own_folder(folder, above=2)
        for name, text in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Other workers of this machine may write the same files.
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
            temporary.write_bytes(text)
            temporary.replace(target)


def sources_of(*targets: str) -> Sources:
    """Return the user's files behind classes of strategies; none for shipped ones."""
    found = [_sources_of(target) for target in dict.fromkeys(targets)]
    if len(found) == 1:
        return found[0]
    return Sources({name: text for sources in found for name, text in sources.files.items()})


@functools.cache
def _sources_of(target: str) -> Sources:
    module = target.rpartition(".")[0]
    if module.split(".")[0] == "backtest_batch":
        return Sources({})
    files = {}
    for name, path in user_modules(target):
        if "site-packages" in path.parts:
            continue
        stem = PurePosixPath(*name.split("."))
        file = stem / "__init__.py" if path.name == "__init__.py" else stem.with_suffix(".py")
        files[str(file)] = path.read_bytes()
    return Sources(files)


TOKEN = "token"
"""File by which a process recognises the scratch folder of the command."""


@dataclass(frozen=True, kw_only=True)
class CommandOrigin:
    """Where the command runs.

    Attributes
    ----------
    host
        Its machine.
    working_dir
        Its folder.
    token
        Random letters, unique to this command.
    hash_seed
        The hash seed of its workers.
    """

    host: str
    working_dir: str
    token: str
    hash_seed: str

    @classmethod
    def here(cls, scratch: Path) -> "CommandOrigin":
        """Describe this process, and write its token into a scratch folder."""
        token = secrets.token_hex(16)
        # If it cannot be written, workers do not take the folder for the command's.
        with contextlib.suppress(OSError):
            (scratch / TOKEN).write_text(token)
        return cls(
            host=socket.gethostname(),
            working_dir=str(Path.cwd()),
            token=token,
            hash_seed=hash_seed(),
        )

    def shares_files(self, scratch: Path) -> bool:
        """Return whether this process reads and writes the same files as the command.

        It does on the same machine, if the token is in the scratch folder. A network file system
        shows the token, too, but does not guarantee that all rows arrive which several machines
        write into one file: such workers send their rows back.
        """
        if socket.gethostname() != self.host:
            return False
        try:
            return (scratch / TOKEN).read_text() == self.token
        except OSError:
            return False


@dataclass(frozen=True, kw_only=True)
class Request:
    """A chunk on its way to a worker.

    Attributes
    ----------
    task
        The chunk.
    limits
        What a run may take.
    origin
        The command that sends it.
    sources
        The user's modules that its strategy, and the benchmarks of its runs, need.
    """

    task: ChunkTask
    limits: Limits
    origin: CommandOrigin
    sources: Sources

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The data that the chunk needs: prices, and what its runs are compared with."""
        runs = self.task.runs
        beside = [run.benchmark.content for run in runs]
        beside += [run.factors.content for run in runs if run.factors is not None]
        prices = [] if runs[0].own_data else [runs[0].data_fingerprint]
        return tuple(dict.fromkeys([*prices, *filter(None, beside)]))


Row = tuple[str, int, str, FloatArray]
"""Name of an array, number and key of a row, and its values of shape (row_bars,)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a worker sends back.

    Attributes
    ----------
    worker
        Its name, for messages.
    reply
        The reply to the task, if there is one.
    error
        Why there is none: the process died, exceeded a limit or did not start.
    missing
        Fingerprint of data that the worker does not have; nothing was computed.
    log
        What the process printed and logged.
    rows, files
        What it wrote, if the command cannot read its folder; files by their path below it.
    """

    worker: str
    reply: ChunkReply | None = None
    error: BacktestBatchError | StartError | None = None
    missing: str | None = None
    log: str = ""
    rows: tuple[Row, ...] | None = None
    files: Mapping[str, bytes] | None = None


@dataclass(frozen=True, kw_only=True)
class PanelCopy:
    """The content of a panel, as plain arrays.

    Attributes
    ----------
    fingerprint
        Its fingerprint, to be checked on arrival.
    stamps, tz
        Nanosecond stamps of the bars, shape (n_bars,), and the name of their time zone.
    symbols
        Names of the assets.
    fields
        Arrays of shape (n_bars, n_assets) by field name.
    members
        Who may be held, shape (n_bars, n_assets); None for all.
    features
        Arrays of shape (n_bars,) or (n_bars, n_assets) by name.
    """

    fingerprint: str
    stamps: IntArray
    tz: str | None
    symbols: tuple[str, ...]
    fields: Mapping[str, FloatArray]
    members: BoolArray | None = None
    features: Mapping[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(cls, panel: Panel) -> "PanelCopy":
        """Copy a panel."""
        stamps, tz = stamps_of(panel.index)
        return cls(
            fingerprint=panel.fingerprint,
            stamps=np.array(stamps),
            tz=tz,
            symbols=panel.symbols,
            fields={name: np.array(values) for name, values in panel.fields.items()},
            members=None if panel.members is None else np.array(panel.members),
            features={name: np.array(values) for name, values in panel.feature_arrays.items()},
        )


_present: set[str] = set()
"""Fingerprints of data that this process has found in its cache and compared."""


def has_data(fingerprint: str) -> bool:
    """Return whether the cache of this process has the data with a fingerprint.

    The first call in a process compares all bytes with the fingerprint.
    """
    if fingerprint not in _present and cache.find_panel(fingerprint) is not None:
        _present.add(fingerprint)
    return fingerprint in _present


def keep(copy: PanelCopy) -> None:
    """Put arrived data into the cache of this process.

    Raises
    ------
    DataError
        When its content does not have its fingerprint.
    """
    if has_data(copy.fingerprint):
        return
    index = index_of(np.array(copy.stamps), copy.tz)
    fields = {name: np.ascontiguousarray(values) for name, values in copy.fields.items()}
    members = None if copy.members is None else np.ascontiguousarray(copy.members)
    features = {name: np.ascontiguousarray(values) for name, values in copy.features.items()}
    arrived = content_fingerprint(index, copy.symbols, fields, members, features)
    if arrived != copy.fingerprint:
        raise DataError(
            f"the data {copy.fingerprint} changed on its way to a worker: it arrived as {arrived}"
        )
    cache.store(
        Panel(
            index=index,
            symbols=copy.symbols,
            fields=fields,
            members=members,
            feature_arrays=features,
            fingerprint=copy.fingerprint,
        )
    )


def collect(task: ChunkTask) -> tuple[tuple[Row, ...], dict[str, bytes]]:
    """Return the rows and files that a task has left in its scratch folder, on the worker."""
    folder, row_bars = task.scratch.folder, task.scratch.row_bars
    wanted = [(run.index, run.run_key) for run in task.runs]
    wanted += [(row, key) for key, row in task.scratch.benchmark_rows.items()]
    rows: list[Row] = []
    for name in (RETURNS, *PER_BAR):
        path = array_file(folder, name)
        if path.exists():
            rows_in_file = open_rows(path, max(row for row, _ in wanted) + 1, row_bars)
            rows += [
                (name, row, key, np.array(rows_in_file[row, :-1]))
                for row, key in wanted
                if is_whole(rows_in_file[row], key)
            ]
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("runs", OWN_FILES)
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }
    return tuple(rows), files


def unpack(answer: Answer, task: ChunkTask) -> ChunkReply:
    """Return a reply as if its rows and files had been written here, and write them.

    They go into the first folder with room for all (the scratch folder, then its spares), as on
    this machine.
    """
    assert answer.reply is not None
    if answer.rows is None or answer.files is None:
        return answer.reply
    error = answer.reply.write_error
    for folder in () if error is not None else task.scratch.folders:
        try:
            _write(folder, answer, task)
        except OSError as failed:
            error = error or f"{failed.strerror or failed} ({folder})"
        else:
            return _with_folder(answer.reply, task, folder)
    lost = _with_folder(answer.reply, task, None)
    parts = tuple(replace(part, write_error=error) for part in lost.parts)
    return replace(lost, write_error=error, parts=parts)


def _write(folder: Path, answer: Answer, task: ChunkTask) -> None:
    task.scratch.make(folder)
    assert answer.rows is not None
    assert answer.files is not None
    for name in dict.fromkeys(row[0] for row in answer.rows):
        with row_writer(array_file(folder, name), task.scratch.row_bars) as write:
            for _, row, key, values in (item for item in answer.rows if item[0] == name):
                write(row, key, 0, values)
    for relative, content in answer.files.items():
        if ".." in PurePath(relative).parts or PurePath(relative).is_absolute():
            raise OSError(f"a worker has answered with a file called {relative}")
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _with_folder(reply: ChunkReply, task: ChunkTask, folder: Path | None) -> ChunkReply:
    """Return a reply whose folders are those of this machine."""
    if reply.parts:
        pairs = zip(reply.parts, task.parts, strict=False)
        return replace(reply, parts=tuple(_with_folder(part, one, folder) for part, one in pairs))
    results = tuple(
        replace(
            result,
            artifacts=None
            if result.artifacts is None or folder is None
            else files_folder(folder, run),
        )
        for result, run in zip(reply.results, task.runs, strict=False)
    )
    failure = reply.failure
    if failure is not None and failure.artifacts is not None:
        profile = None if folder is None else files_folder(folder, task.runs[0])
        failure = replace(failure, artifacts=profile)
    return replace(reply, results=results, failure=failure)
