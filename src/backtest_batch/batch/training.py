"""Runs of a batch on parts of its bars, measured while the batch runs: what nested studies hear."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from backtest_batch.batch.session import Session
from backtest_batch.core.engine.simulation import simulation_settings
from backtest_batch.core.factors import factor_returns
from backtest_batch.core.fitting import periods_per_year, session_end
from backtest_batch.core.splits import Windows
from backtest_batch.core.windows import PER_BAR, ScenarioRuns, measure_windows
from backtest_batch.records import RunSpec


def measure_runs(
    session: Session, runs: Sequence[RunSpec], windows: Sequence[Windows]
) -> list[list[dict[str, float]]]:
    """Return the metrics of finished runs on windows of their bars.

    Parameters
    ----------
    session
        The batch; the runs' rows have been written.
    runs
        Runs of one scenario, on the same data.
    windows
        Bars of each window.

    Returns
    -------
    list
        For each window, for each run, the defined metrics by name.
    """
    first, workspace = runs[0], session.workspace
    config = first.config
    panel = session.plan.panels[first.data_fingerprint]
    workspace.gather()
    rows = [run.index for run in runs]
    n_rows = len(workspace.keys)
    stored = workspace.returns(n_rows)
    per_bar = {
        name: np.array(workspace.array(name, n_rows)[rows, : panel.n_bars]).T for name in PER_BAR
    }
    benchmark = None
    if first.benchmark_key:
        of_runs = [workspace.scratch.benchmark_rows[run.benchmark_key] for run in runs]
        benchmark = np.array(stored[of_runs, : panel.n_bars]).T
    scenario = ScenarioRuns(
        scenario="",
        run_ids=tuple(run.run_id for run in runs),
        index=panel.index,
        returns=np.array(stored[rows, : panel.n_bars]).T,
        parameters=pd.DataFrame(index=range(len(runs))),
        periods_per_year=periods_per_year(config),
        session_end=session_end(config),
        risk_free_rate=config["risk_free_rate"],
        cash_rate=config["cash_rate"],
        cost_rate=simulation_settings(config).cost_rate,
        execution_lag=config["execution_lag"],
        initial_capital=config["initial_capital"],
        benchmark=benchmark,
        return_bars=range(first.first_bar + 1, first.n_bars),
        factors=factor_returns(first),
        in_sample={},
        **per_bar,
    )
    measured = measure_windows(scenario, windows)
    return [
        [_of_run(measured.at(window), position) for position in range(len(runs))]
        for window in range(len(windows))
    ]


def _of_run(values: Mapping[str, np.ndarray], position: int) -> dict[str, float]:
    found = {name: float(of_runs[position]) for name, of_runs in values.items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}
