import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.walk_forward import available_metrics, measure_windows, per_bar_arrays
from backtest_batch.core.engine.metrics import RESULT_METRICS, equity_metrics, result_metrics
from backtest_batch.core.engine.simulation import SimulationSettings, simulate
from backtest_batch.core.factors import FactorReturns, factor_metrics
from backtest_batch.core.fitting import metrics_from
from backtest_batch.records import Factors
from tests.support.walk_forward_cases import (
    market,
    random_returns,
    runs_of,
    trend_runs,
    trend_simulations,
)

OF_A_WHOLE_RUN = {
    "scaled_decisions",
    "round_trips",
    "win_rate",
    "profit_factor",
    "avg_holding_bars",
    "alpha_factors",
    "r2_factors",
}
"""Metrics that no window has."""

WEIGHTS = np.array([[0.7, 0.3, 0.0, 0.0], [0.0, 0.5, 0.0, 0.5]])


@pytest.mark.parametrize("execution_lag", [0, 1, 2])
def test_on_all_bars_the_metrics_are_those_of_the_run(execution_lag):
    panel = market()
    settings = SimulationSettings(commission_bps=5.0, execution_lag=execution_lag)
    simulations = trend_simulations(panel, settings, rebalance="bar")
    runs = trend_runs(panel, simulations)
    measured = measure_windows(runs, [(range(41, panel.n_bars),)])

    assert measured.names == tuple(name for name in RESULT_METRICS if name not in OF_A_WHOLE_RUN)
    for run, simulation in enumerate(simulations[:-1]):
        # With execution_lag=0 the run is invested on its first measured bar, and pays for it.
        assert (simulation.turnover[0] > 0) == (execution_lag == 0)
        expected, undefined = result_metrics(
            simulation,
            periods_per_year=252.0,
            benchmark_returns=simulations[-1].net_return,
        )
        assert set(undefined) <= OF_A_WHOLE_RUN
        for name in measured.names:
            assert measured.of(name)[0, run] == pytest.approx(expected[name], rel=1e-9), name


def test_exposures_of_a_window_are_those_of_its_measured_bars():
    panel = market()
    simulations = trend_simulations(panel)
    measured = measure_windows(trend_runs(panel, simulations), [(range(120, 200),)])
    for run, simulation in enumerate(simulations[:-1]):
        # The window's first return is that of bar 120: measuring begins at the close of bar 119.
        gross = simulation.gross_exposure[119 - 40 : 200 - 40]
        net = simulation.net_exposure[119 - 40 : 200 - 40]
        assert measured.of("avg_gross_exposure")[0, run] == pytest.approx(gross.mean(), rel=1e-12)
        assert measured.of("avg_net_exposure")[0, run] == pytest.approx(net.mean(), rel=1e-12)
        assert measured.of("max_gross_exposure_realised")[0, run] == gross.max()
        turnover = simulation.turnover[120 - 40 : 200 - 40]
        assert measured.of("turnover_annual")[0, run] == pytest.approx(
            turnover.sum() * 252 / 80, rel=1e-12
        )


def test_an_account_that_was_entered_before_is_measured_from_its_first_measured_bar_on():
    panel = market()
    (simulation, *_) = trend_simulations(panel, rebalance="bar")
    found = metrics_from(60, simulation, panel, periods_per_year=252.0)
    gross = simulation.gross_exposure[59 - 40 :]
    assert found["avg_gross_exposure"] == pytest.approx(gross.mean(), rel=1e-12)
    assert found["max_gross_exposure_realised"] == gross.max()
    assert found["avg_net_exposure"] == pytest.approx(
        simulation.net_exposure[59 - 40 :].mean(), rel=1e-12
    )
    # What was traded up to that bar is in none of the returns.
    turnover = simulation.turnover[60 - 40 :]
    assert simulation.turnover[59 - 40] > 0
    assert found["turnover_annual"] == pytest.approx(
        turnover.sum() * 252 / len(turnover), rel=1e-12
    )


def test_exposures_of_a_window_without_a_bar_before_it_are_those_of_its_bars():
    returns = random_returns(40, 1)
    returns[0] = 0.01
    gross = np.linspace(1.0, 2.0, 40)[:, None]
    measured = measure_windows(runs_of(returns, gross_exposure=gross), [(range(40),)])
    assert measured.of("avg_gross_exposure")[0, 0] == pytest.approx(1.5, rel=1e-12)


