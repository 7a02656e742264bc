"""Sweeps through the command, in this process."""

SMALL = ("data=synthetic", "data.n_bars=300", "data.n_assets=4", "n_jobs=1")


def test_a_sweep_ends_with_its_leaderboard_and_where_to_look(invoke, recorded_runs, with_store):
    ended = invoke("-m", *SMALL, "commission_bps=0,1", "max_gross_exposure=0.5,1.0")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split()[:4] == ["rank", "run_id", "commission_bps", "max_gross_exposure"]
    assert lines[-3].startswith("Reports: ")
    assert lines[-2] == "Browse:  mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db"
    assert lines[-1] == f"Filter:  tags.batch_id = '{ended.batch_id}' and tags.batch_role = 'run'"
    runs = recorded_runs(with_store, ended.batch_id)
    assert sorted(runs) == ["run_0.0_0.5", "run_0.0_1.0", "run_1.0_0.5", "run_1.0_1.0"]
    assert {run.status for run in runs.values()} == {"FINISHED"}
    assert [entry.name for entry in with_store.iterdir()] == ["mlruns"]
