from pathlib import Path

import pytest
from hydra.errors import OverrideParseException

from backtest_batch.batch.resume import Recalled, claimed, continued
from backtest_batch.compose.arguments import read_arguments
from backtest_batch.errors import ConfigurationError
from backtest_batch.store.process import this_process

RECALLED = Recalled(
    batch_id="20260101T000000Z-abcdef",
    arguments=("--config-dir", "conf", "-m", "commission_bps=0,1", "strategy.fast=5", "n_jobs=3"),
    config={
        "seed": 42,
        "initial_capital": 1_000_000.0,
        "start_date": None,
        "strategy": {"_target_": "backtest_batch.strategies.TrendBaseline", "fast": 5},
        "scenario_axes": [],
    },
    output_dir=Path("x"),
)


def merged(given, recalled=RECALLED):
    """Return what goes on with a batch, as text."""
    recorded = read_arguments(recalled.arguments)
    return list(continued(recalled, recorded, read_arguments(given)).texts)


RESUME = "resume=20260101T000000Z-abcdef"


def test_alone_it_restores_the_recorded_command():
    assert merged(["resume=latest"]) == [
        *("-m", "--config-dir", "conf", "commission_bps=0,1", "strategy.fast=5", "n_jobs=3"),
        RESUME,
    ]


def test_how_the_batch_is_computed_may_change():
    texts = merged(["n_jobs=1", "resume=latest", "top_n=3", "rank_by=cagr"])
    assert texts[-4:] == ["n_jobs=1", "top_n=3", "rank_by=cagr", RESUME]
    assert "n_jobs=3" not in texts


@pytest.mark.parametrize(
    "same",
    [
        "commission_bps=0,1",
        "seed=42",
        "initial_capital=1000000",
        "start_date=null",
        "strategy=trend_baseline",
        "strategy.fast=5",
        # However they are written.
        "commission_bps=0.0,1.0",
        "commission_bps=range(2)",
        "commission_bps=choice(0, 1)",
        "strategy={fast: 5}",
        "initial_capital=1e6",
    ],
)
def test_what_it_computes_may_be_repeated(same):
    assert same in merged(["-m", same, "resume=latest"])


@pytest.mark.parametrize(
    ("other", "recorded"),
    [
        ("commission_bps=0,1,2", "0,1"),
        ("seed=1", "42"),
        ("start_date=2000-01-01", "null"),
        ("strategy=equal_weight", "trend_baseline"),
        ("strategy.slow=9", "nothing"),
        ("commission_bps=1,0", "0,1"),
        ("commission_bps=0", "0,1"),
        ("seed=true", "42"),
        ("param_grid={seed: [1]}", "nothing"),
        ("+experiment=costs", "nothing"),
    ],
)
def test_what_it_computes_cannot_change(other, recorded):
    key, _, value = other.lstrip("+").partition("=")
    told = f"{key} \\(given {value}, recorded {recorded}\\)".replace("{", "\\{").replace("[", "\\[")
    with pytest.raises(ConfigurationError, match=told):
        merged([other, "resume=latest"])


def test_where_configuration_is_looked_for_may_change():
    texts = merged(["--config-dir=other", "resume=latest"])
    assert texts[:3] == ["-m", "--config-dir=other", "commission_bps=0,1"]
    assert merged(["-cd", "other", "resume=latest"])[:3] == ["-m", "-cd", "other"]


def test_what_cannot_be_read_is_refused():
    with pytest.raises(OverrideParseException):
        merged(["data.symbols[0]=C", "resume=latest"])


def test_all_that_differs_is_named():
    with pytest.raises(ConfigurationError, match=r"commission_bps .*, seed .*\. Leave them out"):
        merged(["seed=1", "commission_bps=9", "resume=latest"])


def test_two_cannot_go_on_with_one_batch_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without a store: what is left of a batch is on this machine

    def going_on(batch_id: str, output_dir: Path = tmp_path):
        recalled = Recalled(
            batch_id=batch_id,
            arguments=(),
            output_dir=output_dir,
            process=this_process().tags,
        )
        return claimed(recalled, uri=None, experiment="backtest_batch")

    with going_on("mine"):
        with going_on("another"):
            pass
        with (
            pytest.raises(ConfigurationError, match="going on with this batch"),
            going_on("mine"),
        ):
            pass
    with going_on("mine"):
        pass
    assert list(tmp_path.iterdir()) == []
    # Where no file can be made, nobody is kept from anything.
    with going_on("mine", tmp_path / "gone"), going_on("mine", tmp_path / "gone"):
        pass
    assert list(tmp_path.iterdir()) == []
