"""The end of a batch: its reports, its parent run, its timings, its summary, its exit code."""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from backtest_batch.batch.extras import spool_extras
from backtest_batch.batch.files import benchmark_metrics, verdict_fails, write_reports
from backtest_batch.batch.judging import Compared, compare, record_walk
from backtest_batch.batch.log import Stopwatch
from backtest_batch.batch.provenance import dataset_info
from backtest_batch.batch.resume import make_spool_folder, remove_spool_folder, spool_folders
from backtest_batch.batch.session import Session
from backtest_batch.errors import SelectionError, StoreError
from backtest_batch.interrupt import finished, heed
from backtest_batch.records import RunFailure, RunRecord, RunResult, Status
from backtest_batch.report.markdown import skill_columns
from backtest_batch.report.terminal import batch_lines, print_leaderboard
from backtest_batch.store.artifacts import MovedFiles, local_folder
from backtest_batch.store.spool import Spool, record_spool
from backtest_batch.streams import say, tell
from backtest_batch.workers.run_files import write_json


def end_parent(
    session: Session,
    status: Status,
    *,
    metrics: Mapping[str, float] | None = None,
    artifacts: Path | None = None,
    note: str = "",
) -> str:
    """End the parent run, or keep on disk what the store does not accept.

    Returns
    -------
    str
        Empty, or the message when something could not be recorded.
    """
    recording = session.recording
    try:
        if recording.error is not None or recording.unrecorded:
            raise recording.error or StoreError("Recording ended early.")
        recording.require_open().finish_parent(
            status, tags=session.counts(), metrics=metrics, artifacts=artifacts, note=note
        )
        recording.require_open().store.require_whole()
    except StoreError as error:
        store = recording.require_open().store
        begun_anew = store.is_gone or store.is_damaged
        if begun_anew:
            _take_back(session)
        spooled = spool(session, status, metrics=metrics, artifacts=artifacts, note=note)
        lost = len(recording.unrecorded)
        if spooled is None:
            return (
                f"{error}\n{lost} results are lost: no folder can be written to keep them. "
                f"Compute them again: python -m backtest_batch resume={session.batch_id}\n"
            )
        if _recorded_now(spooled, session):
            if begun_anew:
                say(f"{error} The store that is there now has all {lost} runs of the batch.\n")
            return ""
        return (
            f"{error}\n{lost} runs are computed but not recorded; they are kept in {spooled}.\n"
            f"To record them: python -m backtest_batch resume={session.batch_id}\n"
        )
    return ""


def spool(
    session: Session,
    status: Status,
    *,
    metrics: Mapping[str, float] | None,
    artifacts: Path | None,
    note: str,
) -> Path | None:
    """Keep what the store did not accept in a folder, and return it; None when none can be made."""
    recording = session.recording
    assert recording.recorder is not None
    for folder in spool_folders(session.batch_id, session.workspace.output_dir):
        try:
            make_spool_folder(folder)
            filled = Spool(
                folder,
                store_uri=recording.recorder.store.uri,
                experiment=recording.recorder.store.experiment,
                batch=recording.recorder.batch,
                parent_run_id=recording.recorder.parent_run_id,
                dataset=dataset_info(session.plan),
            )
            for record in recording.unrecorded:
                filled.add(record)
            spool_extras(filled, session.extras)
            # Even if the parent run has them: the store may have to be created again.
            if session.workspace.start_files.is_dir():
                shutil.copytree(
                    session.workspace.start_files, folder / "parent", dirs_exist_ok=True
                )
            filled.finish(
                status, tags=session.counts(), metrics=metrics, artifacts=artifacts, note=note
            )
        except OSError:
            _give_back(folder, recording.unrecorded)
            continue
        return folder
    return None


def _take_back(session: Session) -> None:
    """Treat every run as unrecorded: the store is lost, but their files are not.

    The batch is then recorded anew, with the files that it began with.
    """
    recording = session.recording
    recorder = recording.recorder
    assert recorder is not None
    known = {record.spec.run_key for record in recording.unrecorded}
    lost = []
    root = local_folder(recorder.store.artifact_location)
    for record in session.in_order:
        run_id = recording.recorded.get(record.spec.run_key)
        if record.spec.run_key in known or record.outcome is None:
            continue
        folder = None if root is None or run_id is None else root / run_id / "artifacts"
        has_files = folder is not None and folder.is_dir()
        outcome = replace(record.outcome, artifacts=folder if has_files else None)
        if isinstance(outcome, RunFailure) and folder is not None:
            outcome = replace(
                outcome,
                traceback=_text(folder / "traceback.txt"),
                log=_text(folder / "log.txt"),
            )
        lost.append(replace(record, outcome=outcome))
    recording.count_as_unrecorded(lost)
    session.take_back_extras()
    recorder.parent_run_id = None


