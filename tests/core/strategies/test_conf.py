import dataclasses
import importlib
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[3] / "conf" / "strategy"
SHIPPED = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "custom.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_file_names_every_argument_with_its_default(path):
    node = yaml.safe_load(path.read_text())
    module, _, name = node.pop("_target_").rpartition(".")
    strategy = getattr(importlib.import_module(module), name)
    assert node == dataclasses.asdict(strategy())
    assert list(node) == [field.name for field in dataclasses.fields(strategy)]
    assert strategy(**node) == strategy()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_file_has_the_name_of_its_class_and_module(path):
    target = yaml.safe_load(path.read_text())["_target_"]
    name = "".join(word.capitalize() for word in path.stem.split("_"))
    assert target == f"backtest_batch.strategies.{name}"
    strategy = getattr(importlib.import_module("backtest_batch.core.strategies"), name)
    assert strategy.__module__ == f"backtest_batch.core.strategies.{path.stem}"


def test_custom_asks_for_the_class_and_nothing_else():
    assert yaml.safe_load((FOLDER / "custom.yaml").read_text()) == {"_target_": "???"}
