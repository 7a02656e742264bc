"""The third test: against factors and benchmark together."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.overfitting import OverfittingSettings, Trial, Trials, assess, evaluate
from backtest_batch.analysis.overfitting.factor_model import orthogonal, robust_alpha
from backtest_batch.analysis.overfitting.samples import CASH
from backtest_batch.core.factors import FactorReturns
from backtest_batch.records import Factors

N_BARS, N_RUNS = 1_000, 12
SETTINGS = OverfittingSettings(draws=400)


def rng():
    return np.random.default_rng(11)


def made(*, premium=0.1, skill=0.0):
    """Return runs that load on a factor, the market, and the factors."""
    draw = rng()
    market = 0.0003 + 0.01 * draw.standard_normal(N_BARS)
    factors = 0.005 * draw.standard_normal((N_BARS, 2))
    factors[:, 0] += premium * 0.005
    loads = 0.5 + draw.random(N_RUNS)
    noise = 0.002 * draw.standard_normal((N_BARS, N_RUNS))
    returns = 0.5 * market[:, None] + np.outer(factors[:, 0], loads) + noise
    returns[:, 3] += skill * 0.002
    return returns, market, factors


def trials(returns, market, factors, *, are_excess=True, names=("value", "other"), **changes):
    per_run = {name: changes.pop(name) for name in ("risk_free", "calendar") if name in changes}
    given = Factors(names=names, content="", are_excess=are_excess)
    return Trials(
        returns=returns,
        index=changes.pop("index", pd.bdate_range("2015-01-01", periods=len(returns))),
        runs=[
            Trial(
                run_id=f"run_{k}",
                scenario="base",
                decision=str(k),
                rank=k + 1,
                factors=None if factors is None else "ff",
                benchmark=CASH if market is None else "market",
                **per_run,
            )
            for k in range(returns.shape[1])
        ],
        benchmarks={} if market is None else {"market": market},
        factors={} if factors is None else {"ff": FactorReturns(factors=given, values=factors)},
        **changes,
    )


def test_without_factors_there_is_no_such_test_and_the_reason_is_said():
    returns, market, _ = made()
    document = assess(trials(returns, market, None), SETTINGS)
    assert document["factors"] is None
    assert document["undefined"]["factors"].startswith("no factors are given")


def test_what_only_loads_on_a_factor_is_luck_where_the_factor_is_given():
    returns, market, factors = made()
    before = assess(trials(returns, market, None), SETTINGS)["verdict"]
    after = assess(trials(returns, market, factors), SETTINGS)["verdict"]
    assert before["label"] == "skill"
    assert after["label"] == "luck"
    assert "but not the factors value, other (p = " in after["sentence"]
    assert any(reason.startswith("what the factors leave of run_") for reason in after["reasons"])


def test_what_earns_beyond_the_factors_is_skill_and_alone_called_so():
    returns, market, factors = made(skill=0.4)
    found = evaluate(trials(returns, market, factors), SETTINGS)
    verdict = found.document["verdict"]
    assert verdict["label"] == "skill", verdict["sentence"]
    assert "and the factors value, other (p = " in verdict["sentence"]
    assert found.document["factors"]["stepm_survivors"] == ["run_3"]
    assert found.columns["skilled"].sum() == 1
    assert any(
        reason.startswith("runs that survive all tests: 1 of") for reason in verdict["reasons"]
    )


def test_against_cash_the_factors_decide():
    returns, _, factors = made(skill=0.5)
    lucky = assess(trials(returns[:, 4:], None, factors), SETTINGS)["verdict"]
    skilled = assess(trials(returns, None, factors), SETTINGS)["verdict"]
    assert lucky["label"] == "luck"
    assert "the benchmark" not in lucky["sentence"]
    assert skilled["label"] == "skill"
    assert "a rising market passes" not in skilled["sentence"]


def test_a_single_factor_without_benchmark_gives_the_benchmark_test_to_the_last_digit():
    returns, market, _ = made()
    against = assess(trials(returns, market, None), SETTINGS)
    explained = assess(trials(returns, None, market[:, None], names=("m",)), SETTINGS)
    assert explained["factors"]["spa_pvalue"] == against["benchmark_spa_pvalue"]
    run = explained["run_id"]
    assert against["run_id"] == run
    assert explained["factors"]["betas"]["m"] == pytest.approx(against["beta"], rel=1e-10)


@pytest.mark.oracle
@pytest.mark.parametrize("benchmark", [True, False])
def test_the_winners_regression_is_that_of_statsmodels(benchmark):
    import statsmodels.api as sm

    returns, market, factors = made(skill=0.1)
    factors[200:240, 1] = np.nan
    document = assess(trials(returns, market if benchmark else None, factors), SETTINGS)
    found, column = document["factors"], int(document["run_id"][4:])
    design = np.column_stack([factors, market]) if benchmark else factors
    known = np.isfinite(factors).all(axis=1)
    lags = math.floor(4 * (known.sum() / 100) ** (2 / 9))
    theirs = sm.OLS(returns[known, column], sm.add_constant(design[known])).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}
    )
    assert found["alpha_t"] == pytest.approx(theirs.tvalues[0], rel=1e-8)
    assert found["alpha"] == pytest.approx(theirs.params[0] * 252, rel=1e-8)
    assert list(found["betas"].values()) == pytest.approx(list(theirs.params[1:3]), rel=1e-8)
    assert found["r2"] == pytest.approx(theirs.rsquared, rel=1e-8)
    assert found["alpha_lags"] == lags
    assert found["n_bars"] == 960
    if benchmark:
        assert found["benchmark_beta"] == pytest.approx(theirs.params[3], rel=1e-8)
    else:
        assert found["benchmark_beta"] is None


def test_a_factor_that_others_make_up_changes_nothing_and_has_no_slope():
    returns, market, factors = made()
    usual = assess(trials(returns, market, factors), SETTINGS)["factors"]
    more = np.column_stack([factors, factors @ [1.0, -2.0], np.full(N_BARS, 0.001)])
    names = ("value", "other", "mixed", "flat")
    document = assess(trials(returns, market, more, names=names), SETTINGS)
    found = document["factors"]
    assert found["betas"]["mixed"] is None
    assert found["betas"]["flat"] is None
    assert "make it up" in document["undefined"]["factors.betas.mixed"]
    assert found["spa_pvalue"] == usual["spa_pvalue"]
    assert found["alpha_t"] == pytest.approx(usual["alpha_t"])


def test_a_benchmark_that_the_factors_make_up_is_left_out():
    returns, market, factors = made()
    document = assess(trials(returns, market, np.column_stack([factors[:, 0], market])), SETTINGS)
    assert document["factors"]["benchmark_beta"] is None
    assert document["factors"]["betas"]["other"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("known", "why"), [(20, "known on 20 of the 1,000"), (200, "known on 200")]
)
def test_factors_that_are_known_for_too_short_a_time_leave_the_question_open(known, why):
    returns, market, factors = made(skill=0.5)
    factors[known:] = np.nan
    document = assess(trials(returns, market, factors), SETTINGS)
    assert document["verdict"]["label"] == "cannot_tell"
    assert why in document["verdict"]["sentence"].replace("1000", "1,000")
    assert (document["factors"]["spa_pvalue"] is None) == (known == 20)


def test_what_fails_before_the_factors_is_luck_whatever_they_lack():
    returns, market, factors = made(premium=0.0)
    factors[20:] = np.nan
    assert assess(trials(returns, market, factors), SETTINGS)["verdict"]["label"] == "luck"


def test_runs_with_different_factors_are_not_compared():
    returns, market, factors = made()
    both = trials(returns, market, factors)
    other = FactorReturns(factors=Factors(names=("x",), content=""), values=factors[:, :1])
    runs = [replace(run, factors="other" if k else "ff") for k, run in enumerate(both.runs)]
    mixed = replace(both, runs=runs, factors={**both.factors, "other": other})
    document = assess(mixed, SETTINGS)
    assert document["undefined"]["factors.spa_pvalue"] == "the runs have different factors"


def test_factors_within_days_are_compounded_as_the_returns_are():
    returns, market, factors = made()
    hours = pd.DatetimeIndex(
        [
            day + pd.Timedelta(hours=h)
            for day in pd.bdate_range("2015-01-01", periods=500)
            for h in (10, 15)
        ]
    )
    found = assess(trials(returns, market, factors, index=hours, periods_per_year=504.0), SETTINGS)

    def daily(values):
        return (1 + values).reshape(500, 2, -1).prod(axis=1) - 1

    by_hand = assess(trials(daily(returns), daily(market)[:, 0], daily(factors)), SETTINGS)
    assert found["factors"]["betas"] == pytest.approx(by_hand["factors"]["betas"], rel=1e-9)
    assert found["factors"]["alpha_t"] == pytest.approx(by_hand["factors"]["alpha_t"], rel=1e-9)
    assert found["factors"]["spa_pvalue"] == by_hand["factors"]["spa_pvalue"]


def test_the_risk_free_rate_is_taken_from_symbols_and_not_from_long_short_factors():
    returns, market, factors = made()
    rate = 0.0002
    symbols = assess(
        trials(returns, market, factors + rate, are_excess=False, risk_free=rate), SETTINGS
    )
    excess = assess(trials(returns, market, factors, risk_free=rate), SETTINGS)
    none = assess(trials(returns, market, factors), SETTINGS)
    assert symbols["factors"]["alpha"] == pytest.approx(excess["factors"]["alpha"])
    assert excess["factors"]["alpha"] < none["factors"]["alpha"]


def test_on_other_calendars_factors_earn_nothing_on_bars_that_a_run_lacks():
    returns, market, factors = made()
    has_bar = np.ones(N_BARS, dtype=bool)
    has_bar[4::5] = False
    gappy = np.where(has_bar[:, None], returns, np.nan)
    lacking = trials(
        gappy,
        market,
        np.where(has_bar[:, None], factors, 7.0),
        calendars={"own": has_bar},
        calendar="own",
    )
    alone = trials(returns[has_bar], market[has_bar], factors[has_bar])
    found, expected = (assess(item, SETTINGS)["factors"] for item in (lacking, alone))
    assert found["betas"] == pytest.approx(expected["betas"], rel=1e-9)
    assert found["alpha_t"] == pytest.approx(expected["alpha_t"], rel=1e-9)


def test_one_strategy_is_regressed_but_not_tested():
    returns, market, factors = made()
    document = assess(trials(returns[:, :1], market, factors), SETTINGS)
    assert document["factors"]["alpha_t"] is not None
    assert document["factors"]["spa_pvalue"] is None
    assert document["verdict"]["label"] == "cannot_tell"


def test_returns_that_factors_make_up_wholly_have_no_test():
    _, _, factors = made()
    returns = factors @ np.array([[1.0, 0.5, 2.0], [1.0, 2.0, 0.5]])
    document = assess(trials(returns, None, factors), SETTINGS)
    assert document["factors"]["spa_pvalue"] is None
    assert "make up" in document["undefined"]["factors.spa_pvalue"]
    assert document["factors"]["alpha_t"] is None
    assert document["verdict"]["label"] in ("luck", "cannot_tell")


def test_factors_of_another_shape_are_refused():
    returns, market, factors = made()
    with pytest.raises(ValueError, match=r"must have shape \(1000, 2\), but 'ff' have \(1000, 1\)"):
        trials(returns, market, factors[:, :1])


def test_regressors_are_orthogonal_however_alike_they_are():
    draw = rng()
    first = draw.standard_normal(500)
    design = np.column_stack([first, first + 1e-6 * draw.standard_normal(500), np.ones(500)])
    basis = orthogonal(design)
    assert basis.kept.tolist() == [0, 1]
    assert np.abs(basis.columns.T @ basis.columns - np.eye(2)).max() < 1e-12
    assert np.isfinite(robust_alpha(first**2, basis).t_statistic)


@pytest.mark.parametrize("cost", [0.0, 0.002])
def test_a_benchmark_that_is_a_factor_but_for_its_cost_is_left_out_and_said_to_be(cost):
    returns, market, factors = made()
    entered = market.copy()
    entered[0] -= cost
    given = np.column_stack([market, factors[:, 0]])
    document = assess(trials(returns, entered, given), SETTINGS)
    found = document["factors"]
    alone = assess(trials(returns, None, given), SETTINGS)["factors"]
    assert found["benchmark_beta"] is None
    assert "explain more than 99.99 %" in document["undefined"]["factors.benchmark_beta"]
    assert found["betas"]["value"] == pytest.approx(0.5, abs=0.1)
    assert found["spa_pvalue"] == alone["spa_pvalue"]
    said = [reason for reason in document["verdict"]["reasons"] if "is left out" in reason]
    assert len(said) == 1


def test_a_benchmark_that_differs_from_the_factors_stays():
    returns, market, factors = made()
    market = factors[:, 0] + 0.05 * (market - market.mean())
    document = assess(trials(returns, market, factors), SETTINGS)
    assert document["factors"]["benchmark_beta"] is not None
    assert "is left out" not in str(document["verdict"]["reasons"])
