"""Ranking of runs: by one metric or a weighted score, under hard constraints.

The Pareto front is the runs that no other run dominates in the metrics of the score.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from backtest_batch.analysis.run_table import (
    OUT_OF_SAMPLE,
    RunTable,
    choices,
    direction_of,
    engine_metric,
    id_order,
    known_metrics,
)
from backtest_batch.arrays import BoolArray, FloatArray
from backtest_batch.core.engine.metrics import may_be_own
from backtest_batch.errors import ConfigurationError, Fault

Normalise = Literal["rank", "zscore", "minmax"]

NORMALISATIONS: tuple[str, ...] = get_args(Normalise)

DECIMALS = 12
"""Scores are rounded so that sums of equal shares tie, whatever the order of their terms."""


def good_values(
    metrics: pd.DataFrame, names: list[str], own: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Return metrics with signs such that more is better, for the runs that have all of them.

    Parameters
    ----------
    metrics
        Metrics of the runs, shape (n_runs, n_metrics).
    names
        Columns to take; each must have a direction.
    own
        Directions of metrics of a strategy's own.

    Returns
    -------
    DataFrame of shape (n_complete, n_names)
        Runs that lack one of the metrics are left out.
    """
    found = [(own or {}).get(name) or direction_of(name) for name in names]
    directions = np.array(found, dtype=np.float64)
    return metrics.reindex(columns=names).dropna() * directions


def weighted_score(
    metrics: pd.DataFrame,
    weights: Mapping[str, float],
    normalise: Normalise = "rank",
    own: Mapping[str, int] | None = None,
) -> pd.Series:
    """Return the weighted mean of the normalised metrics; more is better.

    ``score = sum_i w_i n_i(d_i m_i)`` with the weights w (summing to 1), the direction d (+1 when
    more is better, -1 when less is) and the normalisation n over all runs that have every metric:

    - ``rank``: percentile rank in (0, 1], average rank of ties over the number of runs. Outliers
      cannot distort it.
    - ``zscore``: (x - mean) / std with ddof 1; 0 where nothing varies.
    - ``minmax``: (x - min) / (max - min), in [0, 1]; 0.5 where nothing varies.

    Parameters
    ----------
    metrics
        Metrics of the runs, shape (n_runs, n_metrics).
    weights
        Weight of each metric, summing to 1.
    normalise
        How metrics are made comparable.
    own
        Directions of metrics of a strategy's own.

    Returns
    -------
    Series of shape (n_runs,)
        Rounded to 12 decimals; NaN for runs that lack one of the metrics.
    """
    names = sorted(weights)
    values = good_values(metrics, names, own)
    shares = np.array([weights[name] for name in names])
    score = (_normalised(values, normalise) * shares).sum(axis=1)
    return score.round(DECIMALS).reindex(metrics.index).rename("score")


def _normalised(values: pd.DataFrame, normalise: Normalise) -> pd.DataFrame:
    if normalise == "rank":
        return values.rank(method="average", pct=True)
    # Neither form depends on the scale; without scaling, squares of very large metrics overflow.
    scale = values.abs().max()
    values = values / scale.where(scale > 0, 1.0)
    lowest, highest = values.min(), values.max()
    if normalise == "minmax":
        scaled, if_constant = (values - lowest) / (highest - lowest), 0.5
    else:
        scaled, if_constant = (values - values.mean()) / values.std(ddof=1), 0.0
    return scaled.mask((highest == lowest).to_numpy()[None, :].repeat(len(values), 0), if_constant)


OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    ">=": ge,
    "<=": le,
    "==": eq,
    "!=": ne,
    ">": gt,
    "<": lt,
}

_COMPARISON = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*")

