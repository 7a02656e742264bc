"""The files that a batch writes at its end: pages, tables, walk-forward, best runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.conclusion import Conclusion
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.walk_forward.tables import (
    aggregate_table,
    choices_table,
    compared_curves,
    csv_bytes,
    equity_table,
    summary_table,
)
from backtest_batch.arrays import FloatArray
from backtest_batch.batch.extras import Extra
from backtest_batch.batch.judging import Compared
from backtest_batch.batch.log import Stopwatch
from backtest_batch.batch.provenance import user_tags
from backtest_batch.batch.returns import BatchReturns, write_returns
from backtest_batch.batch.session import TOP_ARTIFACTS, Session
from backtest_batch.interrupt import heed
from backtest_batch.records import Benchmark, RunResult, RunSpec
from backtest_batch.report.best_params import RunDetails, best_rows, json_text
from backtest_batch.report.html.data import Curves, WalkForwardView
from backtest_batch.report.html.figures import MAX_CURVES, render_equity, returns_curves
from backtest_batch.report.html.page import render_report
from backtest_batch.report.markdown import comparison_documents, report_data
from backtest_batch.report.tables import csv_text, markdown_text
from backtest_batch.store.mlflow_run import EquityCurve
from backtest_batch.store.recorded import details_of


def page(
    session: Session,
    compared: Compared,
    details: Mapping[Any, RunDetails],
    benchmark_metrics: Mapping[str, float],
    timings: Mapping[str, float],
) -> str:
    """Return report.html."""
    config = session.config
    data = report_data(
        compared.conclusion,
        title=config["batch_name"],
        details=details,
        description=config["description"],
        tags=user_tags(config),
        facts=_facts(session),
        provenance=_provenance(session),
        curves=_curves(session, compared),
        benchmark_metrics=benchmark_metrics,
        benchmark_name=_benchmark_name(session, compared.conclusion),
        walk_forward=_walk_forward(compared),
        timings=timings,
    )
    return render_report(data)


def equity_page(compared: Compared, spec: RunSpec) -> str:
    """Return equity.html of one run."""
    returns = compared.returns
    return render_equity(
        title=spec.run_name,
        timestamps=_stamps(returns.index),
        net_returns=returns.rows[spec.index],
        benchmark=returns.of_benchmark(spec.index),
    )


def _facts(session: Session) -> dict[str, str]:
    panel = session.plan.panels[session.plan.runs[0].data_fingerprint]
    counts = session.counts()
    names = dict.fromkeys(run.benchmark.name for run in session.plan.runs)
    shown = {"Benchmark": ", ".join(names)} if list(names) != [Benchmark().name] else {}
    own = "read by the strategy (data=none)"
    ends = {"From": _moment(panel.index[0]), "To": _moment(panel.index[-1])} if panel.n_bars else {}
    data = own if session.plan.own_data else f"{panel.n_assets} symbols"
    return {
        "Batch": session.batch_id,
        "Runs": f"{counts['n_finished']} finished, {counts['n_failed']} failed",
        "Data": f"{data}, {panel.n_bars:,} bars",
        **ends,
        **shown,
    }


def _provenance(session: Session) -> dict[str, dict[str, str]]:
    facts = session.facts
    first = session.plan.runs[0]
    return {
        "Command": {"arguments": " ".join(facts["command"]), "seed": str(facts["seed"])},
        "Machine": {
            name: str(facts[name]) for name in ("host", "platform", "machine", "cpu_count")
        },
        "Versions": {
            "python": f"{facts['python']}, PYTHONHASHSEED={facts['hash_seed']}",
            **facts["packages"],
        },
        "Version control": {
            "commit": facts["git_commit"] or "not a git repository",
            "uncommitted changes": {True: "yes", False: "no", None: ""}[facts["git_dirty"]],
        },
        "Fingerprints": {"data": first.data_fingerprint, "code": first.code_fingerprint},
    }


def _curves(session: Session, compared: Compared) -> Curves | None:
    conclusion, returns = compared.conclusion, compared.returns
    records = session.in_order
    rows = [
        row
        for row in conclusion.ranked.index
        if row < len(records) and records[row].status == "FINISHED"
    ]
    shown = rows[:MAX_CURVES]
    columns: dict[Any, FloatArray] = {row: returns.rows[records[row].spec.index] for row in shown}
    benchmark = returns.of_benchmark(records[rows[0]].spec.index) if rows else None
    if benchmark is not None:
        columns["benchmark"] = benchmark
    frame = pd.DataFrame(columns, index=returns.index)
    return returns_curves(
        conclusion.table, frame, total=len(rows) if len(shown) < len(rows) else None
    )


def _walk_forward(compared: Compared) -> WalkForwardView | None:
    walk, order = compared.walk, compared.walk_order
    if walk is None:
        return None
    walks = [walk.walks[number] for number in order]
    return WalkForwardView(
        findings=[walk.findings[number] for number in order],
        choices=choices_table(walks),
        curves=compared_curves(walks[0]),
    )


def _moment(stamp: pd.Timestamp) -> str:
    return str(stamp.date() if stamp == stamp.normalize() else stamp)


def _stamps(index: pd.DatetimeIndex) -> Any:
    return np.asarray(index.tz_localize(None) if index.tz is not None else index)


def walk_section(compared: Compared) -> str:
    """Return what batch_summary.md says about the walk-forward; empty without one."""
    if not compared.walk_sentences:
        return ""
    lines = [f"- {markdown_text(sentence)}" for sentence in compared.walk_sentences]
    return "\n".join(["", "## Walk-forward", "", *lines, ""])


def walk_documents(folder: Path, compared: Compared) -> dict[str, str]:
    """Write the stitched curves into ``folder``; return the other files as texts by name."""
    if compared.walk is None:
        return {}
    walks = compared.walk.walks
    equity_table(walks).to_parquet(
        folder / "walk_forward_equity.parquet", compression="zstd", index=False
    )
    # Runs times splits are many rows: as text, row by row, they would take seconds.
    (folder / "walk_forward_summary.csv").write_bytes(csv_bytes(summary_table(walks)))
    return {
        "walk_forward_aggregate.csv": csv_text(aggregate_table(walks)),
        "walk_forward.json": json_text({"scenarios": list(compared.walk.findings)}),
    }


def verdict_fails(session: Session, conclusion: Conclusion) -> str:
    """Return the message when the verdict fails the command; empty otherwise."""
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
    most = max(1, session.config["tracking"]["returns_max_cells"] // max(1, len(returns.index)))
    written = sorted(finished[:most], key=lambda spec: spec.index)
    columns = {spec.run_id: spec.index for spec in written}
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


def _benchmark_name(session: Session, conclusion: Conclusion) -> str:
    """Return what the run that ranks first is compared with; empty for equal weights."""
    finished = best_first(session, conclusion)
    name = finished[0].benchmark.name if finished else Benchmark().name
    return "" if name == Benchmark().name else name


TOP_CURVES = 20
"""Number of best runs with curves in MLflow's UI."""


