"""The returns of all runs of a batch, and notes that ``resume`` needs and the store lacks.

The store does not hold metrics of benchmarks, nor those of the training windows of fitted
strategies, nor which runs lack files that could not be written. These are notes in the folder of
the batch.
"""

import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.data.panel import Panel, release_pages
from backtest_batch.records import RunSpec
from backtest_batch.store.folders import Workspace
from backtest_batch.workers.chunks import make_working_folder

_CELLS_AT_ONCE = 20_000_000
"""Values written at once, 160 MB; a larger file has several row groups."""
_ROWS_MAPPED = 1_000
"""Rows mapped before their pages are released: the system maps more than is read."""


@dataclass(frozen=True, kw_only=True)
class BatchReturns:
    """Net returns on the bars of all data sets of a batch.

    Attributes
    ----------
    index
        Timestamps, shape (n_bars,); in UTC if the time zones of the data differ.
    rows
        Net returns of shape (n_runs + n_benchmarks, n_bars), NaN where there is none; run i has
        row i. Mapped from the file where the data share their bars.
    benchmark_row
        Row of each run's benchmark, None without one, shape (n_runs,).
    calendars
        Which bars the data have, one row for data that have the same, shape (n_calendars, n_bars);
        empty where all data have all bars.
    calendar_of
        Row of ``calendars`` of each run, shape (n_runs,), or empty.
    bars_of
        Where the bars of each data set are in ``index``, by its fingerprint; empty where runs read
        their own data.
    """

    index: pd.DatetimeIndex
    rows: FloatArray
    benchmark_row: tuple[int | None, ...]
    calendars: BoolArray = field(default_factory=lambda: np.empty((0, 0), dtype=np.bool_))
    calendar_of: tuple[int, ...] = ()
    bars_of: Mapping[str, IntArray] = field(default_factory=dict)

    def of_benchmark(self, run: int) -> FloatArray | None:
        """Return the returns of a run's benchmark, shape (n_bars,); None without one."""
        row = self.benchmark_row[run]
        return None if row is None else self.rows[row]


def batch_returns(
    workspace: Workspace,
    runs: Sequence[RunSpec],
    panels: Mapping[str, Panel],
    lost: Collection[int] = (),
) -> BatchReturns:
    """Return the returns that the workers of a batch wrote.

    Parameters
    ----------
    workspace
        Where they are.
    runs
        The runs of the batch.
    panels
        Their data by fingerprint.
    lost
        Rows that could not be written; they are NaN.
    """
    benchmarks = workspace.scratch.benchmark_rows
    benchmark_row = tuple(benchmarks.get(run.benchmark_key) for run in runs)
    rows = workspace.returns(len(runs) + len(benchmarks))
    if lost:
        rows = np.array(rows)
        rows[list(lost)] = np.nan
    longest = max(panels.values(), key=lambda panel: panel.n_bars)
    if all(_begins_like(panel.index, longest.index) for panel in panels.values()):
        lengths = {key: np.arange(panel.n_bars) for key, panel in panels.items()}
        return _with_calendars(
            BatchReturns(index=longest.index, rows=rows, benchmark_row=benchmark_row),
            runs,
            lengths,
        )
    indexes = {key: _comparable(panel.index, panels) for key, panel in panels.items()}
    union = pd.DatetimeIndex(sorted(set().union(*indexes.values())))
    aligned = np.full((len(rows), len(union)), np.nan)
    positions = {key: union.get_indexer(index) for key, index in indexes.items()}
    for run, benchmark in zip(runs, benchmark_row, strict=True):
        for row in (run.index,) if benchmark is None else (run.index, benchmark):
            aligned[row, positions[run.data_fingerprint]] = rows[row, : run.n_bars]
    found = BatchReturns(index=union, rows=aligned, benchmark_row=benchmark_row)
    return _with_calendars(found, runs, positions)


def _with_calendars(
    returns: BatchReturns, runs: Sequence[RunSpec], positions: Mapping[str, IntArray]
) -> BatchReturns:
    """Add which bars the data of each run have, given their positions by fingerprint."""
    returns = replace(returns, bars_of=positions)
    n_bars = len(returns.index)
    if all(len(bars) == n_bars for bars in positions.values()):
        return returns
    # Data that have the same bars share one row.
    numbers: dict[bytes, int] = {}
    number_of = {
        key: numbers.setdefault(bars.tobytes(), len(numbers)) for key, bars in positions.items()
    }
    calendars = np.zeros((len(numbers), n_bars), dtype=np.bool_)
    for key, bars in positions.items():
        calendars[number_of[key], bars] = True
    return replace(
        returns,
        calendars=calendars,
        calendar_of=tuple(number_of[run.data_fingerprint] for run in runs),
    )


def write_returns(
    path: Path, returns: BatchReturns, columns: Mapping[str, int], benchmark: int | None
) -> None:
    """Write returns.parquet: timestamp, one column per run_id, and the benchmark.

    Parameters
    ----------
    path
        The file.
    returns
        The returns of the batch.
    columns
        Row of each column, by its name.
    benchmark
        Row of the benchmark, or None.
    """
    rows = dict(columns)
    if benchmark is not None:
        rows["benchmark"] = benchmark
    index = pa.array(returns.index)
    schema = pa.schema([("timestamp", index.type), *((name, pa.float64()) for name in rows)])
    bars = max(1, _CELLS_AT_ONCE // max(1, len(rows)))
    # Dictionaries and snappy would take three times the memory of the data while writing.
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for start in range(0, len(index), bars):
            part = slice(start, start + bars)
            arrays = [index[part]]
            for count, row in enumerate(rows.values()):
                if count % _ROWS_MAPPED == 0:
                    release_pages(returns.rows)
                # A copy: a view of the file would be read again when it is written.
                values = np.array(returns.rows[row, part])
                arrays.append(pa.array(values, from_pandas=True))
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _begins_like(index: pd.DatetimeIndex, longest: pd.DatetimeIndex) -> bool:
    return index.equals(longest[: len(index)])


def _comparable(index: pd.DatetimeIndex, panels: Mapping[str, Panel]) -> pd.DatetimeIndex:
    """Return timestamps that can be compared with those of the other data."""
    if len({str(panel.index.tz) for panel in panels.values()}) == 1:
        return index
    return index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")


NAME = "kept.jsonl"

Kind = Literal["benchmark", "in_sample", "unwritten"]


@dataclass(frozen=True)
class ResumeNotes:
    """What resume needs of a batch beyond its store, in a file with one line per item.

    Parameters
    ----------
    folders
        The folders that it may be in; all of them are read, and a line goes into the first that
        accepts it.
    """

    folders: Sequence[Path]

    def add(self, kind: Kind, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Add items by key; on a full disk they are lost, and will be computed again."""
        text = "".join(f"{json.dumps([kind, key, dict(item)])}\n" for key, item in values.items())
        for folder in self.folders if text else ():
            with contextlib.suppress(OSError):
                make_working_folder(folder, is_spare=folder != self.folders[0])
                # A crash may have cut off the line before.
                with (folder / NAME).open("a", encoding="utf-8") as file:
                    file.write(f"\n{text}")
                return

    def read(self, kind: Kind) -> dict[str, dict[str, Any]]:
        """Return the items of one kind by key."""
        found: dict[str, dict[str, Any]] = {}
        for folder in self.folders:
            with contextlib.suppress(OSError):
                for line in (folder / NAME).read_text(encoding="utf-8").splitlines():
                    with contextlib.suppress(ValueError):
                        name, key, values = json.loads(line)
                        if name == kind:
                            found[key] = values
        return found
