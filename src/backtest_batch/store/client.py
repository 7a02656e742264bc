"""The runs of a store through MLflow's public client, which works with every store.

MLflow's client repeats every request whose answer was lost, even the one that creates a run, and a
server then creates a run for each. All other requests may be repeated safely. So the request to
create a run is the only one sent without the client's retries: before it is repeated, the run is
searched for by its tags.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from backtest_batch.store.address import without_secrets
from backtest_batch.store.artifacts import (
    MovedFiles,
    end_run,
    local_folder,
    points,
    require_recorded,
    send,
    unbelievable,
    upload,
)
from backtest_batch.store.kinds import RunColumns, RunQuery
from backtest_batch.store.mlflow_calls import is_transient
from backtest_batch.store.mlflow_run import EquityCurve, RunEntry
from backtest_batch.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from requests import Response

_PAGE_SIZE = 1_000


def searched(
    store: Store, filter_string: str, order_by: list[str] | None = None
) -> "Iterator[Run]":
    """Yield all runs of the store's experiment that match a condition in MLflow's language."""
    token: str | None = None
    while True:
        page: Any = store.client.search_runs(
            [store.experiment_id],
            filter_string=filter_string,
            max_results=_PAGE_SIZE,
            order_by=order_by,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def has_tag(key: str, value: str) -> str | None:
    """Return the condition that a tag has a value; None if the language cannot express it."""
    if "`" in key or ("'" in value and '"' in value):
        return None
    quote = '"' if "'" in value else "'"
    return f"tags.`{key}` = {quote}{value}{quote}"


_CREATE = "/api/2.0/mlflow/runs/create"
_IDENTITY = ("batch_id", "batch_role", "run_key", "split", "mlflow.parentRunId")
"""Tags that tell the runs of a batch apart."""
_LONGEST_PAUSE = 120.0
"""Seconds, as in urllib3, which MLflow's client waits with."""

_log = logging.getLogger(__name__)

Identity = tuple[tuple[str, str], ...]


class Begun(NamedTuple):
    """A run that has begun.

    Attributes
    ----------
    run_id
        MLflow's id of it.
    artifact_uri
        Where its artifacts belong.
    """

    run_id: str
    artifact_uri: str


