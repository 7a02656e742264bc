"""What skill_or_luck returns, and the tables that say which values were tried."""

import json
import pickle
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.api.decisions import tried_values
from backtest_batch.errors import DataError

INDEX = pd.bdate_range("2015-01-01", periods=400)
TRIALS = ["a", "b", "c"]


def noise(n_trials, seed=0):
    values = np.random.default_rng(seed).normal(3e-4, 0.01, (len(INDEX), n_trials))
    return pd.DataFrame(values, index=INDEX, columns=list("abcdefghij"[:n_trials]))


def test_a_judgement_is_a_dict_with_a_verdict_and_a_ranking():
    found = bb.skill_or_luck(noise(5), "none")
    assert isinstance(found, bb.Judgement)
    assert json.loads(json.dumps(found)) == found
    assert found.label == found["verdict"]["label"]
    assert found.sentence == found["verdict"]["sentence"]
    assert found.ranking["run_id"].iloc[0] == found["run_id"]
    sharpe = noise(5).mean() / noise(5).std() * 252**0.5
    assert found.ranking["sharpe"].iloc[0] == pytest.approx(sharpe.max())
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert again.svg == found.svg


def test_its_picture_is_well_formed_and_shows_the_best_sharpe_ratio():
    named = noise(5).set_axis(["<i>", "a&b", "c", "d", "e"], axis=1)
    found = bb.skill_or_luck(named, "none")
    root = ET.fromstring(found.svg)
    texts = [item.text for item in root.iter("{http://www.w3.org/2000/svg}text")]
    best = found["sharpe_per_period"] * 252**0.5
    assert f"{best:.2f}" in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) > 20
    shown = found._repr_html_()
    assert found.svg in shown
    assert "<i>" not in shown
    assert "&lt;i&gt;" in shown
    alone = ET.fromstring(bb.skill_or_luck(noise(1)).svg)
    assert any("one strategy" in text for text in alone.itertext())


def test_it_writes_its_files_where_it_is_told(tmp_path):
    found = bb.skill_or_luck(noise(3), "none", title="my trials")
    folder = found.save(tmp_path / "new" / "folder")
    assert json.loads((folder / "overfitting.json").read_text("utf-8")) == found
    assert "my trials" in (folder / "report.html").read_text("utf-8")


def test_a_file_is_judged_like_the_table_in_it(tmp_path):
    path = tmp_path / "returns.parquet"
    noise(4).to_parquet(path)
    assert bb.skill_or_luck(path) == bb.skill_or_luck(str(path)) == bb.skill_or_luck(noise(4))


def test_trials_that_differ_in_conditions_only_are_one_choice():
    tried = pd.DataFrame(
        {"trial": list("abcd"), "fast": [10, 10, 20, 20], "commission_bps": [0, 5, 0, 5]}
    )
    found = bb.skill_or_luck(noise(4), "none", decisions=tried)
    assert found["n_trials"] == 2
    assert found["scenario"] in ("commission_bps=0", "commission_bps=5")
    assert len(found["scenarios"]) == 1
    moved = bb.skill_or_luck(
        noise(4), "none", decisions=tried, decision_axes=["commission_bps"], scenario_axes=["fast"]
    )
    assert moved["scenario"].startswith("fast=")
    assert bb.skill_or_luck(noise(4), "none")["n_trials"] == 4


def test_neighbours_in_the_grid_are_an_opinion_of_the_verdict():
    tried = {"a": {"fast": 10}, "b": {"fast": 20}, "c": {"fast": 30}}
    found = bb.skill_or_luck(noise(3), "none", decisions=tried)
    ranking = found.ranking.set_index("run_id")
    assert ranking.loc["a", "sharpe_neighbourhood"] == pytest.approx(ranking.loc["b", "sharpe"])
    assert any("fast=" in note for note in found.notes)


