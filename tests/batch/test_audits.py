"""The best strategies of a batch are audited: what knows the future makes the verdict invalid."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb
from backtest_batch.cli.compare import main as compare

MODULE = """
import os
import signal
import time

import numpy as np
import pandas as pd

from HELPER import KEPT


def spread(scores):
    weights = np.exp(np.clip(np.nan_to_num(scores), -5, 5))
    return weights / weights.sum(axis=1, keepdims=True)


class Tomorrow:
    def __init__(self, bars: int = 1):
        self.bars = bars

    def target_weights(self, panel, decisions):
        tomorrow = panel.close.pct_change().shift(-self.bars).to_numpy()[decisions]
        return spread(100.0 * tomorrow)


class Yesterday:
    warmup_bars = 2

    def target_weights(self, panel, decisions):
        return spread(panel.close.pct_change().to_numpy()[decisions])


class Cached:
    def target_weights(self, panel, decisions):
        if "means" not in KEPT:
            KEPT["means"] = panel.close.mean().to_numpy()
        return spread(KEPT["means"] / panel.close.to_numpy()[decisions])


class CachedByDates:
    def target_weights(self, panel, decisions):
        key = (panel.index[0], panel.index[-1])
        if key not in KEPT:
            KEPT[key] = (panel.close.shift(-1) > panel.close).to_numpy()
        return KEPT[key][decisions] / panel.n_assets


class Once:
    def __init__(self, then: str = "kill"):
        self.then = then

    def target_weights(self, panel, decisions):
        if os.path.exists(self.then):
            if self.then == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.then == "hang":
                time.sleep(100_000)
            raise ValueError("not twice at https://me:s3cr3t@host")
        open(self.then, "w").close()
        return np.full((len(decisions), panel.n_assets), 1.0 / panel.n_assets)


class Fitted:
    warmup_bars = 1

    def fit(self, panel):
        return self

    def target_weights(self, panel, decisions):
        return spread(100.0 * panel.close.pct_change().shift(-1).to_numpy()[decisions])


def account_of_tomorrow(panel, conditions):
    returns = panel.close.pct_change().fillna(0.0).max(axis=1)
    return returns.shift(-1, fill_value=0.0).iloc[1:]


def own_data():
    numbers = np.random.default_rng(1).normal(0.001, 0.01, 500)
    return pd.Series(numbers, pd.bdate_range("2015-01-01", periods=500))
