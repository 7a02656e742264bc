"""Small markets for the tests of the engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from hypothesis import strategies as st

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.simulation import SimulationSettings


def make_panel(
    close: npt.ArrayLike,
    *,
    index: pd.DatetimeIndex | None = None,
    symbols: Sequence[str] | None = None,
    members: npt.ArrayLike | None = None,
    **fields: npt.ArrayLike,
) -> Panel:
    """Return a panel of these prices; business days from 2020-01-01 on without an index."""
    arrays: Mapping[str, FloatArray] = {
        name: np.ascontiguousarray(values, dtype=np.float64).reshape(len(np.asarray(close)), -1)
        for name, values in {**fields, "close": close}.items()
    }
    n_bars, n_assets = arrays["close"].shape
    return Panel(
        index=pd.bdate_range("2020-01-01", periods=n_bars) if index is None else index,
        symbols=tuple(symbols or (f"S{asset}" for asset in range(n_assets))),
        fields=arrays,
        members=None if members is None else np.asarray(members, dtype=np.bool_),
        fingerprint="test",
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """One random simulation."""

    panel: Panel
    decisions: IntArray
    weights: FloatArray
    settings: tuple[SimulationSettings, ...]
    first_bar: int


def _random_panel(rng: np.random.Generator, n_bars: int, n_assets: int, volatility: float) -> Panel:
    moves = rng.normal(0, volatility, (n_bars, n_assets))
    close = 50 * np.exp(np.cumsum(moves, axis=0) + rng.normal(0, 1, n_assets))
    overnight = np.exp(rng.normal(0, volatility / 2, (n_bars, n_assets)))
    for asset in range(n_assets):
        if rng.random() < 0.3:
            close[: rng.integers(0, n_bars + 1), asset] = np.nan
        if rng.random() < 0.4:
            close[rng.integers(0, n_bars + 1) :, asset] = np.nan
    gaps = rng.integers(1, 80, n_bars)
    index = pd.DatetimeIndex(np.datetime64("2020-01-01T09:30", "s") + np.cumsum(gaps) * 3600)
    members = None
    if rng.random() < 0.4:
        # Stints of membership: each bar, with some chance, turns it round.
        turns = rng.random((n_bars, n_assets)) < rng.choice([0.03, 0.2, 0.6])
        members = (np.cumsum(turns, axis=0) + rng.integers(0, 2, n_assets)) % 2 == 1
    return make_panel(close, index=index, open=close * overnight, members=members)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random panels with series that start late and end early, weights and conditions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_bars, n_assets = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    panel = _random_panel(rng, n_bars, n_assets, draw(st.sampled_from([0.01, 0.05, 0.3])))
    decisions = np.flatnonzero(rng.random(n_bars) < draw(st.sampled_from([0.1, 0.3, 1.0])))
    weights = rng.normal(0, 1, (len(decisions), n_assets))
    weights[rng.random(weights.shape) < 0.3] = 0.0
    if draw(st.booleans()):
        weights = np.abs(weights)
    weights *= draw(st.sampled_from([0.1, 1.0, 5.0]))
    if draw(st.booleans()):
        # All in one symbol for a while: what costs took is all that stands between decisions.
        chosen = np.cumsum(rng.random(len(decisions)) < 0.2) % n_assets
        weights = np.eye(n_assets)[chosen]
    rates = st.sampled_from([0.0, 0.0, 0.05, -0.01])
    costs = st.sampled_from([0.0, 0.5, 30.0, 2_000.0])
    # At the open of its own bar nothing can be executed.
    fills: list[dict[str, Any]] = [
        {"execution_lag": st.integers(0, 3)},
        {"execution_lag": st.integers(1, 3), "execution_price": st.just("open")},
    ]
    settings = draw(
        st.lists(
            st.builds(
                SimulationSettings,
                initial_capital=st.sampled_from([1.0, 1e6]),
                max_gross_exposure=st.sampled_from([0.5, 1.0, 3.0, 10.0]),
                max_weight=st.sampled_from([None, 0.3]),
                commission_bps=costs,
                spread_bps=costs,
                impact_bps=costs,
                cash_rate=rates,
                borrow_rate=rates,
                short_fee_rate=rates,
                **draw(st.sampled_from(fills)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    return Case(
        panel=panel,
        decisions=decisions.astype(np.int64),
        weights=weights,
        settings=tuple(settings),
        first_bar=draw(st.integers(0, n_bars - 1)),
    )