def test_a_window_is_measured_as_a_path_of_its_own():
    returns = random_returns(300, 5)
    benchmark = random_returns(300, 1, seed=9)[:, 0]
    runs = runs_of(returns, benchmark=benchmark, risk_free_rate=0.02)
    windows = [range(1, 300), range(1, 2), range(50, 90), range(299, 300)]
    measured = measure_windows(runs, [(window,) for window in windows])

    for row, window in enumerate(windows):
        for run in range(5):
            part = returns[window.start : window.stop, run]
            equity = np.cumprod(np.concatenate(([1.0], 1.0 + part)))
            expected, undefined = equity_metrics(
                equity,
                periods_per_year=252.0,
                risk_free_rate=0.02,
                benchmark_returns=np.concatenate(([np.nan], benchmark[window.start : window.stop])),
            )
            for name in measured.names:
                found = measured.of(name)[row, run]
                if name in undefined:
                    assert np.isnan(found), name
                else:
                    assert found == pytest.approx(expected[name], rel=1e-8, abs=1e-12), name


def test_several_ranges_are_put_end_to_end():
    returns = random_returns(100, 3)
    # Bar 9 is the first measured one; it has no return here.
    joined = np.concatenate((returns[9:30], returns[60:90]))
    runs = runs_of(returns, turnover=np.abs(returns), gross_exposure=np.abs(returns))
    together = runs_of(joined, turnover=np.abs(joined), gross_exposure=np.abs(joined))

    found = measure_windows(runs, [(range(10, 30), range(60, 90))]).values
    np.testing.assert_allclose(
        found, measure_windows(together, [(range(1, 51),)]).values, rtol=1e-9
    )


def test_returns_alone_make_most_metrics_available_and_no_other_is_made_up():
    returns = random_returns(50, 2)
    alone = available_metrics(runs_of(returns))

    assert "sharpe" in alone
    assert "cagr" in alone
    missing = set(RESULT_METRICS) - set(alone) - OF_A_WHOLE_RUN
    assert missing == {
        "alpha",
        "avg_gross_exposure",
        "avg_net_exposure",
        "beta",
        "breakeven_cost_bps",
        "information_ratio",
        "max_gross_exposure_realised",
        "total_costs",
        "trades",
        "turnover_annual",
    }
    given = available_metrics(runs_of(returns, turnover=returns, benchmark=returns[:, 0]))
    assert set(given) - set(alone) == {"alpha", "beta", "information_ratio", "turnover_annual"}
    assert measure_windows(runs_of(returns), [(range(1, 50),)]).names == alone


def test_the_result_of_a_run_does_not_depend_on_the_others():
    returns = random_returns(200, 150)
    windows = [(range(1, 120),), (range(120, 200),), (range(5, 50), range(90, 200))]
    arrays = {"turnover": np.abs(returns), "cost_ratio": np.abs(returns) / 100}
    together = measure_windows(runs_of(returns, **arrays), windows).values
    for run in (0, 77, 149):
        part = {name: values[:, [run]] for name, values in arrays.items()}
        alone = measure_windows(runs_of(returns[:, [run]], **part), windows).values
        np.testing.assert_array_equal(together[:, :, [run]], alone)


def test_memory_maps_and_column_order_change_no_bit(tmp_path):
    returns = random_returns(120, 7)
    np.save(tmp_path / "returns.npy", returns)
    mapped = np.load(tmp_path / "returns.npy", mmap_mode="r")
    windows = [(range(1, 60),), (range(60, 120),)]

    expected = measure_windows(runs_of(returns), windows).values
    np.testing.assert_array_equal(measure_windows(runs_of(mapped), windows).values, expected)
    turned = runs_of(np.asfortranarray(returns))
    np.testing.assert_array_equal(measure_windows(turned, windows).values, expected)


def test_windows_before_the_first_return_or_with_gaps_define_nothing():
    returns = random_returns(60, 3)
    returns[:20, 1] = np.nan
    returns[30, 2] = np.nan
    measured = measure_windows(runs_of(returns), [(range(10, 25),), (range(25, 40),)])

    assert np.isfinite(measured.of("sharpe")[:, 0]).all()
    assert np.isnan(measured.values[:, 0, 1]).all()
    assert np.isfinite(measured.of("sharpe")[1, 1])
    assert np.isfinite(measured.of("sharpe")[0, 2])
    assert np.isnan(measured.values[:, 1, 2]).all()


