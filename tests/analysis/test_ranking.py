import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_batch.analysis.ranking import Ranking, podium, rank_runs, unranked_counts
from backtest_batch.analysis.run_table import RunTable, direction_of
from backtest_batch.core.engine.metrics import METRICS, RESULT_METRICS
from backtest_batch.errors import ConfigurationError

DIRECTED = [name for name in METRICS if direction_of(name)]


def table_of(params=(), **columns):
    return RunTable.from_frame(pd.DataFrame(columns), params=list(params))


def ranked_ids(table, ranking):
    ranked = rank_runs(table, ranking)
    places = ranked["rank"].dropna()
    assert places.tolist() == list(range(1, len(places) + 1))
    return table.runs["run_id"].reindex(places.index).tolist()


@pytest.mark.parametrize("metric", DIRECTED)
@pytest.mark.parametrize("normalise", ["rank", "zscore", "minmax"])
def test_the_better_run_ranks_first(metric, normalise):
    table = table_of(run_id=["high", "low"], **{metric: [0.3, 0.1]})
    better = ["high", "low"] if METRICS[metric].direction > 0 else ["low", "high"]

    assert ranked_ids(table, Ranking.parse(metric, None, normalise)) == better
    weighed = Ranking.parse({metric: 2.0}, None, normalise)
    assert ranked_ids(table, weighed) == better


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [
        ("max_drawdown", -0.1, -0.3),
        ("var_95", -0.01, -0.02),
        ("cvar_95", -0.02, -0.05),
        ("max_drawdown_duration", 100.0, 900.0),
        ("turnover_annual", 1.0, 5.0),
        ("volatility", 0.1, 0.2),
        ("total_costs", 10.0, 20.0),
        ("sharpe", -0.5, -1.5),
        ("cagr", 0.1, -0.1),
        ("runtime_s", 1.0, 2.0),
        ("oos_sharpe", 0.2, 0.1),
        ("sharpe_neighbourhood", 0.2, 0.1),
    ],
)
def test_better_means_what_people_mean(metric, better, worse):
    frame = pd.DataFrame({"run_id": ["worse", "better"], metric: [worse, better]})
    table = RunTable.from_frame(frame, params=[], metrics=[metric])

    assert ranked_ids(table, Ranking.parse(metric)) == ["better", "worse"]


def test_ties_break_by_run_id_in_plain_order():
    table = table_of(run_id=["run_9", "run_10", "run_Z", "run_a"], sharpe=[1.0, 1.0, 1.0, 2.0])

    assert ranked_ids(table, Ranking.parse("sharpe")) == ["run_a", "run_10", "run_9", "run_Z"]


def test_runs_that_cannot_be_ranked_say_why():
    table = table_of(
        run_id=["a", "b", "c", "d", "e", "f"],
        status=["FINISHED"] * 4 + ["FAILED", "KILLED"],
        error_type=["", "", "", "", "ValueError", ""],
        sharpe=[1.0, np.nan, 3.0, 2.0, 9.0, 9.0],
        max_drawdown=[-0.2, -0.1, -0.4, np.nan, -0.1, -0.1],
    )

    ranked = rank_runs(table, Ranking.parse("sharpe", {"max_drawdown": ">= -0.3"}))

    assert ranked.index.tolist() == [0, 1, 2, 3, 4, 5]
    assert ranked["rank"].tolist() == [1, *[pd.NA] * 5]
    assert ranked["unranked"].tolist() == [
        "",
        "sharpe is missing",
        "`max_drawdown >= -0.3` must hold, but got -0.4",
        "max_drawdown is missing, `max_drawdown >= -0.3` must hold",
        "FAILED (ValueError)",
        "KILLED",
    ]
    assert ranked["score"].isna().tolist() == [False] + [True] * 5
    assert not ranked["pareto"].iloc[1:].any()
    assert unranked_counts(ranked)["FAILED (ValueError)"] == 1


def test_several_reasons_are_all_given():
    table = table_of(run_id=["a"], sharpe=[np.nan], trades=[10.0])

    ranked = rank_runs(table, Ranking.parse({"sharpe": 1, "calmar": 1}, {"trades": ">= 50"}))

    assert ranked["unranked"].tolist() == [
        "sharpe is missing; calmar is missing; `trades >= 50.0` must hold, but got 10.0"
    ]


