"""Runs of one run key that came to different results."""

import pytest

import backtest_batch as bb
from backtest_batch.cli.compare import main

CHANCE = """
import os

import numpy as np


class Chance:
    def __init__(self, k: int = 1):
        self.k = k

    def target_weights(self, panel, decisions):
        weights = np.zeros((len(decisions), panel.n_assets))
        for row in weights:
            row[int.from_bytes(os.urandom(2), "big") % panel.n_assets] = 1.0
        return weights
"""


@pytest.mark.slow
def test_results_that_differ_are_never_merged(with_store, capsys, caplog):
    (with_store / "chance.py").write_text(CHANCE, encoding="utf-8")
    given = {"data": "synthetic", "strategy": "custom", "n_jobs": 1, "tags": {"suite": "chance"}}
    given |= {"strategy._target_": "chance.Chance", "data.n_bars": 300, "data.n_assets": 4}
    first = bb.run_sweep(batch_name="a", **given)
    second = bb.run_sweep(batch_name="b", filter_tags={"suite": "chance"}, **given)
    ratios = {
        sweep.batch_id: float(sweep.runs.metrics["sharpe"].iloc[0]) for sweep in (first, second)
    }
    assert len(set(ratios.values())) == 2

    # A sweep that is compared with earlier ones says it too, and is still judged by itself.
    assert len(second.runs) == 2
    assert " has two results: sharpe " in second.summary
    assert second.overfitting["n_trials"] == 1

    loaded = bb.load_runs(["a", "b"])
    assert loaded.runs["batch_id"].tolist() == list(ratios)
    assert " has two results: sharpe " in caplog.text
    assert main(["batch=[a,b]"]) == 0
    out = capsys.readouterr().out
    assert f"run_key {loaded.runs['run_key'].iloc[0][:12]} has two results: sharpe " in out
    for batch_id in ratios:
        assert f" in batch {batch_id}" in out
    assert "more than once" not in out
    assert "2 of 2 runs ranked" in out