def complete_best_runs(session: Session, compared: Compared) -> Compared:
    """Add curves and files to the best runs; return the comparison with notes on them.

    What the store does not accept stays in ``session.extras`` and goes into the spool at the end.
    """
    best = best_first(session, compared.conclusion)
    folders, notes = _files(session, best)
    tags = {key: extra.tags for key, extra in session.extras.items()}
    extras = {
        spec.run_key: Extra(spec=spec, folder=folder, tags=tags.get(spec.run_key, {}))
        for spec in session.plan.runs
        if (folder := folders.get(spec.run_key)) is not None
    }
    for spec in best[:TOP_CURVES]:
        heed()
        extras[spec.run_key] = Extra(
            spec=spec,
            tags=tags.get(spec.run_key, {}),
            curve=curve_of(compared.returns, spec),
            texts={"equity.html": equity_page(compared, spec)},
            folder=folders.get(spec.run_key),
        )
    session.add_extras(extras)
    session.record_extras()
    conclusion = compared.conclusion
    noted = replace(conclusion, notes=(*conclusion.notes, *notes))
    return replace(compared, conclusion=noted)


def curve_of(returns: BatchReturns, spec: RunSpec) -> EquityCurve | None:
    """Return a run's equity curve from its returns; None when it has none."""
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
    """Return the folders of files that runs still lack, and notes about files.

    In a large batch workers write no files. Only now are the best runs known; they are computed
    again.
    """
    folders = dict(session.late_files)
    if not session.computes_best_again:
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
            "for their files, they failed or gave another result; they have no files."
        )
    return folders, notes
