"""What may stand at an import path of a strategy, and how its arguments are checked."""

import sys

import pytest

import backtest_batch as bb
from backtest_batch.core.construct import build, function_strategy

MODULE = """
from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backtest_batch import Account, Conditions, Panel


def plain(panel: Panel, conditions: Conditions, window: int = 20, scale: float = 1) -> Account:
    return (window, scale)


@dataclass
class Rule:
    window: int = 20

    def __call__(self, panel: Panel, conditions, scale: float = 1.0):
        return (self.window, scale)


rule = Rule(30)
part = functools.partial(plain, window=30)
cached = functools.lru_cache(plain)
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "postponed.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "postponed", raising=False)
    yield
    sys.modules.pop("postponed", None)


def made(name, **arguments):
    return build({"_target_": f"postponed.{name}", **arguments}, key="strategy")


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("plain", {"window": "7"}, (7, 1.0)),
        ("rule", {"scale": 2}, (30, 2.0)),
        ("part", {}, (30, 1)),
        ("part", {"window": 8}, (8, 1)),
        ("cached", {"window": 9}, (9, 1)),
    ],
)
def test_whatever_can_be_called_is_a_function(name, arguments, answer):
    strategy, faults = made(name, **arguments)
    assert not faults
    assert strategy.backtest(None, None) == answer


@pytest.mark.parametrize(
    ("name", "argument"),
    [("plain", "window"), ("plain", "scale"), ("rule", "scale"), ("part", "window"),
     ("cached", "window")],
)  # fmt: skip
def test_an_annotation_that_cannot_be_found_leaves_the_others_checked(name, argument):
    _, faults = made(name, **{argument: "abc"})
    assert [fault.key for fault in faults] == [f"strategy.{argument}"]
    assert "input should be a valid" in str(faults[0])


def test_a_function_alone_is_given_its_seed_and_must_need_nothing_else():
    def drawn(panel, seed):
        return seed

    def windowed(panel, window, share=1.0):
        return window

    assert function_strategy(drawn, 42).backtest(None, None) == 42
    assert function_strategy(lambda panel, seed=3: seed, 42).backtest(None, None) == 3
    with pytest.raises(bb.StrategyError, match=r"windowed needs window: give a default, or pass"):
        function_strategy(windowed, 42)
