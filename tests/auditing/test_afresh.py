"""A strategy that is imported again has kept nothing, and is what it was afterwards."""

import itertools
import json
import sys

import pytest

from backtest_batch.auditing.afresh import imported_afresh

NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that imports another; both keep a number."""
    number = next(NUMBERS)
    name, helper = f"afresh_{number}", f"kept_{number}"
    (tmp_path / f"{helper}.py").write_text("KEPT = []\n")
    (tmp_path / f"{name}.py").write_text(
        f"from {helper} import KEPT\n\nclass Mine:\n    count = 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for each in (name, helper):
        sys.modules.pop(each, None)


def test_what_modules_and_classes_keep_is_out_of_reach_and_comes_back(module):
    before = __import__(module)
    before.KEPT.append(1)
    before.Mine.count = 7
    with imported_afresh(f"{module}.Mine", {}) as reachable:
        anew = sys.modules[module]
        assert anew is not before
        assert (anew.KEPT, anew.Mine.count) == ([], 0)
        anew.KEPT.append(2)
    assert reachable == ""
    assert sys.modules[module] is before
    assert (before.KEPT, before.Mine.count) == ([1], 7)


def test_installed_modules_stay_as_they_are(module):
    __import__(module)
    kept = (json, sys.modules["numpy"], sys.modules["backtest_batch"])
    with imported_afresh(f"{module}.Mine", {}):
        names = ("json", "numpy", "backtest_batch")
        assert tuple(sys.modules[name] for name in names) == kept


def test_a_module_that_cannot_be_imported_twice_is_left_alone_and_said(module, tmp_path):
    before = __import__(module)
    (tmp_path / f"{module}.py").write_text("raise RuntimeError('registered already')\n")
    with imported_afresh(f"{module}.Mine", {}) as reachable:
        assert "cannot be imported a second time (RuntimeError)" in reachable
        assert sys.modules[module] is before
    assert sys.modules[module] is before


def test_an_error_inside_leaves_nothing_behind(module):
    before = __import__(module)
    with pytest.raises(ValueError, match="of the strategy"), imported_afresh(f"{module}.M", {}):
        raise ValueError("of the strategy")
    assert sys.modules[module] is before
