"""A verdict on returns from elsewhere, as a run in MLflow.

It has the role ``verdict``: it is no batch, has no runs below it, and cannot be resumed. So
``batch=latest``, ``resume=latest`` and the count of earlier trials pass it over.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backtest_batch.store.claim import mark_dead_runs, release
from backtest_batch.store.folders import new_batch_id
from backtest_batch.store.mlflow_run import BatchInfo, is_number, now_ms
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.store import Store

VERDICT_ROLE = "verdict"
"""The tag batch_role of such a run."""


def record_verdict(
    store: Store,
    *,
    name: str,
    document: Mapping[str, Any],
    params: Mapping[str, Any],
    artifacts: Path,
) -> str:
    """Record a verdict, and return its MLflow run id.

    Parameters
    ----------
    store
        Where to write.
    name
        Name of the run.
    document
        overfitting.json; its numbers become metrics, its label a tag.
    params
        How it was asked for.
    artifacts
        Folder whose files are copied.

    Raises
    ------
    StoreError
        When the store fails.
    """
    batch_id = new_batch_id()
    info = BatchInfo(batch_id=batch_id, batch_name=name, n_runs=0, started_ms=now_ms())
    recorder = Recorder(store, info, writer="client")
    mark_dead_runs(store)
    verdict = document["verdict"]
    try:
        run_id = recorder.start_parent(
            tags={"batch_role": VERDICT_ROLE, "verdict": verdict["label"]},
            params={key: value for key, value in params.items() if value is not None},
        )
        recorder.finish_parent(
            "FINISHED",
            metrics={key: value for key, value in document.items() if is_number(value)},
            artifacts=artifacts,
            note="\n".join(
                [verdict["sentence"], "", *(f"- {line}" for line in verdict["reasons"])]
            ),
        )
    finally:
        release(batch_id)
    return run_id
