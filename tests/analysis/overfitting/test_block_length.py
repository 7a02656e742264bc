"""How long the blocks of the bootstrap are."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from backtest_batch.analysis.overfitting import OverfittingSettings, Trial, Trials, assess
from backtest_batch.analysis.overfitting.block_length import automatic_block_lengths

SHORT = OverfittingSettings(blocks=4, draws=100)


def autoregressive(phi, n_bars=1_000, n_series=20, seed=0):
    """Return standard noise in which a share ``phi`` of each bar comes again in the next one."""
    noise = np.random.default_rng(seed).standard_normal((n_bars, n_series))
    return lfilter([1], [1, -phi], noise, axis=0)


def trials(returns, benchmark=None, **facts):
    return Trials(
        returns=0.01 * returns,
        index=pd.bdate_range("2000-01-03", periods=len(returns)),
        runs=[
            Trial(run_id=f"run_{k}", scenario="base", decision=str(k), **facts)
            for k in range(returns.shape[1])
        ],
        benchmarks={} if benchmark is None else {"base": 0.01 * benchmark},
    )


@pytest.mark.oracle
@pytest.mark.parametrize("n_bars", [30, 61, 250, 2_500, 8_000])
def test_the_lengths_are_those_of_arch(n_bars):
    from arch.bootstrap import optimal_block_length

    series = [autoregressive(phi, n_bars, 6, seed=n_bars) for phi in (-0.9, -0.2, 0, 0.3, 0.9, 1)]
    returns = 0.01 * np.hstack(series)
    expected = optimal_block_length(returns)["stationary"].to_numpy()
    np.testing.assert_allclose(automatic_block_lengths(returns), expected, rtol=0, atol=1e-8)


def test_a_length_worked_out_by_hand():
    # From lag 2 on, every autocorrelation is small: M = 4, so that lag 3 counts by half.
    returns = autoregressive(0.2, n_bars=2_000, n_series=1, seed=1)
    x = returns[:, 0] - returns.mean()
    r0, r1, r2, r3 = (x[lag:] @ x[: 2_000 - lag] / 2_000 for lag in range(4))
    g, variance = 2 * (r1 + 2 * r2 + 1.5 * r3), r0 + 2 * (r1 + r2 + 0.5 * r3)
    expected = (g / variance) ** (2 / 3) * 2_000 ** (1 / 3)
    assert automatic_block_lengths(returns) == pytest.approx(expected)


def test_the_longer_the_memory_the_longer_the_blocks_up_to_a_bound():
    medians = [np.median(automatic_block_lengths(autoregressive(phi))) for phi in (0, 0.4, 0.8)]
    assert medians == sorted(medians)
    assert medians[0] < 3 < 10 < medians[2]
    walks = autoregressive(1.0)
    assert automatic_block_lengths(walks).max() <= np.ceil(3 * np.sqrt(1_000))


def test_a_series_that_does_not_vary_has_none():
    returns = autoregressive(0.5)
    returns[:, 3] = 0.25
    lengths = automatic_block_lengths(returns)
    assert np.flatnonzero(np.isnan(lengths)).tolist() == [3]


def test_noise_is_resampled_in_blocks_of_ten():
    document = assess(trials(autoregressive(0)), SHORT)
    assert document["mean_block"] == document["settings"]["mean_block"] == 10


@pytest.mark.parametrize("where", ["returns", "beyond the benchmark", "benchmark"])
def test_the_most_dependent_of_returns_and_market_decides(where):
    noise, slow = autoregressive(0), autoregressive(0.8, seed=1)
    market = autoregressive(0, n_series=1, seed=2)[:, 0]
    given = {
        "returns": (slow, None),
        # Together they hardly remember: the noise of the market drowns the rest.
        "beyond the benchmark": (0.1 * slow + 10 * market[:, None], market),
        "benchmark": (noise, slow[:, 0]),
    }[where]
    block = assess(trials(*given), SHORT)["mean_block"]
    expected = automatic_block_lengths(slow[:, :1] if where == "benchmark" else slow)
    assert block == pytest.approx(np.median(expected), abs=0.5)
    assert block > 10


def test_there_are_at_least_25_blocks_unless_they_are_of_ten_bars():
    document = assess(trials(autoregressive(1.0, n_bars=400)), SHORT)
    assert document["mean_block"] == 16
    assert assess(trials(autoregressive(1.0, n_bars=60)), SHORT)["mean_block"] == 10


def test_a_number_is_taken_as_it_is():
    settings = OverfittingSettings(blocks=4, draws=100, mean_block=3.5)
    document = assess(trials(autoregressive(0.9)), settings)
    assert document["mean_block"] == document["settings"]["mean_block"] == 3.5


def test_scenarios_on_the_same_bars_have_one_block_and_others_their_own():
    returns = np.hstack([autoregressive(0.8), autoregressive(0, seed=3)])
    late = returns.copy()
    late[:500] = np.nan
    given = trials(np.hstack([returns, late[:, 20:]]))
    scenarios = ["cheap"] * 20 + ["dear"] * 20 + ["late"] * 20
    runs = [
        Trial(run_id=f"run_{k}", scenario=name, decision=str(k % 20))
        for k, name in enumerate(scenarios)
    ]
    document = assess(
        Trials(returns=given.returns, index=given.index, runs=runs, benchmarks={}), SHORT
    )
    blocks = [document["mean_block"], *(item["mean_block"] for item in document["scenarios"])]
    assert blocks[0] == blocks[1] > 0
    assert blocks[2] == 10


def test_where_nothing_can_be_tested_there_is_no_block():
    document = assess(trials(np.zeros((100, 3))), SHORT)
    assert document["mean_block"] is None
    assert document["undefined"]["mean_block"]
    assert document["settings"]["mean_block"] == "auto"
