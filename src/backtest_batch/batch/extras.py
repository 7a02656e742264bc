"""What is added to runs after they were recorded: curves, pages, folders."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backtest_batch.records import RunSpec
from backtest_batch.store.mlflow_run import EquityCurve
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.spool import Spool


@dataclass(frozen=True, kw_only=True)
class Extra:
    """Curve and files that are added to a run after it was recorded.

    Attributes
    ----------
    spec
        The run.
    curve
        Its equity and drawdown, or None.
    texts
        Text files by name.
    folder
        Folder with further files, or None.
    tags
        Further tags.
    """

    spec: RunSpec
    curve: EquityCurve | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def record_extras(
    recorder: Recorder, extras: Mapping[str, Extra], run_ids: Mapping[str, str]
) -> None:
    """Add extras, by run key, to the runs whose MLflow ids are given by run key.

    Raises
    ------
    StoreError
        When the store fails.
    """
    found = [(run_ids[key], extra) for key, extra in extras.items() if key in run_ids]
    curves = {run_id: extra.curve for run_id, extra in found if extra.curve is not None}
    if curves:
        recorder.log_curves(curves)
    recorder.add_tags({run_id: extra.tags for run_id, extra in found if extra.tags})
    recorder.add_files([(run_id, extra.texts, extra.folder) for run_id, extra in found])


def spool_extras(spool: Spool, extras: Mapping[str, Extra]) -> None:
    """Keep extras in a spool.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    for extra in extras.values():
        if extra.curve is not None:
            spool.add_curve(extra.spec, extra.curve)
        spool.add_texts(extra.spec, extra.texts)
        if extra.tags:
            spool.add_tags(extra.spec, extra.tags)
        if extra.folder is not None:
            later = spool.folder / "runs" / extra.spec.run_id / "later"
            shutil.copytree(extra.folder, later, dirs_exist_ok=True)
