"""Evidence by betting: against an independent computation, and how often it is wrong."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from backtest_batch.analysis.sequential import (
    ENOUGH,
    EXPECTED_SHARPE,
    LARGEST_STAKE,
    held_bars,
    money_of_bets,
    stakes,
)

DAYS = 252.0


def money_of_one(returns, ratio, scale, bars_a_year, dependence=1):
    """One bettor, bar by bar, as a person would keep the book."""
    held, book, since, squares, seen = held_bars(bars_a_year, dependence), 1.0, 0.0, 0.0, 0
    money, stake = [], ratio / scale
    for bar, value in enumerate(returns):
        if bar % held == 0:
            book, since = (money[-1] if money else 1.0), 0.0
            known = 0.25 * bars_a_year
            usual = (known * scale**2 + squares) / (known + seen)
            stake = ratio / max(scale, math.sqrt(usual))
        since += value
        squares, seen = squares + value**2, seen + 1
        money.append(book * max(0.0, 1.0 + stake * since))
    return money


@pytest.mark.parametrize(("dependence", "held"), [(1, 10), (22.5, 23)])
def test_the_money_is_the_mean_of_sixteen_books(dependence, held):
    returns = np.random.default_rng(3).standard_t(4, 137) * 0.01 + 0.001
    assert held_bars(DAYS, dependence) == held
    expected = np.mean(
        [
            money_of_one(returns - 0.0005, ratio, 0.009, DAYS, dependence)
            for ratio in stakes(DAYS, held)
        ],
        axis=0,
    )
    found = money_of_bets(returns, 0.0005, scale=0.009, bars_a_year=DAYS, dependence=dependence)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_sixteen_stakes_are_the_integral_over_the_prior():
    returns = np.random.default_rng(5).normal(0.2, 1.0, 300)
    scale, largest = EXPECTED_SHARPE / math.sqrt(DAYS), LARGEST_STAKE / math.sqrt(held_bars(DAYS))

    def weighted(ratio):
        money = money_of_one(returns, min(ratio, largest), 1.0, DAYS)[-1]
        return money * stats.halfnorm.pdf(ratio, scale=scale)

    whole, _ = integrate.quad(weighted, 0, 8 * scale, limit=400, points=[largest])
    found = money_of_bets(returns, 0.0, scale=1.0, bars_a_year=DAYS)[-1]
    assert found == pytest.approx(whole, rel=0.05)
    assert whole > 2


def test_a_day_does_not_change_what_was_known_before():
    returns = np.random.default_rng(7).normal(0.0, 0.01, 200)
    whole = money_of_bets(returns, 0.0, scale=0.01, bars_a_year=DAYS)
    for day in (1, 9, 10, 11, 157):
        part = money_of_bets(returns[:day], 0.0, scale=0.01, bars_a_year=DAYS)
        np.testing.assert_array_equal(part, whole[:day])


def test_series_side_by_side_are_as_each_alone():
    returns = np.random.default_rng(8).normal(0.0, 0.01, (57, 4))
    both = money_of_bets(returns, 1e-4, scale=0.01, bars_a_year=DAYS)
    alone = [money_of_bets(item, 1e-4, scale=0.01, bars_a_year=DAYS) for item in returns.T]
    np.testing.assert_allclose(both, np.column_stack(alone), rtol=1e-12)


@pytest.mark.parametrize("factor", [1e-6, 0.01, 100.0])
def test_the_unit_of_the_returns_does_not_matter(factor):
    returns = np.random.default_rng(9).normal(0.01, 1.0, 90)
    one = money_of_bets(returns, 0.02, scale=1.1, bars_a_year=DAYS)
    other = money_of_bets(factor * returns, factor * 0.02, scale=factor * 1.1, bars_a_year=DAYS)
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_money_begins_at_one_and_grows_on_average_by_nothing():
    returns = np.random.default_rng(10).choice([-0.01, 0.01], (60, 20_000))
    money = money_of_bets(returns, 0.0, scale=0.01, bars_a_year=DAYS)
    assert money[-1].mean() == pytest.approx(1.0, abs=4 * money[-1].std() / math.sqrt(20_000))
    assert money[0].max() < 1.2


def test_all_is_lost_at_worst():
    money = money_of_bets(np.array([0.0, -1.0, 5.0]), 0.0, scale=0.001, bars_a_year=12.0)
    assert money.min() == 0.0
    assert money[2] == 0.0


def test_the_money_of_a_certain_gain_can_be_written_down():
    money = money_of_bets(np.full(20_000, 0.05), 0.0, scale=0.01, bars_a_year=DAYS)
    assert np.isfinite(money).all()
    assert (np.diff(money) >= 0).all()


def test_the_stakes_are_half_normal_quantiles_and_bounded():
    # Phi^-1((1 + 1/32) / 2) = 0.039176
    assert stakes(DAYS, 10)[0] == pytest.approx(0.0391761 * 1.5 / math.sqrt(252), rel=1e-5)
    assert stakes(DAYS, 10)[-1] == pytest.approx(0.5 / math.sqrt(10))
    assert [held_bars(n) for n in (1, 12, 52, 252, 365)] == [1, 1, 2, 10, 15]


def paths(kind, generator, n_bars=1_260, n_paths=400):
    noise = generator.standard_normal((n_bars, n_paths))
    if kind == "fat tails":
        return generator.standard_t(4, (n_bars, n_paths)) / math.sqrt(2)
    if kind == "crashes":
        return (math.exp(0.5) - np.exp(noise)) / math.sqrt((math.e - 1) * math.e)
    if kind == "neighbours alike":
        for bar in range(1, n_bars):
            noise[bar] = 0.2 * noise[bar - 1] + math.sqrt(1 - 0.2**2) * noise[bar]
    return noise


@pytest.mark.parametrize("kind", ["normal", "fat tails", "crashes", "neighbours alike"])
def test_five_years_of_daily_looks_mislead_one_in_twenty_at_most(kind):
    returns = paths(kind, np.random.default_rng(11))
    money = money_of_bets(returns, 0.0, scale=1.0, bars_a_year=DAYS)
    wrong = np.mean(money.max(axis=0) >= ENOUGH)
    assert wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


def test_a_gain_is_found_and_sooner_if_it_is_larger():
    noise = np.random.default_rng(12).standard_normal((1_260, 200))
    shares = []
    for sharpe in (0.5, 1.0, 2.0, 4.0):
        money = money_of_bets(noise + sharpe / math.sqrt(DAYS), 0.0, scale=1.0, bars_a_year=DAYS)
        shares.append(np.mean(money.max(axis=0) >= ENOUGH))
    assert shares == sorted(shares)
    assert shares[1] > 0.3
    assert shares[2] > 0.9
    assert shares[3] == 1.0
