"""One sweep on a generated market: through the engine, and judged as a batch is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.overfitting import Assessment, Trial, Trials, evaluate
from backtest_batch.analysis.run_table import NEIGHBOURHOOD, RunTable
from backtest_batch.analysis.stability import with_neighbourhood
from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.benchmark import simulated
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.simulation import SimulationSettings, simulate_many
from backtest_batch.core.factors import FactorReturns
from backtest_batch.core.strategies.base import target_weights
from backtest_batch.records import Benchmark, Factors
from backtest_batch.search.space import SearchSpace, ValueSet
from backtest_batch.search.study import Judged, Proposal, SearchSettings, search
from benchmarks.verdict.markets import DAYS, Market
from benchmarks.verdict.strategies import SEARCHED, Tried, searched

SETTINGS = SimulationSettings()
"""The defaults: no costs, so that no strategy without skill is poor for another reason."""


@dataclass
class Sweep:
    """What was tried on one market.

    Attributes
    ----------
    market
        The market.
    tried, returns
        The decisions, and the net returns of each, shape (n_bars,), NaN before the first.
    """

    market: Market
    tried: list[Tried] = field(default_factory=list)
    returns: list[FloatArray] = field(default_factory=list)
    _decisions: dict[str, IntArray] = field(default_factory=dict)
    _benchmarks: dict[str, FloatArray] = field(default_factory=dict)

    def run(self, tried: Tried) -> float:
        """Backtest a decision and keep its returns; return its annual Sharpe ratio."""
        weights_of = tried.strategy
        decisions = self._decided(tried)
        weights = target_weights(weights_of, self.market.panel, decisions)
        first = tried.warmup_bars
        account = simulate_many(self.market.panel, decisions, weights, [SETTINGS], first)[0]
        returns = self._on_bars(first, account.net_return)
        self.tried.append(tried)
        self.returns.append(returns)
        return annual_sharpe(returns)

    def grid(self, grid: Sequence[Tried]) -> None:
        """Backtest all of them."""
        for tried in grid:
            self.run(tried)

    def search(self, n_trials: int, seed: int) -> None:
        """Let an adaptive search choose what is tried: tpe, in rounds of 8."""

        def evaluated(proposals: Sequence[Proposal]) -> Mapping[int, Judged]:
            return {
                item.number: Judged(values=(self.run(searched(item.point)),)) for item in proposals
            }

        space = SearchSpace({name: ValueSet(tuple(values)) for name, values in SEARCHED.items()})
        search(space, SearchSettings(method="tpe", n_trials=n_trials, seed=seed), evaluated)

    def _decided(self, tried: Tried) -> IntArray:
        if tried.rebalance not in self._decisions:
            index = self.market.panel.index
            self._decisions[tried.rebalance] = decision_bars(index, tried.rebalance)
        decisions = self._decisions[tried.rebalance]
        return decisions[decisions >= tried.warmup_bars]

    def _on_bars(self, first: int, returns: FloatArray) -> FloatArray:
        found = np.full(self.market.panel.n_bars, np.nan)
        found[first + 1 :] = returns[1:]
        return found

    def _benchmark(self, tried: Tried) -> str:
        """Return the name of the benchmark of a run: equal weights at its decisions."""
        first = tried.warmup_bars
        name = f"{tried.rebalance} {first}"
        if name not in self._benchmarks:
            account = simulated(
                Benchmark(), self.market.panel, self._decided(tried), [SETTINGS], first
            )[0]
            self._benchmarks[name] = self._on_bars(first, account.net_return)
        return name

    def planted(self, trial: int, information_ratio: float) -> "Sweep":
        """Return the sweep with skill in one trial: a constant return beyond its benchmark.

        Parameters
        ----------
        trial
            Position of the trial.
        information_ratio
            Annual mean of what it earns beyond beta times the benchmark, over its deviation.
        """
        returns = self.returns[trial]
        benchmark = self._benchmarks[self._benchmark(self.tried[trial])]
        known = np.isfinite(returns)
        r, b = returns[known], benchmark[known]
        beta = np.cov(r, b)[0, 1] / np.var(b, ddof=1)
        extra = information_ratio / np.sqrt(DAYS) * (r - beta * b).std(ddof=1)
        changed = list(self.returns)
        changed[trial] = returns + extra
        return Sweep(
            market=self.market,
            tried=self.tried,
            returns=changed,
            _decisions=self._decisions,
            _benchmarks=self._benchmarks,
        )

    def judge(self, *, with_factors: bool = False) -> Assessment:
        """Return the verdict, as a batch of these runs would have it.

        Parameters
        ----------
        with_factors
            Whether the factors of the market are given.
        """
        sharpe = [annual_sharpe(returns) for returns in self.returns]
        rank = np.empty(len(sharpe), dtype=int)
        rank[np.argsort(-np.array(sharpe), kind="stable")] = np.arange(1, len(sharpe) + 1)
        names = [f"run_{number}" for number in range(len(sharpe))]
        benchmarks = [self._benchmark(tried) for tried in self.tried]
        trials = Trials(
            returns=np.column_stack(self.returns),
            index=self.market.panel.index,
            runs=[
                Trial(
                    run_id=name,
                    scenario="as generated",
                    decision=name,
                    rank=int(rank[number]),
                    benchmark=benchmarks[number],
                    factors="given" if with_factors else None,
                )
                for number, name in enumerate(names)
            ],
            benchmarks=self._benchmarks,
            factors={"given": self._factors()} if with_factors else {},
            periods_per_year=DAYS,
            neighbour_sharpe=self._neighbours(names, sharpe),
        )
        return evaluate(trials)

    def _factors(self) -> FactorReturns:
        given = self.market.factors
        return FactorReturns(
            factors=Factors(names=tuple(given), content=""),
            values=np.column_stack(list(given.values())),
        )

    def _neighbours(self, names: list[str], sharpe: list[float]) -> dict[str, float]:
        index = pd.RangeIndex(len(names))
        params = pd.DataFrame([tried.params for tried in self.tried], index=index, dtype=object)
        table = RunTable(
            runs=pd.DataFrame({"run_id": names, "status": "FINISHED"}, index=index),
            params=params.where(params.notna(), None),
            metrics=pd.DataFrame({"sharpe": sharpe}, index=index),
        )
        found: Mapping[Any, float] = with_neighbourhood(table).metrics[NEIGHBOURHOOD].to_dict()
        return {names[row]: float(value) for row, value in found.items() if np.isfinite(value)}


def annual_sharpe(returns: FloatArray) -> float:
    """Return the annual Sharpe ratio of a run; 0 where it does not vary."""
    known = returns[np.isfinite(returns)]
    deviation = float(known.std(ddof=1))
    return float(known.mean()) / deviation * np.sqrt(DAYS) if deviation > 1e-12 else 0.0