class Beginnings:
    """Begins runs in one store; may be used by several threads.

    Parameters
    ----------
    store
        The store.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._doubtful: dict[Identity, str] = {}
        self._lock = threading.Lock()

    def begin(self, tags: Mapping[str, str], started_ms: int) -> Begun:
        """Create a run, or return the one that was created although the answer was lost.

        Parameters
        ----------
        tags
            Its tags; those that identify the run serve to find it again.
        started_ms
            When it began, milliseconds since the epoch.

        Raises
        ------
        MlflowException
            When the store fails; a server, when it fails more often than
            MLFLOW_HTTP_REQUEST_MAX_RETRIES allows.
        """
        if not self._store.is_http:
            run = self._store.client.create_run(
                self._store.experiment_id, start_time=started_ms, tags=dict(tags)
            )
            return _begun(run)
        return self._begin_on_server(tags, started_ms)

    def retire_doubles(self) -> int:
        """Move runs that a server began twice after all to MLflow's trash.

        A request that was given up may arrive late, after the run was searched for and created
        again.

        Returns
        -------
        int
            Number of these runs.
        """
        with self._lock:
            doubtful, self._doubtful = self._doubtful, {}
        doubles = [
            run.info.run_id
            for identity, run_id in doubtful.items()
            for run in self._alike(identity)
            # A complete run was written by another process: it is not a leftover of ours.
            if run.info.run_id != run_id and run.info.status == "RUNNING"
        ]
        for run_id in doubles:
            self._store.client.delete_run(run_id)
        return len(doubles)

    def _begin_on_server(self, tags: Mapping[str, str], started_ms: int) -> Begun:
        from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

        retries: int = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()  # type: ignore[no-untyped-call]
        identity = tuple((key, tags[key]) for key in _IDENTITY if key in tags)
        for attempt in range(retries + 1):
            if attempt and (found := next(self._alike(identity), None)) is not None:
                return self._remember(identity, _begun(found))
            response: Response | None = None
            try:
                response = self._send(tags, started_ms)
                begun = self._answered(response, tags, started_ms)
            except Exception as error:
                if attempt == retries or not is_transient(error):
                    raise
                message = without_secrets(str(error), uri=self._store.uri)
                _log.info("a run could not be begun, trying again: %s", message)
                time.sleep(_pause(attempt, response))
                continue
            return self._remember(identity, begun) if attempt else begun
        raise AssertionError("the last attempt returns or raises")

    def _send(self, tags: Mapping[str, str], started_ms: int) -> "Response":
        from mlflow.utils.rest_utils import http_request

        body = {
            "experiment_id": self._store.experiment_id,
            "user_id": tags.get("mlflow.user", "unknown"),
            "start_time": started_ms,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        answer: Response = http_request(  # type: ignore[no-untyped-call]
            self._store.host_credentials(),
            _CREATE,
            "POST",
            max_retries=0,
            raise_on_status=False,
            json=body,
        )
        return answer

    def _answered(self, response: "Response", tags: Mapping[str, str], started_ms: int) -> Begun:
        """Return the run that an answer names, if it is the requested one."""
        from mlflow.utils.rest_utils import verify_rest_response

        verify_rest_response(response, _CREATE)
        try:
            run: dict[str, Any] = response.json()["run"]
            info: dict[str, Any] = run["info"]
            begun = Begun(str(info["run_id"]), str(info.get("artifact_uri", "")))
            named = {tag["key"]: tag["value"] for tag in run.get("data", {}).get("tags", [])}
            is_asked = (info["experiment_id"], info["start_time"]) == (
                self._store.experiment_id,
                started_ms,
            ) and all(named.get(key, tags[key]) == tags[key] for key in _IDENTITY if key in tags)
        except (AttributeError, KeyError, TypeError):
            is_asked = False
        if not is_asked:
            raise unbelievable(self._store.shown, "did not begin the run that it was asked for")
        return begun

    def _alike(self, identity: Identity) -> "Iterator[Run]":
        """Yield the runs of the experiment with the tags in ``identity``, the oldest first."""
        conditions = [has_tag(key, value) for key, value in identity]
        return searched(
            self._store, " and ".join(filter(None, conditions)), ["attributes.start_time ASC"]
        )

    def _remember(self, identity: Identity, begun: Begun) -> Begun:
        with self._lock:
            self._doubtful[identity] = begun.run_id
        return begun


def _begun(run: "Run") -> Begun:
    return Begun(str(run.info.run_id), str(run.info.artifact_uri))


def _pause(attempt: int, response: "Response | None") -> float:
    """Return the seconds to wait: as the server asks, else as MLflow's client would."""
    from mlflow.environment_variables import (
        MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
        MLFLOW_HTTP_REQUEST_BACKOFF_JITTER,
    )

    asked = "" if response is None else response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return min(float(asked), _LONGEST_PAUSE)
    factor: float = MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.get()  # type: ignore[no-untyped-call]
    jitter: float = MLFLOW_HTTP_REQUEST_BACKOFF_JITTER.get()  # type: ignore[no-untyped-call]
    # No pause after the first failure: usually an idle connection was closed.
    grown = factor * 2.0**attempt if attempt else 0.0
    return min(grown + jitter * random.random(), _LONGEST_PAUSE)


