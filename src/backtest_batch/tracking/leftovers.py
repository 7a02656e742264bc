"""Runs that a process left behind when it died."""

from backtest_batch.tracking.entries import now_ms
from backtest_batch.tracking.paging import has_tag, searched
from backtest_batch.tracking.process import host_name, lives
from backtest_batch.tracking.store import Store


def mark_dead_runs(store: Store) -> int:
    """Mark as KILLED what is RUNNING but was begun by a process of this host that is gone.

    Batches and runs alike. Runs of other hosts, and runs that carry no process, are left alone.

    Returns
    -------
    int
        How many were marked.
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
