"""What a worker receives, a chunk of runs and folders to write into, and what it answers."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backtest_batch.auditing.findings import AuditFindings, AuditSettings
from backtest_batch.core.construct import TARGET
from backtest_batch.ownership import make_own_folder
from backtest_batch.records import RunFailure, RunResult, RunSpec

RETURNS = "returns"
"""Name of the array of net returns."""


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Folders in which workers leave what is too large to send back.

    Attributes
    ----------
    folder
        Folder of the batch's working files.
    row_bars
        Values in a row of an array of bars: the bars of the longest data of the batch.
    benchmark_rows
        Row of each benchmark in an array of bars, by benchmark key; run i has row i. The empty
        key, of runs without a benchmark, has none.
    spares
        Folders to use when ``folder`` is full, the preferred one first; made when needed.
    """

    folder: Path
    row_bars: int
    benchmark_rows: Mapping[str, int]
    spares: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folder and its spares."""
        return (self.folder, *self.spares)

    def make(self, folder: Path) -> None:
        """Make one of its folders if it does not exist.

        Raises
        ------
        OSError
            When it cannot be made, or a spare folder is not private to this user.
        """
        make_working_folder(folder, is_spare=folder != self.folder)

    def of(self, runs: Sequence[RunSpec]) -> "Scratch":
        """Return the part of it that the workers of some runs need."""
        keys = {run.benchmark_key for run in runs if run.benchmark_key}
        return replace(self, benchmark_rows={key: self.benchmark_rows[key] for key in keys})


def make_working_folder(folder: Path, *, is_spare: bool) -> None:
    """Make a folder of working files; see :meth:`Scratch.make`."""
    if is_spare:
        # It lies in a folder of this package in the cache or the temporary folder.
        make_own_folder(folder, above=2)
    else:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def array_file(folder: Path, name: str) -> Path:
    """Return the file of an array of bars: one row per run, then one a benchmark."""
    return folder / f"{name}.dat"


def files_folder(folder: Path, run: RunSpec) -> Path:
    """Return the folder of one run's files."""
    return folder / "runs" / run.run_id


@dataclass(frozen=True, kw_only=True)
class ChunkTask:
    """What a worker is asked to do.

    Attributes
    ----------
    runs
        Runs that share data, strategy, rebalance dates and first bar; or those of several such
        chunks, one after the other.
    scratch
        Where results go.
    with_files
        Indices of the runs whose files are written.
    profile
        Whether to profile; a profiled chunk holds one run.
    provenance
        Facts of the machine and the code, for run.json.
    with_rows
        Whether returns are written; not when a run is computed again just for its files.
    sizes
        Numbers of runs of the chunks that are sent together; empty for one chunk.
    signatures
        The user's signatures for run.json, by run_id: workers elsewhere do not have the user's key.
    objects
        Strategies that no file holds, by value; see :mod:`.live`.
    attempt
        Which attempt this is, counted from 1.
    audit
        How the strategy of the one run is audited, which is then not computed; None to compute.
    """

    runs: tuple[RunSpec, ...]
    scratch: Scratch
    with_files: frozenset[int]
    profile: bool
    provenance: Mapping[str, Any]
    with_rows: bool = True
    sizes: tuple[int, ...] = ()
    signatures: Mapping[str, str] = field(default_factory=dict)
    objects: Mapping[str, bytes] = field(default_factory=dict)
    attempt: int = 1
    audit: AuditSettings | None = None

    @property
    def parts(self) -> "Iterator[ChunkTask]":
        """The chunks that are sent together, each as a separate task."""
        runs = iter(self.runs)
        for size in self.sizes:
            yield replace(self, runs=tuple(itertools.islice(runs, size)), sizes=())


@dataclass(frozen=True, kw_only=True)
class ChunkReply:
    """What a worker answers: one outcome per run, or one failure of the whole chunk.

    Attributes
    ----------
    results
        One per run, in the order of the task; empty after a failure.
    failure
        Why the chunk has no results.
    permanent
        Whether the failure can never turn into a success (invalid configuration or data).
    write_error
        Why returns and files could not be written in any folder, or None.
    spent
        Whether the runs left their process in a state that the next ones must not inherit.
    benchmarks
        Metrics of the benchmarks by benchmark key.
    started_ms, ended_ms
        Milliseconds since the epoch.
    parts
        The replies to chunks that were sent together; the other fields are then empty. Fewer than
        the chunks if one of them left the process spent.
    audit
        What the audit found, if one was asked for; the result of the run is then empty.
    """

    results: tuple[RunResult, ...] = ()
    failure: RunFailure | None = None
    permanent: bool = False
    write_error: str | None = None
    spent: bool = False
    benchmarks: Mapping[str, Mapping[str, float]]
    started_ms: int
    ended_ms: int
    parts: "tuple[ChunkReply, ...]" = ()
    audit: AuditFindings | None = None


def targets_of(runs: Sequence[RunSpec]) -> list[str]:
    """Return the import paths of the strategies of some runs and of their benchmarks."""
    nodes = [node for run in runs for node in (run.config["strategy"], run.benchmark.node)]
    return list(dict.fromkeys(str(node[TARGET]) for node in nodes if node is not None))


def benchmark_rows(runs: Sequence[RunSpec], n_rows: int | None = None) -> dict[str, int]:
    """Return the row of each distinct benchmark in returns.dat, after the rows of the runs.

    Parameters
    ----------
    runs
        The runs.
    n_rows
        Rows that are kept for runs, where more may follow; by default as many as there are.
    """
    keys = dict.fromkeys(run.benchmark_key for run in runs if run.benchmark_key)
    first = len(runs) if n_rows is None else n_rows
    return {key: first + position for position, key in enumerate(keys)}
