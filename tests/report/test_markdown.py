import re

import numpy as np
import pandas as pd

from backtest_batch.analysis.batches import batch_differences
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.report.markdown import batch_summary_markdown


def sweep(**columns):
    frame = pd.DataFrame(
        {
            "run_id": ["run_a", "run_b", "run_c", "run_d", "run|e"],
            "status": ["FINISHED"] * 4 + ["FAILED"],
            "error_type": [""] * 4 + ["ValueError"],
            "error_message": [""] * 4 + ["no | such\nvalue"],
            "kind": ["x", "y|z", "x", "x", "x"],
            "sharpe": [1.0, 4.0, 3.0, 2.0, np.nan],
            "max_drawdown": [-0.1, -0.2, -0.3, -0.4, np.nan],
            "runtime_s": [1.0, 2.0, 3.0, 4.0, np.nan],
            **columns,
        }
    )
    return RunTable.from_frame(frame, params=["kind"])


def summary(table, ranking=None, **options):
    ranking = ranking or Ranking.parse("sharpe")
    return batch_summary_markdown(table, rank_runs(table, ranking), ranking, title="t", **options)


def rows_below(text, header):
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(header))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def test_all_runs_stand_in_the_table():
    text = summary(sweep(), top_n=2)

    assert rows_below(text, "| rank |") == [
        ["**1**", "**run_b**", "**FINISHED**", "**y\\|z**", "**4.000 (1st)**", "**-20.00% (2nd)**"],
        ["**2**", "**run_c**", "**FINISHED**", "**x**", "**3.000 (2nd)**", "**-30.00% (3rd)**"],
        ["3", "run_d", "FINISHED", "x", "2.000 (3rd)", "-40.00%"],
        ["4", "run_a", "FINISHED", "x", "1.000", "-10.00% (1st)"],
        ["", "run\\|e", "FAILED", "x", "", ""],
    ]


def test_failures_reasons_and_timings_are_given():
    text = summary(sweep(), timings={"execution": 1.5, "report": 0.25})

    assert "5 runs (1 FAILED, 4 FINISHED); 4 ranked by sharpe (more is better)." in text
    assert rows_below(text, "| reason |") == [["FAILED (ValueError)", "1"]]
    assert rows_below(text, "| run_id | status |") == [
        ["run\\|e", "FAILED", "ValueError", "no \\| such value"]
    ]
    assert rows_below(text, "| stage |") == [["execution", "1.50"], ["report", "0.25"]]
    assert rows_below(text, "| of one run |") == [
        ["runtime_s (s)", "2.500", "2.500", "3.850", "4.000"]
    ]


def test_the_verdict_and_the_notes_stand_first():
    text = summary(sweep(), verdict="This is *luck*.", notes=["a|b changes no result"])

    head = text.split("## Runs")[0]
    assert "**Verdict:** This is \\*luck\\*." in head
    assert "- a\\|b changes no result" in head


def test_a_score_is_shown_where_metrics_are_weighed():
    text = summary(sweep(), Ranking.parse({"sharpe": 1, "max_drawdown": 1}))

    assert "| rank | run_id | status | kind | score | sharpe | max_drawdown |" in text


def test_no_runs_and_only_failed_runs_have_a_summary():
    empty = RunTable.from_frame(pd.DataFrame({"kind": [], "sharpe": []}), params=["kind"])
    assert summary(empty) == "# t\n\n0 runs; 0 ranked by sharpe (more is better).\n"

    failed = sweep(status="FAILED")
    text = summary(failed)
    assert "5 runs (5 FAILED); 0 ranked" in text
    assert "**" not in text
    assert len(rows_below(text, "| run_id | status |")) == 5


def test_a_value_of_6001_characters_is_shown_whole():
    value = "v" * 6_001

    assert value in summary(sweep(kind=value))


def test_several_batches_and_their_differences_come_first():
    table = sweep(batch_id=["a", "a", "a", "b", "b"])

    text = summary(table, differences=batch_differences(table), verdict="luck")

    assert text.index("## Batches") < text.index("**Verdict:**") < text.index("## Runs")
    assert "- 5 runs of 2 batches are compared." in text
    assert "- kind: x, y\\|z in a; x in b" in text
    assert "## Batches" not in summary(sweep(), differences=batch_differences(sweep()))
