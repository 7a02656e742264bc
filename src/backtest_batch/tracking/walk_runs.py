"""What a walk-forward adds to the store: a run for each split."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from backtest_batch.tracking.entries import BatchInfo, RunEntry, common_tags, metrics_of, tags_of
from backtest_batch.tracking.values import RUN_NAME_LENGTH, storable_text


@dataclass(frozen=True, kw_only=True)
class SplitRun:
    """One run on one split of a walk-forward.

    Attributes
    ----------
    run_key, run_id, mlflow_run_id
        The run that was split; the split's MLflow run stands below it.
    split
        Number of the split, from 0.
    windows
        First and last bar of training and test: train_start, train_end, test_start, test_end.
    chosen
        Whether the run was chosen in this split.
    metrics
        In-sample metrics ``is_*`` and out-of-sample ones ``oos_*``.
    """

    run_key: str
    run_id: str
    mlflow_run_id: str
    split: int
    windows: Mapping[str, str]
    chosen: bool
    metrics: Mapping[str, float]


def split_entry(run: SplitRun, batch: BatchInfo, ended_ms: int) -> RunEntry:
    """Return the entry of one split."""
    name = storable_text(f"{run.run_id} split {run.split}", RUN_NAME_LENGTH)
    tags = {
        **common_tags(batch, name),
        "mlflow.parentRunId": run.mlflow_run_id,
        "batch_role": "split",
        "run_id": run.run_id,
        "run_key": run.run_key,
        "split": str(run.split),
        "chosen": json.dumps(run.chosen),
    }
    return RunEntry(
        name=name,
        status="FINISHED",
        started_ms=batch.started_ms,
        ended_ms=ended_ms,
        params=dict(run.windows),
        metrics=metrics_of(run.metrics),
        tags=tags_of(tags),
    )
