"""How many independent trials a sweep amounts to: several answers, since none is right.

The nominal number counts trials that hardly differ one by one. The estimates here look at the
correlations of their returns, and make the other end of a band.
"""

import math
from dataclasses import dataclass

import numpy as np

from backtest_batch.analysis.overfitting.samples import FloatArray, IntArray
from backtest_batch.analysis.overfitting.sharpe import DailyReturns, expected_maximum

_CLUSTERED = 80
"""With more trials, the clusters are those of this many."""

_RANKED = 500
"""With more trials, the effective rank is extrapolated from this many."""

_STARTS = 10
_STEPS = 30

MOST_TRIALS = 10**15
"""A deflated ratio that more trials than this would not turn is not said to turn at all."""


@dataclass(frozen=True, kw_only=True)
class TrialsBand:
    """How many independent trials there were, by three measures.

    Attributes
    ----------
    participation
        Participation ratio of the eigenvalues of the correlation matrix.
    effective_rank
        Exponential of the entropy of its normalised eigenvalues (Roy and Vetterli 2007).
    onc
        Number of clusters by ONC (Lopez de Prado and Lewis 2019).
    """

    participation: float
    effective_rank: float
    onc: int


def trials_band(daily: DailyReturns, positions: IntArray, seed: int) -> TrialsBand:
    """Return how many independent trials some runs amount to.

    Parameters
    ----------
    daily
        The returns.
    positions
        The runs, none of which is flat. Above 500, the participation ratio and the effective rank
        are estimated from 500 of them, above 80 the clusters from 80, drawn with ``seed``.
    """
    n_runs = len(positions)
    generator = np.random.default_rng(seed)
    chosen = positions
    if n_runs > _RANKED:
        chosen = positions[np.sort(generator.choice(n_runs, _RANKED, replace=False))]
    correlation = correlations(daily.runs(chosen))
    few = correlation
    if len(correlation) > _CLUSTERED:
        some = np.sort(generator.choice(len(correlation), _CLUSTERED, replace=False))
        few = correlation[np.ix_(some, some)]
    return TrialsBand(
        participation=participation_ratio(correlation, n_runs),
        effective_rank=min(_extrapolated_rank(correlation, n_runs), float(daily.n_bars)),
        onc=int(optimal_clusters(few, seed).max()) + 1,
    )


def correlations(returns: FloatArray) -> FloatArray:
    """Return the correlation matrix of series that vary, shape (n_series, n_series)."""
    centred = returns - returns.mean(axis=0)
    centred /= np.sqrt(np.mean(centred**2, axis=0))
    return np.asarray(centred.T @ centred / len(centred))


def participation_ratio(correlation: FloatArray, n_runs: int) -> float:
    """Return ``(sum l)^2 / sum l^2`` of the eigenvalues of a correlation matrix.

    That is N^2 divided by the sum of squared correlations: N for uncorrelated runs, 1 for identical
    ones. With ``n_runs`` above the size of the matrix, the mean squared correlation of its pairs
    stands for that of all pairs.
    """
    size = len(correlation)
    if size == 1:
        return 1.0
    pairs = float(np.sum(correlation**2) - np.sum(np.diag(correlation) ** 2)) / (size * (size - 1))
    return 1.0 / (1.0 / n_runs + (1.0 - 1.0 / n_runs) * pairs)


def effective_rank(correlation: FloatArray) -> float:
    """Return ``exp(-sum p ln p)`` with p the eigenvalues divided by their sum.

    N for uncorrelated runs, 1 for identical ones.

    References
    ----------
    Roy and Vetterli (2007), The Effective Rank: A Measure of Effective Dimensionality.
    """
    shares = np.linalg.eigvalsh(correlation)
    shares = shares[shares > 1e-12 * shares.max()]
    shares /= shares.sum()
    return math.exp(-float(np.sum(shares * np.log(shares))))


def _extrapolated_rank(correlation: FloatArray, n_runs: int) -> float:
    """Return the effective rank of more runs than the matrix has.

    It grows as a power of their number: as it does from half of them to all, which is hardly at all
    for runs of a few kinds, and in proportion for runs that are independent.
    """
    size = len(correlation)
    rank = effective_rank(correlation)
    if size == n_runs:
        return rank
    # Neighbours in a grid are alike: every other run, not the first half of them.
    half = effective_rank(correlation[::2, ::2])
    power = min(max(math.log2(rank / half), 0.0), 1.0)
    return float(rank * (n_runs / size) ** power)


def optimal_clusters(correlation: FloatArray, seed: int) -> IntArray:
    """Return the cluster of each series, from 0, by the ONC algorithm.

    Series are points whose coordinates are their distances ``sqrt((1 - correlation) / 2)`` to all.
    k-means is run for every number of clusters up to half of the series; the clustering with the
    highest ``mean / std`` of its silhouettes is kept. Clusters whose own ratio is below the average
    are clustered again in the same way, which is kept if it raises their average.

    Parameters
    ----------
    correlation
        Shape (n_series, n_series).
    seed
        Seed of the starts of k-means, of which there are ten for each number of clusters.

    References
    ----------
    Lopez de Prado and Lewis (2019), Detection of False Investment Strategies Using Unsupervised
    Learning Methods; Lopez de Prado (2020), Machine Learning for Asset Managers, section 4.4.
    """
    return _cluster(correlation, np.random.default_rng(seed))


