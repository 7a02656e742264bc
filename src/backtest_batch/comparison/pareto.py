"""Runs that no other run beats in every chosen metric."""

import numpy as np

from backtest_batch.market.panel import BoolArray, FloatArray

BLOCK = 256
"""Points compared with the front at once; bounds the memory of a comparison."""


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
    # In descending lexicographic order a point can be dominated by an earlier one only.
    descending = distinct[::-1]
    on_front = np.zeros(len(descending), dtype=np.bool_)
    front = descending[:0]
    for start in range(0, len(descending), BLOCK):
        block = descending[start : start + BLOCK]
        candidates = np.flatnonzero(~_dominated(block, by=front))
        kept = block[candidates]
        alone = ~_dominated(kept, by=kept)
        on_front[start + candidates[alone]] = True
        front = np.concatenate([front, kept[alone]])
    return on_front[::-1][inverse.ravel()]


def _dominated(points: FloatArray, *, by: FloatArray) -> BoolArray:
    """Return which points are dominated by one of others; no two of all of them are equal."""
    at_least: BoolArray = np.ones((len(points), len(by)), dtype=np.bool_)
    for column in range(points.shape[1]):
        at_least &= by[:, column] >= points[:, column, None]
    if by is points:
        np.fill_diagonal(at_least, val=False)
    return np.asarray(at_least.any(axis=1), dtype=np.bool_)