@pytest.mark.parametrize(
    ("bound", "kept"),
    [
        (">= 2", ["c", "b"]),
        ("<= 2", ["b", "a"]),
        ("> 2", ["c"]),
        ("<2", ["a"]),
        ("== 2", ["b"]),
        ("!= 2.0", ["c", "a"]),
        ("  >=   -1e3 ", ["c", "b", "a"]),
    ],
)
def test_constraints_compare(bound, kept):
    table = table_of(run_id=["a", "b", "c"], sharpe=[1.0, 2.0, 3.0])

    assert ranked_ids(table, Ranking.parse("sharpe", {"sharpe": bound})) == kept


def test_the_rank_within_a_scenario_stands_beside_the_rank():
    table = table_of(
        params=["commission_bps", "fast"],
        commission_bps=[0.0, 0.0, 1.0, 1.0],
        fast=[10, 20, 10, 20],
        sharpe=[1.0, 4.0, 3.0, 2.0],
    )

    ranked = rank_runs(table, Ranking.parse("sharpe"))

    assert ranked.index.tolist() == [1, 2, 3, 0]
    assert ranked["rank"].tolist() == [1, 2, 3, 4]
    assert ranked["rank_in_scenario"].tolist() == [1, 1, 2, 2]


def test_the_score_is_the_weighted_mean_of_percentile_ranks():
    table = table_of(
        run_id=list("abcd"),
        sharpe=[1.0, 2.0, 3.0, 3.0],
        turnover_annual=[4.0, 1.0, 2.0, 3.0],
    )

    ranked = rank_runs(table, Ranking.parse({"sharpe": 3, "turnover_annual": 1}))

    # sharpe: 1/4, 2/4, 3.5/4, 3.5/4; turnover (less is better): 1/4, 4/4, 3/4, 2/4.
    assert ranked.index.tolist() == [2, 3, 1, 0]
    assert ranked["score"].tolist() == [0.84375, 0.78125, 0.625, 0.25]


def test_excluded_runs_do_not_bend_the_score():
    columns = {"run_id": list("abc"), "sharpe": [1.0, 2.0, 3.0], "calmar": [3.0, 1.0, 2.0]}
    alone = rank_runs(table_of(**columns), Ranking.parse({"sharpe": 1, "calmar": 1}))
    failed = {name: [*values, 9.0 if name != "run_id" else "z"] for name, values in columns.items()}
    with_failed = rank_runs(
        table_of(status=["FINISHED"] * 3 + ["FAILED"], **failed),
        Ranking.parse({"sharpe": 1, "calmar": 1}),
    )

    assert with_failed["score"].tolist()[:3] == alone["score"].tolist()


def test_equal_shares_tie_whatever_the_order_of_the_sum():
    names = ["sharpe", "calmar", "sortino"]
    places = list(itertools.permutations([1.0, 2.0, 3.0]))
    columns = {name: [row[at] for row in places] for at, name in enumerate(names)}
    table = table_of(run_id=list("abcdef"), **columns)

    ranked = rank_runs(table, Ranking.parse(dict.fromkeys(names, 0.1)))

    assert ranked["score"].nunique() == 1
    assert ranked.index.tolist() == [0, 1, 2, 3, 4, 5]


def test_no_run_one_run_and_only_failed_runs_are_ranked():
    ranking = Ranking.parse({"sharpe": 1, "calmar": 2}, None, "zscore")

    assert rank_runs(table_of(run_id=[], sharpe=[], calmar=[]), ranking).empty
    one = rank_runs(table_of(run_id=["a"], sharpe=[1.0], calmar=[-1.0]), ranking)
    assert one["rank"].tolist() == [1]
    assert one["score"].tolist() == [0.0]
    assert one["pareto"].tolist() == [True]
    failed = rank_runs(
        table_of(run_id=["a", "b"], status="FAILED", sharpe=[1.0, 2.0], calmar=[1.0, 2.0]), ranking
    )
    assert failed["rank"].isna().all()
    assert failed["unranked"].tolist() == ["FAILED", "FAILED"]


def test_a_metric_that_no_run_has_leaves_all_unranked():
    ranked = rank_runs(table_of(run_id=["a"], sharpe=[1.0]), Ranking.parse("information_ratio"))

    assert ranked["unranked"].tolist() == ["information_ratio is missing"]


