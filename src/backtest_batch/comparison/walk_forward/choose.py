"""The choice of each split: the best run in-sample, by the ranking of the comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from backtest_batch.comparison.constraints import OPERATORS
from backtest_batch.comparison.metrics_choice import NEIGHBOURHOOD, OUT_OF_SAMPLE, direction_of
from backtest_batch.comparison.ranking import Ranking
from backtest_batch.comparison.run_table import RunTable
from backtest_batch.comparison.scoring import weighted_score
from backtest_batch.comparison.stability import stability
from backtest_batch.errors import ConfigurationError, Fault
from backtest_batch.market.panel import FloatArray, IntArray


def in_sample_ranking(ranking: Ranking) -> Ranking:
    """Return the ranking with every out-of-sample metric replaced by the metric itself.

    ``oos_sharpe`` is not known when the choice is made; what can be chosen by is ``sharpe``.
    """
    weights: dict[str, float] = {}
    for name, share in ranking.weights.items():
        base = name.removeprefix(OUT_OF_SAMPLE)
        weights[base] = weights.get(base, 0.0) + share
    constraints = tuple(
        replace(item, metric=item.metric.removeprefix(OUT_OF_SAMPLE))
        for item in ranking.constraints
    )
    return replace(ranking, weights=weights, constraints=constraints)


def needed_metrics(ranking: Ranking) -> tuple[str, ...]:
    """Return the metrics of training windows that a choice takes."""
    ranking = in_sample_ranking(ranking)
    names = (*ranking.weights, *(item.metric for item in ranking.constraints))
    windowed = ("sharpe" if name == NEIGHBOURHOOD else name for name in names)
    return tuple(dict.fromkeys(windowed))


def check_ranking(ranking: Ranking, available: Sequence[str]) -> None:
    """Refuse a ranking by metrics that windows do not have.

    Parameters
    ----------
    ranking
        What is better.
    available
        Metrics that can be measured on a window; see :func:`.windows.metrics_with`.

    Raises
    ------
    ConfigurationError
        When the ranking or a constraint needs another one.
    """
    missing = [name for name in needed_metrics(ranking) if name not in available]
    if missing:
        allowed = (
            f"walk_forward chooses by metrics of training windows, and {', '.join(missing)} "
            f"cannot be measured on one; the choices are {', '.join(available)}"
        )
        fault = Fault(key="rank_by", value=", ".join(missing), allowed=allowed)
        raise ConfigurationError(f"{fault}.", [fault])


class Chooser:
    """Picks the best of the runs of a scenario, as :func:`.ranking.rank_runs` would rank them.

    Parameters
    ----------
    ranking
        What is better.
    run_ids
        Names of the runs; ties go to the first in plain order of characters.
    parameters
        Decision parameters of the runs, one row a run, for the metric ``sharpe_neighbourhood``.
    """

    def __init__(self, ranking: Ranking, run_ids: Sequence[str], parameters: pd.DataFrame) -> None:
        self._ranking = in_sample_ranking(ranking)
        self._run_ids = run_ids
        self._parameters = parameters.reset_index(drop=True)
        by_id = sorted(range(len(run_ids)), key=lambda run: run_ids[run])
        self._place: IntArray = np.empty(len(run_ids), dtype=np.int64)
        self._place[by_id] = np.arange(len(run_ids))

    def __call__(self, metrics: Mapping[str, FloatArray]) -> int | None:
        """Return the position of the best run, None when no run qualifies.

        Parameters
        ----------
        metrics
            In-sample metrics by name, each of shape (n_runs,), NaN where undefined. A run without
            a needed metric does not qualify, nor does one that misses a constraint.
        """
        ranking = self._ranking
        constrained = (item.metric for item in ranking.constraints)
        values = {
            name: self._neighbourhood(metrics["sharpe"]) if name == NEIGHBOURHOOD else metrics[name]
            for name in {*ranking.weights, *constrained}
        }
        qualified = np.ones(len(self._run_ids), dtype=np.bool_)
        for name in ranking.weights:
            qualified &= np.isfinite(values[name])
        for item in ranking.constraints:
            met = OPERATORS[item.operator](values[item.metric], item.bound)
            qualified &= met & np.isfinite(values[item.metric])
        runs = np.flatnonzero(qualified)
        if len(runs) == 0:
            return None
        criterion = self._criterion({name: values[name][runs] for name in ranking.weights})
        best = runs[criterion == criterion.max()]
        return int(best[np.argmin(self._place[best])])

    def _criterion(self, values: Mapping[str, FloatArray]) -> FloatArray:
        if not self._ranking.weighted:
            (name,) = values
            return direction_of(name) * values[name]
        score = weighted_score(
            pd.DataFrame(dict(values)), self._ranking.weights, self._ranking.normalise
        )
        return score.to_numpy(dtype=np.float64)

    def _neighbourhood(self, sharpe: FloatArray) -> FloatArray:
        runs = pd.DataFrame({"run_id": list(self._run_ids), "status": "FINISHED"})
        table = RunTable(
            runs=runs, params=self._parameters, metrics=pd.DataFrame({"sharpe": sharpe})
        )
        mean = stability(table, "sharpe")["neighbourhood"]
        return mean.to_numpy(dtype=np.float64)
