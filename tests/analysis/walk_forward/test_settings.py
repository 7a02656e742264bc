from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from backtest_batch.analysis.walk_forward import WalkForwardSettings, make_splits
from backtest_batch.core.split_settings import parse
from backtest_batch.errors import ConfigurationError
from tests.support.walk_forward_cases import business_days, daily

CONF = Path(__file__).parents[3] / "conf" / "walk_forward"

YEARS = {"train": ["2001-01-01", "2003-12-31"], "test": ["2004-01-01", "2004-12-31"]}


def faults_of(mapping, n_bars=2_000):
    with pytest.raises(ConfigurationError) as caught:
        parse(mapping, *daily(n_bars))
    assert {fault.key.split(".")[0] for fault in caught.value.faults} == {"walk_forward"}
    return {fault.key.removeprefix("walk_forward."): fault.allowed for fault in caught.value.faults}


@pytest.mark.parametrize("mapping", [None, {}, {"method": None}, {"method": "none"}])
def test_without_a_method_there_is_no_walk_forward(mapping):
    assert parse(mapping, *daily(10)) is None


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_file_is_read(file):
    settings = parse(yaml.safe_load(file.read_text()), *daily(3_000))

    assert (settings is None) == (file.stem == "none")
    if settings is not None:
        assert settings.method == file.stem
        assert make_splits(settings, business_days(3_000)).splits


def test_defaults_of_daily_bars():
    settings = parse({"method": "rolling"}, *daily(2_000))

    assert settings == WalkForwardSettings(
        method="rolling",
        train_size=756,
        test_size=126,
        step_size=126,
        purged_size=1,
        min_train_size=252,
        min_test_size=63,
    )


def test_defaults_scale_with_the_bars_of_a_year():
    settings = parse({"method": "rolling"}, business_days(4_000), 504.0, 3)

    assert (settings.train_size, settings.test_size) == (1512, 252)
    assert (settings.min_train_size, settings.min_test_size) == (504, 126)
    assert settings.purged_size == 3


def test_null_is_the_default_and_whole_numbers_may_be_text():
    given = {"method": "expanding", "train_size": "500", "test_size": 100.0, "step_size": None}
    settings = parse(given, *daily(2_000))

    assert (settings.train_size, settings.test_size, settings.step_size) == (500, 100, 100)


