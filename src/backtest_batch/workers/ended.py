"""What has been computed, written down by the worker that computed it before it does anything else.

A worker answers with several results at once, and the store takes them in groups. A batch that is
killed in between would lose what was not yet recorded, and a user's own backtest may take long, or
ask a service that counts the questions. So each worker adds its results to a file of its own in
the folder of working files, where resume finds them.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backtest_batch.records import RunRecord, RunResult, RunSpec, fields_of, record_of
from backtest_batch.values import json_value
from backtest_batch.workers.chunks import ChunkReply, ChunkTask, files_folder

WORTH_SECONDS = 0.005
"""A run of target weights that takes less is computed again sooner than it is written and read."""

_BENCHMARK, _RUN = "benchmark", "run"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What the workers of an earlier attempt wrote down.

    Attributes
    ----------
    records
        Finished runs by run key.
    benchmarks
        Metrics of their benchmarks, by benchmark key.
    """

    records: Mapping[str, RunRecord] = field(default_factory=dict)
    benchmarks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def write_ended(folder: Path, task: ChunkTask, reply: ChunkReply) -> None:
    """Write down the results of a chunk; on a full disk they are not, and may be lost.

    Parameters
    ----------
    folder
        The folder that holds the returns and files of the runs.
    task, reply
        The chunk, and the answer that is about to be given.
    """
    worth = [
        (run, result)
        for run, result in zip(task.runs, reply.results, strict=True)
        if run.strategy_kind == "account" or result.runtime_s >= WORTH_SECONDS
    ]
    if not worth:
        return
    lines: list[Any] = [[_BENCHMARK, key, dict(item)] for key, item in reply.benchmarks.items()]
    for run, result in worth:
        values = {
            "attempts": task.attempt,
            "started_ms": reply.started_ms,
            "ended_ms": reply.ended_ms,
            "result": fields_of(result) | {"artifacts": result.artifacts is not None},
        }
        lines.append([_RUN, run.run_key, values])
    # A crash may have cut off the line before.
    text = "".join(f"\n{json.dumps(line, default=json_value)}" for line in lines) + "\n"
    with contextlib.suppress(OSError), (folder / f"ended-{os.getpid()}.jsonl").open("ab") as file:
        file.write(text.encode())


def read_ended(folders: Sequence[Path], runs: Mapping[str, RunSpec]) -> Ended:
    """Return what the workers of an earlier attempt wrote down; damaged lines are left out.

    Parameters
    ----------
    folders
        The folders of working files.
    runs
        The runs of the batch by run key; others do not count.
    """
    records: dict[str, RunRecord] = {}
    benchmarks: dict[str, Mapping[str, float]] = {}
    for folder in folders:
        for file in sorted(folder.glob("ended-*.jsonl")):
            for line in _lines(file):
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    kind, key, values = json.loads(line)
                    if kind == _BENCHMARK:
                        benchmarks[key] = {str(name): float(item) for name, item in values.items()}
                    elif kind == _RUN and key in runs:
                        record = _record(runs[key], values, folder)
                        if record is not None:
                            records[key] = record
    return Ended(records=records, benchmarks=benchmarks)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _record(run: RunSpec, values: Mapping[str, Any], folder: Path) -> RunRecord | None:
    fields = dict(values["result"])
    has_files = bool(fields.pop("artifacts"))
    result = record_of(RunResult, fields)
    if has_files:
        result = replace(result, artifacts=files_folder(folder, run))
    return RunRecord(
        spec=run,
        outcome=result,
        attempts=int(values["attempts"]),
        started_ms=int(values["started_ms"]),
        ended_ms=int(values["ended_ms"]),
    )
