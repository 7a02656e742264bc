"""The last words of a sweep in the terminal."""

import sys

import pandas as pd

from backtest_batch.comparison.conclusion import Conclusion
from backtest_batch.report.terminal import print_leaderboard
from backtest_batch.reporting.comparison import Compared
from backtest_batch.session import Session


def print_summary(session: Session, compared: Compared) -> None:
    """Print the leaderboard, the verdict, and where to look further."""
    conclusion = compared.conclusion
    print_leaderboard(
        conclusion.table,
        conclusion.ranked,
        conclusion.ranking,
        top_n=session.config["top_n"],
        verdict=conclusion.sentence,
        notes=conclusion.notes,
        extra=verdict_columns(conclusion),
    )
    lines = [f"Reports: {session.workspace.output_dir}"]
    recorder = session.recording.recorder
    if recorder is not None:
        lines += [
            f"Browse:  {recorder.store.ui_command}",
            f"Filter:  tags.batch_id = '{session.batch_id}' and tags.batch_role = 'run'",
        ]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


def verdict_columns(conclusion: Conclusion) -> pd.DataFrame | None:
    """Return the statistics of each run as text: psr and dsr, and whether StepM names it."""
    if conclusion.assessment is None:
        return None
    found = conclusion.assessment.columns.reindex(conclusion.table.runs["run_id"].astype(str))
    found.index = conclusion.table.runs.index
    shown = found.notna().any()
    texts = {
        name: found[name].map(lambda value: "" if pd.isna(value) else f"{value:.2f}")
        for name in ("psr", "dsr")
        if shown[name]
    }
    if shown["benchmark_survivor"]:
        texts["skilled"] = found["benchmark_survivor"].map(
            lambda value: "" if pd.isna(value) else ("yes" if value else "no")
        )
    return pd.DataFrame(texts, index=found.index) if texts else None
