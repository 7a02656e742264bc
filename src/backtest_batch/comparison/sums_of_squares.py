"""Sums of squares of main effects and pairwise interactions, balanced and Type II."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backtest_batch.comparison.levels import cells_of
from backtest_batch.market.panel import FloatArray, IntArray

MAX_COLUMNS = 500
"""Most columns of an unbalanced design: the time to solve it grows with their third power."""

ROWS_AT_ONCE = 4096
"""Rows of the design matrix that are held at a time."""

SATURATED = "no two runs share a value, so it explains everything"
CONFOUNDED = "it only varies together with other parameters"
TOO_MANY_LEVELS = "too many values for an incomplete grid"
MAIN_EFFECTS_ONLY = "pairs left out: too many values for an incomplete grid"

_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Factor:
    """One parameter as a categorical factor.

    Attributes
    ----------
    name
        Name of the parameter.
    codes
        Level of each run, shape (n_runs,), every level from 0 to n_levels - 1 occurs.
    n_levels
        Number of levels.
    """

    name: str
    codes: IntArray
    n_levels: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """A main effect (one factor) or a pairwise interaction (two)."""

    factors: tuple[Factor, ...]

    def contains(self, other: "Term") -> bool:
        """Whether every factor of another term is one of this."""
        return set(other.factors) <= set(self.factors)

    @property
    def n_columns(self) -> int:
        """Columns of the term in a design matrix with a full grid."""
        return int(np.prod([factor.n_levels - 1 for factor in self.factors]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """What one term explains.

    Attributes
    ----------
    sums
        Sum of squares for each metric, shape (n_metrics,); None where it was not computed.
    degrees_of_freedom
        Dimensions that the term adds.
    note
        Why there is no value, or how far it can be trusted.
    """

    sums: FloatArray | None
    degrees_of_freedom: int
    note: str = ""


def is_balanced(factors: Sequence[Factor], n_runs: int) -> bool:
    """Return whether the runs are a full grid with equally many runs in each cell.

    Parameters
    ----------
    factors
        The parameters.
    n_runs
        Number of runs.
    """
    n_cells = 1
    for factor in factors:
        n_cells *= factor.n_levels
    if n_runs == 0 or n_cells > n_runs:
        return False
    counts = np.bincount(cells_of([factor.codes for factor in factors], n_runs))
    return len(counts) == n_cells and counts.min() == counts.max()


def balanced_sums_of_squares(terms: Sequence[Term], centred: FloatArray) -> list[Explained]:
    """Return the classical sums of squares of a balanced full grid.

    ``SS_A = sum_i n_i mean_i^2`` over the levels of A; ``SS_AB`` likewise over the cells, less
    SS_A and SS_B.

    Parameters
    ----------
    terms
        Main effects first, then interactions of two of them.
    centred
        Metrics less their means, shape (n_runs, n_metrics).
    """
    between = {}
    explained = []
    n_runs = len(centred)
    for term in terms:
        cells = cells_of([factor.codes for factor in term.factors], n_runs)
        sums = np.stack([np.bincount(cells, weights=column) for column in centred.T], axis=1)
        own = (sums**2 / np.bincount(cells)[:, None]).sum(axis=0)
        if len(term.factors) == 1:
            between[term.factors[0]] = own
        else:
            own = own - sum(between[factor] for factor in term.factors)
        explained.append(
            Explained(sums=own, degrees_of_freedom=term.n_columns, note=_saturation(term, n_runs))
        )
    return explained


def type_two_sums_of_squares(terms: Sequence[Term], centred: FloatArray) -> list[Explained]:
    """Return the Type II sums of squares of any design.

    ``SS_T = SS(model with T and all terms that do not contain T) - SS(the same without T)``, where
    SS is what least squares explains. Factors are effect-coded; columns that empty cells make
    dependent are handled by the pseudo-inverse, and a term adds as many degrees of freedom as it
    adds to the rank.

    Parameters
    ----------
    terms
        Main effects first, then interactions of two of them.
    centred
        Metrics less their means, shape (n_runs, n_metrics).

    Returns
    -------
    list of Explained
        In the order of the terms. Without pairs where the columns would be more than
        :data:`MAX_COLUMNS`, without anything where the main effects alone would be.
    """
    used = list(terms)
    if sum(term.n_columns for term in used) > MAX_COLUMNS:
        used = [term for term in terms if len(term.factors) == 1]
    if sum(term.n_columns for term in used) > MAX_COLUMNS:
        used = []
    pairs_left_out = len(used) < len(terms)
    gram, products = _normal_equations(used, centred)
    bounds = np.cumsum([0, *(term.n_columns for term in used)])
    columns = {
        term: np.arange(start, stop)
        for term, start, stop in zip(used, bounds[:-1], bounds[1:], strict=True)
    }

    everything = np.arange(bounds[-1])
    whole_model = _explained(gram, products, everything)

    def explain(term: Term) -> Explained:
        if term not in columns:
            return Explained(sums=None, degrees_of_freedom=0, note=TOO_MANY_LEVELS)
        others = [columns[other] for other in used if not other.contains(term)]
        rest = np.concatenate([np.empty(0, dtype=np.int64), *others])
        without, rank_without = _explained(gram, products, rest)
        model = np.concatenate([rest, columns[term]])
        both, rank = (
            whole_model if len(model) == len(everything) else _explained(gram, products, model)
        )
        if rank == rank_without:
            return Explained(sums=None, degrees_of_freedom=0, note=CONFOUNDED)
        note = _saturation(term, len(centred)) or (MAIN_EFFECTS_ONLY if pairs_left_out else "")
        return Explained(sums=both - without, degrees_of_freedom=rank - rank_without, note=note)

    return [explain(term) for term in terms]


def _saturation(term: Term, n_runs: int) -> str:
    alone = len(term.factors) == 1 and term.factors[0].n_levels == n_runs
    return SATURATED if alone else ""


def _normal_equations(terms: Sequence[Term], centred: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return X'X and X'y of the centred design matrix, which is never held whole."""
    n_runs, n_metrics = centred.shape
    n_columns = sum(term.n_columns for term in terms)
    gram = np.zeros((n_columns, n_columns))
    products = np.zeros((n_columns, n_metrics))
    totals = np.zeros(n_columns)
    for start in range(0, n_runs if terms else 0, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        design = np.concatenate([_coded(term, rows) for term in terms], axis=1)
        gram += design.T @ design
        products += design.T @ centred[rows]
        totals += design.sum(axis=0)
    return gram - np.outer(totals, totals) / n_runs, products


def _coded(term: Term, rows: slice) -> FloatArray:
    """Return the effect-coded columns of a term: level i is the unit vector, the last is -1."""
    blocks = []
    for factor in term.factors:
        coding = np.vstack([np.eye(factor.n_levels - 1), -np.ones(factor.n_levels - 1)])
        blocks.append(coding[factor.codes[rows]])
    if len(blocks) == 1:
        return blocks[0]
    product = blocks[0][:, :, None] * blocks[1][:, None, :]
    return product.reshape(len(product), -1)


def _explained(gram: FloatArray, products: FloatArray, columns: IntArray) -> tuple[FloatArray, int]:
    """Return the sum of squares that some columns explain, for each metric, and their rank."""
    if len(columns) == 0:
        return np.zeros(products.shape[1]), 0
    square, right = gram[np.ix_(columns, columns)], products[columns]
    try:
        pivots = np.diagonal(np.linalg.cholesky(square)) ** 2
    except np.linalg.LinAlgError:
        pivots = np.zeros(len(columns))
    if (pivots > _RANK_TOLERANCE * np.diagonal(square)).all():
        return (right * np.linalg.solve(square, right)).sum(axis=0), len(columns)
    eigenvalues, vectors = np.linalg.eigh(square)
    kept = eigenvalues > _RANK_TOLERANCE * max(float(eigenvalues[-1]), 1.0)
    rotated = vectors[:, kept].T @ right
    return (rotated**2 / eigenvalues[kept, None]).sum(axis=0), int(kept.sum())
