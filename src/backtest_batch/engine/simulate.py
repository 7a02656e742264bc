"""From target weights to the path of an account: the public face of the simulation.

``docs/semantics.md`` states the rules, and the kernels compute them; the tests hold the same in
readable numpy.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from backtest_batch.engine.arrays import kernel_input
from backtest_batch.engine.execution import Accounts, Execution, execute
from backtest_batch.engine.settings import SimulationSettings
from backtest_batch.engine.simulation import Simulation, Totals, Trades, Trips
from backtest_batch.errors import StrategyError
from backtest_batch.market.panel import FloatArray, IntArray, Panel

__all__ = ["Simulation", "SimulationSettings", "Trades", "simulate", "simulate_many"]


def simulate(
    panel: Panel,
    decisions: IntArray,
    weights: FloatArray,
    settings: SimulationSettings,
    first_bar: int = 0,
) -> Simulation:
    """Trade target weights under one set of conditions.

    The result is bit for bit that of the same run within :func:`simulate_many`; parameters and
    errors are the same too.
    """
    return simulate_many(panel, decisions, weights, [settings], first_bar)[0]


def simulate_many(
    panel: Panel,
    decisions: IntArray,
    weights: FloatArray,
    settings: Sequence[SimulationSettings],
    first_bar: int = 0,
) -> list[Simulation]:
    """Trade the same target weights under several sets of conditions.

    Runs that differ in costs, rates, capital and exposure only share the work over assets.

    Parameters
    ----------
    panel
        Prices of shape (n_bars, n_assets).
    decisions
        Strictly increasing positions of the decision bars, shape (n_decisions,).
    weights
        Target weights as fractions of equity, negative for shorts, before any cap; shape
        (n_decisions, n_assets).
    settings
        The conditions of each run.
    first_bar
        The first measured bar. Decisions before it are not traded.

    Returns
    -------
    list of Simulation
        One for each of ``settings``, in their order.

    Raises
    ------
    StrategyError
        When the weights have another shape, or one at or after ``first_bar`` is not finite.
    DataError
        When a position cannot be priced on a bar on which it is to be traded.
    ValueError
        When ``decisions`` or ``first_bar`` lie outside the panel or do not increase.
    """
    first_bar = int(first_bar)
    decisions = _checked_decisions(panel, decisions, first_bar)
    rows = _checked_shape(panel, decisions, weights)
    groups: dict[tuple[float, int, str], list[int]] = {}
    for position, item in enumerate(settings):
        max_weight = math.inf if item.max_weight is None else float(item.max_weight)
        terms = (max_weight, item.execution_lag, item.execution_price)
        groups.setdefault(terms, []).append(position)
    simulations: dict[int, Simulation] = {}
    for (max_weight, lag, price), members in groups.items():
        execution = execute(
            panel,
            decisions,
            rows,
            first_bar,
            max_weight=max_weight,
            execution_lag=lag,
            execution_price=price,
        )
        accounts = execution.accounts([settings[position] for position in members])
        for run, position in enumerate(members):
            simulations[position] = _simulation(execution, settings[position], accounts, run)
    return [simulations[position] for position in range(len(settings))]


def _checked_decisions(panel: Panel, decisions: IntArray, first_bar: int) -> IntArray:
    if not 0 <= first_bar < panel.n_bars:
        raise ValueError(
            f"`0 <= first_bar < n_bars` must hold, but got first_bar={first_bar}, "
            f"n_bars={panel.n_bars}."
        )
    decisions = np.asarray(decisions, dtype=np.int64)
    if decisions.ndim != 1 or np.any(decisions[1:] <= decisions[:-1]):
        raise ValueError("decisions must be a strictly increasing list of bars.")
    if len(decisions) and not 0 <= decisions[0] <= decisions[-1] < panel.n_bars:
        raise ValueError(
            f"decisions must lie within the {panel.n_bars} bars of the panel, but range from "
            f"{decisions[0]} to {decisions[-1]}."
        )
    return decisions


def _checked_shape(panel: Panel, decisions: IntArray, weights: npt.ArrayLike) -> FloatArray:
    expected = (len(decisions), panel.n_assets)
    try:
        rows = kernel_input(weights)
    except (TypeError, ValueError) as error:
        raise StrategyError(f"target weights must be numbers, but {error}.") from error
    if rows.shape != expected:
        raise StrategyError(
            f"target weights must have shape (n_decisions, n_assets) = {expected}, "
            f"but got {rows.shape}."
        )
    return rows


def _simulation(
    execution: Execution, settings: SimulationSettings, accounts: Accounts, run: int
) -> Simulation:
    n_bars, n_orders, n_sales, n_trades, ruined, *counted = accounts.counts[run].tolist()
    n_scaled, n_trips, n_wins, held_bars = counted
    gross, net, max_gross, turnover, cost, cost_ratio, gained, lost = accounts.totals[run].tolist()
    return Simulation(
        settings=settings,
        first_bar=execution.first_bar,
        equity=accounts.equity[run, :n_bars],
        n_trades=n_trades,
        ruined_bar=execution.first_bar + n_bars - 1 if ruined else None,
        untradable_weights=int(execution.orders.untradable[:n_orders].sum()),
        scaled_decisions=n_scaled,
        trips=Trips(n_trips, n_wins, held_bars, gained, lost),
        totals=Totals(
            gross_exposure=gross,
            net_exposure=net,
            max_gross_exposure=max_gross,
            turnover=turnover,
            cost=cost,
            cost_ratio=cost_ratio,
            n_exposure_bars=n_bars - ruined,
        ),
        _execution=execution,
        _n_orders=n_orders,
        _n_sales=n_sales,
    )
