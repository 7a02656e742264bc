"""The stationary bootstrap, as a matrix of counts.

A resample only enters the statistics through sums over bars, so all it takes to know is how often
it contains each bar: sums over all resamples and all runs are one matrix product.
"""

import numpy as np

from backtest_batch.comparison.overfitting.trials import FloatArray, IntArray

# Fixed: the stream of random numbers is cut here, so that another value gives other draws.
_DRAWS_AT_ONCE = 100


def stationary_counts(n_bars: int, draws: int, mean_block: float, seed: int) -> FloatArray:
    """Return how often each resample of the stationary bootstrap contains each bar.

    Blocks start at uniformly drawn bars, have geometric lengths of mean ``mean_block`` and wrap
    around at the end; the last one is cut so that a resample has as many bars as the sample.

    Parameters
    ----------
    n_bars
        T, the number of bars.
    draws
        B, the number of resamples.
    mean_block
        Mean length of a block in bars, at least 1; 1 draws single bars independently.
    seed
        Seed of the draws.

    Returns
    -------
    ndarray of shape (draws, n_bars)
        Counts as float64 (for matrix products); each row sums to ``n_bars``.

    References
    ----------
    Politis and Romano (1994), The Stationary Bootstrap.
    """
    generator = np.random.default_rng(seed)
    counts = np.empty((draws, n_bars))
    for first in range(0, draws, _DRAWS_AT_ONCE):
        rows = counts[first : first + _DRAWS_AT_ONCE]
        _count(*_draw(n_bars, len(rows), mean_block, generator), into=rows)
    return counts


def _draw(
    n_bars: int, draws: int, mean_block: float, generator: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Return where the blocks of each resample start, and how long they are."""
    lengths = np.empty((draws, 0), dtype=np.int64)
    while lengths.shape[1] == 0 or lengths.sum(axis=1).min() < n_bars:
        more = generator.geometric(1.0 / mean_block, (draws, int(1.2 * n_bars / mean_block) + 10))
        lengths = np.hstack([lengths, np.minimum(more, n_bars)])
    ends = np.minimum(lengths.cumsum(axis=1), n_bars)
    lengths = np.diff(ends, axis=1, prepend=0)
    return generator.integers(0, n_bars, lengths.shape), lengths


def _count(starts: IntArray, lengths: IntArray, into: FloatArray) -> None:
    """Count how many blocks of each resample cover each bar.

    A block adds one to every bar it covers: +1 where it starts, -1 behind its end, summed up along
    the bars. One that wraps around ends among the first bars, and starts a second time at the
    first.
    """
    draws, n_bars = into.shape
    ends = starts + lengths
    wraps = ends > n_bars
    ends[wraps] -= n_bars
    width = n_bars + 1  # one more, for blocks that end with the last bar
    first_of_row = np.arange(draws)[:, None] * width
    steps = np.bincount((first_of_row + starts).ravel(), minlength=draws * width)
    steps -= np.bincount((first_of_row + ends).ravel(), minlength=draws * width)
    steps = steps.reshape(draws, width)
    steps[:, 0] += wraps.sum(axis=1)
    np.cumsum(steps[:, :n_bars], axis=1, out=into)


def bootstrapped_sharpe(returns: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the Sharpe ratio (per bar, ddof 1) of every resample of each series.

    Parameters
    ----------
    returns
        Shape (n_bars, n_series).
    counts
        Shape (draws, n_bars), of :func:`stationary_counts`.

    Returns
    -------
    ndarray of shape (draws, n_series)
        NaN where a resample does not vary.
    """
    n_bars, n_series = returns.shape
    mean = returns.mean(axis=0)
    centred = returns - mean
    sums = counts @ np.hstack([centred, centred**2]) / n_bars
    shift = sums[:, :n_series]
    variance = (sums[:, n_series:] - shift**2) * n_bars / (n_bars - 1)
    floor = 1e-12 * centred.var(axis=0)
    return np.asarray((mean + shift) / np.sqrt(np.where(variance > floor, variance, np.nan)))
