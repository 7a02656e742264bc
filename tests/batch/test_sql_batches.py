"""A batch on prices in a database: its query as it is typed, its password nowhere."""

import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

QUERY = "data.query=select date, symbol, close from prices where close > 0"
URL = "sqlite:///prices.db?token=geheim"


@pytest.fixture
def prices(with_store):
    index = pd.bdate_range("2019-01-01", periods=300)
    walk = np.random.default_rng(1).normal(0, 0.01, (300, 2)).cumsum(axis=0)
    frame = pd.DataFrame(100 * np.exp(walk), index=index.strftime("%Y-%m-%d"), columns=["A", "B"])
    table = frame.rename_axis("date").reset_index()
    table = table.melt(id_vars="date", var_name="symbol", value_name="close")
    with closing(sqlite3.connect(with_store / "prices.db")) as connection:
        table.to_sql("prices", connection, index=False)
    return with_store


def test_the_password_of_a_database_is_recorded_nowhere_and_asked_for_again(
    prices, invoke, monkeypatch
):
    sweep = ("-m", "data=sql", QUERY, "strategy=equal_weight", "commission_bps=0,1")
    done = invoke(*sweep, f"data.url={URL}", "n_jobs=1")
    assert done.code == 0, done.err
    assert "2 of 2 runs ranked" in done.out
    files = [path for path in (prices / "mlruns").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"geheim" in path.read_bytes()]
    assert "geheim" not in done.out + done.err

    asked = invoke("resume=latest")
    assert asked.code == 2
    assert "hold secrets, which are not recorded: data.url. Give them again" in asked.err
    again = invoke("resume=latest", f"data.url={URL}")
    assert again.code == 0, again.err
    assert "is complete: 2 runs are recorded" in again.out + again.err

    # What names an environment variable is no secret, and is found again. It is the same run.
    monkeypatch.setenv("PRICES_URL", URL.replace("geheim", "anderes"))
    named = invoke(*sweep, "data.url=${oc.env:PRICES_URL}", "n_jobs=1")
    assert named.code == 0, named.err
    resumed = invoke("resume=latest")
    assert resumed.code == 0, resumed.err
    assert "is complete" in resumed.out + resumed.err


def test_a_dry_run_and_an_error_show_no_password(prices, invoke):
    shown = invoke("dry_run=true", "data=sql", QUERY, f"data.url={URL}")
    assert shown.code == 0, shown.err
    refused = invoke("data=sql", "data.query=select * from price", f"data.url={URL}")
    assert refused.code == 2
    assert "no such table: price (did you mean prices?)" in refused.err
    assert "geheim" not in shown.out + shown.err + refused.out + refused.err
