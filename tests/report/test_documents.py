import json

import numpy as np
import pandas as pd

from backtest_batch.analysis.conclusion import ReturnsOfRuns, conclude
from backtest_batch.analysis.overfitting import OverfittingSettings
from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.report.best_params import RunDetails, best_rows
from backtest_batch.report.html import render_report
from backtest_batch.report.html.figures import returns_curves
from backtest_batch.report.markdown import comparison_documents, report_data, skill_columns

N_BARS = 300


def conclusion(sharpe, *, judged=True, **columns):
    frame = pd.DataFrame(
        {
            "run_id": [f"run_{place}" for place in range(len(sharpe))],
            "batch_id": "b",
            "fast": list(range(len(sharpe))),
            "sharpe": sharpe,
            **columns,
        }
    )
    table = RunTable.from_frame(frame, params=["fast"])
    matrix = 0.01 * np.random.default_rng(1).standard_normal((N_BARS, len(sharpe)))
    returns = ReturnsOfRuns(
        index=pd.bdate_range("2020-01-01", periods=N_BARS),
        returns=matrix,
        benchmarks=0.01 * np.random.default_rng(2).standard_normal((N_BARS, 1)),
        benchmark_of=[0] * len(sharpe),
        decisions=[str(place) for place in range(len(sharpe))],
        risk_free=[0.0] * len(sharpe),
        periods_per_year=252.0,
    )
    return conclude(
        table,
        Ranking.parse("sharpe"),
        returns=returns if judged else None,
        settings=OverfittingSettings(draws=100),
    )


def details_of(found, top_n=2):
    return {
        row: RunDetails(
            config={"commission_bps": 0.5, "spread_bps": 0.0, "impact_bps": None},
            command=("python", "-m", "backtest_batch", f"fast={row}", "output_dir=x"),
        )
        for row in best_rows(found.ranked, top_n)
    }


def test_every_file_of_a_comparison_is_there():
    found = conclusion([0.5, 1.0, 0.1])

    documents = comparison_documents(
        found, title="mine", top_n=2, details=details_of(found), verdict=found.verdict
    )

    assert set(documents) == {
        "rankings.csv",
        "batch_summary.csv",
        "batch_summary.md",
        "sensitivity_analysis.csv",
        "best_params.json",
        "best_params_summary.md",
    }
    assert documents["batch_summary.md"].startswith("# mine\n")
    best = json.loads(documents["best_params.json"])
    assert [entry["run_id"] for entry in best["top"]] == ["run_1", "run_0"]
    # output_dir belongs to the command that was, not to the one that repeats the run.
    assert best["top"][0]["command"] == "python -m backtest_batch fast=1"


def test_the_report_is_made_of_the_conclusion():
    found = conclusion([0.5, 1.0, 0.1])

    data = report_data(found, title="mine", details=details_of(found), description="why")

    assert data.costs == {"commission_bps": 0.5, "spread_bps": 0.0}
    assert data.command == "python -m backtest_batch fast=1"
    assert data.overfitting == found.assessment.document
    assert data.selection.statistic == found.assessment.statistic
    assert data.description == "why"
    assert "mine" in render_report(data)


def test_a_comparison_without_an_assessment_takes_the_recorded_one():
    found = conclusion([0.5, 1.0, 0.1], judged=False)
    recorded = conclusion([0.5, 1.0, 0.1]).assessment.document

    data = report_data(found, title="mine", details={}, overfitting=recorded)

    assert data.overfitting == recorded
    assert data.selection is None
    assert data.extra is None
    assert data.command == ""
    assert "mine" in render_report(data)


def test_the_columns_on_skill_are_text():
    found = skill_columns(conclusion([0.5, 1.0, 0.1]))

    assert found.columns.tolist() == ["psr", "dsr", "skilled"]
    assert found["skilled"].tolist() == ["no"] * 3
    assert all(0 <= float(text) <= 1 for text in found["psr"])
    assert skill_columns(conclusion([0.5, 1.0], judged=False)) is None


def test_columns_that_are_undefined_everywhere_are_left_out():
    found = conclusion([0.5, 1.0, 0.1])
    failed = conclusion([0.5, 1.0, 0.1], status="FAILED")

    assert skill_columns(failed) is None
    assert skill_columns(found).isna().sum().sum() == 0


def test_curves_have_the_names_of_the_runs():
    table = conclusion([0.5, 1.0, 0.1], judged=False).table
    index = pd.bdate_range("2020-01-01", periods=3, tz="US/Eastern")
    returns = pd.DataFrame({1: [np.nan, 0.1, 0.2], "benchmark": 0.0}, index=index)

    curves = returns_curves(table, returns, total=3)

    assert list(curves.net_returns) == ["run_1"]
    assert curves.benchmark.tolist() == [0.0] * 3
    assert str(curves.timestamps[0]).startswith("2020-01-01T00:00")
    assert curves.total == 3
    assert returns_curves(table, pd.DataFrame()) is None
    assert returns_curves(table, returns[["benchmark"]]) is None


def test_curves_of_several_batches_are_told_apart():
    frame = pd.DataFrame({"run_id": ["r", "r"], "batch_id": ["a", "b"], "sharpe": [1.0, 2.0]})
    table = RunTable.from_frame(frame, params=[])
    returns = pd.DataFrame({0: [0.1], 1: [0.2]}, index=pd.bdate_range("2020-01-01", periods=1))

    assert list(returns_curves(table, returns).net_returns) == ["r (a)", "r (b)"]