@pytest.mark.parametrize(
    ("mapping", "key", "text"),
    [
        ({"test_size": 0}, "test_size", "`test_size >= 1` must hold, but got test_size=0"),
        ({"train_size": -3}, "train_size", "`train_size >= 1` must hold, but got train_size=-3"),
        (
            {"train_size": 300, "purged_size": 300},
            "purged_size",
            "`purged_size < train_size` must hold, but got purged_size=300, train_size=300",
        ),
        (
            {"purged_size": -1},
            "purged_size",
            "`purged_size >= 0` must hold, but got purged_size=-1",
        ),
        (
            {"train_size": 2_001},
            "train_size",
            "`train_size <= return bars` must hold, but got train_size=2001, return bars=2000; "
            "one split needs train_size + purged_size + min_test_size = 2001 + 1 + 63 = 2065 "
            "return bars",
        ),
        (
            {"test_size": 5_000},
            "test_size",
            "`test_size <= return bars` must hold, but got test_size=5000, return bars=2000; one "
            "split needs train_size + purged_size + min_test_size = 756 + 1 + 63 = 820 return bars",
        ),
        (
            {"train_size": "20YE"},
            "train_size",
            "`train_size <= return bars` must hold, but got train_size=20YE (about 5040 bars), "
            "return bars=2000; one split needs train_size + purged_size + min_test_size = about "
            "5040 + 1 + 63 = 5104 return bars",
        ),
        (
            {"train_size": 1_950},
            "train_size",
            "one split needs train_size + purged_size + min_test_size = 1950 + 1 + 63 = 2014 "
            "return bars, but the data has 2000 (2001-01-02 to 2008-09-01)",
        ),
        (
            {"train_size": 100},
            "train_size",
            "`min_train_size <= train_size` must hold, but got min_train_size=252 bars, "
            "train_size=100",
        ),
        (
            {"test_size": "1ME"},
            "test_size",
            "`min_test_size <= test_size` must hold, but got min_test_size=63 bars, "
            "test_size=1ME (about 21 bars)",
        ),
        (
            {"step_size": 20},
            "step_size",
            "`step_size >= test_size` must hold without overlap_allowed=true, but got "
            "step_size=20, test_size=126",
        ),
        (
            {"step_size": "6ME"},
            "step_size",
            "step_size and test_size must both be bars or both calendar lengths, but got "
            "step_size=6ME, test_size=126",
        ),
        (
            {"test_size": "6M"},
            "test_size",
            "must be a number of bars or a calendar length such as 3YE or 6ME; did you mean 6ME?",
        ),
        (
            {"test_size": "fortnight"},
            "test_size",
            "must be a number of bars or a calendar length such as 3YE or 6ME; pandas knows no "
            "offset 'fortnight'",
        ),
        (
            {"test_size": "-1YE"},
            "test_size",
            "must be a number of bars or a calendar length such as 3YE or 6ME; its count must be "
            "> 0",
        ),
        (
            {"train_size": 756.5},
            "train_size",
            "must be a number of bars or a calendar length such as 3YE or 6ME",
        ),
        (
            {"train_size": True},
            "train_size",
            "must be a number of bars or a calendar length such as 3YE or 6ME",
        ),
        ({"max_splits": 0}, "max_splits", "`max_splits >= 1` must hold, but got max_splits=0"),
        ({"max_splits": "some"}, "max_splits", "must be a whole number"),
        ({"overlap_allowed": "yes"}, "overlap_allowed", "must be true or false"),
        (
            {"splits": [], "train_size": None},
            "splits",
            "must be a list of {train: [first date, last date], test: [first date, last date]}, "
            "with at least one entry",
        ),
        (
            {"splits": [YEARS], "train_size": 700},
            "train_size",
            "cannot stand beside splits, which give the windows by dates",
        ),
        (
            {"splits": [{"train": ["2001", "2003"]}]},
            "splits[0]",
            "must be a list of {train: [first date, last date], test: [first date, last date]}",
        ),
        (
            {"splits": [YEARS | {"test": ["2004-01-01"]}]},
            "splits[0]",
            "test must be [first date, last date], but got ['2004-01-01']",
        ),
        (
            {"splits": [YEARS | {"test": ["2004-01-01", "later"]}]},
            "splits[0]",
            "'later' is not a date such as 2005-01-31 (year, month, day)",
        ),
        (
            {"splits": [YEARS | {"test": ["2005-01-01", "2004-12-31"]}]},
            "splits[0]",
            "`first date <= last date` must hold in test, but got 2005-01-01 and 2004-12-31",
        ),
        (
            {"splits": [YEARS | {"test": ["2003-12-01", "2004-12-31"]}]},
            "splits[0]",
            "`end of train < start of test` must hold, but got 2003-12-31 and 2003-12-01",
        ),
        (
            {"splits": [YEARS, YEARS | {"test": ["2004-12-01", "2005-12-31"]}]},
            "splits[1]",
            "`end of one test < start of the next` must hold without overlap_allowed=true, but "
            "got 2004-12-31 and 2004-12-01",
        ),
        (
            {"splits": [YEARS, YEARS]},
            "splits[1]",
            "splits must be in order of their tests, but this one begins 2004-01-01 and the one "
            "before it 2004-01-01",
        ),
        (
            {"splits": [{"train": ["2030", "2031"], "test": ["2032", "2033"]}]},
            "splits[0]",
            "the train window 2030 to 2031 holds no return bar; the data has 2001-01-02 to "
            "2008-09-01",
        ),
        (
            {"splits": [YEARS], "purged_size": 900},
            "splits[0]",
            "`purged_size < train bars` must hold, but got purged_size=900, train bars=782",
        ),
        (
            {"splits": [YEARS | {"test": ["2004-01-01", "2004-01-31"]}]},
            "splits[0]",
            "`min_test_size <= test bars` must hold (up to a tenth, for holidays), but got "
            "min_test_size=63, test bars=22",
        ),
    ],
)
def test_faulty_settings_name_the_invariant_and_the_values(mapping, key, text):
    assert faults_of({"method": "rolling"} | mapping)[key] == text


