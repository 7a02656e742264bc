import numpy as np
import pandas as pd
import pytest

from backtest_batch.arrays import FIELDS
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Synthetic
from backtest_batch.errors import DataError


def log_returns(panel):
    return np.diff(np.log(panel.fields["close"]), axis=0)


def momentum_sharpe(panel, look_back=60):
    """Annual Sharpe ratio of a daily long/short book: risers against fallers."""
    close = panel.fields["close"]
    returns = close[1:] / close[:-1] - 1
    momentum = close[look_back:-1] / close[: -look_back - 1]
    weights = np.sign(momentum - np.median(momentum, axis=1, keepdims=True)) / panel.n_assets
    earned = (weights * returns[look_back:]).sum(axis=1)
    return earned.mean() / earned.std(ddof=1) * np.sqrt(252)


def test_the_same_seed_draws_the_same_prices():
    first, second = (load_panel(Synthetic(seed=3, n_bars=100)) for _ in range(2))
    assert first == second
    assert load_panel(Synthetic(seed=4, n_bars=100)) != first


def test_every_field_is_there_and_consistent():
    panel = load_panel(Synthetic(n_assets=5, n_bars=400, volatility=0.8))
    assert tuple(panel.fields) == FIELDS
    open_, high, low, close, volume = (panel.fields[name] for name in FIELDS)
    assert (low > 0).all()
    assert (high >= np.maximum(open_, close)).all()
    assert (low <= np.minimum(open_, close)).all()
    assert (volume >= 0).all()
    assert not np.isnan(close).any()


def test_shape_and_symbols():
    panel = load_panel(Synthetic(n_assets=3, n_bars=7))
    assert panel.symbols == ("S00", "S01", "S02")
    assert panel.fields["close"].shape == (7, 3)
    assert load_panel(Synthetic(n_assets=101, n_bars=2)).symbols[-1] == "S100"
    assert load_panel(Synthetic(n_assets=1, n_bars=2)).symbols == ("S00",)


def test_daily_bars_are_business_days():
    index = load_panel(Synthetic(n_bars=300, start="2001-06-02")).index
    assert index.equals(pd.bdate_range("2001-06-04", periods=300).as_unit("ns"))


def test_bars_of_five_minutes_are_sessions_of_78():
    panel = load_panel(Synthetic(freq="5min", n_bars=200, n_assets=2))
    index = panel.index
    assert [str(index[row]) for row in (0, 1, 77, 78, 199)] == [
        "2000-01-03 09:35:00",
        "2000-01-03 09:40:00",
        "2000-01-03 16:00:00",
        "2000-01-04 09:35:00",
        "2000-01-05 13:10:00",
    ]
    assert panel.n_bars == 200


def test_drift_volatility_and_correlation_are_those_asked_for():
    source = Synthetic(n_assets=30, n_bars=20_000, drift=0.1, volatility=0.3, correlation=0.4)
    returns = log_returns(load_panel(source))
    assert returns.std(axis=0) * np.sqrt(252) == pytest.approx(np.full(30, 0.3), rel=0.03)
    # The mean over time has a standard error of 0.3 / sqrt(79 years), times sqrt(0.42) over assets.
    assert returns.mean() * 252 == pytest.approx(0.1 - 0.3**2 / 2, abs=3 * 0.022)
    correlations = np.corrcoef(returns.T)[np.triu_indices(30, 1)]
    assert correlations.mean() == pytest.approx(0.4, abs=0.02)


def test_regimes_change_the_volatility_and_keep_its_mean():
    plain = Synthetic(n_assets=20, n_bars=20_000, correlation=0.0)
    calm_and_wild = Synthetic(
        n_assets=20, n_bars=20_000, correlation=0.0, regimes=2, regime_bars=100
    )
    size = log_returns(load_panel(calm_and_wild)).std(axis=1)
    calm, wild = np.quantile(size, (0.25, 0.75))
    assert wild / calm == pytest.approx(4, rel=0.1)
    overall = log_returns(load_panel(calm_and_wild)).std() / log_returns(load_panel(plain)).std()
    assert overall == pytest.approx(1, rel=0.1)
    state = size > np.sqrt(calm * wild)
    assert 1 / np.mean(state[1:] != state[:-1]) == pytest.approx(100, rel=0.3)


def test_regimes_and_skill_leave_the_noise_as_it_was():
    plain, skilled = (
        log_returns(load_panel(Synthetic(n_bars=500, skill=skill))) for skill in (0.0, 0.05)
    )
    assert np.corrcoef(plain.ravel(), skilled.ravel())[0, 1] > 0.99


def test_planted_skill_is_found_by_momentum_and_its_absence_is_not():
    found = [momentum_sharpe(load_panel(Synthetic(seed=seed, skill=0.1))) for seed in range(5)]
    assert min(found) > 2
    assert np.mean(found) == pytest.approx(3.5, abs=0.5)
    nothing = [momentum_sharpe(load_panel(Synthetic(seed=seed))) for seed in range(5)]
    assert np.abs(nothing).max() < 1


def test_symbols_of_synthetic_data_can_be_chosen():
    whole = load_panel(Synthetic(n_bars=50))
    some = load_panel(Synthetic(n_bars=50, symbols=["S07", "S02"]))
    np.testing.assert_array_equal(some.fields["open"], whole.fields["open"][:, [7, 2]])
    with pytest.raises(DataError, match=r"unknown symbol S99 \(did you mean S19 or S09"):
        load_panel(Synthetic(n_bars=50, symbols=["S99"]))


def test_prices_beyond_all_bounds_are_refused():
    with pytest.raises(DataError, match=r"S00 has an? (open|high|low|close) of (inf|0)"):
        load_panel(Synthetic(n_bars=252, drift=1e6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_assets": 0}, "`n_assets >= 1` must hold, but got n_assets=0"),
        ({"n_bars": 1}, "`n_bars >= 2` must hold, but got n_bars=1"),
        ({"seed": -1}, "`seed >= 0` must hold, but got seed=-1"),
        ({"regimes": 0}, "`regimes >= 1` must hold"),
        ({"regime_bars": 0}, "`regime_bars >= 1` must hold"),
        ({"skill_bars": 0}, "`skill_bars >= 1` must hold"),
        ({"skill": 1.0}, "`0 <= skill < 1` must hold, but got skill=1.0"),
        ({"skill": float("nan")}, "`0 <= skill < 1` must hold, but got skill=nan"),
        ({"correlation": -0.1}, "`0 <= correlation < 1` must hold, but got correlation=-0.1"),
        ({"volatility": 0.0}, "`volatility > 0` must hold, but got volatility=0.0"),
        ({"volatility": float("inf")}, "`volatility > 0` must hold"),
        ({"drift": float("nan")}, "`drift` must be finite, but got drift=nan"),
        ({"start": "never"}, "`start` must be a date such as 2000-01-03, but got start=never"),
    ],
)
def test_arguments_that_are_not_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        Synthetic(**arguments)
