import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.cli.compare import main
from backtest_batch.core.engine.metrics import METRICS, RESULT_METRICS
from backtest_batch.store.selection import select_runs


def command(folder, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "backtest_batch.compare", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        timeout=300,
    )


def compared(*arguments):
    """Run the command in this process, and return the folder of its files."""
    folder = Path("mlruns", "comparisons")
    before = set(folder.glob("*"))
    assert main(arguments) == 0
    (made,) = set(folder.glob("*")) - before
    return made


FILES = {
    "batch_summary.csv",
    "batch_summary.md",
    "best_params.json",
    "best_params_summary.md",
    "rankings.csv",
    "report.html",
    "sensitivity_analysis.csv",
}


def test_one_batch_gives_the_tables_of_its_sweep_byte_for_byte(in_store, capsys):
    folder = compared(f"batch={in_store.core}")

    assert {file.name for file in folder.iterdir()} == FILES
    reports = in_store.reports(in_store.core)
    for name in ("rankings.csv", "sensitivity_analysis.csv"):
        assert (folder / name).read_text() == (reports / name).read_text()
    ours = json.loads((folder / "best_params.json").read_text())
    theirs = json.loads((reports / "best_params.json").read_text())
    for entry in (*ours["top"], *theirs["top"]):
        del entry["environment"]
    assert ours["top"] == theirs["top"]
    assert ours["scenarios"][0]["config"] == theirs["scenarios"][0]["config"]
    assert ours["verdict"] == theirs["verdict"]
    out = capsys.readouterr().out
    assert "12 of 12 runs ranked by sharpe" in out
    assert f"Of the whole batch: {theirs['verdict']['sentence']}" in out
    assert f"Tables: {folder.absolute()}" in out
    assert "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db" in out


def search(store, batch_id):
    """Return the runs of a batch as MLflow's own search has them."""
    runs = store.client.search_runs(
        [store.experiment_id], f"tags.batch_id = '{batch_id}' and tags.batch_role = 'run'"
    )
    return pd.DataFrame(
        [{**run.data.params, **run.data.tags, **run.data.metrics, "mlflow": run.info.run_id}
         for run in runs]
    )  # fmt: skip


def test_rankings_agree_with_plain_pandas(in_store, store):
    runs = search(store, in_store.core)
    table = pd.read_csv(compared(f"batch={in_store.core}", "rank_by=calmar") / "rankings.csv")

    runs = runs.sort_values(["calmar", "run_id"], ascending=[False, True], ignore_index=True)
    assert table["rank"].tolist() == list(range(1, 13))
    assert table["run_id"].tolist() == runs["run_id"].tolist()
    within = runs.groupby("commission_bps")["calmar"].rank(ascending=False, method="first")
    assert table["rank_in_scenario"].tolist() == within.tolist()
    for name in RESULT_METRICS:
        if name in table:
            np.testing.assert_array_equal(table[name], runs[name])
    for name in ("strategy.fast", "strategy.slow", "commission_bps"):
        assert table[name].tolist() == runs[name].astype(float).tolist()
    assert not {"mlflow_run_id", "started", "runtime_s", "batch_id"} & set(table.columns)


def test_a_weighted_score_agrees_with_plain_pandas(in_store, store):
    runs = search(store, in_store.core)
    weights = "{sharpe: 0.5, calmar: 0.3, turnover_annual: 0.2}"
    bound = float(runs["sharpe"].median())
    table = pd.read_csv(
        compared(
            f"batch={in_store.core}",
            f"rank_by={weights}",
            f'constraints={{sharpe: ">= {bound!r}"}}',
        )
        / "rankings.csv"
    )

    kept = runs[runs["sharpe"] >= bound]
    score = (
        0.5 * kept["sharpe"].rank(pct=True)
        + 0.3 * kept["calmar"].rank(pct=True)
        + 0.2 * (-kept["turnover_annual"]).rank(pct=True)
    )
    expected = kept.assign(score=score.round(12)).sort_values(
        ["score", "run_id"], ascending=[False, True]
    )
    ranked = table[table["rank"].notna()]
    assert ranked["run_id"].tolist() == expected["run_id"].tolist()
    np.testing.assert_allclose(ranked["score"], expected["score"], atol=1e-9)
    unranked = table[table["rank"].isna()]
    assert set(unranked["run_id"]) == set(runs["run_id"]) - set(kept["run_id"])
    assert all("must hold, but got" in reason for reason in unranked["unranked"])


