"""The files of a batch, and the end of its parent run."""

from collections.abc import Mapping
from typing import Any

from backtest_batch.batch.returns import write_returns
from backtest_batch.comparison.conclusion import Conclusion
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.interrupt import heed
from backtest_batch.records import RunSpec
from backtest_batch.report.best_params import RunDetails, best_rows, json_text
from backtest_batch.report.documents import comparison_documents
from backtest_batch.stored.files import details_of
from backtest_batch.sweep.reporting.comparison import Compared
from backtest_batch.sweep.reporting.page import page
from backtest_batch.sweep.reporting.walk_files import walk_documents, walk_section
from backtest_batch.sweep.session import Session
from backtest_batch.sweep.stopwatch import Stopwatch


def verdict_fails(session: Session, conclusion: Conclusion) -> str:
    """Return what to say when the verdict is one that fails the command; empty otherwise."""
    verdict = conclusion.verdict
    if verdict is None or verdict["label"] not in session.config["fail_on_verdict"]:
        return ""
    return f"fail_on_verdict: the verdict is {verdict['label']}.\n"


def write_reports(session: Session, compared: Compared, watch: Stopwatch) -> None:
    """Write the tables and documents of a batch."""
    conclusion, table = compared.conclusion, compared.conclusion.table
    folder, top_n = session.workspace.reports, session.config["top_n"]
    details = {row: _details(session, table, row) for row in best_rows(conclusion.ranked, top_n)}
    documents = comparison_documents(
        conclusion,
        title=session.config["batch_name"],
        top_n=top_n,
        details=details,
        verdict=conclusion.verdict,
        timings=watch.seconds,
    )
    if conclusion.assessment is not None:
        documents["overfitting.json"] = json_text(conclusion.assessment.document)
    documents["batch_summary.md"] += walk_section(compared)
    heed()
    documents |= walk_documents(folder, compared)
    benchmark = session_benchmark(session, conclusion)
    documents["report.html"] = page(session, compared, details, benchmark, watch.seconds)
    heed()
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    for file in session.workspace.start_files.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    heed()
    _write_returns(session, compared)


def _write_returns(session: Session, compared: Compared) -> None:
    returns = compared.returns
    finished = best_first(session, compared.conclusion)
    most = max(1, session.config["tracking"]["returns_max_cells"] // len(returns.index))
    kept = sorted(finished[:most], key=lambda spec: spec.index)
    columns = {spec.run_id: spec.index for spec in kept}
    benchmark = returns.benchmark_row[finished[0].index] if finished else None
    write_returns(session.workspace.reports / "returns.parquet", returns, columns, benchmark)


def best_first(session: Session, conclusion: Conclusion) -> list[RunSpec]:
    """Return the finished runs of the batch itself, the best first."""
    records = session.in_order
    rows = [row for row in conclusion.ranked.index if row < len(records)]
    return [records[row].spec for row in rows if records[row].status == "FINISHED"]


def _details(session: Session, table: RunTable, row: Any) -> RunDetails:
    records = session.in_order
    if row >= len(records):  # a run of an earlier batch that filter_tags added
        store = session.recording.require_open().store
        return details_of(store, table, [row])[row]
    spec = records[row].spec
    return RunDetails(
        config=spec.config,
        command=("python", "-m", "backtest_batch", *spec.overrides),
        mlflow_run_id=session.recording.recorded.get(spec.run_key),
        environment=session.facts,
        is_own=True,
    )


def benchmark_metrics(session: Session, conclusion: Conclusion) -> dict[str, float]:
    """Return the metrics of the benchmark for the parent run, named benchmark_*."""
    metrics = session_benchmark(session, conclusion)
    return {f"benchmark_{name}": value for name, value in metrics.items()}


def session_benchmark(session: Session, conclusion: Conclusion) -> Mapping[str, float]:
    """Return the metrics of the benchmark of the run that ranks first."""
    finished = best_first(session, conclusion)
    return session.benchmarks.get(finished[0].benchmark_key, {}) if finished else {}
