"""What is recorded beside runs: equity curves, which MLflow's UI draws, and splits."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from backtest_batch.store.mlflow_run import (
    RUN_NAME_LENGTH,
    BatchInfo,
    EquityCurve,
    RunEntry,
    common_tags,
    metrics_of,
    now_ms,
    storable_text,
    tags_of,
)

MAX_POINTS = 200
"""Points a curve is thinned to: more would not be seen, and each costs a row."""


def thinned_curve(curve: EquityCurve) -> EquityCurve:
    """Return at most 200 evenly spaced bars of ``curve``, the first and the last among them."""
    n_bars = len(curve.steps)
    if n_bars <= MAX_POINTS:
        return curve
    chosen = np.linspace(0, n_bars - 1, MAX_POINTS).round().astype(np.int64)
    times = curve.timestamps_ms
    return EquityCurve(
        steps=curve.steps[chosen],
        equity=curve.equity[chosen],
        drawdown=curve.drawdown[chosen],
        timestamps_ms=None if times is None else times[chosen],
    )


def points(curve: EquityCurve) -> Iterator[tuple[str, float, int, int]]:
    """Yield name, value, time in milliseconds and step of each point of both metrics.

    Values that are not finite are left out. Bars without a time, or before 1970, whose times
    MLflow refuses, have the present time.
    """
    short, now = thinned_curve(curve), now_ms()
    times = [now] * len(short.steps)
    if short.timestamps_ms is not None:
        times = [int(time) if time >= 0 else now for time in short.timestamps_ms]
    for name, values in (("equity", short.equity), ("drawdown", short.drawdown)):
        for step, value, time in zip(short.steps, values, times, strict=True):
            if np.isfinite(value):
                yield name, float(value), time, int(step)


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