_FORM = "must be a comparison with a number, such as '>= -0.3'; the operators are " + ", ".join(
    OPERATORS
)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """One metric compared with a bound, such as ``max_drawdown >= -0.3``.

    Attributes
    ----------
    metric
        Name of the metric.
    operator
        One of :data:`OPERATORS`.
    bound
        The number that the metric is compared with.
    """

    metric: str
    operator: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.bound!r}"

    def shortfalls(self, values: pd.Series) -> pd.Series:
        """Say for each run why it does not meet the constraint.

        Parameters
        ----------
        values
            The metric of each run; NaN where it is missing.

        Returns
        -------
        Series of text
            Empty where the constraint is met. A missing metric does not meet it.
        """
        met = OPERATORS[self.operator](values, self.bound) & values.notna()
        texts = [
            "" if fine else self._shortfall(value)
            for fine, value in zip(met.tolist(), values.tolist(), strict=True)
        ]
        return pd.Series(texts, index=values.index, dtype=object)

    def _shortfall(self, value: float) -> str:
        if math.isnan(value):
            return f"{self.metric} is missing, `{self}` must hold"
        return f"`{self}` must hold, but got {value!r}"


def parse_constraints(
    given: Any, own: Collection[str] = ()
) -> tuple[list[Constraint], list[Fault]]:
    """Read constraints as written in the configuration.

    Parameters
    ----------
    given
        Mapping of metric to text, such as ``{max_drawdown: ">= -0.3", trades: ">= 50"}``; None and
        an empty mapping mean no constraints.
    own
        Names of metrics of a strategy's own.

    Returns
    -------
    tuple
        The constraints that could be read, and the faults of those that could not.
    """
    if given is None:
        return [], []
    if not isinstance(given, Mapping):
        allowed = "must be a mapping of metrics to comparisons, such as {max_drawdown: '>= -0.3'}"
        return [], [Fault(key="constraints", value=given, allowed=allowed)]
    read = [_parse(str(metric), text, own) for metric, text in given.items()]
    return (
        [item for item in read if isinstance(item, Constraint)],
        [item for item in read if isinstance(item, Fault)],
    )


def _parse(metric: str, text: Any, own: Collection[str]) -> Constraint | Fault:
    key = f"constraints.{metric}"
    if engine_metric(metric) is None and metric not in own:
        allowed = (
            f"there is no metric '{metric}'; {choices(metric, known_metrics())}; "
            f"{_own_hint(metric)}"
        )
        return Fault(key=key, value=text, allowed=allowed)
    match = _COMPARISON.fullmatch(text) if isinstance(text, str) else None
    bound = _number(match.group(2)) if match else None
    if match is None or bound is None:
        return Fault(key=key, value=text, allowed=_FORM)
    return Constraint(metric=metric, operator=match.group(1), bound=bound)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def shortfalls(constraints: Sequence[Constraint], metrics: pd.DataFrame) -> Iterator[pd.Series]:
    """Yield for each constraint, and each run, why it is not met (empty where it is).

    Parameters
    ----------
    constraints
        What must hold.
    metrics
        Metrics of the runs, shape (n_runs, n_metrics); a constrained metric without a column is
        missing in every run.
    """
    for constraint in constraints:
        if constraint.metric in metrics:
            values = metrics[constraint.metric]
        else:
            values = pd.Series(math.nan, index=metrics.index)
        yield constraint.shortfalls(values)


BLOCK = 256
"""Number of points compared with the front at once; limits the memory of a comparison."""


def pareto_front(values: FloatArray) -> BoolArray:
    """Mark the points that no other point dominates.

    One point dominates another when it is at least as good in every column and better in one.
    Equal points do not dominate each other: all of them are on the front, or none.

    Parameters
    ----------
    values
        Array of shape (n_runs, n_metrics), larger is better, without NaN.

    Returns
    -------
    ndarray of shape (n_runs,)
        True for the points of the front; with one column these are the best.
    """
    n_runs, n_metrics = values.shape
    if n_runs == 0 or n_metrics == 0:
        return np.ones(n_runs, dtype=np.bool_)
    distinct, inverse = np.unique(values, axis=0, return_inverse=True)
    # In descending lexicographic order, only an earlier point can dominate a point.
    descending = distinct[::-1]
    on_front = np.zeros(len(descending), dtype=np.bool_)
    front = descending[:0]
    for start in range(0, len(descending), BLOCK):
        block = descending[start : start + BLOCK]
        candidates = np.flatnonzero(~_dominated(block, by=front))
        candidate_rows = block[candidates]
        alone = ~_dominated(candidate_rows, by=candidate_rows)
        on_front[start + candidates[alone]] = True
        front = np.concatenate([front, candidate_rows[alone]])
    return on_front[::-1][inverse.ravel()]


