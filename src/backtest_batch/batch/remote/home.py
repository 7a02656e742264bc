"""Bring home what a worker wrote into a folder that the command does not see."""

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

    They go into the first place of the scratch folder and its spares that takes them all, as a
    worker on this machine would do it.
    """
    assert answer.reply is not None
    if answer.rows is None or answer.files is None:
        return answer.reply
    error = answer.reply.write_error
    for place in () if error is not None else task.scratch.places:
        try:
            _write(place, answer, task)
        except OSError as failed:
            error = error or f"{failed.strerror or failed} ({place})"
        else:
            return _placed(answer.reply, task, place)
    lost = _placed(answer.reply, task, None)
    parts = tuple(replace(part, write_error=error) for part in lost.parts)
    return replace(lost, write_error=error, parts=parts)


def _write(place: Path, answer: Answer, task: ChunkTask) -> None:
    task.scratch.make(place)
    assert answer.rows is not None
    assert answer.files is not None
    for name in dict.fromkeys(row[0] for row in answer.rows):
        with row_writer(array_file(place, name), task.scratch.row_bars) as write:
            for _, row, key, values in (item for item in answer.rows if item[0] == name):
                write(row, key, 0, values)
    for relative, content in answer.files.items():
        if ".." in PurePath(relative).parts or PurePath(relative).is_absolute():
            raise OSError(f"a worker has answered with a file called {relative}")
        target = place / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _placed(reply: ChunkReply, task: ChunkTask, place: Path | None) -> ChunkReply:
    """Let the folders of a reply be those of this machine."""
    if reply.parts:
        pairs = zip(reply.parts, task.parts, strict=False)
        return replace(reply, parts=tuple(_placed(part, one, place) for part, one in pairs))
    results = tuple(
        replace(
            result,
            artifacts=None
            if result.artifacts is None or place is None
            else files_folder(place, run),
        )
        for result, run in zip(reply.results, task.runs, strict=False)
    )
    failure = reply.failure
    if failure is not None and failure.artifacts is not None:
        folder = None if place is None else files_folder(place, task.runs[0])
        failure = replace(failure, artifacts=folder)
    return replace(reply, results=results, failure=failure)