def test_a_run_that_is_ruined_in_a_window_ends_there():
    returns = random_returns(60, 1)
    returns[40] = -1.5
    returns[41:] = np.nan
    gross = np.ones((60, 1))
    gross[40:] = np.nan
    runs = runs_of(returns, turnover=np.full((60, 1), 0.1), gross_exposure=gross)
    measured = measure_windows(
        runs, [(range(1, 30),), (range(30, 60),), (range(45, 60),), (range(41, 45),)]
    )

    assert measured.of("n_periods")[:2, 0].tolist() == [29, 11]
    assert np.isnan(measured.of("cagr")[1, 0])
    assert np.isnan(measured.of("max_drawdown")[1, 0])
    assert measured.of("sharpe")[1, 0] < 0
    assert measured.of("turnover_annual")[1, 0] == pytest.approx(0.1 * 252)
    assert measured.of("avg_gross_exposure")[1, 0] == 1.0
    assert np.isnan(measured.values[:, 2:]).all()


def explained_by(values, names=("MKT", "SMB"), *, are_excess=True):
    factors = Factors(names=names, content="", are_excess=are_excess)
    return FactorReturns(factors=factors, values=values)


def drivers(n_bars, n_runs):
    """Return two factors, unknown on the first bar and on bar 20, and runs that they explain."""
    factors = random_returns(n_bars, 2, seed=4)
    returns = random_returns(n_bars, n_runs) + factors @ np.random.default_rng(1).normal(
        0, 1, (2, n_runs)
    )
    factors[20, 1] = np.nan
    return factors, returns


@pytest.mark.oracle
@pytest.mark.parametrize("are_excess", [True, False])
def test_what_factors_explain_in_a_window_equals_statsmodels(oracle, are_excess):
    api = oracle("statsmodels.api")
    factors, returns = drivers(200, 3)
    given = explained_by(factors, are_excess=are_excess)
    runs = runs_of(returns, factors=given, risk_free_rate=0.03)
    windows = [(range(1, 200),), (range(30, 50),), (range(10, 40), range(90, 120))]
    measured = measure_windows(runs, windows)

    assert measured.names[-4:] == ("alpha_factors", "r2_factors", "beta_MKT", "beta_SMB")
    for row, ranges in enumerate(windows):
        bars = np.concatenate([np.arange(each.start, each.stop) for each in ranges])
        bars = bars[np.isfinite(factors[bars]).all(axis=1)]
        design = factors[bars] - (0.0 if are_excess else 0.03 / 252)
        for run in range(3):
            excess = returns[bars, run] - 0.03 / 252
            theirs = api.OLS(excess, api.add_constant(design)).fit()
            expected = [theirs.params[0] * 252, theirs.rsquared, *theirs.params[1:]]
            found = measured.values[-4:, row, run]
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_on_all_bars_what_factors_explain_is_that_of_the_run_bit_for_bit():
    factors, returns = drivers(120, 70)
    given = explained_by(factors)
    measured = measure_windows(runs_of(returns, factors=given), [(range(1, 120),)])
    for run in (0, 69):
        whole = factor_metrics(given.factors, factors, returns[:, run], periods_per_year=252.0)
        assert {name: measured.of(name)[0, run] for name in whole} == whole


def test_what_factors_explain_ends_with_ruin_and_is_undefined_where_it_must_be():
    factors, returns = drivers(60, 2)
    returns[40, 0] = -1.0
    returns[41:, 0] = np.nan
    returns[:35, 1] = np.nan
    runs = runs_of(returns, factors=explained_by(factors))
    windows = [(range(1, 60),), (range(1, 41),), (range(41, 60),), (range(50, 53),)]
    measured = measure_windows(runs, windows)
    alpha = measured.of("alpha_factors")

    assert alpha[0, 0] == alpha[1, 0]
    assert np.isfinite(alpha[0, 0])
    # After ruin, before the first return, and with fewer returns than factors and 2.
    assert np.isnan(alpha[2:, 0]).all()
    assert np.isnan(alpha[:2, 1]).all()
    assert np.isfinite(alpha[2, 1])
    assert np.isnan(alpha[3, 1])
    twice = explained_by(factors[:, [0, 0]])
    collinear = measure_windows(runs_of(returns, factors=twice), windows)
    assert np.isnan(collinear.of("beta_MKT")).all()