def _dominated(points: FloatArray, *, by: FloatArray) -> BoolArray:
    """Return which points are dominated by one of the others; all of them are distinct."""
    at_least: BoolArray = np.ones((len(points), len(by)), dtype=np.bool_)
    for column in range(points.shape[1]):
        at_least &= by[:, column] >= points[:, column, None]
    if by is points:
        np.fill_diagonal(at_least, val=False)
    return np.asarray(at_least.any(axis=1), dtype=np.bool_)


_RANK_BY_FORM = (
    "must be a metric, or a mapping of metrics to weights such as {sharpe: 0.7, calmar: 0.3}"
)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How runs are ranked.

    Attributes
    ----------
    weights
        Share of each chosen metric in the score, summing to 1; a single metric has the share 1.
    constraints
        What a run must meet to be ranked.
    normalise
        How metrics are made comparable in a score of several.
    own
        Metrics of a strategy's own: +1 where more is better, -1 where less is.
    """

    weights: Mapping[str, float]
    constraints: tuple[Constraint, ...] = ()
    normalise: Normalise = "rank"
    own: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(
        cls,
        rank_by: Any = "sharpe",
        constraints: Any = None,
        normalise: Any = "rank",
        metric_directions: Any = None,
    ) -> "Ranking":
        """Read a ranking as written in the configuration.

        Parameters
        ----------
        rank_by
            A metric, or a mapping of metrics to weights. Weights are at least 0 and are divided by
            their sum; a weight counts towards the metric's good direction, so that
            ``turnover_annual: 0.2`` rewards little turnover. A weight of 0 drops the metric.
        constraints
            Mapping of metrics to comparisons, such as ``{max_drawdown: ">= -0.3"}``.
        normalise
            ``rank``, ``zscore`` or ``minmax``.
        metric_directions
            ``max`` or ``min`` by name, for metrics of a strategy's own.

        Raises
        ------
        ConfigurationError
            With every fault at once: an unknown metric, a metric without a better direction, a
            weight that is negative or not a number, weights that sum to 0, a malformed constraint.
        """
        own, faults = _parse_directions(metric_directions)
        weights, weight_faults = _parse_weights(rank_by, own)
        read, constraint_faults = parse_constraints(constraints, own)
        faults += [*weight_faults, *constraint_faults]
        if normalise not in NORMALISATIONS:
            allowed = "must be one of " + ", ".join(NORMALISATIONS)
            faults.append(Fault(key="normalise", value=normalise, allowed=allowed))
        if faults:
            raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
        return cls(weights=weights, constraints=tuple(read), normalise=normalise, own=own)

    def direction_of(self, name: str) -> int:
        """Return +1 when more of a metric is better, -1 when less is, 0 for neither."""
        return self.own.get(name) or direction_of(name)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The chosen metrics, in the order given."""
        return tuple(self.weights)

    @property
    def weighted(self) -> bool:
        """Whether several metrics are weighed against each other."""
        return len(self.weights) > 1

    @property
    def out_of_sample_metrics(self) -> tuple[str, ...]:
        """Chosen metrics that stop being out-of-sample because runs are selected by them."""
        used = (*self.weights, *(item.metric for item in self.constraints))
        return tuple(dict.fromkeys(name for name in used if name.startswith(OUT_OF_SAMPLE)))

    def __str__(self) -> str:
        def described(name: str) -> str:
            return f"{name} ({'more' if self.direction_of(name) > 0 else 'less'} is better)"

        if self.weighted:
            terms = (f"{share:.3g} {described(name)}" for name, share in self.weights.items())
            text = f"{' + '.join(terms)}, normalised by {self.normalise}"
        else:
            text = described(self.metrics[0])
        conditions = " and ".join(str(item) for item in self.constraints)
        return f"{text}, where {conditions}" if conditions else text


