"""A run as an audit asks about it: the same question, of fewer bars or of other ones."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.auditing.findings import NET_RETURN
from backtest_batch.core.backtest import read_warmup_bars
from backtest_batch.core.conditions import Conditions, conditions_of
from backtest_batch.core.construct import build
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.calendar import decision_bars
from backtest_batch.core.engine.metrics import result_metrics
from backtest_batch.core.engine.simulation import (
    Simulation,
    SimulationSettings,
    simulate,
    simulation_settings,
)
from backtest_batch.core.fitted_account import fitted_account
from backtest_batch.core.fitting import (
    fitted_weights,
    metrics_from,
    periods_per_year,
    session_end,
    split_plan,
)
from backtest_batch.core.own_account import OwnAccount, ask_for_account
from backtest_batch.core.splits import Split
from backtest_batch.core.strategies.base import target_weights
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import RunSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class StrategyAnswer:
    """What a strategy answered.

    Attributes
    ----------
    bars
        Decision bars of weights, or measured bars of an account, in positions of the whole panel,
        increasing, shape (n_rows,).
    values
        Target weights, or net returns in one column, shape (n_rows, n_columns).
    first_bar
        First bar of the account, in positions of the whole panel.
    account
        The account, where the strategy made it.
    """

    bars: IntArray
    values: FloatArray
    first_bar: int
    account: OwnAccount | None = None

    def thinned(self, most_values: int) -> "StrategyAnswer":
        """Return fewer rows of a large answer: the last ones, and others spread evenly."""
        n_rows = max(2, most_values // max(1, self.values.shape[1]))
        if len(self.bars) <= n_rows:
            return self
        spread = np.linspace(0, len(self.bars) - 1, n_rows // 2).astype(np.int64)
        kept = np.union1d(spread, np.arange(len(self.bars) - n_rows // 2, len(self.bars)))
        return replace(self, bars=self.bars[kept], values=self.values[kept], account=None)

    def until(self, last: int) -> "StrategyAnswer":
        """Return the rows up to and including a bar."""
        kept = self.bars <= last
        return replace(self, bars=self.bars[kept], values=self.values[kept], account=None)

    def gaps(self, other: "StrategyAnswer", last: int) -> tuple[IntArray, FloatArray]:
        """Return how far another answer is from this one, up to and including the bar ``last``.

        Rows that only one of them has are not compared.

        Returns
        -------
        rows : ndarray of shape (n_compared,)
            The rows of this answer that were compared.
        gaps : ndarray of shape (n_compared, n_columns)
            Absolute differences; infinite where only one of them is a number.
        """
        rows = np.flatnonzero(self.bars <= last)
        places = np.searchsorted(other.bars, self.bars[rows])
        places = np.minimum(places, max(0, len(other.bars) - 1))
        if len(other.bars) == 0:
            return rows[:0], np.empty((0, self.values.shape[1]))
        held = other.bars[places] == self.bars[rows]
        rows, places = rows[held], places[held]
        mine, its = self.values[rows], other.values[places]
        gaps = np.abs(mine - its)
        gaps[np.isnan(mine) & np.isnan(its)] = 0.0
        gaps[mine == its] = 0.0
        gaps[np.isnan(gaps)] = np.inf
        return rows, gaps


@dataclass(kw_only=True, eq=False)
class Case:
    """A run, and the questions that can be asked about it.

    Attributes
    ----------
    make_strategy
        Makes a new strategy, as the run does.
    panel
        The whole panel of the run.
    decisions
        Decision bars from the first measured bar on.
    first_bar, warmup_bars
        First measured bar, and the history that the strategy says that it needs.
    settings
        Costs, lag and caps of the run.
    conditions
        What a strategy that makes its own account is given; None for weights.
    splits
        Of a strategy that is fitted in each of them; empty for any other.
    per_year, risk_free_rate
        As the metrics of the run have them.
    in_state
        Puts the process into the state in which each question is asked.
    seconds
        Seconds of each question so far, with the bars that it had.
    """

    make_strategy: Callable[[], Any]
    panel: Panel
    decisions: IntArray
    first_bar: int
    warmup_bars: int
    settings: SimulationSettings
    conditions: Conditions | None = None
    splits: tuple[Split, ...] = ()
    per_year: float = 252.0
    risk_free_rate: float = 0.0
    in_state: Callable[[], AbstractContextManager[None]] = nullcontext
    seconds: list[tuple[float, int]] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of an answer."""
        return self.panel.symbols if self.conditions is None else (NET_RETURN,)

    @property
    def cuts(self) -> IntArray:
        """Bars after which the future may be cut off: decisions, or measured bars of accounts."""
        if self.conditions is None:
            first = self._entered if self.splits else self.first_bar
            last = self.splits[-1].test_end if self.splits else self.panel.n_bars - 2
            return self.decisions[(self.decisions >= first) & (self.decisions <= last)]
        first = self.splits[0].test_start + 1 if self.splits else self.first_bar + 2
        return np.arange(first, self.panel.n_bars - 1, dtype=np.int64)

    @property
    def _entered(self) -> int:
        """First bar from which on the first split is known."""
        return max(
            self.splits[0].test_start - 1 - self.settings.execution_lag, self.splits[0].train_end
        )

    def expected_seconds(self, n_bars: int) -> float | None:
        """Return how long a question with so many bars takes; None if nothing was asked yet.

        It is in proportion to the bars of the longest question so far; one of fewer than a tenth of
        all bars mostly shows what every question costs.
        """
        if not self.seconds:
            return None
        taken, bars = max(self.seconds, key=lambda item: (item[1], -item[0]))
        return taken * n_bars / max(bars, self.panel.n_bars / 10)

    def ask(
        self, panel: Panel | None = None, *, start: int = 0, first: int = 0, last: int | None = None
    ) -> StrategyAnswer:
        """Ask a new strategy.

        Parameters
        ----------
        panel
            What it is shown; None for the whole panel.
        start
            Where in the whole panel that begins.
        first, last
            First and last decision that it is asked for, in positions of the whole panel.

        Raises
        ------
        Exception
            Whatever the strategy raises, and what is wrong with its answer.
        """
        seen = self.panel if panel is None else panel
        bound = self.panel.n_bars if last is None else last
        decisions = self.decisions[(self.decisions >= first) & (self.decisions <= bound)]
        began = time.perf_counter()
        with self.in_state():
            answer = self._asked(seen, start, max(self.first_bar, first), decisions)
        self.seconds.append((time.perf_counter() - began, seen.n_bars))
        return answer

    def _asked(
        self, seen: Panel, start: int, first_bar: int, decisions: IntArray
    ) -> StrategyAnswer:
        if self.conditions is not None:
            account = self._account(seen, start, first_bar, decisions)
            # Before the account begins it earns nothing: when it does is an answer as well.
            began = account.first_bar + start
            since = min(began, first_bar)
            bars = np.arange(since, began + account.n_measured, dtype=np.int64)
            values = np.zeros((len(bars), 1))
            values[began - since :, 0] = account.net_return
            return StrategyAnswer(bars=bars, values=values, first_bar=int(bars[0]), account=account)
        if self.splits:
            found = fitted_weights(
                self.make_strategy,
                seen,
                decisions,
                self._known_splits(seen),
                execution_lag=self.settings.execution_lag,
            ).out_of_sample
            return StrategyAnswer(
                bars=found.decisions, values=found.weights, first_bar=found.first_bar
            )
        weights = target_weights(self.make_strategy(), seen, decisions - start)
        # A strategy may return an array that it changes at the next call.
        return StrategyAnswer(bars=decisions, values=np.array(weights), first_bar=first_bar)

    def _account(self, seen: Panel, start: int, first_bar: int, decisions: IntArray) -> OwnAccount:
        assert self.conditions is not None
        # Nothing could be executed after the last bar.
        own = decisions[decisions - start < seen.n_bars - 1] - start
        own.setflags(write=False)
        conditions = replace(self.conditions, first_bar=first_bar - start, decisions=own)
        if not self.splits:
            return ask_for_account(self.make_strategy(), seen, conditions)
        splits = [split for split in self.splits if split.test_start < seen.n_bars]
        return fitted_account(self.make_strategy, seen, conditions, splits, None).account

    def _known_splits(self, seen: Panel) -> list[Split]:
        """Return the splits whose weights are wanted of a panel that ends early."""
        lag, last = self.settings.execution_lag, seen.n_bars - 1
        return [
            split
            for split in self.splits
            if split.number == 0 or max(split.test_start - 1 - lag, split.train_end) <= last
        ]

    def metrics(self, answer: StrategyAnswer) -> dict[str, float]:
        """Return the metrics of the account that follows from an answer, without a benchmark."""
        account: Simulation | OwnAccount
        account = answer.account if answer.account is not None else self.simulated(answer)
        since = self.splits[0].test_start if self.splits else None
        if since is not None and (account.ruined_bar is None or account.ruined_bar >= since):
            return metrics_from(
                since,
                account,
                self.panel,
                periods_per_year=self.per_year,
                risk_free_rate=self.risk_free_rate,
            )
        found, _ = result_metrics(
            account, periods_per_year=self.per_year, risk_free_rate=self.risk_free_rate
        )
        return found

    def simulated(self, answer: StrategyAnswer) -> Simulation:
        """Return the account that trades the weights of an answer."""
        return simulate(self.panel, answer.bars, answer.values, self.settings, answer.first_bar)


