"""What the command says about itself."""

import re
from pathlib import Path

import pytest

from backtest_batch.api.batches import config_folder
from backtest_batch.config.schema import BatchConfig, roles

pytestmark = pytest.mark.usefixtures("working_dir")


def test_help_shows_commands_groups_and_keys(invoke):
    ended = invoke("--help")
    assert ended.code == 0
    assert ended.err == ""
    assert "python -m backtest_batch -m key=a,b key2=c,d" in ended.out
    assert "strategy: custom, equal_weight, inverse_volatility" in ended.out
    assert "experiment: costs, strategies, trend" in ended.out
    assert "commission_bps: 0.5" in ended.out
    listed = ended.out.partition("Keys used most")[2].partition("Exit codes")[0]
    keys = re.findall(r"^  +([a-z][\w.,<> =]*?)(?:   )", listed, re.MULTILINE)
    names = [name.partition("=")[0].partition(".")[0] for line in keys for name in line.split(", ")]
    assert len(names) > 10
    assert set(names) <= set(roles())


def test_the_configuration_can_be_looked_at(invoke):
    ended = invoke("--cfg", "job", "strategy=equal_weight", "commission_bps=3", "--resolve")
    assert ended.code == 0
    assert "commission_bps: 3.0" in ended.out
    assert "risk_free_rate: 0.0" in ended.out
    for name in roles():
        assert re.search(rf"^{name}:", ended.out, re.MULTILINE), name


def test_the_version(invoke):
    ended = invoke("--version")
    assert re.fullmatch(r"backtest_batch \d+\.\d+\.\d+\n", ended.out)


@pytest.mark.parametrize("position", [0, 1, 3])
def test_the_flag_for_a_sweep_may_stand_anywhere(planned, position):
    arguments = ["data=synthetic", "data.n_bars=100", "seed=1,2"]
    arguments.insert(position, "-m")
    assert [run.run_id for run in planned(*arguments).runs] == ["run_1", "run_2"]


def test_profiling_has_a_flag(requested):
    request = requested("--with-profiling", "data=synthetic")
    assert request.config["profiling"]["enabled"] is True


@pytest.mark.parametrize("file", sorted((config_folder() / "experiment").glob("*.yaml")), ids=str)
def test_an_experiment_begins_with_the_command_that_runs_it(planned, file):
    header, command, *_ = file.read_text().splitlines()
    assert header == "# @package _global_"  # Hydra reads it on the first line only
    assert command == f"# python -m backtest_batch experiment={file.stem}"
    plan = planned(f"experiment={file.stem}")
    assert len(plan.runs) > 1
    assert plan.runs[0].config["batch_name"] == file.stem
    assert not [note for note in plan.notes if "warm-ups" in note and file.stem != "costs"]


def test_defaults_of_the_schema_are_those_of_the_command(requested):
    config = requested().config
    schema = BatchConfig()
    for name in ("commission_bps", "rebalance", "seed", "rank_by", "trials", "fast_compose"):
        assert config[name] == getattr(schema, name)
    assert config["risk_free_rate"] == 0.0
    assert Path.cwd().exists()
