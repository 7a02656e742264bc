import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from numpy.testing import assert_allclose

from backtest_batch.arrays import FloatArray
from backtest_batch.core.engine.metric_kernels import PathMetrics
from backtest_batch.core.engine.metrics import (
    ACCOUNT_METRICS,
    EQUITY_METRICS,
    EXECUTION_METRICS,
    METRICS,
    RESULT_METRICS,
    AccountSums,
    equity_metrics,
    metric_named,
    periods_per_year_of,
    result_metrics,
    result_names,
)
from backtest_batch.core.engine.simulation import (
    Simulation,
    SimulationSettings,
    simulate,
    simulate_many,
)
from tests.support.engine_markets import Case, cases, make_panel

PPY = 252.0
ROOT = Path(__file__).parents[3]

PATHS = hypothesis_numpy.arrays(
    np.float64,
    st.integers(1, 120),
    elements=st.sampled_from([-0.05, -0.01, 0.0, 0.01, 0.02]) | st.floats(-0.2, 0.2),
)


def path_of(returns: FloatArray) -> FloatArray:
    return np.concatenate(([100.0], 100.0 * np.cumprod(1 + returns)))


def one_asset(prices: list[float], commission_bps: float = 0.0) -> Simulation:
    """Hold the asset from the first bar on."""
    conditions = SimulationSettings(
        initial_capital=1000.0, commission_bps=commission_bps, execution_lag=0
    )
    return simulate(make_panel(prices), np.array([0]), np.array([[1.0]]), conditions)


def test_every_metric_of_the_contract_is_there_in_order() -> None:
    assert RESULT_METRICS == (
        "final_pf",
        "total_return",
        "cagr",
        "volatility",
        "sharpe",
        "sortino",
        "calmar",
        "max_drawdown",
        "max_drawdown_duration",
        "var_95",
        "cvar_95",
        "skew",
        "kurtosis",
        "hit_rate",
        "turnover_annual",
        "avg_gross_exposure",
        "avg_net_exposure",
        "max_gross_exposure_realised",
        "trades",
        "total_costs",
        "n_periods",
        "beta",
        "alpha",
        "information_ratio",
        "breakeven_cost_bps",
        "scaled_decisions",
        "round_trips",
        "win_rate",
        "profit_factor",
        "avg_holding_bars",
        "alpha_factors",
        "r2_factors",
    )
    assert RESULT_METRICS[:-2] == ACCOUNT_METRICS
    assert EXECUTION_METRICS == ("runtime_s", "cpu_s", "peak_rss_mb", "attempts")
    assert tuple(METRICS) == RESULT_METRICS + EXECUTION_METRICS
    assert set(EQUITY_METRICS) < set(RESULT_METRICS)


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.direction in (-1, 0, 1)
        assert metric.meaning
        assert metric.formula
        assert metric.execution is (name in EXECUTION_METRICS)
    assert METRICS["sharpe"].direction == 1
    assert METRICS["max_drawdown"].direction == 1
    assert METRICS["volatility"].direction == -1
    assert METRICS["beta"].direction == 0


def test_a_slope_on_a_factor_is_a_metric_without_a_direction() -> None:
    metric = metric_named("beta_Mkt-RF")
    assert metric is not None
    assert metric.direction == 0
    assert metric_named("beta_") is None
    assert metric_named("sharp") is None
    assert metric_named("beta") is METRICS["beta"]
    names = {"beta_b", "r2_factors", "sharpe", "beta_a", "runtime_s", "other"}
    assert result_names(names) == ["sharpe", "r2_factors", "beta_a", "beta_b", "other"]


