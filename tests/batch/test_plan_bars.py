"""What the data say about bars and sessions, and what becomes of it in the plan of a batch."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest_batch.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("working_dir")

DAILY = ("data=synthetic", "data.n_bars=300", "data.n_assets=2")
FIVE_MINUTES = ("data=synthetic", "data.freq=5min", "data.n_bars=1000", "data.n_assets=2")

# First digits of the hashes of configurations before lengths of bars were found.
BEFORE = {
    ("commission_bps=0,0.5", "max_gross_exposure=0.6,1.0"): [
        "460721f85746a8f7", "41cda38c9fc1740f", "0ce00f85a63e3310", "7eeaabe7c66a1845",
    ],
    ("data=synthetic", "data.n_bars=300", "rebalance=bar,D,W,M,Q"): [
        "dc0839b261f8dfdd", "663e02b5354d3955", "52fafa1f3c501246", "32e07ddbe6c032e0",
        "9dcb946ab233c536",
    ],
    ("data=synthetic", "data.freq=5min", "data.n_bars=1000"): ["4777b89b527bf5f0"],
    ("data=csv", "data.path=days.csv", "strategy=equal_weight"): ["eba5f0dc518e9f1e"],
}  # fmt: skip


def write(name, index, **columns):
    values = columns or {"A": np.linspace(1, 2, len(index))}
    pd.DataFrame(values, index=index).to_csv(name, index_label="date")
    return ("data=csv", f"data.path={name}", "strategy=equal_weight")


@pytest.mark.parametrize("arguments", BEFORE)
def test_batches_of_before_have_the_same_hashes(planned, arguments):
    write("days.csv", pd.bdate_range("2015-01-01", periods=400))
    runs = planned(*arguments).runs
    assert [run.config_hash[:16] for run in runs] == BEFORE[arguments]


@pytest.mark.parametrize(
    ("arguments", "declared"), [(DAILY, "1d"), (FIVE_MINUTES[2:], "5min"), ((), "1d")]
)
def test_what_is_found_is_what_could_have_been_declared(planned, arguments, declared):
    if declared == "5min":
        index = pd.date_range("2020-01-06 09:30", periods=78, freq="5min")
        index = index.append([index + pd.Timedelta(days=day) for day in (1, 2, 3)])
        arguments = write("bars.csv", index)
    plan = planned(*arguments, f"data.freq=auto,{declared}")
    (run,) = plan.runs
    assert len(plan.duplicates) == 1
    assert run.config["data"]["freq"] == declared
    assert run.config["periods_per_year"] is None


def test_other_bars_a_year_are_part_of_the_configuration(planned):
    own = write("hours.csv", pd.date_range("2020-01-01", periods=3_000, freq="h"))
    plan = planned(*own, "data.freq=auto,5min")
    assert [run.config["data"]["freq"] for run in plan.runs] == ["1h", "5min"]
    assert {run.config["periods_per_year"] for run in plan.runs} == {8_760}
    assert plan.notes[0].startswith("`data.freq=5min`, but most bars are 1h apart")
    (note,) = planned(*own).notes
    assert note.startswith(
        "periods_per_year=8,760 is taken from the index (24 bars a session x 365 days: the market "
        "never closes)"
    )
    given = planned(*own, "periods_per_year=8760")
    assert given.notes == ()
    assert given.runs[0].run_key == plan.runs[0].run_key


def test_minutes_of_an_exchange(planned):
    (note,) = planned("data=synthetic", "data.freq=1min", "data.n_bars=4000", "rebalance=D").notes
    assert note.startswith("periods_per_year=98,280 is taken from the index (390 bars a session x")


@pytest.mark.parametrize(
    ("key", "values", "spelt"),
    [
        ("rebalance", "60min,1h,3600s", "1h"),
        ("rebalance", "W-SUN,W,1W", "W"),
        ("rebalance", "bars:1,bar", "bar"),
        ("rebalance", "3M:start,Q:start", "Q:start"),
        ("data.session_end", "17:00,1020", "17:00"),
        ("data.session_end", "null,00:00", None),
    ],
)
def test_equal_spellings_are_one_run(planned, key, values, spelt):
    plan = planned(*FIVE_MINUTES, f"{key}={values}")
    (run,) = plan.runs
    node, _, name = key.rpartition(".")
    assert (run.config[node] if node else run.config)[name] == spelt


def test_where_sessions_end_is_part_of_what_is_computed_together(planned):
    index = pd.date_range("2020-01-06", periods=600, freq="h")
    own = write("hours.csv", index, A=np.linspace(1, 2, 600), B=np.linspace(2, 1, 600))
    plan = planned(*own, "data.session_end=null,17:00", "rebalance=D", "commission_bps=0,1")
    assert len({run.run_key for run in plan.runs}) == 4
    assert len({run.chunk_key for run in plan.runs}) == 2
    assert len({run.benchmark_key for run in plan.runs}) == 4
    assert len({run.data_fingerprint for run in plan.runs}) == 1


@pytest.mark.parametrize("rebalance", ["1h", "15min:start", "30s"])
def test_periods_within_a_day_are_refused_on_daily_bars(planned, rebalance):
    with pytest.raises(ConfigurationError) as caught:
        planned(*DAILY, f"rebalance=M,{rebalance}")
    assert (
        f"rebalance={rebalance}: is shorter than the bars of the data (1d); rebalance=bar decides "
        "on each"
    ) in str(caught.value)


def test_what_is_no_period_is_refused_beside_other_faults(planned):
    with pytest.raises(ConfigurationError, match=r"did you mean 15min \(minutes\)") as caught:
        planned(*DAILY, "rebalance=15m", "commission_bps=-1")
    assert "commission_bps=-1" in str(caught.value)


def test_a_source_of_the_users_that_says_nothing_of_its_bars(planned):
    Path("own.py").write_text(
        "from backtest_batch.market.sources import Csv\n"
        "class Own(Csv):\n"
        "    def identity(self): return {**super().identity(), 'own': 1}\n"
    )
    write("days.csv", pd.bdate_range("2015-01-01", periods=100))
    write("weeks.csv", pd.date_range("2015-01-02", periods=100, freq="7D"))
    node = "data={_target_:own.Own,path:%s}"
    (run,) = planned("~data", "+" + node % "days.csv", "strategy=equal_weight").runs
    assert set(run.config["data"]) == {"_target_", "path"}
    (run,) = planned("~data", "+" + node % "weeks.csv", "strategy=equal_weight").runs
    assert run.config["data"]["freq"] == "1w"
    assert run.config["periods_per_year"] == 52


@pytest.fixture
def mixed():
    """Arguments of 5 years of months and then a year of days."""
    months = pd.date_range("2015-01-01", "2019-12-31", freq="BME")
    return write("mixed.csv", months.append(pd.bdate_range("2020-01-01", "2020-12-31")))


def test_months_that_go_over_into_days_are_refused(planned, mixed):
    with pytest.raises(ConfigurationError) as caught:
        planned(*mixed, "rebalance=M,Q")
    assert (
        "  periods_per_year=null: bars are 1mo apart from 2015-01-30 to 2019-12-31 and 1d apart "
        "from 2020-01-01 to 2020-12-31 (12 and 252 a year), and no one number annualises them all: "
        "start_date=2020-01-01 measures the last of them, end_date=2019-12-31 the first; "
        "periods_per_year=N takes N for all"
    ) in str(caught.value)


@pytest.mark.parametrize(
    ("way_out", "per_year", "freq", "said"),
    [
        ("start_date=2020-01-01", None, "1d", "signals that look back beyond 2020-01-01"),
        ("end_date=2019-12-31", 12, "1mo", "periods_per_year=12 is taken from the index"),
        ("periods_per_year=60", 60, "1d", "periods_per_year=60 is taken for all of them"),
    ],
)
def test_each_way_out_is_one(planned, mixed, way_out, per_year, freq, said):
    plan = planned(*mixed, way_out)
    (run,) = plan.runs
    assert (run.config["periods_per_year"], run.config["data"]["freq"]) == (per_year, freq)
    assert [said in note for note in plan.notes] == [True]


def test_a_period_that_never_ends_is_said_once(planned):
    plan = planned(*DAILY, "rebalance=M,70Y", "commission_bps=0,1", "start_date=2000-03-01")
    (note,) = plan.notes
    assert note.startswith("rebalance=70Y never trades on the 258 measured bars")
    (note,) = planned(*DAILY, "rebalance=Q", "start_date=2001-02-01").notes
    assert "an earlier start_date" in note
