"""What a walk-forward is given: the runs of one scenario, bar by bar."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from backtest_batch.market.panel import FloatArray, IntArray

PER_BAR = ("turnover", "cost_ratio", "gross_exposure", "net_exposure", "trades")
"""Arrays beside the returns, each of which makes further metrics available."""

_RUNS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class ScenarioRuns:
    """The runs of one scenario: equal conditions, different decisions.

    Arrays of bars have shape (n_bars,) or (n_bars, n_runs) and may be memory-mapped.

    Attributes
    ----------
    scenario
        Label of the scenario.
    run_ids
        Names of the runs, distinct.
    index
        Timestamps of the bars of the data, strictly increasing.
    returns
        Net returns; NaN up to and including a run's first measured bar, and after its ruin.
    parameters
        Decision parameters, one row a run in the order of ``run_ids``, one column a swept key.
    periods_per_year
        Bars a year.
    risk_free_rate, cash_rate
        Annual rates.
    cost_rate
        Cost of trading one unit of currency.
    execution_lag
        Bars between decision and execution.
    initial_capital
        Equity before the first out-of-sample bar.
    benchmark
        Net returns of the benchmark, NaN where it has none: of shape (n_bars,) when all runs
        share it, else (n_bars, n_runs), because another rebalance has another benchmark. None
        without a benchmark.
    turnover
        Sum of absolute traded values over the equity before the trade.
    cost_ratio
        Trading costs over the equity of the bar before.
    gross_exposure, net_exposure
        After trading.
    trades
        Number of trades.
    in_sample
        In-sample metrics of runs whose strategy was fitted, by position of the run: arrays by
        metric, one value a split (see :func:`.fitted.in_sample_metrics`). The returns of such a
        run are those of its route over the test windows.
    return_bars
        The bars that were split when runs were fitted; None for :attr:`common_bars`.
    """

    scenario: str
    run_ids: tuple[str, ...]
    index: pd.DatetimeIndex
    returns: FloatArray
    parameters: pd.DataFrame
    periods_per_year: float
    risk_free_rate: float = 0.0
    cash_rate: float = 0.0
    cost_rate: float = 0.0
    execution_lag: int = 1
    initial_capital: float = 1.0
    benchmark: FloatArray | None = None
    turnover: FloatArray | None = None
    cost_ratio: FloatArray | None = None
    gross_exposure: FloatArray | None = None
    net_exposure: FloatArray | None = None
    trades: FloatArray | None = None
    in_sample: Mapping[int, Mapping[str, FloatArray]] = field(default_factory=dict)
    return_bars: range | None = None

    def __post_init__(self) -> None:
        expected = (len(self.index), len(self.run_ids))
        for name in ("returns", *PER_BAR):
            array = getattr(self, name)
            if array is not None and array.shape != expected:
                raise ValueError(
                    f"`{name}` must have shape (n_bars, n_runs) = {expected}, "
                    f"but got {array.shape}."
                )
        if self.benchmark is not None and self.benchmark.shape not in (expected[:1], expected):
            raise ValueError(
                f"`benchmark` must have shape (n_bars,) = {expected[:1]} or (n_bars, n_runs) = "
                f"{expected}, but got {self.benchmark.shape}."
            )
        if len(set(self.run_ids)) != len(self.run_ids) or len(self.parameters) != expected[1]:
            raise ValueError(
                "run_ids must be distinct and parameters must have one row for each, but got "
                f"{len(set(self.run_ids))} names for {expected[1]} runs and "
                f"{len(self.parameters)} rows."
            )

    def benchmark_on(self, bars: IntArray, runs: IntArray | int) -> FloatArray:
        """Return the benchmark on some bars: of each bar the one of the run that is held there.

        Parameters
        ----------
        bars
            Positions of the bars.
        runs
            Position of the run held on each, or on all of them.
        """
        if self.benchmark is None:
            raise ValueError("there is no benchmark.")
        shared = self.benchmark.ndim == 1
        values = self.benchmark[bars] if shared else self.benchmark[bars, runs]
        return np.asarray(values, dtype=np.float64)

    @cached_property
    def first_returns(self) -> IntArray:
        """First bar of each run that has a return, ``n_bars`` where none has, shape (n_runs,)."""
        return self._spans[0]

    @cached_property
    def ruined_bars(self) -> IntArray:
        """Bar on which each run lost everything, ``n_bars`` where none, shape (n_runs,)."""
        return self._spans[1]

    @property
    def common_bars(self) -> range:
        """The bars to split: from the latest first return of all runs to the end of the data.

        A fitted run does not count: it has no returns before the first test window.
        """
        if self.return_bars is not None:
            return self.return_bars
        n_bars = len(self.index)
        counted = [run for run in range(len(self.run_ids)) if run not in self.in_sample]
        firsts = self.first_returns[counted]
        present = firsts[firsts < n_bars]
        return range(int(present.max()) if len(present) else n_bars, n_bars)

    @cached_property
    def _spans(self) -> tuple[IntArray, IntArray]:
        n_bars, n_runs = self.returns.shape
        firsts = np.full(n_runs, n_bars, dtype=np.int64)
        ruined = np.full(n_runs, n_bars, dtype=np.int64)
        for start in range(0, n_runs, _RUNS_AT_ONCE):
            part = slice(start, min(start + _RUNS_AT_ONCE, n_runs))
            block = np.asarray(self.returns[:, part])
            finite = np.isfinite(block)
            firsts[part] = np.where(finite.any(axis=0), finite.argmax(axis=0), n_bars)
            lost = block <= -1.0
            ruined[part] = np.where(lost.any(axis=0), lost.argmax(axis=0), n_bars)
        return firsts, ruined
