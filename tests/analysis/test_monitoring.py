"""A winner beside its promise, on returns that are made here."""

import math

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.monitoring import (
    Followed,
    dependence_of,
    follow_winner,
    money_against,
    stationary_bars,
)
from backtest_batch.analysis.sequential import money_of_bets

N_OLD, N_NEW = 1_000, 250
INDEX = pd.bdate_range("2018-01-01", periods=N_OLD + N_NEW)


def followed(returns, benchmark=None, index=INDEX, n_old=N_OLD, **changes):
    return Followed(
        **{
            "name": "run_1",
            "since": index[n_old - 1],
            "promised": returns[:n_old],
            "promised_index": index[:n_old],
            "earlier": returns[:n_old],
            "earlier_index": index[:n_old],
            "earlier_benchmark": None if benchmark is None else benchmark[:n_old],
            "returns": returns[n_old:],
            "index": index[n_old:],
            "benchmark": None if benchmark is None else benchmark[n_old:],
            "benchmark_name": "" if benchmark is None else "SPY",
            "periods_per_year": 252.0,
            **changes,
        }
    )


def noise(seed, n=N_OLD + N_NEW, mean=0.0):
    return mean + np.random.default_rng(seed).normal(0.0, 0.01, n)


def test_the_bands_are_those_of_independent_normal_returns():
    returns = noise(1, mean=0.0005)
    past = returns[:N_OLD]
    mean, deviation = past.mean(), past.std(ddof=1)
    document = follow_winner(followed(returns)).document
    band = document["promised"]["sharpe"]
    middle, error = mean / deviation * math.sqrt(252), math.sqrt(252 / N_NEW)
    assert band["low"] == pytest.approx(middle - 1.645 * error, abs=0.25)
    assert band["high"] == pytest.approx(middle + 1.645 * error, abs=0.25)
    logs = np.log1p(past)
    for end, sign in (("low", -1), ("high", 1)):
        log_return = N_NEW * logs.mean() + sign * 1.645 * logs.std() * math.sqrt(N_NEW)
        assert math.log1p(document["promised"]["return"][end]) == pytest.approx(
            log_return, abs=0.03
        )
        whole = mean + sign * 1.645 * deviation / math.sqrt(N_OLD)
        assert document["promised"]["mean_return"][end] == pytest.approx(whole, abs=1.5e-4)


def test_the_drawn_bars_are_blocks_of_the_mean_length():
    drawn = stationary_bars(50, 2_000, 40, 10.0, np.random.default_rng(3))
    assert drawn.shape == (40, 2_000)
    assert (drawn.min(), drawn.max()) == (0, 49)
    # A block that begins anew goes on by chance one time in fifty.
    breaks = np.mean(np.diff(drawn, axis=1) % 50 != 1)
    assert breaks == pytest.approx(0.98 / 10.0, rel=0.05)
    assert np.bincount(drawn.ravel()).std() / np.bincount(drawn.ravel()).mean() < 0.1


def test_beyond_the_benchmark_is_at_the_slope_of_the_batch():
    benchmark = noise(5)
    own = noise(6, mean=0.0002)
    returns = own + 0.7 * benchmark
    found = follow_winner(followed(returns, benchmark))
    slope, _ = np.polyfit(benchmark[:N_OLD], returns[:N_OLD], 1)
    beyond = returns - slope * benchmark
    money = money_of_bets(beyond[N_OLD:], 0.0, scale=beyond[:N_OLD].std(ddof=1), bars_a_year=252.0)
    np.testing.assert_allclose(found.curve["evalue_holds"], np.maximum.accumulate(money))
    assert found.document["evalue_now"]["holds"] == pytest.approx(money[-1])
    lowest = found.document["promised"]["mean_return"]["low"]
    money = money_of_bets(
        -returns[N_OLD:],
        -lowest,
        scale=returns[:N_OLD].std(ddof=1),
        bars_a_year=252.0,
        dependence=float(dependence_of(returns[:N_OLD])),
    )
    assert found.document["evalue"]["broken"] == pytest.approx(money.max())


def test_a_market_that_rises_is_no_evidence_for_what_follows_it():
    benchmark = noise(7, mean=0.004)
    assert follow_winner(followed(benchmark + noise(8) / 5)).answer == "holds"
    against = follow_winner(followed(benchmark + noise(8) / 5, benchmark))
    assert against.document["evalue"]["holds"] < 20
    same = follow_winner(followed(benchmark, benchmark))
    assert same.document["evalue"]["holds"] == 1.0


