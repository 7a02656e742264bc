"""Compare the runs of a batch from what is in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.batch.forward import periods_per_year
from backtest_batch.batch.returns import BatchReturns, batch_returns
from backtest_batch.comparison.caps import cap_notes
from backtest_batch.comparison.conclusion import Conclusion, ReturnsOfRuns, conclude
from backtest_batch.comparison.overfitting import OverfittingSettings
from backtest_batch.comparison.ranking import Ranking
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.comparison.scenarios import AxisKinds, is_market
from backtest_batch.comparison.walk_forward import sentences
from backtest_batch.interrupt import heed
from backtest_batch.records import RunResult
from backtest_batch.stored.selection import with_earlier_runs
from backtest_batch.sweep.decisions import decision_labels, source_kind, source_label
from backtest_batch.sweep.out_of_sample import BatchWalk, walk_batch
from backtest_batch.sweep.session import Session
from backtest_batch.sweep.stopwatch import Stopwatch
from backtest_batch.tracking.trials import earlier_decisions


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """A batch, compared.

    Attributes
    ----------
    conclusion
        Ranking, sensitivity and verdict. Its first rows are the runs of the batch in the order in
        which they were planned; rows of earlier batches may follow.
    returns
        Net returns of the batch.
    walk
        The walk-forward; None without one.
    """

    conclusion: Conclusion
    returns: BatchReturns
    walk: BatchWalk | None

    @property
    def walk_order(self) -> list[int]:
        """Positions of the walks, that of the run that ranks first before the others."""
        if self.walk is None:
            return []
        best = self.conclusion.best
        runs = self.conclusion.table.runs
        first = 0
        # Runs of earlier batches may be compared too; they are not walked.
        if best is not None and runs["batch_id"][best] == runs["batch_id"].iloc[0]:
            first = self.walk.first(str(runs["run_id"][best]))
        others = [place for place in range(len(self.walk.walks)) if place != first]
        return [first, *others]

    @property
    def walk_sentences(self) -> list[str]:
        """What the first of these walks found; empty without one."""
        if self.walk is None:
            return []
        return sentences(self.walk.findings[self.walk_order[0]])


def compare(session: Session, ranking: Ranking, watch: Stopwatch) -> Compared:
    """Compare the runs of a batch."""
    with watch.stage("comparison"):
        table = run_table(session)
        lost = session.lost_returns()
        returns = batch_returns(
            session.workspace,
            session.plan.runs,
            session.plan.panels,
            lost=[spec.index for spec in lost],
        )
        walk = None if lost else walk_batch(session, table, returns, ranking)
        if walk is not None:
            table = _with_out_of_sample(table, walk)
        kinds = AxisKinds.of(session.config)
        notes: Sequence[str] = session.notes
        if lost:
            notes = (*notes, f"The returns of {len(lost)} runs are missing: there is no verdict.")
        recorder = session.recording.recorder
        if session.config["filter_tags"] and recorder is not None and not session.recording.error:
            configs = [record.spec.config for record in session.in_order]
            table, said = with_earlier_runs(
                table, configs, recorder.store, session.config["filter_tags"], kinds
            )
            notes = (*notes, *said)
        notes = (*notes, *cap_notes(session.in_order, session.plan.swept))
        notes = (*notes, *kinds.without_effect(list(table.params.columns)))
        heed()
        conclusion = conclude(
            table,
            ranking,
            returns=None if lost else returns_of_runs(session, returns),
            settings=OverfittingSettings(
                seed=session.config["seed"], trials=session.config["trials"]
            ),
            notes=notes,
            walk_forward_t={} if walk is None else walk.t_statistics,
        )
        return Compared(conclusion=conclusion, returns=returns, walk=walk)


def run_table(session: Session) -> RunTable:
    """Return the table of the runs that have ended."""
    records = session.in_order
    table = RunTable.from_records(
        records,
        batch_id=session.batch_id,
        kinds=AxisKinds.of(session.config),
    )
    ruined = [
        isinstance(record.outcome, RunResult) and "ruined" in record.outcome.tags
        for record in records
    ]
    ids = [session.recording.recorded.get(record.spec.run_key) for record in records]
    runs = table.runs.assign(ruined=ruined, mlflow_run_id=pd.Series(ids, dtype=object))
    return RunTable(
        runs=runs,
        params=table.params,
        metrics=table.metrics,
        scenario_axes=table.scenario_axes,
    )


def _with_out_of_sample(table: RunTable, walk: BatchWalk) -> RunTable:
    """Return the table with the metrics oos_* of the walk-forward."""
    found = walk.run_metrics.reindex(table.runs["run_id"])
    metrics = pd.concat([table.metrics, found.set_axis(table.metrics.index)], axis=1)
    return RunTable(
        runs=table.runs,
        params=table.params,
        metrics=metrics,
        scenario_axes=table.scenario_axes,
    )


def returns_of_runs(session: Session, returns: BatchReturns) -> ReturnsOfRuns:
    """Return the returns of the runs that have ended, in the order of their table."""
    records = session.in_order
    rows = np.array([record.spec.index for record in records], dtype=np.int64)
    n_runs = len(session.plan.runs)
    matrix = returns.rows[:n_runs] if len(rows) == n_runs else returns.rows[rows]
    configs = [record.spec.config for record in records]
    kinds = AxisKinds.of(session.config)
    swept = session.plan.swept
    return ReturnsOfRuns(
        index=returns.index,
        returns=matrix.T,
        benchmarks=returns.rows[n_runs:].T,
        benchmark_of=[returns.benchmark_row[row] - n_runs for row in rows],
        decisions=decision_labels([record.spec for record in records], kinds),
        risk_free=[config["risk_free_rate"] / periods_per_year(config) for config in configs],
        periods_per_year=periods_per_year(session.plan.runs[0].config),
        calendars=returns.calendars,
        calendar_of=[returns.calendar_of[row] for row in rows] if returns.calendar_of else (),
        earlier_decisions=_tried_before(session, configs, kinds),
        judged_apart=[name for name in kinds.scenario_names(swept) if is_market(name)],
    )


def _tried_before(
    session: Session, configs: Sequence[Mapping[str, Any]], kinds: AxisKinds
) -> Sequence[frozenset[str]]:
    """Return what earlier batches of the experiment tried on data such as each run's.

    Other files, or other seeds, are other data to choose from, unless they are judged one by one.
    """
    recorder = session.recording.recorder
    if recorder is None or session.recording.error:
        return ()
    apart = any(kinds.is_scenario(f"data.{name}") for name in ("path", "seed"))
    label = source_label if apart else source_kind
    sources = [label(config) for config in configs]
    found = earlier_decisions(recorder.store, set(sources), batch_id=session.batch_id)
    return [found[source] for source in sources]
