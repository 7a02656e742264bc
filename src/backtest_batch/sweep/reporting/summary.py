"""The last words of a sweep: what the command prints, and a notebook shows."""

from typing import TextIO

from backtest_batch.printing import tell
from backtest_batch.report.batch_lines import batch_lines
from backtest_batch.report.documents import skill_columns
from backtest_batch.report.terminal import print_leaderboard
from backtest_batch.sweep.reporting.comparison import Compared
from backtest_batch.sweep.session import Session


def print_summary(session: Session, compared: Compared, output: TextIO) -> None:
    """Write the leaderboard, the verdict, and where to look further."""
    conclusion = compared.conclusion
    print_leaderboard(
        conclusion.table,
        conclusion.ranked,
        conclusion.ranking,
        top_n=session.config["top_n"],
        verdict=conclusion.sentence,
        notes=conclusion.notes,
        extra=skill_columns(conclusion),
        heading=batch_lines(conclusion.table, conclusion.differences),
        file=output,
    )
    if compared.walk_sentences:
        tell("\nWalk-forward. " + "\n  ".join(compared.walk_sentences) + "\n", output)
    lines = [f"Reports: {session.workspace.output_dir}"]
    recorder = session.recording.recorder
    if recorder is not None:
        lines += [
            f"Browse:  {recorder.store.ui_command}",
            f"Filter:  tags.batch_id = '{session.batch_id}' and tags.batch_role = 'run'",
        ]
    tell("\n" + "\n".join(lines) + "\n", output)
