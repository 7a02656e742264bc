"""Which run is better: by one metric or a weighted score, under hard constraints."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.comparison.constraints import Constraint, parse_constraints, shortfalls
from backtest_batch.comparison.metrics_choice import (
    OUT_OF_SAMPLE,
    choices,
    direction_of,
    engine_metric,
    known_metrics,
)
from backtest_batch.comparison.pareto import pareto_front
from backtest_batch.comparison.run_table import RunTable, id_order
from backtest_batch.comparison.scoring import (
    NORMALISATIONS,
    Normalise,
    good_values,
    weighted_score,
)
from backtest_batch.errors import ConfigurationError, Fault

_RANK_BY_FORM = (
    "must be a metric, or a mapping of metrics to weights such as {sharpe: 0.7, calmar: 0.3}"
)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How runs are ranked.

    Attributes
    ----------
    weights
        Share of each chosen metric in the score, summing to 1; one metric has the share 1.
    constraints
        What a run must meet to be ranked.
    normalise
        How metrics become comparable in a score of several.
    """

    weights: Mapping[str, float]
    constraints: tuple[Constraint, ...] = ()
    normalise: Normalise = "rank"

    @classmethod
    def parse(
        cls, rank_by: Any = "sharpe", constraints: Any = None, normalise: Any = "rank"
    ) -> "Ranking":
        """Read a ranking as it stands in the configuration.

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

        Raises
        ------
        ConfigurationError
            With every fault at once: an unknown metric, one without a better direction, a weight
            that is no number or negative, weights that sum to 0, a malformed constraint.
        """
        weights, faults = _parse_weights(rank_by)
        read, constraint_faults = parse_constraints(constraints)
        faults += constraint_faults
        if normalise not in NORMALISATIONS:
            allowed = "must be one of " + ", ".join(NORMALISATIONS)
            faults.append(Fault(key="normalise", value=normalise, allowed=allowed))
        if faults:
            raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
        return cls(weights=weights, constraints=tuple(read), normalise=normalise)

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
            return f"{name} ({'more' if direction_of(name) > 0 else 'less'} is better)"

        if self.weighted:
            terms = (f"{share:.3g} {described(name)}" for name, share in self.weights.items())
            text = f"{' + '.join(terms)}, normalised by {self.normalise}"
        else:
            text = described(self.metrics[0])
        conditions = " and ".join(str(item) for item in self.constraints)
        return f"{text}, where {conditions}" if conditions else text


def rank_runs(table: RunTable, ranking: Ranking) -> pd.DataFrame:
    """Rank the runs of a table.

    Ranked are the FINISHED runs that have every chosen metric and meet every constraint: by the
    metric itself in its good direction when there is one, else by the score (see
    :func:`.scoring.weighted_score`, taken over the ranked runs). Ties break by run_id (then
    batch_id) in plain order of characters, so ranks are 1, 2, ... without gaps.

    Parameters
    ----------
    table
        The runs.
    ranking
        What is better.

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
    good = good_values(metrics, list(ranking.metrics))
    score = weighted_score(metrics, ranking.weights, ranking.normalise)
    criterion = score if ranking.weighted else good[ranking.metrics[0]]

    by_id = table.runs.index[id_order(table)]
    order = criterion.reindex(by_id).sort_values(ascending=False, kind="stable").index
    best_first = order[ranked.reindex(order).to_numpy()]
    result = pd.DataFrame(index=order)
    places = pd.Series(np.arange(1, len(best_first) + 1), index=best_first)
    within = table.scenario.reindex(best_first).groupby(table.scenario.reindex(best_first))
    result["rank"] = places.reindex(order).astype("Int64")
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
        The runs; FINISHED ones take part.
    metrics
        Columns of ``table.metrics``.

    Returns
    -------
    DataFrame of shape (n_runs, n_metrics)
        1, 2 or 3, ties sharing the better place; 0 for all others, for metrics without a better
        direction and for metrics that are equal in all runs.
    """
    directions = np.array([direction_of(name) for name in metrics], dtype=np.float64)
    good = table.metrics.loc[table.finished, list(metrics)] * directions
    places = good.rank(method="min", ascending=False)
    differs = np.asarray(good.max() > good.min(), dtype=np.bool_)
    near = np.asarray(places <= 3, dtype=np.bool_)
    places = places.where(near & differs, 0).astype(np.int64)
    return places.reindex(table.metrics.index, fill_value=0)


def _reasons(table: RunTable, ranking: Ranking) -> pd.Series:
    """Say of each run why it cannot be ranked; empty where it can."""
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


def _parse_weights(rank_by: Any) -> tuple[dict[str, float], list[Fault]]:
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
        if (allowed := _weight_fault(str(name), weight))
    ]
    if faults:
        return {}, faults
    total = math.fsum(rank_by.values())
    if not 0 < total < math.inf:
        shown = dict(rank_by)
        allowed = f"the weights must sum to more than 0, but they sum to {total!r}"
        return {}, [Fault(key="rank_by", value=shown, allowed=allowed)]
    return {str(name): weight / total for name, weight in rank_by.items() if weight > 0}, []


def _weight_fault(name: str, weight: Any) -> str:
    """Say what is wrong with one metric and its weight; empty when nothing is."""
    if engine_metric(name) is None:
        return f"there is no metric '{name}'; {choices(name, _directed())}"
    if direction_of(name) == 0:
        return (
            f"neither more nor less {name} is better, so it cannot rank runs (a constraint can "
            f"bound it); the choices are {', '.join(_directed())}"
        )
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        return "the weight must be a finite number"
    if weight < 0:
        return (
            f"the weight must be >= 0; {name} already counts towards its good direction "
            f"({'more' if direction_of(name) > 0 else 'less'} is better)"
        )
    return ""


def _directed() -> tuple[str, ...]:
    return tuple(name for name in known_metrics() if direction_of(name))