def test_sensitivity_agrees_with_plain_pandas(in_store, store):
    runs = search(store, in_store.core)
    table = pd.read_csv(compared(f"batch={in_store.core}") / "sensitivity_analysis.csv")

    for parameter in ("strategy.fast", "strategy.slow", "commission_bps"):
        groups = runs.groupby(runs[parameter].astype(float))["max_drawdown"]
        rows = table[(table["parameter"] == parameter) & (table["metric"] == "max_drawdown")]
        expected = groups.agg(["count", "mean", "std", "min", "max"])
        assert rows["value"].astype(float).tolist() == expected.index.tolist()
        np.testing.assert_allclose(
            rows[["count", "mean", "std", "min", "max"]], expected, rtol=1e-12
        )


def test_the_summary_has_a_row_for_each_run(in_store, store):
    runs = search(store, in_store.core).set_index("mlflow")
    table = pd.read_csv(compared(f"batch={in_store.core}") / "batch_summary.csv")

    assert sorted(table["mlflow_run_id"]) == sorted(runs.index)
    matching = runs.loc[table["mlflow_run_id"]]
    assert table["run_key"].tolist() == matching["run_key"].tolist()
    np.testing.assert_array_equal(table["runtime_s"], matching["runtime_s"])
    assert set(table["status"]) == {"FINISHED"}


DIRECTED = [name for name, metric in METRICS.items() if metric.direction]


def test_the_better_run_ranks_first_by_every_metric(in_store, store):
    runs = search(store, in_store.core).set_index("run_id")
    table = select_runs(store, batch=in_store.core).table
    present = [name for name in DIRECTED if name in runs and runs[name].nunique() > 1]
    assert len(present) > 10
    for name in present:
        ranked = rank_runs(table, Ranking.parse(name))
        winner = table.runs.loc[ranked.index[0], "run_id"]
        best = runs[name].max() if METRICS[name].direction > 0 else runs[name].min()
        assert runs.loc[winner, name] == best, name


def test_several_batches_are_compared_and_their_differences_come_first(in_store, capsys):
    folder = compared(f"batch=[{in_store.core},other]", "top_n=3")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "14 runs of 2 batches are compared."
    assert lines[1] == f"batch {in_store.core} (core): 12 runs"
    assert lines[3].startswith("They differ in the following")
    assert "rebalance: M in core; W in other" in lines
    assert "commission_bps: 0.0, 1.0 in core; 0.5 in other" in lines
    head = next(place for place, line in enumerate(lines) if line.startswith("rank"))
    assert lines.index("rebalance: M in core; W in other") < head
    assert "batch_id" in lines[head]
    table = pd.read_csv(folder / "rankings.csv")
    assert set(table["batch_id"]) == {in_store.core, in_store.ids[1]}
    assert set(table["rebalance"]) == {"M", "W"}
    summary = (folder / "batch_summary.md").read_text()
    assert "## Batches" in summary
    assert summary.index("## Batches") < summary.index("## Runs")
    assert "rebalance: M in core; W in other" in summary


@pytest.mark.slow
def test_names_are_never_cut_where_the_output_is_no_terminal(in_store):
    done = command(in_store.folder, "batch=long", COLUMNS="40", TERM="dumb")

    assert done.returncode == 0, done.stderr
    assert "a" * 6_001 in done.stdout
    assert "a" * 6_000 + "b" in done.stdout
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_each_comparison_has_a_folder_of_its_own(in_store, capsys):
    folders = {compared("batch=other") for _ in range(2)}

    assert len(folders) == 2
    assert all(re.fullmatch(r"\d{8}T\d{6}Z(-\d+)?", folder.name) for folder in folders)


def test_files_go_where_they_are_wanted(in_store, tmp_path, capsys):
    target = tmp_path / "a b" / "c"

    assert main(["batch=other", f"output_dir='{target}'"]) == 0

    assert {file.name for file in target.iterdir()} == FILES


def test_only_the_folder_of_the_store_is_written(in_store, capsys):
    before = {item.name for item in in_store.folder.iterdir()} - {"__pycache__"}

    compared("batch=other")

    assert {item.name for item in in_store.folder.iterdir()} - {"__pycache__"} == before


