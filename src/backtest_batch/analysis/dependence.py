"""How metrics depend on each swept parameter: distribution, share of the variance, effect.

Parameters that make no difference, and best values at the edge of a grid, are named here too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from backtest_batch.analysis.run_table import (
    NEIGHBOURHOOD,
    Label,
    RunTable,
    engine_metric,
    result_metric_names,
)
from backtest_batch.analysis.scenarios import Levels, cells_of, levels_of, value_as_typed
from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.engine.metrics import BENCHMARK, FACTORS

STATISTICS = ("count", "mean", "std", "min", "max")

SENSITIVITY_COLUMNS = ("parameter", "value", "metric", *STATISTICS, "best")


def parameter_sensitivity(
    table: RunTable, *, best: Label | None = None, metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the distribution of each metric at each value of each swept parameter.

    Parameters
    ----------
    table
        The runs; only FINISHED ones count, whether ranked or not.
    best
        Index label of the run whose values are marked, such as the first of
        :func:`.rank_runs`; None marks none.
    metrics
        Metrics to describe; by default every result metric that at least one run has.

    Returns
    -------
    DataFrame of shape (n_values * n_metrics, 9)
        Long form: parameter (in axis order), value (typed, ascending), metric, count (runs that
        have the metric), mean, std (ddof 1; NaN below two runs), min, max, best (whether the best
        run has this value). Runs that do not have a parameter, because their strategy does not,
        do not count for it. Equal bit for bit, whatever the order of the runs.
    """
    finished = table.sorted_finished()
    if metrics is None:
        metrics = [
            name
            for name in result_metric_names(finished.metrics.columns)
            if finished.metrics[name].notna().any()
        ]
    values = finished.metrics.reindex(columns=list(metrics))
    best_row = None if best is None else finished.runs.index.tolist().index(best)
    parts = [
        _of_parameter(name, levels, values, best_row)
        for name, levels in finished.levels.items()
        if len(values) and len(metrics)
    ]
    if not parts:
        return pd.DataFrame(columns=list(SENSITIVITY_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def _of_parameter(
    name: str, levels: Levels, metrics: pd.DataFrame, best_row: int | None
) -> pd.DataFrame:
    """Return the rows of one parameter: by level, then by metric; of the runs that have it."""
    has, every = levels.has, levels
    levels, metrics = levels.of_those, metrics[has]
    groups = metrics.groupby(levels.codes)
    n_levels, n_metrics = len(levels.values), metrics.shape[1]
    best_code = None
    if best_row is not None and has[best_row]:
        best_code = every.codes[best_row] - (len(every.values) - n_levels)
    value: pd.Series = pd.Series(levels.values, dtype=object)
    columns = {
        "parameter": np.repeat(np.array([name], dtype=object), n_levels * n_metrics),
        "value": value.repeat(n_metrics).to_numpy(),
        "metric": np.tile(np.array(metrics.columns, dtype=object), n_levels),
        **{what: getattr(groups, what)().to_numpy().ravel() for what in STATISTICS},
        "best": np.repeat(np.arange(n_levels) == best_code, n_metrics),
    }
    return pd.DataFrame(columns)


MAX_COLUMNS = 500
"""Largest number of columns of an unbalanced design: the time to solve it grows as the cube."""

ROWS_AT_ONCE = 4096
"""Rows of the design matrix that are in memory at a time."""

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
        Level of each run, shape (n_runs,); every level from 0 to n_levels - 1 occurs.
    n_levels
        Number of levels.
    below
        Name of the factor with some levels of which there is no such parameter; the first level
        stands for these runs. None if all runs have it.
    """

    name: str
    codes: IntArray
    n_levels: int
    below: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """A main effect (one factor) or a pairwise interaction (two)."""

    factors: tuple[Factor, ...]

    def contains(self, other: "Term") -> bool:
        """Whether every factor of another term is a factor of this one, or decides if one exists.

        What a strategy explains does not hold what its parameters explain beyond it.
        """
        names = {factor.name for factor in self.factors}
        names |= {factor.below for factor in self.factors if factor.below is not None}
        return {factor.name for factor in other.factors} <= names

    @property
    def n_columns(self) -> int:
        """Number of columns of the term in the design matrix of a full grid."""
        return int(np.prod([factor.n_levels - 1 for factor in self.factors]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """What one term explains.

    Attributes
    ----------
    sums
        Sum of squares for each metric, shape (n_metrics,); None where it was not computed.
    degrees_of_freedom
        Number of dimensions that the term adds.
    note
        Why there is no value, or how far it can be trusted.
    """

    sums: FloatArray | None
    degrees_of_freedom: int
    note: str = ""


def is_balanced(factors: Sequence[Factor], n_runs: int) -> bool:
    """Return whether the runs are a full grid with the same number of runs in each cell.

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

    ``SS_A = sum_i n_i mean_i^2`` over the levels of A; ``SS_AB`` likewise over the cells, minus
    SS_A and SS_B.

    Parameters
    ----------
    terms
        Main effects first, then interactions of two of them.
    centred
        Metrics minus their means, shape (n_runs, n_metrics).
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
    SS is the sum of squares that least squares explains. Factors are effect-coded; columns that
    become dependent because of empty cells are handled by the pseudo-inverse, and a term has as
    many degrees of freedom as it adds to the rank.

    Parameters
    ----------
    terms
        Main effects first, then interactions of two of them.
    centred
        Metrics minus their means, shape (n_runs, n_metrics).

    Returns
    -------
    list of Explained
        In the order of the terms. Interactions have no value when there would be more than
        :data:`MAX_COLUMNS` columns; no term has one when the main effects alone have more.
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
    """Return X'X and X'y of the centred design matrix, which is never in memory as a whole."""
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
    """Return the sum of squares that some columns explain, per metric, and their rank."""
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
    estimable = eigenvalues > _RANK_TOLERANCE * max(float(eigenvalues[-1]), 1.0)
    rotated = vectors[:, estimable].T @ right
    return (rotated**2 / eigenvalues[estimable, None]).sum(axis=0), int(estimable.sum())


IMPORTANCE_COLUMNS = (
    "metric",
    "term",
    "parameters",
    "eta_squared",
    "degrees_of_freedom",
    "design",
    "note",
)

MOST_LEVELS, N_GROUPS = 10, 5
"""A search draws numbers that hardly repeat: more of them than the first become so many groups, or
each run would have a value of its own that explains it."""

DECIMALS = 10
"""Shares are rounded: their last digits depend on the linear algebra library."""


def parameter_importance(table: RunTable, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the share of each metric's variance that each parameter and each pair explains.

    ``eta_squared = SS_term / SS_total`` (Fisher 1925; Cohen 1973). Every parameter is a factor
    whose values are categories, even if they are numbers, so that a hump counts as much as a slope.
    Where the runs are a full grid with the same number of runs in each cell, the sums of squares
    are the classical ones: they are orthogonal, and the shares sum to 1 together with those of the
    interactions of three and more parameters. Elsewhere (failed runs, missing metrics, lists of
    runs) they are of Type II (Yates 1934): what a term explains beyond all terms that do not
    contain it, among the main effects and the pairwise interactions; these shares do not sum to 1.
    A parameter that only some strategies have is nested: it contains the choice of the strategy,
    and its share is what it explains among the runs of the strategies that have it.
    Numbers that a search has drawn are put into groups of about equally many runs.

    Parameters
    ----------
    table
        The runs; only FINISHED ones that have the metric count.
    metrics
        Metrics to explain; by default every result metric of the table.

    Returns
    -------
    DataFrame
        One row per metric and term, most important first within a metric: metric; term (``fast`` or
        ``fast x slow``); parameters (their names, a tuple of one or two); eta_squared in [0, 1],
        NaN where it is not defined; degrees_of_freedom; design (``balanced``, ``type II`` or
        empty); note (why eta_squared is not defined, or how far it can be trusted).
    """
    finished = table.sorted_finished()
    names = result_metric_names(finished.metrics.columns) if metrics is None else list(metrics)
    values = finished.metrics.reindex(columns=names)
    present = values.notna().to_numpy(dtype=np.bool_)
    rows: list[dict[str, object]] = []
    # Metrics that are present in the same runs share one design.
    groups: dict[bytes, list[int]] = {}
    for position in range(len(names)):
        groups.setdefault(present[:, position].tobytes(), []).append(position)
    for positions in groups.values():
        mask = present[:, positions[0]]
        columns = values.iloc[:, positions].to_numpy(dtype=np.float64)[mask]
        rows += _of_design(finished, mask, [names[item] for item in positions], columns)
    frame = pd.DataFrame(rows, columns=list(IMPORTANCE_COLUMNS))
    order = frame.assign(
        position=frame["metric"].map({name: number for number, name in enumerate(names)}),
        share=-frame["eta_squared"].astype(np.float64).fillna(-1.0),
    ).sort_values(["position", "share"], kind="stable")
    return frame.loc[order.index].reset_index(drop=True)


def _of_design(
    table: RunTable, mask: BoolArray, names: list[str], values: FloatArray
) -> list[dict[str, object]]:
    """Return the rows of the metrics in ``values``, shape (n_runs of the mask, n_names)."""
    factors = [_factor(table, name, mask) for name in table.params.columns]
    varying = [factor for factor in factors if factor.n_levels > 1]
    terms = [Term(factors=(factor,)) for factor in varying]
    terms += [Term(factors=pair) for pair in combinations(varying, 2) if _meet(*pair)]
    centred, totals = _centred(values)
    if is_balanced(varying, len(values)):
        design, solved = "balanced", balanced_sums_of_squares(terms, centred)
    else:
        design, solved = "type II", type_two_sums_of_squares(terms, centred)
    rows: list[dict[str, object]] = []
    for column, metric in enumerate(names):
        reason = _undefined(values[:, column])
        for factor in factors:
            if factor.n_levels < 2:
                note = reason or "it has one value in these runs"
                rows.append(_row(metric, (factor.name,), note=note))
        for term, part in zip(terms, solved, strict=True):
            parameters = tuple(factor.name for factor in term.factors)
            if reason or part.sums is None or part.degrees_of_freedom == 0:
                rows.append(_row(metric, parameters, note=reason or part.note))
                continue
            share = float(np.clip(part.sums[column] / totals[column], 0.0, 1.0))
            rows.append(
                _row(
                    metric,
                    parameters,
                    eta_squared=round(share, DECIMALS),
                    degrees_of_freedom=part.degrees_of_freedom,
                    design=design,
                    note=part.note,
                )
            )
    return rows


def _row(
    metric: str,
    parameters: tuple[str, ...],
    *,
    eta_squared: float = float("nan"),
    degrees_of_freedom: int = 0,
    design: str = "",
    note: str = "",
) -> dict[str, object]:
    return {
        "metric": metric,
        "term": " x ".join(parameters),
        "parameters": parameters,
        "eta_squared": eta_squared,
        "degrees_of_freedom": degrees_of_freedom,
        "design": design,
        "note": note,
    }


def _factor(table: RunTable, name: str, mask: BoolArray) -> Factor:
    levels = table.levels[name]
    used, codes = np.unique(levels.codes[mask], return_inverse=True)
    below = levels.below if levels.below is not None and 0 in used and len(used) > 1 else None
    if table.is_searched and levels.numeric and below is None and len(used) > MOST_LEVELS:
        used, codes = np.unique(_equal_groups(codes), return_inverse=True)
    return Factor(name=name, codes=codes.astype(np.int64), n_levels=len(used), below=below)


def _meet(one: Factor, other: Factor) -> bool:
    """Return whether some runs have both parameters, neither of which decides about the other."""
    if one.name == other.below or other.name == one.below:
        return False
    has = [factor.codes > 0 for factor in (one, other) if factor.below is not None]
    return len(has) < 2 or bool((has[0] & has[1]).any())


def _equal_groups(codes: IntArray) -> IntArray:
    """Return the group of each run; equal values stay together, groups have about as many runs."""
    counts = np.bincount(codes)
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    groups: IntArray = np.minimum((middle * N_GROUPS).astype(np.int64), N_GROUPS - 1)[codes]
    return groups


def _centred(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return deviations from the mean, scaled to at most 1, and their sums of squares."""
    if not len(values):
        return values, np.zeros(values.shape[1])
    scale = np.abs(values).max(axis=0)
    # Shares do not depend on the scale; squares of very large or small metrics would overflow.
    scaled = values / np.where(scale > 0, scale, 1.0)
    centred = scaled - scaled.mean(axis=0)
    spread = np.abs(centred).max(axis=0)
    centred = centred / np.where(spread > 0, spread, 1.0)
    return centred, (centred**2).sum(axis=0)


def _undefined(values: FloatArray) -> str:
    if len(values) == 0:
        return "no run has this metric"
    if len(values) == 1:
        return "one run has this metric"
    return "it is equal in all runs" if values.min() == values.max() else ""


CHANGES = "changes results"
CHANGES_NOTHING = "changes nothing"
UNKNOWN = "cannot be told"


def effect_of_parameters(table: RunTable) -> pd.DataFrame:
    """Say for each swept parameter whether its values change any result.

    Runs of one batch that are equal in all other swept parameters are compared, bit for bit in
    every result metric, between consecutive values of the parameter. An incomplete grid offers
    fewer comparisons; without any, the effect cannot be told. A parameter that changes only the
    benchmark (costs that a strategy with an account of its own was not passed on) changes nothing.

    Parameters
    ----------
    table
        The runs; only FINISHED ones with at least one result metric count.

    Returns
    -------
    DataFrame of shape (n_params, 5)
        parameter; effect (``changes results``, ``changes nothing``, ``cannot be told``);
        comparisons (pairs of runs); equal_values (pairs of consecutive values between which no
        comparison differs, as a tuple of tuples); message (a sentence for the reader, empty when
        every value matters).
    """
    names = [name for name in result_metric_names(table.metrics.columns) if name != NEIGHBOURHOOD]
    measured = table.metrics[names].notna().any(axis=1).to_numpy(dtype=np.bool_)
    measured_runs = table.subset(table.finished & measured)
    results = _fingerprints(measured_runs.metrics[names])
    alone = [name for name in names if not _compares(name)]
    own = _fingerprints(measured_runs.metrics[alone]) if alone else results
    rows = []
    for name in measured_runs.params.columns:
        found = _effect(measured_runs, name, results)
        if found["effect"] == CHANGES and name.partition(".")[0] not in _COMPARING:
            of_run = _effect(measured_runs, name, own)
            if of_run["effect"] == CHANGES_NOTHING:
                also = "Only what the runs are compared with depends on it."
                found = {**of_run, "message": f"{of_run['message']} {also}"}
        rows.append(found)
    columns = ["parameter", "effect", "comparisons", "equal_values", "message"]
    return pd.DataFrame(rows, columns=columns)


def warnings_about_parameters(effects: pd.DataFrame) -> list[str]:
    """Return one sentence for each parameter that changes nothing, or nothing between values.

    Parameters
    ----------
    effects
        What :func:`effect_of_parameters` returned for the runs.
    """
    return [text for text in effects["message"] if text]


def _fingerprints(metrics: pd.DataFrame) -> IntArray:
    """Return a number for each row, equal for rows equal bit for bit (NaN equals NaN)."""
    values = metrics.to_numpy(dtype=np.float64)
    if values.size == 0:
        return np.zeros(len(values), dtype=np.int64)
    # Use one NaN for all: the bits of NaNs may differ without meaning anything.
    values = np.ascontiguousarray(np.where(np.isnan(values), np.nan, values))
    rows = values.view(np.dtype((np.void, values.itemsize * values.shape[1]))).ravel()
    return np.unique(rows, return_inverse=True)[1].astype(np.int64)


_COMPARING = ("benchmark", "benchmark_values", "factors")
"""Keys whose only purpose is what runs are compared with."""


def _compares(name: str) -> bool:
    """Return whether a metric compares a run with something else."""
    metric = engine_metric(name)
    return metric is not None and bool({BENCHMARK, FACTORS} & set(metric.needs))


def _effect(table: RunTable, name: str, results: IntArray) -> dict[str, object]:
    levels = table.levels[name]
    others = [other.codes for key, other in table.levels.items() if key != name]
    if "batch_id" in table.runs:
        # Batches may differ in settings that none of them swept.
        others.append(levels_of(table.runs["batch_id"]).codes)
    line = cells_of(others, len(table))
    order = np.lexsort((levels.codes, line))
    before, after = order[:-1], order[1:]
    compared = (line[before] == line[after]) & (levels.codes[before] != levels.codes[after])
    before, after = before[compared], after[compared]
    differs = results[before] != results[after]
    pairs = pd.DataFrame(
        {"low": levels.codes[before], "high": levels.codes[after], "differs": differs}
    )
    ever = pairs.groupby(["low", "high"])["differs"].any().reset_index()
    equal = tuple(
        (levels.values[low], levels.values[high])
        for low, high, differ in ever.itertuples(index=False, name=None)
        if not differ
    )
    effect = CHANGES if differs.any() else CHANGES_NOTHING
    if not len(pairs):
        effect = UNKNOWN
    return {
        "parameter": name,
        "effect": effect,
        "comparisons": len(pairs),
        "equal_values": equal,
        "message": _message(name, effect, equal),
    }


SHOWN_PAIRS = 6
"""Pairs of values that a note lists."""


def _message(name: str, effect: str, equal: tuple[tuple[object, object], ...]) -> str:
    if effect == CHANGES_NOTHING:
        # With several batches, not all values need to have been compared with each other.
        groups = _linked(equal)
        values = "; ".join(", ".join(map(value_as_typed, group)) for group in groups)
        n_values = sum(map(len, groups))
        each = "its" if len(groups) == 1 else "within each group its"
        return (
            f"{name} changes no result: {each} {n_values} values ({values}) give the "
            "same metrics, bit for bit. It is not connected, or it is a cap that does not bind."
        )
    if effect == CHANGES and equal:
        listed = ", ".join(
            f"{value_as_typed(low)} and {value_as_typed(high)}" for low, high in equal[:SHOWN_PAIRS]
        )
        if len(equal) > SHOWN_PAIRS:
            listed += f", and {len(equal) - SHOWN_PAIRS:,} more pairs"
        return f"{name} changes no result between {listed}: a cap that does not bind, perhaps."
    return ""


def _linked(pairs: tuple[tuple[object, object], ...]) -> list[list[object]]:
    """Group the values that pairs link, directly or through other values."""
    groups: list[list[object]] = []
    for pair in pairs:
        touched = [group for group in groups if any(value in group for value in pair)]
        values = [value for group in touched for value in group]
        groups = [group for group in groups if group not in touched]
        groups.append([*values, *(value for value in pair if value not in values)])
    return groups