def test_every_value_takes_what_its_metric_says_it_needs() -> None:
    known = {
        "turnover": {"turnover": 2.0},
        "cost_ratio": {"cost_ratio": 0.1, "cost": 10.0},
        "gross_exposure": {
            "gross_exposure": 3.0,
            "max_gross_exposure": 1.5,
            "n_exposure_bars": 4.0,
        },
        "net_exposure": {"net_exposure": 1.0, "n_exposure_bars": 4.0},
        "trades": {"n_trades": 5.0},
        "orders": {"n_scaled": 1.0},
        "round_trips": {
            "n_trips": 2.0,
            "n_wins": 1.0,
            "held_bars": 7.0,
            "gained": 3.0,
            "lost": 1.0,
        },
    }
    for name in ACCOUNT_METRICS:
        metric = METRICS[name]
        assert set(metric.needs) <= {*known, "benchmark"}
        if metric.value is None:
            assert name in PathMetrics._fields
            assert set(metric.needs) <= {"benchmark"}
            continue
        given = {key: value for need in metric.needs for key, value in known[need].items()}
        of = AccountSums(periods_per_year=PPY, n_periods=9.0, mean_return=0.001, **given)
        assert np.isfinite(metric.value(of)), name
        for need in metric.needs:
            without = {key: value for key, value in given.items() if key not in known[need]}
            of = AccountSums(periods_per_year=PPY, n_periods=9.0, mean_return=0.001, **without)
            assert np.isnan(metric.value(of)), name
    in_kernel = {name for name in ACCOUNT_METRICS if METRICS[name].value is None}
    assert set(PathMetrics._fields) == in_kernel | {"mean_return"}


