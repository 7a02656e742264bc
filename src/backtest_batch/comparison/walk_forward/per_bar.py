"""Simulations as matrices of bars, and what fitted runs come to in-sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.comparison.walk_forward.evidence import metrics_since
from backtest_batch.comparison.walk_forward.fitted import FittedWeights
from backtest_batch.comparison.walk_forward.runs import ScenarioRuns
from backtest_batch.comparison.walk_forward.split import Split
from backtest_batch.comparison.walk_forward.windows import available_metrics, measure_windows
from backtest_batch.engine.simulate import Simulation, SimulationSettings, simulate_many
from backtest_batch.market.panel import FloatArray, Panel


def per_bar_arrays(simulations: Sequence[Simulation], n_bars: int) -> dict[str, FloatArray]:
    """Return what a walk-forward reads of simulations, one column each.

    Parameters
    ----------
    simulations
        Runs on one panel.
    n_bars
        Number of bars of the panel.

    Returns
    -------
    dict of str to ndarray of shape (n_bars, n_runs)
        ``returns``, ``turnover``, ``cost_ratio``, ``gross_exposure``, ``net_exposure`` and
        ``trades`` as :class:`.runs.ScenarioRuns` takes them; NaN before the first measured bar and
        after ruin, and the return of the first measured bar.
    """
    names = ("returns", "turnover", "cost_ratio", "gross_exposure", "net_exposure", "trades")
    arrays = {name: np.full((n_bars, len(simulations)), np.nan) for name in names}
    for column, simulation in enumerate(simulations):
        start = simulation.first_bar
        bars = slice(start, start + simulation.n_measured)
        before = np.concatenate((simulation.equity[:1], simulation.equity[:-1]))
        trades = np.bincount(simulation.trades().bar - start, minlength=simulation.n_measured)
        values = (
            simulation.net_return,
            simulation.turnover,
            simulation.cost / before,
            simulation.gross_exposure,
            simulation.net_exposure,
            trades.astype(np.float64),
        )
        for name, value in zip(names, values, strict=True):
            arrays[name][bars, column] = value
    return arrays


def drifted_weights(simulation: Simulation, panel: Panel, bar: int) -> FloatArray:
    """Return values of holdings over equity at the close of a bar, after the trades on that bar.

    Parameters
    ----------
    simulation
        A run that was not ruined by then.
    panel
        Its prices.
    bar
        Position of a measured bar in the panel.

    Returns
    -------
    ndarray of shape (n_assets,)
        Negative for shorts.
    """
    trades = simulation.trades()
    done = trades.bar <= bar
    shares = np.bincount(trades.asset[done], trades.shares[done], minlength=panel.n_assets)
    close = panel.fields["close"][bar]
    # What has no price any more was sold; rounding of its shares is no holding.
    values = np.where(np.isnan(close), 0.0, shares * np.nan_to_num(close))
    return np.asarray(values / simulation.equity[bar - simulation.first_bar])


def metrics_from(
    bar: int,
    simulation: Simulation,
    panel: Panel,
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
    benchmark: FloatArray | None = None,
) -> dict[str, float]:
    """Return the defined metrics of a run from a bar on, as if measuring began just before it.

    Parameters
    ----------
    bar
        First bar whose return counts, after the first of the simulation.
    simulation
        A run that was not ruined before it.
    panel
        Its prices.
    periods_per_year
        Bars a year.
    risk_free_rate
        Annual rate.
    benchmark
        Net returns of the benchmark on the bars of the simulation, or on more.
    """
    first = bar - 1
    arrays: dict[str, Any] = {
        name: values[first:] for name, values in per_bar_arrays([simulation], panel.n_bars).items()
    }
    for name in ("returns", "turnover", "cost_ratio", "trades"):
        # The account was entered before; what is held on the first measured bar counts.
        arrays[name][0] = np.nan
    reference = None
    if benchmark is not None:
        reference = np.full(panel.n_bars - first, np.nan)
        given = benchmark[bar - simulation.first_bar :]
        reference[1 : len(given) + 1] = given
    run = ScenarioRuns(
        scenario="",
        run_ids=("run",),
        index=panel.index[first:],
        parameters=pd.DataFrame(index=range(1)),
        periods_per_year=periods_per_year,
        risk_free_rate=risk_free_rate,
        initial_capital=simulation.settings.initial_capital,
        benchmark=reference,
        **arrays,
    )
    return metrics_since(1, run)


def in_sample_metrics(
    fitted: FittedWeights,
    panel: Panel,
    splits: Sequence[Split],
    settings: Sequence[SimulationSettings],
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
    benchmark: FloatArray | None = None,
) -> list[dict[str, FloatArray]]:
    """Return the metrics of fitted runs on the training bars of each split.

    Parameters
    ----------
    fitted
        Weights of the strategy, fitted split by split.
    panel
        Prices.
    splits
        The splits that it was fitted on.
    settings
        The conditions of each run.
    periods_per_year
        Bars a year.
    risk_free_rate
        Annual rate.
    benchmark
        Net returns of the benchmark, shape (n_bars,), or (n_bars, n_settings) when each of
        ``settings`` has its own.

    Returns
    -------
    list of dict
        For each of ``settings``, arrays by metric, one value a split, NaN where undefined; what
        :attr:`.runs.ScenarioRuns.in_sample` takes.
    """
    found: list[dict[str, FloatArray]] = [{} for _ in settings]
    for number, (split, route) in enumerate(zip(splits, fitted.in_sample, strict=True)):
        n_bars = split.train_end + 1
        seen = panel.window(0, n_bars)
        simulations = simulate_many(seen, route.decisions, route.weights, settings, route.first_bar)
        arrays: dict[str, Any] = per_bar_arrays(simulations, n_bars)
        runs = ScenarioRuns(
            scenario="",
            run_ids=tuple(str(position) for position in range(len(settings))),
            index=seen.index,
            parameters=pd.DataFrame(index=range(len(settings))),
            periods_per_year=periods_per_year,
            risk_free_rate=risk_free_rate,
            benchmark=None if benchmark is None else benchmark[:n_bars],
            **arrays,
        )
        measured = measure_windows(runs, [split.train])
        for name in available_metrics(runs):
            for run, value in enumerate(measured.of(name)[0].tolist()):
                # Costs in currency are those of an account that starts with the run's capital.
                scale = settings[run].initial_capital if name == "total_costs" else 1.0
                values = found[run].setdefault(name, np.full(len(splits), np.nan))
                values[number] = value * scale
    return found
