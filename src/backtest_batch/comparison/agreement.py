"""Whether two results are the same, and what to say of one run key that has several."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from backtest_batch.comparison.run_table import RunTable
from backtest_batch.engine.metrics import RESULT_METRICS
from backtest_batch.market.panel import BoolArray, FloatArray

TOLERANCE = 1e-9
"""Relative difference that another machine or other packages may cause."""

NEAR_ZERO = 1e-12
"""Below it, a metric whose exact value is zero differs by rounding alone."""

_KEYS_SHOWN = 3
_KEY_LENGTH = 12
"""Characters of a run key that tell runs apart."""

_NUMBERS = {2: "two", 3: "three"}


def agree(one: FloatArray, other: FloatArray) -> BoolArray:
    """Return which values are the same result; what both lack is.

    Parameters
    ----------
    one, other
        Metrics of equal shape, NaN where a run has none.
    """
    same = np.isclose(one, other, rtol=TOLERANCE, atol=NEAR_ZERO, equal_nan=True)
    return np.asarray(same, dtype=np.bool_)


def differing_results(table: RunTable) -> list[str]:
    """Return one sentence for each run key of which FINISHED runs have other results.

    Parameters
    ----------
    table
        What :func:`.batches.without_repeats` returned, with the columns ``run_key`` and
        ``batch_id``.
    """
    if "run_key" not in table.runs or "batch_id" not in table.runs:
        return []
    runs = table.runs[table.finished & (table.runs["run_key"].fillna("") != "").to_numpy()]
    counts = runs["run_key"].value_counts(sort=False)
    several = counts.index[counts > 1]
    said = []
    for key in several[:_KEYS_SHOWN]:
        rows = runs.index[runs["run_key"] == key]
        name, values = _differing(table, rows)
        texts = _told_apart(values)
        batches = runs.loc[rows, "batch_id"].astype(str)
        found = ", ".join(
            f"{text} in batch {batch}" for text, batch in zip(texts, batches, strict=True)
        )
        said.append(
            f"run_key {key[:_KEY_LENGTH]} has {_NUMBERS.get(len(rows), len(rows))} results: {name} "
            f"{found}. Each keeps its row: something that the key does not know has changed, or "
            "the strategy is not deterministic."
        )
    more = len(several) - _KEYS_SHOWN
    if more > 0:
        said.append(f"{more:,} more run keys have results that differ; each keeps its row.")
    return said


def _differing(table: RunTable, rows: pd.Index) -> tuple[str, list[float]]:
    """Return a metric in which runs differ, the Sharpe ratio if it does, and their values."""
    names = [name for name in RESULT_METRICS if name in table.metrics]
    values = table.metrics.loc[rows, names].to_numpy(dtype=np.float64)
    same: BoolArray = np.all(agree(values, values[:1]), axis=0)
    differing = [place for place, name in enumerate(names) if not same[place]]
    place = names.index("sharpe") if "sharpe" in names else -1
    chosen = place if place in differing else differing[0]
    return names[chosen], values[:, chosen].tolist()


def _told_apart(values: Sequence[float]) -> list[str]:
    """Return numbers with as few digits as tell them apart, at least three."""
    texts = [repr(value) for value in values]
    for digits in range(3, 17):
        short = ["undefined" if np.isnan(value) else f"{value:.{digits}g}" for value in values]
        if len(set(short)) == len(set(texts)):
            return short
    return texts
