"""A verdict on returns from elsewhere, and what became of a winner, as runs in MLflow.

They have the roles ``verdict`` and ``monitor``: they are no batches, have no runs below them, and
cannot be resumed. So ``batch=latest``, ``resume=latest`` and the count of earlier trials pass them
over.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backtest_batch.store.claim import mark_dead_runs, release
from backtest_batch.store.folders import new_batch_id
from backtest_batch.store.mlflow_run import BatchInfo, is_number, now_ms
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.store import Store
from backtest_batch.values import flattened

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
    verdict = document["verdict"]
    return _record_alone(
        store,
        name,
        tags={"batch_role": VERDICT_ROLE, "verdict": verdict["label"]},
        params=params,
        metrics={key: value for key, value in document.items() if is_number(value)},
        artifacts=artifacts,
        note=[verdict["sentence"], "", *(f"- {line}" for line in verdict["reasons"])],
    )


MONITOR_ROLE = "monitor"
"""The tag batch_role of a run that says what became of a winner."""

MONITOR_OF = "monitor_of"
"""Its tag with the batch_id of the batch that the winner won."""


def record_monitor(
    store: Store,
    *,
    name: str,
    document: Mapping[str, Any],
    params: Mapping[str, Any],
    artifacts: Path,
) -> str:
    """Record what became of a winner, and return its MLflow run id.

    Parameters
    ----------
    store
        Where to write.
    name
        Name of the run.
    document
        monitor.json; its numbers become metrics with dotted names, its answer a tag.
    params
        How it was asked for.
    artifacts
        Folder whose files are copied.

    Raises
    ------
    StoreError
        When the store fails.
    """
    parts = ("realised", "promised", "evalue", "evalue_now")
    numbers = {
        **{key: document[key] for key in ("n_bars", "n_returns")},
        **dict(flattened({key: document[key] for key in parts})),
    }
    return _record_alone(
        store,
        name,
        tags={
            "batch_role": MONITOR_ROLE,
            "answer": document["answer"],
            MONITOR_OF: document["batch_id"] or "unknown",
            "since": document["since"],
        },
        params=params,
        metrics={key: value for key, value in numbers.items() if is_number(value)},
        artifacts=artifacts,
        note=[
            str(document["sentence"]),
            "",
            *(f"- {line}" for line in (*document["reasons"], *document["notes"])),
        ],
    )


def _record_alone(
    store: Store,
    name: str,
    *,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Path,
    note: Sequence[str],
) -> str:
    """Record a run that is no batch, and return its MLflow run id."""
    batch_id = new_batch_id()
    info = BatchInfo(batch_id=batch_id, batch_name=name, n_runs=0, started_ms=now_ms())
    recorder = Recorder(store, info, writer="client")
    mark_dead_runs(store)
    try:
        run_id = recorder.start_parent(
            tags=tags, params={key: value for key, value in params.items() if value is not None}
        )
        recorder.finish_parent(
            "FINISHED", metrics=metrics, artifacts=artifacts, note="\n".join(note)
        )
    finally:
        release(batch_id)
    return run_id
