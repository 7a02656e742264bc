"""Names of runs are unique in a batch, and safe as names of files."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_batch.core.fingerprint import LONGEST_RUN_ID, OTHER_COLUMNS, new_run_id
from backtest_batch.records import Composition

KEY = "0123456789abcdef" * 4


def name(run_id=None, swept=(), taken=(), key=KEY):
    composition = Composition(swept=dict(swept), config={}, overrides=(), run_id=run_id)
    return new_run_id(composition, key, set(taken))


@pytest.mark.parametrize(
    ("swept", "expected"),
    [
        ({}, "run_base"),
        ({"commission_bps": 0.5, "max_gross_exposure": 0.8}, "run_0.5_0.8"),
        ({"commission_bps": 0.0, "rebalance": "M"}, "run_0.0_M"),
        ({"max_weight": None, "strategy.flag": True}, "run_null_true"),
        ({"strategy.x": 1e-07, "strategy.y": -3}, "run_1e-07_-3"),
        ({"data.path": "my prices/ä.csv"}, "run_my-prices--.csv"),
        ({"strategy.factors": "{'momentum': 1}"}, "run_--momentum---1-"),
    ],
)
def test_a_name_has_the_swept_values_in_axis_order(swept, expected):
    assert name(swept=swept) == expected


@pytest.mark.parametrize(
    ("given_id", "taken", "expected"),
    [
        ("core", (), "core"),
        ("a/b\\c:d", (), "a-b-c-d"),
        ("trend 交易", (), "trend---"),
        ("a/b", {"a-b"}, "a-b-01234567"),
        ("Core", {"core"}, "Core-01234567"),
        ("..", (), "..-01234567"),
        ("benchmark", OTHER_COLUMNS, "benchmark-01234567"),
        ("x" * 80, (), "x" * 80),
        ("x" * 81, (), "x" * 71 + "-01234567"),
        ("a", {"a", "a-01234567"}, "a-0123456789abcdef"),
    ],
)
def test_a_given_id_is_kept_as_far_as_it_is_safe(given_id, taken, expected):
    assert name(given_id, taken=taken) == expected


@given(st.lists(st.text(min_size=1, max_size=120), min_size=1, max_size=12, unique=True))
def test_any_ids_give_distinct_safe_names(ids):
    taken = set(OTHER_COLUMNS)
    for number, run_id in enumerate(ids):
        found = name(run_id, taken=taken, key=f"{number:064x}"[::-1])
        assert re.fullmatch(r"[A-Za-z0-9._+-]+", found)
        assert len(found) <= LONGEST_RUN_ID
        assert found.strip(".")
        assert found.lower() not in taken
        taken.add(found.lower())


def test_ids_of_a_batch_that_collide_when_cleaned_stay_apart(planned, working_dir):
    long = "x" * 120
    plan = planned(
        "data=synthetic",
        "data.n_bars=100",
        f"runs=[{{id: a/b, seed: 1}}, {{id: a?b, seed: 2}}, {{id: A-B, seed: 3}}, "
        f"{{id: {long}, seed: 4}}, {{id: {long}y, seed: 5}}, {{id: timestamp, seed: 6}}]",
    )
    ids = [run.run_id for run in plan.runs]
    assert ids[0] == "a-b"
    assert ids[1].startswith("a-b-")
    assert ids[2].startswith("A-B-")
    assert len({run_id.lower() for run_id in ids}) == 6
    assert max(map(len, ids)) == 80
    assert ids[5].startswith("timestamp-")


def test_values_that_collide_when_cleaned_stay_apart(planned, working_dir):
    (working_dir / "collide_module.py").write_text(
        "class Named:\n"
        "    def __init__(self, name: str = ''):\n"
        "        self.name = name\n"
        "    def target_weights(self, panel, decisions):\n"
        "        raise NotImplementedError\n"
    )
    plan = planned(
        "data=synthetic",
        "data.n_bars=100",
        "strategy=custom",
        "strategy._target_=collide_module.Named",
        "strategy.name='a b','a/b','A b','ü'",
    )
    ids = [run.run_id for run in plan.runs]
    assert ids[0] == "run_a-b"
    assert all(re.fullmatch(r"run_[aA]-b-[0-9a-f]{8}", run_id) for run_id in ids[1:3])
    assert ids[3] == "run_-"
    assert plan.runs[1].run_name == "strategy.name=a/b"