@pytest.mark.parametrize(
    ("mapping", "key", "text"),
    [
        (
            {"n_folds": 3, "n_test_folds": 3},
            "n_test_folds",
            "`n_test_folds < n_folds` must hold, but got n_test_folds=3, n_folds=3",
        ),
        ({"n_folds": 2}, "n_folds", "`n_folds >= 3` must hold, but got n_folds=2"),
        (
            {"n_folds": 30, "n_test_folds": 15},
            "n_test_folds",
            "`number of combinations <= 10000` must hold, but n_test_folds=15, n_folds=30 make "
            "155117520",
        ),
        (
            {"n_folds": 40},
            "n_folds",
            "`min_test_size <= bars of a fold` must hold, but got min_test_size=63, bars of a "
            "fold=50; 40 folds need 2520 return bars, but the data has 2000",
        ),
        (
            {"embargo_size": 200},
            "purged_size",
            "`purged_size + embargo_size < bars of a fold - 1` must hold, but got purged_size=1, "
            "embargo_size=200, bars of a fold=200; 10 folds need 2030 return bars, but the data "
            "has 2000",
        ),
        (
            {"n_folds": 10, "n_test_folds": 9},
            "n_test_folds",
            "`min_train_size <= train bars` must hold, but got min_train_size=252, train "
            "bars=198 in split 1 of 2000 return bars in 10 folds",
        ),
    ],
)
def test_faulty_settings_of_the_combinatorial_method(mapping, key, text):
    assert faults_of({"method": "combinatorial"} | mapping)[key] == text


def test_all_faults_are_told_at_once():
    faults = faults_of({"method": "rolling", "test_size": 0, "train_size": "x", "max_splits": -1})

    assert sorted(faults) == ["max_splits", "test_size", "train_size"]


def test_an_unknown_key_names_close_ones_and_an_unknown_method_all():
    faults = faults_of({"method": "rolling", "train_sise": 500})
    assert faults["train_sise"].startswith("did you mean train_size or min_train_size?")

    with pytest.raises(ConfigurationError, match="none, rolling, expanding, combinatorial"):
        parse({"method": "roling"}, *daily(2_000))


def test_keys_of_another_method_are_refused():
    assert "takes no other keys" in faults_of({"method": "none", "train_size": 500})["train_size"]
    assert (
        "walk_forward=combinatorial takes"
        in faults_of({"method": "combinatorial", "train_size": 500})["train_size"]
    )
    assert "n_folds" in faults_of({"method": "rolling", "n_folds": 5})


@pytest.mark.parametrize("n_bars", [0, 1, 100, 819])
def test_too_little_data_says_how_much_one_split_needs(n_bars):
    with pytest.raises(ConfigurationError, match=r"756 \+ 1 \+ 63 = 820 return bars"):
        parse({"method": "rolling"}, *daily(n_bars))


def test_just_enough_data_makes_one_split():
    settings = parse({"method": "rolling"}, *daily(820))
    (split,) = make_splits(settings, business_days(820)).splits

    assert (split.train, split.test) == ((range(756),), (range(757, 820),))


def test_dates_may_be_dates_and_shorthands():
    given = {
        "method": "rolling",
        "splits": [{"train": [date(2001, 1, 1), "2003"], "test": ["2004-01", date(2004, 12, 31)]}],
    }
    plan = make_splits(parse(given, *daily(2_000)), business_days(2_000))
    (split,) = plan.splits
    index = business_days(2_000)

    # One bar before the test is purged.
    assert index[split.train_end] == pd.Timestamp("2003-12-30")
    assert index[split.test_start] == pd.Timestamp("2004-01-01")
    assert index[split.test_end] == pd.Timestamp("2004-12-31")


@pytest.mark.parametrize(
    ("given", "n_split_runs", "logged"),
    [(None, 500, True), (None, 501, False), (True, 10_000, True), (False, 1, False)],
)
def test_split_runs_are_logged_when_few_or_asked_for(given, n_split_runs, logged):
    settings = parse({"method": "rolling", "log_split_runs": given}, *daily(2_000))

    assert settings.logs_split_runs(n_split_runs) is logged


def test_numpy_numbers_are_numbers():
    given = {"method": "rolling", "train_size": np.int64(400), "test_size": np.float64(80)}
    settings = parse(given, *daily(2_000))

    assert (settings.train_size, settings.test_size) == (400, 80)
