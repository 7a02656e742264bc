"""Hard constraints: what a run must meet to be ranked at all."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import pandas as pd

from backtest_batch.comparison.metrics_choice import choices, engine_metric, known_metrics
from backtest_batch.errors import Fault

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
        """Say of each run why it does not meet the constraint.

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


def parse_constraints(given: Any) -> tuple[list[Constraint], list[Fault]]:
    """Read constraints as they stand in the configuration.

    Parameters
    ----------
    given
        Mapping of metric to text, such as ``{max_drawdown: ">= -0.3", trades: ">= 50"}``; None and
        an empty mapping are no constraints.

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
    read = [_parse(str(metric), text) for metric, text in given.items()]
    return (
        [item for item in read if isinstance(item, Constraint)],
        [item for item in read if isinstance(item, Fault)],
    )


def _parse(metric: str, text: Any) -> Constraint | Fault:
    key = f"constraints.{metric}"
    if engine_metric(metric) is None:
        allowed = f"there is no metric '{metric}'; {choices(metric, known_metrics())}"
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
