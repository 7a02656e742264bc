"""Complete runs written through MLflow's client: works with every store."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from backtest_batch.tracking.artifacts import PlacedFiles, local_folder, upload
from backtest_batch.tracking.entries import RunEntry
from backtest_batch.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

_CONNECTIONS = 4
"""Runs sent to a server at once; a local database takes one writer at a time anyway."""


class ClientWriter:
    """Writes runs one by one through MLflow's public client."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(
        self, entries: Sequence[RunEntry], existing: Sequence[str | None]
    ) -> Iterator[tuple[int, str]]:
        """Write ``entries``, yielding the position and the MLflow run id of each when it is done.

        Parameters
        ----------
        entries
            What to write.
        existing
            For each entry the id of a run that was begun but not completed, or None.

        Raises
        ------
        StoreError
            At the first run that cannot be written, after those in flight have ended.
        """
        if not self._store.is_http:
            for index, entry in enumerate(entries):
                yield index, self._write(entry, existing[index])
            return
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            futures = [
                pool.submit(self._write, entry, run_id)
                for entry, run_id in zip(entries, existing, strict=True)
            ]
            failure: BaseException | None = None
            for index, future in enumerate(futures):
                if failure is not None and future.cancel():
                    continue
                error = future.exception()
                if error is None:
                    yield index, future.result()
                failure = failure or error
            if failure is not None:
                raise failure

    def _write(self, entry: RunEntry, existing: str | None) -> str:
        with self._store.calling("record a run"):
            run = self._begin(entry, existing)
            run_id: str = run.info.run_id
            placed = PlacedFiles()
            try:
                self._log(run_id, entry, tags=entry.tags if existing else {})
                self._place(run, entry, placed)
                # Last, so that FINISHED means complete.
                self._store.client.set_terminated(run_id, entry.status, entry.ended_ms)
                self._store.require_file()
            except BaseException:
                placed.undo()
                raise
        return run_id

    def _begin(self, entry: RunEntry, existing: str | None) -> "Run":
        if existing is not None:
            return self._store.client.get_run(existing)
        return self._store.client.create_run(
            self._store.experiment_id, start_time=entry.started_ms, tags=dict(entry.tags)
        )

    def _log(self, run_id: str, entry: RunEntry, tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        # The client splits what exceeds MLflow's limits of one call.
        self._store.client.log_batch(
            run_id,
            metrics=metrics_at(entry.metrics, entry.ended_ms),
            params=[Param(key, value) for key, value in entry.params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
            synchronous=True,
        )

    def _place(self, run: "Run", entry: RunEntry, placed: PlacedFiles) -> None:
        if entry.folder is None and not entry.texts:
            return
        place = local_folder(run.info.artifact_uri)
        if place is None:
            upload(self._store.client, run.info.run_id, folder=entry.folder, texts=entry.texts)
        else:
            place_locally(entry, place, placed)


def place_locally(entry: RunEntry, place: Path, placed: PlacedFiles) -> None:
    """Move the files of ``entry`` into the local artifact folder ``place``."""
    if entry.folder is not None:
        placed.move(entry.folder, place)
    if entry.texts:
        placed.write(entry.texts, place)


def metrics_at(values: Mapping[str, float], timestamp_ms: int) -> "list[Metric]":
    """Return MLflow's metrics of step 0 at one time."""
    from mlflow.entities import Metric

    return [Metric(key, value, timestamp_ms, 0) for key, value in values.items()]
