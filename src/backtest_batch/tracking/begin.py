"""Begin runs in a store, each once.

MLflow's client sends every request again whose answer was lost, that which creates a run included,
and a server creates a run for each of them. Everything else that is recorded of a run may be said
twice. So creating a run is the one request that is sent here without the client's retries: before
it is sent again, the run is looked for by what it is.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from backtest_batch.tracking.address import without_secrets
from backtest_batch.tracking.answers import unbelievable
from backtest_batch.tracking.mlflow_calls import is_transient
from backtest_batch.tracking.paging import has_tag, searched

if TYPE_CHECKING:
    from mlflow.entities import Run
    from requests import Response

    from backtest_batch.tracking.store import Store

_CREATE = "/api/2.0/mlflow/runs/create"
_IDENTITY = ("batch_id", "batch_role", "run_key", "split", "mlflow.parentRunId")
"""Tags that no two runs of a batch have in common."""
_LONGEST_PAUSE = 120.0
"""Seconds; as in urllib3, which waits for MLflow's client."""

_log = logging.getLogger(__name__)

Identity = tuple[tuple[str, str], ...]


class Begun(NamedTuple):
    """A run that was begun.

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
        """Create a run, or return the one that was created when its answer was lost.

        Parameters
        ----------
        tags
            Its tags; those that say which run it is find it again.
        started_ms
            When it began, milliseconds since the epoch.

        Raises
        ------
        MlflowException
            When the store fails, a server as often as MLFLOW_HTTP_REQUEST_MAX_RETRIES allows.
        """
        if not self._store.is_http:
            run = self._store.client.create_run(
                self._store.experiment_id, start_time=started_ms, tags=dict(tags)
            )
            return _begun(run)
        return self._begin_on_server(tags, started_ms)

    def retire_doubles(self) -> int:
        """Move runs to MLflow's trash that a server began twice after all.

        A request that was given up may arrive late, when the run was looked for and created anew.

        Returns
        -------
        int
            How many there were.
        """
        with self._lock:
            doubtful, self._doubtful = self._doubtful, {}
        doubles = [
            run.info.run_id
            for identity, run_id in doubtful.items()
            for run in self._alike(identity)
            # One that is complete was written by another process: it is no leftover of ours.
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
                said = without_secrets(str(error), uri=self._store.uri)
                _log.info("beginning a run failed and is tried again: %s", said)
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
        """Return the run that an answer names, if that is the one that was asked for."""
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
        """Yield the runs of the experiment that are what ``identity`` says, the oldest first."""
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
    """Return the seconds to wait: what the server asks for, else what MLflow's client would."""
    from mlflow.environment_variables import (
        MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
        MLFLOW_HTTP_REQUEST_BACKOFF_JITTER,
    )

    asked = "" if response is None else response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return min(float(asked), _LONGEST_PAUSE)
    factor: float = MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.get()  # type: ignore[no-untyped-call]
    jitter: float = MLFLOW_HTTP_REQUEST_BACKOFF_JITTER.get()  # type: ignore[no-untyped-call]
    # At once after the first failure: mostly an idle connection was closed.
    grown = factor * 2.0**attempt if attempt else 0.0
    return min(grown + jitter * random.random(), _LONGEST_PAUSE)
