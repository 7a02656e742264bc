"""The data of a report: frozen, plain, mostly optional; and its numbers as JSON."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.arrays import FloatArray
from backtest_batch.errors import ConfigurationError

Rows = Mapping[str, str]
"""Text by name, shown as a table of two columns in the order given."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Net returns of some runs on one index.

    Attributes
    ----------
    timestamps
        Bars in ascending order, shape (n_bars,), of dtype datetime64, without time zone.
    net_returns
        Net returns by the name to show (the run_id), best run first, each of shape (n_bars,). NaN
        up to and including a run's first measured bar, and after the end of a ruined run.
    benchmark
        The benchmark's net returns, likewise; None without one.
    total
        Number of runs that have returns, of which these are the best; None when these are all.

    Raises
    ------
    ConfigurationError
        When the shapes differ.
    """

    timestamps: npt.NDArray[np.datetime64]
    net_returns: Mapping[str, FloatArray]
    benchmark: FloatArray | None = None
    total: int | None = None

    def __post_init__(self) -> None:
        given = dict(self.net_returns)
        if self.benchmark is not None:
            given["benchmark"] = self.benchmark
        wrong = [
            f"{name} {values.shape}"
            for name, values in given.items()
            if values.shape != self.timestamps.shape
        ]
        if wrong:
            raise ConfigurationError(
                f"net returns must have the shape {self.timestamps.shape} of the timestamps, but "
                f"got {', '.join(wrong)}."
            )

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, total: int | None = None) -> "Curves":
        """Return the curves of a frame with one column per run, as in returns.parquet.

        Parameters
        ----------
        frame
            Net returns indexed by timestamp, best run first; the column ``benchmark`` is the
            benchmark. A time zone is dropped, the local time stays.
        total
            Number of runs that have returns; None when these are all.
        """
        index = pd.DatetimeIndex(frame.index).tz_localize(None)
        columns = {str(name): frame[name].to_numpy(dtype=np.float64) for name in frame.columns}
        benchmark = columns.pop("benchmark", None)
        return cls(
            timestamps=index.to_numpy(), net_returns=columns, benchmark=benchmark, total=total
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SelectionSamples:
    """The samples behind the verdict, for its two histograms.

    Attributes
    ----------
    logits
        lambda of every split of the cross-validation; empty when undefined.
    null_maxima
        Largest Sharpe ratios per bar of the trials, resampled without skill; empty when undefined.
    statistic
        The largest Sharpe ratio per bar, which they are compared with; None when undefined.
    """

    logits: FloatArray
    null_maxima: FloatArray
    statistic: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class WalkForwardView:
    """What the report shows of a walk-forward.

    Attributes
    ----------
    findings
        What :func:`.summarise` returned, the scenario of the verdict first.
    choices
        What :func:`.choices_table` returned.
    curves
        What :func:`.compared_curves` returned for the first scenario.
    """

    findings: Sequence[Mapping[str, Any]]
    choices: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportData:
    """Everything that report.html shows; what is missing has no section, or one that says why.

    Attributes
    ----------
    title
        Name of the batch or of the comparison.
    table
        The runs, failed ones included.
    ranked
        What :func:`.rank_runs` returned for them.
    ranking
        How they were ranked.
    description
        The user's description of the batch.
    tags
        The user's tags.
    facts
        A few facts for the head of the page: batch id, data, dates, when, how long.
    provenance
        Sections of facts: command, versions, git, fingerprints, host, ...
    notes
        Sentences to show below the verdict: parameters that change nothing, an optimum on the
        edge of the grid, warm-ups that differ.
    differences
        What :func:`.differences` returned for the batches compared; shown first.
    overfitting
        overfitting.json; None when it was not computed.
    selection
        The samples behind it.
    walk_forward
        The walk-forward; None without one.
    curves
        Net returns of the best runs and of the benchmark.
    benchmark_metrics
        Result metrics of the benchmark, by name without prefix.
    benchmark_name
        What the benchmark is; empty for equal weights.
    sensitivity, importance
        What :func:`.parameter_sensitivity` and :func:`.parameter_importance` returned.
    costs
        commission_bps, spread_bps and impact_bps as configured; used for those that are not swept.
        If one of them is missing, the cost of a run is unknown.
    timings
        Seconds by stage of the batch.
    command
        The command that repeats the best run, shell-quoted.
    extra
        Further columns of the leaderboard as text, indexed like ``table``.
    """

    title: str
    table: RunTable
    ranked: pd.DataFrame
    ranking: Ranking
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Rows = field(default_factory=dict)
    provenance: Mapping[str, Rows] = field(default_factory=dict)
    notes: Sequence[str] = ()
    differences: pd.DataFrame | None = None
    overfitting: Mapping[str, Any] | None = None
    selection: SelectionSamples | None = None
    walk_forward: WalkForwardView | None = None
    curves: Curves | None = None
    benchmark_metrics: Mapping[str, float] = field(default_factory=dict)
    benchmark_name: str = ""
    sensitivity: pd.DataFrame | None = None
    importance: pd.DataFrame | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    command: str = ""
    extra: pd.DataFrame | None = None


SIGNIFICANT_DIGITS = 6
"""Digits of a number in the page; rankings.csv has all of them."""


def plain_number(value: float, digits: int = SIGNIFICANT_DIGITS) -> float | int | None:
    """Return a number with ``digits`` significant digits; None if it is not finite.

    Whole numbers become integers, which are shorter in JSON.
    """
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def plain_numbers(
    values: Iterable[float], digits: int = SIGNIFICANT_DIGITS
) -> list[float | int | None]:
    """Return :func:`plain_number` of each value."""
    return [plain_number(value, digits) for value in values]


def script_json(document: Any) -> str:
    """Return JSON that is safe inside a script element, whatever texts it holds.

    Parameters
    ----------
    document
        Plain values without NaN.

    Returns
    -------
    str
        JSON in which no ``<``, ``>`` or ``&`` occurs, so that no text can end the element.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    # Lone surrogates cannot be written as UTF-8.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
