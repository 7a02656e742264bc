"""End the parent run of a batch, or keep on disk what the store does not take."""

from collections.abc import Mapping
from pathlib import Path

from backtest_batch.errors import StoreError
from backtest_batch.records import Status
from backtest_batch.resume import spool_places
from backtest_batch.session import Session
from backtest_batch.tracking.spool import Spool


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
        if recording.error is not None:
            raise recording.error
        recording.require_open().finish_parent(
            status, tags=session.counts(), metrics=metrics, artifacts=artifacts, note=note
        )
    except StoreError as error:
        kept = spool(session, status, metrics=metrics, artifacts=artifacts, note=note)
        if kept is None:
            return (
                f"{error}\n{len(recording.unrecorded)} results are lost: no folder can be "
                f"written to keep them. Compute them again: "
                f"python -m backtest_batch resume={session.batch_id}\n"
            )
        return (
            f"{error}\n{len(recording.unrecorded)} runs are computed but not recorded; they are "
            f"kept in {kept}.\nTo record them: python -m backtest_batch "
            f"resume={session.batch_id}\n"
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
            kept = Spool(
                place,
                store_uri=recording.recorder.store.uri,
                experiment=recording.recorder.store.experiment,
                batch=recording.recorder.batch,
                parent_run_id=recording.recorder.parent_run_id,
            )
            for record in recording.unrecorded:
                kept.add(record)
            kept.finish(
                status, tags=session.counts(), metrics=metrics, artifacts=artifacts, note=note
            )
        except OSError:
            continue
        return place
    return None
