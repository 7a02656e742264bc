"""End the parent run of a batch, or keep on disk what the store does not take."""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from backtest_batch.errors import SelectionError, StoreError
from backtest_batch.printing import say
from backtest_batch.records import RunFailure, RunRecord, Status
from backtest_batch.sweep.extras import spool_extras
from backtest_batch.sweep.opening import dataset_info
from backtest_batch.sweep.resume import make_spool_place, remove_spool_place, spool_places
from backtest_batch.sweep.session import Session
from backtest_batch.tracking.artifacts import PlacedFiles, local_folder
from backtest_batch.tracking.spool import Spool, record_spool


def end_parent(
    session: Session,
    status: Status,
    *,
    metrics: Mapping[str, float] | None = None,
    artifacts: Path | None = None,
    note: str = "",
) -> str:
    """End the parent run, or keep on disk what the store does not take.

    Returns
    -------
    str
        Empty, or what to tell the user when something could not be recorded.
    """
    recording = session.recording
    try:
        if recording.error is not None or recording.unrecorded:
            raise recording.error or StoreError("Recording ended early.")
        recording.require_open().finish_parent(
            status, tags=session.counts(), metrics=metrics, artifacts=artifacts, note=note
        )
    except StoreError as error:
        begun_anew = recording.require_open().store.is_gone
        if begun_anew:
            _take_back(session)
        kept = spool(session, status, metrics=metrics, artifacts=artifacts, note=note)
        lost = len(recording.unrecorded)
        if kept is None:
            return (
                f"{error}\n{lost} results are lost: no folder can be written to keep them. "
                f"Compute them again: python -m backtest_batch resume={session.batch_id}\n"
            )
        if _recorded_now(kept, session):
            if begun_anew:
                say(f"{error} The one that is there now has all {lost} runs of the batch.\n")
            return ""
        return (
            f"{error}\n{lost} runs are computed but not recorded; they are kept in {kept}.\n"
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
    """Keep what the store did not take in a folder, and return it; None when none can be had."""
    recording = session.recording
    assert recording.recorder is not None
    for place in spool_places(session.batch_id, session.workspace.output_dir):
        try:
            make_spool_place(place)
            kept = Spool(
                place,
                store_uri=recording.recorder.store.uri,
                experiment=recording.recorder.store.experiment,
                batch=recording.recorder.batch,
                parent_run_id=recording.recorder.parent_run_id,
                dataset=dataset_info(session.plan),
            )
            for record in recording.unrecorded:
                kept.add(record)
            spool_extras(kept, session.extras)
            # Also when the parent run has them: the store may have to be made anew.
            if session.workspace.start_files.is_dir():
                shutil.copytree(session.workspace.start_files, place / "parent", dirs_exist_ok=True)
            kept.finish(
                status, tags=session.counts(), metrics=metrics, artifacts=artifacts, note=note
            )
        except OSError:
            _give_back(place, recording.unrecorded)
            continue
        return place
    return None


def _take_back(session: Session) -> None:
    """Treat every run as unrecorded: the store that held them has vanished, their files have not.

    The batch is then recorded as a new one, with the files that it began with.
    """
    recording, extras = session.recording, session.recorded_extras
    recorder = recording.recorder
    assert recorder is not None
    known = {record.spec.run_key for record in recording.unrecorded}
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
        recording.unrecorded.append(replace(record, outcome=outcome))
    recording.recorded.clear()
    session.extras.update({key: item for key, item in extras.items() if key not in session.extras})
    recorder.parent_run_id = None


def _text(file: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return file.read_text(encoding="utf-8")
    return ""


def _give_back(place: Path, records: Sequence[RunRecord]) -> None:
    """Bring the files of runs back from a spool that could not be completed."""
    for record in records:
        folder = None if record.outcome is None else record.outcome.artifacts
        moved = place / "runs" / record.spec.run_id / "artifacts"
        if folder is not None and moved.is_dir():
            with contextlib.suppress(OSError):
                PlacedFiles().move(moved, folder)
    remove_spool_place(place)


def _recorded_now(kept: Path, session: Session) -> bool:
    """Return whether the store takes now what it did not take before: it may be back."""
    recorder = session.recording.recorder
    assert recorder is not None
    try:
        record_spool(kept, store_uri=recorder.store.uri)
    except (StoreError, SelectionError, OSError):
        return False
    session.recording.unrecorded.clear()
    return True
