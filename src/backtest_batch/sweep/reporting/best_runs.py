"""What the best runs of a batch carry beyond the others: their files, and curves to be drawn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from backtest_batch.batch.returns import BatchReturns
from backtest_batch.errors import StoreError
from backtest_batch.interrupt import heed
from backtest_batch.records import RunResult, RunSpec
from backtest_batch.sweep.extras import Extra, record_extras
from backtest_batch.sweep.reporting.comparison import Compared
from backtest_batch.sweep.reporting.files import best_first
from backtest_batch.sweep.reporting.page import equity_page
from backtest_batch.sweep.session import TOP_ARTIFACTS, Session
from backtest_batch.tracking.entries import EquityCurve

TOP_CURVES = 20
"""So many of the best runs have curves in MLflow's UI."""


def complete_best_runs(session: Session, compared: Compared) -> Compared:
    """Add to the best runs what only they carry, and return the comparison with what to say of it.

    What the store does not take stays in ``session.extras``, and is spooled at the end.
    """
    best = best_first(session, compared.conclusion)
    folders, notes = _files(session, best)
    extras = {
        spec.run_key: Extra(spec=spec, folder=folder)
        for spec in session.plan.runs
        if (folder := folders.get(spec.run_key)) is not None
    }
    for spec in best[:TOP_CURVES]:
        heed()
        extras[spec.run_key] = Extra(
            spec=spec,
            curve=curve_of(compared.returns, spec),
            texts={"equity.html": equity_page(compared, spec)},
            folder=folders.get(spec.run_key),
        )
    session.extras.update(extras)
    _record(session)
    conclusion = compared.conclusion
    noted = replace(conclusion, notes=(*conclusion.notes, *notes))
    return replace(compared, conclusion=noted)


def curve_of(returns: BatchReturns, spec: RunSpec) -> EquityCurve | None:
    """Return the path of a run's equity from its returns; None when it has none."""
    row = returns.rows[spec.index]
    bars = np.flatnonzero(np.isfinite(row))
    if not len(bars):
        return None
    # The bar before the first return has the initial capital.
    steps = np.concatenate(([max(bars[0] - 1, 0)], bars))
    growth = np.concatenate(([1.0], np.cumprod(1.0 + row[bars])))
    index = returns.index if returns.index.tz is None else returns.index.tz_convert("UTC")
    times = pd.DatetimeIndex(index).tz_localize(None).as_unit("ms").asi8
    return EquityCurve(
        steps=steps,
        equity=spec.config["initial_capital"] * growth,
        drawdown=growth / np.maximum.accumulate(growth) - 1.0,
        timestamps_ms=times[steps],
    )


def _files(session: Session, best: Sequence[RunSpec]) -> tuple[dict[str, Path], list[str]]:
    """Return the folders of files that runs still lack, and what to say about files.

    In a large batch workers write no files; which runs are the best is known only now, and these
    are computed again.
    """
    folders = dict(session.late_files)
    if not session.keeps_top_files or session.pending:
        return folders, []
    wanted = [
        spec
        for spec in best[:TOP_ARTIFACTS]
        if spec.index not in session.with_files and spec.run_key not in folders
    ]
    notes = []
    if len(best) > len(wanted):
        notes.append(
            f"Files are kept of the {min(TOP_ARTIFACTS, len(best))} best of "
            f"{len(session.plan.runs):,} runs, and of failed and profiled ones; "
            "tracking.artifacts=full keeps all."
        )
    outcomes = session.recompute(wanted)
    strange = []
    for spec in wanted:
        outcome = outcomes.get(spec.run_key)
        if isinstance(outcome, RunResult) and outcome.artifacts is not None:
            recorded = session.records[spec.run_key].outcome
            assert isinstance(recorded, RunResult)
            if dict(outcome.metrics) == dict(recorded.metrics):
                folders[spec.run_key] = outcome.artifacts
                continue
        strange.append(spec.run_id)
    if strange:
        notes.append(
            f"{', '.join(strange[:5])}{' and others' if len(strange) > 5 else ''}: computed again "
            "for their files, these came to something else or failed; they have no files."
        )
    return folders, notes


def _record(session: Session) -> None:
    recording = session.recording
    if recording.error is not None or recording.recorder is None:
        return
    try:
        record_extras(recording.recorder, session.extras, recording.recorded)
    except StoreError as error:
        recording.error = error
    else:
        session.recorded_extras.update(session.extras)
        session.extras.clear()
