"""Modules under the names that users write."""

import importlib
import subprocess
import sys

import pytest

from backtest_batch.public_names import _MODULES


@pytest.mark.parametrize("name", _MODULES)
def test_a_public_name_is_the_module_itself(name: str) -> None:
    public = importlib.import_module(f"backtest_batch.{name}")
    actual = importlib.import_module(f"backtest_batch.{_MODULES[name]}")
    assert public is actual
    assert actual.__spec__ is not None
    assert actual.__spec__.name == actual.__name__ == f"backtest_batch.{_MODULES[name]}"


def test_a_class_is_one_class_whichever_name_comes_first() -> None:
    code = """
from backtest_batch.market.panel import Panel
from backtest_batch.strategies.invariants import require
from backtest_batch import Panel as same
import backtest_batch.core.data.panel
assert Panel is same is backtest_batch.core.data.panel.Panel
assert Panel.__module__ == "backtest_batch.core.data.panel"
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
