"""The folders of a batch."""

import contextlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backtest_batch.arrays import FloatArray
from backtest_batch.core.data.cache import own_cache_dir
from backtest_batch.errors import ConfigurationError
from backtest_batch.ownership import (
    is_free_or_own,
    is_own_folder,
    make_own_folder,
    make_private,
    remove_links,
    replace_text,
    temporary_folder_name,
)
from backtest_batch.records import RunSpec
from backtest_batch.rows import copy_rows, copy_rows_to, open_rows
from backtest_batch.store.process import host_name, lives, this_process
from backtest_batch.workers.chunks import RETURNS, Scratch, array_file

BATCH_CONFIG = "batch_config.yaml"
"""How a batch was requested; enough to compose it again."""


def new_batch_id() -> str:
    """Return a batch_id: the UTC time and six random hexadecimal digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


_BATCH_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")


def is_batch_id(text: Any) -> bool:
    """Return whether a text that came from a store or a file can be a batch_id.

    Batch ids name folders: nothing else may become one.
    """
    return isinstance(text, str) and _BATCH_ID.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where a batch puts its files.

    Attributes
    ----------
    output_dir
        What remains: reports and logs.
    scratch
        What workers leave for the parent; removed when nothing is left to resume.
    pointer
        The folder in which the batch is found from the working directory when its output folder is
        elsewhere; removed with the scratch folder. None if it is the output folder itself.
    keys
        The key of each row of an array of bars: the run keys, then the benchmark keys. Empty for
        rows that are kept for runs which are not known yet.
    made
        Folders that did not exist before, the deepest first.
    is_new
        Whether no earlier attempt at the batch has left working files.
    """

    output_dir: Path
    scratch: Scratch
    keys: tuple[str, ...]
    pointer: Path | None = None
    made: tuple[Path, ...] = ()
    is_new: bool = True

    @property
    def logs(self) -> Path:
        """Folder of the log files."""
        return self.output_dir / "logs"

    @property
    def start_files(self) -> Path:
        """Folder of the files that are recorded when the batch begins."""
        return self.scratch.folder / "start"

    @property
    def reports(self) -> Path:
        """Folder in which the reports are made, before they are recorded and moved."""
        spares = (spare / "reports" for spare in self.scratch.spares)
        return next((spare for spare in spares if spare.is_dir()), self.scratch.folder / "reports")

    def extended(
        self, runs: Sequence[RunSpec], benchmark_rows: Mapping[str, int], n_rows: int
    ) -> "Workspace":
        """Return the same folders for more runs.

        Parameters
        ----------
        runs
            All runs that are known.
        benchmark_rows
            Row of each benchmark.
        n_rows
            Rows that are kept for runs.
        """
        row_bars = max(run.n_bars for run in runs)
        scratch = replace(self.scratch, row_bars=row_bars, benchmark_rows=benchmark_rows)
        return replace(self, scratch=scratch, keys=row_keys(runs, benchmark_rows, n_rows))

    def move_rows(self, to: "Workspace") -> None:
        """Move what is written to where another workspace, of the same folders, looks for it.

        Rows are lost where the disk is full; :func:`.rows.is_whole` tells which.
        """
        places = {key: row for row, key in enumerate(to.keys) if key}
        stay = all(not key or places.get(key) == row for row, key in enumerate(self.keys))
        if stay and self.scratch.row_bars == to.scratch.row_bars:
            return
        self.gather()
        names = {file.name for folder in self.scratch.folders for file in folder.glob("*.dat")}
        for name in names:
            source = self._array_file(name.removesuffix(".dat"))
            moved = source.with_suffix(".moved")
            rows = [(row, places[key], key) for row, key in enumerate(self.keys) if key in places]
            with contextlib.suppress(OSError):
                bars = (self.scratch.row_bars, to.scratch.row_bars)
                copy_rows_to(source, moved, rows, bars)
                moved.replace(source)

    def array(self, name: str, n_rows: int) -> FloatArray:
        """Map an array of bars read-only, shape (n_rows, row_bars)."""
        rows = open_rows(self._array_file(name), n_rows, self.scratch.row_bars)
        return rows[:, :-1]

    def returns(self, n_rows: int) -> FloatArray:
        """Map the net returns read-only, shape (n_rows, row_bars)."""
        return self.array(RETURNS, n_rows)

    def whole_rows(self, name: str, n_rows: int) -> FloatArray:
        """Map an array of bars with its marks, shape (n_rows, row_bars + 1)."""
        return open_rows(self._array_file(name), n_rows, self.scratch.row_bars)

    @property
    def is_spread(self) -> bool:
        """Whether rows are in other folders than the scratch folder."""
        return any(file for spare in self.scratch.spares for file in spare.glob("*.dat"))

    def gather(self) -> None:
        """Collect rows that are spread over several folders in one of them.

        If that is full, too, rows are lost; :func:`.rows.is_whole` tells which.
        """
        names = {file.name for spare in self.scratch.spares for file in spare.glob("*.dat")}
        for name in names:
            files = [folder / name for folder in self.scratch.folders if (folder / name).exists()]
            for source in files[:-1]:
                with contextlib.suppress(OSError):
                    copy_rows(source, files[-1], enumerate(self.keys), self.scratch.row_bars)

    def make_spare_reports(self) -> bool:
        """Make another folder for the reports when theirs is full; return whether that worked."""
        for spare in self.scratch.spares:
            with contextlib.suppress(OSError):
                self.scratch.make(spare)
                (spare / "reports").mkdir(exist_ok=True)
                return True
        return False

    def close(self) -> None:
        """Remove the scratch folders."""
        for folder in self.scratch.folders:
            shutil.rmtree(folder, ignore_errors=True)
        if self.pointer is not None:
            with contextlib.suppress(OSError):
                (self.pointer / BATCH_CONFIG).unlink(missing_ok=True)
                for folder in (self.pointer, *self.pointer.parents[:2]):
                    folder.rmdir()  # as long as nothing else is in it

    def discard(self) -> None:
        """Remove what a new batch has made; a folder that was there before keeps its content."""
        if not self.is_new:
            return
        self.close()
        if self.output_dir in self.made:
            shutil.rmtree(self.output_dir, ignore_errors=True)
        for folder in self.made:
            with contextlib.suppress(OSError):  # somebody has added files meanwhile
                folder.rmdir()

    def _array_file(self, name: str) -> Path:
        files = [array_file(folder, name) for folder in self.scratch.folders]
        return next((file for file in reversed(files) if file.exists()), files[0])