def _cluster(correlation: FloatArray, generator: np.random.Generator) -> IntArray:
    points = np.sqrt(np.clip(1 - correlation, 0, 2) / 2)
    if len(points) < 4 or float(np.ptp(points, axis=0).max()) < 1e-9:
        return _few(points)
    distances = _distances(points)
    labels = _best_means(points, distances, generator)
    quality = _qualities(distances, labels)
    poor = np.flatnonzero(quality < quality.mean())
    if len(poor) < 2:
        return labels
    again = np.flatnonzero(np.isin(labels, poor))
    parts = _cluster(correlation[np.ix_(again, again)], generator)
    renewed = labels.copy()
    renewed[again] = labels.max() + 1 + parts
    renewed = np.unique(renewed, return_inverse=True)[1].astype(np.int64)
    new = np.unique(renewed[again])
    return renewed if _qualities(distances, renewed)[new].mean() > quality[poor].mean() else labels


def _few(points: FloatArray) -> IntArray:
    """Cluster what is too little for k-means: series that are the same are one."""
    same = np.unique(points.round(6), axis=0, return_inverse=True)[1]
    return np.asarray(same.ravel(), dtype=np.int64)


def _best_means(
    points: FloatArray, distances: FloatArray, generator: np.random.Generator
) -> IntArray:
    best, found = -math.inf, np.zeros(len(points), dtype=np.int64)
    squared = distances**2
    for n_clusters in range(2, len(points) // 2 + 1):
        for _ in range(_STARTS):
            labels = _means(points, _seeds(squared, n_clusters, generator))
            silhouettes = _silhouettes(distances, labels)
            score = float(silhouettes.mean() / (silhouettes.std() + 1e-12))
            if score > best:
                best, found = score, labels
    return found


def _seeds(squared: FloatArray, n_clusters: int, generator: np.random.Generator) -> list[int]:
    """Draw starts that are apart: each with a chance that grows with its squared distance."""
    seeds = [int(generator.integers(len(squared)))]
    nearest = squared[seeds[0]]
    for draw in generator.random(n_clusters - 1):
        running = nearest.cumsum()
        if running[-1] <= 1e-12:
            break
        seeds.append(min(int(running.searchsorted(draw * running[-1])), len(squared) - 1))
        nearest = np.minimum(nearest, squared[seeds[-1]])
    return seeds


def _means(points: FloatArray, seeds: list[int]) -> IntArray:
    """Cluster by k-means from some points; clusters that become empty are left out."""
    centres = points[seeds]
    labels = np.full(len(points), -1)
    for _ in range(_STEPS):
        # The squared length of a point is the same for every centre.
        nearest = (np.einsum("cd,cd->c", centres, centres) - 2 * points @ centres.T).argmin(axis=1)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        sizes = np.bincount(labels, minlength=len(centres))
        member = (labels[:, None] == np.flatnonzero(sizes)).astype(np.float64)
        centres = (member.T @ points) / sizes[sizes > 0, None]
        labels = (np.cumsum(sizes > 0) - 1)[labels]
    return labels.astype(np.int64)


def _distances(points: FloatArray) -> FloatArray:
    squares = np.sum(points**2, axis=1)
    between = squares[:, None] + squares - 2 * points @ points.T
    np.fill_diagonal(between, 0.0)
    return np.asarray(np.sqrt(np.maximum(between, 0)))


def _silhouettes(distances: FloatArray, labels: IntArray) -> FloatArray:
    """Return ``(b - a) / max(a, b)`` of each point, 0 in a cluster of one (Rousseeuw 1987).

    a is the mean distance to the others of its cluster, b that to the nearest other cluster.
    """
    member = (labels[:, None] == np.arange(labels.max() + 1)).astype(np.float64)
    sizes = member.sum(axis=0)
    sums = distances @ member
    rows = np.arange(len(labels))
    own = sizes[labels]
    inner = sums[rows, labels] / np.maximum(own - 1, 1)
    means = sums / sizes
    means[rows, labels] = np.inf
    outer = means.min(axis=1)
    larger = np.maximum(inner, outer)
    safe = (own > 1) & np.isfinite(outer) & (larger > 0)
    return np.where(safe, (outer - inner) / np.where(safe, larger, 1.0), 0.0)


def _qualities(distances: FloatArray, labels: IntArray) -> FloatArray:
    """Return mean / std of the silhouettes of each cluster."""
    silhouettes = _silhouettes(distances, labels)
    member = labels[:, None] == np.arange(labels.max() + 1)
    sizes = member.sum(axis=0)
    means = silhouettes @ member / sizes
    spread = np.sqrt(np.maximum(silhouettes**2 @ member / sizes - means**2, 0))
    return np.asarray(means / (spread + 1e-12))


def turning_point(sharpe: float, noise: float) -> int | None:
    """Return from how many trials on chance alone is expected to show a Sharpe ratio.

    The smallest N whose expected maximum, times ``noise``, exceeds it: 1 for a ratio below zero,
    None beyond :data:`MOST_TRIALS`.

    Parameters
    ----------
    sharpe
        The best ratio, per bar.
    noise
        Standard deviation of the ratios of trials without skill, positive.
    """
    if sharpe < 0:
        return 1
    if noise * expected_maximum(MOST_TRIALS) <= sharpe:
        return None
    low, high = 1, MOST_TRIALS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if noise * expected_maximum(middle) > sharpe else (middle, high)
    return high