def _text(file: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return file.read_text(encoding="utf-8")
    return ""


def _give_back(spool_folder: Path, records: Sequence[RunRecord]) -> None:
    """Move the files of runs back from a spool that could not be completed."""
    for record in records:
        folder = None if record.outcome is None else record.outcome.artifacts
        moved = spool_folder / "runs" / record.spec.run_id / "artifacts"
        if folder is not None and moved.is_dir():
            with contextlib.suppress(OSError):
                MovedFiles().move(moved, folder)
    remove_spool_folder(spool_folder)


def _recorded_now(spooled: Path, session: Session) -> bool:
    """Return whether the store, which may be back, now accepts what it refused before."""
    recorder = session.recording.recorder
    assert recorder is not None
    try:
        record_spool(spooled, store_uri=recorder.store.uri)
    except (StoreError, SelectionError, OSError):
        return False
    session.recording.count_as_recorded()
    return True


MARKS = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}


def timings(records: Sequence[RunRecord], watch: Stopwatch, n_jobs: int) -> dict[str, Any]:
    """Return where the time of a batch went, in seconds.

    Parameters
    ----------
    records
        The runs that this command computed.
    watch
        Seconds by stage: configuration (from the start of the process), planning, execution,
        recording (after the last run has ended), comparison, audit, report.
    n_jobs
        Number of workers.

    Returns
    -------
    dict
        stages_s; stages_cpu_s, the processor time of the command itself, whose threads open the
        store and record while workers compute; total_s; n_runs; n_jobs; run_runtime_s, the sum
        and quantiles of the finished runs; worker_busy_s, the time that workers spent on runs,
        and worker_cpu_s, their processor time; computing_s, from the first run that was handed to
        a worker to the last result, which leaves out how long workers take to start and the store
        to open; parallel_efficiency, worker_busy_s over n_jobs times the execution stage. The last
        two are None where nothing was computed. Runs computed together share their time evenly.
    """
    finished = [record.outcome for record in records if isinstance(record.outcome, RunResult)]
    runtimes = np.array([result.runtime_s for result in finished])
    failed = [record for record in records if not isinstance(record.outcome, RunResult)]
    busy = float(runtimes.sum()) + sum(item.ended_ms - item.started_ms for item in failed) / 1000
    possible = n_jobs * watch.seconds.get("execution", 0.0)
    quantiles = {
        name: float(np.quantile(runtimes, mark)) for name, mark in MARKS.items() if len(runtimes)
    }
    return {
        "stages_s": dict(watch.seconds),
        "stages_cpu_s": dict(watch.cpu_seconds),
        "total_s": sum(watch.seconds.values()),
        "n_runs": len(records),
        "n_jobs": n_jobs,
        "run_runtime_s": {"sum": float(runtimes.sum()), **quantiles},
        "worker_busy_s": busy,
        "worker_cpu_s": sum(result.cpu_s for result in finished),
        "computing_s": _computing_s(records),
        "parallel_efficiency": busy / possible if possible and records else None,
    }


def _computing_s(records: Sequence[RunRecord]) -> float | None:
    if not records:
        return None
    first = min(record.started_ms for record in records)
    return (max(record.ended_ms for record in records) - first) / 1000


NOT_RECORDED = 3
"""Exit code of a batch that was computed but is not completely recorded."""


def finish(session: Session, compared: Compared, watch: Stopwatch) -> int:
    """Write the reports, end the parent run, and return the exit code."""
    problem = _make_reports(session, compared, watch)
    folder = session.workspace.reports
    lost = _lost(session)
    with watch.stage("recording"):
        unwalked = record_walk(session, compared)
    stopped = session.is_cut_short
    status: Status = "FAILED" if stopped else "KILLED" if lost or problem else "FINISHED"
    summary = folder / "batch_summary.md"
    # From here on the batch is as complete as it can be, and a signal would only spoil it.
    heed()
    unrecorded = end_parent(
        session,
        status,
        metrics=benchmark_metrics(session, compared.conclusion),
        artifacts=folder,
        note=summary.read_text(encoding="utf-8") if summary.exists() else "",
    )
    problem = problem or publish(folder, session.workspace.output_dir)
    refused = verdict_fails(session, compared.conclusion)
    # Resuming the rest needs the returns of the finished runs.
    if not (session.failed or stopped or lost or problem):
        session.workspace.close()
    problems = [text for text in (problem, lost, unwalked, unrecorded) if text]
    code = NOT_RECORDED if problems else 1 if session.failed or stopped or refused else 0
    finished(code)
    for text in (*problems, refused, _stopped(session)):
        say(text)
    return code