def default_output_dir(batch_id: str) -> Path:
    """Return the folder of a batch whose output_dir is not set."""
    return Path("mlruns", "batches", batch_id).absolute()


_SCRATCH = ".scratch-"


def scratch_folder(output_dir: Path, batch_id: str) -> Path:
    """Return the folder of a batch's working files."""
    return output_dir / f"{_SCRATCH}{batch_id}"


_PROCESS = "process.json"
"""The process that made a folder of working files, or resumed its batch."""
_NAMELESS_SECONDS = 3600.0
"""A folder that names no process counts as left by a dead one from this age on."""


def remove_abandoned(output_dir: Path) -> None:
    """Remove working folders of batches that were killed before they could be resumed.

    This looks into ``output_dir`` and the batches of the working directory. A folder is removed if
    it holds neither batch_config.yaml nor a result, and the process that made it is dead.
    """
    with contextlib.suppress(OSError):
        for scratch in list(output_dir.glob(f"{_SCRATCH}*")):
            if is_batch_id(scratch.name.removeprefix(_SCRATCH)) and _is_abandoned(scratch):
                shutil.rmtree(scratch, ignore_errors=True)
    with contextlib.suppress(OSError):
        for folder in list(default_output_dir("x").parent.iterdir()):
            scratch = scratch_folder(folder, folder.name)
            if is_batch_id(folder.name) and _is_abandoned(scratch):
                shutil.rmtree(scratch, ignore_errors=True)
                with contextlib.suppress(OSError):  # what is not empty stays
                    (folder / "logs").rmdir()
                    folder.rmdir()


