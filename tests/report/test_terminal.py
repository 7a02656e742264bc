import io
import itertools
import os
import pty
import re

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.report.terminal import print_leaderboard

MAIN = ["sharpe", "cagr", "volatility", "max_drawdown", "calmar", "turnover_annual", "trades"]


def sweep(n_fast=4, **columns):
    rows = list(itertools.product(range(10, 10 + n_fast), [0.0, 0.5]))
    frame = pd.DataFrame(rows, columns=["strategy.fast", "commission_bps"])
    frame["run_id"] = [f"run_{fast}_{cost}" for fast, cost in rows]
    rng = np.random.default_rng(0)
    for name in MAIN:
        frame[name] = rng.normal(size=len(frame))
    frame["sharpe"] = np.arange(len(frame), 0, -1) / 4
    for name, values in columns.items():
        frame[name] = values
    return RunTable.from_frame(frame, params=["strategy.fast", "commission_bps"])


def printed(table, ranking=None, **options):
    ranking = ranking or Ranking.parse("sharpe")
    file = io.StringIO()
    print_leaderboard(table, rank_runs(table, ranking), ranking, file=file, **options)
    return file.getvalue()


def printed_on_terminal(table, columns, monkeypatch, **options):
    """Return what a terminal of so many columns receives."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    ours, theirs = pty.openpty()
    ranking = Ranking.parse("sharpe")
    with os.fdopen(theirs, "w", encoding="utf-8") as file:
        print_leaderboard(table, rank_runs(table, ranking), ranking, file=file, **options)
        file.flush()
        text = b""
        while not text.endswith(b"end of text\r\n"):
            text += os.read(ours, 65_536)
    os.close(ours)
    return text.decode()


def test_what_is_said_is_true_of_one_run_and_of_none():
    one = printed(sweep().subset(np.arange(8) == 0))
    assert "1 of 1 run ranked by sharpe (more is better).\n" in one
    # Nothing is best among one, so that there is no star to explain.
    assert "*" not in one
    assert "; the best one is shown." in printed(sweep(), top_n=1)
    failed = printed(sweep(status="FAILED", error_type="ValueError"))
    assert failed == (
        "0 of 8 runs ranked by sharpe (more is better).\nUnranked: 8 FAILED (ValueError).\n"
    )
    assert printed(sweep(sharpe=np.nan)) == (
        "0 of 8 runs ranked by sharpe (more is better).\nUnranked: 8 sharpe is missing.\n"
    )
    nothing = printed(sweep().subset(np.zeros(8, dtype=bool)))
    assert nothing == "0 of 0 runs ranked by sharpe (more is better).\n"


def test_the_best_runs_are_printed_in_order():
    lines = printed(sweep(), top_n=3).splitlines()

    assert lines[0].split() == [
        "rank",
        "in",
        "scenario",
        "run_id",
        "strategy.fast",
        "commission_bps",
        *MAIN,
    ]
    assert [line.split()[:5] for line in lines[2:5]] == [
        ["1", "1", "run_10_0.0", "10", "0.0"],
        ["2", "1", "run_10_0.5", "10", "0.5"],
        ["3", "2", "run_11_0.0", "11", "0.0"],
    ]
    assert lines[5] == ("8 of 8 runs ranked by sharpe (more is better); the best 3 are shown.")


def test_the_best_three_of_each_metric_are_marked():
    rows = printed(sweep()).splitlines()[2:10]

    assert [row.split()[5] for row in rows] == [
        "2.000*",
        "1.750*",
        "1.500*",
        "1.250",
        "1.000",
        "0.750",
        "0.500",
        "0.250",
    ]
    assert all(sum(row.split()[at].endswith("*") for row in rows) == 3 for at in range(5, 11))


def test_nothing_is_cut_and_nothing_is_coloured_when_it_is_piped(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    long_id, long_value = "run_" + "i" * 300, "v" * 6_001
    frame = pd.DataFrame({"run_id": [long_id], "p": [long_value], "sharpe": [1.0]})

    text = printed(RunTable.from_frame(frame, params=["p"]), verdict="w " * 300)

    assert "\x1b" not in text
    assert "…" not in text
    row = text.splitlines()[2]
    assert row.split() == ["1", long_id, long_value, "1.000"]
    assert "w " * 299 + "w" in text.splitlines()[-1]


def test_a_terminal_gets_colours_and_as_many_metrics_as_fit(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    wide = printed_on_terminal(sweep(), 200, monkeypatch, verdict="end of text")
    assert "\x1b[" in wide
    assert "Hidden" not in wide
    assert "*" not in wide

    narrow = printed_on_terminal(sweep(), 80, monkeypatch, verdict="end of text")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", narrow)
    header = plain.splitlines()[0]
    assert len(header.rstrip()) <= 80
    assert "sharpe" in header
    assert "Hidden for want of width: " in plain
    assert "run_10_0.0" in plain


def test_no_color_is_respected_on_a_terminal(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    text = printed_on_terminal(sweep(), 200, monkeypatch, verdict="end of text")

    assert "\x1b" not in text
    assert "2.000*" in text


def test_a_score_and_further_columns_are_shown():
    table = sweep()
    extra = pd.DataFrame({"survives": ["yes"] + [None] * 7}, index=table.runs.index)

    text = printed(table, Ranking.parse({"sharpe": 1, "calmar": 1, "sortino": 0}), extra=extra)

    header = text.splitlines()[0].split()
    assert header[6] == "score"
    assert header[-1] == "survives"
    assert "0.5 sharpe (more is better) + 0.5 calmar (more is better)" in text


def test_what_is_unranked_is_counted_and_said():
    table = sweep(
        status=["FINISHED"] * 5 + ["FAILED", "FAILED", "RUNNING"],
        max_drawdown=[-0.1, -0.5, -0.5, np.nan, -0.1, -0.1, -0.1, -0.1],
    )

    text = printed(table, Ranking.parse("sharpe", {"max_drawdown": ">= -0.3"}))

    assert "2 of 8 runs ranked by sharpe (more is better), where max_drawdown >= -0.3." in text
    assert (
        "Unranked: 2 FAILED; 2 `max_drawdown >= -0.3` must hold; 1 RUNNING; "
        "1 max_drawdown is missing, `max_drawdown >= -0.3` must hold." in text
    )


@pytest.mark.parametrize("n_runs", [0, 2])
def test_without_ranked_runs_there_is_no_table(n_runs):
    frame = pd.DataFrame({"fast": range(n_runs), "sharpe": 1.0, "status": "FAILED"})

    lines = printed(RunTable.from_frame(frame, params=["fast"]), verdict="no verdict").splitlines()

    assert lines[0] == f"0 of {n_runs} runs ranked by sharpe (more is better)."
    assert lines[-1] == "no verdict"
    assert len(lines) == (3 if n_runs else 2)


def test_markup_and_control_characters_are_shown_as_they_are():
    frame = pd.DataFrame({"run_id": ["a"], "p": ["[bold]x[/] :smile: \x1b[31m\n"], "sharpe": [1.0]})

    text = printed(RunTable.from_frame(frame, params=["p"]), notes=["[red]note\nline\x07"])

    assert "[bold]x[/] :smile: \\x1b[31m\\n" in text
    assert text.splitlines()[-2:] == ["[red]note", "line\\x07"]


def test_what_stands_above_the_table_is_printed_on_lines_of_its_own():
    text = printed(sweep(), heading=["2 batches are compared.", "name\nwith a break"])

    assert text.splitlines()[:2] == ["2 batches are compared.", "name\\nwith a break"]
    assert text.splitlines()[2].startswith("rank")
