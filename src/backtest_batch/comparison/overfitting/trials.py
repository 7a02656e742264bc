"""What the statistics are given, and their settings."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MAX_BLOCKS = 20
"""S blocks make S! / (S/2)!^2 splits: 184,756 at 20, and 2.7 million at 24."""


@dataclass(frozen=True, kw_only=True)
class OverfittingSettings:
    """How the statistics are computed.

    Attributes
    ----------
    blocks
        S, the number of contiguous blocks of the cross-validation; even, 2 to 20.
    draws
        Resamples of the bootstrap, at least 100.
    mean_block
        Mean length of the bootstrap's blocks, in (daily) bars; at least 1.
    seed
        Seed of every random number here.
    trials
        Whether N counts the decisions of the whole experiment or of this batch alone.

    Raises
    ------
    ValueError
        When a value is outside its range.
    """

    blocks: int = 16
    draws: int = 1_000
    mean_block: float = 10
    seed: int = 42
    trials: Literal["experiment", "batch"] = "experiment"

    def __post_init__(self) -> None:
        if self.blocks % 2 or not 2 <= self.blocks <= MAX_BLOCKS:
            raise ValueError(
                f"`blocks` must be even and from 2 to {MAX_BLOCKS}, but got blocks={self.blocks}."
            )
        if self.draws < 100:
            raise ValueError(f"`draws >= 100` must hold, but got draws={self.draws}.")
        if not 1 <= self.mean_block < np.inf:
            raise ValueError(f"`mean_block >= 1` must hold, but got mean_block={self.mean_block}.")
        if self.seed < 0:
            raise ValueError(f"`seed >= 0` must hold, but got seed={self.seed}.")
        if self.trials not in ("experiment", "batch"):
            raise ValueError(
                f"`trials` must be one of experiment, batch, but got trials={self.trials}."
            )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run, as the statistics see it.

    Attributes
    ----------
    run_id
        Name of the run.
    scenario
        The conditions it was judged under, as text; equal text, equal conditions.
    decision
        What the researcher chose, as text or hash; equal text, equal strategy.
    rank
        Place in the ranking, from 1; None when unranked.
    ruined
        Whether its equity fell to zero.
    benchmark
        Name of its benchmark: that with its own costs, calendar and warm-up. None for the one
        named like the scenario.
    calendar
        Name of the bars that its data have; None for all of them.
    risk_free
        Risk-free return a bar, subtracted from the run and its benchmark.
    """

    run_id: str
    scenario: str
    decision: str
    rank: int | None = None
    ruined: bool = False
    benchmark: str | None = None
    calendar: str | None = None
    risk_free: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The runs of a batch, in the order of the plan.

    Attributes
    ----------
    returns
        Net simple returns of shape (n_bars, n_runs), may be memory-mapped; not finite before a
        run's first return bar, after its ruin, and where its data have no bar.
    index
        Timestamps of the bars, increasing, shape (n_bars,). Where a calendar day holds several
        bars, returns are compounded to days.
    runs
        One entry a column of ``returns``.
    failed
        Runs without returns; each counts as a trial.
    benchmarks
        Net returns of the benchmarks by name, each of shape (n_bars,); see
        :attr:`Trial.benchmark`.
    calendars
        Which bars the data of runs have, by name, each of shape (n_bars,); see
        :attr:`Trial.calendar`.
    periods_per_year
        Bars a year.
    earlier_decisions
        By scenario: decisions that earlier batches of the experiment tried on its data.
    neighbour_sharpe
        By run_id: mean annual Sharpe ratio of the run's neighbours in the grid.
    walk_forward_t
        By run_id: t-statistic of the mean of the stitched out-of-sample returns of the
        walk-forward that the run took part in.
    judged_apart
        Keys of the data and dates that are conditions here: their values are judged one by one.

    Raises
    ------
    ValueError
        When shapes disagree, a run_id stands twice, or ``periods_per_year`` is not positive.
    """

    returns: FloatArray
    index: pd.DatetimeIndex
    runs: Sequence[Trial]
    failed: Sequence[Trial] = ()
    benchmarks: Mapping[str, FloatArray] = field(default_factory=dict)
    calendars: Mapping[str, BoolArray] = field(default_factory=dict)
    periods_per_year: float = 252.0
    earlier_decisions: Mapping[str, Collection[str]] = field(default_factory=dict)
    neighbour_sharpe: Mapping[str, float] = field(default_factory=dict)
    walk_forward_t: Mapping[str, float] = field(default_factory=dict)
    judged_apart: Sequence[str] = ()

    def __post_init__(self) -> None:
        expected = (len(self.index), len(self.runs))
        if self.returns.shape != expected:
            raise ValueError(
                f"`returns.shape == (len(index), len(runs))` must hold, but got "
                f"{self.returns.shape} and {expected}."
            )
        for kind, arrays in (("benchmark", self.benchmarks), ("calendar", self.calendars)):
            for name, array in arrays.items():
                if np.shape(array) != expected[:1]:
                    raise ValueError(
                        f"a {kind} must have shape {expected[:1]}, but '{name}' has "
                        f"{np.shape(array)}."
                    )
        names = Counter(run.run_id for run in self.runs)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise ValueError(f"each run_id must stand once, but these stand more often: {twice}.")
        if not 0 < self.periods_per_year < np.inf:
            raise ValueError(
                "`periods_per_year > 0` must hold, but got "
                f"periods_per_year={self.periods_per_year}."
            )

    def own_bars(self, column: int) -> BoolArray | None:
        """Return which bars the data of a run have, shape (n_bars,); None for all of them."""
        name = self.runs[column].calendar
        return None if name is None else self.calendars[name]

    def benchmark_name(self, column: int) -> str:
        """Return the name of a run's benchmark."""
        run = self.runs[column]
        return run.scenario if run.benchmark is None else run.benchmark
