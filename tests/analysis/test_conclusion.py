from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.batches import batch_differences, join_tables
from backtest_batch.analysis.conclusion import ReturnsOfRuns, conclude
from backtest_batch.analysis.overfitting import OverfittingSettings
from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import RunTable

N_BARS = 300


def batch(name, sharpe, **columns):
    frame = pd.DataFrame(
        {
            "run_id": [f"run_{place}" for place in range(len(sharpe))],
            "batch_id": name,
            "fast": list(range(len(sharpe))),
            "sharpe": sharpe,
            **columns,
        }
    )
    return RunTable.from_frame(frame, params=["fast"])


def returns_of(n_runs):
    generator = np.random.default_rng(1)
    matrix = 0.01 * generator.standard_normal((N_BARS, n_runs))
    matrix[0] = np.nan
    return ReturnsOfRuns(
        index=pd.bdate_range("2020-01-01", periods=N_BARS),
        returns=matrix,
        benchmarks=matrix[:, :1],
        benchmark_of=[0] * n_runs,
        decisions=[str(place) for place in range(n_runs)],
        risk_free=[0.0] * n_runs,
        periods_per_year=252.0,
    )


def test_runs_of_one_scenario_may_have_different_benchmarks():
    # Rebalanced weekly or monthly: another calendar, another benchmark.
    returns = returns_of(3)
    benchmarks = np.random.default_rng(4).normal(0.0, 0.01, (N_BARS, 2))
    matrix = returns.returns + benchmarks[:, [0, 1, 1]]
    found = conclude(
        batch("new", [0.5, 1.0, 0.1]),
        Ranking.parse("sharpe"),
        returns=replace(returns, returns=matrix, benchmarks=benchmarks, benchmark_of=[0, 1, 1]),
        settings=OverfittingSettings(draws=100),
    )
    assert found.assessment is not None
    document = found.assessment.document
    winner = int(document["run_id"].removeprefix("run_"))
    own = benchmarks[:, [0, 1, 1][winner]]
    known = np.isfinite(matrix).all(axis=1)
    slope = np.polyfit(own[known], matrix[known, winner], 1)[0]
    assert document["beta"] == pytest.approx(slope, rel=1e-9)


def test_only_runs_with_returns_are_judged():
    own, earlier = batch("new", [0.5, 1.0, 0.1]), batch("old", [2.0, 0.3])
    settings = OverfittingSettings(draws=100)

    found = conclude(
        join_tables([own, earlier]),
        Ranking.parse("sharpe"),
        returns=returns_of(3),
        settings=settings,
        notes=["first"],
    )

    # The best of all is an earlier run; judged is the selection among the three.
    assert found.best == 3
    assert found.ranked["rank"].reindex([3, 1]).tolist() == [1, 2]
    assert found.assessment.document["n_trials"] == 3
    assert set(found.assessment.columns.index) == {"run_0", "run_1", "run_2"}
    assert found.skill["psr"].notna().tolist() == [True, True, True, False, False]
    assert found.notes[0] == "first"
    alone = conclude(own, Ranking.parse("sharpe"), returns=returns_of(3), settings=settings)
    assert found.skill["psr"].tolist()[:3] == alone.skill["psr"].tolist()


def test_a_parameter_without_effect_has_no_better_values_beyond_its_grid():
    table = RunTable.from_frame(
        pd.DataFrame(
            {"run_id": list("abcd"), "fast": [1, 1, 2, 2], "slow": [3, 4, 3, 4],
             "sharpe": [1.0, 1.0, 0.5, 0.5]}
        ),
        params=["fast", "slow"],
    )  # fmt: skip

    notes = conclude(table, Ranking.parse("sharpe")).notes

    assert [note for note in notes if "slow" in note] == [
        "slow changes no result: its 2 values (3, 4) give the same metrics, bit for bit. It is "
        "not connected, or it is a cap that does not bind."
    ]
    assert any("The best run has fast=1, the lowest value tried" in note for note in notes)