def rank_runs(table: RunTable, ranking: Ranking) -> pd.DataFrame:
    """Rank the runs of a table.

    The FINISHED runs that have every chosen metric and meet every constraint are ranked: by the
    metric itself in its good direction when only one is chosen, else by the score (see
    :func:`.weighted_score`, taken over the ranked runs). Ties are broken by run_id (then
    batch_id) in plain order of characters, so ranks are 1, 2, ... without gaps.

    Parameters
    ----------
    table
        The runs.
    ranking
        How to rank them.

    Returns
    -------
    DataFrame of shape (n_runs, 5)
        Indexed like the table, ranked runs first in order of rank, then the others by run_id:

        - rank, rank_in_scenario: from 1; missing for unranked runs.
        - score: larger is better; NaN for unranked runs.
        - pareto: whether no ranked run is at least as good in every chosen metric and better in
          one.
        - unranked: why a run has no rank; empty for the ranked.
    """
    reasons = _reasons(table, ranking)
    ranked = reasons == ""
    metrics = table.metrics[ranked]
    good = good_values(metrics, list(ranking.metrics), ranking.own)
    score = weighted_score(metrics, ranking.weights, ranking.normalise, ranking.own)
    criterion = score if ranking.weighted else good[ranking.metrics[0]]

    by_id = table.runs.index[id_order(table)]
    order = criterion.reindex(by_id).sort_values(ascending=False, kind="stable").index
    best_first = order[ranked.reindex(order).to_numpy()]
    result = pd.DataFrame(index=order)
    ranks = pd.Series(np.arange(1, len(best_first) + 1), index=best_first)
    within = table.scenario.reindex(best_first).groupby(table.scenario.reindex(best_first))
    result["rank"] = ranks.reindex(order).astype("Int64")
    result["rank_in_scenario"] = (within.cumcount() + 1).reindex(order).astype("Int64")
    result["score"] = score.reindex(order)
    front = pd.Series(pareto_front(good.to_numpy()), index=good.index)
    result["pareto"] = front.reindex(order, fill_value=False).astype(bool)
    result["unranked"] = reasons.reindex(order)
    return result


def unranked_counts(ranked: pd.DataFrame) -> dict[str, int]:
    """Return how many runs are unranked for each kind of reason, most frequent first.

    Parameters
    ----------
    ranked
        What :func:`rank_runs` returned. A run with several reasons counts under each.
    """
    kinds = Counter(
        reason.partition(", but got")[0]
        for text in ranked["unranked"]
        for reason in text.split("; ")
        if reason
    )
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def podium(table: RunTable, metrics: Sequence[str]) -> pd.DataFrame:
    """Return which runs are among the best three in each metric.

    Parameters
    ----------
    table
        The runs; only FINISHED ones take part.
    metrics
        Columns of ``table.metrics``.

    Returns
    -------
    DataFrame of shape (n_runs, n_metrics)
        1, 2 or 3, ties sharing the better rank; 0 for all other runs, for metrics without a better
        direction and for metrics that are equal in all runs.
    """
    directions = np.array([direction_of(name) for name in metrics], dtype=np.float64)
    good = table.metrics.loc[table.finished, list(metrics)] * directions
    ranks = good.rank(method="min", ascending=False)
    differs = np.asarray(good.max() > good.min(), dtype=np.bool_)
    near = np.asarray(ranks <= 3, dtype=np.bool_)
    ranks = ranks.where(near & differs, 0).astype(np.int64)
    return ranks.reindex(table.metrics.index, fill_value=0)


