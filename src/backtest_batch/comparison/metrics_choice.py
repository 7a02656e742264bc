"""Metrics by name: which there are, which way is better, and what was probably meant."""

import difflib
from collections.abc import Iterable, Sequence

from backtest_batch.engine.metrics import METRICS, RESULT_METRICS, Metric

NEIGHBOURHOOD = "sharpe_neighbourhood"
"""Metric of a run that its neighbours in the grid determine; see :mod:`.stability`."""

OUT_OF_SAMPLE = "oos_"
"""Prefix of the metrics that a walk-forward adds to each run."""


def known_metrics() -> tuple[str, ...]:
    """Return the names that rankings and constraints understand.

    These are the metrics of the engine and ``sharpe_neighbourhood``. Each result metric is known
    with the prefix ``oos_``, too.
    """
    return (*METRICS, NEIGHBOURHOOD)


def result_metric_names(columns: Iterable[str]) -> list[str]:
    """Return those of the columns that are result metrics, in the order of the reports.

    The neighbourhood and out-of-sample metrics follow the engine's.

    Parameters
    ----------
    columns
        Names of metrics, in any order.
    """
    held = set(columns)
    order = (*RESULT_METRICS, NEIGHBOURHOOD, *(OUT_OF_SAMPLE + name for name in RESULT_METRICS))
    return [name for name in order if name in held]


def engine_metric(name: str) -> Metric | None:
    """Return the engine's metric that a name stands for, or None for an unknown name.

    ``sharpe_neighbourhood`` and ``oos_sharpe`` are read like ``sharpe``.
    """
    if name == NEIGHBOURHOOD:
        return METRICS["sharpe"]
    base = name.removeprefix(OUT_OF_SAMPLE)
    if base != name and base not in RESULT_METRICS:
        return None
    return METRICS.get(base)


def direction_of(name: str) -> int:
    """Return +1 when more is better, -1 when less is, 0 for neither and for unknown names."""
    metric = engine_metric(name)
    return 0 if metric is None else metric.direction


def choices(given: str, allowed: Sequence[str], *, at_most: int | None = None) -> str:
    """Say what may have been meant by a name: close matches first, then every choice.

    Parameters
    ----------
    given
        The name that is none of them.
    allowed
        The names that would have been accepted.
    at_most
        How many of them are listed; all without it.
    """
    close = difflib.get_close_matches(given.lower(), allowed, n=3, cutoff=0.6)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    shown = ", ".join(allowed[:at_most])
    more = 0 if at_most is None else len(allowed) - at_most
    return f"{meant}The choices are {shown}" + (f" and {more:,} more" if more > 0 else "")
