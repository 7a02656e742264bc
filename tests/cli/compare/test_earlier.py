import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from backtest_batch.errors import ConfigurationError
from backtest_batch.store.recorded import details_of
from backtest_batch.store.selection import select_runs, with_earlier_runs


@pytest.fixture(scope="module")
def own(recorded, store):
    """The runs of a batch, and their configurations, as a sweep that just ended has them."""
    table = select_runs(store, batch="other").table
    details = details_of(store, table, table.runs.index)
    return table, [details[row].config for row in table.runs.index]


def test_earlier_runs_are_put_below_those_of_the_batch(recorded, store, own):
    table, configs = own

    joined, said = with_earlier_runs(table, configs, store, {"suite": "first"})

    assert len(joined) == 2 + 12
    assert joined.runs.index.tolist() == list(range(14))
    assert joined.runs["run_id"].tolist()[:2] == table.runs["run_id"].tolist()
    assert set(joined.runs["batch_id"][2:]) == {recorded.core}
    assert said == ("12 earlier runs with filter_tags are compared too.",)
    assert joined.runs["batch_name"].tolist() == ["other"] * 2 + ["core"] * 12
    metrics = joined.metrics.iloc[:2][list(table.metrics.columns)]
    np.testing.assert_array_equal(metrics.to_numpy(), table.metrics.to_numpy())


def test_each_run_has_its_value_of_every_parameter(store, own):
    table, configs = own

    joined, _ = with_earlier_runs(table, configs, store, {"suite": "first"})

    assert joined.params["rebalance"].tolist() == ["W"] * 2 + ["M"] * 12
    assert joined.params["strategy.slow"].tolist()[:2] == [20, 50]
    assert joined.params["commission_bps"].tolist()[:2] == [0.5, 0.5]
    assert set(joined.params["commission_bps"][2:]) == {0.0, 1.0}
    assert joined.scenario_axes == ("commission_bps",)


def test_runs_of_the_batch_itself_do_not_come_twice(recorded, store):
    table = select_runs(store, batch=recorded.core).table
    details = details_of(store, table, table.runs.index)
    configs = [details[row].config for row in table.runs.index]

    # The four newest runs are four of these; and the batch itself has the tag, too.
    joined, said = with_earlier_runs(table, configs, store, {"suite": "newest"})
    again, nothing = with_earlier_runs(table, configs, store, {"suite": "first"})

    assert len(joined) == 12
    assert said == ("4 earlier runs are runs of this batch and count once.",)
    assert len(again) == 12
    assert "No earlier run has filter_tags" in nothing[0]


def test_without_tags_nothing_is_added(store, own):
    table, configs = own

    assert with_earlier_runs(table, configs, store, None) == (table, ())


def test_malformed_tags_are_refused(store, own):
    with pytest.raises(ConfigurationError, match="filter_tags="):
        with_earlier_runs(*own, store, 5)


@pytest.mark.slow
def test_a_sweep_compares_itself_with_earlier_runs(recorded, tmp_path):
    (tmp_path / "mlruns").mkdir()
    database = recorded.folder / "mlruns" / "mlflow.db"
    shutil.copyfile(database, tmp_path / "mlruns" / "mlflow.db")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "backtest_batch", "-m", "data=synthetic", "data.n_bars=120"),
            *("data.n_assets=4", "start_date=2000-03-01", "n_jobs=1", "strategy.fast=5"),
            *("strategy.slow=20,25", "commission_bps=0.0", "filter_tags={suite: first}"),
        ],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "mlruns" / "batches").iterdir()
    table = pd.read_csv(folder / "rankings.csv")
    # One of the two is a run of the earlier batch as well.
    assert len(table) == 2 + 12 - 1
    assert set(table["batch_id"]) == {folder.name, recorded.core}
    assert table["rank"].tolist() == list(range(1, 14))
    assert table["sharpe"].is_monotonic_decreasing
    assert "11 earlier runs with filter_tags are compared too." in done.stdout