def test_the_best_runs_carry_the_command_that_repeats_them(in_store, capsys):
    folder = compared("filter_tags={suite: second}")
    document = json.loads((folder / "best_params.json").read_text())

    best = document["top"][0]
    words = shlex.split(best["command"])
    assert words[:3] == ["python", "-m", "backtest_batch"]
    assert f"strategy.slow={best['params']['strategy.slow']}" in words
    assert "rebalance=W" in words
    assert best["environment"]["packages"]["numpy"] == np.__version__
    assert best["config"]["strategy"]["fast"] == 5
    summary = (folder / "best_params_summary.md").read_text()
    assert best["command"] in summary


def test_failed_runs_are_shown_when_they_are_asked_for(in_store, capsys):
    folder = compared("batch=failing", "statuses=[FINISHED,FAILED]")

    table = pd.read_csv(folder / "batch_summary.csv").set_index("run_id")
    assert table.loc["run_fails", "status"] == "FAILED"
    assert table.loc["run_fails", "error_message"] == "the note says so"
    assert "Unranked: 1 FAILED (RuntimeError)." in capsys.readouterr().out


def test_parameters_that_change_nothing_are_reported_loudly(in_store, capsys):
    compared("batch=long")

    assert "strategy.note changes no result" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rank_by=sharp"], ["rank_by=sharp:", "did you mean sharpe?", "The choices are"]),
        (["rank_by={sharpe: 0, calmar: 0}"], ["rank_by=", "must sum to more than 0"]),
        (["rank_by={sharpe: much}"], ["rank_by.sharpe=much:", "must be a finite number"]),
        (["rank_by=oos_sharpe"], ["rank_by=oos_sharpe:", "oos_sharpe is missing (4)", "They have"]),
        (
            ["batch=failing", "statuses=[FAILED]"],
            ["rank_by=sharpe:", "the only selected run cannot be ranked: FAILED (RuntimeError)\n"],
        ),
        (["constraints={trades: lots}"], ["constraints.trades=lots:", ">="]),
        (["constraints={trade: '> 1'}"], ["constraints.trade=> 1:", "did you mean trades"]),
        (["constraints={trades: '> 1e9'}"], ["constraints=trades > 1000000000.0:", "none of the"]),
        (["batch=nix"], ["batch=nix:"]),
        (["batch=core,other"], ["write 'batch=[core,other]'"]),
        (["filter_tags={suite: nix}"], ["filter_tags.suite=nix:"]),
        (["filter='sharpe larger 5'"], ["filter=sharpe larger 5", "is not understood"]),
        (["normalise=best"], ["normalise=best:", "rank, zscore, minmax"]),
        (["statuses=[DONE]"], ["statuses=DONE:", "FINISHED"]),
        (["top_n=0"], ["top_n=0:", ">= 1"]),
        (["top_n=many"], ["top_n"]),
        (["topn=3"], ["topn:", "did you mean top_n?"]),
        (["tracking.uri=mlruns"], ["tracking.uri=mlruns", "sqlite:///"]),
        (["tracking.uri=sqlite:///nix.db"], ["There is no tracking store"]),
        (["tracking.experiment=nix"], ["There is no experiment 'nix'"]),
        (["output_dir=strategies.py/below"], ["output_dir=strategies.py/below:"]),
    ],
)
def test_what_cannot_be_compared_is_one_message_and_exit_code_2(in_store, capsys, arguments, words):
    assert main(arguments) == 2

    captured = capsys.readouterr()
    assert [word for word in words if word not in captured.err] == []
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.slow
def test_the_exit_codes_are_those_of_the_process(recorded):
    assert command(recorded.folder, "batch=nix").returncode == 2
    assert command(recorded.folder, "batch=long").returncode == 0
    assert not [*recorded.folder.glob("mlruns/mlflow.db-*")]
    shown = command(recorded.folder, "--help")
    assert shown.returncode == 0
    assert "rank_by" in shown.stdout


@pytest.mark.slow
def test_output_that_nobody_reads_is_no_fault(recorded):
    program = f"{sys.executable} -m backtest_batch.compare batch=long | head -c 100"
    done = subprocess.run(
        ["bash", "-c", f"{program}; exit ${{PIPESTATUS[0]}}"],
        cwd=recorded.folder,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_without_a_store_there_is_nothing_to_compare(tmp_path):
    done = command(tmp_path)

    assert done.returncode == 2
    assert "There is no tracking store" in done.stderr
    assert list(tmp_path.iterdir()) == []
