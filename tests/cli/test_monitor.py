"""The command that follows a winner on newer data."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

import backtest_batch as bb
from backtest_batch.cli.main import main as sweep
from backtest_batch.cli.monitor import main
from backtest_batch.core.strategies import EqualWeight
from backtest_batch.store.address import resolve_uri
from backtest_batch.store.search import find_batch, list_batches, read_runs
from backtest_batch.store.store import open_store

INDEX = pd.bdate_range("2015-01-01", periods=1_200, name="date")
N_OLD = 600
SWEEP = (
    *("data=csv", "data.path=old.csv", "strategy=equal_weight", "benchmark=none", "n_jobs=1"),
    *("-m", "commission_bps=1,5"),
)


def closes(later, earlier=2.0, n=N_OLD + 500, seed=0, n_assets=3):
    """Closes with an annual Sharpe ratio of their mean up to and after the end of the batch."""
    noise = np.random.default_rng(seed).normal(0, 1, (n, n_assets))
    wanted = np.where(np.arange(n) < N_OLD, earlier, later)[:, None]
    returns = 0.01 * (noise + wanted / np.sqrt(252 * n_assets))
    names = [f"A{n}" for n in range(n_assets)]
    return pd.DataFrame(100 * np.cumprod(1 + returns, axis=0), index=INDEX[:n], columns=names)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, migrated_store):
    """A batch in a working directory of its own, which no test changes."""
    folder = tmp_path_factory.mktemp("a batch")
    (folder / "mlruns").mkdir()
    shutil.copyfile(migrated_store, folder / "mlruns" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        closes(0).iloc[:N_OLD].to_csv("old.csv")
        assert sweep(list(SWEEP)) == 0
    return folder


@pytest.fixture
def batch(recorded, monkeypatch, tmp_path, capsys):
    """Follow the winner of the batch; nothing is recorded unless that is asked for."""
    monkeypatch.chdir(recorded)
    return follower(recorded, tmp_path, capsys)


def follower(folder, tmp_path, capsys):
    (found,) = (folder / "mlruns" / "batches").iterdir()

    def follow(newer, *arguments, best=None, recording=False):
        if newer is not None:
            newer.to_csv(tmp_path / "newer.csv")
            arguments = (f"data.path={tmp_path / 'newer.csv'}", *arguments)
        if not recording:
            arguments = ("tracking.enabled=false", *arguments)
        capsys.readouterr()
        out = tmp_path / "out"
        code = main([f"best={best or found / 'best_params.json'}", *arguments, f"output_dir={out}"])
        printed = capsys.readouterr()
        file = out / "monitor.json"
        document = json.loads(file.read_text("utf-8")) if file.exists() else None
        return code, printed.out + printed.err, document

    follow.folder, follow.out = found, tmp_path / "out"
    return follow


def monitors(folder):
    client = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("backtest_batch")
    return client, client.search_runs(
        [experiment.experiment_id], "tags.batch_role = 'monitor'", max_results=100
    )


@pytest.mark.parametrize(("later", "code", "answer"), [(8, 0, "holds"), (-8, 1, "broken")])
def test_what_is_planted_is_found(batch, later, code, answer):
    ended, printed, document = batch(closes(later))
    assert (ended, document["answer"]) == (code, answer), printed
    assert document["since"] == str(INDEX[N_OLD - 1].date())
    assert document["first_bar"] == str(INDEX[N_OLD].date())
    assert document["n_bars"] == document["n_returns"] == 500
    assert document["n_restated_returns"] == 0
    assert (document["evalue"]["holds"] >= 20) == (answer == "holds")
    assert (document["evalue"]["broken"] >= 20) == (answer == "broken")
    assert document["sentence"] in printed
    assert all(f"  {line}" in printed for line in document["reasons"])
    assert "500 bars were added since the batch ran" in printed
    # An earlier look has seen what this one has.
    curve = pd.read_parquet(batch.out / "monitor.parquet").set_index("timestamp")
    _, _, then = batch(closes(later), f"end_date={INDEX[N_OLD + 75].date()}")
    now = curve.loc[then["last_bar"]]
    assert then["evalue"] == {name: now[f"evalue_{name}"] for name in ("holds", "broken")}
    reached = pd.Timestamp(document["reached"][answer])
    assert curve.loc[reached, f"evalue_{answer}"] >= 20
    assert (curve.loc[: reached - pd.Timedelta("1D"), f"evalue_{answer}"] < 20).all()


def test_the_figures_are_those_of_the_returns_and_python_says_the_same(batch):
    newer = closes(2, n=N_OLD + 250)
    found = bb.holds_or_broken(batch.folder / "best_params.json", newer)
    assert found.answer == "too_early"
    whole = bb.backtest(EqualWeight, newer, commission_bps=1.0, benchmark="none")
    later = whole.equity["net_return"].iloc[N_OLD:]
    np.testing.assert_allclose(found.curve["net_return"], later, rtol=1e-12)
    realised = found["realised"]
    assert realised["return"] == pytest.approx((1 + later).prod() - 1)
    assert realised["sharpe"] == pytest.approx(later.mean() / later.std() * np.sqrt(252))
    equity = np.concatenate([[1.0], (1 + later).cumprod()])
    assert realised["max_drawdown"] == pytest.approx(
        (equity / np.maximum.accumulate(equity) - 1).min()
    )
    for name, band in found["promised"].items():
        assert band["low"] < realised[name] < band["high"], name
    assert found.svg.startswith("<svg")
    with pytest.raises(bb.ConfigurationError, match="cannot change"):
        bb.holds_or_broken(batch.folder / "best_params.json", newer, commission_bps=0)


def test_it_is_recorded_as_a_run_that_no_batch_counts(with_store, tmp_path, capsys):
    closes(0).iloc[:N_OLD].to_csv("old.csv")
    assert sweep(list(SWEEP)) == 0
    batch = follower(with_store, tmp_path, capsys)
    newer = closes(2, n=N_OLD + 60)
    *_, first = batch(newer, recording=True)
    client, (run,) = monitors(with_store)
    assert run.data.tags["answer"] == "too_early"
    assert run.data.tags["monitor_of"] == batch.folder.name
    assert run.data.metrics["evalue.holds"] == pytest.approx(first["evalue"]["holds"])
    assert run.data.metrics["promised.sharpe.low"] == pytest.approx(
        first["promised"]["sharpe"]["low"]
    )
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert names == {"monitor.json", "monitor.html", "monitor.parquet"}
    store = open_store(resolve_uri(None, with_store), "backtest_batch", create=False)
    assert [item.batch_id for item in list_batches(store)] == [batch.folder.name]
    assert find_batch(store, "latest").batch_id == batch.folder.name
    assert len(read_runs(store)) == 2
    store.close()
    # A second look says the same, also with the returns of the store, or computed again.
    shutil.copy(batch.folder / "best_params.json", tmp_path / "best.json")
    (batch.folder / "returns.parquet").unlink()
    *_, stored = batch(newer, best=tmp_path / "best.json")
    assert stored["promise_from"] == "the store"
    shutil.rmtree(with_store / "mlruns" / "artifacts")
    _, printed, computed = batch(newer, best=tmp_path / "best.json")
    assert computed["promise_from"] is None
    assert "the returns of the batch were not kept" in printed
    for name in ("answer", "realised", "promised", "evalue", "since"):
        assert stored[name] == computed[name] == first[name]


def test_no_new_bars_is_an_error_that_says_how_far_the_data_go(batch):
    # Without data.path it is what the batch read.
    code, printed, document = batch(None)
    assert (code, document) == (2, None)
    last = INDEX[N_OLD - 1].date()
    assert f"there are no new bars: the batch ended at {last}" in printed
    assert f"go up to {last}" in printed


def test_a_past_that_was_restated_is_said(batch):
    newer = closes(0, n=N_OLD + 50)
    newer.iloc[300, 1] *= 1.1
    code, printed, document = batch(newer)
    assert code == 0
    assert document["n_restated_returns"] == 2
    said = f"the past was restated: 1 value, the first is the close of A1 at {INDEX[300].date()}"
    assert said in printed
    assert "2 of 599 returns on bars of the batch are not those recorded" in printed


def test_data_that_begin_after_the_batch_are_refused(batch):
    code, printed, _ = batch(closes(0).iloc[N_OLD - 10 :])
    assert code == 2
    assert "the data begin too late: they have 9 returns up to the end of the batch" in printed


def test_what_somebody_else_recorded_is_followed_only_with_trust(batch, tmp_path):
    document = json.loads((batch.folder / "best_params.json").read_text("utf-8"))
    del document["top"][0]["command_signature"]
    document["top"][0]["code_fingerprint"] = "0" * 64
    best = tmp_path / "theirs.json"
    best.write_text(json.dumps(document))
    newer = closes(2, n=N_OLD + 60)
    code, printed, _ = batch(newer, best=best)
    assert code == 2
    assert "was not recorded by you on this machine" in printed
    code, printed, _ = batch(newer, "trust=true", best=best)
    assert code == 0
    assert "the code of the strategy or of this package has changed since the batch" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("strategy.fast=3",), "strategy"),
        (("commission_bps=0",), "commission_bps"),
        (("data.path=a.csv,b.csv",), "give one value"),
        (("data.path=none.csv",), "none.csv"),
        (("since=later",), "since=later: must be a date"),
        (("data.pth=x",), "pth"),
        (("data=synthetic", "data.path=new.csv"), "name that of the newer data, too"),
        (("benchmark=missing.csv",), "A newer benchmark is named beside the data"),
    ],
)
def test_what_would_change_the_winner_or_is_wrong_is_refused(batch, arguments, said):
    code, printed, document = batch(None, *arguments)
    assert (code, document) == (2, None)
    assert said in printed
    assert "Traceback" not in printed


def test_without_a_winner_it_is_said_how_one_is_named(with_store, capsys):
    assert main([]) == 2
    assert "best=best_params.json" in capsys.readouterr().err
    assert main(["best=missing.json"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_the_help_lists_every_key(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("best", "since", "end_date", "tracking.enabled", "output_dir", "data.path"):
        assert name in shown


def test_a_process_ends_with_the_code_of_its_answer(batch, tmp_path):
    closes(-8).to_csv(tmp_path / "newer.csv")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "backtest_batch.monitor"),
            f"best={batch.folder / 'best_params.json'}",
            *(f"data.path={tmp_path / 'newer.csv'}", "tracking.enabled=false"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("broken: since 2017-04-19 run_1.0 earns less than its backtest")
    (folder,) = (batch.folder.parents[1] / "monitors").iterdir()
    assert folder.name.startswith("run_1.0-20")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["monitor.html", "monitor.json", "monitor.parquet"]
    assert (folder / "monitor.html").read_text("utf-8").count("<svg") == 1