def case_of_run(
    run: RunSpec,
    panel: Panel,
    in_state: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Case:
    """Return the case of a planned run.

    Parameters
    ----------
    run, panel
        The run and its data.
    in_state
        Puts the process into the state in which a strategy is asked.

    Raises
    ------
    ConfigurationError
        When its strategy cannot be built.
    """
    config = run.config
    bars = decision_bars(panel.index, config["rebalance"], session_end(config))
    decisions = bars[bars >= run.first_bar]
    warmup, faults = read_warmup_bars(_strategy(config, run.strategy_seed))
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    own = run.strategy_kind == "account"
    return Case(
        make_strategy=lambda: _strategy(config, run.strategy_seed),
        panel=panel,
        decisions=decisions,
        first_bar=run.first_bar,
        warmup_bars=warmup,
        settings=simulation_settings(config),
        conditions=conditions_of(config, run.first_bar, decisions) if own else None,
        splits=() if run.fit_bars is None else tuple(split_plan(run, panel, run.fit_bars).splits),
        per_year=periods_per_year(config),
        risk_free_rate=float(config["risk_free_rate"]),
        in_state=in_state,
    )


def _strategy(config: Mapping[str, Any], seed: int) -> Any:
    strategy, faults = build(config["strategy"], key="strategy", seed=seed)
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    return strategy
