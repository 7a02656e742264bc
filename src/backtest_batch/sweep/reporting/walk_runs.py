"""Record a walk-forward: metrics of its runs, and a run for each split."""

from collections.abc import Iterator

import numpy as np

from backtest_batch.comparison.walk_forward import ScenarioWalk
from backtest_batch.errors import StoreError
from backtest_batch.sweep.reporting.comparison import Compared
from backtest_batch.sweep.session import Session
from backtest_batch.tracking.search import read_runs
from backtest_batch.tracking.walk_runs import SplitRun

WINDOWS = ("train_start", "train_end", "test_start", "test_end")


def record_walk(session: Session, compared: Compared) -> str:
    """Record the walk-forward of a batch.

    Returns
    -------
    str
        Empty, or what to tell the user when something could not be recorded.
    """
    walk = compared.walk
    recorder = session.recording.recorder
    if walk is None or recorder is None or session.recording.error is not None:
        return ""
    ids = {
        record.spec.run_id: session.recording.recorded.get(record.spec.run_key)
        for record in session.in_order
    }
    found = {
        mlflow_run_id: {str(name): float(value) for name, value in values.dropna().items()}
        for run_id, values in walk.run_metrics.iterrows()
        if (mlflow_run_id := ids.get(str(run_id))) is not None
    }
    try:
        recorder.add_metrics(found)
        splits = list(_split_runs(session, walk.walks, ids))
        n_splits = sum(len(item.plan.splits) * len(item.runs.run_ids) for item in walk.walks)
        if walk.walks[0].settings.logs_split_runs(n_splits):
            if session.earlier is not None:  # an earlier attempt may have come as far as this
                again = read_runs(
                    recorder.store, batches=[session.batch_id], role="split", parts=()
                )
                recorder.retire(again["mlflow_run_id"].tolist())
            recorder.record_splits(splits)
    except StoreError as error:
        return f"{error}\nThe walk-forward is in the files of the batch, not in the store.\n"
    return ""


def _split_runs(
    session: Session, walks: tuple[ScenarioWalk, ...], ids: dict[str, str | None]
) -> Iterator[SplitRun]:
    keys = {record.spec.run_id: record.spec.run_key for record in session.in_order}
    for walk in walks:
        for split, choice in zip(walk.plan.splits, walk.choices, strict=True):
            windows = {name: str(walk.runs.index[getattr(split, name)]) for name in WINDOWS}
            for position, run_id in enumerate(walk.runs.run_ids):
                mlflow_run_id = ids.get(run_id)
                if mlflow_run_id is None:
                    continue
                metrics = {
                    prefix + name: float(values[split.number, position])
                    for prefix, part in (("is_", walk.in_sample), ("oos_", walk.out_of_sample))
                    for name, values in zip(part.names, part.values, strict=True)
                    if np.isfinite(values[split.number, position])
                }
                yield SplitRun(
                    run_key=keys[run_id],
                    run_id=run_id,
                    mlflow_run_id=mlflow_run_id,
                    split=split.number,
                    windows=windows,
                    chosen=choice == position,
                    metrics=metrics,
                )
