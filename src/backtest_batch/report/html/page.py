"""report.html: one page that shows a batch, from its verdict to its provenance."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from backtest_batch.analysis.run_table import Label, RunTable
from backtest_batch.report.html.data import (
    Curves,
    ReportData,
    SelectionSamples,
    plain_number,
    plain_numbers,
    script_json,
)
from backtest_batch.report.html.figures import (
    MAX_CURVES,
    cost_payload,
    curves_payload,
    importance_payload,
    sensitivity_payload,
)
from backtest_batch.report.html.tables import (
    MAX_FAILURES,
    MAX_RUNS,
    TextTable,
    even_sample,
    failures_table,
    metric_meaning,
    resources_table,
    runs_payload,
    swept_table,
    table_of_frame,
    table_of_rows,
    timings_table,
    unranked_table,
    winner_table,
)
from backtest_batch.report.html.templates import (
    INSTALL_HINT,
    asset,
    environment,
    packed_plotly,
    report_script,
)
from backtest_batch.report.html.verdict import MAX_CHOICES, verdict_view, walk_forward_section
from backtest_batch.report.terminal import Column, leaderboard_columns
from backtest_batch.values import cut_text

if TYPE_CHECKING:
    pass

MAX_ROWS = 1_000
"""Rows of the leaderboard."""

MAX_LINES = 2_000
"""Runs drawn in the parallel coordinates."""


def render_report(data: ReportData) -> str:
    """Return report.html.

    Parameters
    ----------
    data
        What to show. Whatever is missing is left out, or reported as missing.

    Returns
    -------
    str
        One HTML page with everything in it, which loads nothing else. With plotly installed its
        figures are interactive, otherwise they are tables and the page says how to get them. Equal
        data gives equal text.
    """
    best = _best(data.ranked)
    packed = packed_plotly()
    payload = _payload(data, best)
    walk_forward = data.walk_forward if data.walk_forward and data.walk_forward.findings else None
    context = {
        "data": data,
        "best": None if best is None else str(data.table.runs["run_id"][best]),
        "counts": _counts(data),
        "verdict": None if data.overfitting is None else verdict_view(data.overfitting),
        "swept": swept_table(data.table, best),
        "winner": winner_table(data.table, best, data.benchmark_metrics, data.benchmark_name),
        "leaderboard": _leaderboard(data),
        "differences": _differences(data),
        "walk_forward": None if walk_forward is None else walk_forward_section(walk_forward),
        "max_choices": MAX_CHOICES,
        "unranked": unranked_table(data.ranked),
        "failures": failures_table(data.table),
        "max_failures": MAX_FAILURES,
        "timings": timings_table(data.timings),
        "resources": resources_table(data.table),
        "provenance": [
            (title, table_of_rows(title, ("fact", "value"), rows))
            for title, rows in data.provenance.items()
            if rows
        ],
        "payload": payload,
        "limits": _limits(data, payload),
        "json": script_json(payload),
        "packed": packed,
        "install_hint": INSTALL_HINT,
        "style": asset("report.css"),
        "script": report_script(),
    }
    page = environment().get_template("report.html.j2").render(context)
    # A lone surrogate, as from a file name that is not UTF-8, cannot be written.
    return page.encode("utf-8", "replace").decode("utf-8")


def _best(ranked: pd.DataFrame) -> Label | None:
    """Return the index label of the best run, None when none is ranked."""
    ranked_runs = ranked.index[ranked["rank"].notna()]
    return ranked_runs[0] if len(ranked_runs) else None


def _finished(data: ReportData) -> pd.Index:
    """Return the index labels of the FINISHED runs, ranked ones first, best first."""
    done = pd.Series(data.table.finished, index=data.table.runs.index)
    return data.ranked.index[done.reindex(data.ranked.index).to_numpy(dtype=bool)]


def _counts(data: ReportData) -> str:
    """Return how many runs there are and how they ended, in one sentence."""
    n_runs = len(data.table)
    by_status = data.table.runs["status"].astype(str).value_counts().sort_index()
    ended = ", ".join(f"{count:,} {status}" for status, count in by_status.items())
    n_ranked = int(data.ranked["rank"].notna().sum())
    runs = "1 run" if n_runs == 1 else f"{n_runs:,} runs"
    return f"{runs}{f' ({ended})' if ended else ''}; {n_ranked:,} ranked by {data.ranking}."


def _payload(data: ReportData, best: Label | None) -> dict[str, Any]:
    """Return the data for the scripts of the page."""
    table, ranked = data.table, data.ranked
    finished = _finished(data)
    rows = finished[even_sample(len(finished), MAX_RUNS)]
    walk_forward = data.walk_forward
    return {
        "runs": runs_payload(table, ranked, rows),
        "rankBy": list(data.ranking.metrics),
        "maxLines": MAX_LINES,
        "ranked": best is not None,
        "benchmark": {
            name: plain_number(float(value)) for name, value in data.benchmark_metrics.items()
        },
        "meanings": {name: metric_meaning(name) for name in table.metrics.columns},
        "curves": None
        if data.curves is None
        else _named(curves_payload(data.curves), data.benchmark_name),
        "walkForward": None
        if walk_forward is None or walk_forward.curves is None
        else _named(curves_payload(Curves.from_frame(walk_forward.curves)), data.benchmark_name),
        "sensitivity": []
        if data.sensitivity is None
        else sensitivity_payload(table, data.sensitivity, best),
        "importance": {} if data.importance is None else importance_payload(data.importance),
        "costs": cost_payload(table, data.costs, best),
        "selection": _selection(data.selection),
    }


def _named(curves: dict[str, Any], benchmark: str) -> dict[str, Any]:
    """Write the name of a benchmark that was chosen into the legend."""
    for curve in curves["curves"]:
        if curve["benchmark"] and benchmark:
            curve["name"] = f"benchmark: {benchmark}"
    return curves


def _selection(samples: SelectionSamples | None) -> dict[str, Any]:
    if samples is None:
        return {"logits": [], "nullMaxima": [], "statistic": None}
    return {
        "logits": _distinct(samples.logits.tolist()),
        "nullMaxima": plain_numbers(samples.null_maxima.tolist(), 4),
        "statistic": None if samples.statistic is None else plain_number(samples.statistic),
    }


def _distinct(values: Sequence[float]) -> list[list[float | int | None]]:
    """Return the distinct values and their counts: thousands of splits share few ranks."""
    counts = pd.Series(values, dtype=float).round(6).value_counts().sort_index()
    return [[plain_number(float(value)), int(n)] for value, n in counts.items()]  # type: ignore[arg-type]


def _leaderboard(data: ReportData) -> list[Column]:
    rows = _finished(data)[:MAX_ROWS]
    if not len(rows):
        return []
    columns = leaderboard_columns(data.table, data.ranked, data.ranking, rows, extra=data.extra)
    extra = () if data.extra is None else tuple(map(str, data.extra.columns))
    return [_fitted(column, column.title in extra) for column in columns]


def _fitted(column: Column, extra: bool) -> Column:
    """Shorten long texts, and right-align the numbers among the further columns."""
    cells = tuple(cut_text(cell) for cell in column.cells)
    number = column.number or (extra and all(_is_number(cell) for cell in cells if cell))
    return replace(column, cells=cells, number=number)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _differences(data: ReportData) -> TextTable | None:
    if data.differences is None or data.differences.empty:
        return None
    return table_of_frame("What differs between the batches", data.differences)


def _limits(data: ReportData, payload: dict[str, Any]) -> dict[str, str]:
    """Return a sentence for each section that leaves something out."""
    table: RunTable = data.table
    n_finished = int(table.finished.sum())
    limits = dict.fromkeys(("leaderboard", "runs", "parallel", "curves"), "")
    if n_finished > MAX_ROWS:
        limits["leaderboard"] = (
            f"These are the best {MAX_ROWS:,} of {n_finished:,} finished runs; rankings.csv has "
            "all of them."
        )
    n_drawn = len(payload["runs"]["ids"])
    if n_drawn < n_finished:
        limits["runs"] = (
            f"Heatmaps, parallel coordinates and distributions use {n_drawn:,} of {n_finished:,} "
            "finished runs, taken evenly by rank."
        )
    if n_drawn > MAX_LINES:
        limits["parallel"] = (
            f"Of {n_drawn:,} runs {MAX_LINES:,} are drawn, taken evenly by rank, and those that "
            "are highlighted."
        )
    if data.curves is not None:
        total = data.curves.total or len(data.curves.net_returns)
        drawn = [item for item in payload["curves"]["curves"] if not item["benchmark"]]
        parts = []
        if len(drawn) < total:
            parts.append(f"The best {min(len(drawn), MAX_CURVES)} of {total:,} runs are drawn.")
        size = payload["curves"]["bars_per_point"]
        if size > 1:
            parts.append(
                f"A point stands for {size} bars: the growth at the last of them and the deepest "
                "drawdown within."
            )
        limits["curves"] = " ".join(parts)
    return limits
