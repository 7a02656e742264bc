"""The command that judges returns from anywhere."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from backtest_batch.cli.compare import main as compare
from backtest_batch.cli.main import main as sweep
from backtest_batch.cli.verdict import main

INDEX = pd.bdate_range("2015-01-01", periods=400, name="timestamp")
SWEEP = (
    *("-m", "data=synthetic", "data.n_assets=4", "data.n_bars=500", "start_date=2000-06-01"),
    *("strategy.fast=5,10,20", "commission_bps=0,5", "n_jobs=1"),
)


def noise(n_trials, seed=0):
    values = np.random.default_rng(seed).normal(3e-4, 0.01, (len(INDEX), n_trials))
    return pd.DataFrame(values, index=INDEX, columns=[f"t{n}" for n in range(n_trials)])


@pytest.fixture
def judged(working_dir, capsys):
    """Judge returns that are written to a file, and return exit code, output and figures."""

    def judge(returns, *arguments, name="returns.csv"):
        if isinstance(returns, str):
            (working_dir / name).write_text(returns)
        elif returns is not None and name.endswith("csv"):
            returns.to_csv(working_dir / name)
        elif returns is not None:
            returns.to_parquet(working_dir / name)
        capsys.readouterr()
        code = main([name, *arguments, "output_dir=out"])
        printed = capsys.readouterr()
        file = working_dir / "out" / "overfitting.json"
        figures = json.loads(file.read_text("utf-8")) if file.exists() else None
        return code, printed.out + printed.err, figures

    return judge


@pytest.fixture(scope="module")
def batch(tmp_path_factory, ended_command):
    folder = tmp_path_factory.mktemp("a batch")
    ended = ended_command(folder, *SWEEP)
    assert ended.code == 0, ended.err
    return folder / "mlruns" / "batches" / ended.batch_id


def of_returns(figures):
    """Return the figures that returns alone decide, in the scenario of the verdict."""
    undefined = {key: why for key, why in figures["undefined"].items() if key != "permutation"}
    return figures | {"scenarios": None, "audit": None, "undefined": undefined}


def test_the_returns_of_a_batch_have_the_figures_of_its_verdict(batch, tmp_path, capsys):
    recorded = json.loads((batch / "overfitting.json").read_text("utf-8"))
    assert main([str(batch / "returns.parquet"), f"output_dir={tmp_path}"]) == 0
    found = json.loads((tmp_path / "overfitting.json").read_text("utf-8"))
    assert (found["n_trials"], found["benchmark_spa_pvalue"] is None) == (3, False)
    # The file has one benchmark, while each scenario of the batch has one at its own costs.
    assert of_returns(found) == of_returns(recorded)
    # Of returns nothing can be asked.
    assert recorded["audit"]["lookahead"] == "clean"
    assert found["audit"]["lookahead"] == "untested"
    assert "only returns were given" in found["audit"]["reason"]
    alike = ("scenario", "run_id", "spa_pvalue", "psr", "dsr", "pbo", "sharpe_ci")
    for name in alike:
        assert found["scenarios"][0][name] == recorded["scenarios"][0][name]
    printed = capsys.readouterr().out
    assert "batch_summary.csv says which values each run tried" in printed
    assert "All scenarios are compared with one benchmark" in printed
    assert recorded["verdict"]["sentence"] in printed.splitlines()


def test_its_rankings_say_the_same_and_without_them_each_run_is_a_trial(batch, tmp_path):
    told, untold = tmp_path / "told", tmp_path / "untold"
    file = str(batch / "returns.parquet")
    assert main([file, f"decisions={batch / 'rankings.csv'}", f"output_dir={told}"]) == 0
    assert main([file, "decisions=none", f"output_dir={untold}"]) == 0
    recorded = json.loads((batch / "overfitting.json").read_text("utf-8"))
    found = json.loads((told / "overfitting.json").read_text("utf-8"))
    assert of_returns(found) == of_returns(recorded)
    assert json.loads((untold / "overfitting.json").read_text("utf-8"))["n_trials"] == 6


def test_the_files_and_the_terminal_say_the_same(judged, working_dir):
    code, printed, figures = judged(noise(5).assign(benchmark=noise(1, seed=9)["t0"]))
    assert code == 0
    assert figures["verdict"]["sentence"] in printed.splitlines()
    assert all(f"  {reason}" in printed.splitlines() for reason in figures["verdict"]["reasons"])
    assert f"Report: {working_dir / 'out'}" in printed
    assert "\x1b" not in printed
    page = (working_dir / "out" / "report.html").read_text("utf-8")
    assert "returns.csv" in page
    assert sorted(path.name for path in working_dir.iterdir()) == ["out", "returns.csv"]


def test_a_folder_of_its_own_is_made_in_mlruns(working_dir, capsys):
    noise(3).to_csv("my returns.csv")
    assert main(["my returns.csv"]) == 0
    assert main(["file=my returns.csv"]) == 0
    folders = sorted((working_dir / "mlruns" / "verdicts").iterdir())
    assert len(folders) == 2
    assert all(folder.name.startswith("my-returns-20") for folder in folders)
    assert {path.name for path in folders[0].iterdir()} == {"overfitting.json", "report.html"}
    assert not (working_dir / "mlruns" / "mlflow.db").exists()


def test_csv_and_parquet_and_percent_are_one(judged):
    *_, csv = judged(noise(4))
    *_, parquet = judged(noise(4), name="returns.parquet")
    assert csv == parquet
    _, printed, percent = judged(100 * noise(4))
    assert "the returns are read as percent" in printed
    assert percent["spa_pvalue"] == csv["spa_pvalue"]
    *_, told = judged(100 * noise(4), "returns_unit=percent")
    assert told["sharpe_per_period"] == pytest.approx(csv["sharpe_per_period"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda r: 100 * (1 + r).cumprod(), "t0 holds prices or equity, it seems"),
        (lambda r: (1 + r - 0.005).cumprod(), "holds prices or equity, it seems"),
        (lambda r: 45 * r.iloc[:, :3].mul([0.3, 0.3, 0.3]), "returns_unit=percent, or"),
        (lambda r: r.astype(object).assign(t1="x"), "column 't1' holds 'x' at 2015-01-01"),
        (lambda r: pd.concat([r, r.iloc[[5]]]), "the timestamp 2015-01-08 stands twice"),
        (
            lambda r: r.assign(t0=r["t0"].where(INDEX[7] != INDEX, np.inf)),
            "t0 must be finite, but one is infinite",
        ),
        (lambda r: r[[]], "has no column of returns"),
        (lambda r: r[["t0"]].rename(columns={"t0": "benchmark"}), "no trial beside the benchmark"),
        (lambda _: "", "is empty"),
        (lambda _: "timestamp,a\n", "holds no row"),
        (lambda _: "a,b\n1,2\n", "options='{timestamp_column: day}'"),
        (lambda _: None, "no such file"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(judged, make, said):
    code, printed, figures = judged(make(noise(3)))
    assert (code, figures) == (2, None)
    assert said in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["benchmark=T1"], "did you mean t1?"),
        (["benchmark=SPY"], "named by its path, such as SPY.csv"),
        (["benchmark=spy.csv"], "spy.csv: no such file"),
        (["benchmark=[t1,t2]"], "or else the name of a column"),
        (["benchmark={values: prices}"], "a mapping names a file"),
        (["n_trials=2"], "here alone are 3"),
        (["n_trials=0"], "n_trials=0: must be >= 1"),
        (["n_trials=many"], "n_trials=many: must be a whole number"),
        (["periods_per_year=0"], "must be > 0"),
        (["decisions=grid.csv"], "there is no such file"),
        (["bencmark=t1"], "did you mean benchmark?"),
        (["rank_by=turnover_annual"], "cannot be worked out from returns alone"),
        (["returns_unit=bps"], "must be one of auto, percent, fraction"),
        (["options={colour: red}"], "options.colour: is not an argument"),
        (["tracking=perhaps"], "must be true or false"),
        (["session_end=25:00"], "session_end=25:00"),
        (["other.csv"], "one file is judged at a time"),
    ],
)
def test_a_wrong_key_is_named_with_what_is_allowed(judged, arguments, said):
    code, printed, figures = judged(noise(3), *arguments)
    assert (code, figures) == (2, None)
    assert said in printed
    assert "Traceback" not in printed


def test_without_a_file_the_command_says_how_it_is_called(capsys):
    assert main([]) == 2
    assert "python -m backtest_batch.verdict returns.parquet" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "n_trials: how many trials there were" in capsys.readouterr().out


def test_trials_that_were_not_kept_count(judged):
    returns = noise(5).assign(benchmark=noise(1, seed=9)["t0"])
    *_, few = judged(returns)
    code, printed, many = judged(returns, "n_trials=400")
    assert code == 0
    assert (few["n_trials"], many["n_trials"]) == (5, 400)
    assert many["sr0"] > few["sr0"]
    assert many["dsr"] < few["dsr"]
    assert many["spa_pvalue"] == few["spa_pvalue"]
    assert "of 400 trials, 395 left no returns" in printed


def test_a_ruined_an_empty_and_a_broken_trial_count_but_are_not_tested(judged):
    returns = noise(6).astype(object)
    returns.loc[INDEX[50], "t0"] = -1.2
    returns["t1"] = np.nan
    returns.loc[INDEX[60], "t2"] = np.nan
    code, printed, figures = judged(returns.astype(float))
    assert code == 0
    assert figures["n_trials"] == 6
    assert {item["run_id"] for item in figures["excluded"]} == {"t0", "t1", "t2"}
    assert "t0 lost everything (-120% at 2015-03-12)" in printed
    assert "2 trials counted as tried, but not tested (t1: it has no returns; t2: 1 of" in printed
    assert "percent" not in printed


def test_a_benchmark_in_a_file_is_read_as_prices_or_as_returns(judged, working_dir):
    dates = pd.bdate_range("2014-12-01", "2016-12-31", name="date")
    moves = pd.Series(np.random.default_rng(3).normal(0, 0.01, len(dates)), dates, name="close")
    (100 * (1 + moves).cumprod()).to_csv("spy.csv")
    moves.to_csv("moves.csv")
    moves[INDEX[0] :].to_csv("short.csv")
    code, _, prices = judged(noise(3), "benchmark=spy.csv")
    assert code == 0
    for file in ("moves.csv", "short.csv"):
        *_, returns = judged(noise(3), f"benchmark={file}", "benchmark_values=returns")
        assert returns["beta"] == pytest.approx(prices["beta"])
    (100 * (1 + moves).cumprod()).iloc[60:].to_csv("late.csv")
    code, printed, _ = judged(noise(3), "benchmark=late.csv")
    assert code == 2
    assert "late.csv has no return on" in printed


def test_a_benchmark_is_no_trial_and_none_is_cash(judged):
    *_, column = judged(noise(4), "benchmark=t3")
    assert (column["n_trials"], column["benchmark_spa_pvalue"] is None) == (3, False)
    _, printed, cash = judged(noise(4).assign(benchmark=0.001), "benchmark=none")
    assert cash["n_trials"] == 4
    assert "measured against cash" in printed
    _, printed, _ = judged(noise(4))
    assert "No benchmark was given" in printed


def test_factors_are_columns_or_a_file_and_no_trials(judged):
    returns = noise(5)
    returns[["t4"]].iloc[:-10].rename(columns={"t4": "HML"}).to_csv("ff.csv")
    *_, columns = judged(returns, "benchmark=none", "factors=[t3,t4]")
    assert columns["n_trials"] == 3
    assert columns["factors"]["names"] == ["t3", "t4"]
    _, printed, of_file = judged(returns.drop(columns="t4"), "benchmark=none", "factors=ff.csv")
    assert of_file["factors"]["betas"].keys() == {"HML"}
    assert of_file["factors"]["n_bars"] == len(returns) - 10
    assert "SPA test against HML: p = " in printed
    code, printed, _ = judged(returns, "factors=[T3]")
    assert code == 2
    assert "factors=T3: is no column of returns.csv; did you mean t3" in printed


def test_fail_on_verdict_is_exit_code_one(judged):
    code, printed, figures = judged(noise(30), "benchmark=none", "fail_on_verdict=[luck]")
    assert figures["verdict"]["label"] == "luck"
    assert code == 1
    assert "fail_on_verdict: the verdict is luck." in printed


def test_a_recorded_verdict_is_no_batch(judged, with_store, capsys):
    arguments = ("tracking=true", "benchmark=t3", "batch_name=elsewhere")
    code, printed, figures = judged(noise(4), *arguments)
    assert code == 0
    assert "Browse: mlflow ui" in printed
    client = MlflowClient(f"sqlite:///{with_store / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("backtest_batch")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("elsewhere", "FINISHED")
    assert run.data.tags["batch_role"] == "verdict"
    assert run.data.tags["verdict"] == figures["verdict"]["label"]
    assert run.data.metrics["n_trials"] == 3
    assert run.data.metrics["spa_pvalue"] == figures["spa_pvalue"]
    assert run.data.params["file"] == "returns.csv"
    assert "claim" not in run.data.tags
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert files == {"overfitting.json", "report.html", "returns.parquet"}
    assert sorted(path.name for path in with_store.iterdir()) == ["mlruns", "out", "returns.csv"]
    capsys.readouterr()
    assert compare([]) == 2
    assert sweep(["resume=latest"]) == 2
    said = capsys.readouterr().err
    assert "holds no batches yet" in said
    assert "nothing to resume" in said


def test_the_command_runs_as_a_module_and_interrupts_nothing(working_dir):
    noise(3).to_csv("returns.csv")
    done = subprocess.run(
        [sys.executable, "-m", "backtest_batch.verdict", "returns.csv", "benchmark=none"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Report: " in done.stdout
