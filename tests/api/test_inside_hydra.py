"""Sweeps from programs that use Hydra themselves, and from several threads at once."""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import hydra
import pytest
from hydra.conf import HydraConf, RunDir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

import backtest_batch as bb
from backtest_batch.cli.main import main

SMALL = {"data": "synthetic", "data.n_bars": 300, "n_jobs": 1}


@dataclass
class Training:
    learning_rate: float = 0.1
    when: Any = None
    rate: Any = None


@pytest.fixture
def program(working_dir, monkeypatch):
    """A folder of configuration, and nodes that a program stores under names that we use, too."""
    # A program has just started: no Hydra that another test has begun is there.
    others = {kind: held for kind, held in Singleton._instances.items() if kind is not GlobalHydra}
    monkeypatch.setattr(Singleton, "_instances", others)
    monkeypatch.setattr(BaseContainer, "_resolvers", dict(BaseContainer._resolvers))
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", {**store.repo, "hydra": dict(store.repo["hydra"])})
    store.store(name="training", node=Training)
    store.store(group="strategy", name="mine", node={"_target_": "nowhere.Mine"})
    store.store(group="hydra", name="config", node=HydraConf(run=RunDir(dir="elsewhere")))
    OmegaConf.register_new_resolver("half", lambda number: number / 2)
    OmegaConf.register_new_resolver("now", lambda _: "whenever", replace=True)
    (working_dir / "conf").mkdir()
    (working_dir / "conf" / "config.yaml").write_text(
        "defaults: [training, _self_]\nwhen: ${now:%Y}\nrate: ${half:3}\n"
    )
    return working_dir


def compose():
    composed = hydra.compose("config")
    assert composed.learning_rate == 0.1
    return composed


def test_a_sweep_leaves_the_hydra_of_a_notebook_alone(program):
    with hydra.initialize_config_dir(str(program / "conf"), version_base="1.2"):
        # Hydra itself takes `now` back whenever it begins.
        OmegaConf.register_new_resolver("now", lambda _: "whenever", replace=True)
        application, arguments = GlobalHydra.instance().hydra, list(sys.argv)
        composed = compose()
        sweep = bb.run_sweep({"strategy.fast": [5, 10]}, dry_run=True, **SMALL)
        assert "2" in sweep.summary
        with pytest.raises(bb.ConfigurationError, match="there is no such choice; choose") as wrong:
            bb.run_sweep(strategy="mine", **SMALL)
        assert "trend_baseline" in str(wrong.value)
        assert "mine," not in str(wrong.value)
        assert GlobalHydra.instance().hydra is application
        assert sys.argv == arguments
        again = compose()
        assert again == composed
        assert (again.when, again.rate) == ("whenever", 1.5)
        assert hydra.version.getbase().minor == 2
    assert not (program / "elsewhere").exists()


def test_a_sweep_inside_a_hydra_application(with_store, program, monkeypatch):
    seen = []

    @hydra.main(version_base="1.3", config_path=str(program / "conf"), config_name="config")
    def application(config):
        log = logging.getLogger("of the program")
        log.info("before")
        sweep = bb.run_sweep({"strategy.fast": [5, 10]}, **SMALL)
        assert main(["data=synthetic", "data.n_bars=300", "dry_run=true"]) == 0
        log.info("after")
        runtime = HydraConfig.get()
        seen.append((sweep.exit_code, runtime.job.config_name, runtime.overrides.task[0]))
        seen.append((config.learning_rate, GlobalHydra.instance().is_initialized()))

    monkeypatch.setattr(sys, "argv", ["program", "learning_rate=0.2", "hydra.run.dir=out"])
    kept = list(logging.getLogger().handlers), logging.getLogger().level
    try:
        application()
    finally:
        for handler in [item for item in logging.getLogger().handlers if item not in kept[0]]:
            logging.getLogger().removeHandler(handler)
            handler.close()
        logging.getLogger().setLevel(kept[1])
    assert seen == [(0, "config", "learning_rate=0.2"), (0.2, True)]
    (log,) = (program / "out").glob("*.log")
    written = log.read_text(encoding="utf-8")
    assert "before" in written
    assert "after" in written


@pytest.mark.slow
def test_sweeps_of_several_threads_run_one_after_the_other(with_store):
    def sweep(number):
        outcome = bb.run_sweep(
            {"strategy.fast": [number, number + 1]}, batch_name=f"thread {number}", **SMALL
        )
        return outcome.exit_code, sorted(outcome.table["strategy.fast"]), outcome.summary

    with ThreadPoolExecutor(3) as threads:
        ended = list(threads.map(sweep, (5, 10, 15)))
    assert [code for code, *_ in ended] == [0, 0, 0]
    assert [fast for _, fast, _ in ended] == [["5", "6"], ["10", "11"], ["15", "16"]]
    assert all(summary.count("mlflow ui") == 1 for *_, summary in ended)
    assert len(bb.load_runs(["thread 5", "thread 10", "thread 15"])) == 6
