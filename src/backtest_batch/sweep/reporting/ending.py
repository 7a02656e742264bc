"""The end of a batch: its reports, its parent run, its exit code."""

import contextlib
from pathlib import Path

from backtest_batch.batch.files import write_json
from backtest_batch.interrupt import finished, heed
from backtest_batch.printing import say
from backtest_batch.records import Status
from backtest_batch.sweep.reporting.comparison import Compared
from backtest_batch.sweep.reporting.files import benchmark_metrics, verdict_fails, write_reports
from backtest_batch.sweep.reporting.parent import end_parent
from backtest_batch.sweep.reporting.timings import timings
from backtest_batch.sweep.reporting.walk_runs import record_walk
from backtest_batch.sweep.session import Session
from backtest_batch.sweep.stopwatch import Stopwatch

NOT_RECORDED = 3
"""Exit code of a batch that was computed but is not completely recorded."""


def finish(session: Session, compared: Compared, watch: Stopwatch) -> int:
    """Write the reports, end the parent run, and return the exit code."""
    problem = _make_reports(session, compared, watch)
    folder = session.workspace.reports
    lost = _lost(session)
    with watch.stage("recording"):
        unwalked = record_walk(session, compared)
    stopped = bool(session.pending)
    status: Status = "FAILED" if stopped else "KILLED" if lost or problem else "FINISHED"
    summary = folder / "batch_summary.md"
    # From here on the batch is as complete as it can be: a signal would only spoil it.
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
    # What is left to resume needs the returns of what has finished.
    if not (session.failed or stopped or lost or problem):
        session.workspace.close()
    said = [text for text in (problem, lost, unwalked, unrecorded) if text]
    code = NOT_RECORDED if said else 1 if session.failed or stopped or refused else 0
    finished(code)
    for text in (*said, refused, _stopped(session)):
        say(text)
    return code


def _make_reports(session: Session, compared: Compared, watch: Stopwatch) -> str:
    """Write the reports, elsewhere when their place is full; return why that failed, if it did."""
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
    """Move the reports to where they are looked for; return why that failed, if it did."""
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
            target.unlink(missing_ok=True)  # it may be a link to somewhere else
            target.write_bytes(file.read_bytes())
        except OSError:
            with contextlib.suppress(OSError):
                target.unlink()
            raise
        file.unlink()


def _stopped(session: Session) -> str:
    """Return what to say of runs that a failed run has kept from being computed."""
    left, total = len(session.pending), len(session.plan.runs)
    if not left:
        return ""
    return (
        f"on_failure=stop: {left} of {total} runs were not computed. "
        f"To compute them: python -m backtest_batch resume={session.batch_id} on_failure=continue\n"
    )


def _lost(session: Session) -> str:
    """Return what to say of runs whose returns or files are missing."""
    if not session.unwritten:
        return ""
    reason = next(iter(session.unwritten.values()))
    return (
        f"The returns and files of {len(session.unwritten)} runs are missing: {reason}. "
        "Their metrics are recorded. To compute the rest again: "
        f"python -m backtest_batch resume={session.batch_id}\n"
    )
