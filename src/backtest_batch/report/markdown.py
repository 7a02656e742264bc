"""batch_summary.md, and the data of report.html: the outcome of a batch, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from backtest_batch.analysis.conclusion import Conclusion
from backtest_batch.analysis.ranking import Ranking, unranked_counts
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.masking import masked, masked_values
from backtest_batch.report.best_params import (
    RunDetails,
    best_params,
    best_params_markdown,
    json_text,
)
from backtest_batch.report.html.data import ReportData, SelectionSamples
from backtest_batch.report.tables import (
    batch_summary_table,
    csv_text,
    markdown_text,
    rankings_table,
)
from backtest_batch.report.terminal import Column, batch_lines, leaderboard_columns

_ORDINALS = {1: "1st", 2: "2nd", 3: "3rd"}

_RESOURCES = (("runtime_s", "s"), ("cpu_s", "s"), ("peak_rss_mb", "MiB"))


def batch_summary_markdown(
    table: RunTable,
    ranked: pd.DataFrame,
    ranking: Ranking,
    *,
    title: str,
    top_n: int = 10,
    verdict: str = "",
    notes: Sequence[str] = (),
    timings: Mapping[str, float] | None = None,
    differences: pd.DataFrame | None = None,
) -> str:
    """Return batch_summary.md.

    Parameters
    ----------
    table
        The runs.
    ranked
        What :func:`.rank_runs` returned for them.
    ranking
        How they were ranked.
    title
        Heading, such as the name of the batch.
    top_n
        How many of the best runs are bold.
    verdict
        A sentence on skill or luck.
    notes
        Further sentences: parameters that change nothing, an optimum on the edge.
    timings
        Seconds by stage of the batch.
    differences
        How the batches differ; see :func:`.batch_differences`.

    Returns
    -------
    str
        The batches, if there are several, and how they differ; verdict and notes; the table
        of all runs (ranked first, the top N in bold, the best three in each metric marked 1st, 2nd,
        3rd); failures and why runs are unranked; timings.
    """
    sections = [
        [f"# {markdown_text(title)}", "", _counts(table, ranked, ranking)],
        _batches(table, differences),
        [f"**Verdict:** {markdown_text(verdict)}"] if verdict else [],
        [f"- {markdown_text(note)}" for note in notes],
        ["## Runs", "", *_runs(table, ranked, ranking, top_n)] if len(table) else [],
        _unranked(ranked),
        _failures(table),
        _timings(table, timings or {}),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _batches(table: RunTable, differences: pd.DataFrame | None) -> list[str]:
    lines = [] if differences is None else batch_lines(table, differences)
    return ["## Batches", "", *(f"- {markdown_text(line)}" for line in lines)] if lines else []


def _counts(table: RunTable, ranked: pd.DataFrame, ranking: Ranking) -> str:
    by_status = table.runs["status"].astype(str).value_counts().sort_index()
    ended = ", ".join(f"{count} {status}" for status, count in by_status.items())
    n_ranked = int(ranked["rank"].notna().sum())
    runs = "run" if len(table) == 1 else "runs"
    head = f"{len(table)} {runs}" + (f" ({ended})" if ended else "")
    return f"{head}; {n_ranked} ranked by {markdown_text(str(ranking))}."


def _runs(table: RunTable, ranked: pd.DataFrame, ranking: Ranking, top_n: int) -> list[str]:
    columns = leaderboard_columns(table, ranked, ranking, ranked.index, status=True)
    n_bold = min(top_n, int(ranked["rank"].notna().sum()))
    cells = [_cells(column, n_bold) for column in columns]
    return [
        "| " + " | ".join(markdown_text(column.title) for column in columns) + " |",
        "| " + " | ".join("---:" if column.number else "---" for column in columns) + " |",
        *("| " + " | ".join(row) + " |" for row in zip(*cells, strict=True)),
    ]


def _cells(column: Column, n_bold: int) -> list[str]:
    """Return a column's cells: escaped, marked and, in the first rows, bold."""
    cells = list(column.cells)
    if not column.number:
        # Parameters have few distinct values among many runs: escape each value once.
        escaped = {text: markdown_text(text) for text in set(cells)}
        cells = [escaped[text] for text in cells]
    if column.podium:
        cells = [
            f"{text} ({_ORDINALS[rank]})" if rank else text
            for text, rank in zip(cells, column.podium, strict=True)
        ]
    return [f"**{text}**" if text else "" for text in cells[:n_bold]] + cells[n_bold:]


def _unranked(ranked: pd.DataFrame) -> list[str]:
    counts = unranked_counts(ranked)
    if not counts:
        return []
    lines = ["| reason | runs |", "| --- | ---: |"]
    lines += [f"| {markdown_text(reason)} | {count} |" for reason, count in counts.items()]
    return ["## Unranked", "", *lines]


def _failures(table: RunTable) -> list[str]:
    runs = table.runs[~table.finished]
    if runs.empty:
        return []
    lines = ["| run_id | status | error | message |", "| --- | --- | --- | --- |"]
    for _, run in runs.iterrows():
        cells = (run.get(name) for name in ("run_id", "status", "error_type", "error_message"))
        lines.append(
            "| "
            + " | ".join("" if pd.isna(cell) else markdown_text(str(cell)) for cell in cells)
            + " |"
        )
    return ["## Failures", "", *lines]