def test_rows_of_failed_runs_count_as_tried(tmp_path):
    rows = ["run_id,status,run_key,fast", "a,FINISHED,x,1", "b,FINISHED,y,2", "z,FAILED,w,3"]
    rows += ["y,FINISHED,u,4"]  # of a large batch, whose file holds the best runs alone
    path = tmp_path / "batch_summary.csv"
    path.write_text("\n".join(rows) + "\n")
    found = bb.skill_or_luck(noise(2), "none", decisions=path)
    assert found["n_trials"] == 4
    reasons = {item["run_id"]: item["reason"] for item in found["excluded"]}
    assert reasons == {"y": "it has no returns", "z": "failed: it has no returns"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "cannot be read"), ("trial\na\nb\n", "has no key"), ("a;b\n1\n", "must name the trials")],
)
def test_a_csv_of_decisions_with_little_in_it_is_refused(tmp_path, text, said):
    path = tmp_path / "tried.csv"
    path.write_text(text)
    with pytest.raises(bb.DataError, match=said):
        tried_values(path, ["a", "b"])


def test_decisions_may_be_separated_by_semicolons_and_marked(tmp_path):
    path = tmp_path / "tried.csv"
    path.write_text("trial;fast\na;0.5\nb;null\n", encoding="utf-8-sig")
    assert tried_values(path, ["a", "b"]).params["fast"].tolist() == [0.5, None]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_values_have_types_from_any_file(tmp_path, suffix):
    frame = pd.DataFrame({"trial": TRIALS, "fast": [1, 2, 3], "kind": ["ema", "null", "true"]})
    path = tmp_path / f"tried.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        path.write_text(json.dumps({name: {"fast": n + 1} for n, name in enumerate(TRIALS)}))
    found = tried_values(path, TRIALS).params
    assert found.index.tolist() == TRIALS
    assert found["fast"].tolist() == [1, 2, 3]
    if suffix == "csv":
        assert found["kind"].tolist() == ["ema", None, True]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a": {"fast": 1}, "b": {"fast": 2}}, "has no row for c"),
        ({name: {"fast": 1} for name in "abcd"}, "names d, without returns"),
        ({"a": {"fast": 1}, "b": {"fast": 2}, "cc": {"fast": 3}}, "did you mean c?"),
        ({"a": 1}, "a must have a mapping"),
        (pd.DataFrame({"trial": ["a", "a", "b", "c"], "fast": 1}), "a has more than one row"),
        (pd.DataFrame({"trial": TRIALS}), "has no key beside"),
        (pd.DataFrame({"which": ["x", "y", "z"], "fast": 1}), "one column must name the trials"),
        ([1, 2], "must hold a mapping for each trial"),
        (3, "must be a table or a mapping, but is a int"),
        ("nowhere.csv", "decisions=nowhere.csv: there is no such file"),
        ("grid.xml", "must be a CSV, Parquet or JSON file"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_name(working_dir, given, said):
    with pytest.raises(bb.DataError, match=said):
        tried_values(given, TRIALS)


def test_the_first_column_may_name_the_trials():
    given = pd.DataFrame({"strategy": TRIALS, "fast": [1, 2, 3]})
    assert tried_values(given, TRIALS).params["fast"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("n_trials", [0, -1, 2.5, True, "many"])
def test_a_number_of_trials_is_a_whole_number(n_trials):
    with pytest.raises(bb.ConfigurationError, match="must be a whole number >= 1"):
        bb.skill_or_luck(noise(2), n_trials=n_trials)


def test_one_trial_of_many_is_not_judged_alone():
    found = bb.skill_or_luck(noise(1), "none", n_trials=np.int64(50))
    assert "only 1 of 50 strategies can be tested" in found.sentence


def test_a_benchmark_that_loses_everything_is_refused():
    returns = noise(3)
    returns.iloc[9, 2] = -1.0
    with pytest.raises(bb.DataError, match="benchmark c has a return of -100 % or less at 2015-01"):
        bb.skill_or_luck(returns, "c")


def test_levels_of_columns_are_what_was_tried():
    levels = pd.MultiIndex.from_product([[10, 20], [0, 5]], names=["fast", "commission_bps"])
    found = bb.skill_or_luck(noise(4).set_axis(levels, axis=1), "none")
    assert found["n_trials"] == 2
    assert found["scenario"] in ("commission_bps=0", "commission_bps=5")
    assert found.ranking["fast"].isin(["10", "20"]).all()
    unnamed = noise(4).set_axis(pd.MultiIndex.from_product([[10, 20], [0, 5]]), axis=1)
    assert bb.skill_or_luck(unnamed, "none")["n_trials"] == 4


@pytest.mark.parametrize("values", ["returns", "prices"])
@pytest.mark.parametrize("end", ["ME", "MS"])
def test_a_verdict_does_not_hang_on_how_the_months_of_a_benchmark_are_dated(tmp_path, end, values):
    months = pd.date_range("2004-12-31", periods=145, freq="BME")
    labels = pd.date_range("2004-12-01", periods=145, freq=end)
    noise = np.random.default_rng(4)
    index = pd.Series(noise.normal(0.01, 0.04, 145), months)
    trials = pd.DataFrame({f"t{n}": index + noise.normal(0, 0.005, 145) for n in range(5)})
    path = tmp_path / "index.csv"
    held = index if values == "returns" else 100 * (1 + index).cumprod()
    held.set_axis(labels).rename("F").to_csv(path, index_label="date")
    found = bb.skill_or_luck(trials.iloc[1:], str(path), benchmark_values=values)
    right = bb.skill_or_luck(trials.iloc[1:], index.iloc[1:])
    assert found["benchmark_spa_pvalue"] == pytest.approx(right["benchmark_spa_pvalue"])
    assert found.label == right.label
    assert any("matched by month" in note for note in found.notes) == (end == "ME")


def test_a_code_for_a_missing_return_of_a_benchmark_is_bridged(tmp_path):
    path = tmp_path / "index.csv"
    held = noise(1)["a"].mul(100).round(4)
    held.iloc[7] = -99.99
    held.to_csv(path, index_label="date")
    given = {"file": str(path), "values": "returns", "unit": "percent"}
    notes = bb.skill_or_luck(noise(3), given).notes
    assert any("1 of 400 bars have no value of their own" in note for note in notes)


def test_the_column_of_the_benchmark_may_have_a_capital():
    returns = noise(4).rename(columns={"d": "Benchmark"})
    assert bb.skill_or_luck(returns) == bb.skill_or_luck(noise(4), "d")


@pytest.mark.parametrize(
    "make",
    [
        lambda returns: (1 + returns).cumprod() - 1,
        lambda returns: returns.cumsum(),
        lambda returns: returns.rolling(60).sum().dropna(),
    ],
    ids=["compounded", "summed", "overlapping"],
)
def test_cumulative_returns_are_refused_with_the_way_out(make):
    returns = noise(3)
    levels = make(returns)
    with pytest.raises(DataError, match=r"holds cumulative returns.*cumulative\)\.pct_change"):
        bb.skill_or_luck(levels, "none")
    assert bb.skill_or_luck(levels, "none", returns_unit="fraction").label
    assert bb.skill_or_luck(returns, "none").label


def test_smooth_returns_and_those_of_cash_are_no_levels():
    returns = noise(2)
    smooth = returns.ewm(alpha=0.3).mean()
    cash = pd.Series(np.linspace(1e-4, 2e-4, len(INDEX)), index=INDEX)
    bb.skill_or_luck(smooth.assign(benchmark=cash, flat=0.06), "none")


def test_a_trial_that_begins_late_is_named_with_the_bars_that_it_costs():
    returns = noise(4)
    returns.iloc[:10, 1] = np.nan
    returns.iloc[:250, 2] = np.nan
    found = bb.skill_or_luck(returns, "none")
    assert found["n_bars"] == 150
    assert (
        "c begins last, at 2015-12-17: the verdict uses the 150 bars that all trials share; "
        "without it it would use 390."
    ) in found.notes
    holed = noise(4)
    holed.iloc[:250, 2] = np.nan
    holed.iloc[300, 2] = np.nan  # it is not tested, and shortens nothing
    found = bb.skill_or_luck(holed, "none")
    assert found["n_bars"] == 400
    assert not any("begins last" in note for note in found.notes)
    assert any("c: 1 of its returns are missing" in note for note in found.notes)
