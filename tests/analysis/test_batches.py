import numpy as np
import pandas as pd

from backtest_batch.analysis.batches import (
    batch_differences,
    differences,
    differing_results,
    join_tables,
    without_repeats,
)
from backtest_batch.analysis.run_table import RunTable


def batch(name, keys, **columns):
    frame = pd.DataFrame({"run_id": [f"run_{k}" for k in keys], "run_key": keys, **columns})
    frame["batch_id"] = name
    return frame


def test_tables_are_joined_below_each_other():
    one = RunTable.from_frame(
        batch("a", ["k1", "k2"], fast=[10, 20], sharpe=[1.0, 2.0]), params=["fast"]
    )
    two = RunTable.from_frame(
        batch("b", ["k3"], commission_bps=[0.5], cagr=[0.1]), params=["commission_bps"]
    )

    table = join_tables([one, two])

    assert table.runs["run_id"].tolist() == ["run_k1", "run_k2", "run_k3"]
    assert table.several_batches
    assert table.params["fast"].tolist() == [10, 20, None]
    assert table.params["commission_bps"].tolist() == [None, None, 0.5]
    assert table.metrics["sharpe"].isna().tolist() == [False, False, True]
    assert table.scenario_axes == ("commission_bps",)
    assert table.scenario.tolist() == ["commission_bps=null"] * 2 + ["commission_bps=0.5"]


def test_a_run_that_occurs_twice_counts_once():
    frame = pd.concat(
        [
            batch(
                "a",
                ["k1", "k2", "k3"],
                sharpe=[1.0, np.nan, 3.0],
                status=["FINISHED", "FAILED", "FINISHED"],
            ),
            batch("b", ["k1", "k2", "k4"], sharpe=[1.0, 2.0, 4.0], status="FINISHED"),
        ],
        ignore_index=True,
    )

    kept, repeats = without_repeats(RunTable.from_frame(frame, params=[]))

    assert kept.runs.index.tolist() == [0, 2, 4, 5]
    assert repeats.to_dict("records") == [
        {"run_id": "run_k2", "batch_id": "a", "kept_run_id": "run_k2", "kept_batch_id": "b"},
        {"run_id": "run_k1", "batch_id": "b", "kept_run_id": "run_k1", "kept_batch_id": "a"},
    ]


def results(**sharpe):
    """Return runs of one key by batch, of which each has a Sharpe ratio."""
    frames = [
        batch(name, ["k1"], sharpe=value, cagr=0.1, runtime_s=float(place))
        for place, (name, value) in enumerate(sharpe.items())
    ]
    return RunTable.from_frame(pd.concat(frames, ignore_index=True), params=[])


def test_results_of_one_key_that_differ_all_stay():
    # What is different within rounding is the same: it may come from another machine.
    table = results(a=0.83, b=0.91, c=0.83 * (1 + 1e-12), d=np.nan)

    kept, repeats = without_repeats(table)

    assert kept.runs["batch_id"].tolist() == ["a", "b", "d"]
    assert repeats["kept_batch_id"].tolist() == ["a"]
    (sentence,) = differing_results(kept)
    assert sentence.startswith(
        "run_key k1 has three results: sharpe 0.83 in batch a, 0.91 in batch b, undefined in batch "
        "d. Each keeps its row"
    )
    assert differing_results(without_repeats(results(a=0.83, b=0.83))[0]) == []


def test_what_differs_is_shown_with_the_digits_that_tell_it_apart():
    (sentence,) = differing_results(results(a=0.123456, b=0.123457))
    assert "has two results: sharpe 0.123456 in batch a, 0.123457 in batch b." in sentence
    alike = results(a=1.0, b=1.0)
    alike.metrics["cagr"] = [0.1, 0.2]
    assert "has two results: cagr 0.1 in batch a, 0.2 in batch b." in differing_results(alike)[0]
    many = pd.concat(
        [
            batch(name, [f"k{k}" for k in range(5)], sharpe=value)
            for name, value in zip("ab", (1, 2), strict=True)
        ],
        ignore_index=True,
    )
    said = differing_results(RunTable.from_frame(many, params=[]))
    assert len(said) == 4
    assert said[-1] == "2 more run keys have results that differ; each keeps its row."


def test_runs_of_one_s_own_stay_whatever_the_others_are():
    frame = pd.concat(
        [
            batch("own", ["k1", "k2"], sharpe=[np.nan, 1.0], status=["FAILED", "FINISHED"]),
            batch("b", ["k1", "k2"], sharpe=[1.0, 2.0], status="FINISHED"),
            batch("c", ["k1", "k2"], sharpe=[1.0, 2.0], status="FINISHED"),
        ],
        ignore_index=True,
    )

    kept, repeats = without_repeats(RunTable.from_frame(frame, params=[]), own=2)

    assert kept.runs.index.tolist() == [0, 1, 3]
    assert repeats["kept_batch_id"].tolist() == ["own", "own", "b"]


def test_runs_without_a_key_never_repeat():
    frame = batch("a", ["", None, "", "k"], sharpe=1.0)

    kept, repeats = without_repeats(RunTable.from_frame(frame, params=[]))

    assert len(kept) == 4
    assert repeats.empty
    no_keys = RunTable.from_frame(frame.drop(columns="run_key"), params=[])
    assert len(without_repeats(no_keys)[0]) == 4


def test_what_differs_between_batches_is_listed():
    facts = pd.DataFrame(
        {
            "batch_id": ["a", "a", "b"],
            "data_fingerprint": ["d1", "d1", "d2"],
            "code_fingerprint": ["c", "c", "c"],
            "start_date": [None, "2005-01-01", "2005-01-01"],
            "cost": [0.5, 1.0, 1.0],
        }
    )

    found = differences(facts)

    assert found.to_dict("records") == [
        {"fact": "data_fingerprint", "a": "d1", "b": "d2"},
        {"fact": "start_date", "a": "null, 2005-01-01", "b": "2005-01-01"},
        {"fact": "cost", "a": "0.5, 1.0", "b": "1.0"},
    ]
    assert differences(facts[facts["batch_id"] == "a"]).empty


def test_data_code_and_dates_come_first_among_the_differences():
    runs = pd.concat(
        [
            batch("a", ["k1"], fast=[1], rebalance="M", start_date="2001-01-01", data="sp500"),
            batch("b", ["k2"], fast=[2], rebalance="W", start_date="2002-01-01", data="csv"),
        ],
        ignore_index=True,
    ).assign(data_fingerprint=["d1", "d2"], code_fingerprint=["c1", "c2"])
    table = RunTable.from_frame(runs, params=["fast", "rebalance", "start_date", "data"])

    assert batch_differences(table)["fact"].tolist() == [
        *("data_fingerprint", "code_fingerprint"),
        *("start_date", "data", "fast", "rebalance"),
    ]
