"""The verdict on return series of one's own."""

import numpy as np
import pandas as pd
import pytest

import backtest_batch as bb

INDEX = pd.date_range("2010-01-01", periods=1_000, freq="B")


def noise(n_trials, seed=1):
    values = np.random.default_rng(seed).normal(0, 0.01, (len(INDEX), n_trials))
    return pd.DataFrame(values, index=INDEX, columns=[f"t{n}" for n in range(n_trials)])


def test_the_best_of_many_random_walks_is_luck():
    assert bb.skill_or_luck(noise(40))["verdict"]["label"] == "luck"


def test_a_skilled_one_among_them_is_found_beyond_the_benchmark():
    returns = noise(20)
    returns["skilled"] = noise(1, seed=2)["t0"] + 0.002
    found = bb.skill_or_luck(returns, noise(1, seed=3)["t0"])
    assert found["verdict"]["label"] == "skill"
    assert found["run_id"] == "skilled"
    named = returns.assign(benchmark=noise(1, seed=3)["t0"])
    assert bb.skill_or_luck(named) == found


def test_months_are_annualised_as_months(caplog):
    index = pd.date_range("2000-01-31", periods=240, freq="ME")
    values = np.random.default_rng(3).normal(0.004, 0.012, (240, 4))
    returns = pd.DataFrame(values, index=index, columns=list("ABCD"))
    best = (returns.mean() / returns.std()).max() * 12**0.5
    verdict = bb.skill_or_luck(returns, benchmark=returns.mean(axis=1))["verdict"]
    assert f"(Sharpe ratio {best:.2f} a year)" in verdict["sentence"]
    assert verdict["reasons"][0] == "240 monthly returns, 12 of them a year"
    assert "periods_per_year=12 is taken from the index" in caplog.text
    short = bb.skill_or_luck(returns.iloc[:59], benchmark=returns.mean(axis=1).iloc[:59])
    assert "share 59 monthly returns, at least 60 are needed" in short["verdict"]["sentence"]


def test_settings_are_those_of_the_sweep():
    settings = bb.OverfittingSettings(blocks=8, draws=200, seed=3)
    found = bb.skill_or_luck(noise(5), settings=settings)
    assert found["settings"]["blocks"] == 8
    assert found["pbo_blocks"] == 8


def test_one_series_is_no_selection():
    found = bb.skill_or_luck(noise(1))
    assert found["verdict"]["label"] == "cannot_tell"
    assert bb.skill_or_luck(noise(1)["t0"]) == found


def test_a_benchmark_may_be_a_frame_of_one_column():
    returns, benchmark = noise(3), noise(1, seed=3)
    assert bb.skill_or_luck(returns, benchmark) == bb.skill_or_luck(returns, benchmark["t0"])
    for other in (benchmark["t0"].to_numpy(), noise(2)):
        with pytest.raises(bb.DataError, match="`benchmark` must be a Series, but is a "):
            bb.skill_or_luck(returns, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda returns: 100 * (1 + returns).cumprod(), "look like prices, equity or percent"),
        (lambda returns: (1 + returns).cumprod(), "0.01 is 1 %"),
        (lambda returns: 100 * returns, "look like prices, equity or percent"),
        (lambda returns: returns * 1j, "the returns of t0 must be numbers: .*complex"),
        (lambda returns: returns > 0, "are true and false"),
        (lambda returns: returns.astype(object).assign(t1="x"), "the returns of t1 must be num"),
        (lambda returns: returns.replace(returns.iloc[7, 2], np.inf), "of t2 .* infinite at 2010"),
        (lambda returns: returns.set_axis(["a", "b", "a"], axis=1), "the column a twice"),
        (lambda returns: returns.set_axis(INDEX[[0, *range(999)]]), "2010-01-01 00:00:00 twice"),
        (lambda returns: returns.to_numpy(), "must be a DataFrame, but is a ndarray"),
    ],
)
def test_what_are_no_returns_is_refused(make, message):
    with pytest.raises(bb.DataError, match=message):
        bb.skill_or_luck(make(noise(3)))


def test_returns_that_are_rare_or_ruinous_are_returns():
    returns = noise(3).astype("Float64")
    returns.iloc[:, 0] = 0.0
    returns.iloc[7, 0] = 0.9  # it traded once
    returns.iloc[:100, 1] = pd.NA
    returns.iloc[999, 2] = -1.5  # a short that lost more than there was
    assert bb.skill_or_luck(returns)["verdict"]["label"] in ("luck", "cannot_tell")


