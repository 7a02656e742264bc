"""report.html of a batch, and equity.html of its best runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.comparison.walk_forward import choices_table, compared_curves
from backtest_batch.market.panel import FloatArray
from backtest_batch.records import RunSpec
from backtest_batch.report.best_params import RunDetails
from backtest_batch.report.curves import MAX_CURVES, returns_curves
from backtest_batch.report.documents import report_data
from backtest_batch.report.html import (
    Curves,
    WalkForwardView,
    render_equity,
    render_report,
)
from backtest_batch.sweep.opening import user_tags
from backtest_batch.sweep.reporting.comparison import Compared
from backtest_batch.sweep.session import Session


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
        benchmark=returns.rows[returns.benchmark_row[spec.index]],
    )


def _facts(session: Session) -> dict[str, str]:
    panel = session.plan.panels[session.plan.runs[0].data_fingerprint]
    counts = session.counts()
    return {
        "Batch": session.batch_id,
        "Runs": f"{counts['n_finished']} finished, {counts['n_failed']} failed",
        "Data": f"{panel.n_assets} symbols, {panel.n_bars:,} bars",
        "From": _moment(panel.index[0]),
        "To": _moment(panel.index[-1]),
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
    if rows:
        columns["benchmark"] = returns.rows[returns.benchmark_row[records[rows[0]].spec.index]]
    frame = pd.DataFrame(columns, index=returns.index)
    return returns_curves(
        conclusion.table, frame, total=len(rows) if len(shown) < len(rows) else None
    )


def _walk_forward(compared: Compared) -> WalkForwardView | None:
    walk, order = compared.walk, compared.walk_order
    if walk is None:
        return None
    walks = [walk.walks[place] for place in order]
    return WalkForwardView(
        findings=[walk.findings[place] for place in order],
        choices=choices_table(walks),
        curves=compared_curves(walks[0]),
    )


def _moment(stamp: pd.Timestamp) -> str:
    return str(stamp.date() if stamp == stamp.normalize() else stamp)


def _stamps(index: pd.DatetimeIndex) -> Any:
    return np.asarray(index.tz_localize(None) if index.tz is not None else index)