def test_a_run_ruined_between_two_ranges_defines_nothing():
    returns = random_returns(60, 1)
    returns[40] = -1.0
    returns[41:] = np.nan
    measured = measure_windows(
        runs_of(returns), [(range(1, 30), range(50, 60)), (range(1, 30), range(35, 60))]
    )

    assert np.isnan(measured.values[:, 0]).all()
    assert measured.of("n_periods")[1, 0] == 29 + 6


def test_constant_returns_have_no_sharpe_ratio():
    returns = np.full((50, 1), 0.001)
    returns[0] = np.nan
    measured = measure_windows(runs_of(returns), [(range(1, 50),)])

    assert np.isnan(measured.of("sharpe")[0, 0])
    assert measured.of("volatility")[0, 0] == 0
    assert measured.of("total_return")[0, 0] == pytest.approx(1.001**49 - 1)


def test_arrays_of_simulations():
    panel = market(n_bars=60)
    settings = SimulationSettings(commission_bps=10.0, execution_lag=1)
    simulation = simulate(panel, np.array([5, 20]), WEIGHTS, settings, 4)
    arrays = per_bar_arrays([simulation], panel.n_bars)

    assert {values.shape for values in arrays.values()} == {(60, 1)}
    assert np.isnan(arrays["returns"][:5, 0]).all()
    assert np.isfinite(arrays["returns"][5:, 0]).all()
    assert np.flatnonzero(np.nan_to_num(arrays["trades"][:, 0])).tolist() == [6, 21]
    assert arrays["trades"][[6, 21], 0].tolist() == [2.0, 3.0]
    assert arrays["cost_ratio"][6, 0] == pytest.approx(0.001)
    assert arrays["turnover"][6, 0] == pytest.approx(1.0)
    frame = pd.DataFrame({name: values[4:, 0] for name, values in arrays.items()})
    assert frame.drop(columns="returns").notna().all(axis=None)


def test_shapes_that_disagree_are_refused():
    returns = random_returns(50, 3)
    with pytest.raises(ValueError, match=r"`turnover` must have shape .* = \(50, 3\), but got"):
        runs_of(returns, turnover=returns[:, :2])
    with pytest.raises(ValueError, match=r"`benchmark` must have shape"):
        runs_of(returns, benchmark=returns[:, :1])
    with pytest.raises(ValueError, match="run_ids must be distinct"):
        runs_of(returns, run_ids=("a", "b", "a"))


@pytest.mark.parametrize("windows", [[(range(20, 90),)], [(range(20, 60), range(80, 120))]])
def test_each_run_is_compared_with_its_own_benchmark(windows):
    returns, benchmarks = random_returns(150, 3, 1), random_returns(150, 3, 2)
    benchmarks[100, 2] = np.nan
    together = measure_windows(runs_of(returns, benchmark=benchmarks), windows)
    for run in range(3):
        alone = measure_windows(runs_of(returns[:, [run]], benchmark=benchmarks[:, run]), windows)
        np.testing.assert_array_equal(together.values[:, :, run], alone.values[:, :, 0])
    joined = np.concatenate([np.arange(item.start, item.stop) for item in windows[0]])
    slope = np.polyfit(benchmarks[joined, 1], returns[joined, 1], 1)[0]
    assert together.of("beta")[0, 1] == pytest.approx(slope, rel=1e-9)
    assert np.isnan(together.of("beta")[0, 2]) == (100 in joined)


def test_a_stitched_curve_is_compared_with_the_benchmark_of_what_it_holds():
    returns, benchmarks = random_returns(150, 2, 3), random_returns(150, 2, 4)
    runs = runs_of(returns, benchmark=benchmarks)
    held = np.array([1, 1, -1, 0])
    found = runs.benchmark_on(np.arange(10, 14), np.maximum(held, 0))
    assert found.tolist() == [benchmarks[10, 1], benchmarks[11, 1], *benchmarks[12:14, 0]]
    shared = runs_of(returns, benchmark=benchmarks[:, 0])
    assert shared.benchmark_on(np.arange(10, 12), 1).tolist() == benchmarks[10:12, 0].tolist()
