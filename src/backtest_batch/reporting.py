"""The end of a sweep: its comparison, its files, its last words."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.batch.files import write_json
from backtest_batch.batch.returns import BatchReturns, batch_returns, write_returns
from backtest_batch.comparison.conclusion import Conclusion, ReturnsOfRuns, conclude
from backtest_batch.comparison.overfitting import OverfittingSettings
from backtest_batch.comparison.ranking import Ranking
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.decisions import decision_label
from backtest_batch.engine.metrics import periods_per_year_of
from backtest_batch.errors import StoreError
from backtest_batch.records import RunResult, Status
from backtest_batch.report.best_params import RunDetails, best_rows, json_text
from backtest_batch.report.documents import comparison_documents
from backtest_batch.report.terminal import print_leaderboard
from backtest_batch.resume import spool_places
from backtest_batch.session import Session
from backtest_batch.stopwatch import Stopwatch
from backtest_batch.tracking.spool import Spool


def compare(session: Session, ranking: Ranking, watch: Stopwatch) -> Conclusion:
    """Compare the runs of a batch from what is in memory."""
    with watch.stage("comparison"):
        table = run_table(session)
        returns = batch_returns(session.workspace, session.plan.runs, session.plan.panels)
        return conclude(
            table,
            ranking,
            returns=returns_of_runs(session, returns),
            settings=OverfittingSettings(
                seed=session.config["seed"], trials=session.config["trials"]
            ),
            notes=session.plan.notes,
        )


def run_table(session: Session) -> RunTable:
    """Return the table of the runs that have ended."""
    records = session.in_order
    table = RunTable.from_records(
        records,
        batch_id=session.batch_id,
        scenario_axes=session.config["scenario_axes"],
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


def returns_of_runs(session: Session, returns: BatchReturns) -> ReturnsOfRuns:
    """Return the returns of the runs that have ended, in the order of their table."""
    records = session.in_order
    rows = np.array([record.spec.index for record in records], dtype=np.int64)
    n_runs = len(session.plan.runs)
    whole = len(rows) == n_runs
    matrix = returns.rows[:n_runs] if whole else returns.rows[rows]
    configs = [record.spec.config for record in records]
    bars = periods_per_year(configs[0]) if configs else 252.0
    axes = tuple(session.config["scenario_axes"])
    return ReturnsOfRuns(
        index=returns.index,
        returns=matrix.T,
        benchmarks=returns.rows[n_runs:].T,
        benchmark_of=[returns.benchmark_row[row] - n_runs for row in rows],
        decisions=[decision_label(config, axes) for config in configs],
        risk_free=[config["risk_free_rate"] / periods_per_year(config) for config in configs],
        periods_per_year=bars,
    )


def periods_per_year(config: Mapping[str, Any]) -> float:
    """Return the bars a year of a run."""
    given = config["periods_per_year"]
    return float(periods_per_year_of(config["data"].get("freq", "1d")) if given is None else given)


def finish(session: Session, conclusion: Conclusion, watch: Stopwatch) -> int:
    """Write the reports, end the parent run, and return the exit code."""
    folder = session.workspace.reports
    with watch.stage("report"):
        write_reports(session, conclusion, watch)
    write_json(folder / "batch_timings.json", timings(session, watch))
    stopped = bool(session.pending)
    unrecorded = end_parent(
        session,
        "FAILED" if stopped else "FINISHED",
        metrics=benchmark_metrics(session, conclusion),
        artifacts=folder,
        note=(folder / "batch_summary.md").read_text(encoding="utf-8"),
    )
    for file in sorted(folder.iterdir()):
        file.replace(session.workspace.output_dir / file.name)
    session.workspace.close()
    if unrecorded:
        sys.stderr.write(unrecorded)
        return 3
    return 1 if session.failed or stopped else 0


def end_parent(
    session: Session,
    status: Status,
    *,
    metrics: Mapping[str, float] | None = None,
    artifacts: Path | None = None,
    note: str = "",
) -> str:
    """End the parent run, or keep on disk what the store does not take.

    Returns
    -------
    str
        Empty, or what to tell the user when something could not be recorded.
    """
    recording = session.recording
    try:
        if recording.error is not None:
            raise recording.error
        recording.require_open().finish_parent(
            status, tags=session.counts(), metrics=metrics, artifacts=artifacts, note=note
        )
    except StoreError as error:
        kept = spool(session, status, metrics=metrics, artifacts=artifacts, note=note)
        if kept is None:
            return (
                f"{error}\n{len(recording.unrecorded)} results are lost: no folder can be "
                f"written to keep them. Compute them again: "
                f"python -m backtest_batch resume={session.batch_id}\n"
            )
        return (
            f"{error}\n{len(recording.unrecorded)} runs are computed but not recorded; they are "
            f"kept in {kept}.\nTo record them: python -m backtest_batch "
            f"resume={session.batch_id}\n"
        )
    return ""


def spool(
    session: Session,
    status: Status,
    *,
    metrics: Mapping[str, float] | None,
    artifacts: Path | None,
    note: str,
) -> Path | None:
    """Keep what the store did not take in a folder, and return it; None when none can be had."""
    recording = session.recording
    assert recording.recorder is not None
    for place in spool_places(session.batch_id, session.workspace.output_dir):
        try:
            kept = Spool(
                place,
                store_uri=recording.recorder.store.uri,
                experiment=recording.recorder.store.experiment,
                batch=recording.recorder.batch,
                parent_run_id=recording.recorder.parent_run_id,
            )
            for record in recording.unrecorded:
                kept.add(record)
            kept.finish(
                status, tags=session.counts(), metrics=metrics, artifacts=artifacts, note=note
            )
        except OSError:
            continue
        return place
    return None


def write_reports(session: Session, conclusion: Conclusion, watch: Stopwatch) -> None:
    """Write the tables and documents of a batch."""
    folder, top_n = session.workspace.reports, session.config["top_n"]
    documents = comparison_documents(
        conclusion,
        title=session.config["batch_name"],
        top_n=top_n,
        details={row: _details(session, row) for row in best_rows(conclusion.ranked, top_n)},
        verdict=conclusion.verdict,
        timings=watch.seconds,
    )
    if conclusion.assessment is not None:
        documents["overfitting.json"] = json_text(conclusion.assessment.document)
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    for file in session.workspace.start_files.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    _write_returns(session, conclusion)


def _write_returns(session: Session, conclusion: Conclusion) -> None:
    returns = batch_returns(session.workspace, session.plan.runs, session.plan.panels)
    specs = {record.spec.run_id: record.spec for record in session.in_order}
    best_first = conclusion.table.runs["run_id"].reindex(conclusion.ranked.index)
    finished = {record.spec.run_id for record in session.in_order if record.status == "FINISHED"}
    names = [name for name in best_first if name in finished]
    most = max(1, session.config["tracking"]["returns_max_cells"] // len(returns.index))
    kept = set(names[:most])
    columns = {name: spec.index for name, spec in specs.items() if name in kept}
    first = specs[names[0]] if names else None
    benchmark = None if first is None else returns.benchmark_row[first.index]
    write_returns(session.workspace.reports / "returns.parquet", returns, columns, benchmark)


def _details(session: Session, row: Any) -> RunDetails:
    spec = session.in_order[row].spec
    return RunDetails(
        config=spec.config,
        command=("python", "-m", "backtest_batch", *spec.overrides),
        mlflow_run_id=session.recording.recorded.get(spec.run_key),
    )


def benchmark_metrics(session: Session, conclusion: Conclusion) -> dict[str, float]:
    """Return the metrics of the benchmark of the run that ranks first, named benchmark_*."""
    from backtest_batch.batch.compute import benchmark_key

    records = session.in_order
    if not records:
        return {}
    spec = records[conclusion.best if conclusion.best is not None else 0].spec
    metrics = session.benchmarks.get(benchmark_key(spec), {})
    return {f"benchmark_{name}": value for name, value in metrics.items()}


def timings(session: Session, watch: Stopwatch) -> dict[str, Any]:
    """Return batch_timings.json: seconds by stage, and how the runs' times are spread."""
    results = [
        record.outcome for record in session.in_order if isinstance(record.outcome, RunResult)
    ]
    runtimes = np.array([result.runtime_s for result in results])
    quantiles = {}
    if len(runtimes):
        marks = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}
        quantiles = {name: float(np.quantile(runtimes, mark)) for name, mark in marks.items()}
    execution = watch.seconds.get("execution", 0.0)
    busy = execution * min(session.config["n_jobs"], max(1, len(results)))
    return {
        "stages_s": watch.seconds,
        "total_s": sum(watch.seconds.values()),
        "n_runs": len(session.in_order),
        "run_runtime_s": {"total": float(runtimes.sum()), **quantiles},
        "n_jobs": session.config["n_jobs"],
        "parallel_efficiency": float(runtimes.sum()) / busy if busy else None,
    }


def print_summary(session: Session, conclusion: Conclusion) -> None:
    """Print the leaderboard, the verdict, and where to look further."""
    columns = None
    print_leaderboard(
        conclusion.table,
        conclusion.ranked,
        conclusion.ranking,
        top_n=session.config["top_n"],
        verdict=conclusion.sentence,
        notes=conclusion.notes,
        extra=columns,
    )
    recorder = session.recording.require_open()
    sys.stdout.write(
        f"\nReports: {session.workspace.output_dir}\n"
        f"Browse:  {recorder.store.ui_command}\n"
        f"Filter:  tags.batch_id = '{session.batch_id}' and tags.batch_role = 'run'\n"
    )
