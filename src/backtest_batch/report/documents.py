"""The files in which a comparison is kept, as texts by file name."""

from collections.abc import Mapping
from typing import Any

from backtest_batch.comparison.conclusion import Conclusion
from backtest_batch.report.best_params import (
    RunDetails,
    best_params,
    best_params_markdown,
    json_text,
)
from backtest_batch.report.markdown import batch_summary_markdown
from backtest_batch.report.tables import batch_summary_table, csv_text, rankings_table


def comparison_documents(
    conclusion: Conclusion,
    *,
    title: str,
    top_n: int,
    details: Mapping[Any, RunDetails],
    verdict: Mapping[str, Any] | None = None,
    timings: Mapping[str, float] | None = None,
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
        Skill or luck, as it stands in overfitting.json.
    timings
        Seconds by stage.
    """
    table, ranked, ranking = conclusion.table, conclusion.ranked, conclusion.ranking
    document = best_params(table, ranked, ranking, top_n=top_n, details=details, verdict=verdict)
    return {
        "rankings.csv": csv_text(rankings_table(table, ranked)),
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
        ),
        "sensitivity_analysis.csv": csv_text(conclusion.sensitivity),
        "best_params.json": json_text(document),
        "best_params_summary.md": best_params_markdown(document),
    }
