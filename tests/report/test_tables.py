import csv
import io

import numpy as np
import pandas as pd

from backtest_batch.analysis.dependence import parameter_sensitivity
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.report.tables import (
    batch_summary_table,
    csv_text,
    parameter_labels,
    rankings_table,
)


def sweep(**columns):
    frame = pd.DataFrame(
        {
            "run_id": ["run_0.5", "run_1.0", "run_2.0"],
            "batch_id": "b1",
            "run_key": ["k0", "k1", "k2"],
            "status": ["FINISHED", "FINISHED", "FAILED"],
            "attempts": [1, 2, 3],
            "error_type": ["", "", "ValueError"],
            "error_message": ["", "", 'a "bad",\r\nvalue'],
            "undefined_metrics": ["calmar", "", ""],
            "mlflow_run_id": ["m0", "m1", None],
            "started_ms": [0, 1_700_000_000_123, 1_700_000_000_000],
            "ended_ms": [1_500, 1_700_000_001_000, None],
            "commission_bps": [0.5, 1.0, 2.0],
            "sharpe": [0.1, 0.30000000000000004, np.nan],
            "calmar": [np.nan, -0.25, np.nan],
            "runtime_s": [0.5, 0.25, np.nan],
            **columns,
        }
    )
    return RunTable.from_frame(frame, params=["commission_bps"])


def test_rankings_csv_is_exactly_this():
    table = sweep()

    text = csv_text(rankings_table(table, rank_runs(table, Ranking.parse("sharpe"))))

    assert text == (
        "rank,rank_in_scenario,run_id,commission_bps,sharpe,calmar,score,pareto,unranked\n"
        "1,1,run_1.0,1.0,0.30000000000000004,-0.25,1.0,true,\n"
        "2,1,run_0.5,0.5,0.1,,0.5,false,\n"
        ",,run_2.0,2.0,,,,false,FAILED (ValueError)\n"
    )


def test_the_batch_is_named_only_where_there_are_several():
    table = sweep(batch_id=["b1", "b2", "b1"])
    ranked = rank_runs(table, Ranking.parse("sharpe"))

    assert list(rankings_table(table, ranked).columns[:4]) == [
        "rank",
        "rank_in_scenario",
        "run_id",
        "batch_id",
    ]
    assert list(batch_summary_table(table, ranked).columns[:2]) == ["run_id", "batch_id"]
    assert "batch_id" not in rankings_table(sweep(), ranked)


def test_batch_summary_csv_is_exactly_this():
    table = sweep()

    text = csv_text(batch_summary_table(table, rank_runs(table, Ranking.parse("sharpe"))))

    assert text == (
        "run_id,status,rank,runtime_s,attempts,commission_bps,sharpe,calmar,error_type,"
        "error_message,undefined_metrics,run_key,mlflow_run_id,started,ended\n"
        "run_0.5,FINISHED,2,0.5,1,0.5,0.1,,,,calmar,k0,m0,"
        "1970-01-01T00:00:00.000Z,1970-01-01T00:00:01.500Z\n"
        "run_1.0,FINISHED,1,0.25,2,1.0,0.30000000000000004,-0.25,,,,k1,m1,"
        "2023-11-14T22:13:20.123Z,2023-11-14T22:13:21.000Z\n"
        'run_2.0,FAILED,,,3,2.0,,,ValueError,"a ""bad"",\nvalue",,k2,,'
        "2023-11-14T22:13:20.000Z,\n"
    )


def test_a_parameter_named_like_a_column_is_marked():
    assert parameter_labels(["fast", "sharpe", "rank", "status", "oos_sharpe"]) == {
        "fast": "fast",
        "sharpe": "param.sharpe",
        "rank": "param.rank",
        "status": "param.status",
        "oos_sharpe": "param.oos_sharpe",
    }
    table = RunTable(
        runs=pd.DataFrame({"run_id": ["a"], "status": ["FINISHED"]}),
        params=pd.DataFrame({"sharpe": ["high"]}),
        metrics=pd.DataFrame({"sharpe": [1.0]}),
    )
    row = rankings_table(table, rank_runs(table, Ranking.parse("sharpe"))).iloc[0]
    assert (row["param.sharpe"], row["sharpe"]) == ("high", 1.0)


def test_values_of_every_kind_survive_the_csv():
    values = [None, True, 1, 0.1, "x" * 6_001, 'quote " comma , line\nend', "", "null"]
    frame = pd.DataFrame({"p": pd.Series(values, dtype=object), "sharpe": np.arange(8.0)})
    table = RunTable.from_frame(frame, params=["p"])

    text = csv_text(rankings_table(table, rank_runs(table, Ranking.parse("sharpe"))))

    read = {row["run_id"]: row["p"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert list(read.values())[::-1] == [
        "null",
        "true",
        "1",
        "0.1",
        "x" * 6_001,
        'quote " comma , line\nend',
        "",
        "null",
    ]


def test_tables_of_no_runs_have_a_header():
    table = RunTable.from_frame(pd.DataFrame({"fast": [], "sharpe": []}), params=["fast"])
    ranked = rank_runs(table, Ranking.parse("sharpe"))

    assert csv_text(rankings_table(table, ranked)) == (
        "rank,rank_in_scenario,run_id,fast,score,pareto,unranked\n"
    )
    assert csv_text(batch_summary_table(table, ranked)) == "run_id,status,rank,fast\n"
    assert csv_text(parameter_sensitivity(table)) == (
        "parameter,value,metric,count,mean,std,min,max,best\n"
    )


def test_the_sensitivity_table_reads_back():
    table = sweep()

    read = pd.read_csv(
        io.StringIO(csv_text(parameter_sensitivity(table, best=1))), float_precision="round_trip"
    )

    assert read["parameter"].unique().tolist() == ["commission_bps"]
    assert read.loc[read["metric"] == "sharpe", "mean"].tolist() == [0.1, 0.30000000000000004]
    assert read.loc[read["metric"] == "sharpe", "best"].tolist() == [False, True]


def test_the_order_of_the_runs_does_not_change_rankings_csv():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"fast": np.arange(30), "sharpe": rng.integers(0, 5, 30) / 7})
    frame["run_id"] = [f"run_{i}" for i in range(30)]

    def text(rows):
        table = RunTable.from_frame(rows, params=["fast"])
        return csv_text(rankings_table(table, rank_runs(table, Ranking.parse("sharpe"))))

    assert text(frame) == text(frame.sample(frac=1, random_state=2))