def test_a_rate_is_subtracted_from_both():
    benchmark, returns = noise(9), noise(10, mean=0.0004)
    rate = 0.05
    with_rate = follow_winner(followed(returns, benchmark, risk_free_rate=rate))
    a_day = rate / 252
    without = follow_winner(followed(returns - a_day, benchmark - a_day))
    for kind in ("realised", "evalue"):
        for name in ("sharpe",) if kind == "realised" else ("holds", "broken"):
            assert with_rate.document[kind][name] == pytest.approx(without.document[kind][name])


def test_both_can_be_true_and_then_it_is_broken():
    returns = np.r_[noise(11, N_OLD, mean=0.01), noise(12, N_NEW, mean=0.004)]
    found = follow_winner(followed(returns))
    assert min(found.document["evalue"].values()) >= 20
    assert found.answer == "broken"
    assert "it still earns more than its benchmark" in found.document["sentence"]


def test_ruin_is_broken_whatever_the_evidence_says():
    returns = noise(13, N_OLD + 1)
    returns[-1] = -1.0
    index = INDEX[: N_OLD + 1]
    found = follow_winner(followed(returns, index=index, ruined="2021-11-01"))
    assert found.answer == "broken"
    assert found.document["sentence"] == "broken: run_1 lost everything, at 2021-11-01"
    assert found.document["realised"]["return"] == -1.0
    assert found.document["realised"]["sharpe"] is None
    assert found.document["promised"]["sharpe"] == {"low": None, "high": None}


def test_returns_within_days_are_those_of_the_days():
    n_days, n_hours = 400, 5
    days = pd.bdate_range("2020-01-01", periods=n_days, tz="America/New_York")
    hours = pd.DatetimeIndex(
        [day + pd.Timedelta(hours=10 + hour) for day in days for hour in range(n_hours)]
    )
    returns = noise(14, n_days * n_hours, mean=0.0003) / 3
    compounded = np.multiply.reduceat(1 + returns, np.arange(0, len(returns), n_hours)) - 1
    found = follow_winner(
        followed(returns, index=hours, n_old=300 * n_hours, periods_per_year=252.0 * n_hours)
    )
    expected = follow_winner(followed(compounded, index=days, n_old=300))
    assert (found.document["n_bars"], found.document["n_returns"]) == (500, 100)
    for name in ("realised", "evalue"):
        assert found.document[name] == pytest.approx(expected.document[name], rel=1e-9)
    for name, band in expected.document["promised"].items():
        assert found.document["promised"][name] == pytest.approx(band, rel=1e-9)


def test_a_long_stretch_takes_the_memory_of_a_short_one():
    n_new = 5_000
    index = pd.date_range("1900-01-01", periods=N_OLD + n_new, freq="D")
    returns = noise(15, N_OLD + n_new) / 10
    found = follow_winner(followed(returns, index=index, periods_per_year=365.0))
    assert found.curve["promised_low"].notna().sum() == 400
    assert np.isfinite(found.document["evalue"]["holds"])


def test_returns_that_are_alike_have_their_stakes_held_for_longer():
    alike = np.repeat(noise(16, 400), 20)
    assert dependence_of(noise(17, 2_000)) < 10
    assert 40 < dependence_of(alike) <= len(alike) / 10
    assert dependence_of(np.zeros(50)) == 0


@pytest.mark.parametrize("name", ["holds", "broken"])
def test_both_answers_bet_for_as_long_as_returns_depend_on_each_other(name):
    n_old = n_new = 120
    index = pd.date_range("1990-01-01", periods=n_old + n_new, freq="MS")
    returns = noise(18, n_old + n_new)
    for bar in range(1, len(returns)):
        returns[bar] += 0.6 * returns[bar - 1]
    run = followed(returns, index=index, n_old=n_old, periods_per_year=12.0)
    found = follow_winner(run)
    past, later = returns[:n_old], returns[n_old:]
    bound = 0.0 if name == "holds" else -found.document["promised"]["mean_return"]["low"]
    sign = 1 if name == "holds" else -1
    dependence = float(dependence_of(past))
    assert dependence > 3
    bets = {"scale": past.std(ddof=1), "bars_a_year": 12.0}
    held = money_of_bets(sign * later, bound, dependence=dependence, **bets)
    assert found.document["evalue"][name] == pytest.approx(held.max())
    assert held.max() != pytest.approx(money_of_bets(sign * later, bound, **bets).max())


def test_series_beside_each_other_are_bet_on_as_alone():
    then = np.column_stack([noise(19, 300), np.repeat(noise(20, 30), 10), np.zeros(300)])
    now = np.column_stack([noise(seed, 90) for seed in (21, 22, 23)])
    bounds = np.array([0.0, 0.001, -0.001])
    together = money_against(now, bounds, then, 252.0)
    for one in range(3):
        alone = money_against(now[:, one], bounds[one], then[:, one], 252.0)
        np.testing.assert_allclose(together[:, one], alone, rtol=1e-12)
    assert (together[:, 2] == 1.0).all()
