"""Strategies that are fitted: weights of all test windows, joined for one simulation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from backtest_batch.comparison.walk_forward.split import Split
from backtest_batch.errors import ConfigurationError
from backtest_batch.market.panel import FloatArray, IntArray, Panel
from backtest_batch.strategies.answers import target_weights
from backtest_batch.strategies.base import Strategy


@dataclass(frozen=True, kw_only=True)
class Route:
    """Target weights to simulate.

    Attributes
    ----------
    decisions
        Decision bars, shape (n_decisions,).
    weights
        Target weights, shape (n_decisions, n_assets).
    first_bar
        First bar of the simulation. It lies before the first decision, so that the entry is paid
        for before the first bar that counts, and before that bar, so that it has a return.
    """

    decisions: IntArray
    weights: FloatArray
    first_bar: int


@dataclass(frozen=True, kw_only=True)
class FittedWeights:
    """What a strategy wants after it was fitted on the training bars of each split.

    Attributes
    ----------
    out_of_sample
        Weights of all test windows in one route: no window starts from cash, and every trade
        between two windows is paid for.
    in_sample
        Weights on the training bars of each split, by the same fit.
    """

    out_of_sample: Route
    in_sample: tuple[Route, ...]


def fitted_weights(
    strategy_factory: Callable[[], Strategy],
    panel: Panel,
    decisions: IntArray,
    splits: Sequence[Split],
    *,
    execution_lag: int,
) -> FittedWeights:
    """Fit a strategy on the training bars of each split and join the weights of the test windows.

    A decision belongs to the latest split whose first test bar it can still earn on: bar d is
    executed at ``d + execution_lag`` and earns from the bar after. It never belongs to a split
    that trains on bars after d. The last decision before the first test window is taken along, so
    that the route is invested from the first test bar on. ``target_weights`` sees no bar after the
    last decision of its window.

    A strategy without ``fit`` takes the same way; its weights are those it has without splits.

    Parameters
    ----------
    strategy_factory
        Makes a new strategy for each split.
    panel
        Prices; positions of bars count in it.
    decisions
        Decision bars of the run from its first measured bar on, increasing, shape (n_decisions,).
    splits
        Splits of the panel, one training and one test window each.
    execution_lag
        Bars between decision and execution.

    Raises
    ------
    ConfigurationError
        When a split tests several windows: bars that are tested several times make no one route.
    StrategyError
        When the strategy returns something that is not weights.
    """
    if any(len(split.test) > 1 or len(split.train) > 1 for split in splits):
        raise ConfigurationError(
            "walk_forward=combinatorial tests every bar several times, which cannot be one route "
            "of a strategy with fit; use rolling or expanding"
        )
    before_test = [split.test_start - 1 - execution_lag for split in splits]
    # A choice that is known late (purged_size < execution_lag) is traded late.
    known = [
        max(bar, split.train_end) for bar, split in zip(before_test[1:], splits[1:], strict=True)
    ]
    starts = [before_test[0], *known]
    first = _last_at_or_before(decisions, starts[0])
    owners = np.searchsorted(np.array(starts[1:], dtype=np.int64), decisions, side="right")
    # What is executed on the last test bar earns nothing there, but costs.
    last_bar = splits[-1].test_end - execution_lag
    tested = (decisions >= first) & (decisions <= last_bar)
    rows: list[FloatArray] = []
    trained: list[Route] = []
    for split in splits:
        strategy = _fitted(strategy_factory(), panel, split)
        own = decisions[tested & (owners == split.number)]
        rows.append(_weights(strategy, panel, own))
        trained.append(_in_sample(strategy, panel, decisions, split, execution_lag))
    route = _route(decisions[tested], np.concatenate(rows), splits[0].test_start)
    return FittedWeights(out_of_sample=route, in_sample=tuple(trained))


def _route(decisions: IntArray, weights: FloatArray, first_return_bar: int) -> Route:
    starts = [first_return_bar, *decisions[:1].tolist()]
    return Route(decisions=decisions, weights=weights, first_bar=max(0, min(starts) - 1))


def _last_at_or_before(decisions: IntArray, bar: int) -> int:
    """Return the last decision at or before a bar, or the bar itself when there is none."""
    place = int(np.searchsorted(decisions, bar, side="right"))
    return int(decisions[place - 1]) if place else bar


def _fitted(strategy: Strategy, panel: Panel, split: Split) -> Strategy:
    fit = getattr(strategy, "fit", None)
    if fit is None:
        return strategy
    fitted = fit(panel.window(split.train_start, split.train_end + 1))
    # Returning self is the protocol; a fit that returns nothing has still fitted.
    return strategy if fitted is None else fitted


def _in_sample(
    strategy: Strategy, panel: Panel, decisions: IntArray, split: Split, execution_lag: int
) -> Route:
    first = _last_at_or_before(decisions, split.train_start - 1 - execution_lag)
    last = split.train_end - execution_lag
    own = decisions[(decisions >= first) & (decisions <= last)]
    return _route(own, _weights(strategy, panel, own), split.train_start)


def _weights(strategy: Strategy, panel: Panel, decisions: IntArray) -> FloatArray:
    if len(decisions) == 0:
        return target_weights(strategy, panel, decisions)
    n_seen = int(decisions[-1]) + 1
    seen = panel if n_seen == panel.n_bars else panel.window(0, n_seen)
    return target_weights(strategy, seen, decisions)