METRIC_VALUES = st.sampled_from([-1.5, -1.0, 0.0, 0.25, 1.0, 2.0, float("nan")])


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(
        st.tuples(METRIC_VALUES, METRIC_VALUES, METRIC_VALUES, st.booleans(), st.integers(0, 2)),
        min_size=1,
        max_size=15,
    ),
    weights=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    normalise=st.sampled_from(["rank", "zscore", "minmax"]),
)
def test_rankings_agree_with_plain_pandas(rows, weights, normalise):
    frame = pd.DataFrame(rows, columns=["sharpe", "volatility", "calmar", "fine", "commission_bps"])
    frame["run_id"] = [f"r{(7 * i) % 17}" for i in range(len(frame))]
    frame["status"] = np.where(frame["fine"], "FINISHED", "FAILED")
    table = RunTable.from_frame(frame, params=["commission_bps"])
    ranking = Ranking.parse(
        {"sharpe": weights[0], "volatility": weights[1]}, {"calmar": ">= -1"}, normalise
    )

    ranked = rank_runs(table, ranking)

    kept = frame[frame["fine"] & (frame["calmar"] >= -1)].dropna(subset=["sharpe", "volatility"])
    good = pd.DataFrame({"s": kept["sharpe"], "v": -kept["volatility"]})
    scaled = good.rank(pct=True)
    for name, one in good.items() if normalise != "rank" else ():
        if normalise == "zscore":
            scaled[name] = (one - one.mean()) / one.std() if one.nunique() > 1 else 0.0
        else:
            span = one.max() - one.min()
            scaled[name] = (one - one.min()) / span if one.nunique() > 1 else 0.5
    kept = kept.assign(
        score=((scaled["s"] * weights[0] + scaled["v"] * weights[1]) / sum(weights)).round(12)
    )
    expected = kept.sort_values(["score", "run_id"], ascending=[False, True])
    in_order = ranked.loc[ranked["rank"].notna()]
    assert in_order["score"].to_numpy() == pytest.approx(expected["score"].to_numpy(), abs=1e-11)
    assert sorted(in_order.index) == sorted(expected.index)
    groups = frame.loc[in_order.index].groupby("commission_bps").cumcount() + 1
    assert in_order["rank_in_scenario"].tolist() == groups.tolist()
    values = good.loc[in_order.index].to_numpy()
    dominated = [
        any((other >= one).all() and (other > one).any() for other in values) for one in values
    ]
    assert in_order["pareto"].tolist() == [not beaten for beaten in dominated]
    assert (ranked["unranked"] == "").tolist() == ranked["rank"].notna().tolist()


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_runs_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.integers(0, 4, 40) / 3 for name in RESULT_METRICS})
    frame["run_id"] = [f"run_{i}" for i in range(40)]
    ranking = Ranking.parse({"sharpe": 0.5, "calmar": 0.3, "turnover_annual": 0.2})
    shuffled = frame.sample(frac=1, random_state=seed)

    first = rank_runs(RunTable.from_frame(frame, params=[]), ranking)
    second = rank_runs(RunTable.from_frame(shuffled, params=[]), ranking)

    pd.testing.assert_frame_equal(first, second)