def _is_abandoned(scratch: Path) -> bool:
    if not is_own_folder(scratch) or (scratch / "start" / BATCH_CONFIG).exists():
        return False
    for path in scratch.rglob("*"):
        first = path.relative_to(scratch).parts[0]
        is_known = first in ("start", _PROCESS) or first.startswith(f".{_PROCESS}.")
        if not is_known and not path.is_dir():
            return False
    try:
        process = json.loads((scratch / _PROCESS).read_text(encoding="utf-8"))
        host, pid, started = (str(process[name]) for name in this_process().tags)
    except FileNotFoundError:  # killed between two system calls
        return time.time() - scratch.lstat().st_mtime > _NAMELESS_SECONDS
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return host == host_name() and not lives(pid, started)


def spare_folders(batch_id: str) -> tuple[Path, ...]:
    """Return the folders to use when the output folder is full.

    They are made when they are needed. Folders made by somebody else are left out.
    """
    own = own_cache_dir()
    bases = (*(() if own is None else (own,)), temporary_folder_name())
    folders = (base / "backtest_batch-scratch" / batch_id for base in bases)
    return tuple(folder for folder in folders if is_free_or_own(folder, above=2))


def open_workspace(
    batch_id: str,
    output_dir: Path,
    runs: Sequence[RunSpec],
    benchmark_rows: Mapping[str, int],
    n_rows: int | None = None,
) -> Workspace:
    """Make the folders of a batch.

    Parameters
    ----------
    batch_id, output_dir
        The batch, and where its reports go.
    runs, benchmark_rows
        Its runs, and the row of each benchmark in an array of bars.
    n_rows
        Rows that are kept for runs, where more may follow.

    Raises
    ------
    ConfigurationError
        When they cannot be made.
    """
    made = tuple(folder for folder in (output_dir, *output_dir.parents) if not folder.exists())
    scratch = Scratch(
        folder=scratch_folder(output_dir, batch_id),
        row_bars=max(run.n_bars for run in runs),
        benchmark_rows=benchmark_rows,
        spares=spare_folders(batch_id),
    )
    keys = row_keys(runs, benchmark_rows, len(runs) if n_rows is None else n_rows)
    workspace = Workspace(
        output_dir=output_dir,
        scratch=scratch,
        keys=keys,
        pointer=None
        if output_dir == default_output_dir(batch_id)
        else default_output_dir(batch_id),
        made=made,
        is_new=not scratch.folder.exists(),
    )
    try:
        if not workspace.is_new:
            make_private(scratch.folder)
        output_dir.mkdir(parents=True, exist_ok=True)
        make_own_folder(scratch.folder)
        replace_text(scratch.folder / _PROCESS, json.dumps(this_process().tags))
        remove_links(scratch.folder)
        for name in ("runs", "start", "reports"):
            (scratch.folder / name).mkdir(exist_ok=True)
        if workspace.logs.is_symlink():
            workspace.logs.unlink()
        workspace.logs.mkdir(exist_ok=True)
        remove_links(workspace.logs)
    except OSError as error:
        workspace.discard()
        raise unwritable(output_dir, error) from error
    return workspace


def row_keys(
    runs: Sequence[RunSpec], benchmark_rows: Mapping[str, int], n_rows: int
) -> tuple[str, ...]:
    """Return the key of each row of an array of bars; empty for a row that is kept for a run."""
    kept = ("",) * (n_rows - len(runs))
    return (*(run.run_key for run in runs), *kept, *benchmark_rows)


def unwritable(output_dir: Path, error: OSError) -> ConfigurationError:
    """Return the error when a batch cannot begin because its folder cannot be written."""
    return ConfigurationError(
        f"output_dir={output_dir}: cannot be written ({error.strerror or error}); nothing was run. "
        "Choose another folder with output_dir=..."
    )
