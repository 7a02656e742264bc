"""One series of returns, cut into bars of other lengths, has the same figures a year."""

import math

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.engine.frequency import periods_per_year_from
from backtest_batch.core.engine.metrics import equity_metrics

GROWTH = 0.3
"""Log growth in 365 days."""


def figures(equity: pd.Series) -> dict[str, float]:
    per_year = periods_per_year_from(pd.DatetimeIndex(equity.index))
    assert per_year is not None
    metrics, _ = equity_metrics(equity.to_numpy(), periods_per_year=per_year)
    return metrics


def resampled(equity: pd.Series, step: str) -> pd.Series:
    return equity if step == "1min" else equity.resample(step).last()


@pytest.mark.parametrize("step", ["1min", "1h", "4h", "1D"])
def test_constant_growth_around_the_clock(step: str) -> None:
    minutes = pd.date_range("2021-01-01", periods=60 * 1_440, freq="min")
    equity = pd.Series(np.exp(GROWTH * np.arange(len(minutes)) / 525_600), minutes)
    metrics = figures(resampled(equity, step))
    assert metrics["cagr"] == pytest.approx(math.expm1(GROWTH), rel=1e-9)
    assert metrics["volatility"] == 0.0


@pytest.mark.parametrize(("step", "per_year"), [("7D", 52), ("ME", 12), ("QE", 4), ("YE", 1)])
def test_constant_growth_over_longer_bars(step: str, per_year: float) -> None:
    days = pd.date_range("2001-01-01", "2020-12-31")
    equity = pd.Series(np.exp(GROWTH * np.arange(len(days)) / 365), days).resample(step).last()
    # The last of the weeks is cut off by the end of the data.
    n_days = len(days) - {"7D": 7, "ME": 31, "QE": 90, "YE": 365}[step]
    years = (len(equity) - 1) / per_year
    expected = math.expm1(GROWTH * n_days / 365 / years)
    assert figures(equity)["cagr"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("step", "n"), [("1min", 390), ("5min", 78), ("30min", 13), ("1D", 1)])
def test_constant_growth_within_sessions(step: str, n: int) -> None:
    days = pd.bdate_range("2021-01-04", periods=120)
    index = pd.DatetimeIndex(
        np.concatenate(
            [pd.date_range(day + pd.Timedelta("9h30min"), periods=n, freq=step) for day in days]
        )
    )
    equity = pd.Series(np.exp(GROWTH / 252 / n * np.arange(len(index))), index)
    assert figures(equity)["cagr"] == pytest.approx(math.expm1(GROWTH), rel=1e-9)


@pytest.mark.parametrize(("step", "hours"), [("1h", 1), ("4h", 4), ("1D", 24), ("7D", 168)])
def test_independent_returns_have_one_volatility_and_one_sharpe_ratio(
    step: str, hours: int
) -> None:
    mean, deviation = 0.3 / 8_760, 0.4 / math.sqrt(8_760)
    index = pd.date_range("2010-01-04", periods=20 * 8_736, freq="h")
    steps = np.random.default_rng(4).normal(mean, deviation, len(index))
    # A week is 1/52 of a year and 168 hours: 8,736 of them in 52.
    year = 8_760 if hours <= 24 else 8_736
    equity = pd.Series(np.exp(np.cumsum(steps)), index).resample(step).last()
    metrics = figures(equity)
    n_bars = len(equity) - 1
    # Of log-normal returns of a bar, in closed form.
    grown, spread = math.exp((mean + deviation**2 / 2) * hours), math.expm1(deviation**2 * hours)
    per_year = year / hours
    volatility = grown * math.sqrt(spread * per_year)
    sharpe = (grown - 1) / (grown * math.sqrt(spread)) * math.sqrt(per_year)
    # Five standard errors.
    assert metrics["volatility"] == pytest.approx(volatility, rel=5 / math.sqrt(2 * n_bars))
    assert metrics["sharpe"] == pytest.approx(sharpe, abs=5 / math.sqrt(20))
    same = figures(pd.Series(np.exp(np.cumsum(steps)), index))
    assert metrics["sharpe"] == pytest.approx(same["sharpe"], rel=0.05)
