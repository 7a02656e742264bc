"""Returns that were computed elsewhere, as runs: what they need to be compared and judged.

Of such trials only the returns are known, and perhaps which values each of them tried. Their
metrics are those that a path of equity has.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.conclusion import NO_BENCHMARK, Conclusion, ReturnsOfRuns, conclude
from backtest_batch.analysis.overfitting.samples import OverfittingSettings
from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.scenarios import AxisKinds, is_market, value_as_typed
from backtest_batch.arrays import FloatArray
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.engine.metrics import EQUITY_METRICS, equity_metrics
from backtest_batch.errors import ConfigurationError
from backtest_batch.interrupt import heed

if TYPE_CHECKING:
    from backtest_batch.core.factors import FactorReturns

_ROWS_BETWEEN_SIGNALS = 1_000
_GIVEN = "given"


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenReturns:
    """Returns of trials, and what is known about them.

    Attributes
    ----------
    returns
        Net simple returns, shape (n_bars, n_trials), columns named by the trials; NaN where a trial
        has none. The index increases.
    benchmark
        Returns of what the trials are compared with, shape (n_bars,); None without one.
    is_against_cash
        Whether there is no benchmark by choice.
    factors
        Returns by which those of the trials are explained; None without any.
    params
        The values that each trial tried, typed, indexed by trial; trials that are not among
        ``returns`` were tried as well. None where nothing is known: each trial is a choice then.
    failed
        Those of them that failed.
    kinds
        Which of these values are conditions.
    n_trials
        How many choices were tried; None for as many as are here.
    periods_per_year
        Bars per year.
    session_end
        Time at which the market's days end, ``HH:MM``; None is midnight.
    risk_free_rate
        Annual rate.
    """

    returns: pd.DataFrame
    benchmark: FloatArray | None = None
    is_against_cash: bool = False
    factors: "FactorReturns | None" = None
    params: pd.DataFrame | None = None
    failed: frozenset[str] = frozenset()
    kinds: AxisKinds = field(default_factory=AxisKinds)
    n_trials: int | None = None
    periods_per_year: float = 252.0
    session_end: str | None = None
    risk_free_rate: float = 0.0


def conclude_given(
    given: GivenReturns,
    ranking: Ranking,
    settings: OverfittingSettings,
    notes: Sequence[str] = (),
) -> Conclusion:
    """Compare and judge trials of which only returns are known.

    Parameters
    ----------
    given
        The trials.
    ranking
        How they are ranked.
    settings
        How the statistics are computed.
    notes
        Sentences to put before the notes of the comparison.

    Raises
    ------
    ConfigurationError
        When fewer trials are said to have been tried than are here.
    """
    table, ruins = _table(given)
    decisions = _decisions(table)
    unkept = 0
    if given.n_trials is not None:
        unkept = given.n_trials - len(set(decisions))
        if unkept < 0:
            raise ConfigurationError(
                f"n_trials={given.n_trials}: must count every trial that there was, and here alone "
                f"are {len(set(decisions)):,}"
            )
    n_runs, values = len(table), np.full((len(given.returns), len(table)), np.nan)
    values[:, : given.returns.shape[1]] = given.returns.to_numpy()
    benchmarks = np.empty((len(values), 0))
    benchmark_of: list[int | None] = [None if given.is_against_cash else NO_BENCHMARK] * n_runs
    if given.benchmark is not None:
        benchmarks, benchmark_of = given.benchmark[:, None], [0] * n_runs
    axes = table.params.columns
    return conclude(
        table,
        ranking,
        returns=ReturnsOfRuns(
            index=pd.DatetimeIndex(given.returns.index),
            returns=values,
            benchmarks=benchmarks,
            benchmark_of=benchmark_of,
            decisions=decisions,
            risk_free=[given.risk_free_rate / given.periods_per_year] * n_runs,
            periods_per_year=given.periods_per_year,
            session_end=given.session_end,
            judged_apart=[name for name in given.kinds.scenario_names(axes) if is_market(name)],
            unkept=unkept,
            factors={} if given.factors is None else {_GIVEN: given.factors},
            factors_of=() if given.factors is None else [_GIVEN] * n_runs,
        ),
        settings=settings,
        notes=[*notes, *ruins, *given.kinds.without_effect(list(axes))],
    )


def _table(given: GivenReturns) -> tuple[RunTable, list[str]]:
    """Return the trials as a table, those without returns last, and a note on the ruined ones."""
    names = given.returns.columns.tolist()
    params = given.params
    others: list[str] = []
    if params is None:
        params = pd.DataFrame(index=pd.Index(names, dtype=object))
    else:
        held = set(names)
        others = [name for name in params.index.tolist() if name not in held]
    ended = ["FAILED" if name in given.failed else "FINISHED" for name in others]
    index = pd.RangeIndex(len(names) + len(others))
    values = given.returns.to_numpy()
    ruin = _ruins(values)
    metrics = [_metrics_of(column, given, bar) for column, bar in zip(values.T, ruin, strict=True)]
    table = RunTable(
        runs=pd.DataFrame(
            {
                "run_id": pd.Series([*names, *others], index=index, dtype=object),
                "status": ["FINISHED"] * len(names) + ended,
                "ruined": [bar >= 0 for bar in ruin] + [False] * len(others),
            },
            index=index,
        ),
        params=params.reindex([*names, *others]).astype(object).set_axis(index),
        metrics=pd.DataFrame(metrics, index=index[: len(names)], columns=list(EQUITY_METRICS))
        .dropna(axis=1, how="all")
        .reindex(index),
        scenario_axes=given.kinds.scenario_names(params.columns),
    )
    return table, _ruin_note(given.returns, ruin)


def _ruins(values: FloatArray) -> list[int]:
    """Return the bar at which each trial loses all it has; -1 for those that do not."""
    lost = values <= -1.0
    return [int(bar) for bar in np.where(lost.any(axis=0), lost.argmax(axis=0), -1)]


def _ruin_note(returns: pd.DataFrame, ruin: Sequence[int]) -> list[str]:
    ruined = [column for column, bar in enumerate(ruin) if bar >= 0]
    if not ruined:
        return []
    first = ruined[0]
    moment, value = returns.index[ruin[first]], float(returns.iloc[:, first].iloc[ruin[first]])
    others = f" and {len(ruined) - 1:,} more" if len(ruined) > 1 else ""
    name = str(returns.columns[first])
    return [
        f"{name}{others} lost everything ({value:.0%} at {moment_text(moment)}): "
        "counted as tried, not tested."
    ]


def _metrics_of(column: FloatArray, given: GivenReturns, ruin: int) -> dict[str, float]:
    """Return the metrics of one trial on its own bars; none where it has gaps or no returns."""
    known = np.flatnonzero(np.isfinite(column))
    if known.size == 0:
        return {}
    first, last = int(known[0]), int(known[-1]) if ruin < 0 else ruin
    own = column[first : last + 1]
    if not np.isfinite(own).all():
        return {}
    with np.errstate(over="ignore", invalid="ignore"):
        equity = np.concatenate(([1.0], np.cumprod(1.0 + own)))
    if not (np.isfinite(equity).all() and (equity[:-1] > 0.0).all()):
        return {}
    benchmark = None
    if given.benchmark is not None:
        benchmark = np.concatenate(([0.0], given.benchmark[first : last + 1]))
    metrics, _ = equity_metrics(
        equity,
        periods_per_year=given.periods_per_year,
        risk_free_rate=given.risk_free_rate,
        benchmark_returns=benchmark,
    )
    return metrics


def metrics_of_benchmark(given: GivenReturns, trial: str | None) -> dict[str, float]:
    """Return the metrics of the benchmark on the bars of a trial; empty without one of them."""
    if given.benchmark is None or trial not in given.returns:
        return {}
    known = np.flatnonzero(np.isfinite(given.returns[trial].to_numpy()))
    bars = slice(int(known[0]), int(known[-1]) + 1) if known.size else slice(0, 0)
    alone = GivenReturns(
        returns=given.returns[[]],
        periods_per_year=given.periods_per_year,
        risk_free_rate=given.risk_free_rate,
    )
    return _metrics_of(given.benchmark[bars], alone, -1)


def _decisions(table: RunTable) -> list[str]:
    """Return what was chosen in each trial, equal text for equal choices."""
    names = table.runs["run_id"].tolist()
    if not len(table.params.columns):
        return [str(name) for name in names]
    axes = list(table.decision_axes)
    texts: list[list[Any]] = [[] for _ in names]
    for position, axis in enumerate(axes):
        if position % _ROWS_BETWEEN_SIGNALS == 0:
            heed()
        levels = table.levels[axis]
        shown = [value_as_typed(value) for value in levels.values]
        for text, code in zip(texts, levels.codes.tolist(), strict=True):
            text.append(shown[code])
    return [json.dumps(text) for text in texts]


def untested_note(conclusion: Conclusion) -> list[str]:
    """Return one sentence on the trials that the statistics leave out; empty where there are none.

    Parameters
    ----------
    conclusion
        With an assessment.
    """
    if conclusion.assessment is None:
        return []
    document = conclusion.assessment.document
    left_out = [
        item
        for scenario in (document, *document["scenarios"])
        for item in scenario["excluded"]
        if not item["reason"].startswith("ruined")  # said before, with the moment
    ]
    if not left_out:
        return []
    shown = "; ".join(f"{item['run_id']}: {item['reason']}" for item in left_out[:_SHOWN])
    more = f"; and {len(left_out) - _SHOWN:,} more" if len(left_out) > _SHOWN else ""
    count = f"{len(left_out):,} trial{'s' * (len(left_out) > 1)}"
    return [f"{count} counted as tried, but not tested ({shown}{more})."]


_SHOWN = 3
