"""The runs of a store through MLflow's public client: works with every store."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backtest_batch.tracking.answers import end_run, require_recorded, unbelievable
from backtest_batch.tracking.artifacts import PlacedFiles, local_folder, send, upload
from backtest_batch.tracking.begin import Beginnings, Begun
from backtest_batch.tracking.connections import call_each, each
from backtest_batch.tracking.curves import points
from backtest_batch.tracking.entries import EquityCurve, RunEntry
from backtest_batch.tracking.kinds import RunQuery
from backtest_batch.tracking.paging import has_tag, searched
from backtest_batch.tracking.run_table import RunColumns
from backtest_batch.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric


class ClientRuns:
    """The runs of a store, each written and read through MLflow's client; see :class:`.RunStore`.

    Parameters
    ----------
    store
        The store.
    beginnings
        What begins runs in it, when others begin some there, too.
    """

    def __init__(self, store: Store, beginnings: Beginnings | None = None) -> None:
        self._store = store
        self._beginnings = Beginnings(store) if beginnings is None else beginnings

    def write(
        self, entries: Sequence[RunEntry], existing: Sequence[str | None]
    ) -> Iterator[tuple[int, str]]:
        """Write runs one by one, over several connections to a server; see :class:`.RunStore`.

        Raises
        ------
        StoreError
            At the first run that cannot be written, after those in flight have ended.
        """
        yield from each(self._store, self._write, list(zip(entries, existing, strict=True)))

    def write_curves(self, curves: Mapping[str, EquityCurve]) -> None:
        """Write curves as stepped metrics; see :class:`.RunStore`."""
        from mlflow.entities import Metric

        def log(item: tuple[str, EquityCurve]) -> None:
            run_id, curve = item
            metrics = [Metric(name, value, time, step) for name, value, time, step in points(curve)]
            self._store.client.log_batch(run_id, metrics=metrics, synchronous=True)

        call_each(self._store, log, list(curves.items()))

    def write_metrics(self, metrics: Mapping[str, Mapping[str, float]], timestamp_ms: int) -> None:
        """Add metrics to runs; see :class:`.RunStore`."""

        def log(item: tuple[str, Mapping[str, float]]) -> None:
            run_id, values = item
            held = metrics_at(values, timestamp_ms)
            self._store.client.log_batch(run_id, metrics=held, synchronous=True)

        call_each(self._store, log, list(metrics.items()))

    def read(self, query: RunQuery, filter_string: str) -> RunColumns:
        """Return the runs that are meant; see :class:`.RunStore`."""
        table = RunColumns(query.parts)
        # MLflow's language knows no OR, so each batch is a search of its own.
        for batch_id in query.batches if query.batches is not None else (None,):
            for run in searched(self._store, _filter(query, batch_id, filter_string)):
                # What the filter could not express is checked here.
                if query.admits(run.info.status, run.data.tags):
                    table.add_run(run)
        return table

    def states(self, batch_id: str) -> list[tuple[str, str, str]]:
        """Return run key, status and id of a batch's runs; see :class:`.RunStore`."""
        of_batch = RunQuery(batches=(batch_id,), tags={}, statuses=None, parts=())
        condition = _filter(of_batch, batch_id, "")
        found = list(searched(self._store, condition, ["start_time ASC"]))
        if not any(run.data.tags.get("batch_role") == "batch" for run in found):
            raise unbelievable(self._store.shown, f"knows nothing of the batch {batch_id}")
        return [
            (run.data.tags.get("run_key", ""), run.info.status, run.info.run_id)
            for run in found
            if run.data.tags.get("batch_role") == "run"
        ]

    def artifact_uris(self, run_ids: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002
        """Return nothing: each run is a question of its own, and the client asks it when needed."""
        return {}

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


def _filter(query: RunQuery, batch_id: str | None, given: str) -> str:
    tags = dict(query.tags) | ({} if batch_id is None else {"batch_id": batch_id})
    conditions = [has_tag(key, value) for key, value in tags.items()]
    if query.statuses is not None and len(query.statuses) == 1:
        conditions.append(f"attributes.status = '{query.statuses[0]}'")
    conditions.append(given.strip())
    return " and ".join(filter(None, conditions))
