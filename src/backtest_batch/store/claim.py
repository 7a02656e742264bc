"""Who works on a batch: the tag ``claim`` of its parent run, which only one process can take.

A batch is claimed from its first moment until its process has nothing left to do with it, which is
later than its end in the store: reports are moved after that. Whoever resumes a batch takes the
claim first, and marks the runs that a dead process left RUNNING.

In a database one statement takes a claim: it changes the value only if it is still the one that was
read (compare and set). A tracking server has no such request: there the claim is written, and read
back after a pause; of several processes that write at once, the last one has it. Only a process
that is delayed for longer than the pause, exactly between reading and writing, could escape that.
"""

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping

from backtest_batch.errors import ConfigurationError, StoreError
from backtest_batch.store.client import has_tag, searched
from backtest_batch.store.mlflow_run import now_ms
from backtest_batch.store.process import host_name, lives, this_process
from backtest_batch.store.sql import run_tables
from backtest_batch.store.store import Store

CLAIM = "claim"
"""The tag of the parent run; absent when nobody works on the batch."""

_ATTEMPTS = 5
_PAUSE_SECONDS = 2.0

_claims: "dict[str, list[tuple[Store, str, str]]]" = {}
"""By batch: the store, the parent run and the text of each claim that this process holds."""
_lock = threading.Lock()


def new_claim() -> str:
    """Return the text of a new, unique claim of this process."""
    return json.dumps({**this_process().tags, "token": secrets.token_hex(8)})


def hold(store: "Store", batch_id: str, run_id: str, text: str) -> None:
    """Remember that this process holds a claim."""
    with _lock:
        _claims.setdefault(batch_id, []).append((store, run_id, text))


def holds(batch_id: str, run_id: str) -> bool:
    """Return whether this process holds the claim of a batch by its parent run."""
    with _lock:
        return any(run_id == parent for _, parent, _ in _claims.get(batch_id, ()))


def follow(store: "Store", batch_id: str, run_id: str) -> None:
    """Remember that a claim of this process has moved to another store, a copy of the first."""
    with _lock:
        _claims[batch_id] = [
            (store, parent, text) if parent == run_id else (before, parent, text)
            for before, parent, text in _claims.get(batch_id, ())
        ]


def take(
    store: "Store", batch_id: str, run_id: str, refuse: Callable[[Mapping[str, str]], None]
) -> None:
    """Take the claim of a batch, or raise.

    Parameters
    ----------
    store, batch_id, run_id
        Where the batch is, its id, and MLflow's id of its parent run.
    refuse
        Called with the tags host, pid and process_started of the process that has the claim; raises
        unless that process has ended.

    Raises
    ------
    ConfigurationError
        When another process, or another thread of this one, works on the batch.
    StoreError
        When the store fails.
    """
    for _ in range(_ATTEMPTS):
        with store.calling("look who works on the batch"):
            found = store.client.get_run(run_id).data.tags.get(CLAIM)
        if found is not None:
            with _lock:
                is_ours = any(found == text for *_, text in _claims.get(batch_id, ()))
            if is_ours:
                raise ConfigurationError(
                    f"resume={batch_id}: another thread of this process works on this batch"
                )
            refuse(process_of(found))
        text = new_claim()
        with store.calling("claim the batch"):
            taken = _put(store, run_id, found, text)
        if taken:
            hold(store, batch_id, run_id, text)
            return
    raise ConfigurationError(
        f"resume={batch_id}: other processes are going on with this batch already"
    )


def release(batch_id: str) -> None:
    """Give up the claims of this process on a batch; in a lost store they remain.

    Whoever resumes the batch takes over the claim of an ended process.
    """
    with _lock:
        claims = _claims.pop(batch_id, [])
    for store, run_id, text in claims:
        if not store.is_gone:
            with contextlib.suppress(StoreError), store.calling("release the batch"):
                _remove(store, run_id, text)


def process_of(text: str) -> dict[str, str]:
    """Return the tags of the process that has a claim; empty for any other text."""
    try:
        found = json.loads(text)
    except ValueError:
        found = {}
    values = found if isinstance(found, dict) else {}
    return {name: str(values.get(name, "")) for name in this_process().tags}


def _put(store: "Store", run_id: str, found: str | None, text: str) -> bool:
    """Replace the claim that was found; return whether ours is now the valid one."""
    if store.engine is None:
        store.client.set_tag(run_id, CLAIM, text)
        time.sleep(_PAUSE_SECONDS)
        return store.client.get_run(run_id).data.tags.get(CLAIM) == text
    from sqlalchemy.exc import IntegrityError

    tags = run_tables().tags
    with store.engine.begin() as connection:
        if found is not None:
            changed = connection.execute(
                tags.update()
                .where(tags.c.run_uuid == run_id, tags.c.key == CLAIM, tags.c.value == found)
                .values(value=text)
            )
            return changed.rowcount == 1
        try:
            connection.execute(tags.insert().values(run_uuid=run_id, key=CLAIM, value=text))
        except IntegrityError:  # another process was faster
            connection.rollback()
            return False
    return True


def _remove(store: "Store", run_id: str, text: str) -> None:
    if store.engine is None:
        if store.client.get_run(run_id).data.tags.get(CLAIM) == text:
            store.client.delete_tag(run_id, CLAIM)
        return
    tags = run_tables().tags
    with store.engine.begin() as connection:
        connection.execute(
            tags.delete().where(
                tags.c.run_uuid == run_id, tags.c.key == CLAIM, tags.c.value == text
            )
        )


def mark_dead_runs(store: Store) -> int:
    """Mark as KILLED what is RUNNING but was begun by a dead process of this host.

    That concerns batches and runs. Those of other hosts, or without a process, are left alone.

    Returns
    -------
    int
        Number of marked batches and runs.
    """
    from mlflow.exceptions import MlflowException

    here = has_tag("host", host_name())
    with store.calling("mark the runs of dead processes"):
        dead = [
            run.info.run_id
            for run in searched(store, f"attributes.status = 'RUNNING' and {here}")
            if "batch_id" in run.data.tags
            and not lives(run.data.tags.get("pid", ""), run.data.tags.get("process_started", ""))
        ]
        for run_id in dead:
            try:
                store.client.set_terminated(run_id, "KILLED", now_ms())
            except MlflowException as error:
                # Another command may have moved it to the trash meanwhile.
                if error.error_code not in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
                    raise
    return len(dead)
