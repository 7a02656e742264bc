"""The outcome of a sweep as a notebook shows it."""

import html
from pathlib import Path

from backtest_batch.analysis.conclusion import Conclusion
from backtest_batch.report.html.templates import environment
from backtest_batch.report.markdown import skill_columns
from backtest_batch.report.terminal import leaderboard_columns


def outcome_html(
    conclusion: Conclusion, summary: str, *, output_dir: Path | None, top_n: int = 10
) -> str:
    """Return the leaderboard, the verdict and where the report is, for a cell of a notebook.

    Parameters
    ----------
    conclusion
        The comparison of the runs.
    summary
        What the command prints, folded below the table.
    output_dir
        Folder of the reports.
    top_n
        Most rows.
    """
    ranked = conclusion.ranked
    best = ranked.index[ranked["rank"].notna()][:top_n]
    columns = leaderboard_columns(
        conclusion.table, ranked, conclusion.ranking, best, extra=skill_columns(conclusion)
    )
    report = None if output_dir is None else output_dir / "report.html"
    return (
        environment()
        .get_template("notebook.html.j2")
        .render(
            columns=columns if len(best) else [],
            n_rows=len(best),
            n_runs=len(ranked),
            verdict=conclusion.sentence,
            notes=conclusion.notes,
            summary=summary,
            report=report.absolute() if report is not None and report.is_file() else None,
        )
    )


def text_html(text: str) -> str:
    """Return text as a notebook shows it, line by line."""
    return f"<pre>{html.escape(text)}</pre>"
