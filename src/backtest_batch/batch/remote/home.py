"""Send back what a worker wrote into a folder that the command cannot read."""

from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from backtest_batch.batch.chunks import RETURNS, ChunkReply, ChunkTask, array_file, files_folder
from backtest_batch.batch.remote.messages import Answer, Row
from backtest_batch.batch.rows import is_whole, open_rows, row_writer
from backtest_batch.comparison.walk_forward.runs import PER_BAR


def collect(task: ChunkTask) -> tuple[tuple[Row, ...], dict[str, bytes]]:
    """Return the rows and the files that a task has left in its scratch folder, on the worker."""
    folder, row_bars = task.scratch.folder, task.scratch.row_bars
    wanted = [(run.index, run.run_key) for run in task.runs]
    wanted += [(row, key) for key, row in task.scratch.benchmark_rows.items()]
    rows: list[Row] = []
    for name in (RETURNS, *PER_BAR):
        path = array_file(folder, name)
        if path.exists():
            held = open_rows(path, max(row for row, _ in wanted) + 1, row_bars)
            rows += [
                (name, row, key, np.array(held[row, :-1]))
                for row, key in wanted
                if is_whole(held[row], key)
            ]
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "runs").rglob("*"))
        if path.is_file()
    }
    return tuple(rows), files


def unpack(answer: Answer, task: ChunkTask) -> ChunkReply:
    """Return a reply as if its rows and files had been written here, and write them.

    They go into the first of the scratch folder and its spares that takes them all, as a worker
    on this machine would do it.
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