def test_the_leaderboard_calls_skilled_what_the_verdict_does():
    generator = np.random.default_rng(5)
    market = 0.01 * generator.standard_normal(N_BARS)
    for skill in (0.0, 0.004):
        own = 0.01 * generator.standard_normal((N_BARS, 4)) + market[:, None]
        own[:, 2] += skill
        returns = replace(returns_of(4), returns=own, benchmarks=market[:, None])
        found = conclude(
            batch("new", [0.1, 0.2, 0.9, 0.3]), Ranking.parse("sharpe"), returns=returns
        )
        assert found.verdict is not None
        assert found.skill is not None
        label = found.verdict["label"]
        assert label == ("skill" if skill else "luck")
        assert found.skill["skilled"].tolist() == [False, False, label == "skill", False]
        # 200 bars are no basis for either.
        short = replace(returns, index=returns.index[:200], returns=own[:200],
                        benchmarks=market[:200, None])  # fmt: skip
        found = conclude(batch("new", [0.1, 0.2, 0.9, 0.3]), Ranking.parse("sharpe"), returns=short)
        assert found.skill is not None
        assert found.skill["skilled"].isna().all()


def test_without_returns_there_is_no_verdict():
    found = conclude(batch("new", [0.5, 1.0]), Ranking.parse("sharpe"))

    assert found.assessment is None
    assert found.skill is None
    assert found.verdict is None
    assert found.sentence == ""
    assert found.best == 1
    assert found.differences.empty


def test_nothing_to_compare():
    found = conclude(batch("new", []), Ranking.parse("sharpe"), returns=returns_of(0))

    assert found.best is None
    assert found.assessment is None
    assert found.ranked.empty


def test_no_run_with_the_metric():
    found = conclude(batch("new", [np.nan, np.nan]), Ranking.parse("sharpe"))

    assert found.best is None
    assert found.ranked["unranked"].tolist() == ["sharpe is missing"] * 2


def test_batches_differ_in_data_parameters_and_given_facts():
    one = batch("a", [1.0, 2.0], data_fingerprint="d" * 64, code_fingerprint="c")
    two = batch("b", [1.0, 2.0, 3.0], data_fingerprint="e" * 64, code_fingerprint="c")
    facts = pd.DataFrame({"batch_id": ["a", "b"], "numpy": ["2.3.0", "2.4.0"], "python": "3.11"})

    found = conclude(join_tables([one, two]), Ranking.parse("sharpe"), facts=facts)

    assert found.differences.to_dict("records") == [
        {"fact": "data_fingerprint", "a": "d" * 12, "b": "e" * 12},
        {"fact": "fast", "a": "0, 1", "b": "0, 1, 2"},
        {"fact": "numpy", "a": "2.3.0", "b": "2.4.0"},
    ]


def test_what_is_not_known_of_a_batch_is_no_difference():
    one = batch("a", [1.0, 2.0], git_commit="abc", code_fingerprint="c")
    two = batch("b", [1.0, 2.0], code_fingerprint=["d", ""])
    three = batch("c", [1.0, 2.0], git_commit="def", code_fingerprint="e")
    facts = pd.DataFrame({"batch_id": ["a", "c"], "numpy": ["2.3.0", "2.4.0"]})

    found = batch_differences(join_tables([one, two, three]), facts)

    assert found["fact"].tolist() == ["numpy"]
    assert found.loc[0, "a"] == "2.3.0"
    assert found.loc[0, "c"] == "2.4.0"
    assert pd.isna(found.loc[0, "b"])


def test_many_values_of_a_batch_are_summed_up():
    one, two = batch("a", [1.0] * 9), batch("b", [1.0])

    found = batch_differences(join_tables([one, two]))

    assert found.to_dict("records") == [{"fact": "fast", "a": "0, 1, …, 8 (9 values)", "b": "0"}]


def test_a_parameter_may_be_named_like_a_fact():
    frame = pd.DataFrame(
        {"batch_id": ["a", "b"], "run_id": ["r", "s"], "p": [1, 2], "git_commit": "x", "sharpe": 1}
    )
    table = RunTable.from_frame(frame, params=["p"])
    renamed = RunTable(
        runs=table.runs,
        params=table.params.rename(columns={"p": "git_commit"}),
        metrics=table.metrics,
    )

    assert batch_differences(renamed)["fact"].tolist() == ["param.git_commit"]
