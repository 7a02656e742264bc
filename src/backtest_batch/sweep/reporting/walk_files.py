"""The files of a walk-forward."""

from pathlib import Path

from backtest_batch.comparison.walk_forward import (
    aggregate_table,
    csv_bytes,
    equity_table,
    summary_table,
)
from backtest_batch.report.best_params import json_text
from backtest_batch.report.escaping import markdown_text
from backtest_batch.report.tables import csv_text
from backtest_batch.sweep.reporting.comparison import Compared


def walk_section(compared: Compared) -> str:
    """Return what batch_summary.md says of the walk-forward; empty without one."""
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
    # Runs times splits make a table for which text row by row would take seconds.
    (folder / "walk_forward_summary.csv").write_bytes(csv_bytes(summary_table(walks)))
    return {
        "walk_forward_aggregate.csv": csv_text(aggregate_table(walks)),
        "walk_forward.json": json_text({"scenarios": list(compared.walk.findings)}),
    }
