"""Complete runs written through MLflow's client: works with every store."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backtest_batch.tracking.answers import end_run, require_recorded
from backtest_batch.tracking.artifacts import PlacedFiles, local_folder, send, upload
from backtest_batch.tracking.begin import Beginnings, Begun
from backtest_batch.tracking.connections import each
from backtest_batch.tracking.entries import RunEntry
from backtest_batch.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric


class ClientWriter:
    """Writes runs one by one through MLflow's public client."""

    def __init__(self, store: Store, beginnings: Beginnings) -> None:
        self._store = store
        self._beginnings = beginnings

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
        yield from each(self._store, self._write, list(zip(entries, existing, strict=True)))

    def _write(self, item: tuple[RunEntry, str | None]) -> str:
        entry, existing = item
        with self._store.calling("record a run", patient=True):
            run = self._begin(entry, existing)
            placed = PlacedFiles()
            try:
                self._log(run.run_id, entry, tags=entry.tags if existing else {})
                self._place(run, entry, placed)
                require_recorded(
                    self._store,
                    run.run_id,
                    params=entry.params,
                    metrics=entry.metrics,
                    tags=entry.tags,
                )
                # Last, so that FINISHED means complete.
                end_run(self._store, run.run_id, entry.status, entry.ended_ms)
                self._store.require_file()
            except BaseException:
                placed.undo()
                raise
        return run.run_id

    def _begin(self, entry: RunEntry, existing: str | None) -> Begun:
        if existing is None:
            return self._beginnings.begin(entry.tags, entry.started_ms)
        run = self._store.client.get_run(existing)
        return Begun(existing, run.info.artifact_uri)

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

    def _place(self, run: Begun, entry: RunEntry, placed: PlacedFiles) -> None:
        if entry.folder is None and not entry.texts:
            return
        place = local_folder(run.artifact_uri)
        if run.artifact_uri.startswith("mlflow-artifacts:"):
            send(run.artifact_uri, self._store.files.tracking_uri, entry.folder, entry.texts)
        elif place is None:
            upload(self._store.files, run.run_id, folder=entry.folder, texts=entry.texts)
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
