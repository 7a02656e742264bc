"""One pass over the returns finds what numpy and scipy find column by column."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kurtosis, linregress, skew

from backtest_batch.analysis.overfitting.multiple_tests import stationary_counts
from backtest_batch.analysis.overfitting.samples import Trial, Trials, samples
from backtest_batch.analysis.overfitting.sharpe import (
    DailyReturns,
    all_equal,
    measure_moments,
)


def make(n_bars=301, n_runs=300, scenarios=("a", "b"), rates=None, **changes):
    """Return trials in alternating scenarios; ``rates`` are risk-free returns by scenario."""
    rates = rates or {}
    generator = np.random.default_rng(n_runs)
    market = 0.0004 + 0.01 * generator.standard_normal(n_bars)
    returns = 0.6 * market[:, None] + 0.01 * generator.standard_t(5, (n_bars, n_runs))
    return Trials(
        **{
            "returns": returns,
            "index": pd.bdate_range("2000-01-03", periods=n_bars),
            # Scenarios alternate, as in a grid.
            "runs": [
                Trial(
                    run_id=f"run_{k}",
                    scenario=(name := scenarios[k % len(scenarios)]),
                    decision=f"d{k}",
                    risk_free=rates.get(name, 0.0),
                )
                for k in range(n_runs)
            ],
            "benchmarks": {name: market * (k + 1) for k, name in enumerate(scenarios)},
            **changes,
        }
    )


def measured(trials, blocks=6, draws=100):
    daily = DailyReturns(trials, samples(trials))
    counts = stationary_counts(daily.n_bars, draws, 10, 0)
    return daily, counts, measure_moments(daily, counts, blocks)


def assert_moments(moments, returns, counts, blocks=6):
    np.testing.assert_allclose(moments.mean, returns.mean(axis=0), atol=1e-16)
    np.testing.assert_allclose(moments.std, returns.std(axis=0, ddof=1))
    np.testing.assert_allclose(moments.skew, skew(returns), atol=1e-10)
    np.testing.assert_allclose(moments.kurtosis, kurtosis(returns, fisher=False))
    length = len(returns) // blocks
    kept = returns[len(returns) - blocks * length :]
    for block in range(blocks):
        rows = kept[block * length : (block + 1) * length]
        np.testing.assert_allclose(moments.sums[block], rows.sum(axis=0), atol=1e-14)
        np.testing.assert_allclose(moments.squares[block], (rows**2).sum(axis=0))
    resampled = counts @ returns / len(returns) - returns.mean(axis=0)
    np.testing.assert_allclose(moments.deviations, resampled, atol=1e-15)


def test_equal_to_numpy_and_scipy_in_every_scenario():
    trials = make()
    daily, counts, found = measured(trials)
    assert daily.columns.tolist() == [*range(0, 300, 2), *range(1, 300, 2)]
    returns = trials.returns[:, daily.columns]
    assert_moments(found.raw, returns, counts)
    beyond = np.empty_like(returns)
    for position, column in enumerate(daily.columns):
        benchmark = trials.benchmarks["ab"[column % 2]]
        line = linregress(benchmark, trials.returns[:, column])
        assert found.beta[position] == pytest.approx(line.slope)
        beyond[:, position] = trials.returns[:, column] - line.slope * benchmark
    # The intercept stays in.
    assert_moments(found.adjusted, beyond, counts)


def test_a_memory_mapped_matrix_of_single_precision(tmp_path):
    trials = make(scenarios=("a",))
    np.save(tmp_path / "returns.npy", trials.returns.astype(np.float32))
    mapped = make(scenarios=("a",), returns=np.load(tmp_path / "returns.npy", mmap_mode="r"))
    found = measured(mapped)[2]
    np.testing.assert_allclose(found.raw.mean, measured(trials)[2].raw.mean, atol=1e-9)


def test_the_order_of_memory_changes_nothing():
    trials = make()
    other = make(returns=np.asfortranarray(trials.returns))
    np.testing.assert_array_equal(
        measured(trials)[2].raw.deviations, measured(other)[2].raw.deviations
    )


def test_intraday_returns_are_compounded_to_days():
    days = pd.bdate_range("2024-01-01", periods=40)
    hours = pd.DatetimeIndex([d + pd.Timedelta(hours=h) for d in days for h in (10, 12, 14)])
    market = 0.01 * np.random.default_rng(1).standard_normal(120)
    runs = 0.01 * np.random.default_rng(2).standard_normal((120, 3))
    trials = make(
        n_runs=3,
        scenarios=("a",),
        returns=runs,
        index=hours,
        benchmarks={"a": market},
        rates={"a": 0.0001},
    )
    daily, counts, found = measured(trials)
    assert daily.n_bars == 40
    expected = (1 + runs).reshape(40, 3, 3).prod(axis=1) - 1.0001**3
    assert_moments(found.raw, expected, counts)
    benchmark = (1 + market).reshape(40, 3).prod(axis=1) - 1.0001**3
    slope = linregress(benchmark, expected[:, 1]).slope
    assert found.beta[1] == pytest.approx(slope)


def test_the_risk_free_rate_is_that_of_the_scenario():
    trials = make(n_runs=4)
    paid = make(n_runs=4, rates={"b": 0.0002})
    difference = measured(trials)[2].raw.mean - measured(paid)[2].raw.mean
    np.testing.assert_allclose(difference, [0, 0, 0.0002, 0.0002], atol=1e-15)


def test_what_lies_between_two_common_bars_is_compounded_into_the_later_one():
    days = pd.date_range("2024-01-01", periods=140)
    weekday = np.asarray(days.dayofweek < 5)
    always, weekly = 0.01 * np.random.default_rng(1).standard_normal((2, 140))
    weekly[~weekday] = np.nan
    market = 0.01 * np.random.default_rng(2).standard_normal(140)
    rate = 0.0001
    trials = Trials(
        returns=np.column_stack([always, weekly]),
        index=days,
        runs=[
            Trial(run_id="daily", scenario="a", decision="1", benchmark="b", calendar="all",
                  risk_free=rate),
            Trial(run_id="week", scenario="a", decision="2", benchmark="c", calendar="week"),
        ],
        benchmarks={"b": market, "c": np.where(weekday, market, np.nan)},
        calendars={"all": np.ones(140, dtype=bool), "week": weekday},
    )  # fmt: skip
    daily, counts, found = measured(trials)
    # The weekend belongs to the Monday; the last Friday is the last day that both have.
    ends = np.flatnonzero(weekday)
    starts = np.r_[0, ends[:-1] + 1]
    pairs = list(zip(starts, ends, strict=True))
    whole = [np.prod(1 + always[a : b + 1]) - (1 + rate) ** (b + 1 - a) for a, b in pairs]
    assert daily.n_bars == 100
    assert_moments(found.raw, np.column_stack([whole, weekly[ends]]), counts)
    beside = [np.prod(1 + market[a : b + 1]) - (1 + rate) ** (b + 1 - a) for a, b in pairs]
    assert found.beta[0] == pytest.approx(linregress(beside, whole).slope)
    assert found.beta[1] == pytest.approx(linregress(market[ends], weekly[ends]).slope)


def test_no_benchmark_no_adjusted_returns():
    found = measured(make(n_runs=4, benchmarks={"a": np.zeros(301)}))[2]
    assert np.isnan(found.beta).all()
    assert np.isnan(found.adjusted.mean).all()
    assert np.isfinite(found.raw.mean).all()


def test_equal_runs_are_equal_but_for_rounding():
    one = 0.01 * np.random.default_rng(0).standard_normal((100, 1))
    same = np.hstack([one, one, one * (1 + 1e-13)])
    assert all_equal(measured(make(n_bars=100, n_runs=3, returns=same))[2].raw)
    other = np.hstack([one, one[::-1], one])
    assert not all_equal(measured(make(n_bars=100, n_runs=3, returns=other))[2].raw)
