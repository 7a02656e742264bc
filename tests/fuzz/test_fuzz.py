"""A thousand inputs that nobody meant; `python -m benchmarks.fuzz` tries any number of others."""

import warnings
from itertools import groupby
from operator import itemgetter

import pytest

from benchmarks.fuzz.cases import KINDS, check_ending, check_message, plan
from benchmarks.fuzz.run import place, run_case

CASES = 1_000
SEED = 1


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    with warnings.catch_warnings(), place(folder) as ground:
        yield ground


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        pytest.param(kind, [number for _, number in cases], id=kind)
        for kind, cases in groupby(plan(CASES), itemgetter(0))
    ],
)
def test_every_input_is_used_or_refused_readably(ground, kind, numbers):
    found = {number: run_case(kind, number, SEED, ground) for number in numbers}
    said = [f"{kind} {number}: {it.said}" for number, it in found.items() if it is not None]
    assert not said, "\n".join([*said, f"python -m benchmarks.fuzz --seed {SEED} --case {said[0]}"])


def test_the_plan_has_as_many_cases_as_it_should():
    cases = list(plan(CASES))
    assert len(cases) == len(set(cases)) == CASES
    assert {kind for kind, _ in cases} == set(KINDS)


def test_what_is_wrong_is_found(ground, monkeypatch):
    for kind, said in (
        (lambda *_: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda *_: check_ending(["x"], 1, "Traceback (most recent call last)"), "Traceback"),
        (lambda *_: check_ending(["x"], 5, ""), "exit 5"),
        (lambda *_: check_ending(["x"], 2, ""), "without a word"),
        (lambda *_: check_message("a\x1bb"), "control characters"),
        (lambda *_: check_message("Key 'a'\n    full_key: a"), "full_key"),
        (lambda _, ground: (ground.folder / "left.txt").write_text(""), "wrote ['left.txt']"),
    ):
        monkeypatch.setitem(KINDS, "broken", (kind, 1))
        finding = run_case("broken", 0, SEED, ground)
        assert finding is not None
        assert said in finding.said