def test_a_metric_is_one_entry_in_the_table(tmp_path: Path) -> None:
    """The recipe of docs/extending.md, on a copy of the package: runs and windows have it then."""
    page = (ROOT / "docs" / "extending.md").read_text("utf-8").split("## A metric")[1]
    entry = page.split("```python\n")[1].split("```")[0].split("Metric\n\n")[1]
    package = tmp_path / "backtest_batch"
    shutil.copytree(
        ROOT / "src" / "backtest_batch", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    table = package / "core" / "engine" / "metrics.py"
    start, end = table.read_text("utf-8").split(')\n"""Metrics of the result of a run;')
    table.write_text(
        start + entry.rstrip() + ',\n)\n"""Metrics of the result of a run;' + end, encoding="utf-8"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RECIPE, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


RECIPE = """
import sys
import numpy as np
import pandas as pd
import backtest_batch
from backtest_batch.analysis.run_table import direction_of
from backtest_batch.analysis.walk_forward import ScenarioRuns, measure_windows, per_bar_arrays
from backtest_batch.core.engine.metrics import METRICS, result_metrics
from backtest_batch.core.engine.simulation import SimulationSettings, simulate
from backtest_batch.core.data.panel import panel_from_frames

assert backtest_batch.__file__.startswith(sys.argv[1])
assert METRICS["cost_drag"].direction == direction_of("cost_drag") == -1
index = pd.bdate_range("2020-01-01", periods=5)
panel = panel_from_frames(pd.DataFrame({"A": [100.0, 110, 99, 99, 108.9]}, index=index))
settings = SimulationSettings(commission_bps=100.0, execution_lag=0)
run = simulate(panel, np.array([0]), np.array([[1.0]]), settings)
metrics, _ = result_metrics(run, periods_per_year=4)
assert abs(metrics["cost_drag"] - 0.01) < 1e-12, metrics
runs = ScenarioRuns(
    scenario="",
    run_ids=("run",),
    index=index,
    parameters=pd.DataFrame(index=range(1)),
    periods_per_year=4,
    **per_bar_arrays([run], 5),
)
found = measure_windows(runs, [(range(1, 5),), (range(3, 5),)]).of("cost_drag")
assert np.allclose(found[:, 0], (0.01, 0.0)), found
"""


def test_periods_per_year() -> None:
    assert periods_per_year_of("1d") == 252
    assert periods_per_year_of("5min") == 252 * 78
    with pytest.raises(ValueError, match="freq must be one of 1d, 5min, but got '1h'"):
        periods_per_year_of("1h")


def test_metrics_by_hand() -> None:
    simulation = one_asset([100, 110, 99, 99, 108.9], commission_bps=100)
    # 1000 buys 10 shares; the cost of 10 shows in the first return: 1000, 1090, 980, 980, 1079.
    returns = np.array([0.09, 980 / 1090 - 1, 0.0, 1079 / 980 - 1])
    metrics, undefined = result_metrics(simulation, periods_per_year=4, risk_free_rate=0.02)
    excess = returns - 0.005
    expected = {
        "final_pf": 1.079,
        "total_return": 0.079,
        "cagr": 0.079,
        "volatility": 2 * returns.std(ddof=1),
        "sharpe": 2 * excess.mean() / returns.std(ddof=1),
        "sortino": 2 * excess.mean() / np.sqrt(np.mean(np.minimum(excess, 0) ** 2)),
        "calmar": 0.079 / (110 / 1090),
        "max_drawdown": -110 / 1090,
        "max_drawdown_duration": 3,
        "var_95": np.quantile(returns, 0.05),
        "cvar_95": 980 / 1090 - 1,
        "skew": np.mean((returns - returns.mean()) ** 3) / returns.std() ** 3,
        "kurtosis": np.mean((returns - returns.mean()) ** 4) / returns.std() ** 4,
        "hit_rate": 2 / 3,
        "turnover_annual": 1.0,
        "avg_gross_exposure": np.mean([1, 1100 / 1090, 990 / 980, 990 / 980, 1089 / 1079]),
        "avg_net_exposure": np.mean([1, 1100 / 1090, 990 / 980, 990 / 980, 1089 / 1079]),
        "max_gross_exposure_realised": 990 / 980,
        "trades": 1,
        "total_costs": 10,
        "n_periods": 4,
        "breakeven_cost_bps": (returns.sum() + 0.01) * 1e4,
        "scaled_decisions": 0,
        "round_trips": 0,
    }
    assert metrics == pytest.approx(expected, rel=1e-12)
    assert tuple(metrics) == tuple(name for name in RESULT_METRICS if name in expected)
    assert undefined == (
        "beta",
        "alpha",
        "information_ratio",
        "win_rate",
        "profit_factor",
        "avg_holding_bars",
    )


@settings(deadline=None, max_examples=150)
@given(PATHS, st.sampled_from([0.0, 0.03]))
def test_path_metrics_equal_their_formulas(returns: FloatArray, risk_free_rate: float) -> None:
    equity = path_of(returns)
    metrics, undefined = equity_metrics(equity, periods_per_year=PPY, risk_free_rate=risk_free_rate)
    r = equity[1:] / equity[:-1] - 1
    x = r - risk_free_rate / PPY
    n = len(r)
    peak = np.maximum.accumulate(equity)
    drawdown = equity / peak - 1
    expected = {
        "final_pf": equity[-1] / 100,
        "total_return": equity[-1] / 100 - 1,
        "cagr": (equity[-1] / 100) ** (PPY / n) - 1,
        "var_95": np.quantile(r, 0.05),
        "cvar_95": r[r <= np.quantile(r, 0.05)].mean(),
        "n_periods": n,
    }
    if np.ptp(r) > 1e-9:
        expected["volatility"] = r.std(ddof=1) * np.sqrt(PPY)
        expected["sharpe"] = x.mean() / x.std(ddof=1) * np.sqrt(PPY)
        expected["skew"] = np.mean((r - r.mean()) ** 3) / r.std() ** 3
        expected["kurtosis"] = np.mean((r - r.mean()) ** 4) / r.std() ** 4
    if drawdown.min() < -1e-9:
        expected["calmar"] = expected["cagr"] / -drawdown.min()
        expected["max_drawdown"] = drawdown.min()
    if x.min() < -1e-9:
        expected["sortino"] = x.mean() / np.sqrt(np.mean(np.minimum(x, 0) ** 2)) * np.sqrt(PPY)
    for name, value in expected.items():
        if np.isfinite(value):
            assert metrics[name] == pytest.approx(value, rel=1e-7, abs=1e-9), name
    assert -1 <= metrics["max_drawdown"] <= 0
    assert all(np.isfinite(value) for value in metrics.values())
    assert set(metrics) | set(undefined) == set(EQUITY_METRICS)
    assert not set(metrics) & set(undefined)


@settings(deadline=None, max_examples=150)
@given(PATHS)
def test_value_at_risk_has_the_bits_of_numpy(returns: FloatArray) -> None:
    equity = path_of(returns)
    metrics, _ = equity_metrics(equity, periods_per_year=PPY)
    assert metrics["var_95"] == np.quantile(equity[1:] / equity[:-1] - 1, 0.05)


@pytest.mark.parametrize("n", [1, 2, 20, 21, 22, 41, 1000, 8313])
def test_value_at_risk_of_many_sizes(n: int) -> None:
    rng = np.random.default_rng(n)
    for draws in (rng.normal(0, 0.01, n), rng.standard_t(2, n) / 100, rng.exponential(0.01, n)):
        equity = path_of(np.clip(draws, -0.5, 0.5))
        returns = equity[1:] / equity[:-1] - 1
        metrics, _ = equity_metrics(equity, periods_per_year=PPY)
        assert metrics["var_95"] == np.quantile(returns, 0.05)
        low = returns[returns <= metrics["var_95"]]
        assert metrics["cvar_95"] == pytest.approx(low.mean(), rel=1e-12)


def test_mostly_idle_bars() -> None:
    returns = np.zeros(5000)
    returns[[7, 80, 4000]] = -0.1, 0.2, -0.05
    metrics, _ = equity_metrics(path_of(returns), periods_per_year=PPY)
    assert metrics["var_95"] == 0.0
    assert metrics["cvar_95"] == pytest.approx(-0.15 / 4999)
    assert metrics["hit_rate"] == pytest.approx(1 / 3)


def test_one_bar_defines_no_return() -> None:
    metrics, undefined = result_metrics(one_asset([100]), periods_per_year=PPY)
    assert metrics == {
        "final_pf": 1.0,
        "total_return": 0.0,
        "max_drawdown": 0.0,
        "max_drawdown_duration": 0.0,
        "avg_gross_exposure": 1.0,
        "avg_net_exposure": 1.0,
        "max_gross_exposure_realised": 1.0,
        "trades": 1.0,
        "total_costs": 0.0,
        "n_periods": 0.0,
        "scaled_decisions": 0.0,
        "round_trips": 0.0,
    }
    assert set(metrics) | set(undefined) == set(ACCOUNT_METRICS)


def test_one_return_defines_no_deviation() -> None:
    metrics, undefined = equity_metrics([100, 90], periods_per_year=PPY)
    assert metrics["var_95"] == metrics["cvar_95"] == pytest.approx(-0.1)
    assert metrics["sortino"] == pytest.approx(-np.sqrt(PPY))
    for name in ("volatility", "sharpe", "skew", "kurtosis"):
        assert name in undefined


@pytest.mark.parametrize("rate", [0.0, 0.001, -0.001, 1e-7])
def test_a_constant_return_has_no_deviation(rate: float) -> None:
    # Rounding makes the returns differ in the last bits.
    equity = 1e6 * (1 + rate) ** np.arange(500)
    metrics, undefined = equity_metrics(equity, periods_per_year=PPY, risk_free_rate=0.01)
    assert metrics["volatility"] == 0.0
    for name in ("sharpe", "skew", "kurtosis"):
        assert name in undefined


def test_no_loss_leaves_sortino_and_calmar_undefined() -> None:
    metrics, undefined = equity_metrics([100, 101, 103, 103, 110], periods_per_year=PPY)
    assert metrics["max_drawdown"] == 0.0
    assert metrics["max_drawdown_duration"] == 0.0
    assert "sortino" in undefined
    assert "calmar" in undefined


def test_rounding_is_no_drawdown_and_no_return() -> None:
    equity = 1e6 + np.array([0, 1e-10, -1e-10, 1e-10, -1e-10, 0])
    metrics, undefined = equity_metrics(equity, periods_per_year=PPY)
    assert metrics["max_drawdown"] == 0.0
    for name in ("calmar", "sortino", "sharpe", "hit_rate"):
        assert name in undefined


def test_an_idle_run() -> None:
    panel = make_panel([10.0, 11.0, 12.0])
    idle = simulate(panel, np.array([0]), np.array([[0.0]]), SimulationSettings())
    metrics, undefined = result_metrics(
        idle, periods_per_year=PPY, benchmark_returns=[np.nan, 0.1, 0.2]
    )
    assert metrics["turnover_annual"] == 0.0
    assert metrics["volatility"] == 0.0
    assert metrics["beta"] == 0.0
    assert set(undefined) == {
        "sharpe",
        "sortino",
        "calmar",
        "skew",
        "kurtosis",
        "hit_rate",
        "breakeven_cost_bps",
        "win_rate",
        "profit_factor",
        "avg_holding_bars",
    }


def test_ruin_leaves_what_needs_positive_equity_undefined() -> None:
    panel = make_panel([10.0, 10.0, 12.0, 25.0, 10.0])
    ruined = simulate(panel, np.array([0]), np.array([[-1.0]]), SimulationSettings())
    assert ruined.ruined_bar == 3
    metrics, undefined = result_metrics(ruined, periods_per_year=PPY)
    assert metrics["final_pf"] < 0
    assert metrics["total_return"] == metrics["final_pf"] - 1
    assert metrics["n_periods"] == 3
    for name in ("cagr", "calmar", "max_drawdown"):
        assert name in undefined
    same, _ = equity_metrics(ruined.equity, periods_per_year=PPY)
    assert same == {name: metrics[name] for name in same}


def test_growth_beyond_the_largest_number_is_undefined() -> None:
    _, undefined = equity_metrics([1.0, 2.0], periods_per_year=252.0 * 78)
    assert "cagr" in undefined


def test_against_a_benchmark() -> None:
    rng = np.random.default_rng(2)
    benchmark = rng.normal(0.0005, 0.01, 500)
    returns = 0.0002 + 1.5 * benchmark + rng.normal(0, 0.002, 500)
    metrics, _ = equity_metrics(
        path_of(returns),
        periods_per_year=PPY,
        risk_free_rate=0.02,
        benchmark_returns=np.concatenate(([np.nan], benchmark)),
    )
    risk_free = 0.02 / PPY
    slope, intercept = np.polyfit(benchmark - risk_free, returns - risk_free, 1)
    active = returns - benchmark
    assert metrics["beta"] == pytest.approx(slope, rel=1e-9)
    assert metrics["alpha"] == pytest.approx(intercept * PPY, rel=1e-9)
    assert metrics["information_ratio"] == pytest.approx(
        active.mean() / active.std(ddof=1) * np.sqrt(PPY), rel=1e-9
    )


def test_a_constant_benchmark_defines_no_beta() -> None:
    equity = [100, 101, 99, 104]
    metrics, undefined = equity_metrics(
        equity, periods_per_year=PPY, benchmark_returns=[0.0, 0.01, 0.01, 0.01]
    )
    assert "beta" in undefined
    assert "alpha" in undefined
    assert "information_ratio" in metrics


def test_the_benchmark_itself_has_no_information_ratio() -> None:
    equity = path_of(np.random.default_rng(0).normal(0, 0.01, 100))
    benchmark = np.concatenate(([0.0], equity[1:] / equity[:-1] - 1))
    metrics, undefined = equity_metrics(equity, periods_per_year=PPY, benchmark_returns=benchmark)
    assert metrics["beta"] == pytest.approx(1.0)
    assert metrics["alpha"] == pytest.approx(0.0, abs=1e-12)
    assert "information_ratio" in undefined


def test_a_benchmark_that_is_no_number_somewhere_defines_nothing() -> None:
    _, undefined = equity_metrics(
        [100, 101, 99, 104], periods_per_year=PPY, benchmark_returns=[0.0, 0.01, np.nan, 0.02]
    )
    assert {"beta", "alpha", "information_ratio"} <= set(undefined)


def test_a_benchmark_may_outlast_a_ruined_run() -> None:
    metrics, _ = equity_metrics(
        [100, 110, 90, 0], periods_per_year=PPY, benchmark_returns=[0.0, 0.1, -0.1, 0.0, 0.5, 0.5]
    )
    assert "beta" in metrics


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_benchmark_that_ends_before_the_run_defines_nothing(length: int) -> None:
    benchmark = [0.0, 0.1, -0.1][:length]
    _, undefined = equity_metrics(
        [100, 101, 99, 102], periods_per_year=PPY, benchmark_returns=benchmark
    )
    assert {"beta", "alpha", "information_ratio"} <= set(undefined)


def test_breakeven_cost_leaves_nothing_of_the_mean_return() -> None:
    rng = np.random.default_rng(4)
    panel = make_panel(np.exp(np.cumsum(rng.normal(0.001, 0.01, (800, 4)), axis=0)))
    decisions = np.arange(0, 799, 5)
    weights = rng.dirichlet(np.ones(4), len(decisions))
    free, charged = simulate_many(
        panel,
        decisions,
        weights,
        [SimulationSettings(commission_bps=commission) for commission in (0.0, 5.0)],
    )
    breakeven = result_metrics(free, periods_per_year=PPY)[0]["breakeven_cost_bps"]
    assert breakeven > 0
    # What was paid is put back first, so that the answer hardly depends on it.
    again = result_metrics(charged, periods_per_year=PPY)[0]["breakeven_cost_bps"]
    assert again == pytest.approx(breakeven, rel=1e-3)
    at_breakeven = simulate(panel, decisions, weights, SimulationSettings(commission_bps=breakeven))
    mean = at_breakeven.net_return[1:].mean()
    assert abs(mean) < 0.01 * free.net_return[1:].mean()


def test_cash_at_the_risk_free_rate_is_no_excess() -> None:
    panel = make_panel(np.ones(10))
    settings_ = SimulationSettings(cash_rate=0.02)
    idle = simulate(panel, np.array([0]), np.array([[0.0]]), settings_)
    metrics, _ = result_metrics(idle, periods_per_year=PPY, risk_free_rate=0.02)
    assert metrics["total_costs"] == 0.0
    assert metrics["final_pf"] == pytest.approx(1 + 0.02 * 13 / 365, rel=1e-4)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_periods_per_year_must_be_positive(value: float) -> None:
    with pytest.raises(ValueError, match="`periods_per_year > 0` must hold"):
        equity_metrics([1.0, 2.0], periods_per_year=value)


@pytest.mark.parametrize("equity", [[], [0.0, 1.0], [1.0, -1.0, 2.0], [1.0, np.nan, 1.0], [[1.0]]])
def test_equity_must_be_positive(equity: list[float]) -> None:
    with pytest.raises(ValueError, match="equity must be"):
        equity_metrics(equity, periods_per_year=PPY)


@settings(deadline=None, max_examples=100)
@given(cases())
def test_metrics_are_finite_and_have_the_same_bits_in_a_group(case: Case) -> None:
    group = simulate_many(case.panel, case.decisions, case.weights, case.settings, case.first_bar)
    for item, together in zip(case.settings, group, strict=True):
        alone = simulate(case.panel, case.decisions, case.weights, item, case.first_bar)
        metrics, undefined = result_metrics(together, periods_per_year=PPY)
        assert (metrics, undefined) == result_metrics(alone, periods_per_year=PPY)
        assert all(np.isfinite(value) for value in metrics.values())
        assert sorted((*metrics, *undefined)) == sorted(ACCOUNT_METRICS)
        if "max_drawdown" in metrics:
            assert -1 <= metrics["max_drawdown"] <= 0


def test_numbers_are_plain_floats() -> None:
    metrics, _ = result_metrics(one_asset([100, 90, 110, 100]), periods_per_year=PPY)
    assert {type(value) for value in metrics.values()} == {float}
    assert_allclose(metrics["final_pf"], 1.0)
