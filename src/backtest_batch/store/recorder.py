"""Write a batch and its runs into the store in the background, while further runs are computed."""

import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from backtest_batch.errors import StoreError
from backtest_batch.interrupt import NOTICE_SECONDS, heed
from backtest_batch.records import RunRecord, RunResult, Status
from backtest_batch.store.artifacts import (
    SplitRun,
    end_run,
    missing,
    require_recorded,
    send,
    split_entry,
    upload,
)
from backtest_batch.store.claim import CLAIM, hold, new_claim, release
from backtest_batch.store.client import Beginnings, ClientRuns, call_each, each, metrics_at
from backtest_batch.store.kinds import RunStore
from backtest_batch.store.mlflow_calls import again_after_collisions
from backtest_batch.store.mlflow_run import (
    BatchInfo,
    DatasetInfo,
    EquityCurve,
    RunEntry,
    metrics_of,
    note_tag,
    now_ms,
    params_of,
    parent_tags,
    run_entry,
    tags_of,
)
from backtest_batch.store.sql import BulkWriteError, SqlRuns, obstacle_to_writing
from backtest_batch.store.store import Store

__all__ = ["BatchInfo", "DatasetInfo", "EquityCurve", "Recorder", "RecordingError", "WriterChoice"]

WriterChoice = Literal["auto", "client", "bulk"]

_log = logging.getLogger(__name__)


class RecordingError(StoreError):
    """Not all results could be recorded; ``recorded`` holds the MLflow run ids by run key."""

    exit_code = 3

    def __init__(self, message: str, recorded: Mapping[str, str]) -> None:
        super().__init__(message)
        self.recorded = dict(recorded)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.recorded)


