"""batch_summary.md: what a batch came to, on one page."""

from collections.abc import Mapping, Sequence

import pandas as pd

from backtest_batch.comparison.ranking import Ranking, unranked_counts
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.report.batch_lines import batch_lines
from backtest_batch.report.escaping import markdown_text
from backtest_batch.report.leaderboard import Column, leaderboard_columns

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
        How many of the best runs are set in bold.
    verdict
        A sentence on skill or luck.
    notes
        Further sentences: parameters that change nothing, an optimum on the edge.
    timings
        Seconds by stage of the batch.
    differences
        In what the batches differ; see :func:`.batch_differences`.

    Returns
    -------
    str
        The batches, where there are several, and in what they differ; verdict and notes; the table
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
        # Parameters have few distinct values among many runs: each is escaped once.
        escaped = {text: markdown_text(text) for text in set(cells)}
        cells = [escaped[text] for text in cells]
    if column.places:
        cells = [
            f"{text} ({_ORDINALS[place]})" if place else text
            for text, place in zip(cells, column.places, strict=True)
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
