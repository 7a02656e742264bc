"""The contract of a strategy, as tests to inherit.

A test class of your own runs them under pytest::

    class TestMyStrategy(StrategyContract):
        def make_strategy(self):
            return MyStrategy(window=20)

Nothing here imports pytest: the checks are plain assertions.
"""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FIELDS, FloatArray, IntArray
from backtest_batch.core.data.panel import Panel, new_panel
from backtest_batch.core.strategies.base import Strategy, required_fields, target_weights
from backtest_batch.errors import StrategyError

# High and low enclose open and close.
_LEVELS = {"open": 1.0, "high": 1.01, "low": 0.99, "close": 1.0}


class StrategyContract:
    """The tests that every strategy must pass; inherit it and override :meth:`make_strategy`.

    The weights at a bar depend on prices up to that bar and on nothing else: not on later prices,
    not on the other decisions asked for, not on earlier calls. They are finite and have the right
    shape. The strategy changes no price. ``fit``, if there is one, returns the strategy, which then
    obeys the same rules.

    Attributes
    ----------
    n_bars
        Bars of the market, in addition to the ``warmup_bars`` that the strategy declares.
    n_decisions
        Number of decisions asked for, spread evenly over the market.
    tolerance
        Largest difference allowed between weights that must be the same; 0 means bit for bit.
    """

    n_bars: int = 400
    n_decisions: int = 60
    tolerance: float = 0.0

    def make_strategy(self) -> Strategy:
        """Return a new strategy at each call."""
        raise NotImplementedError(f"{type(self).__name__} must override make_strategy")

    def make_panel(self) -> Panel:
        """Return the market: eight random walks, of which LATE starts late and EARLY ends early.

        It has the fields that the strategy requires, with random numbers. Override it for a
        strategy that needs features, members, other symbols, more bars or wilder prices.
        """
        strategy = self.make_strategy()
        n_bars = self.n_bars + _warmup(strategy)
        further = [name for name in required_fields(strategy) if name.casefold() not in FIELDS]
        return _random_market(n_bars, further, start_of_late=60, end_of_early=n_bars - 60)

    def test_weights_have_a_row_per_decision_and_a_column_per_asset(self) -> None:
        """The shape is (n_decisions, n_assets), also for a single decision."""
        panel, decisions = self._case()
        for asked in (decisions, decisions[-1:]):
            _weights(self.make_strategy(), panel, asked)

    def test_weights_are_finite(self) -> None:
        """No NaN and no infinity, not even in the warm-up and around the ends of a series."""
        panel, decisions = self._case()
        weights = _weights(self.make_strategy(), panel, decisions)
        bad = np.argwhere(~np.isfinite(weights))
        assert len(bad) == 0, (
            f"weights must be finite, but {len(bad)} are not, the first at bar "
            f"{decisions[bad[0][0]]} for {panel.symbols[bad[0][1]]}: {weights[tuple(bad[0])]}; "
            "0 is the weight of an asset without enough history"
        )

    def test_it_trades(self) -> None:
        """At least one weight is not 0: if the strategy stays in cash, other tests show nothing."""
        panel, decisions = self._case()
        weights = _weights(self.make_strategy(), panel, decisions)
        assert np.any(weights != 0.0), (
            f"all weights are 0 on {panel.n_bars} bars: declare warmup_bars, raise n_bars, or "
            "override make_panel with a market on which the strategy trades"
        )

    def test_later_prices_do_not_matter(self) -> None:
        """Other prices after bar t, and series that start or end there, change no earlier row."""
        panel, decisions = self._case()
        self._assert_causal(self.make_strategy, panel, self._cuts(decisions), decisions)

    def test_other_decisions_do_not_matter(self) -> None:
        """A decision has the same weights alone, as the first of many, or among all."""
        panel, decisions = self._case()
        whole = _weights(self.make_strategy(), panel, decisions)
        for cut in self._cuts(decisions):
            first = int(np.searchsorted(decisions, cut))
            for rows in (slice(first, first + 1), slice(first, None)):
                part = _weights(self.make_strategy(), panel, decisions[rows])
                fault = self._difference(whole[rows], part, decisions[rows], panel)
                assert not fault, f"which decisions are asked for changed {fault}"

    def test_it_is_deterministic(self) -> None:
        """Asked again, the same strategy and a new one give the same weights."""
        panel, decisions = self._case()
        strategy = self.make_strategy()
        first = _weights(strategy, panel, decisions)
        for other, who in ((strategy, "the same strategy"), (self.make_strategy(), "a new one")):
            fault = self._difference(first, _weights(other, panel, decisions), decisions, panel)
            assert not fault, f"asking {who} again changed {fault}"

    def test_it_leaves_the_prices_alone(self) -> None:
        """The panel is unchanged: all runs of a batch share it."""
        panel, decisions = self._case()
        before = {name: values.copy() for name, values in panel.fields.items()}
        beside = {name: values.copy() for name, values in panel.feature_arrays.items()}
        self.make_strategy().target_weights(panel, decisions)
        for name, values in before.items():
            same = np.array_equal(values, panel.frame(name).to_numpy(), equal_nan=True)
            assert same, f"the strategy changed the field '{name}' of the panel"
        for name, values in beside.items():
            same = np.array_equal(values, panel.features[name].to_numpy(), equal_nan=True)
            assert same, f"the strategy changed the feature '{name}' of the panel"

    def test_warmup_bars_is_a_count(self) -> None:
        """``warmup_bars``, if there is one, is an integer and not negative."""
        found = getattr(self.make_strategy(), "warmup_bars", 0)
        right = isinstance(found, Integral) and not isinstance(found, bool) and int(found) >= 0
        assert right, f"`warmup_bars` must be an int >= 0, but got {found!r}"

    def test_fit_returns_the_strategy_and_keeps_the_contract(self) -> None:
        """After ``fit`` on the first half: finite weights, causal in the second half."""
        if not hasattr(self.make_strategy(), "fit"):
            return
        panel, decisions = self._case()
        training = panel.window(0, (panel.n_bars + _warmup(self.make_strategy())) // 2)

        def fitted() -> Strategy:
            strategy: Any = self.make_strategy()
            answer = strategy.fit(training)
            assert answer is strategy, f"`fit` must return self, but got {answer!r}"
            return strategy  # type: ignore[no-any-return]

        weights = _weights(fitted(), panel, decisions)
        assert np.all(np.isfinite(weights)), "weights must be finite after `fit`, but are not"
        cuts = [cut for cut in self._cuts(decisions) if cut >= training.n_bars - 1]
        self._assert_causal(fitted, panel, cuts, decisions)

    def _case(self) -> tuple[Panel, IntArray]:
        panel = self.make_panel()
        # The last bar is never a decision: nothing could be executed after it.
        spread = np.linspace(0, panel.n_bars - 2, self.n_decisions)
        return panel, np.unique(spread.astype(np.int64))

    def _cuts(self, decisions: IntArray) -> list[int]:
        """Return the decision bars that separate past from future."""
        warm = int(np.searchsorted(decisions, _warmup(self.make_strategy())))
        n_warm = len(decisions) - warm
        rows = {min(warm + int(part * n_warm), len(decisions) - 1) for part in (0, 0.3, 0.6, 0.9)}
        return [int(decisions[row]) for row in sorted(rows)]

    def _assert_causal(
        self,
        make: Callable[[], Strategy],
        panel: Panel,
        cuts: list[int],
        decisions: IntArray,
    ) -> None:
        expected = _weights(make(), panel, decisions)
        for cut in cuts:
            found = _weights(make(), _with_another_future(panel, cut), decisions)
            past = decisions <= cut
            fault = self._difference(expected[past], found[past], decisions[past], panel)
            assert not fault, f"other prices after bar {cut} changed {fault}: the strategy peeks"

    def _difference(
        self, expected: FloatArray, found: FloatArray, decisions: IntArray, panel: Panel
    ) -> str:
        """Say where two arrays of weights first differ; empty when they do not."""
        same = np.isclose(found, expected, rtol=0.0, atol=self.tolerance, equal_nan=True)
        if np.all(same):
            return ""
        row, column = np.argwhere(~same)[0]
        return (
            f"the weight of {panel.symbols[column]} at bar {decisions[row]} from "
            f"{expected[row, column]} to {found[row, column]}"
        )


def _warmup(strategy: Strategy) -> int:
    return max(int(getattr(strategy, "warmup_bars", 0)), 0)


def _weights(strategy: Strategy, panel: Panel, decisions: IntArray) -> FloatArray:
    try:
        # A copy: a strategy may return an array that it changes at the next call.
        return target_weights(strategy, panel, decisions).copy()
    except StrategyError as error:
        raise AssertionError(str(error)) from error


def _random_market(
    n_bars: int, further: Sequence[str], *, start_of_late: int, end_of_early: int
) -> Panel:
    symbols = ("A", "B", "C", "D", "E", "F", "LATE", "EARLY")
    numbers = np.random.default_rng(20)
    drift = np.linspace(-0.001, 0.001, len(symbols))
    spread = np.linspace(0.005, 0.03, len(symbols))
    steps = numbers.normal(drift, spread, (n_bars, len(symbols)))
    close = 50.0 * np.exp(np.cumsum(steps, axis=0))
    close[:start_of_late, symbols.index("LATE")] = np.nan
    close[end_of_early:, symbols.index("EARLY")] = np.nan
    fields = {name: close * level for name, level in _LEVELS.items()}
    fields["volume"] = np.where(np.isnan(close), np.nan, numbers.uniform(1e5, 1e6, close.shape))
    for name in further:
        fields[name] = np.where(np.isnan(close), np.nan, numbers.normal(size=close.shape))
    index = pd.date_range("2015-01-01", periods=n_bars, freq="B", unit="ns")
    return new_panel(index, symbols, fields)


def _with_another_future(panel: Panel, cut: int) -> Panel:
    """Return the panel with other prices after bar ``cut``, and the same ones up to it.

    Series that had not started start at once; the first of several assets ends at the cut. Further
    fields, features and members also differ after it.
    """
    numbers = np.random.default_rng(cut)
    past = panel.fields["close"][: cut + 1]
    priced = ~np.isnan(past)
    ended = priced.any(axis=0) & ~priced[-1]
    ended[0] |= panel.n_assets > 1
    last = np.where(priced[-1], past[-1], 50.0)
    steps = numbers.normal(0.0, 0.2, (panel.n_bars - cut - 1, panel.n_assets))
    future = np.where(ended, np.nan, last * np.exp(np.cumsum(steps, axis=0)))
    fields = {}
    for name, values in panel.fields.items():
        changed = values.copy()
        traded = np.where(ended, np.nan, numbers.uniform(1e4, 1e7, future.shape))
        changed[cut + 1 :] = future * _LEVELS[name] if name in _LEVELS else traded
        fields[name] = changed
    features = {}
    for name, values in panel.feature_arrays.items():
        features[name] = values.copy()
        features[name][cut + 1 :] = numbers.normal(size=values[cut + 1 :].shape)
    members = None if panel.members is None else panel.members.copy()
    if members is not None:
        members[cut + 1 :] = numbers.uniform(size=future.shape) < 0.5
    return new_panel(panel.index, panel.symbols, fields, members=members, features=features)
