"""What a tracking server answers is believed only when it is what was asked for.

Between here and the server there may be a proxy, a login page or a cache that answers everything
with 200, and the run of somebody else. So what was sent to a server is read back before its run
ends, and whoever answers otherwise has not recorded it.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backtest_batch.errors import StoreError
from backtest_batch.tracking.address import without_secrets

if TYPE_CHECKING:
    from backtest_batch.tracking.store import Store


def unbelievable(shown: str, what: str) -> StoreError:
    """Return the error about a server that answers something else than it was asked."""
    return StoreError(
        f"The tracking server {without_secrets(shown)} answers, but {what}. Check that "
        "tracking.uri is its address, and what stands between: a proxy, a login page or a cache."
    )


def require_recorded(
    store: "Store",
    run_id: str,
    *,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Check that a server has what it was sent of a run; a database need not be asked.

    Raises
    ------
    StoreError
        When it has not.
    """
    if not store.is_http:
        return
    run = store.client.get_run(run_id)
    if run.info.run_id != run_id:
        raise unbelievable(store.shown, f"not about the run {run_id} that it was asked for")
    held: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
        ("parameter", params or {}, run.data.params),
        ("metric", metrics or {}, run.data.metrics),
        ("tag", tags or {}, run.data.tags),
    ]
    for kind, sent, found in held:
        for key, value in sent.items():
            if not _is_same(value, found.get(key)):
                raise unbelievable(
                    store.shown, f"does not have the {kind} {key} that was sent for {run_id}"
                )


def end_run(store: "Store", run_id: str, status: str, ended_ms: int) -> None:
    """End a run, and check that a server says so.

    Raises
    ------
    StoreError
        When it says something else.
    """
    if not store.is_http:
        store.client.set_terminated(run_id, status, ended_ms)
        return
    info = store.update_run(run_id, status, ended_ms)
    if (info.run_id, info.status) != (run_id, status):
        raise unbelievable(store.shown, f"does not say that the run {run_id} is {status} now")


def _is_same(sent: Any, found: Any) -> bool:
    if isinstance(sent, float) and isinstance(found, float):
        return math.isclose(sent, found, rel_tol=1e-12)
    return bool(sent == found)
