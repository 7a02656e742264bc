"""The whole search again on markets in another order: grids, searches, refusals, resume."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb

GRID = {"strategy.fast": [5, 20], "strategy.slow": [40, 80], "commission_bps": [1.0, 0.0]}
SPACE = {"strategy.fast": "interval(3,30)", "strategy.slow": "interval(31,90)"}
TEST = {"permutation_test.n": 19}
N_BARS = 800


def walk(drift=0.0, seed=0):
    """Prices whose drift turns every 100 bars: nothing to be found without it."""
    index = pd.bdate_range("2015-01-01", periods=N_BARS)
    moves = 0.01 * np.random.default_rng(seed).standard_normal((N_BARS, 3))
    turns = np.where(np.arange(N_BARS) // 100 % 2, -1.0, 1.0)
    moves += drift * turns[:, None]
    return pd.DataFrame(50 * np.exp(moves.cumsum(axis=0)), index=index, columns=list("XYZ"))


def swept(prices, grid=GRID, **config):
    keys = {"n_jobs": 1, "tracking.artifacts": "none", "strategy": "trend_baseline", **config}
    return bb.run_sweep(grid, data=prices, rebalance="W", **keys)


def test_skill_is_not_found_on_permuted_markets_and_none_is_as_good_anywhere():
    real = swept(walk(drift=0.004), **TEST)
    found = real.overfitting["permutation"]
    assert found["n"] == 19
    assert found["pvalue"] == pytest.approx(1 / 20)
    assert found["metric"] == "sharpe"
    first = real.runs.params["commission_bps"] == 1.0
    assert found["observed"] == real.runs.metrics.loc[first, "sharpe"].max()
    assert found["median"] < found["observed"]
    (line,) = [text for text in real.overfitting["verdict"]["reasons"] if "permutation" in text]
    assert line.endswith("by sharpe: p = 0.050, as much is found on 0 of 19 permuted markets")
    luck = swept(walk(seed=1), **TEST)
    assert luck.overfitting["permutation"]["pvalue"] > 0.1
    n_as_good = round(20 * luck.overfitting["permutation"]["pvalue"]) - 1
    said = f"as much is found on {n_as_good} of 19 permuted markets"
    assert any(said in text for text in luck.overfitting["verdict"]["reasons"])


def test_a_grid_is_not_repeated_without_being_asked_for():
    outcome = swept(walk())
    assert outcome.overfitting["permutation"] is None
    assert "permutation_test.n=200" in outcome.overfitting["undefined"]["permutation"]


def searched(prices, **config):
    keys = {"search": "tpe", "search.n_trials": 12, "search.batch_size": 4, **config}
    return swept(prices, SPACE, **keys)


def test_an_adaptive_search_is_repeated_by_itself_and_takes_another_course_on_each_market():
    alone = searched(walk(seed=2), **{"permutation_test.n": 6})
    others = searched(walk(seed=2), n_jobs=2, **{"permutation_test.n": 6})
    assert alone.overfitting["permutation"] == others.overfitting["permutation"]
    quick = searched(walk(seed=2), **{"search.n_trials": 2, "search.batch_size": 1})
    assert quick.overfitting["permutation"]["n"] == 200
    off = searched(walk(seed=2), **{"permutation_test.n": 0})
    assert off.overfitting["permutation"] is None
    assert "permutation_test.n=0" in off.overfitting["undefined"]["permutation"]


def test_a_search_that_finds_as_much_where_nothing_is_to_be_found_is_luck():
    outcome = searched(walk(seed=4), benchmark="none", **TEST)
    verdict = outcome.overfitting["verdict"]
    assert outcome.overfitting["permutation"]["pvalue"] > 0.05
    assert any("of 19 permuted markets, which hold nothing" in text for text in verdict["reasons"])
    assert verdict["label"] != "skill"


class ReadsAFile:
    def __init__(self, part: float = 1.0, path: str = "levels.txt"):
        self.part, self.path = part, path

    def target_weights(self, panel, decisions):
        level = float(Path(self.path).read_text())
        return np.full((len(decisions), panel.n_assets), level * self.part / panel.n_assets)


@pytest.mark.parametrize(
    ("grid", "config", "why"),
    [
        (GRID, {"rank_by": {"sharpe": 1, "calmar": 1}}, "a weighted score compares"),
        (GRID, {"rank_by": "sharpe_neighbourhood"}, "known only when all runs"),
        (GRID, {"rank_by": "alpha_factors", "factors": ["X"]}, "keep their order"),
    ],
)
def test_what_cannot_be_repeated_is_refused_with_a_reason(grid, config, why):
    outcome = swept(walk(), grid, **TEST, **config)
    assert outcome.overfitting["permutation"] is None
    assert why in outcome.overfitting["undefined"]["permutation"]
    assert why in outcome.summary


def test_data_and_files_that_would_keep_their_order_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "levels.txt").write_text("0.5")
    outcome = swept(walk(), {"strategy.part": [0.4, 0.8]}, strategy=ReadsAFile, **TEST)
    assert "levels.txt" in outcome.overfitting["undefined"]["permutation"]
    prices = walk()
    vix = pd.DataFrame({"vix": np.arange(N_BARS, dtype=float)}, index=prices.index)
    panel = bb.panel_from_frames(prices, features=vix)
    outcome = swept(panel, **TEST)
    assert "the data has vix" in outcome.overfitting["undefined"]["permutation"]


def test_fewer_workers_failed_runs_and_lists_of_runs(tmp_path):
    runs = [{"strategy.fast": 5}, {"strategy.fast": 10}, {"strategy.fast": 90}]
    outcome = bb.run_sweep(
        runs=runs,
        data=walk(),
        strategy="trend_baseline",
        invalid="skip",
        output_dir=str(tmp_path / "out"),
        **{"strategy.slow": 50, "n_jobs": 2, **TEST},
    )
    kept = json.loads((tmp_path / "out" / "overfitting.json").read_text())
    assert kept["permutation"]["n"] == 19
    assert outcome.overfitting["permutation"] == kept["permutation"]


def test_too_few_markets_are_no_evidence_against_a_search():
    outcome = searched(walk(drift=0.004), benchmark="none", **{"permutation_test.n": 5})
    reasons = outcome.overfitting["verdict"]["reasons"]
    assert outcome.overfitting["permutation"]["pvalue"] == pytest.approx(1 / 6)
    assert any("fewer than 19 show nothing" in text for text in reasons)
    assert not any("which hold nothing to be found" in text for text in reasons)


class KnowsAPrice:
    """Checks one price, which no permuted market has."""

    def __init__(self, part: float = 1.0, price: float = 0.0):
        self.part, self.price = part, price

    def target_weights(self, panel, decisions):
        if abs(panel.close.iloc[300, 0] - self.price) > 1e-9:
            raise ValueError("these are other prices than https://me:s3cr3t@host has")
        return np.full((len(decisions), panel.n_assets), self.part / panel.n_assets)


def test_runs_that_fail_on_permuted_markets_are_no_evidence_for_skill(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prices = walk()
    grid = {"strategy.part": [0.4, 0.8], "strategy.price": [float(prices.iloc[300, 0])]}
    outcome = swept(prices, grid, strategy=KnowsAPrice, **TEST)
    assert outcome.overfitting["permutation"] is None
    why = outcome.overfitting["undefined"]["permutation"]
    assert "38 of 38 runs failed on permuted markets" in why
    assert "ValueError: these are other prices" in why
    assert "s3cr3t" not in why
