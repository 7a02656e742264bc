"""The walk-forward of a batch: its runs, scenario by scenario, as the comparison takes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.batch.compute import compute_chunk
from backtest_batch.batch.forward import (
    common_bars,
    periods_per_year,
    walk_forward_settings,
    walks_forward,
)
from backtest_batch.batch.returns import BatchReturns
from backtest_batch.comparison.ranking import Ranking
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.comparison.scenarios import is_market
from backtest_batch.comparison.walk_forward import (
    Bootstrap,
    ScenarioRuns,
    ScenarioWalk,
    drifted_weights,
    run_metrics,
    summarise,
    walk_forward,
)
from backtest_batch.comparison.walk_forward.runs import PER_BAR
from backtest_batch.engine.simulate import Simulation
from backtest_batch.interrupt import heed
from backtest_batch.market.panel import FloatArray, Panel
from backtest_batch.records import RunRecord, RunResult
from backtest_batch.sweep.session import Session


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchWalk:
    """The walk-forward of a batch.

    Attributes
    ----------
    walks
        One for each scenario, data and dates, in the order of its first run.
    findings
        What each came to, as plain values.
    """

    walks: tuple[ScenarioWalk, ...]
    findings: tuple[Mapping[str, Any], ...]

    @cached_property
    def run_metrics(self) -> pd.DataFrame:
        """Metrics oos_* of each run on all test bars, indexed by run_id."""
        return run_metrics(self.walks)

    def first(self, run_id: str) -> int:
        """Return the position of the walk that a run took part in; 0 where it took part in none."""
        places = (n for n, walk in enumerate(self.walks) if run_id in walk.runs.run_ids)
        return next(places, 0)

    @property
    def t_statistics(self) -> dict[str, float]:
        """The t-statistic of the stitched out-of-sample returns, by run_id of those walked.

        Choices of the combinatorial method have seen bars after the test; they judge nothing.
        """
        return {
            run_id: float(finding["t_statistic"])
            for walk, finding in zip(self.walks, self.findings, strict=True)
            if finding["t_statistic"] is not None and walk.settings.method != "combinatorial"
            for run_id in walk.runs.run_ids
        }


def walk_batch(
    session: Session, table: RunTable, returns: BatchReturns, ranking: Ranking
) -> BatchWalk | None:
    """Return the walk-forward of a batch's finished runs; None where none was asked for.

    Parameters
    ----------
    session
        The batch.
    table
        Its runs that have ended.
    returns
        Their returns.
    ranking
        What is better in-sample.

    Raises
    ------
    ConfigurationError
        When the ranking needs a metric that cannot be measured on windows.
    """
    records = session.in_order
    if not walks_forward(session.config) or not any(table.finished):
        return None
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(table.finished).tolist():
        groups.setdefault(table.walk_group.iloc[row], []).append(row)
    common = common_bars(session.plan.runs)
    walks = []
    for scenario, rows in groups.items():
        heed()
        chosen = [records[row] for row in rows]
        panel = session.plan.panels[chosen[0].spec.data_fingerprint]
        bars = common[chosen[0].spec.index]
        runs = _scenario_runs(session, table, returns, scenario, rows, panel, bars)
        settings = walk_forward_settings(chosen[0].spec, panel, bars)
        walks.append(walk_forward(runs, settings, ranking, _drifted(chosen, panel)))
    bootstrap = Bootstrap(seed=session.config["seed"])
    findings = summarise(walks, ranking, bootstrap)
    return BatchWalk(walks=tuple(walks), findings=tuple(findings))


def _scenario_runs(
    session: Session,
    table: RunTable,
    returns: BatchReturns,
    scenario: str,
    rows: Sequence[int],
    panel: Panel,
    bars: tuple[int, int],
) -> ScenarioRuns:
    records = session.in_order
    specs = [records[row].spec for row in rows]
    config = specs[0].config
    places = [spec.index for spec in specs]
    n_bars = panel.n_bars
    stored = session.workspace.returns(len(session.plan.runs) + len(set(returns.benchmark_row)))
    per_bar = {
        name: session.workspace.array(name, len(session.plan.runs))[places, :n_bars].T
        for name in PER_BAR
    }
    in_sample: dict[int, Mapping[str, FloatArray]] = {}
    for position, row in enumerate(rows):
        outcome = records[row].outcome
        if isinstance(outcome, RunResult) and outcome.in_sample:
            in_sample[position] = {
                name: np.array(values) for name, values in outcome.in_sample.items()
            }
    of_runs = [returns.benchmark_row[place] for place in places]
    benchmark = stored[of_runs[0] if len(set(of_runs)) == 1 else of_runs, :n_bars].T
    names = [name for name in table.decision_axes if not is_market(name)]
    costs = config["commission_bps"] + config["spread_bps"] / 2 + config["impact_bps"]
    return ScenarioRuns(
        scenario=scenario,
        run_ids=tuple(spec.run_id for spec in specs),
        index=panel.index,
        returns=stored[places, :n_bars].T,
        parameters=table.params.iloc[list(rows)][names].reset_index(drop=True),
        periods_per_year=periods_per_year(config),
        risk_free_rate=config["risk_free_rate"],
        cash_rate=config["cash_rate"],
        cost_rate=costs * 1e-4,
        execution_lag=config["execution_lag"],
        initial_capital=config["initial_capital"],
        benchmark=benchmark,
        in_sample=in_sample,
        return_bars=range(*bars),
        **per_bar,
    )


def _drifted(records: Sequence[RunRecord], panel: Panel) -> Callable[[int, int], FloatArray]:
    """Return what tells the weights of a run after its trades at the close of a bar.

    The runs that a switch concerns are computed again: few are, and holdings of all runs on all
    bars would not fit into memory.
    """
    simulations: dict[int, Simulation] = {}

    def weights(run: int, bar: int) -> FloatArray:
        if run not in simulations:
            simulations[run] = compute_chunk([records[run].spec], panel).runs[0].simulation
        return drifted_weights(simulations[run], panel, bar)

    return weights
