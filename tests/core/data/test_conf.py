import inspect
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from backtest_batch.core.data import sources
from backtest_batch.core.data.load import load_panel

CONF = Path(__file__).parents[3] / "conf" / "data"
NAMES = {
    file.stem: getattr(sources, yaml.safe_load(file.read_text())["_target_"].rpartition(".")[2])
    for file in sorted(CONF.glob("*.yaml"))
}


def test_every_source_has_a_file_and_every_file_a_source():
    assert {"sp500", "csv", "parquet", "stored", "synthetic", "yahoo"} <= set(NAMES)
    shipped = {getattr(sources, name) for name in sources.__all__} - {sources.Source}
    assert shipped == set(NAMES.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_holds_the_arguments_of_its_constructor_and_their_defaults(name):
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    target = values.pop("_target_")
    assert target == f"backtest_batch.market.sources.{NAMES[name].__name__}"
    parameters = inspect.signature(NAMES[name]).parameters
    defaults = {
        key: "???" if parameter.default is inspect.Parameter.empty else parameter.default
        for key, parameter in parameters.items()
    }
    assert values == defaults
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_begins_with_its_command_and_explains_every_key(name):
    lines = (CONF / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith(f"# python -m backtest_batch data={name}")
    for above, line in pairwise(lines):
        if line and not line.startswith(("#", "_target_")):
            assert above.startswith("# "), line


@pytest.mark.parametrize("name", ["sp500", "synthetic"])
def test_what_needs_no_arguments_loads_with_its_defaults(name):
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    del values["_target_"]
    assert load_panel(NAMES[name](**values)).n_assets == 20
