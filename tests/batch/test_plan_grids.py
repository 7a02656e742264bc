"""``param_grid``, ``runs`` and batch files span the runs of the equal sweep."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from backtest_batch.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("working_dir")

SMALL = ("data=synthetic", "data.n_bars=200", "data.n_assets=3")
SWEEP = ("-m", "commission_bps=0,0.5,1", "max_gross_exposure=0.6,1.0", "strategy.fast=10,20")
GRID = {
    "commission_bps": [0, 0.5, 1],
    "max_gross_exposure": [0.6, 1.0],
    "strategy.fast": [10, 20],
}


def described(plan):
    return [(run.run_id, run.run_name, run.run_key, run.config) for run in plan.runs]


@pytest.fixture
def sweep(planned):
    return planned(*SMALL, *SWEEP)


def write(name, content):
    dump = (
        json.dumps if name.endswith(".json") else functools.partial(yaml.safe_dump, sort_keys=False)
    )
    Path(name).write_text(dump(content), encoding="utf-8")
    return f"batch_file={name}"


def test_the_last_axis_is_the_fastest_and_names_have_the_values(sweep):
    assert [run.run_id for run in sweep.runs][:4] == [
        "run_0.0_0.6_10",
        "run_0.0_0.6_20",
        "run_0.0_1.0_10",
        "run_0.0_1.0_20",
    ]
    assert sweep.runs[0].run_name == "commission_bps=0.0 max_gross_exposure=0.6 strategy.fast=10"
    assert len(sweep.runs) == 12
    assert [run.index for run in sweep.runs] == list(range(12))


@pytest.mark.parametrize("name", ["grid.yaml", "grid.yml", "grid.json"])
def test_a_grid_in_a_file_is_the_equal_sweep(planned, sweep, name):
    file = write(name, {"param_grid": GRID})
    assert described(planned(*SMALL, file)) == described(sweep)
    assert described(planned(*SMALL, "-m", file)) == described(sweep)


def test_a_grid_on_the_command_line_is_the_equal_sweep(planned, sweep):
    grid = "param_grid={commission_bps:[0,0.5,1],max_gross_exposure:[0.6,1.0]}"
    assert described(planned(*SMALL, grid, "strategy.fast=10,20")) == described(sweep)


def test_nested_keys_in_a_grid_are_the_dotted_ones(planned, sweep):
    nested = {**GRID, "strategy": {"fast": GRID["strategy.fast"]}}
    del nested["strategy.fast"]
    assert described(planned(*SMALL, write("n.yaml", {"param_grid": nested}))) == described(sweep)


@pytest.mark.parametrize("name", ["runs.yaml", "runs.json"])
def test_listed_runs_are_the_equal_sweep_but_for_their_ids(planned, sweep, name):
    listed = [dict(run.swept) for run in sweep.runs]
    plan = planned(*SMALL, write(name, {"runs": listed}))
    assert described(plan) == described(sweep)
    named = planned(
        *SMALL, write(name, {"runs": [{"id": f"r{n}", **r} for n, r in enumerate(listed)]})
    )
    assert [run.run_id for run in named.runs] == [f"r{n}" for n in range(12)]
    assert [run.run_key for run in named.runs] == [run.run_key for run in sweep.runs]


def test_a_run_of_a_list_may_choose_groups(planned):
    plan = planned(
        *SMALL,
        "runs=[{id: core, strategy: trend_baseline, strategy.fast: 5}, "
        "{id: turn, strategy: mean_reversion, strategy.window: 9, rebalance: W}]",
    )
    core, turn = plan.runs
    assert (core.run_id, turn.run_id) == ("core", "turn")
    assert core.config["strategy"]["fast"] == 5
    assert turn.config["strategy"]["_target_"].endswith("MeanReversion")
    assert turn.config["strategy"]["window"] == 9
    assert (core.config["rebalance"], turn.config["rebalance"]) == ("M", "W")


def test_a_batch_file_holds_any_key(planned, requested):
    file = write(
        "sweeps.yaml",
        {
            "batch_name": "from a file",
            "tags": {"suite": "core", "size": 3},
            "data": {"n_bars": 150},
            "strategy": "equal_weight",
            "start_date": "2000-02-01",
            "param_grid": {"commission_bps": [1, 2]},
        },
    )
    request = requested("data=synthetic", file)
    assert request.config["batch_name"] == "from a file"
    assert request.config["tags"] == {"suite": "core", "size": 3}
    plan = planned("data=synthetic", file)
    assert [run.run_id for run in plan.runs] == ["run_1.0", "run_2.0"]
    assert plan.runs[0].n_bars == 150
    assert plan.runs[0].config["start_date"] == "2000-02-01"
    assert plan.runs[0].config["strategy"] == {"_target_": "backtest_batch.strategies.EqualWeight"}


def test_the_command_line_wins_over_the_file(planned):
    file = write(
        "f.yaml",
        {
            "rebalance": "W",
            "strategy": {"fast": 7},
            "param_grid": {"commission_bps": [1, 2], "seed": [1, 2]},
        },
    )
    plan = planned(*SMALL, file, "rebalance=Q", "commission_bps=3,4", "execution_lag=1,2")
    assert {run.config["rebalance"] for run in plan.runs} == {"Q"}
    assert {run.config["strategy"]["fast"] for run in plan.runs} == {7}
    # The same key replaces the axis, another multiplies.
    assert [run.run_id for run in plan.runs] == [
        f"run_{seed}_{commission}_{lag}"
        for seed in (1, 2)
        for commission in (3.0, 4.0)
        for lag in (1, 2)
    ]
    fixed = planned(*SMALL, file, "commission_bps=9")
    assert [run.run_id for run in fixed.runs] == ["run_1", "run_2"]
    assert {run.config["commission_bps"] for run in fixed.runs} == {9.0}


def test_equal_combinations_are_one_run_and_the_plan_says_so(planned):
    plan = planned(*SMALL, "commission_bps=0.5,0.50,5e-1,1")
    assert [run.run_id for run in plan.runs] == ["run_0.5", "run_1.0"]
    assert plan.notes[0] == (
        "2 of 4 combinations are the same run as an earlier one and run once: "
        "commission_bps=0.5 (3 times)"
    )
    assert len(plan.keys) == 4
    assert len(set(plan.keys)) == 2


def test_a_whole_number_is_the_same_run_where_the_type_is_a_number(planned):
    plan = planned(*SMALL, "strategy=mean_reversion", "strategy.entry_z=1,1.0,2")
    assert [run.run_id for run in plan.runs] == ["run_1.0", "run_2.0"]


def test_listed_runs_that_are_equal_are_named_by_their_ids(planned):
    plan = planned(*SMALL, "runs=[{id: a, seed: 1}, {id: b, seed: 1}]")
    assert [run.run_id for run in plan.runs] == ["a"]
    assert plan.notes[0].endswith("run once: b = a")


def test_one_value_is_no_axis(planned):
    one = planned(*SMALL, "param_grid={commission_bps:[2.5]}")
    assert [run.run_id for run in one.runs] == ["run_base"]
    assert described(one) == described(planned(*SMALL, "commission_bps=2.5"))


def test_a_single_run_is_a_batch_of_one(planned):
    plan = planned(*SMALL)
    assert [(run.run_id, run.run_name) for run in plan.runs] == [("run_base", "base")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must hold a mapping"),
        ("[1, 2]", "must hold a mapping"),
        ("a: [1", "is not valid YAML"),
        ("a: 1\na: 2", "is not valid YAML(?s:.*)duplicate"),
        ("batch_file: other.yaml", "must not name another"),
        ("param_grid: {commission_bps: []}", "param_grid.commission_bps.*no value"),
        ("param_grid: {}", "param_grid.*no key"),
        ("runs: []", "runs.*no run"),
        ("param_grid: {seed: [1, 2]}\nruns: [{seed: 1}]", "runs cannot be combined"),
    ],
)
def test_a_file_that_spans_nothing_is_refused(planned, content, message):
    Path("broken.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        planned(*SMALL, "batch_file=broken.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not valid JSON"), ('{"seed": 1, "seed": 2}', "is not valid JSON.*duplicate")],
)
def test_broken_json_is_refused(planned, content, message):
    Path("broken.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        planned(*SMALL, "batch_file=broken.json")


def test_a_file_that_is_missing_or_not_text_is_refused(planned, working_dir):
    with pytest.raises(
        ConfigurationError, match=r"batch_file=none.yaml: cannot be read.*looked in"
    ):
        planned("batch_file=none.yaml")
    with pytest.raises(ConfigurationError, match=r"batch_file=\.: cannot be read"):
        planned("batch_file=.")
    (working_dir / "latin.yaml").write_bytes("batch_name: Käufe".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
        planned("batch_file=latin.yaml")


def test_a_file_name_may_hold_spaces_and_a_byte_order_mark(planned, working_dir):
    folder = working_dir / "my sweeps é"
    folder.mkdir()
    (folder / "a b.yaml").write_bytes(b"\xef\xbb\xbfparam_grid: {seed: [1, 2]}\n")
    plan = planned(*SMALL, "batch_file='my sweeps é/a b.yaml'")
    assert [run.run_id for run in plan.runs] == ["run_1", "run_2"]


def test_values_beyond_ascii_need_no_quotes(requested):
    request = requested(
        "-m", "description=größer", "data=csv", "data.path=préis.csv,/tmp/交易 1.csv"
    )
    assert request.config["description"] == "größer"
    paths = [item.swept["data.path"] for item in request.compositions]
    assert paths == ["préis.csv", "/tmp/交易 1.csv"]


def test_a_value_has_one_spelling(planned):
    plan = planned(*SMALL, "commission_bps=0,-0.0", "start_date=2000-2-1,2000-02-01,20000201")
    assert [(run.run_id, run.config["start_date"]) for run in plan.runs] == [
        ("run_0.0_2000-02-01", "2000-02-01")
    ]
    assert len(plan.keys) == 6
    months = planned(*SMALL, "start_date=2000-02,2000-02-01,2000-02-01T00:00")
    assert [run.run_name for run in months.runs] == [
        "start_date=2000-02",
        "start_date=2000-02-01",
        "start_date=2000-02-01T00:00",
    ]


def test_an_empty_id_is_none(planned):
    plan = planned(*SMALL, "runs=[{id:'',seed:1},{id:null,seed:2}]")
    assert [run.run_id for run in plan.runs] == ["run_1", "run_2"]


def test_bars_a_year_that_the_index_does_not_have_are_said(planned):
    for name, freq in (("weekly", "7D"), ("crypto", "D"), ("weekdays", "B")):
        days = pd.date_range("2015-01-01", periods=400, freq=freq)
        prices = pd.DataFrame({"A": np.linspace(1, 2, 400)}, index=days)
        prices.to_csv(f"{name}.csv", index_label="date")
    own = ("data=csv", "rebalance=Q", "strategy=equal_weight")
    daily = ("periods_per_year=252",)
    (note,) = planned(*own, *daily, "data.path=weekly.csv", "commission_bps=0,1").notes
    assert note.startswith("the data has about 52 bars a year, but periods_per_year is 252: ")
    assert note.endswith("periods_per_year=52 would fit")
    notes = planned(*own, *daily, "data.path=weekly.csv,crypto.csv,weekdays.csv").notes
    assert ["about 52 " in note or "about 365 " in note for note in notes] == [True, True]
    found = planned(*own, "data.path=weekly.csv,crypto.csv,weekdays.csv", "commission_bps=0,1")
    assert [note.partition(" is taken from the index ")[0] for note in found.notes] == [
        "periods_per_year=52",
        "periods_per_year=365",
    ]
    assert [run.config["periods_per_year"] for run in found.runs] == [52, 52, 365, 365, None, None]
    assert [run.config["data"]["freq"] for run in found.runs[::2]] == ["1w", "1d", "1d"]
    assert planned(*own, "data.path=weekly.csv", "periods_per_year=52").notes == ()
    (note,) = planned("data=synthetic", "data.freq=5min", "data.n_bars=9000").notes
    assert note.startswith("periods_per_year=19,656 is taken from the index (78 bars a session")


def test_arguments_have_one_spelling_beside_a_seed_that_is_given_later(planned):
    Path("drawing.py").write_text(
        "class Drawing:\n"
        "    def __init__(self, seed: int, width: float): ...\n"
        "    def target_weights(self, panel, decisions): ...\n"
    )
    own = ("strategy=custom", "strategy._target_=drawing.Drawing", "strategy.width=1,1.0")
    (run,) = planned(*SMALL, *own).runs
    assert (run.run_id, run.config["strategy"]["width"]) == ("run_1.0", 1.0)
    assert "seed" not in run.config["strategy"]