def test_an_index_that_does_not_fit_is_refused():
    with pytest.raises(bb.DataError, match="DatetimeIndex"):
        bb.skill_or_luck(noise(3).reset_index(drop=True))
    with pytest.raises(bb.DataError, match="the same index"):
        bb.skill_or_luck(noise(3), noise(1)["t0"].iloc[1:])
    with pytest.raises(bb.ConfigurationError, match="periods_per_year=0: must be > 0"):
        bb.skill_or_luck(noise(3), periods_per_year=0)


def test_returns_of_two_lengths_are_refused():
    index = pd.date_range("2015-01-01", "2019-12-31", freq="BME").append(
        pd.bdate_range("2020-01-01", "2020-12-31")
    )
    returns = pd.DataFrame({"a": np.random.default_rng(0).normal(0, 0.01, len(index))}, index)
    with pytest.raises(bb.DataError, match="cut the index at 2020-01-01 or after 2019-12-31"):
        bb.skill_or_luck(returns)


def loaded(n_trials=8, skill=0.0):
    """Return trials that hold a factor which pays, and the factors."""
    draw = np.random.default_rng(7)
    factors = pd.DataFrame(0.004 * draw.standard_normal((1_000, 2)), INDEX, ["HML", "SMB"])
    factors["HML"] += 0.0006
    returns = noise(n_trials, seed=5) * 0.2 + factors[["HML"]].to_numpy()
    returns["t0"] += skill
    return returns, factors


def test_what_a_factor_explains_is_luck_where_it_is_given():
    returns, factors = loaded()
    assert bb.skill_or_luck(returns, "none").label == "skill"
    found = bb.skill_or_luck(returns, "none", factors=factors)
    assert found.label == "luck"
    assert "but not the factors HML, SMB" in found.sentence
    skilled, _ = loaded(skill=0.001)
    assert bb.skill_or_luck(skilled, "none", factors=factors).label == "skill"


def test_factors_in_columns_in_files_and_in_memory_are_the_same(tmp_path):
    returns, factors = loaded()
    expected = bb.skill_or_luck(returns, "none", factors=factors)
    together = returns.join(factors)
    assert bb.skill_or_luck(together, "none", factors=["HML", "SMB"]) == expected
    file = tmp_path / "ff.csv"
    (100 * factors).assign(RF=0.01).to_csv(file, index_label="date")
    given = {"file": str(file), "unit": "percent"}
    found = bb.skill_or_luck(returns, "none", factors=given)
    assert found["factors"]["betas"] == pytest.approx(expected["factors"]["betas"])
    assert found["factors"]["n_bars"] == 1_000
    assert any("RF is the risk-free rate and no factor" in note for note in found.notes)
    one = bb.skill_or_luck(together, "none", factors="HML")
    assert one["factors"]["names"] == ["HML"]
    assert one["n_trials"] == 9  # SMB is a trial now


def test_factors_that_end_early_are_said():
    returns, factors = loaded(skill=0.002)
    found = bb.skill_or_luck(returns, "none", factors=factors.iloc[:900])
    assert found["factors"]["n_bars"] == 900
    assert "the factors are known on 900 of 1,000 bars" in found.reasons


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["HMX"], bb.ConfigurationError, "factors=HMX: is no column of the returns"),
        ("T1", bb.ConfigurationError, "did you mean t1"),
        (["t1", "t1"], bb.ConfigurationError, "names a column twice: t1, t1"),
        ({"path": "ff.csv"}, bb.ConfigurationError, "factors: must be the path of a file"),
        ("nowhere.csv", bb.DataError, "nowhere.csv: no such file"),
        ([f"t{n}" for n in range(8)], bb.DataError, "no trial beside the benchmark and the fact"),
        (1, bb.ConfigurationError, "factors: must be the path of a file"),
    ],
)
def test_factors_that_there_are_not_are_refused(given, error, message):
    returns, _ = loaded()
    with pytest.raises(error, match=message):
        bb.skill_or_luck(returns, "none", factors=given)


def test_of_trials_that_all_lose_no_power_beyond_a_single_test_is_claimed():
    found = bb.skill_or_luck(noise(4) - 0.01, benchmark="none")
    power = found["inference"]["power"]
    assert power == found["inference"]["single_test"]["power"] < 0.5
    assert f"found in {100 * power:.0f} % of such samples" in found["verdict"]["sentence"]


def test_any_number_of_trials_is_counted_or_refused():
    found = bb.skill_or_luck(noise(4), benchmark="none", n_trials=10**18)
    assert (
        "the best of 1,000,000,000,000,000,000 trials, 4 testable" in found["verdict"]["sentence"]
    )
    with pytest.raises(bb.ConfigurationError, match="n_trials: must be at most"):
        bb.skill_or_luck(noise(4), n_trials=10**400)