class Recorder:
    """Writes one batch: its parent run, its runs and later additions to them.

    Used by one thread of one process.

    Parameters
    ----------
    store
        Where to write.
    batch
        What the runs have in common.
    writer
        ``bulk`` writes many runs per transaction directly into the database, ``client`` one by one
        through MLflow's client, ``auto`` is ``bulk`` where that is tested.

    Raises
    ------
    StoreError
        When ``writer`` is ``bulk`` and the store cannot be written that way.
    """

    def __init__(self, store: Store, batch: BatchInfo, *, writer: WriterChoice = "auto") -> None:
        self.store = store
        self.batch = batch
        self.parent_run_id: str | None = None
        self._beginnings = Beginnings(store)
        self._client_runs = ClientRuns(store, self._beginnings)
        self._runs: RunStore = self._client_runs
        if writer != "client":
            obstacle = obstacle_to_writing(store)
            if obstacle is None:
                self._runs = SqlRuns(store, self._client_runs)
            elif writer == "bulk":
                raise StoreError(f"tracking.writer=bulk cannot be used: {obstacle}.")

    def start_parent(
        self,
        *,
        tags: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        dataset: DatasetInfo | None = None,
        artifacts: Path | None = None,
    ) -> str:
        """Begin the parent run, and return its MLflow run id.

        Parameters
        ----------
        tags, params
            Further tags and parameters.
        dataset
            The market data of the batch.
        artifacts
            Folder whose files are logged at once, so that they outlive a crash.

        Raises
        ------
        StoreError
            When the store fails; the parent run is in MLflow's trash then.
        """
        client = self.store.client
        with self.store.calling("begin the batch"):
            claim = new_claim()
            run_id = self._beginnings.begin(
                parent_tags(self.batch) | tags_of(tags or {}) | {CLAIM: claim},
                self.batch.started_ms,
            ).run_id
            hold(self.store, self.batch.batch_id, run_id, claim)
            try:
                again_after_collisions(lambda: self._log(run_id, params=params_of(params or {})))
                if dataset is not None:
                    data = [_dataset_input(dataset)]
                    again_after_collisions(lambda: client.log_inputs(run_id, datasets=data))
                upload(self.store.files, run_id, folder=artifacts)
                require_recorded(self.store, run_id, tags={CLAIM: claim})
            except BaseException:
                self._take_back(run_id)
                raise
        self.parent_run_id = run_id
        return run_id

    def _take_back(self, run_id: str) -> None:
        """Move a parent run that could not be begun completely to MLflow's trash.

        No run of its batch counts then. If that fails as well, the next command on this host marks
        it as killed.
        """
        with contextlib.suppress(Exception):
            self.store.client.set_terminated(run_id, "FAILED")
            self.store.client.delete_run(run_id)
        release(self.batch.batch_id)

    def continue_parent(self, parent_run_id: str, *, tags: Mapping[str, Any] | None = None) -> None:
        """Take up the parent run of an earlier process again."""
        with self.store.calling("continue the batch"):
            # First, so that it never seems to belong to an ended process.
            self._log(parent_run_id, tags=self.batch.process.tags | tags_of(tags or {}))
            self.store.client.update_run(parent_run_id, status="RUNNING")
        self.parent_run_id = parent_run_id

    def record(
        self, records: Sequence[RunRecord], *, begun: Mapping[str, str] | None = None
    ) -> list[str]:
        """Write complete runs below the parent.

        The files in the folder of a result are moved into the artifact store when that is a local
        folder, and copied there otherwise.

        Parameters
        ----------
        records
            Runs as they ended.
        begun
            MLflow ids, by run key, of runs of this batch that were begun but not completed; these
            are completed instead of written anew.

        Returns
        -------
        list of str
            The MLflow run id of each record.

        Raises
        ------
        RecordingError
            When the store fails; files of unrecorded results stay where they were.
        """
        if self.parent_run_id is None:
            raise RuntimeError("`start_parent` or `continue_parent` comes before `record`.")
        entries = [run_entry(record, self.batch, self.parent_run_id) for record in records]
        existing = [(begun or {}).get(record.spec.run_key) for record in records]
        run_ids: dict[int, str] = {}
        try:
            self._write(entries, existing, run_ids)
        except StoreError as error:
            recorded = {records[index].spec.run_key: run_ids[index] for index in sorted(run_ids)}
            raise RecordingError(str(error), recorded) from error
        return [run_ids[index] for index in range(len(records))]

    def log_curves(self, curves: Mapping[str, EquityCurve]) -> None:
        """Add stepped metrics ``equity`` and ``drawdown`` to runs, given by MLflow run id."""
        with self.store.calling("record equity curves", patient=True):
            self._runs.write_curves(curves)

    def add_metrics(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Add metrics to runs that are recorded, given by MLflow run id."""
        with self.store.calling("add metrics", patient=True):
            self._runs.write_metrics(
                {run_id: metrics_of(values) for run_id, values in metrics.items()}, now_ms()
            )

    def add_tags(self, tags: Mapping[str, Mapping[str, str]]) -> None:
        """Add tags to runs that are recorded, given by MLflow run id."""
        with self.store.calling("add tags", patient=True):
            for run_id, values in tags.items():
                again_after_collisions(partial(self._log, run_id, tags=tags_of(values)))

    def record_splits(self, splits: Sequence[SplitRun]) -> None:
        """Write a run for each split of a walk-forward, below the run that was split."""
        ended_ms = now_ms()
        entries = [split_entry(split, self.batch, ended_ms) for split in splits]
        self._write(entries, [None] * len(entries), {})

    def add_files(self, files: Sequence[tuple[str, Mapping[str, str], Path | None]]) -> None:
        """Add files to the artifacts of runs.

        Parameters
        ----------
        files
            For each run its MLflow run id, text files by name, and a folder with further files.
        """

        def add(item: tuple[str, Mapping[str, str], Path | None]) -> None:
            run_id, texts, folder = item
            if run_id in uris:
                send(uris[run_id], self.store.files.tracking_uri, folder, texts)
            else:
                upload(self.store.files, run_id, folder=folder, texts=texts)

        with self.store.calling("store artifacts", patient=True):
            uris = self._runs.artifact_uris([run_id for run_id, *_ in files])
            call_each(self.store, add, files, at_once=not self.store.is_local_sqlite)

    def missing_files(self, names: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return which of the named files are missing from the artifacts of runs.

        Parameters
        ----------
        names
            Names of files by MLflow run id.

        Returns
        -------
        dict
            The missing names, by MLflow run id; no entry for a run that has all.
        """

        def look(run_id: str) -> list[str]:
            uri = uris.get(run_id) or self.store.client.get_run(run_id).info.artifact_uri
            return missing(uri, self.store.files.tracking_uri, names[run_id])

        run_ids = list(names)
        with self.store.calling("look for artifacts", patient=True):
            uris = self._runs.artifact_uris(run_ids)
            found = dict(each(self.store, look, run_ids, at_once=not self.store.is_local_sqlite))
        return {run_ids[index]: absent for index, absent in found.items() if absent}

    def retire(self, run_ids: Sequence[str]) -> None:
        """Move earlier runs to MLflow's trash, because the same configuration runs again."""
        with self.store.calling("retire runs", patient=True):
            call_each(self.store, self.store.client.delete_run, run_ids)

    def finish_parent(
        self,
        status: Status,
        *,
        tags: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        artifacts: Path | None = None,
        note: str = "",
        ended_ms: int | None = None,
    ) -> None:
        """End the parent run.

        Parameters
        ----------
        status
            FINISHED when the batch is complete, even with failed runs; KILLED when it was
            interrupted; FAILED when a failed run ended it.
        tags, metrics
            Further tags (n_finished, n_failed, n_skipped) and metrics.
        artifacts
            Folder whose files are copied to the parent's artifacts.
        note
            Markdown that MLflow's UI shows with the run; cut at 8,000 characters, with a note.
        ended_ms
            When the batch ended, milliseconds since the epoch; by default now.
        """
        if self.parent_run_id is None:
            raise RuntimeError("`start_parent` or `continue_parent` comes before `finish_parent`.")
        ended_ms = now_ms() if ended_ms is None else ended_ms
        all_tags = tags_of(tags or {})
        if note:
            all_tags |= note_tag(note)
        with self.store.calling("finish the batch", patient=True):
            self._log(
                self.parent_run_id,
                tags=all_tags,
                metrics=metrics_of(metrics or {}),
                timestamp_ms=ended_ms,
            )
            upload(self.store.files, self.parent_run_id, folder=artifacts)
            require_recorded(self.store, self.parent_run_id, tags=all_tags)
            self._beginnings.retire_doubles()
            end_run(self.store, self.parent_run_id, status, ended_ms)

    def _write(
        self,
        entries: Sequence[RunEntry],
        existing: Sequence[str | None],
        run_ids: dict[int, str],
    ) -> None:
        """Write ``entries`` and put the id of each into ``run_ids`` as soon as it is complete."""
        try:
            # One by one: if one fails, those before it are recorded.
            run_ids.update(self._runs.write(entries, existing))
        except BulkWriteError as error:
            _log.warning("%s Runs are written one by one through MLflow's client.", error)
            self._runs = self._client_runs
            left = [index for index in range(len(entries)) if index not in run_ids]
            for position, run_id in self._runs.write(
                [entries[i] for i in left], [existing[i] for i in left]
            ):
                run_ids[left[position]] = run_id

    def _log(
        self,
        run_id: str,
        *,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        timestamp_ms: int = 0,
    ) -> None:
        from mlflow.entities import Param, RunTag

        self.store.client.log_batch(
            run_id,
            metrics=metrics_at(metrics or {}, timestamp_ms),
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
            synchronous=True,
        )


def _dataset_input(data: DatasetInfo) -> Any:  # Any: an entity of MLflow, which loads late
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [{"type": "datetime", "name": "timestamp"}, {"type": "string", "name": "symbol"}]
    columns += [{"type": "double", "name": name} for name in data.fields]
    profile = {
        "num_rows": data.n_bars,
        "num_elements": data.n_bars * len(data.symbols) * len(data.fields),
        "n_bars": data.n_bars,
        "n_symbols": len(data.symbols),
        "first": data.first,
        "last": data.last,
        "fingerprint": data.fingerprint,
        "symbols": list(data.symbols),
    }
    # MLflow's names for a source that is a path, and for one made by a program.
    source_type = "local" if data.is_path else "code"
    source: dict[str, Any] = {"tags": {"mlflow.source.name": data.source}}
    if data.is_path:
        source = {"uri": data.source}
    return DatasetInput(
        dataset=Dataset(
            name=data.name[:500],
            digest=data.fingerprint[:36],
            source_type=source_type,
            source=json.dumps(source),
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps(profile),
        ),
        tags=[InputTag("mlflow.data.context", "backtest")],
    )


LONGEST_QUEUE = 64
"""Most groups of waiting records; a slow store then slows the computing instead of filling
memory."""
LARGEST_GROUP = 1_000
WORTH_A_TRANSACTION = 100
"""Number of runs written without waiting for more: a transaction takes as long as thirty runs."""
LONGEST_WAIT_SECONDS = 0.5
"""Seconds that a run waits for others to be written with it."""


@dataclass
class BackgroundRecorder:
    """Opens the store and records what it is given, in order, in a thread of its own.

    Parameters
    ----------
    open_recorder
        Opens the store and the batch's parent run in it; called in the thread, since importing
        MLflow alone takes seconds.
    lost_files
        Called in the thread for each run whose files were deleted before they could be recorded;
        the run is recorded without them.
    """

    open_recorder: Callable[[], Recorder]
    lost_files: Callable[[RunRecord], object] = lambda _: None
    recorder: Recorder | None = field(default=None, init=False)
    recorded: dict[str, str] = field(default_factory=dict, init=False)
    """MLflow's id of each recorded run, by run key."""
    unrecorded: list[RunRecord] = field(default_factory=list, init=False)
    """Runs that could not be recorded."""
    error: StoreError | None = field(default=None, init=False)
    """Why recording ended early."""
    _failure: BaseException | None = field(default=None, init=False)
    _queue: "queue.Queue[Sequence[RunRecord] | None]" = field(init=False)
    _opened: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._queue = queue.Queue(maxsize=LONGEST_QUEUE)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to open the store."""
        self._thread.start()

    @property
    def opened(self) -> bool:
        """Whether opening is over, successfully or not."""
        return self._opened.is_set()

    def require_open(self) -> Recorder:
        """Wait until the store is open and return the recorder.

        Raises
        ------
        StoreError
            When the store cannot be opened.
        """
        while not self._opened.wait(NOTICE_SECONDS):
            heed()
        if self.recorder is not None:
            return self.recorder
        raise self.error or self._failure or StoreError("the store was not opened")

    def put(self, records: Sequence[RunRecord]) -> None:
        """Hand over records; waits while too many are waiting."""
        self._queue.put(records)

    def add_recorded(self, run_ids: Mapping[str, str]) -> None:
        """Add runs that an earlier attempt recorded: MLflow's ids by run key."""
        self.recorded.update(run_ids)

    def stop(self, error: StoreError) -> None:
        """Record nothing more after an error of the store; the first error counts."""
        self.error = self.error or error

    def count_as_unrecorded(self, records: Sequence[RunRecord]) -> None:
        """Count recorded runs as unrecorded again: the store that had them is lost."""
        self.unrecorded += records
        self.recorded.clear()

    def count_as_recorded(self) -> None:
        """Count the unrecorded runs as recorded: a spool brought them into the store."""
        self.unrecorded.clear()

    def close(self) -> None:
        """Wait until everything handed over is recorded, or has failed to be.

        May be called again, or before recording began.

        Raises
        ------
        BaseException
            An error in the thread other than one of the store; ``unrecorded`` holds the rest.
        """
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._opened.set()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _run(self) -> None:
        try:
            self.recorder = self.open_recorder()
        except StoreError as error:
            self.error = error
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._failure = error
        finally:
            self._opened.set()
        while (group := self._next_group()) is not None:
            self._record(group)

    def _next_group(self) -> list[RunRecord] | None:
        """Return all waiting runs as one group; None at the end.

        A small group waits a moment for more: slow runs come one by one, and recording takes
        processor time from the workers.
        """
        first = self._queue.get()
        if first is None:
            return None
        group, deadline = list(first), time.monotonic() + LONGEST_WAIT_SECONDS
        while len(group) < LARGEST_GROUP:
            left = deadline - time.monotonic() if len(group) < WORTH_A_TRANSACTION else 0.0
            try:
                more = self._queue.get(block=left > 0, timeout=max(left, 0.0))
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            group += more
        return group

    def _record(self, group: list[RunRecord]) -> None:
        if self.recorder is None or self.error is not None or self._failure is not None:
            self.unrecorded += group
            return
        group = [self._without_lost_files(record) for record in group]
        try:
            ids = self.recorder.record(group)
        except RecordingError as error:
            self.error = error
            self.recorded |= error.recorded
            self.unrecorded += [item for item in group if item.spec.run_key not in self.recorded]
        except StoreError as error:
            self.error = error
            self.unrecorded += group
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._failure = error
            self.unrecorded += group
        else:
            keys = (item.spec.run_key for item in group)
            self.recorded |= dict(zip(keys, ids, strict=True))

    def _without_lost_files(self, record: RunRecord) -> RunRecord:
        """Return a run in recordable form: its folder of files may have been deleted meanwhile."""
        outcome = record.outcome
        if outcome is None or outcome.artifacts is None:
            return record
        expected = outcome.files if isinstance(outcome, RunResult) else ()
        if outcome.artifacts.is_dir() and all((outcome.artifacts / n).exists() for n in expected):
            return record
        self.lost_files(record)
        # The remaining files would pass for all of them.
        return replace(record, outcome=replace(outcome, artifacts=None))
