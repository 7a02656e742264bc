import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.overfitting.samples import (
    OverfittingSettings,
    Trial,
    Trials,
    common_periods,
    count_days,
    day_starts,
    samples,
)


def trials(returns, index=None, failed=(), calendars=None, **changes):
    """Return trials named by their column, all in one scenario unless changed by column."""
    runs = []
    for column in range(returns.shape[1]):
        facts = {"run_id": f"run_{column}", "scenario": "base", "decision": f"d{column}"}
        runs.append(Trial(**{**facts, **changes.get(f"run_{column}", {})}))
    if index is None:
        index = pd.bdate_range("2000-01-03", periods=len(returns))
    return Trials(returns=returns, index=index, runs=runs, failed=failed, calendars=calendars or {})


def noise(n_bars, n_runs, seed=0):
    return 0.01 * np.random.default_rng(seed).standard_normal((n_bars, n_runs))


def reasons(sample):
    return {exclusion.run_id: exclusion.reason for exclusion in sample.excluded}


def test_the_longest_warm_up_starts_the_common_bars():
    returns = noise(100, 3)
    returns[:5, 0] = returns[:20, 1] = np.nan
    (sample,) = samples(trials(returns))
    assert (sample.start, sample.stop, sample.longest_warmup) == (20, 100, 1)
    assert sample.columns.tolist() == [0, 1, 2]
    assert sample.excluded == ()


def test_what_cannot_be_tested_is_named_and_does_not_shorten_the_rest():
    returns = noise(100, 8)
    returns[:80, 1] = np.nan
    returns[60:, 2] = np.nan
    returns[:90, 3], returns[90:, 3] = np.nan, 0.0
    returns[50, 4] = np.nan
    returns[:, 5] = np.nan
    returns[:40, 6], returns[40:, 6] = np.nan, 0.0
    returns[10, 7] = np.inf
    (sample,) = samples(trials(returns, run_2={"ruined": True}))
    assert sample.columns.tolist() == [0]
    assert sample.start == 0
    assert reasons(sample) == {
        "run_1": "too short: 20 returns, at least 30 are needed",
        "run_2": "ruined: its equity fell to zero",
        "run_3": "too short: 10 returns, at least 30 are needed",
        "run_4": "1 of its returns are missing",
        "run_5": "it has no returns",
        "run_6": "zero variance: its returns never vary",
        "run_7": "1 of its returns are missing",
    }


def test_a_run_that_ends_early_is_named():
    returns = noise(100, 2)
    returns[60:, 1] = np.nan
    (sample,) = samples(trials(returns))
    assert reasons(sample)["run_1"].startswith("its returns end early, at 2000-03-")


def on_calendars(returns, masks, **changes):
    """Return trials of which each has its own bars, and returns on these alone."""
    named = {f"run_{k}": {"calendar": str(k)} for k in range(len(masks))}
    returns = np.where(np.array(masks).T, returns, np.nan)
    calendars = {str(k): mask for k, mask in enumerate(masks)}
    return trials(returns, calendars=calendars, **named, **changes)


def test_where_the_data_of_one_run_end_the_common_bars_do():
    masks = np.ones((3, 200), dtype=bool)
    masks[0, :20] = masks[1, 150:] = False
    (sample,) = samples(on_calendars(noise(200, 3), masks))
    assert sample.columns.tolist() == [0, 1, 2]
    assert (sample.start, sample.stop, sample.n_periods) == (20, 150, 130)
    assert (sample.longest_warmup, sample.first_end, sample.cut) == (0, 1, True)
    assert sample.periods is None
    assert sample.nothing == ""


def test_data_without_common_bars_cannot_be_tested_together():
    masks = np.zeros((2, 200), dtype=bool)
    masks[0, :100] = masks[1, 100:] = True
    (sample,) = samples(on_calendars(noise(200, 2), masks))
    assert sample.columns.tolist() == [0, 1]
    assert sample.nothing == (
        "the trials share 0 returns, at least 30 are needed (run_1 starts at 2000-05-22 00:00:00, "
        "run_0 ends at 2000-05-19 00:00:00)"
    )
    # Fewer than 30 are none.
    masks[0, :120] = True
    (sample,) = samples(on_calendars(noise(200, 2), masks))
    assert sample.nothing.startswith("the trials share 20 returns, at least 30 are needed (run_1")


def test_a_gap_is_one_only_where_the_data_have_a_bar():
    masks = np.ones((2, 200), dtype=bool)
    masks[1, ::5] = False
    given = on_calendars(noise(200, 2), masks)
    (sample,) = samples(given)
    assert sample.excluded == ()
    assert sample.n_periods == 160
    given.returns[101, 1] = np.nan
    (sample,) = samples(given)
    assert reasons(sample) == {"run_1": "1 of its returns are missing"}


@pytest.mark.parametrize(
    ("rows", "firsts", "end"),
    [
        # Weekdays beside all days; a holiday on either side; weeks that end on a Sunday.
        (["1111001111001", "1111111111111"], [0, 1, 2, 3, 4, 7, 8, 9, 10], 13),
        (["110111", "111011"], [0, 1, 2, 4, 5], 6),
        (["11111001111100", "00000010000001"], [0, 7], 14),
        (["1010", "0101"], [0, 2], 4),
        (["1100", "0000"], [], 0),
    ],
)
def test_periods_end_where_every_calendar_has_had_a_bar(rows, firsts, end):
    found, after = common_periods(np.array([[cell == "1" for cell in row] for row in rows]))
    assert (found.tolist(), after) == (firsts, end)