def _timings(table: RunTable, timings: Mapping[str, float]) -> list[str]:
    lines = []
    if timings:
        lines += ["", "| stage | seconds |", "| --- | ---: |"]
        lines += [f"| {markdown_text(name)} | {value:.2f} |" for name, value in timings.items()]
    rows = []
    for name, unit in _RESOURCES:
        values = table.metrics[name].dropna() if name in table.metrics else pd.Series(dtype=float)
        if len(values):
            quantiles = values.quantile([0.5, 0.95, 1.0]).tolist()
            figures = [values.mean(), *quantiles]
            rows.append(f"| {name} ({unit}) | " + " | ".join(f"{x:,.3f}" for x in figures) + " |")
    if rows:
        lines += ["", "| of one run | mean | median | 95 % | highest |"]
        lines += ["| --- | ---: | ---: | ---: | ---: |", *rows]
    return ["## Timings", *lines] if lines else []


COSTS = ("commission_bps", "spread_bps", "impact_bps")


def comparison_documents(
    conclusion: Conclusion,
    *,
    title: str,
    top_n: int,
    details: Mapping[Any, RunDetails],
    verdict: Mapping[str, Any] | None = None,
    timings: Mapping[str, float] | None = None,
    recorded_bounds: "pd.Series | None" = None,
) -> dict[str, str]:
    """Return the tables and summaries of a comparison.

    Parameters
    ----------
    conclusion
        The comparison.
    title
        Heading of the summary.
    top_n
        How many runs are described as the best.
    details
        Configuration and command of each of the best runs, by index label of the table.
    verdict
        Skill or luck, as in overfitting.json.
    timings
        Seconds by stage.
    recorded_bounds
        The lower bounds of Sharpe ratios that were recorded, where there is no assessment.
    """
    table, ranked, ranking = conclusion.table, conclusion.ranked, conclusion.ranking
    bounds = recorded_bounds if conclusion.bounds is None else conclusion.bounds
    document = best_params(table, ranked, ranking, top_n=top_n, details=details, verdict=verdict)
    return {
        "rankings.csv": csv_text(rankings_table(table, ranked, bounds)),
        "batch_summary.csv": csv_text(batch_summary_table(table, ranked)),
        "batch_summary.md": batch_summary_markdown(
            table,
            ranked,
            ranking,
            title=title,
            top_n=top_n,
            verdict="" if verdict is None else str(verdict["sentence"]),
            notes=conclusion.notes,
            timings=timings,
            differences=conclusion.differences,
        ),
        "sensitivity_analysis.csv": csv_text(conclusion.sensitivity),
        "best_params.json": json_text(document),
        "best_params_summary.md": best_params_markdown(document),
    }


_TEXTS = ("description", "tags", "facts", "provenance")
"""Fields of a report that people have written."""


def report_data(
    conclusion: Conclusion, *, title: str, details: Mapping[Any, RunDetails], **further: Any
) -> ReportData:
    """Return what report.html shows of a comparison.

    Parameters
    ----------
    conclusion
        The comparison.
    title
        Name of the batch or of the comparison.
    details
        Configuration and command of the best run at least, by index label of the table.
    **further
        What the comparison does not know, under the names of :class:`.ReportData`: description,
        tags, facts, provenance, curves, walk_forward, benchmark_metrics, timings, and the
        ``overfitting`` document of a comparison without an assessment of its own.
    """
    best = details.get(conclusion.best)
    config = {} if best is None else best.config
    costs = {name: config[name] for name in COSTS if isinstance(config.get(name), int | float)}
    known: dict[str, Any] = {
        "costs": costs,
        "command": "" if best is None else best.shell_command,
        "extra": skill_columns(conclusion),
    }
    assessment = conclusion.assessment
    if assessment is not None:
        known["overfitting"] = assessment.document
        known["selection"] = SelectionSamples(
            logits=assessment.logits,
            null_maxima=assessment.null_maxima,
            statistic=assessment.statistic,
        )
    # The labels of a comparison come from a store, where others may have written them.
    shown = {name: masked_values(further[name]) for name in _TEXTS if name in further}
    return ReportData(
        title=masked(title),
        table=conclusion.table,
        ranked=conclusion.ranked,
        ranking=conclusion.ranking,
        notes=conclusion.notes,
        differences=conclusion.differences,
        sensitivity=conclusion.sensitivity,
        importance=conclusion.importance,
        **known | further | shown,
    )


def skill_columns(conclusion: Conclusion) -> pd.DataFrame | None:
    """Return the leaderboard's columns on skill or luck, as text.

    Parameters
    ----------
    conclusion
        The comparison.

    Returns
    -------
    DataFrame of shape (n_runs, any) or None
        Indexed like the table: psr and dsr; skilled (``yes`` if the verdict on the run's scenario
        is skill and covers this run, else ``no``). Empty where undefined, and without the columns
        that are undefined in every run; None when all are.
    """
    if conclusion.skill is None:
        return None
    skill = conclusion.skill.dropna(axis=1, how="all")
    columns = {
        name: skill[name].map(lambda value: "" if pd.isna(value) else f"{value:.2f}")
        for name in ("psr", "dsr")
        if name in skill
    }
    if "skilled" in skill:
        flags = skill["skilled"]
        columns["skilled"] = flags.map({True: "yes", False: "no"}).fillna("")
    return pd.DataFrame(columns, index=skill.index) if columns else None