CONNECTIONS = 8
"""Number of simultaneous requests to a server; MLflow's client keeps up to ten connections open."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    store: Store,
    call: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    at_once: bool | None = None,
) -> Iterator[tuple[int, Result]]:
    """Call a function for each item, yielding position and result in the order of the items.

    Parameters
    ----------
    store
        Where the calls go. A server is called over several connections; a database, which takes
        one writer at a time anyway, in the caller's thread.
    call, items
        The function, and its arguments.
    at_once
        Whether to use several connections; None decides by the kind of store.

    Raises
    ------
    Exception
        The error of the first failing call, once those in flight have ended; their results are
        yielded before.
    """
    if not (store.is_http if at_once is None else at_once) or len(items) < 2:
        for index, item in enumerate(items):
            yield index, call(item)
        return
    lost = threading.Event()

    def attempt(item: Item) -> list[Result]:
        # Calls that have not begun when one fails would only wait for the same server again.
        if lost.is_set():
            return []
        try:
            return [call(item)]
        except BaseException:
            lost.set()
            raise

    failure: BaseException | None = None
    with ThreadPoolExecutor(min(CONNECTIONS, len(items))) as pool:
        # MLflow's log lines are handled in these threads, too.
        futures = [pool.submit(copy_context().run, attempt, item) for item in items]
        for index, future in enumerate(futures):
            error = future.exception()
            if error is None:
                yield from ((index, result) for result in future.result())
            failure = failure or error
    if failure is not None:
        raise failure


def call_each(
    store: Store,
    call: Callable[[Item], object],
    items: Sequence[Item],
    *,
    at_once: bool | None = None,
) -> None:
    """Call a function for each item, as :func:`each` does, for its effect."""
    for _ in each(store, call, items, at_once=at_once):
        pass


class ClientRuns:
    """The runs of a store, each written and read through MLflow's client; see :class:`.RunStore`.

    Parameters
    ----------
    store
        The store.
    beginnings
        Begins runs in it; given when others begin runs there, too.
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
            entries = metrics_at(values, timestamp_ms)
            self._store.client.log_batch(run_id, metrics=entries, synchronous=True)

        call_each(self._store, log, list(metrics.items()))

    def read(self, query: RunQuery, filter_string: str) -> RunColumns:
        """Return the requested runs; see :class:`.RunStore`."""
        table = RunColumns(query.parts)
        # MLflow's language has no OR, so each batch is a search of its own.
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
        """Return nothing: it takes one request per run, which the client sends when needed."""
        return {}

    def _write(self, item: tuple[RunEntry, str | None]) -> str:
        entry, existing = item
        with self._store.calling("record a run", patient=True):
            run = self._begin(entry, existing)
            moved = MovedFiles()
            try:
                self._log(run.run_id, entry, tags=entry.tags if existing else {})
                self._put_files(run, entry, moved)
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
                moved.undo()
                raise
        return run.run_id

    def _begin(self, entry: RunEntry, existing: str | None) -> Begun:
        if existing is None:
            return self._beginnings.begin(entry.tags, entry.started_ms)
        run = self._store.client.get_run(existing)
        return Begun(existing, run.info.artifact_uri)

    def _log(self, run_id: str, entry: RunEntry, tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        # The client splits calls that exceed MLflow's limits.
        self._store.client.log_batch(
            run_id,
            metrics=metrics_at(entry.metrics, entry.ended_ms),
            params=[Param(key, value) for key, value in entry.params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
            synchronous=True,
        )

    def _put_files(self, run: Begun, entry: RunEntry, moved: MovedFiles) -> None:
        if entry.folder is None and not entry.texts:
            return
        folder = local_folder(run.artifact_uri)
        if run.artifact_uri.startswith("mlflow-artifacts:"):
            send(run.artifact_uri, self._store.files.tracking_uri, entry.folder, entry.texts)
        elif folder is None:
            upload(self._store.files, run.run_id, folder=entry.folder, texts=entry.texts)
        else:
            put_into_folder(entry, folder, moved)


def put_into_folder(entry: RunEntry, folder: Path, moved: MovedFiles) -> None:
    """Move the files of ``entry`` into the local artifact folder ``folder``."""
    if entry.folder is not None:
        moved.move(entry.folder, folder)
    if entry.texts:
        moved.write(entry.texts, folder)


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
