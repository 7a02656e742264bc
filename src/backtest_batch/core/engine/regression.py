"""Least squares on factors in a compiled loop: sequential sums, whose bits depend on the run alone.

The columns are centred and made orthogonal one after the other, the returns last (modified
Gram-Schmidt on the augmented matrix, which is as stable as Householder's method: Björck 1967).
"""

import numpy as np

from backtest_batch.arrays import FloatArray
from backtest_batch.core.engine.kernels import compiled

COLLINEAR = 1e-9
"""A factor is collinear if no more than this fraction of it is left without the others."""


@compiled
def least_squares(
    columns: FloatArray, returns: FloatArray, slopes: FloatArray
) -> tuple[float, float, int]:
    """Regress returns on factors and a constant.

    Parameters
    ----------
    columns
        Factors, one row each, shape (n_factors, n_bars); overwritten.
    returns
        Shape (n_bars,); overwritten by the residuals.
    slopes
        Takes the slopes, shape (n_factors,).

    Returns
    -------
    intercept, r2 : float
        NaN where undefined.
    collinear : int
        First factor that does not vary, or is a combination of those before it; -1 for none.
    """
    n_factors, n = columns.shape
    means = np.empty(n_factors)
    upper = np.zeros((n_factors, n_factors))
    onto = np.zeros(n_factors)
    mean = 0.0
    for bar in range(n):
        mean += returns[bar]
    mean /= n
    total = 0.0
    for bar in range(n):
        returns[bar] -= mean
        total += returns[bar] * returns[bar]
    norms = np.empty(n_factors)
    for factor in range(n_factors):
        summed = 0.0
        size = 0.0
        for bar in range(n):
            summed += columns[factor, bar]
            size += columns[factor, bar] * columns[factor, bar]
        means[factor] = summed / n
        square = 0.0
        for bar in range(n):
            columns[factor, bar] -= means[factor]
            square += columns[factor, bar] * columns[factor, bar]
        norms[factor] = np.sqrt(square)
        if norms[factor] <= COLLINEAR * np.sqrt(size):
            return np.nan, np.nan, factor
    for factor in range(n_factors):
        square = 0.0
        for bar in range(n):
            square += columns[factor, bar] * columns[factor, bar]
        length = np.sqrt(square)
        if length <= COLLINEAR * norms[factor]:
            return np.nan, np.nan, factor
        upper[factor, factor] = length
        for bar in range(n):
            columns[factor, bar] /= length
        for other in range(factor + 1, n_factors):
            product = 0.0
            for bar in range(n):
                product += columns[factor, bar] * columns[other, bar]
            upper[factor, other] = product
            for bar in range(n):
                columns[other, bar] -= product * columns[factor, bar]
        product = 0.0
        for bar in range(n):
            product += columns[factor, bar] * returns[bar]
        onto[factor] = product
        for bar in range(n):
            returns[bar] -= product * columns[factor, bar]
    for factor in range(n_factors - 1, -1, -1):
        value = onto[factor]
        for other in range(factor + 1, n_factors):
            value -= upper[factor, other] * slopes[other]
        slopes[factor] = value / upper[factor, factor]
    intercept = mean
    for factor in range(n_factors):
        intercept -= slopes[factor] * means[factor]
    left = 0.0
    for bar in range(n):
        left += returns[bar] * returns[bar]
    r2 = 1.0 - left / total if total > 0.0 else np.nan
    return intercept, r2, -1