"""


_NUMBERS = itertools.count()


@pytest.fixture
def mine(with_store: Path) -> str:
    """The name of a module with the strategies above, which imports another; each is new."""
    number = next(_NUMBERS)
    name, helper = f"audited_{number}", f"kept_by_audited_{number}"
    (with_store / f"{name}.py").write_text(MODULE.replace("HELPER", helper), encoding="utf-8")
    (with_store / f"{helper}.py").write_text("KEPT = {}\n", encoding="utf-8")
    return name


@pytest.fixture
def prices() -> pd.DataFrame:
    index = pd.bdate_range("2015-01-01", periods=700)
    steps = np.random.default_rng(8).normal(0.0003, 0.01, (700, 4))
    return pd.DataFrame(100 * np.exp(np.cumsum(steps, axis=0)), index=index, columns=list("ABCD"))


def swept(prices, target, grid=None, **config):
    grid = {"commission_bps": [0.0, 1.0]} if grid is None else grid
    keys = {"rebalance": "W", "n_jobs": 1, "strategy._target_": target, **config}
    return bb.run_sweep(grid, strategy="custom", data=prices, **keys)


def tags_of(runs, run_id):
    return {
        key: value for key, value in runs[run_id].tags.items() if key in ("lookahead", "warmup")
    }


def skilled(outcome):
    """The column skilled of the leaderboard."""
    head, _, *lines = outcome.summary.splitlines()
    names = head.split()
    assert names[-1] == "skilled"
    return [line.split()[-1] for line in lines[: len(outcome.rankings)]]


def test_a_winner_that_knows_the_future_is_invalid_everywhere(mine, prices, recorded_runs, capsys):
    outcome = swept(
        prices, f"{mine}.Tomorrow", {"strategy.bars": [1, 2]}, fail_on_verdict=["invalid"]
    )
    assert outcome.exit_code == 1
    best = outcome.rankings["run_id"].iloc[0]
    sentence = outcome.verdict["sentence"]
    assert outcome.verdict["label"] == "invalid"
    assert sentence.startswith(f"invalid: the best of 2 trials, {best}, knows the future: on 20")
    assert "when the bars after" in sentence
    assert any("usual causes: shift(-1)" in reason for reason in outcome.verdict["reasons"])
    assert any("the verdict would be: " in reason for reason in outcome.verdict["reasons"])
    assert skilled(outcome) == ["no", "no"]

    audit = outcome.overfitting["audit"]
    assert (audit["lookahead"], audit["deterministic"]) == ("found", True)
    (example,) = audit["examples"]
    assert example["symbol"] in "ABCD"
    assert example["value"] != example["other"]
    folder = outcome.output_dir
    assert json.loads((folder / "best_params.json").read_text())["verdict"]["label"] == "invalid"
    assert sentence in (folder / "batch_summary.md").read_text().replace("\\", "")
    page = (folder / "report.html").read_text()
    assert 'class="verdict invalid"' in page
    assert "The audit of the best strategies" in page
    assert "Usual causes of knowing the future" in outcome.summary
    runs = recorded_runs(Path.cwd(), outcome.batch_id)
    assert tags_of(runs, best) == {"lookahead": "found", "warmup": audit["runs"][0]["warmup"]}
    assert any(not tags_of(runs, run_id) for run_id in runs)

    # What was found is read again where nothing can be asked.
    assert compare(["batch=latest"]) == 0
    assert "invalid: the best of 2 trials" in capsys.readouterr().out


def test_an_honest_winner_is_not_accused_and_a_cheat_below_it_is_not_skilled(mine, prices):
    outcome = bb.run_sweep(
        {"strategy._target_": [f"{mine}.Tomorrow", f"{mine}.Yesterday"]},
        strategy="custom",
        data=prices,
        rebalance="W",
        n_jobs=1,
        rank_by="volatility",
    )
    found = {
        run["strategy"].rpartition(".")[2]: run for run in outcome.overfitting["audit"]["runs"]
    }
    assert found["Tomorrow"]["lookahead"] == "found"
    assert found["Yesterday"]["lookahead"] == "clean"
    spoken_of = {outcome.overfitting["run_id"], outcome.rankings["run_id"].iloc[0]}
    cheats = found["Tomorrow"]["run_id"] in spoken_of
    assert cheats == (outcome.verdict["label"] == "invalid")
    order = outcome.rankings["strategy._target_"].tolist()
    assert skilled(outcome)[order.index(f"{mine}.Tomorrow")] == "no"


@pytest.mark.parametrize("name", ["account_of_tomorrow", "Cached", "CachedByDates"])
def test_accounts_and_caches_that_know_the_future_are_found(mine, prices, name):
    outcome = swept(prices, f"{mine}.{name}")
    assert outcome.verdict["label"] == "invalid"
    audit = outcome.overfitting["audit"]
    assert audit["lookahead"] == "found"
    assert len(audit["runs"]) == 1  # two scenarios, one decision


def test_a_fitted_strategy_is_asked_as_the_run_asks_it(mine, prices):
    outcome = swept(prices, f"{mine}.Fitted", walk_forward="rolling", start_date="2015-02-02", **{
        "walk_forward.train_size": 300, "walk_forward.test_size": 100,
    })  # fmt: skip
    (run,) = outcome.overfitting["audit"]["runs"]
    assert run["lookahead"] == "found"
    assert "fitted in each split" in run["reasons"]["warmup"]


def test_a_class_of_a_notebook_is_found_with_what_it_keeps(with_store, prices):
    class Kept:
        means = None

        def target_weights(self, panel, decisions):
            if Kept.means is None:
                Kept.means = panel.close.mean().to_numpy()
            weights = Kept.means / panel.close.to_numpy()[decisions]
            return weights / weights.sum(axis=1, keepdims=True)

    outcome = bb.run_sweep(
        {"commission_bps": [0.0, 1.0]}, strategy=Kept, data=prices, rebalance="W", n_jobs=1
    )
    assert outcome.overfitting["audit"]["lookahead"] == "found"
    assert outcome.verdict["label"] == "invalid"


@pytest.mark.parametrize(
    ("then", "reason"), [("kill", "WorkerDied"), ("raise", "not twice"), ("hang", "RunTimeout")]
)
def test_what_goes_wrong_in_the_audit_leaves_the_runs_as_they_are(mine, prices, then, reason):
    limit = {"timeout_seconds": 5.0} if then == "hang" else {}
    outcome = swept(prices, f"{mine}.Once", {"strategy.then": [then]}, **limit)
    assert outcome.exit_code == 0
    assert outcome.runs.finished.all()
    audit = outcome.overfitting["audit"]
    assert (audit["lookahead"], audit["deterministic"]) == ("untested", None)
    assert reason in audit["runs"][0]["reasons"]["lookahead"]
    assert "s3cr3t" not in json.dumps(audit)
    assert "is not tested" in outcome.summary


def test_own_data_cannot_be_cut_off(mine):
    outcome = bb.run_sweep(
        {"commission_bps": [0.0, 1.0]},
        strategy="custom",
        data="none",
        n_jobs=1,
        **{"strategy._target_": f"{mine}.own_data"},
    )
    audit = outcome.overfitting["audit"]
    assert audit["lookahead"] == "untested"
    assert "data=none" in audit["runs"][0]["reasons"]["lookahead"]


def test_an_audit_may_be_left_out(mine, prices, recorded_runs):
    outcome = swept(prices, f"{mine}.Tomorrow", **{"audit.enabled": False})
    audit = outcome.overfitting["audit"]
    assert audit == {
        "lookahead": "untested",
        "warmup": "untested",
        "deterministic": None,
        "reason": "audit.enabled=false",
        "examples": [],
        "runs": [],
    }
    assert outcome.verdict["label"] != "invalid"
    runs = recorded_runs(Path.cwd(), outcome.batch_id)
    assert not any(tags_of(runs, run_id) for run_id in runs)


def test_a_small_budget_leaves_it_untested(mine, prices):
    outcome = swept(prices, f"{mine}.Yesterday", **{"audit.budget_seconds": 1e-9})
    audit = outcome.overfitting["audit"]
    assert audit["lookahead"] == "untested"
    assert "audit.budget_seconds" in audit["runs"][0]["reasons"]["lookahead"]


def test_the_keys_of_an_audit_are_in_no_run_key(planned):
    usual = ("data=synthetic", "data.n_bars=300")
    plans = [planned(*usual, *more) for more in ((), ("audit.enabled=false", "audit.decisions=3"))]
    assert plans[0].runs[0].run_key == plans[1].runs[0].run_key
    assert "audit" not in plans[0].runs[0].config