def _reasons(table: RunTable, ranking: Ranking) -> pd.Series:
    """Say for each run why it cannot be ranked; empty where it can."""
    status = table.runs["status"].astype(str)
    unknown = pd.Series("", index=status.index)
    errors = table.runs.get("error_type", unknown)
    texts = [_how_it_ended(*pair) for pair in zip(status, errors, strict=True)]
    reasons = pd.Series(texts, index=table.runs.index, dtype=object)
    unfinished = ~table.finished
    found = [_missing(table, name) for name in ranking.metrics]
    for text in (*found, *shortfalls(ranking.constraints, table.metrics)):
        joined = np.where((reasons != "") & (text != ""), reasons + "; " + text, reasons + text)
        reasons = reasons.where(unfinished, pd.Series(joined, index=reasons.index, dtype=object))
    return reasons


def _how_it_ended(status: str, error: Any) -> str:
    """Return a run's status with its error; empty for a run that finished."""
    if status == "FINISHED":
        return ""
    return f"{status} ({error})" if isinstance(error, str) and error else status


def _missing(table: RunTable, name: str) -> pd.Series:
    if name in table.metrics:
        missing = table.metrics[name].isna()
    else:
        missing = pd.Series(data=True, index=table.metrics.index)
    texts = np.where(missing, f"{name} is missing", "")
    return pd.Series(texts, index=missing.index, dtype=object)


def _parse_directions(given: Any) -> tuple[dict[str, int], list[Fault]]:
    if given is None:
        return {}, []
    if not isinstance(given, Mapping):
        allowed = "must be a mapping of metrics to max or min, such as {my_metric: max}"
        return {}, [Fault(key="metric_directions", value=given, allowed=allowed)]
    faults = []
    for name, text in given.items():
        key, allowed = f"metric_directions.{name}", ""
        if text not in ("max", "min"):
            allowed = "must be max (more is better) or min (less is)"
        elif not may_be_own(str(name)):
            allowed = "is a metric of ours, which has a direction; this key is for your own"
        if allowed:
            faults.append(Fault(key=key, value=text, allowed=allowed))
    return {str(name): 1 if text == "max" else -1 for name, text in given.items()}, faults


def _own_hint(name: str) -> str:
    return f"for one of your strategy's own say which is better: metric_directions.{name}=max"


def _parse_weights(rank_by: Any, own: Mapping[str, int]) -> tuple[dict[str, float], list[Fault]]:
    if isinstance(rank_by, str):
        rank_by = {rank_by: 1.0}
        keys = dict.fromkeys(rank_by, "rank_by")
    elif isinstance(rank_by, Mapping) and rank_by:
        keys = {name: f"rank_by.{name}" for name in rank_by}
    else:
        return {}, [Fault(key="rank_by", value=rank_by, allowed=_RANK_BY_FORM)]
    faults = [
        Fault(key=keys[name], value=name if keys[name] == "rank_by" else weight, allowed=allowed)
        for name, weight in rank_by.items()
        if (allowed := _weight_fault(str(name), weight, own))
    ]
    if faults:
        return {}, faults
    total = math.fsum(rank_by.values())
    if not 0 < total < math.inf:
        shown = dict(rank_by)
        allowed = f"the weights must sum to more than 0, but they sum to {total!r}"
        return {}, [Fault(key="rank_by", value=shown, allowed=allowed)]
    return {str(name): weight / total for name, weight in rank_by.items() if weight > 0}, []


def _weight_fault(name: str, weight: Any, own: Mapping[str, int]) -> str:
    """Say what is wrong with one metric and its weight; empty when nothing is."""
    direction = own.get(name) or direction_of(name)
    if engine_metric(name) is None and name not in own:
        return f"there is no metric '{name}'; {choices(name, _directed())}; {_own_hint(name)}"
    if direction == 0:
        return (
            f"neither more nor less {name} is better, so it cannot rank runs (a constraint can "
            f"bound it); the choices are {', '.join(_directed())}"
        )
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        return "the weight must be a finite number"
    if weight < 0:
        return (
            f"the weight must be >= 0; {name} already counts towards its good direction "
            f"({'more' if direction > 0 else 'less'} is better)"
        )
    return ""


def _directed() -> tuple[str, ...]:
    return tuple(name for name in known_metrics() if direction_of(name))
