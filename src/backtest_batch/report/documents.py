"""The files in which a comparison is kept, as texts by file name."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from backtest_batch.comparison.conclusion import Conclusion
from backtest_batch.masking import masked, masked_values
from backtest_batch.report.best_params import (
    RunDetails,
    best_params,
    best_params_markdown,
    json_text,
)
from backtest_batch.report.html import ReportData, SelectionSamples
from backtest_batch.report.markdown import batch_summary_markdown
from backtest_batch.report.tables import batch_summary_table, csv_text, rankings_table

COSTS = ("commission_bps", "spread_bps", "impact_bps")


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
            differences=conclusion.differences,
        ),
        "sensitivity_analysis.csv": csv_text(conclusion.sensitivity),
        "best_params.json": json_text(document),
        "best_params_summary.md": best_params_markdown(document),
    }


_TEXTS = ("description", "tags", "facts", "provenance")
"""What of a report people have written."""


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
        What the comparison does not know, as :class:`.ReportData` names it: description, tags,
        facts, provenance, curves, walk_forward, benchmark_metrics, timings, and the
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
    # A comparison has its labels from a store, where others may have written them.
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
        Indexed like the table: psr and dsr; skilled (``yes`` where the verdict on the run's
        scenario is skill and the run is among those that it is said of, else ``no``). Empty where
        undefined, and without the columns that are undefined in every run; None when all are.
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