def test_the_podium_is_the_best_three_of_the_finished_runs():
    table = table_of(
        status=["FINISHED"] * 5 + ["FAILED"],
        sharpe=[1.0, 3.0, 3.0, 2.0, np.nan, 9.0],
        volatility=[0.1, 0.2, 0.3, 0.4, 0.5, 0.0],
        beta=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        runtime_s=[7.0] * 6,
    )

    places = podium(table, ["sharpe", "volatility", "beta", "runtime_s"])

    assert places["sharpe"].tolist() == [0, 1, 1, 3, 0, 0]
    assert places["volatility"].tolist() == [1, 2, 3, 0, 0, 0]
    assert places["beta"].tolist() == [0] * 6, "neither more nor less beta is better"
    assert places["runtime_s"].tolist() == [0] * 6, "equal in all runs"


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        ({"rank_by": "sharp"}, "rank_by", ["'sharp'", "did you mean sharpe", "max_drawdown"]),
        ({"rank_by": "SHARPE"}, "rank_by", ["did you mean sharpe"]),
        ({"rank_by": {"sharpe": 1, "calmr": 1}}, "rank_by.calmr", ["did you mean calmar"]),
        ({"rank_by": "beta"}, "rank_by", ["neither more nor less beta is better", "sharpe"]),
        ({"rank_by": ""}, "rank_by", ["there is no metric ''"]),
        ({"rank_by": {}}, "rank_by", ["mapping of metrics to weights"]),
        ({"rank_by": None}, "rank_by", ["mapping of metrics to weights"]),
        ({"rank_by": ["sharpe"]}, "rank_by", ["mapping of metrics to weights"]),
        ({"rank_by": {"sharpe": -1}}, "rank_by.sharpe", ["must be >= 0"]),
        ({"rank_by": {"sharpe": "much"}}, "rank_by.sharpe", ["finite number"]),
        ({"rank_by": {"sharpe": True}}, "rank_by.sharpe", ["finite number"]),
        ({"rank_by": {"sharpe": float("nan")}}, "rank_by.sharpe", ["finite number"]),
        ({"rank_by": {"sharpe": None}}, "rank_by.sharpe", ["finite number"]),
        ({"rank_by": {"sharpe": 0, "calmar": 0.0}}, "rank_by", ["sum to more than 0", "sum to 0"]),
        ({"constraints": {"drawdown": ">= -0.3"}}, "constraints.drawdown", ["max_drawdown"]),
        ({"constraints": {"trades": "50"}}, "constraints.trades", ["'>= -0.3'", ">=", "!="]),
        ({"constraints": {"trades": 50}}, "constraints.trades", ["comparison with a number"]),
        ({"constraints": {"trades": "=> 50"}}, "constraints.trades", ["comparison"]),
        ({"constraints": {"trades": ">= fifty"}}, "constraints.trades", ["comparison"]),
        ({"constraints": {"trades": ">= nan"}}, "constraints.trades", ["comparison"]),
        ({"constraints": {"trades": ">= 5 6"}}, "constraints.trades", ["comparison"]),
        ({"constraints": "trades >= 50"}, "constraints", ["must be a mapping"]),
        ({"normalise": "best"}, "normalise", ["rank, zscore, minmax"]),
    ],
)
def test_faults_name_the_key_and_the_choices(arguments, key, words):
    with pytest.raises(ConfigurationError) as caught:
        Ranking.parse(**arguments)

    assert [fault.key for fault in caught.value.faults] == [key]
    for word in words:
        assert word in str(caught.value)


def test_all_faults_are_listed_at_once():
    with pytest.raises(ConfigurationError) as caught:
        Ranking.parse({"shrpe": 1, "calmar": -1}, {"trades": "many", "cagr": "> 0"}, "none")

    assert [fault.key for fault in caught.value.faults] == [
        "rank_by.shrpe",
        "rank_by.calmar",
        "constraints.trades",
        "normalise",
    ]


def test_weights_are_divided_by_their_sum_and_zero_drops_a_metric():
    ranking = Ranking.parse({"sharpe": 5, "calmar": 3, "turnover_annual": 2, "cagr": 0})

    assert ranking.weights == {"sharpe": 0.5, "calmar": 0.3, "turnover_annual": 0.2}
    assert ranking.weighted
    assert not Ranking.parse({"sharpe": 7}).weighted


def test_a_ranking_describes_itself():
    ranking = Ranking.parse({"sharpe": 1, "volatility": 3}, {"trades": ">=50"})

    assert str(ranking) == (
        "0.25 sharpe (more is better) + 0.75 volatility (less is better), normalised by rank, "
        "where trades >= 50.0"
    )
    assert str(Ranking.parse("sharpe")) == "sharpe (more is better)"


def test_ranking_by_out_of_sample_metrics_is_flagged():
    assert Ranking.parse("sharpe").out_of_sample_metrics == ()
    ranking = Ranking.parse("oos_sharpe", {"oos_max_drawdown": "> -0.5", "trades": "> 0"})
    assert ranking.out_of_sample_metrics == ("oos_sharpe", "oos_max_drawdown")


@pytest.mark.parametrize("normalise", ["rank", "zscore", "minmax"])
def test_very_large_and_very_small_metrics_are_ranked(normalise):
    table = table_of(
        run_id=["a", "b", "c"], final_pf=[1e308, -1e308, 0.0], sharpe=[1e-308, 3e-308, 2e-308]
    )

    ranked = rank_runs(table, Ranking.parse({"final_pf": 3, "sharpe": 1}, None, normalise))

    assert ranked["rank"].notna().all()
    assert ranked.index.tolist() == [0, 2, 1]