def _make_reports(session: Session, compared: Compared, watch: Stopwatch) -> str:
    """Write the reports, elsewhere when the disk is full; return the reason if that failed."""
    try:
        try:
            _write(session, compared, watch)
        except OSError:
            if not session.workspace.make_spare_reports():
                raise
            _write(session, compared, watch)
    except OSError as error:
        return (
            f"The reports cannot be written: {error.strerror or error}. The runs are kept; to "
            f"compare them: python -m backtest_batch resume={session.batch_id}\n"
        )
    return ""


def _write(session: Session, compared: Compared, watch: Stopwatch) -> None:
    with watch.stage("report"):
        write_reports(session, compared, watch)
    known = set() if session.earlier is None else session.earlier.run_ids.keys()
    computed = [item for item in session.in_order if item.spec.run_key not in known]
    document = timings(computed, watch, session.config["n_jobs"])
    write_json(session.workspace.reports / "batch_timings.json", document)


def publish(folder: Path, output_dir: Path) -> str:
    """Move the reports into the output folder; return the reason if that failed."""
    moved = []
    try:
        for file in sorted(folder.iterdir()):
            _move(file, output_dir / file.name)
            moved.append(file.name)
    except OSError as error:
        return (
            f"The reports cannot be moved to {output_dir}: {error.strerror or error}. "
            f"{'The others' if moved else 'They'} are in {folder}\n"
        )
    return ""


def _move(file: Path, target: Path) -> None:
    try:
        file.replace(target)
    except OSError:  # another disk
        try:
            target.unlink(missing_ok=True)  # may be a link to another folder
            target.write_bytes(file.read_bytes())
        except OSError:
            with contextlib.suppress(OSError):
                target.unlink()
            raise
        file.unlink()


def _stopped(session: Session) -> str:
    """Return the message about runs that were not computed because one failed."""
    left, total = len(session.pending), len(session.plan.runs)
    if not session.is_cut_short:
        return ""
    if session.searches:
        return (
            "on_failure=stop: the search ended early. "
            f"To go on: python -m backtest_batch resume={session.batch_id} on_failure=continue\n"
        )
    return (
        f"on_failure=stop: {left} of {total} runs were not computed. "
        f"To compute them: python -m backtest_batch resume={session.batch_id} on_failure=continue\n"
    )


def _lost(session: Session) -> str:
    """Return the message about runs whose returns or files are missing."""
    if not session.unwritten:
        return ""
    reason = next(iter(session.unwritten.values()))
    return (
        f"The returns and files of {len(session.unwritten)} runs are missing: {reason}. "
        "Their metrics are recorded. To compute the rest again: "
        f"python -m backtest_batch resume={session.batch_id}\n"
    )


def print_summary(session: Session, compared: Compared, output: TextIO) -> None:
    """Write the leaderboard, the verdict, and where to look further."""
    conclusion = compared.conclusion
    print_leaderboard(
        conclusion.table,
        conclusion.ranked,
        conclusion.ranking,
        top_n=session.config["top_n"],
        verdict=conclusion.sentence,
        notes=conclusion.notes,
        extra=skill_columns(conclusion),
        heading=batch_lines(conclusion.table, conclusion.differences),
        file=output,
    )
    if compared.walk_sentences:
        tell("\nWalk-forward. " + "\n  ".join(compared.walk_sentences) + "\n", output)
    lines = [f"Reports: {session.workspace.output_dir}"]
    recorder = session.recording.recorder
    if recorder is not None:
        lines += [
            f"Browse:  {recorder.store.ui_command}",
            f"Filter:  tags.batch_id = '{session.batch_id}' and tags.batch_role = 'run'",
        ]
    tell("\n" + "\n".join(lines) + "\n", output)


__all__ = ["Compared", "compare", "end_parent", "finish", "print_summary", "publish"]
