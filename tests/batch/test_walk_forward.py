"""Walk-forwards at the end of real sweeps."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.backtest import compute_chunk
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Synthetic

SHARED = ("-m", "data=synthetic", "data.n_bars=900")
WALK = (
    "walk_forward=rolling",
    "walk_forward.train_size=252",
    "walk_forward.test_size=63",
)

FITTED = '''
import numpy as np


class Best:
    """Holds the asset that did best in training."""

    def __init__(self, skip: int = 0):
        self.skip = skip

    def fit(self, panel):
        with open("fitted.log", "a") as log:
            log.write(f"{self.skip} {panel.index[0].date()} {panel.index[-1].date()}\\n")
        close = panel.close.to_numpy()
        self.pick = np.argsort(-(close[-1] / close[0]), kind="stable")[self.skip]
        return self

    def target_weights(self, panel, decisions):
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, self.pick] = 1.0
        return weights
'''


def folder_of(working_dir: Path) -> Path:
    (folder,) = (working_dir / "mlruns" / "batches").iterdir()
    return folder


def test_choices_are_made_in_sample_and_stitched_out_of_sample(with_store, command):
    done = command(*SHARED, *WALK, "strategy.fast=5,10,20", "strategy.slow=40,60")
    assert done.code == 0, done.err
    folder = folder_of(with_store)
    summary = pd.read_csv(folder / "walk_forward_summary.csv")
    n_splits = summary["split"].nunique()
    assert len(summary) == 6 * n_splits
    assert (summary.groupby("split")["chosen"].sum() == 1).all()
    # The choice is the best in-sample Sharpe ratio of its split.
    best = summary.loc[summary.groupby("split")["is_sharpe"].idxmax(), "run_id"].tolist()
    assert summary.loc[summary["chosen"], "run_id"].tolist() == best
    equity = pd.read_parquet(folder / "walk_forward_equity.parquet")
    stitched = np.prod(1 + equity["net_return"].to_numpy())
    assert equity["equity"].iloc[-1] == pytest.approx(1_000_000 * stitched, rel=1e-12)
    rankings = pd.read_csv(folder / "rankings.csv")
    assert rankings["oos_sharpe"].notna().all()
    found = json.loads((folder / "walk_forward.json").read_text(encoding="utf-8"))
    assert found["scenarios"][0]["n_splits"] == n_splits


def write_factors(folder: Path) -> None:
    panel = load_panel(Synthetic(n_bars=900))
    market = panel.close.pct_change().mean(axis=1)
    noise = np.random.default_rng(0).normal(0, 0.01, 900)
    pd.DataFrame({"MKT": market, "SMB": noise}).to_csv(folder / "ff.csv", index_label="date")


def test_a_walk_forward_chooses_by_what_factors_leave_unexplained(with_store, command):
    write_factors(with_store)
    asked = (*SHARED, *WALK, "strategy.fast=5,10", "strategy.slow=40,60", "factors=ff.csv")
    done = command(*asked, "rank_by=alpha_factors", "constraints={beta_MKT: '<= 0.9'}")
    assert done.code == 0, done.err
    folder = folder_of(with_store)
    summary = pd.read_csv(folder / "walk_forward_summary.csv")
    allowed = summary[summary["is_beta_MKT"] <= 0.9]
    best = allowed.loc[allowed.groupby("split")["is_alpha_factors"].idxmax()]
    chosen = summary[summary["chosen"]]
    assert chosen["run_id"].tolist() == best["run_id"].tolist()
    assert chosen["oos_beta_SMB"].notna().all()
    assert pd.read_csv(folder / "rankings.csv")["oos_r2_factors"].between(0, 1).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("rank_by=alpha_factors",), "alpha_factors cannot be measured on one; the choices are"),
        (("factors=ff.csv", "constraints={beta_MKS: '<= 1'}"), "beta_MKS .*, beta_MKT, beta_SMB"),
    ],
)
def test_factors_that_a_walk_forward_does_not_have_are_refused_before_it_runs(
    with_store, command, given, message
):
    write_factors(with_store)
    done = command(*SHARED, *WALK, "strategy.fast=5,10", *given)
    assert done.code == 2
    assert re.search(message, done.err)
    assert not (with_store / "mlruns" / "batches").exists()


@pytest.mark.slow
def test_each_scenario_is_split_on_its_own_bars(with_store, command):
    starts = ("2000-03-01", "2001-10-01")
    done = command(*SHARED, *WALK, "strategy.fast=5,10", f"start_date={','.join(starts)}")
    assert done.code == 0, done.err
    summary = pd.read_csv(folder_of(with_store) / "walk_forward_summary.csv")
    first = summary.groupby("scenario")["train_start"].min()
    assert first.to_dict() == {
        f"start_date={start}": str((pd.Timestamp(start) + pd.offsets.BDay(1)).date())
        for start in starts
    }
    # As if the scenario had been alone.
    assert summary.groupby("scenario")["split"].nunique().tolist() == [9, 3]


@pytest.mark.slow
def test_one_configuration_is_its_own_walk_forward_bit_for_bit(with_store, command):
    done = command(*SHARED, *WALK, "batch_name=one")
    assert done.code == 0, done.err
    folder = folder_of(with_store)
    equity = pd.read_parquet(folder / "walk_forward_equity.parquet").set_index("timestamp")
    returns = pd.read_parquet(folder / "returns.parquet").set_index("timestamp")
    own = returns.loc[equity.index, "run_base"].to_numpy()
    assert own.tobytes() == equity["net_return"].to_numpy().tobytes()


@pytest.mark.slow
def test_a_fitted_run_is_measured_on_bars_it_was_not_fitted_on(with_store, command, recorded_runs):
    # Its account is entered up to a quarter before the first test bar, with what was learnt on
    # the bars in between.
    (with_store / "fitting.py").write_text(FITTED, encoding="utf-8")
    fitted = ("strategy=custom", "strategy._target_=fitting.Best", "rebalance=Q")
    done = command(*SHARED, *WALK, *fitted, "strategy.skip=0,1", "commission_bps=5")
    assert done.code == 0, done.err
    folder = folder_of(with_store)
    summary = pd.read_csv(folder / "walk_forward_summary.csv", parse_dates=["test_start"])
    first = summary["test_start"].min()
    returns = pd.read_parquet(folder / "returns.parquet").set_index("timestamp")
    assert returns.notna().any(axis=1).idxmax() == first
    for run_id, run in recorded_runs(with_store).items():
        equity = pd.read_parquet(run.files / "equity.parquet")
        trades = pd.read_parquet(run.files / "trades.parquet")
        assert equity["timestamp"].iloc[1] == first
        assert equity["equity"].iloc[0] == 1_000_000
        assert equity["net_return"].isna().tolist() == [True] + [False] * (len(equity) - 1)
        growth = equity["equity"].iloc[-1] / equity["equity"].iloc[0]
        assert run.metrics["final_pf"] == pytest.approx(growth, rel=1e-12)
        assert run.metrics["n_periods"] == len(equity) - 1
        assert run.metrics["trades"] == len(trades)
        assert run.metrics["total_costs"] == pytest.approx(trades["cost"].sum(), rel=1e-9)
        assert equity["cost"].sum() == pytest.approx(trades["cost"].sum(), rel=1e-9)
        own = returns[run_id].dropna().to_numpy()
        assert own.tobytes() == equity["net_return"].to_numpy()[1:].tobytes()
    benchmark = returns["benchmark"].dropna()
    slope = np.polyfit(benchmark, returns[run_id].dropna(), 1)[0]
    assert run.metrics["beta"] == pytest.approx(slope, rel=1e-9)


def test_what_a_fitted_run_comes_to_does_not_depend_on_its_chunk(working_dir, planned):
    (working_dir / "fitting_alone.py").write_text(FITTED, encoding="utf-8")
    custom = ("strategy=custom", "strategy._target_=fitting_alone.Best", "rebalance=W")
    plan = planned(*SHARED, *WALK, *custom, "commission_bps=0,50")
    (panel,) = plan.panels.values()
    together = compute_chunk(plan.runs, panel).runs
    for run, shared in zip(plan.runs, together, strict=True):
        (alone,) = compute_chunk([run], panel).runs
        assert alone.metrics == shared.metrics
        # Each is compared with the benchmark of its own costs, in-sample too.
        np.testing.assert_equal(alone.in_sample, shared.in_sample)
    assert together[0].in_sample["beta"] != together[1].in_sample["beta"]


def test_a_fitted_run_has_what_its_factors_explain_in_training(working_dir, planned):
    (working_dir / "fitting_factors.py").write_text(FITTED, encoding="utf-8")
    write_factors(working_dir)
    custom = ("strategy=custom", "strategy._target_=fitting_factors.Best", "rebalance=W")
    plan = planned(*SHARED, *WALK, *custom, "factors=null,ff.csv")
    (panel,) = plan.panels.values()
    without, explained = compute_chunk(plan.runs, panel).runs
    names = ("alpha_factors", "r2_factors", "beta_MKT", "beta_SMB")
    assert not set(names) & without.in_sample.keys()
    for name in names:
        values = explained.in_sample[name]
        assert len(values) == len(explained.in_sample["sharpe"])
        assert np.isfinite(values).all()
    assert min(explained.in_sample["r2_factors"]) > 0.1


@pytest.mark.slow
def test_a_strategy_with_fit_sees_training_bars_only(with_store, command):
    (with_store / "fitting.py").write_text(FITTED, encoding="utf-8")
    done = command(
        *SHARED, *WALK, "strategy=custom", "strategy._target_=fitting.Best", "strategy.skip=0,1"
    )
    assert done.code == 0, done.err
    summary = pd.read_csv(folder_of(with_store) / "walk_forward_summary.csv")
    windows = {(str(row.train_start)[:10], str(row.train_end)[:10]) for row in summary.itertuples()}
    fitted = {
        tuple(line.split()[1:])
        for line in (with_store / "fitted.log").read_text(encoding="utf-8").splitlines()
    }
    assert fitted == windows
    assert summary["is_sharpe"].notna().all()
    assert summary["oos_sharpe"].notna().all()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("walk_forward.test_size=0",), "walk_forward.test_size"),
        (("walk_forward.train_size=5000",), "5000"),
        (("walk_forward.train_size=3QX",), "3QX"),
        (("walk_forward.purged_size=400",), "purged_size"),
        (("walk_forward.foo=1",), "walk_forward.foo"),
        (("rank_by=runtime_s",), "runtime_s"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(with_store, command, settings, named):
    done = command(*SHARED, *WALK, *settings, "strategy.fast=5,10")
    assert done.code == 2
    assert named in done.err
    assert "Traceback" not in done.err
    assert not (with_store / "mlruns" / "batches").exists()


@pytest.mark.slow
def test_ranking_by_an_out_of_sample_metric_is_flagged(with_store, command):
    done = command(*SHARED, *WALK, "strategy.fast=5,10,20", "rank_by=oos_sharpe")
    assert done.code == 0, done.err
    assert "no longer out-of-sample" in done.out
