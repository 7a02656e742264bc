import itertools
import json
import shlex

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.stability import with_neighbourhood
from backtest_batch.report.best_params import (
    RunDetails,
    best_params,
    best_params_markdown,
    best_rows,
    json_text,
)


def sweep():
    rows = list(itertools.product([10, 20, 30], [0.0, 0.5]))
    frame = pd.DataFrame(rows, columns=["strategy.fast", "commission_bps"])
    frame["run_id"] = [f"run_{fast}_{cost}" for fast, cost in rows]
    frame["run_key"] = [f"key{i}" for i in range(6)]
    frame["sharpe"] = [0.1, 0.05, 0.30000000000000004, 0.2, 0.2, 0.15]
    frame["calmar"] = [np.nan, 1.0, 2.0, 3.0, 4.0, 5.0]
    frame["runtime_s"] = 1.0
    frame["data_fingerprint"] = "d"
    return with_neighbourhood(
        RunTable.from_frame(frame, params=["strategy.fast", "commission_bps"])
    )


def document(table, ranking=None, top_n=2, verdict=None):
    ranking = ranking or Ranking.parse("sharpe")
    ranked = rank_runs(table, ranking)
    details = {
        row: RunDetails(
            config={"strategy": {"fast": 1}, "tags": {}},
            command=("python", "-m", "backtest_batch", f"row={row}", "path='a b|c'"),
            mlflow_run_id=f"m{row}",
            environment={"host": "here", "pid": 7, "packages": {"numpy": "2.4.0"}},
        )
        for row in best_rows(ranked, top_n)
    }
    return best_params(table, ranked, ranking, top_n=top_n, details=details, verdict=verdict)


def test_the_best_runs_are_described_in_full():
    found = document(sweep(), verdict={"label": "luck", "sentence": "This is luck."})

    assert found["rank_by"] == {"sharpe": 1.0}
    assert found["normalise"] == "rank"
    assert found["constraints"] == {}
    assert (found["n_runs"], found["n_ranked"]) == (6, 6)
    assert found["verdict"]["label"] == "luck"
    assert found["top"][0] == {
        "rank": 1,
        "rank_in_scenario": 1,
        "scenario": "commission_bps=0.0",
        "run_id": "run_20_0.0",
        "batch_id": None,
        "run_key": "key2",
        "mlflow_run_id": "m2",
        "params": {"strategy.fast": 20, "commission_bps": 0.0},
        "score": 1.0,
        "pareto": True,
        "metrics": {"sharpe": 0.30000000000000004, "calmar": 2.0},
        "sharpe_neighbourhood": pytest.approx(0.15),
        "edges": {},
        "data_fingerprint": "d",
        "code_fingerprint": None,
        "environment": {"host": "here", "packages": {"numpy": "2.4.0"}},
        "command": "python -m backtest_batch row=2 'path='\"'\"'a b|c'\"'\"''",
        "config": {"strategy": {"fast": 1}, "tags": {}},
    }
    assert [item["run_id"] for item in found["top"]] == ["run_20_0.0", "run_20_0.5"]
    assert [item["run_id"] for item in found["scenarios"]] == ["run_20_0.0", "run_20_0.5"]


def test_the_command_is_quoted_for_a_shell():
    command = document(sweep())["top"][0]["command"]

    assert shlex.split(command)[-1] == "path='a b|c'"


def test_the_best_of_each_scenario_follows_the_top():
    found = document(sweep(), top_n=1)

    assert [item["rank"] for item in found["top"]] == [1]
    assert [item["rank"] for item in found["scenarios"]] == [1, 2]


def test_an_optimum_on_the_edge_of_the_grid_is_marked():
    found = document(sweep(), Ranking.parse("calmar"), top_n=1)

    assert found["top"][0]["edges"] == {"strategy.fast": "highest"}
    assert "strategy.fast has the highest value tried" in best_params_markdown(found)


def test_metrics_survive_json_bit_for_bit():
    found = document(sweep())

    read = json.loads(json_text(found))

    assert read == found
    assert read["top"][0]["metrics"]["sharpe"] == 0.30000000000000004
    assert json_text({"a": np.float64(0.1), "b": np.int64(3)}) == '{\n  "a": 0.1,\n  "b": 3\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        json_text({"a": float("nan")})


def test_only_failed_runs_have_no_best():
    table = RunTable.from_frame(
        pd.DataFrame({"fast": [1, 2], "status": "FAILED", "sharpe": [1.0, 2.0]}), params=["fast"]
    )

    found = document(table)

    assert (found["top"], found["scenarios"]) == ([], [])
    assert "No run could be ranked." in best_params_markdown(found)


def test_one_run_without_parameters():
    table = RunTable.from_frame(pd.DataFrame({"run_id": ["run_base"], "sharpe": [1.0]}), params=[])

    found = document(table)

    assert found["top"][0]["params"] == {}
    assert found["top"][0]["scenario"] == "base"
    assert found["top"][0]["edges"] == {}
    assert "## 1. run_base" in best_params_markdown(found)


def test_the_summary_shows_parameters_metrics_and_command():
    ranking = Ranking.parse({"sharpe": 1, "calmar": 3}, {"calmar": "> 0"})
    verdict = {"label": "luck", "sentence": "Luck | chance."}

    text = best_params_markdown(document(sweep(), ranking, top_n=1, verdict=verdict))

    assert text.startswith("# Best parameters\n\n5 of 6 runs are ranked by sharpe (0.25), ")
    assert "Constraints: calmar > 0.0." in text
    assert "Verdict: Luck \\| chance." in text
    assert "| strategy.fast | 30 |" in text
    assert "| calmar | 4.000 |" in text
    assert "```sh\npython -m backtest_batch row=4" in text
    assert "# Best of each scenario" in text
    assert "## commission_bps=0.5" in text


def test_a_value_of_6001_characters_is_shown_whole():
    value = "v" * 6_001
    table = RunTable.from_frame(pd.DataFrame({"p": [value], "sharpe": [1.0]}), params=["p"])

    found = document(table)

    assert found["top"][0]["params"]["p"] == value
    assert value in best_params_markdown(found)