@pytest.mark.parametrize("value", [0.0, 1e-4, -0.02])
def test_rounding_is_no_variance(value):
    returns = noise(50, 2)
    returns[:, 1] = (1 + value) * (1 + 1e-16 * np.arange(50)) - 1
    (sample,) = samples(trials(returns))
    assert reasons(sample) == {"run_1": "zero variance: its returns never vary"}


def test_scenarios_end_where_their_runs_do():
    returns = noise(100, 4)
    returns[70:, :2] = np.nan
    early, late = samples(trials(returns, run_0={"scenario": "early"}, run_1={"scenario": "early"}))
    assert (early.scenario, early.stop, early.columns.tolist()) == ("early", 70, [0, 1])
    assert (late.scenario, late.stop, late.columns.tolist()) == ("base", 100, [2, 3])


def test_runs_that_share_a_decision_count_once():
    returns = noise(100, 4)
    same = {f"run_{k}": {"decision": "same"} for k in range(3)}
    (sample,) = samples(trials(returns, **same))
    assert sample.columns.tolist() == [0, 3]
    same["run_2"]["rank"] = 7
    (sample,) = samples(trials(returns, **same))
    assert sample.columns.tolist() == [2, 3]
    # One that cannot be tested stands for none.
    same["run_2"]["ruined"] = True
    (sample,) = samples(trials(returns, **same))
    assert sample.columns.tolist() == [0, 3]


def test_failed_runs_are_named_even_where_nothing_else_is():
    failed = [Trial(run_id="f", scenario="base", decision="x")]
    failed.append(Trial(run_id="g", scenario="other", decision="x"))
    base, other = samples(trials(noise(40, 1), failed=failed))
    assert reasons(base) == {"f": "failed: it has no returns"}
    assert (len(other.columns), other.longest_warmup) == (0, None)
    assert reasons(other) == {"g": "failed: it has no returns"}


def test_many_values_are_read_in_parts():
    returns = noise(2_600, 2_000)
    returns[:2_300, 2] = np.nan
    returns[2_400, 3] = np.nan
    (sample,) = samples(trials(returns))
    assert sample.columns.tolist() == [0, 1, 2, *range(4, 2_000)]
    assert (sample.start, sample.stop) == (2_300, 2_600)
    assert reasons(sample) == {"run_3": "1 of its returns are missing"}


def test_days_are_those_of_the_exchange():
    index = pd.DatetimeIndex(
        ["2024-01-02 09:30", "2024-01-02 23:30", "2024-01-03 00:30", "2024-01-03 10:00"],
        tz="America/New_York",
    )
    np.testing.assert_array_equal(day_starts(index), [0, 2])
    np.testing.assert_array_equal(day_starts(index.tz_localize(None)), [0, 2])
    assert day_starts(index[[0, 2]]) is None
    assert day_starts(index[:0]) is None


def test_short_is_counted_in_days():
    index = pd.DatetimeIndex(
        [
            day + pd.Timedelta(hours=hour)
            for day in pd.bdate_range("2024-01-01", periods=29)
            for hour in (10, 12, 14)
        ]
    )
    (sample,) = samples(trials(noise(87, 2), index=index))
    assert reasons(sample)["run_0"] == "too short: 29 daily returns, at least 30 are needed"
    days = day_starts(index)
    assert [count_days(start, 87, days) for start in (0, 1, 2, 3, 86, 87)] == [29, 29, 29, 28, 1, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"returns": np.zeros((3, 2))}, "returns.shape"),
        ({"benchmarks": {"base": np.zeros(3)}}, "benchmark must have shape"),
        ({"periods_per_year": 0.0}, "periods_per_year=0.0"),
        ({"runs": [Trial(run_id="a", scenario="", decision="")] * 2}, "'a'"),
    ],
)
def test_trials_that_do_not_fit_together(changed, message):
    given = {
        "returns": np.zeros((4, 2)),
        "index": pd.bdate_range("2000-01-03", periods=4),
        "runs": [Trial(run_id=name, scenario="base", decision=name) for name in "ab"],
    }
    with pytest.raises(ValueError, match=message):
        Trials(**{**given, **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"blocks": 15},
        {"blocks": 0},
        {"blocks": 22},
        {"draws": 99},
        {"mean_block": 0.5},
        {"mean_block": float("nan")},
        {"seed": -1},
        {"trials": "all"},
    ],
)
def test_settings_out_of_range(changed):
    (name,) = changed
    with pytest.raises(ValueError, match=f"`{name}"):
        OverfittingSettings(**changed)


def test_sessions_that_cross_midnight_are_one_day():
    hours = pd.date_range("2024-01-07 17:00", periods=24 * 61, freq="h")
    index = hours[hours.hour != 16]
    returns = noise(len(index), 2)
    given = trials(returns, index)
    futures = Trials(
        returns=returns, index=index, runs=given.runs, session_end="17:00", periods_per_year=5_796
    )
    (calendar_days,), (by_session,) = samples(given), samples(futures)
    assert calendar_days.n_periods == 62
    assert by_session.n_periods == 61
    assert by_session.periods.tolist() == list(range(0, 23 * 61, 23))
